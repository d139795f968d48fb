// SPDX-License-Identifier: BSD-2-Clause
//
// How rings touch the memory that they share with another process. The rings are templates over
// this, so that a test can run the very same algorithm on a memory that shows every order which the
// language allows; `hardware` is the real one and costs nothing. Words are 8 bytes, in the byte
// order of the machine: both ends are on it.
#pragma once

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace sp::ring {

// A cache line of the processors this runs on, and the distance that keeps two words from each
// other: the prefetcher fetches lines in pairs. Parts of the layout, so they are no measurement of
// the compiler's.
inline constexpr std::size_t cache_line = 64;
inline constexpr std::size_t line_distance = 128;

template <class T>
concept memory =
    requires(std::uint64_t &word, const std::uint64_t &seen, std::byte *to, const std::byte *from) {
        {
            T::template load<std::memory_order_acquire>(seen)
        } noexcept -> std::same_as<std::uint64_t>;
        { T::template store<std::memory_order_release>(word, std::uint64_t{}) } noexcept;
        { T::template fence<std::memory_order_seq_cst>() } noexcept;
        { T::write(to, from, std::size_t{}) } noexcept; // `to` is shared
        { T::read(to, from, std::size_t{}) } noexcept;  // `from` is shared
    };

struct hardware {
    template <std::memory_order Order>
    [[nodiscard]] static std::uint64_t load(const std::uint64_t &word) noexcept
    {
        static_assert(std::atomic_ref<std::uint64_t>::is_always_lock_free);
        // An atomic_ref of what is const comes with C++26. A load writes nothing, also where the
        // page is mapped for reading only.
        return std::atomic_ref(const_cast<std::uint64_t &>(word)).load(Order);
    }
    template <std::memory_order Order>
    static void store(std::uint64_t &word, std::uint64_t value) noexcept
    {
        std::atomic_ref(word).store(value, Order);
    }
    template <std::memory_order Order>
    static void fence() noexcept
    {
        std::atomic_thread_fence(Order);
    }
    // Plain copies: the words before and behind them order them.
    static void write(std::byte *to, const std::byte *from, std::size_t n) noexcept
    {
        if (n > 0)
            std::memcpy(to, from, n);
    }
    static void read(std::byte *to, const std::byte *from, std::size_t n) noexcept
    {
        if (n > 0)
            std::memcpy(to, from, n);
    }
};

static_assert(memory<hardware>);

// The word at a place that is aligned to 8 bytes.
[[nodiscard]] inline std::uint64_t &word_at(std::byte *at) noexcept
{
    return *reinterpret_cast<std::uint64_t *>(at);
}
[[nodiscard]] inline const std::uint64_t &word_at(const std::byte *at) noexcept
{
    return *reinterpret_cast<const std::uint64_t *>(at);
}

} // namespace sp::ring
