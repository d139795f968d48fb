// SPDX-License-Identifier: BSD-2-Clause
//
// Encapsulated and plain roads side by side: each peer is answered the way it came, programs of one
// host share the UDP port, flows are told apart by their source port, checksums are what UDP wants,
// and what goes wrong is told in terms of the switch.
#include "tests/net/road.hpp"
#include "tests/net/wire.hpp"

#include <netinet/in.h>
#include <set>

namespace {

using namespace sp::test;
using sp::errc;
using sp::stat;

// The SP frames that leave one host through its kernel.
class tap {
public:
    struct seen {
        std::size_t plain = 0, behind_udp = 0, wrong = 0; // wrong: other ports, or a bad checksum
        std::set<std::uint16_t> from;                     // source ports
    };

    tap(const hosts &two, host which) : wire_(two, which) {}

    // Since the last call.
    seen look()
    {
        seen all;
        wire_.each_sent([&](std::span<const std::byte> frame) {
            sp_parsed parsed;
            if (sp_parse_frame(frame.data(), frame.data() + frame.size(), SP_IP_PROTOCOL,
                               SP_BE16(SP_UDP_PORT), &parsed) != SP_SHAPE_SP)
                return;
            if (!parsed.udp) {
                ++all.plain;
                return;
            }
            ++all.behind_udp;
            all.from.insert(SP_BE16(parsed.udp->source));
            all.wrong += SP_BE16(parsed.udp->source) < SP_UDP_SOURCE || !sum_is_right(parsed);
        });
        return all;
    }

private:
    // 0 over IPv4; over IPv6 the sum of everything with the pseudo header is all ones.
    static bool sum_is_right(const sp_parsed &parsed)
    {
        if (parsed.family == 4)
            return parsed.udp->checksum == 0;
        std::uint32_t sum = SP_PROTOCOL_UDP + SP_BE16(parsed.udp->length);
        const auto add = [&](const void *data, std::size_t size) {
            const auto *bytes = static_cast<const std::uint8_t *>(data);
            for (std::size_t i = 0; i < size; ++i)
                sum += static_cast<std::uint32_t>(bytes[i]) << (i % 2 ? 0 : 8);
        };
        add(parsed.source, 16);
        add(parsed.destination, 16);
        add(parsed.udp, SP_BE16(parsed.udp->length));
        while (sum >> 16)
            sum = (sum & 0xffff) + (sum >> 16);
        return sum == 0xffff;
    }

