// SPDX-License-Identifier: BSD-2-Clause
//
// The verbs of `sp`, each with its arguments as plain values: main.cpp parses and calls, the verbs
// do. A verb prints through the console and returns the exit status of the program.
#pragma once

#include "userspace/cli/console.hpp"
#include "userspace/cli/format.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sp::cli {

struct message_arguments {
    std::string url;
    std::vector<std::string> set; // OPTION=VALUE
    std::uint64_t count = 0;      // 0: no end
    bool insecure = false;
    body_format format = body_format::text;
};

struct req_arguments : message_arguments {
    std::string body;
    std::optional<std::chrono::nanoseconds> timeout; // for one request, the way to a peer included
    std::chrono::nanoseconds interval{};             // between two requests
};

struct rep_arguments : message_arguments {
    std::string answer;
    bool echo = false;
    std::string exec; // for /bin/sh -c; empty: not asked for
};

struct xdp_arguments {
    enum class action : std::uint8_t { load, unload, status };
    action what = action::status;
    std::string interface;
    std::string mode = "native";
    std::string pin_root;
    bool replace = false, dry_run = false, strict = false;
};

struct demo_arguments {
    std::uint64_t count = 100'000;
    bool no_xdp = false;
};

struct errors_arguments {
    std::string word;
    bool counters = false, markdown = false;
};

int req(const req_arguments &arguments, console &out);
int rep(const rep_arguments &arguments, console &out);
int doctor(const std::string &interface, console &out);
int xdp(const xdp_arguments &arguments, console &out);
int demo(const demo_arguments &arguments, console &out);
int errors(const errors_arguments &arguments, console &out);
int version(console &out);

} // namespace sp::cli
