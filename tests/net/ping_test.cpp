// SPDX-License-Identifier: BSD-2-Clause
//
// `sp ping` and `sp doctor --peer` between two hosts, as their users run them: what is said when
// the program answers, when the host refuses, and when nothing comes back.
#include "tests/net/road.hpp"
#include "tests/support/program.hpp"
#include "userspace/transport/descriptor.hpp"

#include <csignal>
#include <nlohmann/json.hpp>
#include <sstream>

namespace {

using namespace sp::test;
using nlohmann::json;

class ping : public on_the_road {
protected:
    finished at_a(const words &arguments)
    {
        words all{built()};
        all.insert(all.end(), arguments.begin(), arguments.end());
        const auto inside = two().in(host::a);
        return sp::test::run(all);
    }
    finished ask(const words &more, int family = AF_INET)
    {
        words all{"ping", two().address(host::b, family), "-i", "1ms"};
        all.insert(all.end(), more.begin(), more.end());
        return at_a(all);
    }
    // On a veth pair the asking end needs a program too, or its kernel takes nothing from XDP.
    void load_both()
    {
        load_program(host::a);
        load_program(host::b);
    }
    json look(int expected)
    {
        const auto done = at_a({"doctor", "--peer", two().address(host::b), "-j"});
        const auto document = json::parse(done.out, nullptr, false);
        EXPECT_FALSE(document.is_discarded()) << done.out << done.err;
        EXPECT_EQ(done.status, document["exit"]);
        EXPECT_EQ(of_peer_to_fix(document), expected) << done.out;
        return document;
    }
    static json finding(const json &document, const std::string &subject)
    {
        for (const auto &each : document["findings"])
            if (each["subject"] == subject)
                return each;
        return {};
    }
    static bool says(const json &document, const std::string &subject, const std::string &verdict,
                     const std::string &text)
    {
        const auto found = finding(document, subject);
        return !found.is_null() && found["verdict"] == verdict &&
               found["seen"].get<std::string>().contains(text);
    }

private:
    static int of_peer_to_fix(const json &document)
    {
        int n = 0;
        for (const char *subject : {"peer", "proto 253", "udp 5370", "path mtu"})
            if (const auto found = finding(document, subject); !found.is_null())
                n += found["verdict"] == "fix";
        return n;
    }
};

TEST_F(ping, is_answered_by_the_program_while_no_engine_runs)
{
    load_both();
    for (const int family : {AF_INET, AF_INET6})
        for (const auto &encap : {words{}, words{"--encap", "udp"}}) {
            auto more = encap;
            more.insert(more.end(), {"-c", "20"});
            const auto done = ask(more, family);
            EXPECT_EQ(done.status, 0) << done.out << done.err;
            EXPECT_TRUE(done.out.contains("PONG " + two().address(host::b, family) + " n=19 "))
                << done.out;
            EXPECT_TRUE(done.out.contains("20 asked, 20 answered, 0 % lost; ms: min ")) << done.out;
        }
    EXPECT_EQ((*program_counters(host::b))[SP_XDP_ponged], 80u);
}

TEST_F(ping, is_answered_while_engines_come_and_go)
{
    load_both();
    for (int i = 0; i < 2; ++i) {
        const auto l = listening("io=xdp&encap=udp");
        EXPECT_EQ(ask({"-c", "3"}).status, 0);
    }
    drop(host::b);
    EXPECT_EQ(ask({"-c", "3", "--encap", "udp"}).status, 0) << "the loader's addresses stay";
}

TEST_F(ping, follows_the_addresses_when_load_is_called_again)
{
    load_both();
    const auto other = two().address(host::b).substr(0, two().address(host::b).rfind('.')) + ".77";
    two().must_run(host::b,
                   {"ip", "address", "add", other + "/24", "dev", hosts::interface(host::b)});
    EXPECT_EQ(at_a({"ping", other, "-c", "1", "--timeout", "50ms"}).status, 3)
        << "not yet the program's: left to the kernel, which refuses";
    load_program(host::b);
    EXPECT_EQ(at_a({"ping", other, "-c", "1"}).status, 0);
    two().must_run(host::b,
                   {"ip", "address", "del", other + "/24", "dev", hosts::interface(host::b)});
    load_program(host::b);
    EXPECT_EQ(ask({"-c", "1"}).status, 0);
}

TEST_F(ping, is_told_as_json_one_object_for_each_answer)
{
    load_both();
    const auto done = ask({"-c", "3", "-j"});
    std::istringstream lines(done.out);
    std::vector<json> all;
    for (std::string line; std::getline(lines, line);)
        all.push_back(json::parse(line));
    ASSERT_EQ(all.size(), 4u) << done.out;
    for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(all[i]["schema"], "sp.ping.answer/1");
        EXPECT_GT(all[i]["ms"].get<double>(), 0.0);
    }
    EXPECT_EQ(all[3]["schema"], "sp.ping/1");
    EXPECT_EQ(all[3]["answered"], 3);
    EXPECT_EQ(all[3]["loss_percent"], 0.0);
    for (const char *which : {"min", "avg", "p50", "p90", "p99", "max"})
        EXPECT_GT(all[3]["ms"][which].get<double>(), 0.0) << which;
}

