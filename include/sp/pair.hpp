// SPDX-License-Identifier: BSD-2-Clause
//
// PAIR: one peer at each end, both send and receive, nothing is dropped. A second peer is refused
// while the first is connected. What was not yet on the wire when the peer goes is for the next.
// Version 1 counts hops and drops what went through more than ttl_max devices; version 0
// (pair_version = 0) is nanomsg's. The two do not connect to each other.
#pragma once

#include "sp/socket.hpp"

#include <optional>
#include <span>
#include <utility>

#pragma GCC visibility push(default)
namespace sp::inline v1 {

class pair : public socket {
public:
    [[nodiscard]] static result<pair> open(const options &options = {});

    // Errors: timed_out, would_block, canceled; no_peer (on_no_peer = fail); message_too_large: the
    // peer takes none of this size; closed.
    [[nodiscard]] result<void> send(payload body, wait how_long = {});
    template <class T = void>
    [[nodiscard]] auto async_send(payload body, wait how_long = {})
    {
        return detail::awaiting<T>::send(*this, body, std::move(how_long));
    }
    // Room was waited for in loan(); only if others have taken it meanwhile it is waited for again.
    // On an error the loan is as it was.
    [[nodiscard]] result<void> send(sp::loan &&body, wait how_long = {});
    // False: send() would wait or fail.
    [[nodiscard]] bool try_send(payload body);
    // Waits for room for the first. How many were sent; the others have no room now.
    [[nodiscard]] result<std::size_t> send_batch(std::span<const payload> bodies,
                                                 wait how_long = {});
    // Waits for a peer with room.
    [[nodiscard]] result<sp::loan> loan(std::size_t size, wait how_long = {});

    [[nodiscard]] result<message> recv(wait how_long = {});
    // co_await socket.async_recv(): with sp/coro.hpp.
    template <class T = void>
    [[nodiscard]] auto async_recv(wait how_long = {})
    {
        return detail::awaiting<T>::recv(*this, std::move(how_long));
    }
    // Empty: nothing waits, or the socket is closed.
    [[nodiscard]] std::optional<message> try_recv();
    // Waits for the first and takes what else is there; what the array held is given back.
    [[nodiscard]] result<std::size_t> recv_batch(std::span<message> batch, wait how_long = {});
    [[nodiscard]] std::size_t try_recv_batch(std::span<message> batch);

    // For poll(2), level-triggered: readable while a message waits, or while a send would not wait;
    // both for good once the socket is closed. Not to be read from; closed with the object.
    [[nodiscard]] result<int> recv_fd();
    [[nodiscard]] result<int> send_fd();

private:
    using socket::socket;
};

} // namespace sp::inline v1
#pragma GCC visibility pop
