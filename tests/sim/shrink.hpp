// SPDX-License-Identifier: BSD-2-Clause
//
// A failing run made smaller: choices are cut off, set to 0 and taken out as long as the same
// predicate fails. What is left is a tape short enough to be read.
#pragma once

#include "tests/sim/choices.hpp"
#include "tests/sim/judge.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace sp::sim {

// What a run of a tape ends with, in a process of its own: a tape may end the program.
struct verdict {
    std::optional<rule> broken{};
    std::string detail{};
    std::uint64_t events = 0;
};
[[nodiscard]] verdict try_tape(const tape &t, std::uint64_t until = ~std::uint64_t{0}); // events

// The tape of a seed whose run may end its program.
[[nodiscard]] tape record(std::uint64_t seed);

struct shrunk {
    tape smallest{};
    verdict last{};
    std::uint64_t events_before = 0, choices_before = 0, choices_after = 0, tries = 0;
};
[[nodiscard]] shrunk shrink(const tape &from, std::chrono::seconds at_most);

} // namespace sp::sim
