// SPDX-License-Identifier: BSD-2-Clause
//
// The calls of BUS over its machine.
#include "sp/bus.hpp"

#include "userspace/calls.hpp"

namespace sp::inline v1 {

using protocol::bus_machine;

result<bus> bus::open(const options &o)
{
    protocol::bus_options machine;
    detail::assign_send_queue(machine.send, o);
    detail::assign_recv_queue(machine.recv, o);
    detail::assign(machine.on_send_full, o.on_send_full);
    detail::assign(machine.on_recv_full, o.on_recv_full);
    // A ring that all read cannot keep the oldest for one and drop the newest. Who asks for it, or to
    // end who is slow, gets a ring for each peer.
    machine.together = !o.on_send_full || machine.on_send_full == protocol::overflow::drop_oldest ||
                       machine.on_send_full == protocol::overflow::block;
    auto core =
        detail::socket_core::open(o, protocol::role::bus, [&](auto &engine, const auto &shaping) {
            return engine.template open<bus_machine>(protocol::role::bus, shaping, machine);
        });
    if (!core)
        return std::unexpected(core.error());
    return bus(std::move(*core));
}

result<void> bus::send(payload body)
{
    return detail::broadcast<bus_machine>(*core_, body);
}

result<void> bus::send(sp::loan &&body)
{
    return detail::broadcast<bus_machine>(*core_, body);
}

result<std::size_t> bus::send_batch(std::span<const payload> bodies)
{
    return detail::broadcast_batch<bus_machine>(*core_, bodies);
}

result<loan> bus::loan(std::size_t size)
{
    return detail::lend_now(*core_, size);
}

result<message> bus::recv(wait how_long)
{
    return detail::receive<bus_machine>(core_, how_long);
}

std::optional<message> bus::try_recv()
{
    return detail::try_receive<bus_machine>(core_);
}

result<std::size_t> bus::recv_batch(std::span<message> batch, wait how_long)
{
    return detail::receive_batch<bus_machine>(core_, batch, how_long);
}

std::size_t bus::try_recv_batch(std::span<message> batch)
{
    return detail::try_receive_batch<bus_machine>(core_, batch);
}

result<int> bus::recv_fd()
{
    return detail::receive_fd<bus_machine>(core_);
}

} // namespace sp::inline v1
