// SPDX-License-Identifier: BSD-2-Clause
//
// Part of engine.hpp: what happens when there is no memory, or when there are too many. A stream
// that finds no memory is not read until a later turn finds some; whoever has kept an unfinished
// hello or half of a message for longest makes room for others.
#pragma once

#include "userspace/engine/engine.hpp"

#include <algorithm>
#include <utility>

namespace sp::core {

// No memory: the peer is held back, and it is tried again in every turn.
template <transport Transport, stream_transport Streams>
bool engine<Transport, Streams>::starve(pipe_id id, byte_pipe &b)
{
    b.paused = b.starved = true;
    starved_.push_back(id);
    return false;
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::feed_starved(instant now)
{
    if (starved_.empty())
        return;
    pool_.collect();
    for (const auto id : std::exchange(starved_, {}))
        if (auto *p = pipes_.find(id)) {
            auto &b = *p->bytes;
            b.starved = false;
            if (b.filling && b.talk.have() == b.filling->capacity &&
                !make_filling(b, stream_read)) {
                starve(id, b);
                continue;
            }
            touch(id, *p);
            settle_touched(now);
        }
}

// Memory that only peers can free, by sending the rest of their messages, is not to starve
// everybody for ever: when it is most of what there is and has been wanted for a second, the oldest
// unfinished messages end with their pipes.
template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::make_room(instant now)
{
    static constexpr auto patience = std::chrono::seconds(1);
    static constexpr auto over = std::chrono::milliseconds(100); // nobody asked in vain for so long
    if (pool_.denials() == denied_) {
        if (now - denied_at_ > over)
            short_since_ = instant::max();
        return;
    }
    denied_ = pool_.denials();
    denied_at_ = now;
    if (short_since_ == instant::max())
        short_since_ = now;
    if (now < short_since_ + patience)
        return;
    while (filling_ > pool_.memory_max() / 2)
        shed_filling();
    settle_touched(now);
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::shed_filling()
{
    auto oldest = protocol::no_pipe;
    auto since = instant::max();
    pipes_.each([&](pipe_id id, const pipe &p) {
        if (p.bytes && p.bytes->filling && p.bytes->begun_at < since) {
            oldest = id;
            since = p.bytes->begun_at;
        }
    });
    auto *p = pipes_.find(oldest);
    SP_INVARIANT(p); // filling_ is the sum over these
    auto &s = *sockets_.find(p->socket);
    count(s, stat::socket_received, 1, oldest);
    count(s, stat::socket_memory, 1, oldest);
    pool_.release(take_filling(*p->bytes)->id);
    p->hint = errc::limit_reached;
    p->close(SP_REASON_LIMIT);
    touch(oldest, *p);
}

// Of a listener with too many unfinished hellos the oldest goes.
template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::shed_half_open(endpoint &e, pipe_id newest)
{
    const auto max = sockets_.find(e.socket)->options.half_open_max;
    const auto unfinished = [&](pipe_id id) {
        const auto *p = pipes_.find(id);
        return p && !p->attached && !p->is_closed();
    };
    e.greeting.push_back(newest);
    if (e.greeting.size() > 2 * std::size_t{e.half_open} + 16) // so a look costs nearly nothing
        std::erase_if(e.greeting, [&](pipe_id id) { return !unfinished(id); });
    if (e.half_open <= max)
        return;
    while (!unfinished(e.greeting.front())) // ends at the newest at the latest
        e.greeting.pop_front();
    const auto oldest = e.greeting.front();
    auto *p = pipes_.find(oldest);
    e.greeting.pop_front();
    p->why = stat::listener_half_open;
    p->close(SP_REASON_LIMIT, stream::ending::refused);
    touch(oldest, *p);
}

} // namespace sp::core
