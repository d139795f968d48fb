// SPDX-License-Identifier: BSD-2-Clause
//
// A descriptor that is readable while it is raised: how a condition inside the process is told to
// poll(2). Whoever watches it must not read from it. One thread at a time.
#pragma once

#include "sp/error.hpp"
#include "userspace/transport/descriptor.hpp"

namespace sp::transport {

class event {
public:
    // Errors: limit_reached (descriptors).
    [[nodiscard]] static result<event> open();

    // No system call when it is so already.
    void raise() noexcept { show(true); }
    void lower() noexcept { show(false); }

    [[nodiscard]] int fd() const noexcept { return fd_.get(); }

private:
    explicit event(descriptor fd) noexcept : fd_(std::move(fd)) {}
    void show(bool raised) noexcept;

    descriptor fd_;
    bool raised_ = false;
};

} // namespace sp::transport
