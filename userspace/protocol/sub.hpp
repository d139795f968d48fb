// SPDX-License-Identifier: BSD-2-Clause
//
// SUB: what publishers send and one of the topics begins. Each context has its own topics and its
// own queue; a message that several want is held once. What nobody wants is counted as filtered and
// its credit goes back at once. There is no header: the topic is the beginning of the body.
//
// A full queue drops its oldest or its newest, or it blocks: then the credit of what exceeds it is
// kept, so that the publisher's queue is where messages drop. What a pipe that went had sent stays.
#pragma once

#include "userspace/protocol/inbox.hpp"
#include "userspace/protocol/topics.hpp"
#include "userspace/protocol/types.hpp"

#include <optional>
#include <vector>

namespace sp::protocol {

struct sub_options {
    queue_bounds queue{.bytes = 1 << 20};     // per context
    overflow on_full = overflow::drop_oldest; // not disconnect
};

class sub_machine {
public:
    static constexpr std::size_t contexts_max = 4096;

    explicit sub_machine(const sub_options &options) : options_(options) {}

    [[nodiscard]] std::optional<context_id> open_context(); // empty: there are too many
    void close_context(context_id context, effects &out);   // its queue is dropped (unread)

    void subscribe(context_id context, std::span<const std::byte> topic); // again: no effect
    // Drops what is queued and no longer wanted. False: there is no such subscription.
    [[nodiscard]] bool unsubscribe(context_id context, std::span<const std::byte> topic,
                                   effects &out);

    [[nodiscard]] bool waiting(context_id context) const noexcept;
    [[nodiscard]] std::optional<taken> take(context_id context, effects &out);

    void on_pipe_added(const pipe_profile &) {}
    void on_pipe_closed(pipe_id, instant) {}
    void on_pipe_ready(pipe_id, instant, effects &) {} // nothing is ever sent
    void on_message(pipe_id pipe, frame_id frame, std::span<const std::byte> payload, instant now,
                    effects &out);

    // Whether a message of which only the beginning is known may be wanted by somebody.
    [[nodiscard]] bool may_want(std::span<const std::byte> begin, std::size_t size) const noexcept
    {
        return topics_.may_match(begin, begin.size() == size);
    }

    void on_deadline(instant) {}
    [[nodiscard]] instant next_deadline() const noexcept { return instant::max(); }
    void pump(instant, effects &out) { arrivals_.pump(out); }
    [[nodiscard]] std::size_t queued_out() const noexcept { return 0; }
    [[nodiscard]] std::size_t queued_in() const noexcept;
    std::size_t close(effects &out);

private:
    struct context {
        std::uint16_t generation = 0;
        bool open = false;
        inbox queue;
    };

    [[nodiscard]] context *find(context_id id) noexcept;
    [[nodiscard]] const context *find(context_id id) const noexcept;
    [[nodiscard]] topic_tree::subscriber slot_of(const context &c) const noexcept;

    sub_options options_;
    topic_tree topics_;
    arrivals arrivals_;
    std::vector<context> contexts_;
    std::vector<std::uint16_t> free_;
};

} // namespace sp::protocol
