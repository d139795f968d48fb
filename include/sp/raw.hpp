// SPDX-License-Identifier: BSD-2-Clause
//
// Raw sockets: the wire of any pattern without its state, for devices, brokers and tools. What the
// pattern puts in front of a body is seen and given by the program:
//
//   req, surveyor         the stack: words of 4 bytes, the last one has its top bit set
//   rep, respondent       the pipe that it came by, or is to go by; then the stack
//   bus                   the pipe that it came by; a send goes to everybody else
//   pair                  the hops so far
//   all others            nothing
#pragma once

#include "sp/socket.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#pragma GCC visibility push(default)
namespace sp::inline v1 {

// By its SP protocol number, as on the wire.
enum class pattern : std::uint16_t {
    pair0 = 16,
    pair = 17,
    pub = 32,
    sub = 33,
    req = 48,
    rep = 49,
    push = 80,
    pull = 81,
    surveyor = 98,
    respondent = 99,
    bus = 112,
};

class raw_message : public message {
public:
    static constexpr std::size_t header_max = 68;

    [[nodiscard]] bytes header() const noexcept { return bytes(header_).first(header_size_); }

private:
    friend struct detail::access;

    std::array<std::byte, header_max> header_;
    std::uint8_t header_size_ = 0;
};

class raw : public socket {
public:
    [[nodiscard]] static result<raw> open(sp::pattern as, const options &options = {});
    [[nodiscard]] sp::pattern pattern() const noexcept;

    // Errors: invalid_argument (a header that this pattern cannot have), not_supported (sub, pull),
    // timed_out, would_block, canceled, message_too_large, closed. A header that names no pipe is
    // success, and counted.
    [[nodiscard]] result<void> send(bytes header, payload body, wait how_long = {});
    // Passes on what was received, by any raw socket; nothing is copied on one engine. On an error
    // the message is as it was.
    [[nodiscard]] result<void> send(raw_message &&message, wait how_long = {});

    // not_supported: pub and push receive nothing.
    [[nodiscard]] result<raw_message> recv(wait how_long = {});
    // co_await socket.async_recv(): with sp/coro.hpp.
    template <class T = void>
    [[nodiscard]] auto async_recv(wait how_long = {})
    {
        return detail::awaiting<T>::recv(*this, std::move(how_long));
    }
    // Empty: nothing waits, or the socket is closed.
    [[nodiscard]] std::optional<raw_message> try_recv();
    // Waits for the first and takes what else is there; what the array held is given back.
    [[nodiscard]] result<std::size_t> recv_batch(std::span<raw_message> batch, wait how_long = {});
    [[nodiscard]] std::size_t try_recv_batch(std::span<raw_message> batch);

    // For poll(2), level-triggered: readable while a message waits, or while a send would not wait;
    // both for good once the socket is closed. Not to be read from; closed with the object.
    [[nodiscard]] result<int> recv_fd();
    [[nodiscard]] result<int> send_fd();

private:
    using socket::socket;
};

} // namespace sp::inline v1
#pragma GCC visibility pop
