// SPDX-License-Identifier: BSD-2-Clause
//
// See rawip.hpp. Here: opening, ports, and the way of a packet in both directions; routes and the
// kernel's failure reports are in rawip_routes.cpp.
#include "userspace/transport/rawip.hpp"

#include "userspace/transport/netns.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <linux/filter.h>
#include <linux/icmpv6.h>
#include <netinet/ip.h>
#include <string>
#include <sys/epoll.h>
#include <sys/socket.h>

namespace sp::transport {
namespace {

// A burst of every peer's first window, without asking the operator to raise net.core.rmem_max.
constexpr int socket_buffer_bytes = 4 << 20;
constexpr int stale_packets_max = 4096; // what may have queued before the first filter stood

enum class wake : std::uint32_t { ipv4, ipv6, udp_ipv4, udp_ipv6, netlink };

error cannot_open(int why)
{
    if (why == EPERM || why == EACCES)
        return error::numbered(1001);
    if (why == EMFILE || why == ENFILE)
        return error::numbered(2009, "cannot open a raw socket", std::strerror(why));
    return error::numbered(2037, "cannot open a raw socket", std::strerror(why));
}

bool set(int fd, int level, int name, int value) noexcept
{
    return ::setsockopt(fd, level, name, &value, sizeof value) == 0;
}

// Options that only make things faster may fail without a word.
void enlarge_buffers(int fd) noexcept
{
    if (!set(fd, SOL_SOCKET, SO_RCVBUFFORCE, socket_buffer_bytes))
        (void)set(fd, SOL_SOCKET, SO_RCVBUF, socket_buffer_bytes);
    if (!set(fd, SOL_SOCKET, SO_SNDBUFFORCE, socket_buffer_bytes))
        (void)set(fd, SOL_SOCKET, SO_SNDBUF, socket_buffer_bytes);
}

// A raw socket receives from the moment it exists; throw away what came before the filter.
void discard_queued(int fd) noexcept
{
    std::byte byte;
    for (int i = 0; i < stale_packets_max; ++i) {
        if (::recv(fd, &byte, 1, MSG_DONTWAIT | MSG_TRUNC) < 0)
            return;
    }
}

outlet outlet_of(const sp_address &peer) noexcept
{
    if (peer.family == SP_FAMILY_IPV6)
        return peer.port ? outlet::udp_ipv6 : outlet::ipv6;
    return peer.port ? outlet::udp_ipv4 : outlet::ipv4;
}

// The kernel sums it where that is compulsory.
sp_udp udp_header(std::uint16_t from, std::uint16_t to, std::size_t packet) noexcept
{
    return {SP_BE16(from), SP_BE16(to),
            SP_BE16(static_cast<std::uint16_t>(sizeof(sp_udp) + packet)), 0};
}

bool watch(int epoll_fd, int fd, wake what) noexcept
{
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u32 = static_cast<std::uint32_t>(what);
    return ::epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

} // namespace

rawip::rawip(const rawip_options &options, counters &stats, nexthop routes, service_ports ports)
    : stats_(&stats), protocol_(options.protocol), udp_port_(options.udp_port),
      nexthop_(std::move(routes)), ports_(std::move(ports)), inbox_(std::make_unique<inbox>()),
      outbox_(std::make_unique<outbox>()), heard_(heard_max),
      failures_(failures_max, failed_peer{sp_address{}, errc::unreachable})
{
    routes_.reserve(routes_max);
    free_routes_.reserve(routes_max);
}

result<rawip> rawip::open(const rawip_options &options, counters &stats)
{
    auto ports = service_ports::open(options.netns_fd);
    if (!ports)
        return std::unexpected(ports.error());
    const auto visit = netns_visit::enter(options.netns_fd);
    if (!visit)
        return std::unexpected(visit.error());
    auto routes = nexthop::open();
    if (!routes)
        return std::unexpected(routes.error());
    rawip opened(options, stats, std::move(*routes), std::move(*ports));
    if (auto sockets = opened.open_sockets(); !sockets)
        return std::unexpected(sockets.error());
    return opened;
}

result<void> rawip::open_sockets()
{
    wake_ = descriptor(::epoll_create1(EPOLL_CLOEXEC));
    if (!wake_)
        return std::unexpected(cannot_open(errno));
    if (auto v4 = open_ipv4(); !v4)
        return v4;
    if (auto v6 = open_ipv6(); !v6)
        return v6;
    if (!watch(wake_.get(), nexthop_.events_fd(), wake::netlink))
        return std::unexpected(cannot_open(errno));
    return {};
}

result<void> rawip::open_ipv4()
{
    ipv4_ = descriptor(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, protocol_));
    if (!ipv4_)
        return std::unexpected(cannot_open(errno));
    const int fd = ipv4_.get();
    if (auto filtered = ports_.filter(fd, service_ports::begins_with::ipv4_header); !filtered)
        return filtered;
    discard_queued(fd);
    enlarge_buffers(fd);
    if (!set(fd, SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO) || !set(fd, SOL_IP, IP_RECVERR, 1) ||
        !watch(wake_.get(), fd, wake::ipv4))
        return std::unexpected(cannot_open(errno));
    return {};
}

// A host without IPv6 is served with IPv4 alone.
result<void> rawip::open_ipv6()
{
    ipv6_ = descriptor(::socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, protocol_));
    if (!ipv6_ && errno == EAFNOSUPPORT)
        return {};
    if (!ipv6_)
        return std::unexpected(cannot_open(errno));
    const int fd = ipv6_.get();
    if (auto filtered = ports_.filter(fd, service_ports::begins_with::payload); !filtered)
        return filtered;
    discard_queued(fd);
    enlarge_buffers(fd);
    if (!set(fd, SOL_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO) ||
        !set(fd, SOL_IPV6, IPV6_DONTFRAG, 1) || !set(fd, SOL_IPV6, IPV6_RECVERR, 1) ||
        !set(fd, SOL_IPV6, IPV6_RECVPKTINFO, 1) || !watch(wake_.get(), fd, wake::ipv6))
        return std::unexpected(cannot_open(errno));
    return {};
}

