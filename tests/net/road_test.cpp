// SPDX-License-Identifier: BSD-2-Clause
//
// The whole road between two hosts: requests cross by the kernel or by AF_XDP, as the URL and the
// host say, and the counters along the road agree with what was sent.
#include "tests/net/road.hpp"

#include <algorithm>
#include <random>

namespace {

using namespace sp::test;
using sp::errc;
using sp::stat;

struct way {
    const char *name;
    bool loaded; // the program, by the operator
    const char *keys;
    const char *transport;
    int family;
};

class road_kind : public on_the_road, public ::testing::WithParamInterface<way> {};

TEST_P(road_kind, carries_requests_by_the_way_that_was_asked_for)
{
    const auto &want = GetParam();
    constexpr std::uint64_t requests = 200;
    if (want.loaded) {
        load_program(host::a);
        load_program(host::b);
    }
    auto l = listening(want.keys, want.family);
    const echo answers(l.socket);
    auto req = dialed(l, want.keys);
    // The first packets may still go by the kernel, until the neighbour is known.
    std::string transport;
    until([&] {
        const auto answer = must(req.request("?", patience));
        transport = answer.transport();
        const auto info = req.pipe_info(answer.pipe());
        return transport == want.transport && info && info->transport == want.transport;
    });
    const auto a_before = on(host::a).statistics(), b_before = on(host::b).statistics();
    for (std::uint64_t i = 0; i < requests; ++i)
        ASSERT_EQ(text_of(req.request(std::to_string(i), patience)), std::to_string(i));
    const bool rings = transport.starts_with("ip/xdp");
    const auto received = rings ? stat::xsk_received : stat::rawip_received;
    const auto other = rings ? stat::rawip_received : stat::xsk_received;
    for (const auto which : {host::a, host::b}) {
        const auto now = on(which).statistics();
        const auto &before = which == host::a ? a_before : b_before;
        EXPECT_GE(now[received] - before[received], requests);
        EXPECT_EQ(now[other], before[other]);
        const auto counters = program_counters(which);
        ASSERT_EQ(counters.has_value(), rings);
        if (rings) {
            EXPECT_GE((*counters)[SP_XDP_steered], now[stat::xsk_received])
                << "received what XDP did not steer";
            EXPECT_GE((*counters)[SP_XDP_steered], requests);
        }
    }
    EXPECT_EQ(on(host::b).statistics()[stat::pipe_lost], 0u);
}

INSTANTIATE_TEST_SUITE_P(
    over, road_kind,
    ::testing::Values(
        way{"kernel_ipv4", false, "io=kernel", "ip/kernel", AF_INET},
        way{"kernel_ipv6", false, "io=kernel", "ip/kernel", AF_INET6},
        way{"xdp_that_attaches_itself_ipv4", false, "io=xdp", "ip/xdp", AF_INET},
        way{"xdp_that_attaches_itself_ipv6", false, "io=xdp", "ip/xdp", AF_INET6},
        way{"xdp_that_is_loaded_ipv4", true, "io=xdp", "ip/xdp", AF_INET},
        way{"auto_without_program_ipv4", false, "", "ip/kernel", AF_INET},
        way{"auto_without_program_ipv6", false, "", "ip/kernel", AF_INET6},
        way{"auto_with_program_ipv4", true, "", "ip/xdp", AF_INET},
        way{"auto_with_program_ipv6", true, "", "ip/xdp", AF_INET6},
        way{"kernel_udp_ipv4", false, "io=kernel&encap=udp", "ip/kernel+udp", AF_INET},
        way{"kernel_udp_ipv6", false, "io=kernel&encap=udp", "ip/kernel+udp", AF_INET6},
        way{"xdp_that_attaches_itself_udp_ipv4", false, "io=xdp&encap=udp", "ip/xdp+udp", AF_INET},
        way{"xdp_that_attaches_itself_udp_ipv6", false, "io=xdp&encap=udp", "ip/xdp+udp", AF_INET6},
        way{"auto_without_program_udp_ipv4", false, "encap=udp", "ip/kernel+udp", AF_INET},
        way{"auto_with_program_udp_ipv4", true, "encap=udp", "ip/xdp+udp", AF_INET},
        way{"auto_with_program_udp_ipv6", true, "encap=udp", "ip/xdp+udp", AF_INET6}),
    [](const auto &p) { return std::string(p.param.name); });

class road : public on_the_road {};

TEST_F(road, joins_a_host_with_xdp_and_one_without)
{
    auto l = listening("io=xdp");
    const echo answers(l.socket);
    auto req = dialed(l, "io=kernel");
    for (int i = 0; i < 100; ++i)
        ASSERT_EQ(text_of(req.request(std::to_string(i), patience)), std::to_string(i));
    EXPECT_EQ(must(req.request("?", patience)).transport(), "ip/kernel");
    EXPECT_GE(on(host::b).statistics()[stat::xsk_received], 100u);
    EXPECT_GE(on(host::a).statistics()[stat::rawip_received], 100u);
}

TEST_F(road, that_attached_its_program_by_itself_takes_it_along_when_it_ends)
{
    {
        auto l = listening("io=xdp");
        EXPECT_TRUE(program_counters(host::b));
    }
    EXPECT_FALSE(program_counters(host::b));
    EXPECT_FALSE(std::filesystem::exists(pins(host::b)));
}

TEST_F(road, leaves_a_program_that_was_loaded_where_it_is)
{
    load_program(host::b);
    {
        auto l = listening("io=xdp");
    }
    EXPECT_TRUE(program_counters(host::b));
}

TEST_F(road, tells_the_port_that_was_given_for_port_0)
{
    auto first = listening("io=kernel"), second = listening("io=kernel");
    EXPECT_NE(first.port, 0u);
    EXPECT_NE(first.port, second.port);
    EXPECT_TRUE(dialed(first).peers() == 1 && dialed(second).peers() == 1);
}

TEST_F(road, listens_on_every_address_at_once)
{
    for (const std::string any : {"0.0.0.0", "[::]"}) {
        auto rep = must(sp::rep::open({.on = &on(host::b)}));
        const auto shown = must(rep.url(must(rep.listen("ip://" + any + ":0"))));
        const auto port =
            static_cast<std::uint16_t>(std::stoul(shown.substr(shown.rfind(':') + 1)));
        const echo answers(rep);
        auto req = must(sp::req::open({.on = &on(host::a)}));
        (void)must(
            req.dial(url(host::b, port, "", any == "0.0.0.0" ? AF_INET : AF_INET6), patience));
        EXPECT_EQ(text_of(req.request("any", patience)), "any");
    }
}

TEST_F(road, answers_from_the_address_that_was_asked)
{
    const auto first = two().address(host::b);
    const auto second = first.substr(0, first.rfind('.')) + ".77";
    two().must_run(host::b,
                   {"ip", "address", "add", second + "/24", "dev", hosts::interface(host::b)});
    for (const std::string keys : {"io=kernel", "io=xdp&if=veth-b"}) {
        auto rep = must(sp::rep::open({.on = &on(host::b)}));
        const auto shown = must(rep.url(must(rep.listen("ip://0.0.0.0:0?" + keys))));
        const auto port = shown.substr(shown.rfind(':'));
        const echo answers(rep);
        auto req = must(sp::req::open({.on = &on(host::a)}));
        (void)must(req.dial("ip://" + second + port, patience));
        for (int i = 0; i < 20; ++i) {
            const auto answer = must(req.request("who are you?", patience));
            EXPECT_EQ(req.pipe_info(answer.pipe())->peer, second + port) << keys;
        }
        EXPECT_EQ(on(host::a).statistics()[stat::link_wrong_source], 0u);
    }
}

TEST_F(road, serves_a_hundred_dialers_on_one_port)
{
    auto l = listening("io=xdp");
    const echo answers(l.socket);
    std::vector<sp::req> dialers;
    for (int i = 0; i < 100; ++i)
        dialers.push_back(dialed(l, "io=xdp"));
    must(l.socket.wait_peers(100, patience));
    {
        std::vector<std::jthread> threads;
        for (std::size_t t = 0; t < 4; ++t)
            threads.emplace_back([&, t] {
                for (std::size_t i = t; i < dialers.size(); i += 4)
                    for (int n = 0; n < 5; ++n)
                        EXPECT_EQ(text_of(dialers[i].request(std::to_string(i), patience)),
                                  std::to_string(i));
            });
    }
    EXPECT_EQ(l.socket.peers(), 100u);
    EXPECT_GE(on(host::b).statistics()[stat::socket_delivered], 500u);
}

TEST_F(road, carries_bodies_of_every_size)
{
    const auto seed = std::random_device()();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    for (const char *keys : {"io=kernel", "io=xdp", "io=kernel&encap=udp", "io=xdp&encap=udp"}) {
        auto l = listening(keys);
        const echo answers(l.socket);
        auto req = dialed(l, keys);
        const std::size_t largest = (1u << 20) - 4; // message_max, and the request's id
        for (const auto size :
             {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{1416}, std::size_t{1417},
              random() % largest, largest}) {
            std::string body(size, '\0');
            std::ranges::generate(body, [&] { return static_cast<char>(random()); });
            EXPECT_TRUE(text_of(req.request(body, patience)) == body) << size << " bytes";
        }
        const auto more = req.request(std::string(largest + 1, 'x'), patience);
        ASSERT_FALSE(more);
        EXPECT_EQ(more.error().number(), 2007);
    }
}

} // namespace
