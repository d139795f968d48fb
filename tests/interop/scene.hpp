// SPDX-License-Identifier: BSD-2-Clause
//
// What the conformance scenarios share: an engine for each test, every role by its number on the
// wire, peers that have exchanged hellos with an sp socket, and the census at the end: no message
// buffer is held, no thread is left, and the books of the whole engine balance with nothing queued.
#pragma once

#include "tests/interop/bytes.hpp"
#include "tests/support/books.hpp"

#include <array>
#include <cstdint>
#include <future>
#include <string>
#include <utility>
#include <vector>

namespace sp::test {

// Numbers of SP, as on the wire.
inline constexpr std::uint16_t pair0_number = 0x10, pair1_number = 0x11, pub_number = 0x20,
                               sub_number = 0x21, req_number = 0x30, rep_number = 0x31,
                               push_number = 0x50, pull_number = 0x51, surveyor_number = 0x62,
                               respondent_number = 0x63, bus_number = 0x70;

struct role_entry {
    const char *name;
    std::uint16_t own, peer;
    sp::socket (*open)(options);
};

template <class Role>
sp::socket open_as_socket(options o)
{
    return must(Role::open(o));
}

inline sp::socket open_pair0(options o)
{
    o.pair_version = 0;
    return must(sp::pair::open(o));
}

inline const std::array<role_entry, 11> all_roles{{
    {"pair v0", pair0_number, pair0_number, open_pair0},
    {"pair", pair1_number, pair1_number, open_as_socket<sp::pair>},
    {"pub", pub_number, sub_number, open_as_socket<sp::pub>},
    {"sub", sub_number, pub_number, open_as_socket<sp::sub>},
    {"req", req_number, rep_number, open_as_socket<sp::req>},
    {"rep", rep_number, req_number, open_as_socket<sp::rep>},
    {"push", push_number, pull_number, open_as_socket<sp::push>},
    {"pull", pull_number, push_number, open_as_socket<sp::pull>},
    {"surveyor", surveyor_number, respondent_number, open_as_socket<sp::surveyor>},
    {"respondent", respondent_number, surveyor_number, open_as_socket<sp::respondent>},
    {"bus", bus_number, bus_number, open_as_socket<sp::bus>},
}};

// Most scenarios are told from a socket of this class; it says which numbers go over the wire.
template <class Role>
inline constexpr std::pair<std::uint16_t, std::uint16_t> numbers_of{};
template <>
inline constexpr std::pair numbers_of<sp::pair>{pair1_number, pair1_number};
template <>
inline constexpr std::pair numbers_of<sp::pub>{pub_number, sub_number};
template <>
inline constexpr std::pair numbers_of<sp::sub>{sub_number, pub_number};
template <>
inline constexpr std::pair numbers_of<sp::req>{req_number, rep_number};
template <>
inline constexpr std::pair numbers_of<sp::rep>{rep_number, req_number};
template <>
inline constexpr std::pair numbers_of<sp::push>{push_number, pull_number};
template <>
inline constexpr std::pair numbers_of<sp::pull>{pull_number, push_number};
template <>
inline constexpr std::pair numbers_of<sp::surveyor>{surveyor_number, respondent_number};
template <>
inline constexpr std::pair numbers_of<sp::respondent>{respondent_number, surveyor_number};
template <>
inline constexpr std::pair numbers_of<sp::bus>{bus_number, bus_number};

class scene : public on_one_host {
protected:
    [[nodiscard]] std::string ipc(const std::string &name = "socket") const
    {
        return "ipc://" + file(name);
    }

    // An sp socket that listens there.
    template <class Role>
    [[nodiscard]] Role open(options o = {}, const std::string &name = "socket")
    {
        const auto where = ipc(name);
        o.listen = where;
        return must(Role::open(at(std::move(o))));
    }

    // A peer that has connected and exchanged hellos: it says `own` and hears `expected`.
    [[nodiscard]] byte_peer greeted(std::uint16_t own, std::uint16_t expected,
                                    const std::string &name = "socket")
    {
        auto peer = byte_peer::dial(ipc(name));
        peer.send(wire::hello(own));
        EXPECT_EQ(peer.receive(8), wire::hello(expected));
        return peer;
    }

    // The same, and the socket has it among its peers.
    template <class Role>
    [[nodiscard]] byte_peer joined(Role &s, const std::string &name = "socket")
    {
        return joined(s, numbers_of<Role>.second, numbers_of<Role>.first, name);
    }
    [[nodiscard]] byte_peer joined(sp::socket &s, std::uint16_t own, std::uint16_t expected,
                                   const std::string &name = "socket")
    {
        // Not the number of peers: an earlier one may just be going.
        const auto before = s.statistics()[stat::pipe_opened];
        auto peer = greeted(own, expected, name);
        wait_until("a peer to be added", [&] { return s.statistics()[stat::pipe_opened] > before; });
        return peer;
    }

    // An sp socket that has dialed `door`, and the peer it got there. The socket goes first, or it
    // would dial again.
    template <class Role>
    [[nodiscard]] std::pair<byte_peer, Role> dialed_to(byte_door &door, options o = {},
                                                       const std::string &name = "door")
    {
        auto s = must(Role::open(at(std::move(o))));
        (void)must(s.dial(ipc(name)));
        auto peer = door.greet(numbers_of<Role>.second, numbers_of<Role>.first);
        must(s.wait_peers(1, patience));
        return {std::move(peer), std::move(s)};
    }

    // Waits for what will come about by itself; not for ever, so that a failure has a name.
    template <class Condition>
    static void wait_until(const std::string &what, Condition &&condition)
    {
        const auto over = engine_clock::now() + patience;
        until([&] {
            if (condition())
                return true;
            if (engine_clock::now() > over)
                throw std::runtime_error("waited in vain for " + what);
            return false;
        });
    }
    // Until the engine has counted this often.
    void wait_count(stat which, std::uint64_t n)
    {
        const auto name = std::string(describe(which).name);
        wait_until(name + " to be counted", [&] { return count(which) >= n; });
        EXPECT_EQ(count(which), n) << name;
    }
    void wait_peers_gone(sp::socket &s, std::size_t left = 0)
    {
        wait_until("a peer to be gone", [&] { return s.peers() == left; });
    }

    void TearDown() override
    {
        if (const auto wrong = books::imbalance(engine().statistics(), 0, abandoned::either);
            !wrong.empty())
            ADD_FAILURE() << "all sockets are closed, and " << wrong;
        on_one_host::TearDown();
    }
};

} // namespace sp::test
