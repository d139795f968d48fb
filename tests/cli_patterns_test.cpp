// SPDX-License-Identifier: BSD-2-Clause
//
// The verbs of messages as their users run them: every pair of roles over every kind of address,
// what they print, when they end and with what status. The side that listens is started first and
// waited for by what it says.
#include "tests/net/hosts.hpp"
#include "tests/support/local.hpp"
#include "tests/support/program.hpp"

#include <algorithm>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <sstream>
#include <sys/stat.h>

namespace {

using nlohmann::json;
using sp::test::built;
using sp::test::finished;
using sp::test::host;
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

std::vector<json> parsed_lines(const std::string &text)
{
    std::vector<json> all;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);)
        all.push_back(parsed(line));
    return all;
}

std::string content_of(const std::string &path)
{
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

// One exchange: U stands for the URL.
struct exchange {
    std::string name;
    words listener, dialer;
    std::string listener_out, dialer_out;
};

const exchange exchanges[] = {
    {"req_rep",
     {"rep", "U", "--echo", "--count", "1"},
     {"req", "U", "hello"},
     "hello\n",
     "hello\n"},
    {"pub_sub",
     {"pub", "U", "news of today"},
     {"sub", "U", "old", "news", "--count", "1"},
     "",
     "news of today\n"},
    {"push_pull",
     {"push", "U", "-", "--send-on", "newline"},
     {"pull", "U", "--count", "2"},
     "",
     "one\ntwo\n"},
    {"survey_respond",
     {"survey", "U", "who?", "--time", "20s", "--set", "end_when_all_answered=true"},
     {"respond", "U", "me", "--count", "1"},
     "me\n",
     "who?\n"},
    {"bus",
     {"bus", "U", "--count", "1"},
     {"bus", "U", "--dial", "--wait", "0", "--", "--hello"},
     "--hello\n",
     ""},
    {"pair",
     {"pair", "U", "pong", "--listen", "--count", "1"},
     {"pair", "U", "ping", "--count", "1"},
     "ping\n",
     "pong\n"},
};

words at(words arguments, const std::string &url)
{
    std::ranges::replace(arguments, std::string("U"), url);
    return arguments;
}

struct cli_patterns : ::testing::Test {
    sp::test::scratch_directory here;
    std::string url = "unixgram://" + here.file("socket");

    void every_pair_talks(const std::string &scheme)
    {
        for (const auto &e : exchanges) {
            SCOPED_TRACE(e.name);
            const auto where = scheme + here.file(e.name);
            program listener(sp_with(at(e.listener, where)), {}, "one\ntwo\n");
            ASSERT_TRUE(listener.says("listening at " + where)) << listener.err();
            const auto dialed = invoke(at(e.dialer, where));
            EXPECT_EQ(dialed.status, 0) << dialed.err;
            EXPECT_EQ(dialed.out, e.dialer_out);
            const auto listened = listener.wait();
            EXPECT_EQ(listened.status, 0) << listened.err;
            EXPECT_EQ(listened.out, e.listener_out);
        }
    }

    // What a SUB prints of what a PUB was told to send.
    finished heard(const words &publisher, const words &subscriber, std::string_view input = {})
    {
        words pub{"pub", url}, sub{"sub", url};
        pub.insert(pub.end(), publisher.begin(), publisher.end());
        sub.insert(sub.end(), subscriber.begin(), subscriber.end());
        program sender(sp_with(pub), {}, input);
        EXPECT_TRUE(sender.says("listening at")) << sender.err();
        auto done = invoke(sub);
        EXPECT_EQ(done.status, 0) << done.err;
        const auto sent = sender.wait();
        EXPECT_EQ(sent.status, 0) << sent.err;
        return done;
    }
};

} // namespace

// ---- every pair over every kind of address ----

TEST_F(cli_patterns, every_pair_of_roles_talks_over_unixgram)
{
    every_pair_talks("unixgram://");
}

TEST_F(cli_patterns, every_pair_of_roles_talks_over_ipc)
{
    every_pair_talks("ipc://");
}

struct cli_patterns_on_two_hosts : sp::test::on_two_hosts {};

