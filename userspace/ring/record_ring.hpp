// SPDX-License-Identifier: BSD-2-Clause
//
// A ring of records from one writer to one reader, in memory that only the writer's process can
// write; the reader's progress lies in a word of the reader's own memory. Neither publishes a tail:
// a record is there when its commit word is. Nothing here allocates, waits or makes a system call;
// the memory belongs to whoever made it and outlives both ends.
//
// What the other end wrote is not believed. Positions in private memory are the truth; a commit
// word is loaded once and judged in a register; progress counts only if it lies between what it was
// and what has been written. Anything else is a fault: the end stops for good, fault() says so, and
// the owner closes. Nothing is ever clamped into its range.
//
// One process on each side, and a payload that is looked at in place may change under one's eyes if
// the writer is hostile: copy first, then parse.
#pragma once

#include "userspace/invariant.hpp"
#include "userspace/ring/record.hpp"

#include <bit>
#include <optional>
#include <span>

namespace sp::ring {

// The largest payload that a ring of so many bytes takes.
[[nodiscard]] constexpr std::size_t payload_max(std::size_t ring_bytes) noexcept
{
    return ring_bytes / records_share - record_head;
}

// A record to be sent.
struct outgoing {
    tag what_for{};
    std::span<const std::byte> payload{};
    kind what = kind::data;
};

template <memory Memory = hardware>
class writer {
public:
    // `ring`: zeros when it is new, a power of two of bytes, aligned to 64. `peer_progress` lies in
    // the reader's memory. `start`: the position, a multiple of 64, where both ends begin.
    writer(std::span<std::byte> ring, const std::uint64_t &peer_progress,
           std::uint64_t start = 0) noexcept
        : ring_(ring), peer_progress_(&peer_progress), head_(start), tail_(start)
    {
        SP_INVARIANT(std::has_single_bit(ring.size()));
        SP_INVARIANT(ring.size() >= ring_bytes_min && ring.size() <= ring_bytes_max);
        SP_INVARIANT(start % record_alignment == 0);
    }

    [[nodiscard]] std::size_t payload_max() const noexcept
    {
        return ring::payload_max(ring_.size());
    }

    // Room for a payload of `n` bytes, at most payload_max(), to be written in place and submitted.
    // Nothing: the ring is full, or fault(). A second call takes the first one back.
    [[nodiscard]] std::optional<std::span<std::byte>> reserve(std::size_t n) noexcept
    {
        SP_INVARIANT(n <= payload_max());
        const auto space = record_space(n);
        const auto rest = ring_.size() - offset(tail_);
        const auto padding = rest < space ? rest : 0;
        if (!has_room(padding + space))
            return std::nullopt;
        if (padding > 0)
            publish(padding - record_head, kind::pad);
        reserved_ = space;
        return ring_.subspan(offset(tail_) + record_head, n);
    }

    // Publishes the first `n` bytes of what was reserved.
    void submit(std::size_t n, const tag &what_for = {}, kind what = kind::data) noexcept
    {
        SP_INVARIANT(record_space(n) <= reserved_);
        SP_INVARIANT(what != kind::pad);
        Memory::write(at(tail_) + sizeof(std::uint64_t),
                      reinterpret_cast<const std::byte *>(&what_for), sizeof what_for);
        publish(n, what);
        reserved_ = 0;
    }

    // Copies one record in. False: full, or fault().
    [[nodiscard]] bool send(const outgoing &record) noexcept
    {
        const auto room = reserve(record.payload.size());
        if (!room)
            return false;
        Memory::write(room->data(), record.payload.data(), record.payload.size());
        submit(record.payload.size(), record.what_for, record.what);
        return true;
    }

    // As many of a batch as there is room for; how many that was.
    [[nodiscard]] std::size_t send_batch(std::span<const outgoing> batch) noexcept
    {
        std::size_t sent = 0;
        while (sent < batch.size() && send(batch[sent]))
            ++sent;
        return sent;
    }

