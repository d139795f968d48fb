// SPDX-License-Identifier: BSD-2-Clause
//
// BUS through the public API, over unixgram: what one member sends reaches all direct peers and
// nobody else, whatever the shape of the mesh, and nobody waits for a slow one.
#include "tests/support/roles.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <map>

namespace {

using namespace sp::test;
using sp::errc;
using sp::stat;

class bus_member : public on_one_engine {
protected:
    sp::bus member(const std::string &name, const std::vector<std::string> &peers,
                   sp::options o = {})
    {
        auto made = listens<sp::bus>(std::move(o), name);
        for (const auto &peer : peers)
            (void)must(made.dial(url(peer), patience));
        return made;
    }

    // Everything has arrived that will: a message of each of `from` has come to `at` behind it.
    static std::vector<std::string> heard_until_marks(sp::bus &at, std::size_t senders)
    {
        std::vector<std::string> heard;
        while (senders > 0) {
            auto m = at.recv(patience);
            if (!m) {
                ADD_FAILURE() << told(m.error());
                break;
            }
            if (m->text() == "mark")
                --senders;
            else
                heard.emplace_back(m->text());
        }
        std::ranges::sort(heard);
        return heard;
    }
};

using texts = std::vector<std::string>;

TEST_F(bus_member, sends_with_success_when_it_has_no_peer)
{
    auto alone = must(sp::bus::open(at()));
    must(alone.send("anybody?"));
    EXPECT_EQ(count(stat::socket_accepted), 1u);
    EXPECT_EQ(count(stat::socket_no_peer), 1u);
    EXPECT_EQ(engine().frames_in_use(), 0u);
}

TEST_F(bus_member, reaches_every_direct_peer)
{
    auto hub = member("hub", {});
    std::vector<sp::bus> peers;
    for (int i = 0; i < 5; ++i)
        peers.push_back(dials<sp::bus>({}, "hub"));
    must(hub.wait_peers(5, patience));
    must(hub.send("to all"));
    for (auto &peer : peers)
        EXPECT_EQ(text_of(peer.recv(patience)), "to all");
}

TEST_F(bus_member, does_not_hear_itself)
{
    auto a = member("a", {});
    auto b = member("b", {"a"});
    must(a.wait_peers(1, patience));
    must(a.send("from a"));
    must(b.send("mark"));
    EXPECT_EQ(heard_until_marks(a, 1), texts{});
    EXPECT_FALSE(a.try_recv());
    EXPECT_EQ(text_of(b.recv(patience)), "from a");
    EXPECT_FALSE(b.try_recv());
}

TEST_F(bus_member, sends_and_receives_whichever_end_dialed)
{
    auto listener = member("listener", {});
    auto dialer = dials<sp::bus>({}, "listener");
    must(listener.wait_peers(1, patience));
    must(listener.send("from the listener"));
    must(dialer.send("from the dialer"));
    EXPECT_EQ(text_of(listener.recv(patience)), "from the dialer");
    EXPECT_EQ(text_of(dialer.recv(patience)), "from the listener");
}

TEST_F(bus_member, drops_for_a_slow_peer_what_the_others_receive)
{
    // The slow one pushes back after one message; the sender keeps one for it and drops the rest.
    auto hub = member("hub", {}, {.send_queue_messages = 1});
    auto slow = dials<sp::bus>(
        {.recv_queue_messages = 1, .on_recv_full = sp::when_full::block, .credit_messages = 1},
        "hub");
    auto quick = dials<sp::bus>({}, "hub");
    must(hub.wait_peers(2, patience));
    for (int i = 0; i < 100; ++i) {
        must(hub.send(std::to_string(i)));
        EXPECT_EQ(text_of(quick.recv(patience)), std::to_string(i));
    }
    EXPECT_GT(count(stat::socket_send_full), 50u);
    EXPECT_EQ(text_of(slow.recv(patience)), "0"); // the newest are dropped
}

TEST_F(bus_member, receives_from_any_peer)
{
    auto hub = member("hub", {});
    auto one = member("one", {"hub"}), two = member("two", {"hub"});
    must(hub.wait_peers(2, patience));
    must(one.send("from one"));
    must(two.send("from two"));
    texts heard;
    std::map<sp::pipe_id, int> pipes;
    for (int i = 0; i < 2; ++i) {
        const auto m = must(hub.recv(patience));
        heard.emplace_back(m.text());
        ++pipes[m.pipe()];
    }
    std::ranges::sort(heard);
    EXPECT_EQ(heard, (texts{"from one", "from two"}));
    EXPECT_EQ(pipes.size(), 2u);
}

TEST_F(bus_member, stops_receiving_when_its_time_is_over)
{
    auto a = member("a", {});
    EXPECT_EQ(said(a.recv(1ms)), "timed_out");
    EXPECT_EQ(said(a.recv(0s)), "would_block");
    EXPECT_FALSE(a.try_recv());
    auto hurried = must(sp::bus::open(at({.recv_timeout = 1ms})));
    EXPECT_EQ(said(hurried.recv()), "timed_out");
}

TEST_F(bus_member, goes_without_harm_to_the_others)
{
    auto a = member("a", {});
    std::optional<sp::bus> b = member("b", {"a"});
    auto c = member("c", {"a", "b"});
    std::jthread waits([&] { EXPECT_EQ(said(b->recv()), "closed"); });
    b->close();
    waits.join();
    EXPECT_EQ(said(b->send("?")), "closed");
    EXPECT_EQ(said(b->recv()), "closed");
    b.reset();
    until([&] { return a.peers() == 1 && c.peers() == 1; });
    must(a.send("still here"));
    EXPECT_EQ(text_of(c.recv(patience)), "still here");
}

TEST_F(bus_member, hears_everybody_in_a_full_mesh)
{
    std::array members{member("0", {}), member("1", {"0"}), member("2", {"0", "1"})};
    for (auto &m : members)
        must(m.wait_peers(2, patience));
    for (std::size_t i = 0; i < members.size(); ++i) {
        must(members[i].send("from " + std::to_string(i)));
        must(members[i].send("mark"));
    }
    EXPECT_EQ(heard_until_marks(members[0], 2), (texts{"from 1", "from 2"}));
    EXPECT_EQ(heard_until_marks(members[1], 2), (texts{"from 0", "from 2"}));
    EXPECT_EQ(heard_until_marks(members[2], 2), (texts{"from 0", "from 1"}));
}

TEST_F(bus_member, forwards_nothing_along_a_chain)
{
    auto a = member("a", {});
    auto b = member("b", {"a"});
    auto c = member("c", {"b"});
    must(b.wait_peers(2, patience));
    must(a.send("from a"));
    must(c.send("from c"));
    must(a.send("mark"));
    must(c.send("mark"));
    EXPECT_EQ(heard_until_marks(b, 2), (texts{"from a", "from c"}));
    must(b.send("mark"));
    EXPECT_EQ(heard_until_marks(a, 1), texts{});
    EXPECT_EQ(heard_until_marks(c, 1), texts{});
}

TEST_F(bus_member, at_the_hub_hears_all_and_at_a_spoke_the_hub_only)
{
    auto hub = member("hub", {});
    std::vector<sp::bus> spokes;
    for (int i = 0; i < 4; ++i)
        spokes.push_back(dials<sp::bus>({}, "hub"));
    must(hub.wait_peers(4, patience));
    for (std::size_t i = 0; i < spokes.size(); ++i) {
        must(spokes[i].send("from " + std::to_string(i)));
        must(spokes[i].send("mark"));
    }
    EXPECT_EQ(heard_until_marks(hub, 4), (texts{"from 0", "from 1", "from 2", "from 3"}));
    must(hub.send("from the hub"));
    must(hub.send("mark"));
    for (auto &spoke : spokes)
        EXPECT_EQ(heard_until_marks(spoke, 1), texts{"from the hub"});
}

TEST_F(bus_member, may_broadcast_from_several_threads_while_others_do)
{
    static constexpr int threads_each = 2, messages_each = 100;
    std::array members{member("0", {}), member("1", {"0"}), member("2", {"0", "1"})};
    for (auto &m : members)
        must(m.wait_peers(2, patience));
    std::array<std::atomic<int>, 3> received{};
    {
        std::vector<std::jthread> threads;
        for (std::size_t i = 0; i < members.size(); ++i) {
            for (int t = 0; t < threads_each; ++t)
                threads.emplace_back([&, i] {
                    for (int n = 0; n < messages_each; ++n)
                        EXPECT_TRUE(members[i].send("round " + std::to_string(n)));
                });
            threads.emplace_back([&, i] {
                for (int n = 0; n < 2 * threads_each * messages_each; ++n)
                    received[i] += members[i].recv(patience).has_value();
            });
        }
    }
    for (const auto &n : received)
        EXPECT_EQ(n, 2 * threads_each * messages_each);
    EXPECT_EQ(count(stat::socket_send_full) + count(stat::socket_recv_full), 0u);
}

TEST_F(bus_member, says_by_what_a_message_came_and_takes_batches)
{
    auto a = member("a", {});
    auto b = member("b", {"a"});
    const std::array<sp::payload, 3> three{"1", "2", "3"};
    EXPECT_EQ(must(b.send_batch(three)), 3u);
    auto loan = must(b.loan(8));
    std::ranges::copy(std::as_bytes(std::span("4", 1)), loan.body().begin());
    loan.shrink(1);
    must(b.send(std::move(loan)));
    texts heard;
    while (heard.size() < 4) {
        std::array<sp::message, 8> batch;
        const auto n = must(a.recv_batch(batch, patience));
        for (const auto &m : std::span(batch).first(n)) {
            EXPECT_EQ(m.transport(), "unixgram");
            heard.emplace_back(m.text());
        }
    }
    EXPECT_EQ(heard, (texts{"1", "2", "3", "4"}));
    std::array<sp::message, 8> batch;
    EXPECT_EQ(a.try_recv_batch(batch), 0u);
}

} // namespace
