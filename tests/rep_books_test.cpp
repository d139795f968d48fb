// SPDX-License-Identifier: BSD-2-Clause
//
// The books of the REP machine, with and without memory of what was asked: what becomes of every
// request and reply is counted once.
#include "userspace/protocol/rep.hpp"

#include "tests/support/machine.hpp"

#include <algorithm>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace sp::protocol;
using namespace std::chrono_literals;
using sp::errc;
using sp::stat;

struct booked : sp::test::machine_engine<rep_machine> {
    explicit booked(const rep_options &options = {}) : machine_engine(options, 42) {}

    pipe_id peer(std::uint64_t instance, std::size_t room = 100, std::size_t capacity = 1 << 20)
    {
        const auto pipe = add_pipe(capacity, instance);
        give_room(pipe, room);
        return pipe;
    }
    void request(pipe_id pipe, char id) { receive(pipe, std::string{'\x80', 0, 0, id, 'q'}); }
    std::optional<ticket_id> hold()
    {
        const auto t = machine.take(out);
        if (t) {
            ++counted[stat::socket_delivered];
            release(t->frame);
        }
        step([](effects &) {});
        return t ? std::optional(t->ticket) : std::nullopt;
    }
    std::optional<errc> reply(ticket_id ticket, std::string_view body = "a")
    {
        const auto frame = new_frame(body);
        return submit(frame, [&] { return machine.reply(ticket, frame, body.size(), now, out); });
    }
    void abandon(ticket_id ticket)
    {
        --counted[stat::socket_delivered]; // it was, and now stands in the books as abandoned
        step([&](effects &o) { machine.abandon(ticket, o); });
    }
    void confirm(pipe_id pipe, std::uint32_t messages)
    {
        step([&](effects &o) { machine.on_confirmed(pipe, messages, o); });
    }
};

TEST(rep_books, a_reply_sent_again_is_a_resend)
{
    booked b;
    const auto old_pipe = b.peer(7);
    b.request(old_pipe, 1);
    ASSERT_FALSE(b.reply(*b.hold()));
    b.close_pipe(old_pipe);
    const auto pipe = b.peer(7);
    b.request(pipe, 1);
    EXPECT_EQ(b.count(stat::socket_resends), 1);
    EXPECT_EQ(b.count(stat::socket_duplicate_request, pipe), 1);
    EXPECT_EQ(b.sent_on(pipe).size(), 1u);
}

TEST(rep_books, a_reply_to_be_sent_again_is_queued_until_its_pipe_has_room)
{
    booked b;
    const auto old_pipe = b.peer(7);
    b.request(old_pipe, 1);
    ASSERT_FALSE(b.reply(*b.hold()));
    b.close_pipe(old_pipe);
    const auto full = b.peer(7, 0);
    b.request(full, 1);
    EXPECT_EQ(b.machine.queued_out(), 1u);
    b.close_pipe(full);
    EXPECT_EQ(b.count(stat::socket_pipe_closed, full), 1);
    EXPECT_EQ(b.machine.queued_out(), 0u);
    const auto pipe = b.peer(7, 0);
    b.request(pipe, 1);
    EXPECT_EQ(b.count(stat::socket_resends), 2);
    b.give_room(pipe, 1);
    EXPECT_EQ(b.sent_on(pipe).size(), 1u);
    EXPECT_EQ(b.machine.queued_out(), 0u);
}

TEST(rep_books, a_queued_resend_that_moves_to_another_pipe_is_one_resend)
{
    booked b;
    const auto old_pipe = b.peer(7);
    b.request(old_pipe, 1);
    ASSERT_FALSE(b.reply(*b.hold()));
    b.close_pipe(old_pipe);
    b.request(b.peer(7, 0), 1);
    const auto pipe = b.peer(7);
    b.request(pipe, 1);
    EXPECT_EQ(b.count(stat::socket_resends), 1);
    EXPECT_EQ(b.sent_on(pipe).size(), 1u);
}

TEST(rep_books, a_reply_to_a_pipe_that_went_is_pipe_gone_and_sent_again_when_asked_for)
{
    booked b;
    const auto old_pipe = b.peer(7);
    b.request(old_pipe, 1);
    const auto ticket = b.hold();
    b.close_pipe(old_pipe);
    EXPECT_FALSE(b.reply(*ticket));
    EXPECT_EQ(b.count(stat::socket_pipe_gone), 1);
    const auto pipe = b.peer(7);
    b.request(pipe, 1);
    EXPECT_EQ(b.sent_on(pipe).size(), 1u);
}

TEST(rep_books, a_reply_that_never_reached_the_wire_is_sent_again_when_asked_for)
{
    booked b;
    const auto old_pipe = b.peer(7);
    b.jam(old_pipe);
    b.request(old_pipe, 1);
    ASSERT_FALSE(b.reply(*b.hold()));
    b.close_pipe(old_pipe);
    EXPECT_EQ(b.count(stat::socket_pipe_closed, old_pipe), 1);
    const auto pipe = b.peer(7);
    b.request(pipe, 1);
    EXPECT_EQ(b.sent_on(pipe).size(), 1u);
}

