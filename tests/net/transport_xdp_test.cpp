// SPDX-License-Identifier: BSD-2-Clause
//
// AF_XDP as a transport, between two hosts whose veth ends carry the steering program: the rings
// take over when the neighbour is known, the kernel's way serves whenever they cannot, and nothing
// that happens to a device leads to a crash, a spin or a lost frame.
#include "tests/net/ends.hpp"
#include "tests/net/hosts.hpp"
#include "userspace/transport/xdp.hpp"
#include "userspace/xdp/steer.hpp"

#include <bpf/bpf.h>
#include <linux/capability.h>
#include <net/if.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>

namespace {

using namespace sp::test;
using sp::errc;
using sp::transport::xdp;
using sp::transport::zerocopy;
using steer_program = sp::xdp::steering;

static_assert(sp::core::transport<xdp>);

class xdp_between_hosts : public on_two_hosts {
protected:
    void SetUp() override
    {
        on_two_hosts::SetUp();
        if (IsSkipped())
            return;
        attach(program_a, host::a);
        attach(program_b, host::b);
        two().wait_for_link();
        open(a, host::a);
        open(b, host::b);
    }

    void attach(std::optional<steer_program> &program, host which)
    {
        const auto inside = two().in(which);
        auto attached = steer_program::attach(hosts::interface(which), {});
        ASSERT_TRUE(attached) << attached.error().what() << ": " << attached.error().why();
        program.emplace(std::move(*attached));
    }

    sp::transport::xdp_options options(host which)
    {
        const auto &program = which == host::a ? *program_a : *program_b;
        sp::transport::xdp_options o;
        o.interface = hosts::interface(which);
        o.ifindex = two().ifindex(which);
        o.maps = {program.xsks_fd(), program.ports_fd(), program.local_fd()};
        o.kernel.netns_fd = two().netns_fd(which);
        return o;
    }

    void open(end<xdp> &e, host which)
    {
        auto opened = xdp::open(options(which), e.stats);
        ASSERT_TRUE(opened) << opened.error().what() << ": " << opened.error().why();
        e.opened.emplace(std::move(*opened));
        ASSERT_TRUE(e->add_port(which == host::a ? port_a : port_b));
    }

    sp_address address(host which, int family = AF_INET)
    {
        return address_of(two().address(which, family));
    }

    // Both ends have a route to each other that goes through the rings.
    std::pair<sp::route_id, sp::route_id> meet(int family = AF_INET)
    {
        const auto there = a->open_route(address(host::b, family));
        const auto back = b->open_route(address(host::a, family));
        EXPECT_TRUE(there && back);
        EXPECT_TRUE(accelerates(a, *there, b, port_b, port_a));
        EXPECT_TRUE(accelerates(b, *back, a, port_a, port_b));
        return {*there, *back};
    }

    static bool accelerates(end<xdp> &from, sp::route_id route, end<xdp> &to, std::uint16_t to_port,
                            std::uint16_t from_port)
    {
        return eventually([&] {
            return reaches(from, route, to, to_port, from_port) && from->name(route) == "ip/xdp";
        });
    }

    std::string link(host which) const { return hosts::interface(which); }

