// SPDX-License-Identifier: BSD-2-Clause
//
// Requests and replies through the public API, over unixgram: who asks, who answers, and what they
// hold in hand.
#include "tests/support/local.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <numeric>
#include <random>
#include <vector>

namespace {

using namespace sp::test;
using sp::errc;
using sp::stat;

class req_and_rep : public on_one_host {};

TEST_F(req_and_rep, exchange_a_request_and_its_reply)
{
    auto rep = listening();
    auto req = dialed();
    auto context = must(req.open_context());
    must(context.send("what is it?", patience));
    auto question = must(rep.recv(patience));
    EXPECT_EQ(question.text(), "what is it?");
    EXPECT_EQ(question.size(), 11u);
    EXPECT_EQ(question.transport(), "unixgram");
    must(std::move(question).reply("a thermostat", patience));
    const auto answer = must(context.recv(patience));
    EXPECT_EQ(answer.text(), "a thermostat");
    EXPECT_EQ(answer.transport(), "unixgram");
    EXPECT_NE(answer.pipe(), sp::pipe_id{});
    EXPECT_EQ(count(stat::socket_accepted), 2u); // the request, and its answer
    EXPECT_EQ(count(stat::socket_delivered), 2u);
}

TEST_F(req_and_rep, tell_who_is_at_the_other_end_of_a_pipe)
{
    auto rep = listening();
    auto req = dialed();
    auto context = must(req.open_context());
    must(context.send("?", patience));
    auto question = must(rep.recv(patience));
    const auto asker = rep.pipe_info(question.pipe());
    ASSERT_TRUE(asker);
    EXPECT_EQ(asker->protocol, 0x30);
    EXPECT_EQ(asker->transport, "unixgram");
    EXPECT_TRUE(asker->peer.starts_with("@")) << asker->peer;
    EXPECT_NE(asker->instance, 0u);
    must(std::move(question).reply("!", patience));
    const auto answerer = req.pipe_info(must(context.recv(patience)).pipe());
    ASSERT_TRUE(answerer);
    EXPECT_EQ(answerer->protocol, 0x31);
    EXPECT_EQ(answerer->instance, asker->instance); // one engine, one start
    EXPECT_FALSE(req.pipe_info(asker->pipe)) << "the pipe of another socket";
    EXPECT_FALSE(req.pipe_info(sp::pipe_id{0}));
}

TEST_F(req_and_rep, carry_bodies_of_every_size_unchanged)
{
    const auto seed = std::random_device()();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    auto rep = listening();
    auto req = dialed();
    const echo answers(rep);
    std::vector<std::size_t> sizes{0,   1,   2,   3,    4,    5,    63,    64,
                                   191, 192, 193, 1400, 1500, 4096, 65000, 65400};
    for (int i = 0; i < 50; ++i)
        sizes.push_back(random() % 65400);
    for (const auto size : sizes) {
        std::string body(size, '\0');
        std::ranges::generate(body, [&] { return static_cast<char>(random()); });
        const auto answer = req.request(body, patience);
        ASSERT_TRUE(answer) << size << " bytes: " << told(answer.error());
        ASSERT_TRUE(answer->text() == body) << size << " bytes came back changed";
    }
}

TEST_F(req_and_rep, take_bytes_strings_and_literals_alike)
{
    auto rep = listening();
    auto req = dialed();
    const echo answers(rep);
    constexpr std::array raw{std::byte{'a'}, std::byte{'b'}};
    EXPECT_EQ(text_of(req.request(sp::bytes(raw), patience)), "ab");
    EXPECT_EQ(text_of(req.request(std::string("string"), patience)), "string");
    EXPECT_EQ(text_of(req.request(std::string_view("view"), patience)), "view");
    EXPECT_EQ(text_of(req.request("literal", patience)), "literal");
    EXPECT_EQ(text_of(req.request("", patience)), "");
}

TEST_F(req_and_rep, give_each_of_many_threads_its_own_answer)
{
    auto rep = listening();
    std::vector<sp::req> askers;
    for (int i = 0; i < 3; ++i)
        askers.push_back(dialed());
    must(rep.wait_peers(3, patience));
    const echo first(rep), second(rep);
    std::atomic<int> right = 0;
    {
        std::vector<std::jthread> threads;
        for (std::size_t t = 0; t < 6; ++t)
            threads.emplace_back([&, t] {
                for (int i = 0; i < 50; ++i) {
                    const auto body = std::to_string(t) + '/' + std::to_string(i);
                    right += text_of(askers[t % askers.size()].request(body, patience)) == body;
                }
            });
    }
    EXPECT_EQ(right, 6 * 50);
}

TEST_F(req_and_rep, answer_held_requests_in_any_order_from_other_threads)
{
    const auto seed = std::random_device()();
    SCOPED_TRACE("seed " + std::to_string(seed));
    auto rep = listening();
    auto req = dialed();
    std::vector<sp::req_context> contexts;
    for (int i = 0; i < 24; ++i) {
        contexts.push_back(must(req.open_context()));
        must(contexts.back().send(std::to_string(i), patience));
    }
    std::vector<sp::request> held;
    for (int i = 0; i < 24; ++i)
        held.push_back(must(rep.recv(patience)));
    std::ranges::shuffle(held, std::mt19937(seed));
    {
        std::vector<std::jthread> threads;
        for (std::size_t t = 0; t < 3; ++t)
            threads.emplace_back([&, t] {
                for (std::size_t i = t; i < held.size(); i += 3) {
                    const auto body = "answer to " + std::string(held[i].text());
                    EXPECT_TRUE(std::move(held[i]).reply(body, patience));
                }
            });
    }
    for (std::size_t i = 0; i < contexts.size(); ++i)
        EXPECT_EQ(text_of(contexts[i].recv(patience)), "answer to " + std::to_string(i));
}

TEST_F(req_and_rep, spread_requests_over_all_repliers)
{
    auto left = listening({}, "left"), right = listening({}, "right");
    auto req = dialed({}, "left");
    (void)must(req.dial(url("right"), patience));
    must(req.wait_peers(2, patience));
    std::vector<sp::req_context> contexts;
    for (int i = 0; i < 10; ++i) {
        contexts.push_back(must(req.open_context()));
        must(contexts.back().send("?", patience));
    }
    for (int i = 0; i < 5; ++i) {
        EXPECT_TRUE(left.recv(patience));
        EXPECT_TRUE(right.recv(patience));
    }
    EXPECT_FALSE(left.try_recv());
    EXPECT_FALSE(right.try_recv());
}

TEST_F(req_and_rep, keep_a_message_beyond_socket_and_engine)
{
    std::optional<sp::message> answer;
    std::optional<sp::request> question;
    {
        auto rep = listening();
        auto req = dialed();
        auto context = must(req.open_context());
        must(context.send("first", patience));
        must(must(rep.recv(patience)).reply("kept", patience));
        answer = must(context.recv(patience));
        must(context.send("second", patience));
        question = must(rep.recv(patience));
    }
    EXPECT_EQ(engine().frames_in_use(), 2u);
    drop_engine();
    EXPECT_EQ(answer->text(), "kept");
    EXPECT_EQ(question->text(), "second");
    const auto late = std::move(*question).reply("nobody", patience);
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error(), errc::closed);
}

