// SPDX-License-Identifier: BSD-2-Clause
//
// Messages that came and wait for the application, taken one per pipe in turn, so that a peer that
// floods starves nobody. For PULL, PAIR and raw sockets.
//
// It pushes back: the credit of a message returns to its peer when the message is taken, or before
// that while it is within the bounds of the receive queue; pipes whose messages exceed it come
// inside in turn. So it holds what its bounds allow and besides what the peers' credit allows.
// Told to drop instead, the order is that of arrival, the credit returns at once, and what is
// dropped is counted on the pipe that it came by.
//
// What has come stays when its pipe goes: the peer was told that it arrived.
#pragma once

#include "userspace/protocol/arrears.hpp"
#include "userspace/protocol/fifo.hpp"
#include "userspace/protocol/pipe_table.hpp"
#include "userspace/protocol/types.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace sp::protocol {

class fair_inbox {
public:
    // in_turn: one message of each pipe. of_arrival: for those that have one peer at a time, whose
    // later messages do not go past the earlier ones when it comes back by another pipe.
    enum class order : std::uint8_t { in_turn, of_arrival };

    // block, drop_oldest or drop_newest. Without bytes one message is read ahead: the peer gets its
    // credit back when that is taken.
    fair_inbox(const queue_bounds &bounds, overflow on_full, order by = order::in_turn);

    void add(pipe_id pipe);
    void remove(pipe_id pipe);

    void put(const taken &message, std::size_t size, effects &out); // the frame is ours from here
    void refuse(pipe_id pipe, frame_id frame, stat why, effects &out); // counted, not queued
    [[nodiscard]] bool waiting() const noexcept { return !turn_.empty(); }
    [[nodiscard]] std::optional<taken> take(effects &out);

    [[nodiscard]] bool idle() const noexcept { return size_ == 0 && arrears_.empty(); }
    void pump(effects &out);
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    void drop_all(effects &out); // counted as unread, as far as there is room

private:
    static constexpr std::uint32_t none = ~0u;

    struct message {
        taken what{};
        std::size_t size = 0;
        bool inside = false; // within the bounds: its credit went back
        std::uint32_t next = none;
    };

    // A pipe's messages; or everybody's, where the order is that of arrival.
    struct lane {
        std::uint32_t first = none, last = none;
        std::uint32_t outside = none; // the first one that is not inside
        bool gone = false;            // its pipe went: it ends with its last message
    };

    struct place {
        pipe_id id = no_pipe;
        std::uint32_t lane = none;
    };

    [[nodiscard]] bool fits(std::size_t size) const noexcept;
    [[nodiscard]] std::uint32_t make_lane();
    void append(std::uint32_t lane, const message &m);
    message pop(std::uint32_t lane);
    void stop_waiting_outside(std::uint32_t lane);
    void bring_inside(effects &out);

    queue_bounds bounds_;
    overflow on_full_;
    order by_;
    pipe_table<place> pipes_;
    std::vector<lane> lanes_;
    std::vector<std::uint32_t> unused_lanes_;
    std::vector<message> messages_;
    std::vector<std::uint32_t> unused_messages_;
    fifo<std::uint32_t> turn_;    // lanes with messages, each once
    fifo<std::uint32_t> outside_; // lanes with messages that are not inside, each once
    std::size_t size_ = 0;
    std::size_t inside_ = 0, charged_ = 0;
    arrears arrears_;
};

} // namespace sp::protocol
