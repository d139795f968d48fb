// SPDX-License-Identifier: BSD-2-Clause
//
// The calls of REP and RESPONDENT over the machine that both have.
#include "sp/rep.hpp"

#include "sp/respondent.hpp"
#include "userspace/calls.hpp"

namespace sp::inline v1 {

using protocol::rep_machine;

namespace {

result<detail::core_ptr> open_as(protocol::role role, const options &o,
                                 const protocol::rep_options &machine)
{
    return detail::socket_core::open(o, role, [&](auto &engine, const auto &shaping) {
        return engine.template open<rep_machine>(role, shaping, machine, engine.random()());
    });
}

} // namespace

namespace detail {

template <>
struct opened<rep_machine> {
    using item = request;
    static void fill_in(request &empty, const core_ptr &core, const protocol::taken_request &taken)
    {
        fill(empty, core, taken.frame, taken.header_bytes, taken.pipe);
        access::bind(empty, core, taken.ticket);
    }
};

} // namespace detail

result<rep> rep::open(const options &o)
{
    protocol::rep_options machine;
    detail::assign(machine.ttl_max, o.ttl_max);
    detail::assign(machine.dedupe_time, o.dedupe_time);
    detail::assign(machine.reply_cache_bytes, o.reply_cache_bytes);
    auto core = open_as(protocol::role::rep, o, machine);
    if (!core)
        return std::unexpected(core.error());
    return rep(std::move(*core));
}

// A surveyor never asks twice, so there is nothing to recognise.
result<respondent> respondent::open(const options &o)
{
    protocol::rep_options machine;
    detail::assign(machine.ttl_max, o.ttl_max);
    machine.dedupe_time = std::chrono::seconds(0);
    auto core = open_as(protocol::role::respondent, o, machine);
    if (!core)
        return std::unexpected(core.error());
    return respondent(std::move(*core));
}

result<request> answerer::recv(wait how_long)
{
    return detail::receive<rep_machine>(core_, how_long);
}

std::optional<request> answerer::try_recv()
{
    return detail::try_receive<rep_machine>(core_);
}

result<std::size_t> answerer::recv_batch(std::span<request> batch, wait how_long)
{
    return detail::receive_batch<rep_machine>(core_, batch, how_long);
}

std::size_t answerer::try_recv_batch(std::span<request> batch)
{
    return detail::try_receive_batch<rep_machine>(core_, batch);
}

result<int> answerer::recv_fd()
{
    return detail::receive_fd<rep_machine>(core_);
}

} // namespace sp::inline v1
