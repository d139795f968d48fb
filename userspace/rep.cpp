// SPDX-License-Identifier: BSD-2-Clause
//
// The calls of REP over its machine.
#include "sp/rep.hpp"

#include "userspace/socket_core.hpp"

namespace sp::inline v1 {

using detail::socket_core;
using protocol::rep_machine;

result<rep> rep::open(const options &o)
{
    if (o.on_no_peer || o.resend_time || o.request_deadline)
        return std::unexpected(error::numbered(
            2008, "on_no_peer, resend_time and request_deadline are read by req only"));
    protocol::rep_options machine;
    if (o.ttl_max && (*o.ttl_max < 1 || *o.ttl_max > 15))
        return std::unexpected(error::numbered(2008, "ttl_max is from 1 to 15"));
    if (o.dedupe_time && o.dedupe_time->count() < 0)
        return std::unexpected(error::numbered(2008, "dedupe_time is not negative"));
    if (o.reply_cache_bytes && *o.reply_cache_bytes > 1u << 30)
        return std::unexpected(error::numbered(2008, "reply_cache_bytes is at most 1 GiB"));
    machine.ttl_max = o.ttl_max.value_or(8);
    machine.dedupe_time = o.dedupe_time.value_or(machine.dedupe_time);
    machine.reply_cache_bytes = o.reply_cache_bytes.value_or(machine.reply_cache_bytes);
    auto core = socket_core::open(o, protocol::role::rep, [&](auto &engine, const auto &shaping) {
        return engine.template open<rep_machine>(protocol::role::rep, shaping, machine,
                                                          engine.random()());
    });
    if (!core)
        return std::unexpected(core.error());
    return rep(std::move(*core));
}

namespace {

std::optional<request> take(const std::shared_ptr<socket_core> &core)
{
    const auto taken = core->engine().with<rep_machine>(
        core->id(), core->home()->latest(), [](auto &m, auto &out) { return m.take(out); });
    if (!taken)
        return std::nullopt;
    auto &f = core->engine().pool()[taken->frame];
    f.offset = static_cast<std::uint32_t>(taken->header_bytes);
    request r;
    detail::access::fill(static_cast<message &>(r), core->home(), f, taken->pipe);
    detail::access::bind(r, core, taken->ticket);
    core->count(stat::socket_delivered);
    return r;
}

} // namespace

result<request> rep::recv(wait how_long)
{
    auto held = core_->home()->claim();
    if (auto why = core_->unusable())
        return std::unexpected(*why);
    const auto outcome = core_->home()->run_until(
        held, how_long, [&] { return core_->closed() || core_->machine<rep_machine>().waiting(); });
    if (core_->closed())
        return std::unexpected(errc::closed);
    if (outcome)
        return std::unexpected(*outcome);
    return std::move(*take(core_));
}

std::optional<request> rep::try_recv()
{
    auto held = core_->home()->claim();
    if (core_->unusable())
        return std::nullopt;
    if (!core_->machine<rep_machine>().waiting())
        core_->home()->turn(engine_clock::now());
    return take(core_);
}

result<int> rep::recv_fd()
{
    return core_->descriptor(socket_core::watched::receive, std::nullopt, [core = core_.get()] {
        return core->machine<rep_machine>().waiting();
    });
}

} // namespace sp::inline v1
