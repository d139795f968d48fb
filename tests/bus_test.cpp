// SPDX-License-Identifier: BSD-2-Clause
//
// The BUS machine with made-up pipes. The engine's part checks books and frames after every step.
#include "userspace/protocol/bus.hpp"

#include "tests/support/machine.hpp"

#include <random>

namespace {

using namespace sp::protocol;
using sp::stat;
using member = sp::test::machine_engine<bus_machine>;
using strings = std::vector<std::string>;

constexpr queue_bounds two{.bytes = 1 << 20, .messages = 2};

TEST(bus, sends_to_all_peers_and_never_to_itself)
{
    member e(bus_options{});
    const auto a = e.add_pipe(), b = e.add_pipe();
    e.give_room(a, 1);
    e.give_room(b, 1);
    e.send("hello");
    EXPECT_EQ(e.sent_on(a), strings{"hello"});
    EXPECT_EQ(e.sent_on(b), strings{"hello"});
    EXPECT_FALSE(e.machine.waiting());
}

TEST(bus, passes_nothing_on)
{
    member e(bus_options{});
    const auto a = e.add_pipe(), b = e.add_pipe();
    e.give_room(a, 1);
    e.give_room(b, 1);
    e.receive(a, "hello");
    EXPECT_TRUE(e.wire.empty());
}

TEST(bus, says_no_peer_when_it_is_alone)
{
    member e(bus_options{});
    e.send("x");
    EXPECT_EQ(e.count(stat::socket_no_peer), 1);
}

TEST(bus, hands_over_what_came_in_order_and_names_its_pipe)
{
    member e(bus_options{});
    const auto a = e.add_pipe(), b = e.add_pipe();
    e.receive(a, "1");
    e.receive(b, "2");
    EXPECT_EQ(e.withheld(a), 0);
    ASSERT_EQ(e.take(), "1");
    EXPECT_EQ(e.last_taken->pipe, a);
    EXPECT_EQ(e.last_taken->header_bytes, 0u);
    ASSERT_EQ(e.take(), "2");
    EXPECT_EQ(e.last_taken->pipe, b);
    EXPECT_EQ(e.take(), std::nullopt);
    EXPECT_EQ(e.frames_held(), 0u);
}

TEST(bus, drops_the_newest_of_both_queues_unless_told_otherwise)
{
    member e(bus_options{.send = two, .recv = two});
    const auto pipe = e.add_pipe();
    for (const auto *text : {"1", "2", "3"}) {
        e.send(text);
        e.receive(pipe, text);
    }
    EXPECT_EQ(e.count(stat::socket_send_full, pipe), 1);
    EXPECT_EQ(e.count(stat::socket_recv_full, pipe), 1);
    EXPECT_EQ(e.withheld(pipe), 0) << "a dropped message gives its credit back";
    e.give_room(pipe, 9);
    EXPECT_EQ(e.sent_on(pipe), (strings{"1", "2"}));
    EXPECT_EQ(e.take(), "1");
    EXPECT_EQ(e.take(), "2");
}

TEST(bus, drops_the_oldest_that_came_when_told_so)
{
    member e(bus_options{.recv = two, .on_recv_full = overflow::drop_oldest});
    const auto quick = e.add_pipe(), slow = e.add_pipe();
    e.receive(slow, "1");
    e.receive(quick, "2");
    e.receive(quick, "3");
    EXPECT_EQ(e.count(stat::socket_recv_full, slow), 1) << "on the pipe that it came by";
    EXPECT_EQ(e.take(), "2");
}

TEST(bus, that_blocks_keeps_the_credit_of_what_exceeds_its_queue)
{
    member e(bus_options{.recv = two, .on_recv_full = overflow::block});
    const auto pipe = e.add_pipe();
    for (const auto *text : {"1", "2", "3", "4"})
        e.receive(pipe, text);
    EXPECT_EQ(e.withheld(pipe), 2);
    EXPECT_EQ(e.take(), "1");
    EXPECT_EQ(e.withheld(pipe), 1);
    EXPECT_EQ(e.take(), "2");
    EXPECT_EQ(e.withheld(pipe), 0);
    EXPECT_EQ(e.take(), "3");
    EXPECT_EQ(e.take(), "4");
    EXPECT_EQ(e.count(stat::socket_recv_full), 0);
}

TEST(bus, keeps_what_a_pipe_sent_before_it_went)
{
    member e(bus_options{.recv = two, .on_recv_full = overflow::block});
    const auto pipe = e.add_pipe();
    for (const auto *text : {"1", "2", "3"})
        e.receive(pipe, text);
    e.close_pipe(pipe);
    EXPECT_EQ(e.take(), "1");
    EXPECT_EQ(e.take(), "2");
    EXPECT_EQ(e.take(), "3");
}

TEST(bus, counts_at_close_what_was_not_sent_and_what_was_not_read)
{
    member e(bus_options{});
    const auto pipe = e.add_pipe();
    for (int i = 0; i < 100; ++i) {
        e.send("x");
        e.receive(pipe, "y");
    }
    EXPECT_EQ(e.close(), 100u);
    EXPECT_EQ(e.count(stat::socket_closed, pipe), 100);
    EXPECT_EQ(e.count(stat::socket_unread, pipe), 100);
    EXPECT_EQ(e.frames_held(), 0u);
}

TEST(bus, keeps_order_credit_and_books_whatever_its_peers_do)
{
    const auto seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const auto below = [&](std::size_t n) { return random() % n; };
    for (const auto policy : {overflow::drop_oldest, overflow::drop_newest, overflow::block}) {
        const queue_bounds bounds{.bytes = below(4) * 500, .messages = below(10)};
        member e(bus_options{
            .send = bounds, .recv = bounds, .on_send_full = policy, .on_recv_full = policy});
        std::map<pipe_id, int> last;
        int next = 0;
        const auto some_pipe = [&] {
            return std::next(e.pipes.begin(), static_cast<long>(below(e.pipes.size())))->first;
        };
        for (int step = 0; step < 5000 && !HasFailure(); ++step) {
            const auto what = below(100);
            if (e.pipes.empty() || (what < 3 && e.pipes.size() < 80))
                e.add_pipe();
            else if (what < 5)
                e.close_pipe(some_pipe());
            else if (what < 25)
                e.give_room(some_pipe(), 1 + below(3));
            else if (what < 50)
                e.send(std::string(below(300), 's'));
            else if (const auto pipe = some_pipe(); what < 75 && e.withheld(pipe) < 5)
                e.receive(pipe, std::to_string(next++) + std::string(below(300), '.'));
            else if (const auto text = e.take()) {
                const auto number = std::stoi(*text);
                auto &before = last.try_emplace(e.last_taken->pipe, -1).first->second;
                EXPECT_GT(number, before);
                before = number;
            }
            for (const auto &[pipe, p] : e.pipes)
                EXPECT_TRUE(policy == overflow::block || e.withheld(pipe) == 0);
        }
        if (policy == overflow::block) {
            while (e.take())
                continue;
            for (const auto &[pipe, p] : e.pipes)
                EXPECT_EQ(e.withheld(pipe), 0);
            EXPECT_EQ(e.count(stat::socket_recv_full), 0);
        }
        e.close();
        EXPECT_EQ(e.frames_held(), 0u);
    }
}

} // namespace
