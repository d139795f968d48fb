// SPDX-License-Identifier: BSD-2-Clause
//
// `sp` as its users run it: real processes, their output, their exit codes. What is asserted is
// what scripts rely on.
#include "sp/abi/names.hpp"
#include "tests/net/hosts.hpp"
#include "tests/support/local.hpp"
#include "tests/support/program.hpp"

#include <csignal>
#include <filesystem>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace {

using nlohmann::json;
using sp::test::built;
using sp::test::finished;
using sp::test::program;
using sp::test::words;

words sp_with(const words &arguments)
{
    words all{built()};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return all;
}

finished invoke(const words &arguments, const words &environment = {}, std::string_view input = {})
{
    return sp::test::run(sp_with(arguments), environment, input);
}

json parsed(const std::string &text)
{
    auto document = json::parse(text, nullptr, false);
    EXPECT_FALSE(document.is_discarded()) << "not JSON: " << text;
    return document;
}

// The three lines every error has, in their order; a why or a fix may be missing where nothing is
// known.
void expect_message(const finished &done, int status, const std::string &number)
{
    EXPECT_EQ(done.status, status) << done.err;
    EXPECT_TRUE(done.err.starts_with("sp: " + number + ' ')) << done.err;
    EXPECT_TRUE(done.err.contains("\n  fix: ")) << done.err;
    EXPECT_TRUE(done.out.empty()) << done.out;
}

struct cli : ::testing::Test {
    sp::test::scratch_directory here;
    std::string url = "unixgram://" + here.file("socket");
};

} // namespace

// ---- usage ----

TEST_F(cli, exits_2_and_says_what_why_and_fix_on_a_usage_error)
{
    expect_message(invoke({}), 2, "SP4002");
    expect_message(invoke({"frobnicate"}), 2, "SP4002");
    expect_message(invoke({"req", url, "--unheard"}), 2, "SP4002");
    expect_message(invoke({"req"}), 2, "SP4002");
    expect_message(invoke({"req", url, "--timeout", "3"}), 2, "SP4002");
    expect_message(invoke({"req", url, "--format", "morse"}), 2, "SP4002");
    expect_message(invoke({"rep", url, "--echo", "--exec", "cat"}), 2, "SP4002");
    expect_message(invoke({"rep", url, "answer", "--echo"}), 2, "SP4002");
    expect_message(invoke({"xdp"}), 2, "SP4002");
    expect_message(invoke({"xdp", "load"}), 2, "SP4002");
    expect_message(invoke({"xdp", "load", "lo", "-m", "warp"}), 2, "SP4002");
    expect_message(invoke({"demo", "--count", "0"}), 2, "SP4002");
}

TEST_F(cli, suggests_the_nearest_verb_option_and_transport)
{
    EXPECT_TRUE(invoke({"docter"}).err.contains("did you mean doctor?"));
    EXPECT_TRUE(invoke({"req", url, "--tiemout", "1s"}).err.contains("did you mean --timeout?"));
    EXPECT_TRUE(
        invoke({"req", url, "--set", "peer_timeot=1s"}).err.contains("did you mean peer_timeout?"));
    const auto unknown = invoke({"req", "unixgrm:///tmp/x", "hello"});
    expect_message(unknown, 2, "SP2001");
    EXPECT_TRUE(
        unknown.err.contains("unknown transport \"unixgrm\" (known: ip unixgram ipc abstract tcp)"))
        << unknown.err;
    EXPECT_TRUE(unknown.err.contains("did you mean unixgram?")) << unknown.err;
}

TEST_F(cli, refuses_an_option_it_does_not_understand)
{
    expect_message(invoke({"req", url, "--set", "resend_time"}), 2, "SP2008");
    EXPECT_EQ(invoke({"req", url, "--set", "resend_time=soon"}).status, 2);
    EXPECT_EQ(invoke({"rep", url, "--set", "resend_time=1s"}).status, 2) << "read by req only";
}

