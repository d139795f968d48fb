// SPDX-License-Identifier: BSD-2-Clause
//
// URLs: what is understood, and what is said about the rest.
#include "userspace/url.hpp"

#include <gtest/gtest.h>
#include <random>
#include <string>
#include <tuple>
#include <utility>

namespace {

using sp::errc;
using sp::io_path;
using sp::parse_url;
using sp::scheme;

struct understood {
    const char *text;
    const char *host;
    std::uint16_t port;
    io_path io;
    const char *interface;
};

TEST(ip_url, is_read_with_host_port_and_keys)
{
    const understood cases[] = {
        {"ip://198.18.0.2:7000", "198.18.0.2", 7000, io_path::automatic, ""},
        {"ip://198.18.0.2:0", "198.18.0.2", 0, io_path::automatic, ""},
        {"ip://host.example:65535", "host.example", 65535, io_path::automatic, ""},
        {"ip://0.0.0.0:1", "0.0.0.0", 1, io_path::automatic, ""},
        {"ip://[fd00::2]:7000", "fd00::2", 7000, io_path::automatic, ""},
        {"ip://[::]:7000", "::", 7000, io_path::automatic, ""},
        {"ip://[fe80::1%eth0]:7000", "fe80::1%eth0", 7000, io_path::automatic, ""},
        {"ip://a:1?io=auto", "a", 1, io_path::automatic, ""},
        {"ip://a:1?io=xdp", "a", 1, io_path::xdp, ""},
        {"ip://a:1?io=kernel", "a", 1, io_path::kernel, ""},
        {"ip://a:1?if=eth0", "a", 1, io_path::automatic, "eth0"},
        {"ip://a:1?io=xdp&if=enp0s31f6np0.1", "a", 1, io_path::xdp, "enp0s31f6np0.1"},
        {"ip://a:1?if=eth0&io=kernel", "a", 1, io_path::kernel, "eth0"},
        {"ip://a:1?", "a", 1, io_path::automatic, ""},
    };
    for (const auto &c : cases) {
        const auto u = parse_url(c.text);
        ASSERT_TRUE(u) << c.text << ": " << u.error().what();
        EXPECT_EQ(u->scheme, scheme::ip) << c.text;
        EXPECT_EQ(u->host, c.host) << c.text;
        EXPECT_EQ(u->port, c.port) << c.text;
        EXPECT_EQ(u->io, c.io) << c.text;
        EXPECT_EQ(u->interface, c.interface) << c.text;
        EXPECT_FALSE(u->encapsulated) << c.text;
    }
}

TEST(ip_url, asks_for_encapsulation_in_any_place)
{
    for (const char *keys :
         {"encap=udp", "io=kernel&encap=udp", "encap=udp&io=kernel", "encap=udp&encap=udp"}) {
        const auto u = parse_url(std::string("ip://[fd00::2]:7000?") + keys);
        ASSERT_TRUE(u) << keys;
        EXPECT_TRUE(u->encapsulated) << keys;
        EXPECT_EQ(u->host, "fd00::2");
        EXPECT_EQ(u->port, 7000);
    }
}

TEST(path_url, is_an_absolute_path)
{
    for (const auto &[name, kind] :
         {std::pair{"unixgram://", scheme::unixgram}, std::pair{"ipc://", scheme::ipc}})
        for (const char *path :
             {"/run/sp/thermostat", "/a b", "/", "/with:colon", "/x/../y", "/100%"}) {
            const auto u = parse_url(std::string(name) + path);
            ASSERT_TRUE(u) << path;
            EXPECT_EQ(u->scheme, kind);
            EXPECT_EQ(u->path, path);
        }
}

TEST(abstract_url, is_a_name_whose_bytes_may_be_written_in_hexadecimal)
{
    using namespace std::string_literals;
    const std::pair<std::string, std::string> cases[] = {
        {"name", "name"},   {"sp/thermostat:1", "sp/thermostat:1"},
        {"%00", "\0"s},     {"a%00b%ff%FF", "a\0b\xff\xff"s},
        {"100%25", "100%"}, {"%3Fquery", "?query"},
        {"%20", " "},       {std::string(107, 'x'), std::string(107, 'x')},
    };
    for (const auto &[text, name] : cases) {
        const auto u = parse_url("abstract://" + text);
        ASSERT_TRUE(u) << text << ": " << u.error().what();
        EXPECT_EQ(u->scheme, scheme::abstract) << text;
        EXPECT_EQ(u->path, name) << text;
    }
    for (const auto &text : {""s, std::string(108, 'x'), "%"s, "a%"s, "%1"s, "%g0"s, "%+1"s, "%-1"s,
                             "% 1"s, "%0x"s, "name?io=xdp"s}) {
        const auto u = parse_url("abstract://" + text);
        ASSERT_FALSE(u) << text;
        EXPECT_EQ(u.error().number(), 2001) << text;
        EXPECT_FALSE(u.error().fix().empty()) << text;
    }
}

TEST(tcp_url, is_a_host_and_a_port)
{
    const std::tuple<const char *, const char *, std::uint16_t> cases[] = {
        {"tcp://127.0.0.1:0", "127.0.0.1", 0},
        {"tcp://*:5555", "*", 5555},
        {"tcp://[::1]:80", "::1", 80},
        {"tcp://[fe80::1%eth0]:80", "fe80::1%eth0", 80},
        {"tcp://host.example:65535", "host.example", 65535},
    };
    for (const auto &[text, host, port] : cases) {
        const auto u = parse_url(text);
        ASSERT_TRUE(u) << text << ": " << u.error().what();
        EXPECT_EQ(u->scheme, scheme::tcp) << text;
        EXPECT_EQ(u->host, host) << text;
        EXPECT_EQ(u->port, port) << text;
    }
}

struct refused {
    const char *text;
    int number;
    const char *what; // a part of it
    const char *fix;  // a part of it
};

TEST(url, is_refused_with_a_cause_and_a_cure)
{
    const refused cases[] = {
        {"", 2001, "\"\" is not a URL", "ip://HOST:PORT"},
        {"198.18.0.2:7000", 2001, "is not a URL", "ip://HOST:PORT"},
        {"unix:///tmp/a", 2001, "unknown transport \"unix\"", "ipc:///path"},
        {"inproc://a", 2001, "unknown transport \"inproc\"", "use one of: ip unixgram"},
        {"unixgrm:///tmp/a", 2001, "unknown transport \"unixgrm\"", "did you mean unixgram?"},
        {"IP://a:1", 2001, "unknown transport \"IP\"", ""},
        {"://a:1", 2001, "unknown transport \"\"", ""},
        {"ipc://relative", 2001, "absolute path", "ipc:///path"},
        {"ipc://", 2001, "absolute path", "ipc:///path"},
        {"ipc:///a?io=xdp", 2001, "takes no query", "question mark"},
        {"abstract://", 2001, "1 to 107 bytes", "abstract://name"},
        {"abstract://%zz", 2001, "percent sign", "%25"},
        {"tcp://a", 2001, "no port", "tcp://HOST:PORT"},
        {"tcp://:80", 2001, "no host", "tcp://0.0.0.0"},
        {"tcp://::1:80", 2001, "needs brackets", "tcp://[ADDRESS]:PORT"},
        {"tcp://a:80?io=kernel", 2001, "takes no query", "question mark"},
        {"tcp://a:http", 2001, "is not a port", "tcp://HOST:PORT"},
        {"unixgram://relative", 2001, "absolute path", "unixgram:///path"},
        {"unixgram://", 2001, "absolute path", "unixgram:///path"},
        {"unixgram:///a?io=xdp", 2001, "takes no query", "question mark"},
        {"ip://", 2001, "no port", "ip://HOST:PORT"},
        {"ip://host", 2001, "no port", "ip://HOST:PORT"},
        {"ip://[fd00::2]", 2001, "no port", "brackets"},
        {"ip://[fd00::2:7000", 2001, "no port", "brackets"},
        {"ip://fd00::2:7000", 2001, "needs brackets", "ip://[ADDRESS]:PORT"},
        {"ip://:7000", 2001, "no host", "0.0.0.0"},
        {"ip://[]:7000", 2001, "no host", "0.0.0.0"},
        {"ip://[[fd00::2]:7000", 2001, "a bracket inside the host", "ip://[ADDRESS]:PORT"},
        {"tcp://a]b:80", 2001, "a bracket inside the host", "tcp://[ADDRESS]:PORT"},
        {"ip://a:", 2001, "is not a port", "ip://HOST:PORT"},
        {"ip://a:x", 2001, "\"x\" is not a port", "ip://HOST:PORT"},
        {"ip://a:-1", 2001, "is not a port", "ip://HOST:PORT"},
        {"ip://a:+1", 2001, "is not a port", "ip://HOST:PORT"},
        {"ip://a:65536", 2001, "is not a port", "ip://HOST:PORT"},
        {"ip://a:1 ", 2001, "is not a port", "ip://HOST:PORT"},
        {"ip://a:1/path", 2001, "is not a port", "ip://HOST:PORT"},
        {"ip://a:1?oi=xdp", 2001, "unknown query key \"oi\"", "did you mean io?"},
        {"ip://a:1?interface=eth0", 2001, "unknown query key \"interface\"", ""},
        {"ip://a:1?io=xpd", 2001, "unknown value of io \"xpd\"", "did you mean xdp?"},
        {"ip://a:1?io", 2001, "unknown value of io \"\"", ""},
        {"ip://a:1?io=", 2001, "unknown value of io \"\"", ""},
        {"ip://a:1?=xdp", 2001, "unknown query key \"\"", ""},
        {"ip://a:1?if=", 2001, "1 to 15 characters", ""},
        {"ip://a:1?if=sixteen-letters!", 2001, "1 to 15 characters", ""},
        {"ip://a:1?encap=tcp", 2001, "unknown value of encap \"tcp\"", "udp"},
        {"ip://a:1?encap", 2001, "unknown value of encap \"\"", "udp"},
        {"ip://a:1?encap=", 2001, "unknown value of encap \"\"", "udp"},
    };
    for (const auto &c : cases) {
        const auto u = parse_url(c.text);
        ASSERT_FALSE(u) << c.text;
        EXPECT_EQ(u.error().number(), c.number) << c.text;
        EXPECT_EQ(u.error().code(), c.number == 2001 ? errc::invalid_address : errc::not_supported)
            << c.text;
        EXPECT_TRUE(u.error().what().contains(c.what)) << c.text << " gives " << u.error().what();
        EXPECT_TRUE(u.error().fix().contains(c.fix)) << c.text << " gives " << u.error().fix();
        EXPECT_FALSE(u.error().fix().empty()) << c.text;
    }
}

TEST(url, keeps_a_zero_byte_out_of_paths_and_names)
{
    using namespace std::string_literals;
    for (const auto &text : {"unixgram:///run/a\0b"s, "ip://a\0b:1"s, "ip://a:1?if=e\0"s,
                             "ipc:///run/a\0b"s, "abstract://a\0b"s, "tcp://a\0b:1"s}) {
        const auto u = parse_url(text);
        ASSERT_FALSE(u) << text;
        EXPECT_EQ(u.error().number(), 2001) << text;
    }
}

TEST(url, is_understood_or_refused_whatever_it_is)
{
    const auto seed = std::random_device()();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const std::string pieces[] = {"ip://", "unixgram://", "ipc://", "/",           ":",    "[",
                                  "]",     "?",           "&",      "=",           "io",   "xdp",
                                  "if",    "a",           "::",     "80",          "9999", "\xff",
                                  "",      "encap",       "tcp://", "abstract://", "%",    "00"};
    std::size_t good = 0;
    for (int round = 0; round < 20000; ++round) {
        std::string text = round % 2 ? "ip://" : "";
        for (auto n = random() % 9; n > 0; --n)
            text += pieces[random() % std::size(pieces)];
        const auto u = parse_url(text);
        if (!u) {
            EXPECT_FALSE(u.error().what().empty()) << text;
            continue;
        }
        ++good;
        if (u->scheme == scheme::ip || u->scheme == scheme::tcp)
            EXPECT_FALSE(u->host.empty()) << text;
        else if (u->scheme == scheme::abstract)
            EXPECT_FALSE(u->path.empty()) << text;
        else
            EXPECT_TRUE(u->path.starts_with('/')) << text;
    }
    EXPECT_GT(good, 0u); // else the pieces are badly chosen
}

TEST(nearest_word, is_the_one_with_the_fewest_changes_or_none)
{
    EXPECT_EQ(sp::nearest("unxgram", {"ip", "unixgram"}), "unixgram");
    EXPECT_EQ(sp::nearest("ipp", {"ip", "ipc"}), "ip");
    EXPECT_EQ(sp::nearest("completely-else", {"ip", "unixgram"}), "");
    EXPECT_EQ(sp::nearest("x", {}), "");
}

} // namespace
