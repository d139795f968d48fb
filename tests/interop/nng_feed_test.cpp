// SPDX-License-Identifier: BSD-2-Clause
//
// Conformance with libnng: PUB and SUB, the scenarios T1 to T3 and a burst; BUS, B1 and B2.
#include "tests/interop/nng_scene.hpp"

#include <set>

namespace sp::test {
namespace {

using words = std::vector<std::string>;

class nng_feed : public nng_scene {
protected:
    // What a SUB of libnng gets, up to the word that ends it.
    static words heard(nng_peer &n)
    {
        words all;
        for (auto m = n.recv(); m.error == 0 && m.body != "end"; m = n.recv())
            all.push_back(m.body);
        return all;
    }
    template <class Socket>
    static words heard(Socket &s)
    {
        words all;
        for (auto m = s.recv(patience); m && m->text() != "end"; m = s.recv(patience))
            all.emplace_back(m->text());
        return all;
    }
};
INSTANTIATE_TEST_SUITE_P(with, nng_feed, ::testing::ValuesIn(over_ipc), name_of);

TEST_P(nng_feed, t1_subscribers_of_libnng_get_exactly_what_they_want)
{
    auto pub = opened<sp::pub>();
    nng_peer all(nng_role::sub0), a(nng_role::sub0), ab(nng_role::sub0);
    all.subscribe("");
    a.subscribe("a");
    ab.subscribe("ab");
    for (auto *n : {&all, &a, &ab}) {
        n->subscribe("end");
        join(pub, *n);
    }
    for (const char *body : {"abc", "b", "a", "ab", "ba", "", "end"})
        must(pub.send(body));
    EXPECT_EQ(heard(all), (words{"abc", "b", "a", "ab", "ba", ""}));
    EXPECT_EQ(heard(a), (words{"abc", "a", "ab"}));
    EXPECT_EQ(heard(ab), (words{"abc", "ab"}));
    expect_balance(pub);
}

TEST_P(nng_feed, t1_a_burst_of_ours_is_not_lost_here)
{
    auto pub = opened<sp::pub>();
    nng_peer reader(nng_role::sub0);
    reader.subscribe("");
    reader.set(NNG_OPT_RECVBUF, 8192); // as many as libnng can keep
    join(pub, reader);
    for (int i = 0; i < 1000; ++i)
        must(pub.send(std::to_string(i) + std::string(60, '.')));
    must(pub.send("end"));
    EXPECT_EQ(heard(reader).size(), 1000u);
    EXPECT_EQ(pub.statistics()[stat::socket_send_full], 0u);
    expect_balance(pub);
}

TEST_P(nng_feed, t2_subscribers_of_ours_get_exactly_what_they_want)
{
    nng_peer pub(nng_role::pub0);
    auto sub = joined_to<sp::sub>(pub);
    must(sub.subscribe("ab"));
    must(sub.subscribe("end"));
    for (const char *body : {"abc", "b", "ab", "", "end"})
        nng_must(pub.send(body), "publish");
    EXPECT_EQ(heard(sub), (words{"abc", "ab"}));
    EXPECT_EQ(sub.statistics()[stat::socket_filtered], 2u);
    must(sub.unsubscribe("ab"));
    must(sub.subscribe(""));
    auto context = must(sub.open_context());
    must(context.subscribe("x"));
    must(context.subscribe("end"));
    for (const char *body : {"y", "x", "end"})
        nng_must(pub.send(body), "publish");
    EXPECT_EQ(heard(sub), (words{"y", "x"}));
    EXPECT_EQ(heard(context), (words{"x"}));
    expect_balance(sub);
}

TEST_P(nng_feed, t2_a_reader_that_stops_keeps_the_newest)
{
    nng_peer pub(nng_role::pub0);
    auto sub = joined_to<sp::sub>(pub, {.recv_queue_messages = 8});
    must(sub.subscribe(""));
    // One at a time, so that libnng's queue of 16 does not drop any.
    for (std::uint64_t i = 1; i <= 100; ++i) {
        nng_must(pub.send(std::to_string(i)), "publish");
        wait_count(stat::socket_received, i);
    }
    for (int i = 93; i <= 100; ++i)
        expect_message(sub.recv(patience), std::to_string(i));
    EXPECT_EQ(sub.statistics()[stat::socket_recv_full], 92u);
    expect_balance(sub);
}

TEST_P(nng_feed, t3_a_publisher_closes_who_sends_to_it)
{
    auto pub = opened<sp::pub>();
    nng_peer talks(nng_role::pair0), listens(nng_role::sub0);
    listens.subscribe("");
    join(pub, listens);
    // A PAIR is refused by its number; so a raw stream says it is a SUB, and talks.
    const auto where = new_address("ipc");
    (void)must(pub.listen(where));
    auto bad = byte_peer::dial(where);
    bad.send(wire::hello(sub_number) + wire::frame("unasked"));
    EXPECT_EQ(bad.receive(8), wire::hello(pub_number));
    EXPECT_TRUE(bad.ended());
    wait_count(stat::pipe_unexpected, 1);
    must(pub.send("still here"));
    expect_mail(listens.recv(), "still here");
    expect_balance(pub);
}

TEST_P(nng_feed, b1_each_of_a_mesh_gets_what_the_others_send_once_and_nothing_is_forwarded)
{
    auto bus = opened<sp::bus>();
    nng_peer one(nng_role::bus0), two(nng_role::bus0);
    join(bus, one);
    join(bus, two);
    const auto between = new_address("ipc");
    (void)one.listen(between);
    two.dial(between);
    one.wait_pipes(2);
    two.wait_pipes(2);
    const auto two_of = [](auto receive) {
        std::multiset<std::string> both{receive(), receive()};
        return both;
    };
    const auto by_nng = [](nng_peer &n) { return [&n] { return n.recv().body; }; };
    for (int round = 0; round < 50; ++round) {
        must(bus.send("from us"));
        nng_must(one.send("from one"), "send");
        nng_must(two.send("from two"), "send");
        const auto ours = two_of([&] { return text_of(bus.recv(patience)); });
        EXPECT_EQ(ours, (std::multiset<std::string>{"from one", "from two"}));
        EXPECT_EQ(two_of(by_nng(one)), (std::multiset<std::string>{"from two", "from us"}));
        EXPECT_EQ(two_of(by_nng(two)), (std::multiset<std::string>{"from one", "from us"}));
    }
    // Whatever had been forwarded or echoed would be in front of these.
    must(bus.send("last"));
    expect_mail(one.recv(), "last");
    expect_mail(two.recv(), "last");
    nng_must(one.send("last"), "send");
    expect_message(bus.recv(patience), "last");
    EXPECT_FALSE(bus.try_recv());
    expect_mail(two.recv(), "last");
    expect_balance(bus);
}

TEST_P(nng_feed, b2_a_send_never_waits_and_without_a_peer_it_is_counted)
{
    auto bus = opened<sp::bus>();
    must(bus.send("to nobody"));
    EXPECT_EQ(bus.statistics()[stat::socket_no_peer], 1u);
    nng_peer peer(nng_role::bus0);
    join(bus, peer);
    must(bus.send("to somebody"));
    expect_mail(peer.recv(), "to somebody");
    nng_must(peer.send("back", not_at_all), "send");
    expect_message(bus.recv(patience), "back");
    expect_balance(bus);
}

TEST_P(nng_feed, b2_a_peer_of_libnng_that_does_not_read_holds_nobody_up)
{
    auto bus = opened<sp::bus>();
    nng_peer lazy(nng_role::bus0), quick(nng_role::bus0);
    join(bus, lazy);
    join(bus, quick);
    const auto body = wire::body(1000);
    for (int i = 0; i < 5000; ++i) {
        must(bus.send(body));
        expect_mail(quick.recv(), body);
    }
    expect_balance(bus);
    std::size_t read = 0;
    for (auto m = lazy.recv(not_at_all); m.error == 0; m = lazy.recv(nng_wait(200)), ++read)
        expect_mail(m, body);
    EXPECT_GE(read, nng_does::feed_queue);
}

} // namespace
} // namespace sp::test
