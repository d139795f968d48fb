// SPDX-License-Identifier: BSD-2-Clause
//
// One run, from a seed or from a tape, and what became of it; and a tape as a file.
#pragma once

#include "tests/sim/choices.hpp"
#include "tests/sim/judge.hpp"
#include "tests/sim/world.hpp"

#include <cstdint>
#include <deque>
#include <expected>
#include <optional>
#include <string>

namespace sp::sim {

// Whether the engine's sequence numbers can begin anywhere.
template <class Config>
inline constexpr bool begins_anywhere = requires(Config c) { c.first_seq; };
inline constexpr bool wraps = begins_anywhere<core::engine_config>;

struct run_options {
    std::uint64_t until = ~std::uint64_t{0}; // events
    bool trace = false;
    std::optional<std::uint32_t> first_seq{}; // instead of the one that was drawn
};

struct outcome {
    std::optional<violation> failure{};
    std::uint64_t hash = 0, shape = 0, events = 0;
    nanoseconds passed{0};
    std::uint64_t messages = 0;
    rule_counts looks{};
    befallen befell{};
    std::deque<std::string> lines{};
};

[[nodiscard]] outcome run(choices &from, const run_options &options = {});
[[nodiscard]] outcome run_seed(std::uint64_t seed, const run_options &options = {});
[[nodiscard]] outcome run_tape(const tape &recorded, const run_options &options = {});

// The tape of what a seed chooses.
[[nodiscard]] tape tape_of(std::uint64_t seed);
// What a tape or a seed configures, in one line.
[[nodiscard]] std::string configuration_of(choices from);

// A tape as text: a line for each stream that is not empty, its number and its choices.
[[nodiscard]] std::string to_text(const tape &t, const std::string &comment);
[[nodiscard]] std::expected<tape, std::string> read_tape(const std::string &path);

} // namespace sp::sim
