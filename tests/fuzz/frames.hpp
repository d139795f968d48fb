// SPDX-License-Identifier: BSD-2-Clause
//
// Frames by the million: a few shapes that each reach another branch of the steering program, and
// mutations that stay near them. All chance comes from one seed. Nothing is allocated per frame.
#pragma once

#include "tests/fuzz/frame_model.hpp"

#include <array>
#include <random>
#include <utility>
#include <vector>

namespace sp::fuzz {

// The ports and addresses that the frames are about.
inline constexpr unsigned served_port = 8080, wrong_shard_port = 8082, outer_port = 5370;
inline constexpr std::array<std::uint8_t, 4> local_ipv4{198, 18, 0, 2};
inline constexpr std::array<std::uint8_t, 16> local_ipv6{0xfd, 0, 0x53, 0x70, 0, 0, 0, 0,
                                                         0,    0, 0,    0,    0, 0, 0, 2};

class frame_source {
public:
    static constexpr std::size_t size_max = 1514, size_min = 14; // the kernel runs nothing on less

    explicit frame_source(std::uint64_t seed) : random_(seed)
    {
        for (const unsigned tags : {0u, 1u})
            for (const bool v6 : {false, true})
                for (const bool udp : {false, true})
                    for (const auto &[port, type] : {std::pair{served_port, SP_DATA},
                                                     {wrong_shard_port, SP_DATA},
                                                     {8081u, SP_DATA},
                                                     {8081u, SP_PONG},
                                                     {0u, SP_PING}})
                        shapes_.push_back(make(tags, v6, udp, port, type));
    }

    // Valid until the next call.
    [[nodiscard]] bytes next()
    {
        const auto &shape = shapes_[random_() % shapes_.size()];
        std::ranges::copy(shape, frame_.begin());
        size_ = shape.size();
        for (auto changes = random_() % 5; changes > 0; --changes)
            change();
        if (random_() % 8 == 0) { // cut, or longer than its packet
            const auto wanted = size_min + random_() % (size_ + 32);
            if (wanted > size_)
                std::fill(frame_.begin() + static_cast<std::ptrdiff_t>(size_),
                          frame_.begin() + static_cast<std::ptrdiff_t>(wanted), std::byte{0xee});
            size_ = wanted;
        }
        return std::span(frame_).first(size_);
    }

private:
    using buffer = std::vector<std::byte>;

    static void put(buffer &out, std::initializer_list<unsigned> values)
    {
        for (const auto v : values)
            out.push_back(static_cast<std::byte>(v));
    }
    static void put_word(buffer &out, std::size_t v) // 16 bits
    {
        put(out, {static_cast<unsigned>(v >> 8), static_cast<unsigned>(v & 0xff)});
    }

    static buffer make(unsigned tags, bool v6, bool udp, unsigned port, unsigned type)
    {
        constexpr std::size_t packet = 160; // as long as the smallest PROBE
        const auto payload = packet + (udp ? 8 : 0);
        buffer out(12, std::byte{2});
        if (tags > 0)
            put(out, {0x81, 0, 0, 7});
        if (v6) {
            put(out, {0x86, 0xdd, 0x60, 0, 0, 0});
            put_word(out, payload);
            put(out, {udp ? 17u : 253u, 64});
            for (const auto last : {std::uint8_t{9}, local_ipv6.back()}) {
                for (std::size_t i = 0; i + 1 < local_ipv6.size(); ++i)
                    put(out, {local_ipv6[i]});
                put(out, {last});
            }
        } else {
            put(out, {0x08, 0, 0x45, 0});
            put_word(out, 20 + payload);
            put(out, {0, 0, 0x40, 0, 64, udp ? 17u : 253u, 0, 0, 198, 18, 0, 9});
            for (const auto b : local_ipv4)
                put(out, {b});
        }
        if (udp) {
            put_word(out, 40000);
            put_word(out, outer_port);
            put_word(out, payload);
            put_word(out, type == SP_PING ? 0x1234 : 0); // a checksum that is changed with the type
        }
        put(out, {SP_WIRE_VERSION, type, 0, 0});
        put_word(out, port);
        out.resize(out.size() + packet - 6);
        return out;
    }

    // One byte, mostly of the headers: a bit of it, a value that means something, a step up or
    // down, or anything.
    void change()
    {
        constexpr std::array<std::uint8_t, 26> telling{
            0,    1,    2,    4,    5,    6,    7,    8,    11,   12,   13,   17,  0x14,
            0x15, 0x25, 0x1f, 0x20, 0x38, 0x45, 0x46, 0x60, 0x81, 0x86, 0x88, 253, 255};
        const auto near = std::min<std::size_t>(size_, random_() % 4 != 0 ? 86 : size_);
        auto &b = frame_[random_() % near];
        switch (random_() % 4) {
        case 0:
            b ^= std::byte{1} << (random_() % 8);
            break;
        case 1:
            b = static_cast<std::byte>(telling[random_() % telling.size()]);
            break;
        case 2:
            b = static_cast<std::byte>(std::to_integer<unsigned>(b) +
                                       (random_() % 2 == 0 ? 1 : 255));
            break;
        default:
            b = static_cast<std::byte>(random_());
        }
    }

    std::mt19937_64 random_;
    std::vector<buffer> shapes_;
    std::array<std::byte, size_max> frame_{};
    std::size_t size_ = 0;
};

} // namespace sp::fuzz
