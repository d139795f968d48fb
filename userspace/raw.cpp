// SPDX-License-Identifier: BSD-2-Clause
//
// The calls of raw sockets over the one machine that all of them have.
#include "sp/raw.hpp"

#include "userspace/calls.hpp"

#include <algorithm>

namespace sp::inline v1 {

using protocol::raw_machine;
using protocol::role;

static_assert(raw_message::header_max == protocol::raw_header::bytes_max);
static_assert(static_cast<int>(pattern::bus) == static_cast<int>(role::bus) &&
              static_cast<int>(pattern::pair) == static_cast<int>(role::pair1) &&
              static_cast<int>(pattern::surveyor) == static_cast<int>(role::surveyor));

namespace detail {

template <>
struct opened<raw_machine> {
    using item = raw_message;
    static void fill_in(raw_message &empty, const core_ptr &core, const protocol::taken &taken)
    {
        auto &f = core->engine().pool()[taken.frame];
        const auto header =
            core->machine<raw_machine>().header_of(taken, std::span(f.data(), f.size));
        fill(empty, core, taken.frame, taken.header_bytes, taken.pipe);
        access::set_header(empty, header.all());
    }
};

} // namespace detail

namespace {

bool exists(pattern p)
{
    switch (p) {
    case pattern::pair0:
    case pattern::pair:
    case pattern::pub:
    case pattern::sub:
    case pattern::req:
    case pattern::rep:
    case pattern::push:
    case pattern::pull:
    case pattern::surveyor:
    case pattern::respondent:
    case pattern::bus:
        return true;
    }
    return false;
}

bool only_sends(const detail::socket_core &core)
{
    return core.role() == role::pub || core.role() == role::push;
}

bool only_receives(const detail::socket_core &core)
{
    return core.role() == role::sub || core.role() == role::pull;
}

} // namespace

result<raw> raw::open(sp::pattern as, const options &o)
{
    if (!exists(as))
        return std::unexpected(error::numbered(2008, "there is no such pattern"));
    const auto role = static_cast<protocol::role>(as);
    auto machine = protocol::raw_defaults(role);
    detail::assign(machine.ttl_max, o.ttl_max);
    detail::assign_send_queue(machine.send, o);
    detail::assign_recv_queue(machine.recv, o);
    detail::assign(machine.on_send_full, o.on_send_full);
    detail::assign(machine.on_recv_full, o.on_recv_full);
    auto core = detail::socket_core::open(
        o, role,
        [&](auto &engine, const auto &shaping) {
            return engine.template open<raw_machine>(role, shaping, machine);
        },
        detail::form::raw);
    if (!core)
        return std::unexpected(core.error());
    return raw(std::move(*core));
}

sp::pattern raw::pattern() const noexcept
{
    return static_cast<sp::pattern>(core_->role());
}

result<void> raw::send(bytes header, payload body, wait how_long)
{
    if (only_receives(*core_))
        return std::unexpected(errc::not_supported);
    return detail::send<raw_machine>(*core_, body, how_long, header);
}

result<void> raw::send(raw_message &&message, wait how_long)
{
    if (only_receives(*core_))
        return std::unexpected(errc::not_supported);
    if (detail::access::is_at(message, core_->home())) // its buffer can go on
        return detail::send_in_place<raw_machine>(*core_, message, how_long, message.header());
    auto sent = send(message.header(), message.body(), how_long);
    if (sent)
        message = {};
    return sent;
}

result<raw_message> raw::recv(wait how_long)
{
    if (only_sends(*core_))
        return std::unexpected(errc::not_supported);
    return detail::receive<raw_machine>(core_, how_long);
}

std::optional<raw_message> raw::try_recv()
{
    return detail::try_receive<raw_machine>(core_);
}

result<std::size_t> raw::recv_batch(std::span<raw_message> batch, wait how_long)
{
    if (only_sends(*core_))
        return std::unexpected(errc::not_supported);
    return detail::receive_batch<raw_machine>(core_, batch, how_long);
}

std::size_t raw::try_recv_batch(std::span<raw_message> batch)
{
    return detail::try_receive_batch<raw_machine>(core_, batch);
}

result<int> raw::recv_fd()
{
    return detail::receive_fd<raw_machine>(core_);
}

result<int> raw::send_fd()
{
    return detail::send_fd<raw_machine>(core_);
}

} // namespace sp::inline v1
