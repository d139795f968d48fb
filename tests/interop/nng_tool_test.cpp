// SPDX-License-Identifier: BSD-2-Clause
//
// Conformance with libnng's program: nngcat talks to a socket of ours in every pattern, dialing and
// listening (X1); and a thousand sockets of libnng are served by one `sp rep` (E3).
#include "tests/interop/nng_scene.hpp"
#include "tests/support/program.hpp"

#include <algorithm>
#include <fstream>
#include <sys/resource.h>

namespace sp::test {
namespace {

class nngcat : public nng_scene {
protected:
    void SetUp() override
    {
        nng_scene::SetUp();
        if (run({"sh", "-c", "command -v nngcat"}).status != 0)
            GTEST_SKIP() << "nngcat is not installed";
    }

    // nngcat in this role with these options, on one address with the socket.
    [[nodiscard]] std::unique_ptr<program> connected(sp::socket &s, const std::string &role,
                                                     const sp::test::words &options)
    {
        const auto where = new_address();
        const bool listens = GetParam().who == listener::nng;
        if (!listens)
            (void)must(s.listen(where));
        sp::test::words argv{"nngcat", "--" + role, listens ? "--listen" : "--dial", where};
        argv.insert(argv.end(), options.begin(), options.end());
        auto made = std::make_unique<program>(argv);
        if (listens)
            (void)must(s.dial(where));
        return made;
    }
    static void expect_prints(program &p, const std::string &text)
    {
        EXPECT_TRUE(p.says(text)) << p.out() << p.err();
    }
};
INSTANTIATE_TEST_SUITE_P(with, nngcat, ::testing::ValuesIn(over_ipc), name_of);

TEST_P(nngcat, x1_asks_our_rep)
{
    auto rep = opened<sp::rep>({.reconnect_max = 100ms});
    auto cat = connected(rep, "req0", {"--data", "q", "--quoted"});
    auto question = must(rep.recv(patience));
    EXPECT_EQ(question.text(), "q");
    must(std::move(question).reply("a\n", patience));
    const auto end = cat->wait();
    EXPECT_EQ(end.out, "\"a\\n\"\n");
    EXPECT_EQ(end.status, 0) << end.err;
    expect_balance(rep);
}

TEST_P(nngcat, x1_answers_our_req)
{
    auto req = opened<sp::req>({.reconnect_max = 100ms});
    auto cat = connected(req, "rep0", {"--data", "a", "--quoted"});
    for (int i = 0; i < 3; ++i)
        expect_message(req.request("q" + std::to_string(i), patience), "a");
    expect_prints(*cat, "\"q0\"\n\"q1\"\n\"q2\"\n");
    expect_balance(req);
}

TEST_P(nngcat, x1_pushes_to_our_pull)
{
    auto pull = opened<sp::pull>({.reconnect_max = 100ms});
    auto cat = connected(pull, "push0", {"--data", "job"});
    expect_message(pull.recv(patience), "job");
    EXPECT_EQ(cat->wait().status, 0);
    expect_balance(pull);
}

TEST_P(nngcat, x1_pulls_from_our_push)
{
    auto push = opened<sp::push>({.reconnect_max = 100ms});
    auto cat = connected(push, "pull0", {"--quoted"});
    must(push.send("one", patience));
    must(push.send(std::string("\0two", 4), patience));
    must(push.send("", patience));
    expect_prints(*cat, "\"one\"\n\"\\x00two\"\n\"\"\n");
    expect_balance(push);
}

TEST_P(nngcat, x1_publishes_to_our_sub)
{
    auto sub = opened<sp::sub>({.reconnect_max = 100ms});
    must(sub.subscribe("ab"));
    // Again and again, because what is published before we are there is gone.
    auto cat = connected(sub, "pub0", {"--data", "abc", "--interval", "1"});
    expect_message(sub.recv(patience), "abc");
    expect_balance(sub);
}

TEST_P(nngcat, x1_subscribes_to_our_pub)
{
    auto pub = opened<sp::pub>({.reconnect_max = 100ms});
    auto cat = connected(pub, "sub0", {"--subscribe", "ab", "--quoted"});
    must(pub.wait_peers(1, patience));
    for (const char *body : {"abc", "b", "ab"})
        must(pub.send(body));
    expect_prints(*cat, "\"abc\"\n\"ab\"\n");
    expect_balance(pub);
}

TEST_P(nngcat, x1_responds_to_our_surveyor)
{
    auto surveyor = opened<sp::surveyor>({.reconnect_max = 100ms});
    auto cat = connected(surveyor, "respondent0", {"--data", "here", "--quoted"});
    must(surveyor.wait_peers(1, patience));
    auto survey = must(surveyor.survey("who", patience));
    expect_message(survey.recv(patience), "here");
    expect_prints(*cat, "\"who\"\n");
    expect_balance(surveyor);
}

TEST_P(nngcat, x1_surveys_our_respondent)
{
    auto respondent = opened<sp::respondent>({.reconnect_max = 100ms});
    // Again and again: who is not connected yet is not asked.
    auto cat = connected(respondent, "surveyor0", {"--data", "who", "--interval", "1", "--quoted"});
    auto question = must(respondent.recv(patience));
    EXPECT_EQ(question.text(), "who");
    must(std::move(question).reply("here", patience));
    expect_prints(*cat, "\"here\"\n");
    expect_balance(respondent);
}

TEST_P(nngcat, x1_pairs_with_ours_in_both_versions)
{
    for (const std::uint32_t version : {0u, 1u}) {
        SCOPED_TRACE(version);
        auto pair = opened<sp::pair>({.pair_version = version, .reconnect_max = 100ms});
        auto cat = connected(pair, "pair" + std::to_string(version),
                             {"--data", "from nngcat", "--quoted"});
        expect_message(pair.recv(patience), "from nngcat");
        must(pair.send("from us", patience));
        expect_prints(*cat, "\"from us\"\n");
        expect_balance(pair);
    }
}

class nng_crowd : public nng_scene {};
INSTANTIATE_TEST_SUITE_P(with, nng_crowd, ::testing::Values(over_ipc[0]), name_of);

// A number out of /proc/PID/status: VmRSS in KiB, Threads.
long status_of(pid_t pid, const std::string &name)
{
    std::ifstream in("/proc/" + std::to_string(pid) + "/status");
    for (std::string line; std::getline(in, line);)
        if (line.starts_with(name + ":"))
            return std::stol(line.substr(name.size() + 1));
    throw std::runtime_error("no " + name);
}

TEST_P(nng_crowd, e3_a_thousand_sockets_of_libnng_are_served_by_one_sp_rep)
{
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    if (before.rlim_max < 6000)
        GTEST_SKIP() << "RLIMIT_NOFILE is " << before.rlim_max << "; this test needs 6000";
    auto more = before;
    more.rlim_cur = std::max<rlim_t>(before.rlim_cur, 6000);
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &more), 0);
    {
        const auto where = new_address();
        const program server({built(), "rep", where, "--echo", "--format", "no"});
        constexpr int count = 1000;
        std::vector<nng_peer> askers;
        askers.reserve(count);
        askers.emplace_back(nng_role::req0); // the others beside it: not a thousand processes
        until([&] { return askers[0].try_dial(where) == 0; });
        const auto ask_all = [&] {
            for (std::size_t i = 0; i < askers.size(); ++i)
                nng_must(askers[i].send(std::to_string(i)), "ask");
            for (std::size_t i = 0; i < askers.size(); ++i)
                expect_mail(askers[i].recv(), std::to_string(i));
        };
        ask_all();
        const auto threads = status_of(server.pid(), "Threads");
        const auto memory = status_of(server.pid(), "VmRSS");
        for (int i = 1; i < count; ++i) {
            askers.emplace_back(nng_role::req0, askers[0]);
            askers.back().dial(where);
        }
        for (int round = 0; round < 3; ++round)
            ask_all();
        const auto then = status_of(server.pid(), "VmRSS");
        EXPECT_EQ(status_of(server.pid(), "Threads"), threads);
        std::printf("sp rep: %ld KiB and %ld threads with one client, %ld KiB and %ld threads "
                    "with %d: %ld bytes for each\n",
                    memory, threads, then, status_of(server.pid(), "Threads"), count,
                    (then - memory) * 1024 / count);
    }
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
}

} // namespace
} // namespace sp::test
