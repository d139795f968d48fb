// SPDX-License-Identifier: BSD-2-Clause
//
// tests/run, shown programs that pass, fail, skip, die or run nothing: its last line and its status
// are what continuous integration believes.
#include "tests/support/local.hpp"
#include "tests/support/program.hpp"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>

namespace {

using sp::test::finished;
using sp::test::scratch_directory;

// What tests/run makes of a program that prints `text` and ends with `status`.
finished run_on(const std::string &text, const std::string &end)
{
    const scratch_directory here;
    const auto path = here.file("fake");
    std::ofstream(path) << "#!/bin/sh\ncat <<'TEXT'\n" << text << "TEXT\n" << end << '\n';
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    return sp::test::run({"tests/run", path});
}

std::string last_line(const std::string &text)
{
    const auto end = text.find_last_not_of('\n');
    return text.substr(text.rfind('\n', end) + 1, end - text.rfind('\n', end));
}

const std::string passing = "[ RUN      ] a.works\n[       OK ] a.works (0 ms)\n";
const std::string failing =
    "[ RUN      ] a.breaks\nx_test.cpp:1: Failure\nwrong\n[  FAILED  ] a.breaks (0 ms)\n";
const std::string skipping =
    "[ RUN      ] a.cannot\nx_test.cpp:1: Skipped\nno such device\n[  SKIPPED ] a.cannot (0 ms)\n";

} // namespace

TEST(runner, ends_with_the_count_alone_on_its_line)
{
    const auto done = run_on(passing + skipping, "exit 0");
    EXPECT_EQ(done.status, 0);
    EXPECT_EQ(last_line(done.out), "1 passed, 0 failed, 1 skipped");
}

TEST(runner, lists_each_skip_with_its_reason)
{
    EXPECT_TRUE(run_on(passing + skipping, "exit 0").out.contains("a.cannot: no such device"));
}

TEST(runner, fails_and_shows_the_output_when_a_test_failed)
{
    const auto done = run_on(passing + failing, "exit 1");
    EXPECT_NE(done.status, 0);
    EXPECT_TRUE(done.out.contains("wrong")) << done.out;
    EXPECT_EQ(last_line(done.out), "1 passed, 1 failed, 0 skipped");
}

TEST(runner, fails_when_the_program_dies_and_says_where)
{
    const auto done = run_on(passing + "[ RUN      ] a.dies\nlast words\n", "kill -SEGV $$");
    EXPECT_NE(done.status, 0);
    EXPECT_TRUE(done.out.contains("a.dies")) << done.out;
    EXPECT_EQ(last_line(done.out), "1 passed, 1 failed, 0 skipped");
}

TEST(runner, fails_when_the_program_ends_badly_after_its_tests)
{
    EXPECT_NE(run_on(passing, "exit 3").status, 0);
}

TEST(runner, fails_when_no_test_ran)
{
    EXPECT_NE(run_on("", "exit 0").status, 0);
    EXPECT_NE(run_on(skipping, "exit 0").status, 0);
}
