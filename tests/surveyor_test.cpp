// SPDX-License-Identifier: BSD-2-Clause
//
// The SURVEYOR machine with made-up pipes and time.
#include "userspace/protocol/surveyor.hpp"

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
using sp::stat;
using stance = surveyor_machine::stance;

struct asker : sp::test::machine_engine<surveyor_machine> {
    explicit asker(const surveyor_options &options = {})
        : machine_engine(options), survey_time(options.survey_time)
    {
    }

    pipe_id peer(std::size_t room = 1000, std::size_t capacity = 1 << 20)
    {
        const auto pipe = add_pipe(capacity);
        give_room(pipe, room);
        return pipe;
    }
    context_id context()
    {
        const auto c = machine.open_context();
        EXPECT_TRUE(c);
        return *c;
    }
    void survey(context_id context, std::string_view body = "who?")
    {
        survey(context, body, ++random_);
    }
    void survey(context_id context, std::string_view body, std::uint32_t random)
    {
        const auto frame = new_frame(body);
        submit(frame, [&] {
            machine.on_survey(context, frame, body.size(), random, survey_time, now, out);
        });
    }
    void cancel(context_id context)
    {
        step([&](effects &o) { machine.cancel(context, o); });
    }
    // The word that the last survey went out with.
    [[nodiscard]] std::string id() const { return wire.back().header; }
    void answer(pipe_id pipe, std::string_view id, std::string_view body = "me")
    {
        receive(pipe, std::string(id).append(body));
    }
    std::string read(context_id context) { return take(context).value_or("nothing").substr(4); }
    [[nodiscard]] std::vector<pipe_id> those(context_id context, stance where) const
    {
        std::vector<pipe_id> found;
        for (const auto &r : machine.respondents(context))
            if (r.where == where)
                found.push_back(r.pipe);
        return found;
    }

    std::chrono::nanoseconds survey_time;

private:
    std::uint32_t random_ = 100;
};

using pipes = std::vector<pipe_id>;

TEST(surveyor, asks_every_pipe_with_one_word_whose_top_bit_is_set)
{
    asker a;
    const auto first = a.peer(), second = a.peer(), third = a.peer();
    a.survey(a.context());
    ASSERT_EQ(a.wire.size(), 3u);
    pipes asked;
    for (const auto &s : a.wire) {
        ASSERT_EQ(s.header.size(), 4u);
        EXPECT_NE(s.header[0] & 0x80, 0);
        EXPECT_EQ(s.header, a.id());
        EXPECT_EQ(s.body, "who?");
        asked.push_back(s.pipe);
    }
    std::ranges::sort(asked);
    EXPECT_EQ(asked, (pipes{first, second, third}));
    EXPECT_EQ(a.frames_held(), 0u);
}

TEST(surveyor, ids_of_open_surveys_differ_though_chance_repeats_itself)
{
    asker a;
    a.peer();
    const auto first = a.context(), second = a.context();
    a.survey(first, "a", 7);
    a.survey(second, "b", 7);
    EXPECT_NE(a.wire[0].header, a.wire[1].header);
}

TEST(surveyor, answers_are_delivered_in_the_order_they_came)
{
    asker a;
    const auto first = a.peer(), second = a.peer();
    const auto c = a.context();
    a.survey(c);
    EXPECT_FALSE(a.machine.waiting(c));
    a.answer(second, a.id(), "two");
    a.answer(first, a.id(), "one");
    ASSERT_TRUE(a.machine.waiting(c));
    EXPECT_EQ(a.read(c), "two");
    EXPECT_EQ(a.last_taken->pipe, second);
    EXPECT_EQ(a.last_taken->header_bytes, 4u);
    EXPECT_EQ(a.read(c), "one");
    EXPECT_FALSE(a.take(c));
    EXPECT_EQ(a.machine.state(c), survey_state::open);
    EXPECT_EQ(a.frames_held(), 0u);
}

TEST(surveyor, without_a_peer_a_survey_succeeds_and_is_counted)
{
    asker a;
    const auto c = a.context();
    a.survey(c);
    EXPECT_EQ(a.count(stat::socket_no_peer), 1);
    EXPECT_EQ(a.machine.state(c), survey_state::open);
    EXPECT_EQ(a.frames_held(), 0u);
}

