// SPDX-License-Identifier: BSD-2-Clause
//
// The routes of rawip, what the kernel says of them later, and its failure reports. See rawip.hpp.
#include "userspace/transport/rawip.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <linux/errqueue.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <sys/socket.h>

namespace sp::transport {
namespace {

constexpr int errors_per_sweep = 64;

// One entry of a socket's error queue.
struct report {
    sp_address peer{};
    sock_extended_err error{};
    std::size_t quoted = 0; // bytes of the packet behind its IP header
};

// The SP port that sent the packet, which begins at `begin` of what is quoted; 0: that was not
// quoted.
std::uint16_t source_port_in(std::span<const std::byte> quoted, std::size_t begin) noexcept
{
    __be16 port;
    if (quoted.size() < begin + offsetof(sp_header, sport) + sizeof port)
        return 0;
    std::memcpy(&port, quoted.data() + begin + offsetof(sp_header, sport), sizeof port);
    return SP_BE16(port);
}

// What is quoted of the packet goes to `quoted`; how much of it there is, to `report::quoted`.
std::optional<report> read_report(int fd, std::span<std::byte> quoted) noexcept
{
    report found;
    sockaddr_storage name{};
    alignas(cmsghdr) std::array<std::byte, 512> control;
    iovec piece{quoted.data(), quoted.size()};
    msghdr message{};
    message.msg_name = &name;
    message.msg_namelen = sizeof name;
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const auto got = ::recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT);
    if (got < 0)
        return std::nullopt;
    found.quoted = static_cast<std::size_t>(got);
    if (name.ss_family == AF_INET)
        found.peer = ipv4_address(&reinterpret_cast<const sockaddr_in &>(name).sin_addr);
    else if (name.ss_family == AF_INET6)
        found.peer = ipv6_address(&reinterpret_cast<const sockaddr_in6 &>(name).sin6_addr,
                                  reinterpret_cast<const sockaddr_in6 &>(name).sin6_scope_id);
    for (auto *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if ((c->cmsg_level == SOL_IP && c->cmsg_type == IP_RECVERR) ||
            (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_RECVERR))
            std::memcpy(&found.error, CMSG_DATA(c), sizeof found.error);
    }
    return found;
}

// Reading it clears it, or the descriptor would stay ready.
void clear_pending(int fd) noexcept
{
    int pending;
    socklen_t length = sizeof pending;
    (void)::getsockopt(fd, SOL_SOCKET, SO_ERROR, &pending, &length);
}

// What the path leaves to the SP packet.
std::size_t packet_bytes(std::uint32_t mtu, const sp_address &peer) noexcept
{
    const std::size_t header = (peer.family == SP_FAMILY_IPV4 ? sizeof(sp_ipv4) : sizeof(sp_ipv6)) +
                               (peer.port ? sizeof(sp_udp) : 0);
    return mtu > header ? std::min(mtu - header, rawip::packet_bytes_max) : 0;
}

} // namespace

rawip::route *rawip::find(route_id id) noexcept
{
    const auto index = std::to_underlying(id);
    return index < routes_.size() && routes_[index].open ? &routes_[index] : nullptr;
}

const rawip::route *rawip::find(route_id id) const noexcept
{
    return const_cast<rawip *>(this)->find(id);
}

// Tells the flows to one peer apart, for the receive queues there; SP's own place is in the packet.
std::uint16_t rawip::source_port(const sp_address &peer, std::uint32_t flow) noexcept
{
    const auto spread = (hash(peer) ^ flow) * 0x9e3779b97f4a7c15u;
    return static_cast<std::uint16_t>(SP_UDP_SOURCE | spread >> 50);
}

// ---- routes
// --------------------------------------------------------------------------------------------------

