// SPDX-License-Identifier: BSD-2-Clause
//
// One message to many pipes: a send queue for each, bounded by queue_bounds, over frames that are
// held once however many queues they stand in. For the patterns that drop when a peer is slow, and
// for raw sockets, which address one pipe of many or all but one.
//
// A copy for a pipe that is ready goes out in the same input if there is room in `effects`, else in
// the next pump(); only pipes with something to send are walked there. What a full queue does is
// its `overflow`; every copy that is dropped is counted on its pipe. The sender's books: a message
// is accepted once, copied_out for each pipe after the first, and no_peer when there was none.
//
// Pipes that take messages together with others are aboard while nothing waits for them: one
// `publish` serves them all, and no queue of theirs is ever used. A message that does not fit
// there, or is not for all, makes them part; each boards again when it is ready and its queue is
// empty.
//
// It keeps its own list of pipes: tell it of each one that comes, is ready and goes. One message
// per input: the headers in `effects` are its own until the next one begins.
#pragma once

#include "userspace/protocol/arrears.hpp"
#include "userspace/protocol/fifo.hpp"
#include "userspace/protocol/pipe_table.hpp"
#include "userspace/protocol/types.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sp::protocol {

// What became of a message's copy for one pipe.
enum class fate : std::uint8_t {
    sent,      // or will be in the next pump(): the pipe was ready
    queued,    // behind others, or until the pipe is ready
    full,      // dropped: send_full, or the pipe was slow and is being closed
    too_large, // dropped: peer_limit
    gone,      // there is no such pipe, or it is being closed: not a copy at all
};

class fanout {
public:
    struct outgoing {
        frame_id frame = no_frame;
        std::size_t size = 0;                // of the body
        std::span<const std::byte> header{}; // of the pattern, at most header_bytes_max; copied
    };
    enum class message_id : std::uint32_t {}; // one that is being handed out

    // With overflow::block the caller asks accepts() first; a copy that finds no room all the same
    // is dropped like the newest.
    fanout(const queue_bounds &bounds, overflow on_full) : bounds_(bounds), on_full_(on_full) {}

    void add(const pipe_profile &pipe);
    void remove(pipe_id pipe); // its queue is dropped (pipe_closed)
    void ready(pipe_id pipe, effects &out);

    // To every pipe but one, or to every pipe. The frame is the fan-out's from here.
    void send(const outgoing &message, effects &out) { send_to_others(no_pipe, message, out); }
    void send_to_others(pipe_id except, const outgoing &message, effects &out);

    // To one pipe. With fate::gone nothing has changed and the frame is still the caller's.
    [[nodiscard]] fate send_to(pipe_id pipe, const outgoing &message, effects &out);

    // The same by hand, for a pattern that chooses its pipes or remembers who got what: begin, an
    // offer for each pipe, end; all in one input.
    [[nodiscard]] message_id begin(const outgoing &message);
    fate offer(message_id message, pipe_id pipe, effects &out);
    void end(message_id message, effects &out); // counts the copies, or no_peer if there are none

    // The short way (types.hpp) of a message without a header: all pipes get it by one publish, and
    // nothing is owed. How many they are; 0: it has to go the long way.
    [[nodiscard]] std::size_t direct(std::size_t size) const noexcept
    {
        return pipes_.empty() && size <= together_ && arrears_.empty() ? aboard_.size() : 0;
    }

    // Whether a message, header included, would be sent or queued without a drop; one that the peer
    // never takes does not wait for it.
    [[nodiscard]] bool accepts(pipe_id pipe, std::size_t size) const noexcept;
    [[nodiscard]] bool all_accept(std::size_t size) const noexcept;

    [[nodiscard]] overflow on_full() const noexcept { return on_full_; }

    // Pipes in no order, those included that are being closed; valid until one comes or goes. Not
    // for patterns whose pipes may be aboard.
    [[nodiscard]] std::size_t pipes() const noexcept { return pipes_.size(); }
    [[nodiscard]] pipe_id pipe(std::size_t i) const noexcept { return pipes_[i].id; }

    void pump(effects &out);
    [[nodiscard]] std::size_t queued() const noexcept { return queued_; } // copies, in all queues
    std::size_t drop_all(stat why, effects &out); // returns how many; pump() emits the rest

private:
    struct parcel {
        frame_id frame = no_frame;
        std::uint32_t places = 0; // queues it stands in, and one while it is handed out
        std::uint32_t copies = 0; // offered so far
        std::size_t size = 0;     // header and body
        std::uint8_t header_bytes = 0;
    };

    struct pipe_state {
        pipe_id id = no_pipe;
        std::size_t capacity = 0;
        std::size_t together = 0; // see pipe_profile
        bool ready = false;
        bool closing = false;   // we closed it; its end is on the way
        bool scheduled = false; // listed in work_
        std::size_t charged = 0;
        fifo<std::uint32_t> queue{}; // of messages_
    };

    [[nodiscard]] bool fits(const pipe_state &pipe, std::size_t size) const noexcept;
    fate offer(std::uint32_t slot, pipe_state &pipe, effects &out);
    fate overflow_of(std::uint32_t slot, pipe_state &pipe);
    void enqueue(std::uint32_t slot, pipe_state &pipe);
    std::uint32_t dequeue(pipe_state &pipe);
    void transmit(std::uint32_t slot, pipe_state &pipe, effects &out);
    void send_next(pipe_state &pipe, effects &out); // the oldest of its queue
    [[nodiscard]] static bool may_board(const pipe_state &pipe) noexcept;
    void board(pipe_state &pipe, effects &out); // which is somewhere else after that
    void publish(std::uint32_t slot, pipe_id except, effects &out);
    void limit_publishing() noexcept;
    std::size_t drop_queue(pipe_state &pipe, stat why);
    void put_down(std::uint32_t slot); // one place fewer

    queue_bounds bounds_;
    overflow on_full_;
    pipe_table<pipe_state> pipes_;  // each gets its own
    pipe_table<pipe_state> aboard_; // all these get it together,
    std::size_t together_ = 0;      // up to this size
    std::vector<parcel> messages_;
    std::vector<std::array<std::byte, header_bytes_max>> headers_; // as messages_, if any had one
    std::vector<std::uint32_t> unused_;
    std::vector<pipe_id> work_; // ready pipes with a queue
    arrears arrears_;
    std::size_t queued_ = 0;
};

} // namespace sp::protocol
