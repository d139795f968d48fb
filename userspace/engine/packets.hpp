// SPDX-License-Identifier: BSD-2-Clause
//
// Part of engine.hpp: what arrives. A packet belongs to a connection (its dcid names a pipe, its
// source is that pipe's peer) or comes from a stranger. Strangers cost no memory: PROBE gets a
// cookie, INIT with a good cookie becomes a pipe or a refusal, the rest is counted and dropped. No
// check here relies on one made by XDP.
#pragma once

#include "userspace/engine/engine.hpp"
#include "userspace/marks.hpp"
#include "userspace/plants.hpp"

#include <algorithm>
#include <cstring>

namespace sp::core {

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::on_packet(std::size_t transport, const sp_address &from,
                                           std::span<const std::byte> packet, instant now)
{
    const auto header = link::read<sp_header>(packet);
    if (header.keygen != 0)
        return stats_.add(stat::link_keyed);
    const std::uint64_t dcid = link::be64(header.dcid);
    if (dcid == 0)
        return on_stranger(transport, from, packet, now);
    auto *p = pipes_.at(dcid & 0xffff);
    if (!p || !p->link || p->link->local_id() != dcid || p->transport != transport) {
        stats_.add(stat::link_unknown_connection);
        if (header.type != SP_DATA && header.type != SP_ACK && header.type != SP_PART)
            return;
        if (!link::intact(packet))
            return stats_.add(stat::link_bad_crc);
        if (!answers_.take(now))
            return stats_.add(stat::link_answer_budget);
        const auto reset = link::make_reset(header);
        return transports_[transport]->send_to(from, std::as_bytes(std::span(&reset, 1)));
    }
    if (!same(p->address, from))
        return stats_.add(stat::link_wrong_source);
    if (!link::intact(packet) && !SP_PLANTED(engine_takes_damaged))
        return stats_.add(stat::link_bad_crc);
    on_known(pipes_.name(dcid & 0xffff), *p, packet, now);
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::on_known(pipe_id id, pipe &p, std::span<const std::byte> packet,
                                          instant now)
{
    switch (p.link->on_packet(packet, now)) {
    case link::arrival::records:
        if (!p.attached) { // its first packet came in one batch with the end of the handshake
            touch(id, p);
            settle_touched(now);
            if (const auto *still = pipes_.find(id); !still || !still->attached)
                return; // there is another peer, and may be no other
        }
        take(id, p, now);
        p.link->keep();
        touch(id, p);
        if (p.link->state() != link::phase::open)
            settle_touched(now);
        delivered_ = true;
        return;
    case link::arrival::duplicate:
        stats_.add(stat::link_duplicate);
        break;
    case link::arrival::malformed:
        stats_.add(stat::link_bad_packet);
        break;
    case link::arrival::unexpected:
        stats_.add(stat::link_unexpected);
        break;
    case link::arrival::nothing:
        break;
    }
    touch(id, p);
    if (p.link->state() != link::phase::open || !p.attached)
        settle_touched(now);
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::on_stranger(std::size_t transport, const sp_address &from,
                                             std::span<const std::byte> packet, instant now)
{
    const auto header = link::read<sp_header>(packet);
    if (!link::intact(packet))
        return stats_.add(stat::link_bad_crc);
    if (header.type == SP_RESET)
        return on_reset(from, packet, now);
    if (header.type != SP_PROBE && header.type != SP_INIT)
        return stats_.add(stat::link_unexpected);
    if (!handshakes_.take(now))
        return stats_.add(stat::link_handshake_budget);
    if (header.type == SP_PROBE)
        on_probe(transport, from, packet, now);
    else
        on_init(transport, from, packet, now);
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::refuse(std::size_t transport, const sp_address &to,
                                        const sp_header &question, std::uint64_t scid,
                                        sp_reason why, std::uint16_t protocol, stat count,
                                        instant now)
{
    stats_.add(count);
    if (!answers_.take(now))
        return stats_.add(stat::link_answer_budget);
    const auto refusal = link::make_refuse(question, scid, why, protocol, link::describe(why));
    transports_[transport]->send_to(to, std::as_bytes(std::span(&refusal, 1)));
}

template <transport Transport, stream_transport Streams>
endpoint_id engine<Transport, Streams>::listener_for(std::size_t transport, std::uint16_t port)
{
    const auto found = listeners_.find(door_of(transport, port));
    return found == listeners_.end() ? no_endpoint : found->second;
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::on_probe(std::size_t transport, const sp_address &from,
                                          std::span<const std::byte> packet, instant now)
{
    if (packet.size() < sizeof(sp_probe))
        return stats_.add(stat::link_bad_packet);
    const auto probe = link::read<sp_probe>(packet);
    const std::uint64_t scid = link::be64(probe.identity.scid);
    if (probe.header.version != SP_WIRE_VERSION ||
        probe.identity.version_min > SP_WIRE_VERSION_NUMBER ||
        probe.identity.version_max < SP_WIRE_VERSION_NUMBER)
        return refuse(transport, from, probe.header, scid, SP_REASON_VERSION, 0,
                      stat::listener_version, now);
    if (scid == 0 || probe.identity.instance == 0)
        return stats_.add(stat::link_bad_packet);
    const std::uint16_t dport = link::be16(probe.header.dport);
    if (listener_for(transport, dport) == no_endpoint)
        return refuse(transport, from, probe.header, scid, SP_REASON_NO_LISTENER, 0,
                      stat::listener_no_listener, now);
    if (cookies_.stale(now)) {
        link::cookie_secret secret;
        random_.fill(secret);
        cookies_.turn(secret, now);
    }
    const link::cookie_claim claim{from, scid, link::be64(probe.identity.instance),
                                   link::be16(probe.header.sport), dport};
    const auto answer = link::make_cookie(probe, static_cast<std::uint16_t>(packet.size()),
                                          cookies_.epoch(), cookies_.make(claim));
    transports_[transport]->send_to(from, std::as_bytes(std::span(&answer, 1)));
    if (SP_PLANTED(engine_amplifies))
        transports_[transport]->send_to(from, std::as_bytes(std::span(&answer, 1)));
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::on_init(std::size_t transport, const sp_address &from,
                                         std::span<const std::byte> packet, instant now)
{
    if (packet.size() != sizeof(sp_init))
        return stats_.add(stat::link_bad_packet);
    const auto init = link::read<sp_init>(packet);
    const std::uint64_t scid = link::be64(init.identity.scid);
    const std::uint16_t dport = link::be16(init.header.dport);
    const link::cookie_claim claim{from, scid, link::be64(init.identity.instance),
                                   link::be16(init.header.sport), dport};
    link::cookie shown;
    std::ranges::copy(init.cookie, shown.begin());
    if (!cookies_.good(claim, link::be32(init.epoch), shown))
        SP_MARK(cookie_refused);
    if (!cookies_.good(claim, link::be32(init.epoch), shown) && !SP_PLANTED(engine_skips_cookie))
        return stats_.add(stat::link_no_cookie);
    if (scid == 0 || link::be16(init.params.packet_max) < sizeof(sp_init))
        return stats_.add(stat::link_bad_packet);

    for (std::size_t i = 0; i < peer_ids_.size(); ++i)
        if (auto *p = peer_ids_[i] == scid ? pipes_.at(i) : nullptr;
            p && p->link && !p->dialed && same(p->address, from)) {
            SP_MARK(handshake_again);
            p->link->on_init_again();
            touch(pipes_.name(i), *p);
            return settle_touched(now);
        }
    const auto listener = listener_for(transport, dport);
    if (listener == no_endpoint)
        return refuse(transport, from, init.header, scid, SP_REASON_NO_LISTENER, 0,
                      stat::listener_no_listener, now);
    accept(transport, from, init, listener, now);
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::accept(std::size_t transport, const sp_address &from,
                                        const sp_init &init, endpoint_id listener, instant now)
{
    auto &e = *endpoints_.find(listener);
    auto &s = *sockets_.find(e.socket);
    const auto ours = static_cast<std::uint16_t>(s.role);
    const auto theirs = link::be16(init.identity.protocol);
    std::optional<credentials> process;
    bool may_come = true;
    if constexpr (vouching_transport<Transport>) {
        process = transports_[transport]->sender();
        may_come = transports_[transport]->may_come(process);
    }
    const auto no = [&](sp_reason why, stat which) {
        s.books.add(which);
        remember(s, {.what = happening::kind::refused,
                     .why = which,
                     .transport = {},
                     .peer = {},
                     .protocol = theirs,
                     .instance = link::be64(init.identity.instance),
                     .address = from,
                     .port = link::be16(init.header.sport),
                     .endpoint = listener,
                     .process = process});
        refuse(transport, from, init.header, link::be64(init.identity.scid), why, ours, which, now);
    };
    if (init.suite != 0)
        return no(SP_REASON_AUTH, stat::listener_access);
    if (!may_come)
        return no(SP_REASON_ACCESS, stat::listener_access);
    if (theirs != static_cast<std::uint16_t>(protocol::peer_of(s.role)))
        return no(SP_REASON_PROTOCOL_MISMATCH, stat::listener_peer_protocol);
    const candidate who{.transport = transport,
                        .address = from,
                        .port = link::be16(init.header.sport),
                        .protocol = theirs,
                        .instance = link::be64(init.identity.instance),
                        .process = process};
    if (const auto why = unwelcome(s, who))
        return no(why->reason, why->count);
    pipe_id id{};
    auto *p = add_pipe(id, transport, from, e, listener);
    if (!p)
        return no(SP_REASON_LIMIT, stat::listener_limit);
    auto config = config_of(*p, s, id, e);
    config.peer_port = who.port;
    p->link.emplace(link::connection::accept(config, init, now));
    peer_ids_[static_cast<std::uint32_t>(id) & 0xffff] = p->link->peer_id();
    touch(id, *p);
    ++e.half_open;
    shed_half_open(e, id);
    settle_touched(now);
}

template <transport Transport, stream_transport Streams>
void engine<Transport, Streams>::on_reset(const sp_address &from, std::span<const std::byte> packet,
                                          instant now)
{
    if (packet.size() != sizeof(sp_reset))
        return stats_.add(stat::link_bad_packet);
    const auto reset = link::read<sp_reset>(packet);
    const std::uint64_t unknown = link::be64(reset.unknown_dcid);
    for (std::size_t i = 0; i < peer_ids_.size(); ++i)
        if (auto *p = peer_ids_[i] == unknown ? pipes_.at(i) : nullptr;
            p && p->link && p->attached && same(p->address, from)) {
            p->link->on_reset(link::be64(reset.unknown_pn), now);
            touch(pipes_.name(i), *p);
        }
    settle_touched(now);
}

} // namespace sp::core
