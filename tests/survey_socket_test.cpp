// SPDX-License-Identifier: BSD-2-Clause
//
// Surveys through the public API, over unixgram: who is asked, who answers, and how a survey ends.
#include "tests/support/roles.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <set>

namespace {

using namespace sp::test;
using sp::errc;
using sp::stat;

class surveys : public on_one_engine {
protected:
    // Answers the next question.
    static void answer(sp::respondent &by, std::string_view text)
    {
        must(must(by.recv(patience)).reply(text, patience));
    }
};

using texts = std::vector<std::string>;

TEST_F(surveys, collect_an_answer_of_everybody)
{
    auto boss = listens<sp::surveyor>({.survey_time = 1h});
    std::vector<sp::respondent> agents;
    for (int i = 0; i < 4; ++i)
        agents.push_back(dials<sp::respondent>());
    must(boss.wait_peers(4, patience));
    auto round = must(boss.survey("who is ready?"));
    EXPECT_EQ(round.asked().size(), 4u);
    EXPECT_EQ(round.pending().size(), 4u);
    EXPECT_FALSE(round.try_recv());
    texts expected, heard;
    for (std::size_t i = 0; i < agents.size(); ++i) {
        auto question = must(agents[i].recv(patience));
        EXPECT_EQ(question.text(), "who is ready?");
        expected.push_back(std::to_string(i) + " is");
        must(std::move(question).reply(expected.back(), patience));
        const auto vote = must(round.recv(patience));
        heard.emplace_back(vote.text());
        EXPECT_EQ(round.answered().size(), i + 1);
        EXPECT_TRUE(std::ranges::count(round.answered(), vote.pipe()) == 1);
    }
    EXPECT_EQ(heard, expected);
    EXPECT_TRUE(round.pending().empty());
    EXPECT_TRUE(round.missed().empty());
    EXPECT_EQ(said(round.recv(1ms)), "timed_out"); // the survey goes on
    EXPECT_EQ(said(round.recv(0s)), "would_block");
}

TEST_F(surveys, end_at_their_time_and_say_so_once)
{
    auto boss = listens<sp::surveyor>({.survey_time = 10ms});
    auto agent = dials<sp::respondent>();
    must(boss.wait_peers(1, patience));
    auto round = must(boss.survey("?"));
    EXPECT_EQ(said(round.recv()), "expired");
    EXPECT_EQ(said(round.recv()), "invalid_state");
    answer(agent, "too late");
    until([&] { return count(stat::socket_late) == 1; });
    auto quick = must(boss.survey("?", 1ms));
    EXPECT_EQ(said(quick.recv(patience)), "expired");
    EXPECT_EQ(said(boss.survey("?", 0s)), "invalid_argument");
    EXPECT_EQ(said(boss.survey("?", -1s)), "invalid_argument");
}

TEST_F(surveys, keep_the_answers_that_came_in_time)
{
    auto boss = listens<sp::surveyor>({.survey_time = 1h, .end_when_all_answered = true});
    auto one = dials<sp::respondent>(), two = dials<sp::respondent>();
    must(boss.wait_peers(2, patience));
    auto round = must(boss.survey("?"));
    answer(one, "1");
    answer(two, "2");
    until([&] { return count(stat::socket_received) == 4; });
    std::array<sp::message, 4> batch;
    EXPECT_EQ(must(round.recv_batch(batch, patience)), 2u);
    EXPECT_EQ(said(round.recv_batch(batch, patience)), "expired");
    EXPECT_EQ(said(round.recv_batch(batch, patience)), "invalid_state");
    EXPECT_EQ(round.try_recv_batch(batch), 0u);
    EXPECT_EQ(round.answered().size(), 2u);
}

TEST_F(surveys, tell_everybody_who_waits_for_the_end)
{
    auto boss = listens<sp::surveyor>();
    auto round = must(boss.survey("?", 20ms));
    std::jthread one([&] {
        EXPECT_TRUE(
            std::set<std::string>({"expired", "invalid_state"}).contains(said(round.recv())));
    });
    EXPECT_TRUE(std::set<std::string>({"expired", "invalid_state"}).contains(said(round.recv())));
}

TEST_F(surveys, go_on_beside_each_other)
{
    auto boss = listens<sp::surveyor>({.survey_time = 1h});
    auto agent = dials<sp::respondent>();
    must(boss.wait_peers(1, patience));
    auto first = must(boss.survey("first")), second = must(boss.survey("second"));
    std::map<std::string, sp::request> questions;
    for (int i = 0; i < 2; ++i) {
        auto q = must(agent.recv(patience));
        auto text = std::string(q.text());
        questions.emplace(std::move(text), std::move(q));
    }
    must(std::move(questions.at("second")).reply("to the second", patience));
    must(std::move(questions.at("first")).reply("to the first", patience));
    EXPECT_EQ(text_of(first.recv(patience)), "to the first");
    EXPECT_EQ(text_of(second.recv(patience)), "to the second");
    first.cancel();
    EXPECT_EQ(said(first.recv()), "invalid_state");
}

TEST_F(surveys, without_anybody_to_ask_end_at_their_time)
{
    auto boss = must(sp::surveyor::open(at()));
    auto round = must(boss.survey("?", 1ms));
    EXPECT_TRUE(round.asked().empty());
    EXPECT_EQ(count(stat::socket_no_peer), 1u);
    EXPECT_EQ(said(round.recv(patience)), "expired");
}

TEST_F(surveys, are_asked_with_loans_and_served_until_stopped)
{
    auto boss = listens<sp::surveyor>({.survey_time = 1h});
    auto agent = dials<sp::respondent>();
    must(boss.wait_peers(1, patience));
    std::stop_source stop;
    std::jthread serves([&] {
        EXPECT_EQ(agent.serve([](const sp::request &q) { return std::string(q.text()) + "!"; },
                              stop.get_token()),
                  errc::canceled);
    });
    auto loan = must(boss.loan(10));
    loan.body()[0] = std::byte{'?'};
    loan.shrink(1);
    auto round = must(boss.survey(std::move(loan)));
    EXPECT_EQ(text_of(round.recv(patience)), "?!");
    EXPECT_EQ(said(boss.survey(std::move(loan))), "invalid_argument");
    stop.request_stop();
}

TEST_F(surveys, end_when_their_surveyor_is_closed)
{
    auto boss = listens<sp::surveyor>();
    auto round = must(boss.survey("?", 1h));
    std::jthread waits([&] { EXPECT_EQ(said(round.recv()), "closed"); });
    boss.close();
    waits.join();
    EXPECT_EQ(said(boss.survey("?")), "closed");
    EXPECT_TRUE(round.asked().empty());
    EXPECT_FALSE(round.try_recv());
    round.cancel();
}

TEST_F(surveys, count_what_they_take_and_give_at_both_ends)
{
    auto boss = listens<sp::surveyor>({.survey_time = 1h});
    auto agent = dials<sp::respondent>();
    must(boss.wait_peers(1, patience));
    auto round = must(boss.survey("?"));
    answer(agent, "!");
    EXPECT_EQ(text_of(round.recv(patience)), "!");
    EXPECT_EQ(count(stat::socket_accepted), 2u); // the question and the answer
    EXPECT_EQ(count(stat::socket_delivered), 2u);
}

// ---- batches of requests

class requests : public on_one_engine {};

TEST_F(requests, come_in_batches_and_are_answered_one_by_one)
{
    auto rep = listening();
    auto req = dialed();
    std::vector<sp::req_context> contexts;
    for (int i = 0; i < 3; ++i) {
        contexts.push_back(must(req.open_context()));
        must(contexts.back().send(std::to_string(i), patience));
        EXPECT_FALSE(contexts.back().try_recv());
    }
    std::array<sp::request, 8> batch;
    std::size_t n = 0;
    while (n < 3) {
        const auto more = must(rep.recv_batch(std::span(batch).subspan(n), patience));
        n += more;
    }
    for (auto &q : std::span(batch).first(n)) {
        const auto body = "answer to " + std::string(q.text());
        must(std::move(q).reply(body, patience));
    }
    for (std::size_t i = 0; i < 3; ++i) {
        std::optional<sp::message> m;
        until([&] { return (m = contexts[i].try_recv()).has_value(); });
        EXPECT_EQ(m->text(), "answer to " + std::to_string(i));
    }
    EXPECT_EQ(rep.try_recv_batch(batch), 0u);
}

} // namespace
