// SPDX-License-Identifier: BSD-2-Clause
//
// The frame parser of abi/wire.h at each of its four doors, against the model. The first byte of an
// input chooses the door and the configuration, the rest is the frame.
#include "tests/fuzz/frame_model.hpp"
#include "tests/fuzz/target.hpp"

#include <array>

namespace sp::fuzz {
namespace {

mark over_ipv4{"SP over IPv4"}, over_ipv6{"SP over IPv6"}, over_udp{"SP in UDP"},
    tagged{"SP behind a VLAN tag"}, other_probe{"a PROBE of another version"},
    fragment{"a fragment"}, options{"IPv4 options"}, short_packet{"a length that is wrong"},
    wrong_type{"a type that does not exist"}, wrong_flags{"a reserved flag"};

void note(const frame_reading &what, const frame_model &model)
{
    switch (what.shape) {
    case SP_SHAPE_SP:
        (what.family == 4 ? over_ipv4 : over_ipv6)();
        if (what.udp != 0)
            over_udp();
        if (what.offset == 38 || what.offset == 58)
            tagged();
        if (model.at(what.offset) != SP_WIRE_VERSION)
            other_probe();
        break;
    case SP_SHAPE_FRAGMENT:
        return fragment();
    case SP_SHAPE_IP_OPTIONS:
        return options();
    case SP_SHAPE_BAD_LENGTH:
        return short_packet();
    case SP_SHAPE_BAD_TYPE:
        return wrong_type();
    case SP_SHAPE_BAD_FLAGS:
        return wrong_flags();
    default:
        break;
    }
}

struct door {
    std::uint8_t number;
    std::uint8_t protocol;
    std::uint16_t udp_port;

    [[nodiscard]] frame_reading by_model(const frame_model &m) const
    {
        switch (number) {
        case 0:
            return m.ethernet();
        case 1:
            return m.ipv4(0);
        case 2:
            return m.ipv6(0);
        default:
            return m.packet(0, m.frame.size());
        }
    }

    [[nodiscard]] sp_shape by_parser(bytes frame, sp_parsed &out) const
    {
        const auto *data = frame.data(), *end = data + frame.size();
        switch (number) {
        case 0:
            return sp_parse_frame(data, end, protocol, SP_BE16(udp_port), &out);
        case 1:
            return sp_parse_ipv4(data, end, protocol, SP_BE16(udp_port), &out);
        case 2:
            return sp_parse_ipv6(data, end, protocol, SP_BE16(udp_port), &out);
        default:
            return sp_check_packet(data, end, static_cast<std::uint32_t>(frame.size()));
        }
    }
};

void compare(const door &d, bytes frame)
{
    const frame_model model{frame, d.protocol, d.udp_port};
    const auto expected = d.by_model(model);
    sp_parsed found{};
    const auto shape = d.by_parser(frame, found);
    must(shape == expected.shape, "the parser says what the model says");
    if (shape != SP_SHAPE_SP || d.number > 2)
        return;
    note(expected, model);
    const auto offset = [&](const void *p) {
        return static_cast<std::size_t>(static_cast<const std::byte *>(p) - frame.data());
    };
    must(offset(found.header) == expected.offset, "the header is where the model has it");
    must(found.length == expected.length, "the length is that of the model");
    must(expected.offset + found.length <= frame.size(), "the packet ends within its frame");
    must(found.family == expected.family, "the family is that of the model");
    must(offset(found.source) == expected.source &&
             offset(found.destination) == expected.destination,
         "the addresses are where the model has them");
    must((found.udp != nullptr ? offset(found.udp) : 0) == expected.udp,
         "the UDP header is where the model has it");
}

void run(bytes input)
{
    reader in(input);
    const auto choice = in.byte();
    const door d{.number = static_cast<std::uint8_t>(choice & 3),
                 .protocol = static_cast<std::uint8_t>((choice & 4) != 0 ? 254 : 253),
                 .udp_port = static_cast<std::uint16_t>((choice & 8) != 0 ? 5370 : 0)};
    if (in.empty())
        return; // no frame, and no address to begin at
    const auto frame = exact(in.rest());
    compare(d, frame);
    const frame_model model{frame, d.protocol, d.udp_port};
    const auto whole = d.by_model(model);
    if (whole.shape != SP_SHAPE_SP)
        return note(whole, model);
    // A frame that was cut is SP no more, wherever it was cut.
    for (const auto left : {whole.offset + whole.length - 1, whole.offset + 40, whole.offset + 39,
                            whole.offset, whole.offset / 2}) {
        if (left == 0)
            continue;
        const auto cut = exact(std::span(frame).first(std::min(left, frame.size())));
        if (left < whole.offset + whole.length && d.number < 3)
            must(d.by_model({cut, d.protocol, d.udp_port}).shape != SP_SHAPE_SP,
                 "a packet that was cut is none");
        compare(d, cut);
    }
}

const registration here("wire_header", run,
                        {&over_ipv4, &over_ipv6, &over_udp, &tagged, &other_probe, &fragment,
                         &options, &short_packet, &wrong_type, &wrong_flags});

} // namespace
} // namespace sp::fuzz
