// SPDX-License-Identifier: BSD-2-Clause
//
// What happens to a road while requests are on it: links, programs and processes come and go, and
// every request is answered in the end.
#include "tests/net/road.hpp"

namespace {

using namespace sp::test;
using sp::errc;
using sp::stat;

// Impatient where nothing is lost by it: the tests wait for what these bring about.
constexpr sp::options quick{
    .resend_time = 200ms, .reconnect_max = 50ms, .keepalive_interval = 20ms, .peer_timeout = 200ms};

class road_under_load : public on_the_road {
protected:
    void set(host which, const std::string &what)
    {
        two().must_run(which, {"ip", "link", "set", hosts::interface(which), what});
    }
};

class road_kind_under_load : public road_under_load,
                             public ::testing::WithParamInterface<const char *> {};

TEST_P(road_kind_under_load, survives_the_interface_going_down_and_up)
{
    auto l = listening(GetParam());
    const echo answers(l.socket);
    auto req = dialed(l, GetParam(), quick);
    const traffic requests(req);
    for (const auto which : {host::a, host::b, host::b}) {
        requests.flow();
        set(which, "down");
        until([&] { return req.peers() == 0; }); // noticed
        set(which, "up");
        two().wait_for_link();
    }
    requests.flow();
}

TEST_P(road_kind_under_load, survives_an_interruption_that_nobody_notices)
{
    auto l = listening(GetParam());
    const echo answers(l.socket);
    auto req = dialed(l, GetParam(), quick);
    const traffic requests(req);
    for (int i = 0; i < 5; ++i) {
        requests.flow(10);
        set(host::b, "down");
        set(host::b, "up");
    }
    requests.flow();
}

TEST_P(road_kind_under_load, survives_a_mtu_that_differs_between_its_ends)
{
    two().must_run(host::b, {"ip", "link", "set", hosts::interface(host::b), "mtu", "1400"});
    auto l = listening(GetParam());
    const echo answers(l.socket);
    auto req = dialed(l, GetParam(), quick);
    for (std::size_t size = 1200; size < 1500; size += 4) {
        const std::string body(size, 'x');
        const auto answer = req.request(body, patience);
        if (answer)
            EXPECT_TRUE(answer->text() == body) << size;
        else
            EXPECT_EQ(answer.error(), errc::message_too_large)
                << size << ": " << told(answer.error());
    }
    EXPECT_EQ(text_of(req.request("small", patience)), "small");
}

TEST_P(road_kind_under_load, survives_a_mtu_that_shrinks)
{
    auto l = listening(GetParam());
    const echo answers(l.socket);
    auto req = dialed(l, GetParam(), quick);
    const std::string large(1390, 'x'), medium(1200, 'y');
    ASSERT_TRUE(text_of(req.request(large, patience)) == large);
    for (const auto which : {host::a, host::b})
        two().must_run(which, {"ip", "link", "set", hosts::interface(which), "mtu", "1300"});
    const auto answer = req.request(large, patience);
    EXPECT_TRUE(answer || answer.error() == errc::message_too_large) << told(answer.error());
    EXPECT_TRUE(text_of(req.request(medium, patience)) == medium);
}

// The end at b takes no large frame any more and a is not told: its device says "no buffer", for
// ever.
TEST_P(road_kind_under_load, lets_the_others_pass_when_a_packet_is_too_large_for_the_far_end)
{
    auto l = listening(GetParam());
    const echo answers(l.socket);
    auto large = dialed(l, GetParam(), quick), small = dialed(l, GetParam(), quick);
    two().must_run(host::b, {"ip", "link", "set", hosts::interface(host::b), "mtu", "1300"});
    std::jthread sender([&] {
        const std::string body(1390, 'x');
        const auto answer = large.request(body, patience);
        EXPECT_TRUE(answer ? answer->text() == body : answer.error() == errc::message_too_large)
            << told(answer.error());
    });
    for (int i = 0; i < 50; ++i)
        EXPECT_EQ(text_of(small.request(std::to_string(i), patience)), std::to_string(i));
    sender.join();
    EXPECT_EQ(text_of(large.request("small", patience)), "small");
}

INSTANTIATE_TEST_SUITE_P(over, road_kind_under_load, ::testing::Values("io=kernel", "io=xdp"),
                         [](const auto &p) { return std::string(p.param).substr(3); });

TEST_F(road_under_load, goes_on_through_the_kernel_when_the_program_is_unloaded)
{
    load_program(host::a);
    load_program(host::b);
    auto l = listening("io=xdp");
    const echo answers(l.socket);
    auto req = dialed(l, "io=xdp", quick);
    const traffic requests(req);
    requests.flow();
    const auto counts = [&](stat s) { return on(host::b).statistics()[s]; };
    EXPECT_GT(counts(stat::xsk_received), 0u);
    unload_program(host::b);
    const auto by_rings = counts(stat::xsk_received), by_kernel = counts(stat::rawip_received);
    requests.flow(200);
    EXPECT_GE(counts(stat::rawip_received), by_kernel + 190);
    EXPECT_LE(counts(stat::xsk_received), by_rings + 200)
        << "the rings still carry what nobody steers";
    EXPECT_FALSE(program_counters(host::b));
    unload_program(host::a);
    requests.flow(200);
    load_program(
        host::b); // another program, with other maps: those who are there stay with the kernel
    requests.flow(200);
}

TEST_F(road_under_load, is_not_interrupted_when_the_program_is_replaced)
{
    load_program(host::b);
    auto l = listening("io=xdp");
    const echo answers(l.socket);
    auto req = dialed(l, "io=kernel", quick);
    const traffic requests(req);
    requests.flow();
    {
        const auto inside = two().in(host::b);
        sp::xdp::load_options o;
        o.pin_root = pins(host::b);
        o.replace = true;
        ASSERT_TRUE(sp::xdp::load(hosts::interface(host::b), o));
    }
    const auto before = on(host::b).statistics()[stat::xsk_received];
    requests.flow(200);
    EXPECT_GE(on(host::b).statistics()[stat::xsk_received],
              before + 190); // a few were on their way already
}

// ---- a process that is killed

class killed_peer : public on_the_road {
protected:
    // A rep in a process of its own at b, on a fixed port, as soon as it is let go.
    std::unique_ptr<child> answerer(const std::string &keys, const std::string &answer)
    {
        return std::make_unique<child>([this, keys, answer](child::door door) {
            door.wait();
            auto engine = sp::engine::open(options(host::b));
            if (!engine)
                return 1;
            const auto where = url(host::b, port, keys);
            auto rep = sp::rep::open({.listen = where, .on = &*engine});
            if (!rep)
                return sp::complain(rep.error());
            door.tell();
            while (auto question = rep->recv(patience))
                (void)std::move(*question).reply(answer, patience);
            return 3;
        });
    }
    static constexpr std::uint16_t port = 7000; // of a host that is the test's own
};

class killed_peer_over : public killed_peer, public ::testing::WithParamInterface<const char *> {};

// A killed process leaves its receive queue taken for some ten milliseconds: the next one retries.
TEST_P(killed_peer_over, is_replaced_on_the_same_port_without_a_loss)
{
    std::vector<std::unique_ptr<child>> lives;
    for (int i = 0; i < 4; ++i)
        lives.push_back(answerer(GetParam(), "alive"));
    auto req = must(sp::req::open([&] {
        auto o = quick;
        o.on = &on(host::a);
        return o;
    }()));
    (void)must(req.dial(url(host::b, port, GetParam())));
    std::atomic<int> answered = 0;
    std::jthread asker([&](const std::stop_token &stop) {
        while (!stop.stop_requested()) {
            EXPECT_EQ(text_of(req.request("?", patience)), "alive");
            ++answered;
        }
    });
    for (const auto &life : lives) {
        life->let_go();
        ASSERT_TRUE(life->wait_ready());
        const int before = answered;
        until([&] { return answered > before + 20; });
        if (&life == &lives.back())
            asker = {}; // answered to the end
        life->kill();
    }
}

INSTANTIATE_TEST_SUITE_P(by, killed_peer_over, ::testing::Values("io=kernel", "io=xdp"),
                         [](const auto &p) { return std::string(p.param).substr(3); });

TEST_F(killed_peer, leaves_no_program_behind)
{
    const auto c = answerer("io=xdp", "!");
    c->let_go();
    ASSERT_TRUE(c->wait_ready());
    EXPECT_TRUE(program_counters(host::b));
    c->kill();
    until([&] { return !program_counters(host::b); });
}

TEST_F(killed_peer, frees_its_port_at_once)
{
    const auto c = answerer("io=kernel", "!");
    c->let_go();
    ASSERT_TRUE(c->wait_ready());
    auto rep = must(sp::rep::open({.on = &on(host::b)}));
    const auto busy = rep.listen(url(host::b, port, "io=kernel"));
    ASSERT_FALSE(busy);
    EXPECT_EQ(busy.error().number(), 2002);
    EXPECT_EQ(busy.error().exit_status(), 5);
    c->kill();
    EXPECT_TRUE(rep.listen(url(host::b, port, "io=kernel")));
}

} // namespace
