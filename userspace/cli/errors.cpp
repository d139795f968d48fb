// SPDX-License-Identifier: BSD-2-Clause
//
// `sp errors`: the catalogue, one entry, or every entry with a word in it; the counters and drop
// reasons besides. With
// --markdown it prints the pages docs/errors.md and docs/metrics.md, which are made from the tables
// by this alone.
#include "sp/abi/names.hpp"
#include "userspace/cli/table.hpp"
#include "userspace/cli/verbs.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <fmt/format.h>

namespace sp::cli {
namespace {

using std::string_view;

constexpr std::array<string_view, 5> kind_names{"count", "pass", "drop", "close", "refuse"};

string_view name_of(stat_kind kind)
{
    return kind_names[static_cast<std::size_t>(kind)];
}

bool contains_word(string_view text, string_view word)
{
    const auto lower = [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    };
    return !std::ranges::search(text, word, {}, lower, lower).empty();
}

// SP1003, sp1003 or 1003.
std::optional<int> number_in(string_view word)
{
    if (word.size() > 2 && contains_word(word.substr(0, 2), "sp"))
        word.remove_prefix(2);
    int number = 0;
    const auto *end = word.data() + word.size();
    const auto [rest, bad] = std::from_chars(word.data(), end, number);
    return bad == std::errc{} && rest == end && word.size() == 4 ? std::optional(number)
                                                                 : std::nullopt;
}

bool matches(const error_entry &e, string_view word)
{
    if (const auto number = number_in(word))
        return e.number == *number;
    return word.empty() ||
           std::ranges::any_of(std::array{e.what, e.why, e.fix, describe(e.code).name},
                               [&](auto text) { return contains_word(text, word); });
}

bool matches(const stat_entry &s, string_view word)
{
    return word.empty() ||
           std::ranges::any_of(std::array{s.where, s.name, s.what, s.cure},
                               [&](auto text) { return contains_word(text, word); });
}

std::string described(const error_entry &e)
{
    auto text = fmt::format("SP{:04}  {}\n", e.number, e.what);
    if (!e.why.empty())
        text += fmt::format("  why:  {}\n", e.why);
    if (!e.fix.empty())
        text += fmt::format("  fix:  {}\n", e.fix);
    return text += fmt::format("  code: {}, exit {}{}\n", describe(e.code).name, e.exit_status,
                               describe(e.code).retryable ? ", may succeed when tried again" : "");
}

json::object object_of(const error_entry &e)
{
    return {{"code", fmt::format("SP{:04}", e.number)},
            {"errc", describe(e.code).name},
            {"exit_status", e.exit_status},
            {"retryable", describe(e.code).retryable},
            {"what", e.what},
            {"why", e.why},
            {"fix", e.fix}};
}

json::object object_of(const stat_entry &s)
{
    return {{"where", s.where},
            {"name", s.name},
            {"kind", name_of(s.kind)},
            {"what", s.what},
            {"do", s.cure}};
}

std::string errors_page()
{
    std::string page =
        "<!-- Made by `sp errors --markdown` from include/sp/abi/errors.def. -->\n"
        "# Errors\n\n"
        "Every error of the library and of `sp` has a number that is never used again, and "
        "says what failed, why, "
        "and what to do. `sp errors SP1003` prints one entry. Programs branch on the code; "
        "the exit status is that "
        "of a program that ends by the error.\n\n"
        "| Number | Code | Exit | What | Why | What to do |\n|---|---|---|---|---|---|\n";
    for (const auto &e : error_table)
        page += fmt::format("| SP{:04} | `{}` | {} | {} | {} | {} |\n", e.number,
                            describe(e.code).name, e.exit_status, e.what, e.why, e.fix);
    page += "\n## Codes\n\n| Code | Meaning | Exit | The same call may succeed later "
            "|\n|---|---|---|---|\n";
    for (const auto &code : errc_table)
        page += fmt::format("| `{}` | {} | {} | {} |\n", code.name, code.text, code.exit_status,
                            code.retryable ? "yes" : "no");
    return page;
}

std::string counters_page()
{
    std::string page =
        "<!-- Made by `sp errors --counters --markdown` from include/sp/abi/stats.def. -->\n"
        "# Counters\n\n"
        "Nothing disappears without a counter. `count` is traffic; `pass` was left to the kernel; "
        "`drop` was "
        "discarded; `close` ended a connection; `refuse` kept one from being made. Those of `xdp` "
        "are "
        "counted in "
        "the kernel, per interface, and `sp xdp status -j` shows them; the others are counted by "
        "each "
        "engine.\n";
    string_view where;
    for (const auto &s : stat_table) {
        if (s.where != where)
            page += fmt::format(
                "\n## {}\n\n| Name | Kind | What happened | What to do |\n|---|---|---|---|\n",
                s.where);
        where = s.where;
        page += fmt::format("| `{}` | {} | {} | {} |\n", s.name, name_of(s.kind), s.what, s.cure);
    }
    return page;
}

error nothing_matches(string_view word)
{
    return error::numbered(
        2026, fmt::format("nothing in the catalogue matches \"{}\"", word), "",
        "sp errors lists the errors, sp errors --counters the counters and drop reasons");
}

template <class Table>
auto chosen(const Table &table, string_view word)
{
    std::vector<typename Table::value_type> found;
    std::ranges::copy_if(table, std::back_inserter(found),
                         [&](const auto &entry) { return matches(entry, word); });
    return found;
}

template <class Entries>
json::array array_of(const Entries &entries)
{
    json::array all;
    for (const auto &entry : entries)
        all.emplace_back(object_of(entry));
    return all;
}

int list_errors(const errors_arguments &a, console &out)
{
    const auto found = chosen(error_table, a.word);
    if (found.empty())
        return out.fail(nothing_matches(a.word));
    if (out.json())
        return out.object("sp.errors/1", exit_done, {{"errors", array_of(found)}});
    std::string text;
    if (a.word.empty()) {
        std::vector<row> rows;
        rows.reserve(found.size());
        for (const auto &e : found)
            rows.push_back({fmt::format("SP{:04}", e.number), std::string(describe(e.code).name),
                            std::string(e.what)});
        text = columns(rows);
    } else
        for (const auto &e : found)
            text += described(e);
    return out.print(text) ? exit_done : exit_failed;
}

int list_counters(const errors_arguments &a, console &out)
{
    const auto found = chosen(stat_table, a.word);
    if (found.empty())
        return out.fail(nothing_matches(a.word));
    if (out.json())
        return out.object("sp.counters/1", exit_done, {{"counters", array_of(found)}});
    std::vector<row> rows;
    rows.reserve(found.size());
    for (const auto &s : found)
        rows.push_back({std::string(s.where), std::string(s.name), std::string(name_of(s.kind)),
                        std::string(s.what), "-> " + std::string(s.cure)});
    return out.print(columns(rows)) ? exit_done : exit_failed;
}

} // namespace

int errors(const errors_arguments &a, console &out)
{
    if (a.markdown)
        return out.print(a.counters ? counters_page() : errors_page()) ? exit_done : exit_failed;
    // A drop reason is what people meet next; its name alone shall find it.
    const bool only_a_counter =
        chosen(error_table, a.word).empty() && !chosen(stat_table, a.word).empty();
    return a.counters || only_a_counter ? list_counters(a, out) : list_errors(a, out);
}

int version(console &out)
{
    if (out.json())
        return out.object("sp.version/1", exit_done, {{"version", SP_VERSION}});
    return out.print("sp " SP_VERSION "\n") ? exit_done : exit_failed;
}

} // namespace sp::cli
