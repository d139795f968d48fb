// SPDX-License-Identifier: BSD-2-Clause
//
// Roads over a bridge that loses, doubles, reorders, damages and holds back packets and is cut for
// a while: on a pipe nothing is lost, doubled or out of order, and everything is finished in the
// end. The seed of each run is printed; with it the n-th packet of a direction has the same fate.
#include "tests/net/impair.hpp"
#include "tests/net/numbered.hpp"
#include "tests/net/road.hpp"

#include <chrono>
#include <random>

namespace {

using namespace sp::test;
using sp::errc;
using sp::stat;

struct row {
    const char *name;
    const char *keys;
    const char *faults;
    std::uint64_t messages = 1000;
    std::chrono::seconds cut{0}; // after a tenth of the messages nothing passes for so long
};

class impaired : public on_the_road {
protected:
    [[nodiscard]] wiring wired() const override { return wiring::through_a_middle; }
    void TearDown() override
    {
        bridge_.reset();
        on_the_road::TearDown();
    }
    impair &bridge(const std::string &faults)
    {
        auto text = "seed=" + std::to_string(std::random_device()());
        if (!faults.empty())
            text += ',' + faults;
        bridge_.emplace(two(), text);
        std::cout << bridge_->text() << '\n';
        return *bridge_;
    }
    // A URL of host b on a port that is free there, of a socket that listens now.
    template <class Socket>
    std::string listen(Socket &socket, const std::string &keys)
    {
        const auto shown = must(socket.url(must(socket.listen(url(host::b, 0, keys)))));
        return "ip://" + shown.substr(5, shown.find('?') - 5) + '?' + keys;
    }

private:
    std::optional<impair> bridge_;
};

class impaired_by : public impaired, public ::testing::WithParamInterface<row> {};

TEST_P(impaired_by, road_loses_doubles_and_exchanges_nothing)
{
    const std::uint64_t messages = GetParam().messages, requests = messages / 10;
    const std::string keys(GetParam().keys);
    auto &wire = bridge(GetParam().faults);
    SCOPED_TRACE(wire.text());
    // Longer than any outage here: the pipe has to come through, and not another one after it.
    const sp::options patient{.reconnect_max = 50ms, .peer_timeout = 10s};
    const auto at = [&](host which) {
        auto o = patient;
        o.on = &on(which);
        return o;
    };
    auto pull = must(sp::pull::open(at(host::b)));
    auto push = must(sp::push::open(at(host::a)));
    auto rep = must(sp::rep::open(at(host::b)));
    auto req = must(sp::req::open(at(host::a)));
    (void)must(push.dial(listen(pull, keys)));
    (void)must(req.dial(listen(rep, keys)));
    const echo answers(rep);
    std::jthread sender([&] {
        for (std::uint64_t i = 0; i < messages; ++i)
            (void)must(push.send(numbered_body(i), patience));
    });
    std::jthread asker([&] {
        for (std::uint64_t i = 0; i < requests; ++i)
            EXPECT_EQ(text_of(req.request(std::to_string(i), patience)), std::to_string(i));
    });
    for (std::uint64_t i = 0; i < messages; ++i) {
        if (i == messages / 10 && GetParam().cut > 0s) {
            wire.cut(true);
            const auto end = std::chrono::steady_clock::now() + GetParam().cut;
            until([&] { return std::chrono::steady_clock::now() > end; });
            wire.cut(false);
        }
        const auto got = pull.recv(patience);
        ASSERT_TRUE(got) << i << ": " << told(got.error());
        const auto wrong = complaint_of(got->text(), i);
        ASSERT_TRUE(wrong.empty()) << wrong;
    }
    asker.join();
    sender.join();
    EXPECT_FALSE(pull.try_recv()) << "one more than was sent";
    EXPECT_EQ(on(host::a).statistics()[stat::socket_resends], 0u);
    EXPECT_EQ(on(host::a).statistics()[stat::pipe_opened], 2u) << "a pipe did not come through";
    EXPECT_EQ(on(host::b).statistics()[stat::pipe_opened], 2u) << "a pipe did not come through";
    const auto all = wire.total();
    std::cout << all.submitted << " packets: " << all.lost << " lost, " << all.damaged
              << " damaged, " << all.doubled << " doubled, " << all.reordered << " reordered\n";
    EXPECT_GT(all.submitted, messages) << "the bridge was not on the way";
    const auto asked = wire.faults();
    EXPECT_EQ(all.lost > 0, asked.loss > 0 || asked.to_bad > 0);
    EXPECT_EQ(all.damaged > 0, asked.corrupt > 0 || asked.truncate > 0);
    EXPECT_EQ(all.doubled > 0, asked.duplicate > 0);
    EXPECT_EQ(all.reordered > 0, asked.reorder > 0);
    EXPECT_TRUE(all.cut > 0 || GetParam().cut == 0s);
}

constexpr const char *everything = "loss=5%,burst=3,dup=20%,reorder=10%,corrupt=3%,truncate=2%,"
                                   "delay=0ms..2ms,partition=300ms@100ms";

std::vector<row> rows()
{
    return {
        {"no_fault_kernel", "io=kernel", ""},
        {"no_fault_xdp", "io=xdp", ""},
        {"loss_5_kernel", "io=kernel", "loss=5%"},
        {"loss_5_xdp", "io=xdp", "loss=5%"},
        {"loss_30_kernel", "io=kernel", "loss=30%", 300},
        {"loss_30_xdp", "io=xdp", "loss=30%", 300},
        {"loss_30_xdp_udp", "io=xdp&encap=udp", "loss=30%", 300},
        {"doubled_kernel", "io=kernel", "dup=50%"},
        {"doubled_xdp", "io=xdp", "dup=50%"},
        {"reordered_kernel", "io=kernel", "reorder=20%"},
        {"reordered_xdp", "io=xdp", "reorder=20%"},
        {"damaged_kernel", "io=kernel", "corrupt=5%"},
        {"damaged_xdp", "io=xdp", "corrupt=5%"},
        {"damaged_kernel_udp", "io=kernel&encap=udp", "corrupt=5%"},
        {"cut_for_2_s_kernel", "io=kernel", "", 1000, 2s},
        {"cut_for_2_s_xdp", "io=xdp", "", 1000, 2s},
        {"all_at_once_kernel", "io=kernel", everything, 500},
        {"all_at_once_xdp", "io=xdp", everything, 500},
    };
}

INSTANTIATE_TEST_SUITE_P(, impaired_by, ::testing::ValuesIn(rows()),
                         [](const auto &p) { return std::string(p.param.name); });

} // namespace
