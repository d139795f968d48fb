// SPDX-License-Identifier: BSD-2-Clause
//
// Conformance of endpoints on byte streams: the scenarios E1 to E7. Connecting again, stale and
// live paths, rights, admission, the end, and a thousand peers.
#include "tests/interop/scene.hpp"

#include <fcntl.h>
#include <fstream>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

namespace sp::test {
namespace {

class endpoint_scenario : public scene {
protected:
    // Asks and is answered.
    static void expect_served(sp::rep &rep, byte_peer &asker)
    {
        asker.send(wire::frame(wire::word(wire::end_bit + 3), "q"));
        auto question = must(rep.recv(patience));
        EXPECT_EQ(question.text(), "q");
        must(std::move(question).reply("a", patience));
        EXPECT_EQ(asker.receive_frame(), wire::word(wire::end_bit + 3) + "a");
    }
    // f() in a thread that is another user's. The rights of a thread are its own, for the kernel.
    template <class F>
    static void as_user(unsigned uid, F &&f)
    {
        std::async(std::launch::async, [&] {
            if (::syscall(SYS_setresgid, uid, uid, uid) != 0 ||
                ::syscall(SYS_setresuid, uid, uid, uid) != 0)
                throw std::runtime_error("cannot become another user");
            f();
        }).get();
    }
    // So that it is the rights of the path in it that decide.
    void let_everybody_in() const
    {
        using std::filesystem::perms;
        std::filesystem::permissions(std::filesystem::path(file("x")).parent_path(),
                                     perms::owner_all | perms::group_exec | perms::others_exec);
    }
};

TEST_F(endpoint_scenario, e1_a_dialer_finds_a_listener_that_comes_later_and_comes_again)
{
    auto s = must(sp::pull::open(at({.reconnect_min = 1ms, .reconnect_max = 10ms})));
    const auto dialer = must(s.dial(ipc("door")));
    until([&] { return s.last_error(dialer).has_value(); });
    EXPECT_EQ(*s.last_error(dialer), errc::connection_refused);
    for (int start = 0; start < 21; ++start) {
        SCOPED_TRACE(start);
        byte_door door(ipc("door"));
        auto peer = door.greet(push_number, pull_number);
        must(s.wait_peers(1, patience));
        peer.send(wire::frame("start " + std::to_string(start)));
        EXPECT_EQ(text_of(s.recv(patience)), "start " + std::to_string(start));
        EXPECT_EQ(s.peers(), 1u);
        EXPECT_TRUE(door.nobody_waits()) << "a second connection of one dialer";
        peer.close();
        wait_peers_gone(s);
    }
    EXPECT_EQ(s.statistics()[stat::pipe_peer_closed], 21u);
    EXPECT_EQ(s.statistics()[stat::socket_received], 21u);
    until([&] { return s.last_error(dialer).has_value(); });
    expect_balance(s);
}

TEST_F(endpoint_scenario, e1_a_peer_that_closes_after_the_hello_is_named_and_not_run_after)
{
    byte_door door(ipc("door"));
    auto s = must(sp::pull::open(at({.reconnect_min = 8ms, .reconnect_max = 64ms})));
    const auto dialer = must(s.dial(ipc("door")));
    auto refused_at = engine_clock::now() - 1h;
    for (const auto least : {0ms, 4ms, 8ms, 16ms}) {
        auto peer = door.greet(push_number, pull_number);
        EXPECT_GE(engine_clock::now() - refused_at, least);
        refused_at = engine_clock::now();
    }
    until([&] { return s.last_error(dialer).has_value(); });
    EXPECT_EQ(*s.last_error(dialer), errc::connection_reset);
    EXPECT_TRUE(s.last_error(dialer)->why().contains("after the hello"))
        << s.last_error(dialer)->why();
    expect_balance(s);
}

TEST_F(endpoint_scenario, e2_a_second_listener_on_a_live_path_is_refused_and_the_first_undisturbed)
{
    auto first = open<sp::rep>();
    auto asker = joined(first);
    while (first.next_event(0s))
        ;
    auto second = must(sp::rep::open(at()));
    for (int i = 0; i < 5; ++i)
        EXPECT_EQ(second.listen(ipc()).error(), errc::address_in_use);
    EXPECT_EQ(first.next_event(0s).error(), errc::would_block) << "it noticed the probe";
    expect_served(first, asker);
    auto next = joined(first);
    expect_served(first, next);
    expect_balance(first);
}

TEST_F(endpoint_scenario, e2_a_live_path_of_somebody_else_is_left_alone)
{
    byte_door door(ipc());
    auto s = must(sp::rep::open(at()));
    EXPECT_EQ(s.listen(ipc()).error(), errc::address_in_use);
    EXPECT_TRUE(door.nobody_waits()) << "the probe was seen";
    auto peer = byte_peer::dial(ipc());
    (void)door.accept();
    std::ofstream(file("plain")) << "no socket";
    EXPECT_FALSE(s.listen(ipc("plain")));
    EXPECT_TRUE(std::filesystem::exists(file("plain")));
}

TEST_F(endpoint_scenario, e2_a_path_that_its_owner_left_behind_is_taken_over)
{
    {
        byte_door door(ipc());
        std::filesystem::create_hard_link(file("socket"), file("left behind"));
    }
    std::filesystem::rename(file("left behind"), file("socket"));
    auto rep = open<sp::rep>();
    auto asker = joined(rep);
    expect_served(rep, asker);
    rep.close();
    EXPECT_FALSE(std::filesystem::exists(file("socket"))) << "it stays after a close";
}

TEST_F(endpoint_scenario, e3_a_thousand_peers_are_all_served)
{
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    if (before.rlim_max < 3000)
        GTEST_SKIP() << "RLIMIT_NOFILE is " << before.rlim_max << "; this test needs 3000";
    auto more = before;
    more.rlim_cur = std::max<rlim_t>(before.rlim_cur, 3000);
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &more), 0);
    {
        auto rep = open<sp::rep>();
        std::vector<byte_peer> askers;
        for (int i = 0; i < 1000; ++i)
            askers.push_back(greeted(req_number, rep_number));
        must(rep.wait_peers(1000, patience));
        for (std::uint32_t i = 0; i < 1000; ++i)
            askers[i].send(wire::frame(wire::word(wire::end_bit + i), std::to_string(i)));
        for (int i = 0; i < 1000; ++i) {
            auto question = must(rep.recv(patience));
            const auto text = std::string(question.text());
            must(std::move(question).reply("re " + text, patience));
        }
        for (std::uint32_t i = 0; i < 1000; ++i)
            ASSERT_EQ(askers[i].receive_frame(),
                      wire::word(wire::end_bit + i) + "re " + std::to_string(i));
        EXPECT_EQ(rep.peers(), 1000u);
        expect_balance(rep);
    }
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
}

