// SPDX-License-Identifier: BSD-2-Clause
//
// Whole engines over a net in memory and in virtual time: handshake, requests, refusals, loss,
// restarts, floods. What sockets, threads and the kernel add is tested elsewhere.
#include "tests/support/loopback.hpp"
#include "userspace/engine/engine.hpp"

#include <gtest/gtest.h>
#include <memory>
#include <random>
#include <string>

namespace {

using namespace sp;
using namespace std::chrono_literals;
using engine_type = core::engine<test::loopback>;
using core::instant;
using protocol::rep_machine;
using protocol::req_machine;
using protocol::request_state;

constexpr std::uint16_t port = 7000;

struct host {
    host(test::net &n, std::uint8_t number, instant now, std::uint8_t start = 0,
         std::size_t memory_max = 256u << 20)
        : engine(config(number, start, memory_max), now),
          slot(engine.add_transport(test::loopback(n, number)))
    {
    }

    static core::engine_config config(std::uint8_t number, std::uint8_t start,
                                      std::size_t memory_max)
    {
        core::engine_config c;
        c.memory_max = memory_max;
        c.seed[0] = number;
        c.seed[1] = start;
        return c;
    }

    core::socket_id req(const protocol::req_options &o = {}, const core::socket_options &s = {})
    {
        return *engine.open<protocol::req_machine>(protocol::role::req, s, o);
    }
    core::socket_id rep(const core::socket_options &s = {})
    {
        const auto id = *engine.open<protocol::rep_machine>(protocol::role::rep, s,
                                                            protocol::rep_options{}, 1u);
        EXPECT_TRUE(engine.listen(id, slot, port));
        return id;
    }
    core::endpoint_id dial(core::socket_id s, std::uint8_t to, instant now,
                           std::uint16_t to_port = port)
    {
        return *engine.dial(s, slot, test::host(to), 50000, to_port, now);
    }

    engine_type engine;
    std::size_t slot;
};

class engines : public testing::Test {
protected:
    // Lets every host work until nobody has anything to do.
    void settle()
    {
        for (bool moved = true; moved;) {
            moved = false;
            for (auto &[number, h] : hosts)
                moved = h->engine.poll(now, core::sweep::full) > 0 || moved;
        }
    }
    void pass(std::chrono::nanoseconds d)
    {
        const auto end = now + d;
        for (;;) {
            settle();
            auto next = instant::max();
            for (auto &[number, h] : hosts)
                next = std::min(next, h->engine.next_deadline());
            if (next > end)
                break;
            now = std::max(now, next);
        }
        now = end;
        settle();
    }
    // Who sends to host 2 stays alive and says no more of its message after its beginning.
    void halt_data_to_2()
    {
        net.fate = [data = 0](const sp_address &, const sp_address &to,
                              std::span<std::byte> bytes) mutable {
            const auto header = link::read<sp_header>(bytes);
            return to.bytes[3] == 2 && header.type == SP_DATA && ++data > 10 ? 0 : 1;
        };
    }
    host &add(std::uint8_t number, std::uint8_t start = 0)
    {
        hosts[number] = std::make_unique<host>(net, number, now, start);
        return *hosts[number];
    }

