// SPDX-License-Identifier: BSD-2-Clause
//
// Listeners of byte streams: whose path it is, which rights it has, who may come, and what happens
// when no descriptor is left.
#include "tests/support/streams.hpp"

#include <atomic>
#include <barrier>
#include <fcntl.h>
#include <fstream>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <thread>

namespace {

using namespace sp::test;
using sp::errc;
using sp::place_id;
using sp::stat;
using sp::stream_event;
using sp::stream_id;
using sp::transfer;
using sp::transport::descriptor;
using sp::transport::stream;

class stream_listeners : public with_streams {
protected:
    int refused(const stream_address &where, const stream_options &o = {})
    {
        stream other;
        const auto made = other.listen(where, o);
        EXPECT_FALSE(made) << sp::transport::url_of(where);
        return made ? 0 : made.error().number();
    }
    // A socket of somebody who is not sp.
    descriptor foreign(const std::string &name, int type = SOCK_STREAM)
    {
        descriptor fd(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
        const auto n = sp::transport::path_name(path(name));
        EXPECT_EQ(::bind(fd.get(), n->get(), n->length), 0);
        return fd;
    }
    // A connection comes in and is closed again.
    void expect_alive(place_id listener, place_id target)
    {
        const auto j = join(listener, target);
        s.t.close(j.here);
        s.t.close(j.there);
    }
    static stream_options only(std::vector<std::uint32_t> uids, std::vector<std::uint32_t> gids)
    {
        return {.ipc_mode = 0666, .allow_uid = std::move(uids), .allow_gid = std::move(gids)};
    }
    // What nobody (uid and gid 65534) meets: 0 stays connected, 1 is closed, else 2 and the reason.
    int nobody_meets(const stream_address &where, std::vector<gid_t> groups = {})
    {
        return as_nobody(
            [&] {
                polled_streams mine;
                const auto id = mine.t.connect(mine.target(where));
                const auto told = mine.outcome(id);
                if (told.what == kind::failed)
                    return 2 + static_cast<int>(told.why);
                std::array<std::byte, 1> room;
                transfer got;
                until([&] {
                    return (got = mine.t.read(id, room)).what != transfer::outcome::would_block;
                });
                return got.what == transfer::outcome::moved ? 0 : 1;
            },
            std::move(groups));
    }
};

// ---- the path ----

TEST_F(stream_listeners, replace_the_file_that_a_dead_one_left)
{
    foreign("socket").reset();
    ASSERT_TRUE(std::filesystem::is_socket(path()));
    expect_alive(s.listen(ipc()), s.target(ipc()));
}

TEST_F(stream_listeners, leave_a_live_one_undisturbed_and_name_its_owner)
{
    const auto first = s.listen(ipc());
    stream other;
    const auto second = other.listen(ipc(), {});
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().number(), 2002);
    EXPECT_EQ(second.error().code(), errc::address_in_use);
    EXPECT_TRUE(second.error().what().contains(path()));
    EXPECT_TRUE(second.error().why().contains("process " + std::to_string(::getpid())))
        << second.error().why();
    EXPECT_EQ(s.poll(), 0u) << "asking whether it lives sends it nothing";
    expect_alive(first, s.target(ipc()));
}

TEST_F(stream_listeners, leave_other_sockets_and_files_undisturbed)
{
    for (const int type : {SOCK_DGRAM, SOCK_STREAM, SOCK_SEQPACKET}) {
        const auto name = "other-" + std::to_string(type);
        const auto other = foreign(name, type);
        EXPECT_EQ(refused(ipc(name)), 2002) << type;
        EXPECT_TRUE(std::filesystem::is_socket(path(name))) << type;
    }
    std::ofstream(path("file")) << "precious";
    std::filesystem::create_symlink(path("file"), path("link"));
    EXPECT_EQ(refused(ipc("file")), 2002);
    EXPECT_EQ(refused(ipc("link")), 2002);
    std::string text;
    std::ifstream(path("file")) >> text;
    EXPECT_EQ(text, "precious");
}

TEST_F(stream_listeners, that_start_together_are_one)
{
    constexpr int rounds = 50, racers = 4;
    for (int round = 0; round < rounds; ++round) {
        foreign("socket").reset(); // stale: each would remove it
        std::atomic<int> made = 0, in_use = 0;
        std::barrier start(racers), finish(racers);
        {
            std::vector<std::jthread> threads;
            for (int i = 0; i < racers; ++i)
                threads.emplace_back([&] {
                    stream mine;
                    start.arrive_and_wait();
                    const auto place = mine.listen(ipc(), {});
                    if (place)
                        ++made;
                    else if (place.error() == errc::address_in_use)
                        ++in_use;
                    finish.arrive_and_wait(); // none goes before all have tried
                });
        }
        ASSERT_EQ(made, 1);
        ASSERT_EQ(in_use, racers - 1);
        ASSERT_FALSE(std::filesystem::exists(path()));
    }
}

TEST_F(stream_listeners, are_not_kept_waiting_by_a_stranger_who_locks_the_directory)
{
    const descriptor lock(::open(directory().path().c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_EQ(::flock(lock.get(), LOCK_EX), 0);
    expect_alive(s.listen(ipc()), s.target(ipc()));
}

TEST_F(stream_listeners, give_the_path_its_rights_whatever_the_umask)
{
    for (const mode_t mask : {0000, 0022, 0077, 0777})
        for (const unsigned mode : {0600u, 0660u, 0666u, 0000u}) {
            const auto before = ::umask(mask);
            const auto listener =
                s.listen(ipc(), {.ipc_mode = mode, .allow_uid = {}, .allow_gid = {}});
            ::umask(before);
            struct ::stat status{};
            ASSERT_EQ(::lstat(path().c_str(), &status), 0);
            EXPECT_EQ(status.st_mode & 0777, mode) << std::oct << "umask " << mask;
            s.t.close_place(listener);
        }
}

TEST_F(stream_listeners, remove_their_path_and_no_other)
{
    const auto listener = s.listen(ipc());
    const auto j = join(listener, s.target(ipc()));
    s.t.close_place(listener);
    EXPECT_FALSE(std::filesystem::exists(path())) << "though a stream that came by it lives on";
    EXPECT_EQ(s.write(j.here, "x").bytes, 1u);

    const auto replaced = s.listen(ipc());
    std::filesystem::remove(path());
    const auto other = foreign("socket");
    s.t.close_place(replaced);
    EXPECT_TRUE(std::filesystem::is_socket(path()));
}

TEST_F(stream_listeners, refuse_a_path_or_name_that_is_too_long_or_impossible)
{
    std::filesystem::create_directory(path("d"));
    std::string longest = path("d") + '/';
    longest.resize(107, 'x');
    const auto at = [](std::string name, stream_family f = stream_family::ipc) {
        return stream_address{.family = f, .name = std::move(name)};
    };
    expect_alive(s.listen(at(longest)), s.target(at(longest)));
    EXPECT_EQ(refused(at(longest + 'x')), 2001);
    EXPECT_EQ(refused(at("")), 2001);
    EXPECT_EQ(refused(ipc("missing/socket")), 2026);
    EXPECT_EQ(refused(ipc("d")), 2002);
    const std::string name(107, 'n');
    const auto abstract = at(name, stream_family::abstract);
    expect_alive(s.listen(abstract), s.target(abstract));
    EXPECT_EQ(refused(abstract), 2002);
    EXPECT_EQ(refused(at(name + 'n', stream_family::abstract)), 2001);
    EXPECT_EQ(refused(at("", stream_family::abstract)), 2001);
    stream t;
    EXPECT_FALSE(t.add_target(at(longest + 'x'), {}));
    EXPECT_FALSE(t.add_target(at(name + 'n', stream_family::abstract), {}));
}

// ---- tcp ----

TEST_F(stream_listeners, of_tcp_say_what_is_wrong_with_an_address)
{
    const auto listener = s.listen(tcp());
    EXPECT_EQ(refused(tcp(port_of(listener))), 2002);
    EXPECT_EQ(refused(tcp(0, "198.18.255.254")), 1011);
    EXPECT_EQ(refused(tcp(0, std::string(64, 'x'))), 1026);
}

TEST_F(stream_listeners, of_tcp_take_a_port_again_on_which_connections_have_just_ended)
{
    const auto first = join(tcp());
    const auto port = port_of(first.listener);
    s.t.close(first.there); // the side that ends first has to remember the connection for a while
    std::array<std::byte, 1> room;
    until([&] { return s.t.read(first.here, room).what == transfer::outcome::ended; });
    s.t.close(first.here);
    s.t.close_place(first.listener);
    expect_alive(s.listen(tcp(port)), s.target(tcp(port)));
}

// ---- a descriptor that is handed in ----

TEST_F(stream_listeners, use_the_descriptor_that_is_handed_in)
{
    const auto given = foreign("socket");
    ASSERT_EQ(::listen(given.get(), 8), 0);
    stream_options o;
    o.listen_fd = given.get();
    const auto listener = s.listen(ipc(), o);
    expect_alive(listener, s.target(ipc()));
    s.t.close_place(listener);
    EXPECT_TRUE(std::filesystem::is_socket(path())) << "it belongs to who made it";
    expect_alive(s.listen(ipc(), o), s.target(ipc()));
}

TEST_F(stream_listeners, refuse_a_descriptor_that_does_not_fit)
{
    const auto with = [](int fd) {
        stream_options o;
        o.listen_fd = fd;
        return o;
    };
    const auto silent = foreign("silent");
    const auto packets = foreign("packets", SOCK_DGRAM);
    const auto good = foreign("good");
    ASSERT_EQ(::listen(good.get(), 8), 0);
    EXPECT_EQ(refused(ipc(), with(silent.get())), 2029);
    EXPECT_EQ(refused(ipc(), with(packets.get())), 2029);
    EXPECT_EQ(refused(ipc(), with(9999)), 2029);
    EXPECT_EQ(refused(ipc(), with(s.t.wake_fd() >= 0 ? s.t.wake_fd() : 0)), 2029);
    EXPECT_EQ(refused(tcp(), with(good.get())), 2029);
}

TEST_F(stream_listeners, that_somebody_shuts_down_do_not_wake_for_ever)
{
    const auto given = foreign("socket");
    ASSERT_EQ(::listen(given.get(), 8), 0);
    stream_options o;
    o.listen_fd = given.get();
    const auto listener = s.listen(ipc(), o);
    ASSERT_EQ(::shutdown(given.get(), SHUT_RDWR), 0);
    until([&] { return s.poll() == 0 && !s.wakes(); });
    s.t.close_place(listener);
}

// ---- who may come ----

TEST_F(stream_listeners, let_in_whom_the_rights_of_the_path_let_in)
{
    if (::geteuid() != 0)
        GTEST_SKIP() << "another user's right is tried by root";
    std::filesystem::permissions(directory().path(), std::filesystem::perms{0755});
    (void)s.listen(ipc());
    EXPECT_EQ(nobody_meets(ipc()), 2 + static_cast<int>(errc::permission_denied));
    EXPECT_EQ(as_nobody([&] { return refused(ipc("mine")) - 2000; }), 22);
}

TEST_F(stream_listeners, turn_away_who_is_not_on_their_lists)
{
    if (::geteuid() != 0)
        GTEST_SKIP() << "another user's right is tried by root";
    std::filesystem::permissions(directory().path(), std::filesystem::perms{0755});
    struct {
        const char *name;
        stream_options options;
        std::vector<gid_t> groups;
        bool comes;
    } cases[] = {{"everybody", only({}, {}), {}, true},
                 {"other-user", only({0, 1}, {}), {}, false},
                 {"user", only({0, 65534}, {}), {}, true},
                 {"other-group", only({}, {4711}), {}, false},
                 {"group", only({}, {65534}), {}, true},
                 {"further-group", only({}, {4711}), {1, 4711}, true},
                 {"one-of-both", only({1}, {65534}), {}, true}};
    for (const auto &c : cases) {
        SCOPED_TRACE(c.name);
        const auto listener = s.listen(ipc(c.name), c.options);
        std::vector<stream_event> told;
        std::jthread serving([&](std::stop_token stop) {
            const auto greet = [&](const stream_event &e) {
                told.push_back(e);
                (void)s.write(e.stream, "x");
                s.t.close(e.stream);
            };
            while (!stop.stop_requested())
                (void)s.t.poll(greet, 64, 0);
        });
        EXPECT_EQ(nobody_meets(ipc(c.name), c.groups), c.comes ? 0 : 1);
        serving.request_stop();
        serving.join();
        ASSERT_EQ(told.size(), 1u);
        EXPECT_EQ(told[0].what, c.comes ? kind::accepted : kind::refused);
        EXPECT_EQ(told[0].place, listener);
        if (!c.comes) {
            EXPECT_EQ(told[0].count, stat::listener_access);
        }
        s.t.close_place(listener);
    }
}

// ---- out of descriptors ----

// In a child, whose limit is its own. What it returns names the step that went wrong.
TEST_F(stream_listeners, pause_alone_when_no_descriptor_is_left)
{
    child c([&](child::door) {
        const auto busy = s.listen(ipc("busy"));
        const auto live = join(ipc("live"));
        std::vector<descriptor> clients;
        const auto knock = [&] {
            clients.emplace_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
            const auto n = sp::transport::path_name(path("busy"));
            return ::connect(clients.back().get(), n->get(), n->length) == 0;
        };
        for (int i = 0; i < 3; ++i)
            if (!knock())
                return 1;
        // From here on no descriptor can be had.
        std::vector<descriptor> hoard;
        rlimit limit{.rlim_cur = 256, .rlim_max = 256};
        if (::setrlimit(RLIMIT_NOFILE, &limit) != 0)
            return 2;
        while (hoard.empty() || hoard.back())
            hoard.emplace_back(::dup(0));
        for (int i = 0; i < 3; ++i)
            if (const auto told = s.next(kind::refused);
                told.place != busy || told.count != stat::listener_descriptors)
                return 3;
        char byte;
        for (auto &each : clients)
            if (::read(each.get(), &byte, 1) != 0) // told by the end
                return 4;
        // Streams go on meanwhile.
        if (s.write(live.here, "still").bytes != 5 || s.read(live.there, 5) != "still")
            return 5;
        // Nobody is taken before a descriptor is free, and nobody waits for ever after that. Each
        // further shortage is told once per pause, so this does not spin.
        s.events.clear();
        clients.clear(); // three descriptors for the ones to come
        if (!knock())
            return 6;
        hoard.clear();
        if (s.next(kind::accepted).place != busy)
            return 7;
        return 0;
    });
    EXPECT_EQ(c.wait_end(), 0);
}

TEST_F(stream_listeners, do_not_wake_anybody_while_they_pause_and_go_on_when_a_stream_closes)
{
    child c([&](child::door) {
        const auto live = join(ipc("live"));
        const auto busy = s.listen(ipc("busy"));
        const descriptor first(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const descriptor second(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const auto n = sp::transport::path_name(path("busy"));
        rlimit limit{.rlim_cur = 256, .rlim_max = 256};
        if (::setrlimit(RLIMIT_NOFILE, &limit) != 0)
            return 1;
        std::vector<descriptor> hoard;
        while (hoard.empty() || hoard.back())
            hoard.emplace_back(::dup(0));
        if (::connect(first.get(), n->get(), n->length) != 0)
            return 2;
        (void)s.next(kind::refused);
        // It pauses: who comes now waits, and a driver that sleeps goes on sleeping.
        if (::connect(second.get(), n->get(), n->length) != 0)
            return 3;
        if (s.poll() != 0 || s.wakes())
            return 4;
        s.t.close(live.there);
        s.events.clear();
        if (s.poll() == 0) // without any wait, the listener tries again
            return 5;
        return s.saw(kind::accepted) && s.next(kind::accepted).place == busy ? 0 : 6;
    });
    EXPECT_EQ(c.wait_end(), 0);
}

} // namespace
