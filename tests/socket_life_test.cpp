// SPDX-License-Identifier: BSD-2-Clause
//
// Sockets among threads and processes: the end from elsewhere, a loop of one's own, fork(), a peer
// that is killed, and what is left when all is over.
#include "tests/support/local.hpp"

#include <atomic>
#include <ctime>
#include <poll.h>
#include <vector>

namespace {

using namespace sp::test;
using sp::errc;
using sp::stat;

std::chrono::nanoseconds cpu_time()
{
    timespec t{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
}

// ---- the end from elsewhere

class closing : public on_one_host {};

TEST_F(closing, from_another_thread_ends_every_wait)
{
    auto rep = listening();
    auto req = dialed();
    auto lonely = must(sp::req::open(at()));
    auto context = must(req.open_context());
    must(context.send("never answered", patience));
    std::atomic<int> waiting = 0, ended = 0;
    const auto expect_closed = [&](auto call) {
        return [&, call] {
            ++waiting;
            const auto outcome = call();
            EXPECT_TRUE(!outcome && outcome.error() == errc::closed);
            ++ended;
        };
    };
    auto idle = listening({}, "idle");
    std::vector<std::jthread> threads;
    threads.emplace_back(expect_closed([&] { return idle.recv(); }));
    threads.emplace_back(expect_closed([&] { return idle.recv(); }));
    threads.emplace_back(expect_closed([&] { return context.recv(); }));
    threads.emplace_back(expect_closed([&] { return req.request("nor this"); }));
    threads.emplace_back(expect_closed([&] { return lonely.request("no peer"); }));
    threads.emplace_back(expect_closed([&] { return lonely.wait_peers(1); }));
    until([&] { return waiting == 6; });
    EXPECT_EQ(idle.recv(20ms).error(),
              errc::timed_out); // the others wait by now, or will find it closed
    EXPECT_EQ(ended, 0);
    idle.close();
    req.close();
    lonely.close();
    threads.clear(); // the watchdog sees to it that this ends
    EXPECT_EQ(ended, 6);
}

TEST_F(closing, reports_what_was_not_delivered)
{
    auto rep = listening();
    auto req = dialed();
    auto context = must(req.open_context());
    must(context.send("on its way", patience));
    (void)must(rep.recv(patience));
    const auto after = req.close(sp::wait(patience));
    EXPECT_EQ(after.undelivered, 0u);
    auto alone = must(sp::req::open(at()));
    std::jthread asker([&] { EXPECT_EQ(alone.request("nobody").error(), errc::closed); });
    until([&] { return engine().frames_in_use() > 0; });
    const auto report = alone.close(1ms);
    EXPECT_EQ(report.undelivered, 1u);
    EXPECT_EQ(count(stat::socket_closed), 1u);
    const auto again = alone.close(sp::wait(patience));
    EXPECT_EQ(again.undelivered, 0u);
}

TEST_F(closing, tells_the_peers)
{
    auto rep = listening();
    {
        auto req = dialed();
        must(rep.wait_peers(1, patience));
    }
    until([&] { return rep.peers() == 0; });
    EXPECT_EQ(count(stat::pipe_peer_closed), 1u);
}

// ---- what is left

class process : public on_one_host {};

TEST_F(process, has_no_thread_left_after_its_last_socket)
{
    drop_engine();
    const auto before = threads_now();
    {
        auto rep = must(sp::rep::open({.listen = url()}));
        auto req = must(sp::req::open());
        (void)must(req.dial(url(), patience));
        EXPECT_EQ(threads_now(), before + 1) << "one helper, whatever the number of sockets";
        std::jthread answerer([&] { EXPECT_TRUE(must(rep.recv(patience)).reply("!", patience)); });
        EXPECT_EQ(text_of(req.request("?", patience)), "!");
    }
    until([&] { return threads_now() == before; });
}

TEST_F(process, has_no_descriptor_left_after_its_last_socket)
{
    drop_engine();
    const auto open = [] {
        std::size_t n = 0;
        for ([[maybe_unused]] const auto &fd : std::filesystem::directory_iterator("/proc/self/fd"))
            ++n;
        return n;
    };
    const auto before = open();
    for (int i = 0; i < 20; ++i) {
        auto rep = must(sp::rep::open({.listen = url()}));
        auto req = must(sp::req::open());
        (void)must(req.dial(url(), patience));
        EXPECT_FALSE(req.dial(url("nobody"), patience));
        EXPECT_FALSE(sp::rep::open({.listen = url()}));
    }
    EXPECT_EQ(open(), before);
    EXPECT_FALSE(std::filesystem::exists(file("socket")));
}

// Both ends are connected and wait; the bound is a fifth of what one spinning thread would use.
TEST_F(process, costs_no_cpu_while_it_is_idle)
{
    for (const auto how : {sp::waiting::adaptive, sp::waiting::block}) {
        sp::engine_options o;
        o.waiting = how;
        open_engine(o);
        auto rep = listening();
        auto req = dialed();
        const auto before = cpu_time();
        EXPECT_EQ(rep.recv(500ms).error(), errc::timed_out); // a thread in a call
        const auto used_waiting = cpu_time() - before;
        EXPECT_LT(used_waiting, 100ms);
        ::poll(nullptr, 0, 500); // nobody in a call: the helper keeps the connection
        EXPECT_LT(cpu_time() - before - used_waiting, 100ms);
        EXPECT_EQ(req.peers(), 1u);
    }
}

// ---- a loop of one's own

TEST_F(process, drives_its_sockets_by_hand_if_so_wished)
{
    sp::engine_options o;
    o.driver = sp::driver::manual;
    const auto threads =
        threads_now() - 1; // the engine of the fixture has a helper, this one has none
    open_engine(o);
    EXPECT_EQ(threads_now(), threads);
    auto rep = must(sp::rep::open(at({.listen = url()})));
    auto req = must(sp::req::open(at({.dial = url()})));
    std::optional<sp::req_context> context;
    std::string answer;
    pollfd watched{.fd = engine().fd(), .events = POLLIN, .revents = 0};
    while (answer.empty()) {
        const auto now = sp::engine_clock::now();
        engine().poll(now);
        if (!context && req.peers() > 0) {
            context = must(req.open_context());
            must(context->send("by hand", 0s));
        }
        if (auto question = rep.try_recv()) {
            EXPECT_EQ(question->text(), "by hand");
            must(std::move(*question).reply("indeed", 0s));
        }
        if (context)
            if (const auto got = context->recv(0s))
                answer = got->text();
        const auto left = engine().next_deadline() - sp::engine_clock::now();
        const auto ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
        if (answer.empty())
            ::poll(&watched, 1, static_cast<int>(std::clamp<std::int64_t>(ms, 0, 1000)));
    }
    EXPECT_EQ(answer, "indeed");
    watched.revents = 0;
    while (engine().poll(sp::engine_clock::now()) > 0) {
    }
    EXPECT_EQ(::poll(&watched, 1, 0), 0) << "readable although nothing is there";
}

TEST_F(process, may_also_wait_in_calls_while_it_drives_by_hand)
{
    sp::engine_options o;
    o.driver = sp::driver::manual;
    open_engine(o);
    auto rep = listening();
    auto req = dialed();
    auto context = must(req.open_context());
    must(context.send("?", patience));
    must(must(rep.recv(patience)).reply("!", patience));
    EXPECT_EQ(text_of(context.recv(patience)), "!");
}

// ---- however it waits

class waiting_engine : public on_one_host, public ::testing::WithParamInterface<sp::waiting> {};

TEST_P(waiting_engine, gets_requests_through_from_every_thread)
{
    sp::engine_options o;
    o.waiting = GetParam();
    open_engine(o);
    auto rep = listening();
    auto req = dialed();
    const echo answers(rep);
    std::atomic<int> right = 0;
    {
        std::vector<std::jthread> askers;
        for (int t = 0; t < 3; ++t)
            askers.emplace_back([&, t] {
                for (int i = 0; i < 40; ++i)
                    right += text_of(req.request(std::to_string(t * 100 + i), patience)) ==
                             std::to_string(t * 100 + i);
            });
    }
    EXPECT_EQ(right, 3 * 40);
}

INSTANTIATE_TEST_SUITE_P(which, waiting_engine,
                         ::testing::Values(sp::waiting::adaptive, sp::waiting::spin,
                                           sp::waiting::block),
                         [](const auto &p) {
                             return p.param == sp::waiting::adaptive ? "adaptive"
                                    : p.param == sp::waiting::spin   ? "spin"
                                                                     : "block";
                         });

// ---- fork

TEST_F(process, that_forked_is_told_so_in_the_child_and_works_on_in_the_parent)
{
    auto rep = listening();
    std::optional<sp::req> req = dialed();
    auto context = must(req->open_context());
    must(context.send("asked before", patience));
    auto question = must(rep.recv(patience));
    child c([&](child::door) {
        const auto forked = [](const auto &r) { return !r && r.error() == errc::forked; };
        int wrong = 0;
        wrong += !forked(req->request("?", patience));
        wrong += !forked(req->dial(url(), patience));
        wrong += !forked(req->listen(url("other")));
        wrong += !forked(req->wait_peers(1, patience));
        wrong += !forked(req->open_context());
        wrong += !forked(req->loan(1, patience));
        wrong += !forked(context.send("?", patience));
        wrong += !forked(context.recv(patience));
        wrong += !forked(rep.recv(patience));
        wrong += !forked(std::move(question).reply("!", patience));
        wrong += !forked(sp::req::open(at()));
        context.cancel();
        rep.close();
        req.reset(); // neither waits nor takes anything from the parent
        return wrong;
    });
    EXPECT_EQ(c.wait_end(), 0);
    EXPECT_TRUE(std::filesystem::is_socket(file("socket")));
    must(std::move(question).reply("answered after", patience));
    EXPECT_EQ(text_of(context.recv(patience)), "answered after");
}

// Another thread is inside the engine at the moment of the fork, so its lock is taken in the child,
// for ever.
TEST_F(process, that_forked_in_the_middle_of_a_call_does_not_hang_in_the_child)
{
    auto rep = listening();
    auto req = dialed();
    std::atomic<bool> enough = false;
    std::jthread answerer(
        [&] { (void)rep.serve([](const sp::request &q) { return std::string(q.text()); }); });
    std::jthread asker([&] {
        while (!enough)
            EXPECT_EQ(text_of(req.request("?", patience)), "?");
    });
    for (int i = 0; i < 20; ++i) {
        child c([&](child::door) {
            return req.request("?", patience).error() == errc::forked ? 0 : 1;
        });
        EXPECT_EQ(c.wait_end(), 0);
    }
    enough = true;
    asker.join();
    rep.close();
}

// A child may have sockets of its own beside those that it inherited: on the engine that the
// process shares.
TEST_F(process, may_open_sockets_of_its_own_in_a_forked_child)
{
#if defined(__SANITIZE_THREAD__)
    GTEST_SKIP()
        << "the thread sanitizer does not follow a child of several threads that starts one";
#endif
    auto rep = must(sp::rep::open({.listen = url()}));
    child c([&](child::door) {
        auto own = sp::req::open();
        return own && own->dial(url(), patience) &&
                       text_of(own->request("from the child", patience)) == "!"
                   ? 0
                   : 1;
    });
    must(must(rep.recv(patience)).reply("!", patience));
    EXPECT_EQ(c.wait_end(), 0);
}

// ---- a peer that is killed

class killed_listener : public on_one_host {
protected:
    void SetUp() override
    {
        on_one_host::SetUp();
        drop_engine(); // children are made while there is no thread
    }

    // A rep in another process, once it is let go, that answers with `name`, or holds what it gets
    // when that is empty.
    std::unique_ptr<child> answerer(const std::string &name)
    {
        return std::make_unique<child>([this, name](child::door door) {
            door.wait();
            auto rep = sp::rep::open({.listen = url()});
            if (!rep)
                return 1;
            door.tell();
            std::vector<sp::request> held;
            while (auto question = rep->recv(patience)) {
                if (name.empty()) {
                    held.push_back(std::move(*question));
                    door.tell();
                } else if (!std::move(*question).reply(name, patience)) {
                    return 2;
                }
            }
            return 3;
        });
    }
};

TEST_F(killed_listener, leaves_its_request_to_the_one_that_comes_after)
{
    auto first = answerer("");
    first->let_go();
    ASSERT_TRUE(first->wait_ready());
    const auto where = url();
    auto req = must(sp::req::open({.dial = where, .reconnect_max = 50ms}));
    auto context = must(req.open_context());
    must(context.send("whoever lives", patience));
    ASSERT_TRUE(first->wait_ready()); // it holds the request
    first->kill();
    until([&] { return req.peers() == 0; });
    EXPECT_TRUE(std::filesystem::exists(file("socket"))) << "it had no time to clean up";
    auto rep = must(sp::rep::open({.listen = where}));
    must(must(rep.recv(patience)).reply("the second one", patience));
    EXPECT_EQ(text_of(context.recv(patience)), "the second one");
}

TEST_F(killed_listener, that_answered_before_is_replaced_without_a_loss)
{
    std::vector<std::unique_ptr<child>> lives;
    for (int i = 0; i < 6; ++i)
        lives.push_back(answerer("alive"));
    const auto where = url();
    auto req = must(sp::req::open({.dial = where, .reconnect_max = 50ms}));
    std::atomic<int> answered = 0;
    std::jthread asker([&](const std::stop_token &stop) {
        while (!stop.stop_requested()) {
            EXPECT_EQ(text_of(req.request("?", patience)), "alive");
            ++answered;
        }
    });
    for (const auto &life : lives) {
        life->let_go();
        ASSERT_TRUE(life->wait_ready());
        const int before = answered;
        until([&] { return answered > before + 10; });
        if (&life == &lives.back())
            asker = {}; // answered to the end
        life->kill();
    }
}

} // namespace
