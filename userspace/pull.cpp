// SPDX-License-Identifier: BSD-2-Clause
//
// The calls of PULL over its machine.
#include "sp/pull.hpp"

#include "userspace/calls.hpp"

namespace sp::inline v1 {

using protocol::pull_machine;

result<pull> pull::open(const options &o)
{
    auto core =
        detail::socket_core::open(o, protocol::role::pull, [&](auto &engine, const auto &shaping) {
            return engine.template open<pull_machine>(protocol::role::pull, shaping);
        });
    if (!core)
        return std::unexpected(core.error());
    return pull(std::move(*core));
}

result<message> pull::recv(wait how_long)
{
    return detail::receive<pull_machine>(core_, how_long);
}

std::optional<message> pull::try_recv()
{
    return detail::try_receive<pull_machine>(core_);
}

result<std::size_t> pull::recv_batch(std::span<message> batch, wait how_long)
{
    return detail::receive_batch<pull_machine>(core_, batch, how_long);
}

std::size_t pull::try_recv_batch(std::span<message> batch)
{
    return detail::try_receive_batch<pull_machine>(core_, batch);
}

result<int> pull::recv_fd()
{
    return detail::receive_fd<pull_machine>(core_);
}

} // namespace sp::inline v1
