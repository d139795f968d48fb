// SPDX-License-Identifier: BSD-2-Clause
//
// PUSH, the sending side of a pipeline: each message goes to exactly one pipe, the one that has
// been ready for longest. No header, no state. A peer that sends to a PUSH is not listened to.
#pragma once

#include "userspace/protocol/distributor.hpp"
#include "userspace/protocol/types.hpp"

#include <optional>

namespace sp::protocol {

struct push_options {
    queue_bounds queue{}; // of the socket; messages in it are for whoever is ready next
    overflow on_full = overflow::block;
    alone on_no_peer = alone::wait;
};

class push_machine {
public:
    explicit push_machine(const push_options &options)
        : out_(options.queue, options.on_full, options.on_no_peer)
    {
    }

    // would_block, no_peer or message_too_large: nothing has changed.
    [[nodiscard]] std::optional<errc> on_send(frame_id frame, std::size_t size, instant now,
                                              effects &out);
    // Whether on_send() would not say would_block.
    [[nodiscard]] bool send_ready(std::size_t size) const noexcept { return out_.send_ready(size); }

    [[nodiscard]] direct_way direct(std::size_t size) const noexcept
    {
        return {.pipe = out_.direct(size)};
    }
    void went(pipe_id pipe) noexcept { out_.went(pipe); }

    void on_pipe_added(const pipe_profile &pipe) { out_.add(pipe); }
    void on_pipe_closed(pipe_id pipe, instant) { out_.remove(pipe); }
    void on_pipe_ready(pipe_id pipe, instant, effects &out) { out_.ready(pipe, out); }
    void on_unsent(pipe_id pipe, frame_id frame) { out_.take_back(pipe, frame); }
    void on_message(pipe_id pipe, frame_id frame, std::span<const std::byte> payload, instant now,
                    effects &out);
    void on_deadline(instant) noexcept {}
    [[nodiscard]] instant next_deadline() const noexcept { return instant::max(); }
    void pump(instant, effects &out) { out_.pump(out); }
    [[nodiscard]] std::size_t queued_out() const noexcept { return out_.queued(); }
    [[nodiscard]] std::size_t queued_in() const noexcept { return 0; }
    std::size_t close(effects &out) { return out_.drop_all(out); }

private:
    distributor out_;
};

} // namespace sp::protocol
