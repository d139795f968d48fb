// SPDX-License-Identifier: BSD-2-Clause
//
// URLs of endpoints: ip://HOST:PORT[?io=auto|xdp|kernel][&if=IFACE][&encap=udp] and
// unixgram:///path for sp itself, ipc:///path, abstract://name and tcp://HOST:PORT for NNG and its
// relatives. The address says where; whether XDP speeds it up is the host's business. An unknown
// scheme or key is an error that names the nearest one. Parsing only: no name is resolved and
// nothing is opened here.
#pragma once

#include "sp/error.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace sp {

enum class scheme : std::uint8_t { ip, unixgram, ipc, abstract, tcp };
enum class io_path : std::uint8_t { automatic, xdp, kernel };

struct url {
    sp::scheme scheme{};
    std::string path; // unixgram, ipc: absolute; abstract: the name, its bytes decoded from %XX
    // ip, tcp: a name, an IPv4 address, or an IPv6 address without its brackets; tcp: also *
    std::string host;
    std::uint16_t port = 0; // ip: sp's own service port; tcp: TCP's
    io_path io = io_path::automatic;
    std::string interface;     // ip: empty, or the only one to use
    bool encapsulated = false; // ip: encap=udp
};

// Errors: SP2001, always with a reason and what to write instead.
[[nodiscard]] result<url> parse_url(std::string_view text);

// The candidate with the smallest edit distance to `word`, or empty when none is near.
[[nodiscard]] std::string_view nearest(std::string_view word,
                                       std::initializer_list<std::string_view> candidates);

} // namespace sp
