// SPDX-License-Identifier: BSD-2-Clause
//
// REQ: asks and gets the answer. A request goes to one ready peer in turn; it is sent again after
// resend_time, and at once elsewhere when its peer goes. Between sp peers it is executed once, also
// then.
#pragma once

#include "sp/context.hpp"
#include "sp/socket.hpp"

#include <optional>
#include <utility>

#pragma GCC visibility push(default)
namespace sp::inline v1 {

class req;

// One conversation of its own over the socket's peers: at most one request at a time. Used by one
// thread at a time, except cancel(), which ends a recv() of another thread.
class req_context {
public:
    // Waits for a ready peer. A new request ends the one before it (its recv(): canceled). Errors:
    // would_block and no_peer (the request before is untouched), timed_out (the new one is
    // withdrawn), message_too_large, closed.
    [[nodiscard]] result<void> send(payload body, wait how_long = {});
    template <class T = void>
    [[nodiscard]] auto async_send(payload body, wait how_long = {})
    {
        return detail::awaiting<T>::send(*this, body, std::move(how_long));
    }
    // The answer. invalid_state: nothing was asked, or another thread waits already. timed_out: the
    // request goes on, call again. connection_reset, expired: told once, then idle.
    [[nodiscard]] result<message> recv(wait how_long = {});
    // co_await socket.async_recv(): with sp/coro.hpp.
    template <class T = void>
    [[nodiscard]] auto async_recv(wait how_long = {})
    {
        return detail::awaiting<T>::recv(*this, std::move(how_long));
    }
    // Empty: no answer is here; if the request has failed, recv() says how.
    [[nodiscard]] std::optional<message> try_recv();
    [[nodiscard]] result<message> request(payload body,
                                          wait how_long = {}); // both, one wait for both
    void cancel() noexcept;

    // For poll(2), level-triggered: readable while recv(0s) has something to tell, and while
    // send(0s) would find a ready peer. Not to be read from; closed with the context.
    [[nodiscard]] result<int> recv_fd();
    [[nodiscard]] result<int> send_fd();

private:
    friend class req;
    explicit req_context(detail::context context) noexcept : context_(std::move(context)) {}

    detail::context context_;
};

class req : public socket {
public:
    [[nodiscard]] static result<req> open(const options &options = {});

    // Asks and waits for the answer; from as many threads as you like. A time-out withdraws the
    // request.
    [[nodiscard]] result<message> request(payload body, wait how_long = {});
    [[nodiscard]] result<message> request(sp::loan &&body, wait how_long = {});
    [[nodiscard]] result<sp::loan> loan(std::size_t size, wait how_long = {});

    [[nodiscard]] result<req_context> open_context();

    // For poll(2): readable while a request would find a ready peer at once. Answers are told by
    // the descriptors of contexts.
    [[nodiscard]] result<int> send_fd();

private:
    using socket::socket;
};

} // namespace sp::inline v1
#pragma GCC visibility pop
