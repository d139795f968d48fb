// SPDX-License-Identifier: BSD-2-Clause
//
// Two connection machines, a clock that is a variable, and a road between them that a test may
// break. Packets travel at once, or after `latency`. What arrives is put together from its records
// and noted in order; by default it is consumed on the spot.
#pragma once

#include "userspace/link/connection.hpp"
#include "userspace/link/packet.hpp"
#include "userspace/link/stranger.hpp"

#include <algorithm>
#include <deque>
#include <functional>
#include <gtest/gtest.h>
#include <string>
#include <vector>

namespace sp::test {

using namespace std::chrono_literals;
using bytes = std::vector<std::byte>;

inline constexpr std::uint64_t dialer_id = 0xd1a1'0000'0001, listener_id = 0x1157'0000'0002;

inline link::connection_config link_config(std::uint64_t id, std::uint16_t own, std::uint16_t peer)
{
    link::connection_config c;
    c.local_id = id;
    c.instance = id + 1;
    c.local_port = own == 0x30 ? 50000 : 7000;
    c.peer_port = own == 0x30 ? 7000 : 50000;
    c.protocol = own;
    c.peer_protocol = peer;
    c.packet_max = 1480;
    c.message_max = 1 << 20;
    return c;
}

template <class T>
std::span<const std::byte> view(const T &packet)
{
    return std::as_bytes(std::span(&packet, 1));
}

// One end, and what came to it.
struct link_end {
    std::optional<link::connection> link;
    std::vector<std::string> got; // whole messages, in order
    std::string part;             // of a split one, so far
    std::uint32_t begun = 0;      // messages whose first record came
    std::uint32_t taken = 0;      // packets taken and not consumed
    bool consumes = true;         // at once
    bool takes = true;            // front() at all
    int records_in_packet_most = 0;

    void take(link::instant now)
    {
        while (takes) {
            const auto contents = link->front();
            if (!contents)
                break;
            link::record_reader records(*contents);
            int n = 0;
            while (const auto r = records.next()) {
                ++n;
                if (r->control())
                    continue;
                const std::string_view text(reinterpret_cast<const char *>(r->payload.data()),
                                            r->payload.size());
                if (!(r->first() && r->last())) {
                    if (r->first())
                        part.reserve(r->at);
                    EXPECT_EQ(r->message, r->first() ? begun : begun - 1);
                    if (!r->first()) {
                        EXPECT_EQ(r->at, part.size());
                    }
                }
                begun += r->first();
                part += text;
                if (r->last())
                    got.push_back(std::exchange(part, {}));
            }
            EXPECT_FALSE(records.bad());
            records_in_packet_most = std::max(records_in_packet_most, n);
            link->finished();
            ++taken;
        }
        link->keep();
        if (consumes && taken > 0 && link->state() == link::phase::open)
            link->consumed(std::exchange(taken, 0), now);
    }
};

// A dialer and, once its INIT came, a listener. The stateless part of the listener stands here.
struct link_pair {
    explicit link_pair(const std::function<void(link::connection_config &)> &tune = {})
        : listener_config(link_config(listener_id, 0x31, 0x30))
    {
        auto c = link_config(dialer_id, 0x30, 0x31);
        if (tune) {
            tune(c);
            tune(listener_config);
        }
        dialer.link = link::connection::dial(c, now);
    }

    link::instant now{1h};
    link::connection_config listener_config;
    link_end dialer, listener;
    link::cookie_jar jar{link::cookie_secret{7}, now};
    int probes = 0;
    std::uint64_t packets = 0;
    std::chrono::nanoseconds latency{0};
    std::function<bool(const bytes &)> lose = [](const bytes &) { return false; };

    struct in_flight {
        link::instant at;
        bool to_dialer;
        bytes packet;
    };
    std::deque<in_flight> road;

    link::cookie_claim claim(const sp_identity &who) const
    {
        return {.address = {},
                .scid = link::be64(who.scid),
                .instance = link::be64(who.instance),
                .sport = 50000,
                .dport = 7000};
    }

    void put(bool to_dialer, bytes packet)
    {
        ++packets;
        if (!lose(packet))
            road.push_back({now + latency, to_dialer, std::move(packet)});
    }

    link::arrival at_dialer(const bytes &packet)
    {
        const auto what = dialer.link->on_packet(packet, now);
        if (what == link::arrival::records)
            dialer.take(now);
        return what;
    }