TEST_F(ping, tells_a_host_without_sp_from_one_that_is_not_there)
{
    for (const int family : {AF_INET, AF_INET6})
        for (const auto &encap : {words{}, words{"--encap", "udp"}}) {
            const auto done = ask(encap, family); // without -c: a refusal ends it
            EXPECT_EQ(done.status, 3) << done.out << done.err;
            EXPECT_TRUE(done.err.contains("SP1020 " + two().address(host::b, family) +
                                          " is up, but sp is not loaded there"))
                << done.err;
            EXPECT_TRUE(done.err.contains(encap.empty() ? "IP protocol 253" : "UDP port 5370"))
                << done.err;
        }
    const auto nobody = two().address(host::b).substr(0, two().address(host::b).rfind('.')) + ".99";
    const auto silent = at_a({"ping", nobody, "-c", "1", "--timeout", "20ms"});
    EXPECT_EQ(silent.status, 7) << silent.out << silent.err;
    EXPECT_TRUE(silent.err.contains("SP1021 no answer from " + nobody)) << silent.err;
    EXPECT_TRUE(silent.err.contains("the host is down")) << silent.err;
    EXPECT_EQ(at_a({"ping", "no.such.host.invalid"}).status, 6);
    EXPECT_EQ(at_a({"ping"}).status, 2);
    EXPECT_EQ(ask({"--encap", "tcp"}).status, 2);
}

TEST_F(ping, says_what_silence_may_mean_where_sp_runs_without_the_program)
{
    const auto l = listening("io=kernel");
    const auto done = ask({"-c", "2", "--timeout", "20ms"});
    EXPECT_EQ(done.status, 7) << done.out << done.err;
    EXPECT_TRUE(done.out.contains("2 asked, 0 answered, 100 % lost")) << done.out;
    EXPECT_TRUE(done.err.contains("sp runs there without the XDP program")) << done.err;
    EXPECT_TRUE(done.err.contains("sp doctor --peer")) << done.err;
}

TEST_F(ping, goes_on_until_it_is_interrupted)
{
    load_both();
    const auto inside = two().in(host::a);
    program asking({built(), "ping", two().address(host::b), "-i", "1ms"});
    ASSERT_TRUE(asking.says("n=30 ")) << asking.out() << asking.err();
    asking.signal(SIGINT);
    const auto done = asking.wait();
    EXPECT_EQ(done.status, 128 + SIGINT);
    EXPECT_TRUE(done.out.contains(" asked, ")) << done.out;
}

TEST_F(ping, needs_the_right_to_raw_sockets)
{
    const auto inside = two().in(host::a);
    const auto done = sp::test::run({"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                                     "--inh-caps=-all", "--bounding-set=-all", built(), "ping",
                                     two().address(host::b), "-c", "1"});
    EXPECT_EQ(done.status, 4) << done.err;
    EXPECT_TRUE(done.err.contains("SP1001")) << done.err;
}

// ---- sp doctor --peer ----

TEST_F(ping, and_doctor_finds_nothing_to_fix_where_the_program_answers)
{
    load_both();
    const auto document = look(0);
    EXPECT_TRUE(says(document, "peer", "ok", "answers ICMP echo")) << document;
    EXPECT_TRUE(says(document, "proto 253", "ok", "the XDP program there answers")) << document;
    EXPECT_TRUE(says(document, "udp 5370", "ok", "encap=udp works")) << document;
    EXPECT_TRUE(says(document, "path mtu", "ok", "1500, both ways")) << document;
}

TEST_F(ping, and_doctor_tells_a_refusal)
{
    const auto document = look(1);
    EXPECT_TRUE(says(document, "proto 253", "fix", "sp is not loaded there")) << document;
    EXPECT_TRUE(says(document, "udp 5370", "ok", "nobody there")) << document;
    EXPECT_TRUE(says(document, "path mtu", "ok", "1500")) << document;
}

TEST_F(ping, and_doctor_tells_that_protocol_253_is_dropped_while_udp_passes)
{
    load_program(host::a);
    const auto inside = two().in(host::b);
    sp::xdp::load_options o;
    o.pin_root = pins(host::b);
    o.udp_port = SP_UDP_PORT;
    o.protocol = 254; // so that nobody answers 253, and a socket keeps the kernel silent
    (void)must(sp::xdp::load(hosts::interface(host::b), o));
    two().wait_for_link();
    const sp::transport::descriptor silent(
        ::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, SP_IP_PROTOCOL));
    const auto document = look(1);
    EXPECT_TRUE(says(document, "proto 253", "fix", "dropped on the way")) << document;
    EXPECT_TRUE(finding(document, "proto 253")["fix"].get<std::string>().contains("?encap=udp"));
    EXPECT_TRUE(says(document, "udp 5370", "ok", "encap=udp works")) << document;
}

TEST_F(ping, and_doctor_does_not_guess_where_sp_runs_without_the_program)
{
    const auto l = listening("io=kernel");
    const auto document = look(1);
    EXPECT_TRUE(says(document, "proto 253", "fix", "no answer and no refusal")) << document;
    EXPECT_TRUE(finding(document, "proto 253")["fix"].get<std::string>().contains("sp xdp load"));
}

TEST_F(ping, and_doctor_finds_a_path_that_swallows_large_packets)
{
    load_both();
    two().must_run(host::b, {"ip", "link", "set", hosts::interface(host::b), "mtu", "1400"});
    const auto document = look(1);
    EXPECT_TRUE(says(document, "path mtu", "fix", "1400 passes, 1500 vanishes")) << document;
}

TEST_F(ping, and_doctor_is_told_what_it_may_not_see)
{
    const auto inside = two().in(host::a);
    const auto done = sp::test::run({"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                                     "--inh-caps=-all", "--bounding-set=-all", built(), "doctor",
                                     "--peer", two().address(host::b), "-j"});
    const auto document = json::parse(done.out, nullptr, false);
    EXPECT_TRUE(says(document, "peer", "unknown", "is not asked")) << done.out;
}

} // namespace
