// SPDX-License-Identifier: BSD-2-Clause
//
// Deadlines of many things in one heap. Lazy: a thing whose deadline moves later is not touched
// here; its entry fires early, the owner sees that nothing is due yet and schedules it again. Only
// an earlier deadline makes a new entry. Names are stale-proof: an entry of a thing that is gone
// finds nothing.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

namespace sp::core {

using instant = std::chrono::steady_clock::time_point;

enum class timer_kind : std::uint8_t { pipe, endpoint, socket };

struct timer {
    instant at;
    timer_kind kind;
    std::uint32_t id;
};

class timer_heap {
public:
    void add(const timer &t)
    {
        heap_.push_back(t);
        std::ranges::push_heap(heap_, later);
    }

    [[nodiscard]] instant next() const noexcept
    {
        return heap_.empty() ? instant::max() : heap_.front().at;
    }

    // The earliest entry that is due, taken out.
    [[nodiscard]] std::optional<timer> take(instant now) noexcept
    {
        if (heap_.empty() || heap_.front().at > now)
            return std::nullopt;
        std::ranges::pop_heap(heap_, later);
        const auto t = heap_.back();
        heap_.pop_back();
        return t;
    }

private:
    static bool later(const timer &a, const timer &b) noexcept { return a.at > b.at; }

    std::vector<timer> heap_;
};

} // namespace sp::core