TEST(surveyor, who_connects_later_is_not_asked)
{
    asker a;
    a.peer();
    const auto c = a.context();
    a.survey(c);
    const auto late = a.peer();
    EXPECT_TRUE(a.sent_on(late).empty());
    a.answer(late, a.id());
    EXPECT_EQ(a.count(stat::socket_foreign_reply, late), 1);
    EXPECT_FALSE(a.machine.waiting(c));
}

TEST(surveyor, a_pipe_that_is_busy_is_asked_when_it_has_room)
{
    asker a;
    const auto busy = a.peer(0);
    const auto c = a.context();
    a.survey(c);
    EXPECT_EQ(a.machine.queued_out(), 1u);
    EXPECT_EQ(a.machine.count(c).asked, 1u);
    a.give_room(busy, 1);
    EXPECT_EQ(a.sent_on(busy).size(), 1u);
    a.answer(busy, a.id());
    EXPECT_EQ(a.read(c), "me");
}

TEST(surveyor, a_pipe_whose_queue_is_full_misses_the_survey)
{
    asker a({.send = {.bytes = 1000, .messages = 1}});
    const auto quick = a.peer(), slow = a.peer(0);
    const auto c = a.context();
    a.survey(c, "one");
    a.survey(c, "two");
    EXPECT_EQ(a.count(stat::socket_send_full, slow), 1);
    EXPECT_EQ(a.machine.count(c).asked, 1u);
    EXPECT_EQ(a.machine.count(c).missed, 1u);
    EXPECT_EQ(a.those(c, stance::missed), pipes{slow});
    EXPECT_EQ(a.sent_on(quick), (std::vector<std::string>{"one", "two"}));
    const auto id = a.id();
    a.answer(slow, id); // that it has from somebody else
    EXPECT_EQ(a.count(stat::socket_foreign_reply, slow), 1);
}

TEST(surveyor, with_drop_oldest_the_newest_survey_is_the_one_that_is_asked)
{
    asker a({.send = {.bytes = 1000, .messages = 1}, .on_send_full = overflow::drop_oldest});
    const auto slow = a.peer(0);
    const auto c = a.context();
    a.survey(c, "one");
    a.survey(c, "two");
    EXPECT_EQ(a.count(stat::socket_send_full, slow), 1);
    a.give_room(slow, 5);
    EXPECT_EQ(a.sent_on(slow), std::vector<std::string>{"two"});
}

TEST(surveyor, a_peer_that_takes_no_message_of_this_size_misses_it_and_the_others_do_not)
{
    asker a;
    const auto small = a.peer(10, 7), large = a.peer(10, 8);
    const auto c = a.context();
    a.survey(c, "four");
    EXPECT_EQ(a.count(stat::socket_peer_limit, small), 1);
    EXPECT_EQ(a.those(c, stance::missed), pipes{small});
    EXPECT_EQ(a.those(c, stance::pending), pipes{large});
}

TEST(surveyor, standing_tells_who_answered_who_is_pending_and_who_went)
{
    asker a;
    const auto talks = a.peer(), thinks = a.peer(), dies = a.peer();
    const auto c = a.context();
    a.survey(c);
    a.answer(talks, a.id());
    a.close_pipe(dies);
    const auto now = a.machine.count(c);
    EXPECT_EQ(now.asked, 3u);
    EXPECT_EQ(now.answered, 1u);
    EXPECT_EQ(now.pending, 1u);
    EXPECT_EQ(now.missed, 0u);
    EXPECT_EQ(a.those(c, stance::answered), pipes{talks});
    EXPECT_EQ(a.those(c, stance::pending), pipes{thinks});
    EXPECT_EQ(a.those(c, stance::gone), pipes{dies});
}

TEST(surveyor, an_answer_shorter_than_its_id_closes_the_pipe)
{
    for (const std::size_t size : {0u, 3u}) {
        surveyor_machine machine({});
        effects out;
        const auto pipe = static_cast<pipe_id>(0x10001);
        machine.on_pipe_added({.id = pipe, .capacity = 100});
        machine.on_message(pipe, static_cast<frame_id>(1), std::vector<std::byte>(size), instant{},
                           out);
        ASSERT_EQ(out.all().size(), 2u);
        EXPECT_EQ(out.all()[0].what, effect::kind::close_pipe);
        EXPECT_EQ(out.all()[0].why, stat::pipe_bad_header);
        EXPECT_EQ(out.all()[1].what, effect::kind::release);
    }
}

