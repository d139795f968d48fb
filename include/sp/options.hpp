// SPDX-License-Identifier: BSD-2-Clause
//
// Options of sockets and engines: one plain struct for every role, one optional field per option. A
// field that is set and that the role does not read is refused at open (SP2008); an unset field has
// the default named beside it. Shaping options are fixed at open; the fields keep this order, so
// that designated initialisers work.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#pragma GCC visibility push(default)
namespace sp::inline v1 {

class engine;

// What a send does while nobody is connected.
enum class when_alone : std::uint8_t { wait, fail };

struct options {
    std::string_view name = {}; // shown by tools
    std::string_view listen = {},
                     dial = {}; // the first endpoints; call listen() and dial() for more
    engine *on = nullptr;       // default: the process's own
    std::optional<std::uint64_t> message_max = {}; // bytes, 1 MiB; header and body, both directions
    std::optional<when_alone> on_no_peer = {};     // req: wait
    std::optional<std::chrono::nanoseconds> resend_time =
        {}; // req: 60 s; 0: never again, no fail-over
    std::optional<std::chrono::nanoseconds> request_deadline = {}; // req: none
    std::optional<std::chrono::nanoseconds> linger = {};      // 1 s: how long the destructor drains
    std::optional<std::uint32_t> ttl_max = {};                // rep: 8 words of backtrace, 1 to 15
    std::optional<std::chrono::nanoseconds> dedupe_time = {}; // rep: 120 s; 0: every request is new
    std::optional<std::uint64_t> reply_cache_bytes = {};      // rep: 1 MiB
    std::optional<std::chrono::nanoseconds> connect_timeout = {};    // 5 s: one attempt of a dial
    std::optional<std::chrono::nanoseconds> reconnect_min = {};      // 10 ms
    std::optional<std::chrono::nanoseconds> reconnect_max = {};      // 2 s
    std::optional<std::chrono::nanoseconds> keepalive_interval = {}; // 250 ms
    std::optional<std::chrono::nanoseconds> peer_timeout = {};       // 1 s of silence
    std::optional<std::uint32_t> pipes_max = {};                     // 4096
    std::optional<std::uint32_t> ipc_mode = {}; // 0600: rights of a unixgram listener's path
};

// Who moves packets: the thread inside a call, helped by one that keeps time while nobody calls; or
// only poll().
enum class driver : std::uint8_t { caller, manual };

// What a waiting call does before it sleeps: spin for about what a wake-up costs, spin for ever, or
// not at all.
enum class waiting : std::uint8_t { adaptive, spin, block };

struct engine_options {
    sp::driver driver = sp::driver::caller;
    sp::waiting waiting = sp::waiting::adaptive;
    std::uint64_t memory_max = 256u << 20; // bytes of message buffers
    std::uint32_t frames = 4096;           // AF_XDP packet frames per queue
    int netns_fd = -1;     // sockets are opened in this network namespace; -1: the caller's
    bool insecure = false; // plaintext between hosts, knowingly; SP_INSECURE=1 sets it from outside
    std::uint8_t ip_protocol = 253;       // the same on every host
    std::string pin_root = "/run/sp/bpf"; // where `sp xdp load` keeps its pins
};

} // namespace sp::inline v1
#pragma GCC visibility pop
