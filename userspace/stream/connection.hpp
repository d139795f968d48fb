// SPDX-License-Identifier: BSD-2-Clause
//
// One connection over a byte stream: the two hellos, then frames. Sans-I/O: bytes and time are
// handed in; what it has to say and what it has found are asked for. It holds no message: where the
// bytes of a frame are kept is the caller's business, told by need().
//
//   connecting --on_connected()--> greeting --both hellos--> open --close(), bad bytes--> closed
//                                     |
//                                     +-- bad hello, wrong protocol, silence --> closed
//
// Each side sends its hello at once and waits for nobody; the pipe exists when both are there.
#pragma once

#include "sp/abi/wire.h"
#include "userspace/stream/wire.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

namespace sp::stream {

using instant = std::chrono::steady_clock::time_point; // handed in as `now`

enum class phase : std::uint8_t { connecting, greeting, open, closed };

// Why it is closed.
enum class ending : std::uint8_t {
    none,
    bad_hello,
    hello_timeout,
    peer_protocol,
    bad_frame,
    too_large,
    peer_closed,
    io_error,
    refused, // by this side: admission, limits, already paired
    local,
};

struct connection_config {
    std::uint16_t protocol = 0;
    std::uint16_t peer_protocol = 0;
    framing frames = framing::ipc;
    std::uint64_t message_max = 1 << 20; // header and body
    std::chrono::nanoseconds hello_timeout = std::chrono::seconds(10);
};

class connection {
public:
    explicit connection(const connection_config &config) noexcept
        : config_(config), hello_(make_hello(config.protocol))
    {
    }

    void on_connected(instant now) noexcept;

    // Our hello, as far as it is not yet written.
    [[nodiscard]] std::span<const std::byte> hello_due() const noexcept;
    void hello_written(std::size_t n) noexcept;

    // Bytes of the stream, in order. Takes what belongs to the hello, or else to the head of a
    // frame, and says how much that was; it never takes bytes of a message. Whoever asks between
    // the two can let the peer in before the first frame is judged. While need() is not 0 the bytes
    // at the front are the message's: the caller keeps them and tells got().
    [[nodiscard]] std::size_t on_bytes(std::span<const std::byte> bytes) noexcept;

    // A frame's head has been read and its message is being filled.
    [[nodiscard]] bool in_message() const noexcept { return in_message_; }
    [[nodiscard]] std::uint64_t length() const noexcept { return length_; }
    [[nodiscard]] std::uint64_t need() const noexcept { return length_ - have_; }
    [[nodiscard]] std::uint64_t have() const noexcept { return have_; }
    void got(std::uint64_t n) noexcept { have_ += n; }
    void message_over() noexcept // it is complete and has been taken
    {
        in_message_ = false;
        length_ = have_ = 0;
    }
    [[nodiscard]] bool in_frame() const noexcept { return in_message_ || partial_ > 0; }

    void close(ending why) noexcept;
    void on_deadline(instant now) noexcept;
    [[nodiscard]] instant next_deadline() const noexcept { return silence_at_; }

    [[nodiscard]] phase state() const noexcept { return phase_; }
    [[nodiscard]] ending why() const noexcept { return why_; }
    [[nodiscard]] std::uint16_t peer_protocol() const noexcept { return peer_protocol_; } // as told
    [[nodiscard]] bool greeted() const noexcept { return greeted_; } // the peer's hello came
    [[nodiscard]] framing frames() const noexcept { return config_.frames; }
    [[nodiscard]] std::uint64_t message_max() const noexcept { return config_.message_max; }

private:
    std::size_t on_greeting(std::span<const std::byte> bytes) noexcept;
    std::size_t on_head(std::span<const std::byte> bytes) noexcept;
    void maybe_open() noexcept;

    connection_config config_;
    phase phase_ = phase::connecting;
    ending why_ = ending::none;
    bool in_message_ = false;
    bool greeted_ = false;
    std::uint8_t partial_ = 0; // bytes of a hello or of a head that are here
    std::uint8_t written_ = 0; // of our hello
    std::uint16_t peer_protocol_ = 0;
    hello hello_;
    std::array<std::byte, head_bytes_max> start_{};
    std::uint64_t length_ = 0, have_ = 0;
    instant silence_at_ = instant::max();
};

} // namespace sp::stream
