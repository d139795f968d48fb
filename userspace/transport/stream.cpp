// SPDX-License-Identifier: BSD-2-Clause
//
// Places, events and bytes. How a stream comes about is in stream_arrival.cpp.
#include "userspace/transport/stream.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

namespace sp::transport {
namespace {

std::uint32_t events_of(interest what) noexcept
{
    switch (what) {
    case interest::none:
        return 0;
    case interest::read:
        return EPOLLIN;
    case interest::write:
        return EPOLLOUT;
    case interest::both:
        return EPOLLIN | EPOLLOUT;
    }
    return 0;
}

// The stream is as good as before, and the same call may succeed later.
bool may_pass(int number) noexcept
{
    return number == EAGAIN || number == EINTR || number == ENOBUFS || number == ENOMEM;
}

} // namespace

// ---- places ----

result<void> stream::start()
{
    if (epoll_)
        return {};
    descriptor epoll(::epoll_create1(EPOLL_CLOEXEC));
    descriptor timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    descriptor reserve(::eventfd(0, EFD_CLOEXEC));
    auto event = registration(EPOLLIN, source::timer, 0);
    if (!epoll || !timer || !reserve ||
        ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, timer.get(), &event) != 0)
        return std::unexpected(socket_error("cannot watch streams"));
    epoll_ = std::move(epoll);
    timer_ = std::move(timer);
    reserve_ = std::move(reserve);
    return {};
}

result<place_id> stream::add(place_state p)
{
    if (p.options.netns_fd >= 0) {
        p.netns = descriptor(::fcntl(p.options.netns_fd, F_DUPFD_CLOEXEC, 3));
        if (!p.netns)
            return std::unexpected(socket_error("cannot keep the network namespace"));
    }
    const auto id = places_.add(std::move(p));
    if (!id)
        return std::unexpected(error::numbered(2031, "too many listeners and dialers"));
    return *id;
}

result<place_id> stream::listen(const stream_address &where, const stream_options &options)
{
    if (auto started = start(); !started)
        return std::unexpected(started.error());
    auto listener = stream_listener::open(where, options);
    if (!listener)
        return std::unexpected(listener.error());
    const auto fd = listener->fd();
    const auto bound = listener->address();
    const auto id = add({.where = bound,
                         .options = options,
                         .netns = {},
                         .listener = std::move(*listener),
                         .hears = hearing::always,
                         .failure = {}});
    if (!id)
        return id;
    auto event = registration(EPOLLIN, source::listener, std::to_underlying(*id));
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
        const auto why = socket_error("cannot watch " + url_of(bound));
        places_.remove(*id);
        return std::unexpected(why);
    }
    return id;
}

result<place_id> stream::add_target(const stream_address &where, const stream_options &options)
{
    if (auto started = start(); !started)
        return std::unexpected(started.error());
    if (where.family != stream_family::tcp) // a host is looked up at every connect()
        if (auto good = resolve(where, resolve_for::dialing); !good)
            return std::unexpected(good.error());
    return add({.where = where,
                .options = options,
                .netns = {},
                .listener = std::nullopt,
                .hears = hearing::ended,
                .failure = {}});
}

void stream::close_place(place_id place) noexcept
{
    auto *p = places_.find(place);
    if (!p)
        return;
    if (p->listener)
        ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, p->listener->fd(), nullptr);
    places_.remove(place);
}

std::string stream::url(place_id place) const
{
    const auto *p = places_.find(place);
    return p ? url_of(p->where) : "";
}

std::string_view stream::last_failure(place_id place) const noexcept
{
    const auto *p = places_.find(place);
    return p ? std::string_view(p->failure) : "";
}

// ---- events ----

// Ends and errors are told whether asked for or not: where nothing is asked for, once and no more.
epoll_event stream::registration(std::uint32_t events, source kind, std::uint32_t name) noexcept
{
    epoll_event event{};
    event.events = events != 0 ? events : std::uint32_t{EPOLLONESHOT};
    event.data.u64 = std::uint64_t{std::to_underlying(kind)} << 32 | name;
    return event;
}

std::size_t stream::gather(std::size_t most) noexcept
{
    found_ = 0;
    if (!epoll_ || most == 0)
        return 0;
    most = std::min(most, events_max);
    // A stream may be readable and writable: with twice the room for what is ready, everybody that
    // is gets a turn, and what is left over goes to listeners.
    std::array<epoll_event, events_max / 2> ready;
    const auto ready_max = std::max<std::size_t>(most / 2, 1);
    const int n = ::epoll_wait(epoll_.get(), ready.data(), static_cast<int>(ready_max), 0);
    for (std::size_t i = 0; i < static_cast<std::size_t>(std::max(n, 0)); ++i) {
        const auto tag = ready[i].data.u64;
        const auto name = static_cast<std::uint32_t>(tag);
        const auto behind = static_cast<std::size_t>(n) - i - 1; // each may need two
        const auto room = most - found_ - 2 * behind;
        switch (static_cast<source>(tag >> 32)) {
        case source::timer:
            on_timer(room);
            break;
        case source::listener:
            on_listener(static_cast<place_id>(name), ready[i].events, room);
            break;
        case source::connection:
            on_connection(static_cast<stream_id>(name), ready[i].events, room);
            break;
        }
    }
    return found_;
}