TEST(surveyor, an_answer_without_top_bit_or_with_an_id_never_issued_is_unknown)
{
    asker a;
    const auto pipe = a.peer();
    const auto c = a.context();
    a.survey(c);
    auto plain = a.id(), other = a.id();
    plain[0] = static_cast<char>(plain[0] & 0x7f);
    other[3] = static_cast<char>(other[3] ^ 1);
    a.answer(pipe, plain);
    a.answer(pipe, other);
    EXPECT_EQ(a.count(stat::socket_unknown_id, pipe), 2);
    EXPECT_EQ(a.withheld(pipe), 0);
    EXPECT_FALSE(a.machine.waiting(c));
    EXPECT_EQ(a.frames_held(), 0u);
}

TEST(surveyor, an_answer_to_a_survey_that_is_over_is_late)
{
    asker a;
    const auto pipe = a.peer();
    const auto c = a.context();
    a.survey(c);
    a.advance(1s);
    a.answer(pipe, a.id());
    EXPECT_EQ(a.count(stat::socket_late, pipe), 1);
    EXPECT_EQ(a.withheld(pipe), 0);
    EXPECT_FALSE(a.machine.waiting(c));
}

// Our loop stood still: the answer is handed over before the timer of the end has run.
TEST(surveyor, an_answer_that_comes_after_the_end_is_late_though_nobody_noticed_the_end)
{
    asker a;
    const auto pipe = a.peer();
    const auto c = a.context();
    a.survey(c);
    a.now += 1s;
    a.answer(pipe, a.id());
    EXPECT_EQ(a.count(stat::socket_late, pipe), 1);
    EXPECT_FALSE(a.machine.waiting(c));
}

TEST(surveyor, a_second_answer_is_delivered_too)
{
    asker a;
    const auto pipe = a.peer();
    const auto c = a.context();
    a.survey(c);
    a.answer(pipe, a.id(), "one");
    a.answer(pipe, a.id(), "two");
    EXPECT_EQ(a.read(c), "one");
    EXPECT_EQ(a.read(c), "two");
    EXPECT_EQ(a.machine.count(c).answered, 1u);
}

TEST(surveyor, with_one_answer_per_peer_the_second_is_a_duplicate)
{
    asker a({.one_answer_per_peer = true});
    const auto pipe = a.peer();
    const auto c = a.context();
    a.survey(c);
    a.answer(pipe, a.id(), "one");
    a.answer(pipe, a.id(), "two");
    EXPECT_EQ(a.count(stat::socket_duplicate_answer, pipe), 1);
    EXPECT_EQ(a.read(c), "one");
    EXPECT_FALSE(a.machine.waiting(c));
}

TEST(surveyor, answers_beyond_the_bounds_of_their_survey_are_dropped)
{
    asker a({.recv = {.bytes = 1 << 20, .messages = 2}});
    const auto pipe = a.peer();
    const auto first = a.context(), second = a.context();
    a.survey(first);
    const auto id = a.id();
    a.survey(second);
    for (const auto *body : {"one", "two", "three"})
        a.answer(pipe, id, body);
    EXPECT_EQ(a.count(stat::socket_recv_full, pipe), 1);
    EXPECT_EQ(a.withheld(pipe), 0);
    a.answer(pipe, a.id(), "other"); // the bounds are each survey's own
    EXPECT_EQ(a.read(first), "one");
    EXPECT_EQ(a.read(first), "two");
    EXPECT_EQ(a.read(second), "other");
}

TEST(surveyor, with_drop_oldest_the_latest_answers_stay)
{
    asker a({.recv = {.bytes = 1 << 20, .messages = 2}, .on_recv_full = overflow::drop_oldest});
    const auto pipe = a.peer();
    const auto c = a.context();
    a.survey(c);
    for (const auto *body : {"one", "two", "three"})
        a.answer(pipe, a.id(), body);
    EXPECT_EQ(a.read(c), "two");
    EXPECT_EQ(a.read(c), "three");
}

