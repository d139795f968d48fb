// SPDX-License-Identifier: BSD-2-Clause
//
// See header_template.hpp.
#include "userspace/transport/header_template.hpp"

#include <utility>

namespace sp::transport {
namespace {

constexpr std::uint16_t dont_fragment = 0x4000;

std::uint32_t sum_of_words(const void *data, std::size_t bytes) noexcept
{
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < bytes; i += 2) {
        __be16 word;
        std::memcpy(&word, static_cast<const std::byte *>(data) + i, sizeof word);
        sum += SP_BE16(word);
    }
    return sum;
}

sp_ipv4 ipv4_header(const sp_address &from, const sp_address &to, std::uint8_t protocol) noexcept
{
    sp_ipv4 ip{};
    ip.version_length = 0x45;
    ip.fragment = SP_BE16(dont_fragment);
    ip.ttl = header_template::ttl;
    ip.protocol = protocol;
    std::memcpy(ip.source, from.bytes, sizeof ip.source);
    std::memcpy(ip.destination, to.bytes, sizeof ip.destination);
    return ip;
}

sp_ipv6 ipv6_header(const sp_address &from, const sp_address &to, std::uint8_t protocol) noexcept
{
    sp_ipv6 ip{};
    ip.version_class_flow = SP_BE32(0x60000000u);
    ip.next_header = protocol;
    ip.hop_limit = header_template::ttl;
    std::memcpy(ip.source, from.bytes, sizeof ip.source);
    std::memcpy(ip.destination, to.bytes, sizeof ip.destination);
    return ip;
}

} // namespace

header_template::header_template(const sp_address &from, const sp_address &to,
                                 const mac_address &own, const mac_address &next,
                                 std::uint8_t protocol) noexcept
{
    sp_ethernet ethernet{};
    std::memcpy(ethernet.destination, next.data(), next.size());
    std::memcpy(ethernet.source, own.data(), own.size());
    if (to.family == SP_FAMILY_IPV4) {
        const auto ip = ipv4_header(from, to, protocol);
        ethernet.type = SP_BE16(SP_ETHERTYPE_IPV4);
        std::memcpy(bytes_ + sizeof ethernet, &ip, sizeof ip);
        checksum_base_ = sum_of_words(&ip, sizeof ip);
        size_ = ipv4_bytes;
    } else {
        const auto ip = ipv6_header(from, to, protocol);
        ethernet.type = SP_BE16(SP_ETHERTYPE_IPV6);
        std::memcpy(bytes_ + sizeof ethernet, &ip, sizeof ip);
        size_ = ipv6_bytes;
    }
    std::memcpy(bytes_, &ethernet, sizeof ethernet);
}

} // namespace sp::transport
