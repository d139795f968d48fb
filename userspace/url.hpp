// SPDX-License-Identifier: BSD-2-Clause
//
// URLs of endpoints: ip://HOST:PORT[?io=auto|xdp|kernel][&if=IFACE] and unixgram:///path. The
// address says where; whether XDP speeds it up is the host's business. An unknown scheme or key is
// an error that names the nearest one. Parsing only: no name is resolved and nothing is opened
// here.
#pragma once

#include "sp/error.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace sp {

enum class scheme : std::uint8_t { ip, unixgram };
enum class io_path : std::uint8_t { automatic, xdp, kernel };

struct url {
    sp::scheme scheme{};
    std::string path;       // unixgram
    std::string host;       // ip: a name, an IPv4 address, or an IPv6 address without its brackets
    std::uint16_t port = 0; // ip: sp's own service port
    io_path io = io_path::automatic;
    std::string interface; // ip: empty, or the only one to use
};

// Errors: SP2001, always with a reason and what to write instead; not_supported for encap=udp.
[[nodiscard]] result<url> parse_url(std::string_view text);

// The candidate with the smallest edit distance to `word`, or empty when none is near.
[[nodiscard]] std::string_view nearest(std::string_view word,
                                       std::initializer_list<std::string_view> candidates);

} // namespace sp
