// SPDX-License-Identifier: BSD-2-Clause
//
// Strangers: what is answered without remembering anything. Whatever a PROBE or another packet
// holds, the answer is a packet, goes back to its sender's port and id, and is not longer than what
// it answers; and a cookie is good for exactly the claim and the epochs it was made for.
#include "tests/fuzz/link_scene.hpp"

namespace sp::fuzz {
namespace {

mark answered{"a cookie"}, old{"a cookie of the epoch before"}, outdated{"a cookie grown too old"},
    forged{"a claim that was changed"}, long_text{"a refusal with a text that is cut"};

template <class Answer>
void check(const Answer &answer, sp_packet_type type, const sp_header &question)
{
    const auto packet = as_bytes_of(answer);
    const auto *data = packet.data();
    must(sp_check_packet(data, data + packet.size(), sizeof answer) == SP_SHAPE_SP &&
             link::intact(packet),
         "an answer is a packet");
    const auto header = link::read<sp_header>(packet);
    must(header.type == type, "an answer has its type");
    must(header.dport == question.sport && header.sport == question.dport,
         "an answer goes where the question came from");
}

void answers(bytes packet, reader &in)
{
    const auto header = link::read<sp_header>(packet);
    const auto reset = link::make_reset(header);
    check(reset, SP_RESET, header);
    must(sizeof reset <= packet.size(), "a RESET is not longer than its cause");
    must(reset.unknown_dcid == header.dcid && reset.unknown_pn == header.pn,
         "a RESET names the packet that it answers");

    const auto tail = in.rest();
    const std::string_view text(reinterpret_cast<const char *>(tail.data()), tail.size());
    const auto reason = static_cast<sp_reason>(in.byte() % 16);
    must(!link::describe(reason).empty(), "each reason has words");
    const auto refuse = link::make_refuse(header, 5, reason, 0x31, text);
    check(refuse, SP_REFUSE, header);
    must(std::memcmp(refuse.text, text.data(), std::min<std::size_t>(text.size(), 64)) == 0,
         "a refusal carries its text as far as there is room");
    if (text.size() > 64)
        long_text();
}

void run(bytes input)
{
    reader in(input);
    const auto plan = in.byte();
    auto packet = as_bytes_of(right_probe());
    disturb(packet, in);
    answers(packet, in);
    if (packet.size() < sizeof(sp_probe))
        return;
    const auto probe = link::read<sp_probe>(packet);
    link::cookie_jar jar(in.take<link::cookie_secret>(), beginning);
    auto claim = link::cookie_claim{.address = in.take<sp_address>(),
                                    .scid = link::be64(probe.identity.scid),
                                    .instance = link::be64(probe.identity.instance),
                                    .sport = link::be16(probe.header.sport),
                                    .dport = link::be16(probe.header.dport)};
    const auto epoch = jar.epoch();
    auto shown = jar.make(claim);
    const auto answer =
        link::make_cookie(probe, static_cast<std::uint16_t>(packet.size()), epoch, shown);
    check(answer, SP_COOKIE, probe.header);
    must(sizeof answer <= packet.size(), "a COOKIE is not longer than the PROBE");
    must(answer.header.dcid == probe.identity.scid, "a COOKIE names the dialer's connection");
    must(link::be32(answer.epoch) == epoch && link::be16(answer.length) == packet.size() &&
             std::ranges::equal(answer.cookie, shown),
         "a COOKIE says what was made and how much arrived");
    answered();

    const unsigned turns = plan % 4;
    for (unsigned i = 0; i < turns; ++i) {
        auto secret = in.take<link::cookie_secret>();
        secret[0] = static_cast<std::uint8_t>(i + 1); // secrets are random, so they differ
        jar.turn(secret, beginning);
    }
    must(jar.good(claim, epoch, shown) == (turns < 2), "the two latest secrets are good");
    if (turns > 0)
        (turns == 1 ? old : outdated)();
    if ((plan & 0x80) == 0 || turns > 1)
        return;
    forged();
    switch (plan >> 2 & 7) {
    case 0:
        claim.scid ^= 1;
        break;
    case 1:
        claim.instance ^= std::uint64_t{1} << 63;
        break;
    case 2:
        claim.sport ^= 1;
        break;
    case 3:
        claim.dport ^= 0x8000;
        break;
    case 4:
        claim.address.bytes[0] ^= 1;
        break;
    case 5:
        claim.address.port ^= 1;
        break;
    case 6:
        claim.address.scope ^= 1;
        break;
    default:
        shown[in.below(shown.size())] ^= 0x10;
    }
    must(!jar.good(claim, epoch, shown), "a cookie is good for its own claim only");
    must(!jar.good(claim, epoch + 1, shown), "and for its own epoch");
}

const registration here("cookie", run, {&answered, &old, &outdated, &forged, &long_text});

} // namespace
} // namespace sp::fuzz
