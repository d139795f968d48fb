// SPDX-License-Identifier: BSD-2-Clause
//
// How long a call may wait: for ever, for a duration, until a deadline, until somebody asks it to
// stop, or a duration and a stop. A zero duration does not wait at all. A call that is given
// nothing waits as its socket's send_timeout and recv_timeout say, which is for ever unless they
// are set. The time-out of a call ends the call, never the request behind it.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <utility>

#pragma GCC visibility push(default)
namespace sp::inline v1 {

using engine_clock = std::chrono::steady_clock;
using instant = engine_clock::time_point;

struct forever_t {};
inline constexpr forever_t forever{};

class wait {
public:
    wait() noexcept : given_(given::no) {} // as the socket's options say
    wait(forever_t) noexcept {
    } // NOLINT(google-explicit-constructor): every call takes `100ms` or a token
    wait(std::stop_token stop) noexcept
        : stop_(std::move(stop)) {} // NOLINT(google-explicit-constructor)
    wait(instant deadline,
         std::stop_token stop = {}) noexcept // NOLINT(google-explicit-constructor)
        : deadline_(deadline), stop_(std::move(stop))
    {
    }
    template <class Rep, class Period>
    wait(std::chrono::duration<Rep, Period> d,
         std::stop_token stop = {}) // NOLINT(google-explicit-constructor)
        : duration_(std::chrono::ceil<std::chrono::nanoseconds>(d)), stop_(std::move(stop))
    {
    }

    // The moment at which a wait that begins `now` is over; instant::max() for none.
    [[nodiscard]] instant deadline(instant now) const noexcept
    {
        if (!duration_)
            return deadline_;
        return *duration_ > instant::max() - now ? instant::max() : now + *duration_;
    }
    [[nodiscard]] bool never() const noexcept { return duration_ && duration_->count() <= 0; }
    [[nodiscard]] const std::stop_token &stop() const noexcept { return stop_; }

    // Whether the caller has said how long.
    [[nodiscard]] bool is_given() const noexcept { return given_ == given::yes; }
    // This one, or what is usual here if he has not.
    [[nodiscard]] wait or_usual(const std::optional<std::chrono::nanoseconds> &usual) const
    {
        return !is_given() && usual ? wait(*usual) : *this;
    }

private:
    enum class given : std::uint8_t { no, yes };

    std::optional<std::chrono::nanoseconds> duration_;
    instant deadline_ = instant::max();
    std::stop_token stop_;
    given given_ = given::yes;
};

} // namespace sp::inline v1
#pragma GCC visibility pop
