// SPDX-License-Identifier: BSD-2-Clause
//
// Conformance with libnng: bodies of every size in every pattern and both directions, over ipc, tcp
// and abstract names, whoever listens (F1, F2, F10, F11); what does not fit (F5, F8); order (F9).
#include "tests/interop/nng_scene.hpp"

#include <functional>

namespace sp::test {
namespace {

class nng_body : public nng_scene {
protected:
    // What one side sends the other receives, byte for byte.
    static void pass(const std::function<void()> &send, const std::function<std::string()> &receive,
                     const std::string &body)
    {
        auto sent = std::async(std::launch::async, send);
        const auto got = receive();
        EXPECT_TRUE(got == body) << got.size() << " bytes of " << body.size();
        sent.get();
    }
    static auto sending(nng_peer &n, const std::string &body)
    {
        return [&] { nng_must(n.send(body), "send"); };
    }
    static auto receiving(nng_peer &n)
    {
        return [&] {
            auto m = n.recv();
            nng_must(m.error, "receive");
            return std::move(m.body);
        };
    }
    template <class Socket>
    static auto sending(Socket &s, const std::string &body)
    {
        return [&] { must(s.send(body)); };
    }
    template <class Socket>
    static auto receiving(Socket &s)
    {
        return [&] { return std::string(must(s.recv(patience)).text()); };
    }
    static auto answering(respondent &s, const std::string &body)
    {
        return [&] {
            auto question = must(s.recv(patience));
            EXPECT_TRUE(question.text() == body);
            must(std::move(question).reply(body, patience));
        };
    }
    static auto answering(rep &s, const std::string &body)
    {
        return [&] {
            auto question = must(s.recv(patience));
            EXPECT_TRUE(question.text() == body);
            must(std::move(question).reply(body, patience));
        };
    }
    static auto answering(nng_peer &n, const std::string &body)
    {
        return [&] {
            expect_mail(n.recv(), body);
            nng_must(n.send(body), "answer");
        };
    }

    void one_way(const std::string &body)
    {
        nng_peer pulls(nng_role::pull0), pushes(nng_role::push0), hears(nng_role::sub0),
            tells(nng_role::pub0);
        hears.subscribe("");
        auto push = joined_to<sp::push>(pulls, how_);
        pass(sending(push, body), receiving(pulls), body);
        auto pull = joined_to<sp::pull>(pushes, how_);
        pass(sending(pushes, body), receiving(pull), body);
        auto pub = joined_to<sp::pub>(hears, how_);
        pass(sending(pub, body), receiving(hears), body);
        auto sub = joined_to<sp::sub>(tells, how_);
        must(sub.subscribe(""));
        pass(sending(tells, body), receiving(sub), body);
        expect_balance(push);
        expect_balance(pull);
        expect_balance(pub);
        expect_balance(sub);
    }
    template <class Role>
    void both_ways(nng_role opens, const std::string &body,
                   std::optional<std::uint32_t> version = {})
    {
        nng_peer there(opens);
        auto o = how_;
        o.pair_version = version;
        auto here = joined_to<Role>(there, o);
        pass(sending(here, body), receiving(there), body);
        pass(sending(there, body), receiving(here), body);
        expect_balance(here);
    }
    void asked_and_answered(const std::string &body)
    {
        nng_peer replies(nng_role::rep0), asks(nng_role::req0), responds(nng_role::respondent0),
            surveys(nng_role::surveyor0);
        surveys.set(NNG_OPT_SURVEYOR_SURVEYTIME, nng_patience);
        auto req = joined_to<sp::req>(replies, how_);
        pass(
            answering(replies, body),
            [&] { return std::string(must(req.request(body, patience)).text()); }, body);
        auto rep = joined_to<sp::rep>(asks, how_);
        const auto ask = [&](nng_peer &n) {
            return [&] {
                nng_must(n.send(body), "ask");
                return n.recv().body;
            };
        };
        pass(answering(rep, body), ask(asks), body);
        auto surveyor = joined_to<sp::surveyor>(responds, how_);
        pass(
            answering(responds, body),
            [&] {
                auto survey = must(surveyor.survey(body, patience));
                return std::string(must(survey.recv(patience)).text());
            },
            body);
        auto respondent = joined_to<sp::respondent>(surveys, how_);
        pass(answering(respondent, body), ask(surveys), body);
        expect_balance(req);
        expect_balance(rep);
        expect_balance(surveyor);
        expect_balance(respondent);
    }
    void all_patterns(const std::string &body)
    {
        one_way(body);
        both_ways<sp::bus>(nng_role::bus0, body);
        both_ways<sp::pair>(nng_role::pair0, body, 0);
        both_ways<sp::pair>(nng_role::pair1, body, 1);
        asked_and_answered(body);
    }

