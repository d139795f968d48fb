// SPDX-License-Identifier: BSD-2-Clause
//
// The REQ machine with made-up pipes and time. Frames are numbers; the test plays the engine and
// keeps a census.
#include "userspace/protocol/req.hpp"

#include <algorithm>
#include <cstring>
#include <gtest/gtest.h>
#include <map>
#include <vector>

namespace {

using namespace sp::protocol;
using namespace std::chrono_literals;
using sp::errc;
using sp::stat;

struct sent {
    pipe_id pipe;
    frame_id frame;
    std::uint32_t id;
};

class asker {
public:
    explicit asker(const req_options &options = {}) : machine(options) {}

    pipe_id add_pipe(std::size_t capacity = 1000)
    {
        const auto pipe = static_cast<pipe_id>(0x10000u + pipes_++);
        machine.on_pipe_added({.id = pipe, .instance = 0, .capacity = capacity});
        ready(pipe);
        return pipe;
    }
    void ready(pipe_id pipe)
    {
        machine.on_pipe_ready(pipe, now, out);
        settle();
    }
    void close_pipe(pipe_id pipe)
    {
        machine.on_pipe_closed(pipe, now);
        settle();
    }
    std::optional<errc> request(context_id context, std::size_t size = 10)
    {
        const auto frame = new_frame();
        const auto refused = machine.on_request(context, frame, size, ++random_, now, out);
        if (refused)
            --references[frame];
        settle();
        return refused;
    }
    void reply(pipe_id pipe, std::uint32_t id, std::size_t size = 8)
    {
        std::vector<std::byte> payload(size);
        const auto word = __builtin_bswap32(id);
        std::ranges::copy(std::as_bytes(std::span(&word, 1)).first(std::min<std::size_t>(size, 4)),
                          payload.begin());
        machine.on_message(pipe, new_frame(), payload, now, out);
        settle();
    }
    void pass(std::chrono::nanoseconds d)
    {
        const auto end = now + d;
        while (machine.next_deadline() <= end) {
            now = std::max(now, machine.next_deadline());
            machine.on_deadline(now);
            settle();
        }
        now = end;
    }
    context_id context()
    {
        const auto c = machine.open_context();
        EXPECT_TRUE(c);
        return *c;
    }
    // Takes the reply and gives its frame back.
    void take(context_id context)
    {
        ASSERT_EQ(machine.state(context), request_state::ready);
        --references[machine.take_reply(context).frame];
    }
    void settle()
    {
        do {
            for (const auto &e : out.all())
                carry_out(e);
            out.clear();
            machine.pump(now, out);
        } while (!out.empty());
    }
    [[nodiscard]] long frames_held() const
    {
        long n = 0;
        for (const auto &[frame, count] : references) {
            EXPECT_GE(count, 0);
            n += count;
        }
        return n;
    }

    req_machine machine;
    effects out;
    instant now{1h};
    std::vector<sent> wire;
    std::map<stat, int> counted;
    std::vector<pipe_id> closed;
    int consumed = 0;
    std::map<frame_id, int> references;

private:
    frame_id new_frame()
    {
        const auto f = static_cast<frame_id>(frames_++);
        references[f] = 1;
        return f;
    }
    void carry_out(const effect &e)
    {
        switch (e.what) {
        case effect::kind::send: {
            std::uint32_t word = 0;
            ASSERT_EQ(e.header.size(), 4u);
            std::memcpy(&word, e.header.data(), 4);
            wire.push_back({e.pipe, e.frame, __builtin_bswap32(word)});
            EXPECT_GT(references[e.frame], 0) << "a released frame was sent";
            break;
        }
        case effect::kind::retain:
            ++references[e.frame];
            break;
        case effect::kind::release:
            --references[e.frame];
            break;
        case effect::kind::count:
            counted[e.why] += static_cast<int>(e.times);
            break;
        case effect::kind::board:
        case effect::kind::publish:
        case effect::kind::part:
            ADD_FAILURE() << "this pattern has nothing for all";
            break;
        case effect::kind::consumed:
            ++consumed;
            break;
        case effect::kind::close_pipe:
            closed.push_back(e.pipe);
            ++counted[e.why];
            break;
        }
    }

