// SPDX-License-Identifier: BSD-2-Clause
//
// Loading, describing, replacing and unloading the XDP program on veth devices in network
// namespaces, and what is left when a process that held one is killed.
#include "tests/net/xdp_fixture.hpp"
#include "userspace/xdp/device.hpp"
#include "userspace/xdp/pins.hpp"

#include <atomic>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <csignal>
#include <gmock/gmock.h>
#include <linux/bpf.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>

namespace sp::xdp {
namespace {

using test::host;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// ---- load, status, unload ----

TEST_F(xdp, loaded_program_is_pinned_and_described)
{
    const auto report = must_load(options());
    EXPECT_EQ(report.outcome, load_outcome::loaded);
    EXPECT_EQ(report.attached, mode::native);
    EXPECT_EQ(report.ifindex, veth_a());
    EXPECT_EQ(report.tag.size(), 16u);
    EXPECT_TRUE(report.remark.empty());

    struct ::stat space{};
    ASSERT_EQ(::stat("/proc/thread-self/ns/net", &space), 0);
    EXPECT_EQ(report.pinned_in, root() + "/veth-a@" + std::to_string(space.st_ino));
    for (const auto *name : {"link", "prog", "maps/sp_config", "maps/sp_stats", "maps/sp_ports",
                             "maps/sp_local", "maps/sp_xsks", "maps/sp_pings"})
        EXPECT_TRUE(std::filesystem::exists(report.pinned_in + '/' + name)) << name;
    struct ::stat mode_of_root{};
    ASSERT_EQ(::stat(root().c_str(), &mode_of_root), 0);
    EXPECT_EQ(mode_of_root.st_mode & 07777, 0750u);

    const auto one = must_status();
    EXPECT_EQ(one.name, "veth-a");
    EXPECT_EQ(one.ifindex, veth_a());
    EXPECT_EQ(one.attached, mode::native);
    EXPECT_EQ(one.program_id, report.program_id);
    EXPECT_EQ(one.program_name, "sp_steer");
    EXPECT_EQ(one.tag, report.tag);
    EXPECT_TRUE(one.ours);
    EXPECT_EQ(one.kept_by, "pin");
    EXPECT_EQ(one.layout, SP_MAP_LAYOUT);
    EXPECT_EQ(one.version, SP_VERSION);
    EXPECT_EQ(one.protocol, SP_IP_PROTOCOL);
    EXPECT_EQ(one.ports_served, 0u);
    ASSERT_TRUE(one.uptime);
    EXPECT_GE(one.uptime->count(), 0);
    EXPECT_LT(*one.uptime, std::chrono::minutes(5));
    EXPECT_TRUE(one.counters);
}

TEST_F(xdp, loading_twice_is_already_loaded)
{
    const auto first = must_load(options());
    const auto second = must_load(options());
    EXPECT_EQ(second.outcome, load_outcome::already);
    EXPECT_EQ(second.program_id, first.program_id);
    EXPECT_EQ(second.pinned_in, first.pinned_in);
    EXPECT_EQ(must_status().program_id, first.program_id);
}

TEST_F(xdp, unloading_leaves_nothing_and_may_be_repeated)
{
    const auto report = must_load(options());
    const auto done = unload("veth-a", root());
    ASSERT_TRUE(done) << text(done.error());
    EXPECT_TRUE(*done);
    EXPECT_FALSE(attached_to(veth_a()));
    EXPECT_FALSE(std::filesystem::exists(report.pinned_in));
    const auto again = unload("veth-a", root());
    ASSERT_TRUE(again) << text(again.error());
    EXPECT_FALSE(*again);
    const auto all = status(std::nullopt, root());
    ASSERT_TRUE(all);
    EXPECT_THAT(*all, IsEmpty());
}

TEST_F(xdp, unloading_detaches_even_while_a_process_has_the_maps_open)
{
    must_load(options());
    const auto user = steering::open_pinned("veth-a", root());
    ASSERT_TRUE(user) << text(user.error());
    EXPECT_TRUE(user->attached());
    ASSERT_TRUE(unload("veth-a", root()));
    EXPECT_FALSE(user->attached());
    EXPECT_FALSE(attached_to(veth_a()));
}

TEST_F(xdp, unload_of_what_was_never_loaded_makes_no_directory)
{
    const auto done = unload("veth-a", root());
    ASSERT_TRUE(done) << text(done.error());
    EXPECT_FALSE(*done);
    EXPECT_FALSE(std::filesystem::exists(root()));
}

TEST_F(xdp, dry_run_attaches_and_pins_nothing)
{
    auto chosen = options();
    chosen.dry_run = true;
    EXPECT_EQ(must_load(chosen).outcome, load_outcome::verified);
    EXPECT_FALSE(attached_to(veth_a()));
    EXPECT_FALSE(std::filesystem::exists(root()));
}

TEST_F(xdp, skb_mode_is_what_was_asked_for)
{
    auto chosen = options();
    chosen.how = mode::skb;
    EXPECT_EQ(must_load(chosen).attached, mode::skb);
    EXPECT_EQ(must_status().attached, mode::skb);
    chosen.how = mode::native;
    const auto other = load("veth-a", chosen);
    ASSERT_FALSE(other);
    EXPECT_EQ(other.error().number(), 1013);
    EXPECT_THAT(text(other.error()),
                HasSubstr("sp xdp unload veth-a, then sp xdp load veth-a -m native"));
    EXPECT_EQ(must_status().attached, mode::skb);
}

TEST_F(xdp, status_counts_served_ports_and_packets)
{
    must_load(options());
    const auto maps = steering::open_pinned("veth-a", root());
    ASSERT_TRUE(maps) << text(maps.error());
    for (const std::uint32_t port : {0u, 4095u, 4096u, 8080u, 65535u}) {
        const std::uint16_t shard = 1;
        ASSERT_EQ(bpf_map_update_elem(maps->ports_fd(), &port, &shard, BPF_ANY), 0);
    }
    const auto one = must_status();
    EXPECT_EQ(one.ports_served, 5u);
    ASSERT_TRUE(one.counters);
    const auto read = read_stats(maps->stats_fd());
    ASSERT_TRUE(read);
    EXPECT_GE((*read)[SP_XDP_not_sp], (*one.counters)[SP_XDP_not_sp]);
}

TEST_F(xdp, an_interface_with_a_dot_in_its_name_can_be_loaded)
{
    ip({"link", "add", "veth-a.7", "type", "veth", "peer", "name", "veth-c"});
    const auto report = must_load(options(), "veth-a.7");
    EXPECT_THAT(report.pinned_in, HasSubstr("/veth-a%2e7@"));
    EXPECT_TRUE(steering::open_pinned("veth-a.7", root()));
    const auto done = unload("veth-a.7", root());
    ASSERT_TRUE(done) << text(done.error());
    EXPECT_TRUE(*done);
}

TEST_F(xdp, equal_names_in_two_namespaces_have_pins_of_their_own)
{
    const auto first = must_load(options());
    const auto there = two().in(host::b);
    ip({"link", "set", "veth-b", "down"});
    ip({"link", "set", "veth-b", "name", "veth-a"});
    ip({"link", "set", "veth-a", "up"});
    const auto second = must_load(options());
    EXPECT_EQ(second.outcome, load_outcome::loaded);
    EXPECT_NE(first.pinned_in, second.pinned_in);
    ASSERT_TRUE(unload("veth-a", root()));
    const auto back = two().in(host::a);
    EXPECT_EQ(must_status().kept_by, "pin");
}

// ---- replacing
TEST(xdp_pins, names_hold_nothing_that_a_bpf_file_system_reserves)
{
    struct ::stat own{};
    ASSERT_EQ(::stat("/proc/thread-self/ns/net", &own), 0);
    if (own.st_ino ==
        0xeffffff9) { // the first one, from Linux 6.18 on; the other tests run in others
        EXPECT_EQ(pin_directory("/r", "eth0"), "/r/eth0");
    }
    EXPECT_THAT(pin_directory("/r", "a.b@c%d+e"), ::testing::StartsWith("/r/a%2eb%40c%25d%2be"));
}

// -----------------------------------------------------------------------------------------------

TEST_F(xdp, other_options_need_replace_and_keep_counters_and_maps)
{
    const auto first = must_load(options());
    const auto user = steering::open_pinned("veth-a", root());
    ASSERT_TRUE(user) << text(user.error());
    const std::uint32_t port = 8080;
    const std::uint16_t shard = 1;
    ASSERT_EQ(bpf_map_update_elem(user->ports_fd(), &port, &shard, BPF_ANY), 0);
    // A count that no traffic of this test reaches.
    constexpr std::uint64_t mark = 1'000'000;
    std::vector<sp_xdp_stats> each(static_cast<std::size_t>(libbpf_num_possible_cpus()));
    each.front().count[SP_XDP_bad_type] = mark;
    const std::uint32_t only = 0;
    ASSERT_EQ(bpf_map_update_elem(user->stats_fd(), &only, each.data(), BPF_ANY), 0);

    auto chosen = options();
    chosen.udp_port = 5370;
    const auto refused = load("veth-a", chosen);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().number(), 1013);
    EXPECT_THAT(text(refused.error()), HasSubstr("other options"));
    EXPECT_THAT(text(refused.error()), HasSubstr("sp xdp load veth-a --replace"));
    EXPECT_EQ(must_status().program_id, first.program_id);
    EXPECT_EQ(must_status().udp_port, 0);

