// SPDX-License-Identifier: BSD-2-Clause
//
// libnng for bench/peers.hpp: nng_send and nng_recv on a socket.
#include "bench/peers.hpp"

#include <array>
#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>

namespace sp::bench {
namespace {

// Its functions return 0 or a number of their own.
result<void> judged(const char *what, int code)
{
    if (code != 0)
        return failed(what, ::nng_strerror(code));
    return {};
}

int open_socket(role of, nng_socket *socket)
{
    constexpr std::array opens{::nng_req0_open, ::nng_rep0_open, ::nng_push0_open,
                               ::nng_pull0_open};
    return opens[static_cast<std::size_t>(of)](socket);
}

result<peer_socket> open(role of, const std::string &url)
{
    nng_socket socket = NNG_SOCKET_INITIALIZER;
    if (auto opened = judged("nng_..._open", open_socket(of, &socket)); !opened)
        return std::unexpected(opened.error());
    const int there = listens(of) ? ::nng_listen(socket, url.c_str(), nullptr, 0)
                                  : ::nng_dial(socket, url.c_str(), nullptr, 0);
    if (auto met = judged("nng_listen or nng_dial", there); !met)
        return std::unexpected(met.error());
    return peer_socket{[socket](std::span<const std::byte> body) {
                           // It copies what it is given, though it does not promise so in its type.
                           auto *bytes = const_cast<std::byte *>(body.data());
                           return judged("nng_send", ::nng_send(socket, bytes, body.size(), 0));
                       },
                       [socket](std::span<std::byte> body) {
                           std::size_t size = body.size();
                           auto got = judged("nng_recv", ::nng_recv(socket, body.data(), &size, 0));
                           return got && size != body.size()
                                      ? failed("nng_recv", "another size than was sent")
                                      : got;
                       }};
}

} // namespace

library nng()
{
    return {"NNG", ::nng_version(), open};
}

} // namespace sp::bench
