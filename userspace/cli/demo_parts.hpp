// SPDX-License-Identifier: BSD-2-Clause
//
// What the two processes of the demo do: one asks, the other answers, first through sp, then
// through TCP, in turns, so that both meet the same noise; then both play the use cases. Nothing
// here prints; all goes to the parent as reports.
#pragma once

#include "userspace/cli/demo_actors.hpp"
#include "userspace/cli/demo_cases.hpp"
#include "userspace/cli/demo_stage.hpp"

#include <string>
#include <vector>

namespace sp::cli {

struct exchange {
    manner how = manner::spinning;
    std::uint64_t messages = 0;
};

struct script {
    addresses at;                 // who listens where; REP at b, 0
    const stage *place = nullptr; // null: both on this host, and no TCP beside it
    std::vector<exchange> exchanges;
};

inline constexpr std::size_t demo_body_size = 64;
inline constexpr std::uint64_t demo_rounds = 5;

[[nodiscard]] part asking(script what);    // on host a
[[nodiscard]] part answering(script what); // on host b

} // namespace sp::cli
