// SPDX-License-Identifier: BSD-2-Clause
//
// The PAIR machine, both versions: hops in front of the body, push-back both ways, and what waits
// goes to the next peer.
#include "tests/support/machine.hpp"
#include "userspace/protocol/pair.hpp"

#include <gtest/gtest.h>
#include <random>

namespace {

using namespace sp::protocol;
using sp::errc;
using sp::stat;
using end = sp::test::machine_engine<pair_machine>;
using strings = std::vector<std::string>;

std::string hops(std::uint32_t n)
{
    std::string word(4, '\0');
    for (std::size_t i = 0; i < 4; ++i)
        word[i] = static_cast<char>(n >> (24 - 8 * i));
    return word;
}

const queue_bounds two{.bytes = 1 << 20, .messages = 2};

TEST(pair, version_1_sends_one_hop_and_version_0_nothing)
{
    for (const int version : {0, 1}) {
        end e(pair_options{.version = version});
        e.give_room(e.add_pipe(), 1);
        ASSERT_FALSE(e.send("hello"));
        EXPECT_EQ(e.wire[0].header, version == 0 ? "" : hops(1));
        EXPECT_EQ(e.wire[0].body, "hello");
    }
}

TEST(pair, version_0_delivers_anything)
{
    end e(pair_options{.version = 0});
    const auto p = e.add_pipe();
    for (const auto *body : {"", "abc", "\xff\xff\xff\xff"}) {
        e.receive(p, body);
        EXPECT_EQ(e.take(), body);
        EXPECT_EQ(e.last_taken->header_bytes, 0u);
    }
}

TEST(pair, version_1_judges_the_hops)
{
    struct row {
        std::string header;
        std::size_t ttl;
        char expected; // delivered, ttl, closed
    };
    const std::vector<row> rows{
        {hops(0), 8, 'd'},          {hops(1), 8, 'd'},   {hops(8), 8, 'd'},
        {hops(9), 8, 't'},          {hops(255), 8, 't'}, {hops(256), 8, 'c'},
        {hops(0x80000001), 8, 'c'}, {"", 8, 'c'},        {hops(1).substr(0, 3), 8, 'c'},
        {hops(2), 1, 't'},          {hops(15), 15, 'd'}};
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const auto &r = rows[i];
        end e(pair_options{.ttl_max = r.ttl});
        const auto p = e.add_pipe();
        e.receive(p, r.header.size() < 4 ? r.header : r.header + "body");
        EXPECT_EQ(e.machine.waiting(), r.expected == 'd') << i;
        EXPECT_EQ(e.count(stat::socket_ttl, p), r.expected == 't' ? 1 : 0) << i;
        ASSERT_EQ(e.closed.size(), r.expected == 'c' ? 1u : 0u) << i;
        if (r.expected == 'c') {
            EXPECT_EQ(e.closed[0].second, stat::pipe_bad_header) << i;
        }
        if (r.expected == 't') {
            EXPECT_EQ(e.withheld(p), 0) << i;
        }
        if (r.expected == 'd') {
            EXPECT_EQ(e.take(), r.header + "body") << i;
            EXPECT_EQ(e.last_taken->header_bytes, 4u) << i;
        }
        EXPECT_EQ(e.frames_held(), 0u) << i;
    }
}

TEST(pair, waits_for_a_peer_and_for_its_room)
{
    end e(pair_options{});
    EXPECT_EQ(e.send("a"), errc::would_block);
    const auto p = e.add_pipe();
    EXPECT_EQ(e.send("a"), errc::would_block);
    e.give_room(p, 1);
    EXPECT_TRUE(e.machine.send_ready(1));
    EXPECT_FALSE(e.send("a"));
    EXPECT_EQ(e.send("b"), errc::would_block);
    EXPECT_FALSE(e.machine.send_ready(1));
}

