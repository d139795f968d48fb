// SPDX-License-Identifier: BSD-2-Clause
//
// What every pattern speaks in: handles, time and effects. A machine owns no memory but its tables;
// a frame is a message buffer that the engine keeps, named by a number and counted by references.
// An input is a call, an output is a value in `effects`, which the engine drains after each input.
#pragma once

#include "sp/abi/names.hpp"
#include "userspace/invariant.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
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
enum class role : std::uint16_t { req = 0x30, rep = 0x31 };

// The backtrace of REQ/REP: words of four bytes, the last one has its top bit set (nng-reference:
// RFC draft sp-request-reply-01). At most 16 words are held, ttl_max of them are let through.
inline constexpr std::size_t header_bytes_max = 64;

struct effect {
    enum class kind : std::uint8_t {
        send,       // `frame` behind `header` on `pipe`; the engine takes its own reference
        release,    // drop the machine's reference to `frame`
        consumed,   // one message of `pipe` has been taken: give its credit back
        close_pipe, // the peer broke the pattern's rules; `why` counts it
        count,      // `why` happened
    };

    kind what;
    stat why{};
    pipe_id pipe = no_pipe;
    frame_id frame = no_frame;
    std::span<const std::byte> header{}; // valid until the machine is called again
};

// The outputs of one input, bounded. A machine never emits more than `room` at a time.
class effects {
public:
    static constexpr std::size_t room = 64;

    void send(pipe_id pipe, std::span<const std::byte> header, frame_id frame) noexcept
    {
        push({.what = effect::kind::send, .pipe = pipe, .frame = frame, .header = header});
    }
    void release(frame_id frame) noexcept { push({.what = effect::kind::release, .frame = frame}); }
    void consumed(pipe_id pipe) noexcept { push({.what = effect::kind::consumed, .pipe = pipe}); }
    void close_pipe(pipe_id pipe, stat why) noexcept
    {
        push({.what = effect::kind::close_pipe, .why = why, .pipe = pipe});
    }
    void count(stat why) noexcept { push({.what = effect::kind::count, .why = why}); }

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

} // namespace sp::protocol
