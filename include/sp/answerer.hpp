// SPDX-License-Identifier: BSD-2-Clause
//
// What REP and RESPONDENT have in common: they receive requests and answer each of them, in any
// order, from any thread. Requests of many peers are taken in turn; a peer that asks faster than it
// is answered is held back by credit and loses nothing.
#pragma once

#include "sp/socket.hpp"

#include <concepts>
#include <optional>
#include <span>
#include <utility>

#pragma GCC visibility push(default)
namespace sp::inline v1 {

class answerer : public socket {
public:
    [[nodiscard]] result<request> recv(wait how_long = {});
    // co_await socket.async_recv(): with sp/coro.hpp.
    template <class T = void>
    [[nodiscard]] auto async_recv(wait how_long = {})
    {
        return detail::awaiting<T>::recv(*this, std::move(how_long));
    }
    // Empty: nothing waits, or the socket is closed.
    [[nodiscard]] std::optional<request> try_recv();
    // Waits for the first and takes what else is there; requests that the array still held are
    // dropped unanswered.
    [[nodiscard]] result<std::size_t> recv_batch(std::span<request> batch, wait how_long = {});
    [[nodiscard]] std::size_t try_recv_batch(std::span<request> batch);
    // For poll(2), level-triggered: readable while a request waits, and for good once the socket is
    // closed. Not to be read from; closed with the object.
    [[nodiscard]] result<int> recv_fd();

    // Answers every request with what `answer(request)` returns, until stopped, timed out or
    // closed; returns the error that ended it. The function runs in this thread.
    template <std::invocable<const request &> Function>
    error serve(Function &&answer, wait how_long = {})
    {
        for (;;) {
            auto question = recv(how_long);
            if (!question)
                return question.error();
            const auto body = answer(std::as_const(*question));
            if (auto sent = std::move(*question).reply(body, how_long); !sent && ends(sent.error()))
                return sent.error();
        }
    }

protected:
    using socket::socket;

private:
    // An answer that one asker cannot take must not end the service of the others.
    static bool ends(const error &e) noexcept { return e != errc::message_too_large; }
};

} // namespace sp::inline v1
#pragma GCC visibility pop
