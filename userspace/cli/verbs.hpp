// SPDX-License-Identifier: BSD-2-Clause
//
// The verbs of `sp`, each with its arguments as plain values: main.cpp parses and calls, the verbs
// do. A verb prints through the console and returns the exit status of the program.
#pragma once

#include "sp/abi/wire.h"
#include "userspace/cli/console.hpp"
#include "userspace/cli/format.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sp::cli {

// A verb of messages: what messages.cpp does, and what verb_table says of each.
enum class message_verb : std::uint8_t {
    req,
    rep,
    pub,
    sub,
    push,
    pull,
    survey,
    respond,
    bus,
    pair
};

struct message_arguments {
    enum class direction : std::uint8_t { usual, listen, dial }; // usual: as verb_table says
    enum class pieces : std::uint8_t { whole, lines };           // of stdin or of a file
    using duration = std::chrono::nanoseconds;

    message_verb verb = message_verb::req;
    std::string url;
    direction way = direction::usual;
    std::vector<std::string> peers;  // bus: dialed as well
    std::vector<std::string> topics; // sub; none: everything
    std::vector<std::string> set;    // OPTION=VALUE
    bool insecure = false;
    std::optional<std::uint64_t> count; // empty: as verb_table says; 0: no end

    // What is sent, and when.
    std::optional<std::string> data; // "-": stdin
    std::string file;
    pieces send_on = pieces::whole;
    bool with_template = false;
    std::optional<duration> timeout; // for one message or request, the way to a peer included
    duration interval{}, delay{};    // between two; before the first
    std::uint64_t rate = 0;          // per second; 0: not asked for
    std::optional<std::uint64_t> peers_min; // before the first
    std::optional<duration> survey_time;

    // What is done with what comes.
    body_format format = body_format::text;
    std::optional<duration> silence_max; // --wait
    std::string dump;                    // a directory
    bool rate_only = false;
    bool echo = false;
    std::string exec; // for /bin/sh -c; empty: not asked for
};

struct device_arguments {
    std::string pattern, first, second, tap;
    message_arguments::direction way = message_arguments::direction::usual;
    std::optional<std::uint64_t> ttl_max;
    std::vector<std::string> set;
    bool insecure = false;
};

struct xdp_arguments {
    enum class action : std::uint8_t { load, unload, status };
    action what = action::status;
    std::string interface;
    std::string mode = "native";
    std::string pin_root;
    std::uint16_t udp_port = SP_UDP_PORT; // 0: none is read
    bool replace = false, dry_run = false, strict = false;
};

struct ping_arguments {
    std::string host;
    std::optional<std::uint64_t> count; // empty: no end
    std::chrono::nanoseconds interval = std::chrono::seconds(1);
    std::chrono::nanoseconds timeout = std::chrono::seconds(1); // for each answer
    bool behind_udp = false;
    std::uint16_t udp_port = SP_UDP_PORT;
};

struct doctor_arguments {
    std::string interface, peer; // empty: not looked at
    std::uint16_t udp_port = SP_UDP_PORT;
};

struct demo_arguments {
    std::uint64_t count = 100'000;
    bool no_xdp = false;
};

struct errors_arguments {
    std::string word;
    bool counters = false, markdown = false;
};

int messages(const message_arguments &arguments, console &out);
int device(const device_arguments &arguments, console &out);
int doctor(const doctor_arguments &arguments, console &out);
int ping(const ping_arguments &arguments, console &out);
int xdp(const xdp_arguments &arguments, console &out);
int demo(const demo_arguments &arguments, console &out);
int errors(const errors_arguments &arguments, console &out);
int version(console &out);

} // namespace sp::cli
