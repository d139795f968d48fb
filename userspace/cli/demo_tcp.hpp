// SPDX-License-Identifier: BSD-2-Clause
//
// What sp is compared with: TCP_NODELAY ping-pong between the same two processes, over the same
// wires, with the same bytes, and waiting in the same way (a loop of non-blocking reads, or
// blocking ones).
#pragma once

#include "sp/error.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace sp::cli {

enum class reading : std::uint8_t { spin, block };

class tcp_peer {
public:
    [[nodiscard]] static result<tcp_peer>
    listen(std::uint16_t port); // only accept() is of use on it
    [[nodiscard]] result<tcp_peer> accept() const;
    [[nodiscard]] static result<tcp_peer> connect(const std::string &address, std::uint16_t port);

    tcp_peer(tcp_peer &&other) noexcept;
    tcp_peer &operator=(tcp_peer &&) = delete;
    ~tcp_peer();

    [[nodiscard]] bool write_all(std::span<const std::byte> bytes) const noexcept;
    [[nodiscard]] bool read_all(std::span<std::byte> bytes,
                                reading how) const noexcept; // false: the other side is gone

private:
    explicit tcp_peer(int fd) noexcept : fd_(fd) {}

    int fd_;
};

} // namespace sp::cli
