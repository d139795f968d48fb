// SPDX-License-Identifier: BSD-2-Clause
//
// PUSH: hands each message to exactly one of its workers, in turn among those that have room. While
// none has, send waits: nothing is dropped. What was not yet on the wire when a worker goes is
// handed to another.
#pragma once

#include "sp/socket.hpp"

#include <span>
#include <utility>

#pragma GCC visibility push(default)
namespace sp::inline v1 {

class push : public socket {
public:
    [[nodiscard]] static result<push> open(const options &options = {});

    // Errors: timed_out, would_block, canceled; no_peer (on_no_peer = fail); message_too_large:
    // no worker takes one of this size; closed.
    [[nodiscard]] result<void> send(payload body, wait how_long = {});
    // co_await push.async_send(body): with sp/coro.hpp. The body must live until it is done.
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
    // Waits for a worker with room.
    [[nodiscard]] result<sp::loan> loan(std::size_t size, wait how_long = {});
    // For poll(2), level-triggered: readable while a send would not wait. Not to be read from;
    // closed with the object.
    [[nodiscard]] result<int> send_fd();

private:
    using socket::socket;
};

} // namespace sp::inline v1
#pragma GCC visibility pop
