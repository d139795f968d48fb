// SPDX-License-Identifier: BSD-2-Clause
//
// The connection machine: two of them, a clock that is a variable, and a road between that a test
// may break.
#include "userspace/link/connection.hpp"
#include "userspace/link/packet.hpp"
#include "userspace/link/stranger.hpp"

#include <algorithm>
#include <functional>
#include <gtest/gtest.h>
#include <vector>

namespace {

using namespace sp::link;
using namespace std::chrono_literals;
using bytes = std::vector<std::byte>;

constexpr std::uint64_t dialer_id = 0xd1a1'0000'0001, listener_id = 0x1157'0000'0002;

connection_config config(std::uint64_t id, std::uint16_t own, std::uint16_t peer)
{
    connection_config c;
    c.local_id = id;
    c.instance = id + 1;
    c.local_port = own == 0x30 ? 50000 : 7000;
    c.peer_port = own == 0x30 ? 7000 : 50000;
    c.protocol = own;
    c.peer_protocol = peer;
    c.packet_max = 1480;
    c.message_max = 1 << 20;
    return c;
}

bytes packet_of(connection &c)
{
    bytes room(2048);
    room.resize(c.transmit(room));
    return room;
}

template <class T>
std::span<const std::byte> view(const T &packet)
{
    return std::as_bytes(std::span(&packet, 1));
}

// A dialer and, once its INIT came, a listener. The stateless part of the listener stands here.
struct pair {
    instant now{1h};
    connection dialer = connection::dial(config(dialer_id, 0x30, 0x31), now);
    std::optional<connection> listener;
    cookie_jar jar{cookie_secret{7}, now};
    std::uint16_t listener_packet_max = 1480;
    int probes = 0;
    std::function<bool(const bytes &)> lose = [](const bytes &) { return false; };

    cookie_claim claim(const sp_identity &who) const
    {
        return {.address = {},
                .scid = be64(who.scid),
                .instance = be64(who.instance),
                .sport = 50000,
                .dport = 7000};
    }

    void at_listener(const bytes &packet)
    {
        EXPECT_TRUE(intact(packet));
        const auto header = read<sp_header>(packet);
        if (header.type == SP_PROBE) {
            ++probes;
            const auto probe = read<sp_probe>(packet);
            const auto answer = make_cookie(probe, static_cast<std::uint16_t>(packet.size()),
                                            jar.epoch(), jar.make(claim(probe.identity)));
            EXPECT_LE(sizeof answer, packet.size());
            const auto v = view(answer);
            if (const bytes copy(v.begin(), v.end()); !lose(copy))
                (void)dialer.on_packet(v, now);
        } else if (header.type == SP_INIT) {
            const auto init = read<sp_init>(packet);
            cookie shown;
            std::ranges::copy(init.cookie, shown.begin());
            ASSERT_TRUE(jar.good(claim(init.identity), be32(init.epoch), shown));
            if (listener)
                return listener->on_init_again();
            auto c = config(listener_id, 0x31, 0x30);
            c.packet_max = listener_packet_max;
            listener = connection::accept(c, init, now);
        } else if (listener) {
            (void)listener->on_packet(packet, now);
        }
    }

    // Carries packets until nobody has any.
    void drive()
    {
        for (bool moved = true; moved;) {
            moved = false;
            for (auto p = packet_of(dialer); !p.empty(); p = packet_of(dialer)) {
                moved = true;
                if (!lose(p))
                    at_listener(p);
            }
            for (auto p = listener ? packet_of(*listener) : bytes{}; !p.empty();
                 p = packet_of(*listener)) {
                moved = true;
                if (!lose(p))
                    (void)dialer.on_packet(p, now);
            }
        }
    }

