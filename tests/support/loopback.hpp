// SPDX-License-Identifier: BSD-2-Clause
//
// A transport inside one thread for tests: any number of engines joined by a net that a test may
// make lossy. Time does not pass here; a packet sent is there at once.
#pragma once

#include "userspace/engine/transport.hpp"

#include <array>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

namespace sp::test {

[[nodiscard]] inline sp_address host(std::uint8_t number)
{
    sp_address a{};
    a.family = SP_FAMILY_IPV4;
    a.length = 4;
    a.bytes[0] = 198;
    a.bytes[1] = 18;
    a.bytes[3] = number;
    return a;
}

struct in_flight {
    sp_address from;
    std::vector<std::byte> bytes;
};

// What all loopbacks of one test share.
struct net {
    std::map<std::uint8_t, std::deque<in_flight>> inboxes;
    // Decides about each packet: how often it arrives. Default: once.
    std::function<int(const sp_address &from, const sp_address &to, std::span<std::byte>)> fate;
    std::size_t packet_max = 1480;
    std::uint64_t packets = 0;

    void carry(const sp_address &from, const sp_address &to, std::span<const std::byte> bytes)
    {
        ++packets;
        std::vector<std::byte> copy(bytes.begin(), bytes.end());
        int copies = fate ? fate(from, to, copy) : 1;
        for (; copies > 0; --copies)
            inboxes[to.bytes[3]].push_back({from, copy});
    }
};

class loopback {
public:
    loopback(net &n, std::uint8_t number) : net_(&n), self_(host(number)) {}

    template <class Sink>
    std::size_t receive(Sink &&sink, std::size_t max, core::sweep, std::int64_t) noexcept
    {
        auto &inbox = net_->inboxes[self_.bytes[3]];
        std::size_t n = 0;
        for (; n < max && !inbox.empty(); ++n) {
            const auto packet = std::move(inbox.front());
            inbox.pop_front();
            sink(packet.from, std::span<const std::byte>(packet.bytes));
        }
        return n;
    }

    std::optional<route_id> open_route(const sp_address &peer) noexcept
    {
        routes_.push_back(peer);
        return static_cast<route_id>(routes_.size() - 1);
    }
    void close_route(route_id) noexcept {}

    std::span<std::byte> reserve(route_id, std::size_t size) noexcept
    {
        if (full)
            return {};
        scratch_.resize(size);
        return scratch_;
    }
    void submit(route_id route, std::size_t size) noexcept
    {
        net_->carry(self_, routes_[static_cast<std::uint32_t>(route)],
                    std::span(scratch_).first(size));
    }
    void send_to(const sp_address &peer, std::span<const std::byte> packet) noexcept
    {
        net_->carry(self_, peer, packet);
    }
    void flush() noexcept {}
    std::optional<std::pair<sp_address, errc>> next_failure() noexcept
    {
        if (failures.empty())
            return std::nullopt;
        auto f = failures.front();
        failures.pop_front();
        return f;
    }
    std::size_t packet_max(route_id) const noexcept { return net_->packet_max; }
    std::string_view name(route_id) const noexcept { return "loopback"; }
    bool certain() const noexcept { return false; }
    int wake_fd() const noexcept { return -1; }

    bool full = false; // no room to send
    std::deque<std::pair<sp_address, errc>> failures;

private:
    net *net_;
    sp_address self_;
    std::vector<sp_address> routes_;
    std::vector<std::byte> scratch_;
};

static_assert(core::transport<loopback>);

} // namespace sp::test
