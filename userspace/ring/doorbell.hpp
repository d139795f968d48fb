// SPDX-License-Identifier: BSD-2-Clause
//
// Who sleeps says so, and who has something for it looks. The flag is a word in the sleeper's
// memory, on a line of its own: while both are busy nobody writes it, so that looking at it costs
// the other side nothing. How one sleeps and wakes is the business of a transport.
//
//   sleeper: announce_sleep(flag); look at the ring once more; sleep unless there is something
//   waker:   write to the ring; once per flush, wake it if must_wake(flag)
//
// Each side writes its own word and then reads the other's. Between the two stands a full fence on
// both sides: without it both may read what was there before, and the sleeper sleeps for ever.
#pragma once

#include "userspace/ring/memory.hpp"

namespace sp::ring {

template <memory Memory = hardware>
void announce_sleep(std::uint64_t &flag) noexcept
{
    Memory::template store<std::memory_order_relaxed>(flag, 1);
    Memory::template fence<std::memory_order_seq_cst>(); // pairs with must_wake()
}

template <memory Memory = hardware>
void announce_awake(std::uint64_t &flag) noexcept
{
    // Relaxed: seen late it costs one wake-up that was not needed.
    Memory::template store<std::memory_order_relaxed>(flag, 0);
}

template <memory Memory = hardware>
[[nodiscard]] bool must_wake(const std::uint64_t &flag) noexcept
{
    Memory::template fence<std::memory_order_seq_cst>(); // pairs with announce_sleep()
    return Memory::template load<std::memory_order_relaxed>(flag) != 0;
}

} // namespace sp::ring