TEST(surveyor, with_block_the_credit_of_what_is_beyond_the_bounds_is_kept)
{
    asker a({.recv = {.bytes = 1 << 20, .messages = 1}, .on_recv_full = overflow::block});
    const auto pipe = a.peer();
    const auto c = a.context();
    a.survey(c);
    a.answer(pipe, a.id(), "one");
    a.answer(pipe, a.id(), "two");
    EXPECT_EQ(a.withheld(pipe), 1);
    EXPECT_EQ(a.read(c), "one");
    EXPECT_EQ(a.withheld(pipe), 0);
    EXPECT_EQ(a.read(c), "two");
    EXPECT_EQ(a.count(stat::socket_recv_full), 0);
}

TEST(surveyor, is_over_exactly_at_its_time)
{
    asker a({.survey_time = 250ms});
    a.peer();
    const auto c = a.context();
    a.survey(c);
    EXPECT_EQ(a.machine.next_deadline(), a.now + 250ms);
    a.advance(250ms - 1ns);
    EXPECT_EQ(a.machine.state(c), survey_state::open);
    a.advance(1ns);
    EXPECT_EQ(a.machine.state(c), survey_state::over);
    EXPECT_EQ(a.machine.next_deadline(), instant::max());
}

TEST(surveyor, next_deadline_is_that_of_the_earliest_survey_that_is_open)
{
    asker a;
    const auto first = a.context(), second = a.context(), third = a.context();
    a.survey_time = 10ms;
    a.survey(first);
    a.survey_time = 20ms;
    a.survey(second);
    a.survey_time = 30ms;
    a.survey(third);
    EXPECT_EQ(a.machine.next_deadline(), a.now + 10ms);
    a.cancel(first);
    EXPECT_EQ(a.machine.next_deadline(), a.now + 20ms);
    a.survey_time = 40ms;
    a.survey(second);
    EXPECT_EQ(a.machine.next_deadline(), a.now + 30ms);
    a.step([&](effects &o) { a.machine.close_context(third, o); });
    EXPECT_EQ(a.machine.next_deadline(), a.now + 40ms);
}

TEST(surveyor, a_survey_without_end_has_no_deadline)
{
    asker a({.survey_time = std::chrono::nanoseconds::max()});
    const auto c = a.context();
    a.survey(c);
    EXPECT_EQ(a.machine.next_deadline(), instant::max());
    a.advance(1h);
    EXPECT_EQ(a.machine.state(c), survey_state::open);
}

TEST(surveyor, answers_in_time_can_be_read_after_the_end_which_is_told_once)
{
    asker a;
    const auto pipe = a.peer();
    const auto c = a.context();
    a.survey(c);
    a.answer(pipe, a.id());
    a.advance(1s);
    EXPECT_EQ(a.machine.state(c), survey_state::over);
    EXPECT_EQ(a.read(c), "me");
    EXPECT_EQ(a.machine.state(c), survey_state::over);
    a.machine.tell_end(c);
    EXPECT_EQ(a.machine.state(c), survey_state::idle);
    EXPECT_EQ(a.machine.count(c).answered, 1u); // who answered can still be asked
}

TEST(surveyor, a_new_survey_ends_the_one_before_and_its_answers_are_abandoned)
{
    asker a;
    const auto pipe = a.peer();
    const auto c = a.context();
    a.survey(c);
    const auto serial = a.machine.serial(c);
    const auto old = a.id();
    a.answer(pipe, old);
    a.survey(c);
    EXPECT_NE(a.machine.serial(c), serial);
    EXPECT_EQ(a.count(stat::socket_abandoned), 1);
    EXPECT_FALSE(a.machine.waiting(c));
    a.answer(pipe, old);
    EXPECT_EQ(a.count(stat::socket_late), 1);
    a.answer(pipe, a.id(), "new");
    EXPECT_EQ(a.read(c), "new");
}

