// SPDX-License-Identifier: BSD-2-Clause
//
// Words to values and back: durations, sizes, counts, and the nearest known word to a mistyped
// one. Pure functions; what is not understood is an empty optional, and the caller says what was
// expected.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace sp::cli {

// 250us, 100ms, 2s, 5m, 1h; fractions are allowed (1.5s), a bare number is not, except 0.
[[nodiscard]] std::optional<std::chrono::nanoseconds> parse_duration(std::string_view word);

// 4096, 64KiB, 1MiB, 2GiB, and 64k, 1M, 2G for the same.
[[nodiscard]] std::optional<std::uint64_t> parse_size(std::string_view word);

[[nodiscard]] std::optional<std::uint64_t> parse_count(std::string_view word);

// Well-formed UTF-8 without control characters other than tab, newline and carriage return.
[[nodiscard]] bool is_text(std::string_view body);

// 100000 as "100 000".
[[nodiscard]] std::string grouped(std::uint64_t number);

// The word of `known` that differs from `word` by at most a third of its letters; empty when none
// is that near.
[[nodiscard]] std::string_view nearest(std::string_view word,
                                       std::span<const std::string_view> known);

} // namespace sp::cli
