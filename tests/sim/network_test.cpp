// SPDX-License-Identifier: BSD-2-Clause
//
// The network model, the tape of choices and the text of a scenario: what the simulator and the
// bridge between real interfaces stand on.
#include "tests/sim/network.hpp"
#include "userspace/link/packet.hpp"

#include <algorithm>
#include <array>
#include <gtest/gtest.h>
#include <map>
#include <sstream>
#include <string>

namespace {

using namespace std::chrono_literals;
using namespace sp::sim;

constexpr instant start{1h};

std::vector<std::byte> numbered(std::uint32_t n, std::size_t size = 100)
{
    std::vector<std::byte> packet(size);
    for (int i = 0; i < 4; ++i)
        packet[static_cast<std::size_t>(i)] = static_cast<std::byte>(n >> (8 * i));
    return packet;
}

std::uint32_t number_of(std::span<const std::byte> packet)
{
    std::uint32_t n = 0;
    for (int i = 0; i < 4; ++i)
        n |= std::to_integer<std::uint32_t>(packet[static_cast<std::size_t>(i)]) << (8 * i);
    return n;
}

// The numbers of all packets in the order in which they arrive, the clock running on.
std::vector<std::uint32_t> drain(network &n)
{
    std::vector<std::uint32_t> arrived;
    while (n.next_deadline() != instant::max())
        n.poll(n.next_deadline(),
               [&](std::size_t, std::span<std::byte> p) { arrived.push_back(number_of(p)); });
    return arrived;
}

link_faults of(std::string_view text)
{
    const auto s = parse_scenario(text);
    EXPECT_TRUE(s) << s.error();
    return s->faults;
}

// Sends `count` numbered packets, one every millisecond, and returns what arrives.
std::vector<std::uint32_t> carry(network &n, std::uint32_t count, std::size_t size = 100)
{
    std::vector<std::uint32_t> arrived;
    for (std::uint32_t i = 0; i < count; ++i) {
        const auto now = start + i * 1ms;
        n.poll(now, [&](std::size_t, std::span<std::byte> p) { arrived.push_back(number_of(p)); });
        n.submit(now, 0, numbered(i, size));
    }
    const auto rest = drain(n);
    arrived.insert(arrived.end(), rest.begin(), rest.end());
    return arrived;
}

constexpr std::uint64_t seed = 0x5eed;

} // namespace

TEST(sim_network, carries_every_packet_at_once_and_in_order_when_no_fault_is_set)
{
    network n(1, seed);
    const auto arrived = carry(n, 1000);
    ASSERT_EQ(arrived.size(), 1000u);
    EXPECT_TRUE(std::ranges::is_sorted(arrived));
    EXPECT_EQ(n.total().delivered, 1000u);
}

