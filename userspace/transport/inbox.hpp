// SPDX-License-Identifier: BSD-2-Clause
//
// Buffers for one recvmmsg() on a raw socket: what came, from whom, and to which of our addresses.
// Memory is reserved at creation and touched as packets fill it. What is handed out is valid until
// the next fill().
#pragma once

#include "sp/abi/address.h"
#include "userspace/transport/inet.hpp"

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <sys/socket.h>

namespace sp::transport {

class inbox {
public:
    static constexpr std::size_t packets_max = 32;
    static constexpr std::size_t packet_bytes_max = 65536;

    inbox();

    // At most `n` packets without waiting; how many came.
    std::size_t fill(int socket_fd, std::size_t n) noexcept;

    [[nodiscard]] std::span<const std::byte> packet(std::size_t i) const noexcept;
    [[nodiscard]] bool truncated(std::size_t i) const noexcept;
    [[nodiscard]] sp_address from(std::size_t i) const noexcept; // of an IPv6 socket
    [[nodiscard]] sp_address to(std::size_t i) const noexcept;   // the same, with IPV6_RECVPKTINFO

private:
    struct control_space {
        alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(in6_pktinfo))> bytes;
    };
    void prepare(std::size_t i) noexcept;

    std::unique_ptr<std::byte[]> area_;
    std::array<mmsghdr, packets_max> messages_;
    std::array<iovec, packets_max> pieces_;
    std::array<sockaddr_in6, packets_max> names_;
    std::array<control_space, packets_max> controls_;
    std::size_t used_ = packets_max; // headers that the last call overwrote
};

} // namespace sp::transport
