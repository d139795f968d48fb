// SPDX-License-Identifier: BSD-2-Clause
//
// Conformance of BUS and PAIR on byte streams: the scenarios B1, B2 and P1 to P4.
#include "tests/interop/scene.hpp"

#include <poll.h>

namespace sp::test {
namespace {

using bus_scenario = scene;

TEST_F(bus_scenario, b1_each_of_a_mesh_gets_what_the_others_send_once_and_nothing_is_forwarded)
{
    auto bus = open<sp::bus>();
    auto one = joined(bus);
    auto two = joined(bus);
    for (int i = 0; i < 100; ++i) {
        const auto n = std::to_string(i);
        one.send(wire::frame("from one " + n));
        EXPECT_EQ(text_of(bus.recv(patience)), "from one " + n);
        two.send(wire::frame("from two " + n));
        EXPECT_EQ(text_of(bus.recv(patience)), "from two " + n);
        must(bus.send("from sp " + n));
        // If it had forwarded anything, that would come first.
        EXPECT_EQ(one.receive_frame(), "from sp " + n);
        EXPECT_EQ(two.receive_frame(), "from sp " + n);
    }
    EXPECT_FALSE(bus.try_recv()) << "it heard itself";
    EXPECT_EQ(bus.statistics()[stat::socket_copied_out], 100u);
    expect_balance(bus);
}

TEST_F(bus_scenario, b1_works_whoever_of_the_two_dials)
{
    byte_door door(ipc("door"));
    auto [member, bus] = dialed_to<sp::bus>(door);
    member.send(wire::frame("in"));
    EXPECT_EQ(text_of(bus.recv(patience)), "in");
    must(bus.send("out"));
    EXPECT_EQ(member.receive_frame(), "out");
    expect_balance(bus);
}

TEST_F(bus_scenario, b2_a_send_never_waits_and_without_a_peer_it_is_counted)
{
    auto bus = open<sp::bus>();
    must(bus.send("to nobody"));
    EXPECT_EQ(bus.statistics()[stat::socket_no_peer], 1u);
    auto idle = joined(bus);
    must(bus.send("to one"));
    EXPECT_EQ(idle.receive_frame(), "to one");
    EXPECT_EQ(bus.statistics()[stat::socket_no_peer], 1u);
    expect_balance(bus);
}

TEST_F(bus_scenario, b2_a_peer_that_does_not_read_loses_the_newest_and_the_other_nothing)
{
    auto bus = open<sp::bus>({.send_queue_bytes = 64 * 1024});
    auto stuck = joined(bus);
    auto quick = joined(bus);
    const auto body = wire::body(8192);
    for (int i = 0; i < 200; ++i) {
        must(bus.send(body + std::to_string(i)));
        ASSERT_TRUE(quick.receive_frame() == body + std::to_string(i));
    }
    const auto lost = bus.statistics()[stat::socket_send_full];
    EXPECT_GT(lost, 0u);
    // What was not dropped is the beginning, in order.
    for (std::uint64_t i = 0; i < 200 - lost; ++i)
        ASSERT_TRUE(stuck.receive_frame() == body + std::to_string(i));
    must(bus.send("all again"));
    EXPECT_EQ(stuck.receive_frame(), "all again");
    EXPECT_EQ(quick.receive_frame(), "all again");
    EXPECT_EQ(bus.statistics()[stat::socket_send_full], lost);
    expect_balance(bus);
}

class pair_scenario : public scene {
protected:
    struct version {
        std::uint32_t number;
        std::uint16_t protocol;
        std::string header; // of what sp sends
    };
    static std::vector<version> versions()
    {
        return {{0, pair0_number, ""}, {1, pair1_number, wire::word(1)}};
    }
};

TEST_F(pair_scenario, p1_a_partner_that_does_not_read_holds_the_sender_back_and_nothing_is_lost)
{
    for (const auto &v : versions()) {
        SCOPED_TRACE(v.number);
        auto pair = open<sp::pair>({.pair_version = v.number});
        auto partner = joined(pair, v.protocol, v.protocol);
        const auto writable = must(pair.send_fd());
        const auto body = wire::body(4096);
        int sent = 0;
        for (; sent < 10'000 && pair.try_send(body + std::to_string(sent)); ++sent)
            ;
        ASSERT_LT(sent, 1000) << "the amount is not bounded";
        EXPECT_GT(sent, 0);
        EXPECT_EQ(pair.send(body, 0s).error(), errc::would_block);
        EXPECT_EQ(pair.send(body, 5ms).error(), errc::timed_out);
        pollfd p{.fd = writable, .events = POLLIN, .revents = 0};
        EXPECT_EQ(::poll(&p, 1, 0), 0) << "it says that it is writable";
        for (int i = 0; i < sent; ++i)
            ASSERT_TRUE(partner.receive_frame() == v.header + body + std::to_string(i));
        must(pair.send("again", patience));
        EXPECT_EQ(partner.receive_frame(), v.header + "again");
        expect_balance(pair);
    }
}

TEST_F(pair_scenario, p1_a_reader_that_does_not_read_holds_its_partner_back_and_nothing_is_lost)
{
    for (const auto &v : versions()) {
        SCOPED_TRACE(v.number);
        auto pair = open<sp::pair>({.pair_version = v.number});
        auto partner = joined(pair, v.protocol, v.protocol);
        std::string all;
        for (int i = 0; i < 1000; ++i)
            all += wire::frame(v.header, wire::body(4096) + std::to_string(i));
        auto sent = std::async(std::launch::async, [&] { partner.send(all); });
        until([&] { return pair.statistics()[stat::socket_received] == 1; });
        for (int i = 0; i < 1000; ++i)
            ASSERT_TRUE(text_of(pair.recv(patience)) == wire::body(4096) + std::to_string(i));
        sent.get();
        expect_balance(pair);
    }
}

TEST_F(pair_scenario, p1_a_second_partner_is_refused_and_the_first_not_disturbed)
{
    for (const auto &v : versions()) {
        SCOPED_TRACE(v.number);
        const auto busy = count(stat::listener_peer_busy);
        auto pair = open<sp::pair>({.pair_version = v.number});
        auto first = joined(pair, v.protocol, v.protocol);
        auto second = byte_peer::dial(ipc());
        (void)second.try_send(wire::hello(v.protocol) + wire::frame(v.header, "let me in"));
        EXPECT_EQ(second.receive_all(), wire::hello(v.protocol));
        wait_count(stat::listener_peer_busy, busy + 1);
        first.send(wire::frame(v.header, "here"));
        EXPECT_EQ(text_of(pair.recv(patience)), "here");
        must(pair.send("there", patience));
        EXPECT_EQ(first.receive_frame(), v.header + "there");
        first.close();
        wait_peers_gone(pair);
        auto next = joined(pair, v.protocol, v.protocol);
        must(pair.send("and now you", patience));
        EXPECT_EQ(next.receive_frame(), v.header + "and now you");
        expect_balance(pair);
    }
}

TEST_F(pair_scenario, p1_works_whoever_of_the_two_dials)
{
    byte_door door(ipc("door"));
    auto [partner, pair] = dialed_to<sp::pair>(door);
    partner.send(wire::frame(wire::word(1), "in"));
    EXPECT_EQ(text_of(pair.recv(patience)), "in");
    must(pair.send("out", patience));
    EXPECT_EQ(partner.receive_frame(), wire::word(1) + "out");
    expect_balance(pair);
}

TEST_F(pair_scenario, p2_the_two_versions_do_not_connect)
{
    auto pair = open<sp::pair>({}, "new");
    auto old = byte_peer::dial(ipc("new"));
    old.send(wire::hello(pair0_number));
    EXPECT_EQ(old.receive_all(), wire::hello(pair1_number));
    wait_count(stat::listener_peer_protocol, 1);
    auto pair0 = open<sp::pair>({.pair_version = 0u}, "old");
    auto young = byte_peer::dial(ipc("old"));
    young.send(wire::hello(pair1_number));
    EXPECT_EQ(young.receive_all(), wire::hello(pair0_number));
    wait_count(stat::listener_peer_protocol, 2);
    const auto mismatch = pair.dial(ipc("old"), patience);
    EXPECT_EQ(mismatch.error(), errc::protocol_mismatch);
    EXPECT_TRUE(mismatch.error().what().contains("PAIR v0")) << mismatch.error().what();
    expect_balance(pair);
    expect_balance(pair0);
}

TEST_F(pair_scenario, p3_the_hop_word_that_is_sent_is_one)
{
    auto pair = open<sp::pair>();
    auto partner = joined(pair);
    must(pair.send("body", patience));
    EXPECT_EQ(partner.receive(9 + 4 + 4), wire::frame(wire::words({1}), "body"));
    expect_balance(pair);
}

TEST_F(pair_scenario, p4_hops_from_none_to_ttl_max_are_delivered_and_more_are_dropped)
{
    auto pair = open<sp::pair>();
    auto partner = joined(pair);
    for (const std::uint32_t hops : {0u, 1u, 2u, 8u}) {
        partner.send(wire::frame(wire::word(hops), "after " + std::to_string(hops)));
        EXPECT_EQ(text_of(pair.recv(patience)), "after " + std::to_string(hops));
    }
    for (const std::uint32_t hops : {9u, 254u, 255u})
        partner.send(wire::frame(wire::word(hops), "over"));
    partner.send(wire::frame(wire::word(0), "still here"));
    EXPECT_EQ(text_of(pair.recv(patience)), "still here");
    EXPECT_EQ(pair.statistics()[stat::socket_ttl], 3u);
    EXPECT_EQ(pair.peers(), 1u);
    expect_balance(pair);
}

TEST_F(pair_scenario, p4_a_hop_word_that_is_none_closes)
{
    auto pair = open<sp::pair>();
    std::uint64_t closed = 0;
    for (const auto &header : {std::string(), std::string("abc"), wire::word(256),
                               wire::word(wire::end_bit + 1), wire::word(0xffffffff)}) {
        auto bad = joined(pair);
        bad.send(wire::frame(header));
        EXPECT_TRUE(bad.ended()) << header.size() << " bytes";
        wait_count(stat::pipe_bad_header, ++closed);
        wait_peers_gone(pair);
        auto good = joined(pair);
        good.send(wire::frame(wire::word(0), "good"));
        EXPECT_EQ(text_of(pair.recv(patience)), "good");
        good.close();
        wait_peers_gone(pair);
    }
    expect_balance(pair);
}

} // namespace
} // namespace sp::test