    protocol::context_id ask(host &h, core::socket_id s, std::string_view text)
    {
        const auto c =
            *h.engine.with<req_machine>(s, now, [](auto &m, auto &) { return m.open_context(); });
        ask(h, s, c, text);
        return c;
    }
    void ask(host &h, core::socket_id s, protocol::context_id c, std::string_view text)
    {
        auto *f = h.engine.pool().allocate(text.size());
        ASSERT_TRUE(f);
        std::ranges::copy(std::as_bytes(std::span(text)), f->data());
        const auto id = static_cast<std::uint32_t>(h.engine.random()());
        EXPECT_FALSE(h.engine.with<req_machine>(s, now, [&](auto &m, auto &out) {
            return m.on_request(c, f->id, text.size(), id, now, out);
        }));
        h.engine.finish(now);
    }
    // Answers what waits with the same bytes; returns how many.
    int echo(host &h, core::socket_id s)
    {
        int n = 0;
        while (auto t = h.engine.with<rep_machine>(
                   s, now, [](auto &m, auto &out) { return m.take(out); })) {
            auto &f = h.engine.pool()[t->frame];
            f.offset = static_cast<std::uint32_t>(t->header_bytes);
            auto *answer = h.engine.pool().allocate(f.body().size());
            std::ranges::copy(f.body(), answer->data());
            const auto reply = [&] {
                return h.engine.with<rep_machine>(s, now, [&](auto &m, auto &out) {
                    return m.reply(t->ticket, answer->id, answer->size, now, out);
                });
            };
            auto refused = reply();
            for (int i = 0; i < 1000 && refused == errc::would_block; ++i) {
                pass(100us); // a large answer before this one is still on its way
                refused = reply();
            }
            EXPECT_FALSE(refused);
            h.engine.pool().release(t->frame);
            ++n;
        }
        return n;
    }
    std::optional<std::string> answer(host &h, core::socket_id s, protocol::context_id c)
    {
        auto &m = std::get<req_machine>(h.engine.find(s)->machine);
        if (m.state(c) != request_state::ready)
            return std::nullopt;
        const auto reply = m.take_reply(c);
        auto &f = h.engine.pool()[reply.frame];
        f.offset = 4;
        std::string text(reinterpret_cast<const char *>(f.body().data()), f.body().size());
        h.engine.pool().release(reply.frame);
        return text;
    }
    void end(host &h, core::socket_id s)
    {
        (void)h.engine.close_socket(s, now);
        settle();
        EXPECT_EQ(h.engine.pool().in_use(), 0u);
    }