    [[nodiscard]] bool fault() const noexcept { return fault_; }
    [[nodiscard]] std::uint64_t position() const noexcept { return tail_; }
    // The reader has said more than was known when the ring looked full: worth another try.
    [[nodiscard]] bool progressed() const noexcept
    {
        return Memory::template load<std::memory_order_relaxed>(*peer_progress_) != head_;
    }
    // Everything was read, as far as the reader has said.
    [[nodiscard]] bool drained() noexcept
    {
        learn_progress();
        return !fault_ && head_ == tail_;
    }

private:
    [[nodiscard]] std::size_t offset(std::uint64_t position) const noexcept
    {
        return static_cast<std::size_t>(position) & (ring_.size() - 1);
    }
    [[nodiscard]] std::byte *at(std::uint64_t position) const noexcept
    {
        return ring_.data() + offset(position);
    }

    // Room for `space` bytes and for the commit word behind them, which is cleared with them.
    [[nodiscard]] bool has_room(std::size_t space) noexcept
    {
        const auto needed = space + record_alignment;
        if (!fault_ && tail_ + needed - head_ > ring_.size())
            learn_progress(); // the line is the reader's: fetched when the ring looks full, only
        return !fault_ && tail_ + needed - head_ <= ring_.size();
    }

    void learn_progress() noexcept
    {
        // Acquire: pairs with reader::tell(). The reader's copies of what lies before `head` come
        // before our writing there again.
        const auto head = Memory::template load<std::memory_order_acquire>(*peer_progress_);
        if (head - head_ > tail_ - head_ || head % record_alignment != 0)
            fault_ = true;
        else
            head_ = head;
    }

    void publish(std::size_t length, kind what) noexcept
    {
        const auto next = tail_ + record_space(length);
        // Old payload, which a stranger may have chosen, must not pose as the next record. Relaxed:
        // whoever looks there has seen the commit below, and with it this.
        Memory::template store<std::memory_order_relaxed>(word_at(at(next)), 0);
        // Release: pairs with reader::peek(). Tag, payload and the zero behind them are there for
        // whoever sees this word.
        Memory::template store<std::memory_order_release>(word_at(at(tail_)),
                                                          pack(length, what, tail_));
        tail_ = next;
    }

    std::span<std::byte> ring_;
    const std::uint64_t *peer_progress_;
    std::uint64_t head_; // what the reader is known to have passed
    std::uint64_t tail_; // where the next record begins
    std::size_t reserved_ = 0;
    bool fault_ = false;
};

template <memory Memory = hardware>
class reader {
public:
    // A record in place. The payload lies in the writer's memory until release().
    struct view {
        kind what;
        tag what_for;
        std::span<const std::byte> payload;
    };

    // `own_progress` lies in this side's memory.
    reader(std::span<const std::byte> ring, std::uint64_t &own_progress,
           std::uint64_t start = 0) noexcept
        : ring_(ring), own_progress_(&own_progress), cursor_(start), head_(start), told_(start)
    {
        SP_INVARIANT(std::has_single_bit(ring.size()));
        SP_INVARIANT(ring.size() >= ring_bytes_min && ring.size() <= ring_bytes_max);
        SP_INVARIANT(start % record_alignment == 0);
    }

    [[nodiscard]] std::size_t payload_max() const noexcept
    {
        return ring::payload_max(ring_.size());
    }

    // The next record; nothing when none has come, or fault(). Any number may be looked at before
    // release().
    [[nodiscard]] std::optional<view> peek() noexcept
    {
        // A pad ends at the ring's end, and at its beginning there is none: two turns at most.
        while (!fault_) {
            // Acquire: pairs with writer::publish().
            const auto word =
                Memory::template load<std::memory_order_acquire>(word_at(at(cursor_)));
            if (word == 0)
                return std::nullopt;
            const auto record = unpack(word);
            if (!valid(record)) {
                fault_ = true;
                break;
            }
            const auto begin = cursor_;
            cursor_ += record_space(record.length);
            if (record.what == static_cast<std::uint8_t>(kind::pad))
                continue;
            view found{.what = static_cast<kind>(record.what), .what_for = {}, .payload = {}};
            Memory::read(reinterpret_cast<std::byte *>(&found.what_for),
                         at(begin) + sizeof(std::uint64_t), sizeof found.what_for);
            found.payload = ring_.subspan(offset(begin) + record_head, record.length);
            return found;
        }
        return std::nullopt;
    }

