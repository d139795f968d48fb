// SPDX-License-Identifier: BSD-2-Clause
//
// The sums of a socket's books (userspace/protocol/types.hpp), from its counters alone: what it
// took and neither gave away nor dropped, and all its counters as text.
#pragma once

#include "sp/abi/names.hpp"

#include <cstdint>
#include <initializer_list>
#include <string>

namespace sp::test::books {

inline std::int64_t sum(const counters &c, std::initializer_list<stat> which)
{
    std::int64_t n = 0;
    for (const auto s : which)
        n += static_cast<std::int64_t>(c[s]);
    return n;
}

// Outgoing messages that are neither sent nor dropped.
inline std::int64_t held_out(const counters &c)
{
    using enum stat;
    return sum(c, {socket_accepted, socket_copied_out, socket_resends, socket_failovers}) -
           sum(c, {socket_sent, socket_returned, socket_withdrawn, socket_no_peer, socket_send_full,
                   socket_peer_limit, socket_pipe_closed, socket_pipe_gone, socket_closed,
                   socket_bad_raw_header});
}

// Incoming messages that are neither delivered nor dropped. A malformed header is counted
// as its pipe's end only.
inline std::int64_t held_in(const counters &c)
{
    using enum stat;
    return sum(c, {socket_received, socket_copied_in}) -
           sum(c, {socket_delivered, socket_recv_full, socket_ttl, socket_late, socket_unknown_id,
                   socket_foreign_reply, socket_duplicate_request, socket_duplicate_answer,
                   socket_filtered, socket_unsubscribed, socket_unexpected, socket_unread,
                   pipe_bad_header});
}

inline std::string text_of(const counters &c)
{
    std::string text;
    for (std::size_t i = 0; i < stat_table.size(); ++i)
        if (const auto n = c[static_cast<stat>(i)]; n > 0)
            text.append("\n    ")
                .append(stat_table[i].where)
                .append("_")
                .append(stat_table[i].name)
                .append(" ")
                .append(std::to_string(n));
    return text;
}

} // namespace sp::test::books
