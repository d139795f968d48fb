// SPDX-License-Identifier: BSD-2-Clause
//
// The PUB machine with made-up pipes. The engine's part checks books and frames after every step.
#include "userspace/protocol/pub.hpp"

#include "tests/support/machine.hpp"

#include <random>
#include <set>

namespace {

using namespace sp::protocol;
using sp::stat;
using publisher = sp::test::machine_engine<pub_machine>;
using strings = std::vector<std::string>;

// Room for two messages of one byte.
constexpr queue_bounds two{.bytes = 1 << 20, .messages = 2};

TEST(pub, sends_every_message_to_every_pipe_that_is_ready_in_the_same_step)
{
    publisher e(pub_options{});
    const auto a = e.add_pipe(), b = e.add_pipe();
    e.give_room(a, 5);
    e.give_room(b, 5);
    e.send("one");
    e.send("two");
    EXPECT_EQ(e.sent_on(a), (strings{"one", "two"}));
    EXPECT_EQ(e.sent_on(b), (strings{"one", "two"}));
    EXPECT_EQ(e.count(stat::socket_copied_out), 2);
    EXPECT_EQ(e.frames_held(), 0u);
}

TEST(pub, emits_the_sends_of_a_message_before_anything_else_happens)
{
    pub_machine machine{pub_options{}};
    effects out;
    const auto pipe = static_cast<pipe_id>(7);
    machine.on_pipe_added({.id = pipe, .instance = 1, .capacity = 100});
    machine.on_pipe_ready(pipe, {}, out);
    EXPECT_TRUE(out.empty());
    machine.on_send(static_cast<frame_id>(3), 10, {}, out);
    ASSERT_EQ(out.all().size(), 2u);
    EXPECT_EQ(out.all()[0].what, effect::kind::send);
    EXPECT_EQ(out.all()[1].what, effect::kind::release);
}

TEST(pub, says_no_peer_when_nobody_is_connected)
{
    publisher e(pub_options{});
    e.send("x");
    EXPECT_EQ(e.count(stat::socket_no_peer), 1);
    EXPECT_EQ(e.frames_held(), 0u);
}

TEST(pub, keeps_a_slow_pipe_from_holding_up_the_others)
{
    publisher e(pub_options{});
    const auto slow = e.add_pipe(), quick = e.add_pipe();
    e.give_room(quick, 100);
    for (int i = 0; i < 10; ++i)
        e.send(std::to_string(i));
    EXPECT_EQ(e.sent_on(quick).size(), 10u);
    EXPECT_EQ(e.machine.queued_out(), 10u);
    EXPECT_EQ(e.frames_held(), 10u);
    e.give_room(slow, 3);
    EXPECT_EQ(e.sent_on(slow), (strings{"0", "1", "2"}));
    EXPECT_EQ(e.frames_held(), 7u);
}

TEST(pub, drops_the_oldest_of_a_full_queue_and_counts_it_on_that_pipe)
{
    publisher e(pub_options{.queue = two});
    const auto slow = e.add_pipe(), quick = e.add_pipe();
    e.give_room(quick, 100);
    for (const auto *text : {"1", "2", "3", "4"})
        e.send(text);
    EXPECT_EQ(e.count(stat::socket_send_full, slow), 2);
    EXPECT_EQ(e.count(stat::socket_send_full, quick), 0);
    e.give_room(slow, 9);
    EXPECT_EQ(e.sent_on(slow), (strings{"3", "4"}));
}

TEST(pub, drops_the_newest_when_told_so)
{
    publisher e(pub_options{.queue = two, .on_full = overflow::drop_newest});
    const auto slow = e.add_pipe();
    for (const auto *text : {"1", "2", "3", "4"})
        e.send(text);
    EXPECT_EQ(e.count(stat::socket_send_full, slow), 2);
    e.give_room(slow, 9);
    EXPECT_EQ(e.sent_on(slow), (strings{"1", "2"}));
}

TEST(pub, drops_as_many_old_ones_as_a_large_message_needs)
{
    publisher e(pub_options{.queue = {.bytes = 1000}});
    const auto pipe = e.add_pipe();
    for (int i = 0; i < 5; ++i)
        e.send(std::string(100, 'a')); // 164 each
    EXPECT_EQ(e.count(stat::socket_send_full), 0);
    e.send(std::string(600, 'b'));
    EXPECT_EQ(e.count(stat::socket_send_full, pipe), 3);
    e.send(std::string(5000, 'c')); // an empty queue takes one message of any size
    EXPECT_EQ(e.count(stat::socket_send_full, pipe), 6);
    EXPECT_EQ(e.machine.queued_out(), 1u);
}

TEST(pub, without_a_queue_sends_to_ready_pipes_only)
{
    publisher e(pub_options{.queue = {.bytes = 0}});
    const auto a = e.add_pipe(), b = e.add_pipe();
    e.give_room(a, 1);
    e.send("x");
    EXPECT_EQ(e.sent_on(a), strings{"x"});
    EXPECT_EQ(e.count(stat::socket_send_full, b), 1);
    EXPECT_EQ(e.frames_held(), 0u);
}

TEST(pub, that_blocks_is_ready_only_while_every_pipe_has_room)
{
    publisher e(pub_options{.queue = two, .on_full = overflow::block});
    EXPECT_TRUE(e.machine.send_ready(1)) << "nobody there: it is dropped, it does not wait";
    const auto slow = e.add_pipe(), quick = e.add_pipe();
    e.give_room(quick, 100);
    e.send("1");
    EXPECT_TRUE(e.machine.send_ready(1));
    e.send("2");
    EXPECT_FALSE(e.machine.send_ready(1));
    e.send("3");
    EXPECT_EQ(e.count(stat::socket_send_full, slow), 1) << "dropped where it was full";
    EXPECT_EQ(e.sent_on(quick), (strings{"1", "2", "3"})) << "and nowhere else";
    e.give_room(slow, 1);
    EXPECT_TRUE(e.machine.send_ready(1));
    EXPECT_TRUE(publisher(pub_options{.queue = two}).machine.send_ready(1));
}

TEST(pub, does_not_wait_for_a_pipe_that_never_takes_a_message_of_that_size)
{
    publisher e(pub_options{.queue = two, .on_full = overflow::block});
    e.add_pipe(10);
    e.send("1");
    e.send("2");
    EXPECT_FALSE(e.machine.send_ready(10));
    EXPECT_TRUE(e.machine.send_ready(11));
}

TEST(pub, disconnects_a_slow_pipe_when_told_so)
{
    publisher e(pub_options{.queue = two, .on_full = overflow::disconnect});
    const auto slow = e.add_pipe(), quick = e.add_pipe();
    e.give_room(quick, 100);
    for (const auto *text : {"1", "2", "3"})
        e.send(text);
    ASSERT_EQ(e.closed.size(), 1u);
    EXPECT_EQ(e.closed[0], std::pair(slow, stat::pipe_slow_peer));
    EXPECT_EQ(e.count(stat::socket_send_full, slow), 1);
    EXPECT_EQ(e.count(stat::socket_pipe_closed, slow), 2);
    EXPECT_EQ(e.sent_on(quick), (strings{"1", "2", "3"}));
    EXPECT_EQ(e.frames_held(), 0u);
}

TEST(pub, sends_nothing_more_on_a_pipe_that_it_has_closed)
{
    pub_machine machine{pub_options{.queue = {.bytes = 0}, .on_full = overflow::disconnect}};
    effects out;
    const auto pipe = static_cast<pipe_id>(7);
    machine.on_pipe_added({.id = pipe, .instance = 1, .capacity = 100});
    machine.on_send(static_cast<frame_id>(1), 10, {}, out);
    out.clear();
    machine.on_pipe_ready(pipe, {}, out); // it is still there for a moment
    machine.on_send(static_cast<frame_id>(2), 10, {}, out);
    ASSERT_EQ(out.all().size(), 2u);
    EXPECT_EQ(out.all()[0].why, stat::socket_no_peer);
    EXPECT_EQ(out.all()[1].what, effect::kind::release);
}

TEST(pub, drops_what_is_larger_than_a_peer_takes_for_that_peer)
{
    publisher e(pub_options{});
    const auto small = e.add_pipe(10), large = e.add_pipe(11);
    e.give_room(small, 1);
    e.give_room(large, 1);
    e.send(std::string(11, 'x'));
    EXPECT_EQ(e.count(stat::socket_peer_limit, small), 1);
    EXPECT_EQ(e.sent_on(large).size(), 1u);
    EXPECT_TRUE(e.sent_on(small).empty());
}

TEST(pub, drops_what_was_queued_for_a_pipe_that_went)
{
    publisher e(pub_options{});
    const auto gone = e.add_pipe(), stays = e.add_pipe();
    e.send("1");
    e.send("2");
    e.close_pipe(gone);
    EXPECT_EQ(e.count(stat::socket_pipe_closed, gone), 2);
    EXPECT_EQ(e.frames_held(), 2u);
    e.give_room(stays, 2);
    EXPECT_EQ(e.frames_held(), 0u);
}

TEST(pub, closes_whoever_sends_it_anything)
{
    for (const std::uint64_t instance : {0, 1}) { // a stream, an own link
        publisher e(pub_options{});
        const auto pipe = e.add_pipe(1000, instance);
        e.receive(pipe, "hello");
        ASSERT_EQ(e.closed.size(), 1u);
        EXPECT_EQ(e.closed[0], std::pair(pipe, stat::pipe_unexpected));
        EXPECT_EQ(e.count(stat::socket_unexpected, pipe), 1);
        EXPECT_EQ(e.frames_held(), 0u);
    }
}

TEST(pub, returns_what_it_drops_at_close_and_counts_it)
{
    publisher e(pub_options{});
    const auto a = e.add_pipe(), b = e.add_pipe();
    for (int i = 0; i < 100; ++i)
        e.send("x");
    EXPECT_EQ(e.close(), 200u);
    EXPECT_EQ(e.count(stat::socket_closed, a), 100);
    EXPECT_EQ(e.count(stat::socket_closed, b), 100);
    EXPECT_EQ(e.frames_held(), 0u);
    EXPECT_EQ(e.machine.queued_out(), 0u);
}

TEST(pub, reaches_more_pipes_than_one_list_of_effects_holds)
{
    publisher e(pub_options{});
    std::vector<pipe_id> pipes;
    for (int i = 0; i < 500; ++i) {
        pipes.push_back(e.add_pipe());
        e.give_room(pipes.back(), 2);
    }
    e.send("1");
    e.send("2");
    for (const auto pipe : pipes)
        ASSERT_EQ(e.sent_on(pipe), (strings{"1", "2"}));
    e.send("3");
    EXPECT_EQ(e.frames_held(), 1u) << "one frame in 500 queues";
    for (const auto pipe : pipes)
        e.close_pipe(pipe);
    EXPECT_EQ(e.count(stat::socket_pipe_closed), 500);
    EXPECT_EQ(e.frames_held(), 0u);
}

TEST(pub, sends_to_many_ready_pipes_without_a_queue_although_effects_are_few)
{
    publisher e(pub_options{.queue = {.bytes = 0}});
    for (int i = 0; i < 300; ++i)
        e.give_room(e.add_pipe(), 1);
    e.send("1");
    EXPECT_EQ(e.wire.size(), 300u);
    EXPECT_EQ(e.count(stat::socket_send_full), 0);
}

TEST(pub, delivers_a_burst_of_1000_small_messages_whole_with_the_default_queue)
{
    publisher e(pub_options{});
    const auto pipe = e.add_pipe();
    for (int i = 0; i < 1000; ++i)
        e.send(std::string(64, 'x'));
    e.give_room(pipe, 1000);
    EXPECT_EQ(e.sent_on(pipe).size(), 1000u);
}

// Each pipe sees a part of what was sent, in order; how much is missing is what was counted.
TEST(pub, keeps_order_books_and_frames_whatever_pipes_do)
{
    const auto seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const auto below = [&](std::size_t n) { return random() % n; };
    for (const auto policy :
         {overflow::drop_oldest, overflow::drop_newest, overflow::block, overflow::disconnect}) {
        publisher e(pub_options{.queue = {.bytes = 200 + below(2000), .messages = below(12)},
                                .on_full = policy});
        std::map<pipe_id, int> first; // the message that is sent next when the pipe comes
        int next = 0;
        const auto some_pipe = [&] {
            return std::next(e.pipes.begin(), static_cast<long>(below(e.pipes.size())))->first;
        };
        for (int step = 0; step < 4000 && !testing::Test::HasFailure(); ++step) {
            const auto what = below(100);
            if (e.pipes.empty() || (what < 4 && e.pipes.size() < 90))
                first[e.add_pipe(20 + below(200))] = next;
            else if (what < 6)
                e.close_pipe(some_pipe());
            else if (what < 8)
                e.receive(some_pipe(), "?");
            else if (what < 60)
                e.give_room(some_pipe(), 1 + below(4));
            else
                e.send(std::to_string(next++) + std::string(below(150), '.'));
            EXPECT_LE(e.frames_held(), e.machine.queued_out());
        }
        std::map<pipe_id, int> last;
        for (const auto &s : e.wire) {
            const auto number = std::stoi(s.body);
            const auto before = last.contains(s.pipe) ? last[s.pipe] + 1 : first[s.pipe];
            EXPECT_GE(number, before) << "out of order or too early";
            last[s.pipe] = number;
        }
        for (const auto &[pipe, why] : e.closed)
            EXPECT_TRUE(why == stat::pipe_unexpected || policy == overflow::disconnect);
        e.close();
        EXPECT_EQ(e.frames_held(), 0u);
    }
}

} // namespace
