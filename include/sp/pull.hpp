// SPDX-License-Identifier: BSD-2-Clause
//
// PULL: receives what its peers push, in turn among them. A worker that is slow holds its peers
// back and loses nothing; credit_messages bounds what it hoards.
#pragma once

#include "sp/socket.hpp"

#include <optional>
#include <span>
#include <utility>

#pragma GCC visibility push(default)
namespace sp::inline v1 {

class pull : public socket {
public:
    [[nodiscard]] static result<pull> open(const options &options = {});

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