// ---- encapsulation
// ---------------------------------------------------------------------------------------------

result<rawip::udp_pair> rawip::open_udp(int family)
{
    const bool v6 = family == AF_INET6;
    udp_pair pair{descriptor(::socket(family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_UDP)),
                  descriptor(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0))};
    if (!pair.socket || !pair.holder)
        return std::unexpected(cannot_open(errno));
    const int fd = pair.socket.get(), holder = pair.holder.get();
    const auto layout =
        v6 ? service_ports::begins_with::payload : service_ports::begins_with::ipv4_header;
    if (auto filtered = ports_.filter(fd, layout, udp_port_); !filtered)
        return std::unexpected(filtered.error());
    discard_queued(fd);
    enlarge_buffers(fd);
    // The kernel sums what leaves over IPv6, and drops what comes with a wrong sum.
    constexpr int checksum_at = offsetof(sp_udp, checksum);
    const bool done =
        v6 ? set(fd, SOL_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO) &&
                 set(fd, SOL_IPV6, IPV6_DONTFRAG, 1) && set(fd, SOL_IPV6, IPV6_RECVERR, 1) &&
                 set(fd, SOL_IPV6, IPV6_RECVPKTINFO, 1) &&
                 set(fd, SOL_IPV6, IPV6_CHECKSUM, checksum_at) &&
                 set(holder, SOL_IPV6, IPV6_V6ONLY, 1)
           : set(fd, SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO) && set(fd, SOL_IP, IP_RECVERR, 1);
    if (!done)
        return std::unexpected(cannot_open(errno));
    // Other programs of sp share the port; somebody else's socket there is told as what it is.
    const sock_filter nothing{BPF_RET | BPF_K, 0, 0, 0};
    const sock_fprog refuse_all{1, const_cast<sock_filter *>(&nothing)};
    socket_name name;
    name.bytes.sin6_family = static_cast<sa_family_t>(family);
    name.bytes.sin6_port = SP_BE16(udp_port_); // where sockaddr_in has it too
    static_assert(offsetof(sockaddr_in6, sin6_port) == offsetof(sockaddr_in, sin_port));
    name.length = v6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
    if (::setsockopt(holder, SOL_SOCKET, SO_ATTACH_FILTER, &refuse_all, sizeof refuse_all) != 0 ||
        !set(holder, SOL_SOCKET, SO_REUSEADDR, 1) ||
        ::bind(holder, reinterpret_cast<const sockaddr *>(&name.bytes), name.length) != 0) {
        if (errno == EADDRINUSE)
            return std::unexpected(error::numbered(
                2002, "UDP port " + std::to_string(udp_port_) + " is another program's", {},
                "end it, or give sp another udp_port on every host"));
        return std::unexpected(cannot_open(errno));
    }
    if (!watch(wake_.get(), fd, v6 ? wake::udp_ipv6 : wake::udp_ipv4))
        return std::unexpected(cannot_open(errno));
    return pair;
}