    std::uint32_t pipes_ = 1, frames_ = 1, random_ = 100;
};

TEST(req, request_carries_one_word_with_its_top_bit_set)
{
    asker a;
    a.add_pipe();
    const auto c = a.context();
    EXPECT_FALSE(a.request(c));
    ASSERT_EQ(a.wire.size(), 1u);
    EXPECT_NE(a.wire[0].id & 0x80000000u, 0u);
    EXPECT_EQ(a.machine.state(c), request_state::waiting);
}

TEST(req, reply_with_its_id_is_delivered_and_the_context_is_idle_again)
{
    asker a;
    const auto pipe = a.add_pipe();
    const auto c = a.context();
    ASSERT_FALSE(a.request(c));
    a.reply(pipe, a.wire[0].id);
    a.take(c);
    EXPECT_EQ(a.machine.state(c), request_state::idle);
    EXPECT_EQ(a.consumed, 1);
    EXPECT_EQ(a.frames_held(), 0);
}

TEST(req, waits_for_a_pipe_and_goes_out_when_one_comes)
{
    asker a;
    const auto c = a.context();
    ASSERT_FALSE(a.request(c));
    EXPECT_EQ(a.machine.state(c), request_state::queued);
    EXPECT_TRUE(a.wire.empty());
    a.add_pipe();
    EXPECT_EQ(a.machine.state(c), request_state::waiting);
}

TEST(req, fails_at_once_without_a_peer_when_told_so)
{
    asker a({.fail_without_peer = true});
    const auto c = a.context();
    EXPECT_EQ(a.request(c), errc::no_peer);
    EXPECT_EQ(a.machine.state(c), request_state::idle);
    EXPECT_EQ(a.frames_held(), 0);
}

TEST(req, takes_ready_pipes_in_turn)
{
    asker a;
    const auto first = a.add_pipe(), second = a.add_pipe(), third = a.add_pipe();
    for (int i = 0; i < 3; ++i)
        ASSERT_FALSE(a.request(a.context()));
    ASSERT_EQ(a.wire.size(), 3u);
    EXPECT_EQ(a.wire[0].pipe, first);
    EXPECT_EQ(a.wire[1].pipe, second);
    EXPECT_EQ(a.wire[2].pipe, third);
    ASSERT_FALSE(a.request(a.context())); // all are full now
    EXPECT_EQ(a.wire.size(), 3u);
    a.ready(second);
    ASSERT_EQ(a.wire.size(), 4u);
    EXPECT_EQ(a.wire[3].pipe, second);
}

TEST(req, is_resent_with_the_same_id_after_resend_time)
{
    asker a({.resend_time = 100ms});
    const auto pipe = a.add_pipe();
    ASSERT_FALSE(a.request(a.context()));
    a.ready(pipe);
    a.pass(99ms);
    EXPECT_EQ(a.wire.size(), 1u);
    a.pass(1ms);
    ASSERT_EQ(a.wire.size(), 2u);
    EXPECT_EQ(a.wire[1].id, a.wire[0].id);
    EXPECT_EQ(a.counted[stat::socket_resends], 1);
    a.ready(pipe);
    a.pass(250ms);
    EXPECT_EQ(a.wire.size(), 3u); // the pipe was ready once more, not twice
}

TEST(req, is_resent_on_another_pipe_when_there_is_one)
{
    asker a({.resend_time = 100ms});
    const auto first = a.add_pipe(), second = a.add_pipe();
    ASSERT_FALSE(a.request(a.context()));
    a.ready(first);
    a.pass(100ms);
    ASSERT_EQ(a.wire.size(), 2u);
    EXPECT_EQ(a.wire[1].pipe, second);
}

TEST(req, is_resent_on_another_pipe_when_its_pipe_closes)
{
    asker a;
    const auto first = a.add_pipe();
    const auto c = a.context();
    ASSERT_FALSE(a.request(c));
    a.close_pipe(first);
    EXPECT_EQ(a.machine.state(c), request_state::waiting);
    const auto second = a.add_pipe();
    ASSERT_EQ(a.wire.size(), 2u);
    EXPECT_EQ(a.wire[1].pipe, second);
    EXPECT_EQ(a.wire[1].id, a.wire[0].id);
    EXPECT_EQ(a.counted[stat::socket_failovers], 1);
    a.reply(second, a.wire[0].id);
    a.take(c);
    EXPECT_EQ(a.frames_held(), 0);
}

TEST(req, ends_with_connection_reset_when_its_pipe_closes_and_resend_is_off)
{
    asker a({.resend_time = 0s});
    const auto pipe = a.add_pipe();
    const auto c = a.context();
    ASSERT_FALSE(a.request(c));
    a.close_pipe(pipe);
    ASSERT_EQ(a.machine.state(c), request_state::failed);
    EXPECT_EQ(a.machine.take_failure(c), errc::connection_reset);
    EXPECT_EQ(a.machine.state(c), request_state::idle);
    EXPECT_EQ(a.frames_held(), 0);
}

TEST(req, a_thousand_requests_fail_over_together)
{
    asker a({.resend_time = 0s});
    const auto pipe = a.add_pipe();
    std::vector<context_id> contexts;
    for (int i = 0; i < 1000; ++i) {
        contexts.push_back(a.context());
        ASSERT_FALSE(a.request(contexts.back()));
        a.ready(pipe);
    }
    a.close_pipe(pipe);
    for (const auto c : contexts)
        EXPECT_EQ(a.machine.state(c), request_state::failed);
    EXPECT_EQ(a.frames_held(), 0);
}

TEST(req, keeps_an_unread_reply_when_its_pipe_closes)
{
    asker a({.resend_time = 0s});
    const auto pipe = a.add_pipe();
    const auto c = a.context();
    ASSERT_FALSE(a.request(c));
    a.reply(pipe, a.wire[0].id);
    a.close_pipe(pipe);
    a.take(c);
}

TEST(req, expires_at_its_own_deadline_once)
{
    asker a({.request_deadline = 50ms});
    a.add_pipe();
    const auto c = a.context();
    ASSERT_FALSE(a.request(c));
    a.pass(49ms);
    EXPECT_EQ(a.machine.state(c), request_state::waiting);
    a.pass(1ms);
    ASSERT_EQ(a.machine.state(c), request_state::failed);
    EXPECT_EQ(a.machine.take_failure(c), errc::expired);
    EXPECT_EQ(a.machine.state(c), request_state::idle);
    EXPECT_EQ(a.frames_held(), 0);
}

TEST(req, a_new_request_ends_the_one_before_and_its_reply_is_late)
{
    asker a;
    const auto pipe = a.add_pipe();
    const auto c = a.context();
    ASSERT_FALSE(a.request(c));
    const auto serial = a.machine.serial(c);
    a.ready(pipe);
    ASSERT_FALSE(a.request(c));
    EXPECT_NE(a.machine.serial(c), serial);
    a.reply(pipe, a.wire[0].id);
    EXPECT_EQ(a.counted[stat::socket_late], 1);
    EXPECT_EQ(a.machine.state(c), request_state::waiting);
    a.reply(pipe, a.wire[1].id);
    a.take(c);
    EXPECT_EQ(a.frames_held(), 0);
}

TEST(req, a_new_request_discards_an_unread_reply)
{
    asker a;
    const auto pipe = a.add_pipe();
    const auto c = a.context();
    ASSERT_FALSE(a.request(c));
    a.reply(pipe, a.wire[0].id);
    a.ready(pipe);
    ASSERT_FALSE(a.request(c));
    EXPECT_EQ(a.counted[stat::socket_abandoned], 1);
    EXPECT_EQ(a.frames_held(), 1);
}

TEST(req, a_request_that_is_refused_leaves_the_one_before_untouched)
{
    asker a;
    const auto pipe = a.add_pipe(100);
    const auto c = a.context();
    ASSERT_FALSE(a.request(c));
    EXPECT_EQ(a.request(c, 97), errc::message_too_large); // with its header 101
    EXPECT_EQ(a.machine.state(c), request_state::waiting);
    a.reply(pipe, a.wire[0].id);
    a.take(c);
}

TEST(req, a_request_that_fits_no_pipe_that_came_fails)
{
    asker a;
    const auto c = a.context();
    ASSERT_FALSE(a.request(c, 500));
    a.add_pipe(100);
    ASSERT_EQ(a.machine.state(c), request_state::failed);
    EXPECT_EQ(a.machine.take_failure(c), errc::message_too_large);
}

TEST(req, a_large_request_waits_for_the_pipe_that_takes_it)
{
    asker a;
    a.add_pipe(100);
    const auto large = a.add_pipe(1000);
    ASSERT_FALSE(a.request(a.context(), 500));
    ASSERT_EQ(a.wire.size(), 1u);
    EXPECT_EQ(a.wire[0].pipe, large);
}

TEST(req, a_reply_from_a_pipe_that_did_not_carry_the_request_is_foreign)
{
    asker a;
    const auto mine = a.add_pipe(), other = a.add_pipe();
    const auto c = a.context();
    ASSERT_FALSE(a.request(c));
    ASSERT_EQ(a.wire[0].pipe, mine);
    a.reply(other, a.wire[0].id);
    EXPECT_EQ(a.counted[stat::socket_foreign_reply], 1);
    EXPECT_EQ(a.machine.state(c), request_state::waiting);
}

TEST(req, a_reply_without_top_bit_or_with_an_id_never_issued_is_unknown)
{
    asker a;
    const auto pipe = a.add_pipe();
    ASSERT_FALSE(a.request(a.context()));
    a.reply(pipe, a.wire[0].id & 0x7fffffff);
    a.reply(pipe, a.wire[0].id ^ 1);
    EXPECT_EQ(a.counted[stat::socket_unknown_id], 2);
    EXPECT_EQ(a.consumed, 2);
}

TEST(req, a_reply_shorter_than_its_id_closes_the_pipe)
{
    asker a;
    const auto pipe = a.add_pipe();
    for (const std::size_t size : {0u, 3u})
        a.reply(pipe, 0xffffffff, size);
    EXPECT_EQ(a.closed.size(), 2u);
    EXPECT_EQ(a.counted[stat::pipe_bad_header], 2);
    EXPECT_EQ(a.frames_held(), 0);
}

TEST(req, contexts_are_answered_in_any_order)
{
    asker a;
    const auto pipe = a.add_pipe();
    const auto first = a.context(), second = a.context();
    ASSERT_FALSE(a.request(first));
    a.ready(pipe);
    ASSERT_FALSE(a.request(second));
    a.reply(pipe, a.wire[1].id);
    EXPECT_EQ(a.machine.state(first), request_state::waiting);
    a.take(second);
    a.reply(pipe, a.wire[0].id);
    a.take(first);
}

TEST(req, closing_a_context_ends_its_request_only)
{
    asker a;
    const auto first = a.context(), second = a.context();
    ASSERT_FALSE(a.request(first));
    ASSERT_FALSE(a.request(second));
    a.machine.close_context(first, a.out);
    a.settle();
    a.add_pipe();
    EXPECT_EQ(a.wire.size(), 1u);
    EXPECT_EQ(a.machine.state(second), request_state::waiting);
    EXPECT_EQ(a.machine.state(first), request_state::idle);
    EXPECT_NE(a.context(), first); // a name is not used again
}

TEST(req, has_one_receiver_per_context)
{
    asker a;
    const auto c = a.context();
    EXPECT_FALSE(a.machine.begin_receive(c)); // nothing was asked
    ASSERT_FALSE(a.request(c));
    EXPECT_TRUE(a.machine.begin_receive(c));
    EXPECT_FALSE(a.machine.begin_receive(c));
    a.machine.end_receive(c);
    EXPECT_TRUE(a.machine.begin_receive(c));
}

TEST(req, refuses_the_context_after_the_last)
{
    asker a;
    for (std::size_t i = 0; i < req_machine::contexts_max; ++i)
        ASSERT_TRUE(a.machine.open_context());
    EXPECT_FALSE(a.machine.open_context());
}

TEST(req, close_releases_every_frame_and_tells_what_was_never_sent)
{
    asker a;
    std::size_t never_sent = 0;
    for (int i = 0; i < 200; ++i)
        ASSERT_FALSE(a.request(a.context()));
    do {
        a.out.clear();
        never_sent += a.machine.close(a.out);
        for (const auto &e : a.out.all())
            if (e.what == effect::kind::release)
                --a.references[e.frame];
    } while (!a.out.empty());
    EXPECT_EQ(never_sent, 200u);
    EXPECT_EQ(a.frames_held(), 0);
}

TEST(req, waits_with_no_peer_unless_told_to_fail)
{
    asker a;
    const auto c = a.context();
    EXPECT_FALSE(a.machine.send_ready(10));
    EXPECT_FALSE(a.request(c));
    EXPECT_EQ(a.machine.queued_out(), 1u);
}

TEST(req, with_fail_a_peer_without_room_is_a_peer)
{
    asker a({.fail_without_peer = true});
    const auto pipe = a.add_pipe();
    ASSERT_FALSE(a.request(a.context())); // takes its room
    const auto c = a.context();
    EXPECT_FALSE(a.request(c));
    EXPECT_EQ(a.machine.state(c), request_state::queued);
    a.close_pipe(pipe); // now they wait for a pipe: they had a peer when they were sent
    EXPECT_EQ(a.machine.state(c), request_state::queued);
    EXPECT_EQ(a.request(a.context()), errc::no_peer);
}

TEST(req, a_refused_request_leaves_an_unread_reply_readable)
{
    asker a({.fail_without_peer = true});
    const auto pipe = a.add_pipe();
    const auto c = a.context();
    ASSERT_FALSE(a.request(c));
    a.reply(pipe, a.wire[0].id);
    a.close_pipe(pipe);
    EXPECT_EQ(a.request(c), errc::no_peer);
    a.take(c);
}

TEST(req, a_request_that_waits_for_room_holds_up_none_that_another_pipe_takes)
{
    asker a;
    const auto small = a.add_pipe(100), large = a.add_pipe(1000);
    ASSERT_FALSE(a.request(a.context(), 500));
    ASSERT_FALSE(a.request(a.context(), 500)); // waits for the large pipe
    EXPECT_TRUE(a.machine.send_ready(10));
    const auto c = a.context();
    ASSERT_FALSE(a.request(c));
    EXPECT_EQ(a.machine.state(c), request_state::waiting);
    EXPECT_EQ(a.wire.back().pipe, small);
    a.ready(large);
    EXPECT_EQ(a.wire.back().pipe, large);
    EXPECT_EQ(a.machine.queued_out(), 0u);
}

TEST(req, is_resent_elsewhere_even_when_its_own_pipe_is_next_in_turn)
{
    asker a({.resend_time = 100ms});
    const auto first = a.add_pipe(), second = a.add_pipe();
    ASSERT_FALSE(a.request(a.context()));
    ASSERT_FALSE(a.request(a.context())); // so that the first pipe is next
    a.ready(first);
    a.ready(second);
    a.wire.clear();
    a.pass(100ms);
    ASSERT_EQ(a.wire.size(), 2u);
    EXPECT_EQ(a.wire[0].pipe, second);
    EXPECT_EQ(a.wire[1].pipe, first);
}

TEST(req, is_resent_on_its_own_pipe_when_there_is_no_other)
{
    asker a({.resend_time = 100ms});
    const auto pipe = a.add_pipe();
    a.add_pipe(5); // takes nothing of this size
    ASSERT_FALSE(a.request(a.context()));
    a.ready(pipe);
    a.pass(100ms);
    ASSERT_EQ(a.wire.size(), 2u);
    EXPECT_EQ(a.wire[1].pipe, pipe);
}

TEST(req, is_resent_exactly_at_its_time)
{
    asker a({.resend_time = 100ms});
    a.add_pipe();
    ASSERT_FALSE(a.request(a.context()));
    EXPECT_EQ(a.machine.next_deadline(), a.now + 100ms);
}

TEST(req, with_resend_off_it_is_never_sent_twice_and_no_timer_runs)
{
    asker a({.resend_time = 0s});
    const auto pipe = a.add_pipe();
    a.add_pipe();
    const auto c = a.context();
    ASSERT_FALSE(a.request(c));
    EXPECT_EQ(a.machine.next_deadline(), instant::max());
    a.ready(pipe);
    a.pass(1h);
    EXPECT_EQ(a.wire.size(), 1u);
    a.close_pipe(pipe);
    EXPECT_EQ(a.wire.size(), 1u);
    EXPECT_EQ(a.machine.take_failure(c), errc::connection_reset);
}

TEST(req, with_resend_off_a_request_that_no_pipe_has_taken_waits_on)
{
    asker a({.resend_time = 0s});
    const auto pipe = a.add_pipe();
    ASSERT_FALSE(a.request(a.context()));
    const auto c = a.context();
    ASSERT_FALSE(a.request(c));
    a.close_pipe(pipe);
    EXPECT_EQ(a.machine.state(c), request_state::queued);
    a.add_pipe();
    EXPECT_EQ(a.machine.state(c), request_state::waiting);
}

TEST(req, an_error_is_told_once_and_does_not_outlive_a_new_request)
{
    asker a({.resend_time = 0s});
    auto pipe = a.add_pipe();
    const auto c = a.context();
    ASSERT_FALSE(a.request(c));
    a.close_pipe(pipe);
    ASSERT_EQ(a.machine.state(c), request_state::failed);
    pipe = a.add_pipe();
    ASSERT_FALSE(a.request(c));
    EXPECT_EQ(a.machine.state(c), request_state::waiting);
    a.reply(pipe, a.wire.back().id);
    a.take(c);
    EXPECT_EQ(a.machine.state(c), request_state::idle);
}

TEST(req, the_reply_of_an_earlier_carrier_counts_after_a_resend)
{
    asker a({.resend_time = 100ms});
    const auto first = a.add_pipe(), second = a.add_pipe();
    const auto c = a.context();
    ASSERT_FALSE(a.request(c));
    a.pass(100ms);
    ASSERT_EQ(a.wire[1].pipe, second);
    a.reply(first, a.wire[0].id);
    a.take(c);
    a.reply(second, a.wire[0].id);
    EXPECT_EQ(a.counted[stat::socket_late], 1);
}

TEST(req, the_end_of_a_pipe_that_carried_an_earlier_copy_changes_nothing)
{
    asker a({.resend_time = 100ms});
    const auto first = a.add_pipe();
    a.add_pipe();
    ASSERT_FALSE(a.request(a.context()));
    a.pass(100ms);
    a.close_pipe(first);
    EXPECT_EQ(a.wire.size(), 2u);
    EXPECT_EQ(a.counted[stat::socket_failovers], 0);
}

TEST(req, ids_of_outstanding_requests_differ_though_chance_repeats_itself)
{
    req_machine machine({});
    effects out;
    machine.on_pipe_added({.id = static_cast<pipe_id>(1), .capacity = 100});
    std::vector<std::uint32_t> ids;
    for (std::uint32_t i = 0; i < 3; ++i) {
        const auto c = *machine.open_context();
        ASSERT_FALSE(machine.on_request(c, static_cast<frame_id>(i), 1, 7, instant{}, out));
        machine.on_pipe_ready(static_cast<pipe_id>(1), instant{}, out);
        ASSERT_EQ(out.all().size(), 1u);
        std::uint32_t word = 0;
        std::memcpy(&word, out.all()[0].header.data(), 4);
        ids.push_back(word);
        out.clear();
    }
    std::ranges::sort(ids);
    EXPECT_EQ(std::ranges::adjacent_find(ids), ids.end());
}

} // namespace
