// SPDX-License-Identifier: BSD-2-Clause
//
// PUB/SUB through the public API, over unixgram: topics, contexts with topics of their own, and
// what a burst and a slow subscriber cost whom.
#include "tests/support/roles.hpp"

#include <algorithm>
#include <array>
#include <atomic>

namespace {

using namespace sp::test;
using sp::stat;

class pub_and_sub : public on_one_engine {};

using texts = std::vector<std::string>;

texts texts_of(const std::vector<sp::message> &messages)
{
    texts all;
    for (const auto &m : messages)
        all.emplace_back(m.text());
    return all;
}

template <class Receiver>
texts take(Receiver &receiver, std::size_t count)
{
    std::vector<sp::message> messages;
    while (messages.size() < count)
        messages.push_back(must(receiver.recv(patience)));
    return texts_of(messages);
}

TEST_F(pub_and_sub, deliver_what_begins_with_a_topic_and_nothing_else)
{
    auto pub = listens<sp::pub>();
    auto sub = dials<sp::sub>();
    must(pub.wait_peers(1, patience));
    must(pub.send("price.A 0"));
    must(pub.send("last"));
    until([&] { return count(stat::socket_filtered) == 2; }); // no subscription, nothing
    EXPECT_FALSE(sub.try_recv());
    must(sub.subscribe("price."));
    must(sub.subscribe("price.")); // twice is once
    must(sub.subscribe("last"));
    for (const auto *text : {"price.A 1", "news", "price.B 2", "pric", "last"})
        must(pub.send(text));
    EXPECT_EQ(take(sub, 3), (texts{"price.A 1", "price.B 2", "last"}));
    must(sub.unsubscribe("price."));
    EXPECT_EQ(said(sub.unsubscribe("price.")), "not_found");
    must(pub.send("price.A 3"));
    must(pub.send("last"));
    EXPECT_EQ(take(sub, 1), texts{"last"});
    must(sub.subscribe("")); // everything
    must(pub.send("anything"));
    EXPECT_EQ(take(sub, 1), texts{"anything"});
}

TEST_F(pub_and_sub, purge_what_is_no_longer_wanted)
{
    auto pub = listens<sp::pub>();
    auto sub = dials<sp::sub>();
    must(sub.subscribe("a"));
    must(sub.subscribe("b"));
    must(pub.wait_peers(1, patience));
    for (const auto *text : {"a1", "b1", "a2"})
        must(pub.send(text));
    until([&] { return count(stat::socket_received) == 3; });
    must(sub.unsubscribe("a"));
    EXPECT_EQ(count(stat::socket_unsubscribed), 2u);
    EXPECT_EQ(take(sub, 1), texts{"b1"});
    EXPECT_FALSE(sub.try_recv());
}

TEST_F(pub_and_sub, reach_every_subscriber)
{
    auto pub = listens<sp::pub>();
    std::vector<sp::sub> subs;
    for (int i = 0; i < 5; ++i) {
        subs.push_back(dials<sp::sub>());
        must(subs.back().subscribe(""));
    }
    must(pub.wait_peers(5, patience));
    const std::array<sp::payload, 3> three{"1", "2", "3"};
    EXPECT_EQ(must(pub.send_batch(three)), 3u);
    auto loan = must(pub.loan(10));
    loan.body()[0] = std::byte{'4'};
    loan.shrink(1);
    must(pub.send(std::move(loan)));
    EXPECT_EQ(said(pub.send(std::move(loan))), "invalid_argument");
    for (auto &sub : subs)
        EXPECT_EQ(take(sub, 4), (texts{"1", "2", "3", "4"}));
    EXPECT_EQ(count(stat::socket_accepted), 4u);
    EXPECT_EQ(count(stat::socket_delivered), 20u);
}

TEST_F(pub_and_sub, have_contexts_with_topics_and_queues_of_their_own)
{
    auto pub = listens<sp::pub>();
    auto sub = dials<sp::sub>();
    auto a = must(sub.open_context()), b = must(sub.open_context());
    must(sub.subscribe("x"));
    must(a.subscribe("x"));
    must(a.subscribe("a"));
    must(b.subscribe("b"));
    must(pub.wait_peers(1, patience));
    for (const auto *text : {"a1", "b1", "x1"})
        must(pub.send(text));
    EXPECT_EQ(take(sub, 1), texts{"x1"});
    EXPECT_EQ(take(a, 2), (texts{"a1", "x1"}));
    std::array<sp::message, 4> batch;
    EXPECT_EQ(must(b.recv_batch(batch, patience)), 1u);
    EXPECT_EQ(batch[0].text(), "b1");
    EXPECT_EQ(b.try_recv_batch(batch), 0u);
    EXPECT_EQ(said(a.recv(1ms)), "timed_out");
    EXPECT_FALSE(a.try_recv());
    EXPECT_EQ(said(a.unsubscribe("b")), "not_found");
    a = std::move(b); // ends the one that was there
    must(pub.send("a2"));
    must(pub.send("b2"));
    EXPECT_EQ(take(a, 1), texts{"b2"});
}

// The contexts share the buffers; threads give them back at the same time.
TEST_F(pub_and_sub, give_shared_buffers_back_from_many_threads)
{
    static constexpr int messages = 2000;
    auto pub = listens<sp::pub>();
    auto sub = dials<sp::sub>();
    std::vector<sp::sub_context> contexts;
    for (int i = 0; i < 3; ++i) {
        contexts.push_back(must(sub.open_context()));
        must(contexts.back().subscribe(""));
    }
    must(pub.wait_peers(1, patience));
    {
        std::vector<std::jthread> threads;
        for (auto &context : contexts)
            threads.emplace_back([&context] {
                std::vector<sp::message> held; // so that several are given back at once
                for (int n = 0; n < messages; ++n) {
                    held.push_back(must(context.recv(patience)));
                    EXPECT_EQ(held.back().text(), std::to_string(n));
                    if (held.size() == 10)
                        held.clear();
                }
            });
        for (int n = 0; n < messages; ++n)
            must(pub.send(std::to_string(n)));
    }
    EXPECT_EQ(engine().frames_in_use(), 0u);
}

TEST_F(pub_and_sub, lose_nothing_of_a_burst_to_a_live_subscriber)
{
    static constexpr int messages = 10'000;
    auto pub = listens<sp::pub>();
    auto sub = dials<sp::sub>({.recv_queue_bytes = 2 << 20}); // if the reader has no CPU meanwhile
    must(sub.subscribe(""));
    must(pub.wait_peers(1, patience));
    std::jthread reader([&] {
        for (int i = 0; i < messages; ++i) {
            const auto m = sub.recv(patience);
            ASSERT_TRUE(m) << "after " << i << ": " << told(m.error());
            ASSERT_EQ(m->size(), 64u);
            ASSERT_EQ(std::stoi(std::string(m->text())), i);
        }
    });
    std::string body(64, ' ');
    for (int i = 0; i < messages; ++i) {
        auto number = std::to_string(i);
        std::ranges::copy(number, body.begin());
        must(pub.send(body));
    }
    reader.join();
    EXPECT_EQ(count(stat::socket_send_full), 0u);
    EXPECT_EQ(count(stat::socket_recv_full), 0u);
    EXPECT_EQ(count(stat::socket_delivered), static_cast<std::uint64_t>(messages));
}

TEST_F(pub_and_sub, keep_the_last_message_only_if_so_wished)
{
    auto pub = listens<sp::pub>();
    auto sub = dials<sp::sub>({.recv_queue_messages = 1});
    must(sub.subscribe(""));
    must(pub.wait_peers(1, patience));
    for (int i = 0; i < 10; ++i)
        must(pub.send(std::to_string(i)));
    until([&] { return count(stat::socket_received) == 10; });
    EXPECT_EQ(take(sub, 1), texts{"9"});
    EXPECT_EQ(count(stat::socket_recv_full), 9u);
}

TEST_F(pub_and_sub, wait_for_a_slow_one_as_long_as_they_are_told_and_drop_then)
{
    auto pub = listens<sp::pub>(
        {.send_queue_messages = 1, .on_send_full = sp::when_full::block, .send_timeout = 1ms});
    auto sub = dials<sp::sub>(
        {.recv_queue_messages = 1, .on_recv_full = sp::when_full::block, .credit_messages = 1});
    must(sub.subscribe(""));
    must(pub.wait_peers(1, patience));
    int sent = 0;
    while (count(stat::socket_send_full) == 0) {
        must(pub.send(std::to_string(sent++)));
        ASSERT_LT(sent, 1000);
    }
    // All but the newest are on their way, in order.
    EXPECT_EQ(numbers_from(sub, static_cast<std::size_t>(sent) - 1), numbers_up_to(sent - 1));
    auto patient = listens<sp::pub>(
        {.send_queue_messages = 1, .on_send_full = sp::when_full::block}, "patient");
    auto reader = dials<sp::sub>(
        {.recv_queue_messages = 1, .on_recv_full = sp::when_full::block, .credit_messages = 1},
        "patient");
    must(reader.subscribe(""));
    must(patient.wait_peers(1, patience));
    std::jthread sender([&] {
        for (int i = 0; i < 200; ++i)
            EXPECT_TRUE(patient.send(std::to_string(i)));
    });
    EXPECT_EQ(numbers_from(reader, 200), numbers_up_to(200));
}

TEST_F(pub_and_sub, count_what_nobody_hears_and_what_finds_no_memory)
{
    sp::engine_options small;
    small.memory_max = 256 << 10;
    open_engine(small);
    auto pub = must(sp::pub::open(at()));
    must(pub.send("nobody"));
    EXPECT_EQ(count(stat::socket_no_peer), 1u);
    std::vector<sp::loan> held;
    for (;;) {
        auto loan = pub.loan(60000);
        if (!loan) {
            EXPECT_EQ(said(loan), "would_block");
            break;
        }
        held.push_back(std::move(*loan));
    }
    must(pub.send(std::string(60000, 'x')));
    EXPECT_EQ(count(stat::socket_memory), 1u);
    EXPECT_EQ(said(pub.send(std::string((1 << 20) + 1, 'x'))), "message_too_large");
}

TEST_F(pub_and_sub, end_their_waits_when_they_are_closed)
{
    auto pub = must(sp::pub::open(at()));
    auto sub = must(sp::sub::open(at()));
    auto context = must(sub.open_context());
    std::jthread one([&] { EXPECT_EQ(said(sub.recv()), "closed"); });
    std::jthread two([&] { EXPECT_EQ(said(context.recv()), "closed"); });
    sub.close();
    pub.close();
    EXPECT_EQ(said(pub.send("?")), "closed");
    EXPECT_EQ(said(pub.loan(1)), "closed");
    EXPECT_EQ(said(sub.subscribe("?")), "closed");
    EXPECT_EQ(said(context.unsubscribe("?")), "closed");
    EXPECT_EQ(said(sub.open_context()), "closed");
    EXPECT_FALSE(sub.try_recv());
}

} // namespace
