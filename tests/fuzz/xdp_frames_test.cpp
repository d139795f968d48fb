// SPDX-License-Identifier: BSD-2-Clause
//
// The XDP program against the model of docs/wire.md and against the parser in user space, on frames
// by the million: the kernel runs the program on each (BPF_PROG_TEST_RUN), its verdict is compared
// frame by frame, answers to pings byte by byte, and its counters batch by batch. `make fuzz-xdp
// FRAMES=...` asks for more of them than `make test` does.
#include "sp/abi/maps.h"
#include "sp/abi/names.hpp"
#include "tests/fuzz/frames.hpp"
#include "userspace/xdp/program.hpp"
#include "userspace/xdp/steer.hpp"

#include <algorithm>
#include <array>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <iostream>
#include <iterator>
#include <linux/bpf.h>
#include <linux/if_xdp.h>
#include <sched.h>
#include <string>
#include <sys/socket.h>
#include <unistd.h>

namespace sp::fuzz {
namespace {

using counts = std::array<std::uint64_t, SP_XDP_STATS>;

struct fate {
    unsigned verdict;
    unsigned counter;
};

// What the program does with a frame of which the model says `what`; docs/wire.md, in its order.
// `pings` are answered still.
fate expected_fate(const frame_model &model, const frame_reading &what, bool miss_drops,
                   std::uint64_t pings)
{
    const unsigned miss = miss_drops ? XDP_DROP : XDP_PASS;
    switch (what.shape) {
    case SP_SHAPE_NOT_SP:
        return {XDP_PASS, SP_XDP_not_sp};
    case SP_SHAPE_IP_OPTIONS:
        return {XDP_PASS, SP_XDP_ip_options};
    case SP_SHAPE_FRAGMENT:
        return {XDP_PASS, SP_XDP_fragment};
    case SP_SHAPE_OTHER_VERSION:
        return {XDP_PASS, SP_XDP_other_version};
    case SP_SHAPE_BAD_LENGTH:
        return {XDP_DROP, SP_XDP_bad_length};
    case SP_SHAPE_BAD_TYPE:
        return {XDP_DROP, SP_XDP_bad_type};
    case SP_SHAPE_BAD_FLAGS:
        return {XDP_DROP, SP_XDP_bad_flags};
    case SP_SHAPE_SP:
        break;
    }
    const auto port = model.word(what.offset + 4), type = model.at(what.offset + 1);
    const bool served = port == served_port || port == wrong_shard_port;
    const auto is = [&](const auto &address) {
        for (std::size_t i = 0; i < address.size(); ++i)
            if (model.at(what.destination + i) != address[i])
                return false;
        return true;
    };
    const bool ours = what.family == 4 ? is(local_ipv4) : is(local_ipv6);
    if (type == SP_PING && port == 0) {
        const bool to_many = (model.at(0) | model.at(6)) % 2 != 0;
        if (!ours || to_many)
            return {XDP_PASS, SP_XDP_foreign_address};
        return pings > 0 ? fate{XDP_TX, SP_XDP_ponged} : fate{XDP_DROP, SP_XDP_ping_rate};
    }
    if (!served && (!miss_drops || type == SP_PONG))
        return {XDP_PASS, SP_XDP_no_port};
    if (!ours)
        return {XDP_PASS, SP_XDP_foreign_address};
    if (!served)
        return {miss, SP_XDP_no_port};
    if (port == wrong_shard_port)
        return {miss, SP_XDP_no_socket};
    return {XDP_REDIRECT, SP_XDP_steered};
}

// The answer to a ping, but for a UDP checksum.
std::vector<std::byte> expected_pong(const frame_model &model, const frame_reading &what)
{
    auto pong = exact(model.frame);
    const auto swap = [&](std::size_t a, std::size_t b, std::size_t n) {
        std::swap_ranges(pong.begin() + static_cast<std::ptrdiff_t>(a),
                         pong.begin() + static_cast<std::ptrdiff_t>(a + n),
                         pong.begin() + static_cast<std::ptrdiff_t>(b));
    };
    swap(0, 6, 6);
    swap(what.source, what.destination, what.family == 4 ? 4 : 16);
    if (what.udp != 0)
        swap(what.udp, what.udp + 2, 2);
    swap(what.offset + 4, what.offset + 6, 2);
    pong[what.offset + 1] = std::byte{SP_PONG};
    return pong;
}

// The type has become one more, and it is the low byte of its word: so has the sum, in the
// arithmetic of the checksum. 0 says that there is none.
bool checksum_follows(unsigned before, unsigned after)
{
    if (before == 0)
        return after == 0;
    return after != 0 && (65535 - after) % 65535 == (65535 - before + 1) % 65535;
}

std::string in_hex(bytes frame)
{
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (const auto b : frame) {
        text += digits[std::to_integer<unsigned>(b) >> 4];
        text += digits[std::to_integer<unsigned>(b) & 15];
    }
    return text;
}

class xdp_frames : public testing::TestWithParam<bool> {
protected:
    void SetUp() override
    {
        if (geteuid() != 0)
            GTEST_SKIP() << "BPF needs root";
        auto made = xdp::load_program({.udp_port = outer_port, .miss_drops = GetParam()});
        ASSERT_TRUE(made) << made.error().what() << ": " << made.error().why();
        program_ = *std::move(made);
        set_port(served_port, 1);
        set_port(wrong_shard_port, SP_SHARDS + 1);
        sp_local_key key{};
        key.bytes[10] = key.bytes[11] = 0xff;
        std::ranges::copy(local_ipv4, key.bytes + 12);
        add_address(key);
        std::ranges::copy(local_ipv6, key.bytes);
        add_address(key);
        put_socket();
        stay_on_this_cpu();
        allow_pings(SP_PINGS_MAX);
    }
    void TearDown() override
    {
        if (CPU_COUNT(&cpus_) > 0)
            (void)::sched_setaffinity(0, sizeof cpus_, &cpus_);
    }