    // All that was looked at has been dealt with. The writer learns of it once in an eighth of the
    // ring: its line is not taken from it for every record.
    void release() noexcept
    {
        head_ = cursor_;
        if (head_ - told_ >= ring_.size() / records_share)
            tell();
    }

    // Before one goes idle: the writer learns of all that was released.
    void tell() noexcept
    {
        if (told_ == head_)
            return;
        // Release: pairs with writer::learn_progress(). Our copies of what lies before are done.
        Memory::template store<std::memory_order_release>(*own_progress_, head_);
        told_ = head_;
    }

    // What was looked at since the last release() is looked at again.
    void rewind() noexcept { cursor_ = head_; }
    // Something is there. Whether it is sound, peek() says.
    [[nodiscard]] bool waiting() const noexcept
    {
        return !fault_ &&
               Memory::template load<std::memory_order_relaxed>(word_at(at(cursor_))) != 0;
    }
    // What the writer may know to have been released.
    [[nodiscard]] std::uint64_t told() const noexcept { return told_; }

    // Copies one record out; `room` holds payload_max(). Nothing: none has come, or fault().
    struct received {
        kind what;
        tag what_for;
        std::size_t size;
    };
    [[nodiscard]] std::optional<received> receive(std::span<std::byte> room) noexcept
    {
        SP_INVARIANT(room.size() >= payload_max());
        const auto found = peek();
        if (found)
            Memory::read(room.data(), found->payload.data(), found->payload.size());
        release();
        if (!found) {
            tell();
            return std::nullopt;
        }
        return received{found->what, found->what_for, found->payload.size()};
    }

    // Shows at most `n` records to `use(const view &)` and releases them together; how many there
    // were. `n` is the bound of a turn: a flooder does not keep others waiting.
    template <class Use>
    [[nodiscard]] std::size_t receive_batch(std::size_t n, Use &&use) noexcept
    {
        std::size_t seen = 0;
        for (; seen < n; ++seen) {
            const auto found = peek();
            if (!found)
                break;
            use(*found);
        }
        release();
        if (seen < n)
            tell();
        return seen;
    }

    [[nodiscard]] bool fault() const noexcept { return fault_; }
    [[nodiscard]] std::uint64_t position() const noexcept { return cursor_; }

private:
    [[nodiscard]] std::size_t offset(std::uint64_t position) const noexcept
    {
        return static_cast<std::size_t>(position) & (ring_.size() - 1);
    }
    [[nodiscard]] const std::byte *at(std::uint64_t position) const noexcept
    {
        return ring_.data() + offset(position);
    }

    // Could an honest writer have committed this at the cursor?
    [[nodiscard]] bool valid(const commit &record) const noexcept
    {
        const auto space = record_space(record.length);
        const auto rest = ring_.size() - offset(cursor_);
        if (record.line != static_cast<std::uint32_t>(cursor_ / record_alignment))
            return false;
        if (space > ring_.size() / records_share || space > rest)
            return false;
        if (record.what == static_cast<std::uint8_t>(kind::pad))
            return space == rest && offset(cursor_) != 0;
        return record.what >= static_cast<std::uint8_t>(kind::data) &&
               record.what <= static_cast<std::uint8_t>(kind::control);
    }

    std::span<const std::byte> ring_;
    std::uint64_t *own_progress_;
    std::uint64_t cursor_; // looked at up to here
    std::uint64_t head_;   // released up to here
    std::uint64_t told_;   // and the writer knows of this
    bool fault_ = false;
};

} // namespace sp::ring
