// SPDX-License-Identifier: BSD-2-Clause
//
// Conformance of REP on byte streams: the scenarios Q1 to Q7, Q13 and Q14 from the answering side.
#include "tests/interop/scene.hpp"

namespace sp::test {
namespace {

class reply_scenario : public scene {
protected:
    // Receives one request and answers it.
    static void serve_one(sp::rep &rep, const std::string &expected, const std::string &answer)
    {
        auto question = must(rep.recv(patience));
        EXPECT_EQ(question.text(), expected);
        must(std::move(question).reply(answer, patience));
    }
    void expect_served(sp::rep &rep, byte_peer &asker, std::uint32_t id = wire::end_bit + 9)
    {
        asker.send(wire::frame(wire::word(id), "good"));
        serve_one(rep, "good", "better");
        EXPECT_EQ(asker.receive_frame(), wire::word(id) + "better");
    }
};

TEST_F(reply_scenario, q1_a_thousand_replies_carry_the_words_of_their_requests)
{
    auto rep = open<sp::rep>();
    auto asker = joined(rep);
    auto asked = std::async(std::launch::async, [&] {
        for (std::uint32_t i = 0; i < 1000; ++i) {
            const auto id = wire::word(wire::end_bit | i * 2654435761u);
            asker.send(wire::frame(id, "q" + std::to_string(i)));
            if (asker.receive_frame() != id + "a" + std::to_string(i))
                throw std::runtime_error("another reply than expected");
        }
    });
    for (std::uint32_t i = 0; i < 1000; ++i)
        serve_one(rep, "q" + std::to_string(i), "a" + std::to_string(i));
    asked.get();
    expect_balance(rep);
}

TEST_F(reply_scenario, q1_works_whoever_of_the_two_dials)
{
    byte_door door(ipc("door"));
    auto [asker, rep] = dialed_to<sp::rep>(door);
    for (int i = 0; i < 100; ++i)
        expect_served(rep, asker);
    expect_balance(rep);
}

TEST_F(reply_scenario, q2_the_stack_of_a_request_comes_back_as_it_was)
{
    auto rep = open<sp::rep>();
    auto asker = joined(rep);
    for (const std::size_t n : {1u, 2u, 8u}) {
        SCOPED_TRACE(n);
        const auto stack = wire::stack(n, 0xdeadbeef);
        asker.send(wire::frame(stack, "q"));
        serve_one(rep, "q", "a");
        EXPECT_EQ(asker.receive_frame(), stack + "a");
    }
    expect_balance(rep);
}

TEST_F(reply_scenario, q3_more_words_than_ttl_max_are_dropped_and_the_pipe_stays)
{
    struct limit {
        std::optional<std::uint32_t> ttl_max;
        std::size_t passes;
    };
    for (const auto &[ttl_max, passes] :
         {limit{{}, 8}, limit{1u, 1}, limit{3u, 3}, limit{15u, 15}}) {
        SCOPED_TRACE(passes);
        auto rep = open<sp::rep>({.ttl_max = ttl_max});
        auto asker = joined(rep);
        const auto fits = wire::stack(passes, wire::end_bit + 1);
        const auto over = wire::stack(passes + 1, wire::end_bit + 2);
        asker.send(wire::frame(over, "over") + wire::frame(fits, "fits"));
        serve_one(rep, "fits", "a");
        EXPECT_EQ(asker.receive_frame(), fits + "a");
        EXPECT_EQ(rep.statistics()[stat::socket_ttl], 1u);
        EXPECT_EQ(rep.peers(), 1u);
        expect_balance(rep);
    }
}

TEST_F(reply_scenario, q4_a_stack_that_does_not_end_closes)
{
    auto rep = open<sp::rep>();
    auto good = joined(rep);
    const auto no_end = wire::words({1, 2, 3});
    std::uint64_t closed = 0;
    for (const auto &bad_header :
         {std::string(), std::string("abc"), wire::word(1), no_end, no_end + "ab"}) {
        auto bad = joined(rep);
        expect_served(rep, good);
        bad.send(wire::frame(bad_header));
        EXPECT_TRUE(bad.ended()) << bad_header.size() << " bytes";
        wait_count(stat::pipe_bad_header, ++closed);
        wait_peers_gone(rep, 1);
        expect_served(rep, good);
    }
    expect_balance(rep);
}

TEST_F(reply_scenario, q5_twenty_words_without_an_end_are_over_ttl_before_they_are_malformed)
{
    auto rep = open<sp::rep>();
    auto asker = joined(rep);
    std::string endless;
    for (std::uint32_t i = 0; i < 20; ++i)
        endless += wire::word(i);
    asker.send(wire::frame(endless));
    wait_count(stat::socket_ttl, 1);
    expect_served(rep, asker);
    EXPECT_EQ(count(stat::pipe_bad_header), 0u);
    EXPECT_EQ(rep.peers(), 1u);
    expect_balance(rep);
}

TEST_F(reply_scenario, q6_an_answer_without_a_request_or_a_second_one_is_refused)
{
    auto rep = open<sp::rep>();
    EXPECT_EQ(sp::request().reply("nothing was asked", patience).error(), errc::invalid_state);
    auto asker = joined(rep);
    asker.send(wire::frame(wire::word(wire::end_bit), "q"));
    auto question = must(rep.recv(patience));
    must(std::move(question).reply("once", patience));
    EXPECT_EQ(std::move(question).reply("twice", patience).error(), errc::invalid_state);
    EXPECT_EQ(asker.receive_frame(), wire::word(wire::end_bit) + "once");
    expect_served(rep, asker);
    expect_balance(rep);
}

TEST_F(reply_scenario, q7_a_reply_goes_to_its_own_request_and_one_given_up_is_counted)
{
    auto rep = open<sp::rep>();
    auto one = joined(rep);
    auto two = joined(rep);
    one.send(wire::frame(wire::word(wire::end_bit + 1), "first"));
    auto held = must(rep.recv(patience));
    EXPECT_EQ(held.text(), "first");
    two.send(wire::frame(wire::word(wire::end_bit + 2), "second"));
    held = must(rep.recv(patience)); // the first is given up
    EXPECT_EQ(held.text(), "second");
    must(std::move(held).reply("to the latest", patience));
    EXPECT_EQ(two.receive_frame(), wire::word(wire::end_bit + 2) + "to the latest");
    EXPECT_EQ(rep.statistics()[stat::socket_abandoned], 1u);
    EXPECT_TRUE(one.silent());
    expect_served(rep, one);
    expect_balance(rep);
}

TEST_F(reply_scenario, q7_requests_are_answered_in_any_order)
{
    auto rep = open<sp::rep>();
    auto one = joined(rep);
    auto two = joined(rep);
    one.send(wire::frame(wire::word(wire::end_bit + 1), "first"));
    auto first = must(rep.recv(patience));
    two.send(wire::frame(wire::word(wire::end_bit + 2), "second"));
    auto second = must(rep.recv(patience));
    must(std::move(second).reply("2", patience));
    EXPECT_EQ(two.receive_frame(), wire::word(wire::end_bit + 2) + "2");
    must(std::move(first).reply("1", patience));
    EXPECT_EQ(one.receive_frame(), wire::word(wire::end_bit + 1) + "1");
    expect_balance(rep);
}

TEST_F(reply_scenario, q7_one_asker_that_floods_does_not_starve_the_others)
{
    auto rep = open<sp::rep>();
    auto flood = joined(rep);
    auto calm = joined(rep);
    std::string all;
    for (std::uint32_t i = 0; i < 500; ++i)
        all += wire::frame(wire::word(wire::end_bit + i), "flood");
    flood.send(all);
    wait_count(stat::socket_received, 1);
    calm.send(wire::frame(wire::word(wire::end_bit + 7), "calm"));
    wait_count(stat::socket_received, 2);
    int before = 0;
    for (;; ++before) {
        auto question = must(rep.recv(patience));
        const bool its_turn = question.text() == "calm";
        must(std::move(question).reply("a", patience));
        if (its_turn)
            break;
    }
    EXPECT_LE(before, 1) << "one request per pipe and turn";
    EXPECT_EQ(calm.receive_frame(), wire::word(wire::end_bit + 7) + "a");
}

TEST_F(reply_scenario, q13_a_slow_replier_holds_one_request_and_the_kernel_holds_the_asker_back)
{
    auto rep = open<sp::rep>();
    auto asker = joined(rep);
    const auto body = wire::body(4096);
    std::string all;
    for (std::uint32_t i = 0; i < 1000; ++i)
        all += wire::frame(wire::word(wire::end_bit + i), body);
    std::string_view rest = all;
    wait_count(stat::socket_received, 0);
    // Until the kernel takes no more although sp has read what it wants.
    for (std::size_t taken = 1; taken > 0;) {
        taken = asker.send_some(rest);
        rest.remove_prefix(taken);
        if (taken == 0)
            until([&] { return count(stat::socket_received) == 1; });
    }
    EXPECT_GT(rest.size(), all.size() / 2) << "a thousand requests went out at once";
    EXPECT_EQ(rep.queued(), 1u);
    EXPECT_EQ(engine().frames_in_use(), 1u);
    EXPECT_EQ(count(stat::socket_received), 1u);
    expect_balance(rep);
    auto asked = std::async(std::launch::async, [&] { asker.send(rest); });
    for (std::uint32_t i = 0; i < 1000; ++i) {
        auto question = must(rep.recv(patience));
        ASSERT_TRUE(question.text() == body);
        must(std::move(question).reply("a", patience));
        ASSERT_EQ(asker.receive_frame(), wire::word(wire::end_bit + i) + "a");
    }
    asked.get();
    expect_balance(rep);
}

TEST_F(reply_scenario, q14_a_reply_to_a_pipe_that_has_gone_succeeds_and_is_counted)
{
    auto rep = open<sp::rep>();
    auto asker = joined(rep);
    asker.send(wire::frame(wire::word(wire::end_bit), "q"));
    auto question = must(rep.recv(patience));
    asker.close();
    wait_peers_gone(rep);
    must(std::move(question).reply("too late", patience));
    EXPECT_EQ(rep.statistics()[stat::socket_pipe_gone], 1u);
    auto next = joined(rep);
    expect_served(rep, next);
    expect_balance(rep);
}

TEST_F(reply_scenario, q14_a_reply_waits_for_a_pipe_that_has_no_room_and_keeps_the_request)
{
    auto rep = open<sp::rep>({.message_max = 8u << 20});
    auto asker = joined(rep);
    const auto large = wire::body(4u << 20);
    asker.send(wire::frame(wire::word(wire::end_bit + 1), "1") +
               wire::frame(wire::word(wire::end_bit + 2), "2"));
    must(must(rep.recv(patience)).reply(large, patience)); // more than the kernel takes
    auto second = must(rep.recv(patience));
    EXPECT_EQ(std::move(second).reply("b", 0s).error(), errc::would_block);
    EXPECT_EQ(std::move(second).reply("b", 5ms).error(), errc::timed_out);
    EXPECT_TRUE(asker.receive_frame() == wire::word(wire::end_bit + 1) + large);
    must(std::move(second).reply("b", patience));
    EXPECT_EQ(asker.receive_frame(), wire::word(wire::end_bit + 2) + "b");
    expect_balance(rep);
}

} // namespace
} // namespace sp::test
