// SPDX-License-Identifier: BSD-2-Clause
//
// Packets as values: checksum, records, cookies, the window of seen packet numbers.
#include "userspace/link/cookie.hpp"
#include "userspace/link/packet.hpp"
#include "userspace/link/replay.hpp"

#include <algorithm>
#include <gtest/gtest.h>
#include <random>
#include <set>
#include <string_view>
#include <vector>

namespace {

using namespace sp::link;
using namespace std::chrono_literals;

std::vector<std::byte> bytes_of(std::string_view text)
{
    const auto view = std::as_bytes(std::span(text));
    return {view.begin(), view.end()};
}

// A packet with these records' bytes between header and trailer.
std::vector<std::byte> packet_with(const std::vector<std::byte> &records)
{
    std::vector<std::byte> packet(SP_OVERHEAD + records.size());
    packet[0] = std::byte{SP_WIRE_VERSION};
    packet[1] = std::byte{SP_DATA};
    std::ranges::copy(records, packet.begin() + SP_HEADER_SIZE);
    finish(packet);
    return packet;
}

TEST(checksum, is_castagnoli)
{
    // The check value of CRC-32C, and two vectors of RFC 3720, appendix B.4.
    EXPECT_EQ(crc32c(bytes_of("123456789")), 0xe3069283u);
    EXPECT_EQ(crc32c(std::vector<std::byte>(32, std::byte{0})), 0x8a9136aau);
    EXPECT_EQ(crc32c(std::vector<std::byte>(32, std::byte{0xff})), 0x62a8ab43u);
}

TEST(packet, is_not_intact_when_any_bit_is_flipped)
{
    auto packet = packet_with(bytes_of(std::string_view("\0\4\3\0abcd", 8)));
    ASSERT_TRUE(intact(packet));
    for (std::size_t bit = 0; bit < packet.size() * 8; ++bit) {
        packet[bit / 8] ^= std::byte{1} << (bit % 8);
        EXPECT_FALSE(intact(packet)) << "bit " << bit;
        packet[bit / 8] ^= std::byte{1} << (bit % 8);
    }
    EXPECT_TRUE(intact(packet));
    EXPECT_FALSE(intact(std::span(packet).first(SP_OVERHEAD - 1)));
}

TEST(record, is_read_as_it_was_written)
{
    for (std::size_t size = 0; size < 70; ++size) {
        const std::vector<std::byte> body(size, std::byte{0x5a});
        const auto head = bytes_of("head");
        std::vector<std::byte> room(record_space(head.size() + size), std::byte{0xee});
        EXPECT_EQ(write_record(room, SP_RECORD_FIRST | SP_RECORD_LAST, 0, head, body), room.size());
        const auto packet = packet_with(room);
        record_reader reader(contents_of(packet));
        const auto r = reader.next();
        ASSERT_TRUE(r);
        EXPECT_EQ(r->flags, SP_RECORD_FIRST | SP_RECORD_LAST);
        EXPECT_EQ(r->payload.size(), head.size() + size);
        EXPECT_TRUE(std::ranges::equal(r->payload.first(4), head));
        EXPECT_TRUE(std::ranges::equal(r->payload.subspan(4), body));
        EXPECT_FALSE(reader.next());
        EXPECT_FALSE(reader.bad());
    }
}

TEST(record, is_bad_unless_it_fills_the_space_exactly)
{
    struct row {
        const char *story;
        std::string_view bytes;
    };
    using namespace std::string_view_literals;
    constexpr row rows[] = {
        {"two bytes are no record", "\0\0"sv},
        {"length beyond the packet", "\0\5\3\0abcd"sv},
        {"the largest length", "\xff\xff\3\0abcd"sv},
        {"a reserved flag", "\0\4\x0b\0abcd"sv},
        {"a code without CTRL", "\0\4\3\2abcd"sv},
        {"CTRL without a code", "\0\4\4\0abcd"sv},
        {"padding that is not zero", "\0\3\3\0abcd"sv},
        {"a good one and then half a one", "\0\4\3\0abcd\0\4"sv},
        {"a part that brings nothing", "\0\0\1\0\0\0\0\0\0\0\0\x9"sv},
        {"a part without its number", "\0\4\1\0abcd"sv},
        {"CTRL that is a part too", "\0\4\x5\2abcd"sv},
    };
    for (const auto &r : rows) {
        const auto packet = packet_with(bytes_of(r.bytes));
        record_reader reader(contents_of(packet));
        while (reader.next()) {
        }
        EXPECT_TRUE(reader.bad()) << r.story;
    }
    const auto empty = packet_with({});
    record_reader none(contents_of(empty));
    EXPECT_FALSE(none.next());
    EXPECT_FALSE(none.bad());
}

TEST(record, reader_never_reads_outside_whatever_the_bytes_are)
{
    const auto seed = std::random_device{}();
    RecordProperty("seed", std::to_string(seed));
    std::printf("seed %u\n", seed);
    std::mt19937 random(seed);
    for (int round = 0; round < 20'000; ++round) {
        std::vector<std::byte> packet(SP_OVERHEAD + random() % 64);
        for (auto &b : packet)
            b = static_cast<std::byte>(random() % 8 == 0 ? random() : random() % 6);
        record_reader reader(contents_of(packet));
        std::size_t left = packet.size() - SP_OVERHEAD;
        while (const auto r = reader.next()) {
            const bool part = !r->control() && !(r->first() && r->last());
            const auto taken = record_space(r->payload.size()) + (part ? SP_PART_SIZE : 0);
            ASSERT_LE(taken, left);
            left -= taken;
            EXPECT_EQ(reader.left(), left);
        }
        EXPECT_TRUE(reader.bad() || left == 0);
    }
}

TEST(message_space, is_what_a_record_can_carry)
{
    EXPECT_EQ(message_space(1480), 1420u); // MTU 1500 over IPv4
    EXPECT_EQ(message_space(1460), 1400u); // over IPv6
    EXPECT_EQ(message_space(SP_OVERHEAD), 0u);
    for (std::size_t packet = 232; packet < 4000; ++packet)
        EXPECT_LE(SP_OVERHEAD + record_space(message_space(packet)), packet);
}

// ---- cookies ----

cookie_claim claim()
{
    cookie_claim c{.address = {}, .scid = 1, .instance = 2, .sport = 3, .dport = 4};
    c.address.family = SP_FAMILY_IPV4;
    c.address.bytes[3] = 7;
    return c;
}

TEST(cookie, is_good_for_its_claim_only)
{
    const instant now{};
    const cookie_jar jar(cookie_secret{1, 2, 3}, now);
    const auto given = jar.make(claim());
    EXPECT_TRUE(jar.good(claim(), jar.epoch(), given));
    auto other = claim();
    other.address.bytes[3] = 8;
    EXPECT_FALSE(jar.good(other, jar.epoch(), given));
    other = claim();
    other.scid = 9;
    EXPECT_FALSE(jar.good(other, jar.epoch(), given));
    other = claim();
    other.instance = 9;
    EXPECT_FALSE(jar.good(other, jar.epoch(), given));
    other = claim();
    other.sport = 9;
    EXPECT_FALSE(jar.good(other, jar.epoch(), given));
    auto forged = given;
    forged[15] ^= 1;
    EXPECT_FALSE(jar.good(claim(), jar.epoch(), forged));
    EXPECT_FALSE(jar.good(claim(), jar.epoch() + 1, given));
}

TEST(cookie, lives_for_two_secrets)
{
    instant now{};
    cookie_jar jar(cookie_secret{1}, now);
    const auto epoch = jar.epoch();
    const auto given = jar.make(claim());
    EXPECT_FALSE(jar.stale(now + 59s));
    EXPECT_TRUE(jar.stale(now + 60s));
    jar.turn(cookie_secret{2}, now += 60s);
    EXPECT_FALSE(jar.stale(now));
    EXPECT_TRUE(jar.good(claim(), epoch, given));
    EXPECT_NE(jar.make(claim()), given);
    jar.turn(cookie_secret{3}, now += 60s);
    EXPECT_FALSE(jar.good(claim(), epoch, given));
}

// ---- the window of packet numbers ----

TEST(replay_window, takes_each_number_once)
{
    replay_window window;
    for (std::uint64_t pn : {0u, 1u, 5u, 3u, 2u, 4u})
        EXPECT_TRUE(window.accept(pn)) << pn;
    for (std::uint64_t pn = 0; pn < 6; ++pn)
        EXPECT_FALSE(window.accept(pn)) << pn;
}

TEST(replay_window, refuses_what_is_too_old_to_tell)
{
    replay_window window;
    EXPECT_TRUE(window.accept(5000));
    EXPECT_FALSE(window.accept(5000 - replay_window::size));
    EXPECT_TRUE(window.accept(5000 - replay_window::size + 65));
    EXPECT_FALSE(window.accept(0));
}

TEST(replay_window, agrees_with_a_set_of_all_numbers)
{
    const auto seed = std::random_device{}();
    std::printf("seed %u\n", seed);
    std::mt19937 random(seed);
    replay_window window;
    std::set<std::uint64_t> seen;
    std::uint64_t newest = 0;
    for (int i = 0; i < 50'000; ++i) {
        const std::uint64_t reach = random() % 50 == 0 ? 3000 : 300;
        const std::uint64_t pn =
            newest + 20 > reach ? newest + 20 - random() % reach : random() % 20;
        newest = std::max(newest, pn);
        const bool fresh = !seen.contains(pn);
        const bool answer = window.accept(pn);
        if (answer) {
            ASSERT_TRUE(fresh) << pn << " was taken twice";
            seen.insert(pn);
        } else if (newest - pn < replay_window::size - 64) {
            ASSERT_FALSE(fresh) << pn << " is new and inside the window";
        }
    }
}

} // namespace
