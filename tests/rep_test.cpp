// SPDX-License-Identifier: BSD-2-Clause
//
// The REP machine with made-up pipes and time. Frames are numbers; the test plays the engine and
// keeps a census.
#include "userspace/protocol/rep.hpp"

#include <cstring>
#include <gtest/gtest.h>
#include <map>
#include <vector>

namespace {

using namespace sp::protocol;
using namespace std::chrono_literals;
using sp::errc;
using sp::stat;

constexpr std::uint32_t end_bit = 0x80000000;

class answerer {
public:
    explicit answerer(const rep_options &options = {}) : machine(options, 42) {}

    pipe_id add_pipe(std::uint64_t instance = 1, std::size_t capacity = 1000)
    {
        const auto pipe = static_cast<pipe_id>(0x10000u + pipes_++);
        machine.on_pipe_added({.id = pipe, .instance = instance, .capacity = capacity});
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
    void request(pipe_id pipe, const std::vector<std::uint32_t> &words, std::size_t extra = 4)
    {
        std::vector<std::byte> payload(words.size() * 4 + extra);
        for (std::size_t i = 0; i < words.size(); ++i) {
            const auto word = __builtin_bswap32(words[i]);
            std::memcpy(payload.data() + i * 4, &word, 4);
        }
        deliver(pipe, payload);
    }
    void deliver(pipe_id pipe, const std::vector<std::byte> &payload)
    {
        machine.on_message(pipe, new_frame(), payload, now, out);
        settle();
    }
    std::optional<taken_request> take()
    {
        auto t = machine.take(out);
        settle();
        if (t)
            --references[t->frame]; // the application reads it and gives it back
        return t;
    }
    std::optional<errc> reply(ticket_id ticket, std::size_t size = 8)
    {
        const auto frame = new_frame();
        const auto refused = machine.reply(ticket, frame, size, now, out);
        if (refused)
            --references[frame];
        settle();
        return refused;
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

    struct sent {
        pipe_id pipe;
        frame_id frame;
        std::vector<std::uint32_t> words;
    };

    rep_machine machine;
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
            sent s{e.pipe, e.frame, {}};
            for (std::size_t i = 0; i < e.header.size(); i += 4) {
                std::uint32_t word;
                std::memcpy(&word, e.header.data() + i, 4);
                s.words.push_back(__builtin_bswap32(word));
            }
            EXPECT_GT(references[e.frame], 0) << "a released frame was sent";
            wire.push_back(s);
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

    std::uint32_t pipes_ = 1, frames_ = 1;
};

TEST(rep, reply_carries_the_stack_of_its_request_home)
{
    answerer a;
    const auto pipe = a.add_pipe();
    a.request(pipe, {7, 8, end_bit | 9});
    const auto t = a.take();
    ASSERT_TRUE(t);
    EXPECT_EQ(t->header_bytes, 12u);
    EXPECT_EQ(t->pipe, pipe);
    EXPECT_FALSE(a.reply(t->ticket));
    ASSERT_EQ(a.wire.size(), 1u);
    EXPECT_EQ(a.wire[0].pipe, pipe);
    EXPECT_EQ(a.wire[0].words, (std::vector<std::uint32_t>{7, 8, end_bit | 9}));
}

TEST(rep, takes_stacks_of_up_to_ttl_words)
{
    for (const std::size_t words : {1u, 2u, 8u}) {
        answerer a;
        std::vector<std::uint32_t> stack(words, 5);
        stack.back() = end_bit | 1;
        a.request(a.add_pipe(), stack);
        EXPECT_TRUE(a.take()) << words;
    }
}

TEST(rep, drops_stacks_of_more_words_and_keeps_the_pipe)
{
    struct row {
        std::size_t ttl, words;
        bool delivered;
    };
    for (const auto &r : {row{8, 9, false}, row{3, 4, false}, row{3, 3, true}, row{8, 20, false}}) {
        answerer a({.ttl_max = r.ttl});
        std::vector<std::uint32_t> stack(r.words, 5);
        if (r.words < 20) // twenty words have no end at all
            stack.back() = end_bit | 1;
        a.request(a.add_pipe(), stack);
        EXPECT_EQ(a.take().has_value(), r.delivered) << r.ttl << ' ' << r.words;
        EXPECT_EQ(a.counted[stat::socket_ttl], r.delivered ? 0 : 1);
        EXPECT_TRUE(a.closed.empty());
        EXPECT_EQ(a.consumed, 1);
    }
}

TEST(rep, closes_the_pipe_of_a_malformed_stack)
{
    for (const std::size_t size : {0u, 3u, 4u, 12u}) { // none of them has an end word
        answerer a;
        a.deliver(a.add_pipe(), std::vector<std::byte>(size));
        EXPECT_EQ(a.closed.size(), 1u) << size;
        EXPECT_EQ(a.counted[stat::pipe_bad_header], 1);
        EXPECT_EQ(a.frames_held(), 0);
    }
}

TEST(rep, takes_one_request_per_pipe_in_turn)
{
    answerer a;
    const auto flooder = a.add_pipe(1), modest = a.add_pipe(2);
    for (std::uint32_t i = 0; i < 10; ++i)
        a.request(flooder, {end_bit | i});
    a.request(modest, {end_bit | 100});
    ASSERT_EQ(a.take()->pipe, flooder);
    ASSERT_EQ(a.take()->pipe, modest);
    for (int i = 0; i < 9; ++i)
        ASSERT_EQ(a.take()->pipe, flooder);
    EXPECT_FALSE(a.take());
}

TEST(rep, gives_credit_back_when_a_request_is_taken_not_before)
{
    answerer a;
    a.request(a.add_pipe(), {end_bit | 1});
    EXPECT_EQ(a.consumed, 0);
    ASSERT_TRUE(a.take());
    EXPECT_EQ(a.consumed, 1);
}

TEST(rep, answers_in_any_order)
{
    answerer a;
    const auto pipe = a.add_pipe();
    a.request(pipe, {end_bit | 1});
    a.request(pipe, {end_bit | 2});
    const auto first = a.take(), second = a.take();
    ASSERT_FALSE(a.reply(second->ticket));
    a.ready(pipe);
    ASSERT_FALSE(a.reply(first->ticket));
    EXPECT_EQ(a.wire[0].words[0], end_bit | 2);
    EXPECT_EQ(a.wire[1].words[0], end_bit | 1);
}

TEST(rep, answers_a_request_once)
{
    answerer a;
    const auto pipe = a.add_pipe();
    a.request(pipe, {end_bit | 1});
    const auto t = a.take();
    ASSERT_FALSE(a.reply(t->ticket));
    a.ready(pipe);
    EXPECT_EQ(a.reply(t->ticket), errc::invalid_state);
    EXPECT_EQ(a.wire.size(), 1u);
}

TEST(rep, keeps_the_request_when_the_pipe_has_no_room)
{
    answerer a;
    const auto pipe = a.add_pipe();
    a.request(pipe, {end_bit | 1});
    a.request(pipe, {end_bit | 2});
    const auto first = a.take(), second = a.take();
    ASSERT_FALSE(a.reply(first->ticket));
    EXPECT_EQ(a.reply(second->ticket), errc::would_block);
    a.ready(pipe);
    EXPECT_FALSE(a.reply(second->ticket));
}

TEST(rep, refuses_a_reply_larger_than_the_pipe_takes_and_keeps_the_request)
{
    answerer a;
    const auto pipe = a.add_pipe(1, 100);
    a.request(pipe, {end_bit | 1});
    const auto t = a.take();
    EXPECT_EQ(a.reply(t->ticket, 97), errc::message_too_large);
    EXPECT_FALSE(a.reply(t->ticket, 96));
}

TEST(rep, a_reply_whose_pipe_went_succeeds_and_is_counted)
{
    answerer a;
    const auto pipe = a.add_pipe();
    a.request(pipe, {end_bit | 1});
    const auto t = a.take();
    a.close_pipe(pipe);
    EXPECT_FALSE(a.reply(t->ticket));
    EXPECT_TRUE(a.wire.empty());
    EXPECT_EQ(a.counted[stat::socket_pipe_gone], 1);
}

TEST(rep, a_request_that_comes_again_while_it_is_answered_is_dropped)
{
    answerer a;
    const auto pipe = a.add_pipe();
    a.request(pipe, {end_bit | 1});
    const auto t = a.take();
    a.request(pipe, {end_bit | 1});
    EXPECT_FALSE(a.take());
    EXPECT_EQ(a.counted[stat::socket_duplicate_request], 1);
    EXPECT_EQ(a.consumed, 2);
    EXPECT_FALSE(a.reply(t->ticket));
    EXPECT_EQ(a.wire.size(), 1u);
}

TEST(rep, the_reply_follows_the_asker_to_its_newest_pipe)
{
    answerer a;
    const auto old_pipe = a.add_pipe(77);
    a.request(old_pipe, {end_bit | 1});
    const auto t = a.take();
    a.close_pipe(old_pipe);
    const auto new_pipe = a.add_pipe(77);
    a.request(new_pipe, {end_bit | 1});
    EXPECT_FALSE(a.take());
    ASSERT_FALSE(a.reply(t->ticket));
    ASSERT_EQ(a.wire.size(), 1u);
    EXPECT_EQ(a.wire[0].pipe, new_pipe);
}

TEST(rep, a_reply_that_may_have_been_lost_is_sent_again_and_not_executed_again)
{
    answerer a;
    const auto old_pipe = a.add_pipe(77);
    a.request(old_pipe, {end_bit | 1});
    ASSERT_FALSE(a.reply(a.take()->ticket));
    a.close_pipe(old_pipe); // before the asker's link confirmed it
    const auto new_pipe = a.add_pipe(77);
    a.request(new_pipe, {end_bit | 1});
    EXPECT_FALSE(a.take());
    ASSERT_EQ(a.wire.size(), 2u);
    EXPECT_EQ(a.wire[1].pipe, new_pipe);
    EXPECT_EQ(a.wire[1].frame, a.wire[0].frame);
}

// The asker may know first that its pipe is gone: its goodbye can be lost.
TEST(rep, a_reply_follows_the_asker_although_its_old_pipe_still_seems_alive)
{
    answerer a;
    const auto old_pipe = a.add_pipe(77);
    for (const std::uint32_t i : {1u, 2u}) {
        a.request(old_pipe, {end_bit | i});
        ASSERT_FALSE(a.reply(a.take()->ticket));
        a.ready(old_pipe);
    }
    const auto new_pipe = a.add_pipe(77);
    a.request(new_pipe, {end_bit | 1});
    EXPECT_FALSE(a.take());
    ASSERT_EQ(a.wire.size(), 3u);
    EXPECT_EQ(a.wire[2].pipe, new_pipe);
    EXPECT_EQ(a.frames_held(), 2);
    a.machine.on_confirmed(old_pipe, 1, a.out); // of the first, which has moved
    a.settle();
    EXPECT_EQ(a.frames_held(), 2);
    a.machine.on_confirmed(old_pipe, 1, a.out);
    a.settle();
    EXPECT_EQ(a.frames_held(), 1);
    a.machine.on_confirmed(new_pipe, 1, a.out);
    a.settle();
    EXPECT_EQ(a.frames_held(), 0);
}

TEST(rep, a_waiting_request_follows_the_asker_and_both_pipes_get_their_credit)
{
    answerer a;
    const auto old_pipe = a.add_pipe(77), new_pipe = a.add_pipe(77);
    a.request(old_pipe, {end_bit | 1});
    a.request(new_pipe, {end_bit | 1});
    EXPECT_EQ(a.consumed, 1);
    a.close_pipe(old_pipe);
    const auto t = a.take();
    ASSERT_TRUE(t);
    EXPECT_EQ(t->pipe, new_pipe);
    EXPECT_EQ(a.consumed, 2);
    EXPECT_FALSE(a.take());
    EXPECT_EQ(a.frames_held(), 0);
}

TEST(rep, kept_replies_wait_for_room_on_the_new_pipe)
{
    answerer a;
    const auto old_pipe = a.add_pipe(77);
    for (std::uint32_t i = 0; i < 3; ++i) {
        a.request(old_pipe, {end_bit | i});
        ASSERT_FALSE(a.reply(a.take()->ticket));
        a.ready(old_pipe);
    }
    a.close_pipe(old_pipe);
    a.wire.clear();
    const auto new_pipe = a.add_pipe(77);
    for (std::uint32_t i = 0; i < 3; ++i)
        a.request(new_pipe, {end_bit | i});
    EXPECT_EQ(a.wire.size(), 1u);
    a.ready(new_pipe);
    a.ready(new_pipe);
    EXPECT_EQ(a.wire.size(), 3u);
}

TEST(rep, another_asker_with_the_same_id_is_another_request)
{
    answerer a;
    a.request(a.add_pipe(1), {end_bit | 1});
    a.request(a.add_pipe(2), {end_bit | 1});
    EXPECT_TRUE(a.take());
    EXPECT_TRUE(a.take());
}

TEST(rep, executes_every_request_when_told_so)
{
    answerer a({.dedupe_time = 0s});
    const auto pipe = a.add_pipe();
    a.request(pipe, {end_bit | 1});
    a.request(pipe, {end_bit | 1});
    EXPECT_TRUE(a.take());
    EXPECT_TRUE(a.take());
}

TEST(rep, forgets_a_reply_that_the_asker_has)
{
    answerer a;
    const auto pipe = a.add_pipe();
    a.request(pipe, {end_bit | 1});
    ASSERT_FALSE(a.reply(a.take()->ticket));
    EXPECT_EQ(a.frames_held(), 1);
    a.machine.on_confirmed(pipe, 1, a.out);
    a.settle();
    EXPECT_EQ(a.frames_held(), 0);
}

TEST(rep, keeps_replies_for_dedupe_time)
{
    answerer a;
    const auto pipe = a.add_pipe();
    a.request(pipe, {end_bit | 1});
    ASSERT_FALSE(a.reply(a.take()->ticket));
    a.close_pipe(pipe);
    EXPECT_EQ(a.machine.next_deadline(), a.now + 120s);
    a.now += 120s;
    a.machine.on_deadline(a.now);
    a.settle();
    EXPECT_EQ(a.frames_held(), 0);
    EXPECT_EQ(a.machine.next_deadline(), instant::max());
}

TEST(rep, keeps_replies_within_their_bytes_oldest_first_out)
{
    answerer a({.reply_cache_bytes = 3 * (100 + rep_machine::charge)});
    const auto pipe = a.add_pipe(77);
    for (std::uint32_t i = 0; i < 5; ++i) {
        a.request(pipe, {end_bit | i});
        ASSERT_FALSE(a.reply(a.take()->ticket, 100));
        a.ready(pipe);
    }
    a.close_pipe(pipe);
    EXPECT_EQ(a.frames_held(), 3);
    a.request(a.add_pipe(77), {end_bit | 0});
    EXPECT_TRUE(a.take()); // the oldest was forgotten
}

TEST(rep, drops_queued_requests_of_a_pipe_that_went)
{
    answerer a;
    const auto pipe = a.add_pipe();
    for (std::uint32_t i = 0; i < 100; ++i)
        a.request(pipe, {end_bit | i});
    a.close_pipe(pipe);
    EXPECT_FALSE(a.take());
    EXPECT_EQ(a.frames_held(), 0);
}

TEST(rep, an_abandoned_request_is_executed_again_when_it_comes_again)
{
    answerer a;
    const auto pipe = a.add_pipe();
    a.request(pipe, {end_bit | 1});
    const auto t = a.take();
    a.machine.abandon(t->ticket, a.out);
    a.settle();
    EXPECT_EQ(a.counted[stat::socket_abandoned], 1);
    EXPECT_EQ(a.reply(t->ticket), errc::invalid_state);
    a.request(pipe, {end_bit | 1});
    EXPECT_TRUE(a.take());
}

TEST(rep, memory_is_bounded_whatever_is_asked)
{
    answerer a;
    const auto pipe = a.add_pipe();
    for (std::uint32_t i = 0; i < rep_machine::requests_max + 10; ++i)
        a.request(pipe, {end_bit | i});
    EXPECT_EQ(a.counted[stat::socket_memory], 10);
    EXPECT_EQ(a.frames_held(), static_cast<long>(rep_machine::requests_max));
    do {
        a.out.clear();
        a.machine.close(a.out);
        for (const auto &e : a.out.all())
            if (e.what == effect::kind::release)
                --a.references[e.frame];
    } while (!a.out.empty());
    EXPECT_EQ(a.frames_held(), 0);
}

TEST(rep, on_a_stream_every_request_is_new)
{
    answerer a;
    const auto first = a.add_pipe(0), second = a.add_pipe(0);
    a.request(first, {end_bit | 1});
    a.request(second, {end_bit | 1}); // another asker, by chance with the same id
    a.request(first, {end_bit | 1});
    EXPECT_TRUE(a.take());
    EXPECT_TRUE(a.take());
    EXPECT_TRUE(a.take());
    EXPECT_EQ(a.counted[stat::socket_duplicate_request], 0);
}

TEST(rep, on_a_stream_the_reply_goes_to_the_pipe_its_request_came_by_and_to_no_other)
{
    answerer a;
    const auto first = a.add_pipe(0), second = a.add_pipe(0);
    a.request(first, {end_bit | 1});
    const auto t = a.take();
    a.request(second, {end_bit | 1});
    ASSERT_FALSE(a.reply(t->ticket));
    EXPECT_EQ(a.wire[0].pipe, first);
}

TEST(rep, on_a_stream_no_reply_is_kept)
{
    answerer a;
    const auto pipe = a.add_pipe(0);
    a.request(pipe, {end_bit | 1});
    ASSERT_FALSE(a.reply(a.take()->ticket));
    EXPECT_EQ(a.frames_held(), 0);
    a.request(pipe, {end_bit | 2});
    const auto t = a.take();
    a.close_pipe(pipe);
    ASSERT_FALSE(a.reply(t->ticket));
    EXPECT_EQ(a.counted[stat::socket_pipe_gone], 1);
    EXPECT_EQ(a.frames_held(), 0);
    EXPECT_EQ(a.machine.next_deadline(), instant::max());
    a.request(a.add_pipe(0), {end_bit | 2});
    EXPECT_TRUE(a.take());
}

TEST(rep, with_dedupe_time_0_no_reply_is_kept)
{
    answerer a({.dedupe_time = 0s});
    const auto pipe = a.add_pipe(77);
    a.request(pipe, {end_bit | 1});
    ASSERT_FALSE(a.reply(a.take()->ticket));
    EXPECT_EQ(a.wire[0].words, (std::vector<std::uint32_t>{end_bit | 1}));
    EXPECT_EQ(a.frames_held(), 0);
    a.close_pipe(pipe);
    EXPECT_EQ(a.machine.next_deadline(), instant::max());
}

TEST(rep, an_empty_body_behind_the_id_is_a_request)
{
    answerer a;
    a.request(a.add_pipe(), {end_bit | 1}, 0);
    EXPECT_TRUE(a.take());
}

TEST(rep, a_request_taken_stays_answerable_while_others_come_and_are_taken)
{
    answerer a({.dedupe_time = 0s});
    const auto pipe = a.add_pipe(), other = a.add_pipe();
    a.request(pipe, {end_bit | 1});
    const auto t = a.take();
    EXPECT_FALSE(a.take()); // nothing there: what is held stays held
    a.request(other, {end_bit | 2});
    EXPECT_TRUE(a.take());
    EXPECT_FALSE(a.reply(t->ticket));
    EXPECT_EQ(a.wire[0].pipe, pipe);
}

TEST(rep, a_busy_pipe_holds_up_its_own_replies_only)
{
    answerer a;
    const auto busy = a.add_pipe(1), idle = a.add_pipe(2);
    for (const std::uint32_t i : {1u, 2u})
        a.request(busy, {end_bit | i});
    a.request(idle, {end_bit | 3});
    const auto first = a.take(), other = a.take(), second = a.take();
    ASSERT_FALSE(a.reply(first->ticket));
    EXPECT_EQ(a.reply(second->ticket), errc::would_block);
    EXPECT_FALSE(a.reply(other->ticket));
}

TEST(rep, a_kept_reply_too_large_for_the_askers_new_pipe_is_not_sent_there)
{
    answerer a;
    const auto old_pipe = a.add_pipe(77);
    a.request(old_pipe, {end_bit | 1});
    ASSERT_FALSE(a.reply(a.take()->ticket, 500));
    a.close_pipe(old_pipe);
    const auto small = a.add_pipe(77, 100);
    a.request(small, {end_bit | 1});
    EXPECT_EQ(a.wire.size(), 1u);
    EXPECT_EQ(a.counted[stat::socket_peer_limit], 1);
    a.request(a.add_pipe(77), {end_bit | 1}); // it is still there for one that takes it
    EXPECT_EQ(a.wire.size(), 2u);
}

} // namespace
