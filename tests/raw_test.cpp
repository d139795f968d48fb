// SPDX-License-Identifier: BSD-2-Clause
//
// Raw sockets of all roles: what is beside the body when a message is received, where one goes by
// its header when it is sent, and what happens to those whose header is wrong.
#include "tests/support/machine.hpp"
#include "userspace/protocol/raw.hpp"

#include <gtest/gtest.h>
#include <random>

namespace {

using namespace sp::protocol;
using sp::errc;
using sp::stat;

const role all_roles[] = {role::pair0, role::pair1,    role::pub,       role::sub,
                          role::req,   role::rep,      role::push,      role::pull,
                          role::bus,   role::surveyor, role::respondent};
const role takers_of_one[] = {role::req, role::push, role::pair0, role::pair1};
const role repliers[] = {role::rep, role::respondent};

std::string word(std::uint32_t n)
{
    std::string bytes(4, '\0');
    for (std::size_t i = 0; i < 4; ++i)
        bytes[i] = static_cast<char>(n >> (24 - 8 * i));
    return bytes;
}
std::string word(pipe_id p)
{
    return word(static_cast<std::uint32_t>(p) & 0x7fffffff);
}
const std::string id = word(0x80000007);

std::string stack(std::size_t words)
{
    std::string s;
    while (words-- > 1)
        s += word(5);
    return s + id;
}

class node : public sp::test::machine_engine<raw_machine> {
public:
    using base = sp::test::machine_engine<raw_machine>;
    explicit node(role as) : base(raw_defaults(as)) {}
    explicit node(const raw_options &o) : base(o) {}

