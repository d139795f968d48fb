// SPDX-License-Identifier: BSD-2-Clause
//
// PUB: every message to every subscriber that is connected, through a bounded queue for each, so
// that a slow one loses its own messages and nobody else's. No header, no state, no answers: a peer
// that sends anything is not a subscriber and is closed.
#pragma once

#include "userspace/plants.hpp"
#include "userspace/protocol/fanout.hpp"
#include "userspace/protocol/types.hpp"

namespace sp::protocol {

struct pub_options {
    queue_bounds queue{.bytes = 1 << 20}; // per pipe
    overflow on_full = overflow::drop_oldest;
};

class pub_machine {
public:
    explicit pub_machine(const pub_options &options) : sends_(options.queue, options.on_full) {}

    void on_pipe_added(const pipe_profile &pipe) { sends_.add(pipe); }
    void on_pipe_closed(pipe_id pipe, instant) { sends_.remove(pipe); }
    void on_pipe_ready(pipe_id pipe, instant, effects &out) { sends_.ready(pipe, out); }
    void on_message(pipe_id pipe, frame_id frame, std::span<const std::byte> payload, instant now,
                    effects &out);

    // Never fails: what a pipe has no room for is dropped there by policy, and counted.
    void on_send(frame_id frame, std::size_t size, instant now, effects &out);
    // False only with overflow::block, while a message of this size would be dropped somewhere.
    [[nodiscard]] bool send_ready(std::size_t size) const noexcept
    {
        return (sends_.on_full() != overflow::block && !SP_PLANTED(pub_waits_for_slow)) ||
               sends_.all_accept(size);
    }

    // Whether peers that can may be served together, by a ring that overruns who is too slow; and
    // whether it must not.
    [[nodiscard]] bool broadcasts() const noexcept
    {
        return sends_.on_full() == overflow::drop_oldest || holds_back();
    }
    [[nodiscard]] std::size_t direct(std::size_t size) const noexcept { return sends_.direct(size); }
    [[nodiscard]] bool holds_back() const noexcept { return sends_.on_full() == overflow::block; }

    void on_deadline(instant) {}
    [[nodiscard]] instant next_deadline() const noexcept { return instant::max(); }
    void pump(instant, effects &out) { sends_.pump(out); }
    [[nodiscard]] std::size_t queued_out() const noexcept { return sends_.queued(); }
    [[nodiscard]] std::size_t queued_in() const noexcept { return 0; }
    std::size_t close(effects &out) { return sends_.drop_all(stat::socket_closed, out); }

private:
    fanout sends_;
};

} // namespace sp::protocol