TEST(pair, fails_or_drops_without_a_peer_if_told_so)
{
    end fails(pair_options{.on_no_peer = alone::fail});
    EXPECT_EQ(fails.send("a"), errc::no_peer);
    end drops(pair_options{.on_no_peer = alone::drop});
    EXPECT_FALSE(drops.send("a"));
    EXPECT_EQ(drops.count(stat::socket_no_peer), 1);
}

TEST(pair, counts_the_hops_in_the_size_that_a_peer_accepts)
{
    for (const int version : {0, 1}) {
        end e(pair_options{.version = version});
        e.give_room(e.add_pipe(100), 1);
        const std::size_t body = version == 0 ? 100 : 96;
        EXPECT_EQ(e.send(std::string(body + 1, 'x')), errc::message_too_large);
        EXPECT_FALSE(e.send(std::string(body, 'x')));
    }
}

TEST(pair, charges_the_hops_to_its_queue)
{
    end e(pair_options{.send = {.bytes = 2 * (4 + 60 + 64)}});
    ASSERT_FALSE(e.send(std::string(60, 'x')));
    EXPECT_FALSE(e.machine.send_ready(61));
    EXPECT_TRUE(e.machine.send_ready(60));
    EXPECT_EQ(e.send(std::string(61, 'x')), errc::would_block);
    EXPECT_FALSE(e.send(std::string(60, 'x')));
}

TEST(pair, what_is_queued_goes_to_the_next_peer_in_order)
{
    end e(pair_options{.send = two});
    const auto first = e.add_pipe();
    e.give_room(first, 1);
    e.jam(first);
    for (const auto *m : {"a", "b", "c"})
        ASSERT_FALSE(e.send(m));
    e.close_pipe(first);
    const auto second = e.add_pipe();
    e.give_room(second, 9);
    EXPECT_EQ(e.sent_on(second), (strings{"a", "b", "c"}));
    for (const auto &s : e.wire)
        EXPECT_EQ(s.header, hops(1));
}

TEST(pair, gives_credit_back_when_a_message_is_taken)
{
    end e(pair_options{});
    const auto p = e.add_pipe();
    e.receive(p, hops(1) + "a");
    EXPECT_EQ(e.withheld(p), 1);
    EXPECT_EQ(e.take(), hops(1) + "a");
    EXPECT_EQ(e.withheld(p), 0);
}

TEST(pair, gives_credit_back_at_once_while_the_receive_queue_has_room)
{
    end e(pair_options{.version = 0, .recv = two});
    const auto p = e.add_pipe();
    for (const auto *m : {"a", "b", "c", "d"})
        e.receive(p, m);
    EXPECT_EQ(e.withheld(p), 2);
    EXPECT_EQ(e.take(), "a");
    EXPECT_EQ(e.withheld(p), 1);
    EXPECT_EQ(e.take(), "b");
    EXPECT_EQ(e.withheld(p), 0);
    EXPECT_EQ(e.take(), "c");
    EXPECT_EQ(e.take(), "d");
    EXPECT_EQ(e.withheld(p), 0);
}

TEST(pair, a_full_receive_queue_drops_by_policy_if_told_so)
{
    for (const auto policy : {overflow::drop_oldest, overflow::drop_newest}) {
        end e(pair_options{.version = 0, .recv = two, .on_recv_full = policy});
        const auto p = e.add_pipe();
        for (const auto *m : {"a", "b", "c"})
            e.receive(p, m);
        EXPECT_EQ(e.withheld(p), 0);
        EXPECT_EQ(e.count(stat::socket_recv_full, p), 1);
        EXPECT_EQ(e.take(), policy == overflow::drop_oldest ? "b" : "a");
        EXPECT_EQ(e.take(), policy == overflow::drop_oldest ? "c" : "b");
        EXPECT_FALSE(e.take());
    }
}

TEST(pair, a_dropping_queue_without_bytes_still_reads_one_ahead)
{
    for (const auto policy : {overflow::drop_oldest, overflow::drop_newest}) {
        end e(pair_options{.version = 0, .on_recv_full = policy});
        const auto p = e.add_pipe();
        e.receive(p, "a");
        e.receive(p, "b");
        EXPECT_EQ(e.take(), policy == overflow::drop_oldest ? "b" : "a");
        EXPECT_FALSE(e.take());
    }
}

