// SPDX-License-Identifier: BSD-2-Clause
//
// Sockets of other messaging libraries behind one face, so that what is measured with one is what
// is measured with the others: one call sends a message, one receives it into the caller's memory.
// Each library has a file of its own in bench/peers, which alone includes its headers, and is used
// as its manual begins: its own calls, no option set. What open() makes stays open until the
// process ends, since not every library comes back from closing (libnng 1.5.2).
#pragma once

#include "bench/pair.hpp"

#include <cstddef>
#include <functional>
#include <span>
#include <string>

namespace sp::bench {

enum class role : std::uint8_t { req, rep, push, pull };

// rep and push listen, req and pull dial.
[[nodiscard]] constexpr bool listens(role of) noexcept
{
    return of == role::rep || of == role::push;
}

// Both calls wait for as long as it takes.
struct peer_socket {
    std::move_only_function<result<void>(std::span<const std::byte> body)> send;
    // A message that has not exactly the size of `body` is a failure.
    std::move_only_function<result<void>(std::span<std::byte> body)> receive;
};

// What threads a library starts belong to the process that calls open().
struct library {
    std::string name, version;
    std::function<result<peer_socket>(role, const std::string &url)> open;
};

[[nodiscard]] library zeromq();
[[nodiscard]] library nng();
[[nodiscard]] library nanomsg();

} // namespace sp::bench
