// SPDX-License-Identifier: BSD-2-Clause
//
// The engine over byte streams, with peers that mean harm or have bad luck: they end in every
// state, keep half of a message for ever, fill the memory, come in floods. At the end a random
// crowd of them, on both sides of every role, with the books, the frames and the counts of
// unfinished hellos checked all the way.
#include "tests/support/books.hpp"
#include "tests/support/bytes.hpp"
#include "tests/support/loopback.hpp"
#include "userspace/engine/engine.hpp"

#include <gtest/gtest.h>
#include <random>
#include <set>
#include <string>

namespace {

using namespace sp;
using namespace std::chrono_literals;
using protocol::role;
using engine_type = core::engine<test::loopback, test::byte_loopback>;

std::vector<std::byte> bytes_of(std::string_view text)
{
    const auto view = std::as_bytes(std::span(text));
    return {view.begin(), view.end()};
}

std::vector<std::byte> hello(role of)
{
    const auto h = stream::make_hello(static_cast<std::uint16_t>(of));
    return {h.begin(), h.end()};
}

std::vector<std::byte> head(std::uint64_t length)
{
    const auto h = stream::make_head(length, stream::framing::ipc);
    return {h.view().begin(), h.view().end()};
}

std::vector<std::byte> frame(std::string_view body)
{
    auto all = head(body.size());
    const auto tail = bytes_of(body);
    all.insert(all.end(), tail.begin(), tail.end());
    return all;
}

std::vector<std::byte> joined(std::vector<std::byte> first, const std::vector<std::byte> &second)
{
    first.insert(first.end(), second.begin(), second.end());
    return first;
}

class hostile_stream : public testing::Test {
protected:
    template <class Machine, class... Args>
    core::socket_id listening(role as, const core::socket_options &options, Args &&...args)
    {
        const auto id = *engine.open<Machine>(as, options, std::forward<Args>(args)...);
        endpoint = *engine.listen(id, door);
        return id;
    }
    core::socket_id pull(const core::socket_options &options = {})
    {
        return listening<protocol::pull_machine>(role::pull, options);
    }
    core::socket_id push(const core::socket_options &options = {})
    {
        return listening<protocol::push_machine>(role::push, options, protocol::push_options{});
    }
    core::socket_id pair(const core::socket_options &options = {.one_peer = true})
    {
        return listening<protocol::pair_machine>(role::pair1, options, protocol::pair_options{});
    }
    void turn()
    {
        for (int i = 0; i < 20; ++i)
            engine.poll(now, core::sweep::full);
    }
    stream_id greeted(role as)
    {
        const auto s = net.accept(door);
        net.give(s, hello(as));
        turn();
        (void)net.take(s);
        return s;
    }
    std::optional<std::string> take(core::socket_id id)
    {
        const auto t = engine.with<protocol::pull_machine>(
            id, now, [](auto &m, auto &out) { return m.take(out); });
        if (!t)
            return std::nullopt;
        const auto body = engine.pool()[t->frame].bytes();
        std::string text(reinterpret_cast<const char *>(body.data()), body.size());
        engine.pool().release(t->frame);
        engine.count(*engine.find(id), sp::stat::socket_delivered);
        turn();
        return text;
    }
    template <class Machine>
    bool send(core::socket_id id, std::string_view body)
    {
        auto *f = engine.pool().allocate(body.size());
        if (!f)
            return false;
        if (!body.empty())
            std::memcpy(f->data(), body.data(), body.size());
        const auto refused = engine.with<Machine>(
            id, now, [&](auto &m, auto &out) { return m.on_send(f->id, body.size(), now, out); });
        if (refused)
            engine.pool().release(f->id);
        else
            engine.count(*engine.find(id), sp::stat::socket_accepted);
        engine.finish(now);
        return !refused;
    }
    std::vector<core::frame *> hoard(std::size_t each)
    {
        std::vector<core::frame *> all;
        while (auto *f = engine.pool().allocate(each))
            all.push_back(f);
        return all;
    }
    void drop(std::vector<core::frame *> &all)
    {
        for (auto *f : all)
            engine.pool().release(f->id);
        all.clear();
    }
    std::uint64_t counted(sp::stat which) { return engine.stats()[which]; }

