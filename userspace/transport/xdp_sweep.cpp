// SPDX-License-Identifier: BSD-2-Clause
//
// What the AF_XDP transport does off the hot path: following the kernel's routes, neighbours,
// addresses and links, and reading statistics. See xdp.hpp.
#include "userspace/transport/xdp.hpp"

#include <algorithm>

namespace sp::transport {

void xdp::after_full_sweep(std::int64_t now_ns) noexcept
{
    auto &routing = kernel_.routing();
    if (seen_links_ != routing.link_generation()) {
        seen_links_ = routing.link_generation();
        check_device();
    }
    if (seen_addresses_ != routing.address_generation()) {
        seen_addresses_ = routing.address_generation();
        steering_->set_addresses(routing.addresses(ifindex_).all());
    }
    if (seen_hops_ != kernel_.hops_version()) {
        seen_hops_ = kernel_.hops_version();
        rebuild_routes();
    }
    if (!queues_.empty())
        queues_.front().reap();
    if (now_ns >= next_tick_ns_) {
        next_tick_ns_ = now_ns + tick_ns;
        tick();
    }
}

void xdp::check_device() noexcept
{
    if (queues_.empty())
        return;
    const auto link = kernel_.routing().link(ifindex_);
    if (!link || queues_.front().lost_device())
        return abandon_device();
    link_down_ = !link->up;
}

// A deleted device leaves sockets that are for ever in error: they would keep wake_fd() readable.
void xdp::abandon_device() noexcept
{
    for (const auto &queue : queues_) {
        const auto last = queue.read_statistics();
        lost_before_.fill_empty += last.fill_empty;
        lost_before_.rx_ring_full += last.rx_ring_full;
    }
    ignore_rings();
    queues_.clear();
    reserved_ = way::none;
    kick_owed_ = false;
    for (auto &r : routes_)
        rebuild(r);
}

void xdp::rebuild_routes() noexcept
{
    for (auto &r : routes_) {
        if (r.open && r.hop_version != kernel_.hop_version(r.kernel))
            rebuild(r);
    }
}

void xdp::rebuild(route &r) noexcept
{
    const auto &hop = kernel_.hop(r.kernel);
    r.hop_version = kernel_.hop_version(r.kernel);
    r.packet_max = kernel_.packet_max(r.kernel);
    r.direct = false;
    if (!hop || hop->oif != ifindex_ || hop->local)
        return;
    const std::size_t received =
        umem::rx_bytes_max(frame_bytes_) - sizeof(sp_vlan) - header_template::bytes_max;
    const std::size_t sent = umem::tx_bytes_max(frame_bytes_);
    r.packet_max = std::min({r.packet_max, received, sent});
    if (queues_.empty() || !hop->link.up || !hop->to || hop->source.family == SP_FAMILY_NONE)
        return;
    r.headers = header_template(hop->source, kernel_.peer(r.kernel), hop->link.mac, hop->to->mac,
                                protocol_, kernel_.outer_ports(r.kernel));
    r.direct = true;
}

void xdp::tick() noexcept
{
    kernel_hot_ = kernel_used_;
    kernel_used_ = false;
    auto sum = lost_before_;
    for (const auto &queue : queues_) {
        const auto now = queue.read_statistics();
        sum.fill_empty += now.fill_empty;
        sum.rx_ring_full += now.rx_ring_full;
    }
    stats_->set(stat::xsk_fill_empty, sum.fill_empty);
    stats_->set(stat::xsk_rx_ring_full, sum.rx_ring_full);
    if (++ticks_ % ticks_per_neighbour_check == 0)
        keep_neighbours();
}

// The kernel does not see what goes through the rings: without a word from us it would let a
// neighbour that is in use grow stale and drop it.
void xdp::keep_neighbours() noexcept
{
    std::size_t told = 0;
    for (auto &r : routes_) {
        if (!r.open || !r.used || told == neighbours_per_check)
            continue;
        r.used = false;
        const auto &hop = kernel_.hop(r.kernel);
        if (!hop || !hop->to || hop->to->fresh)
            continue;
        kernel_.routing().use(*hop);
        ++told;
    }
}

} // namespace sp::transport
