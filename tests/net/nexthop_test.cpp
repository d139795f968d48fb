// SPDX-License-Identifier: BSD-2-Clause
#include "tests/net/ends.hpp"
#include "tests/net/hosts.hpp"
#include "userspace/transport/nexthop.hpp"

namespace {

using namespace sp::test;
using sp::transport::nexthop;
using sp::transport::same;

class nexthop_of_a_host : public on_two_hosts {
protected:
    void SetUp() override
    {
        on_two_hosts::SetUp();
        if (IsSkipped())
            return;
        const auto inside = two().in(host::a);
        auto opened = nexthop::open();
        ASSERT_TRUE(opened) << opened.error().why();
        kernel.emplace(std::move(*opened));
    }

    void ip(std::vector<std::string> words)
    {
        words.insert(words.begin(), "ip");
        two().must_run(host::a, words);
    }
    auto ask(const std::string &destination)
    {
        return kernel->resolve(address_of(destination), {});
    }
    sp_address address(host which, int family = AF_INET)
    {
        return address_of(two().address(which, family));
    }

    const std::string device = hosts::interface(host::a);
    std::optional<nexthop> kernel;
};

TEST_F(nexthop_of_a_host, is_the_neighbour_itself_on_the_same_net)
{
    for (int family : {AF_INET, AF_INET6}) {
        const auto hop = ask(two().address(host::b, family));
        ASSERT_TRUE(hop);
        EXPECT_EQ(hop->oif, two().ifindex(host::a));
        EXPECT_TRUE(same(hop->via, address(host::b, family)));
        EXPECT_TRUE(same(hop->source, address(host::a, family)));
        EXPECT_EQ(hop->mtu, 1500u);
        EXPECT_FALSE(hop->local);
        EXPECT_TRUE(hop->link.ethernet && hop->link.up);
    }
}

TEST_F(nexthop_of_a_host, is_the_gateway_for_other_nets)
{
    ip({"route", "add", "198.19.1.0/24", "via", two().address(host::b), "mtu", "1400"});
    const auto hop = ask("198.19.1.9");
    ASSERT_TRUE(hop);
    EXPECT_TRUE(same(hop->via, address(host::b)));
    EXPECT_EQ(hop->mtu, 1400u);
}

TEST_F(nexthop_of_a_host, may_be_an_ipv6_gateway_of_an_ipv4_route)
{
    ip({"route", "add", "198.19.2.0/24", "via", "inet6", two().address(host::b, AF_INET6), "dev",
        device});
    const auto hop = ask("198.19.2.9");
    ASSERT_TRUE(hop);
    EXPECT_TRUE(same(hop->via, address(host::b, AF_INET6)));
}

TEST_F(nexthop_of_a_host, honours_policy_routing)
{
    ip({"rule", "add", "to", "198.19.3.0/24", "table", "77"});
    ip({"route", "add", "198.19.3.0/24", "via", two().address(host::b), "table", "77"});
    const auto hop = ask("198.19.3.9");
    ASSERT_TRUE(hop);
    EXPECT_TRUE(same(hop->via, address(host::b)));
}

TEST_F(nexthop_of_a_host, is_refused_with_the_reason_of_the_kernel)
{
    ip({"route", "add", "unreachable", "198.19.4.0/24"});
    ip({"route", "add", "prohibit", "198.19.5.0/24"});
    const std::pair<const char *, std::errc> cases[] = {
        {"198.19.4.1", std::errc::host_unreachable},
        {"198.19.5.1", std::errc::permission_denied},
        {"198.19.6.1", std::errc::network_unreachable},
        {"fd00:5371::1", std::errc::network_unreachable},
    };
    for (const auto &[destination, why] : cases) {
        const auto hop = ask(destination);
        ASSERT_FALSE(hop) << destination;
        EXPECT_EQ(hop.error(), why)
            << destination << ": " << std::make_error_code(hop.error()).message();
    }
}

TEST_F(nexthop_of_a_host, is_local_for_an_address_of_its_own)
{
    const auto hop = ask(two().address(host::a));
    ASSERT_TRUE(hop);
    EXPECT_TRUE(hop->local);
}

TEST_F(nexthop_of_a_host, has_a_mac_only_while_the_kernel_has_one)
{
    const auto entry = [&](const char *state) {
        ip({"neigh", "replace", two().address(host::b), "lladdr", "02:00:00:00:00:09", "dev",
            device, "nud", state});
        return ask(two().address(host::b))->to;
    };
    const auto permanent = entry("permanent");
    ASSERT_TRUE(permanent);
    EXPECT_TRUE(permanent->fresh);
    const auto stale = entry("stale");
    ASSERT_TRUE(stale);
    EXPECT_FALSE(stale->fresh);
    EXPECT_FALSE(entry("failed"));
}

TEST_F(nexthop_of_a_host, is_asked_for_when_somebody_uses_it)
{
    ip({"neigh", "flush", "dev", device});
    const auto hop = ask(two().address(host::b));
    ASSERT_TRUE(hop);
    EXPECT_FALSE(hop->to);
    kernel->use(*hop);
    EXPECT_TRUE(eventually([&] { return ask(two().address(host::b))->to.has_value(); }));
}

TEST_F(nexthop_of_a_host, moves_its_generation_with_every_change)
{
    while (kernel->read_events())
        ;
    const auto links = kernel->link_generation(), addresses = kernel->address_generation();
    ip({"address", "add", "198.19.7.1/24", "dev", device});
    EXPECT_TRUE(eventually([&] { return kernel->read_events(); }));
    EXPECT_GT(kernel->address_generation(), addresses);
    EXPECT_EQ(kernel->addresses(two().ifindex(host::a)).count, 4u); // IPv6 link-local besides
    ip({"link", "set", device, "mtu", "1400"});
    EXPECT_TRUE(eventually([&] {
        kernel->read_events();
        return kernel->link_generation() > links;
    }));
}

} // namespace
