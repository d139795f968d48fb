// SPDX-License-Identifier: BSD-2-Clause
//
// The options of sockets, read: one table says which role reads which field and in what range, and
// everything that opens a socket asks it. What is left over are the translations into the words of
// the engine and of the patterns.
#pragma once

#include "sp/error.hpp"
#include "sp/options.hpp"
#include "userspace/engine/objects.hpp"
#include "userspace/protocol/types.hpp"

#include <optional>

namespace sp::inline v1::detail {

// A socket with its pattern's state machine, or one without, for devices and tools.
enum class form : std::uint8_t { cooked, raw };

// Why a socket of this role cannot be opened so: SP2008 names the first field that the role does
// not read, or that is out of its range.
[[nodiscard]] std::optional<error> refuse(const options &o, protocol::role role, form how);

// What the engine wants to know of a socket of this role.
[[nodiscard]] core::socket_options shaping_of(const options &o, protocol::role role);

// The largest message: at most a quarter of memory_max, since one takes up to three times its size
// while it comes, and it is not alone; a larger one might never find room. Unset, it is 1 MiB or
// that quarter; too large, it is SP2008.
[[nodiscard]] result<std::uint32_t> message_max_of(const options &o, std::size_t memory_max);

// ---- what the patterns want to know: the field, or what the pattern does by itself

template <class To, class From>
void assign(To &to, const std::optional<From> &from)
{
    if (from)
        to = static_cast<To>(*from);
}

inline void assign_send_queue(protocol::queue_bounds &to, const options &o)
{
    assign(to.bytes, o.send_queue_bytes);
    assign(to.messages, o.send_queue_messages);
}

inline void assign_recv_queue(protocol::queue_bounds &to, const options &o)
{
    assign(to.bytes, o.recv_queue_bytes);
    assign(to.messages, o.recv_queue_messages);
}

// The same words in the same order on both sides.
static_assert(static_cast<int>(protocol::overflow::disconnect) ==
                  static_cast<int>(when_full::disconnect) &&
              static_cast<int>(protocol::overflow::block) == static_cast<int>(when_full::block) &&
              static_cast<int>(protocol::alone::drop) == static_cast<int>(when_alone::drop));

} // namespace sp::inline v1::detail
