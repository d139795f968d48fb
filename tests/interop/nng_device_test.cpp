// SPDX-License-Identifier: BSD-2-Clause
//
// X4: requests of sp through a device of the real libnng to a replier of sp, while connections are
// cut at random on both sides of the device. Every request is answered, by its own answer.
#include "sp/sp.hpp"
#include "tests/interop/nng.hpp"
#include "tests/support/local.hpp"

#include <functional>
#include <gtest/gtest.h>
#include <random>
#include <string>
#include <thread>

namespace {

using namespace sp::test;
using namespace std::chrono_literals;

TEST(nng_between, x4_every_request_is_answered_though_connections_are_cut)
{
    const auto seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 chance(seed);
    const scratch_directory place;
    const auto front = "ipc://" + place.file("front"), back = "ipc://" + place.file("back");

    auto engine = sp::engine::open();
    ASSERT_TRUE(engine);
    auto rep = sp::rep::open({.on = &*engine});
    ASSERT_TRUE(rep) << rep.error().what();
    std::jthread server([&](std::stop_token stop) {
        rep->serve([](const sp::request &q) { return "re: " + std::string(q.text()); }, stop);
    });

    nng_peer outer(nng_role::rep0_raw), inner(nng_role::req0_raw, outer);
    outer.listen(front);
    inner.set(NNG_OPT_RECONNMINT, 10ms);
    inner.dial_on(back);
    outer.join_by_device(inner);

    auto req = sp::req::open(
        {.on = &*engine, .resend_time = 200ms, .reconnect_min = 5ms, .reconnect_max = 20ms});
    ASSERT_TRUE(req);
    // One of the two ends that a connection is cut at: its endpoint is closed and opened again.
    struct cuttable {
        sp::socket *socket;
        std::function<sp::result<sp::endpoint_id>()> open;
        sp::endpoint_id endpoint{};
    };
    cuttable asking{&*req, [&] { return req->dial(front); }};
    cuttable answering{&*rep, [&] { return rep->listen(back); }};
    for (auto *end : {&answering, &asking})
        end->endpoint = must(end->open());
    constexpr int requests = 200;
    int cuts = 0;
    for (int i = 0; i < requests; ++i) {
        auto context = req->open_context();
        ASSERT_TRUE(context);
        ASSERT_TRUE(context->send(std::to_string(i), 30s));
        if (chance() % 4 == 0) { // while the request is somewhere on its way
            auto &end = chance() % 2 == 0 ? asking : answering;
            end.socket->close_endpoint(end.endpoint);
            auto again = end.open();
            ASSERT_TRUE(again) << again.error().what();
            end.endpoint = *again;
            ++cuts;
        }
        auto answer = context->recv(10s);
        if (!answer && nng_does::stop_to_dial_when_closed_early && rep->peers() == 0) {
            std::printf("x4: libnng has stopped to dial at request %d, and is told again\n", i);
            inner.dial_on(back);
            answer = context->recv(30s);
        }
        ASSERT_TRUE(answer) << i << ": " << answer.error().what();
        EXPECT_EQ(answer->text(), "re: " + std::to_string(i));
    }
    std::printf("x4: %d requests, %d connections cut, %llu resends, %llu failovers\n", requests,
                cuts,
                static_cast<unsigned long long>(engine->statistics()[sp::stat::socket_resends]),
                static_cast<unsigned long long>(engine->statistics()[sp::stat::socket_failovers]));
}

} // namespace