    std::optional<steer_program> program_a, program_b;
    end<xdp> a, b;
};

TEST_F(xdp_between_hosts, carries_packets_both_ways)
{
    for (int family : {AF_INET, AF_INET6}) {
        const auto [there, back] = meet(family);
        const auto before = b.stats[sp::stat::xsk_received];
        ASSERT_TRUE(reaches(a, there, b, port_b, port_a));
        EXPECT_GT(b.stats[sp::stat::xsk_received], before);
        EXPECT_TRUE(sp::transport::same(b.last.from, address(host::a, family)));
        EXPECT_EQ(b.last.bytes, packet_bytes);
        EXPECT_EQ(a->packet_max(there), family == AF_INET ? 1480u : 1460u);
        ASSERT_TRUE(reaches(b, back, a, port_a, port_b));
        EXPECT_TRUE(sp::transport::same(a.last.from, address(host::b, family)));
    }
    EXPECT_FALSE(a->zero_copy()); // veth copies
}

TEST_F(xdp_between_hosts, send_through_the_kernel_until_the_neighbour_is_known)
{
    two().must_run(host::a, {"ip", "neigh", "flush", "dev", link(host::a)});
    const auto there = a->open_route(address(host::b));
    ASSERT_TRUE(there);
    EXPECT_EQ(a->name(*there), "ip/kernel");
    ASSERT_TRUE(a.send(*there, port_b, port_a,
                       4711)); // the kernel asks for the neighbour and keeps the packet
    EXPECT_EQ(a.stats[sp::stat::xsk_no_neighbour], 1u);
    EXPECT_TRUE(eventually([&] {
        a.sweep();
        b.sweep();
        return b.last.mark == 4711 && a->name(*there) == "ip/xdp";
    }));
    EXPECT_EQ(a.stats[sp::stat::rawip_sent], 1u);
}

TEST_F(xdp_between_hosts, find_packets_in_hot_sweeps_without_the_kernel)
{
    const auto [there, back] = meet();
    ASSERT_TRUE(a.send(there, port_b, port_a, 99));
    EXPECT_TRUE(eventually([&] { return b.sweep(sp::core::sweep::hot) == 1; }));
    EXPECT_EQ(b.last.mark, 99u);
}

TEST_F(xdp_between_hosts, wake_only_while_they_are_armed)
{
    const auto [there, back] = meet();
    pollfd wake{b->wake_fd(), POLLIN, 0};
    const auto readable = [&] { return ::poll(&wake, 1, 0) == 1; };
    EXPECT_TRUE(eventually([&] {
        b.sweep();
        return !readable();
    }));
    b->disarm();
    ASSERT_TRUE(a.send(there, port_b, port_a, 1));
    EXPECT_FALSE(readable()); // over veth a packet is in the ring when the sender's call returns
    b->arm();
    EXPECT_TRUE(eventually(readable));
    EXPECT_EQ(b.sweep(sp::core::sweep::hot), 1u);
    EXPECT_FALSE(readable());
    ASSERT_TRUE(a.send(there, port_b, port_a, 2));
    EXPECT_TRUE(eventually(readable));
}

TEST_F(xdp_between_hosts, never_run_out_of_frames)
{
    constexpr std::size_t packets = 100'000, window = 256, burst = 32;
    const auto [there, back] = meet();
    while (b.sweep() != 0)
        ;
    b.received = 0;
    const auto before = b.stats[sp::stat::xsk_received];
    std::size_t sent = 0;
    ASSERT_TRUE(eventually(
        [&] {
            for (std::size_t i = 0; i < burst && sent < packets && sent - b.received < window;
                 ++i) {
                const auto room = a->reserve(there, packet_bytes);
                if (room.empty())
                    break;
                write_packet(room, port_b, port_a, static_cast<std::uint32_t>(sent));
                a->submit(there, packet_bytes);
                ++sent;
            }
            a->flush();
            a.sweep(sp::core::sweep::hot);
            b.sweep(sent % 1024 ? sp::core::sweep::hot : sp::core::sweep::full);
            return b.received >= packets;
        },
        std::chrono::seconds(20)));
    a.sweep();
    b.sweep();
    EXPECT_EQ(b.received, packets);
    EXPECT_EQ(b.stats[sp::stat::xsk_received] - before, packets);
    EXPECT_EQ(b.stats[sp::stat::xsk_fill_empty], 0u);
    EXPECT_EQ(b.stats[sp::stat::xsk_rx_ring_full], 0u);
    EXPECT_EQ(a.stats[sp::stat::xsk_bad_descriptor] + b.stats[sp::stat::xsk_bad_descriptor], 0u);
}

TEST_F(xdp_between_hosts, feel_back_pressure_when_nothing_is_flushed)
{
    const auto [there, back] = meet();
    std::size_t reserved = 0;
    while (!a->reserve(there, packet_bytes).empty() && reserved < 10'000) {
        a->submit(there, packet_bytes);
        ++reserved;
    }
    EXPECT_EQ(reserved, 2048u);
    EXPECT_EQ(a.stats[sp::stat::xsk_tx_ring_full], 1u);
    EXPECT_TRUE(eventually([&] {
        a->flush();
        a.sweep();
        return !a->reserve(there, packet_bytes).empty();
    }));
}

TEST_F(xdp_between_hosts, survive_an_interface_that_goes_down_and_up)
{
    const auto [there, back] = meet();
    two().must_run(host::a, {"ip", "link", "set", link(host::a), "down"});
    for (int i = 0; i < 100; ++i) {
        (void)a.send(there, port_b, port_a, 1);
        a.sweep();
        b.sweep();
    }
    EXPECT_EQ(a->name(there), "ip/kernel");
    two().must_run(host::a, {"ip", "link", "set", link(host::a), "up"});
    two().wait_for_link();
    EXPECT_TRUE(accelerates(a, there, b, port_b, port_a));
    EXPECT_TRUE(accelerates(b, back, a, port_a, port_b));
}

TEST_F(xdp_between_hosts, follow_the_peer_to_another_mac)
{
    const auto [there, back] = meet();
    const auto before = a.stats[sp::stat::xsk_sent];
    two().must_run(host::b, {"ip", "link", "set", link(host::b), "address", "02:00:00:00:53:70"});
    two().must_run(host::a, {"ip", "neigh", "replace", two().address(host::b), "lladdr",
                             "02:00:00:00:53:70", "dev", link(host::a), "nud", "reachable"});
    ASSERT_TRUE(accelerates(a, there, b, port_b, port_a));
    ASSERT_TRUE(accelerates(b, back, a, port_a, port_b));
    EXPECT_GT(a.stats[sp::stat::xsk_sent], before);
    const auto &hop = a->way_of(there);
    ASSERT_TRUE(hop && hop->to);
    EXPECT_EQ(hop->to->mac, (sp::transport::mac_address{0x02, 0, 0, 0, 0x53, 0x70}));
}

TEST_F(xdp_between_hosts, use_no_mac_that_means_more_than_one_station)
{
    const auto [there, back] = meet();
    two().must_run(host::a, {"ip", "neigh", "replace", two().address(host::b), "lladdr",
                             "ff:ff:ff:ff:ff:ff", "dev", link(host::a), "nud", "permanent"});
    EXPECT_TRUE(eventually([&] {
        a.sweep();
        return a->name(there) == "ip/kernel";
    }));
}

TEST_F(xdp_between_hosts, go_on_through_the_kernel_when_the_device_is_gone)
{
    const auto [there, back] = meet();
    two().must_run(host::a, {"ip", "link", "del", link(host::a)});
    EXPECT_TRUE(eventually([&] {
        (void)a.send(there, port_b, port_a, 1);
        a.sweep();
        b.sweep();
        return !a->accelerated() && !b->accelerated();
    }));
    EXPECT_EQ(a->name(there), "ip/kernel");
    pollfd quiet{a->wake_fd(), POLLIN, 0};
    EXPECT_TRUE(eventually([&] {
        a.sweep();
        return ::poll(&quiet, 1, 0) == 0;
    }));
}

TEST_F(xdp_between_hosts, go_on_through_the_kernel_when_the_program_is_gone)
{
    const auto [there, back] = meet();
    program_b.reset();
    const auto before = b.stats[sp::stat::rawip_received];
    EXPECT_TRUE(reaches(a, there, b, port_b, port_a));
    EXPECT_GT(b.stats[sp::stat::rawip_received], before);
}

TEST_F(xdp_between_hosts, take_a_queue_again_at_once_after_a_restart)
{
    for (int i = 0; i < 3; ++i) {
        b.opened.reset();
        open(b, host::b);
    }
    (void)meet();
}

TEST_F(xdp_between_hosts, say_that_a_queue_is_in_use)
{
    sp::counters stats;
    const auto second = xdp::open(options(host::b), stats);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().number(), 1008);
}

