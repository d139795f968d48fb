// SPDX-License-Identifier: BSD-2-Clause
//
// Part of engine.hpp: from the records of a link to messages of a pattern. A whole record becomes a
// frame at once; parts of a split message are put together in a frame of its full size, which is
// reserved from a budget before the first part is taken and charged until the pattern has taken the
// message. Where there is no frame or no budget the record is not taken: its packet stays with the
// link, the peer's credit stands still, and it is tried again.
#pragma once

#include "userspace/engine/engine.hpp"
#include "userspace/plants.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace sp::core {

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::take(pipe_id id, pipe &p, instant now)
{
    auto *s = sockets_.find(p.socket);
    SP_INVARIANT(s && p.attached);
    while (p.link->state() == link::phase::open) {
        const auto contents = p.link->front();
        if (!contents)
            return;
        link::record_reader records(*contents);
        std::size_t done = 0;
        while (const auto r = records.next()) {
            const auto what = take_record(id, p, *s, *r, now);
            if (what == taking::ended)
                return;
            if (what == taking::not_now) {
                p.link->took(done);
                return hold(id, p);
            }
            done = contents->size() - records.left();
            if (p.link->state() != link::phase::open)
                return;
        }
        if (records.bad()) {
            p.why = stat::pipe_bad_frame;
            return p.link->close(SP_REASON_PROTOCOL_ERROR);
        }
        p.link->finished();
        packet_done(p, now);
    }
}

template <transport Transport, stream_transport Streams>
auto engine<Transport, Streams>::take_record(pipe_id id, pipe &p, socket &s, const link::record &r,
                                             instant now) -> taking
{
    if (r.control())
        return taking::done; // for the link; this version knows none beside messages
    if (!r.first() || !r.last())
        return take_part(id, p, s, r, now);
    if (p.assembling) {
        p.why = stat::pipe_bad_frame;
        p.link->close(SP_REASON_PROTOCOL_ERROR);
        return taking::ended;
    }
    if (r.payload.size() > s.options.message_max) {
        p.why = stat::pipe_too_large;
        p.link->close(SP_REASON_MESSAGE_TOO_LARGE);
        return taking::ended;
    }
    auto *f = pool_.allocate(r.payload.size());
    if (!f)
        return taking::not_now;
    if (!r.payload.empty())
        std::memcpy(f->data(), r.payload.data(), r.payload.size());
    ++p.messages_begun;
    hand_over(id, p, s, *f, now);
    return taking::done;
}

template <transport Transport, stream_transport Streams>
auto engine<Transport, Streams>::take_part(pipe_id id, pipe &p, socket &s, const link::record &r,
                                           instant now) -> taking
{
    const auto end = [&](stat why, sp_reason reason) {
        p.why = why;
        p.link->close(reason);
        return taking::ended;
    };
    if (r.first()) {
        if (p.assembling || r.message != p.messages_begun || r.payload.size() >= r.at)
            return end(stat::pipe_bad_frame, SP_REASON_PROTOCOL_ERROR);
        if (r.at > s.options.message_max)
            return end(stat::pipe_too_large, SP_REASON_MESSAGE_TOO_LARGE);
        if (!may_assemble(p, s, r.at))
            return taking::not_now;
        p.assembling = pool_.allocate(r.at);
        if (!p.assembling)
            return taking::not_now;
        ++p.messages_begun;
        p.assembled = 0;
        const auto charge = static_cast<std::uint32_t>(frame_pool::footprint(r.at));
        p.charged += charge;
        charged_ += charge;
    } else if (!p.assembling || r.message + 1 != p.messages_begun || r.at != p.assembled) {
        return end(stat::pipe_bad_frame, SP_REASON_PROTOCOL_ERROR);
    }
    auto &f = *p.assembling;
    const auto left = f.size - p.assembled;
    if (r.payload.size() > left || (r.payload.size() == left) != r.last())
        return end(stat::pipe_bad_frame, SP_REASON_PROTOCOL_ERROR);
    std::memcpy(f.data() + p.assembled, r.payload.data(), r.payload.size());
    p.assembled += static_cast<std::uint32_t>(r.payload.size());
    p.part_at = now;
    stats_.add(stat::link_parts);
    if (r.last()) {
        p.assembling = nullptr;
        p.charges.push_back(
            {p.messages_come + 1, static_cast<std::uint32_t>(frame_pool::footprint(f.size))});
        hand_over(id, p, s, f, now);
        discharge(p);
    }
    return taking::done;
}

