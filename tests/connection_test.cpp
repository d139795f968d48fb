// SPDX-License-Identifier: BSD-2-Clause
//
// The connection machine: how it opens, stays alive and ends. What it does about loss, order and
// credit is in recovery_test.cpp.
#include "tests/support/link_pair.hpp"

namespace {

using namespace sp::link;
using namespace sp::test;

TEST(connection, opens_with_ids_instances_and_sizes_of_both_ends)
{
    link_pair p;
    p.listener_config.packet_max = 1300;
    p.open();
    EXPECT_EQ(p.dialer.link->peer_id(), listener_id);
    EXPECT_EQ(p.listener.link->peer_id(), dialer_id);
    EXPECT_EQ(p.dialer.link->peer_instance(), listener_id + 1);
    EXPECT_EQ(p.dialer.link->packet_max(), 1300u);
    EXPECT_EQ(p.listener.link->packet_max(), 1300u);
    EXPECT_EQ(p.dialer.link->message_capacity(), 1u << 20);
    EXPECT_TRUE(p.dialer.link->send_ready());
    EXPECT_TRUE(p.listener.link->send_ready());
}

TEST(connection, opens_although_each_handshake_packet_is_lost_once)
{
    for (const auto type : {SP_PROBE, SP_COOKIE, SP_INIT, SP_ACCEPT, SP_ACK}) {
        link_pair p;
        bool lost = false;
        p.lose = [&](const bytes &packet) {
            return read<sp_header>(packet).type == type && !std::exchange(lost, true);
        };
        p.drive();
        EXPECT_FALSE(p.dialer.link->state() == phase::open &&
                     p.listener.link->state() == phase::open)
            << "type " << type;
        p.pass(100ms);
        EXPECT_TRUE(lost);
        EXPECT_EQ(p.dialer.link->state(), phase::open) << "type " << type;
        EXPECT_EQ(p.listener.link->state(), phase::open) << "type " << type;
    }
}

TEST(connection, sends_nothing_before_the_dialer_has_shown_that_it_has_the_accept)
{
    link_pair p;
    p.lose = [](const bytes &packet) { return read<sp_header>(packet).type == SP_ACCEPT; };
    p.drive();
    ASSERT_TRUE(p.listener.link);
    EXPECT_EQ(p.listener.link->state(), phase::accepted);
    EXPECT_FALSE(p.listener.link->send_ready());
    p.pass(4s); // nobody confirms: it does not stay half open
    EXPECT_EQ(p.listener.link->state(), phase::closed);
}

TEST(connection, falls_back_to_small_packets_where_large_probes_vanish)
{
    link_pair p;
    p.lose = [](const bytes &packet) { return packet.size() > 1300; };
    p.drive();
    p.pass(200ms);
    ASSERT_EQ(p.dialer.link->state(), phase::open);
    EXPECT_EQ(p.dialer.link->packet_max(), 1240u);
    EXPECT_EQ(p.listener.link->packet_max(), 1240u);
}

TEST(connection, asks_for_a_new_cookie_when_its_own_grew_too_old)
{
    link_pair p;
    p.lose = [](const bytes &packet) { return read<sp_header>(packet).type == SP_INIT; };
    p.drive();
    p.pass(5s);
    EXPECT_GE(p.probes, 2);
}

// The listener has accepted by the first, longer PROBE and says so again; the dialer has asked with
// a shorter one since.
TEST(connection, opens_at_once_when_an_accept_comes_after_it_asked_for_a_new_cookie)
{
    link_pair p;
    p.lose = [&](const bytes &packet) {
        return read<sp_header>(packet).type == SP_ACCEPT && p.probes < 2;
    };
    p.drive();
    p.pass(1s); // five INITs in vain take 620 ms
    EXPECT_EQ(p.probes, 2);
    EXPECT_EQ(p.dialer.link->state(), phase::open);
    EXPECT_EQ(p.listener.link->state(), phase::open);
}

TEST(connection, does_not_take_an_answer_to_an_earlier_init_for_a_round_trip)
{
    link_pair p;
    p.latency = 315ms; // the first ACCEPT comes 10 ms after the INIT with the second cookie
    while (p.dialer.link->state() != phase::open && p.now < instant(1h + 5s))
        p.pass(10ms);
    ASSERT_EQ(p.dialer.link->state(), phase::open);
    EXPECT_TRUE(!p.dialer.link->rtt().known() || p.dialer.link->rtt().shortest() >= 630ms)
        << p.dialer.link->rtt().shortest().count();
}

TEST(connection, ends_with_the_reason_of_a_refusal)
{
    link_pair p;
    const auto probe = p.packet_of(p.dialer);
    const auto refusal = make_refuse(read<sp_header>(probe), dialer_id, SP_REASON_PROTOCOL_MISMATCH,
                                     0x20, "a PUB\x01");
    EXPECT_LE(sizeof refusal, probe.size());
    EXPECT_EQ(p.dialer.link->on_packet(view(refusal), p.now), arrival::nothing);
    EXPECT_EQ(p.dialer.link->state(), phase::closed);
    EXPECT_EQ(p.dialer.link->reason(), SP_REASON_PROTOCOL_MISMATCH);
    EXPECT_EQ(p.dialer.link->refused_by_protocol(), 0x20);
    EXPECT_EQ(p.dialer.link->refusal_text(), "a PUB?"); // nothing unprintable reaches a terminal
    EXPECT_TRUE(p.packet_of(p.dialer).empty());
}

TEST(connection, does_not_believe_a_refusal_once_it_is_open)
{
    link_pair p;
    p.open();
    sp_header question{};
    const auto refusal = make_refuse(question, dialer_id, SP_REASON_ACCESS, 0, "");
    EXPECT_EQ(p.dialer.link->on_packet(view(refusal), p.now), arrival::unexpected);
    EXPECT_EQ(p.dialer.link->state(), phase::open);
}

TEST(connection, stays_open_while_idle)
{
    link_pair p;
    p.open();
    p.pass(1h);
    EXPECT_EQ(p.dialer.link->state(), phase::open);
    EXPECT_EQ(p.listener.link->state(), phase::open);
}

TEST(connection, is_quiet_while_idle)
{
    link_pair p;
    p.open();
    p.pass(1s);
    const auto before = p.packets;
    p.pass(100s);
    // A question and its answer every 250 ms, and both ends may happen to ask.
    EXPECT_LE(p.packets - before, 4u * 100 * 4);
    EXPECT_GE(p.packets - before, 2u * 100 * 2);
}

TEST(connection, is_dead_after_one_second_of_silence)
{
    link_pair p;
    p.open();
    p.lose = [](const bytes &) { return true; };
    p.pass(990ms);
    EXPECT_EQ(p.dialer.link->state(), phase::open);
    p.pass(20ms);
    EXPECT_EQ(p.dialer.link->state(), phase::closed);
    EXPECT_EQ(p.dialer.link->reason(), SP_REASON_DEAD);
    EXPECT_EQ(p.listener.link->reason(), SP_REASON_DEAD);
}

TEST(connection, that_relies_on_somebody_else_survives_silence_and_seldom_asks)
{
    link_pair p;
    p.open();
    p.pass(50ms);
    p.dialer.link->rely(p.now);
    p.listener.link->rely(p.now);
    const auto before = p.packets;
    p.pass(9s);
    EXPECT_EQ(p.packets, before);
    p.pass(60s);
    EXPECT_GT(p.packets, before);
    EXPECT_LE(p.packets, before + 40);
    p.lose = [](const bytes &) { return true; };
    p.pass(1h);
    EXPECT_EQ(p.dialer.link->state(), phase::open);
    EXPECT_EQ(p.listener.link->state(), phase::open);
}

TEST(connection, does_not_count_our_own_pause_as_the_peers_silence)
{
    link_pair p;
    p.open();
    p.now += 5s; // our loop did not run; the peer's packets wait somewhere
    p.dialer.link->on_deadline(p.now);
    p.listener.link->on_deadline(p.now);
    EXPECT_EQ(p.dialer.link->state(), phase::open);
    p.drive();
    p.pass(2s);
    EXPECT_EQ(p.dialer.link->state(), phase::open);
    EXPECT_EQ(p.listener.link->state(), phase::open);
}

TEST(connection, survives_a_forged_reset)
{
    link_pair p;
    p.open();
    p.dialer.link->on_reset(0, p.now);
    p.drive();
    p.pass(1s);
    EXPECT_EQ(p.dialer.link->state(), phase::open);
}

TEST(connection, knows_soon_after_a_reset_that_the_peer_has_restarted)
{
    link_pair p;
    p.open();
    p.lose = [](const bytes &) { return true; };
    p.dialer.link->on_reset(0, p.now);
    p.pass(39ms);
    EXPECT_EQ(p.dialer.link->state(), phase::open);
    p.pass(2ms);
    EXPECT_EQ(p.dialer.link->reason(), SP_REASON_STALE);
}

TEST(connection, ignores_a_reset_for_a_packet_it_never_sent)
{
    link_pair p;
    p.open();
    p.lose = [](const bytes &) { return true; };
    p.dialer.link->on_reset(1000, p.now);
    p.pass(500ms);
    EXPECT_EQ(p.dialer.link->state(), phase::open);
}

TEST(connection, tells_its_peer_why_it_closes)
{
    link_pair p;
    p.open();
    p.listener.link->close(SP_REASON_MESSAGE_TOO_LARGE);
    p.drive();
    EXPECT_EQ(p.dialer.link->state(), phase::closed);
    EXPECT_EQ(p.dialer.link->reason(), SP_REASON_MESSAGE_TOO_LARGE);
    EXPECT_TRUE(p.dialer.link->closed_by_peer());
    EXPECT_FALSE(p.listener.link->closed_by_peer());
}

TEST(connection, never_uses_a_packet_number_twice)
{
    link_pair p;
    std::vector<std::uint64_t> numbers;
    unsigned turn = 0;
    p.lose = [&](const bytes &packet) {
        const auto header = read<sp_header>(packet);
        if (be64(header.dcid) == listener_id || header.type == SP_PROBE || header.type == SP_INIT)
            numbers.push_back(be64(header.pn));
        return header.type == SP_DATA && ++turn % 3 == 0;
    };
    p.open();
    for (int i = 0; i < 100; ++i) {
        p.say(p.dialer, "again");
        p.pass(100ms);
    }
    ASSERT_GT(numbers.size(), 100u);
    std::ranges::sort(numbers);
    EXPECT_EQ(std::ranges::adjacent_find(numbers), numbers.end());
}

} // namespace
