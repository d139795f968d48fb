// SPDX-License-Identifier: BSD-2-Clause
//
// `sp cat` beside the real nngcat, byte for byte: the same words must give the same status and the
// same output, alone and at either end of every pattern. What nngcat says is never written down
// here; it is run. Sockets are paths in a directory of the test's own.
#include "tests/support/local.hpp"
#include "tests/support/program.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <ranges>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <unistd.h>

namespace {

namespace fs = std::filesystem;
using sp::test::built;
using sp::test::finished;
using sp::test::program;
using sp::test::run;
using sp::test::words;

std::string real_nngcat()
{
    const char *path = std::getenv("PATH");
    std::istringstream folders(path ? path : "");
    for (std::string folder; std::getline(folders, folder, ':');)
        if (const auto file = folder + "/nngcat"; ::access(file.c_str(), X_OK) == 0)
            return file;
    return {};
}

std::string text_of(const words &all)
{
    std::string text;
    for (const auto &word : all)
        text.append(word.substr(0, 60)).append(" ");
    return text;
}

words operator+(words a, const words &b)
{
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

// A path on which somebody listens; that nobody has connected to it makes no difference.
bool is_listening(const std::string &path)
{
    std::ifstream table("/proc/net/unix");
    for (std::string line; std::getline(table, line);)
        if (line.ends_with(' ' + path) && line.contains(" 00010000 "))
            return true;
    return false;
}

enum class ending { by_itself, once_it_says, with_the_other };

struct side {
    words options;
    ending ends = ending::by_itself;
    std::string says = {}; // and is then ended by a signal
};

struct scene {
    side listener, dialer;
};

struct nngcat : ::testing::Test {
    void SetUp() override
    {
        theirs = real_nngcat();
        if (theirs.empty())
            GTEST_SKIP() << "nngcat is not installed (package nng-utils)";
        fs::create_symlink(fs::absolute(built()), ours);
    }

    // What each says to the same words.
    void same_answer(const words &options)
    {
        fs::remove(path);
        const auto expected = run(words{theirs} + options);
        fs::remove(path);
        const auto done = run(words{ours} + options);
        EXPECT_EQ(done.err, expected.err) << text_of(options);
        EXPECT_EQ(done.out, expected.out) << text_of(options);
        EXPECT_EQ(done.status, expected.status) << text_of(options);
    }

    static void close_scene(program &one, const side &s, program &other, const side &t)
    {
        if (s.ends == ending::once_it_says) {
            EXPECT_TRUE(one.says(s.says)) << one.out() << one.err();
        }
        if (t.ends == ending::once_it_says) {
            EXPECT_TRUE(other.says(t.says)) << other.out() << other.err();
        }
        if (s.ends == ending::once_it_says)
            one.signal(SIGTERM);
        if (t.ends == ending::once_it_says)
            other.signal(SIGTERM);
    }

    // What the two of them wrote, when `first` listens and `second` dials.
    std::pair<finished, finished> play(const std::string &first, const std::string &second,
                                       const scene &s)
    {
        fs::remove(path);
        program listener(words{first} + s.listener.options + words{"--listen", url});
        sp::test::until([&] { return is_listening(path); });
        program dialer(words{second} + s.dialer.options + words{"--dial", url});
        close_scene(listener, s.listener, dialer, s.dialer);
        if (s.listener.ends == ending::with_the_other) {
            const auto dialed = dialer.wait();
            listener.signal(SIGTERM);
            return {listener.wait(), dialed};
        }
        const auto listened = listener.wait();
        if (s.dialer.ends == ending::with_the_other)
            dialer.signal(SIGTERM);
        return {listened, dialer.wait()};
    }

    // Whichever end is ours, both write what two of theirs write.
    void same_play(const scene &s)
    {
        const auto expected = play(theirs, theirs, s);
        for (const auto &[first, second] : {std::pair(ours, theirs), std::pair(theirs, ours)}) {
            const auto done = play(first, second, s);
            SCOPED_TRACE((first == ours ? "ours listens: " : "ours dials: ") +
                         text_of(s.listener.options + words{"|"} + s.dialer.options));
            for (const auto &[got, wanted] :
                 {std::pair(done.first, expected.first), std::pair(done.second, expected.second)}) {
                EXPECT_EQ(got.out, wanted.out);
                EXPECT_EQ(got.err, wanted.err);
                EXPECT_EQ(got.status, wanted.status);
            }
        }
    }

    std::string file_with(const std::string &bytes)
    {
        const auto name = here.file("body");
        std::ofstream(name, std::ios::binary) << bytes;
        return name;
    }

    sp::test::watchdog alarm;
    sp::test::scratch_directory here;
    std::string theirs, ours = here.file("nngcat"), path = here.file("socket");
    std::string url = "ipc://" + path;
};

// All that a long option of nngcat may begin with, whole names among them.
std::set<std::string> beginnings()
{
    std::set<std::string> all;
    for (const std::string name :
         {"help",        "version",      "verbose",       "silent",     "req0",
          "rep0",        "push0",        "pull0",         "pub0",       "sub",
          "sub0",        "surveyor0",    "respondent0",   "pair0",      "pair1",
          "bus0",        "dial",         "connect",       "listen",     "bind",
          "connect-ipc", "bind-ipc",     "connect-local", "bind-local", "data",
          "file",        "subscribe",    "format",        "ascii",      "quoted",
          "hex",         "msgpack",      "raw",           "count",      "delay",
          "interval",    "send-timeout", "recv-timeout",  "recv-maxsz", "socket-name",
          "compat",      "async",        "insecure",      "cacert",     "key",
          "cert",        "zt-home"})
        for (std::size_t n = 0; n <= name.size(); ++n)
            all.insert("--" + name.substr(0, n));
    // Each prints a text of its own.
    for (const char *own : {"--hel", "--help", "--vers", "--versi", "--versio", "--version"})
        all.erase(own);
    return all;
}

std::string every_byte(std::size_t size)
{
    std::string body;
    for (std::size_t i = 0; i < size; ++i)
        body += static_cast<char>(i);
    return body;
}

} // namespace

// ---- the command line ----

TEST_F(nngcat, options_may_be_cut_short_where_its_own_may)
{
    for (const auto &beginning : beginnings())
        same_answer({beginning});
}

TEST_F(nngcat, words_are_split_as_it_splits_them)
{
    for (const words &line : {words{},
                              {"-"},
                              {"--"},
                              {"--", "x"},
                              {"--="},
                              {"x"},
                              {"--req", "-", "--dial", "x"},
                              {"--req", "x", "--dial", "x"},
                              {"-j"},
                              {"-vq"},
                              {"-v", "-q", "--verbose", "--silent"},
                              {"-AQ"},
                              {"--unheard"},
                              {"--re0"},
                              {"--reqs"},
                              {"--req=5"},
                              {"--req:5"},
                              {"--req="},
                              {"--REQ"},
                              {"--bus", "--dial=x"},
                              {"--bus", "--dial:x"},
                              {"--bus", "--dial", "x"},
                              {"--bus", "--dial="},
                              {"--bus", "--dial", ""},
                              {"--bus", "--dial", "--listen"},
                              {"--bus", "--dial==x"},
                              {"--bus", "--con=x"},
                              {"--bus", "--connect=x"},
                              {"--bus", "--bind:x"},
                              {"--bus", "-L"},
                              {"--bus", "-L=5"},
                              {"--bus", "-L:5"},
                              {"--bus", "-Lx"},
                              {"--bus", "-L-1"},
                              {"--bus", "-L", ""},
                              {"--bus", "-l65537"},
                              {"--bus", "--delay"},
                              {"-D"},
                              {"-F"},
                              {"-E"}})
        same_answer(line);
}

TEST_F(nngcat, numbers_have_its_ranges)
{
    for (const char *option : {"--count", "--delay", "--interval", "--send-timeout",
                               "--recv-timeout", "--recv-maxsz", "--bind-local"})
        for (const char *number :
             {"", "x", "-1", "1x", " 1", "1.5", "0x10", "86401", "99999", "1", "007"})
            same_answer({std::string(option).append("=").append(number)});
}

TEST_F(nngcat, conflicts_are_refused_in_its_words_and_order)
{
    for (const words &line : {words{"--sub", "--req"},
                              {"--sub", "--sub0"},
                              {"--pair0", "--pair1", "--dial", "x"},
                              {"--dial", "x"},
                              {"--format=morse"},
                              {"--format=text"},
                              {"--format=no", "-A"},
                              {"-A", "--format=morse"},
                              {"-A", "-Q"},
                              {"--hex", "--hex"},
                              {"--raw", "--msgpack"},
                              {"-Da", "-Db"},
                              {"-Da", "-F", "/dev/null"},
                              {"-F", "/dev/null", "-Db"},
                              {"-F", here.file("none")},
                              {"-F", here.path().string()},
                              {"-Da", "-F", here.file("none")},
                              {"--cacert", here.file("none")},
                              {"--key", here.file("none")},
                              {"--cert", here.file("none")},
                              {"--cacert=/dev/null", "--cacert=/dev/null"},
                              {"--key=/dev/null", "--key=/dev/null"},
                              {"--cert=/dev/null", "-E", "/dev/null"},
                              {"--sub", "--dial", "x", "-Da"},
                              {"--sub", "--dial", "x", "-i1"},
                              {"--pull", "--dial", "x", "-Da"},
                              {"--pull", "--dial", "x", "-i1"},
                              {"--pub", "--dial", "x"},
                              {"--pub", "--dial", "x", "-A", "-Da"},
                              {"--pub", "--dial", "x", "-A"},
                              {"--push", "--dial", "x", "--format=no", "-Da"},
                              {"--push", "--dial", "x"},
                              {"--req", "--dial", "x"},
                              {"--surveyor", "--dial", "x"},
                              {"--rep", "--dial", "x", "-i1"},
                              {"--respondent", "--dial", "x", "-i1"},
                              {"--bus", "--dial", "x", "-i1"},
                              {"--pair0", "--dial", "x", "-i1"},
                              {"--pair1", "--dial", "x", "-i1"},
                              {"--pub", "--dial", "x", "--subscribe=a", "-Da"},
                              {"--subscribe=a", "--dial", "x"},
                              {"--compat", "--async", "--bus", "--dial", "x"},
                              {"--compat", "-C1", "--bus", "--dial", "x"},
                              {"--compat", "--pair1", "--dial", "x"},
                              {"--compat", "--pair0", "--dial", "x"}})
        same_answer(line);
}

// ---- addresses ----

TEST_F(nngcat, failures_to_connect_have_its_words)
{
    for (const words &line : {words{"--dial", url},
                              {"--dial", "ipc://" + here.file("none/socket")},
                              {"-x", here.file("none")},
                              {"--connect-ipc=" + here.file("none")},
                              {"-x", "sp-no-such-socket"},
                              {"--dial", "ipc://"},
                              {"--dial", "x"},
                              {"--listen", "x"},
                              {"--dial", "nonsense://x"},
                              {"--listen", "nonsense://x"},
                              {"--dial", "tcp://127.0.0.1"},
                              {"--dial", "tcp://:4"},
                              {"--dial", "ipc:///tmp/" + std::string(200, 'a')},
                              {"--listen", "ipc://" + here.file("none/socket")},
                              {"--listen", "ipc:///tmp/" + std::string(200, 'a')},
                              {"--listen", "tcp://127.0.0.1:99999"},
                              {"--listen", "tcp://198.18.0.1:5"}})
        same_answer(words{"--bus", "-v"} + line);
}

TEST_F(nngcat, a_closed_port_is_refused_in_its_words)
{
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); // bound, and never listens
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr *>(&at), size), 0);
    ASSERT_EQ(::getsockname(fd, reinterpret_cast<sockaddr *>(&at), &size), 0);
    const auto port = std::to_string(ntohs(at.sin_port));
    same_answer({"--bus", "-l" + port});
    same_answer({"--bus", "--connect-local", port});
    same_answer({"--bus", "--dial", "tcp://127.0.0.1:" + port});
    ::close(fd);
}

