// SPDX-License-Identifier: BSD-2-Clause
//
// See demo_tcp.hpp.
#include "userspace/cli/demo_tcp.hpp"

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

namespace sp::cli {
namespace {

error failed(const char *what, int why)
{
    return error::numbered(2037, what, std::strerror(why));
}

sockaddr_in internet(const char *address, std::uint16_t port)
{
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(port);
    ::inet_pton(AF_INET, address, &name.sin_addr);
    return name;
}

void without_delay(int fd)
{
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

} // namespace

tcp_peer::tcp_peer(tcp_peer &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

tcp_peer::~tcp_peer()
{
    if (fd_ >= 0)
        ::close(fd_);
}

result<tcp_peer> tcp_peer::listen(std::uint16_t port)
{
    tcp_peer listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto name = internet("0.0.0.0", port);
    const int on = 1;
    ::setsockopt(listener.fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(listener.fd_, reinterpret_cast<const sockaddr *>(&name), sizeof name) != 0 ||
        ::listen(listener.fd_, 1) != 0)
        return std::unexpected(failed("cannot listen with TCP", errno));
    return listener;
}

result<tcp_peer> tcp_peer::accept() const
{
    tcp_peer peer(::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC));
    if (peer.fd_ < 0)
        return std::unexpected(failed("cannot accept with TCP", errno));
    without_delay(peer.fd_);
    return peer;
}

result<tcp_peer> tcp_peer::connect(const std::string &address, std::uint16_t port)
{
    tcp_peer peer(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto name = internet(address.c_str(), port);
    if (::connect(peer.fd_, reinterpret_cast<const sockaddr *>(&name), sizeof name) != 0)
        return std::unexpected(failed("cannot connect with TCP", errno));
    without_delay(peer.fd_);
    return peer;
}

bool tcp_peer::write_all(std::span<const std::byte> bytes) const noexcept
{
    while (!bytes.empty()) {
        const auto n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0)
            bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    return true;
}

bool tcp_peer::read_all(std::span<std::byte> bytes, reading how) const noexcept
{
    while (!bytes.empty()) {
        const auto n =
            ::recv(fd_, bytes.data(), bytes.size(), how == reading::spin ? MSG_DONTWAIT : 0);
        if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
            return false;
        if (n > 0)
            bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    return true;
}

} // namespace sp::cli
