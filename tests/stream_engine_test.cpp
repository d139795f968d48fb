// SPDX-License-Identifier: BSD-2-Clause
//
// The engine over byte streams, with a test that plays every peer byte for byte: hello, frames in
// any pieces, back pressure, bad input, the books at the end. Time is a variable.
#include "tests/support/bytes.hpp"
#include "tests/support/loopback.hpp"
#include "userspace/engine/engine.hpp"

#include <gtest/gtest.h>
#include <random>
#include <string>

namespace {

using namespace sp;
using namespace std::chrono_literals;
using protocol::rep_machine;
using protocol::req_machine;
using engine_type = core::engine<test::loopback, test::byte_loopback>;

std::vector<std::byte> bytes_of(std::string_view text)
{
    const auto view = std::as_bytes(std::span(text));
    return {view.begin(), view.end()};
}

std::vector<std::byte> hello(std::uint16_t protocol)
{
    const auto h = stream::make_hello(protocol);
    return {h.begin(), h.end()};
}

std::vector<std::byte> frame(std::string_view body)
{
    const auto head = stream::make_head(body.size(), stream::framing::ipc);
    std::vector<std::byte> all(head.view().begin(), head.view().end());
    const auto tail = bytes_of(body);
    all.insert(all.end(), tail.begin(), tail.end());
    return all;
}

std::string request(std::uint32_t id, std::string_view body)
{
    std::string text;
    for (int shift = 24; shift >= 0; shift -= 8)
        text.push_back(static_cast<char>(id >> shift & 0xff));
    return text.append(body);
}

class stream_engine : public testing::Test {
protected:
    core::socket_id rep(const core::socket_options &options = {})
    {
        const auto id =
            *engine.open<rep_machine>(protocol::role::rep, options, protocol::rep_options{}, 7u);
        endpoint = *engine.listen(id, door);
        return id;
    }
    core::socket_id req(const core::socket_options &options = {})
    {
        const auto id =
            *engine.open<req_machine>(protocol::role::req, options, protocol::req_options{});
        endpoint = *engine.dial(id, door, now);
        return id;
    }
    void turn()
    {
        for (int i = 0; i < 20; ++i)
            engine.poll(now, core::sweep::full);
    }
    stream_id greeted(std::uint16_t protocol = 0x30)
    {
        const auto s = net.accept(door);
        net.give(s, hello(protocol));
        turn();
        EXPECT_EQ(net.take(s), hello(0x31));
        return s;
    }
    std::optional<std::string> serve(core::socket_id id, std::string_view answer)
    {
        const auto t =
            engine.with<rep_machine>(id, now, [](auto &m, auto &o) { return m.take(o); });
        if (!t)
            return std::nullopt;
        auto &f = engine.pool()[t->frame];
        const auto body = f.bytes().subspan(t->header_bytes);
        std::string text(reinterpret_cast<const char *>(body.data()), body.size());
        engine.pool().release(t->frame);
        engine.count(*engine.find(id), sp::stat::socket_delivered);
        auto *reply = engine.pool().allocate(answer.size());
        std::memcpy(reply->data(), answer.data(), answer.size());
        const auto refused = engine.with<rep_machine>(id, now, [&](auto &m, auto &o) {
            return m.reply(t->ticket, reply->id, answer.size(), now, o);
        });
        EXPECT_FALSE(refused);
        engine.finish(now);
        turn();
        return text;
    }
    std::uint64_t counted(sp::stat which) { return engine.stats()[which]; }

