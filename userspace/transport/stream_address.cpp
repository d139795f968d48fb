// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/transport/stream_address.hpp"

#include "userspace/transport/unix_path.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cstddef>
#include <cstring>
#include <memory>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/un.h>

namespace sp::transport {
namespace {

// Letters, digits and what RFC 3986 calls unreserved stand for themselves; all else is %XX.
bool plain(char c) noexcept
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

std::string encoded(std::string_view name)
{
    constexpr std::string_view digits = "0123456789ABCDEF";
    std::string text;
    for (const char c : name) {
        if (plain(c)) {
            text.push_back(c);
            continue;
        }
        const auto byte = static_cast<unsigned char>(c);
        text.push_back('%');
        text.push_back(digits[byte >> 4]);
        text.push_back(digits[byte & 15]);
    }
    return text;
}

stream_name name_of(const unix_name &n) noexcept
{
    stream_name made;
    std::memcpy(&made.bytes, &n.name, sizeof n.name);
    made.length = n.length;
    return made;
}

struct host_addresses {
    std::unique_ptr<addrinfo, decltype([](addrinfo *a) { ::freeaddrinfo(a); })> list;
    int code = 0; // of getaddrinfo
};

host_addresses look_up(const char *host, const char *port, int flags)
{
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV | flags;
    addrinfo *found = nullptr;
    const int code = ::getaddrinfo(host, port, &hints, &found);
    host_addresses result{.list = {}, .code = code};
    if (code == 0)
        result.list.reset(found);
    return result;
}

result<std::vector<stream_name>> resolve_tcp(const stream_address &a, resolve_for why)
{
    const auto port = std::to_string(a.port);
    const bool any = a.name == "*" && why == resolve_for::listening;
    const char *host = any ? "0.0.0.0" : a.name.c_str();
    auto found = look_up(host, port.c_str(), AI_NUMERICHOST); // asks no network and no file
    if (found.code == EAI_NONAME)
        found = look_up(host, port.c_str(), 0);
    if (!found.list)
        return std::unexpected(
            error::numbered(1026, "unknown host " + a.name, ::gai_strerror(found.code)));
    std::vector<stream_name> names;
    for (const auto *each = found.list.get(); each; each = each->ai_next) {
        stream_name name;
        std::memcpy(&name.bytes, each->ai_addr, each->ai_addrlen);
        name.length = each->ai_addrlen;
        names.push_back(name);
    }
    return names;
}

std::string internet_text(int family, const void *address, std::uint16_t port)
{
    std::array<char, INET6_ADDRSTRLEN> text{};
    ::inet_ntop(family, address, text.data(), text.size());
    const std::string host(text.data());
    const auto number = ':' + std::to_string(port);
    return family == AF_INET ? host + number : '[' + host + ']' + number;
}

} // namespace

std::string_view name_of(stream_family f) noexcept
{
    switch (f) {
    case stream_family::ipc:
        return "ipc";
    case stream_family::abstract:
        return "abstract";
    case stream_family::tcp:
        return "tcp";
    }
    return "";
}

std::string url_of(const stream_address &a)
{
    std::string text(name_of(a.family));
    return text.append("://").append(text_of(a), a.family == stream_family::abstract ? 1 : 0);
}

std::string text_of(const stream_address &a)
{
    if (a.family == stream_family::ipc)
        return a.name;
    if (a.family == stream_family::abstract)
        return '@' + encoded(a.name);
    const bool brackets = a.name.find(':') != a.name.npos;
    std::string text(brackets ? "[" : "");
    return text.append(a.name).append(brackets ? "]:" : ":").append(std::to_string(a.port));
}

result<std::vector<stream_name>> resolve(const stream_address &a, resolve_for why)
{
    if (a.family == stream_family::tcp)
        return resolve_tcp(a, why);
    if (a.family == stream_family::ipc) {
        const auto path = path_name(a.name);
        if (!path)
            return std::unexpected(path_error(a.name));
        return std::vector{name_of(*path)};
    }
    const auto name = abstract_name(a.name);
    if (!name || a.name.empty())
        return std::unexpected(error::numbered(2001, "an abstract name has 1 to 107 bytes",
                                               std::to_string(a.name.size()) + " bytes", ""));
    return std::vector{name_of(*name)};
}

std::string text_of(const stream_name &name)
{
    if (name.family() == AF_INET) {
        sockaddr_in in;
        std::memcpy(&in, &name.bytes, sizeof in);
        return internet_text(AF_INET, &in.sin_addr, ntohs(in.sin_port));
    }
    if (name.family() == AF_INET6) {
        sockaddr_in6 in;
        std::memcpy(&in, &name.bytes, sizeof in);
        if (IN6_IS_ADDR_V4MAPPED(&in.sin6_addr)) // an IPv4 peer of a listener for both
            return internet_text(AF_INET, in.sin6_addr.s6_addr + 12, ntohs(in.sin6_port));
        return internet_text(AF_INET6, &in.sin6_addr, ntohs(in.sin6_port));
    }
    sockaddr_un local;
    std::memcpy(&local, &name.bytes, sizeof local);
    const auto head = offsetof(sockaddr_un, sun_path);
    if (name.family() != AF_UNIX || name.length <= head)
        return "";
    const auto bytes = std::min<std::size_t>(name.length - head, sizeof local.sun_path);
    if (local.sun_path[0] == 0)
        return '@' + encoded({local.sun_path + 1, bytes - 1});
    return std::string(local.sun_path, ::strnlen(local.sun_path, bytes));
}

std::uint16_t port_of(const stream_name &name) noexcept
{
    sockaddr_in four;
    sockaddr_in6 six;
    std::memcpy(&four, &name.bytes, sizeof four);
    std::memcpy(&six, &name.bytes, sizeof six);
    return name.family() == AF_INET    ? ntohs(four.sin_port)
           : name.family() == AF_INET6 ? ntohs(six.sin6_port)
                                       : std::uint16_t{0};
}

} // namespace sp::transport
