// SPDX-License-Identifier: BSD-2-Clause
//
// See outbox.hpp.
#include "userspace/transport/outbox.hpp"

#include <cerrno>
#include <utility>

namespace sp::transport {
namespace {

template <class Info>
std::size_t write_control(std::span<std::byte> space, int level, int type,
                          const Info &info) noexcept
{
    const cmsghdr header{CMSG_LEN(sizeof info), level, type};
    std::memcpy(space.data(), &header, sizeof header);
    std::memcpy(space.data() + CMSG_LEN(0), &info, sizeof info);
    return CMSG_SPACE(sizeof info);
}

// The socket's buffer is full for a moment.
bool for_a_moment(int why) noexcept
{
    return why == EAGAIN || why == EINTR;
}

// ENOBUFS is a full queue of the device, which passes, or a packet that the device will never take:
// a veth end whose peer has a smaller MTU. Such a packet must not stand in front of everybody
// else's for ever.
constexpr unsigned device_tries_max = 16;

} // namespace

envelope::envelope(const sp_address &peer, const sp_address &from) noexcept : to(name_of(peer))
{
    if (from.family != peer.family)
        return;
    if (from.family == SP_FAMILY_IPV4) {
        in_pktinfo info{};
        std::memcpy(&info.ipi_spec_dst, from.bytes, 4);
        control_length = write_control(control, SOL_IP, IP_PKTINFO, info);
    } else {
        in6_pktinfo info{};
        std::memcpy(&info.ipi6_addr, from.bytes, 16);
        info.ipi6_ifindex = from.scope;
        control_length = write_control(control, SOL_IPV6, IPV6_PKTINFO, info);
    }
}

msghdr envelope::header(iovec *piece) noexcept
{
    msghdr header{};
    header.msg_name = &to.bytes;
    header.msg_namelen = to.length;
    header.msg_iov = piece;
    header.msg_iovlen = 1;
    header.msg_control = control_length ? control.data() : nullptr;
    header.msg_controllen = control_length;
    return header;
}

outbox::outbox() : area_(std::make_unique_for_overwrite<std::byte[]>(area_bytes)) {}

std::span<std::byte> outbox::reserve(std::size_t n) noexcept
{
    if (tail_ == packets_max || n > area_bytes - area_used_)
        return {};
    return {area_.get() + area_used_, n};
}

void outbox::submit(const envelope &to, outlet by, std::uint32_t route, std::size_t n) noexcept
{
    envelopes_[tail_] = to;
    pieces_[tail_] = {area_.get() + area_used_, n};
    messages_[tail_] = {envelopes_[tail_].header(&pieces_[tail_]), 0};
    routes_[tail_] = route;
    outlets_[tail_] = by;
    area_used_ += n;
    ++tail_;
}

outbox::progress outbox::flush(const outlets &sockets) noexcept
{
    progress done;
    bool again = false;
    while (head_ != tail_) {
        std::size_t end = head_ + 1;
        while (end != tail_ && outlets_[end] == outlets_[head_])
            ++end;
        const int fd = sockets[std::to_underlying(outlets_[head_])];
        const int sent =
            ::sendmmsg(fd, &messages_[head_], static_cast<unsigned>(end - head_), MSG_DONTWAIT);
        if (sent > 0) {
            device_tries_ = 0;
            head_ += static_cast<std::size_t>(sent);
            done.sent += static_cast<std::size_t>(sent);
            again = false;
        } else if (for_a_moment(errno) ||
                   (errno == ENOBUFS && ++device_tries_ < device_tries_max)) {
            return done;
        } else if (!again && errno != ENOBUFS) {
            again = true; // an ICMP error of an earlier packet is reported once, in place of
                          // sending this one
        } else {
            done.refusals[done.refused++] = {routes_[head_], errno};
            ++head_;
            again = false;
        }
    }
    head_ = tail_ = area_used_ = 0;
    return done;
}

} // namespace sp::transport
