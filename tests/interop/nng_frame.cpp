// SPDX-License-Identifier: BSD-2-Clause
#include "tests/interop/nng_frame.hpp"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <poll.h>
#include <stdexcept>
#include <sys/socket.h>
#include <sys/uio.h>
#include <type_traits>

namespace sp::test {
namespace {

using passed = std::expected<void, nng_silence>;

// As it goes over a channel, in front of the two strings.
struct wire_head {
    nng_head head;
    std::uint64_t text_bytes, body_bytes;
};
static_assert(std::is_trivially_copyable_v<wire_head>);

[[noreturn]] void fail(const char *call)
{
    throw std::runtime_error(std::string(call) +
                             " on a channel to libnng: " + std::strerror(errno));
}

passed wait_for(const descriptor &channel, short what, nng_deadline until)
{
    int ms = -1;
    if (until != nng_deadline::max()) {
        const auto left =
            std::chrono::ceil<nng_wait>(until - std::chrono::steady_clock::now()).count();
        ms = static_cast<int>(std::clamp<std::int64_t>(left, 0, INT_MAX));
    }
    pollfd ready{.fd = channel.get(), .events = what, .revents = 0};
    const int n = ::poll(&ready, 1, ms);
    if (n < 0 && errno != EINTR)
        fail("poll");
    if (n == 0)
        return std::unexpected(nng_silence::late);
    return {};
}

// What is to be done about a call of send or recv that moved nothing.
passed after_error(const char *call, const descriptor &channel, short what, nng_deadline until)
{
    if (errno == EAGAIN)
        return wait_for(channel, what, until);
    if (errno == EPIPE || errno == ECONNRESET)
        return std::unexpected(nng_silence::ended);
    if (errno != EINTR)
        fail(call);
    return {};
}

iovec part(const void *bytes, std::size_t size)
{
    return {.iov_base = const_cast<void *>(bytes), .iov_len = size};
}

} // namespace

passed send_frame(const descriptor &channel, const nng_head &head, std::string_view text,
                  std::string_view body, nng_deadline until)
{
    const wire_head first{head, text.size(), body.size()};
    std::array parts{part(&first, sizeof first), part(text.data(), text.size()),
                     part(body.data(), body.size())};
    auto left = sizeof first + text.size() + body.size();
    while (left > 0) {
        msghdr m{};
        m.msg_iov = parts.data();
        m.msg_iovlen = parts.size();
        const auto n = ::sendmsg(channel.get(), &m, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) {
            if (const auto again = after_error("sendmsg", channel, POLLOUT, until); !again)
                return again;
            continue;
        }
        auto gone = static_cast<std::size_t>(n);
        left -= gone;
        for (auto &p : parts) {
            const auto of_this = std::min(gone, p.iov_len);
            p = part(static_cast<const char *>(p.iov_base) + of_this, p.iov_len - of_this);
            gone -= of_this;
        }
    }
    return {};
}

passed receive_body(const descriptor &channel, std::span<char> into, nng_deadline until)
{
    while (!into.empty()) {
        const auto n = ::recv(channel.get(), into.data(), into.size(), MSG_DONTWAIT);
        if (n == 0)
            return std::unexpected(nng_silence::ended);
        if (n > 0)
            into = into.subspan(static_cast<std::size_t>(n));
        else if (const auto again = after_error("recv", channel, POLLIN, until); !again)
            return again;
    }
    return {};
}

std::expected<nng_frame_front, nng_silence> receive_front(const descriptor &channel,
                                                          nng_deadline until)
{
    std::array<char, sizeof(wire_head)> bytes;
    if (const auto came = receive_body(channel, bytes, until); !came)
        return std::unexpected(came.error());
    wire_head first;
    std::memcpy(&first, bytes.data(), bytes.size());
    if (first.text_bytes > nng_frame_bytes_max || first.body_bytes > nng_frame_bytes_max)
        throw std::runtime_error("a frame to or from libnng's process is out of joint");
    nng_frame_front front{first.head, std::string(first.text_bytes, '\0'), first.body_bytes};
    if (const auto came = receive_body(channel, front.text, until); !came)
        return std::unexpected(came.error());
    return front;
}

std::expected<nng_frame, nng_silence> receive_frame(const descriptor &channel, nng_deadline until)
{
    auto front = receive_front(channel, until);
    if (!front)
        return std::unexpected(front.error());
    nng_frame frame{.head = front->head, .text = std::move(front->text)};
    // A hundred megabytes need not be zero first.
    frame.body.resize_and_overwrite(front->body_bytes, [](char *, std::size_t n) { return n; });
    if (const auto came = receive_body(channel, frame.body, until); !came)
        return std::unexpected(came.error());
    return frame;
}

passed send_channel(const descriptor &control, const descriptor &channel)
{
    char byte = 0;
    iovec bytes{.iov_base = &byte, .iov_len = 1};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> room{};
    msghdr m{};
    m.msg_iov = &bytes;
    m.msg_iovlen = 1;
    m.msg_control = room.data();
    m.msg_controllen = room.size();
    cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = channel.get();
    std::memcpy(CMSG_DATA(c), &fd, sizeof fd);
    if (::sendmsg(control.get(), &m, MSG_NOSIGNAL) == 1)
        return {};
    if (errno == EPIPE || errno == ECONNRESET)
        return std::unexpected(nng_silence::ended);
    fail("sendmsg");
}

std::expected<descriptor, nng_silence> receive_channel(const descriptor &control)
{
    char byte;
    iovec bytes{.iov_base = &byte, .iov_len = 1};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> room{};
    msghdr m{};
    m.msg_iov = &bytes;
    m.msg_iovlen = 1;
    m.msg_control = room.data();
    m.msg_controllen = room.size();
    const auto n = ::recvmsg(control.get(), &m, MSG_CMSG_CLOEXEC);
    if (n == 0)
        return std::unexpected(nng_silence::ended);
    const cmsghdr *c = n == 1 ? CMSG_FIRSTHDR(&m) : nullptr;
    if (!c || c->cmsg_type != SCM_RIGHTS)
        fail("recvmsg");
    int fd;
    std::memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return descriptor(fd);
}

} // namespace sp::test