TEST_F(nngcat, an_address_in_use_is_refused_in_its_words)
{
    program holder({theirs, "--bus", "--listen", url});
    sp::test::until([&] { return is_listening(path); });
    const words again{"--bus", "--listen", url};
    const auto expected = run(words{theirs} + again), done = run(words{ours} + again);
    EXPECT_EQ(done.err, expected.err);
    EXPECT_EQ(done.status, expected.status);
    holder.signal(SIGTERM);
    (void)holder.wait();
}

TEST_F(nngcat, time_outs_end_it_as_they_end_theirs)
{
    for (const words &line : {words{"--push", "-Dx", "--send-timeout", "1"},
                              {"--req", "-Dx", "--send-timeout", "1"},
                              {"--pair1", "-Dx", "--send-timeout", "1"},
                              {"--rep", "-Dx", "--recv-timeout", "1"},
                              {"--rep", "--recv-timeout", "1"},
                              {"--sub", "--recv-timeout", "1"},
                              {"--bus", "-Dx", "--recv-timeout", "1"},
                              {"--surveyor", "-Dx"},
                              {"--pub", "-Dx"},
                              {"--pub", "-Dx", "-C3"}})
        same_answer(line + words{"--listen", url, "-v"});
}

// ---- patterns, either end ----

TEST_F(nngcat, req_and_rep_converse_as_two_of_theirs)
{
    const words asks{"--req", "-D", "what \"time\"?", "-Q", "-v"},
        answers{"--rep0", "-Dnoon", "-C1", "-A", "-v"};
    same_play({.listener = {answers}, .dialer = {asks}});
    same_play({.listener = {asks}, .dialer = {answers}});
    same_play({.listener = {{"--rep", "-Dnoon", "-C2", "--hex"}},
               .dialer = {{"--req", "-Dwhen", "--msgpack", "-i1", "-C2"}}});
    same_play({.listener = {{"--rep", "-C1", "-Q"}}, // and does not answer
               .dialer = {{"--req", "-Dwhen", "-Q", "--recv-timeout=1"}}});
}

