// SPDX-License-Identifier: BSD-2-Clause
//
// What the demo has seen and what it means: the figures as lines for people or as JSON for
// programs, the proof of the way that the messages took, and the verdict. Values in, values out;
// printing is the caller's.
#pragma once

#include "sp/error.hpp"
#include "userspace/cli/demo_actors.hpp"
#include "userspace/cli/json.hpp"

#include <array>
#include <string>
#include <string_view>

namespace sp::cli {

// One exchange as both sides saw it.
struct phase {
    figures ours, theirs;
    std::uint64_t served_via_xdp = 0;
    std::array<xdp_proof, 2> proof;
};

// One run of both processes.
struct story {
    phase spinning, standard;
    std::array<xdp_proof, 2> attached{};
    unsigned attached_count = 0;

    phase &of(manner how) { return how == manner::spinning ? spinning : standard; }
};

[[nodiscard]] std::string_view name_of(manner how) noexcept;

[[nodiscard]] std::string figures_line(std::string_view word, std::string_view name,
                                       const figures &f, std::string_view remark = {});
[[nodiscard]] double times_faster(const phase &p) noexcept; // than TCP, at p50

[[nodiscard]] std::string comparison_of(const phase &p);

// Three lines: steered, passed and dropped by reason, unknown to the kernel and lost. The last has
// no newline.
[[nodiscard]] std::string proof_of(const story &s);

// An error when a message was lost or took another way than XDP.
[[nodiscard]] result<void> judge(const story &s);

[[nodiscard]] json::object object_of(const story &s);

} // namespace sp::cli