TEST(sim_network, loses_about_the_share_that_is_asked_for_with_bursts_and_without)
{
    for (const char *text : {"loss=30%", "loss=30%,burst=10"}) {
        network n(1, seed);
        n.set(0, of(text));
        const auto arrived = carry(n, 20'000).size();
        EXPECT_GT(arrived, 12'500u) << text;
        EXPECT_LT(arrived, 15'500u) << text;
        EXPECT_EQ(n.total().lost + n.total().delivered, 20'000u);
    }
}

TEST(sim_network, loses_packets_in_runs_when_bursts_are_asked_for)
{
    const auto mean_run = [](std::string_view text) {
        network n(1, seed);
        n.set(0, of(text));
        const auto arrived = carry(n, 50'000);
        std::size_t runs = 0;
        for (std::size_t i = 1; i < arrived.size(); ++i)
            runs += arrived[i] != arrived[i - 1] + 1;
        return static_cast<double>(n.total().lost) / static_cast<double>(runs);
    };
    EXPECT_LT(mean_run("loss=10%"), 1.3);
    EXPECT_GT(mean_run("loss=10%,burst=20"), 14.0);
}

TEST(sim_network, doubles_packets_and_brings_old_ones_again)
{
    network n(1, seed);
    n.set(0, of("dup=50%,replay=20%"));
    std::map<std::uint32_t, int> copies;
    for (const auto number : carry(n, 2000))
        ++copies[number];
    EXPECT_EQ(copies.size(), 2000u);
    EXPECT_GT(n.total().doubled, 800u);
    EXPECT_GT(n.total().replayed, 300u);
    EXPECT_EQ(n.total().delivered, 2000u + n.total().doubled + n.total().replayed);
}

TEST(sim_network, reverses_windows_and_lets_no_packet_wait_for_ever)
{
    network n(1, seed);
    n.set(0, of("reorder=20%,window=5,hold=20ms"));
    const auto arrived = carry(n, 3000);
    EXPECT_EQ(arrived.size(), 3000u);
    EXPECT_FALSE(std::ranges::is_sorted(arrived));
    std::size_t back = 0;
    for (std::size_t i = 1; i < arrived.size(); ++i)
        back += arrived[i] + 1 == arrived[i - 1];
    EXPECT_GT(back, 500u);
}

TEST(sim_network, takes_the_time_that_is_asked_for)
{
    network n(1, seed);
    n.set(0, of("delay=1ms..5ms,tail=10%:800ms"));
    std::map<std::uint32_t, instant> sent;
    for (std::uint32_t i = 0; i < 2000; ++i)
        n.submit(sent[i] = start + i * 1s, 0, numbered(i));
    std::size_t late = 0;
    while (n.next_deadline() != instant::max()) {
        const auto now = n.next_deadline();
        n.poll(now, [&](std::size_t, std::span<std::byte> p) {
            const auto took = now - sent[number_of(p)];
            EXPECT_GE(took, 1ms);
            EXPECT_LE(took, 805ms);
            late += took > 5ms;
        });
    }
    EXPECT_GT(late, 100u);
    EXPECT_LT(late, 300u);
}

TEST(sim_network, carries_no_more_per_second_than_its_rate)
{
    network n(1, seed);
    n.set(0, of("rate=100000"));
    for (std::uint32_t i = 0; i < 100; ++i)
        n.submit(start, 0, numbered(i, 1000));
    std::size_t first_half = n.poll(start + 500ms, [](auto &&...) {});
    EXPECT_EQ(first_half, 50u);
}

TEST(sim_network, drops_what_its_queue_and_its_mtu_do_not_hold)
{
    network n(1, seed);
    n.set(0, of("queue=10,delay=1ms,mtu=500"));
    for (std::uint32_t i = 0; i < 30; ++i)
        n.submit(start, 0, numbered(i));
    EXPECT_EQ(n.total().overflowed, 20u);
    drain(n);
    n.submit(start + 1s, 0, numbered(1, 501));
    EXPECT_EQ(n.total().too_large, 1u);
    n.submit(start + 1s, 0, numbered(1, 515), 15); // the header in front does not count
    EXPECT_EQ(drain(n).size(), 1u);
}

TEST(sim_network, damages_only_what_it_may_and_never_so_that_a_crc_would_not_see_it)
{
    network n(1, seed);
    n.set(0, of("corrupt=60%,truncate=30%,replay=5%"));
    std::size_t damaged = 0, whole = 0;
    for (std::uint32_t i = 0; i < 20'000; ++i) {
        auto packet = numbered(i, 14 + 120);
        auto ours = std::span(packet).subspan(14);
        for (std::size_t b = 40; b < ours.size() - 16; ++b)
            ours[b] = static_cast<std::byte>(i * b);
        sp::link::finish(ours);
        n.submit(start + i * 1ms, 0, packet, 14);
        n.poll(start + i * 1ms, [&](std::size_t, std::span<std::byte> p) {
            ASSERT_GE(p.size(), 14u);
            const auto intact = p.size() >= 14 + 56 && sp::link::intact(p.subspan(14));
            (intact ? whole : damaged) += 1;
            if (intact) {
                EXPECT_EQ(p.size(), packet.size());
            }
        });
    }
    EXPECT_GT(damaged, 12'000u);
    EXPECT_GT(whole, 3'000u);
}

TEST(sim_network, carries_nothing_over_a_cut_link_and_everything_later_over_a_clogged_one)
{
    network n(2, seed);
    n.cut(0, true);
    n.submit(start, 0, numbered(1));
    n.submit(start, 1, numbered(2));
    EXPECT_EQ(drain(n), (std::vector<std::uint32_t>{2}));
    n.cut(0, false);
    n.clog(0, start + 3s);
    n.submit(start + 1s, 0, numbered(3));
    EXPECT_EQ(n.next_deadline(), start + 3s);
    EXPECT_EQ(drain(n), (std::vector<std::uint32_t>{3}));
}

TEST(sim_network, is_down_at_the_times_of_a_scenario)
{
    const auto s = parse_scenario("partition=2s@1s,oneway=100ms@5s/10s");
    ASSERT_TRUE(s) << s.error();
    network n(2, seed);
    n.schedule(start, s->outages);
    const auto passes = [&](std::chrono::nanoseconds at, std::size_t link) {
        n.submit(start + at, link, numbered(1));
        return !drain(n).empty();
    };
    EXPECT_TRUE(passes(999ms, 0));
    EXPECT_FALSE(passes(1s, 0));
    EXPECT_FALSE(passes(2999ms, 1));
    EXPECT_TRUE(passes(3s, 1));
    EXPECT_FALSE(passes(5s, 0));
    EXPECT_TRUE(passes(5s, 1));
    EXPECT_FALSE(passes(15s + 50ms, 0));
    EXPECT_TRUE(passes(15s + 150ms, 0));
}

TEST(sim_network, gives_the_nth_packet_of_a_link_the_same_fate_in_every_run)
{
    const auto run = [](std::uint64_t with, std::chrono::nanoseconds apart) {
        network n(2, with);
        n.set(0, of("loss=30%,dup=20%"));
        std::vector<std::uint32_t> arrived;
        for (std::uint32_t i = 0; i < 500; ++i) {
            n.submit(start + i * apart, 0, numbered(i));
            if (apart > 1ms) // other traffic does not change it
                n.submit(start + i * apart, 1, numbered(i));
            n.poll(start + i * apart, [&](std::size_t link, std::span<std::byte> p) {
                if (link == 0)
                    arrived.push_back(number_of(p));
            });
        }
        return arrived;
    };
    EXPECT_EQ(run(1, 1ms), run(1, 7ms));
    EXPECT_NE(run(1, 1ms), run(2, 1ms));
}

TEST(sim_choices, replay_what_they_recorded_and_say_zero_after_it)
{
    choices first(seed);
    std::vector<std::uint32_t> said;
    for (std::uint32_t i = 0; i < 100; ++i)
        said.push_back(first.choose(i % 3, 1000));
    choices second(first.recorded());
    for (std::uint32_t i = 0; i < 100; ++i)
        EXPECT_EQ(second.choose(i % 3, 1000), said[i]);
    EXPECT_EQ(second.choose(0, 1000), 0u);
    EXPECT_FALSE(second.chance(1, certain - 1));
    EXPECT_EQ(second.between(2, 5, 50), 5u);
    EXPECT_EQ(second.choose(77, 9), 0u);
}

TEST(sim_choices, of_one_stream_do_not_depend_on_those_of_another)
{
    choices one(seed), two(seed);
    for (int i = 0; i < 50; ++i)
        (void)two.choose(1, 10);
    for (int i = 0; i < 50; ++i)
        EXPECT_EQ(one.choose(0, 1u << 30), two.choose(0, 1u << 30));
}

TEST(sim_choices, are_spread_evenly)
{
    choices c(seed);
    std::array<int, 10> hits{};
    for (int i = 0; i < 100'000; ++i)
        ++hits[c.choose(0, 10)];
    for (const auto n : hits)
        EXPECT_NEAR(n, 10'000, 500);
    int yes = 0;
    for (int i = 0; i < 100'000; ++i)
        yes += c.chance(1, certain / 4);
    EXPECT_NEAR(yes, 25'000, 700);
}

TEST(scenario, is_read_and_written_without_a_loss)
{
    for (const char *text :
         {"seed=0x1f,loss=30%,dup=10%,reorder=5%,corrupt=1%,delay=1ms..5ms,partition=2s@1s",
          "seed=0x0,loss=0.5%,burst=8,replay=0.0015%,window=16,hold=5ms,truncate=100%,delay=250us,"
          "tail=1%:2s,mtu=1500,queue=64,rate=125000000,oneway=2s@1s,clog=100ms/2s,"
          "partition=1s@2s/30s"}) {
        const auto s = parse_scenario(text);
        ASSERT_TRUE(s) << s.error();
        const auto again = parse_scenario(to_text(*s));
        ASSERT_TRUE(again) << again.error();
        EXPECT_EQ(*again, *s) << to_text(*s);
    }
    EXPECT_EQ(to_text(*parse_scenario("dup=12.5%,seed=255")), "seed=0xff,dup=12.5%");
}

TEST(scenario, says_what_is_wrong_with_a_word)
{
    const std::map<std::string, std::string> wrong{
        {"los=3%", "'los' is no fault; there are seed, loss, burst"},
        {"loss", "'loss' wants a value, as in loss=30%"},
        {"loss=101%", "'loss=101%': loss is a share of the packets"},
        {"loss=30", "is a share of the packets"},
        {"dup=0x3%", "is a share of the packets"},
        {"delay=5ms..1ms", "'delay=5ms..1ms': delay is a time or a range of times"},
        {"delay=5", "is a time or a range of times"},
        {"hold=1h", "hold is a time such as"},
        {"burst=0", "burst is a number from 1 to 2000"},
        {"mtu=70000", "mtu is a number from 0 to 65535"},
        {"tail=1%", "tail is a share and the longest time: 1%:2s"},
        {"partition=2", "partition is LENGTH@START"},
        {"clog=2s/1s", "clog has a period that is not longer than the outage"},
        {"seed=0xg", "seed is a number from 0 to"}};
    for (const auto &[text, says] : wrong) {
        const auto s = parse_scenario(text);
        ASSERT_FALSE(s) << text;
        EXPECT_TRUE(s.error().contains(says)) << s.error();
    }
}

TEST(scenario, explains_every_key_by_a_line_that_it_reads_itself)
{
    std::istringstream lines(scenario_syntax());
    int n = 0;
    for (std::string line; std::getline(lines, line); ++n) {
        const auto word = line.substr(2, line.find(' ', 2) - 2);
        const auto s = parse_scenario(word);
        EXPECT_TRUE(s) << s.error();
        EXPECT_GT(line.size(), 30u);
    }
    EXPECT_GT(n, 15);
}
