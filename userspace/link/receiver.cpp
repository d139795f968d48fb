// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/link/receiver.hpp"

#include "userspace/invariant.hpp"
#include "userspace/link/packet.hpp"
#include "userspace/plants.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace sp::link {
namespace {

constexpr std::size_t unit = 4; // slices begin and end at multiples of it
constexpr std::size_t units_per_word = 64;

} // namespace

receiver::receiver(std::uint32_t first, std::uint16_t window) noexcept
    : window_(window), expected_(first), taken_(first), consumed_(first)
{
    SP_INVARIANT(window > 0 && window <= window_max);
}

receiver::slot &receiver::at(std::uint32_t seq) noexcept
{
    if (slots_.empty())
        slots_.resize(std::bit_ceil(std::size_t{window_}));
    return slots_[seq & (slots_.size() - 1)];
}

bool receiver::is_here(std::uint32_t seq) const noexcept
{
    return !slots_.empty() && slots_[seq & (slots_.size() - 1)].here;
}

// What follows the packet that has just come and was here already.
void receiver::absorb() noexcept
{
    while (early_ > 0 && before(expected_, limit()) && is_here(expected_)) {
        --early_;
        ++expected_;
    }
}

receiver::placed receiver::came(std::uint32_t seq) noexcept
{
    if (seq != expected_) {
        ++early_;
        return placed::early;
    }
    ++expected_;
    absorb();
    return placed::ready;
}

receiver::placed receiver::place(std::uint32_t seq, std::span<const std::byte> contents) noexcept
{
    SP_INVARIANT(!lent_);
    if (before(seq, expected_))
        return placed::duplicate;
    if (!before(seq, limit()))
        return placed::beyond;
    if (seq == expected_ && taken_ == expected_) {
        if (!slots_.empty()) { // slices of it may have come before
            auto &own = at(seq);
            own.pieces.clear();
            own.missing = 0;
        }
        lent_ = contents;
        cursor_ = 0;
        return came(seq);
    }
    auto &kept = at(seq);
    if (kept.here)
        return placed::duplicate;
    kept.bytes.assign(contents.begin(), contents.end());
    if (SP_PLANTED(link_spoils_kept) && kept.bytes.size() > 40)
        kept.bytes[kept.bytes.size() - 9] ^= std::byte{1};
    kept.pieces.clear();
    kept.missing = 0;
    kept.here = true;
    return came(seq);
}

receiver::placed receiver::place_slice(std::uint32_t seq, std::size_t offset, std::size_t total,
                                       std::span<const std::byte> slice) noexcept
{
    SP_INVARIANT(!lent_);
    if (before(seq, expected_))
        return placed::duplicate;
    if (!before(seq, limit()))
        return placed::beyond;
    if (slice.empty() || offset % unit != 0 || slice.size() % unit != 0 || total % unit != 0 ||
        offset > total || slice.size() > total - offset)
        return placed::malformed;
    auto &kept = at(seq);
    if (kept.here)
        return placed::duplicate;
    if (kept.missing == 0) {
        kept.bytes.assign(total, std::byte{0});
        kept.pieces.assign((total / unit + units_per_word - 1) / units_per_word, 0);
        kept.missing = total / unit;
    }
    if (kept.bytes.size() != total)
        return placed::malformed;
    std::ranges::copy(slice, kept.bytes.begin() + static_cast<std::ptrdiff_t>(offset));
    const auto missed_before = kept.missing;
    for (auto u = offset / unit; u < (offset + slice.size()) / unit; ++u) {
        auto &word = kept.pieces[u / units_per_word];
        const std::uint64_t bit = std::uint64_t{1} << (u % units_per_word);
        kept.missing -=
            (word & bit) == 0 || (SP_PLANTED(link_counts_slices_twice) && kept.missing > 1);
        word |= bit;
    }
    if (kept.missing > 0)
        return kept.missing == missed_before ? placed::duplicate : placed::partial;
    kept.pieces.clear();
    kept.here = true;
    return came(seq);
}

std::optional<std::span<const std::byte>> receiver::front() const noexcept
{
    if (lent_)
        return lent_->subspan(cursor_);
    if (taken_ == expected_)
        return std::nullopt;
    return std::span(slots_[taken_ & (slots_.size() - 1)].bytes).subspan(cursor_);
}

void receiver::finished() noexcept
{
    SP_INVARIANT(taken_ != expected_);
    if (lent_) {
        lent_.reset();
    } else {
        auto &kept = at(taken_);
        SP_INVARIANT(kept.here);
        kept.here = false;
        kept.bytes.clear();
    }
    ++taken_;
    cursor_ = 0;
}

void receiver::keep() noexcept
{
    if (!lent_)
        return;
    const auto rest = lent_->subspan(cursor_);
    auto &kept = at(taken_);
    kept.bytes.assign(rest.begin(), rest.end());
    kept.here = true;
    cursor_ = 0;
    lent_.reset();
}

void receiver::consumed(std::uint32_t n) noexcept
{
    consumed_ += n;
    SP_INVARIANT(!before(taken_, consumed_));
}

std::uint32_t receiver::sack() const noexcept
{
    std::uint32_t bits = 0;
    if (early_ == 0)
        return bits;
    for (std::uint32_t i = 0; i < 32 && before(expected_ + 1 + i, limit()); ++i)
        bits |= static_cast<std::uint32_t>(is_here(expected_ + 1 + i)) << i;
    return bits;
}

bool receiver::needs_wide() const noexcept
{
    return early_ > 0 && early_ > static_cast<std::uint32_t>(std::popcount(sack()));
}

std::array<std::byte, receiver::wide_bytes> receiver::wide() const noexcept
{
    std::array<std::byte, wide_bytes> bits{};
    for (std::uint32_t i = 0; i < 8 * wide_bytes && before(expected_ + 1 + i, limit()); ++i)
        if (is_here(expected_ + 1 + i))
            bits[i / 8] |= std::byte{1} << (i % 8);
    return bits;
}

void receiver::shrink() noexcept
{
    if (taken_ == expected_ && early_ == 0 && !lent_)
        slots_ = {};
}

} // namespace sp::link
