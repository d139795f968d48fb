// SPDX-License-Identifier: BSD-2-Clause
//
// The bytes that streams share with NNG, mangos and nanomsg: the hello that each side sends first,
// and the head of a frame. Pure functions over bytes; a stream has no boundaries, so each says when
// it has too few of them.
//
//   hello   00 'S' 'P' 00 | protocol, big-endian u16 | 00 00
//   ipc     01 | length, big-endian u64 | header and body of `length` bytes     (abstract:// too)
//   tcp          length, big-endian u64 | header and body of `length` bytes
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace sp::stream {

inline constexpr std::size_t hello_bytes = 8;
inline constexpr std::size_t head_bytes_max = 9;

using hello = std::array<std::byte, hello_bytes>;

[[nodiscard]] hello make_hello(std::uint16_t protocol) noexcept;

enum class verdict : std::uint8_t { incomplete, good, bad };

// Bad as soon as one byte cannot be part of a hello. `protocol` is set when it is good.
struct hello_read {
    verdict what = verdict::incomplete;
    std::uint16_t protocol = 0;
};
[[nodiscard]] hello_read read_hello(std::span<const std::byte> bytes) noexcept;

enum class framing : std::uint8_t { ipc, tcp };

[[nodiscard]] constexpr std::size_t head_bytes(framing f) noexcept
{
    return f == framing::ipc ? 9 : 8;
}

// Bad: a type other than 1, or a length of 2^60 and more. The type byte is judged as soon as it is
// there.
struct head_read {
    verdict what = verdict::incomplete;
    std::uint64_t length = 0; // of header and body together
};
[[nodiscard]] head_read read_head(std::span<const std::byte> bytes, framing f) noexcept;

struct head {
    std::array<std::byte, head_bytes_max> bytes{};
    std::size_t size = 0;

    [[nodiscard]] std::span<const std::byte> view() const noexcept
    {
        return std::span(bytes).first(size);
    }
};
[[nodiscard]] head make_head(std::uint64_t length, framing f) noexcept;

} // namespace sp::stream