    std::optional<errc> send(const std::string &header, const std::string &body)
    {
        const auto frame = new_frame(body);
        return submit(frame, [&] {
            return machine.on_send(std::as_bytes(std::span(header)), frame, body.size(), now, out);
        });
    }
    struct message {
        std::string header, body;
        pipe_id pipe;
    };
    std::optional<message> receive_one()
    {
        const auto text = take();
        if (!text)
            return std::nullopt;
        const auto h = machine.header_of(*last_taken, std::as_bytes(std::span(*text)));
        return message{{reinterpret_cast<const char *>(h.all().data()), h.all().size()},
                       text->substr(last_taken->header_bytes),
                       last_taken->pipe};
    }
    pipe_id add_ready_pipe(std::size_t room = 100, std::size_t capacity = 1 << 20)
    {
        const auto p = add_pipe(capacity);
        give_room(p, room);
        return p;
    }
};

// ---- one of many ----

TEST(raw, req_sends_the_header_as_it_is_to_one_ready_pipe)
{
    node e(role::req);
    EXPECT_EQ(e.send(id, "a"), errc::would_block);
    EXPECT_FALSE(e.machine.send_ready(5));
    const auto p = e.add_ready_pipe(1), q = e.add_ready_pipe(1);
    EXPECT_TRUE(e.machine.send_ready(5));
    EXPECT_FALSE(e.send(stack(16), "a"));
    EXPECT_FALSE(e.send(id, "b"));
    EXPECT_EQ(e.send(id, "c"), errc::would_block);
    ASSERT_EQ(e.wire.size(), 2u);
    EXPECT_EQ(e.wire[0].pipe, p);
    EXPECT_EQ(e.wire[0].header, stack(16));
    EXPECT_EQ(e.wire[1].pipe, q);
    EXPECT_EQ(e.wire[1].header, id);
    EXPECT_EQ(e.send(stack(16) + "x", "d"), errc::invalid_argument); // more than a stack can be
}

TEST(raw, req_and_surveyor_receive_stacks_of_any_id_up_to_sixteen_words)
{
    for (const auto as : {role::req, role::surveyor})
        for (const std::size_t words : {1u, 2u, 9u, 16u}) {
            node e(raw_options{.as = as, .ttl_max = 1}); // which is not for them
            const auto p = e.add_pipe();
            e.receive(p, stack(words) + "body");
            const auto m = e.receive_one();
            ASSERT_TRUE(m) << words;
            EXPECT_EQ(m->header, stack(words));
            EXPECT_EQ(m->body, "body");
            EXPECT_EQ(m->pipe, p);
        }
}

TEST(raw, req_and_surveyor_close_the_pipe_of_a_stack_that_is_longer_or_has_no_end)
{
    for (const auto as : {role::req, role::surveyor})
        for (const auto &bytes : {std::string(), std::string("abc"), word(5), stack(17), stack(31),
                                  stack(4).substr(0, 12)}) {
            node e(as);
            e.receive(e.add_pipe(), bytes);
            ASSERT_EQ(e.closed.size(), 1u) << bytes.size();
            EXPECT_EQ(e.closed[0].second, stat::pipe_bad_header);
            EXPECT_FALSE(e.machine.waiting());
            EXPECT_EQ(e.frames_held(), 0u);
        }
}

TEST(raw, what_never_reached_the_wire_goes_elsewhere_with_its_header)
{
    node e(role::req);
    const auto dying = e.add_ready_pipe(2);
    e.jam(dying);
    ASSERT_FALSE(e.send(stack(3), "a"));
    ASSERT_FALSE(e.send(stack(9), "b"));
    const auto next = e.add_ready_pipe();
    e.close_pipe(dying);
    ASSERT_EQ(e.wire.size(), 2u);
    EXPECT_EQ(e.wire[0].pipe, next);
    EXPECT_EQ(e.wire[0].header, stack(3));
    EXPECT_EQ(e.wire[1].header, stack(9));
}

TEST(raw, push_and_pair_0_send_no_header)
{
    for (const auto as : {role::push, role::pair0}) {
        node e(as);
        EXPECT_EQ(e.send("", "a"), errc::would_block);
        e.add_ready_pipe();
        EXPECT_FALSE(e.send("", "a"));
        EXPECT_EQ(e.wire[0].header, "");
        EXPECT_EQ(e.send(word(1), "a"), errc::invalid_argument);
    }
}

TEST(raw, pair_1_sends_one_hop_more_and_takes_only_a_header_of_four_bytes)
{
    node e(role::pair1);
    e.add_ready_pipe();
    for (const std::uint32_t hops : {0u, 1u, 0xfeu}) {
        EXPECT_FALSE(e.send(word(hops), "a"));
        EXPECT_EQ(e.wire.back().header, word(hops + 1));
    }
    for (const auto &bad : {std::string(), std::string("abc"), word(1) + "x", word(0xff),
                            word(0x100), word(0x80000001)})
        EXPECT_EQ(e.send(bad, "a"), errc::invalid_argument) << bad.size();
    EXPECT_EQ(e.wire.size(), 3u);
}

TEST(raw, pair_1_receives_the_hops_unchanged_and_judges_them)
{
    node e(role::pair1);
    const auto p = e.add_pipe();
    e.receive(p, word(8) + "a");
    const auto m = e.receive_one();
    ASSERT_TRUE(m);
    EXPECT_EQ(m->header, word(8));
    EXPECT_EQ(m->body, "a");
    e.receive(p, word(9) + "a");
    EXPECT_EQ(e.count(stat::socket_ttl, p), 1);
    EXPECT_FALSE(e.machine.waiting());
    EXPECT_TRUE(e.closed.empty());
    e.receive(p, word(256) + "a");
    EXPECT_EQ(e.closed.size(), 1u);
}

TEST(raw, counts_the_header_in_the_size_that_a_peer_accepts)
{
    for (const auto as : takers_of_one) {
        node e(as);
        e.add_ready_pipe(9, 100);
        const auto header = as == role::req ? id : as == role::pair1 ? word(1) : std::string();
        EXPECT_EQ(e.send(header, std::string(101 - header.size(), 'x')), errc::message_too_large);
        EXPECT_FALSE(e.send(header, std::string(100 - header.size(), 'x')));
    }
}

// ---- the one that the header names ----

TEST(raw, a_replier_receives_the_pipe_in_front_of_the_stack_and_sends_by_it)
{
    for (const auto as : repliers) {
        node e(as);
        const auto p = e.add_ready_pipe(), q = e.add_ready_pipe();
        e.receive(q, stack(3) + "question");
        const auto m = e.receive_one();
        ASSERT_TRUE(m);
        EXPECT_EQ(m->header, word(q) + stack(3));
        EXPECT_EQ(m->body, "question");
        EXPECT_FALSE(e.send(m->header, "answer"));
        ASSERT_EQ(e.wire.size(), 1u);
        EXPECT_EQ(e.wire[0].pipe, q);
        EXPECT_EQ(e.wire[0].header, stack(3));
        EXPECT_EQ(e.wire[0].body, "answer");
        EXPECT_FALSE(e.send(word(p), "unasked")); // no state: anybody may be written to
        EXPECT_EQ(e.wire[1].pipe, p);
        EXPECT_EQ(e.wire[1].header, "");
    }
}

TEST(raw, the_name_of_a_pipe_in_a_header_never_looks_like_an_id)
{
    raw_machine m(raw_defaults(role::rep));
    effects out;
    const auto p = static_cast<pipe_id>(0x80010003);
    m.on_pipe_added({.id = p, .capacity = 1000});
    m.on_pipe_ready(p, {}, out);
    const auto h = m.header_of({.frame = {}, .pipe = p, .header_bytes = 0}, {});
    EXPECT_EQ(load_word(h.all()), 0x00010003u);
    ASSERT_FALSE(m.on_send(h.all(), static_cast<frame_id>(1), 3, {}, out));
    ASSERT_FALSE(out.empty());
    EXPECT_EQ(out.all()[0].what, effect::kind::send);
    EXPECT_EQ(out.all()[0].pipe, p);
    out.clear();
    std::array<std::byte, 4> with_top_bit;
    store_word(with_top_bit, 0x80010003);
    ASSERT_FALSE(m.on_send(with_top_bit, static_cast<frame_id>(2), 3, {}, out));
    EXPECT_EQ(out.all()[0].why, stat::socket_pipe_gone);
}

TEST(raw, a_replier_judges_the_stack_without_its_own_pipe)
{
    for (const auto as : repliers) {
        node e(raw_options{.as = as, .ttl_max = 3});
        const auto p = e.add_pipe();
        e.receive(p, stack(3));
        EXPECT_TRUE(e.receive_one());
        e.receive(p, stack(4));
        e.receive(p, stack(20).substr(0, 76)); // no end at all
        EXPECT_EQ(e.count(stat::socket_ttl, p), 2);
        EXPECT_EQ(e.withheld(p), 0);
        EXPECT_TRUE(e.closed.empty());
        e.receive(p, word(5) + "abc");
        ASSERT_EQ(e.closed.size(), 1u);
        EXPECT_EQ(e.closed[0].second, stat::pipe_bad_header);
    }
    node longest(raw_options{.as = role::rep, .ttl_max = raw_machine::ttl_limit});
    longest.receive(longest.add_pipe(), stack(15));
    EXPECT_EQ(longest.receive_one()->header.size(), 64u);
}

TEST(raw, a_reply_that_names_no_pipe_succeeds_and_is_counted)
{
    for (const auto as : repliers) {
        node e(as);
        const auto gone = e.add_ready_pipe();
        e.close_pipe(gone);
        const auto p = e.add_ready_pipe(); // at its place
        EXPECT_FALSE(e.send(word(gone) + id, "a"));
        EXPECT_FALSE(e.send(word(0u), "a"));
        EXPECT_EQ(e.count(stat::socket_pipe_gone), 2);
        EXPECT_FALSE(e.send("", "a"));
        EXPECT_FALSE(e.send("abc", "a"));
        EXPECT_FALSE(e.send(word(p) + stack(16) + "x", "a"));
        EXPECT_EQ(e.count(stat::socket_bad_raw_header), 3);
        EXPECT_TRUE(e.wire.empty());
        EXPECT_EQ(e.frames_held(), 0u);
        EXPECT_FALSE(e.send(word(p) + stack(16), "the socket stays usable"));
        EXPECT_EQ(e.wire.size(), 1u);
    }
}

TEST(raw, replies_never_wait_and_queue_for_their_pipe_up_to_256_kib)
{
    for (const auto as : repliers) {
        node e(as);
        const auto slow = e.add_pipe(), fast = e.add_ready_pipe();
        const std::string body(1024 - 64 - 4, 'x');
        for (int i = 0; i < 257; ++i) {
            EXPECT_TRUE(e.machine.send_ready(body.size()));
            EXPECT_FALSE(e.send(word(slow) + id, body));
        }
        EXPECT_EQ(e.machine.queued_out(), 256u);
        EXPECT_EQ(e.count(stat::socket_send_full, slow), 1);
        EXPECT_FALSE(e.send(word(fast) + id, "not held up"));
        EXPECT_EQ(e.sent_on(fast).size(), 1u);
        e.give_room(slow, 300);
        EXPECT_EQ(e.sent_on(slow).size(), 256u);
        EXPECT_EQ(e.wire.back().header, id);
    }
}

TEST(raw, replies_for_a_pipe_that_went_are_dropped)
{
    node e(role::rep);
    const auto p = e.add_ready_pipe(1);
    e.jam(p);
    for (int i = 0; i < 3; ++i)
        ASSERT_FALSE(e.send(word(p) + id, "x")); // one given to the pipe, two queued
    e.add_ready_pipe();
    e.close_pipe(p);
    EXPECT_EQ(e.count(stat::socket_pipe_closed, p), 3);
    EXPECT_TRUE(e.wire.empty());
    EXPECT_EQ(e.frames_held(), 0u);
}

// ---- all ----

TEST(raw, surveyor_sends_the_header_to_all_and_queues_for_each)
{
    node e(role::surveyor);
    EXPECT_FALSE(e.send(id, "nobody"));
    EXPECT_EQ(e.count(stat::socket_no_peer), 1);
    const auto slow = e.add_pipe(), fast = e.add_ready_pipe();
    EXPECT_FALSE(e.send(stack(2), "all"));
    EXPECT_EQ(e.sent_on(fast).size(), 1u);
    EXPECT_EQ(e.machine.queued_out(), 1u);
    e.give_room(slow, 1);
    EXPECT_EQ(e.sent_on(slow).size(), 1u);
    EXPECT_EQ(e.wire.back().header, stack(2));
    EXPECT_EQ(e.send(stack(17), "x"), errc::invalid_argument);
}

TEST(raw, pub_sends_to_all_and_ends_the_pipe_of_who_answers)
{
    node e(role::pub);
    const auto p = e.add_ready_pipe(), q = e.add_ready_pipe();
    EXPECT_FALSE(e.send("", "news"));
    EXPECT_EQ(e.wire.size(), 2u);
    EXPECT_EQ(e.send(word(1), "news"), errc::invalid_argument);
    e.receive(p, "me too");
    ASSERT_EQ(e.closed.size(), 1u);
    EXPECT_EQ(e.closed[0].second, stat::pipe_unexpected);
    EXPECT_FALSE(e.send("", "news"));
    EXPECT_EQ(e.sent_on(q).size(), 2u);
}

TEST(raw, a_blocking_fan_out_is_ready_when_all_have_room)
{
    node e(raw_options{.as = role::pub,
                       .send = {.bytes = 1 << 20, .messages = 1},
                       .on_send_full = overflow::block});
    const auto slow = e.add_pipe();
    e.add_ready_pipe();
    EXPECT_TRUE(e.machine.send_ready(1));
    EXPECT_FALSE(e.send("", "a"));
    EXPECT_FALSE(e.machine.send_ready(1));
    e.give_room(slow, 1);
    EXPECT_TRUE(e.machine.send_ready(1));
}

TEST(raw, bus_receives_the_pipe_and_does_not_send_to_the_one_named)
{
    node e(role::bus);
    const auto p = e.add_ready_pipe(), q = e.add_ready_pipe(), r = e.add_ready_pipe();
    e.receive(q, "hello");
    const auto m = e.receive_one();
    ASSERT_TRUE(m);
    EXPECT_EQ(m->header, word(q));
    EXPECT_EQ(m->body, "hello");
    EXPECT_FALSE(e.send(m->header, m->body)); // a reflector
    EXPECT_EQ(e.sent_on(p).size(), 1u);
    EXPECT_EQ(e.sent_on(q).size(), 0u);
    EXPECT_EQ(e.sent_on(r).size(), 1u);
    EXPECT_EQ(e.wire[0].header, "");
    for (const auto &everybody : {std::string(), std::string("abc"), word(0u)})
        EXPECT_FALSE(e.send(everybody, "x"));
    EXPECT_EQ(e.sent_on(q).size(), 3u);
    EXPECT_FALSE(e.send(word(q) + "more", "x"));
    EXPECT_EQ(e.sent_on(q).size(), 3u);
}

// ---- those that only receive, or only send ----

TEST(raw, pull_and_sub_send_nothing_and_receive_without_a_header)
{
    for (const auto as : {role::pull, role::sub}) {
        node e(as);
        const auto p = e.add_ready_pipe();
        EXPECT_EQ(e.send("", "a"), errc::not_supported);
        EXPECT_TRUE(e.machine.send_ready(1));
        e.receive(p, "any topic");
        const auto m = e.receive_one();
        ASSERT_TRUE(m);
        EXPECT_EQ(m->header, "");
        EXPECT_EQ(m->body, "any topic");
    }
}

TEST(raw, push_ignores_what_a_peer_sends)
{
    node e(role::push);
    const auto p = e.add_pipe();
    e.receive(p, "surprise");
    EXPECT_EQ(e.count(stat::socket_unexpected, p), 1);
    EXPECT_TRUE(e.closed.empty());
}

// ---- the receive queue ----

TEST(raw, receives_into_256_kib_and_then_pushes_back)
{
    for (const auto as : {role::req, role::rep, role::pull, role::pair0, role::surveyor}) {
        node e(as);
        const auto p = e.add_pipe(), q = e.add_pipe();
        const auto message = id + std::string(1024 - 64 - 4, 'x');
        for (int i = 0; i < 150; ++i) {
            e.receive(p, message);
            e.receive(q, message);
        }
        EXPECT_EQ(e.withheld(p) + e.withheld(q), 300 - 256);
        for (int i = 0; i < 44; ++i)
            ASSERT_TRUE(e.receive_one());
        EXPECT_EQ(e.withheld(p) + e.withheld(q), 0);
        EXPECT_EQ(e.count(stat::socket_recv_full), 0);
    }
}

TEST(raw, bus_and_sub_drop_what_does_not_fit)
{
    for (const auto as : {role::bus, role::sub}) {
        auto options = raw_defaults(as);
        options.recv.messages = 2;
        node e(options);
        const auto p = e.add_pipe();
        for (const auto *m : {"a", "b", "c"})
            e.receive(p, m);
        EXPECT_EQ(e.withheld(p), 0);
        EXPECT_EQ(e.count(stat::socket_recv_full, p), 1);
        EXPECT_EQ(e.receive_one()->body, as == role::sub ? "b" : "a");
    }
}

TEST(raw, takes_one_message_per_pipe_in_turn)
{
    node e(role::rep);
    const auto flooder = e.add_pipe(), modest = e.add_pipe();
    for (int i = 0; i < 5; ++i)
        e.receive(flooder, id);
    e.receive(modest, id);
    EXPECT_EQ(e.receive_one()->pipe, flooder);
    EXPECT_EQ(e.receive_one()->pipe, modest);
    EXPECT_EQ(e.receive_one()->pipe, flooder);
}

// ---- a device: two raw sockets and the header carried over ----

TEST(raw, a_request_finds_its_way_through_a_device_and_back)
{
    node front(role::rep), back(role::req);
    const auto asker = front.add_ready_pipe(), replier = back.add_ready_pipe();
    front.receive(asker, id + "question");
    const auto question = front.receive_one();
    ASSERT_FALSE(back.send(question->header, question->body));
    EXPECT_EQ(back.wire[0].header, word(asker) + id);
    back.receive(replier, back.wire[0].header + "answer");
    const auto answer = back.receive_one();
    ASSERT_FALSE(front.send(answer->header, answer->body));
    ASSERT_EQ(front.wire.size(), 1u);
    EXPECT_EQ(front.wire[0].pipe, asker);
    EXPECT_EQ(front.wire[0].header, id);
    EXPECT_EQ(front.wire[0].body, "answer");
}

// ---- chance ----

std::string some_header(role as, std::mt19937 &random, pipe_id any)
{
    switch (random() % 8) {
    case 0:
        return std::string(random() % 80, 'h');
    case 1:
        return "";
    default:
        if (as == role::pair1)
            return word(static_cast<std::uint32_t>(random() % 300));
        if (as == role::req || as == role::surveyor)
            return stack(1 + random() % 16);
        return word(any) + (as == role::bus ? "" : stack(1 + random() % 16));
    }
}

void play(node &e, role as, std::mt19937 &random)
{
    std::vector<pipe_id> pipes;
    for (int i = 0; i < 400; ++i) {
        std::erase_if(pipes, [&](pipe_id p) { return !e.pipes.contains(p); });
        const auto dice = random() % 20;
        const auto any = pipes.empty() ? no_pipe : pipes[random() % pipes.size()];
        if (dice == 0 || any == no_pipe) {
            pipes.push_back(e.add_pipe(random() % 4 == 0 ? 60 : 5000));
        } else if (dice == 1) {
            e.jam(any);
        } else if (dice == 2) {
            e.close_pipe(any);
        } else if (dice < 8) {
            e.give_room(any, 1 + random() % 3);
        } else if (dice < 12) {
            e.receive(any, (random() % 8 == 0   ? std::string(random() % 40, 'p')
                            : as == role::pair1 ? word(static_cast<std::uint32_t>(random() % 12))
                                                : stack(1 + random() % 12)) +
                               std::string(random() % 200, 'b'));
        } else if (dice < 14) {
            e.receive_one();
        } else {
            const std::string body(random() % 100, 'b');
            const auto header = some_header(as, random, any);
            const bool ready = e.machine.send_ready(header.size() + body.size());
            const auto refused = e.send(header, body);
            EXPECT_FALSE(ready && refused == errc::would_block);
        }
    }
}

// The books and the frames are right after every step, and nothing is left at the end.
TEST(raw, keeps_its_books_whatever_comes_and_goes)
{
    const auto seed = std::random_device{}();
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    for (int round = 0; round < 10; ++round)
        for (const auto as : all_roles) {
            SCOPED_TRACE(static_cast<int>(as));
            auto options = raw_defaults(as);
            if (random() % 2 == 0)
                options.send.bytes = random() % 2000;
            if (random() % 2 == 0)
                options.recv.bytes = random() % 2000;
            node e(options);
            play(e, as, random);
            e.close();
            EXPECT_EQ(e.machine.queued_out(), 0u);
            EXPECT_EQ(e.machine.queued_in(), 0u);
            EXPECT_EQ(e.frames_held(), 0u);
        }
}

} // namespace
