// SPDX-License-Identifier: BSD-2-Clause
//
// What a frame is by docs/wire.md, written a second time and in another manner than the parser of
// abi/wire.h: byte by byte, without its structures and constants. The parser, and the XDP program
// that contains it, are compared with this.
#pragma once

#include "sp/abi/wire.h"
#include "tests/fuzz/target.hpp"

namespace sp::fuzz {

// Where the packet is and how long it says it is; only for SP_SHAPE_SP.
struct frame_reading {
    sp_shape shape = SP_SHAPE_NOT_SP;
    std::size_t offset = 0;
    std::size_t length = 0;
    unsigned family = 0;
    std::size_t source = 0, destination = 0; // offsets of the addresses
    std::size_t udp = 0;                     // offset of the UDP header, when there is one
};

struct frame_model {
    bytes frame;
    unsigned protocol = 253;
    unsigned udp_port = 0; // 0: encapsulated packets are not ours

    [[nodiscard]] unsigned at(std::size_t i) const { return std::to_integer<unsigned>(frame[i]); }
    [[nodiscard]] unsigned word(std::size_t i) const { return at(i) * 256 + at(i + 1); }
    [[nodiscard]] bool has(std::size_t n) const { return frame.size() >= n; }

    [[nodiscard]] frame_reading packet(std::size_t begin, std::size_t announced,
                                       frame_reading so_far = {}) const
    {
        const auto is = [&](sp_shape shape) {
            so_far.shape = shape;
            return so_far;
        };
        const auto there = frame.size() - begin;
        if (announced < 40 || there < 40)
            return is(SP_SHAPE_OTHER_VERSION);
        const auto version = at(begin), type = at(begin + 1), flags = at(begin + 2);
        const bool any_probe = type == 1 && version % 16 == 5;
        if (version != 0x15 && !any_probe)
            return is(SP_SHAPE_OTHER_VERSION);
        if (announced < 56 || announced > 65535 || announced > there)
            return is(SP_SHAPE_BAD_LENGTH);
        if (type < 1 || type > 12)
            return is(SP_SHAPE_BAD_TYPE);
        if (flags > 7)
            return is(SP_SHAPE_BAD_FLAGS);
        so_far.offset = begin;
        so_far.length = announced;
        return is(SP_SHAPE_SP);
    }

    // Behind the IP header; `announced` bytes by its word.
    [[nodiscard]] frame_reading payload(std::size_t begin, unsigned number, std::size_t announced,
                                        frame_reading so_far) const
    {
        if (number == protocol)
            return packet(begin, announced, so_far);
        if (!has(begin + 8) || word(begin + 2) != udp_port)
            return {};
        const auto udp_length = word(begin + 4);
        if (udp_length < 8 || udp_length > announced)
            return {.shape = SP_SHAPE_BAD_LENGTH};
        so_far.udp = begin;
        return packet(begin + 8, udp_length - 8, so_far);
    }

    [[nodiscard]] bool may_be_ours(unsigned number) const
    {
        return number == protocol || (number == 17 && udp_port != 0);
    }

    [[nodiscard]] frame_reading ipv4(std::size_t begin) const
    {
        if (!has(begin + 20) || !may_be_ours(at(begin + 9)))
            return {};
        const auto number = at(begin + 9);
        const bool bare = number == protocol;
        if (at(begin) != 0x45)
            return {.shape = bare && at(begin) / 16 == 4 ? SP_SHAPE_IP_OPTIONS : SP_SHAPE_NOT_SP};
        if (word(begin + 6) % 0x4000 != 0) // more fragments, or not the first
            return {.shape = bare ? SP_SHAPE_FRAGMENT : SP_SHAPE_NOT_SP};
        const auto announced = word(begin + 2);
        if (announced < 20)
            return {.shape = SP_SHAPE_BAD_LENGTH};
        return payload(begin + 20, number, announced - 20,
                       {.family = 4, .source = begin + 12, .destination = begin + 16});
    }

    [[nodiscard]] frame_reading ipv6(std::size_t begin) const
    {
        if (!has(begin + 40) || at(begin) / 16 != 6 || !may_be_ours(at(begin + 6)))
            return {};
        return payload(begin + 40, at(begin + 6), word(begin + 4),
                       {.family = 6, .source = begin + 8, .destination = begin + 24});
    }

    [[nodiscard]] frame_reading ethernet() const
    {
        if (!has(14))
            return {};
        std::size_t begin = 14;
        auto type = word(12);
        if (type == 0x8100 || type == 0x88a8) {
            if (!has(18))
                return {};
            type = word(16);
            begin = 18;
        }
        return type == 0x0800 ? ipv4(begin) : type == 0x86dd ? ipv6(begin) : frame_reading{};
    }
};

} // namespace sp::fuzz
