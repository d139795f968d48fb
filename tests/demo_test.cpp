// SPDX-License-Identifier: BSD-2-Clause
//
// The demo, run small: what it proves, that it says so when it cannot, and that nothing is left
// whatever ends it.
#include "tests/net/hosts.hpp"
#include "tests/support/program.hpp"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <unistd.h>

namespace {

using sp::test::built;
using sp::test::program;
using sp::test::words;

std::vector<pid_t> children_of(pid_t parent)
{
    std::ifstream list("/proc/" + std::to_string(parent) + "/task/" + std::to_string(parent) +
                       "/children");
    std::vector<pid_t> children;
    for (pid_t each = 0; list >> each;)
        children.push_back(each);
    return children;
}

// A process that is gone or only waits to be reaped by whoever adopted it.
bool has_ended(pid_t pid)
{
    std::ifstream status("/proc/" + std::to_string(pid) + "/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("State:"))
            return line.contains("Z") || line.contains("X");
    return true;
}

bool end_soon(const std::vector<pid_t> &processes)
{
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!std::ranges::all_of(processes, has_ended)) {
        if (std::chrono::steady_clock::now() > deadline)
            return false;
        ::poll(nullptr, 0, 1);
    }
    return true;
}

// What the demo of that process could have left outside its own mount namespace.
std::vector<std::string> left_by(pid_t pid)
{
    std::vector<std::string> found;
    const auto name = "sp-demo-" + std::to_string(pid);
    std::error_code none;
    for (const char *folder : {"/run/netns", "/tmp", "/sys/class/net"})
        for (const auto &entry : std::filesystem::directory_iterator(folder, none))
            if (entry.path().filename().string().starts_with(name))
                found.push_back(entry.path().string());
    return found;
}

struct demo : ::testing::Test {
    void SetUp() override
    {
        if (!sp::test::hosts::why_not().empty())
            GTEST_SKIP() << sp::test::hosts::why_not();
    }

    // A demo in the midst of its messages, ended by that signal.
    void end_by(int signal, int status)
    {
        program running({built(), "demo", "--count", "100000000"});
        ASSERT_TRUE(running.says("[4/5]")) << running.err();
        const auto pid = running.pid();
        const auto children = children_of(pid);
        EXPECT_EQ(children.size(), 2u);
        running.signal(signal);
        EXPECT_EQ(running.wait().status, status);
        EXPECT_TRUE(end_soon(children)) << "a process of the demo lives on";
        EXPECT_TRUE(left_by(pid).empty()) << left_by(pid).front();
    }
};

} // namespace

TEST_F(demo, carries_every_message_through_xdp)
{
    const auto done = sp::test::run({built(), "demo", "-j", "--count", "2000"});
    ASSERT_EQ(done.status, 0) << done.out << done.err;
    const auto document = nlohmann::json::parse(done.out);
    EXPECT_EQ(document["schema"], "sp.demo/1");
    const auto &standard = document["ip_xdp"]["standard"];
    EXPECT_EQ(standard["sp"]["asked"], standard["sp"]["answered"]);
    for (const char *side : {"at_a", "at_b"}) {
        EXPECT_GE(standard[side]["steered"], standard["sp"]["answered"]);
        EXPECT_EQ(standard[side]["unknown_to_the_kernel"], 0);
        EXPECT_EQ(standard[side]["dropped"], 0);
    }
    EXPECT_EQ(document["unixgram"]["standard"]["sp"]["asked"],
              document["unixgram"]["standard"]["sp"]["answered"]);
}

TEST_F(demo, plays_the_use_cases_between_hosts_and_on_one)
{
    const auto done = sp::test::run({built(), "demo", "-j", "--count", "100"});
    ASSERT_EQ(done.status, 0) << done.out << done.err;
    const auto document = nlohmann::json::parse(done.out);
    for (const char *where : {"ip_xdp", "unixgram"}) {
        const auto &cases = document[where]["use_cases"];
        for (const char *name : {"configuration", "telemetry", "pairing"}) {
            EXPECT_GT(cases[name]["sent"], 0) << where << name;
            EXPECT_EQ(cases[name]["sent"], cases[name]["received"]) << where << name;
            EXPECT_EQ(cases[name]["lost"], 0) << where << name;
            EXPECT_EQ(cases[name]["twice"], 0) << where << name;
        }
        EXPECT_EQ(cases["health"]["sent"], 3) << where;
        EXPECT_EQ(cases["health"]["received"], 2) << where;
        EXPECT_EQ(cases["health"]["late"], 1) << where;
        EXPECT_EQ(cases["health"]["too_slow"], "gamma") << where;
        EXPECT_EQ(cases["pairing"]["third_refused"], "peer_busy") << where;
    }
}

TEST_F(demo, works_without_home_locale_and_path)
{
    const auto done = sp::test::run(
        {"/usr/bin/env", "-i", std::filesystem::absolute(built()), "demo", "--count", "100"});
    EXPECT_EQ(done.status, 0) << done.out << done.err;
    EXPECT_TRUE(done.out.contains("demo ok in ")) << done.out;
}

TEST_F(demo, leaves_nothing_when_interrupted)
{
    end_by(SIGINT, 128 + SIGINT);
}

TEST_F(demo, leaves_nothing_when_terminated)
{
    end_by(SIGTERM, 128 + SIGTERM);
}

TEST_F(demo, leaves_nothing_when_killed)
{
    end_by(SIGKILL, 128 + SIGKILL);
}

TEST(demo_without_xdp, does_the_local_part_and_exits_10)
{
    const auto done = sp::test::run({built(), "demo", "--no-xdp", "--count", "100"});
    EXPECT_EQ(done.status, 10) << done.err;
    EXPECT_TRUE(done.out.contains("unixgram")) << done.out;
    EXPECT_TRUE(done.out.contains("SKIPPED ip/xdp: ")) << done.out;
}

TEST(demo_without_xdp, says_what_is_missing_when_it_may_not)
{
    if (::geteuid() != 0)
        GTEST_SKIP() << "only root can become somebody else";
    const auto done = sp::test::run({"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                                     "--inh-caps=-all", "--bounding-set=-all", built(), "demo",
                                     "--count", "100"});
    EXPECT_EQ(done.status, 10) << done.err;
    EXPECT_TRUE(done.out.contains(
        "SKIPPED ip/xdp: two hosts and XDP need CAP_BPF CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_ADMIN"))
        << done.out;
    EXPECT_TRUE(done.out.contains("  fix: run as root")) << done.out;
}
