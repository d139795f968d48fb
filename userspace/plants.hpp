// SPDX-License-Identifier: BSD-2-Clause
//
// Planted bugs, which prove that the simulator would find them: SP_PLANTED(name) is the constant
// false in everything that ships. In the one build that defines SP_PLANTS a switch of the program
// turns one of them on. Every folder of userspace/ may include this.
#pragma once

#ifdef SP_PLANTS

#include <array>
#include <cstdint>
#include <string_view>

namespace sp::plants {

enum class plant : std::uint8_t {
    none,
#define SP_PLANT(name, text) name,
#include "userspace/plants.def"
};

struct entry {
    std::string_view name, text;
};
inline constexpr std::array table{
    entry{"none", "nothing is planted"},
#define SP_PLANT(name, text) entry{#name, text},
#include "userspace/plants.def"
};

inline plant planted = plant::none;

} // namespace sp::plants

#define SP_PLANTED(name) (::sp::plants::planted == ::sp::plants::plant::name)

#else
#define SP_PLANTED(name) false
#endif
