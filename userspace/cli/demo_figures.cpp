// SPDX-License-Identifier: BSD-2-Clause
//
// See demo_figures.hpp.
#include "userspace/cli/demo_figures.hpp"

#include <algorithm>

namespace sp::cli {

void stopwatch::end_round()
{
    if (round_.empty())
        return;
    std::ranges::sort(round_);
    const auto at = [&](std::size_t percent) {
        return static_cast<double>(round_[(round_.size() - 1) * percent / 100]) / 1000;
    };
    p50_.push_back(at(50));
    p99_.push_back(at(99));
    round_.clear();
}

double stopwatch::median(std::vector<double> values)
{
    if (values.empty())
        return 0;
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::ranges::nth_element(values, middle);
    return *middle;
}

} // namespace sp::cli
