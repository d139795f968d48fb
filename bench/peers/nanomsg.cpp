// SPDX-License-Identifier: BSD-2-Clause
//
// nanomsg for bench/peers.hpp: nn_send and nn_recv on a socket. libnng has functions of the same
// names; the order of the two in the Makefile decides which are called, and open() looks.
#include "bench/peers.hpp"

#include <array>
#include <dlfcn.h>
#include <nanomsg/nn.h>
#include <nanomsg/pipeline.h>
#include <nanomsg/reqrep.h>
#include <string_view>

namespace sp::bench {
namespace {

std::unexpected<error> refused(const char *what)
{
    return failed(what, ::nn_strerror(::nn_errno()));
}

int kind(role of) noexcept
{
    constexpr std::array kinds{NN_REQ, NN_REP, NN_PUSH, NN_PULL};
    return kinds[static_cast<std::size_t>(of)];
}

bool is_nanomsg() noexcept
{
    Dl_info from{};
    return ::dladdr(reinterpret_cast<const void *>(&::nn_send), &from) != 0 &&
           std::string_view(from.dli_fname).contains("libnanomsg");
}

result<peer_socket> open(role of, const std::string &url)
{
    if (!is_nanomsg())
        return failed("nanomsg", "its functions were taken from another library");
    const int socket = ::nn_socket(AF_SP, kind(of));
    if (socket < 0)
        return refused("nn_socket");
    if ((listens(of) ? ::nn_bind : ::nn_connect)(socket, url.c_str()) < 0)
        return refused("nn_bind or nn_connect");
    return peer_socket{[socket](std::span<const std::byte> body) -> result<void> {
                           if (::nn_send(socket, body.data(), body.size(), 0) < 0)
                               return refused("nn_send");
                           return {};
                       },
                       [socket](std::span<std::byte> body) -> result<void> {
                           const int got = ::nn_recv(socket, body.data(), body.size(), 0);
                           if (got < 0)
                               return refused("nn_recv");
                           if (static_cast<std::size_t>(got) != body.size())
                               return failed("nn_recv", "another size than was sent");
                           return {};
                       }};
}

} // namespace

// Its headers tell the version of its binary interface only; the package's is given by the
// Makefile.
library nanomsg()
{
    return {"nanomsg", NANOMSG_VERSION, open};
}

} // namespace sp::bench
