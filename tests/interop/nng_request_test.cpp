// SPDX-License-Identifier: BSD-2-Clause
//
// Conformance with libnng: REQ and REP, the scenarios Q1 to Q3, Q6 to Q11, Q13 and Q14. In each the
// two libraries have either role, and either listens.
#include "tests/interop/nng_scene.hpp"

#include <thread>

namespace sp::test {
namespace {

class nng_request : public nng_scene {};
INSTANTIATE_TEST_SUITE_P(with, nng_request, ::testing::ValuesIn(over_ipc), name_of);

TEST_P(nng_request, q1_a_thousand_requests_of_ours_are_answered)
{
    nng_peer replier(nng_role::rep0);
    auto req = joined_to<sp::req>(replier);
    auto served = std::async(std::launch::async, [&] {
        for (int i = 0; i < 1000; ++i) {
            expect_mail(replier.recv(), "q" + std::to_string(i));
            nng_must(replier.send("a" + std::to_string(i)), "reply");
        }
    });
    for (int i = 0; i < 1000; ++i)
        expect_message(req.request("q" + std::to_string(i), patience), "a" + std::to_string(i));
    served.get();
    expect_balance(req);
}

TEST_P(nng_request, q1_a_thousand_requests_of_libnng_are_answered)
{
    nng_peer asker(nng_role::req0);
    auto rep = joined_to<sp::rep>(asker);
    echo answering(rep);
    for (int i = 0; i < 1000; ++i) {
        const auto body = "q" + std::to_string(i);
        nng_must(asker.send(body), "ask");
        expect_mail(asker.recv(), body);
    }
    expect_balance(rep);
}

TEST_P(nng_request, q1_the_words_are_those_of_the_wire)
{
    nng_peer replier(nng_role::rep0_raw);
    auto req = joined_to<sp::req>(replier);
    auto context = must(req.open_context());
    must(context.send("q", patience));
    const auto asked = replier.recv();
    expect_mail(asked, "q");
    ASSERT_EQ(asked.header.size(), 8u) << "the pipe, and one word of ours";
    EXPECT_EQ(wire::word_at(asked.header, 0), asked.pipe);
    EXPECT_TRUE(wire::word_at(asked.header, 1) & wire::end_bit);
    nng_must(replier.send_with(asked.header, "a"), "reply");
    expect_message(context.recv(patience), "a");
    expect_balance(req);
}

TEST_P(nng_request, q2_the_stack_of_a_request_comes_back_as_it_was)
{
    nng_peer asker(nng_role::req0_raw);
    auto rep = joined_to<sp::rep>(asker);
    for (const std::size_t n : {1u, 2u, 8u}) {
        SCOPED_TRACE(n);
        const auto stack = wire::stack(n, 0xdeadbeef);
        nng_must(asker.send_with(stack, "q"), "ask");
        auto question = must(rep.recv(patience));
        EXPECT_EQ(question.text(), "q");
        must(std::move(question).reply("a", patience));
        const auto answer = asker.recv();
        expect_mail(answer, "a");
        EXPECT_EQ(answer.header, stack);
    }
    expect_balance(rep);
}

TEST_P(nng_request, q3_more_words_than_ttl_max_are_dropped_and_the_pipe_stays)
{
    nng_peer asker(nng_role::req0_raw);
    auto rep = joined_to<sp::rep>(asker, {.ttl_max = 3});
    for (const std::size_t n : {4u, 9u, 16u})
        nng_must(asker.send_with(wire::stack(n, wire::end_bit), "over"), "ask");
    nng_must(asker.send_with(wire::stack(3, wire::end_bit), "fits"), "ask");
    auto question = must(rep.recv(patience));
    EXPECT_EQ(question.text(), "fits");
    must(std::move(question).reply("a", patience));
    expect_mail(asker.recv(), "a");
    EXPECT_EQ(rep.statistics()[stat::socket_ttl], 3u);
    EXPECT_EQ(rep.peers(), 1u);
    expect_balance(rep);
}

TEST_P(nng_request, q2_an_exchange_goes_through_a_device_of_libnng)
{
    nng_peer front(nng_role::rep0_raw), back(nng_role::req0_raw, front);
    auto rep = joined_to<sp::rep>(back);
    auto req = joined_to<sp::req>(front);
    nng_peer asker(nng_role::req0);
    const auto door = new_address("ipc");
    (void)front.listen(door);
    asker.dial(door);
    front.join_by_device(back);
    echo answering(rep);
    for (int i = 0; i < 100; ++i) {
        const auto body = "question " + std::to_string(i);
        expect_message(req.request(body, patience), body);
        nng_must(asker.send(body), "ask");
        expect_mail(asker.recv(), body);
    }
    expect_balance(req);
    expect_balance(rep);
}

TEST_P(nng_request, q6_an_answer_without_a_request_is_refused)
{
    nng_peer asker(nng_role::req0), replier(nng_role::rep0);
    auto rep = joined_to<sp::rep>(asker);
    auto req = joined_to<sp::req>(replier);
    EXPECT_EQ(replier.send("nothing was asked"), NNG_ESTATE);
    EXPECT_EQ(sp::request().reply("nothing was asked", patience).error(), errc::invalid_state);
    nng_must(asker.send("q"), "ask");
    auto question = must(rep.recv(patience));
    must(std::move(question).reply("once", patience));
    EXPECT_EQ(std::move(question).reply("twice", patience).error(), errc::invalid_state);
    expect_mail(asker.recv(), "once");
    EXPECT_EQ(asker.recv(not_at_all).error, NNG_ESTATE) << "there was a second answer";
    expect_balance(rep);
}

TEST_P(nng_request, q7_a_reply_goes_to_the_latest_request)
{
    nng_peer one(nng_role::req0), two(nng_role::req0);
    auto rep = joined_to<sp::rep>(one);
    join(rep, two);
    nng_must(one.send("first"), "ask");
    auto held = must(rep.recv(patience));
    EXPECT_EQ(held.text(), "first");
    nng_must(two.send("second"), "ask");
    held = must(rep.recv(patience)); // the first is given up
    EXPECT_EQ(held.text(), "second");
    must(std::move(held).reply("to the latest", patience));
    expect_mail(two.recv(), "to the latest");
    EXPECT_EQ(one.recv(not_at_all).error, NNG_EAGAIN);
    EXPECT_EQ(rep.statistics()[stat::socket_abandoned], 1u);
    expect_balance(rep);
}

TEST_P(nng_request, q7_libnng_answers_the_latest_request_of_two_contexts_of_ours)
{
    nng_peer replier(nng_role::rep0);
    auto req = joined_to<sp::req>(replier);
    auto one = must(req.open_context()), two = must(req.open_context());
    must(one.send("first", patience));
    expect_mail(replier.recv(), "first");
    must(two.send("second", patience));
    expect_mail(replier.recv(), "second");
    nng_must(replier.send("to the latest"), "reply");
    expect_message(two.recv(patience), "to the latest");
    EXPECT_EQ(error_of(one.recv(0s)), "would_block");
    one.cancel();
    expect_balance(req);
}

TEST_P(nng_request, q8_contexts_on_both_sides_keep_their_exchanges_apart)
{
    nng_peer replier(nng_role::rep0), asker(nng_role::req0);
    auto req = joined_to<sp::req>(replier);
    auto rep = joined_to<sp::rep>(asker);
    nng_context a(replier), b(replier), c(asker), d(asker);
    auto one = must(req.open_context()), two = must(req.open_context());
    EXPECT_EQ(one.recv(patience).error(), errc::invalid_state);
    EXPECT_EQ(c.recv().error, NNG_ESTATE);
    must(one.send("1", patience));
    expect_mail(a.recv(), "1");
    must(two.send("2", patience));
    expect_mail(b.recv(), "2");
    nng_must(b.send("b"), "reply");
    nng_must(a.send("a"), "reply");
    expect_message(one.recv(patience), "a");
    expect_message(two.recv(patience), "b");
    nng_must(c.send("3"), "ask");
    auto third = must(rep.recv(patience));
    nng_must(d.send("4"), "ask");
    auto fourth = must(rep.recv(patience));
    must(std::move(fourth).reply("d", patience));
    must(std::move(third).reply("c", patience));
    expect_mail(c.recv(), "c");
    expect_mail(d.recv(), "d");
    expect_balance(req);
    expect_balance(rep);
}

TEST_P(nng_request, q8_a_second_recv_at_the_same_time_is_refused)
{
    nng_peer replier(nng_role::rep0);
    auto req = joined_to<sp::req>(replier);
    auto context = must(req.open_context());
    must(context.send("q", patience));
    expect_mail(replier.recv(), "q");
    const auto receive = [&] { return context.recv(patience); };
    auto one = std::async(std::launch::async, receive);
    auto two = std::async(std::launch::async, receive);
    const auto done = [](auto &f) { return f.wait_for(0s) == std::future_status::ready; };
    until([&] { return done(one) || done(two); });
    auto &refused = done(one) ? one : two;
    auto &waits = &refused == &one ? two : one;
    EXPECT_EQ(refused.get().error(), errc::invalid_state);
    nng_must(replier.send("a"), "reply");
    expect_message(waits.get(), "a");
    expect_balance(req);
}

TEST_P(nng_request, q9_a_reply_from_a_pipe_that_was_not_asked_is_dropped)
{
    nng_peer asked(nng_role::rep0_raw), other(nng_role::rep0_raw);
    auto req = joined_to<sp::req>(asked);
    auto context = must(req.open_context());
    must(context.send("q", patience));
    const auto question = asked.recv();
    join(req, other);
    // A request of its own tells the other one's name for its pipe.
    auto helper = must(req.open_context());
    std::string way_back;
    while (way_back.empty()) { // ready pipes are taken in turn
        must(helper.send("who are you", patience));
        if (auto m = other.recv(nng_wait(20)); m.error == 0)
            way_back = m.header.substr(0, 4);
    }
    helper.cancel();
    nng_must(other.send_with(way_back + question.header.substr(4), "forged"), "reply");
    wait_count(stat::socket_foreign_reply, 1);
    EXPECT_EQ(error_of(context.recv(0s)), "would_block");
    nng_must(asked.send_with(question.header, "genuine"), "reply");
    expect_message(context.recv(patience), "genuine");
    EXPECT_EQ(req.peers(), 2u);
    expect_balance(req);
}

TEST_P(nng_request, q10_an_unanswered_request_of_ours_goes_again_with_the_same_id)
{
    nng_peer silent(nng_role::rep0_raw);
    auto req = joined_to<sp::req>(silent, {.resend_time = 100ms});
    auto context = must(req.open_context());
    const auto asked_at = engine_clock::now();
    must(context.send("q", patience));
    const auto first = silent.recv();
    expect_mail(first, "q");
    for (int copy = 1; copy <= 5; ++copy) {
        const auto again = silent.recv();
        expect_mail(again, "q");
        EXPECT_EQ(again.header, first.header);
        EXPECT_GE(engine_clock::now() - asked_at, copy * 100ms) << "sent too early";
    }
    nng_must(silent.send_with(first.header, "a"), "reply");
    expect_message(context.recv(patience), "a");
    EXPECT_GE(req.statistics()[stat::socket_resends], 5u);
    expect_balance(req);
}

TEST_P(nng_request, q10_every_copy_of_a_request_of_libnng_is_delivered)
{
    nng_peer asker(nng_role::req0);
    asker.set(NNG_OPT_REQ_RESENDTIME, nng_wait(100));
    auto rep = joined_to<sp::rep>(asker);
    nng_must(asker.send("q"), "ask");
    for (int copy = 0; copy < 3; ++copy)
        EXPECT_EQ(must(rep.recv(patience)).text(), "q"); // and given up
    must(must(rep.recv(patience)).reply("a", patience));
    expect_mail(asker.recv(), "a");
    EXPECT_EQ(rep.statistics()[stat::socket_abandoned], 3u);
    expect_balance(rep);
}

TEST_P(nng_request, q10_the_request_of_a_pipe_that_goes_is_sent_elsewhere_at_once)
{
    nng_peer other(nng_role::rep0);
    auto req = opened<sp::req>();
    auto context = must(req.open_context());
    {
        nng_peer dies(nng_role::rep0);
        join(req, dies);
        must(context.send("q", patience));
        expect_mail(dies.recv(), "q");
        join(req, other);
    }
    expect_mail(other.recv(), "q");
    nng_must(other.send("a"), "reply");
    expect_message(context.recv(patience), "a");
    EXPECT_EQ(req.statistics()[stat::socket_failovers], 1u);
    expect_balance(req);
}

TEST_P(nng_request, q11_a_new_request_makes_the_old_reply_late)
{
    nng_peer replier(nng_role::rep0_raw);
    auto req = joined_to<sp::req>(replier);
    auto context = must(req.open_context());
    must(context.send("old", patience));
    const auto old = replier.recv();
    expect_mail(old, "old");
    must(context.send("new", patience));
    const auto recent = replier.recv();
    expect_mail(recent, "new");
    EXPECT_NE(old.header, recent.header);
    nng_must(replier.send_with(old.header, "too late"), "reply");
    nng_must(replier.send_with(recent.header, "in time"), "reply");
    expect_message(context.recv(patience), "in time");
    EXPECT_EQ(req.statistics()[stat::socket_late], 1u);
    expect_balance(req);
}

TEST_P(nng_request, q11_libnng_does_not_take_our_reply_to_what_it_asked_before)
{
    nng_peer asker(nng_role::req0);
    auto rep = joined_to<sp::rep>(asker);
    nng_must(asker.send("old"), "ask");
    auto old = must(rep.recv(patience));
    nng_must(asker.send("new"), "ask");
    auto recent = must(rep.recv(patience));
    EXPECT_EQ(recent.text(), "new");
    must(std::move(old).reply("too late", patience));
    must(std::move(recent).reply("in time", patience));
    expect_mail(asker.recv(), "in time");
    expect_balance(rep);
}

TEST_P(nng_request, q13_a_slow_replier_holds_one_request_and_the_kernel_holds_libnng_back)
{
    nng_peer asker(nng_role::req0_raw);
    auto rep = joined_to<sp::rep>(asker);
    const auto body = wire::body(4096);
    std::uint32_t sent = 0;
    const auto ask = [&](nng_wait how_long) {
        return asker.send_with(wire::word(wire::end_bit + sent), body, how_long);
    };
    while (sent < 1000 && ask(nng_wait(200)) == 0)
        ++sent;
    EXPECT_LT(sent, 500u) << "a thousand requests went out at once";
    EXPECT_EQ(rep.queued(), 1u);
    EXPECT_EQ(engine().frames_in_use(), 1u);
    EXPECT_EQ(count(stat::socket_received), 1u);
    auto asked = std::async(std::launch::async, [&] {
        for (; sent < 1000; ++sent)
            nng_must(ask(nng_patience), "ask");
    });
    for (std::uint32_t i = 0; i < 1000; ++i) {
        auto question = must(rep.recv(patience));
        ASSERT_TRUE(question.text() == body);
        must(std::move(question).reply("a", patience));
        const auto answer = asker.recv();
        expect_mail(answer, "a");
        ASSERT_EQ(answer.header, wire::word(wire::end_bit + i));
    }
    asked.get();
    expect_balance(rep);
}

TEST_P(nng_request, q13_libnng_that_does_not_serve_holds_our_contexts_back_and_loses_none)
{
    nng_peer replier(nng_role::rep0);
    auto req = joined_to<sp::req>(replier);
    const auto body = wire::body(4096);
    std::vector<req_context> asking;
    for (bool room = true; room && asking.size() < 1000;) {
        asking.push_back(must(req.open_context()));
        room = asking.back().send(body, 200ms).has_value();
    }
    EXPECT_LT(asking.size(), 500u);
    asking.pop_back();
    for (auto &context : asking) {
        expect_mail(replier.recv(), body);
        nng_must(replier.send("a"), "reply");
        expect_message(context.recv(patience), "a");
    }
    expect_balance(req);
}

TEST_P(nng_request, q14_a_reply_to_a_pipe_that_has_gone_succeeds_and_is_counted)
{
    auto rep = opened<sp::rep>();
    std::optional<sp::request> question;
    {
        nng_peer asker(nng_role::req0);
        join(rep, asker);
        nng_must(asker.send("q"), "ask");
        question = must(rep.recv(patience));
    }
    wait_peers_gone(rep);
    must(std::move(*question).reply("too late", patience));
    EXPECT_EQ(rep.statistics()[stat::socket_pipe_gone], 1u);
    nng_peer next(nng_role::req0);
    join(rep, next);
    nng_must(next.send("q"), "ask");
    must(must(rep.recv(patience)).reply("a", patience));
    expect_mail(next.recv(), "a");
    expect_balance(rep);
}

TEST_P(nng_request, q14_libnng_answers_somebody_of_ours_who_has_gone)
{
    nng_peer replier(nng_role::rep0);
    {
        auto req = joined_to<sp::req>(replier);
        auto context = must(req.open_context());
        must(context.send("q", patience));
        expect_mail(replier.recv(), "q");
    }
    replier.wait_pipes(0);
    EXPECT_EQ(replier.send("too late"), nng_does::say_of_an_answer_to_nobody);
    auto next = joined_to<sp::req>(replier);
    auto asked = std::async(std::launch::async, [&] { return next.request("q", patience); });
    expect_mail(replier.recv(), "q");
    nng_must(replier.send("a"), "reply");
    expect_message(asked.get(), "a");
    expect_balance(next);
}

} // namespace
} // namespace sp::test
