// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/watches.hpp"

#include <algorithm>
#include <utility>

namespace sp::inline v1::detail {

result<int> watches::descriptor(const watch_key &key, std::move_only_function<bool()> ready)
{
    const auto known = std::ranges::find(all_, key, &watch::key);
    if (known != all_.end())
        return known->event.fd();
    auto event = transport::event::open();
    if (!event)
        return std::unexpected(event.error());
    all_.push_back({key, std::move(ready), std::move(*event)});
    return all_.back().event.fd();
}

void watches::forget(const socket_core *owner, std::optional<std::uint32_t> context) noexcept
{
    std::erase_if(all_, [&](const watch &each) {
        return each.key.owner == owner && each.key.context == context;
    });
}

void watches::forget(const socket_core *owner) noexcept
{
    std::erase_if(all_, [&](const watch &each) { return each.key.owner == owner; });
}

void watches::refresh() noexcept
{
    for (auto &each : all_)
        if (each.ready())
            each.event.raise();
        else
            each.event.lower();
}

} // namespace sp::inline v1::detail
