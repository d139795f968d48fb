// SPDX-License-Identifier: BSD-2-Clause
//
// libzmq for bench/peers.hpp: zmq_send and zmq_recv, in a context of its own for each socket.
#include "bench/peers.hpp"

#include <array>
#include <zmq.h>

namespace sp::bench {
namespace {

std::unexpected<error> refused(const char *what)
{
    return failed(what, ::zmq_strerror(errno));
}

int kind(role of) noexcept
{
    constexpr std::array kinds{ZMQ_REQ, ZMQ_REP, ZMQ_PUSH, ZMQ_PULL};
    return kinds[static_cast<std::size_t>(of)];
}

result<peer_socket> open(role of, const std::string &url)
{
    void *socket = ::zmq_socket(::zmq_ctx_new(), kind(of));
    if (!socket)
        return refused("zmq_socket");
    if ((listens(of) ? ::zmq_bind : ::zmq_connect)(socket, url.c_str()) != 0)
        return refused("zmq_bind or zmq_connect");
    return peer_socket{[socket](std::span<const std::byte> body) -> result<void> {
                           if (::zmq_send(socket, body.data(), body.size(), 0) < 0)
                               return refused("zmq_send");
                           return {};
                       },
                       [socket](std::span<std::byte> body) -> result<void> {
                           const int got = ::zmq_recv(socket, body.data(), body.size(), 0);
                           if (got < 0)
                               return refused("zmq_recv");
                           if (static_cast<std::size_t>(got) != body.size())
                               return failed("zmq_recv", "another size than was sent");
                           return {};
                       }};
}

} // namespace

library zeromq()
{
    int major = 0, minor = 0, patch = 0;
    ::zmq_version(&major, &minor, &patch);
    return {"ZeroMQ",
            std::to_string(major) + '.' + std::to_string(minor) + '.' + std::to_string(patch),
            open};
}

} // namespace sp::bench
