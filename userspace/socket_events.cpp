// SPDX-License-Identifier: BSD-2-Clause
//
// What a socket tells about itself: events of its pipes, its books, and what waits in it.
#include "userspace/address.hpp"
#include "userspace/socket_core.hpp"

#include <utility>

namespace sp::inline v1 {
namespace detail {
namespace {

pipe_event event_of(core::happening &&h)
{
    pipe_event e;
    e.what = static_cast<pipe_event::kind>(h.what);
    e.info.pipe = h.pipe == protocol::no_pipe ? pipe_id{} : static_cast<pipe_id>(h.pipe);
    e.info.transport = std::move(h.transport);
    e.info.peer =
        h.peer.empty() && h.address.family != 0 ? text_of(h.address, h.port) : std::move(h.peer);
    e.info.protocol = h.protocol;
    e.info.instance = h.instance;
    describe_process(e.info, h.process);
    if (e.what != pipe_event::kind::attached)
        e.reason = describe(h.why).name;
    return e;
}

std::size_t queued_in(const core::any_machine &any)
{
    return std::visit(
        [](const auto &machine) -> std::size_t {
            if constexpr (requires { machine.queued_in(); })
                return machine.queued_in();
            else
                return 0;
        },
        any);
}

std::size_t queued_out(const core::any_machine &any)
{
    return std::visit(
        [](const auto &machine) -> std::size_t {
            if constexpr (requires { machine.queued_out(); })
                return machine.queued_out();
            else
                return 0;
        },
        any);
}

} // namespace

void socket_core::name_endpoint(sp::pipe_info &info, core::endpoint_id endpoint)
{
    info.endpoint = static_cast<endpoint_id>(endpoint);
    if (const auto *own = find(info.endpoint))
        info.url = own->url;
}

result<pipe_event> socket_core::next_event(const wait &how_long)
{
    auto held = node_->claim();
    if (auto why = unusable())
        return std::unexpected(*why);
    const auto outcome = node_->run_until(
        held, how_long, [&] { return closed_ || !engine().find(id_)->events.empty(); });
    if (closed_)
        return std::unexpected(errc::closed);
    if (outcome)
        return std::unexpected(*outcome);
    auto &events = engine().find(id_)->events;
    auto first = std::move(events.front());
    events.pop_front();
    const auto endpoint = first.endpoint;
    const auto pipe = static_cast<pipe_id>(first.pipe);
    auto told = event_of(std::move(first));
    name_endpoint(told.info, endpoint);
    // While the pipe lives, more is known of it.
    if (told.what == pipe_event::kind::attached)
        if (auto now = known(pipe))
            told.info = std::move(*now);
    return told;
}

result<int> socket_core::event_fd()
{
    return descriptor(watched::events, std::nullopt,
                      [this] { return !engine().find(id_)->events.empty(); });
}

counters socket_core::statistics()
{
    const auto held = node_->claim();
    return unusable() ? counters() : engine().find(id_)->books;
}

std::optional<counters> socket_core::statistics(pipe_id pipe)
{
    const auto held = node_->claim();
    if (unusable())
        return std::nullopt;
    const auto *p = engine().find_settled(static_cast<core::pipe_id>(pipe));
    if (!p || p->socket != id_ || !p->attached)
        return std::nullopt;
    counters books;
    for (std::size_t i = 0; i < stat_table.size(); ++i)
        books.set(static_cast<stat>(i), p->books[static_cast<stat>(i)]);
    return books;
}

std::size_t socket_core::queued()
{
    const auto held = node_->claim();
    if (unusable())
        return 0;
    const auto &any = engine().find(id_)->machine;
    auto n = queued_in(any) + queued_out(any);
    engine().each_pipe(id_, [&](core::pipe_id, const core::pipe &p) { n += p.outbox.size(); });
    return n;
}

std::uint64_t socket_core::on_its_way()
{
    std::uint64_t n = queued_out(engine().find(id_)->machine);
    engine().each_pipe(id_, [&](core::pipe_id, const core::pipe &p) {
        if (p.attached)
            n += p.unsent() + p.unconfirmed();
    });
    return n;
}

// ---- the end ----

close_report socket_core::close(const wait &drain)
{
    close_report report;
    auto held = node_->claim();
    if (closed_ || node_->forked())
        return report;
    const auto before = on_its_way();
    if (!drain.never())
        (void)node_->run_until(held, drain, [&] { return closed_ || engine().drained(id_); });
    if (closed_)
        return report;
    closed_ = true;
    const auto left = engine().close_socket(id_, engine_clock::now());
    report.undelivered = left.undelivered;
    report.unconfirmed = left.unconfirmed;
    // What others sent while it drained counts as left over, never as delivered.
    report.delivered = before - std::min(before, left.undelivered + left.unconfirmed);
    for (const auto &each : left.pipes)
        report.pipes.push_back(
            {static_cast<pipe_id>(each.pipe), each.undelivered, each.unconfirmed});
    for (const auto &e : endpoints_)
        node_->roads().leave(e.where, e.listens);
    endpoints_.clear();
    node_->changed();
    return report;
}

} // namespace detail

result<pipe_event> socket::next_event(wait how_long)
{
    return core_->next_event(how_long);
}

result<int> socket::event_fd()
{
    return core_->event_fd();
}

counters socket::statistics() const
{
    return core_->statistics();
}

std::optional<counters> socket::statistics(pipe_id pipe) const
{
    return core_->statistics(pipe);
}

std::size_t socket::queued() const
{
    return core_->queued();
}

} // namespace sp::inline v1