std::optional<route_id> rawip::open_route(const sp_address &peer) noexcept
{
    if (!has_outlet(peer)) {
        failure_ =
            error::numbered(2025, "cannot send to this address", "it names no single IP host");
        return std::nullopt;
    }
    if (free_routes_.empty() && routes_.size() == routes_max) {
        failure_ = error::numbered(2031, "no more than 4096 peers on one transport");
        return std::nullopt;
    }
    const auto local = heard_at(peer);
    const auto hop = nexthop_.resolve(peer, local);
    if (!hop) {
        failure_ = error::numbered(1023, {}, std::make_error_code(hop.error()).message());
        return std::nullopt;
    }
    route r;
    r.peer = peer;
    r.local = local;
    r.to = envelope(peer, local);
    r.open = true;
    r.generation = nexthop_.generation();
    r.hop = *hop;
    r.version = ++hops_version_;
    r.packet_max = packet_bytes(hop->mtu, peer);
    if (peer.family == SP_FAMILY_IPV6)
        (peer.port ? hot_.udp_ipv6 : hot_.ipv6) = true;
    else
        hot_.udp_ipv4 |= peer.port != 0;
    if (free_routes_.empty()) {
        free_routes_.push_back(static_cast<std::uint32_t>(routes_.size()));
        routes_.emplace_back();
    }
    const auto index = free_routes_.back();
    free_routes_.pop_back();
    if (peer.port)
        r.udp_source = source_port(peer, index);
    routes_[index] = r;
    return route_id{index};
}

std::string_view rawip::name(route_id id) const noexcept
{
    const auto *r = find(id);
    return r && r->udp_source ? "ip/kernel+udp" : "ip/kernel";
}

std::optional<udp_ports> rawip::outer_ports(route_id id) const noexcept
{
    const auto *r = find(id);
    return r && r->udp_source ? std::optional(udp_ports{r->udp_source, udp_port_}) : std::nullopt;
}

void rawip::close_route(route_id id) noexcept
{
    if (auto *r = find(id)) {
        r->open = false;
        free_routes_.push_back(std::to_underlying(id));
    }
}

std::size_t rawip::packet_max(route_id id) const noexcept
{
    const auto *r = find(id);
    return r ? r->packet_max : 0;
}

sp_address rawip::peer(route_id id) const noexcept
{
    const auto *r = find(id);
    return r ? r->peer : sp_address{};
}

const std::optional<next_hop> &rawip::hop(route_id id) const noexcept
{
    static constexpr std::optional<next_hop> none;
    const auto *r = find(id);
    return r ? r->hop : none;
}

std::uint64_t rawip::hop_version(route_id id) const noexcept
{
    const auto *r = find(id);
    return r ? r->version : 0;
}

void rawip::refresh(route &r) noexcept
{
    r.generation = nexthop_.generation();
    r.version = ++hops_version_;
    const auto hop = nexthop_.resolve(r.peer, r.local);
    r.hop.reset();
    if (!hop)
        return; // sending goes on through the kernel, which will say why it cannot
    r.hop = *hop;
    r.packet_max = packet_bytes(hop->mtu, r.peer);
}

// A few routes per sweep: a change of the whole table must not stop the packets of thousands of
// peers.
void rawip::refresh_routes() noexcept
{
    const auto now = nexthop_.generation();
    if (seen_generation_ != now) {
        seen_generation_ = now;
        refresh_left_ = routes_.size();
    }
    for (std::size_t asked = 0; refresh_left_ && asked < refreshed_per_sweep; --refresh_left_) {
        refresh_next_ = refresh_next_ + 1 < routes_.size() ? refresh_next_ + 1 : 0;
        auto &r = routes_[refresh_next_];
        if (!r.open || r.generation == now)
            continue;
        refresh(r);
        ++asked;
    }
}

void rawip::ask_again(const sp_address &peer) noexcept
{
    for (auto &r : routes_) {
        if (r.open && same(r.peer, peer))
            r.generation = 0;
    }
    refresh_left_ = routes_.size();
}

// ---- where peers reach us
// ------------------------------------------------------------------------------------

void rawip::heard(const sp_address &peer, const sp_address &at) noexcept
{
    heard_[hash(peer) >> 56] = {peer, at};
}

