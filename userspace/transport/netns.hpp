// SPDX-License-Identifier: BSD-2-Clause
//
// A visit to another network namespace by the calling thread. A socket belongs for ever to the
// namespace in which it was made, so a transport enters only while it opens something. -1 means:
// stay where the thread is, which costs nothing. Entering needs CAP_SYS_ADMIN; coming back cannot
// be refused to who was allowed to leave, and a thread stranded in the wrong namespace would talk
// to the wrong network, so that ends the process.
#pragma once

#include "sp/error.hpp"
#include "userspace/transport/descriptor.hpp"

namespace sp::transport {

class netns_visit {
public:
    [[nodiscard]] static result<netns_visit> enter(int netns_fd);

    netns_visit(netns_visit &&) noexcept = default;
    netns_visit &operator=(netns_visit &&) = delete;
    ~netns_visit();

private:
    explicit netns_visit(descriptor home) noexcept : home_(std::move(home)) {}

    descriptor home_; // empty: nobody left
};

} // namespace sp::transport
