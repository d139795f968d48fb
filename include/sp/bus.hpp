// SPDX-License-Identifier: BSD-2-Clause
//
// BUS: equals among equals. What one sends reaches every peer it is directly connected to, and goes
// no further; for everybody to hear everybody, connect each with each. Sending never waits: a peer
// that is slow misses the newest messages, on one host the oldest, and each loss is counted.
#pragma once

#include "sp/socket.hpp"

#include <optional>
#include <span>
#include <utility>

#pragma GCC visibility push(default)
namespace sp::inline v1 {

class bus : public socket {
public:
    [[nodiscard]] static result<bus> open(const options &options = {});

    // Success also without a peer. Errors: message_too_large (for this socket), closed. With
    // on_send_full = block they wait up to send_timeout; whoever is slow then misses it.
    [[nodiscard]] result<void> send(payload body);
    // On an error the loan is as it was.
    [[nodiscard]] result<void> send(sp::loan &&body);
    // How many were sent: all of them, unless an error came in between.
    [[nodiscard]] result<std::size_t> send_batch(std::span<const payload> bodies);
    // would_block: memory_max is reached.
    [[nodiscard]] result<sp::loan> loan(std::size_t size);

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
    // For poll(2), level-triggered: readable while a message waits, and for good once the socket is
    // closed. Not to be read from; closed with the object.
    [[nodiscard]] result<int> recv_fd();

private:
    using socket::socket;
};

} // namespace sp::inline v1
#pragma GCC visibility pop