    wire_tap wire_;
};

class road_behind_udp : public on_the_road {};

class road_kind_behind_udp : public road_behind_udp,
                             public ::testing::WithParamInterface<const char *> {};

TEST_P(road_kind_behind_udp, answers_each_peer_the_way_it_came)
{
    const std::string io(GetParam());
    auto l = listening(io + "&encap=udp");
    std::set<std::string> seen; // by which way the questions came, with what they said
    std::jthread answerer([&] {
        while (auto question = l.socket.recv(patience)) {
            const auto text = std::string(question->text());
            seen.insert(text + " by " + std::string(question->transport()));
            (void)must(std::move(*question).reply(text, patience));
            if (text == "end")
                return;
        }
    });
    auto plain = dialed(l, io), behind = dialed(l, io + "&encap=udp");
    const auto transport = io == "io=xdp" ? std::string("ip/xdp") : std::string("ip/kernel");
    const auto asks = [&](sp::req &req, const std::string &text, const std::string &way) {
        until([&] { // the first packets go by the kernel, until the neighbour is known
            const auto answer = must(req.request(text, patience));
            EXPECT_EQ(std::string(answer.text()), text);
            return answer.transport() == way;
        });
    };
    for (int i = 0; i < 20; ++i) {
        asks(plain, "plain", transport);
        asks(behind, "behind", transport + "+udp");
    }
    (void)must(plain.request("end", patience));
    answerer.join();
    EXPECT_TRUE(seen.contains("plain by " + transport));
    EXPECT_TRUE(seen.contains("behind by " + transport + "+udp"));
    EXPECT_FALSE(seen.contains("plain by " + transport + "+udp"));
    EXPECT_FALSE(seen.contains("behind by " + transport));
}

INSTANTIATE_TEST_SUITE_P(over, road_kind_behind_udp, ::testing::Values("io=kernel", "io=xdp"),
                         [](const auto &p) { return std::string(p.param).substr(3); });

TEST_F(road_behind_udp, puts_nothing_else_on_the_wire)
{
    for (const int family : {AF_INET, AF_INET6}) {
        auto l = listening("io=kernel&encap=udp", family);
        const echo answers(l.socket);
        tap questions(two(), host::a), replies(two(), host::b);
        std::vector<sp::req> dialers;
        for (int i = 0; i < 16; ++i) {
            dialers.push_back(dialed(l, "io=kernel&encap=udp"));
            for (const std::size_t size : {1u, 1000u, 1001u, 1387u})
                EXPECT_EQ(text_of(dialers.back().request(std::string(size, 'x'), patience)).size(),
                          size);
        }
        for (auto *side : {&questions, &replies}) {
            const auto seen = side->look();
            EXPECT_GE(seen.behind_udp, 64u);
            EXPECT_EQ(seen.plain, 0u);
            EXPECT_EQ(seen.wrong, 0u);
            EXPECT_GT(seen.from.size(), 4u) << "flows are not told apart";
        }
    }
}

TEST_F(road_behind_udp, serves_several_programs_of_one_host)
{
    auto first = listening("io=xdp&encap=udp");
    auto other_engine = must(sp::engine::open(options(host::b)));
    auto second = must(sp::rep::open({.on = &other_engine}));
    const auto shown =
        must(second.url(must(second.listen(url(host::b, 0, "io=kernel&encap=udp")))));
    EXPECT_TRUE(shown.ends_with("?encap=udp")) << shown;
    const echo one(first.socket), two_of_them(second);
    auto to_first = dialed(first, "io=kernel&encap=udp");
    auto to_second = must(sp::req::open({.on = &on(host::a)}));
    (void)must(to_second.dial(shown, patience));
    for (int i = 0; i < 50; ++i) {
        ASSERT_EQ(text_of(to_first.request("first", patience)), "first");
        ASSERT_EQ(text_of(to_second.request("second", patience)), "second");
    }
    EXPECT_EQ(on(host::b).statistics()[stat::rawip_bad_length], 0u);
}

TEST_F(road_behind_udp, is_refused_where_nobody_takes_it)
{
    for (const int family : {AF_INET, AF_INET6})
        for (const char *keys : {"io=kernel&encap=udp", "io=xdp&encap=udp"}) {
            auto req = must(sp::req::open({.on = &on(host::a)}));
            const auto dialed = req.dial(url(host::b, 7000, keys, family), patience);
            ASSERT_FALSE(dialed);
            EXPECT_EQ(dialed.error().number(), 2003) << told(dialed.error());
            EXPECT_TRUE(dialed.error().why().contains("refuses UDP port 5370"))
                << dialed.error().why();
        }
    auto plain = must(sp::req::open({.on = &on(host::a)}));
    const auto refused = plain.dial(url(host::b, 7000, "io=kernel"), patience);
    ASSERT_FALSE(refused);
    EXPECT_TRUE(refused.error().why().contains("refuses IP protocol 253")) << refused.error().why();
}

TEST_F(road_behind_udp, is_named_when_a_dial_stays_unanswered)
{
    auto req = must(sp::req::open({.on = &on(host::a), .connect_timeout = 100ms}));
    const auto nobody = two().address(host::b).substr(0, two().address(host::b).rfind('.')) + ".99";
    const auto plain = req.dial("ip://" + nobody + ":7000?io=kernel", patience);
    ASSERT_FALSE(plain);
    EXPECT_EQ(plain.error().number(), 2011);
    EXPECT_TRUE(plain.error().why().contains("IP protocol 253")) << plain.error().why();
    EXPECT_TRUE(plain.error().fix().contains("encap=udp")) << plain.error().fix();
    const auto behind = req.dial("ip://" + nobody + ":7000?io=kernel&encap=udp", patience);
    ASSERT_FALSE(behind);
    EXPECT_TRUE(behind.error().why().contains("UDP port 5370")) << behind.error().why();
}

TEST_F(road_behind_udp, needs_a_program_that_steers_it_or_takes_the_kernel)
{
    {
        const auto inside = two().in(host::b);
        sp::xdp::load_options o; // as one loads it who does not want this
        o.pin_root = pins(host::b);
        (void)must(sp::xdp::load(hosts::interface(host::b), o));
    }
    auto rep = must(sp::rep::open({.on = &on(host::b)}));
    const auto refused = rep.listen(url(host::b, 0, "io=xdp&encap=udp"));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().number(), 1013) << told(refused.error());
    EXPECT_TRUE(refused.error().fix().contains("--udp-port 5370")) << refused.error().fix();
    auto l = listening("encap=udp");
    const echo answers(l.socket);
    auto req = dialed(l, "io=kernel&encap=udp");
    EXPECT_EQ(text_of(req.request("?", patience)), "?");
    EXPECT_EQ(on(host::b).statistics()[stat::xsk_received], 0u);
}

TEST_F(road_behind_udp, tells_that_the_port_is_another_programs)
{
    sp::transport::descriptor other;
    {
        const auto inside = two().in(host::b);
        other = sp::transport::descriptor(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        sockaddr_in name{};
        name.sin_family = AF_INET;
        name.sin_port = SP_BE16(SP_UDP_PORT);
        ASSERT_EQ(::bind(other.get(), reinterpret_cast<const sockaddr *>(&name), sizeof name), 0);
    }
    auto rep = must(sp::rep::open({.on = &on(host::b)}));
    const auto refused = rep.listen(url(host::b, 0, "io=kernel&encap=udp"));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().number(), 2002) << told(refused.error());
    EXPECT_TRUE(refused.error().what().contains("UDP port 5370")) << refused.error().what();
    EXPECT_TRUE(rep.listen(url(host::b, 0, "io=kernel"))) << "the plain road is free";
}

TEST_F(road_behind_udp, is_not_offered_by_an_engine_without_a_port)
{
    auto o = options(host::b);
    o.udp_port = 0;
    auto engine = must(sp::engine::open(o));
    auto rep = must(sp::rep::open({.on = &engine}));
    const auto refused = rep.listen(url(host::b, 0, "io=kernel&encap=udp"));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error(), errc::not_supported) << told(refused.error());
}

} // namespace
