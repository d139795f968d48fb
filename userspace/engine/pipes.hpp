// SPDX-License-Identifier: BSD-2-Clause
//
// Part of engine.hpp: connections and the patterns on them. Every change of a connection ends in
// touch(); the touched are looked at when the step is over, so that a pipe never disappears under
// the code that works on it. Effects of a pattern are carried out by settle(), which gives a pipe
// that took a message and has room for another back to its pattern.
#pragma once

#include "userspace/engine/engine.hpp"
#include "userspace/marks.hpp"
#include "userspace/plants.hpp"

#include <algorithm>

namespace sp::core {

template <transport Transport, stream_transport Streams>
template <class... Args>
engine<Transport, Streams>::engine(const engine_config &config, instant now, Args &&...streams)
    : random_(config.seed), instance_(random_() | 1), cookies_(
                                                          [this] {
                                                              link::cookie_secret s;
                                                              random_.fill(s);
                                                              return s;
                                                          }(),
                                                          now),
      pool_(config.memory_max), streams_(std::forward<Args>(streams)...), pipes_(config.pipes_max),
      first_seq_(config.first_seq)
{
}

template <transport Transport, stream_transport Streams>
template <class F>
void engine<Transport, Streams>::visit(socket &s, F &&f)
{
    std::visit(
        [&](auto &machine) {
            if constexpr (protocol::machine<std::remove_cvref_t<decltype(machine)>>)
                f(machine);
        },
        s.machine);
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::count(socket &s, stat which, std::uint64_t n, pipe_id by) noexcept
{
    stats_.add(which, n);
    s.books.add(which, n);
    if (by != protocol::no_pipe)
        if (auto *p = pipes_.find(by))
            p->books.add(which, n);
}

// ---- making and ending pipes ----

template <transport Transport, stream_transport Streams>
pipe *engine<Transport, Streams>::add_pipe(pipe_id &id, std::size_t transport,
                                           const sp_address &peer, const endpoint &e,
                                           endpoint_id by)
{
    auto *p = pipes_.add(id);
    if (!p)
        return nullptr;
    auto route = transports_[transport]->open_route(peer);
    if (!route || transports_[transport]->packet_max(*route) < sizeof(sp_init)) {
        if (route)
            transports_[transport]->close_route(*route);
        pipes_.remove(id);
        return nullptr;
    }
    if constexpr (sharing_transport<Transport>) {
        const auto &o = sockets_.find(e.socket)->options;
        transports_[transport]->allow(*route, o.records_max == 1 ? o.window : 0);
    }
    p->transport = transport;
    p->route = *route;
    p->address = peer;
    p->socket = e.socket;
    p->endpoint = by;
    p->dialed = e.dials;
    introduce(*sockets_.find(e.socket), *p);
    peer_ids_.resize(
        std::max<std::size_t>(peer_ids_.size(), (static_cast<std::uint32_t>(id) & 0xffff) + 1));
    return p;
}

template <transport Transport, stream_transport Streams>
link::connection_config engine<Transport, Streams>::config_of(const pipe &p, const socket &s,
                                                              pipe_id id, const endpoint &e)
{
    link::connection_config config;
    // 48 random bits and our own index: found without a table, and not to be guessed from outside.
    do
        config.local_id =
            (random_() & ~std::uint64_t{0xffff}) | (static_cast<std::uint32_t>(id) & 0xffff);
    while ((config.local_id >> 16) == 0);
    config.instance = instance_;
    config.local_port = e.local_port;
    config.peer_port = e.peer_port;
    config.protocol = static_cast<std::uint16_t>(s.role);
    config.peer_protocol = static_cast<std::uint16_t>(protocol::peer_of(s.role));
    config.packet_max = static_cast<std::uint16_t>(
        std::min<std::size_t>(transports_[p.transport]->packet_max(p.route), 0xffff));
    config.message_max = s.options.message_max;
    config.window = credit_for(p.transport, s.options.window);
    config.records_max = s.options.records_max;
    config.first_seq = first_seq_;
    config.keepalive_interval = s.options.keepalive_interval;
    config.peer_timeout = s.options.peer_timeout;
    return config;
}

// Packets of credit for one connection more: what is wanted, but of what the transport can receive
// no more than a quarter of what nobody has yet, and always two, so that late comers work too.
template <transport Transport, stream_transport Streams>
std::uint16_t engine<Transport, Streams>::credit_for(std::size_t transport,
                                                     std::uint16_t wanted) noexcept
{
    static constexpr std::size_t least = 2, for_strangers = 256;
    if constexpr (framed_transport<Transport>) {
        const auto frames = transports_[transport]->rx_packets();
        if (frames == 0)
            return wanted;
        std::size_t given = for_strangers;
        pipes_.each([&](pipe_id, const pipe &p) {
            if (p.link && p.transport == transport)
                given += p.link->window();
        });
        const auto left = frames > given ? (frames - given) / 4 : 0;
        return static_cast<std::uint16_t>(
            std::clamp<std::size_t>(wanted, 1, std::max(left, least)));
    } else {
        return wanted;
    }
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::touch(pipe_id id, pipe &p)
{
    if (p.touched)
        return;
    p.touched = true;
    touched_.push_back(id);
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::settle_touched(instant now)
{
    while (!touched_.empty()) {
        const auto id = touched_.back();
        touched_.pop_back();
        if (auto *p = pipes_.find(id)) {
            p->touched = false;
            after_input(id, *p, now);
        }
    }
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::after_input(pipe_id id, pipe &p, instant now)
{
    if (p.bytes) {
        resume(id, p, now);
    } else {
        if (p.sated)
            take_more(p, now);
        write_outbox(id, p, now);
        transmit(id, p, now);
        report(p);
    }
    if (p.is_open() && !p.attached)
        attach_if_room(id, p, now);
    if (p.attached) {
        if (p.confirmed_now() != p.confirmed) {
            auto &s = *sockets_.find(p.socket);
            if (tell_confirmed(s, id, p))
                settle(s, now); // it may have frames to give back
        }
        tell_ready(id, p, now);
    }
    if (p.is_closed())
        return detach(id, p, now);
    schedule(id, p);
}

// Others may have come while this one's handshake went on.
template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::attach_if_room(pipe_id id, pipe &p, instant now)
{
    const auto &s = *sockets_.find(p.socket);
    const bool alone = !s.options.one_peer || s.peers == 0;
    if (alone && s.peers < s.options.pipes_max)
        return attach(id, p, now);
    p.why = alone ? stat::listener_limit : stat::listener_peer_busy;
    p.close(alone ? SP_REASON_LIMIT : SP_REASON_BUSY, stream::ending::refused);
    if (p.link)
        transmit(id, p, now);
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::attach(pipe_id id, pipe &p, instant now)
{
    auto &s = *sockets_.find(p.socket);
    p.attached = true;
    p.opened_at = now;
    count(s, stat::pipe_opened);
    if (p.link) {
        peer_ids_[static_cast<std::uint32_t>(id) & 0xffff] = p.link->peer_id();
        end_older_incarnations(id, p);
        if (auto *e = endpoints_.find(p.endpoint); e && !p.dialed)
            --e->half_open;
        begin_sharing(id, p, now);
    }
    ++s.peers;
    if (auto *e = endpoints_.find(p.endpoint); e && p.dialed) {
        e->connected = true;
        e->last_failure.reset();
        e->attempt_until = instant::max();
    }
    const protocol::pipe_profile profile{.id = id,
                                         .instance = p.link ? p.link->peer_instance() : 0,
                                         .capacity = p.link ? p.link->message_capacity()
                                                            : s.options.message_max,
                                         .together = together(p)};
    remember(s, happening_of(happening::kind::attached, id, p));
    visit(s, [&](auto &machine) { machine.on_pipe_added(profile); });
}

// Another boot epoch at the same place: whoever was there before has gone.
template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::end_older_incarnations(pipe_id id, const pipe &p)
{
    if (p.dialed)
        return;
    pipes_.each([&](pipe_id other, pipe &old) {
        if (other == id || !old.link || old.dialed || old.transport != p.transport ||
            old.link->peer_port() != p.link->peer_port() || !same(old.address, p.address) ||
            old.link->peer_instance() == p.link->peer_instance())
            return;
        old.close(SP_REASON_STALE);
        touch(other, old);
    });
}

// Messages that its pattern sent have come to the peer's side. True: it was told, and must be
// settled.
template <transport Transport, stream_transport Streams>
bool engine<Transport, Streams>::tell_confirmed(socket &s, pipe_id id, pipe &p)
{
    const auto more = p.confirmed_now() - p.confirmed;
    bool told = false;
    if (more == 0)
        return told;
    p.confirmed += more;
    visit(s, [&](auto &machine) {
        if constexpr (requires { machine.on_confirmed(id, more, out_); }) {
            machine.on_confirmed(id, more, out_);
            told = true;
        }
    });
    return told;
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::tell_ready(pipe_id id, pipe &p, instant now)
{
    if (p.ready || !p.has_room())
        return;
    auto &s = *sockets_.find(p.socket);
    p.ready = true;
    visit(s, [&](auto &machine) { machine.on_pipe_ready(id, now, out_); });
    settle(s, now);
}

// The reason of a pipe's end as it is counted.
[[nodiscard]] inline stat close_stat(const pipe &p) noexcept
{
    if (p.why)
        return *p.why;
    if (p.bytes) {
        switch (p.bytes->talk.why()) {
        case stream::ending::bad_frame:
            return stat::pipe_bad_frame;
        case stream::ending::too_large:
            return stat::pipe_too_large;
        case stream::ending::peer_closed:
            return stat::pipe_peer_closed;
        case stream::ending::io_error:
            return stat::pipe_io_error;
        default:
            return stat::pipe_local_close;
        }
    }
    switch (p.link->reason()) {
    case SP_REASON_DEAD:
        return stat::pipe_peer_dead;
    case SP_REASON_STALE:
        return stat::pipe_stale;
    case SP_REASON_LOST:
        return stat::pipe_lost;
    case SP_REASON_PROTOCOL_ERROR:
        return stat::pipe_bad_frame;
    default:
        return p.link->closed_by_peer() ? stat::pipe_peer_closed : stat::pipe_local_close;
    }
}

// What its pattern had sent on a pipe and never reached the wire: back to the pattern, or dropped.
template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::take_back(socket &s, pipe_id id, pipe &p)
{
    visit(s, [&](auto &machine) {
        for (; !p.outbox.empty(); p.outbox.pop_back()) {
            const auto frame = p.outbox.back().frame;
            if (s.closing) { // the pattern has given up all it had, and would never be asked again
                count(s, stat::socket_closed, 1, id);
                pool_.release(frame);
                continue;
            }
            if constexpr (requires { machine.on_unsent(id, frame); }) {
                count(s, stat::socket_returned);
                machine.on_unsent(id, frame);
            } else {
                count(s, stat::socket_pipe_closed, 1, id);
                pool_.release(frame);
            }
        }
    });
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::detach(pipe_id id, pipe &p, instant now)
{
    auto *s = sockets_.find(p.socket);
    if (p.attached && s) {
        count(*s, close_stat(p));
        count(*s, stat::socket_unconfirmed, p.shared ? unread(*s, p) : p.unconfirmed());
        --s->peers;
        disembark(*s, id, p);
        auto what = happening_of(happening::kind::detached, id, p);
        what.why = close_stat(p);
        remember(*s, std::move(what));
        if (p.shared) {
            drain_shared(s, id, p, now);
            end_sharing(*s, id);
        }
        if (p.bytes)
            drop_stream(s, id, p);
        else
            drop_packets(s, id, p);
        take_back(*s, id, p);
        visit(*s, [&](auto &machine) { machine.on_pipe_closed(id, now); });
        settle(*s, now);
    }
    for (const auto &waiting : p.outbox)
        pool_.release(waiting.frame);
    if (p.bytes && !p.attached)
        drop_stream(s, id, p);
    if (p.link && !p.attached && !p.dialed)
        if (auto *e = endpoints_.find(p.endpoint))
            --e->half_open;
    if (p.dialed)
        on_dial_ended(p.endpoint, p, now);
    if (p.link) {
        transports_[p.transport]->close_route(p.route);
        peer_ids_[static_cast<std::uint32_t>(id) & 0xffff] = 0;
    }
    pipes_.remove(id);
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::schedule(pipe_id id, pipe &p)
{
    const auto at = p.next_deadline();
    if (at >= p.scheduled)
        return;
    p.scheduled_next = p.scheduled; // which stays in the heap
    p.scheduled = at;
    timers_.add({at, timer_kind::pipe, static_cast<std::uint32_t>(id)});
}

// ---- sending ----

// Its link has something to send; all that comes together in this step shares packets.
template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::emit(pipe_id id, pipe &p)
{
    if (p.emitting)
        return;
    p.emitting = true;
    emitting_.push_back(id);
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::push_out(instant now)
{
    for (std::size_t i = 0; i < emitting_.size(); ++i)
        if (auto *p = pipes_.find(emitting_[i])) {
            p->emitting = false;
            transmit(emitting_[i], *p, now);
            schedule(emitting_[i], *p); // its deadlines are others now
        }
    emitting_.clear();
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::transmit(pipe_id id, pipe &p, instant now)
{
    auto &t = *transports_[p.transport];
    while (const auto size = p.link->transmit_size()) {
        if (size > link::sender::packet_safe && p.is_open())
            if (const auto most = t.packet_max(p.route);
                size > most && most >= link::sender::packet_least) {
                p.link->narrow(most);
                continue;
            }
        const auto room = t.reserve(p.route, size);
        if (room.empty())
            return block(id, p);
        t.submit(p.route, p.link->transmit(room, now));
    }
}

// What happened on its link since the last look.
template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::report(pipe &p) noexcept
{
    const auto c = p.link->take_counts();
    stats_.add(stat::link_data_sent, c.sent.data_sent);
    stats_.add(stat::link_data_resent, c.sent.data_resent);
    stats_.add(stat::link_questions, c.sent.questions);
    stats_.add(stat::link_timeouts, c.sent.timeouts);
    stats_.add(stat::link_cut, c.sent.cut);
    stats_.add(stat::link_early, c.early);
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::block(pipe_id id, pipe &p)
{
    SP_MARK(transport_full);
    if (SP_PLANTED(engine_forgets_blocked))
        return;
    if (p.blocked)
        return;
    p.blocked = true;
    blocked_.push_back(id);
}

// True when all of the message is with the link or the kernel.
template <transport Transport, stream_transport Streams>
bool engine<Transport, Streams>::write(socket &s, pipe_id id, pipe &p, const outgoing &message,
                                       instant now)
{
    if (p.bytes)
        return write_stream(s, id, p, message);
    if (p.shared)
        return write_shared(s, id, p, message);
    const auto head = std::span(message.header).first(message.header_bytes);
    const auto body = pool_[message.frame].body();
    do {
        if (!p.link->send_ready())
            return false;
        p.written = p.link->append(head, body, p.written, now);
        emit(id, p);
    } while (p.written < head.size() + body.size());
    p.written = 0;
    p.used = true;
    count(s, stat::socket_sent, 1, id);
    return true;
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::write_outbox(pipe_id id, pipe &p, instant now)
{
    if (p.outbox.empty() || !(p.shared ? p.is_open() : p.link->send_ready()))
        return;
    auto &s = *sockets_.find(p.socket);
    while (!p.outbox.empty() && write(s, id, p, p.outbox.front(), now)) {
        pool_.release(p.outbox.front().frame);
        p.outbox.erase(p.outbox.begin());
    }
}

// A message for a pipe that has just ended.
template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::lose(socket &s, const protocol::effect &e)
{
    visit(s, [&](auto &machine) {
        if constexpr (requires { machine.on_unsent(e.pipe, e.frame); }) {
            pool_.reference(e.frame);
            count(s, stat::socket_returned);
            machine.on_unsent(e.pipe, e.frame);
        } else {
            count(s, stat::socket_pipe_closed, 1, e.pipe);
        }
    });
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::send(socket &s, const protocol::effect &e, instant now)
{
    auto *p = pipes_.find(e.pipe);
    if (!p || !p->is_open())
        return lose(s, e); // the pattern hears of its end before this step is over
    outgoing message{
        .frame = e.frame, .header_bytes = static_cast<std::uint8_t>(e.header.size()), .header = {}};
    std::ranges::copy(e.header, message.header.begin());
    p->ready = false;
    if (p->has_room() && write(s, e.pipe, *p, message, now)) {
        again_.push_back(e.pipe);
        return;
    }
    pool_.reference(e.frame);
    p->outbox.push_back(message);
    if (p->bytes)
        watch(*p);
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::retry_blocked(instant now)
{
    std::swap(blocked_, retrying_);
    for (const auto id : retrying_) {
        auto *p = pipes_.find(id);
        if (!p)
            continue;
        p->blocked = false;
        touch(id, *p);
    }
    retrying_.clear();
    settle_touched(now);
}

// ---- effects ----

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::carry_out(socket &s, const protocol::effect &e, instant now)
{
    using kind = protocol::effect::kind;
    switch (e.what) {
    case kind::send:
        return send(s, e, now);
    case kind::retain:
        return pool_.reference(e.frame);
    case kind::release:
        return pool_.release(e.frame);
    case kind::count:
        return count(s, e.why, e.times, e.pipe);
    case kind::board:
        return board(s, e.pipe);
    case kind::publish:
        return publish(s, e.frame);
    case kind::part:
        return part(s);
    case kind::consumed:
        if (auto *p = pipes_.find(e.pipe)) {
            if (p->bytes) {
                SP_INVARIANT(p->bytes->untaken > 0);
                --p->bytes->untaken;
            } else if (p->shared) {
                on_shared_consumed(*p);
                if (!p->sated)
                    return;
            } else {
                on_consumed(*p, now);
            }
            touch(e.pipe, *p);
        }
        return;
    case kind::close_pipe:
        if (auto *p = pipes_.find(e.pipe)) {
            p->why = e.why;
            p->close(SP_REASON_PROTOCOL_ERROR);
            touch(e.pipe, *p);
        }
        return;
    }
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::settle(socket &s, instant now)
{
    visit(s, [&](auto &machine) { settle(s, machine, now); });
}

template <transport Transport, stream_transport Streams>
template <class Machine>
void engine<Transport, Streams>::settle(socket &s, Machine &machine, instant now)
{
    for (;;) {
        for (const auto &e : out_.all())
            carry_out(s, e, now);
        out_.clear();
        while (!again_.empty() && out_.empty()) {
            const auto id = again_.back();
            again_.pop_back();
            auto *p = pipes_.find(id);
            if (!p)
                continue;
            if (p->shared)
                (void)tell_confirmed(s, id, *p); // this is the settling
            if (p->ready || !p->has_room())
                continue;
            p->ready = true;
            machine.on_pipe_ready(id, now, out_);
        }
        if (!out_.empty())
            continue;
        machine.pump(now, out_);
        if (out_.empty())
            break;
    }
    // A pipe that came may have set a timer: of a request that waited.
    if (!SP_PLANTED(engine_forgets_timers))
        schedule(s, machine.next_deadline());
}

template <transport Transport, stream_transport Streams>
template <class Machine, class F>
auto engine<Transport, Streams>::with(socket_id id, instant now, F &&f)
{
    auto &s = *sockets_.find(id);
    auto &machine = std::get<Machine>(s.machine);
    auto value = f(machine, out_);
    settle(s, machine, now);
    return value;
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::finish(instant now)
{
    push_out(now);
    flush();
    if (touched_.empty())
        return;
    settle_touched(now);
    push_out(now);
    flush();
}

} // namespace sp::core
