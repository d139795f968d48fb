// SPDX-License-Identifier: BSD-2-Clause
//
// Where a driver sleeps: until a descriptor is readable, another thread calls wake(), or a moment
// has come. One thread sleeps at a time; wake() may come from any thread and is remembered.
#pragma once

#include "sp/error.hpp"
#include "userspace/transport/descriptor.hpp"

#include <chrono>
#include <cstdint>

namespace sp::transport {

class waiter {
public:
    [[nodiscard]] static result<waiter> open();

    [[nodiscard]] result<void> add(int fd);
    // An event descriptor that others write to. It wakes once for each time it is rung and is never
    // read: the next sleep() or forget() forgets the ring.
    [[nodiscard]] bool add_bell(int fd) noexcept;
    void remove(int fd) noexcept;

    // What ended a sleep: `until` has come (instant::max(): no end), nothing but bells, or other
    // descriptors too, which have to be looked at.
    enum class woken : std::uint8_t { in_time, by_bells, by_more };
    woken sleep(std::chrono::steady_clock::time_point now,
                std::chrono::steady_clock::time_point until) noexcept;
    void wake() noexcept;
    // What was rung so far is known. For whoever watches fd() instead of sleeping here.
    void forget() noexcept;

    [[nodiscard]] int fd() const noexcept { return epoll_.get(); }

private:
    waiter(descriptor epoll, descriptor event) noexcept
        : epoll_(std::move(epoll)), event_(std::move(event))
    {
    }

    descriptor epoll_, event_;
};

} // namespace sp::transport
