// SPDX-License-Identifier: BSD-2-Clause
//
// Conformance of PUB and SUB, PUSH and PULL on byte streams: the scenarios T1 to T3 and L1 to L4.
#include "tests/interop/scene.hpp"

#include <algorithm>
#include <poll.h>
#include <set>

namespace sp::test {
namespace {

using topic_scenario = scene;

TEST_F(topic_scenario, t1_every_reader_gets_every_message_once_and_finds_its_topics_in_them)
{
    auto pub = open<sp::pub>();
    const std::vector<std::string> topics{"", "a", "ab"};
    std::vector<byte_peer> readers;
    for (std::size_t i = 0; i < topics.size(); ++i)
        readers.push_back(joined(pub));
    const std::vector<std::string> all{"", "a", "ab", "abc", "b", "ba", "aab", "ab"};
    for (const auto &m : all)
        must(pub.send(m));
    // On a stream nobody tells a publisher what is subscribed to: each reader filters for itself.
    for (std::size_t i = 0; i < topics.size(); ++i) {
        std::vector<std::string> matching, expected;
        for (const auto &m : all) {
            if (const auto came = readers[i].receive_frame(); came.starts_with(topics[i]))
                matching.push_back(came);
            if (m.starts_with(topics[i]))
                expected.push_back(m);
        }
        EXPECT_EQ(matching, expected) << "topic " << topics[i];
        EXPECT_TRUE(readers[i].silent());
    }
    expect_balance(pub);
}

TEST_F(topic_scenario, t1_a_burst_to_a_reader_that_reads_is_delivered_whole)
{
    auto pub = open<sp::pub>();
    auto reader = joined(pub);
    const auto body = wire::body(64);
    for (int i = 0; i < 1000; ++i)
        must(pub.send(body));
    for (int i = 0; i < 1000; ++i)
        ASSERT_EQ(reader.receive_frame(), body);
    EXPECT_EQ(pub.statistics()[stat::socket_send_full], 0u);
    expect_balance(pub);
}

TEST_F(topic_scenario, t1_a_reader_that_stops_loses_the_oldest_and_the_other_nothing)
{
    auto pub = open<sp::pub>({.send_queue_bytes = 64 * 1024});
    auto stuck = joined(pub);
    auto quick = joined(pub);
    const auto body = wire::body(8192);
    for (int i = 0; i < 300; ++i) {
        must(pub.send(std::to_string(1000 + i) + body));
        ASSERT_EQ(quick.receive_frame().substr(0, 4), std::to_string(1000 + i));
    }
    const auto lost = pub.statistics()[stat::socket_send_full];
    EXPECT_GT(lost, 0u);
    std::vector<std::string> got;
    for (std::uint64_t i = 0; i < 300 - lost; ++i)
        got.push_back(stuck.receive_frame().substr(0, 4));
    EXPECT_TRUE(std::ranges::is_sorted(got));
    EXPECT_EQ(got.front(), "1000");
    EXPECT_EQ(got.back(), "1299") << "the newest is never the one that is dropped";
    EXPECT_TRUE(stuck.silent());
    expect_balance(pub);
}

TEST_F(topic_scenario, t2_only_what_begins_with_a_topic_is_delivered)
{
    auto sub = open<sp::sub>();
    must(sub.subscribe("ab"));
    auto publisher = joined(sub);
    publisher.send(wire::frame("abc") + wire::frame("b") + wire::frame("ab") + wire::frame("a") +
                   wire::frame("abd"));
    EXPECT_EQ(text_of(sub.recv(patience)), "abc");
    EXPECT_EQ(text_of(sub.recv(patience)), "ab");
    EXPECT_EQ(text_of(sub.recv(patience)), "abd");
    EXPECT_EQ(sub.statistics()[stat::socket_filtered], 2u);
    expect_balance(sub);
}

TEST_F(topic_scenario, t2_works_whoever_of_the_two_dials)
{
    byte_door door(ipc("door"));
    {
        auto [publisher, sub] = dialed_to<sp::sub>(door);
        must(sub.subscribe("a"));
        publisher.send(wire::frame("b") + wire::frame("a"));
        EXPECT_EQ(text_of(sub.recv(patience)), "a");
        expect_balance(sub);
    }
    auto [reader, pub] = dialed_to<sp::pub>(door);
    must(pub.send("news"));
    EXPECT_EQ(reader.receive_frame(), "news");
    expect_balance(pub);
}

TEST_F(topic_scenario, t2_without_a_subscription_nothing_is_delivered)
{
    auto sub = open<sp::sub>();
    auto publisher = joined(sub);
    publisher.send(wire::frame("abc") + wire::frame(""));
    wait_count(stat::socket_filtered, 2);
    EXPECT_FALSE(sub.try_recv());
    EXPECT_EQ(sub.unsubscribe("never").error(), errc::not_found);
    expect_balance(sub);
}

TEST_F(topic_scenario, t2_a_topic_that_is_given_up_takes_its_queued_messages_along)
{
    auto sub = open<sp::sub>();
    must(sub.subscribe("a"));
    must(sub.subscribe("b"));
    must(sub.subscribe("b"));
    auto publisher = joined(sub);
    publisher.send(wire::frame("a1") + wire::frame("b1") + wire::frame("a2"));
    wait_count(stat::socket_received, 3);
    must(sub.unsubscribe("a"));
    EXPECT_EQ(text_of(sub.recv(patience)), "b1");
    EXPECT_FALSE(sub.try_recv());
    EXPECT_EQ(sub.statistics()[stat::socket_unsubscribed], 2u);
    must(sub.unsubscribe("b"));
    EXPECT_EQ(sub.unsubscribe("b").error(), errc::not_found) << "twice is once";
    expect_balance(sub);
}

TEST_F(topic_scenario, t2_contexts_have_topics_and_queues_of_their_own)
{
    auto sub = open<sp::sub>();
    auto one = must(sub.open_context());
    auto two = must(sub.open_context());
    must(one.subscribe("a"));
    must(two.subscribe(""));
    auto publisher = joined(sub);
    publisher.send(wire::frame("b") + wire::frame("a"));
    EXPECT_EQ(text_of(two.recv(patience)), "b");
    EXPECT_EQ(text_of(two.recv(patience)), "a");
    EXPECT_EQ(text_of(one.recv(patience)), "a");
    EXPECT_EQ(sub.statistics()[stat::socket_copied_in], 1u);
    EXPECT_EQ(sub.statistics()[stat::socket_filtered], 0u);
    expect_balance(sub);
}

TEST_F(topic_scenario, t3_a_publisher_closes_who_sends_to_it)
{
    auto pub = open<sp::pub>();
    auto good = joined(pub);
    auto bad = joined(pub);
    must(pub.send("before"));
    EXPECT_EQ(good.receive_frame(), "before");
    EXPECT_EQ(bad.receive_frame(), "before");
    bad.send(wire::frame("I have something to say"));
    EXPECT_TRUE(bad.ended());
    wait_count(stat::pipe_unexpected, 1);
    wait_peers_gone(pub, 1);
    must(pub.send("after"));
    EXPECT_EQ(good.receive_frame(), "after");
    expect_balance(pub);
}

class line_scenario : public scene {
protected:
    // Reads frames of text from all peers as they come, until there are `n`; how many of each.
    static std::vector<int> collect(std::vector<byte_peer> &peers, int n,
                                    std::multiset<std::string> &all)
    {
        std::vector<int> each(peers.size());
        while (std::ssize(all) < n) {
            std::vector<pollfd> ready;
            for (const auto &p : peers)
                ready.push_back({p.fd(), POLLIN, 0});
            if (::poll(ready.data(), ready.size(), 30'000) <= 0)
                throw std::runtime_error("nothing came");
            for (std::size_t i = 0; i < peers.size(); ++i)
                if (ready[i].revents & POLLIN) {
                    all.insert(peers[i].receive_frame());
                    ++each[i];
                }
        }
        return each;
    }
};

TEST_F(line_scenario, l1_each_message_goes_to_one_worker_and_all_get_their_share)
{
    constexpr int messages = 10'000;
    auto push = open<sp::push>();
    std::vector<byte_peer> workers;
    for (int i = 0; i < 3; ++i)
        workers.push_back(joined(push));
    std::multiset<std::string> all;
    auto collected =
        std::async(std::launch::async, [&] { return collect(workers, messages, all); });
    for (int i = 0; i < messages; ++i)
        must(push.send(std::to_string(i), patience));
    const auto each = collected.get();
    for (const auto n : each)
        EXPECT_GE(n, messages / 4) << "an unfair share";
    EXPECT_EQ(std::set<std::string>(all.begin(), all.end()).size(), all.size()) << "one came twice";
    for (const auto &worker : workers)
        EXPECT_TRUE(worker.silent());
    EXPECT_EQ(push.statistics()[stat::socket_sent], static_cast<std::uint64_t>(messages));
    expect_balance(push);
}

TEST_F(line_scenario, l1_a_worker_that_does_not_read_is_skipped)
{
    auto push = open<sp::push>();
    std::vector<byte_peer> workers;
    for (int i = 0; i < 2; ++i)
        workers.push_back(joined(push));
    const auto body = wire::body(8192);
    auto sent = std::async(std::launch::async, [&] {
        for (int i = 0; i < 1000; ++i)
            must(push.send(std::to_string(1000 + i) + body, patience));
    });
    // One of them reads nothing until the other has done nine tenths of the work.
    std::multiset<std::string> all;
    for (int i = 0; i < 900; ++i)
        all.insert(workers[1].receive_frame());
    (void)collect(workers, 1000, all);
    sent.get();
    EXPECT_EQ(std::set<std::string>(all.begin(), all.end()).size(), 1000u) << "one came twice";
    expect_balance(push);
}

TEST_F(line_scenario, l2_without_a_worker_it_would_block_and_times_out)
{
    auto push = open<sp::push>();
    EXPECT_EQ(push.send("a", 0s).error(), errc::would_block);
    EXPECT_FALSE(push.try_send("a"));
    EXPECT_EQ(push.send("a", 10ms).error(), errc::timed_out);
    expect_balance(push);
    auto waits = std::async(std::launch::async, [&] { return push.send("b", patience); });
    auto worker = joined(push);
    EXPECT_EQ(worker.receive_frame(), "b") << "what timed out is not sent";
    EXPECT_TRUE(waits.get());
    expect_balance(push);
}

TEST_F(line_scenario, l2_what_is_queued_goes_to_the_first_worker_in_order)
{
    auto push = open<sp::push>({.send_queue_bytes = 100'000});
    for (int i = 0; i < 100; ++i)
        must(push.send(std::to_string(i), 0s));
    EXPECT_EQ(push.queued(), 100u);
    expect_balance(push);
    auto worker = joined(push);
    for (int i = 0; i < 100; ++i)
        EXPECT_EQ(worker.receive_frame(), std::to_string(i));
    expect_balance(push);
}

TEST_F(line_scenario, l2_what_is_not_on_the_wire_when_a_worker_goes_is_for_the_next)
{
    auto push = open<sp::push>({.send_queue_bytes = 1u << 20});
    auto first = joined(push);
    const auto body = wire::body(4096);
    int sent = 0;
    for (; sent < 100; ++sent)
        must(push.send(body + std::to_string(sent), 0s));
    EXPECT_TRUE(first.receive_frame() == body + "0");
    first.close();
    wait_peers_gone(push);
    auto second = joined(push);
    must(push.send("the last", patience));
    int next = -1, came = 0;
    for (;; ++came) {
        const auto m = second.receive_frame();
        if (m == "the last")
            break;
        const auto n = std::stoi(m.substr(body.size()));
        EXPECT_GT(n, next) << "out of order";
        next = n;
    }
    EXPECT_EQ(next, 99);
    EXPECT_GT(came, 50) << "more was lost than a kernel holds";
    expect_balance(push);
}

TEST_F(line_scenario, l3_what_a_worker_sends_is_dropped_and_its_pipe_stays)
{
    auto push = open<sp::push>();
    auto worker = joined(push);
    worker.send(wire::frame("thank you") + wire::frame(""));
    wait_count(stat::socket_unexpected, 2);
    must(push.send("work", patience));
    EXPECT_EQ(worker.receive_frame(), "work");
    EXPECT_EQ(push.peers(), 1u);
    expect_balance(push);
}

TEST_F(line_scenario, l3_works_whoever_of_the_two_dials)
{
    byte_door door(ipc("door"));
    {
        auto [worker, push] = dialed_to<sp::push>(door);
        must(push.send("work", patience));
        EXPECT_EQ(worker.receive_frame(), "work");
        expect_balance(push);
    }
    auto [pusher, pull] = dialed_to<sp::pull>(door);
    pusher.send(wire::frame("work"));
    EXPECT_EQ(text_of(pull.recv(patience)), "work");
    expect_balance(pull);
}

TEST_F(line_scenario, l4_two_pushers_are_heard_in_turn)
{
    auto pull = open<sp::pull>();
    auto one = joined(pull);
    auto two = joined(pull);
    std::string ones, twos;
    for (int i = 0; i < 200; ++i) {
        ones += wire::frame("one");
        twos += wire::frame("two");
    }
    one.send(ones);
    two.send(twos);
    wait_count(stat::socket_received, 2);
    int lead = 0;
    for (int i = 0; i < 400; ++i) {
        const auto m = text_of(pull.recv(patience));
        lead += m == "one" ? 1 : m == "two" ? -1 : 1000;
        ASSERT_LE(std::abs(lead), 2) << "after " << i;
    }
    EXPECT_EQ(lead, 0);
    expect_balance(pull);
}

} // namespace
} // namespace sp::test
