// SPDX-License-Identifier: BSD-2-Clause
//
// The programs in userspace/examples/, run as somebody would who reads them: as processes of their
// own that meet on one host or on two, through XDP. What they print is compared.
#include "tests/net/hosts.hpp"
#include "tests/support/local.hpp"
#include "tests/support/program.hpp"
#include "userspace/xdp/steer.hpp"

#include <algorithm>
#include <gtest/gtest.h>
#include <memory>
#include <regex>
#include <sstream>
#include <sys/mount.h>

namespace {

using sp::test::built;
using sp::test::finished;
using sp::test::host;
using sp::test::hosts;
using sp::test::program;
using sp::test::words;

std::vector<std::string> sorted_lines(const std::string &text)
{
    std::vector<std::string> lines;
    std::istringstream from(text);
    for (std::string line; std::getline(from, line);)
        lines.push_back(line);
    std::ranges::sort(lines);
    return lines;
}

// Where the programs meet: the parameter is unixgram or ipc, or xdp for two hosts whose operator
// has loaded the program. Each host's pins are below a directory of its own.
class examples : public ::testing::TestWithParam<std::string> {
protected:
    void SetUp() override
    {
        if (!across())
            return;
        if (!hosts::why_not().empty())
            GTEST_SKIP() << hosts::why_not();
        two_.emplace();
        for (const auto which : {host::a, host::b}) {
            const auto inside = two_->in(which);
            sp::xdp::load_options o;
            o.pin_root = pins(which);
            auto loaded = sp::xdp::load(hosts::interface(which), o);
            ASSERT_TRUE(loaded) << loaded.error().what() << loaded.error().why();
        }
        two_->wait_for_link();
    }
    void TearDown() override
    {
        if (two_)
            for (const auto which : {host::a, host::b})
                ::umount2(pins(which).c_str(), MNT_DETACH);
    }

    [[nodiscard]] bool across() const { return GetParam() == "xdp"; }
    [[nodiscard]] std::string way() const { return across() ? "ip/xdp" : GetParam(); }
    [[nodiscard]] std::string url(host which, int number = 0) const
    {
        if (across())
            return "ip://" + two_->address(which) + ':' + std::to_string(7000 + number) +
                   "?io=auto";
        return GetParam() + "://" + directory_.file("socket" + std::to_string(number));
    }
    // On that host, or here. A process looks for pins where an operator has them, so it is given
    // a /run of its own.
    [[nodiscard]] std::unique_ptr<program> start(host which, words argv) const
    {
        argv.front() = built("examples/" + argv.front());
        if (!across())
            return std::make_unique<program>(argv);
        argv.insert(argv.begin(), {"unshare", "--mount", "sh", "-c",
                                   "mount -t tmpfs none /run && mkdir -p /run/sp/bpf && "
                                   "mount --bind \"$0\" /run/sp/bpf && exec \"$@\"",
                                   pins(which)});
        const auto inside = two_->in(which);
        return std::make_unique<program>(argv, words{"SP_INSECURE=1"});
    }
    // It ended well and printed these lines, in whatever order its threads came to it.
    static void expect(program &ended, std::vector<std::string> lines)
    {
        const auto done = ended.wait();
        EXPECT_EQ(done.status, 0) << done.out << done.err;
        EXPECT_EQ(done.err, "");
        std::ranges::sort(lines);
        EXPECT_EQ(sorted_lines(done.out), lines);
    }

private:
    [[nodiscard]] std::string pins(host which) const
    {
        return directory_.file(which == host::a ? "a" : "b");
    }

    sp::test::watchdog watchdog_;
    sp::test::scratch_directory directory_;
    std::optional<hosts> two_;
};

} // namespace

TEST_P(examples, configuration_reaches_all_who_subscribed_and_who_came_late)
{
    const auto agents =
        start(host::b, {"configuration", "agents", url(host::a), "alpha=config.",
                        "beta=config.routing", "gamma=config.", "+delta=config.logging"});
    const auto controller = start(host::a, {"configuration", "controller", url(host::a), "3", "1"});
    expect(*controller, {"version 1 for 3 agents", "version 1 again for 1 that came late",
                         "version 2 for 4 agents", "dropped 0"});
    expect(*agents, {"alpha: 4 updates to config., lost 0, via " + way(),
                     "beta: 2 updates to config.routing, lost 0, via " + way(),
                     "gamma: 4 updates to config., lost 0, via " + way(),
                     "delta: 2 updates to config.logging, lost 0, via " + way()});
}

