// SPDX-License-Identifier: BSD-2-Clause
//
// See text.hpp.
#include "userspace/cli/text.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

namespace sp::cli {
namespace {

using std::string_view;

// Splits "1.5ms" into its number and its unit.
std::optional<std::pair<double, string_view>> number_and_unit(string_view word)
{
    double number = 0;
    const auto *end = word.data() + word.size();
    const auto [rest, bad] = std::from_chars(word.data(), end, number, std::chars_format::fixed);
    if (bad != std::errc{} || number < 0)
        return std::nullopt;
    return std::pair(number, string_view(rest, static_cast<std::size_t>(end - rest)));
}

// The length of the well-formed UTF-8 sequence that begins `text`, 0 when it is malformed.
std::size_t sequence_length(string_view text)
{
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const auto first = byte(0);
    if (first < 0x80)
        return 1;
    const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || text.size() < length)
        return 0;
    for (std::size_t i = 1; i < length; ++i)
        if ((byte(i) & 0xc0) != 0x80)
            return 0;
    const auto second = byte(1);
    const bool overlong = (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90);
    const bool outside = (first == 0xed && second > 0x9f) || (first == 0xf4 && second > 0x8f);
    return overlong || outside ? 0 : length;
}

// Letters to change, insert, leave out or swap with their neighbour.
std::size_t distance(string_view a, string_view b)
{
    std::vector<std::size_t> before(b.size() + 1), row(b.size() + 1), next(b.size() + 1);
    std::iota(row.begin(), row.end(), 0uz);
    for (std::size_t i = 1; i <= a.size(); ++i) {
        next[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            next[j] = std::min(
                {row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] == b[j - 1] ? 0uz : 1uz)});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                next[j] = std::min(next[j], before[j - 2] + 1);
        }
        std::swap(before, row);
        std::swap(row, next);
    }
    return row[b.size()];
}

} // namespace

std::optional<std::chrono::nanoseconds> parse_duration(string_view word)
{
    constexpr std::array<std::pair<string_view, double>, 6> units{
        {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}}};
    const auto parts = number_and_unit(word);
    if (!parts)
        return std::nullopt;
    if (parts->first == 0 && parts->second.empty())
        return std::chrono::nanoseconds(0);
    const auto unit =
        std::ranges::find(units, parts->second, &std::pair<string_view, double>::first);
    if (unit == units.end())
        return std::nullopt;
    const double count = std::round(parts->first * unit->second);
    if (count >= static_cast<double>(std::numeric_limits<std::int64_t>::max()))
        return std::nullopt;
    return std::chrono::nanoseconds(static_cast<std::int64_t>(count));
}

std::optional<std::uint64_t> parse_size(string_view word)
{
    constexpr std::array<std::pair<string_view, unsigned>, 8> units{{{"", 0},
                                                                     {"B", 0},
                                                                     {"KiB", 10},
                                                                     {"k", 10},
                                                                     {"MiB", 20},
                                                                     {"M", 20},
                                                                     {"GiB", 30},
                                                                     {"G", 30}}};
    const auto parts = number_and_unit(word);
    if (!parts)
        return std::nullopt;
    const auto unit =
        std::ranges::find(units, parts->second, &std::pair<string_view, unsigned>::first);
    if (unit == units.end())
        return std::nullopt;
    const double bytes = std::ldexp(parts->first, static_cast<int>(unit->second));
    if (bytes != std::floor(bytes) || bytes > 0x1p53) // beyond it a double no longer counts bytes
        return std::nullopt;
    return static_cast<std::uint64_t>(bytes);
}

std::optional<std::uint64_t> parse_count(string_view word)
{
    std::uint64_t count = 0;
    const auto *end = word.data() + word.size();
    const auto [rest, bad] = std::from_chars(word.data(), end, count);
    return bad == std::errc{} && rest == end ? std::optional(count) : std::nullopt;
}

bool is_text(string_view body)
{
    while (!body.empty()) {
        const auto c = static_cast<unsigned char>(body.front());
        if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f)
            return false;
        const auto length = sequence_length(body);
        if (length == 0)
            return false;
        body.remove_prefix(length);
    }
    return true;
}

std::string grouped(std::uint64_t number)
{
    auto digits = std::to_string(number);
    for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3)
        digits.insert(static_cast<std::size_t>(at), 1, ' ');
    return digits;
}

string_view nearest(string_view word, std::span<const string_view> known)
{
    string_view best;
    std::size_t allowed = std::max(1uz, word.size() / 3);
    for (const auto candidate : known) {
        const auto d = distance(word, candidate);
        if (d < allowed || (d == allowed && best.empty())) {
            best = candidate;
            allowed = d;
        }
    }
    return best;
}

} // namespace sp::cli
