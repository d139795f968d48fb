// SPDX-License-Identifier: BSD-2-Clause
//
// The Ethernet and IP headers of everything that goes to one peer, ready but for the length: a
// packet costs a copy and, over IPv4, one fold of a checksum that was summed when the template was
// made (RFC 1624). DF is set, the id is 0, the TTL 64; packets are never fragmented.
#pragma once

#include "sp/abi/wire.h"
#include "userspace/transport/nexthop.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace sp::transport {

class header_template {
public:
    static constexpr std::size_t ipv4_bytes = sizeof(sp_ethernet) + sizeof(sp_ipv4);
    static constexpr std::size_t ipv6_bytes = sizeof(sp_ethernet) + sizeof(sp_ipv6);
    static constexpr std::uint8_t ttl = 64;

    header_template() = default;
    header_template(const sp_address &from, const sp_address &to, const mac_address &own,
                    const mac_address &next, std::uint8_t protocol) noexcept;

    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    // Writes the headers right in front of an SP packet of `length` bytes. There must be size()
    // bytes of room.
    void write_before(std::byte *packet, std::size_t length) const noexcept
    {
        if (size_ == ipv4_bytes) {
            auto *ip = packet - sizeof(sp_ipv4);
            const auto total = static_cast<std::uint32_t>(sizeof(sp_ipv4) + length);
            std::uint32_t sum = checksum_base_ + total;
            sum = (sum & 0xffff) + (sum >> 16);
            sum = (sum & 0xffff) + (sum >> 16);
            std::memcpy(packet - ipv4_bytes, bytes_, ipv4_bytes);
            put16(ip + offsetof(sp_ipv4, length), total);
            put16(ip + offsetof(sp_ipv4, checksum), ~sum);
        } else {
            std::memcpy(packet - ipv6_bytes, bytes_, ipv6_bytes);
            put16(packet - sizeof(sp_ipv6) + offsetof(sp_ipv6, length),
                  static_cast<std::uint32_t>(length));
        }
    }

private:
    static void put16(std::byte *at, std::uint32_t value) noexcept
    {
        const __be16 big = SP_BE16(static_cast<std::uint16_t>(value));
        std::memcpy(at, &big, sizeof big);
    }

    std::byte bytes_[ipv6_bytes]{};
    std::uint16_t size_ = 0;
    std::uint32_t checksum_base_ = 0; // of the IPv4 header with length 0
};

} // namespace sp::transport
