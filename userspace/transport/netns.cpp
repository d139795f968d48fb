// SPDX-License-Identifier: BSD-2-Clause
//
// See netns.hpp.
#include "userspace/transport/netns.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sched.h>

namespace sp::transport {

result<netns_visit> netns_visit::enter(int netns_fd)
{
    if (netns_fd < 0)
        return netns_visit(descriptor());
    descriptor home(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    if (!home || ::setns(netns_fd, CLONE_NEWNET) != 0) {
        const int why = errno;
        return std::unexpected(error::numbered(
            why == EPERM ? 2022 : 2037, "cannot enter the network namespace", std::strerror(why)));
    }
    return netns_visit(std::move(home));
}

netns_visit::~netns_visit()
{
    if (home_ && ::setns(home_.get(), CLONE_NEWNET) != 0)
        std::abort();
}

} // namespace sp::transport
