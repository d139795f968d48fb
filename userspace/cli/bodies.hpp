// SPDX-License-Identifier: BSD-2-Clause
//
// How `sp req` and `sp rep` show what came: rows for people and pipes, one JSON object per message
// for programs.
#pragma once

#include "userspace/cli/console.hpp"
#include "userspace/cli/format.hpp"

#include <cstdint>
#include <string_view>

namespace sp::cli {

struct shown {
    std::uint64_t sequence; // from 1
    std::string_view transport, body;
    double microseconds; // of the round trip; negative: not measured
};

// False when nobody reads any more.
[[nodiscard]] bool show(const shown &message, std::string_view schema, body_format format,
                        console &out);

} // namespace sp::cli