TEST(pair, delivers_what_one_peer_sent_before_what_the_next_one_does)
{
    end e(pair_options{.version = 0});
    const auto first = e.add_pipe();
    e.receive(first, "a");
    e.receive(first, "b");
    e.close_pipe(first);
    const auto second = e.add_pipe();
    e.receive(second, "c");
    for (const auto *m : {"a", "b", "c"})
        EXPECT_EQ(e.take(), m);
    EXPECT_EQ(e.withheld(second), 0);
}

// Credit that is owed after one large message has left may be more than a call has room for.
TEST(pair, gives_back_the_credit_of_many_small_messages_behind_a_large_one)
{
    end e(pair_options{.version = 0, .recv = {.bytes = 20000}});
    const auto p = e.add_pipe();
    e.receive(p, std::string(30000, 'x'));
    for (int i = 0; i < 200; ++i)
        e.receive(p, "y");
    EXPECT_EQ(e.withheld(p), 200);
    ASSERT_TRUE(e.take());
    EXPECT_EQ(e.withheld(p), 0);
}

TEST(pair, counts_what_is_left_when_it_closes)
{
    end e(pair_options{.version = 0, .send = two});
    const auto p = e.add_pipe();
    e.receive(p, "in");
    ASSERT_FALSE(e.send("out"));
    EXPECT_EQ(e.close(), 1u);
    EXPECT_EQ(e.count(stat::socket_closed), 1);
    EXPECT_EQ(e.count(stat::socket_unread), 1);
    EXPECT_EQ(e.frames_held(), 0u);
}

// One peer at a time, thousands of them: what was accepted goes out once and in order, what came
// is delivered once and in order, whatever was malformed ended its pipe only.
TEST(pair, loses_and_repeats_nothing_whatever_comes_and_goes)
{
    const auto seed = std::random_device{}();
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    for (int round = 0; round < 30; ++round) {
        const queue_bounds in{.bytes = random() % 2 * 500}, out{.bytes = random() % 2 * 500};
        end e(pair_options{.send = out, .recv = in});
        auto peer = no_pipe;
        int accepted = 0, come = 0, taken = 0;
        for (int i = 0; i < 400; ++i) {
            if (peer != no_pipe && !e.pipes.contains(peer))
                peer = no_pipe; // a malformed message has ended it
            const auto dice = random() % 24;
            if (peer == no_pipe)
                peer = e.add_pipe();
            else if (dice == 0)
                e.jam(peer);
            else if (dice == 1 || e.pipes.at(peer).outbox.size() == distributor::remembered_max)
                e.close_pipe(peer), peer = no_pipe;
            else if (dice == 2)
                e.receive(peer, random() % 2 == 0 ? "abc" : hops(300));
            else if (dice < 7)
                e.give_room(peer, 1 + random() % 2);
            else if (dice < 12)
                e.receive(peer,
                          hops(static_cast<std::uint32_t>(random() % 9)) + std::to_string(come++));
            else if (dice < 18)
                accepted += e.send(std::to_string(accepted)) ? 0 : 1;
            else if (const auto text = e.take()) {
                EXPECT_EQ(text->substr(4), std::to_string(taken++));
            }
        }
        while (const auto text = e.take())
            EXPECT_EQ(text->substr(4), std::to_string(taken++));
        EXPECT_EQ(taken, come);
        if (e.pipes.contains(peer))
            e.close_pipe(peer);
        e.give_room(e.add_pipe(), 1000);
        ASSERT_EQ(e.wire.size(), static_cast<std::size_t>(accepted));
        for (int i = 0; i < accepted; ++i)
            EXPECT_EQ(e.wire[static_cast<std::size_t>(i)].body, std::to_string(i));
        EXPECT_EQ(e.frames_held(), 0u);
    }
}

} // namespace
