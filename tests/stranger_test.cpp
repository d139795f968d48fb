// SPDX-License-Identifier: BSD-2-Clause
//
// Reasons as they come: every number of this version has words of its own, any other is none.
#include "userspace/link/stranger.hpp"

#include <gtest/gtest.h>
#include <set>

namespace {

TEST(reason, of_this_version_has_words_of_its_own_and_any_other_is_none)
{
    std::set<std::string_view> words;
    for (unsigned wire = SP_REASON_NONE; wire <= SP_REASON_STALE; ++wire) {
        const auto why = sp::link::reason_of(static_cast<std::uint16_t>(wire));
        EXPECT_EQ(static_cast<unsigned>(why), wire);
        EXPECT_TRUE(words.insert(sp::link::describe(why)).second) << wire;
    }
    EXPECT_FALSE(words.contains("unknown reason"));
    for (const unsigned wire : {SP_REASON_STALE + 1u, 16u, 255u, 0x8000u, 0xffffu})
        EXPECT_EQ(sp::link::reason_of(static_cast<std::uint16_t>(wire)), SP_REASON_NONE) << wire;
}

} // namespace
