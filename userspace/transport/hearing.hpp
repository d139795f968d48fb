// SPDX-License-Identifier: BSD-2-Clause
//
// What one side hears of a peer that publishes (broadcast.hpp): the peer's ring, mapped for
// reading, and where in it we are. Messages of the peer come by the rings of the pair until a
// boarding, then by the broadcast ring until a parting, and so on; in which order is decided here,
// and how many were overrun in between. A peer that says what an honest one cannot say is at fault,
// and its pipe ends.
#pragma once

#include "sp/abi/broadcast.h"
#include "userspace/ring/broadcast_ring.hpp"
#include "userspace/transport/segment.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>

namespace sp::transport {

// A message in the peer's memory, or what is left of it.
class news {
public:
    using listener = ring::listener<>;

    news(const listener &from, const listener::seen &found) noexcept : from_(&from), found_(&found)
    {
    }
    [[nodiscard]] std::size_t size() const noexcept { return found_->size; }
    // Its first bytes, as many as are known without touching the rest.
    [[nodiscard]] std::span<const std::byte> beginning() const noexcept
    {
        return found_->beginning();
    }
    // All of it. False: it is overwritten.
    [[nodiscard]] bool copy(std::span<std::byte> to) noexcept
    {
        overrun_ = !from_->copy(*found_, to);
        return !overrun_;
    }
    [[nodiscard]] bool overrun() const noexcept { return overrun_; }

private:
    const listener *from_;
    const listener::seen *found_;
    bool overrun_ = false;
};

class hearing {
public:
    // Nothing: it is not a sealed broadcast ring of a size that fits its head.
    [[nodiscard]] static std::unique_ptr<hearing> map(const descriptor &fd) noexcept;

    // What follows comes by the broadcast ring. False: the peer cannot have said this.
    [[nodiscard]] bool board(const sp_boarding &b) noexcept;
    [[nodiscard]] bool aboard() const noexcept { return aboard_; }

    // Shows at most `n` messages to `use`, which is asked wants(begin, size) and then told
    // hear(news), until one is not taken, none is there or they part. `left`: the peer's word.
    // Returns how many were passed; filtered(n) and missed(n) say how many of the peer's messages
    // were not wanted, and how many were overrun.
    template <class Use>
    std::size_t take(std::size_t n, const std::uint64_t &left, Use &use) noexcept
    {
        std::size_t passed = 0;
        for (paused_ = false; aboard_ && passed < n;) {
            const auto found = listener_->look();
            if (!found || ends_before(found->number, left) || !follows(*found))
                break;
            if (const auto gone = std::exchange(missed_, 0); gone > 0)
                use.missed(gone);
            if ((found->tag & parting) != 0) {
                aboard_ = false;
                break;
            }
            news what(*listener_, *found);
            if (!use.wants(what.beginning(), what.size())) {
                ++filtered_;
            } else if (!use.hear(what)) {
                if (what.overrun())
                    continue; // the next look tells how many more
                paused_ = true;
                break;
            }
            listener_->pass();
            ++reached_;
            ++passed;
            place_ = found->place;
        }
        if (missed_ > 0)
            use.missed(std::exchange(missed_, 0));
        if (filtered_ > 0)
            use.filtered(std::exchange(filtered_, 0));
        return passed;
    }

    // Passed, and to be told to the peer: once in an eighth of the slots or of the data, after a
    // parting, or `now`.
    [[nodiscard]] bool owes(bool now) const noexcept
    {
        return reached_ != told_ &&
               (now || !aboard_ || reached_ - told_ >= memory_.slot_count() / ring::records_share ||
                place_ - told_place_ >= memory_.data.size() / ring::records_share);
    }
    [[nodiscard]] std::uint64_t tell() noexcept
    {
        told_place_ = place_;
        return told_ = reached_;
    }
    [[nodiscard]] bool waiting() const noexcept { return aboard_ && listener_->waiting(); }
    // About to sleep, behind the fence: how long the peer may not notice.
    [[nodiscard]] std::chrono::nanoseconds patience() const noexcept
    {
        const auto told = ring::hardware::load<std::memory_order_relaxed>(
            ring::word_at(map_.at(SP_BROADCAST_PATIENCE)));
        return std::chrono::nanoseconds(std::min<std::uint64_t>(told, SP_BROADCAST_PATIENCE_MAX));
    }
    [[nodiscard]] bool paused() const noexcept { return paused_; } // the next one was not taken
    [[nodiscard]] bool fault() const noexcept
    {
        return fault_ || (listener_ && listener_->fault());
    }

    static constexpr std::uint32_t parting = 1; // of a tag

private:
    explicit hearing(mapping map) noexcept;

    // It has left us before this message: what it publishes now is for others.
    [[nodiscard]] static bool ends_before(std::uint64_t number, const std::uint64_t &left) noexcept
    {
        const auto word = ring::hardware::load<std::memory_order_relaxed>(left);
        return word != 0 && number >= word - 1;
    }
    // Does this message stand behind what we have had, with nothing between but messages? If not,
    // a parting was overrun: the rings of the pair have what came after it, and the next boarding
    // tells how many were lost before.
    [[nodiscard]] bool follows(const news::listener::seen &found) noexcept
    {
        if (found.tag >> 1 != (partings_ & 0x7fff'ffff)) {
            aboard_ = false;
            return false;
        }
        missed_ += found.number - reached_;
        reached_ = found.number;
        return true;
    }

    mapping map_;
    ring::subscribed_memory memory_;
    std::optional<news::listener> listener_;
    std::uint64_t partings_ = 0;
    std::uint64_t reached_ = 0; // all before it were taken, filtered or missed
    std::uint64_t told_ = 0;
    std::uint64_t place_ = 0, told_place_ = 0; // of the data, as far as the peer says where that is
    std::uint64_t missed_ = 0, filtered_ = 0;  // not yet said
    bool boarded_ = false;                     // once at least
    bool aboard_ = false;
    bool paused_ = false;
    bool fault_ = false;
};

} // namespace sp::transport
