// SPDX-License-Identifier: BSD-2-Clause
//
// Questions to another host that need no listener there, and what comes back: SP's PING, plain or
// behind UDP, which the XDP program answers, and the ICMP echo that every host answers. For
// `sp ping` and `sp doctor --peer`. Needs CAP_NET_RAW. Nothing is ever fragmented, so a size that
// is answered is one that the path carries both ways.
#pragma once

#include "sp/error.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <sys/socket.h>

namespace sp::cli {

using instant = std::chrono::steady_clock::time_point;

// A host as an address of the system, and as it is shown.
struct target {
    sockaddr_storage name{};
    socklen_t length = 0;
    std::string text;

    [[nodiscard]] bool ipv6() const noexcept { return name.ss_family == AF_INET6; }
};
[[nodiscard]] result<target> find_host(const std::string &host); // SP1026

enum class question : std::uint8_t { ping, ping_behind_udp, icmp_echo };

class echo {
public:
    struct answer {
        // refused: by the host itself, which does not know the protocol or the port.
        enum class kind : std::uint8_t { answered, refused, unreachable, too_large };
        kind what = kind::answered;
        std::uint64_t number = 0; // of the question, if it was answered
        instant at{};
    };

    // `udp_port`: where the program looks for what is behind UDP.
    [[nodiscard]] static result<echo> open(const target &host, question what,
                                           std::uint16_t udp_port);
    echo(echo &&other) noexcept;
    echo &operator=(echo &&) = delete;
    ~echo();

    // Asks with an IP packet of so many bytes; 0: a small one. Returns 0 or the system's errno;
    // EMSGSIZE when the path is known to carry less.
    [[nodiscard]] int ask(std::uint64_t number, std::size_t ip_bytes = 0);
    // The next answer; nothing when `until` has come, or `also` is readable.
    [[nodiscard]] std::optional<answer> wait(instant until, int also = -1);
    // Of the path, as far as the system knows it; 0: it does not.
    [[nodiscard]] std::size_t mtu() const noexcept;
    [[nodiscard]] std::size_t bytes_min() const noexcept; // of an IP packet

private:
    echo(const target &host, question what, std::uint16_t udp_port);
    [[nodiscard]] result<void> prepare(const target &host);
    [[nodiscard]] std::size_t header_bytes() const noexcept;
    [[nodiscard]] std::optional<answer> read_one() noexcept;
    [[nodiscard]] std::optional<answer> read_error() noexcept;

    question what_;
    bool ipv6_;
    std::uint16_t udp_port_, source_port_ = 0;
    std::uint32_t nonce_;
    int fd_ = -1, holder_ = -1; // the holder has the UDP port that answers come to
};

// Whether the host answers one of a few ICMP echoes; about a second if it does not.
[[nodiscard]] bool answers_echo(const target &host);

} // namespace sp::cli