TEST_F(cli, has_help_for_every_verb)
{
    for (const words &verb : {words{},
                              {"req"},
                              {"rep"},
                              {"xdp"},
                              {"xdp", "load"},
                              {"doctor"},
                              {"ping"},
                              {"demo"},
                              {"errors"},
                              {"version"}}) {
        auto arguments = verb;
        arguments.push_back("--help");
        const auto done = invoke(arguments);
        EXPECT_EQ(done.status, 0);
        EXPECT_TRUE(done.out.contains("Exit: 0 done, 1 failed")) << done.out;
    }
}

TEST_F(cli, gives_errors_as_json_on_stdout_when_asked)
{
    for (const words &arguments :
         {words{"-j", "req", "nonsense"}, {"req", "-j", "--unheard"}, {"xdp", "load", "-j"}}) {
        const auto done = invoke(arguments);
        const auto document = parsed(done.out);
        EXPECT_EQ(document["exit"], 2);
        EXPECT_EQ(done.status, 2);
        EXPECT_TRUE(document["error"]["code"].get<std::string>().starts_with("SP"));
        EXPECT_TRUE(document["error"].contains("what") && document["error"].contains("fix"))
            << done.out;
        EXPECT_TRUE(done.err.empty()) << done.err;
    }
}

// ---- asking and answering ----

TEST_F(cli, carries_a_request_from_req_to_rep_and_back)
{
    program service(sp_with({"rep", url, "--echo", "--count", "2"}));
    ASSERT_TRUE(service.says("listening at"));
    const auto first = invoke({"req", url, "hello", "--timeout", "10s"});
    EXPECT_EQ(first.status, 0) << first.err;
    EXPECT_EQ(first.out, "hello\n");
    const auto second =
        invoke({"req", url, "-", "--timeout", "10s", "--format", "hex"}, {}, "stdin");
    EXPECT_EQ(second.out, "\"\\x73\\x74\\x64\\x69\\x6e\"\n") << second.err;
    const auto served = service.wait();
    EXPECT_EQ(served.status, 0) << served.err;
    EXPECT_EQ(served.out, "hello\nstdin\n");
}

TEST_F(cli, asks_whoever_comes_first_in_either_order)
{
    program asker(sp_with({"req", url, "early", "--timeout", "20s"}));
    ASSERT_TRUE(asker.says("waiting for a peer at " + url)) << asker.err();
    program service(sp_with({"rep", url, "late", "--count", "1"}));
    const auto asked = asker.wait();
    EXPECT_EQ(asked.status, 0) << asked.err;
    EXPECT_EQ(asked.out, "late\n");
    EXPECT_EQ(service.wait().status, 0);
}

TEST_F(cli, takes_the_url_from_the_environment_and_repeats)
{
    program service(sp_with({"rep", url, "yes", "--count", "3"}));
    ASSERT_TRUE(service.says("listening at"));
    const auto done =
        invoke({"req", "question", "--count", "3", "--interval", "1ms", "--timeout", "10s"},
               {"SP_URL=" + url});
    EXPECT_EQ(done.out, "yes\nyes\nyes\n") << done.err;
    EXPECT_EQ(service.wait().out, "question\nquestion\nquestion\n");
}

TEST_F(cli, answers_with_what_a_command_makes_of_the_request)
{
    program service(sp_with({"rep", url, "--exec", "tr a-z A-Z; exit 3", "--count", "1"}));
    ASSERT_TRUE(service.says("listening at"));
    EXPECT_EQ(invoke({"req", url, "louder", "--timeout", "10s"}).out, "LOUDER\n");
    EXPECT_TRUE(service.wait().err.contains("ended with 3"));
}

// The command writes more than a pipe holds before it reads, and never reads all: neither side may
// wait for the other.
TEST_F(cli, does_not_deadlock_on_full_pipes)
{
    program service(sp_with({"rep", url, "--exec",
                             "head -c 300000 /dev/zero | tr '\\0' x; head -c 1 >/dev/null",
                             "--count", "1", "--format", "no", "--set", "message_max=64KiB"}));
    ASSERT_TRUE(service.says("listening at"));
    program asker(sp_with({"req", url, std::string(1000, 'q'), "--timeout", "1s"}));
    EXPECT_TRUE(service.says("the command wrote more than 65536 bytes")) << service.err();
    EXPECT_EQ(service.wait().status, 0);
    EXPECT_NE(asker.wait().status, 0) << "there was no answer";
}

