// SPDX-License-Identifier: BSD-2-Clause
//
// See table.hpp.
#include "userspace/cli/table.hpp"

#include <algorithm>

namespace sp::cli {

std::string columns(const std::vector<row> &rows)
{
    std::vector<std::size_t> widths;
    for (const auto &cells : rows) {
        widths.resize(std::max(widths.size(), cells.size()));
        for (std::size_t i = 0; i < cells.size(); ++i)
            widths[i] = std::max(widths[i], cells[i].size());
    }
    std::string text;
    for (const auto &cells : rows) {
        std::string line;
        for (std::size_t i = 0; i < cells.size(); ++i) {
            line += cells[i];
            line.append(widths[i] + 2 - cells[i].size(), ' ');
        }
        line.erase(line.find_last_not_of(' ') + 1);
        (text += line) += '\n';
    }
    return text;
}

} // namespace sp::cli