// A server that has room for a few descriptors only. It answers every request with the number of
// times that it had none left, and ends by "quit".
int serve_with_few_descriptors(const std::string &url, const child::door &door)
{
    auto own = must(sp::engine::open());
    auto rep = must(sp::rep::open({.listen = url, .on = &own}));
    rlimit few{};
    ::getrlimit(RLIMIT_NOFILE, &few);
    rlim_t number = 0;
    for (int left = 8; left > 0; ++number) // eight that are not in use lie below the limit
        left -= ::fcntl(static_cast<int>(number), F_GETFD) < 0;
    few.rlim_cur = number;
    if (::setrlimit(RLIMIT_NOFILE, &few) != 0)
        return 2;
    door.tell();
    for (;;) {
        auto question = must(rep.recv(patience));
        const bool last = question.text() == "quit";
        const auto n = rep.statistics()[stat::listener_descriptors];
        must(std::move(question).reply(std::to_string(n), patience));
        if (last)
            return 0;
    }
}

TEST_F(endpoint_scenario, e3_out_of_descriptors_only_new_peers_have_to_wait)
{
    child server([&](child::door door) {
        try {
            return serve_with_few_descriptors(ipc(), door);
        } catch (const std::exception &e) {
            std::fprintf(stderr, "in the child: %s\n", e.what());
            return 3;
        }
    });
    ASSERT_TRUE(server.wait_ready());
    const auto ask = [](byte_peer &p, const std::string &what) {
        p.send(wire::frame(wire::word(wire::end_bit), what));
        return std::stoi(p.receive_frame().substr(4));
    };
    auto good = greeted(req_number, rep_number);
    EXPECT_EQ(ask(good, "before"), 0);
    std::vector<byte_peer> crowd;
    for (int i = 0; i < 40; ++i) {
        crowd.push_back(byte_peer::dial(ipc()));
        (void)crowd.back().try_send(wire::hello(req_number));
    }
    until([&] { return ask(good, "during") > 0; });
    crowd.clear();
    // Somebody who comes now gets in, if not at once.
    std::string answer;
    until([&] {
        auto late = byte_peer::dial(ipc());
        if (!late.try_send(wire::hello(req_number) +
                           wire::frame(wire::word(wire::end_bit + 1), "after")))
            return false;
        try {
            if (late.receive(8) != wire::hello(rep_number))
                return false;
            answer = late.receive_frame();
        } catch (const std::exception &) {
            return false; // turned away
        }
        return true;
    });
    EXPECT_EQ(answer.substr(0, 4), wire::word(wire::end_bit + 1));
    (void)ask(good, "quit");
    EXPECT_EQ(server.wait_end(), 0);
}

