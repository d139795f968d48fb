// SPDX-License-Identifier: BSD-2-Clause
//
// Part of engine.hpp: messages that go to many pipes by one write, into memory that all their peers
// read. Which pipes those are is the pattern's to say (effects board, publish and part); a pipe
// that is aboard is sent nothing of its own. What comes by such a ring is copied straight into a
// frame; what nobody here wants is passed before more than its beginning is touched, and what was
// overrun is counted.
#pragma once

#include "userspace/engine/engine.hpp"

#include <algorithm>
#include <utility>

namespace sp::core {

// A route was opened for a socket: what its role does with rings that many read.
template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::introduce(const socket &s, const pipe &p) noexcept
{
    if constexpr (broadcasting_transport<Transport>) {
        const bool publishes = std::visit(
            [](const auto &machine) {
                if constexpr (requires { machine.broadcasts(); })
                    return machine.broadcasts();
                return false;
            },
            s.machine);
        if (publishes)
            transports_[p.transport]->publishes(p.route, static_cast<std::uint32_t>(s.id));
        if (s.role == protocol::role::sub || s.role == protocol::role::bus)
            transports_[p.transport]->hears(p.route);
    }
}

// The largest message that its peer takes together with others.
template <transport Transport, stream_transport Streams>
std::size_t engine<Transport, Streams>::together(const pipe &p) const noexcept
{
    if constexpr (broadcasting_transport<Transport>)
        if (p.shared)
            return transports_[p.transport]->broadcast_max(p.route);
    return 0;
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::board(socket &s, pipe_id id) noexcept
{
    if constexpr (broadcasting_transport<Transport>) {
        auto &p = *pipes_.find(id);
        transports_[p.transport]->board(p.route);
        p.published = transports_[p.transport]->published(p.route);
        p.aboard = true;
        s.aboard.push_back(id);
    }
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::publish(socket &s, frame_id frame) noexcept
{
    if constexpr (broadcasting_transport<Transport>) {
        SP_INVARIANT(!s.aboard.empty());
        const auto &p = *pipes_.find(s.aboard.front());
        transports_[p.transport]->publish(p.route, pool_[frame].body());
        count(s, stat::socket_sent, s.aboard.size());
        ++s.untended;
    }
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::part(socket &s) noexcept
{
    if constexpr (broadcasting_transport<Transport>) {
        SP_INVARIANT(!s.aboard.empty());
        for (const auto id : s.aboard) {
            auto &p = *pipes_.find(id);
            settle_books(p);
            p.aboard = false;
        }
        const auto &p = *pipes_.find(s.aboard.front());
        transports_[p.transport]->part(p.route);
        s.aboard.clear();
    }
}

// The pipe has ended.
template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::disembark(socket &s, pipe_id id, pipe &p) noexcept
{
    if (!p.aboard)
        return;
    settle_books(p);
    p.aboard = false;
    std::erase(s.aboard, id);
}

// What was published for it is counted on the socket at once, and on the pipe when somebody looks.
template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::settle_books(pipe &p) noexcept
{
    if constexpr (broadcasting_transport<Transport>)
        if (p.aboard) {
            const auto now = transports_[p.transport]->published(p.route);
            const auto more = now - std::exchange(p.published, now);
            p.books.add(stat::socket_sent, more);
            p.used = p.used || more > 0;
        }
}

template <transport Transport, stream_transport Streams>
pipe *engine<Transport, Streams>::find_settled(pipe_id id) noexcept
{
    auto *p = pipes_.find(id);
    if (p)
        settle_books(*p);
    return p;
}

template <transport Transport, stream_transport Streams>
bool engine<Transport, Streams>::may_publish(socket_id id, std::size_t size) noexcept
{
    if constexpr (broadcasting_transport<Transport>) {
        const auto &s = *sockets_.find(id);
        if (s.aboard.empty())
            return true;
        const auto &p = *pipes_.find(s.aboard.front());
        auto &t = *transports_[p.transport];
        return size > t.broadcast_max(p.route) || t.broadcast_room(p.route, size);
    }
    return true;
}

template <transport Transport, stream_transport Streams>
bool engine<Transport, Streams>::owes_turn(socket_id id) noexcept
{
    if constexpr (broadcasting_transport<Transport>) {
        auto &s = *sockets_.find(id);
        if (s.untended < shared_untaken / 2 || s.aboard.empty())
            return false;
        s.untended = 0;
        const auto &p = *pipes_.find(s.aboard.front());
        return transports_[p.transport]->broadcast_crowded(p.route);
    }
    return false;
}

// ---- what comes

// By the broadcast ring of one peer.
template <transport Transport, stream_transport Streams>
struct engine<Transport, Streams>::listening {
    engine *e;
    pipe_id id;
    pipe *p; // null: nothing is taken
    socket *s;
    instant now;
    bool draining;

    [[nodiscard]] bool wants(std::span<const std::byte> begin, std::size_t size) const
    {
        const auto *sub = p ? std::get_if<protocol::sub_machine>(&s->machine) : nullptr;
        return !sub || sub->may_want(begin, size);
    }
    [[nodiscard]] bool hear(auto &news) const
    {
        if (!p)
            return false;
        if (draining)
            return drain(news);
        if (p->messages_come - p->messages_taken >= shared_untaken) {
            p->sated = true;
            return false;
        }
        switch (e->take_news(id, *p, *s, news, now)) {
        case taking::done:
            e->delivered_ = true;
            return true;
        case taking::not_now:
            if (!news.overrun())
                e->hold(id, *p);
            return false;
        case taking::ended:
            break;
        }
        e->touch(id, *p);
        return false;
    }
    // The pipe has ended: what is there is delivered, as long as there is memory, and else counted.
    [[nodiscard]] bool drain(auto &news) const
    {
        const auto what = s->closing ? taking::not_now : e->take_news(id, *p, *s, news, now);
        if (what != taking::not_now || news.overrun())
            return what == taking::done;
        e->count(*s, stat::socket_received, 1, id);
        e->count(*s, s->closing ? stat::socket_closed : stat::socket_memory, 1, id);
        return true;
    }
    void missed(std::uint64_t n) const
    {
        if (s)
            e->count(*s, stat::socket_overrun, n, id);
    }
    void filtered(std::uint64_t n) const
    {
        e->count(*s, stat::socket_received, n, id);
        e->count(*s, stat::socket_filtered, n, id);
    }
};

template <transport Transport, stream_transport Streams>
struct engine<Transport, Streams>::shared_sink {
    engine *e;
    instant now;

    bool operator()(std::uint32_t cookie, const auto &part) const
    {
        return e->take_shared(static_cast<pipe_id>(cookie), part, now);
    }
    [[nodiscard]] listening of(std::uint32_t cookie) const
    {
        const auto id = static_cast<pipe_id>(cookie);
        auto *p = e->pipes_.find(id);
        if (p && (!p->attached || !p->is_open()))
            p = nullptr;
        return {e, id, p, p ? e->sockets_.find(p->socket) : nullptr, now, false};
    }
};

// Of a pipe that has ended.
template <transport Transport, stream_transport Streams>
struct engine<Transport, Streams>::draining_sink {
    engine *e;
    pipe_id id;
    pipe *p;
    socket *s;
    instant now;

    bool operator()(std::uint32_t, const auto &part) const
    {
        const auto what =
            s->closing ? taking::not_now : e->take_record(id, *p, *s, record_of(*p, part), now);
        if (what == taking::not_now && part.last) {
            e->count(*s, stat::socket_received, 1, id);
            e->count(*s, s->closing ? stat::socket_closed : stat::socket_memory, 1, id);
        }
        return what != taking::ended;
    }
    [[nodiscard]] listening of(std::uint32_t) const { return {e, id, p, s, now, true}; }
};

template <transport Transport, stream_transport Streams>
auto engine<Transport, Streams>::take_news(pipe_id id, pipe &p, socket &s, auto &news, instant now)
    -> taking
{
    const auto end = [&](stat why, sp_reason reason) {
        p.why = why;
        p.link->close(reason);
        return taking::ended;
    };
    if (p.assembling)
        return end(stat::pipe_bad_frame, SP_REASON_PROTOCOL_ERROR);
    if (news.size() > s.options.message_max)
        return end(stat::pipe_too_large, SP_REASON_MESSAGE_TOO_LARGE);
    auto *f = pool_.allocate(news.size());
    if (!f)
        return taking::not_now;
    if (!news.copy(f->bytes())) {
        pool_.release(f->id);
        return taking::not_now;
    }
    ++p.messages_begun;
    hand_over(id, p, s, *f, now);
    return taking::done;
}

} // namespace sp::core
