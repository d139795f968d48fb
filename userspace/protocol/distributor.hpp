// SPDX-License-Identifier: BSD-2-Clause
//
// Each message to exactly one pipe: the one that has been ready for longest, so that equal peers
// share alike and a slow one is passed over. While no pipe is ready a message waits in the socket's
// queue, if it has one with room. For PUSH, PAIR and raw REQ, PUSH, PAIR.
//
// What a pipe could not put on the wire before it went comes back to the head of the queue, in
// order and whatever the bounds are, and goes to the next ready pipe: it is counted as a fail-over.
// For that the latest messages of each pipe are remembered with their size and header.
//
// A message larger than a pipe takes is not for that pipe. It waits for another, and those behind
// it that fit go past it.
#pragma once

#include "userspace/protocol/arrears.hpp"
#include "userspace/protocol/fifo.hpp"
#include "userspace/protocol/pipe_table.hpp"
#include "userspace/protocol/types.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace sp::protocol {

class distributor {
public:
    // So many messages of a pipe can come back; an older one that does is dropped (pipe_closed).
    static constexpr std::size_t remembered_max = 64;

    // A queue without bytes is none. `on_full` may not be disconnect.
    distributor(const queue_bounds &bounds, overflow on_full, alone on_no_peer);

    void add(const pipe_profile &pipe);
    void remove(pipe_id pipe);
    void ready(pipe_id pipe, effects &out);
    void take_back(pipe_id pipe, frame_id frame);

    // On an error nothing has changed: message_too_large if it is for no pipe that there is,
    // would_block, no_peer. `on_no_peer` and `on_full` say what happens instead of waiting.
    [[nodiscard]] std::optional<errc> send(std::span<const std::byte> header, frame_id frame,
                                           std::size_t body, effects &out);
    // Whether a message of this size, header included, would not be told would_block.
    [[nodiscard]] bool send_ready(std::size_t size) const noexcept;

    // The short way (types.hpp): the pipe that send() would give a message of this size, header
    // included, if it is the first in turn and nothing waits.
    [[nodiscard]] pipe_id direct(std::size_t size) const noexcept
    {
        if (ready_.empty() || !queue_.empty() || !arrears_.empty())
            return no_pipe;
        const auto *pipe = pipes_.find(ready_[0]);
        return size <= pipe->capacity ? pipe->id : no_pipe;
    }
    void went(pipe_id) noexcept
    {
        if (ready_.size() > 1)
            ready_.push_back(ready_.pop_front());
    }

    void pump(effects &out);
    [[nodiscard]] std::size_t queued() const noexcept { return queue_.size(); }
    std::size_t drop_all(effects &out); // counted as closed, as far as there is room; how many

private:
    struct message {
        frame_id frame = no_frame;
        std::uint32_t size = 0; // header and body
        std::uint8_t header_bytes = 0;
        std::array<std::byte, header_bytes_max> header{};
    };

    struct pipe_state {
        pipe_id id = no_pipe;
        std::size_t capacity = 0;
        bool ready = false;
        fifo<message> sent{}; // the latest ones, oldest first; no references are held
    };

    [[nodiscard]] pipe_state *pick(std::size_t size) noexcept;
    void transmit(pipe_state &pipe, const message &m, effects &out);
    void enqueue(const message &m);
    void drop_oldest(stat why);

    queue_bounds bounds_;
    overflow on_full_;
    alone on_no_peer_;
    pipe_table<pipe_state> pipes_;
    fifo<pipe_id> ready_;     // each once, longest first
    std::size_t largest_ = 0; // capacity of any pipe
    fifo<message> queue_;
    std::size_t charged_ = 0; // for the queue
    std::size_t passed_ = 0;  // messages at its head that no ready pipe takes
    arrears arrears_;
};

} // namespace sp::protocol