TEST_F(req_and_rep, send_loans_without_copying_what_was_cut_off)
{
    auto rep = listening();
    auto req = dialed();
    std::jthread answerer([&] {
        auto question = must(rep.recv(patience));
        auto loan = must(question.loan(100, patience));
        EXPECT_EQ(loan.body().size(), 100u);
        std::ranges::copy(question.body(), loan.body().begin());
        loan.shrink(question.size());
        loan.shrink(50); // never grows
        EXPECT_EQ(loan.body().size(), question.size());
        must(std::move(question).reply(std::move(loan)));
    });
    auto loan = must(req.loan(8, patience));
    std::ranges::copy(std::as_bytes(std::span("in place", 8)), loan.body().begin());
    loan.shrink(2);
    EXPECT_EQ(text_of(req.request(std::move(loan), patience)), "in");
}

TEST_F(req_and_rep, take_back_a_loan_that_is_not_sent)
{
    auto req = must(sp::req::open(at()));
    {
        auto loan = must(req.loan(1000, patience));
        auto other = must(req.loan(10, patience));
        EXPECT_EQ(engine().frames_in_use(), 2u);
        other = std::move(loan);
        EXPECT_EQ(other.body().size(), 1000u);
        EXPECT_EQ(engine().frames_in_use(), 1u);
    }
    EXPECT_EQ(engine().frames_in_use(), 0u);
}

TEST_F(req_and_rep, are_still_themselves_after_a_move)
{
    auto opened = listening();
    auto rep = std::move(opened);
    auto dialer = dialed();
    auto other = must(sp::req::open(at()));
    other = std::move(dialer);
    auto context = must(other.open_context());
    auto spare = must(other.open_context());
    must(spare.send("of the context that is moved over", patience));
    (void)must(rep.recv(patience));
    spare = std::move(context);
    must(spare.send("moved", patience));
    auto question = must(rep.recv(patience));
    sp::request held;
    held = std::move(question);
    EXPECT_EQ(held.text(), "moved");
    EXPECT_EQ(question.size(),
              0u); // NOLINT(bugprone-use-after-move): a request that was moved from is empty
    EXPECT_EQ(std::move(question).reply("?").error(), errc::invalid_state);
    must(std::move(held).reply("there", patience));
    sp::message answer = must(spare.recv(patience)), kept;
    kept = std::move(answer);
    EXPECT_EQ(kept.text(), "there");
    EXPECT_TRUE(answer.body().empty()); // NOLINT(bugprone-use-after-move)
}

