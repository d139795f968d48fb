// SPDX-License-Identifier: BSD-2-Clause
//
// What a socket tells about its pipes: events in order and bounded, who the peer is, what was
// counted, and what a close leaves behind.
#include "tests/support/descriptors.hpp"

#include <atomic>
#include <vector>

namespace {

using namespace sp::test;
using sp::errc;
using sp::stat;
using kind = sp::pipe_event::kind;

class pipe_events : public on_one_host {};

TEST_F(pipe_events, come_in_order_with_their_reasons)
{
    auto rep = listening();
    sp::pipe_id first{};
    {
        auto req = dialed();
        const auto attached = must(rep.next_event(patience));
        EXPECT_EQ(attached.what, kind::attached);
        EXPECT_EQ(attached.reason, "");
        EXPECT_EQ(attached.info.transport, "unixgram");
        EXPECT_EQ(attached.info.protocol, 0x30);
        EXPECT_FALSE(attached.info.peer.empty());
        EXPECT_EQ(attached.info.url, url());
        first = attached.info.pipe;
        EXPECT_NE(first, sp::pipe_id{});
    }
    const auto detached = must(rep.next_event(patience));
    EXPECT_EQ(detached.what, kind::detached);
    EXPECT_EQ(detached.reason, "peer_closed");
    EXPECT_EQ(detached.info.pipe, first);
    EXPECT_FALSE(detached.info.peer.empty());
    EXPECT_EQ(rep.next_event(0s).error(), errc::would_block);
}

TEST_F(pipe_events, name_the_same_pipe_as_messages_do)
{
    auto rep = listening();
    auto req = dialed();
    auto context = must(req.open_context());
    must(context.send("?", patience));
    const auto question = must(rep.recv(patience));
    EXPECT_EQ(must(rep.next_event(patience)).info.pipe, question.pipe());
    EXPECT_EQ(must(req.next_event(patience)).what, kind::attached);
}

TEST_F(pipe_events, tell_who_was_refused_and_why)
{
    auto rep = listening();
    rep.admit([](const sp::pipe_info &) { return false; });
    auto req = must(sp::req::open(at()));
    EXPECT_EQ(req.dial(url(), patience).error(), errc::rejected);
    const auto refused = must(rep.next_event(patience));
    EXPECT_EQ(refused.what, kind::refused);
    EXPECT_EQ(refused.reason, "rejected");
    EXPECT_EQ(refused.info.protocol, 0x30);
    EXPECT_FALSE(refused.info.peer.empty());
    EXPECT_EQ(refused.info.pipe, sp::pipe_id{});
    auto wrong = must(sp::rep::open(at()));
    EXPECT_EQ(wrong.dial(url(), patience).error(), errc::protocol_mismatch);
    EXPECT_EQ(must(rep.next_event(patience)).reason, "peer_protocol");
}

TEST_F(pipe_events, keep_the_latest_and_count_the_others)
{
    auto rep = listening();
    std::uint64_t came = 0;
    for (; rep.statistics()[stat::socket_events] < 10; ++came)
        (void)dialed(); // comes and goes
    until([&] { return rep.statistics()[stat::pipe_opened] == came && rep.peers() == 0; });
    std::size_t kept = 0;
    auto last = kind::refused;
    while (auto event = rep.next_event(0s)) {
        ++kept;
        last = event->what;
    }
    EXPECT_EQ(kept, 1024u);
    EXPECT_EQ(last, kind::detached);
}

TEST_F(pipe_events, are_told_to_poll)
{
    auto rep = listening();
    const int fd = must(rep.event_fd());
    EXPECT_FALSE(readable(fd));
    auto req = dialed();
    sleep_until_readable(fd);
    EXPECT_TRUE(rep.next_event(0s));
    EXPECT_FALSE(readable(fd));
    rep.close();
    EXPECT_TRUE(readable(fd));
    EXPECT_EQ(rep.next_event(0s).error(), errc::closed);
}

TEST_F(pipe_events, waits_for_them_end_by_time_by_a_stop_and_by_the_end_of_the_socket)
{
    auto rep = listening();
    EXPECT_EQ(rep.next_event(1ms).error(), errc::timed_out);
    std::stop_source stop;
    std::atomic<int> waiting = 0;
    std::jthread stopped([&] {
        ++waiting;
        EXPECT_EQ(rep.next_event(stop.get_token()).error(), errc::canceled);
    });
    std::jthread closed([&] {
        ++waiting;
        EXPECT_EQ(rep.next_event().error(), errc::closed);
    });
    until([&] { return waiting == 2; });
    stop.request_stop();
    stopped.join();
    rep.close();
}

TEST_F(pipe_events, a_stop_ends_the_waits_of_a_context_too)
{
    auto rep = listening();
    auto req = dialed();
    auto context = must(req.open_context());
    must(context.send("?", patience));
    for (const bool before : {true, false}) {
        std::stop_source stop;
        if (before)
            stop.request_stop();
        std::jthread stopper([&] { stop.request_stop(); });
        EXPECT_EQ(context.recv(stop.get_token()).error(), errc::canceled);
    }
    must(must(rep.recv(patience)).reply("!", patience));
    EXPECT_EQ(text_of(context.recv(patience)), "!") << "the request outlives its waits";
    auto alone = must(sp::req::open(at()));
    auto lonely = must(alone.open_context());
    std::stop_source stop;
    std::jthread stopper([&] { stop.request_stop(); });
    EXPECT_EQ(lonely.send("?", stop.get_token()).error(), errc::canceled);
    EXPECT_EQ(lonely.request("?", stop.get_token()).error(), errc::canceled);
    EXPECT_EQ(alone.wait_peers(1, stop.get_token()).error(), errc::canceled);
}

// ---- books ----

class socket_books : public on_one_host {};

TEST_F(socket_books, count_what_this_socket_and_this_pipe_did)
{
    auto rep = listening();
    auto req = dialed();
    auto other = dialed();
    const echo service(rep);
    for (int i = 0; i < 3; ++i)
        EXPECT_EQ(text_of(req.request("?", patience)), "?");
    const auto books = req.statistics();
    EXPECT_EQ(books[stat::socket_accepted], 3u);
    EXPECT_EQ(books[stat::socket_sent], 3u);
    EXPECT_EQ(books[stat::socket_received], 3u);
    EXPECT_EQ(books[stat::socket_delivered], 3u);
    EXPECT_EQ(other.statistics()[stat::socket_accepted], 0u);
    const auto pipe = must(req.next_event(patience)).info.pipe;
    const auto of_pipe = req.statistics(pipe);
    ASSERT_TRUE(of_pipe);
    EXPECT_EQ((*of_pipe)[stat::socket_sent], 3u);
    EXPECT_EQ((*of_pipe)[stat::socket_received], 3u);
    EXPECT_FALSE(req.statistics(sp::pipe_id{}));
    EXPECT_FALSE(other.statistics(pipe)) << "a pipe of another socket";
    const auto info = req.pipe_info(pipe);
    ASSERT_TRUE(info);
    EXPECT_EQ(info->url, url());
    EXPECT_EQ(must(req.url(info->endpoint)), url());
}

TEST_F(socket_books, say_what_waits)
{
    auto rep = listening();
    auto req = dialed();
    auto context = must(req.open_context());
    EXPECT_EQ(rep.queued(), 0u);
    must(context.send("?", patience));
    until([&] {
        (void)rep.next_event(1ms); // drives
        return rep.queued() == 1;
    });
    must(must(rep.recv(patience)).reply("!", patience));
    until([&] {
        (void)req.next_event(1ms);
        return req.queued() == 1;
    });
    (void)must(context.recv(patience));
    EXPECT_EQ(req.queued(), 0u);
}

TEST_F(socket_books, of_a_close_say_where_something_was_left)
{
    auto alone = must(sp::req::open(at()));
    auto context = must(alone.open_context());
    std::jthread sender([&] { EXPECT_EQ(context.send("nobody").error(), errc::closed); });
    until([&] { return alone.queued() == 1; });
    const auto report = alone.close(1ms);
    EXPECT_EQ(report.undelivered, 1u);
    EXPECT_EQ(report.delivered, 0u);
    EXPECT_TRUE(report.pipes.empty()) << "it waited for any pipe, not for one";
    EXPECT_EQ(alone.queued(), 0u);
}

// A peer that nobody drives confirms nothing.
TEST_F(socket_books, of_a_close_name_the_pipe_that_confirmed_nothing)
{
    sp::engine_options by_hand;
    by_hand.driver = sp::driver::manual;
    by_hand.ring_bytes = 0; // what is in a ring is the peer's, and needs no confirmation
    auto theirs = must(sp::engine::open(by_hand));
    const auto where = url();
    auto rep = must(sp::rep::open({.listen = where, .on = &theirs}));
    auto req = must(sp::req::open(at()));
    (void)must(req.dial(where));
    while (rep.peers() == 0 || req.peers() == 0)
        (void)theirs.poll(sp::engine_clock::now());
    const auto pipe = must(req.next_event(patience)).info.pipe;
    auto context = must(req.open_context());
    must(context.send("?", patience));
    const auto report = req.close(0s);
    EXPECT_EQ(report.unconfirmed, 1u);
    EXPECT_EQ(report.undelivered, 0u);
    ASSERT_EQ(report.pipes.size(), 1u);
    EXPECT_EQ(report.pipes[0].pipe, pipe);
    EXPECT_EQ(report.pipes[0].unconfirmed, 1u);
}

// ---- many threads ----

class many_threads : public on_one_host {};

// Threads ask, answer, look and open contexts on the same two sockets until one of them closes.
TEST_F(many_threads, use_one_socket_until_one_of_them_closes_it)
{
    for (int round = 0; round < 5; ++round) {
        auto rep = listening();
        auto req = dialed();
        std::atomic<int> answered = 0;
        std::vector<std::jthread> threads;
        const auto ended = [](const sp::error &e) { EXPECT_EQ(e, errc::closed) << told(e); };
        for (int i = 0; i < 3; ++i)
            threads.emplace_back([&] {
                for (;;) {
                    auto question = rep.recv();
                    if (!question)
                        return ended(question.error());
                    const auto text = std::string(question->text());
                    if (auto sent = std::move(*question).reply(text); !sent)
                        return ended(sent.error());
                }
            });
        for (int i = 0; i < 3; ++i)
            threads.emplace_back([&, i] {
                for (int n = 0;; ++n) {
                    const auto text = std::to_string(i * 1'000'000 + n);
                    const auto answer = req.request(text);
                    if (!answer)
                        return ended(answer.error());
                    EXPECT_EQ(answer->text(), text);
                    ++answered;
                }
            });
        threads.emplace_back([&] {
            for (;;) {
                auto context = req.open_context();
                if (!context)
                    return ended(context.error());
                auto fd = context->recv_fd();
                if (!fd || !context->send("one more", 0s))
                    continue;
                sleep_until_readable(*fd);
                const auto answer = context->recv(0s);
                if (!answer)
                    return ended(answer.error());
                EXPECT_EQ(text_of(answer), "one more");
            }
        });
        threads.emplace_back([&] {
            for (;;) {
                const auto event = req.next_event(1ms);
                if (!event && event.error() != errc::timed_out)
                    return ended(event.error());
                (void)(req.peers() + req.queued() + req.statistics()[stat::socket_sent]);
            }
        });
        until([&] { return answered > 300; });
        if (round % 2 == 0) {
            req.close();
            rep.close();
        } else {
            std::jthread both([&] { rep.close(); });
            req.close();
        }
    }
}

} // namespace
