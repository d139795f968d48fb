// SPDX-License-Identifier: BSD-2-Clause
//
// Byte streams over real sockets: what is connected, what is carried, what is told, and that
// nothing is told without end.
#include "tests/support/streams.hpp"
#include "userspace/engine/stream_transport.hpp"
#include "userspace/transport/netns.hpp"

#include <fcntl.h>
#include <fstream>
#include <map>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <random>
#include <sched.h>
#include <set>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

namespace {

using namespace sp::test;
using sp::errc;
using sp::interest;
using sp::place_id;
using sp::stream_event;
using sp::stream_id;
using sp::transfer;
using sp::transport::descriptor;

static_assert(sp::core::stream_transport<sp::transport::stream>);

class streams : public with_streams {
protected:
    std::vector<stream_address> everywhere()
    {
        return {ipc(), abstract_address(), tcp(), tcp(0, "::1")};
    }
    // Fills the peer's buffer; how much went in.
    std::size_t fill(stream_id id)
    {
        const std::string piece(10'000, 'x');
        std::size_t all = 0;
        for (;;) {
            const auto put = s.write(id, piece);
            if (put.what != transfer::outcome::moved)
                return all;
            all += put.bytes;
        }
    }
};

TEST_F(streams, cost_nothing_before_the_first_place)
{
    EXPECT_EQ(s.t.wake_fd(), -1);
    EXPECT_EQ(s.poll(), 0u);
    (void)s.target(ipc());
    EXPECT_GE(s.t.wake_fd(), 0);
    EXPECT_FALSE(s.wakes());
}

TEST_F(streams, carry_bytes_both_ways)
{
    for (const auto &where : everywhere()) {
        SCOPED_TRACE(sp::transport::url_of(where));
        const auto j = join(where);
        EXPECT_EQ(s.write(j.here, "question").bytes, 8u);
        EXPECT_EQ(s.next(kind::readable, j.there).stream, j.there);
        EXPECT_EQ(s.read(j.there, 8), "question");
        EXPECT_EQ(s.write(j.there, "answer").bytes, 6u);
        (void)s.next(kind::readable, j.here);
        EXPECT_EQ(s.read(j.here, 6), "answer");
        EXPECT_EQ(s.t.name(j.here), sp::transport::name_of(where.family));
        EXPECT_EQ(s.t.name(j.there), sp::transport::name_of(where.family));
        EXPECT_EQ(s.t.typed_frames(j.there), where.family != stream_family::tcp);
        s.t.close(j.here);
        s.t.close(j.there);
    }
}

TEST_F(streams, write_many_parts_as_one)
{
    const auto j = join(ipc());
    std::vector<std::string> texts;
    std::vector<std::span<const std::byte>> parts;
    std::string all;
    for (int i = 0; i < 20; ++i)
        all += texts.emplace_back(static_cast<std::size_t>(i), static_cast<char>('a' + i));
    for (const auto &text : texts)
        parts.push_back(std::as_bytes(std::span(text)));
    EXPECT_EQ(s.t.write(j.here, parts).bytes, all.size());
    EXPECT_EQ(s.read(j.there, all.size()), all);
    // More parts than the system takes at once are a short count, never a failure.
    const std::vector<std::span<const std::byte>> many(5000, parts[1]);
    const auto put = s.t.write(j.here, many);
    EXPECT_EQ(put.what, transfer::outcome::moved);
    EXPECT_GT(put.bytes, 0u);
    EXPECT_LT(put.bytes, many.size());
}

TEST_F(streams, show_the_port_that_the_system_chose)
{
    const auto listener = s.listen(tcp());
    EXPECT_NE(port_of(listener), 0);
    EXPECT_TRUE(s.t.url(listener).starts_with("tcp://127.0.0.1:"));
    EXPECT_TRUE(s.t.url(s.listen(tcp(0, "::1"))).starts_with("tcp://[::1]:"));
    EXPECT_TRUE(s.t.url(s.listen(tcp(0, "*"))).starts_with("tcp://*:"));
    EXPECT_EQ(s.t.url(s.target(ipc())), "ipc://" + path());
    using namespace std::string_literals;
    const auto odd = s.target({.family = stream_family::abstract, .name = "a b\0%"s});
    EXPECT_EQ(s.t.url(odd), "abstract://a%20b%00%25");
}

TEST_F(streams, say_who_is_at_the_other_end)
{
    for (const auto &where : {ipc(), abstract_address()}) {
        const auto j = join(where);
        for (const auto id : {j.here, j.there}) {
            const auto &who = s.t.peer(id);
            EXPECT_TRUE(who.local);
            EXPECT_EQ(who.uid, ::geteuid());
            EXPECT_EQ(who.gid, ::getegid());
            EXPECT_EQ(who.pid, ::getpid());
            EXPECT_EQ(who.text, sp::transport::text_of(where));
        }
    }
    const auto j = join(tcp());
    EXPECT_FALSE(s.t.peer(j.here).local);
    EXPECT_EQ("tcp://" + s.t.peer(j.here).text, s.t.url(j.listener));
    EXPECT_TRUE(s.t.peer(j.there).text.starts_with("127.0.0.1:"));
    EXPECT_NE(s.t.peer(j.there).text, s.t.peer(j.here).text);
    // An IPv4 peer of a listener for both is shown as one.
    const auto both = s.listen(tcp(0, "::"));
    const auto k = join(both, s.target(tcp(port_of(both))));
    EXPECT_TRUE(s.t.peer(k.there).text.starts_with("127.0.0.1:"));
}

TEST_F(streams, push_back_when_the_peer_does_not_read_and_lose_nothing)
{
    const auto seed = std::random_device()();
    SCOPED_TRACE("seed " + std::to_string(seed));
    for (const auto &where : {ipc(), tcp()}) {
        std::mt19937 random(seed);
        std::string all(3 << 20, ' ');
        std::ranges::generate(all, [&] { return static_cast<char>(random()); });
        const auto j = join(where, {.allow_uid = {}, .allow_gid = {}, .stream_send_bytes = 32768});
        std::size_t put = 0;
        std::string got;
        bool short_count = false;
        while (got.size() < all.size()) {
            const auto rest = std::string_view(all).substr(put);
            if (!rest.empty()) {
                const auto w = s.write(j.here, rest);
                short_count |= w.bytes < rest.size();
                put += w.bytes;
                if (w.what == transfer::outcome::would_block) {
                    s.t.watch(j.here, interest::both);
                    got += s.read_some(j.there);
                    (void)s.next(kind::writable, j.here);
                    s.t.watch(j.here, interest::read);
                    s.events.clear();
                }
            }
            got += s.read_some(j.there);
        }
        EXPECT_TRUE(short_count);
        EXPECT_TRUE(got == all);
    }
}

TEST_F(streams, hoard_less_with_a_small_send_buffer)
{
    const auto small =
        join(ipc("small"), {.allow_uid = {}, .allow_gid = {}, .stream_send_bytes = 4096});
    const auto usual = join(ipc("usual"));
    const auto little = fill(small.here);
    const auto much = fill(usual.here);
    EXPECT_GT(little, 0u);
    EXPECT_LT(little * 4, much);
}

// ---- ends ----

TEST_F(streams, tell_the_end_after_what_was_written_before_it)
{
    for (const auto &where : everywhere()) {
        const auto j = join(where);
        EXPECT_EQ(s.write(j.here, "last words").bytes, 10u);
        s.t.close(j.here);
        EXPECT_EQ(s.read(j.there, 10), "last words");
        (void)s.next(kind::readable, j.there);
        std::array<std::byte, 10> room;
        until([&] { return s.t.read(j.there, room).what != transfer::outcome::would_block; });
        EXPECT_EQ(s.t.read(j.there, room).what, transfer::outcome::ended);
        while (s.poll() > 0) {
        }
        EXPECT_FALSE(s.wakes()) << "who reads no more must not be woken for ever";
    }
}

TEST_F(streams, do_not_wake_for_ever_when_the_peer_went_and_nobody_reads)
{
    for (const auto &where : {ipc(), abstract_address(), tcp()}) {
        const auto j = join(where);
        s.t.watch(j.there, interest::none);
        (void)s.write(j.here, "unread");
        s.t.close(j.here);
        until([&] { return s.poll() == 0 && !s.wakes(); });
        EXPECT_FALSE(s.saw(kind::readable));
        for (int i = 0; i < 100; ++i) {
            EXPECT_EQ(s.poll(), 0u);
            EXPECT_FALSE(s.wakes());
        }
        s.t.watch(j.there, interest::read);
        (void)s.next(kind::readable, j.there);
        EXPECT_EQ(s.read(j.there, 6), "unread");
        std::array<std::byte, 10> room;
        until([&] { return s.t.read(j.there, room).what == transfer::outcome::ended; });
    }
}

TEST_F(streams, fail_a_write_to_a_peer_that_went_without_a_signal)
{
    for (const auto &where : everywhere()) {
        const auto j = join(where);
        s.t.close(j.there);
        transfer put;
        until([&] { return (put = s.write(j.here, "x")).what == transfer::outcome::failed; });
        EXPECT_EQ(put.why, errc::connection_reset);
    }
}

TEST_F(streams, tell_a_writer_that_the_peer_went)
{
    const auto j = join(ipc());
    (void)fill(j.here);
    s.t.watch(j.there, interest::none);
    s.t.watch(j.here, interest::write);
    while (s.poll() > 0) {
    }
    s.events.clear();
    s.t.close(j.there);
    (void)s.next(kind::writable, j.here);
    EXPECT_EQ(s.write(j.here, "x").what, transfer::outcome::failed);
}

TEST_F(streams, know_a_closed_one_no_more)
{
    const auto j = join(ipc());
    s.t.close(j.here);
    s.t.close(j.here);
    std::array<std::byte, 1> room;
    EXPECT_EQ(s.t.read(j.here, room).what, transfer::outcome::ended);
    EXPECT_EQ(s.write(j.here, "x").what, transfer::outcome::failed);
    EXPECT_EQ(s.t.name(j.here), "");
    EXPECT_EQ(s.t.peer(j.here).text, "");
    s.t.watch(j.here, interest::both);
    std::set<stream_id> names{j.here, j.there};
    for (int i = 0; i < 300; ++i) {
        const auto next = join(j.listener, j.target);
        EXPECT_TRUE(names.insert(next.here).second && names.insert(next.there).second) << i;
        s.t.close(next.here);
        s.t.close(next.there);
    }
    EXPECT_EQ(s.t.streams(), 1u);
}

TEST_F(streams, outlive_the_place_they_came_from)
{
    const auto j = join(ipc());
    s.t.close_place(j.listener);
    s.t.close_place(j.target);
    EXPECT_EQ(s.t.url(j.listener), "");
    EXPECT_EQ(s.write(j.here, "still here").bytes, 10u);
    EXPECT_EQ(s.read(j.there, 10), "still here");
}

// ---- events ----

TEST_F(streams, may_be_closed_while_events_about_them_are_handed_out)
{
    const auto a = join(ipc("a")), b = join(ipc("b"));
    (void)s.write(a.here, "x");
    (void)s.write(b.here, "x");
    std::vector<stream_id> told;
    const auto close_both = [&](const stream_event &e) {
        told.push_back(e.stream);
        s.t.close(a.there);
        s.t.close(b.there);
    };
    EXPECT_EQ(s.t.poll(close_both, 64, 0), 1u);
    EXPECT_EQ(told.size(), 1u);
    EXPECT_EQ(s.t.poll(close_both, 64, 0), 2u); // the other ends, which see theirs
}

TEST_F(streams, all_have_their_turn_when_little_is_asked_for_and_many_knock)
{
    const auto listener = s.listen(ipc());
    const auto target = s.target(ipc());
    std::vector<joined> all;
    for (int i = 0; i < 20; ++i)
        all.push_back(join(listener, target));
    for (const auto &j : all)
        (void)s.write(j.here, "never read");
    for (int i = 0; i < 100; ++i) // within the backlog
        (void)s.t.connect(target);
    s.events.clear();
    std::map<stream_id, int> told;
    for (int turn = 0; turn < 400; ++turn) {
        EXPECT_LE(s.poll(4), 4u);
        for (const auto &e : s.events)
            ++told[e.stream];
        s.events.clear();
    }
    for (const auto &j : all)
        EXPECT_GT(told[j.there], 5) << "starved";
}

// ---- connecting ----

TEST_F(streams, say_why_a_connection_failed_and_wake_who_sleeps)
{
    descriptor stale(::socket(AF_UNIX, SOCK_STREAM, 0)), packets(::socket(AF_UNIX, SOCK_DGRAM, 0));
    for (const auto &[fd, name] : {std::pair{stale.get(), "stale"}, {packets.get(), "packets"}}) {
        const auto n = sp::transport::path_name(path(name));
        ASSERT_EQ(::bind(fd, n->get(), n->length), 0);
    }
    stale.reset();
    const auto listener = s.listen(tcp());
    const auto port = port_of(listener);
    s.t.close_place(listener);
    const std::tuple<stream_address, errc, const char *> cases[] = {
        {ipc("missing"), errc::connection_refused, "No such file"},
        {ipc("missing/socket"), errc::connection_refused, "No such file"},
        {ipc("stale"), errc::connection_refused, "refused"},
        {ipc("stale/socket"), errc::connection_refused, "Not a directory"},
        {ipc("packets"), errc::protocol_error, "wrong type"},
        {abstract_address(), errc::connection_refused, "refused"},
        {tcp(port), errc::connection_refused, "refused"},
        {tcp(port, "255.255.255.255"), errc::unreachable, "unreachable"},
    };
    for (const auto &[where, why, words] : cases) {
        SCOPED_TRACE(sp::transport::url_of(where));
        const auto target = s.target(where);
        EXPECT_EQ(s.t.last_failure(target), "");
        const auto id = s.t.connect(target);
        until([&] { return s.wakes(); });
        const auto told = s.outcome(id);
        EXPECT_EQ(told.what, kind::failed);
        EXPECT_EQ(told.why, why);
        EXPECT_EQ(told.place, target);
        EXPECT_TRUE(s.t.last_failure(target).contains(words)) << s.t.last_failure(target);
        EXPECT_TRUE(s.t.last_failure(target).starts_with(sp::transport::text_of(where)));
        EXPECT_EQ(s.poll(), 0u);
        EXPECT_FALSE(s.wakes());
    }
    EXPECT_EQ(s.t.streams(), 0u);
}

TEST_F(streams, look_a_host_up_at_every_attempt)
{
    const auto unknown = s.target(tcp(80, std::string(64, 'x'))); // no host may be called so
    EXPECT_EQ(s.outcome(s.t.connect(unknown)).what, kind::failed);
    EXPECT_FALSE(s.t.last_failure(unknown).empty());
    // The name has an IPv6 address too, where nobody listens.
    const auto listener = s.listen(tcp());
    const auto target = s.target(tcp(port_of(listener), "localhost"));
    for (int i = 0; i < 3; ++i) {
        const auto id = s.t.connect(target);
        EXPECT_EQ(s.outcome(id).what, kind::connected) << s.t.last_failure(target);
        EXPECT_TRUE(s.t.peer(id).text.starts_with("127.0.0.1:"));
    }
}

TEST_F(streams, tell_nothing_of_a_failure_to_who_has_closed_already)
{
    const auto target = s.target(ipc("missing"));
    const auto given_up = s.t.connect(target);
    const auto waited_for = s.t.connect(target);
    s.t.close(given_up);
    EXPECT_EQ(s.outcome(waited_for).what, kind::failed);
    while (s.poll() > 0) {
    }
    for (const auto &e : s.events)
        EXPECT_NE(e.stream, given_up);
}

TEST_F(streams, tell_many_failures_a_few_at_a_time)
{
    const auto target = s.target(ipc("missing"));
    std::set<stream_id> left;
    for (int i = 0; i < 500; ++i)
        left.insert(s.t.connect(target));
    while (!left.empty()) {
        EXPECT_LE(s.poll(10), 10u);
        for (const auto &e : s.events)
            EXPECT_EQ(left.erase(e.stream), 1u);
        s.events.clear();
    }
    EXPECT_EQ(s.t.streams(), 0u);
}

TEST_F(streams, are_refused_when_too_many_wait_already)
{
    const descriptor crowded(::socket(AF_UNIX, SOCK_STREAM, 0));
    const auto name = sp::transport::path_name(path());
    ASSERT_EQ(::bind(crowded.get(), name->get(), name->length), 0);
    ASSERT_EQ(::listen(crowded.get(), 0), 0);
    const auto target = s.target(ipc());
    EXPECT_EQ(s.outcome(s.t.connect(target)).what, kind::connected);
    const auto told = s.outcome(s.t.connect(target));
    EXPECT_EQ(told.what, kind::failed);
    EXPECT_EQ(told.why, errc::connection_refused);
}

TEST_F(streams, of_tcp_send_at_once_and_notice_a_host_that_vanished)
{
    (void)join(tcp());
    const auto option = [](int fd, int level, int which) {
        int value = -1;
        socklen_t length = sizeof value;
        return ::getsockopt(fd, level, which, &value, &length) == 0 ? value : -1;
    };
    int seen = 0;
    for (int fd = 3; fd < 200; ++fd) {
        sockaddr_storage other;
        socklen_t length = sizeof other;
        if (::getpeername(fd, reinterpret_cast<sockaddr *>(&other), &length) != 0 ||
            other.ss_family != AF_INET)
            continue;
        ++seen;
        EXPECT_NE(option(fd, IPPROTO_TCP, TCP_NODELAY), 0);
        EXPECT_NE(option(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
        EXPECT_EQ(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 10'000);
        EXPECT_EQ(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 5);
        EXPECT_EQ(::fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        EXPECT_EQ(::fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    }
    EXPECT_EQ(seen, 2);
}

// ---- network namespaces; in a child, since a thread that left its own is of no use to others

bool in_a_network_of_its_own()
{
    if (::unshare(CLONE_NEWNET) != 0)
        return false;
    const descriptor any(::socket(AF_INET, SOCK_DGRAM, 0));
    ifreq loopback{};
    std::string_view("lo").copy(loopback.ifr_name, sizeof loopback.ifr_name);
    loopback.ifr_flags = IFF_UP;
    return ::ioctl(any.get(), SIOCSIFFLAGS, &loopback) == 0;
}

constexpr int no_namespace = 77;

TEST_F(streams, never_meet_themselves)
{
    child c([&](child::door) {
        if (!in_a_network_of_its_own())
            return no_namespace;
        std::ofstream("/proc/sys/net/ipv4/ip_local_port_range") << "40000 40001" << std::flush;
        const auto target = s.target(tcp(40000));
        for (int i = 0; i < 20; ++i)
            if (const auto told = s.outcome(s.t.connect(target));
                told.what != kind::failed || told.why != errc::connection_refused)
                return 1;
        return 0;
    });
    const int status = c.wait_end();
    if (status == no_namespace)
        GTEST_SKIP() << "a network namespace is made by root";
    EXPECT_EQ(status, 0);
}

TEST_F(streams, are_made_in_the_network_namespace_they_are_told)
{
    child c([&](child::door) {
        const descriptor home(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
        if (!in_a_network_of_its_own())
            return no_namespace;
        const descriptor there(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
        if (::setns(home.get(), CLONE_NEWNET) != 0)
            return 1;
        stream_options elsewhere;
        elsewhere.netns_fd = there.get();
        for (const auto &where : {tcp(), abstract_address()}) {
            auto inside = sp::transport::netns_visit::enter(there.get());
            const auto listener = s.listen(where, elsewhere);
            {
                const auto back = std::move(inside);
            }
            auto to = where;
            if (where.family == stream_family::tcp)
                to.port = port_of(listener);
            if (s.outcome(s.t.connect(s.target(to))).what != kind::failed)
                return 2;
            if (s.outcome(s.t.connect(s.target(to, elsewhere))).what != kind::connected)
                return 3;
        }
        return 0;
    });
    const int status = c.wait_end();
    if (status == no_namespace)
        GTEST_SKIP() << "a network namespace is made by root";
    EXPECT_EQ(status, 0);
}

} // namespace
