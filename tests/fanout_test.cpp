// SPDX-License-Identifier: BSD-2-Clause
//
// The send queues that patterns share, where PUB does not show them: headers, one pipe of many, all
// but one, and pipes chosen by hand.
#include "userspace/protocol/fanout.hpp"

#include "tests/support/machine.hpp"

namespace {

using namespace sp::protocol;
using sp::stat;
using strings = std::vector<std::string>;

// As little of a machine as the engine's part needs.
struct queues {
    fanout sends;

    explicit queues(const queue_bounds &bounds = {.bytes = 1000},
                    overflow on_full = overflow::drop_newest)
        : sends(bounds, on_full)
    {
    }
    void on_pipe_added(const pipe_profile &pipe) { sends.add(pipe); }
    void on_pipe_closed(pipe_id pipe, instant) { sends.remove(pipe); }
    void on_pipe_ready(pipe_id pipe, instant, effects &out) { sends.ready(pipe, out); }
    void on_message(pipe_id, frame_id, std::span<const std::byte>, instant, effects &) {}
    void on_deadline(instant) {}
    [[nodiscard]] instant next_deadline() const { return instant::max(); }
    void pump(instant, effects &out) { sends.pump(out); }
    [[nodiscard]] std::size_t queued_out() const { return sends.queued(); }
    [[nodiscard]] std::size_t queued_in() const { return 0; }
    std::size_t close(effects &out) { return sends.drop_all(stat::socket_closed, out); }
};

class sender : public sp::test::machine_engine<queues> {
public:
    using machine_engine::machine_engine;