result<void> rawip::encapsulate()
{
    if (encapsulates())
        return {};
    if (!udp_port_)
        return std::unexpected(error::numbered(2025, "encap=udp has no port",
                                               "udp_port of the engine is 0",
                                               "give it the port that the other hosts use"));
    const auto visit = netns_visit::enter(ports_.netns_fd());
    if (!visit)
        return std::unexpected(visit.error());
    auto v4 = open_udp(AF_INET);
    if (!v4)
        return std::unexpected(v4.error());
    if (ipv6_) {
        auto v6 = open_udp(AF_INET6);
        if (!v6)
            return std::unexpected(v6.error());
        udp_ipv6_ = std::move(*v6);
    }
    udp_ipv4_ = std::move(*v4);
    return {};
}

bool rawip::has_outlet(const sp_address &peer) const noexcept
{
    if (!is_unicast(peer) || (peer.family == SP_FAMILY_IPV6 && !ipv6_))
        return false;
    return peer.port == 0 || (encapsulates() && SP_BE16(peer.port) == udp_port_);
}

outlets rawip::sockets() const noexcept
{
    return {ipv4_.get(), ipv6_.get(), udp_ipv4_ ? udp_ipv4_->socket.get() : -1,
            udp_ipv6_ ? udp_ipv6_->socket.get() : -1};
}

// ---- ports
// ---------------------------------------------------------------------------------------------------

result<void> rawip::update_filters()
{
    using enum service_ports::begins_with;
    hot_.ipv4 = !ports_.empty();
    if (auto done = ports_.filter(ipv4_.get(), ipv4_header); !done)
        return done;
    if (ipv6_)
        if (auto done = ports_.filter(ipv6_.get(), payload); !done)
            return done;
    if (udp_ipv4_)
        if (auto done = ports_.filter(udp_ipv4_->socket.get(), ipv4_header, udp_port_); !done)
            return done;
    return udp_ipv6_ ? ports_.filter(udp_ipv6_->socket.get(), payload, udp_port_) : result<void>();
}

result<void> rawip::add_port(std::uint16_t port)
{
    if (auto added = ports_.add(port); !added)
        return added;
    auto done = update_filters();
    if (!done)
        ports_.remove(port);
    return done;
}

result<std::uint16_t> rawip::add_ephemeral_port()
{
    auto port = ports_.add_ephemeral();
    if (!port)
        return port;
    if (auto done = update_filters(); !done) {
        ports_.remove(*port);
        return std::unexpected(done.error());
    }
    return port;
}

void rawip::remove_port(std::uint16_t port) noexcept
{
    ports_.remove(port);
    (void)update_filters(); // if it fails the old filter stands, and the engine drops what nobody
                            // serves
}

// ---- receiving
// -----------------------------------------------------------------------------------------------

rawip::ready rawip::look() noexcept
{
    std::array<epoll_event, 5> events;
    ready found;
    const int n = ::epoll_wait(wake_.get(), events.data(), static_cast<int>(events.size()), 0);
    for (int i = 0; i < n; ++i) {
        const auto &event = events[static_cast<std::size_t>(i)];
        const bool readable = event.events & EPOLLIN;
        found.errors |= (event.events & EPOLLERR) != 0;
        switch (static_cast<wake>(event.data.u32)) {
        case wake::ipv4:
            found.ipv4 = readable;
            break;
        case wake::ipv6:
            found.ipv6 = readable;
            break;
        case wake::udp_ipv4:
            found.udp_ipv4 = readable;
            break;
        case wake::udp_ipv6:
            found.udp_ipv6 = readable;
            break;
        case wake::netlink: // its EPOLLERR is a lost event, which reading reports
            found.events = true;
            break;
        }
    }
    hot_.ipv6 |= found.ipv6;
    hot_.udp_ipv4 |= found.udp_ipv4;
    hot_.udp_ipv6 |= found.udp_ipv6;
    return found;
}

void rawip::count(sp_shape shape) noexcept
{
    switch (shape) {
    case SP_SHAPE_IP_OPTIONS:
        return stats_->add(stat::rawip_ip_options);
    case SP_SHAPE_OTHER_VERSION:
        return stats_->add(stat::rawip_other_version);
    case SP_SHAPE_BAD_TYPE:
        return stats_->add(stat::rawip_bad_type);
    case SP_SHAPE_BAD_FLAGS:
        return stats_->add(stat::rawip_bad_flags);
    default: // the kernel reassembles fragments and passes no other protocol: length is all that is
             // left
        return stats_->add(stat::rawip_bad_length);
    }
}

