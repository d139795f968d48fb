// SPDX-License-Identifier: BSD-2-Clause
//
// `sp cat`: nngcat's command line, output and messages over every URL of sp. It dials as nngcat
// does: the first connection is waited for, and its failure ends the program.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace sp::cli {

// `called`: "sp cat", "spcat" or "nngcat". By the last name every failure is exit status 1 and
// nothing follows the line that nngcat prints. Returns the exit status.
[[nodiscard]] int cat(std::string_view called, std::span<const std::string> words);

} // namespace sp::cli
