// SPDX-License-Identifier: BSD-2-Clause
//
// unixgram:// as an application meets it where memory is shared: nothing by datagrams but the
// beginning and the end, everything delivered whoever goes, and datagrams where there is no memory.
#include "tests/support/descriptors.hpp"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <sys/resource.h>
#include <vector>

namespace {

using namespace sp::test;
using sp::stat;
using kind = sp::pipe_event::kind;

class shared_memory : public on_one_host {
protected:
    sp::engine other(sp::engine_options o = {}) { return must(sp::engine::open(o)); }
};

TEST_F(shared_memory, carries_messages_without_a_datagram)
{
    auto rep = listening();
    const echo answers(rep);
    auto theirs = other();
    auto req = must(sp::req::open({.on = &theirs}));
    (void)must(req.dial(url(), patience));
    EXPECT_EQ(text_of(req.request("first", patience)), "first");
    const auto datagrams = theirs.statistics()[stat::unixgram_sent];
    for (int i = 0; i < 2000; ++i)
        ASSERT_EQ(text_of(req.request(std::to_string(i), patience)), std::to_string(i));
    // One may say, once in ten seconds, that the connection is still there.
    EXPECT_LE(theirs.statistics()[stat::unixgram_sent] - datagrams, 10u);
    EXPECT_EQ(theirs.statistics()[stat::ring_begun], 1u);
    EXPECT_EQ(theirs.statistics()[stat::link_data_sent], 0u);
}

TEST_F(shared_memory, is_not_used_where_one_side_gives_none)
{
    for (const bool listener_gives : {false, true}) {
        auto gives_none = other({.ring_bytes = 0});
        const auto where = url(listener_gives ? "a" : "b");
        auto rep =
            must(sp::rep::open({.listen = where, .on = listener_gives ? &engine() : &gives_none}));
        const echo answers(rep);
        auto req = must(sp::req::open({.on = listener_gives ? &gives_none : &engine()}));
        (void)must(req.dial(where, patience));
        const auto answer = must(req.request("hello", patience));
        EXPECT_EQ(answer.text(), "hello");
        EXPECT_EQ(answer.transport(), "unixgram/datagram");
        EXPECT_EQ(count(stat::ring_begun), 0u);
    }
}

TEST_F(shared_memory, refuses_a_ring_of_no_sensible_size)
{
    for (const std::uint32_t bytes : {1u, 2048u, 5000u, 300'000u, 32u << 20}) {
        const auto refused = sp::engine::open({.ring_bytes = bytes});
        ASSERT_FALSE(refused) << bytes;
        EXPECT_EQ(refused.error().number(), 2008);
    }
}

TEST_F(shared_memory, passes_messages_that_are_larger_than_the_ring)
{
    open_engine({.ring_bytes = 4096});
    const auto where = url();
    auto pull = must(sp::pull::open(at({.listen = where, .message_max = 64u << 20})));
    auto theirs = other({.ring_bytes = 4096});
    auto push = must(sp::push::open({.on = &theirs, .message_max = 64u << 20}));
    (void)must(push.dial(where, patience));
    for (const std::size_t n : {std::size_t{497}, std::size_t{4096}, std::size_t{5'000'000}}) {
        std::string body(n, '\0');
        for (std::size_t i = 0; i < n; ++i)
            body[i] = static_cast<char>(i * 31 + n);
        must(push.send(body, patience));
        const auto got = must(pull.recv(patience));
        EXPECT_TRUE(got.text() == body) << n;
    }
}

TEST_F(shared_memory, delivers_what_was_put_by_a_process_that_was_killed)
{
    // Made before this process has threads of its own.
    drop_engine();
    child pusher([where = url()](child::door door) {
        door.wait();
        auto push = sp::push::open();
        if (!push || !push->dial(where, patience))
            return 1;
        for (int i = 0; i < 500; ++i)
            if (!push->send(std::to_string(i), patience))
                return 2;
        door.tell();
        door.wait();
        return 0;
    });
    open_engine({});
    const auto where = url();
    // Silence would not tell within an hour.
    auto pull =
        must(sp::pull::open(at({.listen = where, .keepalive_interval = 1h, .peer_timeout = 2h})));
    pusher.let_go();
    ASSERT_TRUE(pusher.wait_ready());
    pusher.kill();
    until([&] { return pull.peers() == 0; });
    EXPECT_EQ(must(pull.next_event(patience)).what, kind::attached);
    EXPECT_EQ(must(pull.next_event(patience)).what, kind::detached);
    for (int i = 0; i < 500; ++i)
        ASSERT_EQ(text_of(pull.recv(patience)), std::to_string(i));
    EXPECT_FALSE(pull.try_recv());
}

TEST_F(shared_memory, counts_what_a_peer_that_went_had_not_read)
{
    auto theirs = other({.driver = sp::driver::manual}); // it reads when it is told to
    const auto where = url();
    std::optional<sp::pull> pull = must(sp::pull::open({.listen = where, .on = &theirs}));
    auto push = must(sp::push::open(at()));
    (void)must(push.dial(where));
    while (push.peers() == 0 || pull->peers() == 0)
        (void)theirs.poll(sp::engine_clock::now());
    (void)theirs.poll(sp::engine_clock::now());
    for (int i = 0; i < 40; ++i)
        must(push.send("job", patience));
    pull.reset();
    until([&] { return push.peers() == 0; });
    EXPECT_EQ(push.statistics()[stat::socket_unconfirmed], 40u);
}

TEST_F(shared_memory, leaves_no_descriptor_behind)
{
    const auto open_now = [] {
        return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
    };
    auto rep = listening();
    const echo answers(rep);
    std::ptrdiff_t before = 0;
    for (int i = 0; i < 30; ++i) {
        {
            auto req = dialed();
            EXPECT_EQ(text_of(req.request("?", patience)), "?");
        }
        until([&] { return rep.peers() == 0; });
        if (i == 2)
            before = open_now();
    }
    until([&] { return open_now() <= before; });
}

TEST_F(shared_memory, holds_back_a_sender_and_loses_nothing_when_nobody_reads)
{
    open_engine({.ring_bytes = 4096});
    const auto where = url();
    auto pull = must(sp::pull::open(at({.listen = where})));
    auto theirs = other({.ring_bytes = 4096});
    auto push = must(sp::push::open({.on = &theirs}));
    (void)must(push.dial(where, patience));
    int sent = 0;
    while (push.send(std::to_string(sent), 0ms))
        ASSERT_LT(++sent, 100'000);
    EXPECT_GT(sent, 10);
    for (int i = 0; i < sent; ++i)
        ASSERT_EQ(text_of(pull.recv(patience)), std::to_string(i));
    must(push.send("again", patience));
    EXPECT_EQ(text_of(pull.recv(patience)), "again");
}

// The answer does not fit the ring; who drives then is asleep already, and lay down before.
TEST_F(shared_memory, goes_on_with_an_answer_whose_giver_makes_no_other_call)
{
    open_engine({.waiting = sp::waiting::block, .ring_bytes = 4096});
    auto rep = listening();
    const auto readable = must(rep.recv_fd()); // with one, the keeper drives between calls
    auto theirs = other({.waiting = sp::waiting::block, .ring_bytes = 4096});
    auto req = must(sp::req::open({.on = &theirs}));
    (void)must(req.dial(url(), patience));
    for (int i = 0; i < 200; ++i) {
        std::jthread asking([&] {
            const auto answer = req.request("?", patience);
            EXPECT_EQ(answer ? answer->size() : 0u, 500'000u) << i;
        });
        sleep_until_readable(readable);
        auto question = rep.try_recv();
        ASSERT_TRUE(question);
        must(std::move(*question).reply(std::string(500'000, 'x'), patience));
        asking.join();
    }
}

TEST_F(shared_memory, allows_as_many_messages_as_credit_says)
{
    const auto where = url();
    auto pull = must(sp::pull::open(at({.listen = where, .credit_messages = 3})));
    auto theirs = other();
    auto push = must(sp::push::open({.on = &theirs, .send_queue_messages = 1}));
    (void)must(push.dial(where, patience));
    int sent = 0;
    while (push.send("x", 0ms))
        ASSERT_LT(++sent, 100);
    // What the peer allowed, what waits in the pipe, and what waits in the queue.
    EXPECT_LE(sent, 5);
    EXPECT_GE(sent, 3);
    for (int i = 0; i < sent; ++i)
        EXPECT_EQ(text_of(pull.recv(patience)), "x");
}

// The budget that docs/local.md states: for each connection and side the ring and one page, and
// descriptors in proportion.
TEST_F(shared_memory, a_thousand_peers_take_what_is_promised)
{
    constexpr std::size_t peers = 1000, ring_bytes = 16 * 1024, page = 4096;
    constexpr rlim_t descriptors = 16 * peers;
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    if (before.rlim_max < descriptors)
        GTEST_SKIP() << "so many descriptors are not allowed here";
    const rlimit raised{.rlim_cur = descriptors, .rlim_max = before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &raised), 0);
    const auto shared_bytes = [] { // mapped and resident, ours and the peers'
        std::ifstream file("/proc/self/status");
        for (std::string line; std::getline(file, line);)
            if (line.starts_with("RssShmem:"))
                return std::stoul(line.substr(9)) * 1024;
        return 0ul;
    };
    const auto opened = [] {
        return static_cast<std::size_t>(
            std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
    };
    open_engine({.ring_bytes = ring_bytes});
    auto rep = listening();
    const echo answers(rep);
    auto theirs = other({.ring_bytes = ring_bytes});
    const auto memory_before = shared_bytes(), opened_before = opened();
    std::vector<sp::req> all;
    for (std::size_t i = 0; i < peers; ++i) {
        all.push_back(must(sp::req::open({.on = &theirs})));
        (void)must(all.back().dial(url(), patience));
    }
    for (auto &each : all)
        ASSERT_EQ(text_of(each.request("there?", patience)), "there?");
    EXPECT_EQ(count(stat::ring_begun), peers);
    // Both sides are in this process: each segment is mapped twice, once for writing.
    EXPECT_LE(shared_bytes() - memory_before, peers * 2 * 2 * (ring_bytes + page) * 11 / 10);
    EXPECT_LE(opened() - opened_before, peers * 2 * 4 + 2) << "descriptors of both sides";
    all.clear();
    until([&] { return rep.peers() == 0; });
    (void)::setrlimit(RLIMIT_NOFILE, &before);
}

} // namespace
