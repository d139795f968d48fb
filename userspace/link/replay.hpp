// SPDX-License-Identifier: BSD-2-Clause
//
// Which packet numbers have been seen: a sliding window of bits over the newest ones (RFC 6479).
// Older than the window counts as seen. Packet numbers never repeat within a connection.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace sp::link {

class replay_window {
public:
    static constexpr std::uint64_t size =
        1024; // one word of it is always being cleared: size - 64 are usable

    // True the first time `pn` is shown; false when it was seen before or is too old to tell.
    [[nodiscard]] bool accept(std::uint64_t pn) noexcept
    {
        if (pn >= next_)
            advance(pn);
        else if (next_ - pn > size - word_bits)
            return false;
        auto &word = words_[pn / word_bits % words_.size()];
        const std::uint64_t bit = std::uint64_t{1} << (pn % word_bits);
        if ((word & bit) != 0)
            return false;
        word |= bit;
        return true;
    }

private:
    static constexpr std::uint64_t word_bits = 64;

    // Makes `pn` the newest; every word that is entered anew starts empty.
    void advance(std::uint64_t pn) noexcept
    {
        const std::uint64_t from = next_ == 0 ? 0 : (next_ - 1) / word_bits + 1;
        const std::uint64_t to = pn / word_bits;
        if (to >= from) {
            const std::uint64_t fresh =
                to - from + 1 < words_.size() ? to - from + 1 : words_.size();
            for (std::uint64_t i = 0; i < fresh; ++i)
                words_[(to - i) % words_.size()] = 0;
        }
        next_ = pn + 1;
    }

    std::array<std::uint64_t, size / word_bits> words_{};
    std::uint64_t next_ = 0; // one above the newest
};

} // namespace sp::link
