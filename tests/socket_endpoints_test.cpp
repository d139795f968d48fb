// SPDX-License-Identifier: BSD-2-Clause
//
// Dialing and listening over unixgram: who finds whom, in which order, and what is said when nobody
// is found.
#include "tests/support/local.hpp"

#include <atomic>
#include <fstream>
#include <grp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <vector>

namespace {

using namespace sp::test;
using sp::errc;
using sp::stat;

class endpoint : public on_one_host {
protected:
    // A question goes there and an answer comes back.
    static void expect_answered(sp::req &req, sp::rep &rep)
    {
        std::jthread answerer(
            [&] { EXPECT_TRUE(must(rep.recv(patience)).reply("yes", patience)); });
        const auto answer = req.request("are you there?", patience);
        EXPECT_TRUE(answer && answer->text() == "yes");
    }
};

TEST_F(endpoint, that_dials_before_anybody_listens_connects_later)
{
    auto req = must(sp::req::open(at({.reconnect_max = 50ms})));
    const auto dialer = must(req.dial(url()));
    until([&] { return req.last_error(dialer).has_value(); });
    EXPECT_EQ(*req.last_error(dialer), errc::connection_refused);
    EXPECT_EQ(req.last_error(dialer)->number(), 2003);
    EXPECT_TRUE(req.last_error(dialer)->what().contains(url()));
    EXPECT_EQ(req.peers(), 0u);
    auto rep = listening();
    must(req.wait_peers(1, patience));
    EXPECT_EQ(req.peers(), 1u);
    EXPECT_FALSE(req.last_error(dialer)) << "it is connected now";
    expect_answered(req, rep);
}

TEST_F(endpoint, keeps_a_request_until_its_first_peer_comes)
{
    auto req = must(sp::req::open(at({.dial = url(), .reconnect_max = 50ms})));
    std::jthread asker([&] { EXPECT_EQ(must(req.request("early", patience)).text(), "late"); });
    auto rep = listening();
    must(must(rep.recv(patience)).reply("late", patience));
}

TEST_F(endpoint, dialed_with_a_wait_says_that_nobody_listens_and_stops_trying)
{
    auto req = must(sp::req::open(at({.reconnect_min = 1ms, .reconnect_max = 1ms})));
    const auto dialed = req.dial(url(), patience);
    ASSERT_FALSE(dialed);
    EXPECT_EQ(dialed.error(), errc::connection_refused);
    EXPECT_EQ(dialed.error().number(), 2003);
    EXPECT_TRUE(dialed.error().what().contains(url())) << dialed.error().what();
    EXPECT_TRUE(dialed.error().why().contains("path is missing")) << dialed.error().why();
    {
        std::ofstream(file("plain")) << "no socket";
        const auto no_socket = req.dial(url("plain"), patience);
        EXPECT_EQ(no_socket.error(), errc::connection_refused);
    }
    // Nothing goes on: a listener that appears now is never found, while a dialer made later finds
    // it at once.
    auto rep = listening();
    auto other = on_one_host::dialed();
    must(rep.wait_peers(1, patience));
    EXPECT_EQ(req.wait_peers(1, 50ms).error(), errc::timed_out);
    EXPECT_EQ(rep.peers(), 1u);
}

TEST_F(endpoint, dialed_with_a_wait_that_is_over_leaves_nothing_behind)
{
    // A socket that takes datagrams and never answers.
    const int silent = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    file("silent").copy(name.sun_path, sizeof name.sun_path - 1);
    ASSERT_EQ(::bind(silent, reinterpret_cast<const sockaddr *>(&name), sizeof name), 0);
    auto req = must(sp::req::open(at({.connect_timeout = 30ms})));
    const auto impatient = req.dial(url("silent"), 5ms);
    EXPECT_EQ(impatient.error(), errc::timed_out);
    EXPECT_TRUE(impatient.error().what().contains(url("silent"))) << impatient.error().what();
    EXPECT_EQ(req.dial(url("silent"), 0s).error(), errc::would_block);
    std::stop_source stop;
    stop.request_stop();
    EXPECT_EQ(req.dial(url("silent"), stop.get_token()).error(), errc::canceled);
    EXPECT_EQ(req.dial(url("silent"), patience).error(), errc::timed_out)
        << "connect_timeout bounds it";
    ::close(silent);
}

TEST_F(endpoint, of_another_protocol_is_refused_with_both_names)
{
    auto one = must(sp::req::open(at({.listen = url("req")})));
    auto two = must(sp::req::open(at()));
    const auto refused = two.dial(url("req"), 2s);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error(), errc::protocol_mismatch);
    EXPECT_EQ(refused.error().number(), 2004);
    EXPECT_TRUE(refused.error().what().contains("is a REQ, this is a REQ, which needs a REP"))
        << refused.error().what();
    auto rep = listening();
    auto other = must(sp::rep::open(at()));
    const auto second = other.dial(url(), 2s);
    ASSERT_FALSE(second);
    EXPECT_TRUE(second.error().what().contains("is a REP, this is a REP, which needs a REQ"))
        << second.error().what();
    EXPECT_EQ(count(stat::listener_peer_protocol), 2u);
    EXPECT_EQ(rep.peers() + one.peers(), 0u);
}

