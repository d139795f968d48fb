// SPDX-License-Identifier: BSD-2-Clause
//
// The path of a unixgram listener: whose it is, which rights it has, who may come by it.
#include "tests/support/datagrams.hpp"

#include <fstream>
#include <grp.h>
#include <sys/stat.h>

namespace {

using namespace sp::test;
using sp::errc;

unsigned rights_of(const std::string &path)
{
    struct ::stat status{};
    EXPECT_EQ(::lstat(path.c_str(), &status), 0);
    return status.st_mode & 0777;
}

class unixgram_path : public with_unixgram {};

TEST_F(unixgram_path, replaces_the_file_that_a_dead_listener_left)
{
    {
        foreign_socket dead(path());
        ASSERT_TRUE(dead.bind());
    }
    ASSERT_TRUE(std::filesystem::exists(path()));
    auto listener = listening();
    expect_alive(listener);
}

TEST_F(unixgram_path, leaves_a_live_listener_undisturbed)
{
    auto first = listening();
    const auto second = unixgram::listen(path(), 0600, stats);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code(), errc::address_in_use);
    EXPECT_EQ(second.error().number(), 2002);
    EXPECT_TRUE(second.error().what().contains(path()));
    EXPECT_TRUE(receive(first).empty()); // asking whether it lives sends it nothing
    expect_alive(first);
}

TEST_F(unixgram_path, leaves_a_live_socket_of_another_program_undisturbed)
{
    for (const int type : {SOCK_DGRAM, SOCK_STREAM, SOCK_SEQPACKET}) {
        const auto name = "other-" + std::to_string(type);
        foreign_socket other(path(name), type);
        ASSERT_TRUE(other.bind());
        if (type != SOCK_DGRAM) {
            ASSERT_EQ(::listen(other.fd(), 1), 0);
        }
        const auto ours = unixgram::listen(path(name), 0600, stats);
        ASSERT_FALSE(ours) << type;
        EXPECT_EQ(ours.error().code(), errc::address_in_use) << type;
        EXPECT_TRUE(std::filesystem::is_socket(path(name))) << type;
    }
}

TEST_F(unixgram_path, does_not_remove_what_is_no_socket)
{
    std::ofstream(path()) << "precious";
    std::filesystem::create_symlink(path(), path("link"));
    for (const char *name : {"socket", "link"}) {
        const auto ours = unixgram::listen(path(name), 0600, stats);
        ASSERT_FALSE(ours);
        EXPECT_EQ(ours.error().code(), errc::address_in_use);
    }
    std::string text;
    std::ifstream(path()) >> text;
    EXPECT_EQ(text, "precious");
    EXPECT_TRUE(std::filesystem::is_symlink(path("link")));
}

TEST_F(unixgram_path, removes_its_path_when_it_closes)
{
    {
        const auto listener = listening();
        EXPECT_TRUE(std::filesystem::is_socket(path()));
    }
    EXPECT_FALSE(std::filesystem::exists(path()));
}

TEST_F(unixgram_path, does_not_remove_the_file_that_took_its_place)
{
    foreign_socket other(path());
    {
        const auto listener = listening();
        std::filesystem::remove(path());
        ASSERT_TRUE(other.bind());
    }
    EXPECT_TRUE(std::filesystem::is_socket(path()));
    {
        const auto listener = listening("second");
        std::filesystem::remove(path("second"));
        std::ofstream(path("second")) << "a file";
    }
    EXPECT_TRUE(std::filesystem::is_regular_file(path("second")));
}

TEST_F(unixgram_path, gives_the_path_its_rights_whatever_the_umask)
{
    for (const mode_t mask : {0000, 0022, 0077, 0777})
        for (const unsigned mode : {0600u, 0660u, 0666u, 0000u}) {
            const auto before = ::umask(mask);
            const auto listener = unixgram::listen(path(), mode, stats);
            ::umask(before);
            ASSERT_TRUE(listener);
            EXPECT_EQ(rights_of(path()), mode) << std::oct << "umask " << mask;
        }
}

TEST_F(unixgram_path, refuses_a_path_that_is_too_long_or_impossible)
{
    const auto refused = [&](const std::string &where) {
        const auto listener = unixgram::listen(where, 0600, stats);
        EXPECT_FALSE(listener) << where;
        return listener ? 0 : listener.error().number();
    };
    std::string longest = path() + '/';
    std::filesystem::create_directory(path());
    longest.resize(107, 'x');
    EXPECT_TRUE(unixgram::listen(longest, 0600, stats));
    EXPECT_EQ(refused(longest + 'x'), 2001);
    EXPECT_EQ(refused(longest + std::string(1000, 'x')), 2001);
    EXPECT_FALSE(unixgram::dial(longest + 'x', stats));
    EXPECT_EQ(refused(""), 2001);
    EXPECT_EQ(refused(path("missing") + "/socket"), 2026);
    EXPECT_EQ(refused(path()), 2002); // a directory
}

// Runs `body` as nobody; its result is the exit status.
int as_nobody(const std::function<int()> &body)
{
    child c([&](child::door) {
        if (::setgroups(0, nullptr) != 0 || ::setresgid(65534, 65534, 65534) != 0 ||
            ::setresuid(65534, 65534, 65534) != 0)
            return 100;
        return body();
    });
    return c.wait_end();
}

TEST_F(unixgram_path, lets_in_only_who_may_write_its_path)
{
    if (::geteuid() != 0)
        GTEST_SKIP() << "another user's right is tried by root";
    std::filesystem::permissions(directory().path(), std::filesystem::perms{0755});
    const auto reach = [&](const std::string &name) {
        return as_nobody([&] {
            auto t = unixgram::dial(path(name), stats);
            if (!t)
                return 101;
            const auto route = t->open_route(unixgram::listener_address());
            const auto failure = t->next_failure();
            if (route)
                return failure ? 102 : 0;
            return failure ? 1 + static_cast<int>(failure->second) : 103;
        });
    };
    const auto tight = listening("tight", 0600);
    const auto loose = listening("loose", 0666);
    EXPECT_EQ(reach("tight"), 1 + static_cast<int>(errc::permission_denied));
    EXPECT_EQ(reach("loose"), 0);
    EXPECT_EQ(reach("missing"), 1 + static_cast<int>(errc::connection_refused));
    EXPECT_EQ(as_nobody([&] {
                  const auto t = unixgram::listen(path("mine"), 0600, stats);
                  return t ? 0 : t.error().number() - 2000;
              }),
              22);
}

} // namespace
