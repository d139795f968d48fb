// SPDX-License-Identifier: BSD-2-Clause
//
// Conformance on byte streams, scenario F11: messages of 10 and 100 MB pass whole, in both
// directions of every pattern.
#include "tests/interop/scene.hpp"

namespace sp::test {
namespace {

class large_message : public scene {
protected:
    void SetUp() override
    {
        scene::SetUp();
        open_engine({.memory_max = 1u << 30});
    }
    static options large() { return {.message_max = 128u << 20}; }

    // What one end sends and the other receives is the same, byte for byte.
    template <class Send, class Receive>
    void expect_passed(Send &&send, Receive &&receive, const std::string &expected)
    {
        auto sent = std::async(std::launch::async, send);
        EXPECT_TRUE(receive() == expected) << "it came changed";
        sent.get();
    }
    template <class Role>
    void expect_comes_in(Role &s, byte_peer &peer, const std::string &header)
    {
        for (const auto size : sizes) {
            const auto body = wire::body(size);
            expect_passed([&] { peer.send(wire::frame(header, body)); },
                          [&] { return std::string(must(s.recv(patience)).text()); }, body);
        }
        EXPECT_EQ(engine().frames_in_use(), 0u);
        expect_balance(s);
    }
    template <class Role>
    void expect_goes_out(Role &s, byte_peer &peer, const std::string &header)
    {
        for (const auto size : sizes) {
            const auto body = wire::body(size);
            expect_passed([&] { must(s.send(body)); }, [&] { return peer.receive_frame(); },
                          header + body);
        }
        until([&] { return engine().frames_in_use() == 0; });
        expect_balance(s);
    }

    static constexpr std::size_t sizes[] = {10'000'000, 100'000'000};
};

TEST_F(large_message, f11_passes_push_and_pull_whole)
{
    auto push = open<sp::push>(large(), "push");
    auto worker = joined(push, "push");
    expect_goes_out(push, worker, "");
    auto pull = open<sp::pull>(large(), "pull");
    auto pusher = joined(pull, "pull");
    expect_comes_in(pull, pusher, "");
}

TEST_F(large_message, f11_passes_pub_and_sub_whole)
{
    auto pub = open<sp::pub>(large(), "pub");
    auto reader = joined(pub, "pub");
    expect_goes_out(pub, reader, "");
    auto sub = open<sp::sub>(large(), "sub");
    must(sub.subscribe(""));
    auto publisher = joined(sub, "sub");
    expect_comes_in(sub, publisher, "");
}

TEST_F(large_message, f11_passes_bus_and_pair_whole_both_ways)
{
    auto bus = open<sp::bus>(large(), "bus");
    auto member = joined(bus, "bus");
    expect_goes_out(bus, member, "");
    expect_comes_in(bus, member, "");
    auto pair = open<sp::pair>(large(), "pair");
    auto partner = joined(pair, "pair");
    expect_goes_out(pair, partner, wire::word(1));
    expect_comes_in(pair, partner, wire::word(1));
}

TEST_F(large_message, f11_passes_req_and_rep_whole_both_ways)
{
    auto req = open<sp::req>(large(), "req");
    auto replier = joined(req, "req");
    auto rep = open<sp::rep>(large(), "rep");
    auto asker = joined(rep, "rep");
    for (const auto size : sizes) {
        const auto body = wire::body(size), answer = wire::body(size, 2);
        expect_passed(
            [&] {
                const auto came = replier.receive_frame();
                EXPECT_TRUE(came.substr(4) == body);
                replier.send(wire::frame(came.substr(0, 4), answer));
            },
            [&] { return std::string(must(req.request(body, patience)).text()); }, answer);
        expect_passed(
            [&] {
                auto question = must(rep.recv(patience));
                EXPECT_TRUE(question.text() == body);
                must(std::move(question).reply(answer, patience));
            },
            [&] {
                asker.send(wire::frame(wire::word(wire::end_bit), body));
                return asker.receive_frame();
            },
            wire::word(wire::end_bit) + answer);
    }
    expect_balance(req);
    expect_balance(rep);
}

TEST_F(large_message, f11_passes_surveyor_and_respondent_whole_both_ways)
{
    auto surveyor = open<sp::surveyor>(large(), "surveyor");
    auto voter = joined(surveyor, "surveyor");
    auto respondent = open<sp::respondent>(large(), "respondent");
    auto asker = joined(respondent, "respondent");
    for (const auto size : sizes) {
        const auto body = wire::body(size), answer = wire::body(size, 2);
        expect_passed(
            [&] {
                const auto came = voter.receive_frame();
                EXPECT_TRUE(came.substr(4) == body);
                voter.send(wire::frame(came.substr(0, 4), answer));
            },
            [&] {
                auto round = must(surveyor.survey(body, patience));
                return std::string(must(round.recv(patience)).text());
            },
            answer);
        expect_passed(
            [&] {
                auto question = must(respondent.recv(patience));
                EXPECT_TRUE(question.text() == body);
                must(std::move(question).reply(answer, patience));
            },
            [&] {
                asker.send(wire::frame(wire::word(wire::end_bit), body));
                return asker.receive_frame();
            },
            wire::word(wire::end_bit) + answer);
    }
    expect_balance(surveyor);
    expect_balance(respondent);
}

} // namespace
} // namespace sp::test