TEST_F(xdp_between_hosts, say_when_zero_copy_is_refused)
{
    b.opened.reset();
    auto strict = options(host::b);
    strict.zerocopy = zerocopy::required;
    const auto refused = xdp::open(strict, b.stats);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().number(), 1012);
}

TEST_F(xdp_between_hosts, say_how_much_memory_may_be_locked)
{
    b.opened.reset();
    const auto wanted = options(host::b);
    const auto status = in_a_child([&] {
        const rlimit small{1 << 20, 1 << 20};
        __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
        __user_cap_data_struct data[2]{};
        if (::syscall(SYS_capget, &header, data) != 0)
            return 100;
        for (auto &half : data)
            half.inheritable = 0;
        data[0].effective = data[0].permitted &= ~(1u << CAP_IPC_LOCK);
        if (::setrlimit(RLIMIT_MEMLOCK, &small) != 0 || ::syscall(SYS_capset, &header, data) != 0)
            return 101;
        sp::counters stats;
        const auto opened = xdp::open(wanted, stats);
        if (opened || opened.error().number() != 1009)
            return 1;
        const bool told = opened.error().what().find("8.0 MiB") != std::string_view::npos &&
                          opened.error().why().find("1.0 MiB") != std::string_view::npos;
        return told ? 0 : 2;
    });
    EXPECT_EQ(status, 0);
}

TEST_F(xdp_between_hosts, tell_the_program_what_it_serves_and_take_it_back)
{
    const auto served = [&](int family) {
        sp_local_key key{};
        const auto own = address(host::b, family);
        if (family == AF_INET)
            key.bytes[10] = key.bytes[11] = 0xff;
        std::memcpy(key.bytes + 16 - own.length, own.bytes, own.length);
        std::uint32_t owners = 0;
        (void)bpf_map_lookup_elem(program_b->local_fd(), &key, &owners);
        return owners;
    };
    EXPECT_EQ(served(AF_INET), 1u);
    EXPECT_EQ(served(AF_INET6), 1u);
    two().must_run(host::b,
                   {"ip", "address", "del", two().address(host::b) + "/24", "dev", link(host::b)});
    EXPECT_TRUE(eventually([&] {
        b.sweep();
        return served(AF_INET) == 0;
    }));
    b.opened.reset();
    EXPECT_EQ(served(AF_INET6), 0u);
    const std::uint32_t key = port_b;
    std::uint16_t shard = 1;
    ASSERT_EQ(bpf_map_lookup_elem(program_b->ports_fd(), &key, &shard), 0);
    EXPECT_EQ(shard, 0);
}

} // namespace