TEST_F(endpoint_scenario, e4_close_ends_every_recv_that_waits)
{
    const auto expect_closed = [](auto &s) {
        auto waits = std::async(std::launch::async, [&] { return s.recv(patience).error(); });
        s.close();
        EXPECT_EQ(waits.get(), errc::closed);
    };
    auto rep = open<sp::rep>({}, "rep");
    auto respondent = open<sp::respondent>({}, "respondent");
    auto sub = open<sp::sub>({}, "sub");
    auto pull = open<sp::pull>({}, "pull");
    auto bus = open<sp::bus>({}, "bus");
    auto pair = open<sp::pair>({}, "pair");
    auto partner = joined(pair, "pair");
    expect_closed(rep);
    expect_closed(respondent);
    expect_closed(sub);
    expect_closed(pull);
    expect_closed(bus);
    expect_closed(pair);
    EXPECT_TRUE(partner.ended());
}

TEST_F(endpoint_scenario, e4_close_ends_every_other_call_that_waits)
{
    const auto expect_closed = [](auto &s, auto &&call) {
        auto waits = std::async(std::launch::async, call);
        s.close();
        const auto outcome = waits.get();
        ASSERT_FALSE(outcome);
        EXPECT_EQ(outcome.error(), errc::closed);
    };
    auto push = must(sp::push::open(at()));
    expect_closed(push, [&] { return push.send("a", patience); });
    auto pair = must(sp::pair::open(at()));
    expect_closed(pair, [&] { return pair.send("a", patience); });
    auto req = must(sp::req::open(at()));
    expect_closed(req, [&] { return req.request("a", patience); });
    auto surveyor = must(sp::surveyor::open(at()));
    auto round = must(surveyor.survey("a", patience));
    expect_closed(surveyor, [&] { return round.recv(patience); });
    auto pull = must(sp::pull::open(at()));
    expect_closed(pull, [&] { return pull.wait_peers(1, patience); });
    auto sub = must(sp::sub::open(at()));
    expect_closed(sub, [&] { return sub.next_event(patience); });
}

TEST_F(endpoint_scenario, e5_abstract_names_are_the_same_on_the_wire)
{
    const auto name =
        "abstract://sp-test-" + std::filesystem::path(file("x")).parent_path().filename().string();
    {
        auto rep = must(sp::rep::open(at({.listen = name})));
        auto asker = byte_peer::dial(name);
        asker.send(wire::hello(req_number));
        EXPECT_EQ(asker.receive(8), wire::hello(rep_number));
        asker.send(wire::frame(wire::word(wire::end_bit), "q"));
        auto question = must(rep.recv(patience));
        EXPECT_EQ(question.transport(), "abstract");
        must(std::move(question).reply("a", patience));
        EXPECT_EQ(asker.receive_frame(), wire::word(wire::end_bit) + "a");
        EXPECT_EQ(must(sp::rep::open(at())).listen(name).error(), errc::address_in_use);
        expect_balance(rep);
    }
    byte_door door(name);
    auto req = must(sp::req::open(at()));
    auto dialed = std::async(std::launch::async, [&] { return req.dial(name, patience); });
    auto replier = door.greet(rep_number, req_number);
    EXPECT_TRUE(dialed.get());
    auto answer = std::async(std::launch::async, [&] { return req.request("q", patience); });
    replier.send(wire::frame(replier.receive_frame().substr(0, 4), "a"));
    EXPECT_EQ(text_of(answer.get()), "a");
    expect_balance(req);
}

