// SPDX-License-Identifier: BSD-2-Clause
//
// The books of the REQ machine: what becomes of every request and reply is counted once.
#include "userspace/protocol/req.hpp"

#include "tests/support/machine.hpp"

#include <algorithm>
#include <gtest/gtest.h>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace sp::protocol;
using namespace std::chrono_literals;
using sp::errc;
using sp::stat;

struct booked : sp::test::machine_engine<req_machine> {
    explicit booked(const req_options &options = {}) : machine_engine(options) {}

    context_id context() { return *machine.open_context(); }
    std::optional<errc> request(context_id c, std::string_view body = "what?")
    {
        const auto frame = new_frame(body);
        return submit(
            frame, [&] { return machine.on_request(c, frame, body.size(), ++random_, now, out); });
    }
    void cancel(context_id c)
    {
        step([&](effects &o) { machine.cancel(c, o); });
    }
    void reply(pipe_id pipe, std::string_view id, std::string_view body = "that")
    {
        receive(pipe, std::string(id).append(body));
    }
    void read(context_id c)
    {
        ASSERT_EQ(machine.state(c), request_state::ready);
        ++counted[stat::socket_delivered];
        release(machine.take_reply(c).frame);
        step([](effects &) {});
    }

private:
    std::uint32_t random_ = 0;
};

TEST(req_books, a_request_that_never_reached_the_wire_waits_again_as_a_failover)
{
    booked b;
    const auto pipe = b.add_pipe();
    b.jam(pipe);
    b.give_room(pipe, 1);
    const auto c = b.context();
    ASSERT_FALSE(b.request(c));
    EXPECT_EQ(b.machine.state(c), request_state::waiting);
    b.close_pipe(pipe);
    EXPECT_EQ(b.count(stat::socket_returned), 1);
    EXPECT_EQ(b.count(stat::socket_failovers), 1);
    EXPECT_EQ(b.machine.queued_out(), 1u);
    const auto other = b.add_pipe();
    b.give_room(other, 1);
    EXPECT_EQ(b.sent_on(other), std::vector<std::string>{"what?"});
    EXPECT_EQ(b.count(stat::socket_failovers), 1);
    b.reply(other, b.wire[0].header);
    b.read(c);
    EXPECT_EQ(b.frames_held(), 0u);
}

TEST(req_books, a_returned_request_that_is_cancelled_is_withdrawn)
{
    booked b;
    const auto pipe = b.add_pipe();
    b.jam(pipe);
    b.give_room(pipe, 1);
    const auto c = b.context();
    ASSERT_FALSE(b.request(c));
    b.close_pipe(pipe);
    b.cancel(c);
    EXPECT_EQ(b.count(stat::socket_withdrawn), 1);
    EXPECT_EQ(b.frames_held(), 0u);
}

TEST(req_books, what_comes_back_after_its_request_was_cancelled_is_released)
{
    booked b;
    const auto pipe = b.add_pipe();
    b.jam(pipe);
    b.give_room(pipe, 1);
    const auto c = b.context();
    ASSERT_FALSE(b.request(c));
    b.cancel(c);
    b.close_pipe(pipe);
    EXPECT_EQ(b.count(stat::socket_failovers), 0);
    EXPECT_EQ(b.frames_held(), 0u);
}

TEST(req_books, with_resend_off_a_returned_request_ends_like_any_other)
{
    booked b({.resend_time = 0s});
    const auto pipe = b.add_pipe();
    b.jam(pipe);
    b.give_room(pipe, 1);
    const auto c = b.context();
    ASSERT_FALSE(b.request(c));
    b.close_pipe(pipe);
    EXPECT_EQ(b.machine.take_failure(c), errc::connection_reset);
    EXPECT_EQ(b.frames_held(), 0u);
}

TEST(req_books, a_queued_request_that_is_cancelled_or_replaced_is_withdrawn)
{
    booked b;
    const auto c = b.context();
    ASSERT_FALSE(b.request(c));
    b.cancel(c);
    EXPECT_EQ(b.count(stat::socket_withdrawn), 1);
    ASSERT_FALSE(b.request(c));
    ASSERT_FALSE(b.request(c));
    EXPECT_EQ(b.count(stat::socket_withdrawn), 2);
    EXPECT_EQ(b.machine.queued_out(), 1u);
}

TEST(req_books,
     a_queued_request_that_expires_is_withdrawn_and_one_that_fits_nobody_is_over_their_limit)
{
    booked b({.request_deadline = 10ms});
    const auto first = b.context(), second = b.context();
    ASSERT_FALSE(b.request(first));
    b.advance(10ms);
    EXPECT_EQ(b.count(stat::socket_withdrawn), 1);
    EXPECT_EQ(b.machine.take_failure(first), errc::expired);
    ASSERT_FALSE(b.request(second));
    b.add_pipe(6);
    EXPECT_EQ(b.count(stat::socket_peer_limit), 1);
    EXPECT_EQ(b.machine.take_failure(second), errc::message_too_large);
}

