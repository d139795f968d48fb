// SPDX-License-Identifier: BSD-2-Clause
//
// How many packets the path between two hosts may hold. By delay: a queue that stands shows in the
// shortest round trip of a whole round, and then the window shrinks by what the queue is over its
// target; else it grows by one a round. On an idle path the window is at its maximum and costs one
// comparison. Losses alone shrink it gently, because links lose at random too.
#pragma once

#include "userspace/link/rtt.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace sp::link {

class congestion {
public:
    using instant = std::chrono::steady_clock::time_point;
    using duration = std::chrono::nanoseconds;

    static constexpr std::uint32_t window_max = 256; // packets
    static constexpr std::uint32_t window_min = 2;
    // Loss at random of rate p settles at about sqrt(1 / (0.15 p)) packets: 26 at 1 %, 5 at 30 %.
    static constexpr std::uint32_t loss_percent = 15;
    static constexpr std::uint32_t window_after_loss_min = 4;
    // A receiver that sleeps takes 17 to 50 us to wake, and a switch port of 1 MB at 10 Gb/s drains
    // in 800 us: what stands above the shortest round trip by more than this is a queue.
    static constexpr duration target = std::chrono::microseconds(500);

    [[nodiscard]] std::uint32_t window() const noexcept { return window_; }

    void on_ack(const round_trip &rtt, duration sample, instant now) noexcept
    {
        round_shortest_ = std::min(round_shortest_, sample);
        if (now < round_ends_)
            return;
        const auto queue = round_shortest_ - rtt.shortest();
        if (queue > target + rtt.shortest()) {
            const auto over = static_cast<std::uint64_t>((queue - target).count());
            const auto whole = static_cast<std::uint64_t>(round_shortest_.count());
            const auto less = static_cast<std::uint32_t>(std::uint64_t{window_} * over / whole / 2);
            window_ = std::max(window_ - std::min(window_, less), window_min);
        } else if (window_ < window_max) {
            ++window_;
        }
        begin_round(rtt, now);
    }

    // Once in a round, however many packets of it were lost.
    void on_loss(const round_trip &rtt, instant now) noexcept
    {
        if (now < loss_round_ends_)
            return;
        loss_round_ends_ = now + rtt.smoothed();
        window_ =
            std::max(window_ - std::max(window_ * loss_percent / 100, 1u), window_after_loss_min);
    }

    // Nothing at all came back.
    void on_timeout() noexcept { window_ = std::max(window_ / 2, window_min); }

private:
    void begin_round(const round_trip &rtt, instant now) noexcept
    {
        round_shortest_ = duration::max();
        round_ends_ = now + rtt.smoothed();
    }

    std::uint32_t window_ = window_max;
    duration round_shortest_ = duration::max();
    instant round_ends_{};
    instant loss_round_ends_{};
};

} // namespace sp::link
