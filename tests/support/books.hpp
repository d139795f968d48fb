// SPDX-License-Identifier: BSD-2-Clause
//
// The books of a socket: what it took from the application and from its peers is what it gave away,
// dropped for a counted reason, or still holds. Tests call expect_balance(socket) when nothing
// moves any more; a failure prints every counter that is not zero.
#pragma once

#include "sp/sp.hpp"
#include "tests/support/sums.hpp"

#include <concepts>
#include <cstdint>
#include <gtest/gtest.h>
#include <string>

namespace sp::test {

// What a request that its holder drops unanswered is in the books: an answer that nobody reads is
// dropped instead of being delivered, a request had been delivered before.
enum class abandoned : std::uint8_t { instead_of_delivery, after_delivery, either };

namespace books {

// Why the books do not balance; empty when they do. Memory may have been short on either side.
inline std::string imbalance(const counters &c, std::size_t queued, abandoned how)
{
    const auto out = held_out(c), in = held_in(c);
    const auto given_up = static_cast<std::int64_t>(c[stat::socket_abandoned]);
    const auto least = static_cast<std::int64_t>(queued + c[stat::socket_memory]) +
                       (how == abandoned::instead_of_delivery ? given_up : 0);
    const auto most = least + (how == abandoned::either ? given_up : 0);
    if (out >= 0 && in >= 0 && out + in >= least && out + in <= most)
        return {};
    return "the books do not balance: of outgoing messages " + std::to_string(out) +
           " are neither sent nor dropped, of incoming ones " + std::to_string(in) +
           " neither delivered nor dropped; waiting or dropped for want of memory: " +
           std::to_string(least) + (most > least ? " to " + std::to_string(most) : std::string()) +
           text_of(c);
}

} // namespace books

template <class Socket>
inline constexpr abandoned abandoned_by =
    std::derived_from<Socket, answerer> ? abandoned::after_delivery
    : std::same_as<Socket, sp::socket> || std::same_as<Socket, raw>
        ? abandoned::either
        : abandoned::instead_of_delivery;

// For an open socket. The thread that drives it may be at work: two looks must agree.
template <class Socket>
void expect_balance(const Socket &s, abandoned how = abandoned_by<Socket>)
{
    std::string wrong;
    for (int look = 0; look < 1000; ++look) {
        const auto before = s.statistics();
        const auto queued = s.queued();
        const auto after = s.statistics();
        wrong = books::imbalance(after, queued, how);
        if (wrong.empty() && books::text_of(before) == books::text_of(after))
            return;
    }
    ADD_FAILURE() << wrong;
}

} // namespace sp::test
