// SPDX-License-Identifier: BSD-2-Clause
//
// What the first page and the pages made from tables say is what the programs do: blocks are
// compared and run. A block marked cpp is a whole file, on every page, and compiles as one.
#include "tests/net/hosts.hpp"
#include "tests/support/program.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <regex>
#include <sstream>
#include <stdlib.h>
#include <string>
#include <vector>

namespace {

using sp::test::built;

std::string content(const std::string &path)
{
    std::ifstream file(path, std::ios::binary);
    EXPECT_TRUE(file.is_open()) << path;
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

// The fenced block that begins after `mark`.
std::string block_after(const std::string &text, const std::string &mark)
{
    const auto at = text.find(mark);
    EXPECT_NE(at, text.npos) << mark;
    const auto fence = text.find("```", at);
    const auto begin = text.find('\n', fence) + 1;
    return text.substr(begin, text.find("```", begin) - begin);
}

// README.md and what stands in docs/, by name.
std::vector<std::string> pages()
{
    std::vector<std::string> found{"README.md"};
    for (const auto &entry : std::filesystem::directory_iterator("docs"))
        if (entry.path().extension() == ".md")
            found.push_back(entry.path().string());
    std::ranges::sort(found);
    return found;
}

// What g++ says about every block of a page that is marked cpp, as a file of its own; empty when it
// is content with all of them. `count` of them were there.
struct compiled {
    std::size_t count = 0;
    std::string complaints;
};

compiled compile_blocks(const std::string &page)
{
    static const std::string mark = "\n```cpp\n";
    const auto text = content(page);
    std::string place = "/tmp/sp-docs-XXXXXX";
    EXPECT_NE(::mkdtemp(place.data()), nullptr);
    compiled all;
    for (auto at = text.find(mark); at != text.npos; at = text.find(mark, at + 1)) {
        const auto begin = at + mark.size();
        const auto file = place + "/block.cpp";
        std::ofstream(file) << text.substr(begin, text.find("\n```", begin) + 1 - begin);
        const auto done = sp::test::run({"g++", "-std=c++23", "-Wall", "-Wextra", "-Werror",
                                         "-Iinclude", "-fsyntax-only", file});
        ++all.count;
        if (done.status != 0)
            all.complaints.append(page).append(": ").append(done.err);
    }
    std::filesystem::remove_all(place);
    return all;
}

// Figures, and what else differs from run to run and host to host, become #; runs of spaces become
// one.
std::string masked(std::string text)
{
    static const std::regex kernel(R"(kernel [^,]+)"), memlock(R"(memlock [^\n]+)"),
        percentile("p(50|99)"), figure(R"([0-9]+([ .][0-9]+)*)"), spaces(" +"),
        winner("(sp|TCP) is # times faster");
    text = std::regex_replace(text, kernel, "kernel #");
    text = std::regex_replace(text, memlock, "memlock #");
    text = std::regex_replace(text, percentile, "p:");
    text = std::regex_replace(text, figure, "#");
    text = std::regex_replace(text, spaces, " ");
    return std::regex_replace(
        text, winner, "one is # times faster"); // bench/ and the demo compare; a test does not
}

} // namespace

TEST(readme, shows_the_program_that_is_in_examples)
{
    const auto example = content("userspace/examples/echo.cpp");
    EXPECT_EQ(block_after(content("README.md"), "```cpp"), example.substr(example.find('\n') + 1));
}

TEST(readme, has_a_program_that_prints_what_it_says)
{
    const auto done = sp::test::run({built("examples/echo")});
    EXPECT_EQ(done.status, 0) << done.err;
    EXPECT_EQ(done.out, "hello, world\n");
}

TEST(readme, shows_an_error_as_it_is_printed)
{
    EXPECT_EQ(sp::test::run({built(), "req", "unixgrm:///tmp/x", "hello"}).err,
              block_after(content("README.md"), "## When it does not work"));
}

TEST(readme, shows_the_demo_as_it_runs)
{
    if (!sp::test::hosts::why_not().empty())
        GTEST_SKIP() << sp::test::hosts::why_not();
    const auto done = sp::test::run({built(), "demo", "--count", "2000"});
    ASSERT_EQ(done.status, 0) << done.out << done.err;
    if (!done.out.contains("spinning"))
        GTEST_SKIP() << "one CPU: the demo leaves the spinning part out";
    EXPECT_EQ(masked(done.out), masked(block_after(content("README.md"), "<!-- demo -->")));
}

TEST(readme, links_only_to_what_is_there)
{
    static const std::regex link(R"(\]\(([^)# ]+)\))");
    for (const auto &page : pages()) {
        const auto text = content(page);
        for (std::sregex_iterator at(text.begin(), text.end(), link), end; at != end; ++at) {
            const auto target = std::filesystem::path(page).parent_path() / (*at)[1].str();
            EXPECT_TRUE(std::filesystem::exists(target)) << page << " links to " << target;
        }
    }
}

TEST(docs, show_only_programs_that_compile)
{
    std::size_t blocks = 0;
    for (const auto &page : pages()) {
        const auto done = compile_blocks(page);
        EXPECT_EQ(done.complaints, "");
        blocks += done.count;
    }
    EXPECT_GE(blocks, 5u) << "the marks of the blocks have changed";
}

TEST(docs, are_made_from_the_tables_as_they_are_now)
{
    EXPECT_EQ(content("docs/errors.md"), sp::test::run({built(), "errors", "--markdown"}).out)
        << "run: make docs";
    EXPECT_EQ(content("docs/metrics.md"),
              sp::test::run({built(), "errors", "--counters", "--markdown"}).out)
        << "run: make docs";
}

TEST(man_page, names_every_verb_and_every_long_option)
{
    auto page = content("userspace/share/man/sp.1");
    for (auto at = page.find("\\-"); at != page.npos; at = page.find("\\-", at))
        page.erase(at, 1);
    static const std::regex option(R"(--[a-z][a-z-]+)"), verb(R"(\n  ([a-z]+) +[a-z])");
    for (const auto &words : {sp::test::words{},
                              {"req"},
                              {"rep"},
                              {"xdp"},
                              {"xdp", "load"},
                              {"xdp", "unload"},
                              {"xdp", "status"},
                              {"doctor"},
                              {"ping"},
                              {"demo"},
                              {"errors"}}) {
        sp::test::words command{built()};
        command.insert(command.end(), words.begin(), words.end());
        command.push_back("--help");
        const auto help = sp::test::run(command).out;
        for (std::sregex_iterator at(help.begin(), help.end(), option), end; at != end; ++at)
            EXPECT_TRUE(at->str() == "--help" || at->str() == "--version" ||
                        page.contains(at->str()))
                << at->str();
        if (!words.empty())
            continue;
        for (std::sregex_iterator at(help.begin(), help.end(), verb), end; at != end; ++at)
            EXPECT_TRUE(page.contains("\n.B " + (*at)[1].str() + '\n') ||
                        page.contains(".B sp " + (*at)[1].str()))
                << (*at)[1].str();
    }
}
