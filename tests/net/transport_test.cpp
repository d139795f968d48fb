// SPDX-License-Identifier: BSD-2-Clause
//
// The kernel's raw sockets as a transport, between two hosts made of network namespaces: what one
// sends must come out at the other, from the right address, and what cannot be sent must be told.
#include "tests/net/ends.hpp"
#include "tests/net/hosts.hpp"
#include "userspace/transport/rawip.hpp"

namespace {

using namespace sp::test;
using sp::errc;
using sp::transport::rawip;

static_assert(sp::core::transport<rawip>);

class rawip_between_hosts : public on_two_hosts {
protected:
    void SetUp() override
    {
        on_two_hosts::SetUp();
        if (IsSkipped())
            return;
        open(a, host::a);
        open(b, host::b);
    }

    void open(end<rawip> &e, host which)
    {
        auto opened = rawip::open({.netns_fd = two().netns_fd(which)}, e.stats);
        ASSERT_TRUE(opened) << opened.error().what() << ": " << opened.error().why();
        e.opened.emplace(std::move(*opened));
        ASSERT_TRUE(e->add_port(which == host::a ? port_a : port_b));
    }
    sp_address address(host which, int family = AF_INET)
    {
        return address_of(two().address(which, family));
    }

    end<rawip> a, b;
};

TEST_F(rawip_between_hosts, carries_packets_both_ways)
{
    for (int family : {AF_INET, AF_INET6}) {
        const auto there = a->open_route(address(host::b, family));
        ASSERT_TRUE(there) << a->failure().why();
        ASSERT_TRUE(reaches(a, *there, b, port_b, port_a));
        EXPECT_TRUE(sp::transport::same(b.last.from, address(host::a, family)));
        EXPECT_EQ(b.last.bytes, packet_bytes);
        const auto back = b->open_route(b.last.from);
        ASSERT_TRUE(back);
        EXPECT_TRUE(reaches(b, *back, a, port_a, port_b));
        EXPECT_EQ(a->packet_max(*there), family == AF_INET ? 1480u : 1460u);
        EXPECT_EQ(a->name(*there), "ip/kernel");
    }
    EXPECT_EQ(a.stats[sp::stat::rawip_received], a.received);
}

TEST_F(rawip_between_hosts, finds_packets_in_hot_sweeps)
{
    const auto there = a->open_route(address(host::b));
    ASSERT_TRUE(there && reaches(a, *there, b, port_b, port_a));
    ASSERT_TRUE(a.send(*there, port_b, port_a, 77));
    EXPECT_TRUE(eventually([&] { return b.sweep(sp::core::sweep::hot) == 1; }));
}

TEST_F(rawip_between_hosts, passes_only_packets_for_its_ports)
{
    const auto there = a->open_route(address(host::b));
    ASSERT_TRUE(there && reaches(a, *there, b, port_b, port_a));
    while (b.sweep() != 0)
        ;
    b.received = 0;
    ASSERT_TRUE(a.send(*there, port_b + 1, port_a, 1));
    ASSERT_TRUE(b->add_port(port_b + 2));
    ASSERT_TRUE(a.send(*there, port_b + 2, port_a, 2));
    EXPECT_TRUE(eventually([&] { return b.sweep() != 0; }));
    EXPECT_EQ(b.last.mark, 2u);
    b->remove_port(port_b);
    ASSERT_TRUE(a.send(*there, port_b, port_a, 3));
    EXPECT_TRUE(reaches(a, *there, b, port_b + 2, port_a));
    EXPECT_NE(b.last.mark, 3u);
}

TEST_F(rawip_between_hosts, reserve_ports_for_one_owner_per_host)
{
    sp::counters stats;
    auto other = rawip::open({.netns_fd = two().netns_fd(host::b)}, stats);
    ASSERT_TRUE(other);
    const auto taken = other->add_port(port_b);
    ASSERT_FALSE(taken);
    EXPECT_EQ(taken.error().number(), 2002);
    EXPECT_EQ(taken.error().what(), "port 2000 is in use");
    EXPECT_TRUE(other->add_port(port_a)); // another namespace has its own ports
    b->remove_port(port_b);
    EXPECT_TRUE(other->add_port(port_b));
    const auto ephemeral = other->add_ephemeral_port();
    ASSERT_TRUE(ephemeral);
    EXPECT_GE(*ephemeral, 49152);
}

TEST_F(rawip_between_hosts, answer_from_the_address_that_was_asked)
{
    const auto second = two().address(host::b).substr(0, two().address(host::b).rfind('.')) + ".77";
    two().must_run(host::b,
                   {"ip", "address", "add", second + "/24", "dev", hosts::interface(host::b)});
    const auto there = a->open_route(address_of(second));
    ASSERT_TRUE(there && reaches(a, *there, b, port_b, port_a));
    const auto back = b->open_route(b.last.from);
    ASSERT_TRUE(back && reaches(b, *back, a, port_a, port_b));
    EXPECT_TRUE(sp::transport::same(a.last.from, address_of(second)));
    std::array<std::byte, packet_bytes> stray;
    write_packet(stray, port_a, port_b, 4711);
    b->send_to(address(host::a), stray);
    EXPECT_TRUE(eventually([&] { return a.sweep() != 0 && a.last.mark == 4711; }));
    EXPECT_TRUE(sp::transport::same(a.last.from, address_of(second)));
}

TEST_F(rawip_between_hosts, tell_when_no_sp_runs_at_the_peer)
{
    b.opened.reset();
    for (int family : {AF_INET, AF_INET6}) {
        const auto there = a->open_route(address(host::b, family));
        ASSERT_TRUE(there);
        std::optional<std::pair<sp_address, errc>> failure;
        auto next = std::chrono::steady_clock::now();
        EXPECT_TRUE(eventually([&] {
            if (std::chrono::steady_clock::now() >= next) {
                (void)a.send(*there, port_b, port_a, 1);
                next += 100ms;
            }
            a.sweep();
            failure = a->next_failure();
            return failure.has_value();
        }));
        ASSERT_TRUE(failure);
        EXPECT_TRUE(sp::transport::same(failure->first, address(host::b, family)));
        EXPECT_EQ(failure->second, errc::connection_refused);
    }
}

TEST_F(rawip_between_hosts, follow_the_mtu_of_the_route)
{
    const auto there = a->open_route(address(host::b));
    ASSERT_TRUE(there);
    two().must_run(host::a, {"ip", "link", "set", hosts::interface(host::a), "mtu", "1300"});
    EXPECT_TRUE(eventually([&] {
        a.sweep();
        return a->packet_max(*there) == 1280;
    }));
}

TEST_F(rawip_between_hosts, say_why_there_is_no_route)
{
    EXPECT_FALSE(a->open_route(address_of("198.19.255.1")));
    EXPECT_EQ(a->failure().number(), 1023);
    EXPECT_EQ(a->failure().why(), "Network is unreachable");
    EXPECT_FALSE(a->open_route(address_of("224.0.0.1")));
}

TEST_F(rawip_between_hosts, need_the_right_to_open_raw_sockets)
{
    EXPECT_EQ(in_a_child([] {
                  if (::setresuid(65534, 65534, 65534) != 0)
                      return 100;
                  sp::counters stats;
                  const auto opened = rawip::open({}, stats);
                  return !opened && opened.error().number() == 1001 ? 0 : 1;
              }),
              0);
}

} // namespace
