// SPDX-License-Identifier: BSD-2-Clause
//
// See echo.hpp. Raw sockets for all three: the UDP header is written here, so that its checksum is
// complete when the packet leaves, and the program that turns it around keeps it right.
#include "userspace/cli/echo.hpp"

#include "sp/abi/wire.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <linux/errqueue.h>
#include <linux/filter.h>
#include <memory>
#include <netdb.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <random>
#include <span>
#include <unistd.h>
#include <utility>
#include <vector>

namespace sp::cli {
namespace {

constexpr std::size_t packet_max = 65535;
constexpr std::size_t sp_bytes = 80; // of a small PING
static_assert(sp_bytes >= SP_OVERHEAD);

bool set(int fd, int level, int name, int value) noexcept
{
    return ::setsockopt(fd, level, name, &value, sizeof value) == 0;
}

error cannot_ask(const std::string &host, int why)
{
    if (why == EPERM || why == EACCES)
        return error::numbered(1001);
    if (why == ENETUNREACH || why == EHOSTUNREACH || why == EADDRNOTAVAIL)
        return error::numbered(1023, "no route to " + host, std::strerror(why));
    return error::numbered(2037, "cannot ask " + host, std::strerror(why));
}

int protocol_of(question what, bool ipv6) noexcept
{
    if (what == question::icmp_echo)
        return ipv6 ? int{IPPROTO_ICMPV6} : int{IPPROTO_ICMP};
    return what == question::ping ? SP_IP_PROTOCOL : IPPROTO_UDP;
}

// What the socket of UDP is to see of everything that comes by UDP.
bool only_for(int fd, std::uint16_t port, bool ipv6) noexcept
{
    const std::array<sock_filter, 5> v4{{
        {BPF_LDX | BPF_B | BPF_MSH, 0, 0, 0},
        {BPF_LD | BPF_H | BPF_IND, 0, 0, offsetof(sp_udp, destination)},
        {BPF_JMP | BPF_JEQ | BPF_K, 1, 0, port},
        {BPF_RET | BPF_K, 0, 0, 0},
        {BPF_RET | BPF_K, 0, 0, packet_max},
    }};
    auto code = v4;
    if (ipv6)
        code[1].code = BPF_LD | BPF_H | BPF_ABS;
    const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
    return ::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0;
}

std::uint16_t folded_sum(std::span<const std::byte> bytes) noexcept
{
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i)
        sum += std::to_integer<std::uint32_t>(bytes[i]) << (i % 2 ? 0 : 8);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(sum);
}

sp_header ping_header(std::uint64_t number, std::uint32_t nonce) noexcept
{
    sp_header header{};
    header.version = SP_WIRE_VERSION;
    header.type = SP_PING;
    header.pn = SP_BE64(number);
    header.seq = SP_BE32(nonce);
    return header;
}

// The layout of both families' echo.
struct icmp_header {
    std::uint8_t type, code;
    __be16 checksum, id, sequence;
    __be64 number;
};
static_assert(sizeof(icmp_header) == 16);

} // namespace

result<target> find_host(const std::string &host)
{
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_RAW;
    addrinfo *list = nullptr;
    const int code = ::getaddrinfo(host.c_str(), nullptr, &hints, &list);
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(list, &::freeaddrinfo);
    if (code != 0 || !list)
        return std::unexpected(error::numbered(1026, "unknown host " + host, ::gai_strerror(code)));
    target found;
    found.length = list->ai_addrlen;
    std::memcpy(&found.name, list->ai_addr, list->ai_addrlen);
    char text[NI_MAXHOST] = {};
    (void)::getnameinfo(list->ai_addr, list->ai_addrlen, text, sizeof text, nullptr, 0,
                        NI_NUMERICHOST);
    found.text = text;
    return found;
}

echo::echo(const target &host, question what, std::uint16_t udp_port)
    : what_(what), ipv6_(host.ipv6()), udp_port_(udp_port), nonce_(std::random_device()())
{
}

echo::echo(echo &&other) noexcept
    : what_(other.what_), ipv6_(other.ipv6_), udp_port_(other.udp_port_),
      source_port_(other.source_port_), nonce_(other.nonce_), fd_(std::exchange(other.fd_, -1)),
      holder_(std::exchange(other.holder_, -1))
{
}

echo::~echo()
{
    for (const int fd : {fd_, holder_})
        if (fd >= 0)
            ::close(fd);
}

