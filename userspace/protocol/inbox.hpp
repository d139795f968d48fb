// SPDX-License-Identifier: BSD-2-Clause
//
// Messages that came and wait to be taken. `arrivals` holds each one once, `inbox` is a queue of
// them, bounded by queue_bounds; a machine has one `arrivals` and an inbox for each place where
// messages wait (a socket, a context, a survey).
//
//   const auto id = arrivals.begin(pipe, frame, payload, header_bytes);
//   for (each inbox that wants it)
//       inbox.add(id, arrivals);
//   arrivals.end(id, out);      // counts copied_in; one that nobody wants was refused by the
//   caller
//
// What a full inbox drops is counted on the pipe that it came by. The pipe's credit goes back once
// per message: at once, or, where the inbox blocks, when the message is within the bounds of every
// inbox it stands in. So a blocking inbox holds what its bounds allow and besides what the peers'
// credit allows; the latter waits in order behind the former.
#pragma once

#include "userspace/protocol/arrears.hpp"
#include "userspace/protocol/fifo.hpp"
#include "userspace/protocol/types.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace sp::protocol {

enum class arrival_id : std::uint32_t {};

class arrivals {
public:
    struct arrival {
        frame_id frame = no_frame;
        pipe_id pipe = no_pipe;
        std::span<const std::byte> payload{}; // the frame's own bytes, valid while it is held
        std::size_t header_bytes = 0;
        std::uint32_t places = 0;  // inboxes it stands in, and one while it is handed out
        std::uint32_t copies = 0;  // inboxes it was offered to
        std::uint32_t outside = 0; // inboxes whose bounds it exceeds, and one while handed out
    };

    // The frame becomes ours, and is the caller's to hand out until end().
    [[nodiscard]] arrival_id begin(pipe_id pipe, frame_id frame, std::span<const std::byte> payload,
                                   std::size_t header_bytes = 0);
    void end(arrival_id id, effects &out);

    // A message that is not queued at all: counted, its frame and its credit given back.
    void refuse(pipe_id pipe, frame_id frame, stat why, effects &out);

    [[nodiscard]] const arrival &operator[](arrival_id id) const noexcept { return at(id); }
    void pump(effects &out) { arrears_.pay(out); }
    [[nodiscard]] arrears &owed() noexcept { return arrears_; } // paid by pump()

private:
    friend class inbox;
    [[nodiscard]] arrival &at(arrival_id id) noexcept
    {
        return arrivals_[static_cast<std::uint32_t>(id)];
    }
    [[nodiscard]] const arrival &at(arrival_id id) const noexcept
    {
        return arrivals_[static_cast<std::uint32_t>(id)];
    }
    void bring_inside(arrival_id id);             // it no longer exceeds one of the bounds
    void put_down(arrival_id id);                 // one place fewer
    taken hand_over(arrival_id id, effects &out); // one place fewer, which is the taker's

    std::vector<arrival> arrivals_;
    std::vector<std::uint32_t> unused_;
    arrears arrears_;
};

class inbox {
public:
    // drop_oldest, drop_newest or block. Bounds of 0 bytes hold one message read ahead.
    inbox(const queue_bounds &bounds, overflow on_full);

    void add(arrival_id id, arrivals &from);
    [[nodiscard]] std::optional<taken> take(arrivals &from, effects &out); // the oldest
    void drop_all(stat why, arrivals &from); // counted on the pipes they came by

    // Drops what the predicate (of a payload) does not keep.
    template <class Keep>
    void keep_if(Keep keep, stat why, arrivals &from)
    {
        std::size_t kept = 0, kept_inside = 0;
        for (std::size_t i = 0; i < queue_.size(); ++i) {
            const auto id = queue_[i];
            if (!keep(from[id].payload)) {
                drop(id, why, i >= inside_, from);
                continue;
            }
            kept_inside += i < inside_ ? 1 : 0;
            queue_[kept++] = id;
        }
        queue_.truncate(kept);
        inside_ = kept_inside;
        advance(from);
    }

    [[nodiscard]] bool empty() const noexcept { return queue_.empty(); }
    [[nodiscard]] std::size_t size() const noexcept { return queue_.size(); }

private:
    [[nodiscard]] bool fits(std::size_t size) const noexcept;
    void drop(arrival_id id, stat why, bool outside, arrivals &from);
    void advance(arrivals &from);

    queue_bounds bounds_;
    overflow on_full_;
    fifo<arrival_id> queue_;
    std::size_t inside_ = 0;  // how many of it, from the front, are within the bounds
    std::size_t charged_ = 0; // for those
};

} // namespace sp::protocol
