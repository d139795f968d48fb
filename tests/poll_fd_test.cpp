// SPDX-License-Identifier: BSD-2-Clause
//
// Descriptors for poll(2): of sockets and of contexts, readable exactly while the call behind them
// would not wait, with a keeper that drives and with a loop of one's own.
#include "tests/support/descriptors.hpp"

#include <array>
#include <atomic>
#include <fcntl.h>
#include <vector>

namespace {

using namespace sp::test;
using sp::errc;

bool is_open(int fd)
{
    return ::fcntl(fd, F_GETFD) >= 0;
}

sp::options patient()
{
    sp::options o;
    o.keepalive_interval = 60s; // nothing below may rely on a packet that only time sends
    o.peer_timeout = 600s;
    return o;
}

class poll_fd : public on_descriptors {};

// ---- what they tell ----

TEST_F(poll_fd, of_rep_is_readable_exactly_while_a_request_waits)
{
    auto rep = listening();
    auto req = dialed();
    const int fd = must(rep.recv_fd());
    auto first = must(req.open_context()), second = must(req.open_context());
    EXPECT_FALSE(readable(fd));
    must(first.send("one", patience));
    sleep_until_readable(fd);
    must(second.send("two", patience));
    (void)must(rep.recv(patience));
    sleep_until_readable(fd); // the other one
    EXPECT_TRUE(rep.try_recv());
    EXPECT_FALSE(readable(fd));
    EXPECT_FALSE(rep.try_recv());
}

TEST_F(poll_fd, of_a_context_is_readable_exactly_while_its_answer_waits)
{
    auto rep = listening();
    auto req = dialed();
    auto mine = must(req.open_context()), other = must(req.open_context());
    const int fd = must(mine.recv_fd()), others = must(other.recv_fd());
    EXPECT_NE(fd, others);
    must(mine.send("?", patience));
    EXPECT_FALSE(readable(fd));
    must(must(rep.recv(patience)).reply("!", patience));
    sleep_until_readable(fd);
    EXPECT_FALSE(readable(others));
    EXPECT_EQ(text_of(mine.recv(0s)), "!");
    EXPECT_FALSE(readable(fd));
    must(mine.send("again", patience));
    must(must(rep.recv(patience)).reply("and again", patience));
    sleep_until_readable(fd);
    mine.cancel();
    EXPECT_FALSE(readable(fd)) << "nothing is left to tell";
}

TEST_F(poll_fd, of_a_context_tells_a_failure_once)
{
    auto rep = std::optional(listening());
    auto req = dialed({.resend_time = 0s});
    auto context = must(req.open_context());
    const int fd = must(context.recv_fd());
    must(context.send("?", patience));
    (void)must(rep->recv(patience));
    EXPECT_FALSE(readable(fd));
    rep.reset();
    sleep_until_readable(fd);
    EXPECT_EQ(context.recv(0s).error(), errc::connection_reset);
    EXPECT_FALSE(readable(fd));
}

TEST_F(poll_fd, of_a_context_tells_that_its_deadline_has_come)
{
    auto rep = listening();
    auto req = dialed({.request_deadline = 20ms});
    auto context = must(req.open_context());
    const int fd = must(context.recv_fd());
    must(context.send("?", patience));
    sleep_until_readable(fd);
    EXPECT_EQ(context.recv(0s).error(), errc::expired);
}

TEST_F(poll_fd, to_send_by_is_readable_while_a_peer_has_room)
{
    auto req = must(sp::req::open(at()));
    auto context = must(req.open_context());
    const int socket = must(req.send_fd()), own = must(context.send_fd());
    EXPECT_FALSE(readable(socket));
    EXPECT_FALSE(readable(own));
    auto rep = std::optional(listening());
    (void)must(req.dial(url(), patience));
    sleep_until_readable(socket);
    sleep_until_readable(own);
    EXPECT_TRUE(context.send("goes at once", 0s));
    rep.reset();
    until([&] { return req.peers() == 0; });
    EXPECT_FALSE(readable(socket));
    EXPECT_FALSE(readable(own));
}

TEST_F(poll_fd, to_send_by_is_not_readable_while_no_memory_is_left)
{
    sp::engine_options o;
    o.memory_max = 1 << 20;
    open_engine(o);
    auto rep = listening();
    auto req = dialed();
    const int fd = must(req.send_fd());
    sleep_until_readable(fd);
    std::vector<sp::loan> hoard;
    for (auto loan = req.loan(100, 0s); loan; loan = req.loan(100, 0s))
        hoard.push_back(std::move(*loan));
    EXPECT_FALSE(readable(fd));
    hoard.pop_back();
    sleep_until_readable(fd);
}

TEST_F(poll_fd, is_the_same_each_time)
{
    auto rep = listening();
    EXPECT_EQ(must(rep.recv_fd()), must(rep.recv_fd()));
}

// ---- the end ----

TEST_F(poll_fd, is_readable_for_good_once_the_socket_is_closed)
{
    auto rep = listening();
    auto req = dialed();
    auto context = must(req.open_context());
    const std::array fds{must(rep.recv_fd()), must(req.send_fd()), must(context.recv_fd()),
                         must(context.send_fd())};
    std::jthread closer([&] {
        rep.close();
        req.close();
    });
    for (const int fd : fds)
        sleep_until_readable(fd);
    EXPECT_EQ(rep.recv(0s).error(), errc::closed);
    EXPECT_EQ(context.recv(0s).error(), errc::closed);
    for (const int fd : fds)
        EXPECT_TRUE(readable(fd));
    EXPECT_EQ(rep.recv_fd().error(), errc::closed);
}

TEST_F(poll_fd, ends_with_its_socket_also_while_a_request_of_it_lives)
{
    sp::request kept;
    int fd = -1;
    {
        auto rep = listening();
        auto req = dialed();
        fd = must(rep.recv_fd());
        auto context = must(req.open_context());
        must(context.send("?", patience));
        kept = must(rep.recv(patience));
        EXPECT_TRUE(is_open(fd));
    }
    EXPECT_FALSE(is_open(fd));
}

TEST_F(poll_fd, of_a_context_ends_with_it)
{
    auto req = must(sp::req::open(at()));
    auto context = std::optional(must(req.open_context()));
    const int fd = must(context->recv_fd());
    auto moved = std::optional(std::move(*context));
    context.reset();
    EXPECT_TRUE(is_open(fd));
    moved.reset();
    EXPECT_FALSE(is_open(fd));
    auto after_close = std::optional(must(req.open_context()));
    const int late = must(after_close->recv_fd());
    req.close();
    after_close.reset();
    EXPECT_FALSE(is_open(late));
}

// ---- among other drivers ----

// The thread that spins keeps the lock for as long as nobody wants it.
TEST_F(poll_fd, is_told_by_a_thread_that_waits_for_something_else)
{
    for (const auto how : {sp::waiting::spin, sp::waiting::adaptive, sp::waiting::block}) {
        sp::engine_options o;
        o.waiting = how;
        open_engine(o);
        {
            auto idle = listening({}, "idle");
            auto rep = listening();
            const int fd = must(rep.recv_fd());
            std::stop_source stop;
            std::jthread waiter(
                [&] { EXPECT_EQ(idle.recv(stop.get_token()).error(), errc::canceled); });
            auto elsewhere = must(sp::engine::open()); // so that only packets connect the two
            auto req = must(sp::req::open({.on = &elsewhere}));
            auto context = must(req.open_context());
            (void)must(req.dial(url(), patience));
            must(context.send("?", patience));
            sleep_until_readable(fd);
            EXPECT_TRUE(rep.try_recv());
            EXPECT_FALSE(readable(fd));
            stop.request_stop();
        }
    }
}

// A program that takes one message per wake-up and never looks again must still give credit back.
TEST_F(poll_fd, needs_no_call_but_the_one_that_takes_the_message)
{
    for (const auto how : {sp::driver::caller, sp::driver::manual}) {
        sp::engine_options o;
        o.driver = how;
        open_engine(o);
        {
            auto rep = listening(patient());
            const int fd = must(rep.recv_fd());
            auto elsewhere = must(sp::engine::open());
            std::jthread peer([&] {
                auto mine = patient();
                mine.on = &elsewhere;
                auto req = must(sp::req::open(mine));
                (void)must(req.dial(url(), patience));
                std::vector<sp::req_context> contexts;
                for (int i = 0; i < 200; ++i) { // far more than a peer has credit for
                    contexts.push_back(must(req.open_context()));
                    must(contexts.back().send("?", patience));
                }
                for (auto &each : contexts)
                    EXPECT_EQ(text_of(each.recv(patience)), "!");
            });
            for (int i = 0; i < 200; ++i) {
                sleep_on(fd, how);
                auto question = rep.try_recv();
                ASSERT_TRUE(question);
                must(std::move(*question).reply("!",
                                                patience)); // the asker sends all before it reads
            }
            if (how == sp::driver::manual)
                while (rep.peers() > 0)
                    (void)engine().poll(sp::engine_clock::now());
        }
    }
}

// Asks and answers through descriptors alone, many times, so that every interleaving of the keeper
// with the calls gets its chance to lose a wake-up.
TEST_F(poll_fd, carries_a_program_that_never_waits_in_a_call)
{
    for (const auto how : {sp::driver::caller, sp::driver::manual}) {
        sp::engine_options o;
        o.driver = how;
        open_engine(o);
        {
            auto rep = listening();
            auto req = must(sp::req::open(at()));
            (void)must(req.dial(url()));
            const int questions = must(rep.recv_fd()), room = must(req.send_fd());
            auto context = must(req.open_context());
            const int answers = must(context.recv_fd());
            for (int i = 0; i < 2000; ++i) {
                const auto text = std::to_string(i);
                sleep_on(room, how);
                must(context.send(text, 0s));
                sleep_on(questions, how);
                auto question = rep.try_recv();
                ASSERT_TRUE(question);
                EXPECT_EQ(question->text(), text);
                must(std::move(*question).reply(text, 0s));
                sleep_on(answers, how);
                EXPECT_EQ(text_of(context.recv(0s)), text);
            }
        }
    }
}

// One side blocks in calls, so it drives most of the time; the other sleeps in poll(2).
TEST_F(poll_fd, loses_no_wake_up_beside_threads_that_block)
{
    auto rep = listening();
    auto req = dialed();
    std::jthread asker([&] {
        for (int i = 0; i < 2000; ++i)
            EXPECT_EQ(text_of(req.request(std::to_string(i), patience)), std::to_string(i));
        rep.close();
    });
    const int fd = must(rep.recv_fd());
    for (;;) {
        sleep_until_readable(fd);
        auto question = rep.recv(0s);
        if (!question && question.error() == errc::closed)
            break;
        ASSERT_TRUE(question) << "readable, and yet there was nothing";
        const auto text = std::string(question->text());
        must(std::move(*question).reply(text, patience));
    }
}

} // namespace
