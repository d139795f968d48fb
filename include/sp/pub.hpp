// SPDX-License-Identifier: BSD-2-Clause
//
// PUB: sends every message to every subscriber. A message begins with its topic. Sending never
// waits for a subscriber: one that is slow loses the oldest messages, and each loss is counted.
// What is sent before a subscriber has connected does not reach it; wait_peers() helps.
#pragma once

#include "sp/socket.hpp"

#include <span>

#pragma GCC visibility push(default)
namespace sp::inline v1 {

class pub : public socket {
public:
    [[nodiscard]] static result<pub> open(const options &options = {});

    // Errors: message_too_large (for this socket; a subscriber that takes less misses it), closed.
    // With on_send_full = block they wait up to send_timeout; whoever is slow then misses it.
    [[nodiscard]] result<void> send(payload body);
    // On an error the loan is as it was.
    [[nodiscard]] result<void> send(sp::loan &&body);
    // How many were sent: all of them, unless an error came in between.
    [[nodiscard]] result<std::size_t> send_batch(std::span<const payload> bodies);
    // would_block: memory_max is reached.
    [[nodiscard]] result<sp::loan> loan(std::size_t size);

private:
    using socket::socket;
};

} // namespace sp::inline v1
#pragma GCC visibility pop
