// SPDX-License-Identifier: BSD-2-Clause
//
// Memory with a descriptor, to be sealed and handed to another process.
#pragma once

#include "userspace/transport/descriptor.hpp"

#include <cstdint>
#include <sys/mman.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U // since Linux 6.3
#endif

namespace sp::transport {

inline constexpr std::uint64_t block_bytes = 512; // what st_blocks counts

// None: the system has none to give. `name` is what /proc shows.
[[nodiscard]] inline descriptor make_memfd(const char *name) noexcept
{
    constexpr unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    if (descriptor fd(::memfd_create(name, flags | MFD_NOEXEC_SEAL)); fd)
        return fd;
    return descriptor(::memfd_create(name, flags));
}

} // namespace sp::transport