TEST_F(endpoint_scenario, e5_a_path_that_nobody_listens_on_is_told)
{
    auto req = must(sp::req::open(at()));
    const auto missing = req.dial(ipc("missing"), patience);
    EXPECT_EQ(missing.error(), errc::connection_refused);
    EXPECT_TRUE(missing.error().why().contains("missing")) << missing.error().why();
    EXPECT_EQ(req.dial("abstract://sp-test-nobody-listens-here", patience).error(),
              errc::connection_refused);
    EXPECT_EQ(req.dial("unix://" + file("x"), patience).error(), errc::invalid_address);
}

TEST_F(endpoint_scenario, e6_a_path_of_mode_0600_is_for_its_owner)
{
    if (::geteuid() != 0)
        GTEST_SKIP() << "becoming another user needs root";
    let_everybody_in();
    auto rep = open<sp::rep>();
    struct ::stat seen{};
    ASSERT_EQ(::stat(file("socket").c_str(), &seen), 0);
    EXPECT_EQ(seen.st_mode & 0777, 0600u);
    auto req = must(sp::req::open(at()));
    as_user(65534, [&] {
        EXPECT_EQ(byte_peer::try_dial(ipc()).second, EACCES);
        const auto dialed = req.dial(ipc(), patience);
        EXPECT_EQ(dialed.error(), errc::permission_denied);
    });
    EXPECT_EQ(rep.peers(), 0u);
    auto asker = joined(rep);
    expect_served(rep, asker);
    expect_balance(rep);
}

TEST_F(endpoint_scenario, e6_who_is_not_on_the_list_of_users_is_refused)
{
    if (::geteuid() != 0)
        GTEST_SKIP() << "becoming another user needs root";
    let_everybody_in();
    auto rep = open<sp::rep>({.ipc_mode = 0666u, .allow_uid = {12345}});
    struct ::stat seen{};
    ASSERT_EQ(::stat(file("socket").c_str(), &seen), 0);
    EXPECT_EQ(seen.st_mode & 0777, 0666u);
    auto root = byte_peer::dial(ipc());
    (void)root.try_send(wire::hello(req_number));
    EXPECT_FALSE(root.receive_all().contains("a")) << "a frame";
    wait_count(sp::stat::listener_access, 1);
    byte_peer listed;
    as_user(12345, [&] { listed = greeted(req_number, rep_number); });
    must(rep.wait_peers(1, patience));
    expect_served(rep, listed);
    as_user(54321, [&] {
        auto other = byte_peer::dial(ipc());
        (void)other.receive_all();
    });
    wait_count(sp::stat::listener_access, 2);
    expect_served(rep, listed);
    expect_balance(rep);
}

TEST_F(endpoint_scenario, e7_who_is_not_admitted_sees_a_close_and_nothing_of_it_is_delivered)
{
    auto pull = open<sp::pull>();
    bool open_to_all = false;
    std::uint16_t protocol = 0;
    std::string transport;
    pull.admit([&](const sp::pipe_info &who) {
        protocol = who.protocol;
        transport = who.transport;
        return open_to_all;
    });
    auto refused = byte_peer::dial(ipc());
    (void)refused.try_send(wire::hello(push_number) + wire::frame("take this"));
    EXPECT_EQ(refused.receive_all(), wire::hello(pull_number));
    wait_count(stat::listener_rejected, 1);
    EXPECT_EQ(protocol, push_number);
    EXPECT_EQ(transport, "ipc");
    const auto event = must(pull.next_event(patience));
    EXPECT_EQ(event.what, pipe_event::kind::refused);
    EXPECT_EQ(event.reason, "rejected");
    EXPECT_EQ(pull.peers(), 0u);
    EXPECT_EQ(pull.statistics()[stat::socket_received], 0u);
    pull.admit([](const sp::pipe_info &) { return true; });
    auto welcome = joined(pull);
    welcome.send(wire::frame("and this"));
    EXPECT_EQ(text_of(pull.recv(patience)), "and this");
    expect_balance(pull);
}

} // namespace
} // namespace sp::test
