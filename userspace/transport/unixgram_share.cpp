// SPDX-License-Identifier: BSD-2-Clause
//
// Part of unixgram.hpp: how two processes come to share memory, and how each learns that the other
// has gone. The dialer makes its half when it sends INIT and hands it over with it; the listener
// makes its own when that INIT becomes a connection, and hands it over with the ACCEPT. So neither
// sends anything by the rings before the other can read them.
#include "userspace/transport/unixgram.hpp"

#include "userspace/transport/waiter.hpp"

#include <algorithm>
#include <cstring>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace sp::transport {
namespace {

// Of a process that the kernel vouched for. It may have ended meanwhile and its number be
// another's: then its silence tells, as without this.
descriptor life_of(const std::optional<credentials> &who) noexcept
{
    if (!who || who->pid <= 0)
        return {};
    return descriptor(static_cast<int>(::syscall(SYS_pidfd_open, who->pid, 0)));
}

bool has_ended(const descriptor &life) noexcept
{
    pollfd p{.fd = life.get(), .events = POLLIN, .revents = 0};
    return ::poll(&p, 1, 0) > 0;
}

} // namespace

unixgram::~unixgram()
{
    if (lives_)
        share_.sleeper->remove(lives_.get());
    for (auto &r : routes_)
        if (r.ring && r.shared)
            r.ring->remove(*r.shared);
}

// ---- meeting ----

// The descriptors beside a datagram, which are ours to close from now on.
void unixgram::open_gifts(std::size_t i) noexcept
{
    const auto &c = control_[i];
    for (std::size_t at = 0; at + sizeof(cmsghdr) <= c.length;) {
        cmsghdr head;
        std::memcpy(&head, c.bytes.data() + at, sizeof head);
        if (head.cmsg_len < CMSG_LEN(0) || at + head.cmsg_len > c.length)
            return;
        if (head.cmsg_level == SOL_SOCKET && head.cmsg_type == SCM_RIGHTS)
            for (std::size_t n = 0; n < (head.cmsg_len - CMSG_LEN(0)) / sizeof(int); ++n) {
                int fd;
                std::memcpy(&fd, c.bytes.data() + at + CMSG_LEN(0) + n * sizeof fd, sizeof fd);
                descriptor owned(fd);
                if (n < gifts_[i].size())
                    gifts_[i][n] = std::move(owned);
            }
        at += CMSG_ALIGN(head.cmsg_len);
    }
    if ((flags_[i] & MSG_CTRUNC) != 0)
        gifts_[i] = {}; // more than belongs to an introduction
}

// Our half of what this route will share.
bool unixgram::offer(route &r) noexcept
{
    if (!shares_)
        return false;
    if (r.shared)
        return true;
    auto half = shared_peer::make(share_.ring_bytes, *share_.sleeper);
    if (!half) {
        stats_->add(stat::ring_no_segment);
        return false;
    }
    r.shared = std::make_unique<shared_peer>(std::move(*half));
    r.shared->allow(r.credit);
    return true;
}

// Does this packet carry our half? A listener has one only if it has met the dialer's.
bool unixgram::gives(const route &r, std::span<const std::byte> packet) const noexcept
{
    return r.shared && !r.shared->begun() && packet.size() >= sizeof(sp_header) &&
           packet[offsetof(sp_header, type)] == std::byte{listens_ ? SP_ACCEPT : SP_INIT};
}

bool unixgram::meet(route &r, std::size_t i, const std::optional<credentials> &who) noexcept
{
    auto given = std::exchange(gifts_[i], {});
    // Another user's bell could be made to block whoever rings it: it is woken by datagrams.
    if (!who || who->uid != ::geteuid())
        given[1].reset();
    if (!r.shared->meet(given[0], std::move(given[1]))) {
        stats_->add(stat::ring_bad_segment);
        return false;
    }
    r.life = life_of(who);
    if (given[2])
        hear(r, std::move(given[2]));
    return true;
}

// ---- broadcast rings ----

// Everybody who maps a broadcast ring reads all of it, as long as it likes: only those have it who
// could as well look into this process.
bool unixgram::same_user(const route &r) const noexcept
{
    const auto &who = listens_ ? r.who : listener_;
    return who && who->uid == ::geteuid();
}

void unixgram::publishes(route_id id, std::uint32_t socket) noexcept
{
    auto &r = routes_[static_cast<std::uint32_t>(id)];
    if (!shares_ || !share_.rings || (listens_ && (!r.shared || !same_user(r))))
        return;
    r.ring = share_.rings->of(socket, share_.ring_bytes);
    if (!r.ring)
        stats_->add(stat::ring_no_segment);
}

void unixgram::hears(route_id id) noexcept
{
    auto &r = routes_[static_cast<std::uint32_t>(id)];
    r.hears = true;
    if (r.given && r.shared)
        hear(r, std::exchange(r.given, {}));
}

// The peer's ring, which it handed over. Without one it sends by the ring of the pair.
void unixgram::hear(route &r, descriptor ring) noexcept
{
    if (!same_user(r))
        return;
    if (!r.hears && listens_) { // its socket has not said yet
        r.given = std::move(ring);
        return;
    }
    if (!r.hears)
        stats_->add(stat::unixgram_descriptors);
    else if (!r.shared->hear(ring))
        stats_->add(stat::ring_bad_segment);
}

