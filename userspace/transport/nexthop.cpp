// SPDX-License-Identifier: BSD-2-Clause
//
// See nexthop.hpp. The kernel answers a netlink question inside the call that asks it, so a
// non-blocking read right afterwards finds the answer or there is none.
#include "userspace/transport/nexthop.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <libmnl/libmnl.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

namespace sp::transport {
namespace {

constexpr std::size_t request_bytes = 512;
constexpr std::size_t answer_bytes = 32768; // the kernel never puts more into one read of a dump
constexpr int events_per_call = 64;         // reads, not messages

constexpr std::uint16_t neighbour_usable =
    NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP;

std::errc last_error() noexcept
{
    return static_cast<std::errc>(errno);
}

// libmnl's own loops are macros that convert in ways C++ refuses.
template <class Use>
void each_attribute(const void *first, const void *end, Use &&use) noexcept
{
    const auto *attribute = static_cast<const nlattr *>(first);
    const auto left = [&] {
        return static_cast<int>(static_cast<const char *>(end) -
                                reinterpret_cast<const char *>(attribute));
    };
    for (; mnl_attr_ok(attribute, left()); attribute = mnl_attr_next(attribute))
        use(mnl_attr_get_type(attribute), attribute);
}

template <class Use>
void each_attribute(const nlmsghdr *message, std::size_t body, Use &&use) noexcept
{
    each_attribute(mnl_nlmsg_get_payload_offset(message, body), mnl_nlmsg_get_payload_tail(message),
                   use);
}

void put_address(nlmsghdr *request, std::uint16_t attribute, const sp_address &address) noexcept
{
    mnl_attr_put(request, attribute, address.length, address.bytes);
}

std::uint8_t kernel_family(const sp_address &address) noexcept
{
    return address.family == SP_FAMILY_IPV4 ? AF_INET : AF_INET6;
}

// An address attribute of the length its family has, else an empty address.
sp_address address_in(const nlattr *attribute, int family, std::uint32_t scope) noexcept
{
    const auto length = mnl_attr_get_payload_len(attribute);
    if (family == AF_INET && length == 4)
        return ipv4_address(mnl_attr_get_payload(attribute));
    if (family == AF_INET6 && length == 16)
        return ipv6_address(mnl_attr_get_payload(attribute), scope);
    return {};
}

// A gateway of the other family, as "via inet6" gives it to an IPv4 route.
sp_address via_in(const nlattr *attribute, std::uint32_t scope) noexcept
{
    const auto *via = static_cast<const rtvia *>(mnl_attr_get_payload(attribute));
    const std::size_t length = mnl_attr_get_payload_len(attribute);
    if (length == sizeof(rtvia) + 16 && via->rtvia_family == AF_INET6)
        return ipv6_address(via->rtvia_addr, scope);
    if (length == sizeof(rtvia) + 4 && via->rtvia_family == AF_INET)
        return ipv4_address(via->rtvia_addr);
    return {};
}

std::uint32_t mtu_in(const nlattr *metrics) noexcept
{
    const auto *first = static_cast<const char *>(mnl_attr_get_payload(metrics));
    std::uint32_t mtu = 0;
    each_attribute(first, first + mnl_attr_get_payload_len(metrics),
                   [&](auto type, const nlattr *attribute) {
                       if (type == RTAX_MTU && mnl_attr_get_payload_len(attribute) == sizeof mtu)
                           mtu = mnl_attr_get_u32(attribute);
                   });
    return mtu;
}

struct route_answer {
    next_hop hop;
    std::uint8_t type = RTN_UNSPEC;
};

route_answer read_route(const nlmsghdr *message, const sp_address &destination) noexcept
{
    route_answer answer;
    auto &hop = answer.hop;
    const auto *route = static_cast<const rtmsg *>(mnl_nlmsg_get_payload(message));

    answer.type = route->rtm_type;
    each_attribute(message, sizeof *route, [&](auto type, const nlattr *attribute) {
        if (type == RTA_OIF)
            hop.oif = mnl_attr_get_u32(attribute);
        else if (type == RTA_METRICS)
            hop.mtu = mtu_in(attribute);
    });
    hop.via = destination;
    each_attribute(message, sizeof *route, [&](auto type, const nlattr *attribute) {
        if (type == RTA_PREFSRC)
            hop.source = address_in(attribute, route->rtm_family, hop.oif);
        else if (type == RTA_GATEWAY)
            hop.via = address_in(attribute, route->rtm_family, hop.oif);
        else if (type == RTA_VIA)
            hop.via = via_in(attribute, hop.oif);
    });
    hop.local = answer.type == RTN_LOCAL;
    return answer;
}

link_state read_link(const nlmsghdr *message) noexcept
{
    link_state link;
    const auto *info = static_cast<const ifinfomsg *>(mnl_nlmsg_get_payload(message));

    constexpr unsigned running = IFF_UP | IFF_RUNNING;
    link.up = (info->ifi_flags & running) == running;
    each_attribute(message, sizeof *info, [&](auto type, const nlattr *attribute) {
        if (type == IFLA_MTU)
            link.mtu = mnl_attr_get_u32(attribute);
        if (type == IFLA_ADDRESS && info->ifi_type == ARPHRD_ETHER &&
            mnl_attr_get_payload_len(attribute) == link.mac.size()) {
            std::memcpy(link.mac.data(), mnl_attr_get_payload(attribute), link.mac.size());
            link.ethernet = true;
        }
    });
    return link;
}

// Empty for a neighbour that the kernel has not resolved, and for a MAC that means more than one
// station.
std::optional<neighbour> read_neighbour(const nlmsghdr *message) noexcept
{
    const auto *entry = static_cast<const ndmsg *>(mnl_nlmsg_get_payload(message));
    neighbour found;

    if (!(entry->ndm_state & neighbour_usable))
        return std::nullopt;
    each_attribute(message, sizeof *entry, [&](auto type, const nlattr *attribute) {
        if (type == NDA_LLADDR && mnl_attr_get_payload_len(attribute) == found.mac.size())
            std::memcpy(found.mac.data(), mnl_attr_get_payload(attribute), found.mac.size());
    });
    if ((found.mac[0] & 1) || found.mac == mac_address{})
        return std::nullopt;
    found.fresh = entry->ndm_state & (NUD_REACHABLE | NUD_PERMANENT | NUD_NOARP);
    return found;
}

result<mnl_socket *> open_socket()
{
    auto *socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (socket && mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) == 0)
        return socket;
    const int why = errno;
    if (socket)
        mnl_socket_close(socket);
    return std::unexpected(error::numbered(why == EMFILE || why == ENFILE ? 2009 : 2037,
                                           "cannot ask the kernel for routes", std::strerror(why)));
}

} // namespace