// Failures are told, as many as there is room for, and listeners that paused try again.
void stream::on_timer(std::size_t room) noexcept
{
    std::uint64_t expirations;
    (void)!::read(timer_.get(), &expirations, sizeof expirations); // EAGAIN: set anew meanwhile
    resume();
    for (; room > 0 && !failed_.empty(); failed_.pop_front())
        if (const auto *c = streams_.find(failed_.front())) { // nobody closed it meanwhile
            tell({.what = stream_event::kind::failed,
                  .stream = failed_.front(),
                  .place = c->from,
                  .why = c->why});
            --room;
        }
    if (!failed_.empty())
        fire(std::chrono::nanoseconds(1));
}

void stream::on_connection(stream_id id, std::uint32_t ready, std::size_t room) noexcept
{
    auto *c = streams_.find(id);
    if (!c)
        return;
    if (c->is == state::connecting)
        return on_connected(id, *c);
    // The end and errors are for whoever looks next: a reader if there is one.
    const auto either = ready & (EPOLLHUP | EPOLLERR);
    using kind = stream_event::kind;
    if ((c->watched & EPOLLIN) != 0 && ((ready & EPOLLIN) != 0 || either != 0)) {
        tell({.what = kind::readable, .stream = id, .place = c->from});
        --room;
    }
    if (room > 0 && (c->watched & EPOLLOUT) != 0 && ((ready & EPOLLOUT) != 0 || either != 0))
        tell({.what = kind::writable, .stream = id, .place = c->from});
}

bool stream::still_so(const stream_event &event) noexcept
{
    using kind = stream_event::kind;
    if (event.what == kind::refused)
        return true;
    const auto *c = streams_.find(event.stream);
    if (!c)
        return false;
    switch (event.what) {
    case kind::failed:
        streams_.remove(event.stream);
        return true;
    case kind::readable:
        return (c->watched & EPOLLIN) != 0;
    case kind::writable:
        return (c->watched & EPOLLOUT) != 0;
    default:
        return true;
    }
}

// ---- bytes ----

transfer stream::read(stream_id id, std::span<std::byte> room) noexcept
{
    using enum transfer::outcome;
    auto *c = streams_.find(id);
    if (!c || c->is != state::open)
        return {.what = ended};
    if (room.empty())
        return {};
    // No room for control data: descriptors that somebody sends are never installed here.
    const auto got = ::recv(c->fd.get(), room.data(), room.size(), MSG_DONTWAIT);
    if (got > 0)
        return {.what = moved, .bytes = static_cast<std::size_t>(got)};
    if (got == 0)
        return end(id, *c, {.what = ended});
    if (may_pass(errno))
        return {};
    return end(id, *c, {.what = failed, .why = stream_errc(errno)});
}

transfer stream::write(stream_id id, std::span<const std::span<const std::byte>> parts) noexcept
{
    using enum transfer::outcome;
    auto *c = streams_.find(id);
    if (!c || c->is != state::open)
        return {.what = failed, .why = errc::closed};
    std::array<iovec, parts_max> vectors;
    const auto n = std::min(parts.size(), parts_max);
    for (std::size_t i = 0; i < n; ++i)
        vectors[i] = {const_cast<std::byte *>(parts[i].data()), parts[i].size()};
    msghdr message{};
    message.msg_iov = vectors.data();
    message.msg_iovlen = n;
    const auto put = ::sendmsg(c->fd.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put >= 0)
        return {.what = moved, .bytes = static_cast<std::size_t>(put)};
    if (may_pass(errno))
        return {};
    // What the peer wrote before it went can still be read, so reading goes on.
    return {.what = failed, .why = stream_errc(errno)};
}

// Nothing but close() follows, so epoll need not tell the end again and again.
transfer stream::end(stream_id id, connection &c, transfer last) noexcept
{
    set_watched(id, c, 0);
    return last;
}

void stream::watch(stream_id id, interest what) noexcept
{
    if (auto *c = streams_.find(id); c && c->is == state::open)
        set_watched(id, *c, events_of(what));
}

bool stream::join(stream_id id, connection &c, std::uint32_t wanted) noexcept
{
    auto event = registration(wanted, source::connection, std::to_underlying(id));
    c.watched = wanted;
    return ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, c.fd.get(), &event) == 0;
}

void stream::set_watched(stream_id id, connection &c, std::uint32_t wanted) noexcept
{
    if (c.watched == wanted)
        return;
    auto event = registration(wanted, source::connection, std::to_underlying(id));
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, c.fd.get(), &event);
    c.watched = wanted;
}

// Epoll is told by name: a child of fork() may keep the socket open, and then close() does not.
void stream::drop(connection &c) noexcept
{
    if (!c.fd)
        return;
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, c.fd.get(), nullptr);
    c.fd.reset();
}

void stream::close(stream_id id) noexcept
{
    auto *c = streams_.find(id);
    if (!c)
        return;
    drop(*c);
    streams_.remove(id);
    if (any_paused_)
        resume();
}

const peer_identity &stream::peer(stream_id id) noexcept
{
    const auto *c = streams_.find(id);
    return c ? c->who : nobody_;
}

std::string_view stream::name(stream_id id) const noexcept
{
    const auto *c = streams_.find(id);
    return c ? name_of(c->family) : "";
}

bool stream::typed_frames(stream_id id) const noexcept
{
    const auto *c = streams_.find(id);
    return c && c->family != stream_family::tcp;
}

} // namespace sp::transport
