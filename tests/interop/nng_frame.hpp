// SPDX-License-Identifier: BSD-2-Clause
//
// What a test and its process of libnng say to each other. A call is one frame, its answer another
// of the same op. A channel carries one call at a time; calls at the same time have a channel each,
// handed over by the control socket. Both programs are built together, so a frame is a struct as it
// lies in memory, and two strings. Nothing here knows libnng.
#pragma once

#include "userspace/transport/descriptor.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace sp::test {

using transport::descriptor;
using nng_wait = std::chrono::milliseconds;
using nng_deadline = std::chrono::steady_clock::time_point;

enum class nng_role : std::uint32_t {
    bus0,
    pair0,
    pair1,
    pair1_raw,
    pub0,
    pull0,
    push0,
    rep0,
    rep0_raw,
    req0,
    req0_raw,
    respondent0,
    respondent0_raw,
    sub0,
    surveyor0,
    surveyor0_raw,
};

enum class nng_op : std::uint32_t {
    open,
    close,
    listen,
    dial,
    dial_on,
    set_ms,
    set_int,
    set_size,
    subscribe,
    send,
    receive,
    pipes,
    pipes_ever,
    wait_pipes,
    wait_pipes_ever,
    device,
    context_open,
    context_close,
    context_send,
    context_receive,
};
inline constexpr std::array nng_op_names{
    "open",    "close",        "listen",        "dial",         "dial_on",
    "set_ms",  "set_int",      "set_size",      "subscribe",    "send",
    "receive", "pipes",        "pipes_ever",    "wait_pipes",   "wait_pipes_ever",
    "device",  "context_open", "context_close", "context_send", "context_receive",
};
static_assert(nng_op_names.size() == std::to_underlying(nng_op::context_receive) + 1uz);

struct nng_head {
    nng_op op{};
    int code = 0;           // only in an answer: libnng's own number
    std::uint32_t id = 0;   // of the socket or context; of the pipe where a message came from
    std::int64_t value = 0; // the role, the option's value, the count of pipes, the other socket
    nng_wait how_long{0};   // what libnng may take; zero: it does not wait
};

struct nng_frame {
    nng_head head;
    std::string text{}; // a URL, the name of an option, a topic, the header of a message
    std::string body{}; // of a message
};

// The same when its body is still in the channel.
struct nng_frame_front {
    nng_head head;
    std::string text;
    std::size_t body_bytes;
};

inline constexpr std::size_t nng_frame_bytes_max = 1u << 28;

// Why a frame did not pass.
enum class nng_silence : std::uint8_t {
    ended, // nobody is at the other end
    late,  // the deadline has passed; the channel is of no use any more
};

[[nodiscard]] std::expected<void, nng_silence>
send_frame(const descriptor &channel, const nng_head &head, std::string_view text,
           std::string_view body, nng_deadline until);
[[nodiscard]] std::expected<nng_frame, nng_silence> receive_frame(const descriptor &channel,
                                                                  nng_deadline until);
// In two steps, for whoever has room of its own for a body: `into` is as large as it.
[[nodiscard]] std::expected<nng_frame_front, nng_silence> receive_front(const descriptor &channel,
                                                                        nng_deadline until);
[[nodiscard]] std::expected<void, nng_silence>
receive_body(const descriptor &channel, std::span<char> into, nng_deadline until);

// One end of a channel goes to the other process.
[[nodiscard]] std::expected<void, nng_silence> send_channel(const descriptor &control,
                                                            const descriptor &channel);
[[nodiscard]] std::expected<descriptor, nng_silence> receive_channel(const descriptor &control);

} // namespace sp::test