void nexthop::closer::operator()(mnl_socket *socket) const noexcept
{
    mnl_socket_close(socket);
}

nexthop::nexthop(socket_ptr questions, socket_ptr events)
    : questions_(std::move(questions)), events_(std::move(events)),
      out_(std::make_unique<std::byte[]>(request_bytes)),
      in_(std::make_unique<std::byte[]>(answer_bytes))
{
}

result<nexthop> nexthop::open()
{
    auto questions = open_socket();
    if (!questions)
        return std::unexpected(questions.error());
    socket_ptr asking(*questions);
    auto events = open_socket();
    if (!events)
        return std::unexpected(events.error());
    socket_ptr listening(*events);
    for (int group : {RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE,
                      RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR}) {
        if (mnl_socket_setsockopt(listening.get(), NETLINK_ADD_MEMBERSHIP, &group, sizeof group) !=
            0)
            return std::unexpected(
                error::numbered(2037, "cannot listen to changes of routes", std::strerror(errno)));
    }
    return nexthop(std::move(asking), std::move(listening));
}

nlmsghdr *nexthop::request(std::uint16_t type, std::uint16_t flags) noexcept
{
    auto *message = mnl_nlmsg_put_header(out_.get());
    message->nlmsg_type = type;
    message->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
    message->nlmsg_seq = ++sequence_;
    return message;
}

// Hands each message of the answer to `use`; returns the kernel's error, if it gave one.
template <class Use>
std::optional<std::errc> nexthop::ask(nlmsghdr *request, Use &&use) noexcept
{
    const bool many = request->nlmsg_flags & (NLM_F_DUMP | NLM_F_ACK);
    if (mnl_socket_sendto(questions_.get(), request, request->nlmsg_len) < 0)
        return last_error();
    for (;;) {
        const auto got = mnl_socket_recvfrom(questions_.get(), in_.get(), answer_bytes);
        if (got < 0)
            return last_error();
        int left = static_cast<int>(got);
        const auto *message = reinterpret_cast<const nlmsghdr *>(in_.get());
        for (; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) {
            if (message->nlmsg_seq != sequence_)
                continue;
            if (message->nlmsg_type == NLMSG_ERROR) {
                const auto *verdict = static_cast<const nlmsgerr *>(mnl_nlmsg_get_payload(message));
                return verdict->error ? std::optional(static_cast<std::errc>(-verdict->error))
                                      : std::nullopt;
            }
            if (message->nlmsg_type == NLMSG_DONE)
                return std::nullopt;
            use(message);
            if (!many)
                return std::nullopt;
        }
    }
}