    static constexpr auto door = static_cast<place_id>(5);
    core::instant now{1000s};
    test::byte_net net;
    engine_type engine{{}, now, test::byte_loopback(net)};
    core::endpoint_id endpoint{};
};

TEST_F(stream_engine, answers_a_request_with_the_same_words)
{
    const auto id = rep();
    const auto s = greeted();
    net.give(s, frame(request(0x80001234, "ping")));
    turn();
    EXPECT_EQ(serve(id, "pong"), "ping");
    EXPECT_EQ(net.take(s), frame(request(0x80001234, "pong")));
    EXPECT_EQ(counted(sp::stat::socket_received), 1u);
    EXPECT_EQ(counted(sp::stat::socket_sent), 1u);
}

TEST_F(stream_engine, says_hello_before_the_peer_does)
{
    rep();
    const auto s = net.accept(door);
    turn();
    EXPECT_EQ(net.take(s), hello(0x31));
}

TEST_F(stream_engine, takes_bytes_in_any_pieces)
{
    const auto id = rep();
    const auto s = net.accept(door);
    auto all = hello(0x30);
    for (int i = 0; i < 3; ++i) {
        const auto f = frame(request(0x80000001u + static_cast<unsigned>(i), "piecemeal"));
        all.insert(all.end(), f.begin(), f.end());
    }
    int served = 0;
    for (const auto b : all) {
        net.give(s, std::span(&b, 1));
        turn();
        while (serve(id, "ok"))
            ++served;
    }
    EXPECT_EQ(served, 3);
}

TEST_F(stream_engine, reads_one_request_ahead_and_leaves_the_rest_to_the_peer)
{
    const auto id = rep();
    const auto s = greeted();
    for (unsigned i = 0; i < 5000; ++i)
        net.give(s, frame(request(0x80000000u + i, "x")));
    turn();
    EXPECT_EQ(counted(sp::stat::socket_received), 1u);
    const auto waiting = net.ends[s].in.size();
    EXPECT_GT(waiting, 0u);
    turn();
    EXPECT_EQ(net.ends[s].in.size(), waiting);
    for (int i = 0; i < 5000; ++i)
        ASSERT_TRUE(serve(id, "y")) << i;
    EXPECT_EQ(counted(sp::stat::socket_delivered), 5000u);
}

TEST_F(stream_engine, grows_a_buffer_as_bytes_come_and_not_as_announced)
{
    rep({.message_max = 64u << 20});
    const auto s = greeted();
    const auto before = engine.pool().memory();
    const auto head = stream::make_head(60u << 20, stream::framing::ipc);
    net.give(s, head.view());
    net.give(s, bytes_of("only this"));
    turn();
    EXPECT_LE(engine.pool().memory(), before + (1u << 20));
}

TEST_F(stream_engine, brings_a_large_message_whole)
{
    const auto id = rep({.message_max = 64u << 20});
    const auto s = greeted();
    std::string body(40u << 20, 'a');
    for (std::size_t i = 0; i < body.size(); ++i)
        body[i] = static_cast<char>(i * 31 >> 7);
    net.ends[s].read_max = 50'000;
    net.give(s, frame(request(0x80000001, body)));
    for (int i = 0; i < 400; ++i)
        turn();
    const auto got = serve(id, body);
    ASSERT_TRUE(got);
    EXPECT_TRUE(*got == body);
    EXPECT_TRUE(net.take(s) == frame(request(0x80000001, body)));
}

TEST_F(stream_engine, finishes_a_message_that_the_kernel_took_in_parts)
{
    const auto id = rep();
    const auto s = greeted();
    net.give(s, frame(request(0x80000001, "q")));
    turn();
    net.ends[s].write_max = 5;
    EXPECT_TRUE(serve(id, "a longer answer"));
    std::vector<std::byte> all;
    for (int i = 0; i < 20; ++i) {
        const auto part = net.take(s);
        all.insert(all.end(), part.begin(), part.end());
        turn();
    }
    EXPECT_EQ(all, frame(request(0x80000001, "a longer answer")));
}

struct bad_start {
    const char *what;
    std::vector<std::byte> bytes;
    sp::stat why;
};

TEST_F(stream_engine, closes_a_bad_hello_and_harms_nobody_else)
{
    const auto id = rep();
    const auto good = greeted();
    const std::vector<bad_start> table{
        {"magic", bytes_of("GET / HTTP"), sp::stat::listener_bad_hello},
        {"version",
         {std::byte{0}, std::byte{'S'}, std::byte{'P'}, std::byte{1}},
         sp::stat::listener_bad_hello},
        {"protocol", hello(0x50), sp::stat::listener_peer_protocol},
    };
    for (const auto &row : table) {
        const auto before = counted(row.why);
        const auto s = net.accept(door);
        net.give(s, row.bytes);
        turn();
        EXPECT_TRUE(net.ends[s].closed) << row.what;
        EXPECT_EQ(counted(row.why), before + 1) << row.what;
    }
    auto reserved = hello(0x30);
    reserved[7] = std::byte{1};
    const auto s = net.accept(door);
    net.give(s, reserved);
    turn();
    EXPECT_TRUE(net.ends[s].closed);
    net.give(good, frame(request(0x80000001, "still here")));
    turn();
    EXPECT_EQ(serve(id, "yes"), "still here");
    EXPECT_EQ(engine.find(id)->peers, 1u);
    EXPECT_EQ(engine.find(endpoint)->half_open, 0u);
}

TEST_F(stream_engine, closes_a_bad_frame)
{
    rep({.message_max = 100});
    const auto with_head = [&](std::vector<std::byte> head) {
        const auto s = greeted();
        net.give(s, head);
        turn();
        return net.ends[s].closed;
    };
    for (const auto type : {0, 2, 0xff})
        EXPECT_TRUE(with_head({static_cast<std::byte>(type)})) << type;
    EXPECT_EQ(counted(sp::stat::pipe_bad_frame), 3u);
    for (const auto top : {0x10, 0x80}) {
        std::vector<std::byte> head(9);
        head[0] = std::byte{1};
        head[1] = static_cast<std::byte>(top);
        EXPECT_TRUE(with_head(head)) << top;
    }
    EXPECT_EQ(counted(sp::stat::pipe_bad_frame), 5u);
    const auto big = stream::make_head(101, stream::framing::ipc);
    EXPECT_TRUE(with_head({big.view().begin(), big.view().end()}));
    EXPECT_EQ(counted(sp::stat::pipe_too_large), 1u);
    const auto fits = stream::make_head(100, stream::framing::ipc);
    EXPECT_FALSE(with_head({fits.view().begin(), fits.view().end()}));
}

TEST_F(stream_engine, ends_a_peer_that_says_nothing)
{
    rep({.hello_timeout = 3s});
    const auto s = net.accept(door);
    turn();
    now += 2900ms;
    turn();
    EXPECT_FALSE(net.ends[s].closed);
    now += 200ms;
    turn();
    EXPECT_TRUE(net.ends[s].closed);
    EXPECT_EQ(counted(sp::stat::listener_hello_timeout), 1u);
}

TEST_F(stream_engine, lets_the_oldest_unfinished_hello_go)
{
    rep({.half_open_max = 3});
    std::vector<stream_id> silent;
    for (int i = 0; i < 5; ++i) {
        silent.push_back(net.accept(door));
        now += 1ms;
        turn();
    }
    EXPECT_TRUE(net.ends[silent[0]].closed);
    EXPECT_TRUE(net.ends[silent[1]].closed);
    EXPECT_FALSE(net.ends[silent[4]].closed);
    EXPECT_EQ(counted(sp::stat::listener_half_open), 2u);
}

TEST_F(stream_engine, counts_a_message_that_was_cut_by_the_peer)
{
    rep();
    const auto s = greeted();
    auto f = frame(request(0x80000001, "half of this"));
    f.resize(12);
    net.give(s, f);
    turn();
    net.end(s);
    turn();
    EXPECT_TRUE(net.ends[s].closed);
    EXPECT_EQ(counted(sp::stat::pipe_rx_partial), 1u);
    EXPECT_EQ(counted(sp::stat::pipe_peer_closed), 1u);
    EXPECT_EQ(engine.pool().in_use(), 0u);
}

TEST_F(stream_engine, dials_again_with_growing_pauses_also_after_refusals)
{
    req();
    std::vector<std::chrono::nanoseconds> pauses;
    auto last = now;
    for (int i = 0; i < 8; ++i) {
        ASSERT_EQ(net.dialed.size(), static_cast<std::size_t>(i) + 1);
        const auto s = net.dialed.back().second;
        net.connect(s);
        turn();
        net.give(s, hello(0x20)); // a publisher
        turn();
        ASSERT_TRUE(net.ends[s].closed);
        ASSERT_TRUE(engine.find(endpoint)->last_failure);
        EXPECT_EQ(engine.find(endpoint)->last_failure->code, errc::protocol_mismatch);
        EXPECT_EQ(engine.find(endpoint)->last_failure->peer_protocol, 0x20);
        while (net.dialed.size() == static_cast<std::size_t>(i) + 1) {
            now = std::max(now, engine.next_deadline());
            turn();
        }
        pauses.push_back(now - last);
        last = now;
    }
    EXPECT_GE(pauses[0], 50ms);
    EXPECT_LE(pauses[0], 100ms);
    EXPECT_GE(pauses[5], 1600ms);
    EXPECT_LE(pauses[7], 10s);
}

TEST_F(stream_engine, tells_a_dialer_that_was_closed_after_the_hello)
{
    req();
    const auto s = net.dialed.back().second;
    net.connect(s);
    net.give(s, hello(0x31));
    turn();
    EXPECT_TRUE(engine.find(endpoint)->connected);
    net.end(s);
    turn();
    ASSERT_TRUE(engine.find(endpoint)->last_failure);
    EXPECT_EQ(engine.find(endpoint)->last_failure->code, errc::connection_reset);
    EXPECT_NE(engine.find(endpoint)->last_failure->text.find("after the hello"), std::string::npos);
}

TEST_F(stream_engine, waits_for_memory_and_loses_nothing)
{
    engine_type small{{.memory_max = 1 << 20}, now, test::byte_loopback(net)};
    const auto id = *small.open<rep_machine>(protocol::role::rep, {}, protocol::rep_options{}, 7u);
    (void)*small.listen(id, door);
    const auto s = net.accept(door);
    net.give(s, hello(0x30));
    std::vector<core::frame *> hoard;
    while (auto *f = small.pool().allocate(60'000))
        hoard.push_back(f);
    net.give(s, frame(request(0x80000001, std::string(50'000, 'z'))));
    for (int i = 0; i < 50; ++i)
        small.poll(now, core::sweep::full);
    EXPECT_EQ(small.stats()[sp::stat::socket_received], 0u);
    EXPECT_FALSE(net.ends[s].closed);
    EXPECT_LE(small.next_deadline(), now + 1ms);
    for (auto *f : hoard)
        small.pool().release(f->id);
    for (int i = 0; i < 50; ++i)
        small.poll(now, core::sweep::full);
    EXPECT_EQ(small.stats()[sp::stat::socket_received], 1u);
}

TEST_F(stream_engine, survives_whatever_bytes_come)
{
    const auto seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 chance(seed);
    const auto id = rep({.message_max = 4096});
    for (int round = 0; round < 400; ++round) {
        const auto s = net.accept(door);
        auto script = hello(0x30);
        for (int i = 0; i < 4; ++i) {
            const auto f = frame(request(0x80000000u | static_cast<std::uint32_t>(chance()),
                                         std::string(chance() % 300, 'f')));
            script.insert(script.end(), f.begin(), f.end());
        }
        for (auto n = chance() % 6; n > 0; --n)
            script[chance() % script.size()] = static_cast<std::byte>(chance());
        for (std::size_t at = 0; at < script.size();) {
            const auto n = std::min<std::size_t>(1 + chance() % 90, script.size() - at);
            net.give(s, std::span(script).subspan(at, n));
            at += n;
            engine.poll(now, core::sweep::full);
            while (serve(id, "r")) {
            }
        }
        net.end(s);
        turn();
        while (serve(id, "r")) {
        }
        turn();
        EXPECT_TRUE(net.ends[s].closed);
        net.ends.erase(s);
    }
    EXPECT_EQ(engine.find(id)->peers, 0u);
    EXPECT_EQ(engine.pool().in_use(), 0u);
    const auto &b = engine.find(id)->books;
    EXPECT_EQ(b[sp::stat::socket_received], b[sp::stat::socket_delivered] +
                                                b[sp::stat::socket_ttl] +
                                                b[sp::stat::pipe_bad_header]);
}

} // namespace
