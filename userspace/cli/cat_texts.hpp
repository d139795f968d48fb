// SPDX-License-Identifier: BSD-2-Clause
//
// What `sp cat` says: its help, and failures in nngcat's words. Pure functions.
#pragma once

#include "sp/error.hpp"
#include "userspace/cli/cat_options.hpp"

#include <string>
#include <string_view>

namespace sp::cli {

struct failure {
    std::string text; // as nngcat has it; empty: nothing is to be said
    int status;
    std::string why{}, fix{};
};

// "DOING: what nngcat calls that error".
[[nodiscard]] failure failed(std::string_view doing, const error &e);
// Of connecting; what is wrong with the URL itself, nngcat finds before it dials or listens.
[[nodiscard]] failure failed(const cat_endpoint &at, const error &e);

// Ours has more: the exit codes and examples.
enum class likeness : std::uint8_t { ours, nngcat };
[[nodiscard]] std::string cat_help(std::string_view called, likeness as);

} // namespace sp::cli