TEST_P(examples, telemetry_loses_nothing_between_producers_workers_and_sink)
{
    const auto sink = url(host::a), one = url(host::b, 1), two = url(host::b, 2),
               three = url(host::b, 3);
    const auto workers = start(host::b, {"telemetry", "workers", sink, one, two, three});
    const auto center = start(host::a, {"telemetry", "center", sink, "4", "500", one, two, three});
    expect(*center, {"2000 of 2000 metrics, lost 0, twice 0, by 3 workers, via " + way()});
    const auto done = workers->wait();
    EXPECT_EQ(done.status, 0) << done.err;
    static const std::regex share(R"(: ([0-9]+) metrics)");
    int sum = 0;
    for (std::sregex_iterator at(done.out.begin(), done.out.end(), share), end; at != end; ++at)
        sum += std::stoi((*at)[1]);
    EXPECT_EQ(sum, 2000) << done.out;
}

TEST_P(examples, health_names_who_was_too_slow_and_counts_what_came_late)
{
    const auto boss = start(host::a, {"health", "orchestrator", url(host::a), "3"});
    const auto agents = start(host::b, {"health", "agents", url(host::a), "alpha", "beta", "slow"});
    expect(*boss, {"there: alpha beta slow", "healthy: alpha beta, via " + way(),
                   "too slow for 500 ms: slow", "said goodbye: 3 of 3; came late: 1"});
    expect(*agents, {});
}

TEST_P(examples, health_is_content_when_all_answer_in_time)
{
    const auto agents = start(host::b, {"health", "agents", url(host::a), "alpha", "beta"});
    const auto boss = start(host::a, {"health", "orchestrator", url(host::a), "2"});
    expect(*boss, {"there: alpha beta", "healthy: alpha beta, via " + way(),
                   "too slow for 500 ms: nobody", "said goodbye: 2 of 2; came late: 0"});
    expect(*agents, {});
}

TEST_P(examples, pairing_refuses_a_third_and_goes_on)
{
    const auto listener = start(host::a, {"pairing", "listen", url(host::a)});
    const auto dialer = start(host::b, {"pairing", "dial", url(host::a)});
    ASSERT_TRUE(listener->says("paired")) << listener->err();
    const auto third = start(host::b, {"pairing", "third", url(host::a)});
    const auto refused = third->wait();
    EXPECT_EQ(refused.status, 0) << refused.err;
    EXPECT_EQ(refused.out,
              GetParam() == "ipc" ? "refused: it hung up\n" : "refused: it has a partner\n");
    const auto paired = "paired: said 100 lines, heard 100, via " + way();
    expect(*listener, {paired, "refused a third: peer_busy", "undisturbed: goodbye too"});
    expect(*dialer, {paired});
}

INSTANTIATE_TEST_SUITE_P(over, examples, ::testing::Values("unixgram", "ipc", "xdp"),
                         [](const auto &where) { return where.param; });

TEST(example_programs, say_how_they_are_used)
{
    for (const char *name : {"configuration", "telemetry", "health", "pairing"}) {
        const auto done = sp::test::run({built(std::string("examples/") + name)});
        EXPECT_EQ(done.status, 2) << name;
        EXPECT_TRUE(done.err.starts_with(std::string("usage: ") + name)) << done.err;
    }
}

TEST(example_programs, fail_and_say_why_when_an_address_cannot_be)
{
    for (const auto &argv :
         {words{"configuration", "controller", "nowhere://x", "1", "0"},
          {"configuration", "agents", "nowhere://x", "alpha=config.", "+beta=config."},
          {"telemetry", "center", "nowhere://x", "1", "1", "nowhere://x"},
          {"telemetry", "workers", "nowhere://x", "nowhere://x"},
          {"health", "orchestrator", "nowhere://x", "1"},
          {"health", "agents", "nowhere://x", "alpha"},
          {"pairing", "listen", "nowhere://x"},
          {"pairing", "dial", "nowhere://x"},
          {"pairing", "third", "nowhere://x"}}) {
        auto command = argv;
        command.front() = built("examples/" + argv.front());
        const auto done = sp::test::run(command);
        EXPECT_NE(done.status, 0) << argv.front() << ' ' << argv[1];
        EXPECT_TRUE(done.err.contains("SP2001 unknown transport")) << done.err;
    }
}
