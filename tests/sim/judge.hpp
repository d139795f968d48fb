// SPDX-License-Identifier: BSD-2-Clause
//
// Who says whether a run was right. Each predicate of invariants.def is a function here: it counts
// the look, and the first one that does not hold is kept with its words. Whoever drives the run
// looks at failed() after every event; nothing throws, since much of this is called from inside the
// engine.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace sp::sim {

enum class rule : std::uint8_t {
#define SP_RULE(id, name, text) name,
#include "tests/sim/invariants.def"
};

struct rule_entry {
    std::string_view id, name, text;
};
inline constexpr std::array rule_table{
#define SP_RULE(id, name, text) rule_entry{#id, #name, text},
#include "tests/sim/invariants.def"
};

using rule_counts = std::array<std::uint64_t, rule_table.size()>;

struct violation {
    rule which{};
    std::string detail;
    std::uint64_t event = 0;
    std::chrono::nanoseconds at{};
};

class judge {
public:
#define SP_RULE(id, name, text)                                                                    \
    template <class Detail>                                                                        \
    void name(bool holds, Detail &&detail)                                                         \
    {                                                                                              \
        look(rule::name, holds, std::forward<Detail>(detail));                                     \
    }
#include "tests/sim/invariants.def"

    // For predicates that are chosen by the pattern.
    template <class Detail>
    void look(rule which, bool holds, Detail &&detail)
    {
        ++counts_[static_cast<std::size_t>(which)];
        if (!holds && !failure_)
            failure_ = violation{which, detail(), events, since_start};
    }

    [[nodiscard]] bool failed() const noexcept { return failure_.has_value(); }
    [[nodiscard]] const std::optional<violation> &failure() const noexcept { return failure_; }
    [[nodiscard]] const rule_counts &counts() const noexcept { return counts_; }

    // The latest lines of what happens, for whoever asked for them.
    template <class Line>
    void trace(Line &&line)
    {
        if (!tracing)
            return;
        if (lines_.size() == traced_max)
            lines_.pop_front();
        std::array<char, 48> when{};
        std::snprintf(when.data(), when.size(), "%8llu %14.6f ms  ",
                      static_cast<unsigned long long>(events),
                      static_cast<double>(since_start.count()) / 1e6);
        lines_.push_back(when.data() + line());
    }
    [[nodiscard]] const std::deque<std::string> &lines() const noexcept { return lines_; }

    bool tracing = false;
    std::uint64_t events = 0;
    std::chrono::nanoseconds since_start{};

private:
    static constexpr std::size_t traced_max = 100'000;

    std::optional<violation> failure_;
    rule_counts counts_{};
    std::deque<std::string> lines_;
};

} // namespace sp::sim
