// SPDX-License-Identifier: BSD-2-Clause
//
// All patterns, as the one thing that a socket of the engine holds. A new machine is added here and
// nowhere else in engine/.
#pragma once

#include "userspace/protocol/bus.hpp"
#include "userspace/protocol/pair.hpp"
#include "userspace/protocol/pub.hpp"
#include "userspace/protocol/pull.hpp"
#include "userspace/protocol/push.hpp"
#include "userspace/protocol/raw.hpp"
#include "userspace/protocol/rep.hpp"
#include "userspace/protocol/req.hpp"
#include "userspace/protocol/sub.hpp"
#include "userspace/protocol/surveyor.hpp"

#include <variant>

namespace sp::core {

using any_machine =
    std::variant<std::monostate, protocol::pub_machine, protocol::sub_machine,
                 protocol::bus_machine, protocol::req_machine, protocol::rep_machine,
                 protocol::surveyor_machine, protocol::push_machine, protocol::pull_machine,
                 protocol::pair_machine, protocol::raw_machine>;

template <class... Each>
consteval bool all_are_machines(std::variant<std::monostate, Each...> *)
{
    return (protocol::machine<Each> && ...);
}
static_assert(all_are_machines(static_cast<any_machine *>(nullptr)));

} // namespace sp::core