    void send_to_others(pipe_id except, std::string_view header, std::string_view body)
    {
        const auto frame = new_frame(body);
        submit(frame,
               [&] { machine.sends.send_to_others(except, outgoing(frame, header, body), out); });
    }
    fate send_to(pipe_id pipe, std::string_view header, std::string_view body)
    {
        fate what{};
        const auto frame = new_frame(body);
        submit(frame, [&]() -> std::optional<sp::errc> {
            what = machine.sends.send_to(pipe, outgoing(frame, header, body), out);
            return what == fate::gone ? std::optional(sp::errc::no_peer) : std::nullopt;
        });
        return what;
    }
    static fanout::outgoing outgoing(frame_id frame, std::string_view header, std::string_view body)
    {
        return {.frame = frame, .size = body.size(), .header = std::as_bytes(std::span(header))};
    }
};

TEST(fanout, sends_to_all_but_one)
{
    sender e;
    const auto a = e.add_pipe(), b = e.add_pipe(), c = e.add_pipe();
    for (const auto pipe : {a, b, c})
        e.give_room(pipe, 4);
    e.send_to_others(b, "", "x");
    EXPECT_EQ(e.sent_on(a).size() + e.sent_on(c).size(), 2u);
    EXPECT_TRUE(e.sent_on(b).empty());
    e.send_to_others(no_pipe, "", "y");
    EXPECT_EQ(e.sent_on(b), strings{"y"});
}

TEST(fanout, says_no_peer_when_the_only_pipe_is_left_out)
{
    sender e;
    const auto only = e.add_pipe();
    e.send_to_others(only, "", "x");
    EXPECT_EQ(e.count(stat::socket_no_peer), 1);
    EXPECT_EQ(e.frames_held(), 0u);
}

TEST(fanout, keeps_the_header_of_each_message_that_waits)
{
    sender e(queue_bounds{.bytes = 1 << 20});
    const auto a = e.add_pipe(), b = e.add_pipe();
    e.give_room(a, 10);
    const std::string longest(header_bytes_max, 'H');
    e.send_to_others(no_pipe, "", "0");
    e.send_to_others(no_pipe, "one.", "1");
    e.send_to_others(no_pipe, longest, "2");
    e.give_room(b, 10);
    strings headers[2];
    for (const auto &s : e.wire)
        headers[s.pipe == b].push_back(s.header);
    EXPECT_EQ(headers[0], (strings{"", "one.", longest}));
    EXPECT_EQ(headers[1], (strings{"", "one.", longest}));
}

TEST(fanout, sends_to_one_pipe_and_keeps_its_order_with_the_rest)
{
    sender e;
    const auto a = e.add_pipe(), b = e.add_pipe();
    e.send_to_others(no_pipe, "", "1");
    EXPECT_EQ(e.send_to(a, "", "2"), fate::queued);
    e.send_to_others(no_pipe, "", "3");
    e.give_room(a, 9);
    e.give_room(b, 9);
    EXPECT_EQ(e.sent_on(a), (strings{"1", "2", "3"}));
    EXPECT_EQ(e.sent_on(b), (strings{"1", "3"}));
    EXPECT_EQ(e.send_to(a, "", "4"), fate::sent);
}

TEST(fanout, changes_nothing_when_the_addressed_pipe_is_gone)
{
    sender e;
    const auto gone = e.add_pipe();
    e.close_pipe(gone);
    EXPECT_EQ(e.send_to(gone, "", "x"), fate::gone);
    EXPECT_EQ(e.frames_held(), 0u);
    EXPECT_EQ(e.count(stat::socket_no_peer), 0);
}

TEST(fanout, takes_a_pipe_that_it_has_closed_for_gone)
{
    fanout sends({.bytes = 0}, overflow::disconnect);
    effects out;
    const auto pipe = static_cast<pipe_id>(5);
    sends.add({.id = pipe, .instance = 1, .capacity = 100});
    const fanout::outgoing message{.frame = static_cast<frame_id>(1), .size = 1};
    EXPECT_EQ(sends.send_to(pipe, message, out), fate::full);
    out.clear();
    sends.ready(pipe, out);
    EXPECT_EQ(sends.send_to(pipe, message, out), fate::gone);
    EXPECT_TRUE(out.empty()) << "the frame is still the caller's";
    EXPECT_FALSE(sends.accepts(pipe, 1));
    EXPECT_TRUE(sends.all_accept(1)) << "nobody waits for it";
}

TEST(fanout, charges_the_header_to_the_queue_and_to_the_peers_limit)
{
    sender e(queue_bounds{.bytes = 200});
    const auto pipe = e.add_pipe(20);
    EXPECT_EQ(e.send_to(pipe, "12345678", "0123456789AB"), fate::queued); // 84
    EXPECT_EQ(e.send_to(pipe, "12345678", "0123456789ABC"), fate::too_large);
    EXPECT_EQ(e.count(stat::socket_peer_limit, pipe), 1);
    EXPECT_EQ(e.send_to(pipe, "12345678", "0123456789AB"), fate::queued); // 168
    EXPECT_FALSE(e.machine.sends.accepts(pipe, 20));
    EXPECT_EQ(e.send_to(pipe, "12345678", "0123456789AB"), fate::full);
}

TEST(fanout, tells_what_became_of_each_copy)
{
    sender e(queue_bounds{.bytes = 1000, .messages = 1});
    const auto ready = e.add_pipe(), full = e.add_pipe(), waits = e.add_pipe(),
               small = e.add_pipe(1);
    e.give_room(ready, 1);
    EXPECT_EQ(e.send_to(full, "", "x"), fate::queued);
    const auto frame = e.new_frame("body");
    e.submit(frame, [&] {
        auto &sends = e.machine.sends;
        const auto id = sends.begin(sender::outgoing(frame, "", "body"));
        EXPECT_EQ(sends.offer(id, ready, e.out), fate::sent);
        EXPECT_EQ(sends.offer(id, full, e.out), fate::full);
        EXPECT_EQ(sends.offer(id, waits, e.out), fate::queued);
        EXPECT_EQ(sends.offer(id, small, e.out), fate::too_large);
        EXPECT_EQ(sends.offer(id, no_pipe, e.out), fate::gone);
        sends.end(id, e.out);
    });
    EXPECT_EQ(e.count(stat::socket_copied_out), 3);
    EXPECT_EQ(e.frames_held(), 2u);
}

TEST(fanout, uses_its_memory_again)
{
    sender e;
    const auto pipe = e.add_pipe();
    for (int round = 0; round < 1000; ++round) {
        e.send_to_others(no_pipe, "", std::to_string(round));
        e.send_to_others(no_pipe, "", std::to_string(round));
        e.give_room(pipe, 2);
        ASSERT_EQ(e.frames_held(), 0u);
    }
    EXPECT_EQ(e.wire.size(), 2000u);
}

// ---- pipes that take messages together

constexpr std::size_t together = 100; // bytes

class publisher : public sender {
public:
    using sender::sender;

