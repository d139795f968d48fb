// SPDX-License-Identifier: BSD-2-Clause
//
// SUB: receives what publishers send and what it has subscribed to: messages that begin with one of
// its topics. Without a subscription it receives nothing. A program that is slow loses the oldest
// messages of its queue; each loss is counted.
#pragma once

#include "sp/context.hpp"
#include "sp/socket.hpp"

#include <optional>
#include <span>
#include <utility>

#pragma GCC visibility push(default)
namespace sp::inline v1 {

class sub;

// Topics and a queue of their own over the same publishers. For one thread at a time.
class sub_context {
public:
    // "" is every message. Twice is once.
    [[nodiscard]] result<void> subscribe(payload topic);
    // Messages that wait and match no topic any more are dropped. not_found: no such subscription.
    [[nodiscard]] result<void> unsubscribe(payload topic);

    [[nodiscard]] result<message> recv(wait how_long = {});
    // co_await socket.async_recv(): with sp/coro.hpp.
    template <class T = void>
    [[nodiscard]] auto async_recv(wait how_long = {})
    {
        return detail::awaiting<T>::recv(*this, std::move(how_long));
    }
    [[nodiscard]] std::optional<message> try_recv();
    [[nodiscard]] result<std::size_t> recv_batch(std::span<message> batch, wait how_long = {});
    [[nodiscard]] std::size_t try_recv_batch(std::span<message> batch);
    [[nodiscard]] result<int> recv_fd(); // for poll(2); closed with the context

private:
    friend class sub;
    explicit sub_context(detail::context context) noexcept : context_(std::move(context)) {}

    detail::context context_;
};

class sub : public socket {
public:
    [[nodiscard]] static result<sub> open(const options &options = {});

    [[nodiscard]] result<void> subscribe(payload topic);
    [[nodiscard]] result<void> unsubscribe(payload topic);

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

    [[nodiscard]] result<sub_context> open_context();

private:
    using socket::socket;
};

} // namespace sp::inline v1
#pragma GCC visibility pop
