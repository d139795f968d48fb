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

// What both sides have told of the four use cases.
class use_cases {
public:
    void hear(unsigned side, const use_case &told);
    [[nodiscard]] bool whole(use_case::kind what) const noexcept; // both sides have told it
    [[nodiscard]] std::uint64_t received_by(unsigned side) const noexcept;
    [[nodiscard]] std::string line_of(use_case::kind what, std::string_view way) const;

    // An error when something was lost, came twice or came another way, and when nobody was too
    // slow or refused, as one was to be.
    [[nodiscard]] result<void> judge() const;
    [[nodiscard]] json::object object() const;

private:
    struct both {
        std::array<use_case, 2> side;
        std::array<bool, 2> told{};

        [[nodiscard]] std::uint64_t sum(std::uint64_t use_case::*figure) const noexcept
        {
            return side[0].*figure + side[1].*figure;
        }
        [[nodiscard]] std::uint64_t lost() const noexcept;
    };
    [[nodiscard]] const both &of(use_case::kind what) const noexcept
    {
        return all_[static_cast<std::size_t>(what)];
    }

    std::array<both, 4> all_;
};

// One run of both processes.
struct story {
    phase spinning, standard;
    std::array<xdp_proof, 2> attached{};
    unsigned attached_count = 0;
    use_cases uses;
    std::array<xdp_proof, 2> use_proof{};

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