std::optional<rawip::arrival> rawip::ipv4_packet(std::size_t i) noexcept
{
    const auto bytes = inbox_->packet(i);
    sp_parsed parsed;
    const auto shape = sp_parse_ipv4(bytes.data(), bytes.data() + bytes.size(), protocol_,
                                     SP_BE16(udp_port()), &parsed);
    if (shape != SP_SHAPE_SP || inbox_->truncated(i)) {
        count(shape);
        return std::nullopt;
    }
    auto from = ipv4_address(parsed.source);
    if (parsed.udp)
        from.port = SP_BE16(udp_port_);
    heard(from, ipv4_address(parsed.destination));
    return arrival{from, {reinterpret_cast<const std::byte *>(parsed.header), parsed.length}};
}

std::optional<rawip::arrival> rawip::ipv6_packet(std::size_t i) noexcept
{
    const auto bytes = inbox_->packet(i);
    const auto shape = sp_check_packet(bytes.data(), bytes.data() + bytes.size(),
                                       static_cast<std::uint32_t>(bytes.size()));
    if (shape != SP_SHAPE_SP || inbox_->truncated(i)) {
        count(shape);
        return std::nullopt;
    }
    const auto from = inbox_->from(i);
    heard(from, inbox_->to(i));
    return arrival{from, bytes};
}

std::optional<rawip::arrival> rawip::udp_ipv6_packet(std::size_t i) noexcept
{
    const auto bytes = inbox_->packet(i);
    sp_parsed parsed;
    const auto shape = sp_parse_payload(bytes.data(), bytes.data() + bytes.size(), SP_PROTOCOL_UDP,
                                        static_cast<std::uint32_t>(bytes.size()), protocol_,
                                        SP_BE16(udp_port_), &parsed);
    if (shape != SP_SHAPE_SP || inbox_->truncated(i)) {
        count(shape);
        return std::nullopt;
    }
    auto from = inbox_->from(i);
    from.port = SP_BE16(udp_port_);
    heard(from, inbox_->to(i));
    return arrival{from, {reinterpret_cast<const std::byte *>(parsed.header), parsed.length}};
}

// ---- sending
// -------------------------------------------------------------------------------------------------

std::span<std::byte> rawip::reserve(route_id id, std::size_t n) noexcept
{
    const auto *r = find(id);
    if (!r || n > packet_bytes_max)
        return {};
    const std::size_t before = r->udp_source ? sizeof(sp_udp) : 0;
    auto room = outbox_->reserve(before + n);
    if (room.empty()) {
        flush();
        room = outbox_->reserve(before + n);
    }
    return room.empty() ? room : room.subspan(before);
}

void rawip::submit(route_id id, std::size_t n) noexcept
{
    const auto *r = find(id);
    if (!r)
        return;
    if (r->udp_source) {
        const auto udp = udp_header(r->udp_source, udp_port_, n);
        std::memcpy(outbox_->packet(), &udp, sizeof udp);
        n += sizeof udp;
    }
    outbox_->submit(r->to, outlet_of(r->peer), std::to_underlying(id), n);
}

void rawip::flush() noexcept
{
    if (outbox_->empty())
        return;
    const auto done = outbox_->flush(sockets());
    stats_->add(stat::rawip_sent, done.sent);
    stats_->add(stat::rawip_send_failed, done.refused);
    for (std::size_t i = 0; i < done.refused; ++i) {
        auto *r = find(route_id{done.refusals[i].route});
        if (!r)
            continue;
        r->generation = 0;
        refresh_left_ = routes_.size();
        if (done.refusals[i].why != EMSGSIZE &&
            done.refusals[i].why != ENOBUFS) // those are about the packet
            fail(r->peer, errc::unreachable);
    }
}

void rawip::send_to(const sp_address &peer, std::span<const std::byte> packet) noexcept
{
    if (!has_outlet(peer))
        return stats_->add(stat::rawip_send_failed);
    auto local = heard_at(peer);
    envelope to(peer, local);
    auto udp = udp_header(source_port(peer, 0), udp_port_, packet.size());
    std::array<iovec, 2> pieces{
        {{&udp, sizeof udp}, {const_cast<std::byte *>(packet.data()), packet.size()}}};
    auto header = to.header(pieces.data());
    header.msg_iovlen = pieces.size();
    if (!peer.port) {
        header.msg_iov = &pieces[1];
        header.msg_iovlen = 1;
    }
    const int fd = sockets()[std::to_underlying(outlet_of(peer))];
    for (int attempt = 0; attempt < 2;
         ++attempt) { // the first may only report an older packet's ICMP error
        if (::sendmsg(fd, &header, MSG_DONTWAIT) >= 0)
            return stats_->add(stat::rawip_sent);
    }
    stats_->add(stat::rawip_send_failed);
}

} // namespace sp::transport
