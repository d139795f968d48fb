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
#include <vector>

#pragma GCC visibility push(default)
namespace sp::inline v1 {

class engine;

// What a queue does when it is full. block: push and pair make send wait, pub and bus wait for
// send_timeout and then drop the newest; a receiver pushes back to its peers.
enum class when_full : std::uint8_t { drop_oldest, drop_newest, block, disconnect };

// What a send does while nobody is connected.
enum class when_alone : std::uint8_t { wait, fail, drop };

// Durations, sizes in bytes, counts. Bounds of a queue: both bind; a message is charged its bytes
// and 64 more; 0 messages is no bound, 0 bytes is no queue; an empty queue takes one of any size.
struct options {
    using duration = std::chrono::nanoseconds;

    std::string_view name = {};              // shown by tools
    std::string_view listen = {}, dial = {}; // the first endpoints; call listen(), dial() for more
    engine *on = nullptr;                    // default: the process's own
    std::optional<std::uint64_t> message_max = {};      // 1 MiB; header and body, both directions
    std::optional<std::uint64_t> send_queue_bytes = {}; // pub, bus: 1 MiB for each peer;
                                                        // surveyor: 256 KiB; push, pair: 0
    std::optional<std::uint32_t> send_queue_messages = {}; // 0
    std::optional<std::uint64_t> recv_queue_bytes = {};    // sub: 1 MiB for each context; surveyor:
                                                           // for each survey; bus: 1 MiB; pair: 0
    std::optional<std::uint32_t> recv_queue_messages = {}; // 0
    std::optional<when_full> on_send_full = {};    // pub: drop_oldest; bus, surveyor: drop_newest;
                                                   // push, pair: block
    std::optional<when_full> on_recv_full = {};    // sub: drop_oldest; bus, surveyor: drop_newest;
                                                   // pair: block
    std::optional<when_alone> on_no_peer = {};     // req, push, pair: wait; req never drops
    std::optional<duration> resend_time = {};      // req: 60 s; 0: never again, no fail-over
    std::optional<duration> request_deadline = {}; // req: none
    std::optional<duration> survey_time = {};      // surveyor: 1 s
    std::optional<duration> linger = {};           // 1 s: how long the destructor drains
    std::optional<duration> send_timeout = {};     // none: of calls that are given no wait
    std::optional<duration> recv_timeout = {};     // none
    std::optional<std::uint32_t> ttl_max = {};     // rep, respondent, pair: 8 hops, 1 to 15
    std::optional<duration> dedupe_time = {};      // rep: 120 s; 0: every request is new
    std::optional<std::uint64_t> reply_cache_bytes = {}; // rep: 1 MiB
    std::optional<bool> one_answer_per_peer = {};        // surveyor: false
    std::optional<bool> end_when_all_answered = {};      // surveyor: false
    std::optional<std::uint32_t> pair_version = {};      // pair: 1; 0 is nanomsg's
    std::optional<duration> connect_timeout = {};        // 5 s: one attempt of a dial
    std::optional<duration> reconnect_min = {};          // 10 ms; streams 100 ms
    std::optional<duration> reconnect_max = {};          // 500 ms; streams 10 s
    std::optional<duration> hello_timeout = {};          // streams: 10 s
    std::optional<std::uint32_t> half_open_max = {};     // 256: unfinished hellos of one listener
    std::optional<duration> keepalive_interval = {};     // own links: 250 ms
    std::optional<duration> peer_timeout = {};           // own links: 1 s of silence
    std::optional<std::uint32_t> credit_messages = {};   // own links: what a peer may send ahead;
                                                         // unset: 32 packets (pull, rep, respondent
                                                         // 64) of any number of small messages
    std::optional<std::uint32_t> pipes_max = {};         // 4096
    std::optional<std::uint64_t> stream_send_bytes = {}; // push: 64 KiB, others the kernel's
    std::optional<bool> tcp_nodelay = {};                // true
    std::optional<bool> tcp_keepalive = {};              // true
    std::optional<duration> tcp_user_timeout = {};       // 10 s; 0: the system's
    std::optional<std::uint32_t> ipc_mode = {};          // 0600: rights of a listener's path
    std::vector<std::uint32_t> allow_uid = {}, allow_gid = {}; // none: the path's rights decide
    std::optional<int> listen_fd = {}; // of a stream that listens already; the caller's
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
    // Of the ring that each end of a unixgram:// connection shares: a power of two from 4 KiB to
    // 16 MiB; 0: no memory is shared, datagrams carry the messages.
    std::uint32_t ring_bytes = 256 * 1024;
    // unixgram://, between processes of one user: messages of so many bytes, at least 64 KiB, are
    // handed over in memory of their own and not copied. Unset: 2 MiB where the system gives huge
    // pages to such memory, else 64 MiB.
    std::optional<std::uint64_t> handover_bytes = {};
    int netns_fd = -1;     // sockets are opened in this network namespace; -1: the caller's
    bool insecure = false; // plaintext between hosts, knowingly; SP_INSECURE=1 sets it from outside
    std::uint8_t ip_protocol = 253;       // the same on every host
    std::uint16_t udp_port = 5370;        // of encap=udp, the same on every host; 0: not offered
    std::string pin_root = "/run/sp/bpf"; // where `sp xdp load` keeps its pins
};

} // namespace sp::inline v1
#pragma GCC visibility pop
