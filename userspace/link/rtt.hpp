// SPDX-License-Identifier: BSD-2-Clause
//
// How long an answer takes: smoothed round trip, its variation (RFC 6298) and the shortest one of
// late, and from them how long to wait before asking and before sending again. Samples come
// only from packets that were sent once (Karn's rule); the caller sees to that.
#pragma once

#include <algorithm>
#include <chrono>

namespace sp::link {

class round_trip {
public:
    using duration = std::chrono::nanoseconds;
    using instant = std::chrono::steady_clock::time_point;

    // A receiver that computes hands its acknowledgements to a helper thread, which takes over
    // after a millisecond and may wait for a scheduler slice of 4 ms: below 10 ms a time-out would
    // fire for nothing. Losses are found long before, by the packets behind the gap or by a
    // question.
    static constexpr duration timeout_min = std::chrono::milliseconds(10);
    static constexpr duration timeout_max = std::chrono::milliseconds(500);
    static constexpr duration timeout_first = std::chrono::milliseconds(20); // nothing measured yet
    // A path that stood still leaves samples of seconds behind, and must not be waited for as long.
    static constexpr duration timeout_first_max = std::chrono::seconds(1);
    static constexpr duration question_min = std::chrono::milliseconds(1);

    // The shortest is that of the last 10 to 20 s: a path may become longer for good.
    static constexpr duration memory = std::chrono::seconds(10);

    void sample(duration d, instant now) noexcept
    {
        d = std::max(d, duration(1));
        if (now >= forgets_at_) {
            shortest_before_ = shortest_;
            shortest_ = duration::max();
            forgets_at_ = now + memory;
        }
        shortest_ = std::min(shortest_, d);
        if (smoothed_ == duration(0)) {
            smoothed_ = d;
            variation_ = d / 2;
            return;
        }
        const auto off = d > smoothed_ ? d - smoothed_ : smoothed_ - d;
        variation_ += (off - variation_) / 4;
        smoothed_ += (d - smoothed_) / 8;
    }

    [[nodiscard]] bool known() const noexcept { return smoothed_ != duration(0); }
    [[nodiscard]] duration smoothed() const noexcept { return smoothed_; }
    // 0 while nothing is known.
    [[nodiscard]] duration shortest() const noexcept
    {
        return known() ? std::min(shortest_, shortest_before_) : duration(0);
    }

    // Before a packet that others have overtaken counts as lost.
    [[nodiscard]] duration overtaken() const noexcept
    {
        return smoothed_ + std::max<duration>(smoothed_ / 4, std::chrono::microseconds(20));
    }
    // Before an unconfirmed tail is asked about.
    [[nodiscard]] duration question() const noexcept
    {
        return std::max(2 * smoothed_, question_min);
    }
    // Before something is sent again without a word from the peer, the n-th time in a row.
    [[nodiscard]] duration timeout(unsigned n) const noexcept
    {
        const auto first =
            known() ? std::clamp(smoothed_ + 4 * variation_, timeout_min, timeout_first_max)
                    : timeout_first;
        return std::min(first * (1 << std::min(n, 8u)), std::max(first, timeout_max));
    }

private:
    duration smoothed_{0};
    duration variation_{0};
    duration shortest_ = duration::max(), shortest_before_ = duration::max();
    instant forgets_at_{};
};

} // namespace sp::link
