// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/link/stranger.hpp"

#include "userspace/link/packet.hpp"

#include <algorithm>

namespace sp::link {
namespace {

sp_header answer_header(const sp_header &question, sp_packet_type type, __be64 dcid) noexcept
{
    sp_header header{};
    header.version = SP_WIRE_VERSION;
    header.type = static_cast<std::uint8_t>(type);
    header.dport = question.sport;
    header.sport = question.dport;
    header.dcid = dcid;
    return header;
}

template <class Packet>
Packet sealed(Packet packet) noexcept
{
    finish(std::as_writable_bytes(std::span(&packet, 1)));
    return packet;
}

} // namespace

sp_cookie make_cookie(const sp_probe &question, std::uint16_t length, std::uint32_t epoch,
                      const cookie &value) noexcept
{
    sp_cookie answer{};
    answer.header = answer_header(question.header, SP_COOKIE, question.identity.scid);
    answer.epoch = be32(epoch);
    answer.length = be16(length);
    std::ranges::copy(value, answer.cookie);
    return sealed(answer);
}

sp_refuse make_refuse(const sp_header &question, std::uint64_t scid, sp_reason why,
                      std::uint16_t protocol, std::string_view text) noexcept
{
    sp_refuse answer{};
    answer.header = answer_header(question, SP_REFUSE, be64(scid));
    answer.reason = be16(static_cast<std::uint16_t>(why));
    answer.version_min = answer.version_max = SP_WIRE_VERSION_NUMBER;
    answer.protocol = be16(protocol);
    text = text.substr(0, sizeof answer.text);
    std::ranges::copy(text, answer.text);
    return sealed(answer);
}

sp_reset make_reset(const sp_header &question) noexcept
{
    sp_reset answer{};
    const auto header = answer_header(question, SP_RESET, 0);
    std::memcpy(answer.clear, &header, sizeof answer.clear);
    answer.unknown_dcid = question.dcid;
    answer.unknown_pn = question.pn;
    return sealed(answer);
}

sp_reason reason_of(std::uint16_t wire) noexcept
{
    return wire <= SP_REASON_STALE ? static_cast<sp_reason>(wire) : SP_REASON_NONE;
}

std::string_view describe(sp_reason why) noexcept
{
    switch (why) {
    case SP_REASON_NONE:
        return "no reason given";
    case SP_REASON_NO_LISTENER:
        return "nobody listens on that port";
    case SP_REASON_PROTOCOL_MISMATCH:
        return "the protocols do not fit";
    case SP_REASON_VERSION:
        return "another version of the packet";
    case SP_REASON_ACCESS:
        return "not admitted";
    case SP_REASON_AUTH:
        return "keys or plaintext do not agree";
    case SP_REASON_BUSY:
        return "already has a partner";
    case SP_REASON_MESSAGE_TOO_LARGE:
        return "a message was too large";
    case SP_REASON_STALLED_MESSAGE:
        return "a message came to a halt";
    case SP_REASON_PROTOCOL_ERROR:
        return "a packet or message broke the rules";
    case SP_REASON_SHUTTING_DOWN:
        return "closed";
    case SP_REASON_LIMIT:
        return "a limit is reached";
    case SP_REASON_LOST:
        return "a packet was lost";
    case SP_REASON_DEAD:
        return "nothing was heard from the peer";
    case SP_REASON_STALE:
        return "the peer has restarted";
    }
    return "unknown reason";
}

} // namespace sp::link
