// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/transport/header_template.hpp"

#include <array>
#include <cstring>
#include <gtest/gtest.h>

namespace {

using namespace sp::transport;

constexpr mac_address own{2, 0, 0, 0, 0, 1}, next{2, 0, 0, 0, 0, 2};
constexpr std::size_t packet_at = 64;

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
        return sp_parse_frame(packet - headers.size(), packet + length, SP_IP_PROTOCOL, 0, &out);
    }
};

header_template between(const char (&from)[17], const char (&to)[17], int family)
{
    const auto address = [&](const char *bytes) {
        return family == 4 ? ipv4_address(bytes) : ipv6_address(bytes);
    };
    return {address(from), address(to), own, next, SP_IP_PROTOCOL};
}

constexpr char left[17] = "\xc6\x12\x00\x01zzzzzzzzzzzz",
               right[17] = "\xff\xff\xff\xfezzzzzzzzzzzz";

// What RFC 1071 wants of a header that arrived unharmed.
bool checksum_is_right(const std::byte *header)
{
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < sizeof(sp_ipv4); i += 2)
        sum += (std::to_integer<std::uint32_t>(header[i]) << 8) +
               std::to_integer<std::uint32_t>(header[i + 1]);
    sum = (sum & 0xffff) + (sum >> 16);
    return ((sum & 0xffff) + (sum >> 16)) == 0xffff;
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

TEST(header_template, folds_the_length_of_every_packet_into_the_checksum)
{
    const auto headers = between(left, right, 4);
    for (std::size_t length = SP_OVERHEAD; length <= 65515; ++length) {
        std::array<std::byte, packet_at> bytes;
        headers.write_before(bytes.data() + bytes.size(), length);
        ASSERT_TRUE(checksum_is_right(bytes.data() + bytes.size() - sizeof(sp_ipv4))) << length;
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
