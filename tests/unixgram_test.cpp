// SPDX-License-Identifier: BSD-2-Clause
//
// Unix datagrams as a transport: what becomes of what does not belong there, and that a full queue
// loses nothing.
#include "tests/support/datagrams.hpp"

#include <random>

namespace {

using namespace sp::test;
using sp::errc;
using sp::stat;

static_assert(sp::core::transport<unixgram>);

std::size_t descriptors_open()
{
    std::size_t n = 0;
    for ([[maybe_unused]] const auto &fd : std::filesystem::directory_iterator("/proc/self/fd"))
        ++n;
    return n;
}

class unixgram_transport : public with_unixgram {};

TEST_F(unixgram_transport, counts_garbage_and_goes_on)
{
    const auto seed = std::random_device()();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    auto listener = listening();
    foreign_socket stranger(path());
    stranger.autobind();
    std::uint64_t sent = 0;
    for (int round = 0; round < 2000; ++round) {
        std::vector<std::byte> bytes(random() % 200);
        for (auto &b : bytes)
            b = static_cast<std::byte>(random());
        if (!bytes.empty())
            bytes[0] = std::byte{0xff}; // no version of ours
        while (!stranger.send(bytes))
            (void)receive(listener);
        ++sent;
    }
    while (!receive(listener).empty()) {
    }
    EXPECT_EQ(stats[stat::unixgram_malformed], sent);
    EXPECT_EQ(stats[stat::unixgram_received], 0u);
    expect_alive(listener);
}

TEST_F(unixgram_transport, counts_a_header_that_was_cut_short)
{
    auto listener = listening();
    foreign_socket stranger(path());
    stranger.autobind();
    const auto whole = packet_of(SP_OVERHEAD, 1);
    for (std::size_t n = 0; n < whole.size(); ++n) {
        ASSERT_TRUE(stranger.send(std::span(whole).first(n)));
        EXPECT_TRUE(receive(listener).empty()) << n << " bytes";
    }
    EXPECT_EQ(stats[stat::unixgram_malformed], whole.size());
    ASSERT_TRUE(stranger.send(whole));
    EXPECT_EQ(receive(listener).size(), 1u);
}

TEST_F(unixgram_transport, counts_a_datagram_that_is_larger_than_a_packet)
{
    auto listener = listening();
    foreign_socket stranger(path());
    stranger.autobind();
    ASSERT_TRUE(stranger.send(packet_of(unixgram::packet_bytes_max + 1, 1)));
    EXPECT_TRUE(receive(listener).empty());
    EXPECT_EQ(stats[stat::unixgram_truncated], 1u);
    ASSERT_TRUE(stranger.send(packet_of(unixgram::packet_bytes_max, 2)));
    const auto got = receive(listener);
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(got.front().packet.size(), unixgram::packet_bytes_max);
}

TEST_F(unixgram_transport, keeps_no_descriptor_that_somebody_sends)
{
    auto listener = listening();
    foreign_socket stranger(path());
    stranger.autobind();
    const auto before = descriptors_open();
    for (int i = 0; i < 100; ++i) {
        ASSERT_TRUE(stranger.send_with_descriptor(packet_of(SP_OVERHEAD, 1), STDERR_FILENO));
        (void)receive(listener);
    }
    EXPECT_EQ(descriptors_open(), before);
    EXPECT_EQ(stats[stat::unixgram_descriptors], 100u);
    expect_alive(listener);
}

TEST_F(unixgram_transport, has_no_ear_for_a_sender_without_a_name_of_the_kernel)
{
    auto listener = listening();
    foreign_socket nameless(path());
    ASSERT_TRUE(nameless.send(packet_of(SP_OVERHEAD, 1)));
    EXPECT_TRUE(receive(listener).empty());
    EXPECT_EQ(stats[stat::unixgram_malformed], 1u);
}

TEST_F(unixgram_transport, hears_only_its_listener_when_it_dialed)
{
    auto listener = listening();
    auto d = dialed();
    ASSERT_TRUE(put(d.transport, d.route, packet_of(SP_OVERHEAD, 1)));
    const auto asked = receive(listener);
    ASSERT_EQ(asked.size(), 1u);
    sockaddr_un victim{};
    victim.sun_family = AF_UNIX;
    std::memcpy(victim.sun_path + 1, asked.front().from.bytes, asked.front().from.length);
    const descriptor stranger(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const auto forged = packet_of(SP_OVERHEAD, 2);
    const auto length =
        static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + asked.front().from.length);
    EXPECT_LT(::sendto(stranger.get(), forged.data(), forged.size(), MSG_DONTWAIT,
                       reinterpret_cast<const sockaddr *>(&victim), length),
              0);
    EXPECT_TRUE(receive(d.transport).empty());
}

// ---- back pressure

TEST_F(unixgram_transport, loses_nothing_and_keeps_order_when_the_peers_queue_is_full)
{
    auto listener = listening();
    auto d = dialed();
    constexpr std::uint32_t total = 2000;
    std::uint32_t given = 0, got = 0;
    while (got < total) {
        while (given < total &&
               put(d.transport, d.route, packet_of(SP_OVERHEAD + given % 3000, given)))
            ++given;
        EXPECT_TRUE(given == total || d.transport.stalled());
        for (const auto &each : receive(listener, 5)) {
            ASSERT_EQ(mark_of(each.packet), got);
            ASSERT_EQ(each.packet.size(), SP_OVERHEAD + got % 3000);
            ++got;
        }
        d.transport.flush();
    }
    EXPECT_FALSE(d.transport.stalled());
    EXPECT_GT(stats[stat::unixgram_queue_full], 0u);
    EXPECT_EQ(stats[stat::unixgram_sent], total);
    EXPECT_EQ(stats[stat::unixgram_send_failed], 0u);
}

// The kernel charges what a dialer has not read to the listener's one send buffer, whose end no
// route can see: a peer that stops reading takes it from all. A socket per peer, as the
// introduction will hand over, is the cure.
TEST_F(unixgram_transport, holds_back_only_the_peer_whose_queue_is_full)
{
    GTEST_SKIP()
        << "known fault, not this machine: one send buffer for all peers (docs/architecture.md)";
    auto listener = listening();
    auto slow = dialed(), quick = dialed();
    ASSERT_TRUE(put(slow.transport, slow.route, packet_of(SP_OVERHEAD, 1)));
    const auto to_slow = listener.open_route(receive(listener).at(0).from);
    ASSERT_TRUE(put(quick.transport, quick.route, packet_of(SP_OVERHEAD, 2)));
    const auto to_quick = listener.open_route(receive(listener).at(0).from);
    ASSERT_TRUE(to_slow && to_quick);
    std::size_t queued = 0;
    while (put(listener, *to_slow, packet_of(SP_OVERHEAD, 3)))
        ASSERT_LT(++queued, 100000u) << "the queue of a peer that does not read has no end";
    for (std::uint32_t i = 0; i < 100; ++i) {
        ASSERT_TRUE(put(listener, *to_quick, packet_of(SP_OVERHEAD, i)));
        const auto got = receive(quick.transport);
        ASSERT_EQ(got.size(), 1u);
        EXPECT_EQ(mark_of(got.front().packet), i);
    }
}

TEST_F(unixgram_transport, says_that_its_listener_has_gone)
{
    auto d = [&] {
        auto listener = listening();
        return dialed();
    }();
    ASSERT_TRUE(put(d.transport, d.route, packet_of(SP_OVERHEAD, 1)));
    const auto failure = d.transport.next_failure();
    ASSERT_TRUE(failure);
    EXPECT_EQ(failure->second, errc::connection_refused);
    EXPECT_FALSE(d.transport.open_route(unixgram::listener_address()));
}

} // namespace
