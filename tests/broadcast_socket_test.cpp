// SPDX-License-Identifier: BSD-2-Clause
//
// PUB and BUS through the public API where many listen on this host: one ring for all of them. What
// was sent comes whole and in order to each, or is counted by who was too slow for it; nobody is
// hurt by another's slowness, death or size.
#include "sp/abi/broadcast.h"
#include "tests/support/roles.hpp"

#include <algorithm>
#include <map>
#include <random>

namespace {

using namespace sp::test;
using sp::stat;

// Its engine is driven by the test alone: it reads when it is told to.
struct slow_reader {
    sp::engine home = must(sp::engine::open({.driver = sp::driver::manual}));
    sp::sub sub;

    slow_reader(const std::string &url, sp::pub &pub, sp::options o = {})
        : sub(must(sp::sub::open((o.on = &home, o))))
    {
        must(sub.subscribe(""));
        const auto before = pub.peers();
        (void)must(sub.dial(url));
        while (sub.peers() == 0 || pub.peers() == before)
            (void)turn();
        (void)turn();
    }
    std::size_t turn() { return home.poll(sp::engine_clock::now()); }
    // All that is there, as numbers.
    std::vector<int> take()
    {
        std::vector<int> all;
        int idle = 0;
        while (idle < 3) {
            idle = turn() > 0 ? 0 : idle + 1;
            while (const auto m = sub.try_recv())
                all.push_back(std::stoi(std::string(m->text())));
        }
        return all;
    }
    std::uint64_t count(stat which) { return sub.statistics()[which]; }
};

class broadcasts : public on_one_engine {
protected:
    sp::sub subscriber(sp::engine &on, const std::string &topic = "", sp::options o = {},
                       const std::string &name = "socket")
    {
        o.on = &on;
        auto sub = must(sp::sub::open(o));
        must(sub.subscribe(topic));
        (void)must(sub.dial(url(name), patience));
        return sub;
    }
    static constexpr auto holds_back = sp::when_full::block;
};

TEST_F(broadcasts, give_everything_to_everybody_in_order_when_they_wait_for_the_slowest)
{
    static constexpr int messages = 20'000, readers = 4;
    auto pub = listens<sp::pub>({.on_send_full = holds_back});
    std::vector<sp::engine> homes;
    std::vector<sp::sub> subs;
    for (int i = 0; i < readers; ++i) {
        homes.push_back(must(sp::engine::open({})));
        subs.push_back(subscriber(homes.back(), "", {.recv_queue_bytes = 16 << 20}));
    }
    must(pub.wait_peers(readers, patience));
    std::vector<std::jthread> threads;
    for (auto &sub : subs)
        threads.emplace_back([&sub] {
            for (int i = 0; i < messages; ++i)
                ASSERT_EQ(text_of(sub.recv(patience)), std::to_string(i));
        });
    for (int i = 0; i < messages; ++i)
        must(pub.send(std::to_string(i)));
    threads.clear();
    const auto books = pub.statistics();
    EXPECT_EQ(books[stat::socket_accepted], std::uint64_t{messages});
    EXPECT_EQ(books[stat::socket_sent], std::uint64_t{messages * readers});
    EXPECT_EQ(books[stat::socket_copied_out], std::uint64_t{messages * (readers - 1)});
    for (auto &sub : subs) {
        const auto came = sub.statistics();
        EXPECT_EQ(came[stat::socket_received], std::uint64_t{messages});
        EXPECT_EQ(came[stat::socket_overrun], 0u);
        EXPECT_EQ(came[stat::socket_recv_full], 0u);
    }
    EXPECT_EQ(count(stat::ring_full), 0u) << "the rings of the pairs were used";
}

TEST_F(broadcasts, count_exactly_what_who_was_too_slow_has_lost)
{
    static constexpr int messages = 10'000; // the ring holds 4096
    auto pub = listens<sp::pub>();
    slow_reader slow(url(), pub);
    must(pub.send("0"));
    EXPECT_EQ(slow.take(), numbers_up_to(1));
    for (int i = 1; i < messages; ++i)
        must(pub.send(std::to_string(i)));
    const auto came = slow.take();
    ASSERT_FALSE(came.empty());
    EXPECT_LT(came.size(), 4097u);
    EXPECT_GT(came.size(), 3000u);
    EXPECT_EQ(came.back(), messages - 1) << "the newest is there";
    EXPECT_TRUE(std::ranges::is_sorted(came, std::less_equal<>()) || came.size() < 2);
    EXPECT_EQ(came.size() + slow.count(stat::socket_overrun), std::size_t{messages - 1});
    EXPECT_EQ(came.front() + came.size(), std::size_t{messages}) << "what is lost is the oldest";
    EXPECT_EQ(count(stat::socket_send_full), 0u);
    EXPECT_EQ(pub.statistics()[stat::socket_sent], std::uint64_t{messages});
}

TEST_F(broadcasts, begin_for_a_late_one_with_what_is_sent_after_it_came)
{
    auto pub = listens<sp::pub>();
    slow_reader first(url(), pub);
    for (int i = 0; i < 5000; ++i)
        must(pub.send(std::to_string(i)));
    slow_reader second(url(), pub);
    for (int i = 5000; i < 5100; ++i)
        must(pub.send(std::to_string(i)));
    const auto came = second.take();
    ASSERT_EQ(came.size(), 100u);
    EXPECT_EQ(came.front(), 5000);
    EXPECT_EQ(second.count(stat::socket_overrun), 0u);
    EXPECT_EQ(first.take().back(), 5099);
    EXPECT_GT(first.count(stat::socket_overrun), 0u);
}

TEST_F(broadcasts, say_of_each_pipe_what_was_sent_on_it)
{
    auto pub = listens<sp::pub>();
    slow_reader one(url(), pub);
    const auto first = must(pub.next_event(patience)).info.pipe;
    for (int i = 0; i < 10; ++i)
        must(pub.send(std::to_string(i)));
    slow_reader two(url(), pub);
    const auto second = must(pub.next_event(patience)).info.pipe;
    must(pub.send("10"));
    must(pub.send(std::string(100'000, '1'))); // by their own rings
    must(pub.send("12"));
    EXPECT_EQ((*pub.statistics(first))[stat::socket_sent], 13u);
    EXPECT_EQ((*pub.statistics(second))[stat::socket_sent], 3u);
    EXPECT_EQ(pub.statistics()[stat::socket_sent], 16u);
}

TEST_F(broadcasts, hold_the_publisher_back_as_long_as_it_is_willing)
{
    auto pub = listens<sp::pub>({.on_send_full = holds_back, .send_timeout = 1ms});
    slow_reader slow(url(), pub);
    int sent = 0;
    for (; sent < 4096; ++sent) // what the ring holds
        must(pub.send(std::to_string(sent)));
    EXPECT_EQ(pub.statistics()[stat::socket_sent], 4096u);
    // Each of these overruns the oldest when its time is over.
    for (int more = 0; more < 3; ++more) {
        const auto before = sp::engine_clock::now();
        must(pub.send(std::to_string(sent++)));
        EXPECT_GE(sp::engine_clock::now() - before, 1ms);
    }
    auto came = slow.take();
    EXPECT_GT(slow.count(stat::socket_overrun), 0u);
    EXPECT_EQ(came.size() + slow.count(stat::socket_overrun), static_cast<std::size_t>(sent));
    EXPECT_EQ(came.back(), sent - 1);
    // It has room again, and is told so.
    for (int i = 0; i < 4000; ++i)
        must(pub.send("1"));
    EXPECT_EQ(slow.take().size(), 4000u);
}

TEST_F(broadcasts, wake_a_publisher_that_sleeps_for_room)
{
    static constexpr int messages = 30'000;
    auto pub = listens<sp::pub>({.on_send_full = holds_back});
    auto theirs = must(sp::engine::open({.waiting = sp::waiting::block}));
    auto sub = subscriber(theirs, "", {.recv_queue_messages = 10, .on_recv_full = holds_back});
    must(pub.wait_peers(1, patience));
    std::jthread sender([&] {
        for (int i = 0; i < messages; ++i)
            EXPECT_TRUE(pub.send(std::to_string(i)));
    });
    EXPECT_EQ(numbers_from(sub, messages), numbers_up_to(messages));
    EXPECT_EQ(sub.statistics()[stat::socket_overrun], 0u);
}

TEST_F(broadcasts, do_not_wait_for_one_that_is_stopped)
{
    drop_engine();
    child stopped([where = url()](child::door door) {
        door.wait();
        auto sub = sp::sub::open();
        if (!sub || !sub->subscribe("") || !sub->dial(where, patience))
            return 1;
        door.tell();
        while (sub->recv(patience))
            ;
        return 0;
    });
    open_engine({});
    auto pub = listens<sp::pub>();
    stopped.let_go();
    ASSERT_TRUE(stopped.wait_ready());
    must(pub.wait_peers(1, patience));
    stopped.signal(SIGSTOP);
    slow_reader quick(url(), pub);
    for (int i = 0; i < 20'000; i += 1000) {
        for (int n = 0; n < 1000; ++n)
            must(pub.send(std::to_string(i + n)));
        const auto came = quick.take();
        ASSERT_EQ(came.size(), 1000u);
        ASSERT_EQ(came.front(), i);
    }
    EXPECT_EQ(quick.count(stat::socket_overrun), 0u);
    stopped.signal(SIGCONT);
}

TEST_F(broadcasts, go_on_when_one_of_their_readers_dies)
{
    drop_engine();
    child mortal([where = url()](child::door door) {
        door.wait();
        auto sub = sp::sub::open();
        if (!sub || !sub->subscribe("") || !sub->dial(where, patience))
            return 1;
        (void)sub->recv(patience);
        door.tell();
        door.wait();
        return 0;
    });
    open_engine({});
    auto pub = listens<sp::pub>({.on_send_full = holds_back});
    slow_reader quick(url(), pub);
    mortal.let_go();
    must(pub.wait_peers(2, patience));
    must(pub.send("0"));
    ASSERT_TRUE(mortal.wait_ready());
    mortal.kill();
    until([&] { return pub.peers() == 1; });
    int sent = 1;
    std::size_t came = quick.take().size();
    for (; sent < 20'000; ++sent) {
        must(pub.send(std::to_string(sent)));
        if (sent % 1000 == 0)
            came += quick.take().size();
    }
    came += quick.take().size();
    EXPECT_EQ(came, static_cast<std::size_t>(sent)) << "the dead one holds nobody back";
    EXPECT_GE(pub.statistics()[stat::socket_unconfirmed], 0u);
}

TEST_F(broadcasts, deliver_what_a_publisher_left_that_was_killed)
{
    drop_engine();
    child publisher([where = url()](child::door door) {
        door.wait();
        auto pub = sp::pub::open();
        if (!pub || !pub->dial(where, patience) || !pub->wait_peers(1, patience))
            return 1;
        for (int i = 0; i < 3000; ++i)
            if (!pub->send(std::to_string(i)))
                return 2;
        door.tell();
        door.wait();
        return 0;
    });
    auto theirs = must(sp::engine::open({.driver = sp::driver::manual}));
    const auto where = url();
    auto sub = must(sp::sub::open({.listen = where, .on = &theirs}));
    must(sub.subscribe(""));
    publisher.let_go();
    const auto turn = [&] { return theirs.poll(sp::engine_clock::now()); };
    std::jthread dies([&] {
        EXPECT_TRUE(publisher.wait_ready());
        publisher.kill();
    });
    while (sub.peers() == 0)
        (void)turn();
    dies.join();
    while (sub.peers() == 1)
        (void)turn();
    for (int i = 0; i < 3000; ++i) {
        const auto m = sub.try_recv();
        ASSERT_TRUE(m) << i;
        ASSERT_EQ(m->text(), std::to_string(i));
    }
    EXPECT_FALSE(sub.try_recv());
}

TEST_F(broadcasts, are_over_for_a_subscriber_where_its_pipe_ends)
{
    auto pub = must(sp::pub::open(at()));
    const auto where = url(), other = url("other");
    auto theirs = must(sp::engine::open({.driver = sp::driver::manual}));
    auto sub = must(sp::sub::open({.listen = where, .on = &theirs}));
    must(sub.subscribe(""));
    const auto dialed = must(pub.dial(where));
    const auto turn = [&] { (void)theirs.poll(sp::engine_clock::now()); };
    while (pub.peers() == 0 || sub.peers() == 0)
        turn();
    auto stays = must(sp::sub::open({.listen = other, .on = &engine()}));
    must(stays.subscribe(""));
    (void)must(pub.dial(other, patience));
    for (int i = 0; i < 10; ++i)
        must(pub.send(std::to_string(i)));
    pub.close_endpoint(dialed);
    for (int i = 10; i < 20; ++i)
        must(pub.send(std::to_string(i)));
    EXPECT_EQ(numbers_from(stays, 20), numbers_up_to(20));
    while (sub.peers() == 1)
        turn();
    int came = 0;
    while (sub.try_recv())
        ++came;
    EXPECT_EQ(came, 10);
    EXPECT_EQ(sub.statistics()[stat::socket_received], 10u);
}

TEST_F(broadcasts, are_filtered_by_topics_of_any_length)
{
    auto pub = listens<sp::pub>();
    auto theirs = must(sp::engine::open({}));
    const std::string longer(60, 't'); // more than a slot shows
    auto sub = subscriber(theirs, longer + "yes");
    must(sub.subscribe("a"));
    must(sub.subscribe("end"));
    must(pub.wait_peers(1, patience));
    const std::vector<std::string> bodies{"b",
                                          "",
                                          "a",
                                          longer + "no",
                                          longer + "yes, and more",
                                          longer.substr(0, 50),
                                          longer + "ye",
                                          "abc",
                                          "en",
                                          std::string(2000, 'z'),
                                          std::string(2000, 'a'),
                                          "end"};
    for (const auto &body : bodies)
        must(pub.send(body));
    std::vector<std::string> wanted;
    for (const auto &body : bodies)
        if (body.starts_with('a') || body.starts_with(longer + "yes") || body.starts_with("end"))
            wanted.push_back(body);
    for (const auto &body : wanted)
        EXPECT_EQ(text_of(sub.recv(patience)), body);
    const auto books = sub.statistics();
    EXPECT_EQ(books[stat::socket_received], bodies.size());
    EXPECT_EQ(books[stat::socket_filtered], bodies.size() - wanted.size());
}

TEST_F(broadcasts, keep_the_order_of_messages_of_every_size)
{
    const auto seed = std::random_device{}();
    std::cout << "seed " << seed << '\n';
    std::mt19937_64 random(seed);
    auto pub = listens<sp::pub>({.on_send_full = holds_back});
    static constexpr int readers = 3, messages = 1500;
    std::vector<std::string> bodies;
    for (int i = 0; i < messages; ++i) {
        const auto kind = random() % 20;
        const auto n = kind == 0  ? random() % 600'000
                       : kind < 4 ? random() % 40'000
                                  : random() % 200;
        auto body = std::to_string(i) + ' ';
        body.resize(std::max(body.size(), n), static_cast<char>('a' + i % 26));
        bodies.push_back(std::move(body));
    }
    std::vector<sp::engine> homes;
    std::vector<sp::sub> subs;
    for (int i = 0; i < readers; ++i) {
        homes.push_back(must(sp::engine::open({})));
        subs.push_back(
            subscriber(homes.back(), "", {.recv_queue_messages = 5, .on_recv_full = holds_back}));
    }
    must(pub.wait_peers(readers, patience));
    std::vector<std::jthread> threads;
    for (auto &sub : subs)
        threads.emplace_back([&] {
            for (const auto &body : bodies) {
                const auto m = sub.recv(patience);
                ASSERT_TRUE(m) << told(m.error());
                ASSERT_TRUE(m->text() == body)
                    << m->text().substr(0, 20) << " for " << body.substr(0, 20);
            }
        });
    for (const auto &body : bodies)
        must(pub.send(body));
    threads.clear();
    for (auto &sub : subs)
        EXPECT_EQ(sub.statistics()[stat::socket_overrun], 0u);
}

// Lost or not: what a slow one has got and what is counted are all, whatever the sizes were.
TEST_F(broadcasts, account_for_every_message_of_every_size)
{
    const auto seed = std::random_device{}();
    std::cout << "seed " << seed << '\n';
    std::mt19937_64 random(seed);
    auto pub = listens<sp::pub>({.send_queue_messages = 3});
    slow_reader slow(url(), pub, {.recv_queue_bytes = 64 << 20});
    std::size_t sent = 0, came = 0;
    int last = -1;
    for (int round = 0; round < 60; ++round) {
        for (auto burst = random() % 6000; burst > 0; --burst, ++sent) {
            auto body = std::to_string(sent);
            const auto kind = random() % 500;
            body.resize(kind == 0 ? 50'000 : kind < 100 ? 1000 : body.size(), ' ');
            must(pub.send(body));
        }
        const auto numbers = slow.take();
        came += numbers.size();
        for (const auto n : numbers) {
            ASSERT_GT(n, last) << "seed " << seed;
            last = n;
        }
    }
    must(pub.send(std::to_string(sent))); // behind whatever is still on its way
    while (last != static_cast<int>(sent)) {
        (void)slow.turn();
        if (const auto m = slow.sub.try_recv()) {
            last = std::stoi(std::string(m->text()));
            ++came;
        }
    }
    ++sent;
    EXPECT_EQ(came, slow.count(stat::socket_received));
    EXPECT_EQ(came + slow.count(stat::socket_overrun) + count(stat::socket_send_full), sent)
        << "seed " << seed;
    EXPECT_GT(slow.count(stat::socket_overrun), 0u);
}

TEST_F(broadcasts, reach_others_by_other_ways_beside)
{
    const auto by_stream = "ipc://" + file("stream");
    auto pub = listens<sp::pub>({.on_send_full = holds_back});
    (void)must(pub.listen(by_stream));
    auto theirs = must(sp::engine::open({})), without = must(sp::engine::open({.ring_bytes = 0}));
    auto ring = subscriber(theirs);
    auto counted = subscriber(theirs, "", {.credit_messages = 2});
    auto datagrams = subscriber(without);
    auto stream = must(sp::sub::open({.on = &theirs}));
    must(stream.subscribe(""));
    (void)must(stream.dial(by_stream, patience));
    must(pub.wait_peers(4, patience));
    std::jthread sender([&] {
        for (int i = 0; i < 500; ++i)
            EXPECT_TRUE(pub.send(std::to_string(i)));
    });
    std::vector<std::jthread> readers;
    for (auto *sub : {&ring, &counted, &datagrams, &stream})
        readers.emplace_back([sub] { EXPECT_EQ(numbers_from(*sub, 500), numbers_up_to(500)); });
    readers.clear();
    EXPECT_EQ(pub.statistics()[stat::socket_sent], 2000u);
}

TEST_F(broadcasts, carry_a_bus_both_ways)
{
    static constexpr int members = 5, messages = 2000;
    auto hub = listens<sp::bus>({.recv_queue_bytes = 16 << 20});
    auto theirs = must(sp::engine::open({}));
    std::vector<sp::bus> spokes;
    for (int i = 0; i < members; ++i) {
        spokes.push_back(must(sp::bus::open({.on = &theirs, .recv_queue_bytes = 16 << 20})));
        (void)must(spokes.back().dial(url(), patience));
    }
    must(hub.wait_peers(members, patience));
    for (int i = 0; i < messages; ++i) {
        must(hub.send("hub " + std::to_string(i)));
        must(spokes[static_cast<std::size_t>(i % members)].send(std::to_string(i)));
    }
    std::map<sp::pipe_id, int> latest;
    for (int i = 0; i < messages; ++i) {
        const auto m = must(hub.recv(patience));
        const auto n = std::stoi(std::string(m.text()));
        EXPECT_TRUE(!latest.contains(m.pipe()) || latest[m.pipe()] < n) << "order";
        latest[m.pipe()] = n;
    }
    for (auto &spoke : spokes)
        for (int i = 0; i < messages; ++i)
            ASSERT_EQ(text_of(spoke.recv(patience)), "hub " + std::to_string(i));
    EXPECT_FALSE(hub.try_recv()) << "nobody hears himself";
}

TEST_F(broadcasts, wake_every_one_of_many_that_sleep)
{
    static constexpr int readers = 20; // more than are looked at for every message
    auto pub = listens<sp::pub>();
    std::vector<sp::engine> homes;
    std::vector<sp::sub> subs;
    for (int i = 0; i < readers; ++i) {
        homes.push_back(must(sp::engine::open({.waiting = sp::waiting::block})));
        subs.push_back(subscriber(homes.back()));
    }
    must(pub.wait_peers(readers, patience));
    for (int i = 0; i < 100; ++i) {
        for (int burst = 0; burst <= i % 5; ++burst)
            must(pub.send(std::to_string(i)));
        for (auto &sub : subs)
            for (int burst = 0; burst <= i % 5; ++burst)
                ASSERT_EQ(text_of(sub.recv(patience)), std::to_string(i));
    }
}

TEST_F(broadcasts, are_not_sent_by_a_child_of_the_publisher)
{
    auto pub = listens<sp::pub>();
    slow_reader reader(url(), pub);
    const auto pid = ::fork();
    if (pid == 0) {
        const auto sent = pub.send("from the child");
        std::_Exit(!sent && sent.error() == sp::errc::forked ? 0 : 1);
    }
    int status = 1;
    ::waitpid(pid, &status, 0);
    EXPECT_EQ(status, 0);
    must(pub.send("1"));
    EXPECT_EQ(reader.take(), std::vector<int>{1});
}

TEST_F(broadcasts, are_not_used_by_who_asks_to_drop_the_newest_or_to_end_the_slow)
{
    auto pub = listens<sp::pub>(
        {.send_queue_messages = 10, .on_send_full = sp::when_full::drop_newest}, "newest");
    slow_reader slow(url("newest"), pub);
    for (int i = 0; i < 10'000; ++i)
        must(pub.send(std::to_string(i)));
    const auto came = slow.take();
    EXPECT_EQ(came.front(), 0);
    EXPECT_EQ(slow.count(stat::socket_overrun), 0u);
    EXPECT_GT(pub.statistics()[stat::socket_send_full], 0u);
    auto strict = listens<sp::pub>(
        {.send_queue_messages = 10, .on_send_full = sp::when_full::disconnect}, "strict");
    slow_reader idle(url("strict"), strict);
    for (int i = 0; i < 10'000 && strict.peers() == 1; ++i)
        must(strict.send(std::to_string(i)));
    EXPECT_EQ(strict.peers(), 0u);
}

} // namespace
