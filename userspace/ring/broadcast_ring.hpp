// SPDX-License-Identifier: BSD-2-Clause
//
// One publisher, any number of readers, one write whatever their number. The publisher waits for
// nobody: who is too slow is overrun, loses the oldest messages and knows exactly how many. A
// publisher that does not want that asks room_for() with the position of its slowest reader first.
// A slot is 64 bytes; what a payload has over 40 lies in a data ring beside the slots:
//
//    0  u64 number   1 + the message's number; top bit: it is being written
//    8  u64          payload bytes : 32 | tag : 32, for the layer above
//   16  u64 place    in the data ring, counted over its whole life; where the next one would be if
//                    nothing of this payload is there
//   24  40 bytes     the beginning of the payload: enough to tell a topic by
//
// All of it, and two words that say what is there, lies in memory that only the publisher's process
// can write. A slot whose data is about to be overwritten is marked as overwritten itself, so that
// a reader looks at its slot and at nothing else: a word that changes with every message would be
// taken from the publisher by every reader for every message. A reader copies first and then looks
// whether what it copied was still there; the words are copied as relaxed atomics, since a copy
// that is torn is allowed as long as it is noticed. Numbers are positions in private memory of the
// reader, as in the record ring, and what an honest publisher cannot have written is a fault.
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
inline constexpr std::size_t broadcast_share =
    8; // what lies beside is at most this part of the data
inline constexpr std::uint64_t slot_busy = std::uint64_t{1} << 63;

// The memory of one broadcast ring, publisher's or reader's view of it.
template <class Byte, class Word>
struct broadcast_memory {
    std::span<Byte> slots; // zeros when new; a power of two of slots, aligned to 64
    std::span<Byte> data;  // a power of two of bytes, aligned to 64
    Word *oldest;          // the number of the oldest message that is there; 0 when new
    Word *published;       // the number of the next one; 0 when new

    [[nodiscard]] std::size_t slot_count() const noexcept { return slots.size() / slot_bytes; }
    [[nodiscard]] std::size_t payload_max() const noexcept
    {
        return slot_inline + data.size() / broadcast_share;
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
               std::has_single_bit(data.size()) && data.size() >= broadcast_share * cache_line &&
               data.size() <= std::size_t{1} << 31;
    }
};

using published_memory = broadcast_memory<std::byte, std::uint64_t>;
using subscribed_memory = broadcast_memory<const std::byte, const std::uint64_t>;

// What of a payload lies beside its slot.
[[nodiscard]] constexpr std::size_t beside(std::size_t payload_bytes) noexcept
{
    return payload_bytes > slot_inline ? payload_bytes - slot_inline : 0;
}

template <memory Memory = hardware>
class publisher {
public:
    explicit publisher(const published_memory &ring) noexcept : ring_(ring)
    {
        SP_INVARIANT(ring.sound());
    }

    [[nodiscard]] std::size_t payload_max() const noexcept { return ring_.payload_max(); }
    [[nodiscard]] std::uint64_t published() const noexcept { return next_; }
    [[nodiscard]] std::size_t slot_count() const noexcept { return ring_.slot_count(); }

    // Whether a payload of `n` bytes would leave message `unread` and all after it alone.
    [[nodiscard]] bool room_for(std::size_t n, std::uint64_t unread) const noexcept
    {
        if (next_ + 1 - unread > ring_.slot_count())
            return false;
        if (unread == next_ || beside(n) == 0)
            return true;
        const auto end = place_for(beside(n)) + space_of(beside(n));
        return end <= place_of(unread) + ring_.data.size();
    }

