// SPDX-License-Identifier: BSD-2-Clause
//
// Devices between real sockets of one process: what goes in on one side comes out on the other, in
// both directions, and the counters tell of every message.
#include "sp/sp.hpp"

#include <filesystem>
#include <gtest/gtest.h>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {

using namespace std::chrono_literals;

class device : public testing::Test {
protected:
    device()
    {
        std::string pattern = testing::TempDir().append("sp-device-XXXXXX");
        folder = ::mkdtemp(pattern.data());
    }
    ~device() override
    {
        stop();
        std::error_code ignored;
        std::filesystem::remove_all(folder, ignored);
    }

    std::string at(std::string_view scheme, std::string_view name)
    {
        return std::string(scheme).append("://").append(folder).append("/").append(name);
    }
    sp::raw open(sp::pattern as, const std::string &url, sp::options o = {})
    {
        o.on = &engine;
        auto made = sp::raw::open(as, o);
        EXPECT_TRUE(made) << made.error().what();
        auto listening = made->listen(url);
        EXPECT_TRUE(listening) << listening.error().what();
        return std::move(*made);
    }
    void start(sp::raw first, sp::raw second, std::optional<sp::raw> tap = {})
    {
        runner = std::jthread([this, a = std::move(first), b = std::move(second),
                               t = std::move(tap)](std::stop_token stop) mutable {
            sp::device_options o;
            o.until = std::move(stop);
            o.tap = std::move(t);
            o.counters = &counters;
            outcome = sp::device(std::move(a), std::move(b), std::move(o));
        });
    }
    void stop()
    {
        if (!runner.joinable())
            return;
        runner.request_stop();
        runner.join();
        EXPECT_TRUE(outcome) << outcome.error().what();
        for (const auto *way : {&counters.there, &counters.back})
            EXPECT_EQ(way->received, way->forwarded + way->dropped);
    }

    std::string folder;
    sp::engine engine = *sp::engine::open();
    sp::device_counters counters;
    std::jthread runner;
    sp::result<void> outcome;
};

TEST_F(device, carries_requests_there_and_answers_back)
{
    start(open(sp::pattern::rep, at("ipc", "front")),
          open(sp::pattern::req, at("unixgram", "back")));
    auto rep = sp::rep::open({.dial = at("unixgram", "back")});
    auto req = sp::req::open({.dial = at("ipc", "front")});
    ASSERT_TRUE(rep && req);
    std::jthread server([&](std::stop_token end) {
        rep->serve([](const sp::request &q) { return "re: " + std::string(q.text()); }, end);
    });
    for (int i = 0; i < 100; ++i) {
        auto answer = req->request(std::to_string(i), 10s);
        ASSERT_TRUE(answer) << answer.error().what();
        EXPECT_EQ(answer->text(), "re: " + std::to_string(i));
    }
    server.request_stop();
    server.join();
    stop();
    EXPECT_EQ(counters.there.forwarded, 100u);
    EXPECT_EQ(counters.back.forwarded, 100u);
}

