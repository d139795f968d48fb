// SPDX-License-Identifier: BSD-2-Clause
//
// See inbox.hpp.
#include "userspace/transport/inbox.hpp"

#include <algorithm>

namespace sp::transport {

// Uninitialised on purpose: 2 MiB of which a host with a small MTU never touches most pages.
inbox::inbox() : area_(std::make_unique_for_overwrite<std::byte[]>(packets_max * packet_bytes_max))
{
}

void inbox::prepare(std::size_t i) noexcept
{
    pieces_[i] = {area_.get() + i * packet_bytes_max, packet_bytes_max};
    messages_[i] = {};
    auto &header = messages_[i].msg_hdr;
    header.msg_name = &names_[i];
    header.msg_namelen = sizeof names_[i];
    header.msg_iov = &pieces_[i];
    header.msg_iovlen = 1;
    header.msg_control = controls_[i].bytes.data();
    header.msg_controllen = controls_[i].bytes.size();
}

std::size_t inbox::fill(int socket_fd, std::size_t n) noexcept
{
    for (std::size_t i = 0; i < used_; ++i)
        prepare(i);
    used_ = 0;
    const auto wanted = static_cast<unsigned>(std::min(n, packets_max));
    const int got = ::recvmmsg(socket_fd, messages_.data(), wanted, MSG_DONTWAIT, nullptr);
    if (got <= 0) // nothing there, or an error of an earlier packet, which the error queue explains
        return 0;
    used_ = static_cast<std::size_t>(got);
    return used_;
}

std::span<const std::byte> inbox::packet(std::size_t i) const noexcept
{
    return {area_.get() + i * packet_bytes_max, messages_[i].msg_len};
}

bool inbox::truncated(std::size_t i) const noexcept
{
    return messages_[i].msg_hdr.msg_flags & MSG_TRUNC;
}

sp_address inbox::from(std::size_t i) const noexcept
{
    return ipv6_address(&names_[i].sin6_addr, names_[i].sin6_scope_id);
}

sp_address inbox::to(std::size_t i) const noexcept
{
    auto header = messages_[i].msg_hdr; // CMSG_NXTHDR wants one that may be written to
    for (auto *c = CMSG_FIRSTHDR(&header); c; c = CMSG_NXTHDR(&header, c)) {
        if (c->cmsg_level != SOL_IPV6 || c->cmsg_type != IPV6_PKTINFO)
            continue;
        in6_pktinfo info;
        std::memcpy(&info, CMSG_DATA(c), sizeof info);
        return ipv6_address(&info.ipi6_addr, static_cast<std::uint32_t>(info.ipi6_ifindex));
    }
    return {};
}

} // namespace sp::transport