    // The budget of pings is one per CPU.
    void stay_on_this_cpu()
    {
        ASSERT_EQ(::sched_getaffinity(0, sizeof cpus_, &cpus_), 0);
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(static_cast<unsigned>(::sched_getcpu()), &one);
        ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
    }

    void set_port(std::uint32_t port, std::uint16_t value) const
    {
        ASSERT_EQ(bpf_map_update_elem(program_.maps.fd(xdp::map::ports), &port, &value, BPF_ANY),
                  0);
    }
    void add_address(const sp_local_key &key) const
    {
        const std::uint32_t owners = 1;
        ASSERT_EQ(bpf_map_update_elem(program_.maps.fd(xdp::map::local), &key, &owners, BPF_ANY),
                  0);
    }
    // A socket with a receive ring is all that the map wants; test runs arrive on queue 0.
    void put_socket()
    {
        socket_ = xdp::descriptor(::socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0));
        ASSERT_TRUE(socket_) << std::strerror(errno);
        const int entries = 64, fd = socket_.get();
        const std::uint32_t queue = 0;
        ASSERT_EQ(setsockopt(fd, SOL_XDP, XDP_RX_RING, &entries, sizeof entries), 0);
        ASSERT_EQ(bpf_map_update_elem(program_.maps.fd(xdp::map::xsks), &queue, &fd, BPF_ANY), 0);
    }

    [[nodiscard]] static frame_model model_of(bytes frame)
    {
        return {.frame = frame, .protocol = SP_IP_PROTOCOL, .udp_port = outer_port};
    }

    // False, with the reason told, when program, parser and model do not agree about the verdict.
    // What should be counted is added to `due`.
    bool run_one(bytes frame, counts &due)
    {
        const auto model = model_of(frame);
        const auto what = model.ethernet();
        sp_parsed found{};
        const auto shape = sp_parse_frame(frame.data(), frame.data() + frame.size(), SP_IP_PROTOCOL,
                                          SP_BE16(outer_port), &found);
        const auto expected = expected_fate(model, what, GetParam(), pings_left_);
        LIBBPF_OPTS(bpf_test_run_opts, how, .data_in = frame.data(), .data_out = after_.data(),
                    .data_size_in = static_cast<std::uint32_t>(frame.size()),
                    .data_size_out = static_cast<std::uint32_t>(after_.size()), .repeat = 1);
        const auto error = bpf_prog_test_run_opts(program_.fd.get(), &how);
        ++due[expected.counter];
        EXPECT_EQ(error, 0) << std::strerror(errno);
        EXPECT_EQ(shape, what.shape) << "parser and model differ on " << in_hex(frame);
        EXPECT_EQ(how.retval, expected.verdict) << "program and model differ on " << in_hex(frame);
        const auto after = std::span<const std::byte>(after_).first(how.data_size_out);
        if (expected.verdict == XDP_TX) {
            --pings_left_;
            check_pong(model, what, after);
        } else {
            EXPECT_TRUE(std::ranges::equal(after, frame)) << "changed: " << in_hex(frame);
        }
        return !HasFailure();
    }

