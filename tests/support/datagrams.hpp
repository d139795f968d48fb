// SPDX-License-Identifier: BSD-2-Clause
//
// What the tests of the unixgram transport share: packets that carry a mark, a socket of somebody
// who is not sp, and a fixture with a directory for the paths.
#pragma once

#include "tests/support/local.hpp"
#include "userspace/engine/transport.hpp"
#include "userspace/transport/unixgram.hpp"

#include <array>
#include <cstring>
#include <sys/un.h>
#include <vector>

namespace sp::test {

using transport::descriptor;
using transport::unixgram;

constexpr std::uint16_t mark_port = 7;

inline std::vector<std::byte> packet_of(std::size_t bytes, std::uint32_t mark)
{
    sp_header header{};
    header.version = SP_WIRE_VERSION;
    header.type = SP_DATA;
    header.dport = SP_BE16(mark_port);
    header.seq = SP_BE32(mark);
    std::vector<std::byte> packet(bytes);
    std::memcpy(packet.data(), &header, sizeof header);
    return packet;
}

inline std::uint32_t mark_of(std::span<const std::byte> packet)
{
    sp_header header;
    std::memcpy(&header, packet.data(), sizeof header);
    return SP_BE32(header.seq);
}

struct datagram {
    sp_address from;
    std::vector<std::byte> packet;
};

inline std::vector<datagram> receive(unixgram &t, std::size_t most = 64)
{
    std::vector<datagram> all;
    (void)t.receive(
        [&](const sp_address &from, std::span<const std::byte> packet) {
            all.push_back({from, {packet.begin(), packet.end()}});
        },
        most, core::sweep::full, 0);
    return all;
}

inline bool put(unixgram &t, route_id route, std::span<const std::byte> packet)
{
    const auto room = t.reserve(route, packet.size());
    if (room.empty())
        return false;
    std::memcpy(room.data(), packet.data(), packet.size());
    t.submit(route, packet.size());
    return true;
}

// A datagram socket of somebody who is not sp.
class foreign_socket {
public:
    explicit foreign_socket(const std::string &to, int type = SOCK_DGRAM)
        : fd_(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0))
    {
        name_.sun_family = AF_UNIX;
        to.copy(name_.sun_path, sizeof name_.sun_path - 1);
        constexpr int buffer = 1 << 20;
        ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    }
    void autobind()
    {
        const sa_family_t family = AF_UNIX;
        ASSERT_EQ(::bind(fd_.get(), reinterpret_cast<const sockaddr *>(&family), sizeof family), 0);
    }
    [[nodiscard]] bool bind()
    {
        return ::bind(fd_.get(), reinterpret_cast<const sockaddr *>(&name_), sizeof name_) == 0;
    }
    [[nodiscard]] bool send(std::span<const std::byte> bytes)
    {
        return ::sendto(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT,
                        reinterpret_cast<const sockaddr *>(&name_), sizeof name_) >= 0;
    }
    [[nodiscard]] bool send_with_descriptor(std::span<const std::byte> bytes, int passed)
    {
        iovec piece{const_cast<std::byte *>(bytes.data()), bytes.size()};
        alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
        msghdr message{};
        message.msg_name = &name_;
        message.msg_namelen = sizeof name_;
        message.msg_iov = &piece;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        auto *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof passed);
        std::memcpy(CMSG_DATA(head), &passed, sizeof passed);
        return ::sendmsg(fd_.get(), &message, MSG_DONTWAIT) >= 0;
    }
    [[nodiscard]] int fd() const { return fd_.get(); }

private:
    descriptor fd_;
    sockaddr_un name_{};
};

class with_unixgram : public ::testing::Test {
protected:
    std::string path(const std::string &name = "socket") { return directory_.file(name); }
    const scratch_directory &directory() { return directory_; }

    unixgram listening(const std::string &name = "socket", unsigned mode = 0600)
    {
        return must(unixgram::listen(path(name), mode, stats));
    }
    struct dialer {
        unixgram transport;
        route_id route;
    };
    dialer dialed(const std::string &name = "socket")
    {
        auto t = must(unixgram::dial(path(name), stats));
        const auto route = t.open_route(unixgram::listener_address());
        if (!route)
            throw std::runtime_error("no route");
        return {std::move(t), *route};
    }
    // A dialer's packet still comes through, and its answer finds the way back.
    void expect_alive(unixgram &listener)
    {
        auto d = dialed();
        ASSERT_TRUE(put(d.transport, d.route, packet_of(SP_OVERHEAD, 4711)));
        const auto got = receive(listener);
        ASSERT_EQ(got.size(), 1u);
        EXPECT_EQ(mark_of(got.front().packet), 4711u);
        const auto back = listener.open_route(got.front().from);
        ASSERT_TRUE(back);
        ASSERT_TRUE(put(listener, *back, packet_of(SP_OVERHEAD, 4712)));
        const auto answer = receive(d.transport);
        ASSERT_EQ(answer.size(), 1u);
        EXPECT_EQ(mark_of(answer.front().packet), 4712u);
        listener.close_route(*back);
    }

    counters stats;

private:
    watchdog watchdog_;
    scratch_directory directory_;
};

} // namespace sp::test
