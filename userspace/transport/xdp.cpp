// SPDX-License-Identifier: BSD-2-Clause
//
// See xdp.hpp. Here: opening, ports and the way of a packet out; what follows the kernel's changes
// is in xdp_sweep.cpp.
#include "userspace/transport/xdp.hpp"

#include "userspace/transport/netns.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

namespace sp::transport {
namespace {

constexpr std::uint32_t small_frame = 2048, large_frame = 4096;
constexpr std::uint32_t small_frame_mtu_max = 1500;
constexpr std::uint32_t frames_min = 64, frames_max = 65536;

// How many receive queues the device really has; a driver that cannot say has one.
unsigned receive_queues(const std::string &interface) noexcept
{
    const descriptor any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ethtool_channels channels{};
    ifreq request{};
    channels.cmd = ETHTOOL_GCHANNELS;
    interface.copy(request.ifr_name, sizeof request.ifr_name - 1);
    request.ifr_data = reinterpret_cast<char *>(&channels);
    if (!any || ::ioctl(any.get(), SIOCETHTOOL, &request) != 0)
        return 1;
    const unsigned found = channels.rx_count + channels.combined_count;
    return found ? found : 1;
}

result<void> check(const xdp_options &options)
{
    if (!std::has_single_bit(options.frames) || options.frames < frames_min ||
        options.frames > frames_max)
        return std::unexpected(error::numbered(2008, "frames is out of its range",
                                               "it is a power of two from 64 to 65536"));
    const unsigned found = ::if_nametoindex(options.interface.c_str());
    if (found == 0 || found != options.ifindex)
        return std::unexpected(error::numbered(1011, "no such interface: " + options.interface,
                                               found ? "another one has taken its name" : ""));
    return {};
}

bool watch(int epoll_fd, int fd) noexcept
{
    epoll_event event{};
    event.events = EPOLLIN;
    return ::epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

} // namespace

xdp::xdp(const xdp_options &options, counters &stats, rawip kernel, steering steer, descriptor wake)
    : stats_(&stats), ifindex_(options.ifindex), protocol_(options.kernel.protocol),
      kernel_(std::move(kernel)), wake_(std::move(wake)), steering_(std::move(steer))
{
    routes_.reserve(rawip::routes_max);
    free_routes_.reserve(rawip::routes_max);
}

result<xdp> xdp::open(const xdp_options &options, counters &stats)
{
    const auto visit = netns_visit::enter(options.kernel.netns_fd);
    if (!visit)
        return std::unexpected(visit.error());
    if (auto sound = check(options); !sound)
        return std::unexpected(sound.error());
    auto kernel = rawip::open(options.kernel, stats);
    if (!kernel)
        return std::unexpected(kernel.error());
    auto maps = steering::open(options.maps);
    if (!maps)
        return std::unexpected(maps.error());
    auto found = open_device(options, kernel->routing());
    if (!found)
        return std::unexpected(found.error());
    descriptor wake(::epoll_create1(EPOLL_CLOEXEC));
    if (!wake)
        return std::unexpected(error::numbered(2009, {}, std::strerror(errno)));
    xdp opened(options, stats, std::move(*kernel), std::move(*maps), std::move(wake));
    if (!watch(opened.wake_.get(), opened.kernel_.wake_fd()))
        return std::unexpected(error::numbered(1025, {}, std::strerror(errno)));
    opened.adopt(std::move(*found));
    if (auto steered = opened.steer(); !steered)
        return std::unexpected(steered.error());
    return opened;
}

result<void> xdp::follow(const xdp_options &options)
{
    if (auto sound = check(options); !sound)
        return sound;
    auto maps = steering::open(options.maps);
    if (!maps)
        return std::unexpected(maps.error());
    if (options.ifindex != ifindex_ || queues_.empty() || queues_.front().lost_device()) {
        auto found = open_device(options, kernel_.routing());
        if (!found)
            return std::unexpected(found.error());
        if (!queues_.empty())
            abandon_device();
        ifindex_ = options.ifindex;
        adopt(std::move(*found));
    }
    steering_.reset();
    steering_.emplace(std::move(*maps));
    auto steered = steer();
    for (const auto port : kernel_.ports().all())
        if (steered)
            steered = steering_->add_port(port);
    for (auto &r : routes_)
        if (r.open)
            rebuild(r);
    return steered;
}

result<xdp::device> xdp::open_device(const xdp_options &options, nexthop &routing)
{
    const auto link = routing.link(options.ifindex);
    if (!link || !link->ethernet)
        return std::unexpected(
            error::numbered(1025, {}, options.interface + " is not an Ethernet device"));
    const unsigned queues = receive_queues(options.interface);
    if (queues > SP_QUEUES_MAX)
        return std::unexpected(
            error::numbered(1025, options.interface + " has more than 64 receive queues", {},
                            "ethtool -L " + options.interface + " combined 1"));
    // The larger frame has room to spare; the smaller one fits the default limit of locked memory.
    const auto frame_bytes = link->mtu > small_frame_mtu_max ? large_frame : small_frame;
    auto sockets = open_queues(options, frame_bytes, queues);
    if (!sockets)
        return std::unexpected(sockets.error());
    return device{std::move(*sockets), frame_bytes};
}

result<std::vector<xsk>> xdp::open_queues(const xdp_options &options, std::uint32_t frame_bytes,
                                          unsigned queues)
{
    const auto mode = options.native ? options.zerocopy : zerocopy::off;
    if (!options.native && options.zerocopy == zerocopy::required)
        return std::unexpected(error::numbered(
            1012, {}, "the XDP program does not run in the driver", "sp xdp load IFACE -m native"));
    std::vector<xsk> opened;
    opened.reserve(queues);
    for (unsigned queue = 0; queue < queues; ++queue) {
        const std::uint32_t half = options.frames / 2;
        auto memory = umem::create({frame_bytes, half, queue == 0 ? half : 0});
        if (!memory)
            return std::unexpected(memory.error());
        auto socket = xsk::open({options.interface, queue}, std::move(*memory), mode);
        if (!socket)
            return std::unexpected(socket.error());
        opened.push_back(std::move(*socket));
    }
    return opened;
}

void xdp::adopt(device opened) noexcept
{
    queues_ = std::move(opened.queues);
    frame_bytes_ = opened.frame_bytes;
    zero_copy_ = queues_.front().zero_copy();
    link_down_ = false;
    seen_links_ = kernel_.routing().link_generation();
    armed_ = false;
    arm();
}

// Tells the program of everything but the ports.
result<void> xdp::steer()
{
    for (unsigned queue = 0; queue < queues_.size(); ++queue) {
        if (auto added = steering_->add_socket(queue, queues_[queue].fd()); !added)
            return added;
    }
    steering_->set_addresses(kernel_.routing().addresses(ifindex_).all());
    seen_addresses_ = kernel_.routing().address_generation();
    return {};
}

// Adding a descriptor fails only for want of kernel memory, and then it is tried again before the
// next sleep.
void xdp::arm() noexcept
{
    if (armed_)
        return;
    armed_ = std::ranges::all_of(
        queues_, [this](const xsk &queue) { return watch(wake_.get(), queue.fd()); });
    if (!armed_)
        ignore_rings();
}

void xdp::disarm() noexcept
{
    if (armed_)
        ignore_rings();
    armed_ = false;
}

void xdp::ignore_rings() noexcept
{
    for (const auto &queue : queues_)
        (void)::epoll_ctl(wake_.get(), EPOLL_CTL_DEL, queue.fd(),
                          nullptr); // ENOENT: it was not there
}

// ---- ports
// ---------------------------------------------------------------------------------------------------

// The kernel's filter first: a packet that XDP passes on must find it open.
result<void> xdp::add_port(std::uint16_t port)
{
    if (auto added = kernel_.add_port(port); !added)
        return added;
    auto steered = steering_->add_port(port);
    if (!steered)
        kernel_.remove_port(port);
    return steered;
}

result<std::uint16_t> xdp::add_ephemeral_port()
{
    auto port = kernel_.add_ephemeral_port();
    if (!port)
        return port;
    if (auto steered = steering_->add_port(*port); !steered) {
        kernel_.remove_port(*port);
        return std::unexpected(steered.error());
    }
    return port;
}

void xdp::remove_port(std::uint16_t port) noexcept
{
    steering_->remove_port(port);
    kernel_.remove_port(port);
}

// ---- routes and sending
// --------------------------------------------------------------------------------------

xdp::route *xdp::find(route_id id) noexcept
{
    const auto index = std::to_underlying(id);
    return index < routes_.size() && routes_[index].open ? &routes_[index] : nullptr;
}

const xdp::route *xdp::find(route_id id) const noexcept
{
    return const_cast<xdp *>(this)->find(id);
}

std::optional<route_id> xdp::open_route(const sp_address &peer) noexcept
{
    const auto kernel = kernel_.open_route(peer);
    if (!kernel)
        return std::nullopt;
    if (free_routes_.empty()) {
        free_routes_.push_back(static_cast<std::uint32_t>(routes_.size()));
        routes_.emplace_back();
    }
    const auto index = free_routes_.back();
    free_routes_.pop_back();
    auto &r = routes_[index];
    r = {};
    r.kernel = *kernel;
    r.open = true;
    rebuild(r);
    return route_id{index};
}

void xdp::close_route(route_id id) noexcept
{
    if (auto *r = find(id)) {
        kernel_.close_route(r->kernel);
        r->open = false;
        free_routes_.push_back(std::to_underlying(id));
    }
}

std::size_t xdp::packet_max(route_id id) const noexcept
{
    const auto *r = find(id);
    return r ? r->packet_max : 0;
}

std::string_view xdp::name(route_id id) const noexcept
{
    const auto *r = find(id);
    if (!r)
        return "ip/kernel";
    if (!r->direct)
        return kernel_.name(r->kernel);
    return kernel_.outer_ports(r->kernel) ? "ip/xdp+udp" : "ip/xdp";
}

const std::optional<next_hop> &xdp::way_of(route_id id) const noexcept
{
    const auto *r = find(id);
    return kernel_.hop(r ? r->kernel : route_id{rawip::routes_max});
}

std::span<std::byte> xdp::reserve(route_id id, std::size_t n) noexcept
{
    reserved_ = way::none;
    const auto *r = find(id);
    if (!r)
        return {};
    if (!r->direct || n > r->packet_max) {
        reserved_ = way::kernel;
        return kernel_.reserve(r->kernel, n);
    }
    auto *packet = queues_.front().reserve();
    if (!packet) {
        stats_->add(stat::xsk_tx_ring_full);
        return {};
    }
    reserved_ = way::rings;
    return {packet, n};
}

void xdp::submit(route_id id, std::size_t n) noexcept
{
    auto *r = find(id);
    if (!r || reserved_ == way::none)
        return;
    if (reserved_ == way::kernel) {
        stats_->add(stat::xsk_no_neighbour);
        note_kernel(1);
        kernel_.submit(r->kernel, n);
    } else {
        auto &queue = queues_.front();
        r->headers.write_before(queue.packet(), n);
        queue.submit(r->headers.size(), n);
        r->used = true;
        stats_->add(stat::xsk_sent);
    }
    reserved_ = way::none;
}

void xdp::flush() noexcept
{
    if (!queues_.empty() && queues_.front().queued() && !link_down_)
        kick();
    kernel_.flush();
}

void xdp::kick() noexcept
{
    auto &queue = queues_.front();
    const auto outcome = queue.kick();
    kick_owed_ = outcome != xsk::kicked::done;
    link_down_ = outcome == xsk::kicked::down;
    if (kick_owed_)
        stats_->add(stat::xsk_kick_failed);
    queue.reap();
}

} // namespace sp::transport
