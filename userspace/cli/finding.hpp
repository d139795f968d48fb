// SPDX-License-Identifier: BSD-2-Clause
//
// What `sp doctor` says: one finding a line, in the order they are made. Whoever looks at a part of
// the world appends its own.
#pragma once

#include "userspace/cli/echo.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace sp::cli {

enum class verdict : std::uint8_t { ok, fix, unknown };

struct finding {
    std::string subject, seen;
    verdict is = verdict::ok;
    std::string remark; // for fix: the command; otherwise what a person might want to know
};

// What lies between this host and another: does SP reach it, plain and behind UDP, and how large
// may a packet be? Takes some seconds when nothing answers.
void look_at_peer(const target &peer, std::uint16_t udp_port, std::vector<finding> &found);

} // namespace sp::cli
