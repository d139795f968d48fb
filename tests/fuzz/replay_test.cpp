// SPDX-License-Identifier: BSD-2-Clause
//
// The committed corpora, replayed by the functions that libFuzzer runs, and the list of functions
// that take bytes from outside: each has its target, and none is missing from the list.
#include "tests/fuzz/target.hpp"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <iostream>
#include <iterator>
#include <map>
#include <random>
#include <regex>
#include <set>
#include <stdexcept>
#include <string>

namespace sp::fuzz {

void broken(std::string_view property, const std::source_location &where)
{
    throw std::logic_error(std::string(where.file_name()) + ':' + std::to_string(where.line()) +
                           " does not hold: " + std::string(property));
}

namespace {

namespace fs = std::filesystem;

const fs::path folder = "tests/fuzz", corpora = folder / "corpus";

std::string content(const fs::path &path)
{
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<fs::path> corpus_of(const target &one)
{
    std::vector<fs::path> files;
    if (fs::exists(corpora / one.name))
        for (const auto &entry : fs::directory_iterator(corpora / one.name))
            files.push_back(entry.path());
    std::ranges::sort(files);
    return files;
}

// The property that an input breaks, or nothing.
std::string replay(const target &one, bytes input)
{
    try {
        one.run(input);
        return {};
    } catch (const std::exception &e) {
        return e.what();
    }
}

class corpus : public testing::TestWithParam<std::size_t> {};

TEST_P(corpus, keeps_every_property_and_reaches_every_mark)
{
    const auto &one = targets()[GetParam()];
    for (auto *m : one.marks)
        m->reached = false;
    const auto files = corpus_of(one);
    EXPECT_FALSE(files.empty()) << "no corpus in " << corpora / one.name;
    for (const auto &file : files) {
        const auto text = content(file);
        EXPECT_EQ(replay(one, std::as_bytes(std::span(text))), "") << file;
    }
    EXPECT_FALSE(one.marks.empty()) << "a target without marks may look at nothing";
    for (const auto *m : one.marks)
        EXPECT_TRUE(m->reached) << "no input of the corpus reaches " << m->name;
}

// Not what a fuzzer does in an hour, but the properties hold for what nobody thought of either.
TEST_P(corpus, keeps_every_property_when_it_is_shortened_and_scrambled)
{
    const auto &one = targets()[GetParam()];
    const auto seed = std::random_device{}();
    std::cout << "seed " << seed << '\n';
    std::mt19937 random(seed);
    for (const auto &file : corpus_of(one)) {
        auto text = content(file);
        text.resize(text.empty() ? 0 : random() % (text.size() + 1));
        for (auto changes = random() % 4; changes > 0 && !text.empty(); --changes)
            text[random() % text.size()] = static_cast<char>(random());
        EXPECT_EQ(replay(one, std::as_bytes(std::span(text))), "")
            << "seed " << seed << ", from " << file;
    }
}

INSTANTIATE_TEST_SUITE_P(of, corpus, testing::Range<std::size_t>(0, targets().size()),
                         [](const auto &one) { return std::string(targets()[one.param].name); });

TEST(corpora, are_small_and_belong_to_targets)
{
    std::set<std::string> names;
    for (const auto &one : targets())
        EXPECT_TRUE(names.insert(std::string(one.name)).second) << one.name << " is there twice";
    std::size_t files = 0, size = 0;
    for (const auto &entry : fs::recursive_directory_iterator(corpora)) {
        if (entry.is_directory()) {
            EXPECT_TRUE(names.contains(entry.path().filename().string())) << entry.path();
            continue;
        }
        ++files;
        size += entry.file_size();
    }
    EXPECT_LE(files, 600u) << "minimise them: make fuzz-corpus";
    EXPECT_LE(size, 2u << 20);
}

TEST(fuzz_target, notices_a_property_that_is_broken)
{
    const target wrong{"wrong", [](bytes input) { must(input.empty(), "nothing comes"); }, {}};
    EXPECT_EQ(replay(wrong, {}), "");
    const std::byte one[1]{};
    EXPECT_TRUE(replay(wrong, one).contains("does not hold: nothing comes"));
}

// ---- who takes bytes from outside ----

// A function that reads what others wrote, and the target that feeds it. Or why it needs none.
struct entry {
    const char *header, *function, *target, *why_none;
};

constexpr entry untrusted[] = {
#define SP_UNTRUSTED(header, function, target) {header, function, target, nullptr},
#define SP_TRUSTED(header, function, why) {header, function, nullptr, why},
#include "tests/fuzz/untrusted.def"
};

// A header without the private parts of its classes: nobody else calls those.
std::string public_part(std::string text)
{
    for (auto begin = text.find("\nprivate:"); begin != text.npos;
         begin = text.find("\nprivate:", begin))
        text.erase(begin, std::min(text.find("\n};", begin), text.size()) - begin);
    return text;
}

// The names of functions of a header that are handed bytes: a span of them, two pointers, or a text
// that is to be parsed.
std::set<std::string> takers_of_bytes(const std::string &text)
{
    static const std::regex declaration(
        R"((\w+)\((?:[^()]*,\s*)?(?:std::span<const std::byte>|bytes|const void \*|const subscribed_memory &)\s*\w+[^()]*\)|(parse_\w+)\(std::string_view)");
    std::set<std::string> names;
    for (std::sregex_iterator at(text.begin(), text.end(), declaration), end; at != end; ++at)
        names.insert((*at)[1].matched ? (*at)[1] : (*at)[2]);
    return names;
}

TEST(untrusted_functions, are_found_in_the_text_of_a_header)
{
    EXPECT_EQ(takers_of_bytes(
                  public_part("int f(std::span<const std::byte> packet, instant now) noexcept;\n"
                              "void g(int n,\n       std::span<const std::byte> b);\n"
                              "int h(const void *data, const void *end);\n"
                              "result<url> parse_url(std::string_view text);\n"
                              "int k(std::span<std::byte> room, int n);\n"
                              "std::span<const std::byte> view() const;\n"
                              "private:\n    int p(std::span<const std::byte> b);\n};\n")),
              (std::set<std::string>{"f", "g", "h", "parse_url"}));
}

TEST(untrusted_functions, have_each_a_target_and_none_is_missing_from_the_list)
{
    std::set<std::string> names;
    for (const auto &one : targets())
        names.insert(std::string(one.name));
    std::map<std::string, std::set<std::string>> listed;
    for (const auto &e : untrusted) {
        EXPECT_TRUE(listed[e.header].insert(e.function).second) << e.function << " is there twice";
        EXPECT_TRUE(takers_of_bytes(content(e.header)).contains(e.function))
            << e.header << " has no " << e.function << " any more";
        if (e.target != nullptr) {
            EXPECT_TRUE(names.contains(e.target)) << e.function << " wants target " << e.target;
        }
    }
    std::vector<fs::path> headers{"include/sp/abi/wire.h", "userspace/url.hpp"};
    for (const char *part : {"userspace/link", "userspace/stream", "userspace/ring"})
        if (fs::exists(part))
            for (const auto &file : fs::directory_iterator(part))
                if (file.path().extension() == ".hpp")
                    headers.push_back(file.path());
    for (const auto &header : headers)
        for (const auto &function : takers_of_bytes(public_part(content(header))))
            EXPECT_TRUE(listed[header.generic_string()].contains(function))
                << function << " of " << header << " takes bytes; tests/fuzz/untrusted.def says "
                << "which target feeds it, or why none need to";
    for (const auto &one : targets())
        EXPECT_TRUE(std::ranges::any_of(
            untrusted, [&](const entry &e) { return e.target != nullptr && one.name == e.target; }))
            << one.name << " is the target of nothing";
}

} // namespace
} // namespace sp::fuzz
