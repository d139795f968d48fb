// SPDX-License-Identifier: BSD-2-Clause
//
// What a run consists of: hosts, sockets and who dials whom, how much they say, and which faults
// befall them. Everything is drawn from the first stream of choices, a random subset of the classes
// of faults for each seed (swarm testing); all zeros are two calm hosts with a question and an
// answer.
#pragma once

#include "tests/sim/choices.hpp"
#include "tests/sim/network.hpp"
#include "userspace/protocol/types.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace sp::sim {

// The streams of choices. Those of sockets, and behind them those of links, follow these.
struct streams {
    static constexpr std::size_t config = 0, faults = 1, engines = 2, turns = 3, sockets = 4,
                                 links = 64;
};

inline constexpr std::size_t hosts_max = 6;
inline constexpr std::size_t members_max = streams::links - streams::sockets;

struct target {
    std::uint32_t host = 0;
    std::uint16_t port = 0;
};

// A socket: where it is, and whom it dials.
struct member {
    std::uint32_t host = 0;
    protocol::role as{};
    bool raw = false;
    std::uint32_t other = 0; // the other side of a device, by place among all; itself: none
    std::uint32_t group = 0;
    std::uint16_t port = 0; // that it listens on or dials from
    bool listens = false;
    std::vector<target> dials{};
};

enum class reading : std::uint8_t { eager, paced, stuck };

// How sockets behave; the same for all of a run but for what each draws itself.
struct behaviour {
    std::uint32_t messages = 4;   // of each socket
    std::uint32_t size_class = 0; // 0: tiny; 1: up to a packet and a bit; 2: several; 3: huge
    nanoseconds pace{1'000'000};  // mean time between two operations of a socket
    std::uint32_t readers = 0;    // 0: eager; 1: paced as well; 2: stuck ones too
    bool cancels = false;         // requests are cancelled and superseded
    bool fickle = false;          // queues with bounds and policies of every kind
    nanoseconds request_deadline{0};
    std::uint16_t window = 32;
    std::uint32_t message_max = 1 << 20;
};

// Classes of faults that befall hosts, as shares of the events; 0: switched off.
struct chaos {
    nanoseconds interval{0}; // mean time between two; 0: none ever
    std::uint32_t crash = 0, pause = 0, partition = 0, clog = 0, jam = 0, resize = 0, reopen = 0,
                  hint = 0, stranger = 0;
    [[nodiscard]] std::uint32_t sum() const noexcept
    {
        return crash + pause + partition + clog + jam + resize + reopen + hint + stranger;
    }
};

struct config {
    std::uint32_t hosts = 2;
    std::vector<member> members{};
    behaviour says{};
    link_faults net{};
    bool uneven = false; // links differ: some have no faults
    chaos befalls{};
    std::uint32_t packet_max = 1480;
    std::uint32_t batch = 64;    // packets that a transport hands over in a turn
    nanoseconds lag{0};          // until a host takes a packet that has come
    std::uint32_t drift = 0;     // of clocks, parts per million either way
    nanoseconds hostile{0};      // length of the first phase
    bool whole_core = true;      // all hosts are healed
    std::uint32_t first_seq = 0; // where sequence numbers start
};

[[nodiscard]] config draw_config(choices &from);
[[nodiscard]] std::string to_text(const config &c); // in one line

} // namespace sp::sim
