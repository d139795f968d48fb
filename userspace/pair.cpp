// SPDX-License-Identifier: BSD-2-Clause
//
// The calls of PAIR over its machine. That there is one peer at a time is the engine's business.
#include "sp/pair.hpp"

#include "userspace/calls.hpp"

namespace sp::inline v1 {

using protocol::pair_machine;

result<pair> pair::open(const options &o)
{
    protocol::pair_options machine;
    detail::assign(machine.version, o.pair_version);
    detail::assign(machine.ttl_max, o.ttl_max);
    detail::assign_send_queue(machine.send, o);
    detail::assign_recv_queue(machine.recv, o);
    detail::assign(machine.on_send_full, o.on_send_full);
    detail::assign(machine.on_recv_full, o.on_recv_full);
    detail::assign(machine.on_no_peer, o.on_no_peer);
    const auto role = machine.version == 0 ? protocol::role::pair0 : protocol::role::pair1;
    auto core = detail::socket_core::open(o, role, [&](auto &engine, const auto &shaping) {
        return engine.template open<pair_machine>(role, shaping, machine);
    });
    if (!core)
        return std::unexpected(core.error());
    return pair(std::move(*core));
}

result<void> pair::send(payload body, wait how_long)
{
    return detail::send<pair_machine>(*core_, body, how_long);
}

result<void> pair::send(sp::loan &&body, wait how_long)
{
    return detail::send_in_place<pair_machine>(*core_, body, how_long);
}

bool pair::try_send(payload body)
{
    return send(body, std::chrono::seconds(0)).has_value();
}

result<std::size_t> pair::send_batch(std::span<const payload> bodies, wait how_long)
{
    return detail::send_batch<pair_machine>(*core_, bodies, how_long);
}

result<loan> pair::loan(std::size_t size, wait how_long)
{
    return detail::lend<pair_machine>(*core_, size, how_long);
}

result<message> pair::recv(wait how_long)
{
    return detail::receive<pair_machine>(core_, how_long);
}

std::optional<message> pair::try_recv()
{
    return detail::try_receive<pair_machine>(core_);
}

result<std::size_t> pair::recv_batch(std::span<message> batch, wait how_long)
{
    return detail::receive_batch<pair_machine>(core_, batch, how_long);
}

std::size_t pair::try_recv_batch(std::span<message> batch)
{
    return detail::try_receive_batch<pair_machine>(core_, batch);
}

result<int> pair::recv_fd()
{
    return detail::receive_fd<pair_machine>(core_);
}

result<int> pair::send_fd()
{
    return detail::send_fd<pair_machine>(core_);
}

} // namespace sp::inline v1
