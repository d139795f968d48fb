// SPDX-License-Identifier: BSD-2-Clause
//
// PULL, the receiving side of a pipeline: one message per pipe in turn, no header, no state. It
// has no queue of its own: a peer's credit returns when the application takes its message, so a
// worker hoards no more than the credit, and nothing is dropped.
#pragma once

#include "userspace/protocol/fair_inbox.hpp"
#include "userspace/protocol/types.hpp"

#include <optional>

namespace sp::protocol {

class pull_machine {
public:
    pull_machine() : in_({}, overflow::block) {}

    [[nodiscard]] bool waiting() const noexcept { return in_.waiting(); }
    [[nodiscard]] std::optional<taken> take(effects &out) { return in_.take(out); }

    [[nodiscard]] std::optional<std::size_t> direct(std::span<const std::byte>) const noexcept
    {
        return in_.idle() ? std::optional<std::size_t>(0) : std::nullopt;
    }

    void on_pipe_added(const pipe_profile &pipe) { in_.add(pipe.id); }
    void on_pipe_closed(pipe_id pipe, instant) { in_.remove(pipe); }
    void on_pipe_ready(pipe_id, instant, effects &) noexcept {}
    void on_message(pipe_id pipe, frame_id frame, std::span<const std::byte> payload, instant now,
                    effects &out);
    void on_deadline(instant) noexcept {}
    [[nodiscard]] instant next_deadline() const noexcept { return instant::max(); }
    void pump(instant, effects &out) { in_.pump(out); }
    [[nodiscard]] std::size_t queued_out() const noexcept { return 0; }
    [[nodiscard]] std::size_t queued_in() const noexcept { return in_.size(); }
    std::size_t close(effects &out);

private:
    fair_inbox in_;
};

} // namespace sp::protocol
