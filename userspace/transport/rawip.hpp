// SPDX-License-Identifier: BSD-2-Clause
//
// SP packets through the kernel's raw sockets: the transport for hosts without AF_XDP, and the
// companion of the AF_XDP one for everything that has no ready next hop. The kernel routes,
// resolves neighbours and tells of ICMP errors; a filter in the kernel passes only packets for our
// ports. Nothing is ever fragmented: what the path does not carry is refused, counted, and lowers
// packet_max().
//
// An answer must leave from the address that was asked, so a route is bound to the local address at
// which its peer was last heard; a small table remembers those by peer. Needs CAP_NET_RAW. All
// calls from one thread.
//
// A peer whose address has a port is encapsulated: its packets are behind UDP, to the one port that
// every host uses, from a port that spreads flows over receive queues. Both ways go to that port,
// so what came encapsulated is answered so. Raw sockets of UDP do this, since several programs of a
// host share the port and each wants only what is for its own service ports; a UDP socket that
// reads nothing keeps the kernel from answering that nobody is there.
#pragma once

#include "sp/abi/names.hpp"
#include "sp/abi/wire.h"
#include "sp/error.hpp"
#include "userspace/transport/header_template.hpp"
#include "userspace/transport/inbox.hpp"
#include "userspace/transport/nexthop.hpp"
#include "userspace/transport/outbox.hpp"
#include "userspace/transport/ports.hpp"

#include <optional>
#include <string_view>
#include <utility>
#include <vector>

struct sock_extended_err;

namespace sp::transport {

struct rawip_options {
    std::uint8_t protocol = SP_IP_PROTOCOL;
    int netns_fd = -1;                    // the namespace to open sockets in; -1: the thread's own
    std::uint16_t udp_port = SP_UDP_PORT; // of encapsulated packets, on every host; 0: never
};

class rawip {
public:
    static constexpr std::size_t routes_max = 4096;
    static constexpr std::size_t packet_bytes_max = 65515; // what an IPv4 packet carries

    // `stats` must outlive the transport.
    [[nodiscard]] static result<rawip> open(const rawip_options &options, counters &stats);

    // Nothing arrives for a port before it is added. A port belongs to one transport of a network
    // namespace.
    [[nodiscard]] result<void> add_port(std::uint16_t port);
    [[nodiscard]] result<std::uint16_t>
    add_ephemeral_port(); // a random free one from 49152 to 65535
    void remove_port(std::uint16_t port) noexcept;

    // From now on encapsulated packets are sent and received too. Calling it again does nothing.
    [[nodiscard]] result<void> encapsulate();
    [[nodiscard]] bool encapsulates() const noexcept { return udp_ipv4_.has_value(); }

    // The engine's transport concept. A hot sweep makes one attempt on each family in use; a full
    // one asks epoll what there is and looks only there.
    template <class Sink, class Sweep>
    std::size_t receive(Sink &&sink, std::size_t n, Sweep how, std::int64_t) noexcept
    {
        const bool full = static_cast<bool>(how);
        const ready found = full ? look() : hot_;
        std::size_t got = 0;
        if (found.ipv4)
            got += drain(ipv4_.get(), &rawip::ipv4_packet, sink, n);
        if (found.ipv6 && got < n)
            got += drain(ipv6_.get(), &rawip::ipv6_packet, sink, n - got);
        if (found.udp_ipv4 && got < n)
            got += drain(udp_ipv4_->socket.get(), &rawip::ipv4_packet, sink, n - got);
        if (found.udp_ipv6 && got < n)
            got += drain(udp_ipv6_->socket.get(), &rawip::udp_ipv6_packet, sink, n - got);
        if (full)
            after_full_sweep(found);
        return got;
    }
    [[nodiscard]] std::optional<route_id> open_route(const sp_address &peer) noexcept;
    void close_route(route_id route) noexcept;
    [[nodiscard]] std::span<std::byte> reserve(route_id route, std::size_t n) noexcept;
    void submit(route_id route, std::size_t n) noexcept;
    void send_to(const sp_address &peer, std::span<const std::byte> packet) noexcept;
    void flush() noexcept;
    [[nodiscard]] bool stalled() const noexcept
    {
        return !outbox_->empty();
    } // only time tells when there is room
    [[nodiscard]] std::optional<std::pair<sp_address, errc>> next_failure() noexcept;
    [[nodiscard]] std::size_t packet_max(route_id route) const noexcept;
    [[nodiscard]] std::string_view name(route_id route) const noexcept;
    [[nodiscard]] bool certain() const noexcept { return false; }
    [[nodiscard]] int wake_fd() const noexcept { return wake_.get(); }

    // Why open_route() gave nothing, last time it did.
    [[nodiscard]] const error &failure() const noexcept { return failure_; }

