// SPDX-License-Identifier: BSD-2-Clause
//
// SP packets through AF_XDP: one socket per receive queue of one interface, fed by the XDP program,
// and a companion rawip for all that the rings cannot do: packets before the neighbour is known, to
// other interfaces, to strangers, and whatever reaches the kernel because the program or a socket
// is not there. A route uses the rings while the kernel's next hop lies on this interface and has a
// usable MAC; the change from one way to the other happens in a full sweep and loses nothing.
//
// A hot sweep reads only the receive rings and makes no system call; only while packets take the
// kernel's way does it look there too. A turn's packets leave by one sendto(). When the device
// goes, everything goes on through the companion. All calls from one thread.
#pragma once

#include "sp/abi/names.hpp"
#include "sp/error.hpp"
#include "userspace/transport/header_template.hpp"
#include "userspace/transport/rawip.hpp"
#include "userspace/transport/steering.hpp"
#include "userspace/transport/xsk.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sp::transport {

struct xdp_options {
    std::string interface;
    unsigned ifindex =
        0; // of that interface, so that a new one of the same name is not taken for it
    steering_maps maps;
    std::uint32_t frames =
        4096; // per queue, half of them to receive into; a power of two from 64 to 65536
    transport::zerocopy zerocopy = transport::zerocopy::automatic;
    bool native = true; // the program runs in the driver; without that nothing is zero-copy
    rawip_options kernel;
};

class xdp {
public:
    // The program must be attached already: some drivers arm their queues only then.
    [[nodiscard]] static result<xdp> open(const xdp_options &options, counters &stats);

    // The program was attached anew, or the interface made anew, while packets took the kernel's
    // way: the rings serve again. Called between turns, in the network namespace of the transport;
    // after an error the kernel's way goes on.
    [[nodiscard]] result<void> follow(const xdp_options &options);

    [[nodiscard]] result<void> add_port(std::uint16_t port);
    [[nodiscard]] result<std::uint16_t> add_ephemeral_port();
    void remove_port(std::uint16_t port) noexcept;
    [[nodiscard]] result<void> encapsulate() { return kernel_.encapsulate(); }

    template <class Sink, class Sweep>
    std::size_t receive(Sink &&sink, std::size_t n, Sweep how, std::int64_t now_ns) noexcept
    {
        const bool full = static_cast<bool>(how);
        std::size_t got = 0;
        if (full || kernel_hot_ || queues_.empty()) {
            got = kernel_.receive(sink, n, how, now_ns);
            note_kernel(got);
        }
        for (auto &queue : queues_) {
            if (got < n)
                got += drain(queue, sink, n - got);
        }
        if (kick_owed_ && !link_down_)
            kick();
        if (full)
            after_full_sweep(now_ns);
        return got;
    }
    [[nodiscard]] std::optional<route_id> open_route(const sp_address &peer) noexcept;
    void close_route(route_id route) noexcept;
    [[nodiscard]] std::span<std::byte> reserve(route_id id, std::size_t n) noexcept;
    void submit(route_id id, std::size_t n) noexcept;
    void send_to(const sp_address &peer, std::span<const std::byte> packet) noexcept
    {
        kernel_.send_to(peer, packet);
    }
    void flush() noexcept;
    [[nodiscard]] std::optional<std::pair<sp_address, errc>> next_failure() noexcept
    {
        return kernel_.next_failure();
    }
    [[nodiscard]] std::size_t packet_max(route_id id) const noexcept;
    // Frames of one queue: all peers may send to the same.
    [[nodiscard]] std::size_t rx_packets() const noexcept
    {
        return queues_.empty() ? 0 : queues_.front().rx_frames();
    }
    [[nodiscard]] std::string_view name(route_id id) const noexcept;
    [[nodiscard]] bool certain() const noexcept { return false; }
    // Tells of packets in the rings only while armed, as it is after open(). The kernel pays for an
    // armed descriptor with each packet, in the sender's time: 0.1 to 0.2 us of a round trip
    // (measured, veth). So a driver that polls may disarm, if it arms before it sleeps; what came
    // in between makes the descriptor readable at once.
    [[nodiscard]] int wake_fd() const noexcept { return wake_.get(); }
    void arm() noexcept;
    void disarm() noexcept;
    // Only time tells when the system takes what is left.
    [[nodiscard]] bool stalled() const noexcept
    {
        return kernel_.stalled() || (kick_owed_ && !link_down_);
    }

