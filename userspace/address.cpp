// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/address.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <cstring>
#include <ifaddrs.h>
#include <memory>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace sp {
namespace {

sp_address address_of(const sockaddr *name) noexcept
{
    sp_address a{};
    if (name->sa_family == AF_INET) {
        sockaddr_in in;
        std::memcpy(&in, name, sizeof in);
        a.family = SP_FAMILY_IPV4;
        a.length = 4;
        std::memcpy(a.bytes, &in.sin_addr, 4);
    } else if (name->sa_family == AF_INET6) {
        sockaddr_in6 in;
        std::memcpy(&in, name, sizeof in);
        a.family = SP_FAMILY_IPV6;
        a.length = 16;
        std::memcpy(a.bytes, &in.sin6_addr, 16);
        if (IN6_IS_ADDR_LINKLOCAL(&in.sin6_addr))
            a.scope = in.sin6_scope_id;
    }
    return a;
}

} // namespace

result<sp_address> resolve_host(const std::string &host)
{
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_RAW;
    addrinfo *list = nullptr;
    const int code = ::getaddrinfo(host.c_str(), nullptr, &hints, &list);
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(list, &::freeaddrinfo);
    if (code != 0 || !list)
        return std::unexpected(error::numbered(1026, "unknown host " + host, ::gai_strerror(code)));
    return address_of(list->ai_addr);
}

bool is_any(const sp_address &a) noexcept
{
    return std::ranges::all_of(a.bytes, [](std::uint8_t b) { return b == 0; });
}

bool is_loopback(const sp_address &a) noexcept
{
    if (a.family == SP_FAMILY_IPV4)
        return a.bytes[0] == 127;
    return std::all_of(a.bytes, a.bytes + 15, [](std::uint8_t b) { return b == 0; }) &&
           a.bytes[15] == 1;
}

result<std::string> interface_of(const sp_address &a)
{
    ifaddrs *list = nullptr;
    if (::getifaddrs(&list) != 0)
        return std::unexpected(
            error::numbered(2037, "cannot list the addresses of this host", std::strerror(errno)));
    const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner(list, &::freeifaddrs);
    for (const auto *i = list; i; i = i->ifa_next)
        if (i->ifa_addr &&
            std::memcmp(address_of(i->ifa_addr).bytes, a.bytes, sizeof a.bytes) == 0 &&
            address_of(i->ifa_addr).family == a.family)
            return std::string(i->ifa_name);
    if (is_loopback(a)) // all of 127.0.0.0/8 is on lo
        return std::string("lo");
    return std::unexpected(
        error::numbered(1011, "no interface of this host has the address " + text_of(a, 0), "",
                        "ip addr shows what there is; 0.0.0.0 listens on all"));
}

std::string text_of(const sp_address &a, std::uint16_t port)
{
    char text[INET6_ADDRSTRLEN] = {};
    const auto number = ':' + std::to_string(port);
    switch (a.family) {
    case SP_FAMILY_IPV4:
        return std::string(::inet_ntop(AF_INET, a.bytes, text, sizeof text)) + number;
    case SP_FAMILY_IPV6:
        return '[' + std::string(::inet_ntop(AF_INET6, a.bytes, text, sizeof text)) + ']' + number;
    default:
        return a.length == 0 ? "the listener"
                             : '@' + std::string(reinterpret_cast<const char *>(a.bytes), a.length);
    }
}

} // namespace sp
