// SPDX-License-Identifier: BSD-2-Clause
//
// What the tests of byte streams share: a transport that is polled until something has happened,
// and a fixture with a directory for the paths.
#pragma once

#include "tests/support/local.hpp"
#include "userspace/transport/stream.hpp"

#include <algorithm>
#include <array>
#include <deque>
#include <grp.h>
#include <poll.h>
#include <span>
#include <string_view>
#include <vector>

namespace sp::test {

using transport::stream_address;
using transport::stream_family;
using transport::stream_options;
using kind = stream_event::kind;

// All of one thread: whoever waits for an event polls, and keeps the others for later.
class polled_streams {
public:
    place_id listen(const stream_address &where, const stream_options &o = {})
    {
        return must(t.listen(where, o));
    }
    place_id target(const stream_address &where, const stream_options &o = {})
    {
        return must(t.add_target(where, o));
    }
    std::size_t poll(std::size_t n = 64)
    {
        return t.poll([&](const stream_event &e) { events.push_back(e); }, n, 0);
    }
    // The next event of a kind, of any stream or of this one.
    stream_event next(kind what, stream_id of = {})
    {
        for (;;) {
            const auto found = std::ranges::find_if(events, [&](const stream_event &e) {
                return e.what == what && (of == stream_id{} || e.stream == of);
            });
            if (found != events.end()) {
                const auto e = *found;
                events.erase(found);
                return e;
            }
            poll();
        }
    }
    stream_event outcome(stream_id of) // of connect()
    {
        for (;; poll())
            for (const auto &e : events)
                if (e.stream == of && (e.what == kind::connected || e.what == kind::failed))
                    return e;
    }
    bool saw(kind what) const
    {
        return std::ranges::find(events, what, &stream_event::what) != events.end();
    }

    transfer write(stream_id id, std::string_view text)
    {
        const std::span<const std::byte> part = std::as_bytes(std::span(text));
        return t.write(id, std::span(&part, 1));
    }
    std::string read_some(stream_id id)
    {
        std::array<std::byte, 65536> room;
        const auto got = t.read(id, room);
        return {reinterpret_cast<const char *>(room.data()), got.bytes};
    }
    std::string read(stream_id id, std::size_t bytes)
    {
        std::string all;
        while (all.size() < bytes)
            all += read_some(id);
        return all;
    }
    // Would a driver that sleeps be woken now?
    bool wakes() const
    {
        pollfd p{.fd = t.wake_fd(), .events = POLLIN, .revents = 0};
        return ::poll(&p, 1, 0) > 0;
    }

    transport::stream t;
    std::deque<stream_event> events;
};

class with_streams : public ::testing::Test {
protected:
    std::string path(const std::string &name = "socket") { return directory_.file(name); }
    const scratch_directory &directory() { return directory_; }
    stream_address ipc(const std::string &name = "socket")
    {
        return {.family = stream_family::ipc, .name = path(name)};
    }
    // Of this test and process alone, with a zero byte in it.
    stream_address abstract_address()
    {
        using namespace std::string_literals;
        return {.family = stream_family::abstract, .name = path("abstract") + "\0x"s};
    }
    static stream_address tcp(std::uint16_t port = 0, const std::string &host = "127.0.0.1")
    {
        return {.family = stream_family::tcp, .name = host, .port = port};
    }
    // The port of a listener's URL.
    std::uint16_t port_of(place_id listener)
    {
        const auto url = s.t.url(listener);
        return static_cast<std::uint16_t>(std::stoi(url.substr(url.rfind(':') + 1)));
    }

    struct joined {
        place_id listener, target;
        stream_id here, there; // dialed, accepted
    };
    joined join(const stream_address &where, const stream_options &o = {})
    {
        const auto listener = s.listen(where, o);
        auto to = where;
        if (where.family == stream_family::tcp)
            to.port = port_of(listener);
        const auto target = s.target(to, o);
        return join(listener, target);
    }
    joined join(place_id listener, place_id target)
    {
        const auto here = s.t.connect(target);
        const auto there = s.next(kind::accepted).stream;
        (void)s.next(kind::connected, here);
        return {listener, target, here, there};
    }

    polled_streams s;

private:
    watchdog watchdog_;
    scratch_directory directory_;
};

// Runs `body` as nobody, in a child; its result is the exit status.
inline int as_nobody(const std::function<int()> &body, std::vector<gid_t> groups = {})
{
    child c([&](child::door) {
        if (::setgroups(groups.size(), groups.data()) != 0 ||
            ::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0)
            return 100;
        return body();
    });
    return c.wait_end();
}

} // namespace sp::test