sp_address rawip::heard_at(const sp_address &peer) const noexcept
{
    static_assert(heard_max == 256, "indexed by the top byte of the hash");
    const auto &last = heard_[hash(peer) >> 56];
    return same(last.peer, peer) ? last.at : sp_address{};
}

// ---- failures
// ------------------------------------------------------------------------------------------------

void rawip::after_full_sweep(ready found) noexcept
{
    if (found.errors) {
        read_errors(ipv4_.get());
        if (ipv6_)
            read_errors(ipv6_.get());
        for (const auto *udp : {&udp_ipv4_, &udp_ipv6_})
            if (*udp)
                read_udp_errors((*udp)->socket.get());
    }
    if (found.events)
        (void)nexthop_.read_events();
    refresh_routes();
}

// A raw socket hears of everybody's packets of its protocol; the quoted port says whose one was.
void rawip::read_errors(int fd) noexcept
{
    std::array<std::byte, sizeof(sp_header)> space;
    for (int i = 0; i < errors_per_sweep; ++i) {
        const auto found = read_report(fd, space);
        if (!found)
            break;
        const auto port = source_port_in(std::span(space).first(found->quoted), 0);
        if (!port || ports_.contains(port))
            on_report(found->peer, found->error);
    }
    clear_pending(fd);
}

void rawip::read_udp_errors(int fd) noexcept
{
    std::array<std::byte, sizeof(sp_udp) + sizeof(sp_header)> space;
    for (int i = 0; i < errors_per_sweep; ++i) {
        auto found = read_report(fd, space);
        if (!found)
            break;
        sp_udp udp{};
        std::memcpy(&udp, space.data(), std::min(sizeof udp, found->quoted));
        const auto port = source_port_in(std::span(space).first(found->quoted), sizeof udp);
        found->peer.port = SP_BE16(udp_port_);
        if (udp.destination == found->peer.port && (!port || ports_.contains(port)))
            on_report(found->peer, found->error);
    }
    clear_pending(fd);
}

// "Protocol unreachable" and "port unreachable" come from the host itself: it is up, and nobody
// there takes packets of our protocol, or encapsulated ones.
void rawip::on_report(const sp_address &peer, const sock_extended_err &error) noexcept
{
    const int type = error.ee_type, code = error.ee_code;
    if (error.ee_origin == SO_EE_ORIGIN_ICMP && type == ICMP_DEST_UNREACH &&
        code != ICMP_FRAG_NEEDED)
        fail(peer, code == (peer.port ? ICMP_PORT_UNREACH : ICMP_PROT_UNREACH)
                       ? errc::connection_refused
                       : errc::unreachable);
    if (error.ee_origin == SO_EE_ORIGIN_ICMP6 && type == ICMP6_DST_UNREACH)
        fail(peer, peer.port && code == ICMP6_DST_UNREACH_NOPORT ? errc::connection_refused
                                                                 : errc::unreachable);
    if (error.ee_origin == SO_EE_ORIGIN_ICMP6 && type == ICMP6_PARAM_PROB &&
        code == ICMP6_PARAMPROB_NEXTHEADER)
        fail(peer, errc::connection_refused);
    if (error.ee_errno == EMSGSIZE)
        ask_again(peer);
}

// Failures are hints: when nobody fetches them the oldest is overwritten.
void rawip::fail(const sp_address &peer, errc why) noexcept
{
    failures_[(failures_head_ + failures_count_) % failures_max] = {peer, why};
    if (failures_count_ < failures_max)
        ++failures_count_;
    else
        failures_head_ = (failures_head_ + 1) % failures_max;
}

std::optional<std::pair<sp_address, errc>> rawip::next_failure() noexcept
{
    if (!failures_count_)
        return std::nullopt;
    const auto found = failures_[failures_head_];
    failures_head_ = (failures_head_ + 1) % failures_max;
    --failures_count_;
    return found;
}

} // namespace sp::transport
