// SPDX-License-Identifier: BSD-2-Clause
//
// See ports.hpp.
#include "userspace/transport/ports.hpp"

#include "sp/abi/wire.h"
#include "userspace/invariant.hpp"
#include "userspace/transport/netns.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <random>
#include <sys/socket.h>
#include <sys/un.h>

namespace sp::transport {
namespace {

constexpr unsigned ephemeral_count = 65536 - service_ports::ephemeral_first;
constexpr std::uint32_t whole_packet = 0x40000; // more than an IP packet can have

std::string port_text(std::uint16_t port)
{
    return "port " + std::to_string(port);
}

// Holds the name of `port` in the namespace of the calling thread, or errno says why not.
descriptor hold(std::uint16_t port)
{
    descriptor name(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const std::string text = "sp/ip/" + std::to_string(port);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    text.copy(address.sun_path + 1, sizeof address.sun_path - 1);
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
    if (name && ::bind(name.get(), reinterpret_cast<const sockaddr *>(&address), length) == 0)
        return name;
    const int why = errno;
    name.reset();
    errno = why;
    return name;
}

error cannot_hold(const std::string &what, int why)
{
    if (why == EADDRINUSE)
        return error::numbered(2002, what + " is in use");
    if (why == EMFILE || why == ENFILE)
        return error::numbered(2009, "cannot reserve " + what, std::strerror(why));
    return error::numbered(2037, "cannot reserve " + what, std::strerror(why));
}

sock_filter statement(int code, std::uint32_t k)
{
    return {static_cast<std::uint16_t>(code), 0, 0, k};
}

sock_filter jump_if_equal(std::uint32_t k, std::size_t if_true, std::size_t if_false)
{
    return {BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint8_t>(if_true),
            static_cast<std::uint8_t>(if_false), k};
}

} // namespace

result<service_ports> service_ports::open(int netns_fd)
{
    descriptor netns;
    if (netns_fd >= 0) {
        netns = descriptor(::fcntl(netns_fd, F_DUPFD_CLOEXEC, 0));
        if (!netns)
            return std::unexpected(
                error::numbered(2009, "cannot keep the network namespace", std::strerror(errno)));
    }
    return service_ports(std::move(netns));
}

bool service_ports::contains(std::uint16_t port) const noexcept
{
    return std::ranges::find(held_, port, &held::port) != held_.end();
}

result<void> service_ports::add(std::uint16_t port)
{
    if (port == 0)
        return std::unexpected(error::numbered(2008, "port 0 cannot be served"));
    if (held_.size() == ports_max)
        return std::unexpected(error::numbered(2031, "no more than 64 ports on one transport"));
    const auto visit = netns_visit::enter(netns_.get());
    if (!visit)
        return std::unexpected(visit.error());
    auto name = hold(port);
    if (!name)
        return std::unexpected(cannot_hold(port_text(port), errno));
    held_.push_back({port, std::move(name)});
    return {};
}

result<std::uint16_t> service_ports::add_ephemeral()
{
    if (held_.size() == ports_max)
        return std::unexpected(error::numbered(2031, "no more than 64 ports on one transport"));
    const auto visit = netns_visit::enter(netns_.get());
    if (!visit)
        return std::unexpected(visit.error());
    const unsigned start = std::random_device()() % ephemeral_count;
    for (unsigned i = 0; i < ephemeral_count; ++i) {
        const auto port =
            static_cast<std::uint16_t>(ephemeral_first + (start + i) % ephemeral_count);
        if (auto name = hold(port)) {
            held_.push_back({port, std::move(name)});
            return port;
        }
        if (errno != EADDRINUSE)
            return std::unexpected(cannot_hold(port_text(port), errno));
    }
    return std::unexpected(error::numbered(2002, "every port from 49152 to 65535 is in use"));
}

std::vector<std::uint16_t> service_ports::all() const
{
    std::vector<std::uint16_t> ports;
    for (const auto &h : held_)
        ports.push_back(h.port);
    return ports;
}

void service_ports::remove(std::uint16_t port) noexcept
{
    std::erase_if(held_, [port](const held &h) { return h.port == port; });
}

result<void> service_ports::filter(int socket_fd, begins_with layout, std::uint16_t udp_port) const
{
    std::array<sock_filter, ports_max + 10> code{};
    std::size_t size = 0;
    const std::size_t ports = held_.size();
    const bool behind_ip = layout == begins_with::ipv4_header;
    const auto load = static_cast<int>(BPF_LD | BPF_H | (behind_ip ? BPF_IND : BPF_ABS));
    const std::size_t inside = udp_port ? sizeof(sp_udp) : 0;

    code[size++] = statement(BPF_LD | BPF_W | BPF_ABS,
                             static_cast<std::uint32_t>(SKF_AD_OFF + SKF_AD_PKTTYPE));
    const std::size_t refusal = 2 + (behind_ip ? 1 : 0) + (udp_port ? 2 : 0) + 1 + ports;
    code[size] = jump_if_equal(PACKET_HOST, 0, refusal - size - 1);
    ++size;
    if (behind_ip) // X is the length of the IP header, options included
        code[size++] = statement(BPF_LDX | BPF_B | BPF_MSH, 0);
    if (udp_port) {
        code[size++] = statement(load, offsetof(sp_udp, destination));
        code[size] = jump_if_equal(udp_port, 0, refusal - size - 1);
        ++size;
    }
    code[size++] = statement(load, static_cast<std::uint32_t>(inside + offsetof(sp_header, dport)));
    for (std::size_t i = 0; i < ports; ++i)
        code[size++] = jump_if_equal(held_[i].port, ports - i, 0);
    SP_INVARIANT(size == refusal);
    code[size++] = statement(BPF_RET | BPF_K, 0);
    code[size++] = statement(BPF_RET | BPF_K, whole_packet);

    const sock_fprog program{static_cast<unsigned short>(size), code.data()};
    if (::setsockopt(socket_fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0)
        return std::unexpected(
            error::numbered(2037, "cannot filter the raw socket", std::strerror(errno)));
    return {};
}

} // namespace sp::transport