TEST_F(cli, writes_one_json_object_per_message)
{
    program service(sp_with({"rep", url, "--echo", "--count", "2", "-j"}));
    ASSERT_TRUE(service.says("listening at"));
    const auto text = parsed(invoke({"req", url, "text", "-j", "--timeout", "10s"}).out);
    EXPECT_EQ(text["schema"], "sp.req/1");
    EXPECT_EQ(text["exit"], 0);
    EXPECT_EQ(text["body"], "text");
    EXPECT_EQ(text["transport"], "unixgram");
    const auto bytes = parsed(
        invoke({"req", url, "-", "-j", "--timeout", "10s"}, {}, std::string_view("\xff\0\x01", 3))
            .out);
    EXPECT_EQ(bytes["body_hex"], "ff0001");
    EXPECT_FALSE(bytes.contains("body"));
    const auto served = service.wait();
    const auto line = parsed(served.out.substr(0, served.out.find('\n')));
    EXPECT_EQ(line["schema"], "sp.rep/1");
    EXPECT_EQ(line["body"], "text");
}

// ---- failures ----

TEST_F(cli, says_why_there_is_no_peer_when_the_time_is_over)
{
    const auto nobody = invoke({"req", url, "hello", "--timeout", "300ms"});
    EXPECT_EQ(nobody.status, 6) << nobody.err;
    EXPECT_TRUE(nobody.err.contains("nobody listens at " + url)) << nobody.err;
}

TEST_F(cli, exits_7_when_the_peer_does_not_answer_in_time)
{
    program service(sp_with({"rep", url, "--exec", "echo working >&2; exec sleep 1000"}));
    ASSERT_TRUE(service.says("listening at"));
    program asker(sp_with({"req", url, "hello", "--timeout", "1s"}));
    ASSERT_TRUE(service.says("working"));
    const auto asked = asker.wait();
    EXPECT_EQ(asked.status, 7) << asked.err;
    EXPECT_TRUE(asked.err.contains("SP2011")) << asked.err;
    service.signal(SIGTERM);
    EXPECT_EQ(service.wait().status, 128 + SIGTERM) << "the command must not outlive it";
}

TEST_F(cli, refuses_plaintext_between_hosts_unless_told)
{
    for (const char *verb : {"req", "rep"})
        expect_message(invoke({verb, "ip://127.0.0.1:7000", "x"}), 4, "SP3001");
}

TEST_F(cli, refuses_an_address_that_is_taken)
{
    program first(sp_with({"rep", url}));
    ASSERT_TRUE(first.says("listening at"));
    expect_message(invoke({"rep", url}), 5, "SP2002");
}

TEST_F(cli, ends_with_130_on_sigint_and_leaves_nothing)
{
    program service(sp_with({"rep", url}));
    ASSERT_TRUE(service.says("listening at"));
    service.signal(SIGINT);
    EXPECT_EQ(service.wait().status, 130);
    EXPECT_FALSE(std::filesystem::exists(here.file("socket")));

    program asker(sp_with({"req", url, "anybody?"}));
    ASSERT_TRUE(asker.says("waiting for a peer at"));
    asker.signal(SIGTERM);
    EXPECT_EQ(asker.wait().status, 128 + SIGTERM);
}

// ---- the catalogue, the host ----

TEST_F(cli, explains_each_error_by_number_and_word)
{
    const auto one = invoke({"errors", "SP1003"});
    EXPECT_EQ(one.status, 0);
    EXPECT_TRUE(one.out.starts_with("SP1003  cannot attach")) << one.out;
    EXPECT_EQ(invoke({"errors", "1003"}).out, one.out);
    EXPECT_TRUE(invoke({"errors", "plaintext"}).out.contains("SP3003"));
    EXPECT_TRUE(invoke({"errors", "fill_empty"}).out.contains("raise frames"))
        << "drop reasons are found by name";
    EXPECT_EQ(invoke({"errors", "SP1999"}).status, 6);
    EXPECT_EQ(parsed(invoke({"errors", "-j"}).out)["errors"].size(), sp::error_table.size());
    EXPECT_EQ(parsed(invoke({"errors", "--counters", "-j"}).out)["counters"].size(),
              sp::stat_table.size());
}

