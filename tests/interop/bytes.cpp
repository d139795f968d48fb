// SPDX-License-Identifier: BSD-2-Clause
#include "tests/interop/bytes.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

namespace sp::test {
namespace wire {

std::string big_endian(std::uint64_t value, std::size_t bytes)
{
    std::string text;
    for (auto shift = bytes * 8; shift > 0; shift -= 8)
        text.push_back(static_cast<char>(value >> (shift - 8) & 0xff));
    return text;
}

std::string word(std::uint32_t value)
{
    return big_endian(value, 4);
}

std::string words(std::initializer_list<std::uint32_t> all)
{
    std::string text;
    for (const auto w : all)
        text += word(w);
    return text;
}

std::uint32_t word_at(std::string_view bytes, std::size_t index)
{
    if (bytes.size() < (index + 1) * 4)
        throw std::runtime_error("no such word in a message of " + std::to_string(bytes.size()) +
                                 " bytes");
    std::uint32_t value = 0;
    for (const auto c : bytes.substr(index * 4, 4))
        value = value << 8 | static_cast<unsigned char>(c);
    return value;
}

std::string hello(std::uint16_t protocol)
{
    return std::string("\0SP\0", 4) + big_endian(protocol, 2) + std::string(2, '\0');
}

std::string head(std::uint64_t length, std::uint8_t type)
{
    return std::string(1, static_cast<char>(type)) + big_endian(length, 8);
}

std::string frame(std::string_view payload)
{
    return head(payload.size()).append(payload);
}

std::string frame(std::string_view header, std::string_view body)
{
    return head(header.size() + body.size()).append(header).append(body);
}

std::string stack(std::size_t n, std::uint32_t id)
{
    std::string text;
    for (std::size_t i = 1; i < n; ++i)
        text += word(static_cast<std::uint32_t>(0x1000 + i));
    return n > 0 ? text + word(id) : text;
}

std::string body(std::size_t size, std::uint32_t seed)
{
    std::string text(size, '\0');
    std::uint32_t state = seed * 2654435761u + 1;
    for (auto &c : text) {
        state = state * 1664525u + 1013904223u;
        c = static_cast<char>(state >> 24);
    }
    return text;
}

} // namespace wire

namespace {

[[noreturn]] void give_up(const std::string &what)
{
    throw std::runtime_error(what);
}

[[noreturn]] void give_up_errno(const std::string &what)
{
    give_up(what + ": " + std::strerror(errno));
}

// Until there is something of `events`, or the end.
void wait_for(int fd, short events, const char *what)
{
    pollfd p{.fd = fd, .events = events, .revents = 0};
    const auto limit =
        static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(patience).count());
    int n = 0;
    do
        n = ::poll(&p, 1, limit);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        give_up(std::string("nothing happened while waiting ").append(what));
}

struct unix_name {
    sockaddr_un name{};
    socklen_t size = 0;
    std::string path;
};

unix_name name_of(const std::string &url)
{
    unix_name n;
    n.name.sun_family = AF_UNIX;
    std::string text;
    if (url.starts_with("ipc://"))
        text = n.path = url.substr(6);
    else if (url.starts_with("abstract://"))
        text = std::string(1, '\0') + url.substr(11);
    else
        give_up("not a local URL: " + url);
    if (text.size() >= sizeof n.name.sun_path)
        give_up("too long: " + url);
    std::ranges::copy(text, n.name.sun_path);
    n.size =
        static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + text.size() + !n.path.empty());
    return n;
}

int make_socket()
{
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        give_up_errno("socket");
    return fd;
}

} // namespace

// ---- byte_peer ----

std::pair<byte_peer, int> byte_peer::try_dial(const std::string &url)
{
    const auto n = name_of(url);
    byte_peer peer(make_socket());
    // A full backlog is told as EAGAIN: whoever listens takes somebody in before long.
    int error = 0;
    until([&] {
        error = ::connect(peer.fd_, reinterpret_cast<const sockaddr *>(&n.name), n.size) == 0
                    ? 0
                    : errno;
        return error != EAGAIN;
    });
    return {std::move(peer), error};
}

byte_peer byte_peer::dial(const std::string &url)
{
    auto [peer, error] = try_dial(url);
    if (error != 0)
        give_up("connect to " + url + ": " + std::strerror(error));
    return std::move(peer);
}

std::size_t byte_peer::send_some(std::string_view bytes)
{
    const auto n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN)
        give_up_errno("send");
    return n < 0 ? 0 : static_cast<std::size_t>(n);
}

