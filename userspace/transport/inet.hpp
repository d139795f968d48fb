// SPDX-License-Identifier: BSD-2-Clause
//
// sp_address as the kernel's socket addresses and back, and the two questions asked of it
// everywhere: are these the same host, and may a packet be addressed to it. Values in, values out.
#pragma once

#include "sp/abi/address.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <netinet/in.h>

namespace sp::transport {

// sockaddr_in6 is the larger of the two; `length` says which one it holds.
struct socket_name {
    sockaddr_in6 bytes{};
    socklen_t length = 0;
};

// Both calls copy: the wire and the kernel give addresses at any alignment.
[[nodiscard]] inline sp_address ipv4_address(const void *four) noexcept
{
    sp_address address{};
    address.family = SP_FAMILY_IPV4;
    address.length = 4;
    std::memcpy(address.bytes, four, 4);
    return address;
}

[[nodiscard]] inline sp_address ipv6_address(const void *sixteen, std::uint32_t scope = 0) noexcept
{
    sp_address address{};
    address.family = SP_FAMILY_IPV6;
    address.length = 16;
    std::memcpy(address.bytes, sixteen, 16);
    const bool link_local = address.bytes[0] == 0xfe && (address.bytes[1] & 0xc0) == 0x80;
    address.scope = link_local ? scope : 0;
    return address;
}

[[nodiscard]] inline bool same(const sp_address &a, const sp_address &b) noexcept
{
    return std::memcmp(&a, &b, sizeof a) == 0;
}

[[nodiscard]] inline socket_name name_of(const sp_address &address) noexcept
{
    socket_name name;
    if (address.family == SP_FAMILY_IPV4) {
        sockaddr_in in{};
        in.sin_family = AF_INET;
        std::memcpy(&in.sin_addr, address.bytes, 4);
        std::memcpy(&name.bytes, &in, sizeof in);
        name.length = sizeof in;
        return name;
    }
    name.bytes.sin6_family = AF_INET6;
    name.bytes.sin6_scope_id = address.scope;
    std::memcpy(&name.bytes.sin6_addr, address.bytes, 16);
    name.length = sizeof name.bytes;
    return name;
}

// One host, named by an IP address. What is left to the kernel's routing is whether an address is
// some subnet's broadcast.
[[nodiscard]] inline bool is_unicast(const sp_address &address) noexcept
{
    const auto *b = address.bytes;
    if (address.family == SP_FAMILY_IPV4)
        return b[0] != 0 && b[0] < 224;
    if (address.family != SP_FAMILY_IPV6 || b[0] == 0xff)
        return false;
    static constexpr std::uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    static constexpr std::uint8_t none[16] = {};
    return std::memcmp(b, mapped, sizeof mapped) != 0 && std::memcmp(b, none, sizeof none) != 0;
}

[[nodiscard]] inline std::uint64_t hash(const sp_address &address) noexcept
{
    std::uint64_t low, high;
    std::memcpy(&low, address.bytes, 8);
    std::memcpy(&high, address.bytes + 8, 8);
    // Any odd constant spreads the low bits of an address into the high bits of the product.
    return (low ^ ((high ^ address.port) * 0x9e3779b97f4a7c15u)) * 0xff51afd7ed558ccdu;
}

} // namespace sp::transport
