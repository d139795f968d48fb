// SPDX-License-Identifier: BSD-2-Clause
//
// The rules of the tree that a compiler does not check: who may include whom, which folders stay
// free of the system, what every file begins with, how long it may be, and that the tables are well
// formed. Each rule is shown a file that breaks it, so that a check that checks nothing fails too.
#include "sp/abi/names.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
using strings = std::vector<std::string>;

struct source {
    std::string path; // from the root, with slashes
    std::string text;
};

fs::path root()
{
    for (auto at = fs::current_path(); at != at.root_path(); at = at.parent_path())
        if (fs::exists(at / "Makefile") && fs::exists(at / "userspace"))
            return at;
    return fs::current_path();
}

std::string content(const fs::path &path)
{
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

const std::vector<source> &tree()
{
    static const auto all = [] {
        std::vector<source> found;
        const std::set<std::string> kinds{".cpp", ".hpp", ".h", ".c", ".def"};
        for (const char *folder : {"include", "userspace", "bpf", "tests", "bench"})
            for (const auto &entry : fs::recursive_directory_iterator(root() / folder))
                if (entry.is_regular_file() && kinds.contains(entry.path().extension().string()))
                    found.push_back({fs::relative(entry.path(), root()).generic_string(),
                                     content(entry.path())});
        return found;
    }();
    return all;
}

// ---- who may include whom ----

// Which part of the tree a file belongs to: a folder of userspace/, or one of abi, public, bpf,
// root, tests, bench.
std::string part_of(const std::string &path)
{
    const auto below = [&](const std::string &folder) { return path.starts_with(folder + '/'); };
    if (below("include/sp/abi"))
        return "abi";
    if (below("include/sp"))
        return path == "include/sp/error.hpp" ? "error" : "public";
    if (below("userspace")) {
        const auto rest = path.substr(std::string("userspace/").size());
        const auto slash = rest.find('/');
        if (slash == rest.npos)
            return rest == "invariant.hpp" || rest.starts_with("marks.") ||
                           rest.starts_with("plants.")
                       ? "invariant"
                       : "root";
        return rest.substr(0, slash);
    }
    return path.substr(0, path.find('/'));
}

const std::map<std::string, std::set<std::string>> &arrows()
{
    static const std::map<std::string, std::set<std::string>> may_include{
        {"abi", {"abi"}},
        {"invariant", {"invariant"}}, // what every folder may include, and its tables
        {"error", {"abi", "error"}},
        {"public", {"abi", "error", "public"}},
        {"bpf", {"abi"}},
        {"protocol", {"abi", "invariant", "protocol"}},
        {"link", {"abi", "invariant", "link"}},
        {"stream", {"abi", "invariant", "stream"}},
        {"engine", {"abi", "invariant", "protocol", "link", "stream", "engine"}},
        {"ring", {"abi", "invariant", "ring"}},
        {"transport", {"abi", "invariant", "error", "ring", "transport"}},
        {"xdp", {"abi", "invariant", "error", "xdp"}},
        {"cli", {"abi", "invariant", "error", "public", "xdp", "cli"}},
        {"examples", {"public"}},
    };
    return may_include;
}

// Where an include line leads: our own part, or "" for the system's and other libraries' headers.
std::string part_included(const std::string &name)
{
    if (name.starts_with("sp/"))
        return part_of("include/" + name);
    for (const char *folder :
         {"userspace/", "tests/", "bench/"}) // bpf/ is where libbpf has its headers
        if (name.starts_with(folder))
            return part_of(name);
    return {};
}

strings includes_of(const std::string &text)
{
    static const std::regex line(R"(^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)[>"])",
                                 std::regex::multiline);
    strings names;
    for (std::sregex_iterator at(text.begin(), text.end(), line), end; at != end; ++at)
        names.push_back((*at)[1]);
    return names;
}

strings wrong_arrows(const source &file)
{
    strings wrong;
    const auto from = part_of(file.path);
    if (from == "root" || from == "tests" || from == "bench")
        return wrong; // the composition root and those who look at everything
    const auto known = arrows().find(from);
    if (known == arrows().end())
        return {file.path + ": " + from + " is no part of architecture.md, section 2"};
    for (const auto &name : includes_of(file.text)) {
        const auto to = part_included(name);
        const bool one_header_only = from == "examples" && !to.empty() && name != "sp/sp.hpp" &&
                                     name != "sp/coro.hpp"; // which is not in sp/sp.hpp
        const bool own = name.ends_with(".skel.h") && from == "xdp";
        if (!own && !to.empty() && (!known->second.contains(to) || one_header_only))
            wrong.push_back(file.path + ": " + from + " may not include " + name);
    }
    return wrong;
}

