// SPDX-License-Identifier: BSD-2-Clause
//
// The calls of PUSH over its machine.
#include "sp/push.hpp"

#include "userspace/calls.hpp"

namespace sp::inline v1 {

using protocol::push_machine;

result<push> push::open(const options &o)
{
    protocol::push_options machine;
    detail::assign_send_queue(machine.queue, o);
    detail::assign(machine.on_full, o.on_send_full);
    detail::assign(machine.on_no_peer, o.on_no_peer);
    auto core =
        detail::socket_core::open(o, protocol::role::push, [&](auto &engine, const auto &shaping) {
            return engine.template open<push_machine>(protocol::role::push, shaping, machine);
        });
    if (!core)
        return std::unexpected(core.error());
    return push(std::move(*core));
}

result<void> push::send(payload body, wait how_long)
{
    return detail::send<push_machine>(*core_, body, how_long);
}

result<void> push::send(sp::loan &&body, wait how_long)
{
    return detail::send_in_place<push_machine>(*core_, body, how_long);
}

bool push::try_send(payload body)
{
    return send(body, std::chrono::seconds(0)).has_value();
}

result<std::size_t> push::send_batch(std::span<const payload> bodies, wait how_long)
{
    return detail::send_batch<push_machine>(*core_, bodies, how_long);
}

result<loan> push::loan(std::size_t size, wait how_long)
{
    return detail::lend<push_machine>(*core_, size, how_long);
}

result<int> push::send_fd()
{
    return detail::send_fd<push_machine>(core_);
}

} // namespace sp::inline v1
