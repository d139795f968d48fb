// SPDX-License-Identifier: BSD-2-Clause
//
// Conformance with libnng: endpoints, the scenarios E1, E2, E4 to E7.
#include "tests/interop/nng_scene.hpp"
#include "tests/support/program.hpp"

#include <unistd.h>

namespace sp::test {
namespace {

class nng_endpoint : public nng_scene {
protected:
    static void expect_asked(sp::req &req, nng_peer &replier)
    {
        auto answer = std::async(std::launch::async, [&] { return req.request("q", patience); });
        expect_mail(replier.recv(), "q");
        nng_must(replier.send("a"), "reply");
        expect_message(answer.get(), "a");
    }
    static void expect_asked(nng_peer &asker, sp::rep &rep, const std::string &where)
    {
        auto said = asker.send("q", 5s);
        if (said == NNG_ETIMEDOUT && nng_does::stop_to_dial_when_closed_early) {
            EXPECT_EQ(asker.pipes(), 0u); // nothing waits at our door either
            asker.dial_on(where);
            said = asker.send("q");
        }
        nng_must(said, "ask");
        must(must(rep.recv(patience)).reply("a", patience));
        expect_mail(asker.recv(), "a");
    }
    static constexpr int restarts = 20;
};
INSTANTIATE_TEST_SUITE_P(with, nng_endpoint, ::testing::ValuesIn(over_ipc), name_of);

TEST_P(nng_endpoint, e1_who_dials_finds_a_listener_that_comes_later_and_comes_again)
{
    const auto where = new_address();
    if (GetParam().who == listener::nng) {
        auto req = opened<sp::req>({.reconnect_min = 5ms, .reconnect_max = 50ms});
        const auto dialer = must(req.dial(where));
        until([&] { return req.last_error(dialer).has_value(); });
        EXPECT_EQ(req.last_error(dialer)->code(), errc::connection_refused);
        for (int round = 0; round < restarts; ++round) {
            nng_peer replier(nng_role::rep0);
            (void)replier.listen(where);
            expect_asked(req, replier);
            EXPECT_EQ(req.peers(), 1u);
            replier.wait_pipes_ever(1);
            EXPECT_EQ(replier.pipes_ever(), 1u);
            replier.close();
            wait_peers_gone(req);
        }
        for (int i = 0; i < restarts; ++i) { // never two at once
            EXPECT_EQ(must(req.next_event(patience)).what, pipe_event::kind::attached);
            const auto end = must(req.next_event(patience));
            EXPECT_EQ(end.what, pipe_event::kind::detached);
            EXPECT_EQ(end.reason, "peer_closed");
        }
        EXPECT_EQ(error_of(req.next_event(0s)), "would_block");
        EXPECT_EQ(req.statistics()[stat::pipe_peer_closed], std::uint64_t{restarts});
        expect_balance(req);
        return;
    }
    nng_peer asker(nng_role::req0);
    asker.dial_on(where);
    for (int round = 0; round < restarts; ++round) {
        auto rep = opened<sp::rep>();
        (void)must(rep.listen(where));
        expect_asked(asker, rep, where);
        EXPECT_EQ(rep.peers(), 1u);
        expect_balance(rep);
        rep.close();
        asker.wait_pipes(0);
    }
    asker.wait_pipes_ever(restarts); // a beginning may be told after its end
    EXPECT_EQ(asker.pipes_ever(), std::size_t{restarts});
}

TEST_P(nng_endpoint, e2_a_second_listener_on_a_live_path_is_refused_and_the_first_undisturbed)
{
    const auto where = new_address();
    auto rep = opened<sp::rep>();
    nng_peer replier(nng_role::rep0);
    if (GetParam().who == listener::nng) {
        (void)replier.listen(where);
        EXPECT_EQ(error_of(rep.listen(where)), "address_in_use");
        auto req = opened<sp::req>();
        (void)must(req.dial(where, patience));
        expect_asked(req, replier);
        replier.wait_pipes_ever(1);
        EXPECT_EQ(replier.pipes_ever(), 1u);
    } else {
        (void)must(rep.listen(where));
        EXPECT_EQ(replier.try_listen(where), NNG_EADDRINUSE);
        nng_peer asker(nng_role::req0);
        asker.dial(where);
        expect_asked(asker, rep, where);
        EXPECT_EQ(rep.peers(), 1u);
    }
    expect_balance(rep);
}

TEST_P(nng_endpoint, e4_close_ends_a_recv_that_waits_and_libnng_sees_the_end)
{
    nng_peer push(nng_role::push0);
    auto pull = joined_to<sp::pull>(push);
    auto waits = std::async(std::launch::async, [&] { return pull.recv(patience); });
    pull.close();
    EXPECT_EQ(error_of(waits.get()), "closed");
    push.wait_pipes(0);
    nng_peer pulls(nng_role::pull0);
    auto pushes = joined_to<sp::push>(pulls);
    pulls.close();
    wait_peers_gone(pushes);
    EXPECT_EQ(error_of(pushes.send("x", 0s)), "would_block");
}

TEST_P(nng_endpoint, e5_unix_of_libnng_is_our_ipc)
{
    nng_peer replier(nng_role::rep0), asker(nng_role::req0);
    (void)replier.listen("unix://" + file("theirs"));
    auto req = opened<sp::req>();
    (void)must(req.dial("ipc://" + file("theirs"), patience));
    expect_asked(req, replier);
    auto rep = opened<sp::rep>();
    (void)must(rep.listen("ipc://" + file("ours")));
    asker.dial("unix://" + file("ours"));
    expect_asked(asker, rep, "unix://" + file("ours"));
    expect_balance(req);
    expect_balance(rep);
}

// nngcat that asks as another user; what it said.
finished ask_as(int user, const std::string &where)
{
    const auto id = std::to_string(user);
    return run({"setpriv", "--reuid=" + id, "--regid=" + id, "--clear-groups", "nngcat", "--req0",
                "--dial", where, "--data", "q", "--ascii", "--recv-timeout", "2"});
}

TEST_P(nng_endpoint, e6_the_rights_of_the_path_and_the_list_of_users_decide)
{
    if (::geteuid() != 0)
        GTEST_SKIP() << "becoming another user needs root";
    if (run({"sh", "-c", "command -v nngcat setpriv"}).status != 0)
        GTEST_SKIP() << "nngcat or setpriv is not installed";
    std::filesystem::permissions(std::filesystem::path(file("x")).parent_path(),
                                 std::filesystem::perms(0755));
    auto own = opened<sp::rep>();
    (void)must(own.listen("ipc://" + file("own")));
    const echo of_own(own);
    const auto refused = ask_as(65534, "ipc://" + file("own"));
    EXPECT_NE(refused.status, 0);
    EXPECT_TRUE(refused.err.contains("ermission denied")) << refused.err;
    EXPECT_EQ(own.peers(), 0u);

    auto listed = opened<sp::rep>({.ipc_mode = 0666u, .allow_uid = {65534}});
    (void)must(listed.listen("ipc://" + file("listed")));
    const echo of_listed(listed);
    EXPECT_EQ(ask_as(65534, "ipc://" + file("listed")).out, "q");
    EXPECT_EQ(count(stat::listener_access), 0u);
    nng_peer root(nng_role::req0);
    root.dial_on("ipc://" + file("listed"));
    until([&] { return count(stat::listener_access) > 0; });
    EXPECT_EQ(root.pipes_ever(), 0u);
    root.close();
    expect_balance(listed);
}

TEST_P(nng_endpoint, e7_who_is_not_admitted_sees_a_close_and_nothing_of_it_is_delivered)
{
    auto pull = opened<sp::pull>({.reconnect_min = 5ms, .reconnect_max = 20ms});
    std::atomic<bool> open_to_all = false;
    pull.admit([&](const sp::pipe_info &who) {
        EXPECT_EQ(who.protocol, push_number);
        return open_to_all.load();
    });
    nng_peer push(nng_role::push0);
    if (GetParam().who == listener::nng) {
        EXPECT_EQ(error_of(pull.dial(push.listen(new_address()), patience)), "rejected");
    } else {
        const auto where = new_address();
        (void)must(pull.listen(where));
        push.dial(where);
    }
    until([&] { return count(stat::listener_rejected) > 0; });
    EXPECT_EQ(pull.peers(), 0u);
    EXPECT_EQ(pull.statistics()[stat::socket_received], 0u);
    open_to_all = true;
    nng_peer welcome(nng_role::push0);
    join(pull, welcome);
    nng_must(welcome.send("and this"), "push");
    expect_message(pull.recv(patience), "and this");
    expect_balance(pull);
}

} // namespace
} // namespace sp::test