TEST_F(nngcat, pub_and_sub_converse_as_two_of_theirs)
{
    const words sends{"--pub", "-D", "weather: fine", "-C2", "-v"};
    same_play({.listener = {{"--sub", "-C2", "-Q", "-v"}}, .dialer = {sends}});
    same_play({.listener = {{"--sub0", "--subscribe", "x", "--subscribe=wea", "-C2", "-Q"}},
               .dialer = {sends}});
    same_play({.listener = {{"--sub", "--subscribe", "x", "--recv-timeout", "1", "-Q"}},
               .dialer = {sends}});
    same_play({.listener = {{"--pub0", "-Dtick", "-i1"}, ending::with_the_other},
               .dialer = {{"--sub", "-C1", "-A", "-v"}}});
}

TEST_F(nngcat, push_and_pull_converse_as_two_of_theirs)
{
    const words sends{"--push", "-Dwork", "-C3", "-v"}, receives{"--pull", "-C3", "--quoted", "-v"};
    same_play({.listener = {receives}, .dialer = {sends}});
    same_play({.listener = {sends}, .dialer = {receives}});
    same_play({.listener = {{"--pull0", "-C1", "-A"}}, .dialer = {{"--push0", "-D", "", "-d1"}}});
}

TEST_F(nngcat, surveyor_and_respondent_converse_as_two_of_theirs)
{
    const words answers{"--respondent", "-Dhere", "-C1", "-A", "-v"};
    same_play({.listener = {answers}, .dialer = {{"--surveyor", "-Dwho", "-Q", "-v"}}});
    same_play({.listener = {{"--surveyor0", "-Dwho", "-Q", "-i1"}, ending::once_it_says, "here"},
               .dialer = {answers}});
}

