// SPDX-License-Identifier: BSD-2-Clause
//
// SURVEYOR: asks everybody who is connected, and collects answers until the survey's time is over.
// Who connects later is not asked; wait_peers() helps. Several surveys may go on at once.
#pragma once

#include "sp/context.hpp"
#include "sp/socket.hpp"

#include <chrono>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#pragma GCC visibility push(default)
namespace sp::inline v1 {

class surveyor;

// One question and its answers. Answers that came in time can be read after the end. For one thread
// at a time.
class survey {
public:
    // The next answer. expired: there will be no more; told once, invalid_state after that.
    // timed_out is the call's own: the survey goes on.
    [[nodiscard]] result<message> recv(wait how_long = {});
    // co_await socket.async_recv(): with sp/coro.hpp.
    template <class T = void>
    [[nodiscard]] auto async_recv(wait how_long = {})
    {
        return detail::awaiting<T>::recv(*this, std::move(how_long));
    }
    // Empty: no answer is here now.
    [[nodiscard]] std::optional<message> try_recv();
    [[nodiscard]] result<std::size_t> recv_batch(std::span<message> batch, wait how_long = {});
    [[nodiscard]] std::size_t try_recv_batch(std::span<message> batch);
    // For poll(2): readable while recv(0s) has something to tell. Closed with the survey.
    [[nodiscard]] result<int> recv_fd();
    void cancel() noexcept; // ends it; answers that nobody has read are dropped

    // Peers by their pipes. Asked: the question was sent or waits to be sent. Pending: asked, here,
    // and not answered. Missed: connected, but the question could not be queued for it.
    [[nodiscard]] std::vector<pipe_id> asked() const;
    [[nodiscard]] std::vector<pipe_id> answered() const;
    [[nodiscard]] std::vector<pipe_id> pending() const;
    [[nodiscard]] std::vector<pipe_id> missed() const;

private:
    friend class surveyor;
    explicit survey(detail::context context) noexcept : context_(std::move(context)) {}

    detail::context context_;
};

class surveyor : public socket {
public:
    [[nodiscard]] static result<surveyor> open(const options &options = {});

    // Asks for survey_time, or for as long as is said here. Never waits; success also without a
    // peer. Errors: invalid_argument (no time), message_too_large, would_block (memory_max is
    // reached), limit_reached (4096 surveys), closed.
    [[nodiscard]] result<sp::survey> survey(payload question);
    [[nodiscard]] result<sp::survey> survey(payload question, std::chrono::nanoseconds time);
    [[nodiscard]] result<sp::survey> survey(sp::loan &&question);
    [[nodiscard]] result<sp::survey> survey(sp::loan &&question, std::chrono::nanoseconds time);
    // would_block: memory_max is reached.
    [[nodiscard]] result<sp::loan> loan(std::size_t size);

private:
    using socket::socket;
    static result<sp::survey> made(result<detail::context> context);
};

} // namespace sp::inline v1
#pragma GCC visibility pop