TEST(rep_books, requests_that_wait_when_their_pipe_goes_are_unread)
{
    booked b;
    const auto pipe = b.peer(7);
    for (char i = 0; i < 100; ++i)
        b.request(pipe, i);
    EXPECT_EQ(b.machine.queued_in(), 100u);
    EXPECT_EQ(b.withheld(pipe), 100);
    b.close_pipe(pipe);
    EXPECT_EQ(b.count(stat::socket_unread, pipe), 100);
    EXPECT_EQ(b.frames_held(), 0u);
}

TEST(rep_books, drops_of_requests_are_counted_on_the_pipe_they_came_by)
{
    booked b({.ttl_max = 1});
    const auto pipe = b.peer(7);
    b.receive(pipe, std::string{0, 0, 0, 1, '\x80', 0, 0, 1});
    EXPECT_EQ(b.count(stat::socket_ttl, pipe), 1);
}

TEST(rep_books, close_counts_requests_nobody_read_and_replies_nobody_got)
{
    booked b;
    const auto old_pipe = b.peer(7);
    b.request(old_pipe, 1);
    ASSERT_FALSE(b.reply(*b.hold()));
    b.close_pipe(old_pipe);
    const auto pipe = b.peer(7, 0);
    b.request(pipe, 1);
    for (char i = 2; i < 102; ++i)
        b.request(pipe, i);
    EXPECT_EQ(b.close(), 1u);
    EXPECT_EQ(b.count(stat::socket_closed), 1);
    EXPECT_EQ(b.count(stat::socket_unread), 100);
    EXPECT_EQ(b.frames_held(), 0u);
}

// Chance plays engine, peers and application; books and census are checked after every step. Some
// askers have an identity, some are streams.
class rep_play : public booked {
public:
    rep_play(const rep_options &options, std::uint32_t seed) : booked(options), random_(seed) {}

    void step_once()
    {
        switch (below(12)) {
        case 0:
            confirmed_[peer(below(3), below(3), below(4) == 0 ? 10 : 1000)] = 0;
            break;
        case 1:
            if (!pipes.empty() && below(2) == 0)
                close_pipe(any_pipe());
            break;
        case 2:
        case 3:
        case 4:
            if (!pipes.empty())
                ask();
            break;
        case 5:
        case 6:
            if (const auto t = hold())
                held_.push_back(*t);
            break;
        case 7:
        case 8:
            answer();
            break;
        case 9:
            if (!pipes.empty())
                give_room(any_pipe(), 1 + below(2));
            break;
        case 10:
            advance(std::chrono::milliseconds(below(20)));
            break;
        default:
            rare();
        }
        EXPECT_GE(machine.next_deadline(), now);
        EXPECT_EQ(machine.waiting(), machine.queued_in() > 0);
    }

private:
    std::size_t below(std::size_t n) { return random_() % n; }
    pipe_id any_pipe()
    {
        return std::next(pipes.begin(), static_cast<std::ptrdiff_t>(below(pipes.size())))->first;
    }
    void ask()
    {
        std::string stack;
        for (std::size_t words = below(4); words > 0; --words)
            stack.append("\x01\x01\x01\x01");
        stack.append("\x80\x01\x01").push_back(static_cast<char>(1 + below(10)));
        receive(any_pipe(), stack.append(below(20), 'q'));
    }
    void answer()
    {
        if (held_.empty())
            return;
        const auto at = held_.begin() + static_cast<std::ptrdiff_t>(below(held_.size()));
        if (below(6) == 0)
            abandon(*at);
        else if (reply(*at, std::string(below(40), 'a')))
            return; // it stays held
        EXPECT_EQ(reply(*at), errc::invalid_state);
        held_.erase(at);
    }
    void rare()
    {
        if (pipes.empty())
            return;
        const auto pipe = any_pipe();
        if (below(4) == 0)
            return jam(pipe);
        auto &confirmed = confirmed_[pipe];
        const auto total = static_cast<std::uint32_t>(sent_on(pipe).size());
        confirm(pipe, total - confirmed);
        confirmed = total;
    }

    std::mt19937 random_;
    std::map<pipe_id, std::uint32_t> confirmed_;
    std::vector<ticket_id> held_;
};

TEST(rep_books, balance_whatever_happens)
{
    const auto seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    for (const auto &o : {rep_options{.ttl_max = 3}, rep_options{.dedupe_time = 0s},
                          rep_options{.dedupe_time = 30ms, .reply_cache_bytes = 300}}) {
        rep_play play(o, seed);
        for (int i = 0; i < 10000 && !testing::Test::HasFailure(); ++i)
            play.step_once();
        EXPECT_GT(play.count(stat::socket_sent), 0);
        play.close();
        EXPECT_EQ(play.frames_held(), 0u);
    }
}

} // namespace