TEST_F(nngcat, bus_converses_as_two_of_theirs)
{
    same_play({.listener = {{"--bus", "-Q", "-v"}, ending::once_it_says, "\"ping\"\n"},
               .dialer = {{"--bus0", "-Dping"}, ending::with_the_other}}); // its -v dies with it
    same_play({.listener = {{"--bus", "-Dpong", "-i1"}, ending::with_the_other},
               .dialer = {{"--bus", "-C1", "-A"}}});
}

TEST_F(nngcat, pair_converses_as_two_of_theirs)
{
    for (const char *role : {"--pair0", "--pair1"}) {
        same_play({.listener = {{role, "-Dpong", "-Q", "-v"}, ending::once_it_says, "\"ping\"\n"},
                   .dialer = {{role, "-Dping", "-A", "-v"}, ending::once_it_says, "pong"}});
        same_play({.listener = {{role, "-C1", "-Q"}},
                   .dialer = {{role, "-Dping", "-Q"}, ending::with_the_other}});
    }
    same_play({.listener = {{"--pair0", "-C1", "-Q"}},
               .dialer = {{"--compat", "--pair0", "-Dping"}, ending::with_the_other}});
}

TEST_F(nngcat, formats_are_its_own_for_every_byte_and_size)
{
    for (const char *format : {"no", "raw", "ascii", "quoted", "hex", "msgpack"})
        for (const std::size_t size : {0, 255, 256, 70000}) {
            const auto body = file_with(every_byte(size));
            same_play({.listener = {{"--pull", "-C1", "--format", format}},
                       .dialer = {{"--push", "-F", body}}});
        }
    same_play({.listener = {{"--pull", "-C1"}}, .dialer = {{"--push", "-Dunseen"}}});
}