    // Never waits and never fails; at most payload_max() bytes.
    void publish(std::uint32_t tag, std::span<const std::byte> payload) noexcept
    {
        SP_INVARIANT(payload.size() <= payload_max());
        auto *slot = ring_.slot(next_);
        Memory::template store<std::memory_order_relaxed>(word_at(slot), (next_ + 1) | slot_busy);
        if (next_ - oldest_ == ring_.slot_count())
            ++oldest_;
        auto place = claimed_;
        if (const auto n = beside(payload.size()); n > 0) {
            place = place_for(n);
            claimed_ = place + space_of(n);
            retire();
        }
        Memory::template store<std::memory_order_relaxed>(*ring_.oldest, oldest_);
        // Release: pairs with the fence in listener::intact(). Whoever has copied one word of what
        // is written below then finds its slot busy.
        Memory::template fence<std::memory_order_release>();
        Memory::template store<std::memory_order_relaxed>(
            word_at(slot + 8), payload.size() | std::uint64_t{tag} << 32);
        Memory::template store<std::memory_order_relaxed>(word_at(slot + 16), place);
        write_words(slot + slot_bytes - slot_inline,
                    payload.first(std::min(payload.size(), slot_inline)));
        if (payload.size() > slot_inline)
            write_words(ring_.payload(place), payload.subspan(slot_inline));
        // Release: pairs with the load in listener::look(). The message is there with its number.
        Memory::template store<std::memory_order_release>(word_at(slot), next_ + 1);
        ++next_;
        Memory::template store<std::memory_order_relaxed>(*ring_.published, next_);
    }

private:
    // Whole cache lines: what a reader still copies is not taken from it by the next message.
    [[nodiscard]] static std::size_t space_of(std::size_t n) noexcept
    {
        return (n + cache_line - 1) & ~(cache_line - 1);
    }
    // Where `n` bytes would not cross the end of the data ring.
    [[nodiscard]] std::uint64_t place_for(std::size_t n) const noexcept
    {
        const auto offset = claimed_ & (ring_.data.size() - 1);
        return offset + space_of(n) > ring_.data.size() ? claimed_ + ring_.data.size() - offset
                                                        : claimed_;
    }
    [[nodiscard]] std::uint64_t place_of(std::uint64_t number) const noexcept
    {
        return Memory::template load<std::memory_order_relaxed>(word_at(ring_.slot(number) + 16));
    }

    // Those whose data is claimed again are gone with it: their slots say so before it is written.
    void retire() noexcept
    {
        for (; oldest_ != next_ && place_of(oldest_) + ring_.data.size() < claimed_; ++oldest_)
            Memory::template store<std::memory_order_relaxed>(
                word_at(ring_.slot(oldest_)), (oldest_ + ring_.slot_count() + 1) | slot_busy);
    }

    static void write_words(std::byte *to, std::span<const std::byte> from) noexcept
    {
        std::size_t i = 0;
        for (; i + 8 <= from.size(); i += 8) {
            std::uint64_t word;
            std::memcpy(&word, from.data() + i, 8);
            Memory::template store<std::memory_order_relaxed>(word_at(to + i), word);
        }
        if (i == from.size())
            return;
        std::uint64_t word = 0;
        std::memcpy(&word, from.data() + i, from.size() - i);
        Memory::template store<std::memory_order_relaxed>(word_at(to + i), word);
    }

    published_memory ring_;
    std::uint64_t next_ = 0;    // number of the next message
    std::uint64_t oldest_ = 0;  // that can still be read
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

    // A message that is there: what its slot says, copied.
    struct seen {
        std::uint64_t number;
        std::uint64_t place;
        std::size_t size;
        std::uint32_t tag;
        std::array<std::byte, slot_inline> begin;

        // As much of the payload as is known before the rest is touched.
        [[nodiscard]] std::span<const std::byte> beginning() const noexcept
        {
            return std::span(begin).first(std::min(size, slot_inline));
        }
    };

    [[nodiscard]] std::size_t payload_max() const noexcept { return ring_.payload_max(); }
    [[nodiscard]] std::size_t slot_count() const noexcept { return ring_.slot_count(); }

    // The next message, which stays the next one until pass(); its number tells whether some were
    // missed before it. Nothing: none has come, or fault(). A call looks at one lap of slots at
    // most.
    [[nodiscard]] std::optional<seen> look() noexcept
    {
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
            seen found;
            found.number = next_;
            found.place = Memory::template load<std::memory_order_relaxed>(word_at(slot + 16));
            found.size = static_cast<std::size_t>(what & 0xffff'ffff);
            found.tag = static_cast<std::uint32_t>(what >> 32);
            read_words(std::span(found.begin).first(std::min(found.size, slot_inline)),
                       slot + slot_bytes - slot_inline);
            if (!intact(slot))
                continue; // the next look finds it overrun
            if (!valid(found)) {
                fault_ = true;
                break;
            }
            return found;
        }
        return std::nullopt;
    }

