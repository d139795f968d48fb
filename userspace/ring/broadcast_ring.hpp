// SPDX-License-Identifier: BSD-2-Clause
//
// One publisher, any number of readers, one write whatever their number. The publisher waits for
// nobody: who is too slow is overrun, loses the oldest messages and knows exactly how many. A slot
// is 64 bytes; payloads over 40 bytes lie in a data ring beside the slots:
//
//    0  u64 number   1 + the message's number; top bit: it is being written
//    8  u64          payload bytes : 32 | topic hash : 32
//   16  u64 place    of the payload in the data ring, counted over its whole life
//   24  40 bytes     the payload, when it fits
//
// All of it, and one word that says how much of the data ring is claimed, lies in memory that only
// the publisher's process can write. A reader copies first and then looks whether what it copied
// was still there; the words are copied as relaxed atomics, since a copy that is torn is allowed as
// long as it is noticed. Numbers are positions in private memory of the reader, as in the record
// ring, and what an honest publisher cannot have written is a fault.
//
// Everybody who maps the ring can read all of it: only readers with the same rights share one.
#pragma once

#include "userspace/invariant.hpp"
#include "userspace/ring/memory.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <optional>
#include <span>

namespace sp::ring {

inline constexpr std::size_t slot_bytes = 64;
inline constexpr std::size_t slot_inline = 40;
inline constexpr std::size_t slots_min = 8;
inline constexpr std::size_t broadcast_share = 8; // a payload is at most this part of the data ring
inline constexpr std::uint64_t slot_busy = std::uint64_t{1} << 63;

// The memory of one broadcast ring, publisher's or reader's view of it.
template <class Byte, class Word>
struct broadcast_memory {
    std::span<Byte> slots; // zeros when new; a power of two of slots, aligned to 64
    std::span<Byte> data;  // a power of two of bytes, aligned to 8
    Word *claimed;         // 0 when new

    [[nodiscard]] std::size_t slot_count() const noexcept { return slots.size() / slot_bytes; }
    [[nodiscard]] std::size_t payload_max() const noexcept
    {
        return std::max(slot_inline, data.size() / broadcast_share);
    }
    [[nodiscard]] Byte *slot(std::uint64_t number) const noexcept
    {
        return slots.data() + (number & (slot_count() - 1)) * slot_bytes;
    }
    [[nodiscard]] Byte *payload(std::uint64_t place) const noexcept
    {
        return data.data() + (place & (data.size() - 1));
    }
    [[nodiscard]] bool sound() const noexcept
    {
        return std::has_single_bit(slots.size()) && slots.size() >= slots_min * slot_bytes &&
               std::has_single_bit(data.size()) && data.size() >= cache_line &&
               data.size() <= std::size_t{1} << 31;
    }
};

using published_memory = broadcast_memory<std::byte, std::uint64_t>;
using subscribed_memory = broadcast_memory<const std::byte, const std::uint64_t>;

template <memory Memory = hardware>
class publisher {
public:
    explicit publisher(const published_memory &ring) noexcept : ring_(ring)
    {
        SP_INVARIANT(ring.sound());
    }

    [[nodiscard]] std::size_t payload_max() const noexcept { return ring_.payload_max(); }
    [[nodiscard]] std::uint64_t published() const noexcept { return next_; }

    // Never waits and never fails; at most payload_max() bytes.
    void publish(std::uint32_t topic, std::span<const std::byte> payload) noexcept
    {
        SP_INVARIANT(payload.size() <= payload_max());
        auto *slot = ring_.slot(next_);
        const bool beside = payload.size() > slot_inline;
        Memory::template store<std::memory_order_relaxed>(word_at(slot), (next_ + 1) | slot_busy);
        std::uint64_t place = 0;
        if (beside) {
            place = claim(payload.size());
            Memory::template store<std::memory_order_relaxed>(*ring_.claimed, claimed_);
        }
        // Release: pairs with the fence in listener::intact(). Whoever has copied one word of what
        // is written below then finds the slot busy and the data claimed.
        Memory::template fence<std::memory_order_release>();
        Memory::template store<std::memory_order_relaxed>(
            word_at(slot + 8), payload.size() | std::uint64_t{topic} << 32);
        Memory::template store<std::memory_order_relaxed>(word_at(slot + 16), place);
        write_words(beside ? ring_.payload(place) : slot + slot_bytes - slot_inline, payload);
        // Release: pairs with the load in listener::next(). The message is there with its number.
        Memory::template store<std::memory_order_release>(word_at(slot), next_ + 1);
        ++next_;
    }

private:
    // A place for `n` bytes that does not cross the end of the data ring.
    [[nodiscard]] std::uint64_t claim(std::size_t n) noexcept
    {
        const auto space = (n + 7) & ~std::size_t{7};
        const auto offset = claimed_ & (ring_.data.size() - 1);
        if (offset + space > ring_.data.size())
            claimed_ += ring_.data.size() - offset;
        const auto place = claimed_;
        claimed_ += space;
        return place;
    }

    static void write_words(std::byte *to, std::span<const std::byte> from) noexcept
    {
        for (std::size_t i = 0; i < from.size(); i += 8) {
            std::uint64_t word = 0;
            std::memcpy(&word, from.data() + i, std::min<std::size_t>(8, from.size() - i));
            Memory::template store<std::memory_order_relaxed>(word_at(to + i), word);
        }
    }