TEST_F(cli_patterns_on_two_hosts, every_pair_of_roles_talks_in_raw_ip)
{
    const auto where = "ip://" + two().address(host::b) + ":7000?io=kernel";
    const auto insecure = [&](const words &arguments) {
        auto all = at(arguments, where);
        all.insert(all.begin() + 1, "--insecure");
        return sp_with(all);
    };
    for (const auto &e : exchanges) {
        SCOPED_TRACE(e.name);
        std::optional<program> listener;
        {
            const auto inside = two().in(host::b);
            listener.emplace(insecure(e.listener), words{}, "one\ntwo\n");
        }
        ASSERT_TRUE(listener->says("listening at")) << listener->err();
        const auto inside = two().in(host::a);
        const auto dialed = sp::test::run(insecure(e.dialer));
        EXPECT_EQ(dialed.status, 0) << dialed.err;
        EXPECT_EQ(dialed.out, e.dialer_out);
        const auto listened = listener->wait();
        EXPECT_EQ(listened.status, 0) << listened.err;
        EXPECT_EQ(listened.out, e.listener_out);
    }
}

TEST_F(cli_patterns, listen_and_dial_change_who_comes_to_whom)
{
    program worker(sp_with({"pull", url, "--listen", "--count", "1"}));
    ASSERT_TRUE(worker.says("listening at")) << worker.err();
    EXPECT_EQ(invoke({"push", url, "--dial", "job"}).status, 0);
    EXPECT_EQ(worker.wait().out, "job\n");
    EXPECT_EQ(invoke({"push", url, "--dial", "--listen", "job"}).status, 2);
}

TEST_F(cli_patterns, a_bus_hears_every_neighbour_it_was_given)
{
    const auto a = "ipc://" + here.file("a"), b = "ipc://" + here.file("b");
    program first(sp_with({"bus", a, "--count", "1"})), second(sp_with({"bus", b, "--count", "1"}));
    ASSERT_TRUE(first.says("listening at") && second.says("listening at"));
    const auto third = invoke({"bus", "ipc://" + here.file("c"), a, b, "--wait-peers", "2",
                               "--wait", "0", "--", "ipc://is/not/a/peer"});
    EXPECT_EQ(third.status, 0) << third.err;
    EXPECT_EQ(first.wait().out, "ipc://is/not/a/peer\n");
    EXPECT_EQ(second.wait().out, "ipc://is/not/a/peer\n");
}

TEST_F(cli_patterns, either_side_may_start_first)
{
    program subscriber(sp_with({"sub", url, "--count", "1"}));
    ASSERT_TRUE(subscriber.says("waiting for a peer at " + url)) << subscriber.err();
    EXPECT_EQ(invoke({"pub", url, "late"}).status, 0);
    EXPECT_EQ(subscriber.wait().out, "late\n");

    program publisher(sp_with({"pub", url, "early"}));
    ASSERT_TRUE(publisher.says("waiting for a peer at " + url)) << publisher.err();
    EXPECT_EQ(invoke({"sub", url, "--count", "1"}).out, "early\n");
    EXPECT_EQ(publisher.wait().status, 0);
}

// ---- what is sent ----

TEST_F(cli_patterns, sends_lines_or_all_of_its_input)
{
    const auto text = "one\n\nthree";
    EXPECT_EQ(
        heard({"-", "--send-on", "newline"}, {"--count", "3", "--format", "quoted"}, text).out,
        "\"one\"\n\"\"\n\"three\"\n");
    EXPECT_EQ(heard({"-"}, {"--count", "1", "--format", "quoted"}, text).out,
              "\"one\\n\\nthree\"\n");
    std::ofstream(here.file("input")) << text;
    EXPECT_EQ(heard({"--file", here.file("input"), "--send-on", "newline", "--count", "1"},
                    {"--count", "1"})
                  .out,
              "one\n");
    EXPECT_EQ(invoke({"pub", url, "--file", here.file("nosuch")}).status, 6);
    EXPECT_EQ(invoke({"pub", url, "text", "--file", here.file("input")}).status, 2);
}