TEST_F(device, holds_back_a_pusher_whose_pullers_are_slow_and_loses_nothing)
{
    start(open(sp::pattern::pull, at("unixgram", "in")), open(sp::pattern::push, at("ipc", "out")));
    auto push = sp::push::open({.dial = at("unixgram", "in")});
    ASSERT_TRUE(push);
    ASSERT_TRUE(push->wait_peers(1, 10s));
    int sent = 0; // nobody pulls: what fits into the device's credit goes, and no more
    while (sent < 100'000 && push->send("work", 50ms))
        ++sent;
    ASSERT_LT(sent, 100'000);
    auto pull = sp::pull::open({.dial = at("ipc", "out")});
    ASSERT_TRUE(pull);
    for (int i = 0; i < sent; ++i)
        ASSERT_TRUE(pull->recv(10s)) << i << " of " << sent;
    stop();
    EXPECT_EQ(counters.there.dropped, 0u);
}

TEST_F(device, gives_the_tap_copies_and_does_not_wait_for_it)
{
    auto tap = open(sp::pattern::pub, at("unixgram", "tap"));
    auto watcher = sp::sub::open({.dial = at("unixgram", "tap")});
    ASSERT_TRUE(watcher && watcher->subscribe(""));
    ASSERT_TRUE(tap.wait_peers(1, 10s));
    start(open(sp::pattern::sub, at("ipc", "in")), open(sp::pattern::pub, at("ipc", "out")),
          std::move(tap));
    auto pub = sp::pub::open({.dial = at("ipc", "in")});
    auto sub = sp::sub::open({.dial = at("ipc", "out")});
    ASSERT_TRUE(pub && sub && sub->subscribe("news"));
    ASSERT_TRUE(pub->wait_peers(1, 10s));
    ASSERT_TRUE(sub->wait_peers(1, 10s));
    ASSERT_TRUE(pub->send("news of today"));
    auto seen = sub->recv(10s);
    ASSERT_TRUE(seen);
    EXPECT_EQ(seen->text(), "news of today");
    auto copy = watcher->recv(10s);
    ASSERT_TRUE(copy);
    EXPECT_EQ(copy->text(), "news of today");
    stop();
    EXPECT_EQ(counters.there.tapped, 1u);
}

TEST_F(device, reflects_a_bus_to_everybody_else)
{
    auto reflector = open(sp::pattern::bus, at("ipc", "hub"));
    runner = std::jthread([this, r = std::move(reflector)](std::stop_token end) mutable {
        sp::device_options o;
        o.until = std::move(end);
        o.counters = &counters;
        outcome = sp::device(std::move(r), std::move(o));
    });
    std::vector<sp::bus> members;
    for (int i = 0; i < 3; ++i) {
        auto one = sp::bus::open({.dial = at("ipc", "hub")});
        ASSERT_TRUE(one);
        ASSERT_TRUE(one->wait_peers(1, 10s));
        members.push_back(std::move(*one));
    }
    ASSERT_TRUE(members[0].send("to the others"));
    for (int i = 1; i < 3; ++i) {
        auto got = members[static_cast<std::size_t>(i)].recv(10s);
        ASSERT_TRUE(got) << i;
        EXPECT_EQ(got->text(), "to the others");
    }
    ASSERT_TRUE(members[1].send("answer"));
    auto first = members[0].recv(10s);
    ASSERT_TRUE(first);
    EXPECT_EQ(first->text(), "answer"); // and not its own message before
}

TEST_F(device, surveys_across)
{
    start(open(sp::pattern::respondent, at("ipc", "front")),
          open(sp::pattern::surveyor, at("unixgram", "back")));
    std::vector<sp::respondent> sockets;
    std::vector<std::jthread> agents; // end before their sockets
    for (int i = 0; i < 3; ++i)
        sockets.push_back(*sp::respondent::open({.dial = at("unixgram", "back")}));
    for (auto &s : sockets) {
        ASSERT_TRUE(s.wait_peers(1, 10s));
        agents.emplace_back([&s](std::stop_token end) {
            s.serve([](const sp::request &) { return std::string("here"); }, end);
        });
    }
    auto surveyor = sp::surveyor::open({.dial = at("ipc", "front")});
    ASSERT_TRUE(surveyor);
    ASSERT_TRUE(surveyor->wait_peers(1, 10s));
    auto round = surveyor->survey("who is there?", 20s);
    ASSERT_TRUE(round);
    for (int i = 0; i < 3; ++i) {
        auto vote = round->recv(10s);
        ASSERT_TRUE(vote) << i;
        EXPECT_EQ(vote->text(), "here");
    }
}

TEST_F(device, drops_what_has_come_too_far)
{
    // A loop of two devices: a request goes round until its words are as many as ttl_max.
    start(open(sp::pattern::rep, at("ipc", "a")), open(sp::pattern::req, at("ipc", "b")));
    sp::device_counters others;
    auto rep = sp::raw::open(sp::pattern::rep, {.dial = at("ipc", "b"), .on = &engine});
    auto req = sp::raw::open(sp::pattern::req, {.dial = at("ipc", "a"), .on = &engine});
    ASSERT_TRUE(rep && req);
    std::jthread second([&, r = std::move(*rep), q = std::move(*req)](std::stop_token end) mutable {
        sp::device_options o;
        o.until = std::move(end);
        o.counters = &others;
        EXPECT_TRUE(sp::device(std::move(r), std::move(q), std::move(o)));
    });
    auto asker = sp::req::open({.dial = at("ipc", "a")});
    ASSERT_TRUE(asker);
    auto answer = asker->request("round and round", 300ms);
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error(), sp::errc::timed_out);
    EXPECT_GE(engine.statistics()[sp::stat::socket_ttl], 1u);
}

TEST_F(device, refuses_sides_that_do_not_fit)
{
    auto rep = open(sp::pattern::rep, at("ipc", "one"));
    auto pub = open(sp::pattern::pub, at("ipc", "two"));
    auto refused = sp::device(std::move(rep), std::move(pub));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error(), sp::errc::invalid_argument);
    auto push = open(sp::pattern::push, at("ipc", "three"));
    auto alone = sp::device(std::move(push));
    ASSERT_FALSE(alone);
    EXPECT_EQ(alone.error(), sp::errc::invalid_argument);
}

} // namespace
