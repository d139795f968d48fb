// SPDX-License-Identifier: BSD-2-Clause
//
// REP, the answering side. Requests wait in a queue per pipe (bounded by the pipe's credit) and are
// taken one per pipe in turn, so that a flooding client starves nobody. A request taken is held
// under a ticket that carries its way home and is answered once, in any order.
//
// A request that comes again (same boot epoch of the asker, same stack) is recognised: while it
// waits or is held it is dropped and the reply goes to the newest pipe of that asker; once answered
// the same reply is sent again. Replies are kept until the asker's link has confirmed them, or
// after their pipe went for dedupe_time within reply_cache_bytes. On a stream nobody knows who
// asks: there, and with dedupe_time 0, every request is new and no reply is kept. RESPONDENT is
// this machine with dedupe_time 0.
#pragma once

#include "userspace/protocol/arrears.hpp"
#include "userspace/protocol/pipe_table.hpp"
#include "userspace/protocol/types.hpp"

#include <optional>
#include <vector>

namespace sp::protocol {

// A request in the application's hands: index and generation.
enum class ticket_id : std::uint32_t {};

struct rep_options {
    std::size_t ttl_max = 8; // words of the stack that are let through, the id included; 1 to 15
    std::chrono::nanoseconds dedupe_time = std::chrono::seconds(120); // 0: every request is new
    std::size_t reply_cache_bytes = 1 << 20;
};

struct taken_request {
    ticket_id ticket;
    frame_id frame; // the caller's now
    std::size_t header_bytes;
    pipe_id pipe;
};

class rep_machine {
public:
    static constexpr std::size_t requests_max = 16384;
    static constexpr std::size_t charge = 64; // what a kept reply costs besides its bytes

    // `salt` is random: it keeps strangers from choosing requests that collide in the table.
    rep_machine(const rep_options &options, std::uint64_t salt);

    void on_pipe_added(const pipe_profile &pipe);
    void on_pipe_closed(pipe_id pipe, instant now);
    void on_pipe_ready(pipe_id pipe, instant now,
                       effects &out); // it has room again; after each send it is taken to be full
    void on_confirmed(pipe_id pipe, std::uint32_t messages,
                      effects &out); // the peer's link holds that many more
    void on_message(pipe_id pipe, frame_id frame, std::span<const std::byte> payload, instant now,
                    effects &out);

    [[nodiscard]] bool waiting() const noexcept
    {
        return !turn_.empty();
    } // is there a request to take?
    [[nodiscard]] std::optional<taken_request> take(effects &out);

    // Answers. On success the frame is the machine's; on an error (invalid_state: no such ticket;
    // would_block: the pipe has no room; message_too_large) nothing has changed. A pipe that went
    // is success and counted.
    [[nodiscard]] std::optional<errc> reply(ticket_id ticket, frame_id frame, std::size_t size,
                                            instant now, effects &out);
    void abandon(ticket_id ticket, effects &out); // no answer will come

    // The short way (types.hpp): a request that is handed out as soon as it has come, if there is
    // nothing else to do with it; and where its answer goes, at once.
    [[nodiscard]] std::optional<taken_request> direct(pipe_id pipe, frame_id frame,
                                                      std::span<const std::byte> payload);
    [[nodiscard]] direct_way direct(ticket_id ticket, std::size_t size) const noexcept;
    void went(ticket_id ticket); // whole, and confirmed with it

    void on_deadline(instant now);
    [[nodiscard]] instant next_deadline() const noexcept;
    void pump(instant now, effects &out); // releases and counts what the other inputs left
    std::size_t close(effects &out);      // call until it emits nothing
    // Replies that wait to be sent again, and requests that wait to be taken.
    [[nodiscard]] std::size_t queued_out() const noexcept;
    [[nodiscard]] std::size_t queued_in() const noexcept;

private:
    static constexpr std::uint32_t nobody = ~0u;
    static constexpr std::size_t buckets = 1024;

    enum class state : std::uint8_t {
        unused,
        queued,   // waits to be taken
        held,     // in the application's hands
        answered, // its reply is on a pipe, not yet confirmed
        again,    // its reply waits for room on a pipe
        kept,     // its reply's pipe went
    };

    struct request {
        std::uint16_t generation = 0;
        state what = state::unused;
        bool known = false; // in its bucket: it is recognised when it comes again
        std::uint8_t header_bytes = 0;
        std::array<std::byte, header_bytes_max> header;
        std::uint64_t instance = 0;
        pipe_id pipe = no_pipe; // where the reply goes
        frame_id frame = no_frame;
        std::uint32_t size = 0;                         // of the reply
        std::uint32_t number = 0;                       // of the reply among those sent on its pipe
        std::uint32_t previous = nobody, next = nobody; // in its list
        std::uint32_t chain = nobody;                   // in its bucket
        instant kept_until{};
    };

    struct list {
        std::uint32_t first = nobody, last = nobody;
    };

    struct pipe_state {
        pipe_id id;
        std::uint64_t instance;
        std::size_t capacity;
        bool ready = false;
        std::uint32_t sent = 0, confirmed = 0; // replies
        list queued{};
        list answered{}; // in the order they were sent
        list again{};
    };

    struct parsed {
        std::size_t bytes = 0;     // of the stack
        std::optional<stat> fault; // why it is not a request
        bool closes = false;       // the fault ends the pipe
    };

    [[nodiscard]] parsed parse(std::span<const std::byte> payload) const noexcept;
    [[nodiscard]] std::size_t bucket(std::uint64_t instance,
                                     std::span<const std::byte> header) const noexcept;
    [[nodiscard]] std::uint32_t lookup(std::uint64_t instance,
                                       std::span<const std::byte> header) const noexcept;
    [[nodiscard]] std::uint32_t allocate();
    void free(std::uint32_t slot);
    [[nodiscard]] bool knows(const pipe_state &pipe) const noexcept;
    [[nodiscard]] std::uint32_t note(const pipe_state &pipe, std::span<const std::byte> header);
    [[nodiscard]] ticket_id ticket_of(std::uint32_t slot) const noexcept
    {
        return static_cast<ticket_id>(std::uint32_t{requests_[slot].generation} << 16 | slot);
    }
    void enqueue(std::uint32_t slot, pipe_state &pipe);
    void on_duplicate(std::uint32_t slot, pipe_state &pipe, effects &out);
    void send(std::uint32_t slot, pipe_state &pipe, effects &out);
    void keep(std::uint32_t slot, instant now);
    void append(list &l, std::uint32_t slot) noexcept;
    void remove(list &l, std::uint32_t slot) noexcept;
    [[nodiscard]] std::uint32_t find(ticket_id ticket) const noexcept;

    rep_options options_;
    std::uint64_t salt_;
    pipe_table<pipe_state> pipes_;
    std::vector<pipe_id> turn_; // pipes with queued requests, each once
    std::vector<request> requests_;
    std::vector<std::uint32_t> unused_;
    std::vector<std::uint32_t> buckets_;
    list kept_; // oldest first
    std::size_t kept_bytes_ = 0;
    arrears arrears_; // paid by pump()
};

} // namespace sp::protocol
