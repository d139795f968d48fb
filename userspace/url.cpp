// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/url.hpp"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <numeric>
#include <utility>
#include <vector>

namespace sp {
namespace {

std::size_t distance(std::string_view a, std::string_view b)
{
    std::vector<std::size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const auto substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            diagonal = row[j];
            row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
        }
    }
    return row.back();
}

std::string quoted(std::string_view s)
{
    std::string text(1, '"');
    text.append(s).push_back('"');
    return text;
}

std::unexpected<error> bad(std::string what, std::string why = {}, std::string fix = {})
{
    return std::unexpected(error::numbered(2001, std::move(what), std::move(why), std::move(fix)));
}

std::unexpected<error> unknown(std::string_view kind, std::string_view word,
                               std::initializer_list<std::string_view> known)
{
    std::string list;
    for (const auto k : known)
        list.append(list.empty() ? "" : " ").append(k);
    const auto near = nearest(word, known);
    std::string what("unknown ");
    what.append(kind).append(" ").append(quoted(word)).append(" (known: ").append(list).append(")");
    std::string fix(near.empty() ? "use one of: " : "did you mean ");
    fix.append(near.empty() ? list : std::string(near)).append(near.empty() ? "" : "?");
    return bad(std::move(what), "", std::move(fix));
}

result<void> read_key(url &u, std::string_view key, std::string_view value)
{
    if (key == "io") {
        if (value == "auto")
            u.io = io_path::automatic;
        else if (value == "xdp")
            u.io = io_path::xdp;
        else if (value == "kernel")
            u.io = io_path::kernel;
        else
            return unknown("value of io", value, {"auto", "xdp", "kernel"});
        return {};
    }
    if (key == "if") {
        if (value.empty() || value.size() > 15)
            return bad("the name of an interface has 1 to 15 characters",
                       "if=" + std::string(value));
        u.interface = value;
        return {};
    }
    if (key == "encap") {
        if (value != "udp")
            return unknown("value of encap", value, {"udp"});
        u.encapsulated = true;
        return {};
    }
    return unknown("query key", key, {"io", "if", "encap"});
}

result<void> read_query(url &u, std::string_view query)
{
    while (!query.empty()) {
        const auto end = std::min(query.find('&'), query.size());
        const auto pair = query.substr(0, end);
        query.remove_prefix(std::min(end + 1, query.size()));
        const auto equals = std::min(pair.find('='), pair.size());
        if (auto read =
                read_key(u, pair.substr(0, equals), pair.substr(std::min(equals + 1, pair.size())));
            !read)
            return read;
    }
    return {};
}

// HOST:PORT of ip:// and tcp://; `name` is the scheme.
result<url> parse_host(url u, std::string_view name, std::string_view rest, std::string_view text)
{
    const auto form = [&](std::string_view host) {
        std::string fix("write ");
        fix.append(name).append("://").append(host);
        return fix;
    };
    const auto colon = rest.rfind(':');
    const bool bracketed = rest.starts_with('[');
    if (colon == std::string_view::npos || (bracketed && (colon == 0 || rest[colon - 1] != ']')))
        return bad("no port in " + quoted(text), "",
                   form("HOST:PORT, an IPv6 address in brackets"));
    auto host = rest.substr(0, colon);
    const auto port = rest.substr(colon + 1);
    if (bracketed)
        host = host.substr(1, host.size() - 2);
    else if (host.contains(':'))
        return bad("an IPv6 address needs brackets: " + quoted(text), "", form("[ADDRESS]:PORT"));
    if (host.find_first_of("[]") != std::string_view::npos)
        return bad("a bracket inside the host of " + quoted(text), "", form("[ADDRESS]:PORT"));
    if (host.empty())
        return bad("no host in " + quoted(text), "",
                   form("0.0.0.0:PORT to listen on every address"));
    const auto parsed = std::from_chars(port.data(), port.data() + port.size(), u.port);
    if (port.empty() || parsed.ec != std::errc{} || parsed.ptr != port.data() + port.size())
        return bad(quoted(port) + " is not a port", "a port is a number from 0 to 65535",
                   form("HOST:PORT"));
    u.host = host;
    return u;
}

