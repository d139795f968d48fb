// SPDX-License-Identifier: BSD-2-Clause
//
// What every pattern speaks in: handles, time and effects. A machine owns no memory but its tables;
// a frame is a message buffer that the engine keeps, named by a number and counted by references.
// An input is a call, an output is a value in `effects`, which the engine drains after each input.
//
// The books of a machine, at any moment between two inputs:
//   out: accepted + copied_out + resends + failovers
//          = sent + returned + queued_out() + drops of outgoing messages
//   in:  received + copied_in = delivered + queued_in() + drops of incoming messages
// The engine counts accepted, sent, received and delivered; a machine counts the rest.
#pragma once

#include "sp/abi/names.hpp"
#include "userspace/invariant.hpp"

#include <array>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace sp::protocol {

enum class frame_id : std::uint32_t {};
inline constexpr auto no_frame = static_cast<frame_id>(~0u);

// A connection as a pattern sees it. Index and generation: the name of a pipe that went is never
// used again soon.
enum class pipe_id : std::uint32_t {};
inline constexpr auto no_pipe = static_cast<pipe_id>(~0u);

using instant = std::chrono::steady_clock::time_point; // handed in as `now`

// SP protocol numbers, as on the wire.
enum class role : std::uint16_t {
    pair0 = 0x10,
    pair1 = 0x11,
    pub = 0x20,
    sub = 0x21,
    req = 0x30,
    rep = 0x31,
    push = 0x50,
    pull = 0x51,
    surveyor = 0x62,
    respondent = 0x63,
    bus = 0x70,
};

// The only role that a socket of this role talks to.
[[nodiscard]] constexpr role peer_of(role r) noexcept
{
    switch (r) {
    case role::pub:
        return role::sub;
    case role::sub:
        return role::pub;
    case role::req:
        return role::rep;
    case role::rep:
        return role::req;
    case role::push:
        return role::pull;
    case role::pull:
        return role::push;
    case role::surveyor:
        return role::respondent;
    case role::respondent:
        return role::surveyor;
    case role::pair0:
    case role::pair1:
    case role::bus:
        break;
    }
    return r;
}

// A new pipe, as a pattern is told of it. Whether it has room is told apart, by on_pipe_ready().
struct pipe_profile {
    pipe_id id = no_pipe;
    std::uint64_t instance = 0; // boot epoch of the peer; 0: not known (streams)
    std::size_t capacity = 0;   // the largest message, header included, that it takes
    std::size_t together = 0; // the largest without a header that it takes together with others, by
                              // `publish`; 0: it has to be sent its own
};

// One of the conversations on a socket: index and generation.
enum class context_id : std::uint32_t {};

// A message that a machine gives to the application: the frame's reference is the taker's.
struct taken {
    frame_id frame = no_frame;
    pipe_id pipe = no_pipe;       // that it came by
    std::size_t header_bytes = 0; // of the pattern, in front of the body
};

// What a send does while nobody is connected.
enum class alone : std::uint8_t { wait, fail, drop };

// What a queue does when it is full.
enum class overflow : std::uint8_t { drop_oldest, drop_newest, block, disconnect };

// Bounds of a queue: both bind. A message is charged its bytes and 64 more; a bound of 0 messages
// is none, a bound of 0 bytes means that there is no queue. An empty queue takes one message of any
// size.
struct queue_bounds {
    static constexpr std::size_t charge = 64;

    std::size_t bytes = 0;
    std::size_t messages = 0;

    [[nodiscard]] constexpr bool fits(std::size_t queued, std::size_t charged,
                                      std::size_t size) const noexcept
    {
        if (bytes == 0)
            return false;
        return queued == 0 ||
               (charged + size + charge <= bytes && (messages == 0 || queued < messages));
    }
};

// The backtrace of REQ/REP and surveys: words of four bytes, the last one has its top bit set
// (draft sp-request-reply-01). At most 16 words are held, ttl_max of them are let through.
inline constexpr std::size_t header_bytes_max = 64;

struct effect {
    enum class kind : std::uint8_t {
        send,       // `frame` behind `header` on `pipe`, which had room; the engine takes its own
                    // reference. The pipe is full until on_pipe_ready() says otherwise
        retain,     // one reference more to `frame`, for the application that takes a shared one
        release,    // drop the machine's reference to `frame`
        consumed,   // one message of `pipe` has been taken: give its credit back
        close_pipe, // the peer broke the pattern's rules; `why` counts it
        count,      // `why` happened, on `pipe` if one is named; also how every drop is counted
        board,      // from now on `pipe` gets what is published
        publish,    // `frame` to all that are aboard, who always take it
        part,       // nobody is aboard any more: each gets its own again
    };