// ---- folders without the system ----

strings system_in_pure_code(const source &file)
{
    const auto part = part_of(file.path);
    if (part != "protocol" && part != "link" && part != "stream" && part != "ring")
        return {};
    static const std::set<std::string> forbidden{"atomic",        "condition_variable",
                                                 "fcntl.h",       "future",
                                                 "mutex",         "netinet/in.h",
                                                 "poll.h",        "pthread.h",
                                                 "semaphore",     "shared_mutex",
                                                 "sys/epoll.h",   "sys/eventfd.h",
                                                 "sys/mman.h",    "sys/socket.h",
                                                 "sys/timerfd.h", "sys/un.h",
                                                 "thread",        "time.h",
                                                 "ctime",         "unistd.h"};
    strings wrong;
    for (const auto &name : includes_of(file.text))
        if (forbidden.contains(name) && !(part == "ring" && name == "atomic")) // what it is about
            wrong.push_back(file.path + ": " + part + " is sans-I/O and may not include <" + name +
                            ">");
    static const std::regex clock(R"(::now\(\))");
    if (std::regex_search(file.text, clock))
        wrong.push_back(file.path + ": " + part + " reads a clock; `now` is handed in");
    return wrong;
}

// ---- what every file looks like ----

strings wrong_shape(const source &file)
{
    strings wrong;
    const bool is_c =
        file.path.ends_with(".h") || file.path.ends_with(".c") || file.path.ends_with(".def");
    const auto first = file.text.substr(0, file.text.find('\n'));
    if (!first.contains("SPDX-License-Identifier: ") || !first.contains("BSD-2-Clause"))
        wrong.push_back(file.path + ": the first line is not the licence line");
    if (std::ranges::count(file.text, '\n') > 1000)
        wrong.push_back(file.path + ": more than 1000 lines");
    if (file.path.ends_with(".hpp") && !file.text.contains("\n#pragma once\n"))
        wrong.push_back(file.path + ": no #pragma once");
    static const std::regex guard(R"(\n#ifndef (\w+)\n#define (\w+)\n)");
    std::smatch names;
    if (is_c && file.path.ends_with(".h") &&
        !(std::regex_search(file.text, names, guard) && names[1] == names[2]))
        wrong.push_back(file.path + ": no include guard");
    return wrong;
}

template <class Rule>
void hold_everywhere(Rule rule)
{
    ASSERT_GT(tree().size(), 30u) << "the tree was not found from " << fs::current_path();
    for (const auto &file : tree())
        for (const auto &complaint : rule(file))
            ADD_FAILURE() << complaint;
}

const std::string licence_line = "// SPDX-License-Identifier: BSD-2-Clause\n";

} // namespace

TEST(structure, has_no_include_arrow_that_architecture_does_not_draw)
{
    hold_everywhere(wrong_arrows);
}

TEST(structure, notices_a_wrong_arrow)
{
    EXPECT_TRUE(wrong_arrows({"userspace/link/x.cpp",
                              "#include \"userspace/link/packet.hpp\"\n#include <vector>\n"})
                    .empty());
    const strings wrong{"userspace/protocol/x.cpp", "userspace/link/x.hpp",
                        "userspace/engine/x.hpp",   "userspace/transport/x.cpp",
                        "userspace/ring/x.hpp",     "include/sp/x.hpp",
                        "include/sp/abi/x.h",       "bpf/x.c",
                        "userspace/cli/x.cpp",      "userspace/examples/x.cpp"};
    const std::map<std::string, std::string> instead{
        {"userspace/transport/x.cpp", "userspace/engine/engine.hpp"},
        {"userspace/cli/x.cpp", "userspace/engine/engine.hpp"},
        {"userspace/examples/x.cpp", "sp/req.hpp"},
        {"userspace/protocol/x.cpp", "sp/error.hpp"},
        {"include/sp/abi/x.h", "sp/error.hpp"}};
    for (const auto &path : wrong) {
        const auto other = instead.find(path);
        const auto name = other == instead.end() ? "userspace/transport/xdp.hpp" : other->second;
        EXPECT_EQ(wrong_arrows({path, "#include \"" + name + "\"\n"}).size(), 1u)
            << path << " includes " << name;
    }
    EXPECT_EQ(wrong_arrows({"userspace/somewhere/x.cpp", ""}).size(), 1u)
        << "a folder that nobody has drawn";
    EXPECT_EQ(wrong_arrows({"userspace/link/x.cpp", "  #  include <userspace/engine/engine.hpp>\n"})
                  .size(),
              1u);
}