    [[nodiscard]] const error &failure() const noexcept { return kernel_.failure(); }
    [[nodiscard]] bool zero_copy() const noexcept { return zero_copy_; }
    [[nodiscard]] std::size_t queues() const noexcept { return queues_.size(); }
    [[nodiscard]] std::uint32_t frame_bytes() const noexcept { return frame_bytes_; }
    // What the kernel says of the way to a peer; empty while it knows none.
    [[nodiscard]] const std::optional<next_hop> &way_of(route_id id) const noexcept;
    // The rings are in use: the device is there.
    [[nodiscard]] bool accelerated() const noexcept { return !queues_.empty(); }

private:
    // Statistics, neighbours in use and whether the kernel's way is in use are looked at this
    // often.
    static constexpr std::int64_t tick_ns = 100'000'000;
    static constexpr int ticks_per_neighbour_check = 10;
    static constexpr std::size_t neighbours_per_check = 64;

    struct route {
        header_template headers;
        route_id kernel{};
        std::uint64_t hop_version = 0;
        std::size_t packet_max = 0;
        bool open = false;
        bool direct = false; // through the rings
        bool used = false;   // since the last look at neighbours
    };
    struct encounter {
        sp_address peer{}, at{};
    };
    enum class way : std::uint8_t { none, rings, kernel };

    xdp(const xdp_options &options, counters &stats, rawip kernel, steering steer, descriptor wake);

    template <class Sink>
    std::size_t drain(xsk &queue, Sink &sink, std::size_t n) noexcept
    {
        std::size_t good = 0;
        queue.receive(
            [&](std::span<const std::byte> frame) {
                sp_parsed parsed;
                const auto *begin = frame.data();
                if (sp_parse_frame(begin, begin + frame.size(), protocol_,
                                   SP_BE16(kernel_.udp_port()), &parsed) != SP_SHAPE_SP)
                    return stats_->add(stat::xsk_bad_length);
                ++good;
                const auto from = meet(parsed);
                sink(from,
                     std::span(reinterpret_cast<const std::byte *>(parsed.header), parsed.length));
            },
            n, *stats_);
        if (good)
            stats_->add(stat::xsk_received, good);
        return good;
    }
    // The sender's address; also remembers where it reached us. Peers come in runs, so most packets
    // change nothing.
    sp_address meet(const sp_parsed &parsed) noexcept
    {
        const bool v4 = parsed.family == 4;
        auto from = v4 ? ipv4_address(parsed.source) : ipv6_address(parsed.source, ifindex_);
        if (parsed.udp)
            from.port = SP_BE16(kernel_.udp_port());
        const auto at =
            v4 ? ipv4_address(parsed.destination) : ipv6_address(parsed.destination, ifindex_);
        if (!same(from, last_.peer) || !same(at, last_.at)) {
            last_ = {from, at};
            kernel_.heard(from, at);
        }
        return from;
    }

    struct device {
        std::vector<xsk> queues;
        std::uint32_t frame_bytes = 0;
    };
    [[nodiscard]] static result<device> open_device(const xdp_options &options, nexthop &routing);
    [[nodiscard]] static result<std::vector<xsk>>
    open_queues(const xdp_options &options, std::uint32_t frame_bytes, unsigned queues);
    void adopt(device opened) noexcept;
    [[nodiscard]] result<void> steer();
    void note_kernel(std::size_t packets) noexcept
    {
        kernel_used_ |= packets != 0;
        kernel_hot_ |= packets != 0;
    }
    void after_full_sweep(std::int64_t now_ns) noexcept;
    void check_device() noexcept;
    void abandon_device() noexcept;
    void ignore_rings() noexcept;
    void rebuild_routes() noexcept;
    void rebuild(route &r) noexcept;
    void tick() noexcept;
    void keep_neighbours() noexcept;
    void kick() noexcept;
    [[nodiscard]] route *find(route_id id) noexcept;
    [[nodiscard]] const route *find(route_id id) const noexcept;

    counters *stats_;
    unsigned ifindex_;
    std::uint8_t protocol_;
    std::uint32_t frame_bytes_ = 0;
    rawip kernel_;
    descriptor wake_;
    std::vector<xsk> queues_;          // the first one also sends
    std::optional<steering> steering_; // after the sockets: takes its entries out before they close
    std::vector<route> routes_;
    std::vector<std::uint32_t> free_routes_;
    encounter last_;
    way reserved_ = way::none; // where the last reserve() found room
    bool zero_copy_ = false;
    bool armed_ = false;
    bool kick_owed_ = false;
    bool link_down_ = false;
    bool kernel_hot_ = true, kernel_used_ = false; // the latter within this tick
    std::uint64_t seen_hops_ = 0, seen_links_ = 0, seen_addresses_ = 0;
    std::int64_t next_tick_ns_ = 0;
    int ticks_ = 0;
    xsk::statistics lost_before_{}; // of sockets that are gone
};

} // namespace sp::transport
