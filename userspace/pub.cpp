// SPDX-License-Identifier: BSD-2-Clause
//
// The calls of PUB over its machine.
#include "sp/pub.hpp"

#include "userspace/calls.hpp"

namespace sp::inline v1 {

using protocol::pub_machine;

result<pub> pub::open(const options &o)
{
    protocol::pub_options machine;
    detail::assign_send_queue(machine.queue, o);
    detail::assign(machine.on_full, o.on_send_full);
    auto core =
        detail::socket_core::open(o, protocol::role::pub, [&](auto &engine, const auto &shaping) {
            return engine.template open<pub_machine>(protocol::role::pub, shaping, machine);
        });
    if (!core)
        return std::unexpected(core.error());
    return pub(std::move(*core));
}

result<void> pub::send(payload body)
{
    return detail::broadcast<pub_machine>(*core_, body);
}

result<void> pub::send(sp::loan &&body)
{
    return detail::broadcast<pub_machine>(*core_, body);
}

result<std::size_t> pub::send_batch(std::span<const payload> bodies)
{
    return detail::broadcast_batch<pub_machine>(*core_, bodies);
}

result<loan> pub::loan(std::size_t size)
{
    return detail::lend_now(*core_, size);
}

} // namespace sp::inline v1