// Inside the sink: the INIT that this route is opened for may have brought the dialer's half.
void unixgram::meet_dialer(route &r) noexcept
{
    if (at_ == batch || !gifts_[at_][0] || !offer(r))
        return;
    if (!meet(r, at_, r.who))
        r.shared.reset();
}

// The ACCEPT of a connection to which we offered memory. Without the listener's half there are
// datagrams. With one that is none, or that found no descriptor here, the listener would use rings
// that we cannot read: false, the connection must not open; the next one does not offer any.
bool unixgram::meet_listener(std::size_t i, std::span<const std::byte> packet) noexcept
{
    std::uint64_t to;
    std::memcpy(&to, packet.data() + offsetof(sp_header, dcid), sizeof to);
    const auto found = std::ranges::find_if(
        routes_, [&](const route &r) { return r.open && r.shared && r.offered == to; });
    if (found == routes_.end() || found->shared->met())
        return true;
    const bool given = static_cast<bool>(gifts_[i][0]), cut = (flags_[i] & MSG_CTRUNC) != 0;
    if (given && meet(*found, i, listener_))
        return true;
    found->shared.reset();
    if (!given && !cut)
        return true;
    if (cut)
        stats_->add(stat::ring_no_segment);
    shares_ = false;
    fail(found->peer, cut ? errc::limit_reached : errc::protocol_error);
    return false;
}

void unixgram::allow(route_id id, std::uint32_t credit) noexcept
{
    auto &r = routes_[static_cast<std::uint32_t>(id)];
    r.credit = credit;
    if (r.shared)
        r.shared->allow(credit);
}

bool unixgram::share(route_id id, std::uint32_t cookie) noexcept
{
    const auto index = static_cast<std::uint32_t>(id);
    auto &r = routes_[index];
    if (!r.shared || !r.shared->met())
        return false;
    if (r.life && has_ended(r.life)) // of another that had the number before
        r.life.reset();
    if (r.life) {
        if (!lives_) {
            lives_ = descriptor(::epoll_create1(EPOLL_CLOEXEC));
            if (!lives_ || !share_.sleeper->add(lives_.get()))
                lives_.reset();
        }
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.u32 = index;
        if (!lives_ || ::epoll_ctl(lives_.get(), EPOLL_CTL_ADD, r.life.get(), &event) != 0)
            r.life.reset();
    }
    if (std::exchange(r.given, {}))
        stats_->add(stat::unixgram_descriptors);
    if (r.ring) {
        const auto &who = listens_ ? r.who : listener_;
        r.ring->add(*r.shared, who && who->pid == ::getpid() ? broadcast::process::own
                                                             : broadcast::process::other);
        aired_ = true;
    }
    r.shared->begin(cookie, armed_);
    begun_.push_back(index);
    stats_->add(stat::ring_begun);
    stir(r);
    return true;
}

// ---- parting ----

void unixgram::part_from(route &r) noexcept
{
    if (!r.shared)
        return;
    const auto index = static_cast<std::uint32_t>(&r - routes_.data());
    std::erase(begun_, index);
    std::erase(stirred_, index);
    if (r.life && r.shared->begun())
        ::epoll_ctl(lives_.get(), EPOLL_CTL_DEL, r.life.get(), nullptr);
    if (r.ring)
        r.ring->remove(*r.shared);
    const bool by_datagram = r.shared->met() && !r.shared->has_bell();
    r.shared.reset();
    if (by_datagram)
        send_to(r.peer, bell);
}

void unixgram::end(route &r, errc why) noexcept
{
    if (std::exchange(r.over, true))
        return;
    if (why == errc::protocol_error)
        stats_->add(stat::ring_bad_record);
    fail(r.peer, why);
}

// Who has died, and who has gone without a word that came through.
void unixgram::look_after_peers() noexcept
{
    if (lives_) {
        std::array<epoll_event, 16> ended;
        const int n = ::epoll_wait(lives_.get(), ended.data(), ended.size(), 0);
        for (int i = 0; i < n; ++i) {
            auto &r = routes_[ended[static_cast<std::size_t>(i)].data.u32];
            ::epoll_ctl(lives_.get(), EPOLL_CTL_DEL, r.life.get(), nullptr);
            end(r, errc::connection_reset);
        }
    }
    for (const auto i : begun_)
        if (routes_[i].shared->ended())
            end(routes_[i], errc::connection_reset);
}

// ---- sleep ----

void unixgram::ring_bells() noexcept
{
    for (const auto i : stirred_) {
        auto &r = routes_[i];
        r.stirred = false;
        if (!r.shared->settle())
            continue;
        stats_->add(stat::ring_doorbells);
        if (!r.shared->ring_bell())
            send_to(r.peer, bell);
    }
    stirred_.clear();
}

void unixgram::arm() noexcept
{
    armed_ = true;
    for (const auto i : begun_)
        routes_[i].shared->arm();
    ring::hardware::fence<std::memory_order_seq_cst>(); // pairs with must_wake()
    look_again();
}

void unixgram::look_again() noexcept
{
    if (std::ranges::any_of(begun_, [&](auto i) { return routes_[i].shared->worth_waking(); }))
        share_.sleeper->wake();
}

std::chrono::nanoseconds unixgram::patience() const noexcept
{
    std::chrono::nanoseconds most{0};
    for (const auto i : begun_)
        most = std::max(most, routes_[i].shared->patience());
    return most;
}

void unixgram::disarm() noexcept
{
    armed_ = false;
    for (const auto i : begun_)
        routes_[i].shared->disarm();
}

} // namespace sp::transport