    published_memory ring_;
    std::uint64_t next_ = 0;    // number of the next message
    std::uint64_t claimed_ = 0; // end of the claimed part of the data ring
};

template <memory Memory = hardware>
class listener {
public:
    // `start`: the number of the first message that counts; what was published before is not
    // missed.
    explicit listener(const subscribed_memory &ring, std::uint64_t start = 0) noexcept
        : ring_(ring), next_(start)
    {
        SP_INVARIANT(ring.sound());
    }

    struct heard {
        std::uint32_t topic;
        std::size_t size;
        std::uint64_t number;
    };

    [[nodiscard]] std::size_t payload_max() const noexcept { return ring_.payload_max(); }

    // Copies the next message whose topic `wants(hash)` into `room`, which holds payload_max().
    // Nothing: no such message has come, or fault(). The payload of others is not touched. A call
    // looks at one lap of slots at most.
    template <class Wants>
    [[nodiscard]] std::optional<heard> next(std::span<std::byte> room, Wants &&wants) noexcept
    {
        SP_INVARIANT(room.size() >= payload_max());
        for (std::size_t looks = 0; looks < ring_.slot_count() && !fault_; ++looks) {
            const auto *slot = ring_.slot(next_);
            // Acquire: pairs with the last store of publisher::publish().
            const auto word = Memory::template load<std::memory_order_acquire>(word_at(slot));
            const auto number = word & ~slot_busy;
            if (number > next_ + 1) {
                on_overrun(number);
                continue;
            }
            if (word != next_ + 1)
                return std::nullopt; // of the lap before, or not finished
            const auto what = Memory::template load<std::memory_order_relaxed>(word_at(slot + 8));
            const auto place = Memory::template load<std::memory_order_relaxed>(word_at(slot + 16));
            if (!intact(slot))
                continue; // the next look finds it overrun
            const heard found{static_cast<std::uint32_t>(what >> 32),
                              static_cast<std::size_t>(what & 0xffff'ffff), next_};
            if (!valid(found.size, place)) {
                fault_ = true;
                return std::nullopt;
            }
            if (!wants(found.topic)) {
                ++next_;
                ++filtered_;
                continue;
            }
            const bool beside = found.size > slot_inline;
            read_words(room.first(found.size),
                       beside ? ring_.payload(place) : slot + slot_bytes - slot_inline);
            if (!intact(slot))
                continue;
            if (beside && overwritten(place)) {
                ++next_;
                ++lost_;
                continue;
            }
            ++next_;
            return found;
        }
        return std::nullopt;
    }

    [[nodiscard]] bool fault() const noexcept { return fault_; }
    // Messages that were overwritten before this reader had them, whatever their topics: taken,
    // filtered and lost together are all that were published.
    [[nodiscard]] std::uint64_t lost() const noexcept { return lost_; }
    [[nodiscard]] std::uint64_t filtered() const noexcept { return filtered_; }
    [[nodiscard]] std::uint64_t position() const noexcept { return next_; }

private:
    // Has the slot still the message that was copied?
    [[nodiscard]] bool intact(const std::byte *slot) const noexcept
    {
        // Acquire: pairs with the fence of publisher::publish(). The copies come before this look.
        Memory::template fence<std::memory_order_acquire>();
        return Memory::template load<std::memory_order_relaxed>(word_at(slot)) == next_ + 1;
    }

    // Called behind intact(), whose fence orders this look too. The data ring may have come round
    // before the slots have.
    [[nodiscard]] bool overwritten(std::uint64_t place) const noexcept
    {
        const auto claimed = Memory::template load<std::memory_order_relaxed>(*ring_.claimed);
        return place + ring_.data.size() < claimed;
    }

    // The slot of next_ holds message `number - 1`, or is about to: all up to one lap before it are
    // gone. An eighth of a lap more is given up, or the publisher would be here again before the
    // next copy is done.
    void on_overrun(std::uint64_t number) noexcept
    {
        const auto slots = ring_.slot_count();
        if ((number - 1 - next_) % slots != 0) {
            fault_ = true;
            return;
        }
        const auto resume = number - slots + slots / 8;
        lost_ += resume - next_;
        next_ = resume;
    }

    [[nodiscard]] bool valid(std::size_t size, std::uint64_t place) const noexcept
    {
        if (size <= slot_inline)
            return true;
        const auto offset = place & (ring_.data.size() - 1);
        return size <= payload_max() && place % 8 == 0 && size <= ring_.data.size() - offset;
    }

    static void read_words(std::span<std::byte> to, const std::byte *from) noexcept
    {
        for (std::size_t i = 0; i < to.size(); i += 8) {
            const auto word = Memory::template load<std::memory_order_relaxed>(word_at(from + i));
            std::memcpy(to.data() + i, &word, std::min<std::size_t>(8, to.size() - i));
        }
    }

    subscribed_memory ring_;
    std::uint64_t next_; // number of the message to come
    std::uint64_t lost_ = 0;
    std::uint64_t filtered_ = 0;
    bool fault_ = false;
};

} // namespace sp::ring