TEST_F(endpoint, works_whoever_of_the_two_dials)
{
    auto req = must(sp::req::open(at({.listen = url()})));
    auto rep = must(sp::rep::open(at()));
    (void)must(rep.dial(url(), patience));
    must(req.wait_peers(1, patience));
    expect_answered(req, rep);
}

TEST_F(endpoint, refuses_whom_its_owner_does_not_admit)
{
    auto rep = listening();
    std::atomic<int> asked = 0;
    rep.admit([&](const sp::pipe_info &who) {
        EXPECT_EQ(who.protocol, 0x30);
        EXPECT_EQ(who.transport, "unixgram");
        EXPECT_TRUE(who.peer.starts_with("@")) << who.peer;
        EXPECT_NE(who.instance, 0u);
        return asked++ > 0;
    });
    auto req = must(sp::req::open(at()));
    const auto refused = req.dial(url(), patience);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error(), errc::rejected);
    EXPECT_EQ(refused.error().number(), 2021);
    EXPECT_EQ(count(stat::listener_rejected), 1u);
    EXPECT_EQ(rep.peers(), 0u);
    EXPECT_TRUE(req.dial(url(), patience));
    EXPECT_EQ(asked, 2);
    expect_answered(req, rep);
}

TEST_F(endpoint, takes_no_more_peers_than_pipes_max)
{
    auto rep = listening({.pipes_max = 2});
    auto first = dialed(), second = dialed();
    auto third = must(sp::req::open(at()));
    const auto refused = third.dial(url(), patience);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error(), errc::limit_reached) << told(refused.error());
    EXPECT_EQ(count(stat::listener_limit), 1u);
    first.close();
    until([&] { return rep.peers() == 1; });
    EXPECT_TRUE(third.dial(url(), patience));
    expect_answered(third, rep);
}

TEST_F(endpoint, tells_its_url)
{
    auto rep = must(sp::rep::open(at()));
    const auto listener = must(rep.listen(url()));
    EXPECT_EQ(must(rep.url(listener)), url());
    auto req = must(sp::req::open(at()));
    const auto dialer = must(req.dial(url(), patience));
    EXPECT_EQ(must(req.url(dialer)), url());
    EXPECT_EQ(req.url(sp::endpoint_id{0}).error(), errc::not_found);
    EXPECT_EQ(rep.url(dialer).error(), errc::not_found) << "the endpoint of another socket";
    EXPECT_FALSE(rep.last_error(listener));
    EXPECT_FALSE(req.last_error(dialer));
    rep.close_endpoint(listener);
    EXPECT_EQ(rep.url(listener).error(), errc::not_found);
}

TEST_F(endpoint, that_closes_ends_its_pipes_and_frees_its_path)
{
    auto rep = must(sp::rep::open(at()));
    const auto first = must(rep.listen(url("first")));
    (void)must(rep.listen(url("second")));
    auto req = dialed({}, "first"), other = dialed({}, "second");
    must(rep.wait_peers(2, patience));
    rep.close_endpoint(first);
    rep.close_endpoint(first); // again
    until([&] { return req.peers() == 0; });
    EXPECT_EQ(rep.peers(), 1u);
    EXPECT_FALSE(std::filesystem::exists(file("first")));
    expect_answered(other, rep);
    auto next = listening({}, "first");
    must(req.wait_peers(1, patience)); // its dialer has not given up
    expect_answered(req, next);
}

