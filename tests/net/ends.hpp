// SPDX-License-Identifier: BSD-2-Clause
//
// What the tests of the network transports share: a transport at one end of the wire, driven by
// hand from the test's only thread, packets that carry a mark, and waiting for a condition instead
// of sleeping.
#pragma once

#include "sp/abi/wire.h"
#include "userspace/engine/transport.hpp"
#include "userspace/transport/inet.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <chrono>
#include <cstring>
#include <functional>
#include <gtest/gtest.h>
#include <optional>
#include <sys/wait.h>
#include <unistd.h>

namespace sp::test {

using namespace std::chrono_literals;

constexpr std::uint16_t port_a = 1000, port_b = 2000;
constexpr std::size_t packet_bytes = 124;

inline std::int64_t now_ns()
{
    return std::chrono::steady_clock::now().time_since_epoch().count();
}

inline bool eventually(const std::function<bool()> &condition,
                       std::chrono::milliseconds within = 5s)
{
    const auto end = std::chrono::steady_clock::now() + within;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > end)
            return false;
    }
    return true;
}

inline sp_address address_of(const std::string &text)
{
    std::uint8_t bytes[16];
    if (inet_pton(AF_INET, text.c_str(), bytes) == 1)
        return transport::ipv4_address(bytes);
    EXPECT_EQ(inet_pton(AF_INET6, text.c_str(), bytes), 1) << text;
    return transport::ipv6_address(bytes);
}

inline void write_packet(std::span<std::byte> room, std::uint16_t to, std::uint16_t from,
                         std::uint32_t mark)
{
    sp_header header{};
    header.version = SP_WIRE_VERSION;
    header.type = SP_DATA;
    header.dport = SP_BE16(to);
    header.sport = SP_BE16(from);
    header.seq = SP_BE32(mark);
    std::ranges::fill(room, std::byte{});
    std::memcpy(room.data(), &header, sizeof header);
}

struct heard {
    sp_address from{};
    std::size_t bytes = 0;
    std::uint32_t mark = 0;
};

// A transport with its counters, and what it received last.
template <class Transport>
struct end {
    counters stats;
    std::optional<Transport> opened;
    std::size_t received = 0;
    heard last;

    Transport *operator->() { return &*opened; }

    std::size_t sweep(core::sweep how = core::sweep::full)
    {
        const auto got = opened->receive(
            [this](const sp_address &from, std::span<const std::byte> packet) {
                sp_header header;
                std::memcpy(&header, packet.data(), sizeof header);
                last = {from, packet.size(), SP_BE32(header.seq)};
            },
            64, how, now_ns());
        received += got;
        return got;
    }

    bool send(route_id route, std::uint16_t to, std::uint16_t from, std::uint32_t mark,
              std::size_t bytes = packet_bytes)
    {
        const auto room = opened->reserve(route, bytes);
        if (room.empty())
            return false;
        write_packet(room, to, from, mark);
        opened->submit(route, bytes);
        opened->flush();
        return true;
    }
};

// Sends until one arrives: between down and up, or before a neighbour is known, a packet may be
// lost.
template <class Transport>
bool reaches(end<Transport> &from, route_id route, end<Transport> &to, std::uint16_t to_port,
             std::uint16_t from_port, std::chrono::milliseconds within = 5s)
{
    static std::uint32_t mark = 0;
    const auto wanted = ++mark;
    auto next = std::chrono::steady_clock::now();
    return eventually(
        [&] {
            if (std::chrono::steady_clock::now() >= next) {
                (void)from.send(route, to_port, from_port, wanted);
                next += 50ms;
            }
            from.sweep();
            to.sweep();
            return to.last.mark == wanted;
        },
        within);
}

// In a child: `body` ends by its exit status, so that a process can lose rights that the test still
// needs.
inline int in_a_child(const std::function<int()> &body)
{
    const pid_t child = ::fork();
    if (child == 0)
        ::_exit(body());
    int status = -1;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

} // namespace sp::test
