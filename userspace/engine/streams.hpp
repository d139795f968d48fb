// SPDX-License-Identifier: BSD-2-Clause
//
// Part of engine.hpp: connections over byte streams. Bytes that arrive become frames of the pool:
// a message that is all there is copied once, a larger one grows as its bytes come and is then
// handed on as it is. While a pattern holds a message that it has not given up, nothing more is
// read: the rest stays in the kernel, which holds the peer back. A message goes out by one vectored
// write; what the kernel does not take waits, and until it is gone the pipe is not ready.
#pragma once

#include "userspace/engine/engine.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace sp::core {

// ---- making and ending ----

template <transport Transport, stream_transport Streams>
stream::connection_config engine<Transport, Streams>::stream_config_of(const socket &s,
                                                                       stream_id stream)
{
    return {.protocol = static_cast<std::uint16_t>(s.role),
            .peer_protocol = static_cast<std::uint16_t>(protocol::peer_of(s.role)),
            .frames = streams_.typed_frames(stream) ? stream::framing::ipc : stream::framing::tcp,
            .message_max = s.options.message_max,
            .hello_timeout = s.options.hello_timeout};
}

template <transport Transport, stream_transport Streams>
pipe *engine<Transport, Streams>::add_byte_pipe(pipe_id &id, stream_id stream, const endpoint &e,
                                                endpoint_id by)
{
    auto *p = pipes_.add(id);
    if (!p) {
        streams_.close(stream);
        return nullptr;
    }
    const auto &s = *sockets_.find(e.socket);
    p->bytes = std::make_unique<byte_pipe>(
        byte_pipe{.id = stream, .talk = stream::connection(stream_config_of(s, stream))});
    p->socket = e.socket;
    p->endpoint = by;
    p->dialed = e.dials;
    by_stream_[stream] = id;
    return p;
}

