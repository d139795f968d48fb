// SPDX-License-Identifier: BSD-2-Clause
//
// BUS: every message to every peer that is connected, and what they send in one queue. Nothing is
// passed on and nobody hears himself. No header, no state.
#pragma once

#include "userspace/plants.hpp"
#include "userspace/protocol/fanout.hpp"
#include "userspace/protocol/inbox.hpp"
#include "userspace/protocol/types.hpp"

#include <optional>

namespace sp::protocol {

struct bus_options {
    queue_bounds send{.bytes = 1 << 20}; // per pipe
    queue_bounds recv{.bytes = 1 << 20};
    overflow on_send_full = overflow::drop_newest;
    bool together = true; // peers that can are served together, and the slow among them overrun
    overflow on_recv_full = overflow::drop_newest; // not disconnect
};

class bus_machine {
public:
    explicit bus_machine(const bus_options &options)
        : sends_(options.send, options.on_send_full), together_(options.together),
          queue_(options.recv, options.on_recv_full)
    {
    }

    void on_pipe_added(const pipe_profile &pipe) { sends_.add(pipe); }
    void on_pipe_closed(pipe_id pipe, instant) { sends_.remove(pipe); } // what it sent stays
    void on_pipe_ready(pipe_id pipe, instant, effects &out) { sends_.ready(pipe, out); }
    void on_message(pipe_id pipe, frame_id frame, std::span<const std::byte> payload, instant now,
                    effects &out);

    // Never fails: what a pipe has no room for is dropped there by policy, and counted.
    void on_send(frame_id frame, std::size_t size, instant now, effects &out);
    // False only with overflow::block, while a message of this size would be dropped somewhere.
    [[nodiscard]] bool send_ready(std::size_t size) const noexcept
    {
        return (sends_.on_full() != overflow::block && !SP_PLANTED(bus_waits_for_slow)) ||
               sends_.all_accept(size);
    }

    [[nodiscard]] bool broadcasts() const noexcept { return together_; }
    [[nodiscard]] std::size_t direct(std::size_t size) const noexcept { return sends_.direct(size); }
    [[nodiscard]] bool holds_back() const noexcept { return sends_.on_full() == overflow::block; }

    [[nodiscard]] bool waiting() const noexcept { return !queue_.empty(); }
    [[nodiscard]] std::optional<taken> take(effects &out) { return queue_.take(arrivals_, out); }

    void on_deadline(instant) {}
    [[nodiscard]] instant next_deadline() const noexcept { return instant::max(); }
    void pump(instant, effects &out);
    [[nodiscard]] std::size_t queued_out() const noexcept { return sends_.queued(); }
    [[nodiscard]] std::size_t queued_in() const noexcept { return queue_.size(); }
    std::size_t close(effects &out);

private:
    fanout sends_;
    bool together_;
    arrivals arrivals_;
    inbox queue_;
};

} // namespace sp::protocol