TEST_F(cli_patterns, fills_in_the_fields_of_a_template_and_nothing_else)
{
    const auto done = heard({"{\"n\":{count},\"x\":\"{random:8}\",\"t\":\"{time}\"}", "--template",
                             "--count", "2", "--rate", "1000"},
                            {"--count", "2"});
    const auto lines = parsed_lines(done.out);
    ASSERT_EQ(lines.size(), 2u);
    EXPECT_EQ(lines[0]["n"], 1);
    EXPECT_EQ(lines[1]["n"], 2);
    EXPECT_EQ(lines[0]["x"].get<std::string>().size(), 8u);
    EXPECT_NE(lines[0]["x"], lines[1]["x"]);
    EXPECT_TRUE(std::regex_match(lines[0]["t"].get<std::string>(),
                                 std::regex(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)")))
        << lines[0];
    EXPECT_EQ(heard({"{count}"}, {"--count", "1"}).out, "{count}\n") << "only when asked";
}

TEST_F(cli_patterns, repeats_as_often_as_it_is_told)
{
    EXPECT_EQ(
        heard({"x", "--count", "3", "--interval", "1ms", "--delay", "1ms"}, {"--count", "3"}).out,
        "x\nx\nx\n");
    EXPECT_EQ(invoke({"pub", url, "x", "--interval", "1s", "--rate", "2"}).status, 2);
}

TEST_F(cli_patterns, carries_a_body_that_looks_like_a_list_or_an_option)
{
    EXPECT_EQ(heard({"[1,2]"}, {"[1", "--count", "1"}).out, "[1,2]\n");
    EXPECT_EQ(heard({"--", "-x"}, {"--count", "1"}).out, "-x\n");
}

// ---- what is received ----

TEST_F(cli_patterns, prints_bodies_as_nngcat_does)
{
    const std::string body("a\"\x00\n\xff\\", 6);
    const auto printed = [&](const std::string &format) {
        return heard({"-"}, {"--count", "1", "--format", format}, body).out;
    };
    EXPECT_EQ(printed("quoted"), "\"a\\\"\\x00\\n\\xff\\\\\"\n");
    EXPECT_EQ(printed("hex"), "\"\\x61\\x22\\x00\\x0a\\xff\\x5c\"\n");
    EXPECT_EQ(printed("ascii"), "a\"...\\\n");
    EXPECT_EQ(printed("raw"), body);
    EXPECT_EQ(printed("no"), "");
    EXPECT_EQ(printed("msgpack"), "\xc4\x06" + body);
    const auto long_packed =
        heard({"-"}, {"--count", "1", "--format", "msgpack"}, std::string(300, 'x')).out;
    EXPECT_EQ(long_packed, std::string("\xc5\x01\x2c") + std::string(300, 'x'));
    url = "ipc://" + here.file("stream"); // a datagram does not carry that much
    const auto longer_packed =
        heard({"-"}, {"--count", "1", "--format", "msgpack"}, std::string(70000, 'x')).out;
    EXPECT_EQ(longer_packed.substr(0, 5), std::string("\xc6\x00\x01\x11\x70", 5));
    EXPECT_EQ(longer_packed.size(), 70005u);
}

TEST_F(cli_patterns, writes_one_object_per_message_and_one_for_what_was_sent)
{
    program sender(sp_with({"push", url, "-", "--send-on", "newline", "-j"}), {},
                   "text\n\xff\x01\n");
    ASSERT_TRUE(sender.says("listening at"));
    const auto lines = parsed_lines(invoke({"pull", url, "--count", "2", "-j"}).out);
    ASSERT_EQ(lines.size(), 2u);
    EXPECT_EQ(lines[0]["schema"], "sp.pull/1");
    EXPECT_EQ(lines[0]["exit"], 0);
    EXPECT_EQ(lines[0]["seq"], 1);
    EXPECT_EQ(lines[0]["body"], "text");
    EXPECT_EQ(lines[1]["seq"], 2);
    EXPECT_EQ(lines[1]["bytes"], 2);
    EXPECT_EQ(lines[1]["body_hex"], "ff01");
    const auto sent = parsed(sender.wait().out);
    EXPECT_EQ(sent["schema"], "sp.push/1");
    EXPECT_EQ(sent["messages"], 2);
    EXPECT_EQ(sent["bytes"], 6);
    EXPECT_EQ(sent["undelivered"], 0);
}

TEST_F(cli_patterns, dumps_each_body_into_a_file_and_overwrites_none)
{
    const auto folder = here.file("bodies");
    EXPECT_EQ(
        heard({"-", "--send-on", "newline"}, {"--count", "2", "--dump", folder}, "one\ntwo").out,
        "");
    EXPECT_EQ(content_of(folder + "/00000001"), "one");
    EXPECT_EQ(content_of(folder + "/00000002"), "two");
    program again(sp_with({"push", url, "three"}));
    ASSERT_TRUE(again.says("listening at"));
    const auto refused = invoke({"pull", url, "--count", "1", "--dump", folder});
    EXPECT_EQ(refused.status, 1);
    EXPECT_TRUE(refused.err.contains("nothing is overwritten")) << refused.err;
    EXPECT_EQ(content_of(folder + "/00000001"), "one");
}

TEST_F(cli_patterns, counts_by_the_second_instead_of_printing)
{
    const auto rows = heard({"12345", "--count", "4"}, {"--rate-only", "--count", "4"}).out;
    EXPECT_TRUE(std::regex_search(rows, std::regex(R"(\d+ messages/s \d+ bytes/s, 4 in all\n$)")))
        << rows;
    const auto objects =
        parsed_lines(heard({"12345", "--count", "4"}, {"--rate-only", "--count", "4", "-j"}).out);
    std::uint64_t messages = 0, bytes = 0;
    for (const auto &o : objects) {
        EXPECT_EQ(o["schema"], "sp.rate/1");
        messages += o["messages"].get<std::uint64_t>();
        bytes += o["bytes"].get<std::uint64_t>();
    }
    EXPECT_EQ(messages, 4u);
    EXPECT_EQ(bytes, 20u);
}

// ---- surveys ----

TEST_F(cli_patterns, a_survey_prints_every_answer_and_waits_for_who_shall_answer)
{
    program survey(sp_with({"survey", url, "load", "--wait-peers", "2", "--time", "20s", "-v",
                            "--set", "end_when_all_answered=true"}));
    ASSERT_TRUE(survey.says("listening at")) << survey.err();
    program first(sp_with({"respond", url, "--echo", "--count", "1"}));
    program second(sp_with({"respond", url, "--exec", "tr a-z A-Z", "--count", "1"}));
    const auto done = survey.wait();
    EXPECT_EQ(done.status, 0) << done.err;
    EXPECT_TRUE(done.out == "load\nLOAD\n" || done.out == "LOAD\nload\n") << done.out;
    EXPECT_TRUE(done.err.contains("2 answers of 2 asked")) << done.err;
    EXPECT_EQ(first.wait().out, "load\n");
    EXPECT_EQ(second.wait().out, "load\n");
}

TEST_F(cli_patterns, a_survey_that_nobody_answers_exits_7)
{
    const auto alone = invoke({"survey", url, "anybody?", "--time", "50ms", "--wait-peers", "0"});
    EXPECT_EQ(alone.status, 7);
    EXPECT_TRUE(alone.err.contains("nobody answered the survey")) << alone.err;
    EXPECT_EQ(invoke({"survey", url, "anybody?", "--timeout", "50ms"}).status, 7);
}

// ---- time-outs, mistakes, signals ----

TEST_F(cli_patterns, exits_7_when_nothing_comes_or_nobody_takes_it)
{
    for (const words &verb : {words{"sub", url, "--wait", "50ms"},
                              {"pull", url, "--wait", "50ms"},
                              {"pull", url, "--listen", "--wait", "50ms"},
                              {"bus", url, "--wait", "50ms"},
                              {"pair", url, "--wait", "50ms"},
                              {"push", url, "x", "--timeout", "50ms"},
                              {"pub", url, "x", "--timeout", "50ms"},
                              {"pair", url, "x", "--listen", "--timeout", "50ms"}}) {
        const auto done = invoke(verb);
        EXPECT_EQ(done.status, 7) << verb[0] << ": " << done.err;
        EXPECT_TRUE(done.err.starts_with("sp: SP2011") || done.err.contains("\nsp: SP2011"))
            << done.err;
    }
    EXPECT_TRUE(invoke({"sub", url, "--wait", "50ms"}).err.contains("nobody listens at " + url));
}

TEST_F(cli_patterns, exits_7_when_fewer_came_than_were_to_come)
{
    program sender(sp_with({"push", url, "x", "--count", "2"}));
    ASSERT_TRUE(sender.says("listening at"));
    const auto done = invoke({"pull", url, "--count", "3", "--wait", "1s"});
    EXPECT_EQ(done.status, 7);
    EXPECT_EQ(done.out, "x\nx\n");
    EXPECT_TRUE(done.err.contains("after 2 of 3 messages")) << done.err;
}

TEST_F(cli_patterns, a_publication_without_waiting_is_sent_to_nobody)
{
    const auto sent = invoke({"pub", url, "x", "--wait-peers", "0", "-j"});
    EXPECT_EQ(sent.status, 0) << sent.err;
    EXPECT_EQ(parsed(sent.out)["messages"], 1);
}

TEST_F(cli_patterns, a_publication_says_what_was_dropped_and_why)
{
    program sender(sp_with({"pub", url, "-"}), {}, std::string(70000, 'x'));
    ASSERT_TRUE(sender.says("listening at"));
    program subscriber(sp_with({"sub", url, "--set", "message_max=60000"}));
    const auto sent = sender.wait();
    EXPECT_EQ(sent.status, 0) << "sending to many never fails for one of them";
    EXPECT_TRUE(sent.err.contains("dropped: ")) << sent.err;
}

TEST_F(cli_patterns, ends_at_once_when_the_peer_has_another_role)
{
    program other(sp_with({"pub", url, "x", "--wait-peers", "2"}));
    ASSERT_TRUE(other.says("listening at"));
    const auto refused = invoke({"pull", url});
    EXPECT_EQ(refused.status, 1) << refused.err;
    EXPECT_TRUE(refused.err.contains("SP2004")) << refused.err;
    other.signal(SIGTERM);
    EXPECT_EQ(other.wait().status, 128 + SIGTERM);
}

TEST_F(cli_patterns, knows_every_option_of_the_library_by_its_name)
{
    const auto all = content_of("include/sp/options.hpp");
    const auto header = all.substr(0, all.find("struct engine_options")); // of a socket
    const std::regex field(R"(\n    (?:std::|duration|string).*?> (\w+) = \{\})");
    std::size_t found = 0;
    for (std::sregex_iterator each(header.begin(), header.end(), field), end; each != end; ++each) {
        const auto name = (*each)[1].str();
        const auto done = invoke({"sub", url, "--wait", "0", "--set", name + "=?"});
        EXPECT_EQ(done.status, 2) << name;
        EXPECT_TRUE(done.err.contains("SP2008 " + name + ": \"?\" is not understood")) << done.err;
        ++found;
    }
    EXPECT_GT(found, 30u);
}

TEST_F(cli_patterns, refuses_an_option_that_the_role_does_not_read_or_out_of_its_range)
{
    for (const words &wrong : {words{"pull", url, "--set", "survey_time=1s"},
                               {"push", url, "x", "--set", "recv_queue_bytes=1MiB"},
                               {"survey", url, "x", "--time", "0s"},
                               {"pair", url, "--set", "pair_version=2"},
                               {"sub", url, "--set", "nosuch=1"}}) {
        const auto done = invoke(wrong);
        EXPECT_EQ(done.status, 2) << done.err;
        EXPECT_TRUE(done.err.starts_with("sp: SP2008")) << done.err;
    }
    for (const words &right :
         {words{"pub", url, "x", "--set", "on_send_full=block"},
          {"pub", url, "x", "--set", "send_queue_messages=10"},
          {"pub", url, "x", "--set", "allow_uid=0,1000"},
          {"pub", url, "x", "--set", "name=ticker"},
          {"push", url, "x", "--set", "tcp_nodelay=false", "--set", "on_no_peer=drop"}}) {
        auto words = right;
        words.insert(words.end(), {"--wait-peers", "0"});
        const auto done = invoke(words);
        EXPECT_EQ(done.status, 0) << done.err;
    }
    EXPECT_EQ(invoke({"push", url, "x", "--set", "on_no_peer=fail"}).status, 6);
}

TEST_F(cli_patterns, a_signal_ends_every_verb_cleanly)
{
    for (const words &verb : {words{"pub", url, "x"},
                              {"push", url, "x"},
                              {"survey", url, "x"},
                              {"bus", url, "--", "x"},
                              {"pair", url, "x", "--listen"},
                              {"pull", url, "--listen"},
                              {"sub", url},
                              {"respond", url}}) {
        program running(sp_with(verb));
        const bool listens = verb[0] != "sub" && verb[0] != "respond";
        ASSERT_TRUE(running.says(listens ? "listening at" : "waiting for a peer at")) << verb[0];
        running.signal(SIGINT);
        EXPECT_EQ(running.wait().status, 130) << verb[0];
        EXPECT_FALSE(std::filesystem::exists(here.file("socket"))) << verb[0];
    }
}

TEST_F(cli_patterns, a_signal_ends_the_wait_for_input)
{
    const auto fifo = here.file("fifo");
    ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
    const int writer = ::open(fifo.c_str(), O_RDWR | O_CLOEXEC);
    program running(sp_with({"pub", url, "--file", fifo, "--send-on", "newline"}));
    ASSERT_TRUE(running.says("listening at")) << running.err();
    running.signal(SIGTERM);
    EXPECT_EQ(running.wait().status, 128 + SIGTERM);
    ::close(writer);
}

TEST_F(cli_patterns, ends_when_nobody_reads_its_output)
{
    program sender(sp_with({"pub", url, "x", "--rate", "1000", "--count", "0"}));
    ASSERT_TRUE(sender.says("listening at"));
    const auto done = sp::test::run({"sh", "-c", built() + " sub " + url + " | head -n 1"});
    EXPECT_EQ(done.out, "x\n");
    EXPECT_EQ(done.status, 0);
}

// ---- devices ----

TEST_F(cli_patterns, a_device_joins_two_networks_of_one_pattern)
{
    const auto front = "ipc://" + here.file("front");
    program service(sp_with({"rep", url, "--exec", "tr a-z A-Z"}));
    ASSERT_TRUE(service.says("listening at"));
    program bridge(sp_with({"device", "reqrep", front, url, "-j"}));
    ASSERT_TRUE(bridge.says("listening at " + front)) << bridge.err();
    const auto asked = invoke({"req", front, "through"});
    EXPECT_EQ(asked.status, 0) << asked.err;
    EXPECT_EQ(asked.out, "THROUGH\n");
    bridge.signal(SIGTERM);
    const auto ended = bridge.wait();
    EXPECT_EQ(ended.status, 128 + SIGTERM);
    const auto counted = parsed(ended.out);
    EXPECT_EQ(counted["schema"], "sp.device/1");
    EXPECT_EQ(counted["there"]["forwarded"], 1);
    EXPECT_EQ(counted["back"]["forwarded"], 1);
}

TEST_F(cli_patterns, a_device_lets_a_tap_listen)
{
    const auto out = "ipc://" + here.file("out"), tap = "ipc://" + here.file("tap");
    program bridge(sp_with({"device", "pushpull", url, out, "--listen", "--tap", tap}));
    ASSERT_TRUE(bridge.says("listening at " + out)) << bridge.err();
    program listener(sp_with({"sub", tap, "--count", "1"}));
    program worker(sp_with({"pull", out}));
    // Whether the tap's subscriber is there nobody can tell from outside: work goes on until it is.
    program jobs(sp_with({"push", url, "--dial", "job", "--count", "0", "--rate", "200"}));
    EXPECT_TRUE(worker.says("job")) << worker.err();
    const auto tapped = listener.wait();
    EXPECT_EQ(tapped.status, 0) << tapped.err;
    EXPECT_EQ(tapped.out, "job\n");
}

TEST_F(cli_patterns, a_device_refuses_what_it_cannot_join)
{
    const auto other = "ipc://" + here.file("other");
    EXPECT_EQ(invoke({"device", "ring", url, other}).status, 2);
    EXPECT_EQ(invoke({"device", "pubsub", url, other, "--ttl-max", "3"}).status, 2);
    EXPECT_EQ(invoke({"device", "reqrep", url, other, "--ttl-max", "16"}).status, 2);
    EXPECT_EQ(invoke({"device", "reqrep", url}).status, 2);
    program taken(sp_with({"rep", url}));
    ASSERT_TRUE(taken.says("listening at"));
    EXPECT_EQ(invoke({"device", "reqrep", url, other}).status, 5);
}