    // For the AF_XDP transport, which adds Ethernet headers to what is known here.
    [[nodiscard]] nexthop &routing() noexcept { return nexthop_; }
    [[nodiscard]] std::uint8_t protocol() const noexcept { return protocol_; }
    // Of encapsulated packets; 0 while there are none.
    [[nodiscard]] std::uint16_t udp_port() const noexcept { return encapsulates() ? udp_port_ : 0; }
    // The outer ports of what goes to that peer; empty: it is not encapsulated.
    [[nodiscard]] std::optional<udp_ports> outer_ports(route_id route) const noexcept;
    [[nodiscard]] const service_ports &ports() const noexcept { return ports_; }
    [[nodiscard]] sp_address peer(route_id route) const noexcept;
    // Empty while the kernel knows no way.
    [[nodiscard]] const std::optional<next_hop> &hop(route_id route) const noexcept;
    [[nodiscard]] std::uint64_t hop_version(route_id route) const noexcept;
    [[nodiscard]] std::uint64_t hops_version() const noexcept
    {
        return hops_version_;
    } // moves with any hop
    void heard(const sp_address &peer, const sp_address &at) noexcept;

private:
    static constexpr std::size_t heard_max = 256;
    static constexpr std::size_t failures_max = 64;
    static constexpr std::size_t refreshed_per_sweep = 16;

    struct ready {
        bool ipv4 = false, ipv6 = false, udp_ipv4 = false, udp_ipv6 = false;
        bool errors = false, events = false;
    };
    struct udp_pair {
        descriptor socket; // raw: reads and writes UDP headers itself
        descriptor holder; // bound to the port, reads nothing
    };
    struct arrival {
        sp_address from;
        std::span<const std::byte> packet;
    };
    struct route {
        sp_address peer{};
        sp_address local{};
        envelope to;
        std::optional<next_hop> hop;
        std::uint64_t generation = 0; // of nexthop_ when the hop was asked for; 0: ask again
        std::uint64_t version = 0;    // of the hop
        std::size_t packet_max = 0;
        std::uint16_t udp_source = 0; // 0: not encapsulated
        bool open = false;
    };
    struct encounter {
        sp_address peer{}, at{};
    };
    using failed_peer = std::pair<sp_address, errc>;

    rawip(const rawip_options &options, counters &stats, nexthop routes, service_ports ports);

    template <class Sink>
    std::size_t drain(int fd, std::optional<arrival> (rawip::*packet)(std::size_t) noexcept,
                      Sink &sink, std::size_t n) noexcept
    {
        std::size_t got = 0;
        const std::size_t came = inbox_->fill(fd, n);
        for (std::size_t i = 0; i < came; ++i) {
            const auto arrived = (this->*packet)(i);
            if (!arrived)
                continue;
            ++got;
            sink(arrived->from, arrived->packet);
        }
        stats_->add(stat::rawip_received, got);
        return got;
    }
    [[nodiscard]] std::optional<arrival> ipv4_packet(std::size_t i) noexcept;
    [[nodiscard]] std::optional<arrival> ipv6_packet(std::size_t i) noexcept;
    [[nodiscard]] std::optional<arrival> udp_ipv6_packet(std::size_t i) noexcept;
    void count(sp_shape shape) noexcept;

    [[nodiscard]] result<void> open_sockets();
    [[nodiscard]] result<void> open_ipv4();
    [[nodiscard]] result<void> open_ipv6();
    [[nodiscard]] result<udp_pair> open_udp(int family);
    [[nodiscard]] result<void> update_filters();
    [[nodiscard]] ready look() noexcept;
    void after_full_sweep(ready found) noexcept;
    void read_errors(int fd) noexcept;
    void read_udp_errors(int fd) noexcept;
    [[nodiscard]] bool has_outlet(const sp_address &peer) const noexcept;
    [[nodiscard]] outlets sockets() const noexcept;
    void on_report(const sp_address &peer, const sock_extended_err &error) noexcept;
    [[nodiscard]] static std::uint16_t source_port(const sp_address &peer,
                                                   std::uint32_t flow) noexcept;
    void fail(const sp_address &peer, errc why) noexcept;
    [[nodiscard]] sp_address heard_at(const sp_address &peer) const noexcept;
    void refresh_routes() noexcept;
    void refresh(route &r) noexcept;
    void ask_again(const sp_address &peer) noexcept;
    [[nodiscard]] route *find(route_id id) noexcept;
    [[nodiscard]] const route *find(route_id id) const noexcept;

    counters *stats_;
    std::uint8_t protocol_;
    std::uint16_t udp_port_;
    nexthop nexthop_;
    service_ports ports_;
    descriptor ipv4_, ipv6_, wake_;
    std::optional<udp_pair> udp_ipv4_, udp_ipv6_;
    ready hot_; // families worth a look in a hot sweep
    std::unique_ptr<inbox> inbox_;
    std::unique_ptr<outbox> outbox_;
    std::vector<route> routes_;
    std::vector<std::uint32_t> free_routes_;
    std::vector<encounter> heard_;
    std::vector<failed_peer> failures_; // a ring of failures_max
    std::size_t failures_head_ = 0, failures_count_ = 0;
    error failure_{errc::unreachable};
    std::uint64_t seen_generation_ = 0, hops_version_ = 1;
    std::size_t refresh_next_ = 0, refresh_left_ = 0;
};

} // namespace sp::transport
