// SPDX-License-Identifier: BSD-2-Clause
//
// The transport of a simulated host: packets come out of an inbox and go into the medium, which
// every host of a run shares. Its packet size may change, and at times it takes nothing.
#pragma once

#include "sp/abi/wire.h"
#include "userspace/engine/transport.hpp"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <span>
#include <utility>
#include <vector>

namespace sp::sim {

struct port;

// What carries packets between ports, and is told when one is handed to an engine.
class medium {
public:
    virtual void send(port &from, const sp_address &to, std::span<const std::byte> packet,
                      bool to_stranger) noexcept = 0;
    virtual void before(port &at, std::span<const std::byte> packet) noexcept = 0;
    virtual void after(port &at) noexcept = 0;

protected:
    ~medium() = default;
};

struct letter {
    sp_address from{};
    std::vector<std::byte> bytes{};
};

// A host's place in the network; it outlives the host's engines.
struct port {
    medium *out = nullptr;
    std::uint32_t host = 0;
    sp_address address{};
    std::size_t packet_max = 1480;
    std::size_t batch = 64;
    bool jammed = false;  // the device takes nothing for a moment
    bool refused = false; // somebody since the latest turn with room
    std::deque<letter> inbox{};
    std::deque<std::pair<sp_address, errc>> hints{}; // what the system says of peers
    std::uint64_t sent = 0;
};

class sim_transport {
public:
    explicit sim_transport(port &p) : port_(&p) {}

    template <class Sink>
    std::size_t receive(Sink &&sink, std::size_t max, core::sweep, std::int64_t) noexcept
    {
        std::size_t n = 0;
        for (; n < std::min(max, port_->batch) && !port_->inbox.empty(); ++n) {
            const auto l = std::move(port_->inbox.front());
            port_->inbox.pop_front();
            const std::span<const std::byte> packet(l.bytes);
            port_->out->before(*port_, packet);
            if (sp_check_packet(packet.data(), packet.data() + packet.size(),
                                static_cast<__u32>(packet.size())) == SP_SHAPE_SP)
                sink(l.from, packet);
            port_->out->after(*port_);
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
        if (port_->jammed) {
            port_->refused = true;
            return {};
        }
        scratch_.resize(size);
        return scratch_;
    }
    void submit(route_id route, std::size_t size) noexcept
    {
        ++port_->sent;
        port_->out->send(*port_, routes_[static_cast<std::uint32_t>(route)],
                         std::span<const std::byte>(scratch_).first(size), false);
    }
    void send_to(const sp_address &peer, std::span<const std::byte> packet) noexcept
    {
        ++port_->sent;
        port_->out->send(*port_, peer, packet, true);
    }
    void flush() noexcept {}
    std::optional<std::pair<sp_address, errc>> next_failure() noexcept
    {
        if (port_->hints.empty())
            return std::nullopt;
        const auto hint = port_->hints.front();
        port_->hints.pop_front();
        return hint;
    }
    std::size_t packet_max(route_id) const noexcept { return port_->packet_max; }
    std::string_view name(route_id) const noexcept { return "sim"; }
    bool certain() const noexcept { return false; }
    int wake_fd() const noexcept { return -1; }

private:
    port *port_;
    std::vector<sp_address> routes_;
    std::vector<std::byte> scratch_;
};

static_assert(core::transport<sim_transport>);

[[nodiscard]] inline sp_address address_of(std::uint32_t host) noexcept
{
    sp_address a{};
    a.family = SP_FAMILY_IPV4;
    a.length = 4;
    a.bytes[0] = 198;
    a.bytes[1] = 18;
    a.bytes[2] = static_cast<std::uint8_t>(host >> 8);
    a.bytes[3] = static_cast<std::uint8_t>(host + 1);
    return a;
}

} // namespace sp::sim