    pipe_id add(std::size_t room, std::size_t capacity = 1 << 20)
    {
        const auto pipe = add_pipe(capacity, 1, together);
        give_room(pipe, room);
        return pipe;
    }
    strings at(pipe_id pipe) const
    {
        strings all;
        for (const auto &s : wire)
            if (s.pipe == pipe)
                all.push_back(s.body);
        return all;
    }
};

TEST(fanout, publishes_once_for_all_that_are_aboard)
{
    publisher e;
    const auto a = e.add(1), b = e.add(1), c = e.add(1);
    EXPECT_EQ(e.aboard, (std::set<pipe_id>{a, b, c}));
    for (const char *body : {"one", "two", "three"})
        e.send_to_others(no_pipe, "", body);
    EXPECT_EQ(e.published, 3u);
    for (const auto pipe : {a, b, c})
        EXPECT_EQ(e.at(pipe), (strings{"one", "two", "three"}));
    EXPECT_EQ(e.counted[stat::socket_copied_out], 6);
}

TEST(fanout, sends_to_those_that_are_not_aboard_beside)
{
    publisher e;
    const auto a = e.add(1);
    const auto other = e.add_pipe();
    const auto full = e.add(0); // not ready yet: what comes waits for it
    e.give_room(other, 1);
    e.send_to_others(no_pipe, "", "one");
    e.send_to_others(no_pipe, "", "two");
    EXPECT_EQ(e.at(a), (strings{"one", "two"}));
    EXPECT_EQ(e.at(other), (strings{"one"}));
    EXPECT_EQ(e.at(full), strings{});
    e.give_room(full, 5);
    e.send_to_others(no_pipe, "", "three");
    EXPECT_EQ(e.at(full), (strings{"one", "two", "three"}));
    EXPECT_TRUE(e.aboard.contains(full)) << "it has boarded behind what waited for it";
    EXPECT_EQ(e.published, 3u);
}

TEST(fanout, lets_all_part_for_what_does_not_fit_together)
{
    publisher e(queue_bounds{.bytes = 10'000});
    const auto a = e.add(1), b = e.add(2);
    const std::string large(together + 1, 'x');
    e.send_to_others(no_pipe, "", large);
    EXPECT_EQ(e.published, 0u);
    EXPECT_EQ(e.at(a), strings{large});
    EXPECT_EQ(e.aboard, std::set<pipe_id>{b}) << "it had room for more";
    e.send_to_others(no_pipe, "", "small");
    EXPECT_EQ(e.at(a), strings{large}) << "it waits behind the large one";
    EXPECT_EQ(e.at(b), (strings{large, "small"}));
    e.give_room(a, 2);
    EXPECT_EQ(e.at(a), (strings{large, "small"}));
    EXPECT_TRUE(e.aboard.contains(a));
}

TEST(fanout, lets_all_part_for_what_is_not_for_all)
{
    publisher e;
    const auto a = e.add(3), b = e.add(3);
    e.send_to_others(a, "", "not for a");
    e.send_to_others(no_pipe, "head", "with a header");
    e.send_to_others(no_pipe, "", "for all");
    EXPECT_EQ(e.at(a), (strings{"with a header", "for all"}));
    EXPECT_EQ(e.at(b), (strings{"not for a", "with a header", "for all"}));
    const auto small = e.add(3, 5);
    e.send_to_others(no_pipe, "", "too large for one");
    EXPECT_EQ(e.at(small), strings{});
    EXPECT_EQ((e.counted_on[{stat::socket_peer_limit, small}]), 1);
}

TEST(fanout, forgets_a_pipe_that_goes_while_it_is_aboard)
{
    publisher e;
    const auto a = e.add(1), b = e.add(1);
    e.close_pipe(a);
    e.send_to_others(no_pipe, "", "one");
    EXPECT_EQ(e.at(b), strings{"one"});
    e.close_pipe(b);
    e.send_to_others(no_pipe, "", "two");
    EXPECT_EQ(e.counted[stat::socket_no_peer], 1);
    EXPECT_EQ(e.published, 1u);
}

TEST(fanout, lets_more_pipes_board_than_one_step_has_room_for)
{
    publisher e(queue_bounds{.bytes = 100'000});
    std::vector<pipe_id> all;
    for (int i = 0; i < 300; ++i)
        all.push_back(e.add(3));
    EXPECT_EQ(e.aboard.size(), all.size());
    e.send_to_others(no_pipe, "", std::string(together + 1, 'x'));
    EXPECT_EQ(e.aboard.size(), all.size()) << "each has room for more";
    e.send_to_others(no_pipe, "", "small");
    for (const auto pipe : all)
        ASSERT_EQ(e.at(pipe).size(), 2u);
    EXPECT_EQ(e.published, 1u);
}

} // namespace
