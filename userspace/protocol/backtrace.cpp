// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/protocol/backtrace.hpp"

#include <bit>
#include <cstring>

namespace sp::protocol {

static_assert(std::endian::native == std::endian::little);

backtrace read_backtrace(std::span<const std::byte> payload, std::size_t words_max) noexcept
{
    std::size_t bytes = 0;
    for (std::size_t words = 1; words <= words_max; ++words) {
        if (payload.size() - bytes < word_bytes)
            return {.what = backtrace::verdict::malformed, .bytes = 0};
        const bool end = (payload[bytes] & std::byte{0x80}) != std::byte{0};
        bytes += word_bytes;
        if (end)
            return {.what = backtrace::verdict::whole, .bytes = bytes};
    }
    return {.what = backtrace::verdict::too_many_words, .bytes = 0};
}

std::uint32_t load_word(std::span<const std::byte> bytes) noexcept
{
    SP_INVARIANT(bytes.size() >= word_bytes);
    std::uint32_t word;
    std::memcpy(&word, bytes.data(), sizeof word);
    return __builtin_bswap32(word);
}

void store_word(std::span<std::byte> bytes, std::uint32_t word) noexcept
{
    SP_INVARIANT(bytes.size() >= word_bytes);
    word = __builtin_bswap32(word);
    std::memcpy(bytes.data(), &word, sizeof word);
}

} // namespace sp::protocol