    link::arrival at_listener(const bytes &packet)
    {
        EXPECT_TRUE(link::intact(packet));
        const auto header = link::read<sp_header>(packet);
        if (header.type == SP_PROBE) {
            ++probes;
            const auto probe = link::read<sp_probe>(packet);
            const auto answer = link::make_cookie(probe, static_cast<std::uint16_t>(packet.size()),
                                                  jar.epoch(), jar.make(claim(probe.identity)));
            EXPECT_LE(sizeof answer, packet.size());
            const auto v = view(answer);
            put(true, bytes(v.begin(), v.end()));
        } else if (header.type == SP_INIT) {
            const auto init = link::read<sp_init>(packet);
            link::cookie shown;
            std::ranges::copy(init.cookie, shown.begin());
            EXPECT_TRUE(jar.good(claim(init.identity), link::be32(init.epoch), shown));
            if (listener.link)
                listener.link->on_init_again();
            else
                listener.link = link::connection::accept(listener_config, init, now);
        } else if (listener.link) {
            const auto what = listener.link->on_packet(packet, now);
            if (what == link::arrival::records)
                listener.take(now);
            return what;
        }
        return link::arrival::nothing;
    }

    // Everything that an end wants to send goes on the road.
    bool collect(link_end &end, bool to_dialer)
    {
        bool any = false;
        while (end.link && end.link->transmit_size() > 0) {
            bytes room(end.link->transmit_size());
            const auto size = end.link->transmit(room, now);
            EXPECT_EQ(size, room.size()) << "transmit_size() told the truth";
            room.resize(size);
            put(to_dialer, std::move(room));
            any = true;
        }
        return any;
    }

    // Carries packets that are there by now until nobody has any.
    void drive()
    {
        for (bool moved = true; moved;) {
            moved = collect(dialer, false);
            moved = collect(listener, true) || moved;
            for (std::size_t i = 0; i < road.size();) {
                if (road[i].at > now) {
                    ++i;
                    continue;
                }
                const auto next = std::move(road[i]);
                road.erase(road.begin() + static_cast<std::ptrdiff_t>(i));
                if (next.to_dialer)
                    (void)at_dialer(next.packet);
                else
                    (void)at_listener(next.packet);
                moved = true;
            }
        }
    }

    // Time passes, event by event.
    void pass(std::chrono::nanoseconds d)
    {
        const auto end = now + d;
        for (;;) {
            drive();
            auto next = dialer.link->next_deadline();
            if (listener.link)
                next = std::min(next, listener.link->next_deadline());
            for (const auto &p : road)
                next = std::min(next, p.at);
            if (next > end)
                break;
            now = std::max(now, next);
            if (dialer.link->next_deadline() <= now)
                dialer.link->on_deadline(now);
            if (listener.link && listener.link->next_deadline() <= now)
                listener.link->on_deadline(now);
        }
        now = end;
    }

    void open()
    {
        pass(6 * latency);
        ASSERT_EQ(dialer.link->state(), link::phase::open);
        ASSERT_TRUE(listener.link);
        ASSERT_EQ(listener.link->state(), link::phase::open);
    }

    // As much as fits of the messages [*next, all.size()); true when all are in.
    bool feed(link_end &end, const std::vector<std::string> &all, std::size_t &next,
              std::size_t &from)
    {
        while (next < all.size() && end.link->send_ready()) {
            const auto body = std::as_bytes(std::span(all[next]));
            from = end.link->append(body.first(std::min<std::size_t>(body.size(), 4)),
                                    body.subspan(std::min<std::size_t>(body.size(), 4)), from, now);
            if (from == body.size()) {
                ++next;
                from = 0;
            }
        }
        return next == all.size();
    }

    void say(link_end &end, std::string_view text)
    {
        ASSERT_TRUE(end.link->send_ready());
        ASSERT_EQ(end.link->append({}, std::as_bytes(std::span(text)), 0, now), text.size());
    }

    // What an end would put on the road next, without the road.
    bytes packet_of(link_end &end)
    {
        bytes room(end.link->transmit_size());
        if (!room.empty())
            room.resize(end.link->transmit(room, now));
        return room;
    }
};

// Bytes that tell where they belong.
inline std::string numbered(std::size_t size, unsigned salt = 0)
{
    std::string s(size, '\0');
    for (std::size_t i = 0; i < size; ++i)
        s[i] = static_cast<char>((i * 2654435761u + salt * 40503u) >> 16);
    return s;
}

} // namespace sp::test