    chosen.replace = true;
    const auto second = must_load(chosen);
    EXPECT_EQ(second.outcome, load_outcome::replaced);
    EXPECT_TRUE(second.counters_kept);
    EXPECT_NE(second.program_id, first.program_id);
    EXPECT_EQ(second.pinned_in, first.pinned_in);
    const auto now = must_status();
    EXPECT_EQ(now.program_id, second.program_id);
    EXPECT_EQ(now.udp_port, 5370);
    EXPECT_EQ(now.ports_served, 1u);
    ASSERT_TRUE(now.counters);
    EXPECT_EQ((*now.counters)[SP_XDP_bad_type], mark);
    EXPECT_TRUE(user->attached()) << "who had the maps open goes on";
    EXPECT_EQ(must_load(chosen).outcome, load_outcome::already);
    std::vector<std::string> directories;
    for (const auto &entry : std::filesystem::directory_iterator(root()))
        if (entry.is_directory())
            directories.push_back(entry.path());
    EXPECT_THAT(directories, ElementsAre(first.pinned_in)) << "the old pins are gone";
}

TEST_F(xdp, replacing_never_leaves_the_interface_without_a_program)
{
    constexpr int replacements = 20;
    must_load(options());
    std::atomic<bool> stop{false};
    std::atomic<int> looked{0}, missing{0};
    std::thread watcher([&] {
        const auto inside = two().in(host::a);
        while (!stop.load(std::memory_order_relaxed)) {
            if (!attached_to(veth_a()))
                ++missing;
            ++looked;
        }
    });
    auto chosen = options();
    chosen.replace = true;
    for (int i = 1; i <= replacements; ++i) {
        chosen.udp_port = static_cast<std::uint16_t>(i);
        EXPECT_EQ(must_load(chosen).outcome, load_outcome::replaced);
    }
    stop = true;
    watcher.join();
    EXPECT_EQ(missing, 0);
    EXPECT_GT(looked, replacements);
}

TEST_F(xdp, maps_of_another_layout_are_refused_until_replaced)
{
    must_load(options());
    const std::uint32_t only = 0;
    {
        const auto maps = steering::open_pinned("veth-a", root());
        ASSERT_TRUE(maps) << text(maps.error());
        sp_config config{};
        ASSERT_EQ(bpf_map_lookup_elem(maps->config_fd(), &only, &config), 0);
        config.layout = SP_MAP_LAYOUT + 76;
        ASSERT_EQ(bpf_map_update_elem(maps->config_fd(), &only, &config, BPF_ANY), 0);
    }
    const auto opened = steering::open_pinned("veth-a", root());
    ASSERT_FALSE(opened);
    EXPECT_EQ(text(opened.error()),
              "SP1013 the loaded XDP program is of another version | its maps have layout " +
                  std::to_string(SP_MAP_LAYOUT + 76) + ", this sp needs " +
                  std::to_string(SP_MAP_LAYOUT) + " | sp xdp load veth-a --replace");
    EXPECT_EQ(must_status().layout, SP_MAP_LAYOUT + 76u);
    EXPECT_FALSE(must_status().counters);

    auto chosen = options();
    const auto refused = load("veth-a", chosen);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().number(), 1013);
    chosen.replace = true;
    const auto replaced = must_load(chosen);
    EXPECT_EQ(replaced.outcome, load_outcome::replaced);
    EXPECT_FALSE(replaced.counters_kept);
    EXPECT_TRUE(steering::open_pinned("veth-a", root()));
    EXPECT_EQ(must_status().layout, SP_MAP_LAYOUT);
}

