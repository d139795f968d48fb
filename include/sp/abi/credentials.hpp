// SPDX-License-Identifier: BSD-2-Clause
//
// Which process is at the other end, where a kernel vouches for it: on transports that stay on one
// host. A value only; who asks for it and when is the transport's matter.
#pragma once

#include <cstdint>

namespace sp::inline v1 {

struct credentials {
    std::uint32_t uid, gid;
    std::int32_t pid; // 0: not in a pid namespace that this process can see
};

} // namespace sp::inline v1
