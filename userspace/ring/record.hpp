// SPDX-License-Identifier: BSD-2-Clause
//
// A record of the ring as it stands in memory, 64-byte aligned:
//
//    0  u64 commit   payload bytes : 24 | kind : 8 | position in lines, low half : 32; 0: not there
//    8  u64 tag      for the layer above; the ring carries it and does not look
//   16  payload
//
// 64 bytes, since with 16 two records share a cache line and the reader takes it away under the
// writer: 24 against 51 million records a second. Up to 48 bytes of payload are one line.
#pragma once

#include "userspace/ring/memory.hpp"

#include <cstddef>
#include <cstdint>

namespace sp::ring {

inline constexpr std::size_t record_alignment = cache_line;
inline constexpr std::size_t record_head = 16;
inline constexpr std::size_t records_share = 8; // a record is at most this part of its ring
inline constexpr std::size_t ring_bytes_min = records_share * record_alignment;
inline constexpr std::size_t ring_bytes_max = 16u << 20; // 24 bits hold every length below

enum class kind : std::uint8_t {
    data = 1,
    pad, // fills up the ring's end; no record crosses it
    arena,
    descriptor,
    control,
};

struct tag {
    std::uint32_t id = 0;
    std::uint16_t flags = 0;
    std::uint16_t pipe = 0;

    friend bool operator==(const tag &, const tag &) = default;
};
static_assert(sizeof(tag) == record_head - sizeof(std::uint64_t), "the tag is 8 bytes");

// A commit word, taken apart. `what` may be no value of its type: whoever wrote it is not believed.
struct commit {
    std::uint32_t length;
    std::uint8_t what;
    std::uint32_t line;
};

[[nodiscard]] constexpr std::uint64_t pack(std::size_t length, kind what,
                                           std::uint64_t position) noexcept
{
    return (length & 0xff'ffff) | static_cast<std::uint64_t>(what) << 24 |
           (position / record_alignment) << 32;
}
[[nodiscard]] constexpr commit unpack(std::uint64_t word) noexcept
{
    return {.length = static_cast<std::uint32_t>(word & 0xff'ffff),
            .what = static_cast<std::uint8_t>(word >> 24),
            .line = static_cast<std::uint32_t>(word >> 32)};
}

// Bytes of the ring that a record with a payload of `n` bytes takes.
[[nodiscard]] constexpr std::size_t record_space(std::size_t n) noexcept
{
    return (record_head + n + record_alignment - 1) & ~(record_alignment - 1);
}

static_assert(record_space(48) == cache_line && record_space(49) == 2 * cache_line);
static_assert(ring_bytes_max / records_share <= 0xff'ffff, "lengths fit the commit word");

} // namespace sp::ring