    // Time passes, deadline by deadline.
    void pass(std::chrono::nanoseconds d)
    {
        const auto end = now + d;
        for (;;) {
            auto next = dialer.next_deadline();
            if (listener)
                next = std::min(next, listener->next_deadline());
            if (next > end)
                break;
            now = std::max(now, next);
            dialer.on_deadline(now);
            if (listener)
                listener->on_deadline(now);
            drive();
        }
        now = end;
    }

    void open()
    {
        drive();
        ASSERT_EQ(dialer.state(), phase::open);
        ASSERT_TRUE(listener);
        ASSERT_EQ(listener->state(), phase::open);
    }
};

bytes message(connection &from, std::string_view text)
{
    bytes room(2048);
    room.resize(from.write_message(room, {}, std::as_bytes(std::span(text))));
    return room;
}

TEST(connection, opens_with_ids_instances_and_sizes_of_both_ends)
{
    pair p;
    p.listener_packet_max = 1300;
    p.open();
    EXPECT_EQ(p.dialer.peer_id(), listener_id);
    EXPECT_EQ(p.listener->peer_id(), dialer_id);
    EXPECT_EQ(p.dialer.peer_instance(), listener_id + 1);
    EXPECT_EQ(p.dialer.packet_max(), 1300);
    EXPECT_EQ(p.listener->packet_max(), 1300);
    EXPECT_EQ(p.dialer.message_capacity(), message_space(1300));
    EXPECT_TRUE(p.dialer.send_ready());
    EXPECT_TRUE(p.listener->send_ready());
}

TEST(connection, opens_although_each_handshake_packet_is_lost_once)
{
    for (const auto type : {SP_PROBE, SP_COOKIE, SP_INIT, SP_ACCEPT}) {
        pair p;
        bool lost = false;
        p.lose = [&](const bytes &packet) {
            return read<sp_header>(packet).type == type && !std::exchange(lost, true);
        };
        p.drive();
        EXPECT_NE(p.dialer.state(), phase::open) << "type " << type;
        p.pass(100ms);
        EXPECT_TRUE(lost);
        EXPECT_EQ(p.dialer.state(), phase::open) << "type " << type;
        EXPECT_EQ(p.listener->state(), phase::open) << "type " << type;
    }
}

TEST(connection, falls_back_to_small_packets_where_large_probes_vanish)
{
    pair p;
    p.lose = [](const bytes &packet) { return packet.size() > 1300; };
    p.drive();
    p.pass(200ms);
    ASSERT_EQ(p.dialer.state(), phase::open);
    EXPECT_EQ(p.dialer.packet_max(), 1240);
    EXPECT_EQ(p.listener->packet_max(), 1240);
}

TEST(connection, asks_for_a_new_cookie_when_its_own_grew_too_old)
{
    pair p;
    p.lose = [](const bytes &packet) { return read<sp_header>(packet).type == SP_INIT; };
    p.drive();
    p.pass(5s);
    EXPECT_GE(p.probes, 2);
}

TEST(connection, ends_with_the_reason_of_a_refusal)
{
    pair p;
    const auto probe = packet_of(p.dialer);
    const auto refusal = make_refuse(read<sp_header>(probe), dialer_id, SP_REASON_PROTOCOL_MISMATCH,
                                     0x20, "a PUB\x01");
    EXPECT_LE(sizeof refusal, probe.size());
    EXPECT_EQ(p.dialer.on_packet(view(refusal), p.now), arrival::nothing);
    EXPECT_EQ(p.dialer.state(), phase::closed);
    EXPECT_EQ(p.dialer.reason(), SP_REASON_PROTOCOL_MISMATCH);
    EXPECT_EQ(p.dialer.refused_by_protocol(), 0x20);
    EXPECT_EQ(p.dialer.refusal_text(), "a PUB?"); // nothing unprintable reaches a terminal
    EXPECT_TRUE(packet_of(p.dialer).empty());
}

TEST(connection, does_not_believe_a_refusal_once_it_is_open)
{
    pair p;
    p.open();
    sp_header question{};
    const auto refusal = make_refuse(question, dialer_id, SP_REASON_ACCESS, 0, "");
    EXPECT_EQ(p.dialer.on_packet(view(refusal), p.now), arrival::unexpected);
    EXPECT_EQ(p.dialer.state(), phase::open);
}

TEST(connection, delivers_each_packet_once)
{
    pair p;
    p.open();
    const auto packet = message(p.dialer, "hello");
    EXPECT_EQ(p.listener->on_packet(packet, p.now), arrival::records);
    EXPECT_EQ(p.listener->on_packet(packet, p.now), arrival::duplicate);
}

TEST(connection, recognises_contents_that_come_again_in_a_new_packet)
{
    pair p;
    p.open();
    auto packet = message(p.dialer, "hello");
    EXPECT_EQ(p.listener->on_packet(packet, p.now), arrival::records);
    auto header = read<sp_header>(packet);
    header.pn = be64(be64(header.pn) + 1); // as a retransmission has it: same seq
    std::memcpy(packet.data(), &header, sizeof header);
    finish(packet);
    EXPECT_EQ(p.listener->on_packet(packet, p.now), arrival::duplicate);
}

TEST(connection, ends_as_lost_when_a_packet_is_missing)
{
    pair p;
    p.open();
    (void)message(p.dialer, "gone");
    EXPECT_NE(p.listener->on_packet(message(p.dialer, "second"), p.now), arrival::records);
    EXPECT_EQ(p.listener->state(), phase::closed);
    EXPECT_EQ(p.listener->reason(), SP_REASON_LOST);
    EXPECT_EQ(p.dialer.unconfirmed(), 2u);
    p.drive(); // DISCONNECT
    EXPECT_EQ(p.dialer.state(), phase::closed);
    EXPECT_EQ(p.dialer.reason(), SP_REASON_LOST);
}

TEST(connection, ends_as_lost_when_the_last_packet_is_missing)
{
    pair p;
    p.open();
    (void)message(p.dialer, "gone");
    p.pass(300ms); // the keep-alive says what is the next number
    EXPECT_EQ(p.listener->reason(), SP_REASON_LOST);
    EXPECT_EQ(p.dialer.reason(), SP_REASON_LOST);
}

TEST(connection, stops_sending_when_credit_is_used_up_and_goes_on_when_it_returns)
{
    pair p;
    p.open();
    std::uint32_t sent = 0;
    while (p.dialer.send_ready()) {
        ASSERT_EQ(p.listener->on_packet(message(p.dialer, "x"), p.now), arrival::records);
        ++sent;
        ASSERT_LE(sent, 32u);
    }
    EXPECT_EQ(sent, 32u);
    p.drive();
    p.pass(900ms);
    EXPECT_FALSE(p.dialer.send_ready()); // nothing was taken
    p.listener->consumed(16, p.now);
    p.drive();
    EXPECT_TRUE(p.dialer.send_ready());
}

TEST(connection, closes_a_peer_that_sends_beyond_its_credit)
{
    pair p;
    p.open();
    auto packet = message(p.dialer, "x");
    auto header = read<sp_header>(packet);
    header.seq = be32(32);
    std::memcpy(packet.data(), &header, sizeof header);
    finish(packet);
    EXPECT_EQ(p.listener->on_packet(packet, p.now), arrival::malformed);
    EXPECT_EQ(p.listener->reason(), SP_REASON_PROTOCOL_ERROR);
}

TEST(connection, closes_a_peer_that_acknowledges_what_was_never_sent)
{
    pair p;
    p.open();
    auto packet = message(p.dialer, "x");
    auto header = read<sp_header>(packet);
    header.ack = be32(1);
    std::memcpy(packet.data(), &header, sizeof header);
    finish(packet);
    EXPECT_EQ(p.listener->on_packet(packet, p.now), arrival::malformed);
    EXPECT_EQ(p.listener->reason(), SP_REASON_PROTOCOL_ERROR);
}

TEST(connection, confirms_what_arrived_without_data_to_ride_on)
{
    pair p;
    p.open();
    ASSERT_EQ(p.listener->on_packet(message(p.dialer, "x"), p.now), arrival::records);
    p.listener->consumed(1, p.now);
    EXPECT_EQ(p.dialer.unconfirmed(), 1u);
    p.pass(30ms);
    EXPECT_EQ(p.dialer.unconfirmed(), 0u);
    EXPECT_EQ(p.dialer.confirmed(), 1u);
}

TEST(connection, stays_open_while_idle)
{
    pair p;
    p.open();
    p.pass(1h);
    EXPECT_EQ(p.dialer.state(), phase::open);
    EXPECT_EQ(p.listener->state(), phase::open);
}

TEST(connection, is_dead_after_one_second_of_silence)
{
    pair p;
    p.open();
    p.lose = [](const bytes &) { return true; };
    p.pass(990ms);
    EXPECT_EQ(p.dialer.state(), phase::open);
    p.pass(20ms);
    EXPECT_EQ(p.dialer.state(), phase::closed);
    EXPECT_EQ(p.dialer.reason(), SP_REASON_DEAD);
    EXPECT_EQ(p.listener->reason(), SP_REASON_DEAD);
}

TEST(connection, does_not_count_our_own_pause_as_the_peers_silence)
{
    pair p;
    p.open();
    p.now += 5s; // our loop did not run; the peer's packets wait somewhere
    p.dialer.on_deadline(p.now);
    p.listener->on_deadline(p.now);
    EXPECT_EQ(p.dialer.state(), phase::open);
    p.drive();
    p.pass(2s);
    EXPECT_EQ(p.dialer.state(), phase::open);
    EXPECT_EQ(p.listener->state(), phase::open);
}

TEST(connection, survives_a_forged_reset)
{
    pair p;
    p.open();
    p.dialer.on_reset(0, p.now);
    p.drive();
    p.pass(1s);
    EXPECT_EQ(p.dialer.state(), phase::open);
}

TEST(connection, knows_soon_after_a_reset_that_the_peer_has_restarted)
{
    pair p;
    p.open();
    p.lose = [](const bytes &) { return true; };
    p.dialer.on_reset(0, p.now);
    p.pass(39ms);
    EXPECT_EQ(p.dialer.state(), phase::open);
    p.pass(2ms);
    EXPECT_EQ(p.dialer.reason(), SP_REASON_STALE);
}

TEST(connection, ignores_a_reset_for_a_packet_it_never_sent)
{
    pair p;
    p.open();
    p.lose = [](const bytes &) { return true; };
    p.dialer.on_reset(1000, p.now);
    p.pass(500ms);
    EXPECT_EQ(p.dialer.state(), phase::open);
}

TEST(connection, tells_its_peer_why_it_closes)
{
    pair p;
    p.open();
    p.listener->close(SP_REASON_MESSAGE_TOO_LARGE);
    p.drive();
    EXPECT_EQ(p.dialer.state(), phase::closed);
    EXPECT_EQ(p.dialer.reason(), SP_REASON_MESSAGE_TOO_LARGE);
    EXPECT_TRUE(p.dialer.closed_by_peer());
    EXPECT_FALSE(p.listener->closed_by_peer());
}

TEST(connection, never_uses_a_packet_number_twice)
{
    pair p;
    std::vector<std::uint64_t> numbers;
    p.lose = [&](const bytes &packet) {
        const auto header = read<sp_header>(packet);
        if (be64(header.dcid) == listener_id || header.type == SP_PROBE || header.type == SP_INIT)
            numbers.push_back(be64(header.pn));
        return false;
    };
    p.open();
    p.pass(10s);
    ASSERT_GT(numbers.size(), 10u);
    std::ranges::sort(numbers);
    EXPECT_EQ(std::ranges::adjacent_find(numbers), numbers.end());
}

} // namespace