TEST(surveyor, cancel_abandons_what_is_unread_and_nothing_more_comes)
{
    asker a;
    const auto pipe = a.peer();
    const auto c = a.context();
    a.survey(c);
    const auto serial = a.machine.serial(c);
    for (int i = 0; i < 200; ++i)
        a.answer(pipe, a.id());
    a.cancel(c);
    EXPECT_EQ(a.machine.state(c), survey_state::idle);
    EXPECT_NE(a.machine.serial(c), serial);
    EXPECT_EQ(a.count(stat::socket_abandoned), 200);
    a.answer(pipe, a.id());
    EXPECT_EQ(a.count(stat::socket_late), 1);
    EXPECT_EQ(a.frames_held(), 0u);
}

TEST(surveyor, closing_a_context_ends_its_survey_only)
{
    asker a;
    const auto pipe = a.peer();
    const auto first = a.context(), second = a.context();
    a.survey(first);
    a.answer(pipe, a.id());
    a.survey(second);
    a.step([&](effects &o) { a.machine.close_context(first, o); });
    EXPECT_EQ(a.count(stat::socket_abandoned), 1);
    EXPECT_EQ(a.machine.state(first), survey_state::idle);
    a.answer(pipe, a.id());
    EXPECT_EQ(a.read(second), "me");
    EXPECT_NE(a.context(), first); // a name is not used again
}

TEST(surveyor, ends_when_all_have_answered_or_gone_if_told_so)
{
    asker a({.send = {.bytes = 1000, .messages = 1}, .end_when_all_answered = true});
    const auto talks = a.peer(), dies = a.peer();
    const auto c = a.context();
    a.survey(c);
    a.answer(talks, a.id());
    EXPECT_EQ(a.machine.state(c), survey_state::open);
    a.close_pipe(dies);
    EXPECT_EQ(a.machine.state(c), survey_state::over);
    EXPECT_EQ(a.machine.next_deadline(), instant::max());
    EXPECT_EQ(a.read(c), "me");
}

TEST(surveyor, with_nobody_to_wait_for_it_ends_at_once_if_told_so)
{
    asker a({.end_when_all_answered = true});
    const auto c = a.context();
    a.survey(c);
    EXPECT_EQ(a.machine.state(c), survey_state::over);
}

TEST(surveyor, stays_open_when_all_have_answered_if_not_told_so)
{
    asker a;
    const auto pipe = a.peer();
    const auto c = a.context();
    a.survey(c);
    a.answer(pipe, a.id());
    EXPECT_EQ(a.machine.count(c).pending, 0u);
    EXPECT_EQ(a.machine.state(c), survey_state::open);
}

TEST(surveyor, what_is_queued_for_a_pipe_that_goes_is_dropped)
{
    asker a;
    const auto slow = a.peer(0);
    const auto c = a.context();
    a.survey(c);
    a.close_pipe(slow);
    EXPECT_EQ(a.count(stat::socket_pipe_closed, slow), 1);
    EXPECT_EQ(a.machine.count(c).pending, 0u);
    EXPECT_EQ(a.frames_held(), 0u);
}

TEST(surveyor, asks_a_thousand_pipes_in_one_call)
{
    asker a;
    pipes all;
    for (int i = 0; i < 1000; ++i)
        all.push_back(a.peer(i % 2 == 0 ? 10 : 0));
    const auto c = a.context();
    a.survey(c);
    EXPECT_EQ(a.machine.count(c).asked, 1000u);
    EXPECT_EQ(a.wire.size(), 500u);
    EXPECT_EQ(a.count(stat::socket_copied_out), 999);
    for (std::size_t i = 0; i < all.size(); i += 2)
        a.answer(all[i], a.wire.front().header);
    EXPECT_EQ(a.machine.count(c).answered, 500u);
    EXPECT_EQ(a.machine.count(c).pending, 500u);
}

TEST(surveyor, refuses_the_context_after_the_last)
{
    asker a;
    for (std::size_t i = 0; i < surveyor_machine::contexts_max; ++i)
        ASSERT_TRUE(a.machine.open_context());
    EXPECT_FALSE(a.machine.open_context());
}

