// SPDX-License-Identifier: BSD-2-Clause
//
// Conformance of SURVEYOR and RESPONDENT on byte streams: the scenarios V1 to V6.
#include "tests/interop/scene.hpp"

#include <algorithm>
#include <set>

namespace sp::test {
namespace {

class survey_scenario : public scene {
protected:
    // Reads one question, which must have the body; its word.
    static std::string word_of_question(byte_peer &voter, const std::string &body)
    {
        const auto came = voter.receive_frame();
        EXPECT_EQ(came.substr(4), body);
        EXPECT_TRUE(wire::word_at(came, 0) & wire::end_bit);
        return came.substr(0, 4);
    }
    void expect_answered(sp::respondent &r, byte_peer &asker, const std::string &stack)
    {
        asker.send(wire::frame(stack, "q"));
        auto question = must(r.recv(patience));
        EXPECT_EQ(question.text(), "q");
        must(std::move(question).reply("a", patience));
        EXPECT_EQ(asker.receive_frame(), stack + "a");
    }
};

TEST_F(survey_scenario, v1_all_respondents_get_the_same_id_and_all_answers_come_before_the_end)
{
    auto surveyor = open<sp::surveyor>();
    std::vector<byte_peer> voters;
    for (int i = 0; i < 3; ++i)
        voters.push_back(joined(surveyor));
    auto round = must(surveyor.survey("who?", 300ms));
    std::set<std::string> ids;
    for (auto &voter : voters)
        ids.insert(word_of_question(voter, "who?"));
    ASSERT_EQ(ids.size(), 1u);
    EXPECT_EQ(round.asked().size(), 3u);
    // The answers wait in the socket long before the end, whenever this thread comes to read them.
    for (std::size_t i = 0; i < voters.size(); ++i)
        voters[i].send(wire::frame(*ids.begin(), "voter " + std::to_string(i)));
    std::set<std::string> answers;
    for (int i = 0; i < 3; ++i)
        answers.insert(text_of(round.recv(patience)));
    EXPECT_EQ(answers, (std::set<std::string>{"voter 0", "voter 1", "voter 2"}));
    EXPECT_EQ(round.answered().size(), 3u);
    EXPECT_TRUE(round.pending().empty());
    EXPECT_EQ(round.recv(patience).error(), errc::expired);
    EXPECT_EQ(round.recv(patience).error(), errc::invalid_state);
    expect_balance(surveyor);
}

TEST_F(survey_scenario, v1_a_respondent_answers_many_surveyors)
{
    auto respondent = open<sp::respondent>();
    std::vector<byte_peer> askers;
    for (int i = 0; i < 3; ++i)
        askers.push_back(joined(respondent));
    for (int turn = 0; turn < 100; ++turn)
        for (auto &asker : askers)
            expect_answered(respondent, asker, wire::word(wire::end_bit + 5));
    expect_balance(respondent);
}

TEST_F(survey_scenario, v1_works_whoever_of_the_two_dials)
{
    byte_door door(ipc("door"));
    {
        auto [voter, surveyor] = dialed_to<sp::surveyor>(door);
        auto round = must(surveyor.survey("q", patience));
        voter.send(wire::frame(word_of_question(voter, "q"), "a"));
        EXPECT_EQ(text_of(round.recv(patience)), "a");
        expect_balance(surveyor);
    }
    auto [asker, respondent] = dialed_to<sp::respondent>(door);
    expect_answered(respondent, asker, wire::word(wire::end_bit));
    expect_balance(respondent);
}

TEST_F(survey_scenario, v1_who_connects_later_is_not_asked)
{
    auto surveyor = open<sp::surveyor>();
    auto round = must(surveyor.survey("early", patience));
    EXPECT_EQ(surveyor.statistics()[stat::socket_no_peer], 1u);
    auto voter = joined(surveyor);
    auto second = must(surveyor.survey("late", patience));
    (void)word_of_question(voter, "late");
    EXPECT_TRUE(round.asked().empty());
    expect_balance(surveyor);
}

TEST_F(survey_scenario, v2_a_recv_that_waits_is_told_the_end_once_and_not_too_early)
{
    auto surveyor = open<sp::surveyor>();
    auto voter = joined(surveyor);
    const auto asked_at = engine_clock::now();
    auto round = must(surveyor.survey("q", 60ms));
    EXPECT_EQ(round.recv(1ms).error(), errc::timed_out) << "the survey goes on";
    EXPECT_EQ(round.recv(patience).error(), errc::expired);
    EXPECT_GE(engine_clock::now() - asked_at, 60ms);
    EXPECT_EQ(round.recv(patience).error(), errc::invalid_state);
    // What comes now is late, and its sender stays.
    voter.send(wire::frame(word_of_question(voter, "q"), "too late"));
    wait_count(stat::socket_late, 1);
    EXPECT_EQ(surveyor.peers(), 1u);
    expect_balance(surveyor);
}

TEST_F(survey_scenario, v2_answers_that_came_in_time_are_read_after_the_end)
{
    auto surveyor = open<sp::surveyor>();
    auto voter = joined(surveyor);
    auto brief = must(surveyor.survey("q", 30ms));
    const auto id = word_of_question(voter, "q");
    voter.send(wire::frame(id, "in time"));
    // Another survey, whose end comes after that of the first.
    wait_count(stat::socket_received, 1);
    auto other = must(surveyor.survey("other", 60ms));
    EXPECT_EQ(other.recv(patience).error(), errc::expired);
    if (count(stat::socket_late) == 0) { // the answer was not overtaken by a clock of 30 ms
        EXPECT_EQ(text_of(brief.recv(patience)), "in time");
    }
    EXPECT_EQ(brief.recv(patience).error(), errc::expired);
    EXPECT_EQ(brief.recv(patience).error(), errc::invalid_state);
    expect_balance(surveyor);
}

TEST_F(survey_scenario, v3_a_respondent_may_answer_twice)
{
    auto surveyor = open<sp::surveyor>();
    auto voter = joined(surveyor);
    auto round = must(surveyor.survey("q", patience));
    const auto id = word_of_question(voter, "q");
    voter.send(wire::frame(id, "one") + wire::frame(id, "two"));
    EXPECT_EQ(text_of(round.recv(patience)), "one");
    EXPECT_EQ(text_of(round.recv(patience)), "two");
    expect_balance(surveyor);
}

TEST_F(survey_scenario, v3_or_only_once_if_the_surveyor_wants_one_answer_of_each)
{
    auto surveyor = open<sp::surveyor>({.one_answer_per_peer = true});
    auto voter = joined(surveyor);
    auto other = joined(surveyor);
    auto round = must(surveyor.survey("q", patience));
    const auto id = word_of_question(voter, "q");
    voter.send(wire::frame(id, "one") + wire::frame(id, "two"));
    wait_count(stat::socket_duplicate_answer, 1);
    other.send(wire::frame(word_of_question(other, "q"), "other"));
    EXPECT_EQ(text_of(round.recv(patience)), "one");
    EXPECT_EQ(text_of(round.recv(patience)), "other");
    EXPECT_FALSE(round.try_recv());
    expect_balance(surveyor);
}

TEST_F(survey_scenario, v4_an_answer_too_short_for_an_id_closes)
{
    auto surveyor = open<sp::surveyor>();
    auto good = joined(surveyor);
    std::uint64_t closed = 0;
    for (const auto *bytes : {"", "a", "abc"}) {
        auto bad = joined(surveyor);
        auto round = must(surveyor.survey("q", patience));
        const auto id = word_of_question(good, "q");
        EXPECT_EQ(word_of_question(bad, "q"), id);
        bad.send(wire::frame(bytes));
        EXPECT_TRUE(bad.ended());
        wait_count(stat::pipe_bad_header, ++closed);
        good.send(wire::frame(id, "a"));
        EXPECT_EQ(text_of(round.recv(patience)), "a");
        wait_peers_gone(surveyor, 1);
    }
    expect_balance(surveyor);
}

TEST_F(survey_scenario, v4_an_answer_without_bit_31_or_with_an_id_of_nobody_is_dropped)
{
    auto surveyor = open<sp::surveyor>();
    auto voter = joined(surveyor);
    auto round = must(surveyor.survey("q", patience));
    const auto id = word_of_question(voter, "q");
    const auto number = wire::word_at(id, 0);
    voter.send(wire::frame(wire::word(number & ~wire::end_bit), "without the bit") +
               wire::frame(wire::word(number ^ 0x40), "of nobody") + wire::frame(id, "right"));
    EXPECT_EQ(text_of(round.recv(patience)), "right");
    EXPECT_EQ(surveyor.statistics()[stat::socket_unknown_id], 2u);
    EXPECT_EQ(surveyor.peers(), 1u);
    expect_balance(surveyor);
}

TEST_F(survey_scenario, v4_an_answer_from_who_was_not_asked_is_dropped)
{
    auto surveyor = open<sp::surveyor>();
    auto voter = joined(surveyor);
    auto round = must(surveyor.survey("q", patience));
    const auto id = word_of_question(voter, "q");
    auto stranger = joined(surveyor);
    stranger.send(wire::frame(id, "forged"));
    wait_count(stat::socket_foreign_reply, 1);
    voter.send(wire::frame(id, "genuine"));
    EXPECT_EQ(text_of(round.recv(patience)), "genuine");
    EXPECT_EQ(surveyor.peers(), 2u);
    expect_balance(surveyor);
}

TEST_F(survey_scenario, v5_one_and_eight_words_are_delivered_nine_dropped_and_three_bytes_close)
{
    auto respondent = open<sp::respondent>();
    auto asker = joined(respondent);
    expect_answered(respondent, asker, wire::stack(1, wire::end_bit + 1));
    expect_answered(respondent, asker, wire::stack(8, wire::end_bit + 2));
    asker.send(wire::frame(wire::stack(9, wire::end_bit + 3), "over"));
    wait_count(stat::socket_ttl, 1);
    expect_answered(respondent, asker, wire::stack(1, wire::end_bit + 4));
    auto bad = joined(respondent);
    bad.send(wire::frame("abc"));
    EXPECT_TRUE(bad.ended());
    wait_count(stat::pipe_bad_header, 1);
    EXPECT_EQ(sp::request().reply("to no survey", patience).error(), errc::invalid_state);
    expect_answered(respondent, asker, wire::stack(2, wire::end_bit + 5));
    wait_peers_gone(respondent, 1);
    expect_balance(respondent);
}

TEST_F(survey_scenario, v6_an_answer_goes_to_its_own_survey_and_one_given_up_is_counted)
{
    auto respondent = open<sp::respondent>();
    auto one = joined(respondent);
    auto two = joined(respondent);
    one.send(wire::frame(wire::word(wire::end_bit + 1), "first"));
    auto held = must(respondent.recv(patience));
    EXPECT_EQ(held.text(), "first");
    two.send(wire::frame(wire::word(wire::end_bit + 2), "second"));
    held = must(respondent.recv(patience));
    must(std::move(held).reply("to the latest", patience));
    EXPECT_EQ(two.receive_frame(), wire::word(wire::end_bit + 2) + "to the latest");
    EXPECT_EQ(respondent.statistics()[stat::socket_abandoned], 1u);
    EXPECT_TRUE(one.silent());
    expect_balance(respondent);
}

TEST_F(survey_scenario, v6_the_same_survey_twice_is_delivered_twice)
{
    auto respondent = open<sp::respondent>();
    auto asker = joined(respondent);
    for (int i = 0; i < 2; ++i)
        expect_answered(respondent, asker, wire::word(wire::end_bit + 1));
    expect_balance(respondent);
}

} // namespace
} // namespace sp::test
