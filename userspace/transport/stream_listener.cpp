// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/transport/stream_listener.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>
#include <utility>

namespace sp::transport {
namespace {

void set(int fd, int level, int option, int value) noexcept
{
    // An option that the system does not have, or will not set so, is no reason to refuse a stream.
    ::setsockopt(fd, level, option, &value, sizeof value);
}

int get(int fd, int option) noexcept
{
    int value = -1;
    socklen_t length = sizeof value;
    return ::getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 ? value : -1;
}

// A vanished host is noticed on an idle stream too: probes begin after half the time, and
// TCP_USER_TIMEOUT ends what they find silent.
void probe_in(int fd, std::chrono::milliseconds limit) noexcept
{
    const auto seconds = [](std::chrono::milliseconds t) {
        return static_cast<int>(std::clamp<std::int64_t>(t.count() / 1000, 1, 32767));
    };
    set(fd, IPPROTO_TCP, TCP_KEEPIDLE, seconds(limit / 2));
    set(fd, IPPROTO_TCP, TCP_KEEPINTVL, seconds(limit / 4));
}

bool member_of(int fd, const std::vector<std::uint32_t> &groups) noexcept
{
    std::array<gid_t, 256> member{}; // who is in more than that is known by the first group only
    socklen_t length = sizeof member;
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, member.data(), &length) != 0)
        return false;
    const auto last = member.begin() + static_cast<std::ptrdiff_t>(length / sizeof(gid_t));
    return std::ranges::find_first_of(member.begin(), last, groups.begin(), groups.end()) != last;
}

error tcp_error(const stream_address &where)
{
    const auto url = url_of(where);
    if (errno == EADDRINUSE)
        return error::numbered(2002, url + " is in use", std::strerror(errno));
    if (errno == EADDRNOTAVAIL)
        return error::numbered(1011, "no interface of this host has the address " + where.name, "",
                               "ip addr shows what there is; 0.0.0.0 listens on all");
    if (errno == EACCES)
        return error::numbered(2022, "cannot listen at " + url, std::strerror(errno),
                               "a port below 1024 needs CAP_NET_BIND_SERVICE");
    return socket_error("cannot listen at " + url);
}

// What failed to come in: by accept(2), errors of the network on a connection that waited are told
// here too, and are over with it. What is not known to pass by itself is a reason to pause.
stream_listener::accepted::outcome outcome_of(int why) noexcept
{
    using enum stream_listener::accepted::outcome;
    switch (why) {
    case EAGAIN:
    case EINTR:
    case ECONNABORTED:
    case EPERM: // a rule of the firewall
    case EPROTO:
    case ENOPROTOOPT:
    case ENETDOWN:
    case ENETUNREACH:
    case ENONET:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ETIMEDOUT:
        return nothing;
    case EBADF:
    case EINVAL:
    case ENOTSOCK:
        return ended;
    default:
        return shortage;
    }
}

} // namespace

void shape_stream(int fd, stream_family family, const stream_options &options) noexcept
{
    if (options.stream_send_bytes > 0)
        set(fd, SOL_SOCKET, SO_SNDBUF,
            static_cast<int>(std::min<std::size_t>(options.stream_send_bytes, 1u << 30)));
    if (family != stream_family::tcp)
        return;
    set(fd, IPPROTO_TCP, TCP_NODELAY, options.tcp_nodelay);
    set(fd, SOL_SOCKET, SO_KEEPALIVE, options.tcp_keepalive);
    if (const auto limit = options.tcp_user_timeout; limit.count() > 0) {
        set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT,
            static_cast<int>(std::min<std::int64_t>(limit.count(), 1 << 30)));
        if (options.tcp_keepalive)
            probe_in(fd, limit);
    }
}

errc stream_errc(int number) noexcept
{
    switch (number) {
    case ECONNREFUSED:
    case ENOENT: // nobody has made the path yet, or a directory before it
    case ENOTDIR:
    case EAGAIN: // as many wait as the listener lets wait: as good as nobody there
        return errc::connection_refused;
    case EACCES:
    case EPERM:
        return errc::permission_denied;
    case ECONNRESET:
    case EPIPE:
    case ECONNABORTED:
        return errc::connection_reset;
    case ETIMEDOUT: // TCP has given up
        return errc::timed_out;
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ENETUNREACH:
    case ENETDOWN:
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
        return errc::unreachable;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case ENOSPC:
        return errc::limit_reached;
    case EPROTOTYPE: // another kind of socket lives at the path
        return errc::protocol_error;
    default:
        return errc::io_error;
    }
}