std::expected<next_hop, std::errc> nexthop::resolve(const sp_address &destination,
                                                    const sp_address &from) noexcept
{
    auto *message = request(RTM_GETROUTE, 0);
    auto *route = static_cast<rtmsg *>(mnl_nlmsg_put_extra_header(message, sizeof(rtmsg)));
    route->rtm_family = kernel_family(destination);
    route->rtm_dst_len = static_cast<std::uint8_t>(destination.length * 8);
    put_address(message, RTA_DST, destination);
    if (from.family == destination.family) {
        route->rtm_src_len = static_cast<std::uint8_t>(from.length * 8);
        put_address(message, RTA_SRC, from);
    }
    if (destination.scope)
        mnl_attr_put_u32(message, RTA_OIF, destination.scope);

    route_answer answer;
    if (auto why = ask(message, [&](const nlmsghdr *m) { answer = read_route(m, destination); }))
        return std::unexpected(*why);
    auto &hop = answer.hop;
    if ((answer.type != RTN_UNICAST && answer.type != RTN_LOCAL) || !hop.oif)
        return std::unexpected(std::errc::host_unreachable);
    if (from.family == destination.family)
        hop.source = from;
    const auto device = link(hop.oif);
    if (!device)
        return std::unexpected(device.error());
    hop.link = *device;
    if (!hop.mtu || hop.mtu > hop.link.mtu)
        hop.mtu = hop.link.mtu;
    if (!hop.local && hop.link.ethernet)
        hop.to = find_neighbour(hop);
    return hop;
}

std::expected<link_state, std::errc> nexthop::link(unsigned ifindex) noexcept
{
    auto *message = request(RTM_GETLINK, 0);
    auto *info = static_cast<ifinfomsg *>(mnl_nlmsg_put_extra_header(message, sizeof(ifinfomsg)));
    info->ifi_index = static_cast<int>(ifindex);
    link_state state;
    if (auto why = ask(message, [&](const nlmsghdr *m) { state = read_link(m); }))
        return std::unexpected(*why);
    return state;
}

std::optional<neighbour> nexthop::find_neighbour(const next_hop &hop) noexcept
{
    if (hop.via.family == SP_FAMILY_NONE)
        return std::nullopt;
    auto *message = request(RTM_GETNEIGH, 0);
    auto *entry = static_cast<ndmsg *>(mnl_nlmsg_put_extra_header(message, sizeof(ndmsg)));
    entry->ndm_family = kernel_family(hop.via);
    entry->ndm_ifindex = static_cast<int>(hop.oif);
    put_address(message, NDA_DST, hop.via);
    std::optional<neighbour> found;
    if (ask(message, [&](const nlmsghdr *m) { found = read_neighbour(m); }))
        return std::nullopt; // ENOENT: the kernel has no entry yet
    return found;
}

void nexthop::use(const next_hop &hop) noexcept
{
    if (hop.via.family == SP_FAMILY_NONE)
        return;
    auto *message = request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_ACK);
    auto *entry = static_cast<ndmsg *>(mnl_nlmsg_put_extra_header(message, sizeof(ndmsg)));
    entry->ndm_family = kernel_family(hop.via);
    entry->ndm_ifindex = static_cast<int>(hop.oif);
    entry->ndm_flags = NTF_USE;
    put_address(message, NDA_DST, hop.via);
    (void)ask(message, [](const nlmsghdr *) {});
}

address_list nexthop::addresses(unsigned ifindex) noexcept
{
    address_list list;
    auto *message = request(RTM_GETADDR, NLM_F_DUMP);
    mnl_nlmsg_put_extra_header(message, sizeof(ifaddrmsg));
    (void)ask(message, [&](const nlmsghdr *m) {
        const auto *info = static_cast<const ifaddrmsg *>(mnl_nlmsg_get_payload(m));
        sp_address own{};
        if (info->ifa_index != ifindex)
            return;
        // With a point-to-point peer IFA_ADDRESS is the peer's and IFA_LOCAL ours; IPv6 knows only
        // IFA_ADDRESS.
        each_attribute(m, sizeof *info, [&](auto type, const nlattr *attribute) {
            if (type == IFA_LOCAL || (type == IFA_ADDRESS && own.family == SP_FAMILY_NONE))
                own = address_in(attribute, info->ifa_family, ifindex);
        });
        if (own.family != SP_FAMILY_NONE && list.count < list.items.size())
            list.items[list.count++] = own;
    });
    return list;
}

int nexthop::events_fd() const noexcept
{
    return mnl_socket_get_fd(events_.get());
}

void nexthop::on_event(std::uint16_t type) noexcept
{
    ++generation_;
    if (type == RTM_NEWLINK || type == RTM_DELLINK)
        ++link_generation_;
    if (type == RTM_NEWADDR || type == RTM_DELADDR)
        ++address_generation_;
}

bool nexthop::read_events() noexcept
{
    const auto before = generation_;
    for (int reads = 0; reads < events_per_call; ++reads) {
        const auto got = mnl_socket_recvfrom(events_.get(), in_.get(), answer_bytes);
        if (got < 0 && errno != ENOBUFS)
            break;
        if (got < 0) { // the kernel could not queue an event: anything may have changed
            on_event(RTM_NEWLINK);
            on_event(RTM_NEWADDR);
            continue;
        }
        int left = static_cast<int>(got);
        const auto *message = reinterpret_cast<const nlmsghdr *>(in_.get());
        for (; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left))
            on_event(message->nlmsg_type);
    }
    return generation_ != before;
}

} // namespace sp::transport