TEST_F(xdp, pins_of_a_device_that_was_made_anew_do_not_count)
{
    must_load(options());
    ip({"link", "del", "veth-a"});
    ip({"link", "add", "veth-a", "index", "31", "type", "veth", "peer", "name", "veth-c", "index",
        "32"});
    const auto opened = steering::open_pinned("veth-a", root());
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code(), errc::not_found) << text(opened.error());
    const auto report = must_load(options());
    EXPECT_EQ(report.outcome, load_outcome::loaded);
    EXPECT_EQ(report.ifindex, 31u);
    EXPECT_TRUE(steering::open_pinned("veth-a", root()));
}

TEST_F(xdp, unload_clears_the_pins_of_a_device_that_has_gone)
{
    const auto report = must_load(options());
    ip({"link", "del", "veth-a"});
    const auto done = unload("veth-a", root());
    ASSERT_TRUE(done) << text(done.error());
    EXPECT_TRUE(*done);
    EXPECT_FALSE(std::filesystem::exists(report.pinned_in));
    const auto again = unload("veth-a", root());
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().number(), 1011);
}

// ---- held by a process ----

TEST_F(xdp, attached_program_goes_with_its_object)
{
    {
        auto held = steering::attach("veth-a", {});
        ASSERT_TRUE(held) << text(held.error());
        EXPECT_TRUE(held->attached());
        const auto moved = *std::move(held);
        EXPECT_TRUE(moved.attached());
        const auto one = must_status();
        EXPECT_EQ(one.kept_by, "pid " + std::to_string(::getpid()));
        EXPECT_EQ(one.program_id, moved.program_id());
        EXPECT_EQ(one.layout, SP_MAP_LAYOUT) << "the maps are found without pins";
        EXPECT_TRUE(one.counters);
        const auto second = steering::attach("veth-a", {});
        ASSERT_FALSE(second);
        EXPECT_EQ(second.error().number(), 1007);
        EXPECT_THAT(text(second.error()), HasSubstr("held by pid " + std::to_string(::getpid())));
        const auto unloaded = unload("veth-a", root());
        ASSERT_FALSE(unloaded) << "what a process holds is not ours to unload";
        EXPECT_EQ(unloaded.error().number(), 1007);
    }
    EXPECT_FALSE(attached_to(veth_a()));
}

TEST_F(xdp, killed_holder_leaves_nothing_attached)
{
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const auto child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        const auto held = steering::attach("veth-a", {});
        const char answer = held ? 'y' : 'n';
        if (::write(ends[1], &answer, 1) == 1)
            for (;;)
                ::pause();
        ::_exit(1);
    }
    char answer = 0;
    ::close(ends[1]);
    ASSERT_EQ(::read(ends[0], &answer, 1), 1);
    ::close(ends[0]);
    EXPECT_EQ(answer, 'y');
    EXPECT_EQ(must_status().kept_by, "pid " + std::to_string(child));
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    EXPECT_TRUE(eventually([&] { return !attached_to(veth_a()); }));
}

} // namespace
} // namespace sp::xdp