    options how_;
};
INSTANTIATE_TEST_SUITE_P(with, nng_body, ::testing::ValuesIn(over_all), name_of);

TEST_P(nng_body, f10_that_is_empty_is_a_message_in_every_pattern)
{
    all_patterns("");
}

TEST_P(nng_body, f1_f2_of_a_few_bytes_passes_in_every_pattern)
{
    for (const std::size_t size : {1u, 4u, 1000u, 65'536u})
        all_patterns(wire::body(size));
}

TEST_P(nng_body, f11_of_ten_megabytes_passes_in_every_pattern)
{
    how_.message_max = 16u << 20;
    all_patterns(wire::body(10'000'000));
}

class nng_large_body : public nng_body {};
INSTANTIATE_TEST_SUITE_P(with, nng_large_body, ::testing::Values(over_ipc[0]), name_of);

TEST_P(nng_large_body, f11_of_a_hundred_megabytes_passes_in_every_pattern)
{
    open_engine({.memory_max = 2u << 30});
    how_.message_max = 128u << 20;
    all_patterns(wire::body(100'000'000));
}

class nng_stream : public nng_scene {};
INSTANTIATE_TEST_SUITE_P(with, nng_stream, ::testing::ValuesIn(over_all), name_of);

TEST_P(nng_stream, f5_another_protocol_is_told_by_our_dial_and_counted_by_our_listener)
{
    nng_peer push(nng_role::push0);
    auto req = opened<sp::req>({.reconnect_min = 5ms, .reconnect_max = 40ms});
    if (GetParam().who == listener::nng) {
        const auto where = push.listen(new_address());
        EXPECT_EQ(error_of(req.dial(where, patience)), "protocol_mismatch");
        const auto tries = must(req.dial(where)); // goes on and on, and says why
        until([&] { return req.last_error(tries).has_value(); });
        EXPECT_EQ(req.last_error(tries)->code(), errc::protocol_mismatch);
    } else {
        const auto where = must(req.url(must(req.listen(new_address()))));
        EXPECT_EQ(push.try_dial(where), nng_does::say_of_a_dial_to_another_protocol);
        until([&] { return count(stat::listener_peer_protocol) > 0; });
    }
    EXPECT_EQ(req.peers(), 0u);
    EXPECT_EQ(push.send("x", not_at_all), nng_does::say_when_a_send_would_wait);
    expect_balance(req);
}

TEST_P(nng_stream, f8_the_largest_message_counts_the_header_too)
{
    struct limit {
        std::uint32_t version;
        nng_role open;
        std::size_t passes;
    };
    for (const auto &[version, open, passes] :
         {limit{0, nng_role::pair0, 100}, limit{1, nng_role::pair1, 96}}) {
        SCOPED_TRACE(version);
        nng_peer sender(open);
        auto pair = joined_to<sp::pair>(sender, {.message_max = 100, .pair_version = version});
        nng_must(sender.send(wire::body(passes)), "send");
        expect_message(pair.recv(patience), wire::body(passes));
        must(pair.send(wire::body(passes), patience));
        expect_mail(sender.recv(), wire::body(passes));
        EXPECT_EQ(error_of(pair.send(wire::body(passes + 1), patience)), "message_too_large");
        EXPECT_EQ(sender.send(wire::body(passes + 1)),
                  nng_does::say_of_a_message_that_is_too_large);
        wait_count(stat::pipe_too_large, version + 1);
        EXPECT_EQ(error_of(pair.recv(0s)), "would_block");
        expect_balance(pair);
    }
}

TEST_P(nng_stream, f8_libnng_closes_on_what_is_too_large_for_it)
{
    nng_peer small(nng_role::pull0);
    small.set_size(NNG_OPT_RECVMAXSZ, 100);
    auto push = joined_to<sp::push>(small);
    must(push.send(wire::body(100), patience));
    expect_mail(small.recv(), wire::body(100));
    must(push.send(wire::body(101), patience));
    until([&] { return count(stat::pipe_peer_closed) > 0; });
    must(push.send("after", patience)); // whoever dials tries again
    expect_mail(small.recv(), "after");
    expect_balance(push);
}

TEST_P(nng_stream, f9_ten_thousand_messages_keep_their_order)
{
    nng_peer pushes(nng_role::push0), pulls(nng_role::pull0);
    auto pull = joined_to<sp::pull>(pushes);
    auto push = joined_to<sp::push>(pulls);
    constexpr int count = 10'000;
    auto sent = std::async(std::launch::async, [&] {
        for (int i = 0; i < count; ++i)
            nng_must(pushes.send(std::to_string(i)), "push");
    });
    for (int i = 0; i < count; ++i)
        ASSERT_EQ(text_of(pull.recv(patience)), std::to_string(i));
    sent.get();
    sent = std::async(std::launch::async, [&] {
        for (int i = 0; i < count; ++i)
            must(push.send(std::to_string(i), patience));
    });
    for (int i = 0; i < count; ++i)
        ASSERT_EQ(pulls.recv().body, std::to_string(i));
    sent.get();
    expect_balance(pull);
    expect_balance(push);
}

} // namespace
} // namespace sp::test
