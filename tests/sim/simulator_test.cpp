// SPDX-License-Identifier: BSD-2-Clause
//
// The simulator as part of the tests: twenty thousand seeds, half of them under sanitizers, the
// tapes of the bugs that it found, and bugs planted to show that it would find others. The programs
// are built by `make test`; what they print is printed here.
#include "tests/support/local.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

const std::string fast = "build/sim/sp-sim", checked = "build/asan-sim/sp-sim",
                  planted = "build/plants/sp-sim";

struct ended {
    int status = -1;
    std::string out;

    [[nodiscard]] std::string last_line() const
    {
        const auto end = out.find_last_not_of('\n');
        if (end == out.npos)
            return {};
        const auto begin = out.rfind('\n', end);
        return out.substr(begin == out.npos ? 0 : begin + 1, end - begin);
    }
};

// These run for a minute and more, longer than the other programs that tests start may take.
ended run(const std::string &program, const std::string &arguments)
{
    const sp::test::scratch_directory here;
    const auto file = here.file("out");
    const auto command = program + ' ' + arguments + " > " + file + " 2>&1";
    ended e{.status = std::system(command.c_str()), .out = {}};
    std::ostringstream text;
    text << std::ifstream(file).rdbuf();
    e.out = text.str();
    return e;
}

// How many seeds a test runs; SP_SIM_SEEDS asks for more or fewer.
std::string seeds()
{
    const auto *asked = std::getenv("SP_SIM_SEEDS");
    return asked ? asked : "10000";
}

void expect_clean(const std::string &program, const std::string &from)
{
    ASSERT_TRUE(fs::exists(program)) << program << " is missing; make test builds it";
    const auto e = run(program, "--seeds " + seeds() + " --from " + from + " --shrink 20");
    std::printf("note: %s %s\n", program.c_str(), e.last_line().c_str());
    EXPECT_EQ(e.status, 0) << e.out;
    EXPECT_TRUE(e.last_line().starts_with("SEEDS=" + seeds() + " ")) << e.out;
    EXPECT_TRUE(e.last_line().contains(" FAILED=0 ")) << e.out;
}

} // namespace

TEST(simulator, finds_nothing_wrong_in_ten_thousand_seeds)
{
    expect_clean(fast, "1");
}

TEST(simulator, finds_nothing_wrong_in_ten_thousand_more_under_sanitizers)
{
    expect_clean(checked, "10001");
}

TEST(simulator, replays_a_seed_bit_for_bit)
{
    ASSERT_TRUE(fs::exists(fast)) << "make test builds it";
    const auto first = run(fast, "--seed 77"), second = run(fast, "--seed 77");
    EXPECT_TRUE(first.last_line().contains("HASH=0x")) << first.out;
    EXPECT_EQ(first.out, second.out);
    EXPECT_NE(first.last_line(), run(fast, "--seed 78").last_line());
}

TEST(simulator, stops_where_it_is_told_to_and_traces_what_happens)
{
    ASSERT_TRUE(fs::exists(fast)) << "make test builds it";
    const auto e = run(fast, "--seed 77 --until 20 --trace");
    EXPECT_EQ(e.status, 0) << e.out;
    EXPECT_TRUE(e.out.starts_with("SEED=77 CFG=hosts=")) << e.out;
    EXPECT_TRUE(e.out.contains("opens")) << e.out;
    EXPECT_TRUE(e.last_line().contains("EVENTS=20 ")) << e.out;
}

TEST(simulator, replays_the_tapes_of_what_it_found)
{
    ASSERT_TRUE(fs::exists(fast)) << "make test builds it";
    int tapes = 0;
    for (const auto &file : fs::directory_iterator("tests/sim/regress")) {
        if (file.path().extension() != ".tape")
            continue;
        ++tapes;
        const auto e = run(fast, "--shrink 0 --tape " + file.path().string());
        EXPECT_EQ(e.status, 0) << file.path() << '\n' << e.out;
    }
    EXPECT_GT(tapes, 0);
}

TEST(simulator, says_what_is_wrong_with_a_tape)
{
    const sp::test::scratch_directory here;
    std::ofstream(here.file("bad")) << "0: 1 2 three\n";
    for (const auto &path : {here.file("bad"), here.file("missing")}) {
        const auto e = run(fast, "--tape " + path);
        EXPECT_NE(e.status, 0);
        EXPECT_TRUE(e.out.contains("sp-sim: " + path)) << e.out;
    }
}

// All of them: make plants.
TEST(simulator, finds_bugs_that_are_planted)
{
    ASSERT_TRUE(fs::exists(planted)) << "make test builds it";
    for (const auto *plant : {"push_to_two_pipes", "survey_ends_early", "link_acks_ahead",
                              "link_sack_off_by_one", "engine_skips_cookie", "rep_leaks_reply"}) {
        const auto e = run(planted, "--seeds 10000 --plant " + std::string(plant));
        EXPECT_EQ(e.status, 0) << e.out;
        EXPECT_TRUE(e.last_line().starts_with("CAUGHT=1 ")) << e.out;
    }
}
