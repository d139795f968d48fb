// SPDX-License-Identifier: BSD-2-Clause
//
// The four use cases that sp is made for, small, between the two processes of the demo: a
// configuration is published, telemetry is worked on, agents are asked for their health, and two
// of them are paired. Nothing here prints; what was sent and what came is told to the parent.
#pragma once

#include "userspace/cli/demo_actors.hpp"
#include "userspace/cli/demo_stage.hpp"

#include <functional>
#include <string>

namespace sp::cli {

// The URL of the listener with that number on that host.
using addresses = std::function<std::string(host where, unsigned number)>;

// All four, one after the other, each on an engine of its own. Without a place both are on this
// host.
[[nodiscard]] result<void> lead_use_cases(const lines &out, const stage *place,
                                          const addresses &at);
[[nodiscard]] result<void> follow_use_cases(const lines &out, const stage *place,
                                            const addresses &at);

} // namespace sp::cli