    static void check_pong(const frame_model &model, const frame_reading &what, bytes after)
    {
        auto expected = expected_pong(model, what);
        ASSERT_EQ(after.size(), expected.size());
        if (what.udp != 0) {
            const frame_model answer{.frame = after};
            EXPECT_TRUE(checksum_follows(model.word(what.udp + 6), answer.word(what.udp + 6)))
                << in_hex(model.frame);
            std::ranges::copy(after.subspan(what.udp + 6, 2),
                              expected.begin() + static_cast<std::ptrdiff_t>(what.udp + 6));
        }
        EXPECT_TRUE(std::ranges::equal(after, expected))
            << in_hex(model.frame) << " is answered by " << in_hex(after);
    }

    // From here on so many pings are answered, on the CPU of this thread; a window that lies later
    // than now is never over.
    void allow_pings(std::uint64_t n)
    {
        std::vector<sp_ping_budget> budgets(static_cast<std::size_t>(libbpf_num_possible_cpus()),
                                            {.window = ~__u64{0}, .answered = SP_PINGS_MAX - n});
        const std::uint32_t zero = 0;
        ASSERT_EQ(
            bpf_map_update_elem(program_.maps.fd(xdp::map::pings), &zero, budgets.data(), BPF_ANY),
            0);
        pings_left_ = n;
    }

    [[nodiscard]] counts counted() const
    {
        const auto stats = xdp::read_stats(program_.maps.fd(xdp::map::stats));
        EXPECT_TRUE(stats);
        return stats ? *stats : counts{};
    }

    // Every counter, by how much it should have risen since the program was loaded.
    [[nodiscard]] bool counters_are(const counts &due)
    {
        const auto now = counted();
        for (unsigned i = 0; i < SP_XDP_STATS; ++i)
            EXPECT_EQ(now[i], due[i]) << stat_table[i].name;
        return !HasFailure();
    }

    xdp::program program_;
    xdp::descriptor socket_;
    cpu_set_t cpus_{};
    std::uint64_t pings_left_ = 0;
    std::array<std::byte, frame_source::size_max> after_{};
};

std::uint64_t frames_wanted()
{
    std::uint64_t frames = 150'000;
    if (const char *text = std::getenv("SP_FUZZ_FRAMES"))
        std::from_chars(text, text + std::strlen(text), frames);
    return frames;
}

TEST_P(xdp_frames, meet_the_fate_that_the_model_gives_them)
{
    constexpr std::uint64_t batch = 1000;
    const auto seed = std::random_device{}();
    const auto frames = frames_wanted();
    std::cout << "seed " << seed << ", " << frames << " frames\n";
    RecordProperty("seed", std::to_string(seed));
    frame_source source(seed);
    counts due{};
    for (std::uint64_t n = 0; n < frames;) {
        allow_pings(n / batch % 50);
        for (const auto end = std::min(frames, n + batch); n < end; ++n)
            ASSERT_TRUE(run_one(source.next(), due)) << "seed " << seed << ", frame " << n;
        ASSERT_TRUE(counters_are(due)) << "seed " << seed << ", before frame " << n;
    }
    for (unsigned i = 0; i < SP_XDP_STATS; ++i) {
        std::cout << "  " << stat_table[i].name << ' ' << due[i] << '\n';
        EXPECT_GT(due[i], frames / 2000) << "hardly any frame reaches " << stat_table[i].name;
    }
}

TEST_P(xdp_frames, of_the_corpus_of_the_parser_meet_the_fate_that_the_model_gives_them)
{
    counts due{};
    std::size_t frames = 0;
    for (const auto &entry : std::filesystem::directory_iterator("tests/fuzz/corpus/wire_header")) {
        std::ifstream file(entry.path(), std::ios::binary);
        std::string text{std::istreambuf_iterator<char>(file), {}};
        if (text.empty())
            continue;
        text.erase(0, 1); // which door of the parser
        if (text.size() < frame_source::size_min || text.size() > frame_source::size_max)
            continue;
        ++frames;
        ASSERT_TRUE(run_one(std::as_bytes(std::span(text)), due)) << entry.path();
    }
    EXPECT_TRUE(counters_are(due));
    EXPECT_GT(frames, 20u);
}

INSTANTIATE_TEST_SUITE_P(in_both_miss_modes, xdp_frames, testing::Bool(),
                         [](const auto &one) { return one.param ? "strict" : "lenient"; });

} // namespace
} // namespace sp::fuzz