bool byte_peer::try_send(std::string_view bytes)
{
    while (!bytes.empty()) {
        const auto n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
            return false;
        if (n < 0 && errno != EAGAIN)
            give_up_errno("send");
        if (n < 0)
            wait_for(fd_, POLLOUT, "to be read");
        else
            bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
}

void byte_peer::send(std::string_view bytes)
{
    if (!try_send(bytes))
        give_up("the other side has closed");
}

void byte_peer::wait_read()
{
    until([&] {
        int unread = 0;
        return ::ioctl(fd_, SIOCOUTQ, &unread) != 0 || unread == 0;
    });
}

void byte_peer::send_in_pieces(std::string_view bytes, std::size_t piece)
{
    for (; !bytes.empty(); bytes.remove_prefix(std::min(piece, bytes.size()))) {
        send(bytes.substr(0, piece));
        wait_read();
    }
}

std::string byte_peer::receive_some(std::size_t most)
{
    std::string text(most, '\0');
    wait_for(fd_, POLLIN, "for bytes");
    const auto n = ::recv(fd_, text.data(), text.size(), MSG_DONTWAIT);
    if (n < 0)
        give_up_errno("recv");
    if (n == 0)
        give_up("the other side has closed");
    text.resize(static_cast<std::size_t>(n));
    return text;
}

std::string byte_peer::receive(std::size_t bytes)
{
    std::string text(bytes, '\0');
    for (std::size_t have = 0; have < bytes;) {
        wait_for(fd_, POLLIN, "for bytes");
        const auto n = ::recv(fd_, text.data() + have, bytes - have, MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN)
            give_up_errno("recv");
        if (n == 0)
            give_up("the other side closed after " + std::to_string(have) + " of " +
                    std::to_string(bytes) + " bytes");
        if (n > 0)
            have += static_cast<std::size_t>(n);
    }
    return text;
}

std::string byte_peer::receive_frame()
{
    const auto start = receive(9);
    if (start[0] != 1)
        give_up("a frame of type " + std::to_string(start[0]));
    std::uint64_t length = 0;
    for (const auto c : start.substr(1))
        length = length << 8 | static_cast<unsigned char>(c);
    if (length > 1u << 30)
        give_up("a frame of " + std::to_string(length) + " bytes");
    return receive(static_cast<std::size_t>(length));
}

bool byte_peer::silent() const
{
    pollfd p{.fd = fd_, .events = POLLIN, .revents = 0};
    return ::poll(&p, 1, 0) == 0;
}

bool byte_peer::ended()
{
    wait_for(fd_, POLLIN, "for the other side's end");
    char byte;
    const auto n = ::recv(fd_, &byte, 1, MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

std::string byte_peer::receive_all()
{
    std::string text;
    for (;;) {
        wait_for(fd_, POLLIN, "for bytes or the end");
        char piece[4096];
        const auto n = ::recv(fd_, piece, sizeof piece, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            return text;
        if (n < 0)
            give_up_errno("recv");
        text.append(piece, static_cast<std::size_t>(n));
    }
}

void byte_peer::half_close()
{
    ::shutdown(fd_, SHUT_WR);
}

void byte_peer::close() noexcept
{
    if (fd_ >= 0)
        ::close(fd_);
    fd_ = -1;
}

// ---- byte_door ----

byte_door::byte_door(const std::string &url) : fd_(make_socket())
{
    const auto n = name_of(url);
    path_ = n.path;
    if (::bind(fd_, reinterpret_cast<const sockaddr *>(&n.name), n.size) != 0 ||
        ::listen(fd_, 128) != 0) {
        ::close(fd_);
        give_up_errno("listen on " + url);
    }
}

byte_door::~byte_door()
{
    if (!path_.empty())
        ::unlink(path_.c_str());
    ::close(fd_);
}

byte_peer byte_door::accept()
{
    wait_for(fd_, POLLIN, "for somebody to connect");
    const int fd = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        give_up_errno("accept");
    return byte_peer(fd);
}

bool byte_door::nobody_waits() const
{
    pollfd p{.fd = fd_, .events = POLLIN, .revents = 0};
    return ::poll(&p, 1, 0) == 0;
}

byte_peer byte_door::greet(std::uint16_t own, std::uint16_t expected)
{
    auto peer = accept();
    peer.send(wire::hello(own));
    if (const auto came = peer.receive(8); came != wire::hello(expected))
        give_up("another hello than expected");
    return peer;
}

} // namespace sp::test