    // Copies the payload of what look() has found into `to`, of its size. False: it is overwritten
    // meanwhile; look again.
    [[nodiscard]] bool copy(const seen &found, std::span<std::byte> to) const noexcept
    {
        SP_INVARIANT(to.size() == found.size && found.number == next_);
        const auto begin = found.beginning();
        std::memcpy(to.data(), begin.data(), begin.size());
        if (found.size <= slot_inline)
            return true;
        read_words(to.subspan(slot_inline), ring_.payload(found.place));
        return intact(ring_.slot(next_));
    }

    void pass() noexcept { ++next_; }

    struct heard {
        std::uint32_t tag;
        std::size_t size;
        std::uint64_t number;
    };

    // Copies the next message that `wants(seen)` into `room`, which holds payload_max(). What lies
    // beside the slots of others is not touched.
    template <class Wants>
    [[nodiscard]] std::optional<heard> next(std::span<std::byte> room, Wants &&wants) noexcept
    {
        SP_INVARIANT(room.size() >= payload_max());
        for (std::size_t looks = 0; looks < ring_.slot_count(); ++looks) {
            const auto found = look();
            if (!found)
                break;
            if (!wants(*found)) {
                pass();
                ++filtered_;
                continue;
            }
            if (!copy(*found, room.first(found->size)))
                continue;
            pass();
            return heard{found->tag, found->size, found->number};
        }
        return std::nullopt;
    }

    [[nodiscard]] bool fault() const noexcept { return fault_; }
    // Messages that were overwritten before this reader had them: taken, filtered and lost together
    // are all that were published.
    [[nodiscard]] std::uint64_t lost() const noexcept { return lost_; }
    [[nodiscard]] std::uint64_t filtered() const noexcept { return filtered_; }
    [[nodiscard]] std::uint64_t position() const noexcept { return next_; }
    // Something is there. Whether it is sound, look() says.
    [[nodiscard]] bool waiting() const noexcept
    {
        const auto word =
            Memory::template load<std::memory_order_relaxed>(word_at(ring_.slot(next_)));
        return !fault_ && (word & ~slot_busy) > next_ &&
               ((word & slot_busy) == 0 || (word & ~slot_busy) > next_ + 1);
    }

private:
    // Has the slot still the message that was copied?
    [[nodiscard]] bool intact(const std::byte *slot) const noexcept
    {
        // Acquire: pairs with the fence of publisher::publish(). The copies come before this look.
        Memory::template fence<std::memory_order_acquire>();
        return Memory::template load<std::memory_order_relaxed>(word_at(slot)) == next_ + 1;
    }

    // The slot of next_ holds message `number - 1`, is about to, or will: this one is gone, and all
    // that are more than a lap behind that. An eighth of what is there is given up, or the
    // publisher would be here again before the next copy is done. Seen late, the two words send us
    // here once more.
    void on_overrun(std::uint64_t number) noexcept
    {
        const auto slots = ring_.slot_count();
        if ((number - 1 - next_) % slots != 0) {
            fault_ = true;
            return;
        }
        const auto oldest = Memory::template load<std::memory_order_relaxed>(*ring_.oldest);
        const auto published = Memory::template load<std::memory_order_relaxed>(*ring_.published);
        auto resume = number - slots;
        if (oldest > resume && oldest < slot_busy)
            resume = oldest;
        if (published > resume)
            resume += std::min<std::uint64_t>(published - resume, slots) / 8;
        lost_ += resume - next_;
        next_ = resume;
    }

    [[nodiscard]] bool valid(const seen &found) const noexcept
    {
        if (found.size <= slot_inline)
            return true;
        const auto offset = found.place & (ring_.data.size() - 1);
        return found.size <= payload_max() && found.place % cache_line == 0 &&
               beside(found.size) <= ring_.data.size() - offset;
    }

    static void read_words(std::span<std::byte> to, const std::byte *from) noexcept
    {
        std::size_t i = 0;
        for (; i + 8 <= to.size(); i += 8) {
            const auto word = Memory::template load<std::memory_order_relaxed>(word_at(from + i));
            std::memcpy(to.data() + i, &word, 8);
        }
        if (i == to.size())
            return;
        const auto word = Memory::template load<std::memory_order_relaxed>(word_at(from + i));
        std::memcpy(to.data() + i, &word, to.size() - i);
    }

    subscribed_memory ring_;
    std::uint64_t next_; // number of the message to come
    std::uint64_t lost_ = 0;
    std::uint64_t filtered_ = 0;
    bool fault_ = false;
};

} // namespace sp::ring
