// SPDX-License-Identifier: BSD-2-Clause
//
// The Ethernet, IP and perhaps UDP headers of everything that goes to one peer, ready but for the
// length: a packet costs a copy and, over IPv4, one fold of a checksum that was summed when the
// template was made (RFC 1624). DF is set, the id is 0, the TTL 64; packets are never fragmented.
// UDP over IPv4 carries no checksum, since the packet has its own; over IPv6 it is compulsory, and
// summed over the whole packet.
#pragma once

#include "sp/abi/wire.h"
#include "userspace/transport/nexthop.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>

namespace sp::transport {

// The outer ports of encapsulated packets.
struct udp_ports {
    std::uint16_t source = 0;
    std::uint16_t destination = 0;
};

class header_template {
public:
    static constexpr std::size_t ipv4_bytes = sizeof(sp_ethernet) + sizeof(sp_ipv4);
    static constexpr std::size_t ipv6_bytes = sizeof(sp_ethernet) + sizeof(sp_ipv6);
    static constexpr std::size_t bytes_max = ipv6_bytes + sizeof(sp_udp);
    static constexpr std::uint8_t ttl = 64;

    header_template() = default;
    header_template(const sp_address &from, const sp_address &to, const mac_address &own,
                    const mac_address &next, std::uint8_t protocol,
                    std::optional<udp_ports> outer = {}) noexcept;

    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    // Writes the headers right in front of an SP packet of `length` bytes, which is complete. There
    // must be size() bytes of room.
    void write_before(std::byte *packet, std::size_t length) const noexcept
    {
        switch (size_) {
        case ipv4_bytes:
            std::memcpy(packet - ipv4_bytes, bytes_, ipv4_bytes);
            return finish_ipv4(packet - sizeof(sp_ipv4), length);
        case ipv4_bytes + sizeof(sp_udp):
            std::memcpy(packet - ipv4_bytes - sizeof(sp_udp), bytes_, ipv4_bytes + sizeof(sp_udp));
            put16(packet - sizeof(sp_udp) + offsetof(sp_udp, length), length + sizeof(sp_udp));
            return finish_ipv4(packet - sizeof(sp_udp) - sizeof(sp_ipv4), length + sizeof(sp_udp));
        case ipv6_bytes:
            std::memcpy(packet - ipv6_bytes, bytes_, ipv6_bytes);
            return put16(packet - sizeof(sp_ipv6) + offsetof(sp_ipv6, length), length);
        default:
            return write_ipv6_and_udp(packet, length);
        }
    }

private:
    static void put16(std::byte *at, std::size_t value) noexcept
    {
        const __be16 big = SP_BE16(static_cast<std::uint16_t>(value));
        std::memcpy(at, &big, sizeof big);
    }
    void finish_ipv4(std::byte *ip, std::size_t payload) const noexcept
    {
        const auto total = static_cast<std::uint32_t>(sizeof(sp_ipv4) + payload);
        std::uint32_t sum = checksum_base_ + total;
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        put16(ip + offsetof(sp_ipv4, length), total);
        put16(ip + offsetof(sp_ipv4, checksum), ~sum);
    }
    void write_ipv6_and_udp(std::byte *packet, std::size_t length) const noexcept;

    std::byte bytes_[bytes_max]{};
    std::uint16_t size_ = 0;
    // IPv4: of the IP header with length 0. UDP over IPv6: of the pseudo header and the ports.
    std::uint32_t checksum_base_ = 0;
};

} // namespace sp::transport