TEST(surveyor, close_drops_what_is_queued_and_what_is_unread)
{
    asker a;
    const auto talks = a.peer();
    for (int i = 0; i < 100; ++i)
        a.peer(0);
    for (int i = 0; i < 3; ++i) {
        a.survey(a.context());
        a.answer(talks, a.id());
    }
    EXPECT_EQ(a.close(), 300u);
    EXPECT_EQ(a.count(stat::socket_closed), 300);
    EXPECT_EQ(a.count(stat::socket_unread), 3);
    EXPECT_EQ(a.frames_held(), 0u);
}

// Chance plays engine, peers and application; books and census are checked after every step.
class surveyor_play : public asker {
public:
    surveyor_play(const surveyor_options &options, std::uint32_t seed)
        : asker(options), random_(seed)
    {
        for (int i = 0; i < 4; ++i)
            contexts_.push_back(context());
    }

    void step_once()
    {
        const auto c = contexts_[below(contexts_.size())];
        switch (below(12)) {
        case 0:
            add_pipe(below(5) == 0 ? 10 : 1000);
            break;
        case 1:
            if (!pipes.empty() && below(3) == 0)
                close_pipe(any_pipe());
            break;
        case 2:
            survey_time = std::chrono::milliseconds(1 + below(50));
            survey(c, std::string(below(30), 'x'));
            remember();
            break;
        case 3:
            advance(std::chrono::milliseconds(below(20)));
            break;
        case 4:
            if (below(4) == 0)
                cancel(c);
            break;
        case 5:
            if (below(8) == 0 && !pipes.empty())
                jam(any_pipe());
            break;
        case 6:
        case 7:
            if (!pipes.empty())
                give_room(any_pipe(), 1 + below(3));
            break;
        case 8:
            read_or_tell(c);
            break;
        default:
            if (!pipes.empty() && !ids_.empty())
                answer(any_pipe(), ids_[below(ids_.size())], std::string(below(30), 'y'));
        }
        check_standing();
    }

private:
    std::size_t below(std::size_t n) { return random_() % n; }
    pipe_id any_pipe()
    {
        return std::next(pipes.begin(), static_cast<std::ptrdiff_t>(below(pipes.size())))->first;
    }
    void remember()
    {
        if (!wire.empty())
            ids_.push_back(wire.back().header);
        if (ids_.size() > 6)
            ids_.erase(ids_.begin());
    }
    void read_or_tell(context_id c)
    {
        const auto state = machine.state(c);
        const bool waiting = machine.waiting(c);
        EXPECT_EQ(take(c).has_value(), waiting);
        if (state == survey_state::over && !machine.waiting(c))
            machine.tell_end(c);
    }
    void check_standing()
    {
        auto earliest = instant::max();
        for (const auto c : contexts_) {
            const auto n = machine.count(c);
            EXPECT_EQ(n.pending, those(c, stance::pending).size());
            EXPECT_EQ(n.answered, those(c, stance::answered).size());
            EXPECT_EQ(n.missed, those(c, stance::missed).size());
            EXPECT_EQ(n.asked, n.pending + n.answered + those(c, stance::gone).size());
            if (machine.state(c) == survey_state::open) {
                EXPECT_GE(machine.next_deadline(), now);
                earliest = std::min(earliest, machine.next_deadline());
                for (const auto pipe : those(c, stance::pending))
                    EXPECT_TRUE(pipes.contains(pipe));
            }
        }
        EXPECT_EQ(machine.next_deadline(), earliest);
    }

    std::mt19937 random_;
    std::vector<context_id> contexts_;
    std::vector<std::string> ids_;
};

TEST(surveyor, books_and_census_balance_whatever_happens)
{
    const auto seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    using enum overflow;
    const queue_bounds narrow{.bytes = 200, .messages = 2};
    for (const auto &o :
         {surveyor_options{},
          surveyor_options{.send = narrow, .recv = narrow, .one_answer_per_peer = true},
          surveyor_options{.send = narrow,
                           .recv = narrow,
                           .on_send_full = drop_oldest,
                           .on_recv_full = drop_oldest,
                           .end_when_all_answered = true},
          surveyor_options{.recv = narrow, .on_recv_full = block}}) {
        surveyor_play play(o, seed);
        for (int i = 0; i < 5000 && !testing::Test::HasFailure(); ++i)
            play.step_once();
        play.close();
        EXPECT_EQ(play.frames_held(), 0u);
    }
}

} // namespace
