// SPDX-License-Identifier: BSD-2-Clause
//
// Part of engine.hpp: the short way of a message through shared memory. A call that finds its
// pattern with nothing queued and nothing owed puts the message straight into the ring that the
// pattern would have chosen, or takes it straight from the ring that is next in turn; no frame is
// queued, no effect is written, no turn is made. Where anything else is the case (several parts, no
// room, no memory, a fault) nothing has changed, and the message goes the long way. Both ways count
// alike.
#pragma once

#include "userspace/engine/engine.hpp"

#include <algorithm>
#include <cstring>

namespace sp::core {

template <transport Transport, stream_transport Streams>
auto engine<Transport, Streams>::lane_of(const pipe &p) noexcept -> lane_type &
{
    return *static_cast<lane_type *>(p.lane);
}

// What one side of it puts, reads or allows may be what the other waits for.
template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::nudge(const pipe &p) noexcept
{
    if constexpr (sharing_transport<Transport>)
        if (lane_of(p).stirred() && lane_of(p).settle())
            transports_[p.transport]->wake(p.route);
}

template <transport Transport, stream_transport Streams>
pipe *engine<Transport, Streams>::put_now(socket &s, const protocol::direct_way &way,
                                          std::span<const std::byte> body)
{
    if constexpr (sharing_transport<Transport>) {
        auto *p = way.pipe == protocol::no_pipe ? nullptr : pipes_.find(way.pipe);
        if (!p || !p->shared || !p->outbox.empty() || !p->is_open() ||
            !lane_of(*p).put_whole(way.header, body))
            return nullptr;
        ++p->put;
        ++p->confirmed;
        p->used = true;
        count(s, stat::socket_accepted);
        count(s, *p, stat::socket_sent);
        return p;
    }
    return nullptr;
}

// One message of each pipe in turn.
template <transport Transport, stream_transport Streams>
template <class Accept>
bool engine<Transport, Streams>::take_now(socket &s, Accept &&accept)
{
    if constexpr (sharing_transport<Transport>) {
        const auto n = s.shared_pipes.size();
        for (std::size_t i = 0; i < n; ++i) {
            const auto at = s.shared_turn + i < n ? s.shared_turn + i : s.shared_turn + i - n;
            auto &[id, p] = s.shared_pipes[at];
            auto &lane = lane_of(*p);
            if (!lane.waiting())
                continue;
            if (!p->is_open() || p->assembling || p->messages_come != p->messages_taken)
                return false;
            const auto whole = lane.peek_whole();
            auto *f = whole && whole->size() <= s.options.message_max
                          ? pool_.allocate(whole->size())
                          : nullptr;
            if (f) {
                f->transport = p->name;
                if (!whole->empty())
                    std::memcpy(f->data(), whole->data(), whole->size());
            }
            if (!f || !accept(id, *f)) {
                if (f)
                    pool_.release(f->id);
                lane.put_back();
                return false;
            }
            lane.accept();
            lane.consumed();
            if (lane.stirred())
                nudge(*p);
            s.shared_turn = at + 1 < n ? at + 1 : 0;
            p->used = true;
            ++p->messages_begun;
            ++p->messages_come;
            ++p->messages_taken;
            count(s, *p, stat::socket_received);
            return true;
        }
    }
    return false;
}

// Something lies in one of the rings that this socket's peers write.
template <transport Transport, stream_transport Streams>
bool engine<Transport, Streams>::came(const socket &s) const noexcept
{
    if constexpr (sharing_transport<Transport>)
        for (const auto &each : s.shared_pipes)
            if (lane_of(*each.at).waiting())
                return true;
    return false;
}

// Brings it to the pattern, without a turn.
template <transport Transport, stream_transport Streams>
bool engine<Transport, Streams>::take_what_came(socket &s, instant now)
{
    if constexpr (sharing_transport<Transport>) {
        if (!came(s))
            return false;
        for (std::size_t i = 0; i < s.shared_pipes.size(); ++i) { // none ends before the next turn
            auto &p = *s.shared_pipes[i].at;
            if (!lane_of(p).waiting())
                continue;
            (void)transports_[p.transport]->records_of(p.route, shared_sink{this, now});
            nudge(p);
        }
        return true;
    }
    return false;
}

} // namespace sp::core
