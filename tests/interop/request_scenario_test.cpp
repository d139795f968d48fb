// SPDX-License-Identifier: BSD-2-Clause
//
// Conformance of REQ on byte streams: the scenarios Q1 and Q8 to Q12 from the asking side, and Q15
// of its raw form.
#include "tests/interop/scene.hpp"

#include <poll.h>

namespace sp::test {
namespace {

class request_scenario : public scene {
protected:
    static bool readable(int fd)
    {
        pollfd p{.fd = fd, .events = POLLIN, .revents = 0};
        return ::poll(&p, 1, 0) == 1;
    }
    // Reads one request, which must have the body; its word.
    static std::string word_of_request(byte_peer &replier, const std::string &body)
    {
        const auto came = replier.receive_frame();
        EXPECT_EQ(came.substr(4), body);
        EXPECT_TRUE(wire::word_at(came, 0) & wire::end_bit);
        return came.substr(0, 4);
    }
};

TEST_F(request_scenario, q1_a_thousand_requests_carry_bit_31_and_get_their_own_replies)
{
    auto req = open<sp::req>();
    auto replier = joined(req);
    auto served = std::async(std::launch::async, [&] {
        for (int i = 0; i < 1000; ++i) {
            const auto id = word_of_request(replier, "question " + std::to_string(i));
            replier.send(wire::frame(id, "answer " + std::to_string(i)));
        }
    });
    for (int i = 0; i < 1000; ++i)
        ASSERT_EQ(text_of(req.request("question " + std::to_string(i), patience)),
                  "answer " + std::to_string(i));
    served.get();
    EXPECT_EQ(req.statistics()[stat::socket_delivered], 1000u);
    expect_balance(req);
}

TEST_F(request_scenario, q1_works_whoever_of_the_two_dials)
{
    byte_door door(ipc("door"));
    auto [replier, req] = dialed_to<sp::req>(door);
    auto served = std::async(std::launch::async, [&r = replier] {
        for (int i = 0; i < 100; ++i)
            r.send(wire::frame(word_of_request(r, "q"), "a"));
    });
    for (int i = 0; i < 100; ++i)
        ASSERT_EQ(text_of(req.request("q", patience)), "a");
    served.get();
    expect_balance(req);
}

TEST_F(request_scenario, q1_ids_are_not_to_be_guessed_from_the_one_before)
{
    auto req = open<sp::req>();
    auto replier = joined(req);
    std::vector<std::uint32_t> ids;
    auto served = std::async(std::launch::async, [&] {
        for (int i = 0; i < 50; ++i) {
            const auto id = word_of_request(replier, "q");
            ids.push_back(wire::word_at(id, 0));
            replier.send(wire::frame(id, "a"));
        }
    });
    for (int i = 0; i < 50; ++i)
        (void)must(req.request("q", patience));
    served.get();
    int next_to_each_other = 0;
    for (std::size_t i = 1; i < ids.size(); ++i)
        next_to_each_other += ids[i] == ids[i - 1] + 1;
    EXPECT_LT(next_to_each_other, 5);
    expect_balance(req);
}

TEST_F(request_scenario, q8_recv_without_a_request_is_refused)
{
    auto req = open<sp::req>();
    auto context = must(req.open_context());
    EXPECT_EQ(context.recv(patience).error(), errc::invalid_state);
    auto replier = joined(req);
    EXPECT_EQ(context.recv(patience).error(), errc::invalid_state);
    EXPECT_EQ(text_of([&] {
                  must(context.send("q", patience));
                  replier.send(wire::frame(word_of_request(replier, "q"), "a"));
                  return context.recv(patience);
              }()),
              "a");
    EXPECT_EQ(context.recv(patience).error(), errc::invalid_state) << "the reply has been taken";
    expect_balance(req);
}

TEST_F(request_scenario, q8_a_second_recv_at_the_same_time_is_refused)
{
    auto req = open<sp::req>();
    auto replier = joined(req);
    auto context = must(req.open_context());
    must(context.send("q", patience));
    const auto id = word_of_request(replier, "q");
    const auto receive = [&] { return context.recv(patience); };
    auto one = std::async(std::launch::async, receive);
    auto two = std::async(std::launch::async, receive);
    // Nobody answers before one of them has been refused.
    const auto done = [](auto &f) { return f.wait_for(0s) == std::future_status::ready; };
    until([&] { return done(one) || done(two); });
    auto &refused = done(one) ? one : two;
    auto &waits = &refused == &one ? two : one;
    EXPECT_EQ(refused.get().error(), errc::invalid_state);
    replier.send(wire::frame(id, "a"));
    EXPECT_EQ(text_of(waits.get()), "a");
    expect_balance(req);
}

TEST_F(request_scenario, q9_a_reply_from_a_pipe_that_was_not_asked_is_dropped)
{
    auto req = open<sp::req>();
    auto asked = joined(req);
    auto context = must(req.open_context());
    must(context.send("q", patience));
    const auto id = word_of_request(asked, "q");
    auto other = joined(req);
    other.send(wire::frame(id, "forged"));
    wait_count(stat::socket_foreign_reply, 1);
    EXPECT_EQ(context.recv(0s).error(), errc::would_block);
    asked.send(wire::frame(id, "genuine"));
    EXPECT_EQ(text_of(context.recv(patience)), "genuine");
    EXPECT_EQ(req.peers(), 2u) << "nobody was closed for it";
    expect_balance(req);
}

TEST_F(request_scenario, q10_an_unanswered_request_goes_again_with_the_same_id)
{
    auto req = open<sp::req>({.resend_time = 20ms});
    auto silent = joined(req);
    auto context = must(req.open_context());
    const auto asked_at = engine_clock::now();
    must(context.send("q", patience));
    const auto id = word_of_request(silent, "q");
    for (int copy = 1; copy <= 6; ++copy) {
        EXPECT_EQ(word_of_request(silent, "q"), id);
        EXPECT_GE(engine_clock::now() - asked_at, copy * 20ms) << "sent too early";
    }
    silent.send(wire::frame(id, "a"));
    EXPECT_EQ(text_of(context.recv(patience)), "a");
    const auto resends = req.statistics()[stat::socket_resends];
    EXPECT_GE(resends, 6u);
    expect_balance(req);
}

TEST_F(request_scenario, q10_the_copy_goes_to_another_pipe_if_there_is_one)
{
    auto req = open<sp::req>({.resend_time = 20ms});
    auto one = joined(req);
    auto two = joined(req);
    auto context = must(req.open_context());
    must(context.send("q", patience));
    pollfd both[]{{one.fd(), POLLIN, 0}, {two.fd(), POLLIN, 0}};
    ASSERT_EQ(::poll(both, 2, 30'000), 1) << "it goes to one of them first";
    auto &first = both[0].revents ? one : two;
    auto &second = both[0].revents ? two : one;
    const auto id = word_of_request(first, "q");
    EXPECT_EQ(word_of_request(second, "q"), id);
    first.send(wire::frame(id, "late, but asked"));
    EXPECT_EQ(text_of(context.recv(patience)), "late, but asked");
    expect_balance(req);
}

TEST_F(request_scenario, q10_the_request_of_a_pipe_that_goes_is_sent_elsewhere_at_once)
{
    auto req = open<sp::req>(); // which resends after a minute
    auto one = joined(req);
    auto context = must(req.open_context());
    must(context.send("q", patience));
    const auto id = word_of_request(one, "q");
    auto two = joined(req);
    one.close();
    EXPECT_EQ(word_of_request(two, "q"), id);
    two.send(wire::frame(id, "a"));
    EXPECT_EQ(text_of(context.recv(patience)), "a");
    EXPECT_EQ(req.statistics()[stat::socket_failovers], 1u);
    expect_balance(req);
}

TEST_F(request_scenario, q10_without_resending_the_end_of_the_pipe_ends_the_request_once)
{
    auto req = open<sp::req>({.resend_time = 0s});
    auto one = joined(req);
    auto context = must(req.open_context());
    must(context.send("q", patience));
    (void)word_of_request(one, "q");
    one.close();
    EXPECT_EQ(context.recv(patience).error(), errc::connection_reset);
    EXPECT_EQ(context.recv(patience).error(), errc::invalid_state);
    expect_balance(req);
}

TEST_F(request_scenario, q10_a_reply_that_is_here_survives_the_end_of_its_pipe)
{
    auto req = open<sp::req>({.resend_time = 0s});
    auto one = joined(req);
    auto context = must(req.open_context());
    must(context.send("q", patience));
    one.send(wire::frame(word_of_request(one, "q"), "kept"));
    one.close();
    wait_peers_gone(req);
    EXPECT_EQ(text_of(context.recv(patience)), "kept");
    expect_balance(req);
}

TEST_F(request_scenario, q11_a_new_request_makes_the_old_reply_late)
{
    auto req = open<sp::req>();
    auto replier = joined(req);
    auto context = must(req.open_context());
    must(context.send("old", patience));
    const auto old_id = word_of_request(replier, "old");
    must(context.send("new", patience));
    const auto new_id = word_of_request(replier, "new");
    EXPECT_NE(old_id, new_id);
    replier.send(wire::frame(old_id, "old answer") + wire::frame(new_id, "new answer"));
    EXPECT_EQ(text_of(context.recv(patience)), "new answer");
    EXPECT_EQ(req.statistics()[stat::socket_late], 1u);
    expect_balance(req);
}

TEST_F(request_scenario, q11_a_recv_that_waits_is_canceled_by_a_new_request)
{
    auto req = open<sp::req>();
    auto replier = joined(req);
    auto context = must(req.open_context());
    bool canceled = false;
    // Whether the other thread waits already is not to be seen from outside: if it was late, it
    // gets the new answer, and the same is tried again.
    for (int round = 0; round < 1000 && !canceled; ++round) {
        must(context.send("old", patience));
        const auto old_id = word_of_request(replier, "old");
        auto waits = std::async(std::launch::async, [&] { return context.recv(patience); });
        if (round > 0)
            std::this_thread::yield();
        must(context.send("new", patience));
        const auto new_id = word_of_request(replier, "new");
        replier.send(wire::frame(old_id, "old answer") + wire::frame(new_id, "new answer"));
        const auto got = waits.get();
        canceled = !got;
        if (canceled) {
            EXPECT_EQ(got.error(), errc::canceled);
            EXPECT_EQ(text_of(context.recv(patience)), "new answer");
        } else {
            EXPECT_EQ(text_of(got), "new answer");
        }
    }
    EXPECT_TRUE(canceled);
    expect_balance(req);
}

TEST_F(request_scenario, q11_an_unread_reply_is_abandoned_by_a_new_request)
{
    auto req = open<sp::req>();
    auto replier = joined(req);
    auto context = must(req.open_context());
    must(context.send("old", patience));
    replier.send(wire::frame(word_of_request(replier, "old"), "never read"));
    wait_count(stat::socket_received, 1);
    must(context.send("new", patience));
    replier.send(wire::frame(word_of_request(replier, "new"), "read"));
    EXPECT_EQ(text_of(context.recv(patience)), "read");
    EXPECT_EQ(req.statistics()[stat::socket_abandoned], 1u);
    expect_balance(req);
}

TEST_F(request_scenario, q12_without_a_peer_it_would_block_times_out_and_is_not_writable)
{
    auto req = open<sp::req>();
    auto context = must(req.open_context());
    const auto writable = must(req.send_fd());
    EXPECT_EQ(context.send("q", 0s).error(), errc::would_block);
    EXPECT_EQ(context.send("q", 20ms).error(), errc::timed_out);
    EXPECT_EQ(req.request("q", 20ms).error(), errc::timed_out);
    EXPECT_EQ(context.recv(patience).error(), errc::invalid_state) << "withdrawn";
    EXPECT_FALSE(readable(writable));
    expect_balance(req);
    auto replier = joined(req);
    EXPECT_TRUE(readable(writable));
    EXPECT_TRUE(replier.silent()) << "what was withdrawn does not go out";
    must(context.send("now", 0s));
    replier.send(wire::frame(word_of_request(replier, "now"), "a"));
    EXPECT_EQ(text_of(context.recv(patience)), "a");
    expect_balance(req);
}

TEST_F(request_scenario, q12_a_time_out_of_recv_leaves_the_request_as_it_is)
{
    auto req = open<sp::req>();
    auto replier = joined(req);
    auto context = must(req.open_context());
    must(context.send("q", patience));
    const auto id = word_of_request(replier, "q");
    EXPECT_EQ(context.recv(0s).error(), errc::would_block);
    EXPECT_EQ(context.recv(5ms).error(), errc::timed_out);
    replier.send(wire::frame(id, "a"));
    EXPECT_EQ(text_of(context.recv(patience)), "a");
    expect_balance(req);
}

TEST_F(request_scenario, q15_a_stack_without_end_closes_the_pipe_of_a_raw_req)
{
    const auto url = ipc();
    auto raw = must(sp::raw::open(sp::pattern::req, at({.listen = url})));
    auto good = joined(raw, rep_number, req_number);
    std::uint64_t closed = 0;
    for (const std::size_t n : {0u, 17u, 31u, 64u}) {
        auto bad = joined(raw, rep_number, req_number);
        std::string endless;
        for (std::size_t i = 0; i < n; ++i)
            endless += wire::word(static_cast<std::uint32_t>(i + 1));
        bad.send(wire::frame(endless));
        EXPECT_TRUE(bad.ended()) << n << " words";
        wait_count(stat::pipe_bad_header, ++closed);
        good.send(wire::frame(wire::stack(16, wire::end_bit), "fits"));
        const auto came = must(raw.recv(patience));
        EXPECT_EQ(came.text(), "fits");
        EXPECT_EQ(came.header().size(), 64u);
    }
    wait_peers_gone(raw, 1);
    expect_balance(raw);
}

TEST_F(request_scenario, q15_a_raw_req_sends_its_header_as_it_is)
{
    const auto url = ipc();
    auto raw = must(sp::raw::open(sp::pattern::req, at({.listen = url})));
    auto replier = joined(raw, rep_number, req_number);
    const auto header = wire::stack(3, wire::end_bit + 77);
    must(raw.send(std::as_bytes(std::span(header)), "body", patience));
    EXPECT_EQ(replier.receive_frame(), header + "body");
    replier.send(wire::frame(header, "answer"));
    const auto came = must(raw.recv(patience));
    EXPECT_EQ(came.text(), "answer");
    EXPECT_EQ(
        std::string(reinterpret_cast<const char *>(came.header().data()), came.header().size()),
        header);
    expect_balance(raw);
}

} // namespace
} // namespace sp::test
