// SPDX-License-Identifier: BSD-2-Clause
//
// Part of engine.hpp: transports, sockets, endpoints and the turn. A dialer tries for ever: at
// once, then with pauses that double after every failure, refusals included, each drawn from the
// upper half of its range; it starts over only after a pipe that carried a message or lived for a
// second.
#pragma once

#include "userspace/engine/engine.hpp"
#include "userspace/marks.hpp"
#include "userspace/plants.hpp"

#include <algorithm>

namespace sp::core {

template <transport Transport, stream_transport Streams>
std::size_t engine<Transport, Streams>::add_transport(Transport transport)
{
    for (std::size_t slot = 0; slot < transports_.size(); ++slot)
        if (!transports_[slot]) {
            transports_[slot] = std::make_unique<Transport>(std::move(transport));
            return slot;
        }
    transports_.push_back(std::make_unique<Transport>(std::move(transport)));
    return transports_.size() - 1;
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::remove_transport(std::size_t slot)
{
    pipes_.each([&](pipe_id, const pipe &p) { SP_INVARIANT(p.bytes || p.transport != slot); });
    transports_[slot].reset();
}

template <transport Transport, stream_transport Streams>
template <class Machine, class... Args>
std::optional<socket_id>
engine<Transport, Streams>::open(protocol::role role, const socket_options &options, Args &&...args)
{
    socket_id id{};
    auto *s = sockets_.add(id);
    if (!s)
        return std::nullopt;
    s->id = id;
    s->machine.template emplace<Machine>(std::forward<Args>(args)...);
    s->role = role;
    s->options = options;
    return id;
}

template <transport Transport, stream_transport Streams>
bool engine<Transport, Streams>::drained(socket_id id)
{
    auto *s = sockets_.find(id);
    bool done = true;
    if (!s)
        return done;
    visit(*s, [&](const auto &machine) { done = machine.queued_out() == 0; });
    pipes_.each([&](pipe_id, const pipe &p) {
        done = done && (p.socket != id ||
                        (p.outbox.empty() && (p.bytes || !p.attached || p.unconfirmed() == 0)));
    });
    return done;
}

template <transport Transport, stream_transport Streams>
typename engine<Transport, Streams>::leftovers
engine<Transport, Streams>::close_socket(socket_id id, instant now)
{
    leftovers left;
    auto *s = sockets_.find(id);
    if (!s)
        return left;
    s->closing = true;
    visit(*s, [&](auto &machine) {
        do {
            out_.clear();
            left.undelivered += machine.close(out_);
            for (const auto &e : out_.all())
                carry_out(*s, e, now);
        } while (!out_.empty());
    });
    each_pipe(id, [&](pipe_id which, pipe &p) { // before the endpoints, which take theirs along
        left.undelivered += p.unsent();
        left.unconfirmed += p.unconfirmed();
        // What the pattern had queued for one pipe it has just counted there.
        const auto undelivered = p.unsent() + p.books[stat::socket_closed];
        if (undelivered + p.unconfirmed() > 0)
            left.pipes.push_back({which, undelivered, p.unconfirmed()});
    });
    endpoints_.each([&](endpoint_id e, const endpoint &which) {
        if (which.socket == id)
            close_endpoint(e, now);
    });
    each_pipe(id, [&](pipe_id which, pipe &p) {
        p.close(SP_REASON_SHUTTING_DOWN);
        touch(which, p);
    });
    settle_touched(now);
    sockets_.remove(id);
    flush();
    return left;
}

// ---- events and admission ----

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::remember(socket &s, happening what)
{
    if (s.events.size() == happenings_max) {
        s.events.pop_front();
        count(s, stat::socket_events);
    }
    s.events.push_back(std::move(what));
}

template <transport Transport, stream_transport Streams>
happening engine<Transport, Streams>::happening_of(happening::kind what, pipe_id id, const pipe &p)
{
    happening h{.what = what, .pipe = id, .transport = {}, .peer = {}};
    h.endpoint = p.endpoint;
    const auto *s = sockets_.find(p.socket);
    h.protocol = s ? static_cast<std::uint16_t>(protocol::peer_of(s->role)) : std::uint16_t{0};
    if (p.bytes) {
        h.transport = streams_.name(p.bytes->id);
        const auto &who = streams_.peer(p.bytes->id);
        h.peer = who.text;
        if (who.local)
            h.process = credentials{.uid = who.uid, .gid = who.gid, .pid = who.pid};
    } else {
        h.transport = transports_[p.transport]->name(p.route);
        h.address = p.address;
        h.port = p.link->peer_port();
        h.instance = p.link->peer_instance();
        if constexpr (vouching_transport<Transport>)
            h.process = transports_[p.transport]->peer_of(p.route);
    }
    return h;
}

template <transport Transport, stream_transport Streams>
auto engine<Transport, Streams>::unwelcome(socket &s, const candidate &who) -> std::optional<denial>
{
    if (s.options.one_peer && s.peers > 0)
        SP_MARK(second_peer_refused);
    if (s.options.one_peer && s.peers > 0 && !SP_PLANTED(engine_admits_second_peer))
        return denial{SP_REASON_BUSY, stat::listener_peer_busy};
    if (s.admit && !s.admit(who))
        return denial{SP_REASON_ACCESS, stat::listener_rejected};
    if (s.peers >= s.options.pipes_max)
        return denial{SP_REASON_LIMIT, stat::listener_limit};
    return std::nullopt;
}

// ---- endpoints ----

template <transport Transport, stream_transport Streams>
bool engine<Transport, Streams>::listened(std::size_t transport, std::uint16_t port)
{
    return listener_for(transport, port) != no_endpoint;
}

template <transport Transport, stream_transport Streams>
std::optional<endpoint_id> engine<Transport, Streams>::listen(socket_id id, std::size_t transport,
                                                              std::uint16_t port)
{
    endpoint_id name{};
    auto *e = endpoints_.add(name);
    if (!e)
        return std::nullopt;
    e->socket = id;
    e->transport = transport;
    e->local_port = port;
    listeners_[door_of(transport, port)] = name;
    return name;
}

template <transport Transport, stream_transport Streams>
std::optional<endpoint_id>
engine<Transport, Streams>::dial(socket_id id, std::size_t transport, const sp_address &peer,
                                 std::uint16_t local_port, std::uint16_t peer_port, instant now)
{
    endpoint_id name{};
    auto *e = endpoints_.add(name);
    if (!e)
        return std::nullopt;
    e->dials = true;
    e->socket = id;
    e->transport = transport;
    e->address = peer;
    e->local_port = local_port;
    e->peer_port = peer_port;
    connect(name, *e, now);
    settle_touched(now);
    return name;
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::close_endpoint(endpoint_id id, instant now)
{
    auto *e = endpoints_.find(id);
    if (!e)
        return;
    if (!e->dials)
        if (const auto door = e->place ? door_of(*e->place) : door_of(e->transport, e->local_port);
            listeners_[door] == id)
            listeners_.erase(door);
    endpoints_.remove(id);
    pipes_.each([&](pipe_id which, pipe &p) {
        if (p.endpoint != id)
            return;
        p.close(SP_REASON_SHUTTING_DOWN);
        touch(which, p);
    });
    settle_touched(now);
}

template <transport Transport, stream_transport Streams>
std::optional<endpoint_id> engine<Transport, Streams>::listen(socket_id id, place_id place)
{
    endpoint_id name{};
    auto *e = endpoints_.add(name);
    if (!e)
        return std::nullopt;
    e->socket = id;
    e->place = place;
    listeners_[door_of(place)] = name;
    return name;
}

template <transport Transport, stream_transport Streams>
std::optional<endpoint_id> engine<Transport, Streams>::dial(socket_id id, place_id place,
                                                            instant now)
{
    endpoint_id name{};
    auto *e = endpoints_.add(name);
    if (!e)
        return std::nullopt;
    e->dials = true;
    e->socket = id;
    e->place = place;
    connect(name, *e, now);
    settle_touched(now);
    return name;
}

// A pipe on its way to the endpoint's peer, or why there is none.
template <transport Transport, stream_transport Streams>
pipe *engine<Transport, Streams>::open_pipe(endpoint_id id, endpoint &e, pipe_id &name, instant now)
{
    auto &s = *sockets_.find(e.socket);
    if (e.place) {
        const auto stream = streams_.connect(*e.place);
        auto *p = stream == stream_id{} ? nullptr : add_byte_pipe(name, stream, e, id);
        if (!p)
            e.last_failure = dial_failure{.code = errc::limit_reached, .text = {}};
        return p;
    }
    if (auto *p = add_pipe(name, e.transport, e.address, e, id)) {
        p->link.emplace(link::connection::dial(config_of(*p, s, name, e), now));
        return p;
    }
    e.last_failure = dial_failure{.code = errc::unreachable, .text = {}};
    while (const auto failure = transports_[e.transport]->next_failure()) {
        if (same(failure->first, e.address))
            e.last_failure->code = failure->second;
        else
            on_failure(e.transport, failure->first, failure->second, now);
    }
    return nullptr;
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::connect(endpoint_id id, endpoint &e, instant now)
{
    ++e.attempts;
    e.retry_at = instant::max();
    pipe_id name{};
    auto *p = open_pipe(id, e, name, now);
    if (!p) {
        if (!e.last_failure)
            e.last_failure = dial_failure{.code = errc::limit_reached, .text = {}};
        e.failures = std::max(e.failures, 1u);
        return pause(id, e, now);
    }
    e.pipe = name;
    e.attempt_until = now + sockets_.find(e.socket)->options.connect_timeout;
    schedule(id, e);
    touch(name, *p);
}

template <transport Transport, stream_transport Streams>
dial_failure engine<Transport, Streams>::failure_of(const pipe &p)
{
    if (p.bytes)
        return stream_failure_of(p);
    const auto code = [&] {
        switch (p.link->reason()) {
        case SP_REASON_NO_LISTENER:
            return errc::connection_refused;
        case SP_REASON_PROTOCOL_MISMATCH:
            return errc::protocol_mismatch;
        case SP_REASON_VERSION:
            return errc::version_mismatch;
        case SP_REASON_ACCESS:
        case SP_REASON_AUTH:
            return errc::rejected;
        case SP_REASON_BUSY:
            return errc::peer_busy;
        case SP_REASON_LIMIT:
            return errc::limit_reached;
        case SP_REASON_PROTOCOL_ERROR:
            return errc::protocol_error;
        case SP_REASON_NONE:
            return p.hint.value_or(errc::timed_out);
        default:
            return errc::connection_reset;
        }
    }();
    return {.code = code,
            .reason = p.link->reason(),
            .peer_protocol = p.link->refused_by_protocol(),
            .text = std::string(p.link->refusal_text())};
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::on_dial_ended(endpoint_id id, const pipe &p, instant now)
{
    auto *e = endpoints_.find(id);
    if (!e)
        return;
    e->pipe = protocol::no_pipe;
    e->connected = false;
    e->attempt_until = instant::max();
    e->last_failure = failure_of(p);
    if (p.attached && (p.used || now - p.opened_at >= std::chrono::seconds(1)))
        e->failures = 0;
    else
        e->failures = std::max(e->failures, 1u);
    pause(id, *e, now);
}

// The first attempt after a good connection is immediate.
template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::pause(endpoint_id id, endpoint &e, instant now)
{
    const auto &options = sockets_.find(e.socket)->options;
    using namespace std::chrono_literals;
    const std::chrono::nanoseconds least = options.reconnect_min.value_or(e.place ? 100ms : 10ms);
    const std::chrono::nanoseconds most =
        std::max(least, options.reconnect_max.value_or(e.place ? 10s : 500ms));
    std::chrono::nanoseconds wait{0};
    if (e.failures > 0) {
        const auto doublings = std::min(e.failures - 1, 30u);
        wait = least > most / (std::int64_t{1} << doublings)
                   ? most
                   : least * (std::int64_t{1} << doublings);
        const auto whole = static_cast<std::uint64_t>(wait.count());
        wait = std::chrono::nanoseconds(random_.between(whole - whole / 2, whole));
    }
    ++e.failures;
    e.retry_at = SP_PLANTED(engine_never_redials) && e.failures > 2 ? instant::max() : now + wait;
    schedule(id, e);
}

// The system says that a peer is gone, or a transport that it breaks the rules. Believed until it
// has answered; later only if it cannot be wrong.
template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::on_failure(std::size_t transport, const sp_address &peer, errc why,
                                            instant now)
{
    const bool certain = transports_[transport]->certain();
    pipes_.each([&](pipe_id id, pipe &p) {
        if (p.bytes || p.transport != transport || !same(p.address, peer) ||
            (!certain && (p.attached || p.link->answered())))
            return;
        p.hint = why;
        p.why = why == errc::protocol_error ? stat::pipe_bad_frame : stat::pipe_peer_closed;
        p.close(p.attached ? SP_REASON_DEAD : SP_REASON_NONE);
        touch(id, p);
    });
    settle_touched(now);
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::on_endpoint_deadline(endpoint_id id, endpoint &e, instant now)
{
    if (now >= e.attempt_until) {
        e.attempt_until = instant::max();
        if (auto *p = pipes_.find(e.pipe)) {
            p->close(SP_REASON_NONE);
            touch(e.pipe, *p);
        }
    }
    if (now >= e.retry_at)
        connect(id, e, now);
    settle_touched(now);
    if (auto *still = endpoints_.find(id))
        schedule(id, *still);
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::schedule(endpoint_id id, endpoint &e)
{
    const auto at = std::min(e.attempt_until, e.retry_at);
    if (at >= e.scheduled)
        return;
    e.scheduled = at;
    timers_.add({at, timer_kind::endpoint, static_cast<std::uint32_t>(id)});
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::schedule(socket &s, instant at)
{
    if (at >= s.scheduled)
        return;
    s.scheduled = at;
    timers_.add({at, timer_kind::socket, static_cast<std::uint32_t>(s.id)});
}

// ---- the turn ----

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::on_link_deadline(pipe &p, std::chrono::nanoseconds late,
                                                  instant now)
{
    if (late > link::own_pause)
        p.part_at = std::min(p.part_at + late, now);
    if (p.assembling && !p.held && !p.shared && now >= p.part_at + pipe::part_patience) {
        p.why = stat::pipe_stalled;
        return p.link->close(SP_REASON_STALLED_MESSAGE);
    }
    p.link->on_deadline(now);
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::run_timers(instant now)
{
    // A timer that fires may set another for now; the next turn takes it.
    for (std::size_t fired = 0; fired < 1024; ++fired) {
        const auto t = timers_.take(now);
        if (!t)
            return;
        if (t->kind == timer_kind::pipe) {
            const auto id = static_cast<pipe_id>(t->id);
            auto *p = pipes_.find(id);
            if (!p || p->scheduled != t->at)
                continue;
            p->scheduled = std::exchange(p->scheduled_next, instant::max());
            if (p->scheduled <= now)
                p->scheduled = instant::max();
            if (p->bytes)
                p->bytes->talk.on_deadline(now);
            else
                on_link_deadline(*p, now - t->at, now);
            touch(id, *p);
            settle_touched(now);
        } else if (t->kind == timer_kind::endpoint) {
            const auto id = static_cast<endpoint_id>(t->id);
            auto *e = endpoints_.find(id);
            if (!e || e->scheduled != t->at)
                continue;
            e->scheduled = instant::max();
            on_endpoint_deadline(id, *e, now);
        } else {
            const auto id = static_cast<socket_id>(t->id);
            auto *s = sockets_.find(id);
            if (!s || s->scheduled != t->at)
                continue;
            s->scheduled = instant::max();
            visit(*s, [&](auto &machine) { machine.on_deadline(now); });
            settle(*s, now);
            settle_touched(now);
        }
    }
}

template <transport Transport, stream_transport Streams>
std::size_t engine<Transport, Streams>::poll(instant now, sweep how, socket_id attended)
{
    turned_at_ = now;
    std::size_t work = touched_.empty() ? 0 : 1;
    settle_touched(now);
    delivered_ = false;
    for (std::size_t slot = 0; slot < transports_.size(); ++slot) {
        if (!transports_[slot])
            continue;
        auto &t = *transports_[slot];
        work += t.receive(
            [&](const sp_address &from, std::span<const std::byte> packet) {
                on_packet(slot, from, packet, now);
            },
            batch, how, now.time_since_epoch().count());
        work += poll_shared(slot, attended, now);
        while (const auto failure = t.next_failure())
            on_failure(slot, failure->first, failure->second, now);
    }
    work += poll_streams(now, how);
    take_held(now);
    make_room(now);
    if (!delivered_)
        settle_touched(now);
    if (timers_.next() <= now) {
        run_timers(now);
        ++work;
    }
    pool_.collect();
    if (!blocked_.empty())
        retry_blocked(now);
    push_out(now);
    flush();
    return work;
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::flush() noexcept
{
    for (auto &t : transports_)
        if (t)
            t->flush();
}

template <transport Transport, stream_transport Streams>
instant engine<Transport, Streams>::next_deadline() const noexcept
{
    static constexpr auto starved_retry = std::chrono::milliseconds(1);
    return starved_.empty() && held_.empty() ? timers_.next()
                                             : std::min(timers_.next(), turned_at_ + starved_retry);
}

} // namespace sp::core
