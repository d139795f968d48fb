// SPDX-License-Identifier: BSD-2-Clause
//
// SURVEYOR, the side that asks everybody. Each context holds at most one survey; contexts share the
// pipes. A survey goes to every pipe that is connected now, through a queue for each, and collects
// answers until its time is over. Who was asked, who answered and who missed it is written down.
// Rules and names are those of NNG's surv0, with corrections: a time-out of a call ends the call,
// never the survey; answers that came in time can be read after the end; the end is told once.
//
// Inputs leave work behind; call pump() until it emits nothing.
#pragma once

#include "userspace/protocol/fanout.hpp"
#include "userspace/protocol/inbox.hpp"
#include "userspace/protocol/types.hpp"

#include <array>
#include <chrono>
#include <optional>
#include <vector>

namespace sp::protocol {

struct surveyor_options {
    std::chrono::nanoseconds survey_time = std::chrono::seconds(1);
    queue_bounds send{.bytes = 256 << 10}; // of each pipe
    queue_bounds recv{.bytes = 1 << 20};   // of each survey
    overflow on_send_full = overflow::drop_newest;
    // block: beyond the bounds the peers' credit is kept, so that they send no more for a while
    overflow on_recv_full = overflow::drop_newest;
    bool one_answer_per_peer = false;
    bool end_when_all_answered = false;
};

enum class survey_state : std::uint8_t {
    idle,
    open,
    over, // answers are unread, or the end has not been told
};

class surveyor_machine {
public:
    static constexpr std::size_t contexts_max = 4096;
    static constexpr std::size_t id_bytes = 4;

    explicit surveyor_machine(const surveyor_options &options)
        : options_(options), fanout_(options.send, options.on_send_full)
    {
    }

    void on_pipe_added(const pipe_profile &pipe) { fanout_.add(pipe); }
    void on_pipe_closed(pipe_id pipe, instant now);
    void on_pipe_ready(pipe_id pipe, instant now, effects &out);
    void on_message(pipe_id pipe, frame_id frame, std::span<const std::byte> payload, instant now,
                    effects &out);

    // Contexts. Empty: all are in use.
    [[nodiscard]] std::optional<context_id> open_context();
    void close_context(context_id context, effects &out);

    // Asks every pipe that is connected now, for `time`; the survey before on this context ends.
    // Never fails: who cannot be asked is counted and listed as missed. `random` is for the id.
    void on_survey(context_id context, frame_id frame, std::size_t size, std::uint32_t random,
                   std::chrono::nanoseconds time, instant now, effects &out);
    void cancel(context_id context, effects &out); // back to idle, unread answers are abandoned

    [[nodiscard]] std::chrono::nanoseconds survey_time() const noexcept
    {
        return options_.survey_time;
    }
    [[nodiscard]] survey_state state(context_id context) const noexcept;
    [[nodiscard]] std::uint32_t
    serial(context_id context) const noexcept;                     // changes with the survey
    [[nodiscard]] bool waiting(context_id context) const noexcept; // is there an answer to take?
    [[nodiscard]] std::optional<taken> take(context_id context, effects &out);
    void tell_end(context_id context) noexcept; // over and nothing to take: then idle

    // Of the latest survey, until the next one or cancel(). A peer that answered twice is one; one
    // that went without an answer is asked and nothing else.
    struct standing {
        std::size_t asked = 0, answered = 0, pending = 0, missed = 0;
    };
    [[nodiscard]] standing count(context_id context) const noexcept;
    enum class stance : std::uint8_t { pending, answered, gone, missed };
    struct respondent {
        pipe_id pipe = no_pipe;
        stance where = stance::pending;
    };
    // Every pipe that was connected when the survey began, by name; valid until the next input.
    [[nodiscard]] std::span<const respondent> respondents(context_id context) const noexcept;

    void on_deadline(instant now);
    [[nodiscard]] instant next_deadline() const noexcept { return earliest_; }
    void pump(instant now, effects &out);

    std::size_t close(effects &out);
    [[nodiscard]] std::size_t queued_out() const noexcept { return fanout_.queued(); }
    [[nodiscard]] std::size_t queued_in() const noexcept; // unread answers

private:
    struct context {
        explicit context(const surveyor_options &o) : answers(o.recv, o.on_recv_full) {}

        std::uint16_t generation = 0;
        bool open = false;
        survey_state state = survey_state::idle;
        std::uint32_t serial = 0;
        standing tally{};
        inbox answers;
        std::vector<respondent> respondents{}; // ascending
    };

    [[nodiscard]] context *find(context_id id) noexcept;
    [[nodiscard]] const context *find(context_id id) const noexcept;
    [[nodiscard]] std::size_t slot_of(const context &c) const noexcept;
    [[nodiscard]] static respondent *find(context &c, pipe_id pipe) noexcept;
    [[nodiscard]] std::uint32_t fresh_id(std::uint32_t random) const noexcept;
    [[nodiscard]] bool was_ours(std::uint32_t id) const noexcept;
    void ask(context &c, const fanout::outgoing &message, effects &out);
    void settle_up(context &c, respondent &r, stance where);
    void end(context &c) noexcept;
    void set_end(std::size_t slot, instant at) noexcept;
    void reset(context &c);

    surveyor_options options_;
    fanout fanout_;
    arrivals answers_;
    std::vector<context> contexts_;
    std::vector<std::uint32_t>
        ids_;                   // of contexts_, 0 when none is open: what an answer is looked up in
    std::vector<instant> ends_; // of contexts_, instant::max() when none is open
    std::vector<std::uint16_t> free_;
    std::array<std::uint32_t, 256>
        ended_{}; // latest ids that are over: their answers are late, not unknown
    std::size_t ended_next_ = 0;
    instant earliest_ = instant::max(); // of ends_
};

} // namespace sp::protocol
