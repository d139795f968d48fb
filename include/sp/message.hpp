// SPDX-License-Identifier: BSD-2-Clause
//
// Messages and what they are made of. A message owns its buffer: body() stays valid until the
// message is destroyed, also across further receives and after its socket has closed. Buffers are a
// bounded pool: who keeps many messages pushes back on the peers. A message, a loan or a request is
// used by one thread at a time.
#pragma once

#include "sp/error.hpp"
#include "sp/wait.hpp"

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#pragma GCC visibility push(default)
namespace sp::inline v1 {

using bytes = std::span<const std::byte>;

// Names a connection; 0 is none.
enum class pipe_id : std::uint32_t {};

// What can be sent: bytes, a string or a literal. A view: the caller keeps the memory until the
// call returns.
class payload {
public:
    payload(bytes b) noexcept : bytes_(b) {} // NOLINT(google-explicit-constructor)
    payload(std::string_view s) noexcept
        : bytes_(std::as_bytes(std::span(s))) {} // NOLINT(google-explicit-constructor)
    payload(const std::string &s) noexcept
        : payload(std::string_view(s)) {} // NOLINT(google-explicit-constructor)
    payload(const char *s) noexcept
        : payload(std::string_view(s)) {} // NOLINT(google-explicit-constructor)

    [[nodiscard]] bytes view() const noexcept { return bytes_; }

private:
    bytes bytes_;
};

namespace detail {
class node;        // an engine with its driver and its transports
class socket_core; // a socket in it
struct access;     // how the facade reaches into the classes below
template <class>
struct awaiting; // in sp/coro.hpp: what the async_ calls give
} // namespace detail

class message {
public:
    message() noexcept = default;
    message(message &&other) noexcept;
    message &operator=(message &&other) noexcept;
    ~message();

    [[nodiscard]] bytes body() const noexcept { return body_; }
    [[nodiscard]] std::string_view text() const noexcept
    {
        return {reinterpret_cast<const char *>(body_.data()), body_.size()};
    }
    [[nodiscard]] std::size_t size() const noexcept { return body_.size(); }
    [[nodiscard]] pipe_id pipe() const noexcept { return pipe_; } // that it came by
    [[nodiscard]] std::string_view transport() const noexcept
    {
        return transport_;
    } // ip/xdp, ip/kernel, unixgram, unixgram/datagram, ...

private:
    friend struct detail::access;

    detail::node *node_ = nullptr; // stays as long as the buffer is out
    void *frame_ = nullptr;
    bytes body_;
    pipe_id pipe_{};
    std::string_view transport_; // static storage
};

// A buffer to be written in place and then sent. All back pressure is felt when it is made.
class loan {
public:
    loan(loan &&other) noexcept;
    loan &operator=(loan &&other) noexcept;
    ~loan();

    [[nodiscard]] std::span<std::byte> body() noexcept { return body_; }
    void shrink(std::size_t size) noexcept // never grows
    {
        if (size < body_.size())
            body_ = body_.first(size);
    }

private:
    friend struct detail::access;
    loan() noexcept = default;

    detail::node *node_ = nullptr;
    void *frame_ = nullptr;
    std::span<std::byte> body_;
};

// A received request: it carries its way home and is answered at most once, from any thread, in any
// order. Dropping it unanswered is legal: the asker times out or asks again.
class request : public message {
public:
    request() noexcept = default;
    request(request &&other) noexcept;
    request &operator=(request &&other) noexcept;
    ~request();

    [[nodiscard]] result<sp::loan> loan(std::size_t size, wait how_long = {});

    // Sends the answer. Waits while the asker's pipe has no room. An error other than timed_out,
    // would_block, canceled and message_too_large ends the request; after those it may be answered
    // again. An asker that went away is success, and counted.
    [[nodiscard]] result<void> reply(payload body, wait how_long = {}) &&;
    [[nodiscard]] result<void> reply(sp::loan &&body) &&;

private:
    friend struct detail::access;
    void drop() noexcept;
    [[nodiscard]] result<void> over(const std::optional<error> &refused);

    std::shared_ptr<detail::socket_core> home_;
    std::uint32_t ticket_ = 0;
};

} // namespace sp::inline v1
#pragma GCC visibility pop
