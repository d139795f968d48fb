// SPDX-License-Identifier: BSD-2-Clause
//
// Conformance on byte streams, scenarios F1 to F10: hellos and frames, as NNG and its relatives
// speak them. Each name begins with the scenario it plays.
#include "tests/interop/scene.hpp"

#include <algorithm>

namespace sp::test {
namespace {

using stream_scenario = scene;

TEST_F(stream_scenario, f1_a_listener_says_its_eight_bytes_without_waiting)
{
    for (const auto &role : all_roles) {
        SCOPED_TRACE(role.name);
        const auto url = ipc();
        auto s = role.open(at({.listen = url}));
        auto peer = byte_peer::dial(url);
        const auto came = peer.receive(8);
        EXPECT_EQ(came, wire::hello(role.own));
        EXPECT_EQ(came.substr(0, 4), std::string("\0SP\0", 4));
        EXPECT_EQ(s.peers(), 0u) << "a pipe without a hello";
        peer.send(wire::hello(role.peer));
        must(s.wait_peers(1, patience));
        EXPECT_TRUE(peer.silent()) << "something behind the hello";
        expect_balance(s);
    }
}

TEST_F(stream_scenario, f2_a_dialer_says_its_eight_bytes_and_waits_for_those_of_the_listener)
{
    byte_door door(ipc("door"));
    for (const auto &role : all_roles) {
        SCOPED_TRACE(role.name);
        auto s = role.open(at());
        auto dialed = std::async(std::launch::async, [&] { return s.dial(ipc("door"), patience); });
        auto peer = door.accept();
        EXPECT_EQ(peer.receive(8), wire::hello(role.own));
        EXPECT_EQ(s.peers(), 0u);
        peer.send(wire::hello(role.peer));
        EXPECT_TRUE(dialed.get());
        EXPECT_EQ(s.peers(), 1u);
        EXPECT_TRUE(peer.silent());
        expect_balance(s);
    }
}

TEST_F(stream_scenario, f2_a_dial_does_not_succeed_before_the_listener_has_said_hello)
{
    byte_door door(ipc("door"));
    auto s = must(sp::req::open(at()));
    const auto impatient = s.dial(ipc("door"), 30ms);
    ASSERT_FALSE(impatient);
    EXPECT_EQ(impatient.error(), errc::timed_out);
    auto peer = door.accept();
    EXPECT_EQ(peer.receive(8), wire::hello(req_number));
    EXPECT_TRUE(peer.ended()) << "nothing goes on in the background";
    expect_balance(s);
}

TEST_F(stream_scenario, f3_a_hello_in_single_bytes_is_accepted)
{
    for (const auto &role : all_roles) {
        SCOPED_TRACE(role.name);
        const auto url = ipc();
        auto s = role.open(at({.listen = url}));
        auto peer = byte_peer::dial(url);
        peer.send_in_pieces(wire::hello(role.peer), 1);
        must(s.wait_peers(1, patience));
        EXPECT_EQ(peer.receive(8), wire::hello(role.own));
        expect_balance(s);
    }
}

TEST_F(stream_scenario, f3_a_hello_in_single_bytes_is_accepted_by_a_dialer)
{
    byte_door door(ipc("door"));
    auto s = must(sp::sub::open(at()));
    auto dialed = std::async(std::launch::async, [&] { return s.dial(ipc("door"), patience); });
    auto peer = door.accept();
    peer.send_in_pieces(wire::hello(pub_number), 1);
    EXPECT_TRUE(dialed.get());
    expect_balance(s);
}

TEST_F(stream_scenario, f4_another_protocol_is_closed_without_a_frame_and_counted_with_its_number)
{
    for (const auto &role : all_roles) {
        SCOPED_TRACE(role.name);
        const auto url = ipc();
        auto s = role.open(at({.listen = url}));
        std::uint64_t refused = 0;
        for (const unsigned number : {0x00, 0x10, 0x11, 0x20, 0x21, 0x30, 0x31, 0x50, 0x51, 0x62,
                                      0x63, 0x70, 0x0640, 0xf000, 0xffff}) {
            const auto wrong = static_cast<std::uint16_t>(number);
            if (wrong == role.peer)
                continue;
            auto peer = byte_peer::dial(url);
            (void)peer.try_send(wire::hello(wrong) + wire::frame("too soon"));
            EXPECT_EQ(peer.receive_all(), wire::hello(role.own)) << "number " << wrong;
            const auto event = must(s.next_event(patience));
            EXPECT_EQ(event.what, pipe_event::kind::refused);
            EXPECT_EQ(event.reason, "peer_protocol");
            EXPECT_EQ(event.info.protocol, wrong);
            EXPECT_EQ(s.statistics()[stat::listener_peer_protocol], ++refused);
        }
        EXPECT_EQ(s.peers(), 0u);
        expect_balance(s);
        auto good = joined(s, role.peer, role.own);
    }
}

TEST_F(stream_scenario, f4_what_waits_to_be_sent_does_not_go_to_another_protocol)
{
    auto push = open<sp::push>({.send_queue_bytes = 1000});
    must(push.send("for a worker", 0s));
    auto wrong = byte_peer::dial(ipc());
    wrong.send(wire::hello(sub_number));
    EXPECT_EQ(wrong.receive_all(), wire::hello(push_number));
    auto worker = joined(push);
    EXPECT_EQ(worker.receive_frame(), "for a worker");
    expect_balance(push);
}

TEST_F(stream_scenario, f5_dialing_another_protocol_is_told_by_dial)
{
    byte_door door(ipc("door"));
    for (const auto &role : all_roles) {
        SCOPED_TRACE(role.name);
        const std::uint16_t wrong = role.peer == rep_number ? sub_number : rep_number;
        auto s = role.open(at());
        auto dialed = std::async(std::launch::async, [&] { return s.dial(ipc("door"), patience); });
        auto peer = door.accept();
        EXPECT_EQ(peer.receive(8), wire::hello(role.own));
        peer.send(wire::hello(wrong));
        const auto outcome = dialed.get();
        ASSERT_FALSE(outcome);
        EXPECT_EQ(outcome.error(), errc::protocol_mismatch);
        EXPECT_TRUE(peer.ended());
        EXPECT_EQ(s.peers(), 0u);
        expect_balance(s);
    }
    EXPECT_TRUE(door.nobody_waits()) << "nothing goes on after a dial that failed";
}

TEST_F(stream_scenario, f5_the_pauses_of_a_dialer_grow_while_it_is_refused)
{
    byte_door door(ipc("door"));
    auto s = must(sp::req::open(at({.reconnect_min = 8ms, .reconnect_max = 64ms})));
    const auto dialer = must(s.dial(ipc("door")));
    // A pause is from half of its length to all of it.
    auto refused_at = engine_clock::now() - 1h;
    for (const auto least : {0ms, 4ms, 8ms, 16ms, 32ms, 32ms, 32ms}) {
        auto peer = door.accept();
        EXPECT_GE(engine_clock::now() - refused_at, least);
        EXPECT_EQ(peer.receive(8), wire::hello(req_number));
        refused_at = engine_clock::now();
        peer.send(wire::hello(pub_number));
        EXPECT_TRUE(peer.ended());
    }
    until([&] { return s.last_error(dialer).has_value(); });
    EXPECT_EQ(*s.last_error(dialer), errc::protocol_mismatch);
    EXPECT_EQ(s.peers(), 0u);
    expect_balance(s);
}

TEST_F(stream_scenario, f6_type_byte_other_than_one_closes)
{
    auto s = open<sp::pull>();
    auto good = joined(s);
    std::uint64_t closed = 0;
    for (const auto type : std::initializer_list<std::uint8_t>{0, 2, 0x7f, 0xff}) {
        auto bad = joined(s);
        good.send(wire::frame("before"));
        EXPECT_EQ(text_of(s.recv(patience)), "before");
        (void)bad.try_send(wire::head(3, type) + "abc");
        EXPECT_TRUE(bad.ended()) << "type " << int(type);
        wait_count(stat::pipe_bad_frame, ++closed);
        good.send(wire::frame("after"));
        EXPECT_EQ(text_of(s.recv(patience)), "after");
        wait_peers_gone(s, 1);
    }
    EXPECT_EQ(s.statistics()[stat::socket_received], 2 * closed);
    expect_balance(s);
}

TEST_F(stream_scenario, f6_type_byte_closes_before_the_length_has_come)
{
    auto s = open<sp::bus>();
    auto bad = joined(s);
    bad.send("\x02");
    EXPECT_TRUE(bad.ended());
    wait_count(stat::pipe_bad_frame, 1);
    expect_balance(s);
}

TEST_F(stream_scenario, f7_a_length_of_two_to_the_sixtieth_closes_and_takes_no_memory)
{
    auto s = open<sp::pull>();
    auto good = joined(s);
    std::uint64_t closed = 0;
    for (const std::uint64_t length :
         {1ull << 60, 1ull << 61, 1ull << 63, (1ull << 63) + 7, ~0ull}) {
        auto bad = joined(s);
        (void)bad.try_send(wire::head(length) + "some of it");
        EXPECT_TRUE(bad.ended()) << length;
        wait_count(stat::pipe_bad_frame, ++closed);
        EXPECT_EQ(engine().frames_in_use(), 0u);
        good.send(wire::frame("well"));
        EXPECT_EQ(text_of(s.recv(patience)), "well");
    }
    auto bad = joined(s);
    bad.send(wire::head((1ull << 60) - 1));
    EXPECT_TRUE(bad.ended());
    wait_count(stat::pipe_too_large, 1);
    EXPECT_EQ(engine().frames_in_use(), 0u);
    wait_peers_gone(s, 1);
    expect_balance(s);
}

TEST_F(stream_scenario, f8_the_largest_message_counts_the_header_too)
{
    for (const std::uint32_t version : {0u, 1u}) {
        SCOPED_TRACE(version);
        const auto number = version == 0 ? pair0_number : pair1_number;
        const auto header = version == 0 ? std::string() : wire::word(1);
        auto s = open<sp::pair>({.message_max = 100, .pair_version = version});
        auto peer = joined(s, number, number);
        const auto fits = wire::body(100 - header.size());
        peer.send(wire::frame(header, fits));
        EXPECT_EQ(text_of(s.recv(patience)), fits);
        peer.send(wire::frame(header, fits + "!"));
        EXPECT_TRUE(peer.ended());
        wait_count(stat::pipe_too_large, version + 1);
        expect_balance(s);
        // The other way: what this side may send is what it takes.
        auto next = joined(s, number, number);
        must(s.send(fits, patience));
        EXPECT_EQ(next.receive(9 + 100), wire::frame(header, fits));
        EXPECT_EQ(s.send(fits + "!", patience).error(), errc::message_too_large);
        EXPECT_TRUE(next.silent());
        expect_balance(s);
    }
}

// A thousand messages, and as many frames.
std::string message_number(int i)
{
    return "message " + std::to_string(i);
}

TEST_F(stream_scenario, f9_a_thousand_frames_in_one_write_all_come_in_order)
{
    std::string all;
    for (int i = 0; i < 1000; ++i)
        all += wire::frame(message_number(i));
    const auto expect_all = [&](auto &s, const std::string &name) {
        SCOPED_TRACE(name);
        auto peer = joined(s, name);
        auto sent = std::async(std::launch::async, [&] { peer.send(all); });
        for (int i = 0; i < 1000; ++i)
            ASSERT_EQ(text_of(s.recv(patience)), message_number(i));
        sent.get();
        EXPECT_FALSE(s.try_recv());
        EXPECT_EQ(s.statistics()[stat::socket_received], 1000u);
        expect_balance(s);
    };
    auto pull = open<sp::pull>({}, "pull");
    expect_all(pull, "pull");
    auto bus = open<sp::bus>({}, "bus");
    expect_all(bus, "bus");
    auto sub = open<sp::sub>({}, "sub");
    must(sub.subscribe("message"));
    expect_all(sub, "sub");
}

TEST_F(stream_scenario, f9_a_thousand_requests_in_one_write_are_all_answered_in_order)
{
    auto rep = open<sp::rep>();
    auto peer = joined(rep);
    auto sent = std::async(std::launch::async, [&] {
        std::string all;
        for (std::uint32_t i = 0; i < 1000; ++i)
            all += wire::frame(wire::word(wire::end_bit + i), "ping");
        peer.send(all);
    });
    for (std::uint32_t i = 0; i < 1000; ++i) {
        auto question = must(rep.recv(patience));
        must(std::move(question).reply("pong", patience));
        ASSERT_EQ(peer.receive_frame(), wire::word(wire::end_bit + i) + "pong");
    }
    sent.get();
    expect_balance(rep);
}

TEST_F(stream_scenario, f10_an_empty_body_is_a_message)
{
    {
        auto bus = open<sp::bus>();
        auto peer = joined(bus);
        peer.send(wire::frame(""));
        EXPECT_EQ(text_of(bus.recv(patience)), "");
        must(bus.send(""));
        EXPECT_EQ(peer.receive(9), wire::head(0));
        expect_balance(bus);
    }
    for (const std::uint32_t version : {0u, 1u}) {
        const auto number = version == 0 ? pair0_number : pair1_number;
        const auto header = version == 0 ? std::string() : wire::word(1);
        auto pair = open<sp::pair>({.pair_version = version});
        auto peer = joined(pair, number, number);
        peer.send(wire::frame(header));
        EXPECT_EQ(text_of(pair.recv(patience)), "");
        must(pair.send("", patience));
        EXPECT_EQ(peer.receive_frame(), header);
        expect_balance(pair);
    }
    {
        auto push = open<sp::push>();
        auto worker = joined(push);
        must(push.send("", patience));
        EXPECT_EQ(worker.receive(9), wire::head(0));
        expect_balance(push);
    }
    {
        auto pull = open<sp::pull>();
        auto pusher = joined(pull);
        pusher.send(wire::frame(""));
        EXPECT_EQ(text_of(pull.recv(patience)), "");
        expect_balance(pull);
    }
}

TEST_F(stream_scenario, f10_an_empty_body_is_a_message_of_a_publisher_and_of_an_asker)
{
    {
        auto pub = open<sp::pub>();
        auto reader = joined(pub);
        must(pub.send(""));
        EXPECT_EQ(reader.receive(9), wire::head(0));
        expect_balance(pub);
    }
    {
        auto sub = open<sp::sub>();
        must(sub.subscribe(""));
        auto publisher = joined(sub);
        publisher.send(wire::frame(""));
        EXPECT_EQ(text_of(sub.recv(patience)), "");
        expect_balance(sub);
    }
    {
        auto req = open<sp::req>();
        auto replier = joined(req);
        auto answer = std::async(std::launch::async, [&] { return req.request("", patience); });
        const auto id = replier.receive_frame();
        EXPECT_EQ(id.size(), 4u);
        replier.send(wire::frame(id));
        EXPECT_EQ(text_of(answer.get()), "");
        expect_balance(req);
    }
    {
        auto rep = open<sp::rep>();
        auto asker = joined(rep);
        asker.send(wire::frame(wire::word(wire::end_bit)));
        auto question = must(rep.recv(patience));
        EXPECT_EQ(question.size(), 0u);
        must(std::move(question).reply("", patience));
        EXPECT_EQ(asker.receive_frame(), wire::word(wire::end_bit));
        expect_balance(rep);
    }
}

} // namespace
} // namespace sp::test
