// SPDX-License-Identifier: BSD-2-Clause
//
// Bad input on byte streams. Whoever sends it is closed or dropped and counted; a good peer is
// served before, during and after, and no message buffer stays behind. Further malformed headers
// are in the scenarios Q3 to Q5, V4, V5 and P4; descriptors that run out in E3.
#include "tests/interop/scene.hpp"

#include <sys/resource.h>

namespace sp::test {
namespace {

class hostile_peer : public scene {
protected:
    // A replier with a good asker, and everything about it that a hostile peer must not change.
    struct service {
        sp::rep rep;
        byte_peer good;
        std::uint32_t asked = 0;

        void expect_alive()
        {
            const auto id = wire::word(wire::end_bit + ++asked);
            good.send(wire::frame(id, "q"));
            auto question = must(rep.recv(patience));
            EXPECT_EQ(question.text(), "q");
            must(std::move(question).reply("a", patience));
            EXPECT_EQ(good.receive_frame(), id + "a");
        }
    };
    service serving(options o = {})
    {
        auto rep = open<sp::rep>(std::move(o));
        auto good = joined(rep);
        service s{std::move(rep), std::move(good)};
        s.expect_alive();
        return s;
    }
    void expect_no_trace(service &s)
    {
        wait_peers_gone(s.rep, 1);
        s.expect_alive();
        until([&] { return engine().frames_in_use() == 0; });
        expect_balance(s.rep);
    }
};

TEST_F(hostile_peer, with_another_magic_version_or_reserved_field_is_refused_at_once)
{
    auto s = serving();
    const auto right = wire::hello(req_number);
    std::uint64_t refused = 0;
    for (const std::size_t place : {0u, 1u, 2u, 3u, 6u, 7u})
        for (const int bit : {0, 3, 7}) {
            auto wrong = right;
            wrong[place] = static_cast<char>(wrong[place] ^ (1 << bit));
            auto bad = byte_peer::dial(ipc());
            // No more than that: the rest is not waited for.
            (void)bad.try_send(std::string_view(wrong).substr(0, place + 1));
            EXPECT_EQ(bad.receive_all(), wire::hello(rep_number)) << "byte " << place;
            wait_count(stat::listener_bad_hello, ++refused);
            s.expect_alive();
            auto next = joined(s.rep); // nobody has to wait for it
        }
    expect_no_trace(s);
    EXPECT_EQ(count(stat::listener_bad_hello), refused);
}

TEST_F(hostile_peer, that_speaks_something_else_is_refused)
{
    auto s = serving();
    std::uint64_t refused = 0;
    for (const std::string &speech :
         {std::string("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), std::string("SSH-2.0-x\r\n"),
          std::string(1, '\0'), std::string(100'000, 'x'), std::string(100'000, '\xff'),
          std::string(100'000, '\0'), wire::frame(wire::word(wire::end_bit), "no hello")}) {
        if (speech.size() == 1) { // the beginning of a hello, and then the end
            auto brief = byte_peer::dial(ipc());
            brief.send(speech);
            brief.half_close();
            EXPECT_EQ(brief.receive_all(), wire::hello(rep_number));
            continue;
        }
        auto bad = byte_peer::dial(ipc());
        (void)bad.try_send(speech);
        EXPECT_EQ(bad.receive_all(), wire::hello(rep_number));
        wait_count(stat::listener_bad_hello, ++refused);
        s.expect_alive();
    }
    expect_no_trace(s);
}

TEST_F(hostile_peer, with_any_type_byte_but_one_is_closed)
{
    auto s = serving();
    std::uint64_t closed = 0;
    for (int type = 0; type < 256; ++type) {
        if (type == 1)
            continue;
        auto bad = joined(s.rep);
        (void)bad.try_send(wire::head(5, static_cast<std::uint8_t>(type)) +
                           wire::word(wire::end_bit) + "x");
        EXPECT_TRUE(bad.ended()) << type;
        wait_count(stat::pipe_bad_frame, ++closed);
        wait_peers_gone(s.rep, 1);
    }
    expect_no_trace(s);
}

TEST_F(hostile_peer, with_any_length_gets_no_memory_for_what_it_only_announces)
{
    auto s = serving({.message_max = 1u << 20});
    std::uint64_t bad_frame = 0, too_large = 0, partial = 0;
    for (int bit = 0; bit < 64; ++bit)
        for (const std::uint64_t length : {(1ull << bit) - 1, 1ull << bit, (1ull << bit) + 1}) {
            SCOPED_TRACE(length);
            auto bad = joined(s.rep);
            EXPECT_TRUE(bad.try_send(wire::head(length)));
            if (length >= 1ull << 60) {
                EXPECT_TRUE(bad.ended());
                wait_count(stat::pipe_bad_frame, ++bad_frame);
            } else if (length > 1u << 20) {
                EXPECT_TRUE(bad.ended());
                wait_count(stat::pipe_too_large, ++too_large);
            } else if (length > 0) {
                bad.wait_read();
                EXPECT_EQ(engine().frames_in_use(), 0u);
                bad.half_close();
                EXPECT_TRUE(bad.ended());
                wait_count(stat::pipe_rx_partial, ++partial);
            }
        }
    expect_no_trace(s);
}

TEST_F(hostile_peer, that_sends_a_large_message_slowly_holds_no_more_than_twice_of_what_came)
{
    auto s = serving({.message_max = 64u << 20});
    auto slow = joined(s.rep);
    slow.send(wire::head(64u << 20) + wire::word(wire::end_bit) + std::string(10'000, 'x'));
    slow.wait_read();
    s.expect_alive();
    EXPECT_LE(engine().frames_in_use(), 1u);
    slow.close();
    wait_count(stat::pipe_rx_partial, 1);
    expect_no_trace(s);
}

TEST_F(hostile_peer, or_a_good_one_may_cut_its_frames_anywhere)
{
    auto s = serving();
    auto one = joined(s.rep);
    const auto id = wire::word(wire::end_bit + 17);
    const auto request = wire::frame(id, "in pieces");
    const auto expect_answer = [&] {
        auto question = must(s.rep.recv(patience));
        EXPECT_EQ(question.text(), "in pieces");
        must(std::move(question).reply("whole", patience));
        EXPECT_EQ(one.receive_frame(), id + "whole");
    };
    for (std::size_t cut = 1; cut < request.size(); ++cut) {
        one.send(std::string_view(request).substr(0, cut));
        one.wait_read();
        if (cut % 5 == 0)
            s.expect_alive();
        one.send(std::string_view(request).substr(cut));
        expect_answer();
    }
    one.send_in_pieces(request, 1);
    expect_answer();
    expect_balance(s.rep);
}

TEST_F(hostile_peer, or_a_good_one_may_send_its_hello_and_all_frames_in_one_piece)
{
    auto s = serving();
    std::string all = wire::hello(req_number);
    for (std::uint32_t i = 0; i < 3; ++i)
        all += wire::frame(wire::word(wire::end_bit + i), "q");
    for (std::size_t cut = 1; cut <= all.size(); cut += 7) {
        auto one = byte_peer::dial(ipc());
        one.send(std::string_view(all).substr(0, cut));
        one.wait_read();
        one.send(std::string_view(all).substr(cut));
        EXPECT_EQ(one.receive(8), wire::hello(rep_number));
        for (std::uint32_t i = 0; i < 3; ++i) {
            must(must(s.rep.recv(patience)).reply("a", patience));
            EXPECT_EQ(one.receive_frame(), wire::word(wire::end_bit + i) + "a");
        }
        one.close();
        expect_no_trace(s);
    }
}

TEST_F(hostile_peer, that_dies_in_the_middle_of_a_frame_leaves_nothing_behind)
{
    auto s = serving();
    const auto request = wire::frame(wire::word(wire::end_bit), "never whole");
    std::uint64_t partial = 0;
    for (std::size_t cut = 0; cut < request.size(); ++cut) {
        auto bad = joined(s.rep);
        bad.send(std::string_view(request).substr(0, cut));
        bad.close();
        partial += cut > 0;
        wait_peers_gone(s.rep, 1);
        EXPECT_EQ(s.rep.statistics()[stat::pipe_rx_partial], partial) << cut;
        EXPECT_EQ(s.rep.statistics()[stat::pipe_peer_closed], cut + 1);
        s.expect_alive();
    }
    expect_no_trace(s);
}

TEST_F(hostile_peer, that_goes_while_it_is_answered_leaves_nothing_behind)
{
    auto s = serving({.message_max = 8u << 20});
    const auto large = wire::body(4u << 20);
    for (int i = 0; i < 10; ++i) {
        auto bad = joined(s.rep);
        bad.send(wire::frame(wire::word(wire::end_bit), "give me much"));
        must(must(s.rep.recv(patience)).reply(large, patience));
        (void)bad.receive(100'000);
        s.expect_alive();
        bad.close();
        wait_peers_gone(s.rep, 1);
    }
    expect_no_trace(s);
}

TEST_F(hostile_peer, that_says_nothing_is_refused_when_its_time_is_over_and_not_before)
{
    auto s = serving({.hello_timeout = 50ms});
    const auto came_at = engine_clock::now();
    auto silent = byte_peer::dial(ipc());
    auto half = byte_peer::dial(ipc());
    half.send(wire::hello(req_number).substr(0, 7));
    s.expect_alive();
    EXPECT_EQ(silent.receive_all(), wire::hello(rep_number));
    EXPECT_EQ(half.receive_all(), wire::hello(rep_number));
    EXPECT_GE(engine_clock::now() - came_at, 50ms);
    wait_count(stat::listener_hello_timeout, 2);
    expect_no_trace(s);
}

TEST_F(hostile_peer, that_reads_nothing_is_held_back_and_holds_nobody_else_back)
{
    auto s = serving();
    auto deaf = joined(s.rep);
    const auto answer = wire::body(100'000);
    int unanswered = 0;
    bool full = false;
    // It asks until its answers fill the kernel; then its requests stay where they are.
    for (std::uint32_t i = 0; i < 100 && !full; ++i) {
        deaf.send(wire::frame(wire::word(wire::end_bit + i), "again"));
        auto question = must(s.rep.recv(patience));
        full = !std::move(question).reply(answer, 0s);
        unanswered += full;
        s.expect_alive();
    }
    EXPECT_TRUE(full) << "what one peer may leave unread is not bounded";
    for (int i = 0; i < 100; ++i)
        s.expect_alive();
    EXPECT_LE(engine().frames_in_use(), 2u);
    deaf.close();
    expect_no_trace(s);
}

TEST_F(hostile_peer, that_comes_a_thousand_times_and_says_nothing_makes_room_for_others)
{
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    if (before.rlim_max < 3000)
        GTEST_SKIP() << "RLIMIT_NOFILE is " << before.rlim_max << "; this test needs 3000";
    auto more = before;
    more.rlim_cur = std::max<rlim_t>(before.rlim_cur, 3000);
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &more), 0);
    {
        auto s = serving({.half_open_max = 100u});
        std::vector<byte_peer> crowd;
        for (int i = 0; i < 1000; ++i) {
            crowd.push_back(byte_peer::dial(ipc()));
            if (i % 100 == 50) {
                s.expect_alive();
                auto next = joined(s.rep);
            }
        }
        wait_count(stat::listener_half_open, 900);
        // The oldest went: the first is closed, the last is not.
        EXPECT_EQ(crowd.front().receive_all(), wire::hello(rep_number));
        EXPECT_EQ(crowd.back().receive(8), wire::hello(rep_number));
        EXPECT_TRUE(crowd.back().silent());
        crowd.back().send(wire::hello(req_number));
        must(s.rep.wait_peers(2, patience));
        crowd.clear();
        expect_no_trace(s);
    }
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
}

TEST_F(hostile_peer, that_holds_all_pipes_is_told_that_there_are_no_more)
{
    auto s = serving({.pipes_max = 3u});
    auto two = joined(s.rep);
    auto three = joined(s.rep);
    auto four = byte_peer::dial(ipc());
    (void)four.try_send(wire::hello(req_number));
    EXPECT_EQ(four.receive_all(), wire::hello(rep_number));
    wait_count(stat::listener_limit, 1);
    s.expect_alive();
    three.close();
    wait_peers_gone(s.rep, 2);
    auto next = joined(s.rep);
    next.close();
    two.close();
    expect_no_trace(s);
}

TEST_F(hostile_peer, that_is_dialed_and_answers_with_anything_is_not_believed)
{
    byte_door door(ipc("door"));
    auto req = must(sp::req::open(at({.connect_timeout = 100ms})));
    const auto dial_gets = [&](const std::string &answer) {
        auto dialed =
            std::async(std::launch::async, [&] { return req.dial(ipc("door"), patience); });
        auto peer = door.accept();
        EXPECT_EQ(peer.receive(8), wire::hello(req_number));
        (void)peer.try_send(answer);
        if (answer.empty())
            peer.close();
        const auto outcome = dialed.get();
        return outcome ? errc::internal : outcome.error().code();
    };
    EXPECT_EQ(dial_gets("HTTP/1.1 400 Bad Request\r\n\r\n"), errc::protocol_error);
    EXPECT_EQ(dial_gets(wire::hello(sub_number)), errc::protocol_mismatch);
    EXPECT_EQ(dial_gets(""), errc::connection_reset);
    EXPECT_EQ(dial_gets(wire::hello(rep_number).substr(0, 7)), errc::timed_out);
    EXPECT_EQ(req.peers(), 0u);
    expect_balance(req);
}

} // namespace
} // namespace sp::test