// The reason why a stream never became a pipe, as it is counted; none when the peer just left.
[[nodiscard]] inline std::optional<stat> refusal_stat(const pipe &p) noexcept
{
    switch (p.bytes->talk.why()) {
    case stream::ending::bad_hello:
        return stat::listener_bad_hello;
    case stream::ending::hello_timeout:
        return stat::listener_hello_timeout;
    case stream::ending::peer_protocol:
        return stat::listener_peer_protocol;
    case stream::ending::refused:
        return p.why;
    default:
        return std::nullopt;
    }
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::drop_stream(socket *s, pipe_id id, pipe &p)
{
    auto &b = *p.bytes;
    if (b.filling)
        pool_.release(take_filling(b)->id);
    if (b.written > 0) { // in part on its way: it cannot be sent again, nor be called whole
        if (s) {
            count(*s, stat::socket_sent, 1, id);
            if (b.talk.why() == stream::ending::local)
                count(*s, stat::pipe_truncated);
        }
        pool_.release(p.outbox.front().frame);
        p.outbox.erase(p.outbox.begin());
    }
    if (!p.attached) {
        if (auto *e = endpoints_.find(p.endpoint); e && !p.dialed)
            --e->half_open;
        if (const auto why = refusal_stat(p); why && s) {
            count(*s, *why);
            auto what = happening_of(happening::kind::refused, id, p);
            what.why = *why;
            what.protocol = b.talk.peer_protocol();
            remember(*s, std::move(what));
        }
    }
    by_stream_.erase(b.id);
    streams_.close(b.id);
}

// What a dial says when it was our own side that did not want the peer.
[[nodiscard]] inline errc refusal_code(std::optional<stat> why) noexcept
{
    switch (why.value_or(stat::listener_rejected)) {
    case stat::listener_peer_busy:
        return errc::peer_busy;
    case stat::listener_access:
        return errc::permission_denied;
    case stat::listener_limit:
        return errc::limit_reached;
    default:
        return errc::rejected;
    }
}

template <transport Transport, stream_transport Streams>
dial_failure engine<Transport, Streams>::stream_failure_of(const pipe &p)
{
    dial_failure f{.peer_protocol = p.bytes->talk.peer_protocol(), .text = {}};
    switch (p.bytes->talk.why()) {
    case stream::ending::bad_hello:
        f.code = errc::protocol_error;
        f.text = "what came first is not an SP hello";
        break;
    case stream::ending::hello_timeout:
        f.code = errc::timed_out;
        f.text = "it accepted, and then said nothing";
        break;
    case stream::ending::peer_protocol:
        f.code = errc::protocol_mismatch;
        break;
    case stream::ending::bad_frame:
        f.code = errc::protocol_error;
        f.text = "it sent a malformed frame";
        break;
    case stream::ending::too_large:
        f.code = errc::message_too_large;
        f.text = "it sent a message over message_max";
        break;
    case stream::ending::refused:
        f.code = refusal_code(p.why);
        break;
    case stream::ending::local:
        f.code = p.hint.value_or(errc::timed_out);
        break;
    default:
        f.code = errc::connection_reset;
        if (!p.attached)
            f.text = "it closed before its hello";
        else if (!p.used)
            f.text = "it closed after the hello: busy, or it refused this side";
        break;
    }
    return f;
}

// ---- events ----

template <transport Transport, stream_transport Streams>
std::size_t engine<Transport, Streams>::poll_streams(instant now, sweep how)
{
    feed_starved(now);
    return streams_.poll([&](const stream_event &event) { on_event(event, now); }, batch, how);
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::on_event(const stream_event &event, instant now)
{
    using kind = stream_event::kind;
    if (event.what == kind::accepted || event.what == kind::refused)
        return on_accepted(event, now);
    const auto found = by_stream_.find(event.stream);
    if (found == by_stream_.end())
        return;
    const auto id = found->second;
    auto &p = *pipes_.find(id);
    switch (event.what) {
    case kind::connected:
        p.bytes->talk.on_connected(now);
        write_hello(p);
        break;
    case kind::failed:
        p.hint = event.why;
        p.close(SP_REASON_NONE);
        break;
    case kind::readable:
        on_readable(id, p, now);
        break;
    case kind::writable:
        write_hello(p);
        write_waiting(id, p);
        break;
    case kind::accepted:
    case kind::refused:
        break;
    }
    touch(id, p);
    settle_touched(now);
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::on_accepted(const stream_event &event, instant now)
{
    const auto found = listeners_.find(door_of(event.place));
    const auto listener = found == listeners_.end() ? no_endpoint : found->second;
    auto *e = endpoints_.find(listener);
    if (event.what == stream_event::kind::refused) {
        if (!e)
            return stats_.add(event.count);
        auto &s = *sockets_.find(e->socket);
        count(s, event.count);
        return remember(
            s, {.what = happening::kind::refused, .why = event.count, .transport = {}, .peer = {}});
    }
    if (!e)
        return streams_.close(event.stream);
    pipe_id id{};
    auto *p = add_byte_pipe(id, event.stream, *e, listener);
    if (!p)
        return count(*sockets_.find(e->socket), stat::listener_limit);
    p->opened_at = now;
    p->bytes->talk.on_connected(now);
    ++e->half_open;
    shed_half_open(*e, id);
    write_hello(*p);
    touch(id, *p);
    settle_touched(now);
}

// Both hellos are there and fit: does the socket want this peer?
template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::admit_stream(pipe_id id, pipe &p, instant now)
{
    auto &s = *sockets_.find(p.socket);
    auto *e = endpoints_.find(p.endpoint);
    const candidate who{.transport = 0,
                        .address = {},
                        .port = 0,
                        .protocol = p.bytes->talk.peer_protocol(),
                        .instance = 0,
                        .stream = p.bytes->id};
    if (const auto why = unwelcome(s, who)) {
        p.why = why->count;
        p.close(why->reason, stream::ending::refused);
        return;
    }
    if (e && !p.dialed)
        --e->half_open;
    attach(id, p, now);
}

// ---- in ----

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::on_stream_end(pipe_id id, pipe &p, const transfer &t)
{
    const bool reset = t.what == transfer::outcome::ended || t.why == errc::connection_reset;
    if (auto *s = sockets_.find(p.socket); s && p.bytes->talk.in_frame())
        count(*s, stat::pipe_rx_partial, 1, id);
    p.close(SP_REASON_NONE, reset ? stream::ending::peer_closed : stream::ending::io_error);
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::on_readable(pipe_id id, pipe &p, instant now)
{
    auto &b = *p.bytes;
    std::size_t left = stream_turn;
    while (!p.is_closed() && !b.starved && b.untaken == 0 && b.held.empty() && left > 0)
        if (!read_some(id, p, left, now))
            break;
    b.paused = b.starved || b.untaken > 0 || !b.held.empty();
    watch(p);
}

// One read. False: there is nothing more now.
template <transport Transport, stream_transport Streams>
bool engine<Transport, Streams>::read_some(pipe_id id, pipe &p, std::size_t &budget, instant now)
{
    auto &b = *p.bytes;
    if (b.filling) { // straight to where it belongs
        if (b.talk.have() == b.filling->capacity && !make_filling(b, stream_read))
            return starve(id, b);
        auto room = b.filling->room().subspan(b.talk.have());
        room = room.first(std::min({room.size(), b.talk.need(), budget}));
        const auto t = streams_.read(b.id, room);
        if (t.what != transfer::outcome::moved) {
            if (t.what != transfer::outcome::would_block)
                on_stream_end(id, p, t);
            return false;
        }
        budget -= t.bytes;
        b.talk.got(t.bytes);
        if (b.talk.need() == 0)
            deliver(id, p, now);
        return t.bytes == room.size();
    }
    scratch_.resize(stream_read);
    const auto t = streams_.read(b.id, scratch_);
    if (t.what != transfer::outcome::moved) {
        if (t.what != transfer::outcome::would_block)
            on_stream_end(id, p, t);
        return false;
    }
    budget -= std::min(budget, t.bytes);
    const auto bytes = std::span<const std::byte>(scratch_).first(t.bytes);
    if (const auto used = feed(id, p, bytes, now); used < bytes.size() && !p.is_closed()) {
        const auto rest = bytes.subspan(used);
        b.held.assign(rest.begin(), rest.end());
        b.held_at = 0;
    }
    return t.bytes == stream_read;
}

// Takes bytes while they may be taken; how many.
template <transport Transport, stream_transport Streams>
std::size_t engine<Transport, Streams>::feed(pipe_id id, pipe &p, std::span<const std::byte> bytes,
                                             instant now)
{
    auto &b = *p.bytes;
    std::size_t used = 0;
    while (!p.is_closed() && b.untaken == 0) {
        const auto rest = bytes.subspan(used);
        if (b.talk.in_message() && b.talk.need() == 0) {
            if (!b.filling && !make_filling(b, 0)) {
                starve(id, b);
                break;
            }
            deliver(id, p, now);
            continue;
        }
        if (rest.empty())
            break;
        if (!b.talk.in_message()) {
            const auto taken = b.talk.on_bytes(rest);
            if (p.is_open() && !p.attached)
                admit_stream(id, p, now);
            if (taken == 0 && !b.talk.in_message())
                break; // our own hello is still on its way out
            used += taken;
            continue;
        }
        const auto n = std::min<std::size_t>(rest.size(), b.talk.need());
        const auto room = b.filling ? b.filling->capacity - b.talk.have() : 0;
        if (room < n && !make_filling(b, n)) {
            starve(id, b);
            break;
        }
        std::memcpy(b.filling->data() + b.talk.have(), rest.data(), n);
        b.talk.got(n);
        used += n;
    }
    return used;
}

// A frame with room for `more` bytes of the message: no more than twice what has come, whatever
// length was announced. False: no memory now.
template <transport Transport, stream_transport Streams>
bool engine<Transport, Streams>::make_filling(byte_pipe &b, std::size_t more)
{
    const auto have = static_cast<std::size_t>(b.talk.have());
    const auto wanted = std::min<std::size_t>(static_cast<std::size_t>(b.talk.length()),
                                              std::max(have + more, 2 * have));
    auto *f = pool_.allocate(wanted);
    if (!f)
        return false;
    filling_ += f->capacity;
    if (!b.filling) {
        b.begun_at = turned_at_;
    } else {
        auto *old = take_filling(b);
        std::memcpy(f->data(), old->data(), have);
        pool_.release(old->id);
    }
    b.filling = f;
    return true;
}

template <transport Transport, stream_transport Streams>
frame *engine<Transport, Streams>::take_filling(byte_pipe &b) noexcept
{
    filling_ -= b.filling->capacity;
    return std::exchange(b.filling, nullptr);
}

template <transport Transport, stream_transport Streams>
bool engine<Transport, Streams>::deliver(pipe_id id, pipe &p, instant now)
{
    auto &b = *p.bytes;
    auto &s = *sockets_.find(p.socket);
    auto *f = take_filling(b);
    f->size = static_cast<std::uint32_t>(b.talk.length());
    f->transport = streams_.name(b.id);
    b.talk.message_over();
    ++b.untaken;
    p.used = true;
    delivered_ = true;
    count(s, stat::socket_received, 1, id);
    visit(s, [&](auto &machine) { machine.on_message(id, f->id, f->bytes(), now, out_); });
    settle(s, now);
    return b.untaken == 0;
}

// The message before has been taken, or memory is there again.
template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::resume(pipe_id id, pipe &p, instant now)
{
    auto &b = *p.bytes;
    if (p.is_open() && !p.attached)
        admit_stream(id, p, now);
    if (b.starved)
        return watch(p);
    if (b.untaken == 0)
        b.paused = false;
    const bool whole = b.talk.in_message() && b.talk.need() == 0; // and had no frame
    if (!p.is_closed() && b.untaken == 0 && (whole || !b.held.empty())) {
        b.held_at += feed(id, p, std::span<const std::byte>(b.held).subspan(b.held_at), now);
        if (b.held_at == b.held.size()) {
            b.held = {};
            b.held_at = 0;
        }
        b.paused = b.starved || b.untaken > 0 || !b.held.empty();
    }
    watch(p);
}

// What the transport is to look for. Reading stays on until bytes come that cannot be taken.
template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::watch(pipe &p)
{
    auto &b = *p.bytes;
    if (p.is_closed() || b.talk.state() == stream::phase::connecting)
        return;
    const bool reads = !b.paused;
    const bool writes = !b.talk.hello_due().empty() || !p.outbox.empty();
    const auto wanted = reads ? (writes ? interest::both : interest::read)
                              : (writes ? interest::write : interest::none);
    if (wanted == b.watched)
        return;
    b.watched = wanted;
    streams_.watch(b.id, wanted);
}

// ---- out ----

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::write_hello(pipe &p)
{
    const auto due = p.bytes->talk.hello_due();
    if (due.empty())
        return;
    const std::array parts{due};
    const auto t = streams_.write(p.bytes->id, parts);
    if (t.what == transfer::outcome::moved)
        p.bytes->talk.hello_written(t.bytes);
    else if (t.what != transfer::outcome::would_block)
        p.close(SP_REASON_NONE, stream::ending::peer_closed);
}

// Writes what is missing of one message; true when all of it is written.
template <transport Transport, stream_transport Streams>
bool engine<Transport, Streams>::write_stream(socket &s, pipe_id id, pipe &p,
                                              const outgoing &message)
{
    auto &b = *p.bytes;
    const auto body = std::span<const std::byte>(pool_[message.frame].body());
    const auto header = std::span<const std::byte>(message.header).first(message.header_bytes);
    const auto head = stream::make_head(header.size() + body.size(), b.talk.frames());
    std::array<std::span<const std::byte>, 3> parts{head.view(), header, body};
    const auto whole = head.size + header.size() + body.size();
    std::size_t skip = b.written;
    for (auto &part : parts) {
        const auto n = std::min(skip, part.size());
        part = part.subspan(n);
        skip -= n;
    }
    const auto t = streams_.write(b.id, parts);
    if (t.what == transfer::outcome::would_block)
        return false;
    if (t.what != transfer::outcome::moved) {
        on_stream_end(id, p, t);
        touch(id, p);
        return false;
    }
    b.written += t.bytes;
    if (b.written < whole)
        return false;
    b.written = 0;
    ++b.confirmed;
    p.used = true;
    count(s, stat::socket_sent, 1, id);
    touch(id, p);
    return true;
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::write_waiting(pipe_id id, pipe &p)
{
    auto &s = *sockets_.find(p.socket);
    while (p.is_open() && !p.outbox.empty() && write_stream(s, id, p, p.outbox.front())) {
        pool_.release(p.outbox.front().frame);
        p.outbox.erase(p.outbox.begin());
    }
    watch(p);
}

} // namespace sp::core