    kind what;
    stat why{};
    pipe_id pipe = no_pipe;
    frame_id frame = no_frame;
    std::span<const std::byte> header{}; // valid until the machine is called again
    std::size_t times = 1;               // of a count
};

// The outputs of one input, bounded. A machine never emits more than `room` at a time.
class effects {
public:
    static constexpr std::size_t room = 64;

    void send(pipe_id pipe, std::span<const std::byte> header, frame_id frame) noexcept
    {
        push({.what = effect::kind::send, .pipe = pipe, .frame = frame, .header = header});
    }
    void retain(frame_id frame) noexcept { push({.what = effect::kind::retain, .frame = frame}); }
    void release(frame_id frame) noexcept { push({.what = effect::kind::release, .frame = frame}); }
    void consumed(pipe_id pipe) noexcept { push({.what = effect::kind::consumed, .pipe = pipe}); }
    void close_pipe(pipe_id pipe, stat why) noexcept
    {
        push({.what = effect::kind::close_pipe, .why = why, .pipe = pipe});
    }
    void count(stat why, pipe_id pipe = no_pipe, std::size_t times = 1) noexcept
    {
        push({.what = effect::kind::count, .why = why, .pipe = pipe, .times = times});
    }
    void board(pipe_id pipe) noexcept { push({.what = effect::kind::board, .pipe = pipe}); }
    void publish(frame_id frame) noexcept { push({.what = effect::kind::publish, .frame = frame}); }
    void part() noexcept { push({.what = effect::kind::part}); }

    [[nodiscard]] std::span<const effect> all() const noexcept
    {
        return std::span(list_).first(size_);
    }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    [[nodiscard]] std::size_t left() const noexcept { return room - size_; }
    void clear() noexcept { size_ = 0; }

private:
    void push(const effect &e) noexcept
    {
        SP_INVARIANT(size_ < room);
        list_[size_++] = e;
    }

    std::array<effect, room> list_;
    std::size_t size_ = 0;
};

// What the engine asks of every machine. Inputs may leave work behind: the engine calls pump()
// until it emits nothing. A message handed to on_message() is the machine's: it keeps or releases
// the frame, and says consumed() once when its credit may go back to the peer (a machine that drops
// says it at once; one that pushes back says it when the application takes the message).
template <class M>
concept machine =
    requires(M m, const M c, const pipe_profile &profile, pipe_id pipe, frame_id frame,
             std::span<const std::byte> payload, instant now, effects &out) {
        m.on_pipe_added(profile);
        m.on_pipe_closed(pipe, now);
        m.on_pipe_ready(pipe, now, out); // it has room for one message
        m.on_message(pipe, frame, payload, now, out);
        m.on_deadline(now);
        { c.next_deadline() } -> std::same_as<instant>; // instant::max(): none
        m.pump(now, out);
        { c.queued_out() } -> std::same_as<std::size_t>;
        { c.queued_in() } -> std::same_as<std::size_t>;
        // Drops everything as far as `out` has room, counted as closed (outgoing) and unread
        // (incoming); called until it emits nothing. Returns how many outgoing ones were dropped.
        { m.close(out) } -> std::same_as<std::size_t>;
    };

// A machine may let a message go the short way. Out: with nothing queued and nothing owed, direct()
// names the pipe that the message would be given to, and its header; went() says that it was put
// there whole, and that the pipe has room for another. In: direct(payload) says that the machine
// has nothing to do with this message but to hand it out now, and how long its header is. REQ and
// REP have the same with what they need besides.
struct direct_way {
    pipe_id pipe = no_pipe;
    std::span<const std::byte> header{};
};
template <class M>
concept direct_sender = requires(M m, const M c, std::size_t size, pipe_id pipe) {
    { c.direct(size) } noexcept -> std::same_as<direct_way>;
    { m.went(pipe) } noexcept;
};
template <class M>
concept direct_receiver = requires(const M c, std::span<const std::byte> payload) {
    { c.direct(payload) } noexcept -> std::same_as<std::optional<std::size_t>>;
};

// Optional:
//   m.on_unsent(pipe, frame)                  a message sent on `pipe` that never reached the wire,
//                                             before on_pipe_closed(); the reference is the
//                                             machine's. Called newest first. A machine without it
//                                             loses the message (pipe_closed).
//   m.on_confirmed(pipe, n, out)              the peer's link holds that many messages more

} // namespace sp::protocol
