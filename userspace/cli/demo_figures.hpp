// SPDX-License-Identifier: BSD-2-Clause
//
// Round-trip times in rounds. The machine is noisy, so the percentiles of each round are taken
// apart and the medians of them are told: one disturbed round moves nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

namespace sp::cli {

struct figures {
    double p50_us = 0, p99_us = 0;
    std::uint64_t asked = 0, answered = 0;
    std::uint64_t via_xdp = 0; // messages of this side that came through AF_XDP
};

class stopwatch {
public:
    explicit stopwatch(std::size_t round_size) { round_.reserve(round_size); }

    void add(std::chrono::nanoseconds took) { round_.push_back(took.count()); }
    void end_round();
    [[nodiscard]] double p50_us() const { return median(p50_); }
    [[nodiscard]] double p99_us() const { return median(p99_); }

private:
    [[nodiscard]] static double median(std::vector<double> values);

    std::vector<std::int64_t> round_;
    std::vector<double> p50_, p99_;
};

} // namespace sp::cli