TEST_F(nngcat, sizes_are_bounded_and_unbounded_as_with_it)
{
    const auto large = file_with(every_byte(3 << 19));
    same_play(
        {.listener = {{"--pull", "-C1", "--raw", "-Z0"}}, .dialer = {{"--push", "-F", large}}});
    same_play({.listener = {{"--pull", "-A", "-Z10", "--recv-timeout=1"}},
               .dialer = {{"--push", "-D", std::string(100, 'x')}}});
    same_play({.listener = {{"--pull", "-A", "--recv-maxsz:10", "-C1"}},
               .dialer = {{"--push", "-D", std::string(10, 'x')}}});
}

TEST_F(nngcat, an_async_dialer_may_start_first)
{
    for (const auto &[first, second] : {std::pair(ours, theirs), std::pair(theirs, ours)}) {
        fs::remove(path);
        program dialer({first, "--push", "--async", "-Dearly", "-x", path});
        program listener({second, "--pull", "-C1", "-Q", "-X", path});
        const auto got = listener.wait();
        EXPECT_EQ(got.out, "\"early\"\n") << got.err;
        EXPECT_EQ(dialer.wait().status, 0);
    }
}

// ---- what is ours ----

namespace {

struct cat : ::testing::Test {
    static finished invoke(const words &options) { return run(words{built(), "cat"} + options); }

    sp::test::watchdog alarm;
    sp::test::scratch_directory here;
    std::string url = "ipc://" + here.file("socket");
};

} // namespace

