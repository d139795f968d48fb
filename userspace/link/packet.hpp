// SPDX-License-Identifier: BSD-2-Clause
//
// Reading and writing packets of abi/wire.h as values: byte order, records and the trailer. Pure
// functions over spans that the caller owns; nothing here knows a connection. What arrives is
// copied out field by field, never used in place.
#pragma once

#include "sp/abi/wire.h"

#include "userspace/plants.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

namespace sp::link {

// Integers of the wire, both ways (a byte swap is its own inverse).
[[nodiscard]] constexpr std::uint16_t be16(std::uint16_t x) noexcept
{
    return SP_BE16(x);
}
[[nodiscard]] constexpr std::uint32_t be32(std::uint32_t x) noexcept
{
    return SP_BE32(x);
}
[[nodiscard]] constexpr std::uint64_t be64(std::uint64_t x) noexcept
{
    return SP_BE64(x);
}

// Serial arithmetic over 32 bits: is `a` before `b`? The only way two sequence numbers are
// compared.
[[nodiscard]] constexpr bool before(std::uint32_t a, std::uint32_t b) noexcept
{
    if !consteval {
        if (SP_PLANTED(link_plain_less))
            return a < b;
    }
    return static_cast<std::int32_t>(a - b) < 0;
}

// CRC-32C (Castagnoli), as in RFC 3720, appendix B.4.
[[nodiscard]] std::uint32_t crc32c(std::span<const std::byte> bytes) noexcept;

// Fills the trailer over everything before it. `packet` spans header to trailer.
void finish(std::span<std::byte> packet) noexcept;

// Is the trailer right? Plaintext only: checksum, then twelve zeros.
[[nodiscard]] bool intact(std::span<const std::byte> packet) noexcept;

// Copies a fixed layout out of the front of a packet that was checked to hold it.
template <class T>
[[nodiscard]] T read(std::span<const std::byte> packet) noexcept
{
    T value;
    std::memcpy(&value, packet.data(), sizeof value);
    return value;
}

// A record of a packet: what stands in front of it in host order, and its payload.
struct record {
    std::uint8_t flags;
    std::uint8_t code;
    std::span<const std::byte> payload;
    std::uint32_t message = 0; // of a part: number of its message
    std::uint32_t at = 0;      // of a part: bytes of the whole (FIRST), or before this part

    [[nodiscard]] bool control() const noexcept { return (flags & SP_RECORD_CTRL) != 0; }
    [[nodiscard]] bool first() const noexcept { return (flags & SP_RECORD_FIRST) != 0; }
    [[nodiscard]] bool last() const noexcept { return (flags & SP_RECORD_LAST) != 0; }
};

// What stands between header and trailer.
[[nodiscard]] inline std::span<const std::byte>
contents_of(std::span<const std::byte> packet) noexcept
{
    return packet.subspan(SP_HEADER_SIZE, packet.size() - SP_OVERHEAD);
}

// Walks the records between header and trailer. A malformed rest ends the walk and makes bad()
// true: records must fill the space exactly, with zero padding to four bytes.
class record_reader {
public:
    // Of the contents of a packet, or of what is left of them.
    explicit record_reader(std::span<const std::byte> contents) noexcept : rest_(contents) {}

    [[nodiscard]] std::optional<record> next() noexcept;
    [[nodiscard]] bool bad() const noexcept { return bad_; }
    [[nodiscard]] std::size_t left() const noexcept { return rest_.size(); } // bytes not walked yet

private:
    std::span<const std::byte> rest_;
    bool bad_ = false;
};

// Bytes that a whole message of `n` bytes takes in a packet, record head and padding included.
[[nodiscard]] constexpr std::size_t record_space(std::size_t n) noexcept
{
    return SP_RECORD_SIZE + ((n + 3) & ~std::size_t{3});
}

// The largest message that fits a packet of `packet_max` bytes unsplit.
[[nodiscard]] constexpr std::size_t message_space(std::size_t packet_max) noexcept
{
    return packet_max < SP_OVERHEAD + SP_RECORD_SIZE
               ? 0
               : (packet_max - SP_OVERHEAD - SP_RECORD_SIZE) & ~std::size_t{3};
}

// Writes one record that is whole or for the link at the front of `room`, which must hold
// record_space(head + body). Returns the bytes taken.
std::size_t write_record(std::span<std::byte> room, std::uint8_t flags, std::uint8_t code,
                         std::span<const std::byte> head, std::span<const std::byte> body) noexcept;

} // namespace sp::link
