// SPDX-License-Identifier: BSD-2-Clause
//
// Part of engine.hpp: pipes whose messages go through memory shared with a peer on this host. Their
// link has made the connection and will end it; messages never touch it. What was put into the ring
// is the peer's, even if this process ends; what the peer put there before it went is delivered.
// While a pattern holds so many messages of a pipe, the rest stays in the ring, which fills, and
// the peer is held back.
#pragma once

#include "userspace/engine/engine.hpp"

namespace sp::core {

// A part as the record it would be on the wire: from here on both go the same way.
[[nodiscard]] inline link::record record_of(const pipe &p, const auto &part) noexcept
{
    return {.flags = static_cast<std::uint8_t>((part.first ? SP_RECORD_FIRST : 0) |
                                               (part.last ? SP_RECORD_LAST : 0)),
            .code = SP_CODE_NONE,
            .payload = part.payload,
            .message = p.messages_begun - (part.first ? 0 : 1),
            .at = part.at};
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::begin_sharing(pipe_id id, pipe &p, instant now)
{
    if constexpr (sharing_transport<Transport>) {
        auto &t = *transports_[p.transport];
        p.shared = t.share(p.route, static_cast<std::uint32_t>(id));
        if (!p.shared)
            return;
        if (t.watches_life(p.route))
            p.link->rely(now);
        p.lane = t.lane(p.route);
        p.name = t.name(p.route);
        sockets_.find(p.socket)->shared_pipes.push_back({id, &p});
    }
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::end_sharing(socket &s, pipe_id id) noexcept
{
    std::erase_if(s.shared_pipes, [&](const shared_pipe &each) { return each.id == id; });
    s.shared_turn = 0;
}

template <transport Transport, stream_transport Streams>
std::size_t engine<Transport, Streams>::poll_shared(std::size_t transport, socket_id attended,
                                                    instant now)
{
    if constexpr (sharing_transport<Transport>)
        return transports_[transport]->records(shared_sink{this, now}, [&](std::uint32_t cookie) {
            if (attended == socket_id{})
                return false;
            const auto *p = pipes_.find(static_cast<pipe_id>(cookie));
            return p && p->socket == attended;
        });
    return 0;
}

// What was not taken before may be taken now.
template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::take_more(pipe &p, instant now)
{
    if constexpr (sharing_transport<Transport>) {
        p.sated = false;
        (void)transports_[p.transport]->records_of(p.route, shared_sink{this, now});
    }
}

template <transport Transport, stream_transport Streams>
bool engine<Transport, Streams>::take_shared(pipe_id id, const auto &part, instant now)
{
    auto *p = pipes_.find(id);
    if (!p || !p->attached || !p->is_open())
        return false;
    if (p->messages_come - p->messages_taken >= shared_untaken) {
        p->sated = true;
        return false;
    }
    switch (take_piece(id, *p, *sockets_.find(p->socket), part, now)) {
    case taking::done:
        delivered_ = true;
        return true;
    case taking::not_now:
        hold(id, *p);
        return false;
    case taking::ended:
        break;
    }
    touch(id, *p);
    return false;
}

// True when all of the message is in the ring.
template <transport Transport, stream_transport Streams>
bool engine<Transport, Streams>::write_shared(socket &s, pipe_id id, pipe &p,
                                              const outgoing &message)
{
    if constexpr (sharing_transport<Transport>) {
        const auto head = std::span(message.header).first(message.header_bytes);
        const auto body = pool_[message.frame].body();
        const auto handed = hand_over_memory(p, message);
        if (handed == handing::copy)
            p.written = transports_[p.transport]->put(p.route, head, body, p.written);
        if (handed != handing::done && p.written < head.size() + body.size()) {
            block(id, p);
            return false;
        }
        p.written = 0;
        p.used = true;
        ++p.put;
        count(s, stat::socket_sent, 1, id);
    }
    return true;
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::on_shared_consumed(pipe &p)
{
    ++p.messages_taken;
    discharge(p);
    if constexpr (sharing_transport<Transport>)
        transports_[p.transport]->consumed(p.route);
}

// Messages that a peer which has gone had not read. One that we leave reads them still.
template <transport Transport, stream_transport Streams>
std::uint64_t engine<Transport, Streams>::unread(const socket &s, const pipe &p) const noexcept
{
    if constexpr (sharing_transport<Transport>)
        if (!s.closing && (p.why == stat::pipe_peer_closed || p.link->closed_by_peer()))
            return transports_[p.transport]->unread(p.route);
    return 0;
}

// The pipe has ended. What its peer had put into the ring is delivered, as long as there is memory
// and somebody to have it, and else counted.
template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::drain_shared(socket *s, pipe_id id, pipe &p, instant now)
{
    if constexpr (sharing_transport<Transport>) {
        if (!s)
            return;
        const draining_sink sink{this, id, &p, s, now};
        // Bounded, since a peer may go on writing; an honest one has no more than its rings hold.
        static constexpr int turns_max = 1 << 13;
        for (int turns = 0; turns < turns_max; ++turns)
            if (transports_[p.transport]->records_of(p.route, sink) == 0)
                break;
    }
}

} // namespace sp::core