peer_identity identity_of(int fd, stream_family family, std::string text) noexcept
{
    peer_identity who;
    who.text = std::move(text);
    ucred credentials{};
    socklen_t length = sizeof credentials;
    if (family == stream_family::tcp ||
        ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0)
        return who;
    who.local = true;
    who.uid = credentials.uid;
    who.gid = credentials.gid;
    who.pid = credentials.pid;
    return who;
}

stream_listener::stream_listener(descriptor fd, stream_address where,
                                 stream_options options) noexcept
    : fd_(std::move(fd)), where_(std::move(where)), options_(std::move(options))
{
}

result<stream_listener> stream_listener::open(const stream_address &where,
                                              const stream_options &options)
{
    if (options.listen_fd >= 0) {
        auto fd = handed_in(where, options.listen_fd);
        if (!fd)
            return std::unexpected(fd.error());
        stream_listener l(std::move(*fd), where, options);
        l.learn_port();
        return l;
    }
    auto names = resolve(where, resolve_for::listening);
    if (!names)
        return std::unexpected(names.error());
    descriptor fd(::socket(names->front().family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd)
        return std::unexpected(socket_error("cannot open a stream socket"));
    stream_listener l(std::move(fd), where, options);
    if (auto bound = l.bind(names->front()); !bound)
        return std::unexpected(bound.error());
    return l;
}

result<void> stream_listener::bind(const stream_name &name)
{
    const int fd = fd_.get();
    if (where_.family == stream_family::ipc) {
        auto made = unix_path::bind(fd, SOCK_STREAM, where_.name, options_.ipc_mode);
        if (!made)
            return std::unexpected(made.error());
        path_.emplace(std::move(*made));
    } else {
        if (where_.family == stream_family::tcp) // connections that are over do not hold the port
            set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
        if (::bind(fd, name.get(), name.length) != 0)
            return std::unexpected(tcp_error(where_));
    }
    if (::listen(fd, backlog) != 0)
        return std::unexpected(tcp_error(where_));
    learn_port();
    return {};
}

void stream_listener::learn_port() noexcept
{
    stream_name own;
    own.length = sizeof own.bytes;
    if (where_.family == stream_family::tcp &&
        ::getsockname(fd_.get(), reinterpret_cast<sockaddr *>(&own.bytes), &own.length) == 0)
        where_.port = port_of(own);
}

result<descriptor> stream_listener::handed_in(const stream_address &where, int fd)
{
    const auto wrong = [&](std::string why) {
        return std::unexpected(error::numbered(
            2029, "listen_fd " + std::to_string(fd) + " cannot be used for " + url_of(where),
            std::move(why), "hand in a stream socket that listens"));
    };
    descriptor own(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (!own)
        return wrong(std::strerror(errno));
    const int domain = get(fd, SO_DOMAIN);
    const bool local = domain == AF_UNIX;
    if (get(fd, SO_TYPE) != SOCK_STREAM || get(fd, SO_ACCEPTCONN) != 1)
        return wrong("it is no stream socket that listens");
    if (local != (where.family != stream_family::tcp) ||
        (!local && domain != AF_INET && domain != AF_INET6))
        return wrong("it is of another address family");
    const int flags = ::fcntl(own.get(), F_GETFL);
    if (flags < 0 || ::fcntl(own.get(), F_SETFL, flags | O_NONBLOCK) != 0)
        return wrong(std::strerror(errno));
    return own;
}

bool stream_listener::may_come(const peer_identity &who, int fd) const noexcept
{
    const auto &users = options_.allow_uid;
    const auto &groups = options_.allow_gid;
    if (!who.local || (users.empty() && groups.empty()))
        return true;
    const auto is_in = [](const auto &list, std::uint32_t id) {
        return std::ranges::find(list, id) != list.end();
    };
    return is_in(users, who.uid) || is_in(groups, who.gid) ||
           (!groups.empty() && member_of(fd, groups));
}

stream_listener::accepted stream_listener::accept() noexcept
{
    using enum accepted::outcome;
    stream_name from;
    from.length = sizeof from.bytes;
    descriptor fd(::accept4(fd_.get(), reinterpret_cast<sockaddr *>(&from.bytes), &from.length,
                            SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd)
        return {.what = outcome_of(errno)};
    auto text = text_of(from); // most who come by a path have no name of their own
    auto who = identity_of(fd.get(), where_.family, text.empty() ? text_of(where_) : text);
    if (!may_come(who, fd.get()))
        return {.what = refused, .fd = {}, .who = std::move(who)};
    shape_stream(fd.get(), where_.family, options_);
    return {.what = taken, .fd = std::move(fd), .who = std::move(who)};
}

bool stream_listener::turn_away() noexcept
{
    return static_cast<bool>(
        descriptor(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)));
}

} // namespace sp::transport
