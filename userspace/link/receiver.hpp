// SPDX-License-Identifier: BSD-2-Clause
//
// The receiving half of a connection: contents of packets come in any order, more than once or in
// slices, and are handed on once and in order. A packet in its turn is lent as it lies in the
// transport's memory; only what comes early, or finds no room further up, is copied and kept. What
// is kept is bounded by the credit: never more than `window` packets ahead of what was consumed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace sp::link {

class receiver {
public:
    static constexpr std::uint32_t window_max = 256;
    static constexpr std::size_t wide_bytes = 32; // a bit for each of 256 packets

    enum class placed : std::uint8_t {
        ready,     // there is something to take
        early,     // kept until what is missing has come
        partial,   // a slice; others are missing
        duplicate, // it was here before
        beyond,    // no credit was given for it: the peer breaks the rules
        malformed, // a slice that does not fit
    };

    // `first`: the sequence number that both ends begin with. `window`: packets of credit, from 1
    // to window_max.
    receiver(std::uint32_t first, std::uint16_t window) noexcept;

    // The contents of packet `seq`. They must stay valid until keep() or finished().
    [[nodiscard]] placed place(std::uint32_t seq, std::span<const std::byte> contents) noexcept;
    // Bytes [offset, offset + slice.size()) of contents that are `total` long.
    [[nodiscard]] placed place_slice(std::uint32_t seq, std::size_t offset, std::size_t total,
                                     std::span<const std::byte> slice) noexcept;

    // What has not been taken of the packet whose turn it is; nothing when it has not come.
    [[nodiscard]] std::optional<std::span<const std::byte>> front() const noexcept;
    void took(std::size_t bytes) noexcept { cursor_ += bytes; } // of the front
    void finished() noexcept;                                   // all of the front was taken
    void keep() noexcept; // the lent packet goes away: copies what was not taken

    // Resources of `n` packets are free again: the limit moves.
    void consumed(std::uint32_t n) noexcept;

    [[nodiscard]] std::uint32_t expected() const noexcept { return expected_; }
    [[nodiscard]] std::uint32_t limit() const noexcept { return consumed_ + window_; }
    [[nodiscard]] std::uint32_t window() const noexcept { return window_; }
    // Bit i: packet expected() + 1 + i is here.
    [[nodiscard]] std::uint32_t sack() const noexcept;
    [[nodiscard]] bool needs_wide() const noexcept; // sack() does not tell all
    [[nodiscard]] std::array<std::byte, wide_bytes> wide() const noexcept;
    [[nodiscard]] bool gaps() const noexcept { return early_ > 0; }

    // Gives back memory that is not needed now.
    void shrink() noexcept;

private:
    struct slot {
        std::vector<std::byte> bytes{};
        std::vector<std::uint64_t> pieces{}; // of slices: a bit for each four bytes that are here
        std::size_t missing = 0;             // of slices: so many of these are not
        bool here = false;
    };

    [[nodiscard]] slot &at(std::uint32_t seq) noexcept;
    [[nodiscard]] bool is_here(std::uint32_t seq) const noexcept;
    [[nodiscard]] placed came(std::uint32_t seq) noexcept;
    void absorb() noexcept;

    std::uint16_t window_;
    std::uint32_t expected_; // all before it came
    std::uint32_t taken_;    // all before it was taken
    std::uint32_t consumed_; // first plus the packets whose resources are free
    std::uint32_t early_ = 0;
    std::size_t cursor_ = 0; // bytes taken of packet taken_
    std::optional<std::span<const std::byte>> lent_;
    std::vector<slot> slots_; // by seq; none until something has to be kept
};

} // namespace sp::link