TEST(req_books, drops_of_replies_are_counted_on_the_pipe_they_came_by)
{
    booked b;
    const auto pipe = b.add_pipe(), other = b.add_pipe();
    b.give_room(pipe, 1);
    const auto c = b.context();
    ASSERT_FALSE(b.request(c));
    const auto id = b.wire[0].header;
    b.reply(other, id);
    EXPECT_EQ(b.count(stat::socket_foreign_reply, other), 1);
    b.reply(other, "\x7f\x01\x01\x01");
    EXPECT_EQ(b.count(stat::socket_unknown_id, other), 1);
    b.cancel(c);
    b.reply(pipe, id);
    EXPECT_EQ(b.count(stat::socket_late, pipe), 1);
}

TEST(req_books, closing_a_context_abandons_its_unread_reply)
{
    booked b;
    const auto pipe = b.add_pipe();
    b.give_room(pipe, 1);
    const auto c = b.context();
    ASSERT_FALSE(b.request(c));
    b.reply(pipe, b.wire[0].header);
    b.step([&](effects &o) { b.machine.close_context(c, o); });
    EXPECT_EQ(b.count(stat::socket_abandoned), 1);
    EXPECT_EQ(b.frames_held(), 0u);
}

TEST(req_books, close_counts_what_was_never_sent_and_what_was_never_read)
{
    booked b;
    const auto pipe = b.add_pipe();
    b.give_room(pipe, 1);
    ASSERT_FALSE(b.request(b.context()));
    b.reply(pipe, b.wire[0].header);
    ASSERT_FALSE(b.request(b.context()));
    EXPECT_EQ(b.close(), 1u);
    EXPECT_EQ(b.count(stat::socket_closed), 1);
    EXPECT_EQ(b.count(stat::socket_unread), 1);
    EXPECT_EQ(b.frames_held(), 0u);
}

// Chance plays engine, peers and application; books and census are checked after every step.
class req_play : public booked {
public:
    req_play(const req_options &options, std::uint32_t seed) : booked(options), random_(seed)
    {
        for (int i = 0; i < 6; ++i)
            contexts_.push_back(context());
    }

    void step_once()
    {
        auto &c = contexts_[below(contexts_.size())];
        switch (below(14)) {
        case 0:
            add_pipe(below(5) == 0 ? 10 : 1000);
            break;
        case 1:
            if (!pipes.empty() && below(2) == 0)
                close_pipe(any_pipe());
            break;
        case 2:
        case 3:
            ask(c);
            break;
        case 4:
            advance(std::chrono::milliseconds(below(20)));
            break;
        case 5:
            end(c);
            break;
        case 6:
            if (below(4) == 0 && !pipes.empty())
                jam(any_pipe());
            break;
        case 7:
        case 8:
            if (!pipes.empty())
                give_room(any_pipe(), 1 + below(2));
            break;
        case 9:
            if (!pipes.empty() && !wire.empty())
                reply(any_pipe(), recent().header, std::string(below(20), 'y'));
            break;
        case 10:
        case 11:
            if (!wire.empty())
                answer(recent());
            break;
        default:
            read_or_hear(c);
        }
        EXPECT_GE(machine.next_deadline(), now);
    }

private:
    std::size_t below(std::size_t n) { return random_() % n; }
    pipe_id any_pipe()
    {
        return std::next(pipes.begin(), static_cast<std::ptrdiff_t>(below(pipes.size())))->first;
    }
    const sent &recent()
    {
        return wire[wire.size() - 1 - below(std::min<std::size_t>(wire.size(), 4))];
    }
    void answer(const sent &question)
    {
        if (pipes.contains(question.pipe))
            reply(question.pipe, question.header);
    }
    void ask(context_id c)
    {
        const auto before = machine.state(c);
        const auto serial = machine.serial(c);
        if (request(c, std::string(below(20), 'x'))) {
            EXPECT_EQ(machine.state(c), before);
            EXPECT_EQ(machine.serial(c), serial);
        }
    }
    void end(context_id &c)
    {
        if (below(2) == 0)
            return cancel(c);
        step([&](effects &o) { machine.close_context(c, o); });
        c = context();
    }
    void read_or_hear(context_id c)
    {
        if (machine.state(c) == request_state::ready) {
            read(c);
        } else if (machine.state(c) == request_state::failed) {
            EXPECT_NE(machine.take_failure(c), errc{});
        }
    }

    std::mt19937 random_;
    std::vector<context_id> contexts_;
};

TEST(req_books, balance_whatever_happens)
{
    const auto seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    for (const auto &o :
         {req_options{.resend_time = 20ms}, req_options{.resend_time = 0s},
          req_options{.resend_time = 30ms, .request_deadline = 50ms, .fail_without_peer = true}}) {
        req_play play(o, seed);
        for (int i = 0; i < 10000 && !testing::Test::HasFailure(); ++i)
            play.step_once();
        EXPECT_GT(play.count(stat::socket_delivered), 0);
        play.close();
        EXPECT_EQ(play.frames_held(), 0u);
    }
}

} // namespace