TEST_F(cli, doctor_tells_what_to_fix_and_says_so_by_its_status)
{
    const auto done = invoke({"doctor", "-j"});
    const auto document = parsed(done.out);
    EXPECT_EQ(document["schema"], "sp.doctor/1");
    EXPECT_EQ(document["exit"], done.status);
    std::size_t to_fix = 0;
    for (const auto &finding : document["findings"]) {
        to_fix += finding["verdict"] == "fix";
        EXPECT_FALSE(finding["verdict"] == "fix" && finding["fix"].get<std::string>().empty())
            << finding;
    }
    EXPECT_EQ(document["to_fix"], to_fix);
    EXPECT_EQ(done.status, to_fix ? 8 : 0);
    const auto missing = invoke({"doctor", "sp-nosuch0"});
    EXPECT_EQ(missing.status, 6);
    EXPECT_TRUE(missing.err.contains("SP1011")) << missing.err;
}

TEST_F(cli, doctor_needs_no_privilege_and_names_what_is_missing)
{
    if (::geteuid() != 0)
        GTEST_SKIP() << "only root can become somebody else";
    const auto done = sp::test::run({"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                                     "--inh-caps=-all", "--bounding-set=-all", built(), "doctor"});
    EXPECT_EQ(done.status, 8) << done.err;
    EXPECT_TRUE(done.out.contains("missing: CAP_BPF CAP_NET_ADMIN CAP_NET_RAW")) << done.out;
    EXPECT_TRUE(done.out.contains("setcap")) << done.out;
}

// ---- XDP between two hosts ----

struct cli_on_two_hosts : sp::test::on_two_hosts {
    sp::test::scratch_directory
        here; // pins would need a BPF file system; nothing is pinned in these tests

    json status(sp::test::host where, int expected)
    {
        const auto inside = two().in(where);
        const auto done = invoke({"xdp", "status", "-j", "-p", here.file("pins")});
        EXPECT_EQ(done.status, expected) << done.out << done.err;
        return parsed(done.out);
    }
};

TEST_F(cli_on_two_hosts, rep_that_attached_by_itself_leaves_nothing_when_killed)
{
    using sp::test::host;
    EXPECT_TRUE(status(host::b, 3)["interfaces"].empty());
    std::optional<program> service;
    const auto url = "ip://" + two().address(host::b) + ":7000?io=xdp";
    {
        const auto inside = two().in(host::b);
        service.emplace(sp_with({"rep", url, "--echo", "--insecure"}));
    }
    ASSERT_TRUE(service->says("listening at")) << service->err();
    {
        const auto inside = two().in(host::a);
        const auto asked =
            invoke({"req", url, "through the rings", "-j", "--insecure", "--timeout", "10s"});
        ASSERT_EQ(asked.status, 0) << asked.out;
        EXPECT_EQ(parsed(asked.out)["transport"], "ip/xdp");
    }
    const auto attached = status(host::b, 0)["interfaces"][0];
    EXPECT_EQ(attached["name"], "veth-b");
    EXPECT_EQ(attached["mode"], "native");
    EXPECT_EQ(attached["program"]["name"], "sp_steer");
    EXPECT_GT(attached["counters"]["steered"], 0);
    service->signal(SIGKILL);
    EXPECT_EQ(service->wait().status, 128 + SIGKILL);
    EXPECT_TRUE(status(host::b, 3)["interfaces"].empty());
}

TEST_F(cli_on_two_hosts, doctor_looks_at_an_interface)
{
    const auto inside = two().in(sp::test::host::a);
    const auto done = invoke({"doctor", "veth-a", "-j"});
    const auto document = parsed(done.out);
    bool driver = false;
    for (const auto &finding : document["findings"])
        driver |=
            finding["subject"] == "driver" && finding["seen"].get<std::string>().contains("veth");
    EXPECT_TRUE(driver) << done.out;
}
