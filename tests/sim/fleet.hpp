// SPDX-License-Identifier: BSD-2-Clause
//
// Many seeds, on all cores: one process for each, so that a run that ends its program is a finding
// like any other. What they count is in memory that all of them share.
#pragma once

#include "tests/sim/judge.hpp"
#include "tests/sim/world.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace sp::sim {

struct fleet_options {
    std::uint64_t from = 1, seeds = 1000;
    unsigned jobs = 1;
    bool audit = true; // 1 seed of 100 runs twice, and 1 from another sequence number
    bool silent = false;
};

struct fleet_failure {
    std::uint64_t seed = 0;
    violation what{};
    bool died = false; // the program ended
};

inline constexpr std::size_t marks_max = 64;

struct fleet_result {
    std::uint64_t seeds = 0, events = 0, messages = 0, twice = 0;
    nanoseconds passed{0};
    std::uint64_t hash = 0; // of all runs, in whatever order they ended
    rule_counts looks{};
    befallen befell{};
    std::array<std::uint64_t, marks_max> marks{};
    std::optional<fleet_failure> failure{}; // of the smallest seed that failed
};

[[nodiscard]] fleet_result run_fleet(const fleet_options &options);

} // namespace sp::sim
