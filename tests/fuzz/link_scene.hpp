// SPDX-License-Identifier: BSD-2-Clause
//
// What the targets of the link share: ends of a connection in a chosen phase, packets that are
// right but for what the input changes in them, and what must hold of every packet that goes out.
#pragma once

#include "sp/abi/wire.h"
#include "tests/fuzz/target.hpp"
#include "userspace/link/connection.hpp"
#include "userspace/link/packet.hpp"
#include "userspace/link/stranger.hpp"

namespace sp::fuzz {

inline constexpr std::uint64_t dialer_id = 0xd1a1'0001, listener_id = 0x1157'0002;
inline constexpr std::uint16_t dialer_port = 50000, listener_port = 7000, packet_max = 1480;
inline constexpr link::instant beginning{std::chrono::hours(1)};

[[nodiscard]] inline link::connection_config dialer_config()
{
    link::connection_config c;
    c.local_id = dialer_id;
    c.instance = 11;
    c.local_port = dialer_port;
    c.peer_port = listener_port;
    c.protocol = 0x30;
    c.peer_protocol = 0x31;
    c.packet_max = packet_max;
    c.message_max = 1 << 20;
    return c;
}

[[nodiscard]] inline link::connection_config listener_config()
{
    auto c = dialer_config();
    c.local_id = listener_id;
    c.instance = 12;
    std::swap(c.local_port, c.peer_port);
    std::swap(c.protocol, c.peer_protocol);
    return c;
}

template <class Packet>
[[nodiscard]] std::vector<std::byte> as_bytes_of(const Packet &packet)
{
    const auto view = std::as_bytes(std::span(&packet, 1));
    return {view.begin(), view.end()};
}

// The next packet of a connection; empty when it has none. Whatever goes out is a packet that the
// parser takes.
[[nodiscard]] inline std::vector<std::byte> packet_of(link::connection &c, link::instant now)
{
    std::vector<std::byte> room(c.transmit_size());
    if (room.empty())
        return room;
    must(room.size() <= packet_max, "what goes out fits the path");
    must(c.transmit(room, now) == room.size(), "what goes out is as long as was told");
    must(sp_check_packet(room.data(), room.data() + room.size(),
                         static_cast<std::uint32_t>(room.size())) == SP_SHAPE_SP,
         "what goes out is a packet");
    must(link::intact(room), "what goes out has its checksum");
    const auto header = link::read<sp_header>(room);
    const bool to_stranger = header.type == SP_PROBE || header.type == SP_INIT;
    must(link::be64(header.dcid) == (to_stranger ? 0 : c.peer_id()),
         "what goes out names its connection");
    return room;
}

[[nodiscard]] inline sp_header header_of(sp_packet_type type, std::uint64_t dcid)
{
    sp_header h{};
    h.version = SP_WIRE_VERSION;
    h.type = static_cast<std::uint8_t>(type);
    h.dport = link::be16(dialer_port);
    h.sport = link::be16(listener_port);
    h.dcid = link::be64(dcid);
    h.limit = link::be32(32);
    return h;
}

[[nodiscard]] inline sp_identity identity_of(std::uint64_t scid, std::uint16_t protocol)
{
    sp_identity i{};
    i.scid = link::be64(scid);
    i.instance = link::be64(77);
    i.version_min = i.version_max = SP_WIRE_VERSION_NUMBER;
    i.protocol = link::be16(protocol);
    return i;
}

[[nodiscard]] inline sp_probe right_probe()
{
    sp_probe p{};
    p.header = header_of(SP_PROBE, 0);
    p.identity = identity_of(dialer_id, 0x30);
    return p;
}

[[nodiscard]] inline sp_init right_init()
{
    sp_init i{};
    i.header = header_of(SP_INIT, 0);
    i.identity = identity_of(dialer_id, 0x30);
    i.params.message_max = link::be32(1 << 20);
    i.params.packet_max = link::be16(packet_max);
    return i;
}

// A packet of this type as the peer of `c` would send it, but for its numbers.
[[nodiscard]] inline std::vector<std::byte> right_packet(sp_packet_type type, std::uint64_t to)
{
    switch (type) {
    case SP_PROBE:
        return as_bytes_of(right_probe());
    case SP_COOKIE: {
        sp_cookie p{};
        p.header = header_of(type, to);
        p.epoch = link::be32(1);
        p.length = link::be16(packet_max);
        return as_bytes_of(p);
    }
    case SP_INIT:
        return as_bytes_of(right_init());
    case SP_ACCEPT: {
        sp_accept p{};
        p.header = header_of(type, to);
        p.identity = identity_of(listener_id, 0x31);
        p.params.message_max = link::be32(1 << 20);
        p.params.packet_max = link::be16(packet_max);
        return as_bytes_of(p);
    }
    case SP_REFUSE:
        return as_bytes_of(
            link::make_refuse(header_of(SP_PROBE, 0), to, SP_REASON_BUSY, 0x31, "one has come"));
    case SP_DISCONNECT: {
        auto p = as_bytes_of(header_of(type, to));
        p.resize(SP_OVERHEAD + 8);
        const auto reason = link::be16(SP_REASON_SHUTTING_DOWN);
        (void)link::write_record(std::span(p).subspan(SP_HEADER_SIZE), SP_RECORD_CTRL,
                                 SP_CODE_REASON, std::as_bytes(std::span(&reason, 1)), {});
        return p;
    }
    case SP_DATA: {
        auto p = as_bytes_of(header_of(type, to));
        p.resize(SP_OVERHEAD + 8);
        const auto body = p.size() - SP_OVERHEAD - SP_RECORD_SIZE;
        const std::vector<std::byte> message(body, std::byte{'m'});
        (void)link::write_record(std::span(p).subspan(SP_HEADER_SIZE),
                                 SP_RECORD_FIRST | SP_RECORD_LAST, SP_CODE_NONE, message, {});
        return p;
    }
    default: {
        auto p = as_bytes_of(header_of(type, to));
        p.resize(SP_OVERHEAD);
        return p;
    }
    }
}

// The input changes a packet that would be right: its bytes are added by exclusive or, so that
// zeros leave it right. The checksum is made good again, or nothing but it would ever be tested.
inline void disturb(std::vector<std::byte> &packet, reader &in)
{
    const auto control = in.byte();
    if ((control & 0x80) != 0) { // another length
        const auto size = SP_OVERHEAD + in.below(packet_max - SP_OVERHEAD);
        packet.resize(size);
    }
    // Changes in runs: where, how long, which bytes.
    for (auto runs = control & 3; runs > 0; --runs) {
        auto at = in.below(packet.size());
        for (const auto b : in.take_bytes(in.byte() % 16)) {
            packet[at] ^= b;
            at = (at + 1) % packet.size();
        }
    }
    link::finish(packet);
}

// Takes all that has come in order, as its owner would: `use(record)` for each record. Gives the
// credit back.
template <class Use>
void take_all(link::connection &c, link::instant now, Use &&use)
{
    std::uint32_t packets = 0;
    while (const auto contents = c.front()) {
        link::record_reader records(*contents);
        while (const auto r = records.next())
            use(*r);
        c.finished();
        ++packets;
    }
    c.keep();
    if (packets > 0 && c.state() == link::phase::open)
        c.consumed(packets, now);
}

} // namespace sp::fuzz
