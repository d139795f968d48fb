// SPDX-License-Identifier: BSD-2-Clause
//
// Part of engine.hpp: large messages in memory of their own, handed over between processes instead
// of copied. The one who sends gives the memory away for good; other pipes can have it too, and all
// can read it. The one who receives charges it to the budget of split messages and to memory_max,
// as if it had put it together itself, and where there is no room the record waits in the ring.
#pragma once

#include "userspace/engine/engine.hpp"

namespace sp::core {

// Of a message of which nothing was put into the ring. Only all of its memory is handed over: what
// was taken from a peer and is not all body goes by copy, and so does what is small of a loan that
// was large. What is sealed already has cost what it costs.
template <transport Transport, stream_transport Streams>
handing engine<Transport, Streams>::hand_over_memory(pipe &p, const outgoing &message) noexcept
{
    if constexpr (lending_transport<Transport>) {
        auto &f = pool_[message.frame];
        auto *memory = frame_pool::memory_of(f);
        const auto body = f.body();
        if (!memory || p.written > 0 || (*memory)->fd < 0 || body.data() != (*memory)->body ||
            (!(*memory)->sealed && body.size() < pool_.large_bytes_min()))
            return handing::copy;
        const auto head = std::span(message.header).first(message.header_bytes);
        return transports_[p.transport]->hand_over(p.route, head, *memory, body.size());
    }
    return handing::copy;
}

// A piece of what came by shared memory: a record, or a whole message that was handed over.
template <transport Transport, stream_transport Streams>
auto engine<Transport, Streams>::take_piece(pipe_id id, pipe &p, socket &s, const auto &part,
                                            instant now) -> taking
{
    if constexpr (lending_transport<Transport>)
        if (part.lent)
            return take_lent(id, p, s, part, now);
    return take_record(id, p, s, record_of(p, part), now);
}

template <transport Transport, stream_transport Streams>
auto engine<Transport, Streams>::take_lent(pipe_id id, pipe &p, socket &s, const auto &part,
                                           instant now) -> taking
{
    const auto end = [&](stat why, sp_reason reason) {
        p.why = why;
        p.link->close(reason);
        return taking::ended;
    };
    const auto header = part.payload.size(), whole = header + part.lent->size();
    if (p.assembling)
        return end(stat::pipe_bad_frame, SP_REASON_PROTOCOL_ERROR);
    if (whole > s.options.message_max)
        return end(stat::pipe_too_large, SP_REASON_MESSAGE_TOO_LARGE);
    const auto bytes = static_cast<std::uint32_t>(whole);
    if (!may_assemble(p, s, bytes) || !pool_.may_adopt(whole))
        return taking::not_now;
    auto memory = part.lent->map(part.payload);
    if (!memory)
        return taking::not_now;
    auto &f = pool_.adopt(std::move(memory), header);
    const auto charge = static_cast<std::uint32_t>(frame_pool::footprint(bytes));
    p.charged += charge;
    charged_ += charge;
    p.charges.push_back({p.messages_come + 1, charge});
    ++p.messages_begun;
    stats_.add(stat::ring_taken_over);
    hand_over(id, p, s, f, now);
    discharge(p);
    return taking::done;
}

} // namespace sp::core
