// SPDX-License-Identifier: BSD-2-Clause
//
// A mutex that is nearly always free, in line: two atomic operations for each turn of it, where
// std::mutex takes two calls into the C library besides (60 instructions of the 600 that a message
// through shared memory takes at one end). Who finds it taken sleeps in the kernel. Not fair, not
// recursive. Meets Lockable.
#pragma once

#include <atomic>

namespace sp::inline v1::detail {

class quick_lock {
public:
    [[nodiscard]] bool try_lock() noexcept
    {
        int found = is_free;
        return word_.compare_exchange_strong(found, is_taken, std::memory_order_acquire,
                                             std::memory_order_relaxed);
    }
    void lock() noexcept
    {
        if (try_lock())
            return;
        while (word_.exchange(is_wanted, std::memory_order_acquire) != is_free)
            word_.wait(is_wanted, std::memory_order_relaxed);
    }
    void unlock() noexcept
    {
        if (word_.exchange(is_free, std::memory_order_release) == is_wanted)
            word_.notify_one();
    }

private:
    static constexpr int is_free = 0, is_taken = 1, is_wanted = 2; // wanted: taken, and more wait
    std::atomic<int> word_ = is_free;
};

} // namespace sp::inline v1::detail
