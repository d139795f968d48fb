// SPDX-License-Identifier: BSD-2-Clause
//
// The wire between two hosts as somebody sees it who is on it: frames that leave a host are
// recorded, changed and sent again, under any address.
#pragma once

#include "tests/net/hosts.hpp"
#include "userspace/link/packet.hpp"
#include "userspace/transport/descriptor.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <stdexcept>
#include <sys/socket.h>
#include <vector>

namespace sp::test {

// An Ethernet frame with an IPv4 header and an SP packet.
class wire_frame {
public:
    explicit wire_frame(std::vector<std::byte> bytes) : bytes_(std::move(bytes)) {}

    [[nodiscard]] std::span<std::byte> bytes() { return bytes_; }
    [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
    [[nodiscard]] std::span<std::byte> packet() { return std::span(bytes_).subspan(before_packet); }
    [[nodiscard]] sp_header header() const
    {
        return link::read<sp_header>(std::span(bytes_).subspan(before_packet));
    }
    void come_from(std::uint32_t ipv4)
    {
        for (std::size_t i = 0; i < 4; ++i)
            bytes_[ip_source + i] = static_cast<std::byte>(ipv4 >> (8 * (3 - i)));
        bytes_[ip_checksum] = bytes_[ip_checksum + 1] = std::byte{};
        std::uint32_t sum = 0;
        for (std::size_t i = sizeof(sp_ethernet); i < before_packet; i += 2)
            sum += std::to_integer<std::uint32_t>(bytes_[i]) << 8 |
                   std::to_integer<std::uint32_t>(bytes_[i + 1]);
        while (sum >> 16)
            sum = (sum & 0xffff) + (sum >> 16);
        bytes_[ip_checksum] = static_cast<std::byte>(~sum >> 8);
        bytes_[ip_checksum + 1] = static_cast<std::byte>(~sum);
    }
    void seal() { link::finish(packet()); } // with a checksum that is right

    static constexpr std::size_t before_packet = sizeof(sp_ethernet) + sizeof(sp_ipv4);

private:
    static constexpr std::size_t ip_checksum = sizeof(sp_ethernet) + 10,
                                 ip_source = sizeof(sp_ethernet) + 12;

    std::vector<std::byte> bytes_;
};

class wire_tap {
public:
    wire_tap(const hosts &two, host which)
    {
        const auto inside = two.in(which);
        fd_ =
            transport::descriptor(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, SP_BE16(ETH_P_ALL)));
        sockaddr_ll name{};
        name.sll_family = AF_PACKET;
        name.sll_protocol = SP_BE16(ETH_P_ALL);
        name.sll_ifindex = static_cast<int>(two.ifindex(which));
        constexpr int buffer = 16 << 20;
        if (::bind(fd_.get(), reinterpret_cast<const sockaddr *>(&name), sizeof name) != 0 ||
            ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer) != 0)
            throw std::runtime_error("no packet socket");
    }

    // SP frames over IPv4 that have left this host since the last call, in order.
    std::vector<wire_frame> sent()
    {
        std::vector<wire_frame> all;
        each_sent([&](std::span<const std::byte> frame) {
            sp_parsed parsed;
            if (parse(frame, parsed))
                all.emplace_back(std::vector(frame.begin(), frame.end()));
        });
        return all;
    }

    // Every frame that has left this host since the last call, of whatever kind.
    template <class Use>
    void each_sent(Use &&use)
    {
        for (;;) {
            std::array<std::byte, 2048> room;
            sockaddr_ll from{};
            socklen_t length = sizeof from;
            const auto n = ::recvfrom(fd_.get(), room.data(), room.size(), MSG_DONTWAIT,
                                      reinterpret_cast<sockaddr *>(&from), &length);
            if (n < 0)
                return;
            if (from.sll_pkttype == PACKET_OUTGOING)
                use(std::span<const std::byte>(room).first(static_cast<std::size_t>(n)));
        }
    }

    void send(const wire_frame &frame)
    {
        while (::send(fd_.get(), frame.bytes().data(), frame.bytes().size(), 0) < 0)
            if (errno != ENOBUFS && errno != EAGAIN && errno != EINTR)
                throw std::runtime_error(std::string("cannot send a frame: ") +
                                         std::strerror(errno));
    }

private:
    static bool parse(std::span<const std::byte> frame, sp_parsed &parsed)
    {
        return sp_parse_frame(frame.data(), frame.data() + frame.size(), SP_IP_PROTOCOL, 0,
                              &parsed) == SP_SHAPE_SP &&
               parsed.family == 4;
    }

    transport::descriptor fd_;
};

} // namespace sp::test
