// SPDX-License-Identifier: BSD-2-Clause
//
// The stack of words in front of a request, a survey and their answers: names of pipes pushed by
// the devices on the way, newest first, and the id, whose top bit is set and ends the stack.
//
// The words are counted while they are read, so a stack that is too long is found before anybody
// has looked whether it has an end; only one that is too short for its next word is malformed.
#pragma once

#include "userspace/protocol/types.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace sp::protocol {

inline constexpr std::size_t word_bytes = 4;
inline constexpr std::size_t backtrace_words_max = header_bytes_max / word_bytes;

struct backtrace {
    enum class verdict : std::uint8_t { whole, too_many_words, malformed };

    verdict what = verdict::malformed;
    std::size_t bytes = 0; // of the stack, its end included, when it is whole
};

// At most `words_max` words, the end included.
[[nodiscard]] backtrace read_backtrace(std::span<const std::byte> payload,
                                       std::size_t words_max) noexcept;

// One word, big-endian. The span holds at least four bytes.
// Set in the word that ends a stack: the id of a request or a survey.
inline constexpr std::uint32_t end_bit = 0x80000000;

[[nodiscard]] std::uint32_t load_word(std::span<const std::byte> bytes) noexcept;
void store_word(std::span<std::byte> bytes, std::uint32_t word) noexcept;

} // namespace sp::protocol