    instant now{1h};
    test::net net;
    std::map<std::uint8_t, std::unique_ptr<host>> hosts;
};

TEST_F(engines, carry_a_request_and_its_answer)
{
    auto &a = add(1);
    auto &b = add(2);
    const auto req = a.req(), rep = b.rep();
    a.dial(req, 2, now);
    const auto c = ask(a, req, "hello");
    settle();
    EXPECT_EQ(echo(b, rep), 1);
    settle();
    EXPECT_EQ(answer(a, req, c), "hello");
    pass(1s); // confirmations
    end(a, req);
    end(b, rep);
    EXPECT_EQ(b.engine.stats()[sp::stat::pipe_peer_closed], 1u);
}

TEST_F(engines, refuse_a_peer_of_the_wrong_protocol_and_say_which_one_they_are)
{
    auto &a = add(1);
    auto &b = add(2);
    const auto asker = a.req();
    const auto other = b.req();
    ASSERT_TRUE(b.engine.listen(other, b.slot, port));
    const auto e = a.dial(asker, 2, now);
    settle();
    const auto &failure = a.engine.find(e)->last_failure;
    ASSERT_TRUE(failure);
    EXPECT_EQ(failure->code, errc::protocol_mismatch);
    EXPECT_EQ(failure->peer_protocol, 0x30);
    EXPECT_EQ(b.engine.stats()[sp::stat::listener_peer_protocol], 1u);
    EXPECT_EQ(b.engine.find(other)->peers, 0u);
}

TEST_F(engines, refuse_a_port_that_nobody_serves)
{
    auto &a = add(1);
    add(2);
    const auto req = a.req();
    const auto e = a.dial(req, 2, now, 7001);
    settle();
    ASSERT_TRUE(a.engine.find(e)->last_failure);
    EXPECT_EQ(a.engine.find(e)->last_failure->code, errc::connection_refused);
}

TEST_F(engines, refuse_whom_the_admission_predicate_does_not_want)
{
    auto &a = add(1);
    auto &b = add(2);
    const auto req = a.req(), rep = b.rep();
    std::uint64_t seen = 0;
    b.engine.find(rep)->admit = [&](const core::candidate &c) {
        seen = c.instance;
        return false;
    };
    const auto e = a.dial(req, 2, now);
    settle();
    EXPECT_EQ(a.engine.find(e)->last_failure->code, errc::rejected);
    EXPECT_EQ(seen, a.engine.instance());
    EXPECT_EQ(b.engine.stats()[sp::stat::listener_rejected], 1u);
}

TEST_F(engines, refuse_the_pipe_after_the_last)
{
    auto &a = add(1);
    auto &b = add(2);
    const auto first = a.req(), second = a.req();
    const auto rep = b.rep({.pipes_max = 1});
    a.dial(first, 2, now);
    const auto e = a.dial(second, 2, now);
    settle();
    EXPECT_EQ(b.engine.find(rep)->peers, 1u);
    ASSERT_TRUE(a.engine.find(e)->last_failure);
    EXPECT_EQ(a.engine.find(e)->last_failure->code, errc::limit_reached);
}

TEST_F(engines, a_dialer_pauses_longer_after_every_refusal)
{
    auto &a = add(1);
    add(2);
    a.dial(a.req(), 2, now, 7001);
    std::vector<std::uint64_t> refusals;
    for (int i = 0; i < 4; ++i) {
        pass(1s);
        refusals.push_back(hosts[2]->engine.stats()[sp::stat::listener_no_listener]);
    }
    EXPECT_GE(refusals[0], 5u); // 10, 20, 40 ... ms, each drawn from its upper half
    EXPECT_LE(refusals[0], 10u);
    EXPECT_LE(refusals[3] - refusals[2], 4u); // half a second at most, from its upper half
    EXPECT_GT(refusals[3], refusals[0]); // and it never gives up
}

TEST_F(engines, a_dialer_finds_a_listener_that_comes_later)
{
    auto &a = add(1);
    const auto req = a.req();
    a.dial(req, 2, now);
    const auto c = ask(a, req, "early");
    pass(3s);
    auto &b = add(2);
    const auto rep = b.rep();
    pass(3s);
    EXPECT_EQ(echo(b, rep), 1);
    settle();
    EXPECT_EQ(answer(a, req, c), "early");
}

TEST_F(engines, an_attempt_ends_at_connect_timeout)
{
    auto &a = add(1); // and nobody else
    const auto req = a.req({}, {.connect_timeout = 300ms});
    const auto e = a.dial(req, 2, now);
    pass(299ms);
    EXPECT_FALSE(a.engine.find(e)->last_failure);
    pass(1ms);
    ASSERT_TRUE(a.engine.find(e)->last_failure);
    EXPECT_EQ(a.engine.find(e)->last_failure->code, errc::timed_out);
}

TEST_F(engines, the_systems_word_ends_an_attempt_but_not_a_connection)
{
    auto &a = add(1);
    const auto req = a.req();
    const auto e = a.dial(req, 2, now);
    a.engine.transport_at(a.slot).failures.emplace_back(test::host(2), errc::unreachable);
    settle();
    ASSERT_TRUE(a.engine.find(e)->last_failure);
    EXPECT_EQ(a.engine.find(e)->last_failure->code, errc::unreachable);

    auto &b = add(2);
    const auto rep = b.rep();
    pass(1s);
    ASSERT_EQ(b.engine.find(rep)->peers, 1u);
    a.engine.transport_at(a.slot).failures.emplace_back(test::host(2), errc::connection_refused);
    settle();
    EXPECT_EQ(a.engine.find(req)->peers, 1u);
}

TEST_F(engines, answer_every_request_once_although_packets_are_lost_doubled_and_damaged)
{
    const auto seed = std::random_device{}();
    std::printf("seed %u\n", seed);
    std::mt19937 random(seed);
    auto &a = add(1);
    auto &b = add(2);
    const auto req = a.req(), rep = b.rep();
    a.dial(req, 2, now);
    net.fate = [&](const sp_address &, const sp_address &, std::span<std::byte> bytes) {
        const auto dice = random() % 100;
        if (dice < 10)
            return 0;
        if (dice < 15)
            bytes[random() % bytes.size()] ^= std::byte{0x10};
        return dice < 25 ? 2 : 1;
    };
    constexpr int rounds = 300;
    int executed = 0, answered = 0;
    const auto c =
        *a.engine.with<req_machine>(req, now, [](auto &m, auto &) { return m.open_context(); });
    for (int i = 0; i < rounds; ++i) {
        ask(a, req, c, std::to_string(i));
        std::optional<std::string> got;
        for (int step = 0; step < 4000 && !got; ++step) {
            settle();
            executed += echo(b, rep);
            settle();
            got = answer(a, req, c);
            if (!got)
                pass(5ms);
        }
        ASSERT_TRUE(got) << "request " << i << " was never answered";
        EXPECT_EQ(*got, std::to_string(i));
        ++answered;
    }
    EXPECT_EQ(answered, rounds);
    EXPECT_EQ(executed, rounds) << "some request was executed twice";
    EXPECT_GT(a.engine.stats()[sp::stat::link_data_resent], 0u)
        << "the net was too kind to prove anything";
    EXPECT_EQ(a.engine.stats()[sp::stat::socket_failovers], 0u) << "the pipe did not hold";
    net.fate = {};
    pass(5s);
    end(a, req);
    end(b, rep);
}

TEST_F(engines, a_request_that_waited_for_its_first_peer_is_sent_again_in_time)
{
    auto &a = add(1);
    auto &b = add(2);
    const auto req = a.req({.resend_time = 1s}), rep = b.rep();
    const auto c = ask(a, req, "early");
    a.dial(req, 2, now);
    settle();
    auto taken = b.engine.with<rep_machine>(rep, now,
                                            [](auto &m, auto &out) { return m.take(out); });
    ASSERT_TRUE(taken);
    b.engine.pool().release(taken->frame);
    b.engine.with<rep_machine>(rep, now, [&](auto &m, auto &out) {
        m.abandon(taken->ticket, out); // nobody will answer this one
        return true;
    });
    pass(1100ms);
    EXPECT_EQ(a.engine.stats()[sp::stat::socket_resends], 1u);
    EXPECT_EQ(echo(b, rep), 1);
    settle();
    EXPECT_EQ(answer(a, req, c), "early");
}

TEST_F(engines, a_restarted_peer_is_noticed_long_before_the_keep_alive)
{
    auto &a = add(1);
    const auto req = a.req();
    {
        auto &b = add(2);
        (void)b.rep();
        a.dial(req, 2, now);
        settle();
        ASSERT_EQ(a.engine.find(req)->peers, 1u);
    }
    auto &b = add(2, 1); // the same host started again: another instance, no memory
    const auto rep = b.rep();
    const auto c = ask(a, req, "to the dead one");
    pass(150ms);
    EXPECT_EQ(a.engine.stats()[sp::stat::pipe_stale], 1u);
    EXPECT_EQ(echo(b, rep), 1);
    settle();
    EXPECT_EQ(answer(a, req, c), "to the dead one");
}

TEST_F(engines, a_silent_peer_is_dead_after_a_second)
{
    auto &a = add(1);
    const auto req = a.req();
    add(2).rep();
    a.dial(req, 2, now);
    pass(1s);
    ASSERT_EQ(a.engine.find(req)->peers, 1u);
    net.fate = [](auto &&...) { return 0; };
    pass(1300ms); // the last word may be 250 ms old
    EXPECT_EQ(a.engine.find(req)->peers, 0u);
    EXPECT_EQ(a.engine.stats()[sp::stat::pipe_peer_dead], 1u);
}

TEST_F(engines, a_replayed_handshake_makes_no_second_pipe)
{
    auto &a = add(1);
    auto &b = add(2);
    const auto req = a.req(), rep = b.rep();
    std::vector<std::pair<sp_address, std::vector<std::byte>>> recorded;
    net.fate = [&](const sp_address &from, const sp_address &to, std::span<std::byte> bytes) {
        if (to.bytes[3] == 2)
            recorded.emplace_back(from, std::vector(bytes.begin(), bytes.end()));
        return 1;
    };
    a.dial(req, 2, now);
    const auto c = ask(a, req, "once");
    settle();
    net.fate = {};
    for (int round = 0; round < 3; ++round)
        for (const auto &[from, bytes] : recorded)
            net.inboxes[2].push_back({from, bytes});
    settle();
    EXPECT_EQ(b.engine.find(rep)->peers, 1u);
    EXPECT_EQ(echo(b, rep), 1);
    settle();
    EXPECT_EQ(answer(a, req, c), "once");
    EXPECT_GT(b.engine.stats()[sp::stat::link_duplicate], 0u);

    pass(3min); // the secrets have turned: the recording is worthless
    for (const auto &[from, bytes] : recorded)
        net.inboxes[2].push_back({from, bytes});
    settle();
    EXPECT_EQ(b.engine.find(rep)->peers, 1u);
}

TEST_F(engines, strangers_cost_no_memory)
{
    auto &b = add(2);
    const auto rep = b.rep();
    std::uint64_t answers = 0;
    net.fate = [&](const sp_address &from, const sp_address &, std::span<std::byte>) {
        answers += from.bytes[3] == 2;
        return 0;
    };
    sp_probe probe{};
    probe.header.version = SP_WIRE_VERSION;
    probe.header.type = SP_PROBE;
    probe.header.dport = link::be16(port);
    probe.identity.version_min = probe.identity.version_max = SP_WIRE_VERSION_NUMBER;
    probe.identity.instance = 1;
    const auto memory = b.engine.pool().memory();
    for (std::uint32_t i = 1; i <= 20'000; ++i) {
        probe.identity.scid = link::be64(i);
        auto bytes = std::as_writable_bytes(std::span(&probe, 1));
        link::finish(bytes);
        auto from = test::host(static_cast<std::uint8_t>(i));
        from.bytes[2] = static_cast<std::uint8_t>(i >> 8);
        net.inboxes[2].push_back({from, {bytes.begin(), bytes.end()}});
    }
    settle();
    EXPECT_EQ(b.engine.find(rep)->peers, 0u);
    EXPECT_EQ(b.engine.pool().memory(), memory);
    EXPECT_EQ(answers, 5000u); // what one second's budget allows
    EXPECT_EQ(b.engine.stats()[sp::stat::link_handshake_budget], 15'000u);
}

TEST_F(engines, count_and_survive_whatever_comes)
{
    const auto seed = std::random_device{}();
    std::printf("seed %u\n", seed);
    std::mt19937 random(seed);
    auto &a = add(1);
    auto &b = add(2);
    const auto req = a.req(), rep = b.rep();
    std::vector<std::vector<std::byte>> recorded;
    net.fate = [&](const sp_address &, const sp_address &to, std::span<std::byte> bytes) {
        if (to.bytes[3] == 2)
            recorded.emplace_back(bytes.begin(), bytes.end());
        return 1;
    };
    a.dial(req, 2, now);
    (void)ask(a, req, "material");
    settle();
    net.fate = {};
    for (int i = 0; i < 20'000; ++i) {
        auto bytes = recorded[random() % recorded.size()];
        for (auto n = random() % 4; n > 0; --n)
            bytes[random() % bytes.size()] = static_cast<std::byte>(random());
        if (random() % 4 == 0)
            bytes.resize(SP_OVERHEAD + random() % (bytes.size() - SP_OVERHEAD + 1));
        if (random() % 2 == 0)
            link::finish(bytes);
        if (sp_check_packet(bytes.data(), bytes.data() + bytes.size(),
                            static_cast<__u32>(bytes.size())) == SP_SHAPE_SP)
            net.inboxes[2].push_back({test::host(1), bytes});
        if (i % 100 == 0)
            settle();
    }
    settle();
    echo(b, rep);
    pass(2s);
    const auto c = ask(a, req, "still there");
    for (int i = 0; i < 100 && std::get<req_machine>(a.engine.find(req)->machine).state(c) !=
                                   request_state::ready;
         ++i) {
        pass(100ms);
        echo(b, rep);
    }
    EXPECT_EQ(answer(a, req, c), "still there");
}

TEST_F(engines, a_transport_without_room_holds_messages_back_and_loses_none)
{
    auto &a = add(1);
    auto &b = add(2);
    const auto req = a.req(), rep = b.rep();
    a.dial(req, 2, now);
    settle();
    a.engine.transport_at(a.slot).full = true;
    const auto c = ask(a, req, "patience");
    settle();
    EXPECT_EQ(echo(b, rep), 0);
    EXPECT_FALSE(a.engine.drained(req));
    a.engine.transport_at(a.slot).full = false;
    settle();
    EXPECT_EQ(echo(b, rep), 1);
    settle();
    EXPECT_EQ(answer(a, req, c), "patience");
    EXPECT_TRUE(a.engine.drained(req));
}

TEST_F(engines, a_message_of_every_size_arrives_whole)
{
    auto &a = add(1);
    auto &b = add(2);
    const auto req = a.req(), rep = b.rep();
    a.dial(req, 2, now);
    settle();
    const auto c =
        *a.engine.with<req_machine>(req, now, [](auto &m, auto &) { return m.open_context(); });
    const std::size_t largest = (1u << 20) - 4; // beside the request id
    std::vector<std::size_t> sizes{1415, 1416, 1417, 1418, 2824, 100'000, largest};
    for (std::size_t size = 0; size <= 1416; size += size < 80 ? 1 : 167)
        sizes.push_back(size);
    for (const auto size : sizes) {
        std::string text(size, '\0');
        for (std::size_t i = 0; i < size; ++i)
            text[i] = static_cast<char>(i * 31 + i / 251);
        ask(a, req, c, text);
        int executed = 0;
        for (int step = 0; step < 100 && executed == 0; ++step) {
            pass(1ms);
            executed = echo(b, rep);
        }
        EXPECT_EQ(executed, 1);
        pass(20ms);
        EXPECT_TRUE(answer(a, req, c) == text) << size;
    }
    auto *f = a.engine.pool().allocate(largest + 1);
    EXPECT_EQ(a.engine.with<req_machine>(req, now,
                                         [&](auto &m, auto &out) {
                                             return m.on_request(c, f->id, largest + 1, 1, now,
                                                                 out);
                                         }),
              errc::message_too_large);
    a.engine.pool().release(f->id);
    end(a, req);
    end(b, rep);
}

// Requests of 100 KB each, more than a pipe may have put together and not taken.
TEST_F(engines, large_messages_wait_for_room_and_none_is_lost)
{
    auto &a = add(1);
    hosts[2] =
        std::make_unique<host>(net, std::uint8_t{2}, now, std::uint8_t{0}, std::size_t{4} << 20);
    auto &b = *hosts[2];
    const auto req = a.req(), rep = b.rep();
    a.dial(req, 2, now);
    settle();
    std::vector<protocol::context_id> asked;
    for (int i = 0; i < 30; ++i)
        asked.push_back(ask(a, req, std::string(100'000, static_cast<char>('a' + i % 26))));
    pass(100ms);
    EXPECT_GT(b.engine.stats()[sp::stat::link_held], 0u) << "there was room enough";
    EXPECT_LE(b.engine.pool().memory(), std::size_t{4} << 20);
    int executed = 0;
    for (int step = 0; step < 1000 && executed < 30; ++step) {
        executed += echo(b, rep);
        pass(2ms);
    }
    EXPECT_EQ(executed, 30);
    pass(1s);
    for (std::size_t i = 0; i < asked.size(); ++i)
        EXPECT_TRUE(answer(a, req, asked[i]) ==
                    std::string(100'000, static_cast<char>('a' + i % 26)));
    EXPECT_EQ(b.engine.stats()[sp::stat::socket_memory], 0u);
    end(a, req);
    end(b, rep);
}

// Many peers begin a message of the largest size and stop: no more is held than the budget, and who
// sends small ones does not notice.
TEST_F(engines, no_number_of_begun_messages_takes_more_memory_than_the_budget)
{
    auto &a = add(1);
    auto &b = add(2);
    const auto rep = b.rep();
    constexpr int peers = 40;
    std::map<std::uint64_t, int> data;
    net.fate = [&](const sp_address &, const sp_address &to, std::span<std::byte> bytes) {
        const auto header = link::read<sp_header>(bytes);
        return to.bytes[3] == 2 && header.type == SP_DATA && ++data[header.dcid] > 3 ? 0 : 1;
    };
    std::vector<core::socket_id> reqs;
    for (int i = 0; i < peers; ++i) {
        reqs.push_back(a.req());
        a.dial(reqs.back(), 2, now);
        settle();
        (void)ask(a, reqs.back(), std::string(900'000, 'x'));
        pass(1ms);
        EXPECT_LE(b.engine.pool().memory(), (16u << 20) + (1u << 20)) << i;
    }
    EXPECT_EQ(b.engine.find(rep)->peers, unsigned{peers});
    EXPECT_GT(b.engine.stats()[sp::stat::link_held], 0u);
    auto &c = add(3);
    const auto small = c.req();
    net.fate = {};
    c.dial(small, 2, now);
    settle();
    const auto asked = ask(c, small, "small");
    settle();
    EXPECT_EQ(echo(b, rep), 1);
    settle();
    EXPECT_EQ(answer(c, small, asked), "small");
    net.fate = [](const sp_address &, const sp_address &, std::span<std::byte>) { return 0; };
    for (const auto req : reqs)
        (void)a.engine.close_socket(req, now);
    settle();
    EXPECT_EQ(a.engine.pool().in_use(), 0u);
    end(b, rep);
}

TEST_F(engines, a_large_message_that_comes_to_a_halt_gives_its_memory_back)
{
    auto &a = add(1);
    auto &b = add(2);
    const auto req = a.req(), rep = b.rep();
    a.dial(req, 2, now);
    settle();
    halt_data_to_2();
    (void)ask(a, req, std::string(500'000, 'x'));
    pass(4900ms);
    EXPECT_EQ(b.engine.find(rep)->peers, 1u);
    EXPECT_EQ(b.engine.pool().in_use(), 1u);
    pass(300ms);
    EXPECT_EQ(b.engine.stats()[sp::stat::pipe_stalled], 1u);
    EXPECT_EQ(b.engine.stats()[sp::stat::pipe_rx_partial], 1u);
    EXPECT_EQ(b.engine.stats()[sp::stat::pipe_bad_frame], 0u);
    net.fate = [](const sp_address &, const sp_address &, std::span<std::byte>) { return 0; };
    end(a, req);
    end(b, rep);
}

TEST_F(engines, a_stop_of_its_own_ends_no_message_that_was_on_its_way)
{
    auto &a = add(1);
    auto &b = add(2);
    const auto req = a.req({}, {.peer_timeout = 1h}), rep = b.rep();
    a.dial(req, 2, now);
    settle();
    halt_data_to_2();
    const auto asked = ask(a, req, std::string(500'000, 'x'));
    settle();
    now += 10s; // SIGSTOP, a debugger, a virtual machine that is moved
    b.engine.poll(now, core::sweep::full);
    settle();
    net.fate = {};
    pass(2s);
    EXPECT_EQ(b.engine.stats()[sp::stat::pipe_stalled], 0u);
    EXPECT_EQ(echo(b, rep), 1);
    pass(1s);
    EXPECT_TRUE(answer(a, req, asked) == std::string(500'000, 'x'));
    end(a, req);
    end(b, rep);
}

TEST_F(engines, an_opening_that_is_played_again_makes_no_pipe)
{
    auto &a = add(1);
    auto &b = add(2);
    const auto req = a.req(), rep = b.rep();
    std::vector<std::byte> opening;
    net.fate = [&](const sp_address &, const sp_address &to, std::span<std::byte> bytes) {
        if (to.bytes[3] == 2 && link::read<sp_header>(bytes).type == SP_INIT)
            opening.assign(bytes.begin(), bytes.end());
        return 1;
    };
    a.dial(req, 2, now);
    settle();
    ASSERT_EQ(b.engine.find(rep)->peers, 1u);
    end(a, req);
    settle();
    ASSERT_EQ(b.engine.find(rep)->peers, 0u);
    net.carry(test::host(1), test::host(2), opening); // its cookie is good for a minute more
    for (int i = 0; i < 40; ++i) {
        pass(100ms);
        EXPECT_EQ(b.engine.find(rep)->peers, 0u);
    }
    int left = 0;
    b.engine.each_pipe(rep, [&](auto, auto &) { ++left; });
    EXPECT_EQ(left, 0);
    end(b, rep);
}

TEST_F(engines, a_new_start_at_the_same_place_ends_the_pipe_of_the_one_before)
{
    auto &a = add(1);
    auto &b = add(2);
    const auto rep = b.rep({.peer_timeout = 1h});
    a.dial(a.req(), 2, now);
    settle();
    ASSERT_EQ(b.engine.find(rep)->peers, 1u);
    hosts[1].reset(); // it dies without a word
    net.inboxes[1].clear();
    auto &again = add(1, 1);
    again.dial(again.req(), 2, now);
    settle();
    EXPECT_EQ(b.engine.find(rep)->peers, 1u);
    EXPECT_EQ(b.engine.stats()[sp::stat::pipe_stale], 1u);
}

TEST_F(engines, closing_an_endpoint_ends_its_pipes_and_the_dialer_elsewhere_comes_back_later)
{
    auto &a = add(1);
    auto &b = add(2);
    const auto req = a.req();
    const auto rep =
        *b.engine.open<protocol::rep_machine>(protocol::role::rep, {}, protocol::rep_options{}, 1u);
    auto listener = *b.engine.listen(rep, b.slot, port);
    a.dial(req, 2, now);
    settle();
    ASSERT_EQ(a.engine.find(req)->peers, 1u);
    b.engine.close_endpoint(listener, now);
    settle();
    EXPECT_EQ(a.engine.find(req)->peers, 0u);
    EXPECT_EQ(b.engine.find(rep)->peers, 0u);
    listener = *b.engine.listen(rep, b.slot, port);
    pass(3s);
    EXPECT_EQ(a.engine.find(req)->peers, 1u);
}

} // namespace
