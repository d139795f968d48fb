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
    std::uint16_t source_port =
        0; // the SP port that sent the packet; 0: the packet was not quoted so far
};

std::optional<report> read_report(int fd) noexcept
{
    report found;
    sp_header quoted{};
    sockaddr_storage name{};
    alignas(cmsghdr) std::array<std::byte, 512> control;
    iovec piece{&quoted, sizeof quoted};
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
    if (static_cast<std::size_t>(got) >= offsetof(sp_header, sport) + sizeof quoted.sport)
        found.source_port = SP_BE16(quoted.sport);
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

// What the path leaves to the SP packet.
std::size_t packet_bytes(std::uint32_t mtu, const sp_address &peer) noexcept
{
    const std::size_t header = peer.family == SP_FAMILY_IPV4 ? sizeof(sp_ipv4) : sizeof(sp_ipv6);
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

// ---- routes
// --------------------------------------------------------------------------------------------------

std::optional<route_id> rawip::open_route(const sp_address &peer) noexcept
{
    if (!is_unicast(peer) || (peer.family == SP_FAMILY_IPV6 && !ipv6_)) {
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
    hot_.ipv6 |= peer.family == SP_FAMILY_IPV6;
    if (free_routes_.empty()) {
        routes_.push_back(r);
        return route_id{static_cast<std::uint32_t>(routes_.size() - 1)};
    }
    const auto index = free_routes_.back();
    free_routes_.pop_back();
    routes_[index] = r;
    return route_id{index};
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
    }
    if (found.events)
        (void)nexthop_.read_events();
    refresh_routes();
}

void rawip::read_errors(int fd) noexcept
{
    for (int i = 0; i < errors_per_sweep; ++i) {
        const auto found = read_report(fd);
        if (!found)
            break;
        // A raw socket hears of everybody's packets of this protocol; the quoted port says whose it
        // was.
        if (found->source_port && !ports_.contains(found->source_port))
            continue;
        on_icmp(found->peer, found->error.ee_origin, found->error.ee_type, found->error.ee_code);
        if (found->error.ee_errno == EMSGSIZE)
            ask_again(found->peer);
    }
    int pending; // reading it clears it, or the descriptor would stay ready
    socklen_t length = sizeof pending;
    (void)::getsockopt(fd, SOL_SOCKET, SO_ERROR, &pending, &length);
}

// "Protocol unreachable" comes from the host itself: it is up, and no raw socket of our protocol is
// open there.
void rawip::on_icmp(const sp_address &peer, int origin, int type, int code) noexcept
{
    if (origin == SO_EE_ORIGIN_ICMP && type == ICMP_DEST_UNREACH && code != ICMP_FRAG_NEEDED)
        fail(peer, code == ICMP_PROT_UNREACH ? errc::connection_refused : errc::unreachable);
    if (origin == SO_EE_ORIGIN_ICMP6 && type == ICMP6_DST_UNREACH)
        fail(peer, errc::unreachable);
    if (origin == SO_EE_ORIGIN_ICMP6 && type == ICMP6_PARAM_PROB &&
        code == ICMP6_PARAMPROB_NEXTHEADER)
        fail(peer, errc::connection_refused);
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
