// SPDX-License-Identifier: BSD-2-Clause
//
// What others send: packets played back, packets that are broken, packets from nobody, and programs
// that use our protocol number for something else. It is counted, it costs no memory, and the
// requests on the road go on.
#include "tests/net/road.hpp"
#include "tests/net/wire.hpp"

#include <arpa/inet.h>
#include <random>

namespace {

using namespace sp::test;
using sp::errc;
using sp::stat;

constexpr auto closes = {stat::pipe_bad_header, stat::pipe_bad_frame,   stat::pipe_too_large,
                         stat::pipe_peer_dead,  stat::pipe_peer_closed, stat::pipe_stale};

class hostile_road : public on_the_road, public ::testing::WithParamInterface<const char *> {
protected:
    std::uint64_t at_b(stat s) { return on(host::b).statistics()[s]; }
    void expect_no_pipe_hurt()
    {
        for (const auto which : {host::a, host::b})
            for (const auto s : closes)
                EXPECT_EQ(on(which).statistics()[s], 0u) << sp::describe(s).name;
    }
    // All that the frames could do has been done: what was sent behind them has arrived.
    static void settle(sp::req &req)
    {
        for (int i = 0; i < 3; ++i)
            EXPECT_EQ(text_of(req.request("behind", patience)), "behind");
    }
};

TEST_P(hostile_road, does_nothing_twice_when_packets_are_played_back)
{
    wire_tap wire(two(), host::a);
    auto l = listening(GetParam());
    const echo answers(l.socket);
    auto req = dialed(l, "io=kernel");
    for (int i = 0; i < 20; ++i)
        ASSERT_EQ(text_of(req.request(std::to_string(i), patience)), std::to_string(i));
    const auto recorded = wire.sent();
    const auto of_type = [&](int type) {
        return std::ranges::count_if(recorded,
                                     [&](const auto &f) { return f.header().type == type; });
    };
    ASSERT_GE(of_type(SP_PROBE), 1);
    ASSERT_GE(of_type(SP_INIT), 1);
    ASSERT_GE(of_type(SP_DATA), 20);
    const auto delivered = at_b(stat::socket_delivered);
    for (const auto &frame : recorded)
        wire.send(frame);
    settle(req);
    EXPECT_EQ(at_b(stat::socket_delivered), delivered + 3);
    EXPECT_GE(at_b(stat::link_duplicate), 20u);
    EXPECT_EQ(l.socket.peers(), 1u);
    EXPECT_EQ(req.peers(), 1u);
    expect_no_pipe_hurt();
}

TEST_P(hostile_road, gives_no_pipe_for_a_handshake_that_is_older_than_the_listener)
{
    wire_tap wire(two(), host::a);
    std::vector<wire_frame> recorded;
    std::uint16_t port = 0;
    {
        auto l = listening(GetParam());
        port = l.port;
        const echo answers(l.socket);
        auto req = dialed(l, "io=kernel");
        ASSERT_EQ(text_of(req.request("?", patience)), "?");
        recorded = wire.sent();
    }
    drop(host::b); // another start: other secrets
    auto rep = must(sp::rep::open({.on = &on(host::b)}));
    (void)must(rep.listen(url(host::b, port, GetParam())));
    const echo answers(rep);
    for (const auto &frame : recorded)
        wire.send(frame);
    auto req = must(sp::req::open({.on = &on(host::a)}));
    (void)must(req.dial(url(host::b, port, "io=kernel"), patience));
    settle(req);
    EXPECT_GE(at_b(stat::link_no_cookie), 1u);
    EXPECT_GE(at_b(stat::link_unknown_connection), 1u);
    EXPECT_EQ(at_b(stat::socket_delivered), 3u);
    EXPECT_EQ(rep.peers(), 1u);
}

TEST_P(hostile_road, goes_on_while_broken_packets_come_by_the_thousand)
{
    const auto seed = std::random_device()();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    wire_tap wire(two(), host::a);
    auto l = listening(GetParam());
    const echo answers(l.socket);
    auto req = dialed(l, "io=kernel");
    ASSERT_EQ(text_of(req.request("?", patience)), "?");
    const auto recorded = wire.sent();
    {
        const traffic requests(req, 1);
        for (int i = 0; i < 10000; ++i) {
            auto frame = recorded[random() % recorded.size()];
            const auto packet = frame.packet();
            for (auto flips = 1 + random() % 8; flips > 0; --flips)
                packet[random() % packet.size()] ^= static_cast<std::byte>(1 + random() % 255);
            // From the peer itself the checksum must betray it; from elsewhere it may be right.
            if (i % 2) {
                frame.come_from(0xc6130000 |
                                static_cast<std::uint32_t>(random() % 0xffff)); // 198.19.x.y
                frame.seal();
            }
            wire.send(frame);
        }
        requests.flow();
    }
    const auto now = on(host::b).statistics();
    EXPECT_GT(now[stat::link_bad_crc], 1000u);
    EXPECT_GT(now[stat::link_wrong_source], 100u);
    EXPECT_EQ(l.socket.peers(), 1u);
    expect_no_pipe_hurt();
    const bool rings = std::string_view(GetParam()) == "io=xdp";
    const auto counters = program_counters(host::b);
    ASSERT_EQ(counters.has_value(), rings);
    if (rings) {
        EXPECT_GT((*counters)[SP_XDP_bad_type], 0u);
        EXPECT_GT((*counters)[SP_XDP_bad_flags], 0u);
        EXPECT_GT((*counters)[SP_XDP_other_version], 0u);
    } else {
        EXPECT_GT(now[stat::rawip_bad_type], 0u);
        EXPECT_GT(now[stat::rawip_bad_flags], 0u);
        EXPECT_GT(now[stat::rawip_other_version], 0u);
    }
}

// Twenty thousand strangers who are not there ask for a connection: each gets a cookie, or nothing.
TEST_P(hostile_road, spends_no_memory_on_strangers)
{
    wire_tap wire(two(), host::a);
    auto l = listening(GetParam());
    auto req = dialed(l, "io=kernel");
    const auto recorded = wire.sent();
    const auto probe =
        std::ranges::find_if(recorded, [](const auto &f) { return f.header().type == SP_PROBE; });
    const auto init =
        std::ranges::find_if(recorded, [](const auto &f) { return f.header().type == SP_INIT; });
    ASSERT_TRUE(probe != recorded.end() && init != recorded.end());
    const echo answers(l.socket);
    const auto frames = on(host::b).frames_in_use();
    std::mt19937 random(1);
    {
        const traffic requests(req, 1);
        requests.flow(10);
        for (std::uint32_t i = 0; i < 20000; ++i) {
            auto frame = i % 4 ? *probe : *init;
            const auto scid = random();
            std::memcpy(frame.packet().data() + offsetof(sp_probe, identity), &scid, sizeof scid);
            frame.come_from(0xc6130000 | (i & 0xffff)); // 198.19.x.y: there is no way back
            frame.seal();
            wire.send(frame);
        }
        requests.flow();
        EXPECT_EQ(l.socket.peers(), 1u);
    }
    const auto now = on(host::b).statistics();
    EXPECT_GT(now[stat::link_no_cookie] + now[stat::link_handshake_budget], 1000u);
    EXPECT_GT(now[stat::link_no_cookie], 0u);
    // The latest answers are kept until the asker has confirmed them.
    until([&] { return on(host::b).frames_in_use() <= frames; });
    expect_no_pipe_hurt();
}

INSTANTIATE_TEST_SUITE_P(over, hostile_road, ::testing::Values("io=kernel", "io=xdp"),
                         [](const auto &p) { return std::string(p.param).substr(3); });

// ---- others on protocol 253

class foreign_program : public on_the_road {
protected:
    sp::transport::descriptor raw_socket(host which)
    {
        const auto inside = two().in(which);
        return sp::transport::descriptor(
            ::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, SP_IP_PROTOCOL));
    }
    void send(int fd, host to, std::span<const std::byte> bytes)
    {
        sockaddr_in name{};
        name.sin_family = AF_INET;
        ASSERT_EQ(::inet_pton(AF_INET, two().address(to).c_str(), &name.sin_addr), 1);
        ASSERT_EQ(::sendto(fd, bytes.data(), bytes.size(), 0,
                           reinterpret_cast<const sockaddr *>(&name), sizeof name),
                  static_cast<ssize_t>(bytes.size()));
    }
};

