// SPDX-License-Identifier: BSD-2-Clause
//
// Coroutines over the descriptors: one thread, many conversations, time and stops.
#include "sp/coro.hpp"
#include "tests/support/local.hpp"
#include "tests/support/program.hpp"

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

namespace {

using namespace sp::test;
using sp::errc;

sp::task<> answer_all(sp::rep &socket)
{
    for (;;) {
        auto question = co_await sp::async_recv(socket);
        if (!question) {
            EXPECT_EQ(question.error(), errc::closed);
            co_return;
        }
        const auto text = std::string(question->text());
        must(std::move(*question).reply(text, 0s));
    }
}

sp::task<> ask(sp::req &socket, int times, int &left, sp::rep &service)
{
    auto context = must(socket.open_context());
    for (int i = 0; i < times; ++i) {
        const auto text = std::to_string(i);
        const auto answer = co_await sp::async_request(context, text);
        EXPECT_EQ(text_of(answer), text);
    }
    if (--left == 0)
        service.close();
}

class coroutines : public on_one_host {
protected:
    void converse()
    {
        auto loop = must(sp::reactor::open());
        if (by_hand_)
            loop.drive(engine());
        auto rep = listening();
        auto req = must(sp::req::open(at()));
        (void)must(req.dial(url()));
        int left = 20;
        loop.spawn(answer_all(rep));
        for (int i = 0; i < 20; ++i)
            loop.spawn(ask(req, 100, left, rep));
        loop.run();
        EXPECT_EQ(left, 0);
    }
    bool by_hand_ = false;
};

TEST_F(coroutines, hold_many_conversations_in_one_thread)
{
    converse();
}

TEST_F(coroutines, drive_an_engine_of_their_own)
{
    sp::engine_options o;
    o.driver = sp::driver::manual;
    open_engine(o);
    by_hand_ = true;
    converse();
}

TEST_F(coroutines, share_a_descriptor_and_each_gets_what_is_his)
{
    auto loop = must(sp::reactor::open());
    auto rep = listening();
    auto req = dialed();
    int left = 3;
    for (int i = 0; i < 4; ++i)
        loop.spawn(answer_all(rep));
    for (int i = 0; i < 3; ++i)
        loop.spawn(ask(req, 100, left, rep));
    loop.run();
    EXPECT_EQ(left, 0);
}

sp::task<> until_over(sp::rep &socket, sp::wait how_long, errc expected, int &ended)
{
    const auto question = co_await sp::async_recv(socket, how_long);
    EXPECT_TRUE(!question && question.error() == expected);
    ++ended;
}

TEST_F(coroutines, wait_no_longer_than_they_are_told)
{
    auto loop = must(sp::reactor::open());
    auto rep = listening();
    std::stop_source stop, stopped;
    stopped.request_stop();
    int ended = 0;
    loop.spawn(until_over(rep, 0s, errc::would_block, ended));
    loop.spawn(until_over(rep, 5ms, errc::timed_out, ended));
    loop.spawn(until_over(rep, sp::engine_clock::now() - 1s, errc::timed_out, ended));
    loop.spawn(until_over(rep, stopped.get_token(), errc::canceled, ended));
    loop.spawn(until_over(rep, {patience, stop.get_token()}, errc::canceled, ended));
    std::jthread stopper([&] { stop.request_stop(); });
    loop.run();
    EXPECT_EQ(ended, 5);
}

sp::task<> sleep_for(std::chrono::milliseconds time, std::vector<long> &order)
{
    EXPECT_EQ(co_await sp::async_sleep(time), errc::timed_out);
    order.push_back(time.count());
}

TEST_F(coroutines, sleep_and_wake_in_the_order_of_their_deadlines)
{
    auto loop = must(sp::reactor::open());
    std::vector<long> order;
    for (const auto time : {60ms, 1ms, 30ms})
        loop.spawn(sleep_for(time, order));
    loop.run();
    EXPECT_EQ(order, (std::vector<long>{1, 30, 60}));
}

TEST_F(coroutines, end_when_their_socket_is_closed_by_another_thread)
{
    auto loop = must(sp::reactor::open());
    auto rep = listening();
    auto req = must(sp::req::open(at()));
    auto context = must(req.open_context());
    const auto send = [](sp::req_context &c) -> sp::task<> {
        const auto sent = co_await sp::async_send(c, "nobody is there");
        EXPECT_TRUE(!sent && sent.error() == errc::closed);
    };
    const auto watch = [](sp::req &r) -> sp::task<> {
        const auto event = co_await sp::async_next_event(r);
        EXPECT_TRUE(!event && event.error() == errc::closed);
    };
    loop.spawn(answer_all(rep));
    loop.spawn(send(context));
    loop.spawn(watch(req));
    std::jthread closer([&] {
        rep.close();
        req.close();
    });
    loop.run();
}

TEST_F(coroutines, go_with_their_reactor_wherever_they_are)
{
    auto rep = listening();
    int ended = 0;
    {
        auto loop = must(sp::reactor::open());
        loop.spawn(until_over(rep, sp::forever, errc::closed, ended));
        std::jthread stopper([&] { loop.stop(); });
        loop.run();
    }
    EXPECT_EQ(ended, 0);
}

// What never has to wait must not keep the others from running.
sp::task<> flood(sp::req_context &context, const bool &enough)
{
    while (!enough) {
        EXPECT_TRUE(co_await sp::async_send(context, "again", patience));
    }
}

sp::task<> after(std::chrono::milliseconds time, bool &enough)
{
    (void)co_await sp::async_sleep(time);
    enough = true;
}

TEST_F(coroutines, give_way_to_each_other)
{
    auto rep = listening();
    const echo service(rep);
    auto req = dialed();
    auto context = must(req.open_context());
    auto loop = must(sp::reactor::open());
    bool enough = false;
    loop.spawn(flood(context, enough));
    loop.spawn(after(20ms, enough));
    loop.run();
    EXPECT_TRUE(enough);
}

TEST_F(coroutines, are_shown_by_an_example_that_runs)
{
    const auto done = run({built("examples/coroutines"), url()});
    EXPECT_EQ(done.status, 0);
    EXPECT_EQ(done.err, "");
    std::vector<std::string> lines; // the clients take turns as they like
    std::istringstream text(done.out);
    for (std::string line; std::getline(text, line);)
        lines.push_back(line);
    std::ranges::sort(lines);
    EXPECT_EQ(lines, (std::vector<std::string>{"hello, ada0", "hello, ada1", "hello, bob0",
                                               "hello, bob1", "hello, eve0", "hello, eve1"}));
}

} // namespace
