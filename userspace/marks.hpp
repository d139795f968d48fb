// SPDX-License-Identifier: BSD-2-Clause
//
// Coverage marks: SP_MARK(name) stands at a branch that is seldom taken, and the simulator counts
// how often a run came by. A branch that no run takes is not proved by any of them. In every other
// build a mark is nothing. Every folder of userspace/ may include this.
#pragma once

#ifdef SP_MARKS

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sp::marks {

enum class mark : std::uint8_t {
#define SP_MARK_NAME(name, text) name,
#include "userspace/marks.def"
};

struct entry {
    std::string_view name, text;
};
inline constexpr std::array table{
#define SP_MARK_NAME(name, text) entry{#name, text},
#include "userspace/marks.def"
};

inline std::array<std::uint64_t, table.size()> hits{}; // of one thread, as the simulator is

} // namespace sp::marks

#define SP_MARK(name) (void)++::sp::marks::hits[static_cast<std::size_t>(::sp::marks::mark::name)]

#else
#define SP_MARK(name) (void)0
#endif
