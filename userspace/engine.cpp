// SPDX-License-Identifier: BSD-2-Clause
//
// The public engine: a handle on a node.
#include "sp/engine.hpp"

#include "userspace/node.hpp"

namespace sp::inline v1 {

result<engine> engine::open(const engine_options &options)
{
    auto made = detail::node::open(options);
    if (!made)
        return std::unexpected(made.error());
    return engine(std::move(*made));
}

std::size_t engine::poll(instant now) noexcept
{
    const auto held = node_->claim();
    return node_->turn_by_hand(now);
}

instant engine::next_deadline() const noexcept
{
    const auto held = node_->claim();
    return node_->next_deadline();
}

int engine::fd() const noexcept
{
    return node_->fd();
}

counters engine::statistics() const
{
    const auto held = node_->claim();
    return node_->engine().stats();
}

std::size_t engine::frames_in_use() const
{
    const auto held = node_->claim();
    return node_->engine().pool().in_use();
}

} // namespace sp::inline v1
