// SPDX-License-Identifier: BSD-2-Clause
//
// The calls that many roles share, written once over their machines: receiving, sending with back
// pressure, sending to everybody, loans and contexts. A role's own file names its machine and adds
// what only it can do. Each function claims the node's lock itself unless it is handed it.
//
// What the machines must have: waiting(context...), take(context..., effects) to receive;
// send_ready(size), on_send(header..., frame, size, now, effects) to send.
#pragma once

#include "sp/context.hpp"
#include "userspace/socket_core.hpp"

#include <optional>
#include <span>
#include <utility>

namespace sp::inline v1::detail {

using core_ptr = std::shared_ptr<socket_core>;

// Several waits of one call end together.
[[nodiscard]] inline wait one_end(const wait &w)
{
    return w.never() || !w.is_given() ? w : wait(w.deadline(engine_clock::now()), w.stop());
}

// ---- receiving

// Makes `m` the owner of a frame that was taken.
void fill(message &m, const core_ptr &core, protocol::frame_id frame, std::size_t header_bytes,
          protocol::pipe_id pipe);

// What a taken frame becomes; roles whose messages can do more have their own.
template <class Machine>
struct opened {
    using item = message;
    static void fill_in(message &empty, const core_ptr &core, const protocol::taken &taken)
    {
        fill(empty, core, taken.frame, taken.header_bytes, taken.pipe);
    }
};

template <class Machine>
using item_of = typename opened<Machine>::item;

// Messages of this role may be taken straight from a ring.
template <class Machine, class... Context>
inline constexpr bool takes_directly =
    sizeof...(Context) == 0 &&
    (protocol::direct_receiver<Machine> || std::same_as<Machine, protocol::rep_machine>);

// What the machine would make of a frame that has just come, if that is all it has to do.
template <class Machine>
auto accept_directly(Machine &machine, protocol::pipe_id pipe, core::frame &f)
{
    if constexpr (std::same_as<Machine, protocol::rep_machine>) {
        return machine.direct(pipe, f.id, f.bytes());
    } else {
        const auto header = machine.direct(f.bytes());
        return header ? std::optional(protocol::taken{
                            .frame = f.id, .pipe = pipe, .header_bytes = *header})
                      : std::nullopt;
    }
}

// The next one, if one waits, into an item that is empty. With the lock held and the socket open.
template <class Machine, class... Context>
bool take(const core_ptr &core, item_of<Machine> &item, Context... context)
{
    auto &machine = core->machine<Machine>();
    if (!machine.waiting(context...)) {
        auto &engine = core->engine();
        auto &s = *engine.find(core->id());
        if constexpr (takes_directly<Machine, Context...>)
        {
            decltype(machine.take(std::declval<protocol::effects &>())) taken;
            const auto accept = [&](protocol::pipe_id pipe, core::frame &f) {
                taken = accept_directly(machine, pipe, f);
                return taken.has_value();
            };
            if (engine.take_now(s, accept)) {
                core->count(stat::socket_delivered);
                opened<Machine>::fill_in(item, core, *taken);
                core->home()->took_one(core->id());
                return true;
            }
        }
        core->home()->take_what_came(s);
        if (!machine.waiting(context...))
            return false;
    }
    const auto taken = core->engine().template with<Machine>(
        core->id(), core->home()->latest(),
        [&](auto &m, auto &out) { return m.take(context..., out); });
    if (!taken)
        return false;
    core->count(stat::socket_delivered);
    opened<Machine>::fill_in(item, core, *taken);
    return true;
}

// What run_until() may look at between two turns: the rings of a socket.
struct looking_at {
    explicit looking_at(const socket_core &core, bool takes = false)
        : engine(core.engine()), id(core.id()), attended(takes ? id : core::socket_id{})
    {
    }
    bool operator()() const noexcept
    {
        const auto *s = engine.find(id);
        return s && engine.came(*s);
    }