TEST_F(foreign_program, on_our_protocol_number_is_left_alone)
{
    auto l = listening("io=xdp");
    const echo answers(l.socket);
    auto req = dialed(l, "io=xdp");
    const auto here = raw_socket(host::a), there = raw_socket(host::b);
    ASSERT_TRUE(here && there);
    const timeval limit{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(there.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    constexpr int ip_header = 20;
    for (const std::size_t size : {1, 4, 39, 40, 56, 100, 1400}) {
        std::vector<std::byte> sent(size, std::byte{0x42}); // no version of ours
        send(here.get(), host::b, sent);
        for (;;) { // between the requests of ours that it also sees
            std::array<std::byte, 2048> room;
            const auto n = ::recv(there.get(), room.data(), room.size(), 0);
            ASSERT_GT(n, 0) << size << " bytes did not arrive";
            const auto body = std::span(room).first(static_cast<std::size_t>(n)).subspan(ip_header);
            if (std::ranges::equal(body, sent))
                break;
        }
        EXPECT_EQ(text_of(req.request("meanwhile", patience)), "meanwhile");
    }
    EXPECT_GE((*program_counters(host::b))[SP_XDP_other_version], 7u);
    EXPECT_EQ(l.socket.peers(), 1u);
}

TEST_F(foreign_program, that_answers_instead_of_sp_is_no_peer)
{
    const auto there = raw_socket(host::b); // open, so that the kernel does not refuse, and silent
    auto req = must(sp::req::open({.on = &on(host::a), .connect_timeout = 100ms}));
    const auto dialed = req.dial(url(host::b, 7000, "io=kernel"), patience);
    ASSERT_FALSE(dialed);
    EXPECT_EQ(dialed.error(), errc::timed_out);
    EXPECT_TRUE(dialed.error().why().contains("protocol 253")) << dialed.error().why();
}

} // namespace
