// SPDX-License-Identifier: BSD-2-Clause
//
// How a stream comes about: accepted by a listener, or connected to a place. Both are over before
// the engine hears of them.
#include "userspace/transport/netns.hpp"
#include "userspace/transport/stream.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

namespace sp::transport {
namespace {

// A TCP socket that dials a free port of this host from the range that the system chooses from may
// meet itself: both ends are one socket. Nobody listens there.
bool meets_itself(int fd) noexcept
{
    stream_name own, other;
    own.length = other.length = sizeof own.bytes;
    return ::getsockname(fd, reinterpret_cast<sockaddr *>(&own.bytes), &own.length) == 0 &&
           ::getpeername(fd, reinterpret_cast<sockaddr *>(&other.bytes), &other.length) == 0 &&
           own.length == other.length && own.family() != AF_UNIX &&
           std::memcmp(&own.bytes, &other.bytes, own.length) == 0;
}

// What became of a connect() that took its time.
int outcome_of(int fd) noexcept
{
    int number = 0;
    socklen_t length = sizeof number;
    if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &length) != 0)
        return errno;
    return number == 0 && meets_itself(fd) ? ECONNREFUSED : number;
}

} // namespace

// ---- accepted ----

void stream::on_listener(place_id id, std::uint32_t ready, std::size_t room) noexcept
{
    using enum stream_listener::accepted::outcome;
    auto *p = places_.find(id);
    if (p && p->hears != hearing::always) // its end is told once more; who is told does not listen
        return;
    for (room = std::min(room, accepts_max); p && room > 0; --room) {
        auto came = p->listener->accept();
        switch (came.what) {
        case taken:
            take_in(id, std::move(came));
            break;
        case refused:
            tell(
                {.what = stream_event::kind::refused, .place = id, .count = stat::listener_access});
            break;
        case nothing:
            if ((ready & EPOLLHUP) != 0) // shut down by somebody who has the socket too
                hear(id, *p, hearing::ended);
            return;
        case shortage:
            return on_shortage(id, *p, room);
        case ended:
            return hear(id, *p, hearing::ended);
        }
    }
}

void stream::take_in(place_id id, stream_listener::accepted came) noexcept
{
    const auto family = places_.find(id)->where.family;
    const auto made = streams_.add({.fd = std::move(came.fd),
                                    .from = id,
                                    .family = family,
                                    .is = state::open,
                                    .watched = 0,
                                    .why = {},
                                    .who = std::move(came.who),
                                    .left = {}});
    if (made && join(*made, *streams_.find(*made), EPOLLIN))
        return tell({.what = stream_event::kind::accepted, .stream = *made, .place = id});
    if (made)
        streams_.remove(*made);
    tell({.what = stream_event::kind::refused, .place = id, .count = stat::listener_descriptors});
}

// Who waits is told by a closed connection, as long as that can be done; then others have their
// turn.
void stream::on_shortage(place_id id, place_state &p, std::size_t room) noexcept
{
    reserve_.reset();
    for (; room > 0 && p.listener->turn_away(); --room)
        tell({.what = stream_event::kind::refused,
              .place = id,
              .count = stat::listener_descriptors});
    reserve_ = descriptor(::eventfd(0, EFD_CLOEXEC));
    hear(id, p, hearing::paused);
    any_paused_ = true;
    if (failed_.empty()) // else it fires soon enough
        fire(pause);
}

void stream::hear(place_id id, place_state &p, hearing how) noexcept
{
    p.hears = how;
    const std::uint32_t events = how == hearing::always ? std::uint32_t{EPOLLIN} : 0;
    auto event = registration(events, source::listener, std::to_underlying(id));
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, p.listener->fd(), &event);
}

void stream::resume() noexcept
{
    if (!reserve_ && epoll_)
        reserve_ = descriptor(::eventfd(0, EFD_CLOEXEC));
    if (!any_paused_)
        return;
    any_paused_ = false;
    places_.each([&](place_id id, place_state &p) {
        if (p.hears == hearing::paused)
            hear(id, p, hearing::always);
    });
}

// ---- connected ----

stream_id stream::connect(place_id place) noexcept
{
    auto *p = places_.find(place);
    const auto id = streams_.add({.fd = {},
                                  .from = place,
                                  .family = p ? p->where.family : stream_family{},
                                  .is = state::connecting,
                                  .watched = 0,
                                  .why = {},
                                  .who = {},
                                  .left = {}});
    if (!id)
        return {};
    auto &c = *streams_.find(*id);
    if (!p) {
        fail(*id, c, errc::closed, "");
        return *id;
    }
    const auto inside = netns_visit::enter(p->netns.get());
    if (!inside) {
        fail(*id, c, inside.error().code(), std::string(inside.error().why()));
        return *id;
    }
    auto names = resolve(p->where, resolve_for::dialing);
    if (!names) {
        fail(*id, c, names.error().code(), std::string(names.error().why()));
        return *id;
    }
    c.left = std::move(*names);
    std::ranges::reverse(c.left);
    try_next(*id, c, *p);
    return *id;
}

// Called inside the place's network namespace.
void stream::try_next(stream_id id, connection &c, const place_state &p) noexcept
{
    int why = 0;
    while (!c.left.empty()) {
        const auto to = c.left.back();
        c.left.pop_back();
        c.fd = descriptor(::socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        if (c.fd) {
            shape_stream(c.fd.get(), c.family, p.options);
            // One that is connected at once is found to be so by the next poll().
            if ((::connect(c.fd.get(), to.get(), to.length) == 0 || errno == EINPROGRESS) &&
                join(id, c, EPOLLOUT)) {
                c.who.text = to.family() == AF_UNIX ? text_of(p.where) : text_of(to);
                return;
            }
        }
        why = errno;
        c.fd.reset();
    }
    fail(id, c, stream_errc(why), std::strerror(why));
}

void stream::on_connected(stream_id id, connection &c) noexcept
{
    const int why = outcome_of(c.fd.get());
    auto *p = places_.find(c.from);
    if (why == 0) {
        c.is = state::open;
        c.left.clear();
        c.who = identity_of(c.fd.get(), c.family, std::move(c.who.text));
        set_watched(id, c, EPOLLIN);
        if (p)
            p->failure.clear();
        return tell({.what = stream_event::kind::connected, .stream = id, .place = c.from});
    }
    drop(c);
    if (p && !c.left.empty())
        if (const auto inside = netns_visit::enter(p->netns.get()); inside)
            return try_next(id, c, *p);
    fail(id, c, stream_errc(why), std::strerror(why));
}

// Told by a later poll(): connect() itself may be what failed, and its caller does not know the
// name yet.
void stream::fail(stream_id id, connection &c, errc why, std::string words) noexcept
{
    drop(c);
    c.is = state::failed;
    c.why = why;
    if (auto *p = places_.find(c.from))
        p->failure = text_of(p->where) + ": " + words;
    failed_.push_back(id);
    fire(std::chrono::nanoseconds(1));
}

// Makes the epoll descriptor readable after a while, whatever else happens.
void stream::fire(std::chrono::nanoseconds after) noexcept
{
    itimerspec when{};
    when.it_value = {.tv_sec = after.count() / 1'000'000'000,
                     .tv_nsec = after.count() % 1'000'000'000};
    ::timerfd_settime(timer_.get(), 0, &when, nullptr);
}

} // namespace sp::transport
