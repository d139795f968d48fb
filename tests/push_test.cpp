// SPDX-License-Identifier: BSD-2-Clause
//
// The PUSH machine: who gets a message, what waits, what comes back from a pipe that went. Books
// and frames are checked after every step (support/machine.hpp).
#include "tests/support/machine.hpp"
#include "userspace/protocol/push.hpp"

#include <algorithm>
#include <gtest/gtest.h>
#include <random>
#include <set>

namespace {

using namespace sp::protocol;
using sp::errc;
using sp::stat;
using pusher = sp::test::machine_engine<push_machine>;
using strings = std::vector<std::string>;

const queue_bounds three{.bytes = 1 << 20, .messages = 3};

strings bodies(const pusher &e)
{
    strings all;
    for (const auto &s : e.wire)
        all.push_back(s.body);
    return all;
}

TEST(push, gives_each_message_to_one_ready_pipe_in_turn)
{
    pusher e(push_options{});
    const pipe_id pipes[] = {e.add_pipe(), e.add_pipe(), e.add_pipe()};
    for (const auto p : pipes)
        e.give_room(p, 2);
    for (int i = 0; i < 6; ++i)
        ASSERT_FALSE(e.send(std::to_string(i)));
    EXPECT_EQ(e.wire.size(), 6u);
    for (const auto p : pipes)
        EXPECT_EQ(e.sent_on(p).size(), 2u);
    EXPECT_EQ(e.wire[0].header, "");
    EXPECT_EQ(e.frames_held(), 0u);
}

TEST(push, passes_over_a_pipe_that_has_no_room)
{
    pusher e(push_options{});
    const auto slow = e.add_pipe(), fast = e.add_pipe();
    e.give_room(slow, 1);
    e.give_room(fast, 10);
    for (int i = 0; i < 11; ++i)
        ASSERT_FALSE(e.send("x"));
    EXPECT_EQ(e.sent_on(slow).size(), 1u);
    EXPECT_EQ(e.sent_on(fast).size(), 10u);
    EXPECT_EQ(e.send("x"), errc::would_block);
}

TEST(push, shares_ten_thousand_messages_among_equal_workers)
{
    pusher e(push_options{});
    const pipe_id pipes[] = {e.add_pipe(), e.add_pipe(), e.add_pipe()};
    for (int i = 0; i < 10000; ++i) {
        for (const auto p : pipes)
            if (e.pipes.at(p).room == 0)
                e.give_room(p, 1);
        ASSERT_FALSE(e.send("x"));
    }
    for (const auto p : pipes)
        EXPECT_GE(e.sent_on(p).size(), 2500u);
}

TEST(push, without_a_ready_pipe_would_block_and_changes_nothing)
{
    pusher e(push_options{});
    EXPECT_FALSE(e.machine.send_ready(1));
    EXPECT_EQ(e.send("a"), errc::would_block); // nobody at all
    const auto p = e.add_pipe();
    EXPECT_EQ(e.send("a"), errc::would_block); // somebody without room
    EXPECT_FALSE(e.machine.send_ready(1));
    e.give_room(p, 1);
    EXPECT_TRUE(e.machine.send_ready(1));
    EXPECT_FALSE(e.send("a"));
    EXPECT_FALSE(e.machine.send_ready(1));
    EXPECT_EQ(bodies(e), strings{"a"});
}

TEST(push, queues_within_its_bounds_and_a_pipe_that_comes_takes_the_oldest_first)
{
    pusher e(push_options{.queue = three});
    for (const auto *m : {"a", "b", "c"})
        EXPECT_FALSE(e.send(m));
    EXPECT_EQ(e.send("d"), errc::would_block);
    EXPECT_EQ(e.machine.queued_out(), 3u);
    const auto p = e.add_pipe();
    e.give_room(p, 2);
    EXPECT_EQ(bodies(e), (strings{"a", "b"}));
    EXPECT_TRUE(e.machine.send_ready(1));
    EXPECT_FALSE(e.send("d"));
    e.give_room(p, 9);
    EXPECT_EQ(bodies(e), (strings{"a", "b", "c", "d"}));
}

TEST(push, an_empty_queue_takes_one_message_of_any_size)
{
    pusher e(push_options{.queue = {.bytes = 100}});
    EXPECT_FALSE(e.send(std::string(5000, 'x')));
    EXPECT_EQ(e.send(""), errc::would_block);
}

TEST(push, charges_a_queued_message_its_bytes_and_64)
{
    pusher e(push_options{.queue = {.bytes = 3 * (36 + 64)}});
    for (int round = 0; round < 3; ++round) { // and gives the charge back when it goes
        for (int i = 0; i < 3; ++i)
            EXPECT_FALSE(e.send(std::string(36, 'x')));
        EXPECT_EQ(e.send(""), errc::would_block);
        const auto p = e.add_pipe();
        e.give_room(p, 3);
        e.close_pipe(p);
    }
}

TEST(push, says_no_peer_or_drops_while_nobody_is_there_if_told_so)
{
    pusher fails(push_options{.on_no_peer = alone::fail});
    EXPECT_TRUE(fails.machine.send_ready(1)); // it would not block
    EXPECT_EQ(fails.send("a"), errc::no_peer);
    fails.add_pipe();
    EXPECT_EQ(fails.send("a"), errc::would_block); // somebody is there, without room

    pusher drops(push_options{.on_no_peer = alone::drop});
    EXPECT_FALSE(drops.send("a"));
    EXPECT_EQ(drops.count(stat::socket_no_peer), 1);
    EXPECT_EQ(drops.frames_held(), 0u);
    drops.add_pipe();
    EXPECT_EQ(drops.send("a"), errc::would_block);

    pusher queues(push_options{.queue = three, .on_no_peer = alone::fail});
    EXPECT_FALSE(queues.send("a")); // there is room for it
}

TEST(push, a_full_queue_drops_by_policy_if_told_so)
{
    pusher newest(push_options{.queue = three, .on_full = overflow::drop_newest});
    pusher oldest(push_options{.queue = three, .on_full = overflow::drop_oldest});
    for (const auto *m : {"a", "b", "c", "d"}) {
        EXPECT_TRUE(newest.machine.send_ready(1));
        EXPECT_FALSE(newest.send(m));
        EXPECT_FALSE(oldest.send(m));
    }
    EXPECT_EQ(newest.count(stat::socket_send_full), 1);
    EXPECT_EQ(oldest.count(stat::socket_send_full), 1);
    newest.give_room(newest.add_pipe(), 9);
    oldest.give_room(oldest.add_pipe(), 9);
    EXPECT_EQ(bodies(newest), (strings{"a", "b", "c"}));
    EXPECT_EQ(bodies(oldest), (strings{"b", "c", "d"}));
}

TEST(push, refuses_what_is_larger_than_every_peer_accepts)
{
    pusher e(push_options{.queue = three});
    const auto small = e.add_pipe(10), large = e.add_pipe(20);
    e.give_room(small, 9);
    EXPECT_EQ(e.send(std::string(21, 'x')), errc::message_too_large);
    EXPECT_FALSE(e.send(std::string(20, 'x'))); // waits for the one that takes it
    EXPECT_FALSE(e.send("small"));              // and this one does not wait behind it
    EXPECT_EQ(e.sent_on(small), strings{"small"});
    EXPECT_EQ(e.machine.queued_out(), 1u);
    e.give_room(large, 1);
    EXPECT_EQ(e.sent_on(large), strings{std::string(20, 'x')});
    e.close_pipe(large);
    EXPECT_EQ(e.send(std::string(20, 'x')), errc::message_too_large);
}

TEST(push, what_never_reached_the_wire_goes_to_the_others_first_and_in_order)
{
    pusher e(push_options{.queue = three});
    const auto dying = e.add_pipe();
    e.give_room(dying, 3);
    e.jam(dying);
    for (const auto *m : {"a", "b", "c", "d", "e", "f"})
        ASSERT_FALSE(e.send(m));
    EXPECT_EQ(e.machine.queued_out(), 3u);
    e.close_pipe(dying);
    EXPECT_EQ(e.machine.queued_out(), 6u); // whatever the bounds are
    EXPECT_EQ(e.send("g"), errc::would_block);
    EXPECT_EQ(e.count(stat::socket_failovers), 3);
    e.give_room(e.add_pipe(), 9);
    EXPECT_EQ(bodies(e), (strings{"a", "b", "c", "d", "e", "f"}));
    EXPECT_EQ(e.frames_held(), 0u);
}

TEST(push, what_comes_back_goes_out_at_once_when_another_is_ready)
{
    pusher e(push_options{}); // no queue
    const auto dying = e.add_pipe(), well = e.add_pipe();
    e.give_room(dying, 1);
    e.jam(dying);
    ASSERT_FALSE(e.send("a"));
    e.give_room(well, 1);
    e.close_pipe(dying);
    EXPECT_EQ(e.sent_on(well), strings{"a"});
}

TEST(push, takes_back_as_many_as_it_remembers_and_counts_the_others)
{
    pusher e(push_options{});
    const auto dying = e.add_pipe();
    const auto more = distributor::remembered_max + 5;
    e.give_room(dying, more);
    e.jam(dying);
    for (std::size_t i = 0; i < more; ++i)
        ASSERT_FALSE(e.send(std::to_string(i)));
    e.close_pipe(dying);
    EXPECT_EQ(e.count(stat::socket_pipe_closed, dying), 5);
    e.give_room(e.add_pipe(), 100);
    ASSERT_EQ(e.wire.size(), distributor::remembered_max);
    EXPECT_EQ(e.wire[0].body, "5");
}

TEST(push, ignores_what_a_peer_sends_and_keeps_the_pipe)
{
    pusher e(push_options{});
    const auto p = e.add_pipe();
    e.receive(p, "surprise");
    EXPECT_EQ(e.count(stat::socket_unexpected, p), 1);
    EXPECT_TRUE(e.closed.empty());
    EXPECT_EQ(e.withheld(p), 0);
    e.give_room(p, 1);
    EXPECT_FALSE(e.send("still here"));
}

TEST(push, counts_what_is_queued_when_it_closes)
{
    pusher e(push_options{.queue = {.bytes = 1 << 20}});
    for (int i = 0; i < 100; ++i)
        ASSERT_FALSE(e.send("x"));
    EXPECT_EQ(e.close(), 100u);
    EXPECT_EQ(e.count(stat::socket_closed), 100);
    EXPECT_EQ(e.frames_held(), 0u);
}

// A thousand messages leave in one go although a call has room for few effects.
TEST(push, drains_a_long_queue_through_many_pipes)
{
    pusher e(push_options{.queue = {.bytes = 1 << 20}});
    for (int i = 0; i < 1000; ++i)
        ASSERT_FALSE(e.send(std::to_string(i)));
    for (int i = 0; i < 100; ++i)
        e.give_room(e.add_pipe(), 10);
    EXPECT_EQ(e.wire.size(), 1000u);
    EXPECT_EQ(e.machine.queued_out(), 0u);
}

// Pipes come, jam and go; every accepted message that no policy dropped goes out exactly once.
TEST(push, gives_every_message_to_exactly_one_pipe_whatever_comes_and_goes)
{
    const auto seed = std::random_device{}();
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    for (int round = 0; round < 30; ++round) {
        pusher e(push_options{
            .queue = {.bytes = random() % 3 == 0 ? 0 : random() % 2000, .messages = random() % 8}});
        std::vector<pipe_id> pipes;
        std::set<std::string> accepted;
        for (int i = 0; i < 300; ++i) {
            const auto dice = random() % 20;
            const auto any = pipes.empty() ? no_pipe : pipes[random() % pipes.size()];
            if (dice == 0)
                pipes.push_back(e.add_pipe(random() % 4 == 0 ? 20 : 1000));
            else if (dice == 1 && any != no_pipe)
                e.jam(any);
            else if (dice == 2 && any != no_pipe)
                std::erase(pipes, any), e.close_pipe(any);
            else if (dice < 9 && any != no_pipe)
                e.give_room(any, 1 + random() % 3);
            else if (auto body = std::to_string(i) + std::string(random() % 40, '.');
                     dice >= 9 && !e.send(body))
                accepted.insert(body);
        }
        for (const auto p : pipes)
            e.close_pipe(p);
        e.give_room(e.add_pipe(1000), 1000);
        std::set<std::string> sent;
        for (const auto &s : e.wire)
            EXPECT_TRUE(sent.insert(s.body).second) << s.body << " twice";
        // Only a pipe that held more than can come back has lost some, and has counted them.
        EXPECT_TRUE(std::ranges::includes(accepted, sent));
        EXPECT_EQ(sent.size() + static_cast<std::size_t>(e.count(stat::socket_pipe_closed)),
                  accepted.size());
        EXPECT_EQ(e.frames_held(), 0u);
    }
}

} // namespace
