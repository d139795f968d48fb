// SPDX-License-Identifier: BSD-2-Clause
//
// REQ, the asking side. Pipes, frames and time are values handed in; no socket, thread, lock or
// clock here. Each context holds at most one request; contexts share the pipes. A request goes to
// the next ready pipe in turn, again after resend_time, and at once elsewhere when its pipe goes.
// Rules and names are those of NNG's req0, with two corrections: a time-out ends the call, never
// the request, and a reply counts only from a pipe that carried it.
//
// Inputs leave work behind; call pump() until it emits nothing.
#pragma once

#include "userspace/protocol/arrears.hpp"
#include "userspace/protocol/pipe_table.hpp"
#include "userspace/protocol/types.hpp"

#include <array>
#include <optional>
#include <vector>

namespace sp::protocol {

enum class request_state : std::uint8_t {
    idle,
    queued,  // accepted, not yet on any pipe
    waiting, // on a pipe, no reply yet
    ready,   // a reply waits to be taken
    failed,  // an error waits to be told once
};

struct req_options {
    std::chrono::nanoseconds resend_time =
        std::chrono::seconds(60);                 // 0: never again, and no fail-over
    std::chrono::nanoseconds request_deadline{0}; // 0: none
    bool fail_without_peer = false;               // on_no_peer = fail
};

class req_machine {
public:
    static constexpr std::size_t contexts_max = 4096;
    static constexpr std::size_t id_bytes = 4;

    explicit req_machine(const req_options &options) : options_(options) {}

    void on_pipe_added(const pipe_profile &pipe);
    void on_pipe_closed(pipe_id pipe, instant now);
    void on_pipe_ready(pipe_id pipe, instant now,
                       effects &out);             // it has room again; each send makes it full
    void on_unsent(pipe_id pipe, frame_id frame); // sent there, and never reached the wire
    void on_message(pipe_id pipe, frame_id frame, std::span<const std::byte> payload, instant now,
                    effects &out);

    // Contexts. Empty: all are in use.
    [[nodiscard]] std::optional<context_id> open_context();
    void close_context(context_id context, effects &out);

    // Gives `frame` (body of `size` bytes, `random` for its id) to the context; what was
    // outstanding there ends. An error has changed nothing, and the frame stays the caller's.
    [[nodiscard]] std::optional<errc> on_request(context_id context, frame_id frame,
                                                 std::size_t size, std::uint32_t random,
                                                 instant now, effects &out);
    // Would on_request() put the request on a pipe at once?
    [[nodiscard]] bool send_ready(std::size_t size) noexcept;
    void cancel(context_id context, effects &out); // back to idle, whatever it was

    // The short way (types.hpp) of a request of an idle context; went() is what on_request() is
    // the long way.
    [[nodiscard]] direct_way direct(context_id context, std::size_t size,
                                    std::uint32_t random) noexcept;
    void went(context_id context, pipe_id pipe, frame_id frame, std::size_t size, instant now);
    // And of a reply: it is ready to be taken. The request's frame, which is the caller's now.
    // Nothing: it must go the long way.
    [[nodiscard]] std::optional<frame_id> direct(pipe_id pipe, frame_id frame,
                                                 std::span<const std::byte> payload);

    [[nodiscard]] request_state state(context_id context) const noexcept;
    [[nodiscard]] std::uint32_t
    serial(context_id context) const noexcept; // another request: another number
    struct reply {
        frame_id frame; // the caller's now
        pipe_id pipe;   // that it came by
    };
    [[nodiscard]] reply take_reply(context_id context) noexcept;  // state must be ready; then idle
    [[nodiscard]] errc take_failure(context_id context) noexcept; // state must be failed; then idle

    // At most one receiver per context; false when there is one, or nothing to receive.
    [[nodiscard]] bool begin_receive(context_id context) noexcept;
    void end_receive(context_id context) noexcept;

    void on_deadline(instant now);
    [[nodiscard]] instant next_deadline() const noexcept { return earliest_; }

    // Ends what must fail and puts queued requests on ready pipes.
    void pump(instant now, effects &out);

    // Requests that no pipe has taken yet; not those that wait to be sent again.
    [[nodiscard]] std::size_t queued_out() const noexcept;
    [[nodiscard]] std::size_t queued_in() const noexcept; // unread replies

    // Everything ends, as far as `out` has room; call until it emits nothing. Returns how many of
    // these requests were never sent.
    std::size_t close(effects &out);

private:
    struct pipe_state {
        pipe_id id;
        std::size_t capacity;
        bool ready;
    };

    struct context {
        std::uint16_t generation = 0;
        bool open = false;
        bool queued = false; // waits in queue_ for a pipe, for the first time or again
        bool doomed = false; // listed in doomed_
        bool receiving = false;
        request_state state = request_state::idle;
        errc failure{};
        std::uint8_t carriers = 0;
        std::uint32_t copies = 0; // given to pipes and not returned
        stat why{};               // it is queued
        std::uint32_t serial = 0;
        std::uint32_t id = 0;
        std::array<std::byte, id_bytes> header{};
        frame_id frame = no_frame; // the request while waiting, the reply when ready
        std::size_t size = 0;
        pipe_id sent_on = no_pipe;
        std::array<pipe_id, 8> carried{}; // the latest pipes that this request went to
        instant resend_at = instant::max();
        instant deadline_at = instant::max();
    };

    [[nodiscard]] context *find(context_id id) noexcept;
    [[nodiscard]] const context *find(context_id id) const noexcept;
    [[nodiscard]] pipe_state *pick(std::size_t size, pipe_id last) noexcept;
    [[nodiscard]] bool fits_somewhere(std::size_t size) noexcept;
    [[nodiscard]] bool was_ours(std::uint32_t id) const noexcept;
    [[nodiscard]] std::uint32_t fresh_id(std::uint32_t random) const noexcept;
    void enqueue(std::size_t slot, stat why);
    void send_queued(instant now, effects &out);
    void doom_too_large();
    void drop_unsent(const context &c, stat why, effects &out);
    void send(context &c, pipe_state &pipe, instant now, effects &out);
    void finish(context &c, request_state state, effects &out);
    [[nodiscard]] frame_id end(context &c, request_state state);
    [[nodiscard]] static bool carried(const context &c, pipe_id pipe) noexcept;
    void begin(context &c, frame_id frame, std::size_t size, instant now) noexcept;
    void doom(std::size_t slot, errc why);
    void watch(const context &c) noexcept;

    req_options options_;
    pipe_table<pipe_state> pipes_;
    std::size_t turn_ = 0;
    std::size_t ready_ = 0;    // pipes with room
    bool check_sizes_ = false; // pipes came or went: what waits may fit none of them
    arrears arrears_;
    std::vector<context> contexts_;
    std::vector<std::uint32_t>
        ids_; // of contexts_, 0 when nothing is outstanding: what a reply is looked up in
    std::vector<std::uint16_t> free_;
    std::vector<std::uint16_t> queue_;  // wait for a pipe, oldest first; each context at most once
    std::vector<std::uint16_t> doomed_; // have a failure to be executed by pump()
    std::array<std::uint32_t, 256>
        ended_{}; // latest ids that are over: their replies are late, not unknown
    std::size_t ended_next_ = 0;
    instant earliest_ = instant::max(); // never later than the next deadline
};

} // namespace sp::protocol
