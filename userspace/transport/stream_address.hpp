// SPDX-License-Identifier: BSD-2-Clause
//
// Where a byte stream leads: a path, an abstract name, or a host and port; as a URL, and as what
// the system's calls take. resolve() may ask the network for a name; nothing else here blocks.
#pragma once

#include "sp/abi/names.hpp"
#include "sp/error.hpp"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <vector>

namespace sp::transport {

enum class stream_family : std::uint8_t { ipc, abstract, tcp };

[[nodiscard]] std::string_view name_of(stream_family f) noexcept; // as in a URL

struct stream_address {
    stream_family family = stream_family::ipc;
    std::string name;       // the path; the abstract name, any bytes; a host or an address
    std::uint16_t port = 0; // tcp; 0 while listening: the system chooses
};

// ipc:///path, abstract://name with what is no plain letter as %XX, tcp://host:port.
[[nodiscard]] std::string url_of(const stream_address &a);

// An address as the system takes it.
struct stream_name {
    sockaddr_storage bytes{};
    socklen_t length = 0;

    [[nodiscard]] const sockaddr *get() const noexcept
    {
        return reinterpret_cast<const sockaddr *>(&bytes);
    }
    [[nodiscard]] int family() const noexcept { return bytes.ss_family; }
};

// "*" is every address of this host, and only while listening.
enum class resolve_for : std::uint8_t { listening, dialing };

// Every name the address has, the best first; never empty. Errors: SP2001 for a path or name that
// is too long, SP1026 for an unknown host.
[[nodiscard]] result<std::vector<stream_name>> resolve(const stream_address &a, resolve_for why);

// A short name for people: /path, @name, host:port.
[[nodiscard]] std::string text_of(const stream_address &a);
// 198.18.0.2:49311, [fd00::2]:7000, /path, @name; empty for a unix socket without a name.
[[nodiscard]] std::string text_of(const stream_name &name);
// The port of an internet address, else 0.
[[nodiscard]] std::uint16_t port_of(const stream_name &name) noexcept;

} // namespace sp::transport