// A message is complete.
template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::hand_over(pipe_id id, pipe &p, socket &s, frame &f, instant now)
{
    f.transport = transports_[p.transport]->name(p.route);
    ++p.messages_come;
    ++p.front_messages;
    p.used = true;
    count(s, stat::socket_received, 1, id);
    if (SP_PLANTED(engine_delivers_twice) && p.messages_come % 8 == 0) {
        pool_.reference(f.id);
        visit(s, [&](auto &machine) { machine.on_message(id, f.id, f.bytes(), now, out_); });
        settle(s, now);
    }
    visit(s, [&](auto &machine) {
        machine.on_message(id, f.id, f.bytes(), now, out_);
        settle(s, machine, now);
    });
}

// The records of the link's front packet are all taken: its credit goes back now, or when the
// pattern has taken the messages that it completed.
template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::packet_done(pipe &p, instant now)
{
    if (std::exchange(p.front_messages, 0) == 0 || p.messages_taken == p.messages_come)
        return p.link->consumed(1, now);
    if (p.packet_ends.empty())
        p.packet_ends.resize(std::bit_ceil(std::size_t{p.link->window()}));
    SP_INVARIANT(p.packets_last - p.packets_first < p.packet_ends.size());
    p.packet_ends[p.packets_last++ % p.packet_ends.size()] = p.messages_come;
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::on_consumed(pipe &p, instant now)
{
    ++p.messages_taken;
    while (p.packets_first != p.packets_last &&
           !link::before(p.messages_taken, p.packet_ends[p.packets_first % p.packet_ends.size()])) {
        ++p.packets_first;
        p.link->consumed(1, now);
    }
    discharge(p);
}

// ---- room for messages

// Split messages that are not taken yet, over all pipes and for one; a message of the largest size
// always finds room where nothing else is charged.
template <transport Transport, stream_transport Streams>
bool engine<Transport, Streams>::may_assemble(const pipe &p, const socket &s,
                                              std::uint32_t bytes) const noexcept
{
    static constexpr std::size_t of_engine = 16u << 20, of_pipe = 2u << 20;
    const auto wanted = frame_pool::footprint(bytes);
    const auto largest = frame_pool::footprint(s.options.message_max);
    return p.charged + wanted <= std::max(of_pipe, largest) &&
           charged_ + wanted <= std::max(of_engine, largest);
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::discharge(pipe &p) noexcept
{
    while (!p.charges.empty() && !link::before(p.messages_taken, p.charges.front().message)) {
        p.charged -= p.charges.front().bytes;
        charged_ -= p.charges.front().bytes;
        p.charges.erase(p.charges.begin());
    }
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::hold(pipe_id id, pipe &p)
{
    if (p.held)
        return;
    p.held = true;
    held_.push_back(id);
    stats_.add(stat::link_held);
}

// Those for which there was no room, in the order in which they came.
template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::take_held(instant now)
{
    if (held_.empty())
        return;
    pool_.collect();
    for (const auto id : std::exchange(held_, {}))
        if (auto *p = pipes_.find(id)) {
            p->held = false;
            p->part_at = now; // the time in which we had no room is not the peer's
            if (p->shared)
                take_more(*p, now);
            else
                take(id, *p, now);
            touch(id, *p);
        }
    settle_touched(now);
}

// The pipe has ended: what its link has and nobody took is counted, and what was charged is free.
template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::drop_packets(socket *s, pipe_id id, pipe &p)
{
    if (p.assembling) {
        pool_.release(std::exchange(p.assembling, nullptr)->id);
        if (s)
            count(*s, stat::pipe_rx_partial, 1, id);
    }
    charged_ -= p.charged;
    p.charged = 0;
    p.charges.clear();
    while (const auto contents = p.link->front()) {
        link::record_reader records(*contents);
        while (const auto r = records.next())
            if (s && !r->control() && r->last()) {
                count(*s, stat::socket_received, 1, id);
                count(*s, stat::socket_memory, 1, id);
            }
        p.link->finished();
    }
}

} // namespace sp::core