TEST_F(cat, exits_as_other_verbs_do_and_says_why)
{
    EXPECT_EQ(invoke({"--re"}).status, 2);
    EXPECT_EQ(invoke({"--bus", "--dial", "zt://x"}).status, 2);
    const auto refused = invoke({"--bus", "--dial", url});
    EXPECT_EQ(refused.status, 6);
    EXPECT_TRUE(refused.err.starts_with("Unable to dial on " + url + ": Connection refused\n"));
    EXPECT_TRUE(refused.err.contains("\n  fix: start the listener\n")) << refused.err;
    EXPECT_EQ(invoke({"--bus", "-q", "--dial", url}).err,
              "Unable to dial on " + url + ": Connection refused\n");
    EXPECT_EQ(invoke({"--push", "-Dx", "--listen", url, "--send-timeout=1"}).status, 7);
    EXPECT_EQ(invoke({"--bus", "--dial", "ip://127.0.0.1:7000"}).status, 4)
        << "plaintext needs --insecure";
    EXPECT_EQ(run({built(), "-v", "cat", "--re"}).status, 2) << "after an option of sp itself";
}

TEST_F(cat, prints_help_and_version)
{
    const auto help = invoke({"--help"});
    EXPECT_EQ(help.status, 0);
    EXPECT_TRUE(help.out.starts_with("Usage: sp cat ROLE PEER...")) << help.out;
    EXPECT_TRUE(help.out.contains("Exit: 0 done")) << help.out;
    for (const char *name : {"spcat", "nngcat"})
        fs::create_symlink(fs::absolute(built()), here.file(name));
    EXPECT_TRUE(run({here.file("spcat"), "-h"}).out.starts_with("Usage: spcat ROLE"));
    EXPECT_EQ(run({here.file("nngcat"), "-h"}).status, 1) << "as there";
    EXPECT_EQ(invoke({"-V"}).status, 0);
    EXPECT_EQ(invoke({"-V"}).out, invoke({"--version"}).out);
}

TEST_F(cat, takes_what_the_manual_of_nngcat_promises)
{
    program answerer({built(), "cat", "--pair", "--listen", url, "-Dpong", "-Q"});
    ASSERT_TRUE((sp::test::until([&] { return is_listening(here.file("socket")); }), true));
    program asker(
        {built(), "cat", "--pair1", "--dial", url, "-Dping", "-A", "--receive-timeout=60"});
    EXPECT_TRUE(asker.says("pong"));
    EXPECT_TRUE(answerer.says("\"ping\"\n"));
    EXPECT_EQ(invoke({"--pair", "--pair0"}).err, "Only one protocol may be specified.\n");
    EXPECT_EQ(invoke({"-C99999999999"}).err, "Integer argument too large.\n");
}

TEST_F(cat, ends_without_a_peer_when_the_time_to_receive_has_passed)
{
    const auto done = invoke({"--req", "--async", "--dial", url, "-Dx", "--recv-timeout=1"});
    EXPECT_EQ(done.status, 7);
    EXPECT_TRUE(done.err.starts_with("Send error: Timed out\n")) << done.err;
}

TEST_F(cat, takes_every_url_of_sp)
{
    for (const auto &at : {"unixgram://" + here.file("datagrams"), url,
                           "abstract://" + here.path().filename().string()}) {
        program answerer({built(), "cat", "--rep", "--listen", at, "-Dnoon", "-C1", "-Q", "-v"});
        ASSERT_TRUE(answerer.says("Listening at: " + at + '\n')) << answerer.err();
        EXPECT_EQ(invoke({"--req", "--dial", at, "-Dwhen", "-A"}).out, "noon");
        EXPECT_TRUE(answerer.wait().out.ends_with("\"when\"\n"));
    }
}

TEST_F(cat, ends_by_a_signal_and_leaves_nothing)
{
    program listener({built(), "cat", "--pull", "--listen", url, "-v"});
    ASSERT_TRUE(listener.says("Listening at: "));
    listener.signal(SIGINT);
    EXPECT_EQ(listener.wait().status, 130);
    EXPECT_FALSE(fs::exists(here.file("socket")));
}
