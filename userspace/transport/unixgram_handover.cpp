// SPDX-License-Identifier: BSD-2-Clause
//
// Part of unixgram.hpp: large messages in memory of their own. Their descriptors come by the
// socket, each in a datagram of its own, and are matched with the records of the ring by number: a
// descriptor is sent before its record is written, so a record whose descriptor has not come after
// all of the socket was read is a lie. Taken only from a peer of our own user, with whom memory is
// shared, and no more than it may have on the way.
#include "userspace/transport/unixgram.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace sp::transport {

handing unixgram::hand_over(route_id id, std::span<const std::byte> head, large_memory &body,
                            std::size_t n) noexcept
{
    auto &r = routes_[static_cast<std::uint32_t>(id)];
    const auto what = r.shared->hand_over(head, n, [&](std::uint64_t number) {
        return seal(body, n) ? send_memory(r, body->fd, number) : handing::copy;
    });
    if (what == handing::done)
        stats_->add(stat::ring_handed_over);
    if (what == handing::full) {
        stats_->add(stat::ring_full);
        wait_for_room(r);
    }
    stir(r);
    return what;
}

// What cannot be sent for another reason than a full queue (the user has too many descriptors on
// the way) goes by copy; that the peer has gone, its death or its next datagram tells.
handing unixgram::send_memory(route &r, int fd, std::uint64_t number) noexcept
{
    const sp_handover what{.magic = SP_HANDOVER_MAGIC, .connection = r.offered, .number = number};
    if (transmit(r.peer, std::as_bytes(std::span(&what, 1)), {&fd, 1})) {
        stats_->add(stat::unixgram_sent);
        return handing::done;
    }
    if (errno != EAGAIN && errno != ENOBUFS)
        return handing::copy;
    stats_->add(stat::unixgram_queue_full);
    crowded_ = true;
    return handing::full;
}

// True: it was a datagram of this kind, whatever became of it.
bool unixgram::on_handover(std::size_t i, std::span<const std::byte> packet) noexcept
{
    sp_handover said;
    if (packet.size() != sizeof said)
        return false;
    std::memcpy(&said, packet.data(), sizeof said);
    if (said.magic != SP_HANDOVER_MAGIC)
        return false;
    auto given = std::exchange(gifts_[i], {});
    const auto found = std::ranges::find_if(routes_, [&](const route &r) {
        return r.open && r.shared && r.shared->met() && r.offered == said.connection &&
               std::memcmp(&r.peer, &from_[i], sizeof r.peer) == 0;
    });
    if (found == routes_.end()) {
        if (given[0])
            stats_->add(stat::unixgram_descriptors);
        return true;
    }
    if ((flags_[i] & MSG_CTRUNC) != 0 && control_[i].length <= credentials_space) {
        // None was free here. What it was for cannot come any more; later ones are to be copied.
        takes_lent_ = false;
        stats_->add(stat::ring_no_descriptor);
        end(*found, errc::limit_reached);
        return true;
    }
    stats_->add(stat::unixgram_received);
    if (given[1] || !given[0] || !found->shared->on_lent(said.number, std::move(given[0]))) {
        stats_->add(stat::unixgram_descriptors);
        end(*found, errc::protocol_error);
    }
    return true;
}

void unixgram::demand_lent() noexcept
{
    for (const auto i : begun_)
        routes_[i].shared->demand_lent();
}

// All is here that was sent before demand_lent(): whose descriptor is not has lied.
void unixgram::on_all_received() noexcept
{
    for (const auto i : begun_) {
        routes_[i].shared->on_all_received();
        if (routes_[i].shared->fault())
            end(routes_[i], errc::protocol_error);
    }
}

} // namespace sp::transport