TEST_F(endpoint, that_stops_dialing_stays_alone)
{
    auto rep = listening();
    auto req = must(sp::req::open(at()));
    const auto dialer = must(req.dial(url(), patience));
    req.close_endpoint(dialer);
    until([&] { return rep.peers() == 0 && req.peers() == 0; });
    EXPECT_EQ(req.wait_peers(1, 50ms).error(), errc::timed_out);
}

TEST_F(endpoint, dialed_twice_is_two_peers)
{
    auto rep = listening();
    auto req = dialed();
    (void)must(req.dial(url(), patience));
    EXPECT_EQ(req.peers(), 2u);
    must(rep.wait_peers(2, patience));
    expect_answered(req, rep);
}

TEST_F(endpoint, that_another_socket_listens_at_is_in_use)
{
    auto rep = listening();
    auto req = dialed();
    const auto second = sp::rep::open(at({.listen = url()}));
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error(), errc::address_in_use);
    EXPECT_EQ(second.error().number(), 2002);
    EXPECT_EQ(second.error().exit_status(), 5);
    expect_answered(req, rep);
}

TEST_F(endpoint, whose_url_is_not_understood_is_refused_with_the_nearest_word)
{
    auto rep = must(sp::rep::open(at()));
    const struct {
        const char *url;
        int number;
        const char *text;
    } cases[] = {
        {"unixgrm:///run/a", 2001, "did you mean unixgram?"},
        {"ip://127.0.0.1:1?oi=xdp", 2001, "did you mean io?"},
        {"unixgram://relative", 2001, "unixgram:///path"},
        {"unix:///run/a", 2001, "ipc"},
        {"ip://127.0.0.1:1", 3001, "insecure"},
    };
    for (const auto &c : cases) {
        for (const auto &refused :
             {rep.listen(c.url), rep.dial(c.url), rep.dial(c.url, patience)}) {
            ASSERT_FALSE(refused) << c.url;
            EXPECT_EQ(refused.error().number(), c.number) << c.url;
            EXPECT_TRUE(refused.error().fix().contains(c.text)) << refused.error().fix();
        }
        EXPECT_EQ(sp::rep::open(at({.listen = c.url})).error().number(), c.number);
        EXPECT_EQ(sp::rep::open(at({.dial = c.url})).error().number(), c.number);
    }
    const auto long_path = "unixgram:///" + std::string(200, 'x');
    EXPECT_EQ(rep.listen(long_path).error().number(), 2001);
    EXPECT_EQ(rep.dial(long_path).error().number(), 2001);
    EXPECT_EQ(rep.listen(url("no/such/directory")).error().number(), 2026);
}

TEST_F(endpoint, admits_other_users_only_by_its_mode)
{
    if (::geteuid() != 0)
        GTEST_SKIP() << "another user's right is tried by root";
    std::filesystem::permissions(std::filesystem::path(file("")).parent_path(),
                                 std::filesystem::perms{0755});
    drop_engine(); // no thread stands in the way of fork()
    const auto as_nobody = [&](const std::string &name) {
        child c([&](child::door) {
            if (::setgroups(0, nullptr) != 0 || ::setresuid(65534, 65534, 65534) != 0)
                return 100;
            auto req = sp::req::open();
            if (!req)
                return 101;
            const auto dialed = req->dial(url(name), patience);
            return dialed ? 0 : dialed.error().number() - 2000;
        });
        return c.wait_end();
    };
    child listener([&](child::door door) {
        auto tight = sp::rep::open({.listen = url("tight")});
        auto loose = sp::rep::open({.listen = url("loose"), .ipc_mode = 0666});
        if (!tight || !loose)
            return 1;
        door.tell();
        for (;;)
            ::pause();
    });
    ASSERT_TRUE(listener.wait_ready());
    EXPECT_EQ(as_nobody("tight"), 22); // permission_denied
    EXPECT_EQ(as_nobody("loose"), 0);
}

} // namespace
