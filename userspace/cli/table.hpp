// SPDX-License-Identifier: BSD-2-Clause
//
// Rows in columns: each column is as wide as its widest cell, two spaces between columns, none at
// the end of a line.
#pragma once

#include <string>
#include <vector>

namespace sp::cli {

using row = std::vector<std::string>;

[[nodiscard]] std::string columns(const std::vector<row> &rows);

} // namespace sp::cli
