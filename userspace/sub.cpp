// SPDX-License-Identifier: BSD-2-Clause
//
// The calls of SUB and its contexts over their machine. The socket object stands for one context,
// which is there before the first peer is.
#include "sp/sub.hpp"

#include "userspace/calls.hpp"

namespace sp::inline v1 {

using detail::socket_core;
using protocol::context_id;
using protocol::sub_machine;

namespace {

result<void> subscribe_to(socket_core &core, context_id context, payload topic)
{
    const auto held = core.home()->claim();
    if (auto why = core.unusable())
        return std::unexpected(*why);
    core.machine<sub_machine>().subscribe(context, topic.view());
    return {};
}

result<void> unsubscribe_from(socket_core &core, context_id context, payload topic)
{
    const auto held = core.home()->claim();
    if (auto why = core.unusable())
        return std::unexpected(*why);
    const bool known =
        core.engine().with<sub_machine>(core.id(), core.home()->latest(), [&](auto &m, auto &out) {
            return m.unsubscribe(context, topic.view(), out);
        });
    if (!known)
        return std::unexpected(errc::not_found);
    return {};
}

context_id name_of(const detail::context &c)
{
    return static_cast<context_id>(c.id());
}

} // namespace

// ---- sub ----

result<sub> sub::open(const options &o)
{
    protocol::sub_options machine;
    detail::assign_recv_queue(machine.queue, o);
    detail::assign(machine.on_full, o.on_recv_full);
    context_id own{};
    auto core = socket_core::open(o, protocol::role::sub, [&](auto &engine, const auto &shaping) {
        const auto id = engine.template open<sub_machine>(protocol::role::sub, shaping, machine);
        if (id)
            own = *std::get<sub_machine>(engine.find(*id)->machine).open_context();
        return id;
    });
    if (!core)
        return std::unexpected(core.error());
    (*core)->set_own_context(own);
    return sub(std::move(*core));
}

result<void> sub::subscribe(payload topic)
{
    return subscribe_to(*core_, core_->own_context(), topic);
}

result<void> sub::unsubscribe(payload topic)
{
    return unsubscribe_from(*core_, core_->own_context(), topic);
}

result<message> sub::recv(wait how_long)
{
    return detail::receive<sub_machine>(core_, how_long, core_->own_context());
}

std::optional<message> sub::try_recv()
{
    return detail::try_receive<sub_machine>(core_, core_->own_context());
}

result<std::size_t> sub::recv_batch(std::span<message> batch, wait how_long)
{
    return detail::receive_batch<sub_machine>(core_, batch, how_long, core_->own_context());
}

std::size_t sub::try_recv_batch(std::span<message> batch)
{
    return detail::try_receive_batch<sub_machine>(core_, batch, core_->own_context());
}

result<int> sub::recv_fd()
{
    return core_->descriptor(socket_core::watched::receive, std::nullopt, [core = core_.get()] {
        return core->machine<sub_machine>().waiting(core->own_context());
    });
}

result<sub_context> sub::open_context()
{
    const auto held = core_->home()->claim();
    if (auto why = core_->unusable())
        return std::unexpected(*why);
    auto context = detail::open_context<sub_machine>(core_);
    if (!context)
        return std::unexpected(context.error());
    return sub_context(std::move(*context));
}

// ---- context ----

result<void> sub_context::subscribe(payload topic)
{
    return subscribe_to(*context_.core(), name_of(context_), topic);
}

result<void> sub_context::unsubscribe(payload topic)
{
    return unsubscribe_from(*context_.core(), name_of(context_), topic);
}

result<message> sub_context::recv(wait how_long)
{
    return detail::receive<sub_machine>(context_.core(), how_long, name_of(context_));
}

std::optional<message> sub_context::try_recv()
{
    return detail::try_receive<sub_machine>(context_.core(), name_of(context_));
}

result<std::size_t> sub_context::recv_batch(std::span<message> batch, wait how_long)
{
    return detail::receive_batch<sub_machine>(context_.core(), batch, how_long, name_of(context_));
}

std::size_t sub_context::try_recv_batch(std::span<message> batch)
{
    return detail::try_receive_batch<sub_machine>(context_.core(), batch, name_of(context_));
}

result<int> sub_context::recv_fd()
{
    return detail::receive_fd<sub_machine>(context_.core(), context_.id());
}

} // namespace sp::inline v1
