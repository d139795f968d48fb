// SPDX-License-Identifier: BSD-2-Clause
//
// What the tests of descriptors share: poll(2) as a program would use it, with a keeper that drives
// and with a loop of one's own.
#pragma once

#include "tests/support/local.hpp"

#include <algorithm>
#include <array>
#include <poll.h>

namespace sp::test {

inline bool readable(int fd)
{
    pollfd p{.fd = fd, .events = POLLIN, .revents = 0};
    return ::poll(&p, 1, 0) == 1 && (p.revents & POLLIN) != 0;
}

inline void sleep_until_readable(int fd)
{
    pollfd p{.fd = fd, .events = POLLIN, .revents = 0};
    ASSERT_EQ(::poll(&p, 1, -1), 1); // the watchdog bounds it
    ASSERT_EQ(p.revents, POLLIN);
}

class on_descriptors : public on_one_host {
protected:
    // Drives a loop of one's own until the descriptor is readable.
    void poll_until_readable(int fd)
    {
        while (!readable(fd)) {
            std::array fds{pollfd{.fd = fd, .events = POLLIN, .revents = 0},
                           pollfd{.fd = engine().fd(), .events = POLLIN, .revents = 0}};
            const auto now = sp::engine_clock::now();
            const auto left = engine().next_deadline() - now;
            const auto ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
            ASSERT_GE(::poll(fds.data(), fds.size(), static_cast<int>(std::clamp(ms, 0l, 30000l))),
                      0);
            (void)engine().poll(sp::engine_clock::now());
        }
    }
    void sleep_on(int fd, sp::driver how)
    {
        if (how == sp::driver::manual)
            poll_until_readable(fd);
        else
            sleep_until_readable(fd);
    }
};

} // namespace sp::test