    static constexpr auto door = static_cast<place_id>(5);
    static constexpr std::size_t memory = 4 << 20;
    core::instant now{1000s};
    test::byte_net net;
    engine_type engine{{.memory_max = memory}, now, test::byte_loopback(net)};
    core::endpoint_id endpoint{};
};

// ---- bad input, counted wherever it comes ----

TEST_F(hostile_stream, counts_a_bad_frame_that_comes_right_behind_the_hello)
{
    const auto id = pull({.message_max = 100});
    for (const auto &bad : {bytes_of("\2"), head(1ull << 61)}) {
        const auto s = net.accept(door);
        net.give(s, joined(hello(role::push), bad));
        turn();
        EXPECT_TRUE(net.ends[s].closed);
    }
    EXPECT_EQ(counted(sp::stat::pipe_bad_frame), 2u);
    const auto s = net.accept(door);
    net.give(s, joined(hello(role::push), head(101)));
    turn();
    EXPECT_TRUE(net.ends[s].closed);
    EXPECT_EQ(counted(sp::stat::pipe_too_large), 1u);
    EXPECT_EQ(engine.find(id)->peers, 0u);
    EXPECT_EQ(engine.find(endpoint)->half_open, 0u);
}

TEST_F(hostile_stream, that_ends_in_any_state_leaves_nothing_behind)
{
    const auto id = pull();
    const auto all = joined(joined(hello(role::push), frame("one")), frame("two"));
    for (std::size_t cut = 0; cut <= all.size(); ++cut)
        for (const bool taken : {false, true}) {
            const auto s = net.accept(door);
            net.give(s, std::span(all).first(cut));
            turn();
            net.end(s);
            turn();
            while (taken && take(id)) {
            }
            engine.close_endpoint(endpoint, now); // with its pipes, whatever they are at
            EXPECT_TRUE(net.ends[s].closed) << cut;
            while (take(id)) {
            }
            EXPECT_EQ(engine.find(id)->peers, 0u) << cut;
            EXPECT_EQ(engine.pool().in_use(), 0u) << cut;
            endpoint = *engine.listen(id, door);
        }
}

// ---- memory ----

TEST_F(hostile_stream, brings_an_empty_message_when_memory_is_there_again)
{
    const auto id = pull();
    const auto s = greeted(role::push);
    auto all = hoard(60'000);
    auto small = hoard(0);
    net.give(s, frame(""));
    turn();
    EXPECT_EQ(counted(sp::stat::socket_received), 0u);
    drop(all);
    drop(small);
    turn();
    EXPECT_EQ(take(id), "");
}

TEST_F(hostile_stream, lets_the_engine_sleep_while_there_is_no_memory)
{
    const auto id = pull();
    const auto s = greeted(role::push);
    const std::string body(300'000, 'b');
    net.ends[s].read_max = 10'000;
    net.give(s, head(body.size()));
    net.give(s, bytes_of(body.substr(0, 100'000)));
    turn();
    auto all = hoard(60'000);
    auto small = hoard(0);
    net.give(s, bytes_of(body.substr(100'000)));
    turn();
    const auto reads = net.reads;
    for (int i = 0; i < 100; ++i)
        EXPECT_EQ(engine.poll(now, core::sweep::hot), 0u);
    EXPECT_EQ(net.reads, reads);
    EXPECT_LE(engine.next_deadline(), now + 1ms);
    drop(all);
    drop(small);
    for (int i = 0; i < 10; ++i)
        turn();
    EXPECT_TRUE(take(id) == body);
}

TEST_F(hostile_stream, that_keeps_half_of_a_message_makes_room_when_memory_is_short)
{
    const auto id = pull();
    std::vector<stream_id> lazy;
    for (int i = 0; i < 6; ++i) {
        lazy.push_back(greeted(role::push));
        net.give(lazy.back(), head(1 << 20));
        net.give(lazy.back(), bytes_of(std::string(600'000, 'l')));
        now += 1ms;
        turn();
    }
    const auto s = greeted(role::push);
    const std::string body(900'000, 'b');
    net.give(s, frame(body));
    std::optional<std::string> got;
    for (int i = 0; i < 500 && !got; ++i) {
        now += 10ms;
        turn();
        got = take(id);
    }
    ASSERT_TRUE(got);
    EXPECT_TRUE(*got == body);
    EXPECT_TRUE(net.ends[lazy.front()].closed);
    EXPECT_FALSE(net.ends[lazy.back()].closed);
    EXPECT_GE(counted(sp::stat::socket_memory), 1u);
}

TEST_F(hostile_stream, cannot_keep_the_memory_in_small_pieces_for_ever)
{
    const auto id = pull();
    auto small = hoard(100);
    drop(small);
    const auto s = greeted(role::push);
    const std::string body(900'000, 'b');
    net.give(s, frame(body));
    for (int i = 0; i < 10; ++i)
        turn();
    EXPECT_TRUE(take(id) == body);
    EXPECT_LE(engine.pool().memory(), memory);
    EXPECT_EQ(engine.pool().in_use(), 0u);
    auto again = hoard(100);
    EXPECT_GE(again.size(), memory / 256 / 2);
    drop(again);
}

// ---- floods ----

TEST_F(hostile_stream, in_a_flood_at_one_moment_is_bounded_all_the_same)
{
    pull({.half_open_max = 3});
    std::vector<stream_id> silent;
    for (int i = 0; i < 30; ++i)
        silent.push_back(net.accept(door));
    turn();
    EXPECT_EQ(engine.find(endpoint)->half_open, 3u);
    EXPECT_EQ(counted(sp::stat::listener_half_open), 27u);
    EXPECT_TRUE(net.ends[silent[26]].closed);
    EXPECT_FALSE(net.ends[silent[27]].closed);
    EXPECT_FALSE(net.ends[silent[29]].closed);
}

TEST_F(hostile_stream, sheds_only_who_has_not_finished_its_hello)
{
    const auto id = pull({.half_open_max = 2});
    const auto good = greeted(role::push);
    for (int i = 0; i < 2000; ++i) {
        const auto s = net.accept(door);
        turn();
        if (i % 2 == 0)
            net.end(s);
        turn();
    }
    EXPECT_FALSE(net.ends[good].closed);
    EXPECT_EQ(engine.find(id)->peers, 1u);
    EXPECT_LE(engine.find(endpoint)->half_open, 2u);
    EXPECT_LT(engine.find(endpoint)->greeting.size(), 50u);
}

TEST_F(hostile_stream, that_floods_has_a_turn_and_no_more)
{
    const auto id = *engine.open<protocol::sub_machine>(role::sub, {}, protocol::sub_options{});
    endpoint = *engine.listen(id, door); // wants nothing: everything is dropped at once
    const auto flood = greeted(role::pub);
    std::vector<std::byte> much;
    while (much.size() < (1u << 20)) {
        const auto f = frame(std::string(1000, 'f'));
        much.insert(much.end(), f.begin(), f.end());
    }
    net.give(flood, much);
    engine.poll(now, core::sweep::full);
    EXPECT_GE(net.ends[flood].in.size(), much.size() - (300u << 10));
}

// ---- one peer ----

TEST_F(hostile_stream, cannot_be_the_second_peer_whoever_dialed)
{
    const auto id = pair();
    const auto one = *engine.dial(id, static_cast<place_id>(6), now);
    const auto two = *engine.dial(id, static_cast<place_id>(7), now);
    const auto a = net.dialed[0].second, b = net.dialed[1].second, c = net.accept(door);
    net.connect(a);
    net.connect(b);
    for (const auto s : {a, b, c})
        net.give(s, hello(role::pair1));
    turn();
    EXPECT_EQ(engine.find(id)->peers, 1u);
    EXPECT_EQ(net.ends[a].closed + net.ends[b].closed + net.ends[c].closed, 2);
    EXPECT_EQ(counted(sp::stat::listener_peer_busy), 2u);
    EXPECT_EQ(engine.find(endpoint)->half_open, 0u);
    EXPECT_NE(engine.find(one)->connected && engine.find(two)->connected, true);
}

// ---- the end ----

TEST_F(hostile_stream, that_takes_nothing_keeps_no_frame_of_a_closed_socket)
{
    for (const std::size_t room : {0u, 5u}) {
        const auto id = push();
        const auto s = greeted(role::pull);
        net.ends[s].write_max = room;
        EXPECT_TRUE(send<protocol::push_machine>(id, "never read"));
        turn();
        const auto left = engine.close_socket(id, now);
        EXPECT_EQ(left.undelivered + left.unconfirmed, 1u) << room;
        ASSERT_EQ(left.pipes.size(), 1u);
        EXPECT_EQ(left.pipes[0].undelivered + left.pipes[0].unconfirmed, 1u) << room;
        EXPECT_EQ(engine.pool().in_use(), 0u) << room;
        EXPECT_EQ(test::books::held_out(engine.stats()), 0) << room;
    }
}

TEST_F(hostile_stream, that_resets_in_the_middle_of_what_it_is_sent_gives_an_unsent_message_back)
{
    const auto id = push();
    const auto s = greeted(role::pull);
    net.ends[s].write_max = 0;
    EXPECT_TRUE(send<protocol::push_machine>(id, "for another"));
    net.end(s);
    net.ends[s].write_max = 1000;
    turn();
    EXPECT_TRUE(net.ends[s].closed);
    const auto other = net.accept(door);
    net.give(other, hello(role::pull));
    turn();
    EXPECT_EQ(net.take(other), joined(hello(role::push), frame("for another")));
    EXPECT_EQ(engine.pool().in_use(), 0u);
}

TEST_F(hostile_stream, is_not_missed_by_a_timer_after_its_end)
{
    const auto id = pull({.hello_timeout = 3s});
    const auto s = net.accept(door);
    const auto dialer = *engine.dial(id, static_cast<place_id>(6), now);
    turn();
    engine.close_endpoint(endpoint, now);
    engine.close_endpoint(dialer, now);
    EXPECT_TRUE(net.ends[s].closed);
    for (int i = 0; i < 20; ++i) {
        now += 1s;
        turn();
    }
    EXPECT_EQ(counted(sp::stat::listener_hello_timeout), 0u);
    EXPECT_EQ(net.dialed.size(), 1u);
    engine.close_socket(id, now);
}

// ---- a crowd ----

// Sockets of all roles, each with a listener and a dialer, and what an application does with them.
class crowd {
public:
    crowd(std::uint32_t seed, std::size_t memory_max)
        : chance_(seed), engine({.memory_max = memory_max}, now, test::byte_loopback(net))
    {
        add<protocol::rep_machine>(role::rep, {}, protocol::rep_options{}, 7u);
        add<protocol::req_machine>(role::req, {}, protocol::req_options{});
        add<protocol::pub_machine>(role::pub, {},
                                   protocol::pub_options{.queue = {.bytes = 20'000}});
        add<protocol::sub_machine>(role::sub, {},
                                   protocol::sub_options{.queue = {.bytes = 20'000}});
        add<protocol::push_machine>(role::push, {}, protocol::push_options{});
        add<protocol::pull_machine>(role::pull, {});
        add<protocol::pair_machine>(role::pair1, {.one_peer = true}, protocol::pair_options{});
        add<protocol::bus_machine>(role::bus, {}, protocol::bus_options{});
        add<protocol::surveyor_machine>(role::surveyor, {}, protocol::surveyor_options{});
        add<protocol::rep_machine>(role::respondent, {}, protocol::rep_options{}, 9u);
        add<protocol::raw_machine>(role::bus, {}, protocol::raw_defaults(role::bus));
        add<protocol::raw_machine>(role::rep, {}, protocol::raw_defaults(role::rep));
        for (auto &a : actors_)
            open_contexts(a);
    }

    void step()
    {
        switch (below(12)) {
        case 0:
            return come();
        case 1:
            return answer_dialers();
        case 2:
        case 3:
        case 4:
            return peers_talk();
        case 5:
            return peers_read();
        case 6:
            return peers_end();
        case 7:
        case 8:
            return use(actors_[below(actors_.size())]);
        case 9:
            now += std::chrono::microseconds(below(200'000));
            break;
        case 10:
            if (below(40) == 0)
                renew(actors_[below(actors_.size())]);
            break;
        default:
            break;
        }
        engine.poll(now, core::sweep::full);
        if (below(50) == 0)
            look();
    }

    void end()
    {
        engine.poll(now, core::sweep::full); // who has come is known
        look();
        for (auto *f : held_)
            engine.pool().release(f->id);
        held_.clear();
        for (const auto &a : actors_)
            engine.close_socket(a.id, now);
        EXPECT_EQ(engine.pool().in_use(), 0u);
        for (const auto &[id, e] : net.ends)
            EXPECT_TRUE(e.closed) << static_cast<std::uint32_t>(id);
        EXPECT_EQ(test::books::imbalance(engine.stats(), 0, test::abandoned::either), "");
    }
    std::uint64_t passed() { return engine.stats()[sp::stat::socket_received]; }

private:
    struct actor {
        role as;
        core::socket_id id;
        place_id listens, dials;
        core::endpoint_id listener, dialer;
        std::vector<protocol::context_id> contexts{};
    };
    struct peer {
        stream_id stream;
        role as;
        std::vector<std::byte> script{};
        std::size_t said = 0;
    };

    std::size_t below(std::size_t n)
    {
        return std::uniform_int_distribution<std::size_t>(0, n - 1)(chance_);
    }

    template <class Machine, class... Args>
    void add(role as, core::socket_options options, Args &&...args)
    {
        options.message_max = 60'000;
        options.half_open_max = 4;
        options.hello_timeout = 2s;
        const auto id = *engine.open<Machine>(as, options, std::forward<Args>(args)...);
        const auto n = static_cast<std::uint32_t>(10 + 2 * actors_.size());
        const auto listens = static_cast<place_id>(n), dials = static_cast<place_id>(n + 1);
        actors_.push_back(
            {as, id, listens, dials, *engine.listen(id, listens), *engine.dial(id, dials, now)});
    }
    void open_contexts(actor &a)
    {
        std::visit(
            [&](auto &m) {
                if constexpr (requires { m.open_context(); })
                    for (int i = 0; i < 3; ++i)
                        a.contexts.push_back(*m.open_context());
                if constexpr (requires { m.subscribe(a.contexts[0], bytes_of("")); }) {
                    m.subscribe(a.contexts[0], bytes_of(""));
                    m.subscribe(a.contexts[1], bytes_of("a"));
                }
            },
            engine.find(a.id)->machine);
    }

    // ---- peers

    void make_peer(stream_id s, role as)
    {
        peer p{.stream = s, .as = below(20) == 0 ? static_cast<role>(below(0x80)) : as};
        if (below(10) != 0)
            p.script = hello(p.as);
        for (auto n = below(12); n > 0; --n) {
            const auto size = below(10) == 0 ? below(70'000) : below(200);
            std::string body(size, static_cast<char>('a' + below(3)));
            for (std::size_t i = 0; i < std::min<std::size_t>(4, size); ++i)
                body[i] = static_cast<char>(i == 0 && below(8) != 0 ? 0x80
                                            : below(10) == 0        ? below(256)
                                                                    : 0);
            const auto f = frame(body);
            p.script.insert(p.script.end(), f.begin(), f.end());
        }
        if (below(5) == 0 && !p.script.empty())
            p.script[below(p.script.size())] = static_cast<std::byte>(below(256));
        if (below(4) == 0)
            net.ends[s].read_max = 1 + below(5000);
        if (below(3) == 0)
            net.ends[s].write_max = below(3000);
        peers_.push_back(std::move(p));
    }
    void come()
    {
        const auto &a = actors_[below(actors_.size())];
        make_peer(net.accept(a.listens), protocol::peer_of(a.as));
    }
    void answer_dialers()
    {
        for (const auto &[place, s] : std::exchange(net.dialed, {})) {
            if (net.ends[s].closed)
                continue;
            for (const auto &a : actors_)
                if (a.dials == place && below(5) > 1)
                    make_peer(s, protocol::peer_of(a.as)), net.connect(s);
                else if (a.dials == place && below(2) == 0)
                    net.fail(s, errc::connection_refused);
        }
    }
    void peers_talk()
    {
        for (int n = 0; n < 8 && !peers_.empty(); ++n) {
            auto &p = peers_[below(peers_.size())];
            const auto left = p.script.size() - p.said;
            const auto size = std::min(left, below(3) == 0 ? left : 1 + below(40));
            net.give(p.stream, std::span(p.script).subspan(p.said, size));
            p.said += size;
        }
        engine.poll(now, core::sweep::full);
    }
    void peers_read()
    {
        for (auto &p : peers_)
            if (below(2) == 0) {
                auto &out = net.ends[p.stream].out;
                out.erase(out.begin(),
                          out.begin() + static_cast<std::ptrdiff_t>(below(out.size() + 1)));
            }
    }
    void peers_end()
    {
        for (auto &p : peers_)
            if (below(15) == 0)
                net.end(p.stream);
        std::erase_if(peers_, [&](const peer &p) { return net.ends[p.stream].closed; });
    }

    // ---- the application

    core::frame *allocate()
    {
        auto *f = engine.pool().allocate(below(8) == 0 ? below(60'000) : below(300));
        if (f)
            std::memset(f->data(), 'a', f->size);
        return f;
    }
    void use(actor &a)
    {
        std::visit(
            [&](auto &machine) {
                using M = std::remove_cvref_t<decltype(machine)>;
                if constexpr (protocol::machine<M>)
                    for (int i = 0; i < 4; ++i)
                        use_once<M>(a, machine);
            },
            engine.find(a.id)->machine);
        engine.finish(now);
    }
    template <class M>
    void delivered(actor &a, protocol::frame_id frame)
    {
        engine.count(*engine.find(a.id), sp::stat::socket_delivered);
        if (below(4) == 0)
            held_.push_back(&engine.pool()[frame]);
        else
            engine.pool().release(frame);
        if (held_.size() > 20) {
            engine.pool().release(held_.front()->id);
            held_.erase(held_.begin());
        }
    }
    template <class M>
    void use_once(actor &a, M &machine)
    {
        auto &s = *engine.find(a.id);
        if constexpr (std::same_as<M, protocol::rep_machine>) {
            const auto t =
                engine.template with<M>(a.id, now, [](auto &m, auto &o) { return m.take(o); });
            if (!t)
                return;
            delivered<M>(a, t->frame);
            auto *f = below(5) == 0 ? nullptr : allocate();
            std::optional<errc> refused = errc::would_block;
            if (f)
                refused = engine.template with<M>(a.id, now, [&](auto &m, auto &o) {
                    return m.reply(t->ticket, f->id, f->size, now, o);
                });
            if (!refused)
                return engine.count(s, sp::stat::socket_accepted);
            if (f)
                engine.pool().release(f->id);
            engine.template with<M>(a.id, now, [&](auto &m, auto &o) {
                m.abandon(t->ticket, o);
                return 0;
            });
        } else if constexpr (std::same_as<M, protocol::req_machine>) {
            const auto c = a.contexts[below(a.contexts.size())];
            if (machine.state(c) == protocol::request_state::ready && below(3) != 0)
                return delivered<M>(a, machine.take_reply(c).frame);
            if (machine.state(c) == protocol::request_state::failed)
                return (void)machine.take_failure(c);
            auto *f = allocate();
            if (!f)
                return;
            const auto refused = engine.template with<M>(a.id, now, [&](auto &m, auto &o) {
                return m.on_request(c, f->id, f->size, 0x80000000u, now, o);
            });
            if (refused)
                engine.pool().release(f->id);
            else
                engine.count(s, sp::stat::socket_accepted);
        } else {
            receive<M>(a);
            transmit<M>(a, s, machine);
        }
    }
    template <class M>
    void receive(actor &a)
    {
        if constexpr (requires(M m, protocol::effects o) { m.take(o); }) {
            if (const auto t =
                    engine.template with<M>(a.id, now, [](auto &m, auto &o) { return m.take(o); }))
                delivered<M>(a, t->frame);
        } else if constexpr (requires(M m, protocol::context_id c, protocol::effects o) {
                                 m.take(c, o);
                             }) {
            for (const auto c : a.contexts)
                if (const auto t = engine.template with<M>(
                        a.id, now, [&](auto &m, auto &o) { return m.take(c, o); }))
                    delivered<M>(a, t->frame);
        }
    }
    template <class M>
    void transmit(actor &a, core::socket &s, M &machine)
    {
        if constexpr (std::same_as<M, protocol::sub_machine> ||
                      std::same_as<M, protocol::pull_machine>)
            return;
        auto *f = allocate();
        if (!f)
            return;
        const auto sent = engine.template with<M>(a.id, now, [&](auto &m, auto &o) {
            if constexpr (std::same_as<M, protocol::surveyor_machine>) {
                m.on_survey(a.contexts[below(3)], f->id, f->size,
                            static_cast<std::uint32_t>(chance_()), 300ms, now, o);
                return true;
            } else if constexpr (std::same_as<M, protocol::raw_machine>) {
                std::vector<std::byte> header;
                if (a.as == role::rep)
                    header = bytes_of(std::string("\0\1\0\0\x80\0\0\1", 8));
                return !m.on_send(header, f->id, f->size, now, o);
            } else if constexpr (requires {
                                     { m.on_send(f->id, 0, now, o) } -> std::same_as<void>;
                                 }) {
                m.on_send(f->id, f->size, now, o);
                return true;
            } else if constexpr (requires { m.on_send(f->id, 0, now, o); }) {
                return !m.on_send(f->id, f->size, now, o);
            } else {
                return false;
            }
        });
        (void)machine;
        if (sent)
            engine.count(s, sp::stat::socket_accepted);
        else
            engine.pool().release(f->id);
    }
    // Its endpoints end, with their pipes, and others take their place.
    void renew(actor &a)
    {
        engine.close_endpoint(a.listener, now);
        engine.close_endpoint(a.dialer, now);
        a.listener = *engine.listen(a.id, a.listens);
        a.dialer = *engine.dial(a.id, a.dials, now);
    }

    // ---- what must always hold

    void look()
    {
        engine.finish(now);
        for (const auto &a : actors_) {
            auto &s = *engine.find(a.id);
            std::uint32_t attached = 0, half_open = 0;
            std::size_t waiting = 0;
            engine.each_pipe(a.id, [&](core::pipe_id, const core::pipe &p) {
                attached += p.attached;
                half_open += !p.attached && p.endpoint == a.listener;
                waiting += p.outbox.size();
                EXPECT_LE(p.outbox.size(), 1u);
                EXPECT_LE(p.bytes->untaken, 1u);
                EXPECT_LE(p.bytes->held.size(), 16u << 10);
            });
            EXPECT_EQ(s.peers, attached);
            EXPECT_EQ(engine.find(a.listener)->half_open, half_open);
            EXPECT_LE(half_open, 4u);
            std::visit(
                [&](const auto &m) {
                    if constexpr (protocol::machine<std::remove_cvref_t<decltype(m)>>) {
                        const auto held = m.queued_in() + m.queued_out() + waiting;
                        const auto how = test::abandoned::either;
                        EXPECT_EQ(test::books::imbalance(s.books, held, how), "")
                            << static_cast<int>(a.as);
                    }
                },
                s.machine);
        }
    }

    std::mt19937 chance_;
    std::vector<actor> actors_;
    std::vector<peer> peers_;
    std::vector<core::frame *> held_;

public:
    core::instant now{1000s};
    test::byte_net net;
    engine_type engine;
};

TEST(hostile_crowd, of_random_peers_breaks_no_books_and_leaves_no_frame)
{
    const auto seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::uint64_t passed = 0;
    for (std::uint32_t round = 0; round < 6 && !testing::Test::HasFailure(); ++round) {
        SCOPED_TRACE("round " + std::to_string(round));
        crowd all(seed + round, round % 2 == 0 ? 256u << 20 : 1u << 20);
        for (int i = 0; i < 3000 && !testing::Test::HasFailure(); ++i)
            all.step();
        all.end();
        passed += all.passed();
    }
    EXPECT_GT(passed, 100u);
}

} // namespace
