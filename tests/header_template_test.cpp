// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/transport/header_template.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <gtest/gtest.h>
#include <random>
#include <vector>

namespace {

using namespace sp::transport;

constexpr mac_address own{2, 0, 0, 0, 0, 1}, next{2, 0, 0, 0, 0, 2};
constexpr std::size_t packet_at = 64;
constexpr udp_ports outer{60001, 5370};

struct frame {
    std::array<std::byte, 2048> bytes{};
    std::byte *packet = bytes.data() + packet_at;

    // A template's headers before an SP packet of `length` bytes.
    frame(const header_template &headers, std::size_t length)
    {
        sp_header header{};
        header.version = SP_WIRE_VERSION;
        header.type = SP_DATA;
        std::memcpy(packet, &header, sizeof header);
        headers.write_before(packet, length);
    }

    [[nodiscard]] sp_shape parse(const header_template &headers, std::size_t length,
                                 sp_parsed &out) const
    {
        return sp_parse_frame(packet - headers.size(), packet + length, SP_IP_PROTOCOL,
                              SP_BE16(outer.destination), &out);
    }
};

header_template between(const char (&from)[17], const char (&to)[17], int family,
                        std::optional<udp_ports> encapsulated = {})
{
    const auto address = [&](const char *bytes) {
        return family == 4 ? ipv4_address(bytes) : ipv6_address(bytes);
    };
    return {address(from), address(to), own, next, SP_IP_PROTOCOL, encapsulated};
}

constexpr char left[17] = "\xc6\x12\x00\x01zzzzzzzzzzzz",
               right[17] = "\xff\xff\xff\xfezzzzzzzzzzzz";

// The ones' complement sum of big-endian words, folded; an odd byte at the end is a high half.
std::uint32_t sum_of(const std::byte *bytes, std::size_t size, std::uint32_t sum = 0)
{
    for (std::size_t i = 0; i < size; ++i)
        sum += std::to_integer<std::uint32_t>(bytes[i]) << (i % 2 ? 0 : 8);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

// What RFC 1071 wants of a header that arrived unharmed.
bool checksum_is_right(const std::byte *header)
{
    return sum_of(header, sizeof(sp_ipv4)) == 0xffff;
}

// The same of what is behind an IPv6 header, with its pseudo header (RFC 8200, 8.1).
bool udp_checksum_is_right(const std::byte *udp, std::size_t size)
{
    const auto *addresses = udp - 2 * sizeof(sp_ipv6::source);
    return sum_of(udp, size,
                  sum_of(addresses, 2 * sizeof(sp_ipv6::source),
                         static_cast<std::uint32_t>(size) + SP_PROTOCOL_UDP)) == 0xffff;
}

TEST(header_template, is_read_back_by_the_parser)
{
    for (int family : {4, 6}) {
        const auto headers = between(left, right, family);
        for (std::size_t length : {std::size_t{SP_OVERHEAD}, std::size_t{124}, std::size_t{1460}}) {
            const frame sent(headers, length);
            sp_parsed parsed;
            ASSERT_EQ(sent.parse(headers, length, parsed), SP_SHAPE_SP);
            EXPECT_EQ(parsed.length, length);
            EXPECT_EQ(parsed.family, static_cast<unsigned>(family));
            EXPECT_EQ(std::memcmp(parsed.source, left, family == 4 ? 4 : 16), 0);
            EXPECT_EQ(std::memcmp(parsed.destination, right, family == 4 ? 4 : 16), 0);
        }
    }
}

TEST(header_template, puts_the_packet_behind_udp)
{
    for (int family : {4, 6}) {
        const auto plain = between(left, right, family),
                   headers = between(left, right, family, outer);
        EXPECT_EQ(headers.size(), plain.size() + sizeof(sp_udp));
        for (std::size_t length : {std::size_t{SP_OVERHEAD}, std::size_t{124}, std::size_t{1452}}) {
            const frame sent(headers, length);
            sp_parsed parsed;
            ASSERT_EQ(sent.parse(headers, length, parsed), SP_SHAPE_SP);
            EXPECT_EQ(parsed.length, length);
            ASSERT_TRUE(parsed.udp);
            EXPECT_EQ(parsed.udp->source, SP_BE16(outer.source));
            EXPECT_EQ(parsed.udp->checksum == 0, family == 4);
            EXPECT_EQ(std::memcmp(parsed.destination, right, family == 4 ? 4 : 16), 0);
        }
    }
}

TEST(header_template, sums_every_packet_that_is_behind_udp_over_ipv6)
{
    const auto seed = std::random_device()();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const auto headers = between(left, right, 6, outer);
    std::vector<std::byte> bytes(packet_at + 9000);
    auto *packet = bytes.data() + packet_at;
    const auto right_for = [&](std::size_t length) {
        headers.write_before(packet, length);
        return udp_checksum_is_right(packet - sizeof(sp_udp), sizeof(sp_udp) + length);
    };
    for (std::size_t length = SP_OVERHEAD; length <= 9000; ++length) {
        packet[length - 1] = static_cast<std::byte>(random());
        packet[random() % length] = static_cast<std::byte>(random());
        ASSERT_TRUE(right_for(length)) << length;
    }
    // A sum of 0 is written as its other form, or it would say that there is none.
    std::ranges::fill(bytes, std::byte{});
    ASSERT_TRUE(right_for(SP_OVERHEAD));
    std::memcpy(packet, packet - 2, 2); // the checksum itself makes the sum all ones
    ASSERT_TRUE(right_for(SP_OVERHEAD));
    EXPECT_EQ(packet[-2], std::byte{0xff});
    EXPECT_EQ(packet[-1], std::byte{0xff});
}

TEST(header_template, folds_the_length_of_every_packet_into_the_checksum)
{
    for (const auto &headers : {between(left, right, 4), between(left, right, 4, outer)}) {
        const std::size_t ip_at = packet_at - headers.size() + sizeof(sp_ethernet);
        for (std::size_t length = SP_OVERHEAD; length <= 65507; ++length) {
            std::array<std::byte, packet_at> bytes;
            headers.write_before(bytes.data() + bytes.size(), length);
            ASSERT_TRUE(checksum_is_right(bytes.data() + ip_at)) << length;
        }
    }
}

TEST(header_template, forbids_fragments)
{
    const auto headers = between(left, right, 4);
    const frame sent(headers, SP_OVERHEAD);
    sp_ipv4 ip;
    std::memcpy(&ip, sent.packet - sizeof ip, sizeof ip);
    EXPECT_EQ(ip.fragment, SP_BE16(0x4000));
    EXPECT_EQ(ip.id, 0);
    EXPECT_EQ(ip.ttl, 64);
}

} // namespace
