// SPDX-License-Identifier: BSD-2-Clause
//
// Packets on their way into raw sockets: written in place, then handed to the kernel by one
// sendmmsg() for each run of one socket. What the kernel cannot take now stays, in order. The owner
// decides what a refusal means.
#pragma once

#include "sp/abi/address.h"
#include "userspace/transport/inet.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <sys/socket.h>

namespace sp::transport {

// Whom a packet goes to, and from which of our addresses: as sendmsg() wants to hear it.
struct envelope {
    socket_name to;
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(in6_pktinfo))> control{};
    std::size_t control_length = 0;

    envelope() = default;
    // `from` of another family, SP_FAMILY_NONE above all: the kernel chooses.
    envelope(const sp_address &peer, const sp_address &from) noexcept;

    // A header that points into this envelope and at one piece of memory.
    [[nodiscard]] msghdr header(iovec *piece) noexcept;
};

// Which socket a packet leaves by: one for each family, and one each for what is encapsulated.
enum class outlet : std::uint8_t { ipv4, ipv6, udp_ipv4, udp_ipv6 };
using outlets = std::array<int, 4>; // their descriptors

class outbox {
public:
    static constexpr std::size_t packets_max = 64;
    static constexpr std::size_t area_bytes = 256 * 1024;

    struct refusal {
        std::uint32_t route;
        int why; // the kernel's errno
    };
    struct progress {
        std::size_t sent = 0;
        std::size_t refused = 0;
        std::array<refusal, packets_max> refusals;
    };

    outbox();

    [[nodiscard]] bool empty() const noexcept { return head_ == tail_; }

    // Room for one packet; empty when there is none before the next flush().
    [[nodiscard]] std::span<std::byte> reserve(std::size_t n) noexcept;
    // The packet is the first `n` bytes of what reserve() gave.
    void submit(const envelope &to, outlet by, std::uint32_t route, std::size_t n) noexcept;
    [[nodiscard]] progress flush(const outlets &sockets) noexcept;
    // What reserve() gave, between it and submit().
    [[nodiscard]] std::byte *packet() const noexcept { return area_.get() + area_used_; }

private:
    std::unique_ptr<std::byte[]> area_;
    std::size_t area_used_ = 0;
    std::size_t head_ = 0, tail_ = 0; // packets [head_, tail_) are waiting
    unsigned device_tries_ = 0;       // in a row, at what is at the head
    std::array<mmsghdr, packets_max> messages_;
    std::array<iovec, packets_max> pieces_;
    std::array<envelope, packets_max> envelopes_;
    std::array<std::uint32_t, packets_max> routes_;
    std::array<outlet, packets_max> outlets_;
};

} // namespace sp::transport
