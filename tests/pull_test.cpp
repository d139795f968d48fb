// SPDX-License-Identifier: BSD-2-Clause
//
// The PULL machine: fair among its pipes, and a peer's credit returns when its message is taken.
#include "tests/support/machine.hpp"
#include "userspace/protocol/pull.hpp"

#include <gtest/gtest.h>
#include <random>

namespace {

using namespace sp::protocol;
using sp::stat;
using puller = sp::test::machine_engine<pull_machine>;

TEST(pull, takes_one_message_per_pipe_in_turn)
{
    puller e;
    const auto flooder = e.add_pipe(), modest = e.add_pipe();
    for (int i = 0; i < 50; ++i)
        e.receive(flooder, "f" + std::to_string(i));
    e.receive(modest, "m0");
    e.receive(modest, "m1");
    for (const auto *expected : {"f0", "m0", "f1", "m1", "f2", "f3"})
        EXPECT_EQ(e.take(), expected);
    EXPECT_EQ(e.last_taken->pipe, flooder);
    EXPECT_EQ(e.last_taken->header_bytes, 0u);
}

TEST(pull, gives_credit_back_when_a_message_is_taken_not_before)
{
    puller e;
    const auto p = e.add_pipe();
    EXPECT_FALSE(e.machine.waiting());
    e.receive(p, "a");
    e.receive(p, "b");
    EXPECT_EQ(e.withheld(p), 2);
    EXPECT_TRUE(e.machine.waiting());
    EXPECT_EQ(e.take(), "a");
    EXPECT_EQ(e.withheld(p), 1);
    EXPECT_EQ(e.take(), "b");
    EXPECT_EQ(e.withheld(p), 0);
    EXPECT_FALSE(e.take());
}

TEST(pull, delivers_empty_messages)
{
    puller e;
    e.receive(e.add_pipe(), "");
    EXPECT_EQ(e.take(), "");
}

TEST(pull, keeps_what_has_come_when_its_pipe_goes)
{
    puller e;
    const auto p = e.add_pipe();
    e.receive(p, "a");
    e.receive(p, "b");
    e.close_pipe(p);
    const auto heir = e.add_pipe(); // at the same place in the engine
    e.receive(heir, "c");
    EXPECT_EQ(e.take(), "a");
    EXPECT_EQ(e.last_taken->pipe, p);
    EXPECT_EQ(e.withheld(heir), 1);
    EXPECT_EQ(e.take(), "c");
    EXPECT_EQ(e.take(), "b");
    EXPECT_EQ(e.withheld(heir), 0);
    EXPECT_FALSE(e.take());
}

TEST(pull, counts_what_nobody_read_when_it_closes)
{
    puller e;
    const auto p = e.add_pipe(), q = e.add_pipe();
    for (int i = 0; i < 100; ++i)
        e.receive(i % 3 == 0 ? p : q, "x");
    e.close_pipe(p);
    EXPECT_EQ(e.close(), 0u); // nothing outgoing
    EXPECT_EQ(e.count(stat::socket_unread), 100);
    EXPECT_EQ(e.count(stat::socket_unread, p), 34);
    EXPECT_EQ(e.machine.queued_in(), 0u);
    EXPECT_EQ(e.frames_held(), 0u);
}

TEST(pull, delivers_everything_in_the_order_of_its_pipe_whatever_comes_and_goes)
{
    const auto seed = std::random_device{}();
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    for (int round = 0; round < 30; ++round) {
        puller e;
        std::vector<pipe_id> pipes;
        std::map<pipe_id, int> come, gone;
        const auto take = [&] {
            const auto text = e.take();
            if (text) {
                EXPECT_EQ(*text, std::to_string(gone[e.last_taken->pipe]++));
            }
            return text.has_value();
        };
        for (int i = 0; i < 400; ++i) {
            const auto dice = random() % 16;
            const auto any = pipes.empty() ? no_pipe : pipes[random() % pipes.size()];
            if (dice == 0)
                pipes.push_back(e.add_pipe());
            else if (dice == 1 && any != no_pipe)
                std::erase(pipes, any), e.close_pipe(any);
            else if (dice < 10 && any != no_pipe)
                e.receive(any, std::to_string(come[any]++));
            else
                take();
        }
        while (take())
            ;
        std::erase_if(come, [](const auto &c) { return c.second == 0; });
        EXPECT_EQ(come, gone);
        for (const auto p : pipes)
            EXPECT_EQ(e.withheld(p), 0);
        EXPECT_EQ(e.frames_held(), 0u);
    }
}

} // namespace