result<echo> echo::open(const target &host, question what, std::uint16_t udp_port)
{
    echo opened(host, what, udp_port);
    if (auto ready = opened.prepare(host); !ready)
        return std::unexpected(ready.error());
    return opened;
}

result<void> echo::prepare(const target &host)
{
    const int family = host.name.ss_family;
    fd_ = ::socket(family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol_of(what_, ipv6_));
    if (fd_ < 0)
        return std::unexpected(cannot_ask(host.text, errno));
    bool done =
        ipv6_
            ? set(fd_, SOL_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO) &&
                  set(fd_, SOL_IPV6, IPV6_DONTFRAG, 1) && set(fd_, SOL_IPV6, IPV6_RECVERR, 1)
            : set(fd_, SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO) && set(fd_, SOL_IP, IP_RECVERR, 1);
    if (what_ == question::ping_behind_udp) {
        holder_ = ::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        sockaddr_in6 name{};
        name.sin6_family = static_cast<sa_family_t>(family);
        socklen_t length = ipv6_ ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
        auto *any = reinterpret_cast<sockaddr *>(&name);
        done = done && holder_ >= 0 && ::bind(holder_, any, length) == 0 &&
               ::getsockname(holder_, any, &length) == 0;
        source_port_ = SP_BE16(name.sin6_port);
        constexpr int checksum_at = offsetof(sp_udp, checksum);
        done = done && only_for(fd_, source_port_, ipv6_) &&
               (!ipv6_ || set(fd_, SOL_IPV6, IPV6_CHECKSUM, checksum_at));
    }
    // What comes from another host, or of an error there, is none of ours.
    if (!done || ::connect(fd_, reinterpret_cast<const sockaddr *>(&host.name), host.length) != 0)
        return std::unexpected(cannot_ask(host.text, errno));
    return {};
}

std::size_t echo::header_bytes() const noexcept
{
    return (ipv6_ ? sizeof(sp_ipv6) : sizeof(sp_ipv4)) +
           (what_ == question::ping_behind_udp ? sizeof(sp_udp) : 0);
}

std::size_t echo::bytes_min() const noexcept
{
    return header_bytes() + (what_ == question::icmp_echo ? sizeof(icmp_header) : sp_bytes);
}

int echo::ask(std::uint64_t number, std::size_t ip_bytes)
{
    const std::size_t ip = ipv6_ ? sizeof(sp_ipv6) : sizeof(sp_ipv4);
    std::vector<std::byte> packet(std::clamp(ip_bytes, bytes_min(), packet_max) - ip);
    if (what_ == question::icmp_echo) {
        icmp_header header{};
        header.type = ipv6_ ? static_cast<std::uint8_t>(ICMP6_ECHO_REQUEST)
                            : static_cast<std::uint8_t>(ICMP_ECHO);
        header.id = SP_BE16(static_cast<std::uint16_t>(nonce_));
        header.number = SP_BE64(number);
        std::memcpy(packet.data(), &header, sizeof header);
        if (!ipv6_) { // over IPv6 the kernel sums it
            header.checksum = SP_BE16(static_cast<std::uint16_t>(~folded_sum(packet)));
            std::memcpy(packet.data(), &header, sizeof header);
        }
    } else {
        auto *at = packet.data();
        if (what_ == question::ping_behind_udp) {
            const sp_udp udp{SP_BE16(source_port_), SP_BE16(udp_port_),
                             SP_BE16(static_cast<std::uint16_t>(packet.size())), 0};
            std::memcpy(at, &udp, sizeof udp);
            at += sizeof udp;
        }
        const auto header = ping_header(number, nonce_);
        std::memcpy(at, &header, sizeof header);
    }
    for (int attempt = 0;; ++attempt) { // the first may only report what an older packet met
        if (::send(fd_, packet.data(), packet.size(), MSG_DONTWAIT) >= 0)
            return 0;
        if (errno == EMSGSIZE || attempt == 1)
            return errno;
    }
}

