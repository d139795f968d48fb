// SPDX-License-Identifier: BSD-2-Clause
//
// What the kernel says a driver can do with XDP: the generic netlink family "netdev", from
// Linux 6.3 on, needs no privilege. An older kernel has no such family, and then only trying tells.
#pragma once

#include <optional>

namespace sp::cli {

struct xdp_features {
    bool native = false;    // runs a program and redirects
    bool zero_copy = false; // AF_XDP without a copy
};

[[nodiscard]] std::optional<xdp_features> xdp_features_of(unsigned ifindex);

} // namespace sp::cli
