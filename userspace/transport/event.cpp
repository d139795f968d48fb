// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/transport/event.hpp"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <sys/eventfd.h>
#include <unistd.h>

namespace sp::transport {

result<event> event::open()
{
    descriptor fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!fd)
        return std::unexpected(
            error::numbered(2009, "cannot make a descriptor", std::strerror(errno)));
    return event(std::move(fd));
}

void event::show(bool raised) noexcept
{
    if (raised == raised_)
        return;
    raised_ = raised;
    std::uint64_t count = 1;
    // Neither can fail: the count is 0 before the write and 1 before the read, unless a stranger
    // has read, and then there is nothing left to read.
    if (raised)
        (void)!::write(fd_.get(), &count, sizeof count);
    else
        (void)!::read(fd_.get(), &count, sizeof count);
}

} // namespace sp::transport