TEST(structure, keeps_the_system_out_of_protocol_link_stream_and_ring)
{
    hold_everywhere(system_in_pure_code);
}

TEST(structure, notices_a_clock_a_thread_or_a_socket_in_pure_code)
{
    for (const char *line :
         {"#include <thread>\n", "#include <sys/socket.h>\n", "#include <mutex>\n",
          "#include <unistd.h>\n", "auto t = std::chrono::steady_clock::now();\n"})
        EXPECT_EQ(system_in_pure_code({"userspace/link/x.cpp", line}).size(), 1u) << line;
    EXPECT_TRUE(system_in_pure_code({"userspace/transport/x.cpp", "#include <thread>\n"}).empty());
    EXPECT_TRUE(system_in_pure_code({"userspace/ring/x.hpp", "#include <atomic>\n"}).empty());
    EXPECT_EQ(system_in_pure_code({"userspace/ring/x.hpp", "#include <sys/mman.h>\n"}).size(), 1u);
}

TEST(structure, has_licence_guard_and_a_bounded_length_in_every_file)
{
    hold_everywhere(wrong_shape);
}

TEST(structure, notices_a_file_without_licence_or_guard_or_of_endless_length)
{
    EXPECT_TRUE(wrong_shape({"userspace/x.hpp", licence_line + "#pragma once\n"}).empty());
    EXPECT_EQ(wrong_shape({"userspace/x.hpp", licence_line}).size(), 1u);
    EXPECT_EQ(wrong_shape({"userspace/x.cpp", "int x;\n"}).size(), 1u);
    EXPECT_EQ(wrong_shape({"userspace/x.cpp", licence_line + std::string(1000, '\n')}).size(), 1u);
    EXPECT_EQ(wrong_shape({"include/sp/abi/x.h", licence_line + "\n#ifndef A\n#define B\n"}).size(),
              1u);
}

// ---- the tables ----

TEST(tables, give_every_error_a_number_of_its_own_and_the_words_of_a_message)
{
    std::set<int> numbers;
    for (const auto &e : sp::error_table) {
        EXPECT_TRUE(numbers.insert(e.number).second) << "SP" << e.number << " is there twice";
        EXPECT_TRUE(e.number >= 1000 && e.number <= 9999) << e.number;
        EXPECT_FALSE(e.what.empty()) << e.number;
        EXPECT_TRUE(e.exit_status >= 1 && e.exit_status <= 9) << e.number;
        for (const auto text : {e.what, e.why, e.fix}) {
            EXPECT_FALSE(text.contains('\n') || text.contains('|'))
                << e.number << ": one line, and it stands in a table";
            EXPECT_FALSE(text.ends_with('.') || text.ends_with(' ')) << e.number << ": " << text;
        }
    }
}

TEST(tables, give_every_counter_a_name_of_its_own_and_say_what_to_do)
{
    std::set<std::string> names;
    for (const auto &s : sp::stat_table) {
        const auto name = std::string(s.where) + '.' + std::string(s.name);
        EXPECT_TRUE(names.insert(name).second) << name << " is there twice";
        EXPECT_FALSE(s.what.empty() || s.cure.empty()) << name;
        EXPECT_FALSE(s.what.contains('|') || s.cure.contains('|')) << name;
        EXPECT_TRUE(std::ranges::all_of(s.name, [](char c) {
            return c == '_' || (c >= 'a' && c <= 'z');
        })) << name;
    }
}

// A row in another form would be left out by whoever reads the tables as text.
TEST(tables, write_every_row_in_the_one_form)
{
    static const std::regex stat_row(
        R"re(SP_(XDP|STAT)\((\w+, )?\w+, (count|pass|drop|close|refuse), "[^"]+", "[^"]+"\))re");
    std::istringstream lines(content(root() / "include/sp/abi/stats.def"));
    std::size_t rows = 0;
    for (std::string line; std::getline(lines, line);)
        if (line.starts_with("SP_")) {
            EXPECT_TRUE(std::regex_match(line, stat_row)) << line;
            ++rows;
        }
    EXPECT_EQ(rows, sp::stat_table.size());
    const auto errors = content(root() / "include/sp/abi/errors.def");
    static const std::regex error_row(
        R"re(SP_ERROR\((\d{4}), \w+, \d, "[^"]+",\s+"[^"]*",\s+"[^"]*"\))re");
    const auto found = std::distance(std::sregex_iterator(errors.begin(), errors.end(), error_row),
                                     std::sregex_iterator());
    EXPECT_EQ(static_cast<std::size_t>(found), sp::error_table.size());
}