    node::engine_type &engine;
    core::socket_id id;
    core::socket_id attended;
};

struct never_over {
    std::optional<errc> operator()() const noexcept { return std::nullopt; }
};

// Waits for one. `over()` says that nothing more will come, and why.
template <class Machine, class Over, class... Context>
result<item_of<Machine>> receive_held(node::lock &held, const core_ptr &core, const wait &how_long,
                                      Over over, Context... context)
{
    result<item_of<Machine>> item;
    bool got = false;
    std::optional<errc> why;
    // Taken where it is found: the lock may be lent before run_until() returns.
    const auto outcome = core->home()->run_until(held, core->recv_wait(how_long), [&] {
        if (core->closed())
            return (why = errc::closed).has_value();
        got = take<Machine>(core, *item, context...);
        return got || (why = over());
    }, looking_at(*core, takes_directly<Machine, Context...>));
    if (got)
        return item;
    return std::unexpected(outcome.value_or(why.value_or(errc::closed)));
}

template <class Machine, class Over, class... Context>
result<item_of<Machine>> receive_until(const core_ptr &core, const wait &how_long, Over over,
                                       Context... context)
{
    auto held = core->home()->claim();
    if (auto why = core->unusable()) [[unlikely]]
        return std::unexpected(*why);
    if (result<item_of<Machine>> item; take<Machine>(core, *item, context...)) [[likely]]
        return item;
    return receive_held<Machine>(held, core, how_long, over, context...);
}

template <class Machine, class... Context>
result<item_of<Machine>> receive(const core_ptr &core, const wait &how_long, Context... context)
{
    return receive_until<Machine>(core, how_long, never_over(), context...);
}

template <class Machine, class... Context>
std::optional<item_of<Machine>> try_receive(const core_ptr &core, Context... context)
{
    const auto held = core->home()->claim();
    if (core->unusable())
        return std::nullopt;
    std::optional<item_of<Machine>> item(std::in_place);
    if (take<Machine>(core, *item, context...))
        return item;
    core->home()->turn(engine_clock::now());
    if (!take<Machine>(core, *item, context...))
        item.reset();
    return item;
}

// As many as there are, behind those that `batch` has already; the others are empty.
template <class Machine, class... Context>
std::size_t take_rest(const core_ptr &core, std::span<item_of<Machine>> batch, std::size_t n,
                      Context... context)
{
    while (n < batch.size() && take<Machine>(core, batch[n], context...))
        ++n;
    return n;
}

// What the array still holds goes back before the lock is taken: giving back may need it.
template <class Item>
void clear(std::span<Item> batch)
{
    for (auto &old : batch)
        old = Item();
}

template <class Machine, class Over, class... Context>
result<std::size_t> receive_batch_until(const core_ptr &core, std::span<item_of<Machine>> batch,
                                        const wait &how_long, Over over, Context... context)
{
    clear(batch);
    auto held = core->home()->claim();
    if (auto why = core->unusable())
        return std::unexpected(*why);
    if (batch.empty())
        return 0;
    auto first = receive_held<Machine>(held, core, how_long, over, context...);
    if (!first)
        return std::unexpected(first.error());
    batch[0] = std::move(*first);
    return core->closed() ? 1 : take_rest<Machine>(core, batch, 1, context...);
}

template <class Machine, class... Context>
result<std::size_t> receive_batch(const core_ptr &core, std::span<item_of<Machine>> batch,
                                  const wait &how_long, Context... context)
{
    return receive_batch_until<Machine>(core, batch, how_long, never_over(), context...);
}

template <class Machine, class... Context>
std::size_t try_receive_batch(const core_ptr &core, std::span<item_of<Machine>> batch,
                              Context... context)
{
    clear(batch);
    const auto held = core->home()->claim();
    if (core->unusable() || batch.empty())
        return 0;
    if (const auto n = take_rest<Machine>(core, batch, 0, context...))
        return n;
    core->home()->turn(engine_clock::now());
    return take_rest<Machine>(core, batch, 0, context...);
}

// Readable while there is something to receive.
template <class Machine>
result<int> receive_fd(const core_ptr &core)
{
    return core->descriptor(socket_core::watched::receive, std::nullopt,
                            [c = core.get()] { return c->machine<Machine>().waiting(); });
}

template <class Machine>
result<int> receive_fd(const core_ptr &core, std::uint32_t context)
{
    return core->descriptor(socket_core::watched::receive, context, [c = core.get(), context] {
        return c->machine<Machine>().waiting(static_cast<protocol::context_id>(context));
    });
}

// ---- sending, for roles that push back

// SP2007, for a frame that no peer takes.
[[nodiscard]] error too_large_for_peers(const socket_core &core, std::size_t size);

// Gives the frame to the machine, once that has room. On an error it is still the caller's.
template <class Machine, class... Header>
std::optional<error> give(node::lock &held, socket_core &core, core::frame &f, const wait &how_long,
                          const Header &...header)
{
    std::optional<errc> refused;
    const auto size = (f.body().size() + ... + header.size());
    const auto body_bytes = f.body().size();
    const auto attempt = [&] {
        refused = errc::closed;
        if (core.closed())
            return true;
        refused = errc::would_block;
        if (!core.machine<Machine>().send_ready(size))
            return false;
        const auto now = engine_clock::now(); // packets are timed by it
        refused = core.engine().template with<Machine>(core.id(), now, [&](auto &m, auto &out) {
            return m.on_send(header..., f.id, body_bytes, now, out);
        });
        if (!refused) {
            core.count(stat::socket_accepted);
            core.engine().finish(now);
        }
        return refused != errc::would_block;
    };
    if (const auto outcome = core.home()->run_until(held, how_long, attempt))
        return error(*outcome);
    if (refused == errc::message_too_large)
        return too_large_for_peers(core, size);
    return refused ? std::optional(error(*refused)) : std::nullopt;
}

// The short way. Null: it has to go the long one.
template <class Machine>
core::pipe *send_now(socket_core &core, bytes body)
{
    auto &machine = core.machine<Machine>();
    const auto way = machine.direct(body.size());
    auto *p = core.put_now(way, body);
    if (p)
        machine.went(way.pipe);
    return p;
}

template <class Machine, class... Header>
result<void> send_held(node::lock &held, socket_core &core, bytes body, const wait &how_long,
                       const Header &...header)
{
    auto f = core.frame_of(held, body, how_long);
    if (!f)
        return std::unexpected(f.error());
    if (auto refused = give<Machine>(held, core, **f, how_long, header...)) {
        core.engine().pool().release((*f)->id);
        return std::unexpected(*refused);
    }
    return {};
}

template <class Machine, class... Header>
result<void> send(socket_core &core, payload body, const wait &how_long, const Header &...header)
{
    auto held = core.home()->claim();
    if (auto why = core.unusable())
        return std::unexpected(*why);
    if constexpr (sizeof...(Header) == 0 && protocol::direct_sender<Machine>)
        if (const auto *p = send_now<Machine>(core, body.view())) {
            core.engine().nudge(*p);
            return {};
        }
    return send_held<Machine>(held, core, body.view(), one_end(core.send_wait(how_long)),
                              header...);
}

// Of a loan, or of a message that goes on. On an error it is as it was.
template <class Machine, class Holder, class... Header>
result<void> send_in_place(socket_core &core, Holder &holder, const wait &how_long,
                           const Header &...header)
{
    auto held = core.home()->claim();
    if (auto why = core.unusable())
        return std::unexpected(*why);
    auto *f = access::frame_of(holder, core.home());
    if (!f)
        return std::unexpected(errc::invalid_argument);
    if (auto refused = give<Machine>(held, core, *f, core.send_wait(how_long), header...))
        return std::unexpected(*refused);
    access::empty(holder);
    return {};
}

// Waits for room for the first; what has no room after that is left to the caller.
template <class Machine>
result<std::size_t> send_batch(socket_core &core, std::span<const payload> bodies,
                               const wait &how_long)
{
    auto held = core.home()->claim();
    if (auto why = core.unusable())
        return std::unexpected(*why);
    std::size_t n = 0;
    if constexpr (protocol::direct_sender<Machine>) {
        const core::pipe *stirred = nullptr;
        for (; n < bodies.size(); ++n) {
            const auto *p = send_now<Machine>(core, bodies[n].view());
            if (stirred && p != stirred)
                core.engine().nudge(*stirred);
            stirred = p;
            if (!p)
                break;
        }
        if (stirred)
            core.engine().nudge(*stirred);
        if (n == bodies.size())
            return n;
    }
    for (wait patience = n > 0 ? wait(std::chrono::seconds(0)) : one_end(core.send_wait(how_long));
         n < bodies.size(); ++n) {
        const auto sent = send_held<Machine>(held, core, bodies[n].view(), patience);
        if (!sent && n == 0)
            return std::unexpected(sent.error());
        if (!sent || core.closed())
            break;
        patience = std::chrono::seconds(0);
    }
    return n;
}

// A buffer, once the machine has room for it.
template <class Machine>
result<loan> lend(socket_core &core, std::size_t size, const wait &how_long)
{
    auto held = core.home()->claim();
    if (auto why = core.unusable())
        return std::unexpected(*why);
    const auto patience = one_end(core.send_wait(how_long));
    auto f = core.frame_for(held, size, patience);
    if (!f)
        return std::unexpected(f.error());
    const auto outcome = core.home()->run_until(
        held, patience, [&] { return core.closed() || core.machine<Machine>().send_ready(size); });
    if (!outcome && !core.closed())
        return access::make_loan(core.home(), **f);
    core.engine().pool().release((*f)->id);
    return std::unexpected(core.closed() ? errc::closed : *outcome);
}

template <class Machine>
result<int> send_fd(const core_ptr &core)
{
    return core->descriptor(socket_core::watched::send, std::nullopt, [c = core.get()] {
        return c->machine<Machine>().send_ready(0) && c->memory_left();
    });
}

// ---- sending to everybody, which never fails for want of room

// A buffer now, or would_block.
[[nodiscard]] result<loan> lend_now(socket_core &core, std::size_t size);
// A frame that holds `body`. Null: there is no memory, and the message is counted as dropped.
[[nodiscard]] result<core::frame *> frame_or_drop(node::lock &held, socket_core &core, bytes body);

// Waits for the slow ones if the socket is to (on_send_full = block), then sends whatever happened.
// On an error (closed, canceled) the frame is still the caller's.
template <class Machine>
std::optional<errc> broadcast(node::lock &held, socket_core &core, core::frame &f)
{
    const auto size = f.body().size();
    const auto ready = [&] {
        if (core.closed())
            return true;
        const auto &machine = core.machine<Machine>();
        return machine.send_ready(size) &&
               (!machine.holds_back() || core.engine().may_publish(core.id(), size));
    };
    (void)core.home()->run_until(held, core.send_wait(wait()), ready);
    if (core.closed())
        return errc::closed;
    const auto now = engine_clock::now(); // packets are timed by it
    const bool backlog =
        core.engine().template with<Machine>(core.id(), now, [&](auto &m, auto &out) {
            m.on_send(f.id, size, now, out);
            return m.queued_out() > 0;
        });
    core.count(stat::socket_accepted);
    // Who sends faster than his peers take must drive, or their credit would never be seen; and
    // those of his own engine, whom nobody else serves meanwhile, would be overrun.
    if (backlog || core.engine().owes_turn(core.id()))
        core.home()->turn(engine_clock::now());
    else
        core.engine().finish(now);
    return std::nullopt;
}

// The short way: by one write to all. False: it has to go the long one.
template <class Machine>
bool publish_now(socket_core &core, bytes body)
{
    const auto &machine = core.machine<Machine>();
    const auto pipes = body.size() <= core.message_max() ? machine.direct(body.size()) : 0;
    auto &engine = core.engine();
    if (pipes == 0 || (machine.holds_back() && !engine.may_publish(core.id(), body.size())))
        return false;
    engine.publish_now(core.id(), body, pipes);
    if (engine.owes_turn(core.id()))
        core.home()->turn(engine_clock::now());
    return true;
}

template <class Machine>
result<void> broadcast_body(node::lock &held, socket_core &core, bytes body)
{
    if (publish_now<Machine>(core, body))
        return {};
    auto f = frame_or_drop(held, core, body);
    if (!f)
        return std::unexpected(f.error());
    if (!*f)
        return {};
    if (auto refused = broadcast<Machine>(held, core, **f)) {
        core.engine().pool().release((*f)->id);
        return std::unexpected(*refused);
    }
    return {};
}

template <class Machine>
result<std::size_t> broadcast_batch(socket_core &core, std::span<const payload> bodies)
{
    auto held = core.home()->claim();
    if (auto why = core.unusable())
        return std::unexpected(*why);
    std::size_t n = 0;
    for (; n < bodies.size(); ++n)
        if (auto sent = broadcast_body<Machine>(held, core, bodies[n].view()); !sent) {
            if (n == 0)
                return std::unexpected(sent.error());
            break;
        }
    held.unlock();
    core.home()->give_way();
    return n;
}

template <class Machine>
result<void> broadcast(socket_core &core, payload body)
{
    if (auto sent = broadcast_batch<Machine>(core, std::span(&body, 1)); !sent)
        return std::unexpected(sent.error());
    return {};
}

template <class Machine>
result<void> broadcast(socket_core &core, loan &body)
{
    auto held = core.home()->claim();
    if (auto why = core.unusable())
        return std::unexpected(*why);
    auto *f = access::frame_of(body, core.home());
    if (!f)
        return std::unexpected(errc::invalid_argument);
    if (auto refused = broadcast<Machine>(held, core, *f))
        return std::unexpected(*refused);
    access::empty(body);
    held.unlock();
    core.home()->give_way();
    return {};
}

// ---- contexts

template <class Machine>
void close_context(socket_core &core, std::uint32_t context) noexcept
{
    core.end_context(context);
    const auto held = core.home()->claim();
    if (core.unusable())
        return;
    core.engine().template with<Machine>(
        core.id(), engine_clock::now(), [&](auto &machine, auto &out) {
            machine.close_context(static_cast<protocol::context_id>(context), out);
            return true;
        });
}

// With the lock held and the socket open.
template <class Machine>
result<context> open_context(const core_ptr &core)
{
    const auto id = core->machine<Machine>().open_context();
    if (!id)
        return std::unexpected(error::numbered(2031, "no more contexts on one socket"));
    return context(core, static_cast<std::uint32_t>(*id), close_context<Machine>);
}

} // namespace sp::inline v1::detail