TEST_F(req_and_rep, go_on_when_a_request_is_dropped_unanswered)
{
    auto rep = listening();
    auto req = dialed({.resend_time = 20ms});
    auto context = must(req.open_context());
    must(context.send("again and again", patience));
    (void)must(rep.recv(patience)); // dropped at once
    auto second = must(rep.recv(patience));
    EXPECT_EQ(second.text(), "again and again");
    must(std::move(second).reply("at last", patience));
    EXPECT_EQ(text_of(context.recv(patience)), "at last");
    EXPECT_GE(count(stat::socket_resends), 1u);
    EXPECT_GE(count(stat::socket_abandoned), 1u);
}

TEST_F(req_and_rep, execute_a_request_once_that_is_sent_again)
{
    auto rep = listening();
    auto req = dialed({.resend_time = 5ms});
    auto context = must(req.open_context());
    must(context.send("once", patience));
    auto held = must(rep.recv(patience));
    until([&] { return count(stat::socket_duplicate_request) >= 3; });
    EXPECT_FALSE(rep.try_recv());
    must(std::move(held).reply("done", patience));
    EXPECT_EQ(text_of(context.recv(patience)), "done");
    EXPECT_FALSE(rep.try_recv());
}

TEST_F(req_and_rep, ask_another_replier_when_the_first_one_goes)
{
    auto req = must(sp::req::open(at()));
    auto context = must(req.open_context());
    std::optional<sp::rep> first = listening({}, "first");
    (void)must(req.dial(url("first"), patience));
    must(context.send("anybody?", patience));
    auto question = must(first->recv(patience));
    auto second = listening({}, "second");
    (void)must(req.dial(url("second"), patience));
    first->close();
    auto again = must(second.recv(patience));
    EXPECT_EQ(again.text(), "anybody?");
    must(std::move(again).reply("yes", patience));
    EXPECT_EQ(text_of(context.recv(patience)), "yes");
    EXPECT_EQ(count(stat::socket_failovers), 1u);
    EXPECT_EQ(std::move(question).reply("too late").error(), errc::closed);
}

TEST_F(req_and_rep, count_an_answer_whose_asker_has_gone)
{
    auto rep = listening();
    std::optional<sp::request> held;
    {
        auto req = dialed();
        auto context = must(req.open_context());
        must(context.send("?", patience));
        held = must(rep.recv(patience));
    }
    until([&] { return rep.peers() == 0; });
    EXPECT_TRUE(std::move(*held).reply("nobody hears it", patience));
    EXPECT_EQ(count(stat::socket_pipe_gone), 1u);
}

TEST_F(req_and_rep, hold_back_an_asker_that_is_not_answered_and_lose_nothing)
{
    open_engine({.ring_bytes = 16 * 1024});
    auto rep = listening();
    auto req = dialed();
    std::vector<sp::req_context> contexts;
    for (;;) {
        ASSERT_LT(contexts.size(), 4096u) << "nothing holds the asker back";
        contexts.push_back(must(req.open_context()));
        const auto sent = contexts.back().send(std::to_string(contexts.size() - 1), 0s);
        if (!sent) {
            EXPECT_EQ(sent.error(), errc::would_block);
            contexts.pop_back();
            break;
        }
    }
    ASSERT_GT(contexts.size(), 1u);
    for (std::size_t i = 0; i < contexts.size(); ++i) {
        auto question = must(rep.recv(patience));
        EXPECT_EQ(question.text(), std::to_string(i)); // one pipe keeps order
        const auto body = std::string(question.text());
        must(std::move(question).reply(body, patience));
    }
    for (std::size_t i = 0; i < contexts.size(); ++i)
        EXPECT_EQ(text_of(contexts[i].recv(patience)), std::to_string(i));
}

// No timer helps out here: a thread whose message another one took from the system is told, or
// sleeps for an hour.
TEST_F(req_and_rep, wake_the_thread_whose_message_another_one_received)
{
    const sp::options quiet{.connect_timeout = 1h, .keepalive_interval = 1h, .peer_timeout = 2h};
    auto asking = quiet;
    asking.resend_time = 1h;
    auto rep = listening(quiet);
    auto req = dialed(asking);
    const echo answers(rep);
    for (int i = 0; i < 20; ++i) {
        until([&] { return engine().next_deadline() > sp::engine_clock::now() + 2 * patience; });
        ASSERT_EQ(text_of(req.request(std::to_string(i), patience)), std::to_string(i));
    }
}

TEST_F(req_and_rep, send_again_in_time_while_another_thread_sleeps_for_both)
{
    const sp::options quiet{.keepalive_interval = 1h, .peer_timeout = 2h};
    auto rep = listening(quiet), idle = listening(quiet, "idle");
    auto asking = quiet;
    asking.resend_time = 20ms;
    auto req = dialed(asking);
    std::jthread sleeper([&] { EXPECT_EQ(idle.recv().error(), errc::closed); });
    std::jthread answerer([&] {
        (void)must(rep.recv(patience)); // dropped: only the second one is answered
        must(must(rep.recv(patience)).reply("second", patience));
    });
    EXPECT_EQ(text_of(req.request("?", patience)), "second");
    answerer.join();
    idle.close();
}

} // namespace