std::optional<echo::answer> echo::read_one() noexcept
{
    std::array<std::byte, packet_max> space;
    const auto got = ::recv(fd_, space.data(), space.size(), MSG_DONTWAIT);
    if (got <= 0)
        return std::nullopt;
    auto packet = std::span(space).first(static_cast<std::size_t>(got));
    const std::size_t before = header_bytes() - (ipv6_ ? sizeof(sp_ipv6) : 0); // as sockets give it
    if (packet.size() < before + sizeof(icmp_header))
        return std::nullopt;
    packet = packet.subspan(before);
    answer found;
    found.at = std::chrono::steady_clock::now();
    if (what_ == question::icmp_echo) {
        icmp_header header;
        std::memcpy(&header, packet.data(), sizeof header);
        found.number = SP_BE64(header.number);
        const int reply = ipv6_ ? ICMP6_ECHO_REPLY : ICMP_ECHOREPLY;
        if (header.type == reply && header.id == SP_BE16(static_cast<std::uint16_t>(nonce_)))
            return found;
        return std::nullopt;
    }
    sp_header header;
    if (packet.size() < sizeof header)
        return std::nullopt;
    std::memcpy(&header, packet.data(), sizeof header);
    found.number = SP_BE64(header.pn);
    if (header.version == SP_WIRE_VERSION && header.type == SP_PONG &&
        header.seq == SP_BE32(nonce_))
        return found;
    return std::nullopt;
}

std::optional<echo::answer> echo::read_error() noexcept
{
    alignas(cmsghdr) std::array<std::byte, 512> control;
    msghdr message{};
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    if (::recvmsg(fd_, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
        return std::nullopt;
    sock_extended_err report{};
    for (auto *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
        if ((c->cmsg_level == SOL_IP && c->cmsg_type == IP_RECVERR) ||
            (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_RECVERR))
            std::memcpy(&report, CMSG_DATA(c), sizeof report);
    answer found;
    found.at = std::chrono::steady_clock::now();
    const bool udp = what_ == question::ping_behind_udp;
    const bool v4 = report.ee_origin == SO_EE_ORIGIN_ICMP && report.ee_type == ICMP_DEST_UNREACH;
    const bool v6 = report.ee_origin == SO_EE_ORIGIN_ICMP6 && report.ee_type == ICMP6_DST_UNREACH;
    const bool next_header = report.ee_origin == SO_EE_ORIGIN_ICMP6 &&
                             report.ee_type == ICMP6_PARAM_PROB &&
                             report.ee_code == ICMP6_PARAMPROB_NEXTHEADER;
    if (report.ee_errno == EMSGSIZE)
        found.what = answer::kind::too_large;
    else if ((v4 && report.ee_code == (udp ? ICMP_PORT_UNREACH : ICMP_PROT_UNREACH)) ||
             (v6 && udp && report.ee_code == ICMP6_DST_UNREACH_NOPORT) || next_header)
        found.what = answer::kind::refused;
    else
        found.what = answer::kind::unreachable;
    return found;
}

std::optional<echo::answer> echo::wait(instant until, int also)
{
    for (;;) {
        if (auto found = read_one())
            return found;
        if (auto found = read_error())
            return found;
        const auto left = until - std::chrono::steady_clock::now();
        if (left <= left.zero())
            return std::nullopt;
        std::array<pollfd, 2> ready{{{fd_, POLLIN, 0}, {also, POLLIN, 0}}};
        const auto seconds = std::chrono::floor<std::chrono::seconds>(left);
        const timespec time{seconds.count(), (left - seconds).count()};
        (void)::ppoll(ready.data(), ready.size(), &time, nullptr);
        if (ready[1].revents)
            return std::nullopt;
        int pending; // reading it clears it: what it says stands in the error queue
        socklen_t length = sizeof pending;
        if (ready[0].revents & POLLERR)
            (void)::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &pending, &length);
    }
}

std::size_t echo::mtu() const noexcept
{
    int value = 0;
    socklen_t length = sizeof value;
    const int failed = ipv6_ ? ::getsockopt(fd_, SOL_IPV6, IPV6_MTU, &value, &length)
                             : ::getsockopt(fd_, SOL_IP, IP_MTU, &value, &length);
    return failed || value < 0 ? 0 : static_cast<std::size_t>(value);
}

bool answers_echo(const target &host)
{
    constexpr int tries = 3;
    constexpr std::chrono::milliseconds patience(300);
    auto asker = echo::open(host, question::icmp_echo, 0);
    for (std::uint64_t i = 0; asker && i < tries; ++i) {
        if (asker->ask(i) != 0)
            continue;
        const auto until = std::chrono::steady_clock::now() + patience;
        while (const auto came = asker->wait(until))
            if (came->what == echo::answer::kind::answered)
                return true;
    }
    return false;
}

} // namespace sp::cli
