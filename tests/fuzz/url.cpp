// SPDX-License-Identifier: BSD-2-Clause
//
// URLs of endpoints. Whatever the text, parse_url() either gives a value whose parts are in their
// ranges and which, written down again, is read as the same value, or an error that says what to
// do.
#include "userspace/url.hpp"

#include "tests/fuzz/target.hpp"

#include <string>

namespace sp::fuzz {
namespace {

mark ip_with_keys{"ip:// with a key"}, bracketed{"an address in brackets"}, path{"a path"},
    escaped{"an escaped abstract name"}, suggestion{"a suggestion"}, tcp{"tcp://"};

std::string host_and_port(const url &u)
{
    const auto host = u.host.contains(':') ? '[' + u.host + ']' : u.host;
    return host + ':' + std::to_string(u.port);
}

std::string escape(std::string_view name)
{
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (const auto c : name) {
        const auto byte = static_cast<unsigned char>(c);
        text += {'%', digits[byte >> 4], digits[byte & 15]};
    }
    return text;
}

std::string write(const url &u)
{
    switch (u.scheme) {
    case scheme::unixgram:
        return "unixgram://" + u.path;
    case scheme::ipc:
        return "ipc://" + u.path;
    case scheme::abstract:
        return "abstract://" + escape(u.path);
    case scheme::tcp:
        return "tcp://" + host_and_port(u);
    case scheme::ip:
        break;
    }
    const char *io = u.io == io_path::xdp ? "xdp" : u.io == io_path::kernel ? "kernel" : "auto";
    auto text = "ip://" + host_and_port(u) + "?io=" + io;
    if (!u.interface.empty())
        text += "&if=" + u.interface;
    return text;
}

bool same(const url &a, const url &b)
{
    return a.scheme == b.scheme && a.path == b.path && a.host == b.host && a.port == b.port &&
           a.io == b.io && a.interface == b.interface;
}

void note(const url &u, std::string_view text)
{
    if (u.scheme == scheme::ip && (u.io != io_path::automatic || !u.interface.empty()))
        ip_with_keys();
    if (text.contains("//[") && !u.host.empty())
        bracketed();
    if (u.scheme == scheme::unixgram || u.scheme == scheme::ipc)
        path();
    if (u.scheme == scheme::abstract && text.contains('%'))
        escaped();
    if (u.scheme == scheme::tcp)
        tcp();
}

void run(bytes input)
{
    const auto copy = exact(input);
    const std::string_view text(reinterpret_cast<const char *>(copy.data()), copy.size());
    const auto read = parse_url(text);
    if (!read) {
        must(!read.error().what().empty(), "an error says what is wrong");
        must(!read.error().fix().empty(), "an error says what to do");
        if (read.error().fix().contains("did you mean"))
            suggestion();
        return;
    }
    note(*read, text);
    const bool of_host = read->scheme == scheme::ip || read->scheme == scheme::tcp;
    must(of_host == read->path.empty(), "a URL has a host or a path, never both or none");
    must(of_host != read->host.empty(), "a URL has a host or a path, never both or none");
    must(read->interface.size() <= 15, "the name of an interface fits the system");
    must(!text.contains('\0'), "no byte is lost on the system's side");
    if (read->scheme == scheme::unixgram || read->scheme == scheme::ipc)
        must(read->path.front() == '/', "a path is absolute");
    if (read->scheme == scheme::abstract)
        must(read->path.size() <= 107, "an abstract name fits the system");
    const auto again = parse_url(write(*read));
    must(again && same(*again, *read), "a URL written down again is the same URL");
}

const registration here("url", run,
                        {&ip_with_keys, &bracketed, &path, &escaped, &suggestion, &tcp});

} // namespace
} // namespace sp::fuzz
