// SPDX-License-Identifier: BSD-2-Clause
//
// The two kinds of player that several benchmarks share: REQ/REP of sp at a URL, and plain
// descriptors on which both sides spin with non-blocking calls.
#pragma once

#include "bench/pair.hpp"
#include "sp/sp.hpp"

#include <array>
#include <cerrno>
#include <cstring>

namespace sp::bench {

inline constexpr auto patience = std::chrono::seconds(10);

// An engine of its own for each, so that each waits in its own way.
[[nodiscard]] inline result<player> open_sp(side mine, const std::string &url,
                                            std::size_t body_size, waiting how)
{
    auto engine = engine::open({.waiting = how, .insecure = true}); // between processes of our own
    if (!engine)
        return std::unexpected(engine.error());
    if (mine == side::answering) {
        auto service = rep::open({.listen = url, .on = &*engine});
        if (!service)
            return std::unexpected(service.error());
        return
            [service = std::move(*service)](std::size_t count, samples &) mutable -> result<void> {
                for (std::size_t n = 0; n < count; ++n) {
                    auto question = service.recv(patience);
                    if (!question)
                        return std::unexpected(question.error());
                    if (auto sent = std::move(*question).reply(question->body(), patience); !sent)
                        return sent;
                }
                return {};
            };
    }
    auto asker = req::open({.on = &*engine});
    if (!asker)
        return std::unexpected(asker.error());
    if (auto dialed = asker->dial(url, patience); !dialed)
        return std::unexpected(dialed.error());
    return [asker = std::move(*asker), body_size](std::size_t count,
                                                  samples &took) mutable -> result<void> {
        const std::vector<std::byte> question(body_size);
        std::optional<error> trouble;
        const bool all = timed(count, took, [&] {
            auto answer = asker.request(bytes(question), patience);
            if (!answer)
                trouble = answer.error();
            return answer.has_value();
        });
        return all ? result<void>() : std::unexpected(*trouble);
    };
}

// Both spin: the whole message, also when a stream gives it in pieces. False: the other side is
// gone.
[[nodiscard]] inline bool spin_receive(int from, std::span<std::byte> bytes) noexcept
{
    while (!bytes.empty()) {
        const auto n = ::recv(from, bytes.data(), bytes.size(), MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return false;
        if (n > 0)
            bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    return true;
}

[[nodiscard]] inline bool spin_send(int to, std::span<const std::byte> bytes) noexcept
{
    while (!bytes.empty()) {
        const auto n = ::send(to, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        if (n > 0)
            bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    return true;
}

// A first exchange connects what connects late: `ready` gives the descriptor when the first round
// begins.
[[nodiscard]] inline player spinning_on(side mine, std::move_only_function<fd()> ready,
                                        std::size_t body_size)
{
    return [mine, ready = std::move(ready), ends = fd(),
            message = std::vector<std::byte>(body_size)](std::size_t count,
                                                         samples &took) mutable -> result<void> {
        if (ends.get() < 0)
            ends = ready();
        bool all = true;
        if (mine == side::asking)
            all = timed(count, took, [&] {
                return spin_send(ends.get(), message) && spin_receive(ends.get(), message);
            });
        for (std::size_t n = 0; mine == side::answering && all && n < count; ++n)
            all = spin_receive(ends.get(), message) && spin_send(ends.get(), message);
        return all ? result<void>()
                   : failed("the other side of a socket is gone", std::strerror(errno));
    };
}

} // namespace sp::bench
