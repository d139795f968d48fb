// SPDX-License-Identifier: BSD-2-Clause
//
// Conformance with libnng: SURVEYOR and RESPONDENT, the scenarios V1 to V3, V5 and V6.
#include "tests/interop/nng_scene.hpp"

#include <set>

namespace sp::test {
namespace {

class nng_survey : public nng_scene {};
INSTANTIATE_TEST_SUITE_P(with, nng_survey, ::testing::ValuesIn(over_ipc), name_of);

// The bodies of a survey's answers until it ends.
std::multiset<std::string> answers_of(survey &s)
{
    std::multiset<std::string> answers;
    for (;;) {
        auto answer = s.recv(patience);
        if (!answer) {
            EXPECT_EQ(error_of(answer), "expired");
            return answers;
        }
        answers.emplace(answer->text());
    }
}

TEST_P(nng_survey, v1_three_respondents_of_libnng_hear_the_same_id_and_all_answers_come)
{
    nng_peer one(nng_role::respondent0_raw), two(nng_role::respondent0_raw),
        three(nng_role::respondent0_raw);
    auto surveyor = opened<sp::surveyor>({.end_when_all_answered = true});
    for (auto *n : {&one, &two, &three})
        join(surveyor, *n);
    for (int round = 0; round < 20; ++round) {
        auto asked = must(surveyor.survey("q", patience));
        std::set<std::string> ids;
        for (auto *n : {&one, &two, &three}) {
            const auto question = n->recv();
            expect_mail(question, "q");
            ASSERT_EQ(question.header.size(), 8u);
            EXPECT_TRUE(wire::word_at(question.header, 1) & wire::end_bit);
            ids.insert(question.header.substr(4));
            nng_must(n->send_with(question.header, "a"), "answer");
        }
        EXPECT_EQ(ids.size(), 1u);
        EXPECT_EQ(answers_of(asked), (std::multiset<std::string>{"a", "a", "a"}));
        EXPECT_EQ(error_of(asked.recv(patience)), "invalid_state");
        EXPECT_EQ(asked.answered().size(), 3u);
    }
    expect_balance(surveyor);
}

TEST_P(nng_survey, v1_three_respondents_of_ours_answer_libnng)
{
    nng_peer surveyor(nng_role::surveyor0);
    auto one = joined_to<sp::respondent>(surveyor);
    auto two = joined_to<sp::respondent>(surveyor);
    auto three = joined_to<sp::respondent>(surveyor);
    surveyor.set(NNG_OPT_SURVEYOR_SURVEYTIME, nng_patience);
    for (int round = 0; round < 20; ++round) {
        nng_must(surveyor.send("q"), "ask");
        int number = 0;
        for (auto *s : {&one, &two, &three}) {
            auto question = must(s->recv(patience));
            EXPECT_EQ(question.text(), "q");
            must(std::move(question).reply("a" + std::to_string(++number), patience));
        }
        std::multiset<std::string> answers;
        for (int i = 0; i < 3; ++i)
            answers.insert(surveyor.recv().body);
        EXPECT_EQ(answers, (std::multiset<std::string>{"a1", "a2", "a3"}));
    }
    for (auto *s : {&one, &two, &three})
        expect_balance(*s);
}

TEST_P(nng_survey, v2_a_recv_that_waits_is_told_the_end_once_and_not_too_early)
{
    nng_peer silent(nng_role::respondent0);
    auto surveyor = joined_to<sp::surveyor>(silent);
    const auto asked_at = engine_clock::now();
    auto asked = must(surveyor.survey("q", 1s));
    EXPECT_EQ(error_of(asked.recv(50ms)), "timed_out") << "the call's own, the survey goes on";
    EXPECT_EQ(error_of(asked.recv(patience)), "expired");
    EXPECT_GE(engine_clock::now() - asked_at, 1s);
    EXPECT_EQ(error_of(asked.recv(patience)), "invalid_state");
    expect_mail(silent.recv(), "q");
    nng_must(silent.send("too late", nng_does::respondent_needs_a_moment), "answer");
    wait_count(stat::socket_late, 1);
    expect_balance(surveyor);
}

TEST_P(nng_survey, v2_answers_that_came_in_time_are_read_after_the_end)
{
    nng_peer one(nng_role::respondent0), silent(nng_role::respondent0);
    auto surveyor = joined_to<sp::surveyor>(one);
    join(surveyor, silent);
    auto short_one = must(surveyor.survey("q", 300ms)), other = must(surveyor.survey("r", 301ms));
    expect_mail(one.recv(), "q");
    nng_must(one.send("in time", nng_does::respondent_needs_a_moment), "answer");
    until([&] { return short_one.answered().size() == 1; });
    EXPECT_EQ(error_of(other.recv(patience)), "expired") << "and so has the first";
    expect_message(short_one.recv(patience), "in time");
    EXPECT_EQ(error_of(short_one.recv(patience)), "expired");
    expect_balance(surveyor);
}

TEST_P(nng_survey, v2_a_survey_of_libnng_ends_while_we_hold_it)
{
    nng_peer surveyor(nng_role::surveyor0);
    surveyor.set(NNG_OPT_SURVEYOR_SURVEYTIME, nng_wait(200));
    auto respondent = joined_to<sp::respondent>(surveyor);
    nng_must(surveyor.send("q"), "ask");
    auto question = must(respondent.recv(patience));
    EXPECT_EQ(surveyor.recv().error, nng_does::say_when_a_survey_ends);
    EXPECT_EQ(surveyor.recv().error, nng_does::say_after_a_survey);
    must(std::move(question).reply("too late", patience));
    nng_must(surveyor.send("again"), "ask");
    must(must(respondent.recv(patience)).reply("in time", patience));
    expect_mail(surveyor.recv(), "in time");
    expect_balance(respondent);
}

TEST_P(nng_survey, v3_a_respondent_of_libnng_may_answer_twice)
{
    for (const bool once : {false, true}) {
        SCOPED_TRACE(once);
        nng_peer respondent(nng_role::respondent0_raw);
        auto surveyor = joined_to<sp::surveyor>(respondent, {.one_answer_per_peer = once});
        auto asked = must(surveyor.survey("q", once ? 300ms : patience));
        const auto question = respondent.recv();
        nng_must(respondent.send_with(question.header, "a"), "answer");
        nng_must(respondent.send_with(question.header, "b"), "answer");
        expect_message(asked.recv(patience), "a");
        if (once)
            EXPECT_EQ(error_of(asked.recv(patience)), "expired");
        else
            expect_message(asked.recv(patience), "b");
        EXPECT_EQ(surveyor.statistics()[stat::socket_duplicate_answer], once ? 1u : 0u);
        expect_balance(surveyor);
    }
}

TEST_P(nng_survey, v3_a_raw_respondent_of_ours_may_answer_libnng_twice)
{
    nng_peer surveyor(nng_role::surveyor0);
    surveyor.set(NNG_OPT_SURVEYOR_SURVEYTIME, nng_patience);
    auto respondent = must(raw::open(pattern::respondent, at({})));
    join(respondent, surveyor);
    nng_must(surveyor.send("q"), "ask");
    const auto question = must(respondent.recv(patience));
    must(respondent.send(question.header(), "a", patience));
    must(respondent.send(question.header(), "b", patience));
    expect_mail(surveyor.recv(), "a");
    expect_mail(surveyor.recv(), "b");
    expect_balance(respondent);
}

TEST_P(nng_survey, v5_one_and_eight_words_are_delivered_and_nine_dropped)
{
    nng_peer surveyor(nng_role::surveyor0_raw);
    auto respondent = joined_to<sp::respondent>(surveyor);
    EXPECT_EQ(sp::request().reply("nothing was asked", patience).error(), errc::invalid_state);
    nng_must(surveyor.send_with(wire::stack(9, wire::end_bit), "over"), "ask");
    for (const std::size_t n : {1u, 8u}) {
        const auto stack = wire::stack(n, 0xdeadbeef);
        nng_must(surveyor.send_with(stack, "q"), "ask");
        auto question = must(respondent.recv(patience));
        EXPECT_EQ(question.text(), "q");
        must(std::move(question).reply("a", patience));
        const auto answer = surveyor.recv();
        expect_mail(answer, "a");
        EXPECT_EQ(answer.header, stack);
    }
    EXPECT_EQ(respondent.statistics()[stat::socket_ttl], 1u);
    expect_balance(respondent);
}

TEST_P(nng_survey, v5_three_bytes_close)
{
    nng_peer surveyor(nng_role::surveyor0_raw);
    auto respondent = joined_to<sp::respondent>(surveyor);
    nng_must(surveyor.send("abc"), "ask");
    wait_count(stat::pipe_bad_header, 1);
    EXPECT_EQ(respondent.statistics()[stat::pipe_bad_header], 1u);
    expect_balance(respondent);
}

TEST_P(nng_survey, v6_an_answer_goes_to_the_latest_survey)
{
    nng_peer one(nng_role::surveyor0), two(nng_role::surveyor0);
    for (auto *n : {&one, &two})
        n->set(NNG_OPT_SURVEYOR_SURVEYTIME, nng_patience);
    auto respondent = joined_to<sp::respondent>(one);
    join(respondent, two);
    nng_must(one.send("first"), "ask");
    auto held = must(respondent.recv(patience));
    nng_must(two.send("second"), "ask");
    held = must(respondent.recv(patience)); // the first is given up
    EXPECT_EQ(held.text(), "second");
    must(std::move(held).reply("to the latest", patience));
    expect_mail(two.recv(), "to the latest");
    EXPECT_EQ(one.recv(not_at_all).error, NNG_EAGAIN);
    EXPECT_EQ(respondent.statistics()[stat::socket_abandoned], 1u);
    expect_balance(respondent);
}

TEST_P(nng_survey, v6_libnng_answers_the_latest_of_two_surveys_of_ours)
{
    nng_peer respondent(nng_role::respondent0);
    auto surveyor = joined_to<sp::surveyor>(respondent);
    auto one = must(surveyor.survey("first", patience));
    expect_mail(respondent.recv(), "first");
    auto two = must(surveyor.survey("second", patience));
    expect_mail(respondent.recv(), "second");
    nng_must(respondent.send("to the latest", nng_does::respondent_needs_a_moment), "answer");
    expect_message(two.recv(patience), "to the latest");
    EXPECT_EQ(one.pending().size(), 1u);
    EXPECT_FALSE(one.try_recv());
    EXPECT_EQ(respondent.send("once more"), NNG_ESTATE);
    expect_balance(surveyor);
}

} // namespace
} // namespace sp::test
