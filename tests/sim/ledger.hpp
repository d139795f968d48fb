// SPDX-License-Identifier: BSD-2-Clause
//
// Every message that an application of the run ever made, outside of what is tested: who sent it,
// what is in it, on which connections it was seen and who got it. A body begins with the message's
// number here; the rest follows from that number, so that a body proves itself.
#pragma once

#include "tests/sim/choices.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace sp::sim {

using instant = std::chrono::steady_clock::time_point;

inline constexpr std::uint32_t nobody = ~0u;
inline constexpr std::uint32_t unknown = ~0u; // the number of something that is no message of ours

struct entry {
    std::uint32_t sender = nobody;  // the socket, by its number in this run
    std::uint32_t size = 0;         // of the body
    std::uint16_t topic = 0;        // two letters in front of the number; 0: none
    bool accepted = false;          // its socket took it
    std::uint32_t answers = nobody; // the message that this one is the answer to
    std::uint32_t order = 0;        // among the messages that its socket took
    std::uint32_t deliveries = 0;
    std::uint32_t executions = 0; // by the socket that last did
    instant accepted_at{};
    std::vector<std::uint32_t> carried{};   // connections, by number, in the order they were seen
    std::vector<std::uint64_t> receivers{}; // socket and context
};

class ledger {
public:
    static constexpr std::size_t number_bytes = 4;

    [[nodiscard]] std::uint32_t add(const entry &e)
    {
        entries_.push_back(e);
        return static_cast<std::uint32_t>(entries_.size() - 1);
    }
    [[nodiscard]] bool knows(std::uint32_t number) const noexcept
    {
        return number < entries_.size();
    }
    [[nodiscard]] entry &operator[](std::uint32_t number) noexcept { return entries_[number]; }
    [[nodiscard]] std::uint32_t size() const noexcept
    {
        return static_cast<std::uint32_t>(entries_.size());
    }

    // Writes the body of a message; `into` has its size.
    void write(std::uint32_t number, std::span<std::byte> into) const noexcept
    {
        const auto &e = entries_[number];
        if (e.topic != 0) {
            std::memcpy(into.data(), &e.topic, sizeof e.topic);
            into = into.subspan(sizeof e.topic);
        }
        std::memcpy(into.data(), &number, number_bytes);
        fill(number, into.subspan(number_bytes));
    }
    // Whether this is the body of that message, to the last byte.
    [[nodiscard]] bool is_body_of(std::uint32_t number, std::span<const std::byte> body) const
    {
        const auto &e = entries_[number];
        if (body.size() != e.size)
            return false;
        std::vector<std::byte> right(e.size);
        write(number, right);
        return std::ranges::equal(right, body);
    }

    // What number a body claims; unknown if it is too short.
    [[nodiscard]] static std::uint32_t number_of(std::span<const std::byte> body,
                                                 std::size_t topic_bytes) noexcept
    {
        std::uint32_t number = unknown;
        if (body.size() >= topic_bytes + number_bytes)
            std::memcpy(&number, body.data() + topic_bytes, number_bytes);
        return number;
    }

private:
    static void fill(std::uint32_t number, std::span<std::byte> rest) noexcept
    {
        // Words that differ from each other and from those of every other message; a loop that the
        // compiler makes wide.
        auto word = mix(number);
        std::size_t at = 0;
        for (; at + 8 <= rest.size(); at += 8, word += 0x9e3779b97f4a7c15)
            std::memcpy(rest.data() + at, &word, 8);
        std::memcpy(rest.data() + at, &word, rest.size() - at);
    }

    std::vector<entry> entries_;
};

} // namespace sp::sim