result<url> parse_ip(std::string_view rest, std::string_view text)
{
    url u{.scheme = scheme::ip, .path = {}, .host = {}, .interface = {}};
    if (const auto mark = rest.find('?'); mark != std::string_view::npos) {
        if (auto read = read_query(u, rest.substr(mark + 1)); !read)
            return std::unexpected(read.error());
        rest = rest.substr(0, mark);
    }
    return parse_host(std::move(u), "ip", rest, text);
}

result<url> parse_path(scheme what, std::string_view name, std::string_view rest,
                       std::string_view text)
{
    if (!rest.starts_with('/')) {
        std::string fix("write ");
        fix.append(name).append(":///path");
        return bad(std::string(name) + " needs an absolute path: " + quoted(text), "",
                   std::move(fix));
    }
    return url{.scheme = what, .path = std::string(rest), .host = {}, .interface = {}};
}

// An abstract name is any bytes: %00 and all others that a URL cannot hold are written %XX.
result<url> parse_abstract(std::string_view rest, std::string_view text)
{
    constexpr std::size_t name_max = 107; // what the system has room for
    std::string name;
    while (!rest.empty()) {
        if (rest.front() != '%') {
            name.push_back(rest.front());
            rest.remove_prefix(1);
            continue;
        }
        unsigned byte = 0;
        const auto digits = rest.substr(1, 2);
        const auto end = digits.data() + digits.size();
        if (const auto read = std::from_chars(digits.data(), end, byte, 16);
            digits.size() != 2 || read.ec != std::errc{} || read.ptr != end)
            return bad("a percent sign without two hexadecimal digits in " + quoted(text), "",
                       "write %25 for the sign itself");
        name.push_back(static_cast<char>(byte));
        rest.remove_prefix(3);
    }
    if (name.empty() || name.size() > name_max)
        return bad("an abstract name has 1 to 107 bytes",
                   std::to_string(name.size()) + " in " + quoted(text), "write abstract://name");
    return url{.scheme = scheme::abstract, .path = std::move(name), .host = {}, .interface = {}};
}

} // namespace

std::string_view nearest(std::string_view word, std::initializer_list<std::string_view> candidates)
{
    std::string_view best;
    std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
    for (const auto candidate : candidates)
        if (const auto d = distance(word, candidate); d < best_distance) {
            best = candidate;
            best_distance = d;
        }
    return best;
}

result<url> parse_url(std::string_view text)
{
    constexpr const char *forms = "write ip://HOST:PORT or unixgram:///path";
    if (text.contains('\0')) // the system would stop reading there
        return bad("a URL holds no zero byte", "", forms);
    const auto colon = text.find("://");
    if (colon == std::string_view::npos)
        return bad(quoted(text) + " is not a URL", "", forms);
    const auto name = text.substr(0, colon);
    const auto rest = text.substr(colon + 3);
    if (name == "ip")
        return parse_ip(rest, text);
    if (name == "unix")
        return bad("unknown transport " + quoted(name), "it is another name of NNG for ipc",
                   "write ipc:///path");
    static constexpr std::pair<std::string_view, scheme> plain[] = {{"unixgram", scheme::unixgram},
                                                                    {"ipc", scheme::ipc},
                                                                    {"abstract", scheme::abstract},
                                                                    {"tcp", scheme::tcp}};
    const auto known = std::ranges::find(plain, name, &std::pair<std::string_view, scheme>::first);
    if (known == std::end(plain))
        return unknown("transport", name, {"ip", "unixgram", "ipc", "abstract", "tcp"});
    if (rest.contains('?'))
        return bad(std::string(name) + " takes no query", std::string(text),
                   "leave out everything from the question mark on");
    if (known->second == scheme::tcp)
        return parse_host({.scheme = scheme::tcp, .path = {}, .host = {}, .interface = {}}, name,
                          rest, text);
    if (known->second == scheme::abstract)
        return parse_abstract(rest, text);
    return parse_path(known->second, name, rest, text);
}

} // namespace sp
