// SPDX-License-Identifier: BSD-2-Clause
//
// What the engine keeps: pipes, endpoints and sockets, as plain data. Their behaviour is in
// engine.hpp; whoever holds one of these holds it inside one call of the engine.
#pragma once

#include "sp/abi/address.h"
#include "sp/abi/credentials.hpp"
#include "userspace/engine/frame_pool.hpp"
#include "userspace/engine/machines.hpp"
#include "userspace/engine/stream_transport.hpp"
#include "userspace/engine/timers.hpp"
#include "userspace/link/connection.hpp"
#include "userspace/stream/connection.hpp"

#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace sp::core {

using protocol::pipe_id;

enum class socket_id : std::uint32_t {};
enum class endpoint_id : std::uint32_t {};
inline constexpr auto no_endpoint = static_cast<endpoint_id>(0);

[[nodiscard]] inline bool same(const sp_address &a, const sp_address &b) noexcept
{
    return std::memcmp(&a, &b, sizeof a) == 0;
}

// Shaping options of one socket, with their defaults.
struct socket_options {
    std::uint32_t message_max = 1 << 20;
    std::uint32_t pipes_max = 4096;
    std::uint32_t half_open_max = 256; // unfinished hellos of one listener
    std::uint16_t window = 32;         // packets of credit that a peer has
    std::uint16_t records_max = 0;     // messages in one of them; 0: any number
    bool one_peer = false;             // a second peer is refused as busy
    std::chrono::nanoseconds connect_timeout = std::chrono::seconds(5);
    std::chrono::nanoseconds hello_timeout = std::chrono::seconds(10);
    // Unset: what suits the transport. Own links 10 to 500 ms, streams 100 ms to 10 s.
    std::optional<std::chrono::nanoseconds> reconnect_min{}, reconnect_max{};
    std::chrono::nanoseconds keepalive_interval = std::chrono::milliseconds(250);
    std::chrono::nanoseconds peer_timeout = std::chrono::seconds(1);
};

// A message that a pattern has sent and that no packet holds yet.
struct outgoing {
    frame_id frame;
    std::uint8_t header_bytes;
    std::array<std::byte, protocol::header_bytes_max> header;
};

// What happened to the messages of one pipe: counters of the place `socket`.
class tally {
public:
    void add(stat which, std::uint64_t n) noexcept
    {
        if (const auto i = static_cast<std::size_t>(which) - first; i < places)
            values_[i] += static_cast<std::uint32_t>(n);
    }
    [[nodiscard]] std::uint32_t operator[](stat which) const noexcept
    {
        const auto i = static_cast<std::size_t>(which) - first;
        return i < places ? values_[i] : 0;
    }

private:
    static constexpr std::size_t first = static_cast<std::size_t>(stat::socket_accepted);
    static constexpr std::size_t places = static_cast<std::size_t>(stat::pipe_bad_header) - first;
    std::array<std::uint32_t, places> values_{};
};

// What a pipe over a byte stream has in place of packets.
struct byte_pipe {
    stream_id id{};
    stream::connection talk;

    // In. A message that is being filled, and bytes that came behind one that nobody has taken yet.
    frame *filling = nullptr;
    std::vector<std::byte> held{};
    std::size_t held_at = 0;
    std::uint32_t untaken = 0; // messages that the pattern holds; at most one
    bool paused = false;       // bytes have come that cannot be taken now: they are not watched for
    bool starved = false;      // since there was no memory for them: tried again in the next turn
    instant begun_at{};        // when the message that is being filled got its first frame

    // Out: how much of the outbox's first message is written, its head included.
    std::size_t written = 0;
    std::uint32_t confirmed = 0; // messages that the kernel has
    interest watched = interest::read;
};

// A connection and its place: which transport, which way, whose.
struct pipe {
    std::optional<link::connection> link; // over packets, or
    std::unique_ptr<byte_pipe> bytes;     // over a stream
    std::size_t transport = 0;
    route_id route{};
    sp_address address{};
    socket_id socket{};
    endpoint_id endpoint = no_endpoint; // that dialed or accepted it
    bool dialed = false;
    bool attached = false; // its pattern knows it
    bool ready = false;    // its pattern may give it a message
    bool touched = false;
    bool blocked = false;     // listed to be tried again: the transport had no room
    bool emitting = false;    // listed: its link has packets for this turn
    bool held = false;        // listed to be tried again: messages came and there was no room
    bool used = false;        // a message came by it
    bool shared = false;      // messages go through memory shared with the peer
    bool aboard = false;      // it gets what its socket publishes
    bool sated = false;       // and some wait there, since the pattern holds enough of them
    void *lane = nullptr;     // that memory, as its transport calls it
    std::string_view name{};  // of that transport
    std::optional<errc> hint; // what the system said while dialing
    std::optional<stat> why;  // a close reason that the link does not know
    std::uint32_t confirmed = 0;
    std::uint32_t put = 0;       // messages that are in shared memory: they are the peer's
    std::uint64_t published = 0; // and that it is counted to have been sent
    std::vector<outgoing>
        outbox;              // what the link or the stream did not take; at most one is in part
    std::size_t written = 0; // but over streams: how much of the outbox's first message is
    instant scheduled = instant::max(); // the next timer, and one behind it, if any
    instant scheduled_next = instant::max();
    instant opened_at{};
    tally books;

    [[nodiscard]] bool is_open() const noexcept
    {
        return bytes ? bytes->talk.state() == stream::phase::open
                     : link->state() == link::phase::open;
    }
    [[nodiscard]] bool is_closed() const noexcept
    {
        return bytes ? bytes->talk.state() == stream::phase::closed
                     : link->state() == link::phase::closed;
    }
    [[nodiscard]] bool has_room() const noexcept // for one message more
    {
        return outbox.empty() && (bytes || shared ? is_open() : link->send_ready());
    }
    [[nodiscard]] std::uint32_t confirmed_now() const noexcept
    {
        return bytes ? bytes->confirmed : shared ? put : link->confirmed();
    }
    [[nodiscard]] std::uint32_t unconfirmed() const noexcept
    {
        return bytes ? bytes->written > 0 : shared ? 0 : link->unconfirmed();
    }
    [[nodiscard]] instant next_deadline() const noexcept
    {
        if (bytes)
            return bytes->talk.next_deadline();
        const auto at = link->next_deadline();
        return assembling && !held && !shared ? std::min(at, part_at + part_patience) : at;
    }
    // Messages of which nothing is on its way yet.
    [[nodiscard]] std::size_t unsent() const noexcept
    {
        return outbox.size() - (bytes && bytes->written > 0 ? 1 : 0);
    }
    void close(sp_reason reason, stream::ending ending = stream::ending::local) noexcept
    {
        if (bytes)
            bytes->talk.close(ending);
        else
            link->close(reason);
    }

    // Packets whose messages the pattern has not all taken: how many messages had come when each
    // was complete. A ring; none until the first is needed.
    std::vector<std::uint32_t> packet_ends{};
    std::uint32_t packets_first = 0, packets_last = 0;
    std::uint32_t front_messages = 0; // complete with the link's front packet so far
    std::uint32_t messages_come = 0, messages_taken = 0;

    // Over packets: a message that is split, while its parts come.
    frame *assembling = nullptr;
    std::uint32_t assembled = 0;      // bytes of it that have come
    std::uint32_t messages_begun = 0; // that number the next one
    instant part_at{};                // when the latest part came
    // Split messages that are charged to the budget until the pattern has taken them.
    struct charge {
        std::uint32_t message; // as counted by messages_come when it was complete
        std::uint32_t bytes;
    };
    std::vector<charge> charges{};
    std::uint32_t charged = 0; // their sum, and what is being assembled

    // A message that was begun and does not go on although there is room for it, and although
    // this side listened: a timer that came late tells how long it did not.
    static constexpr auto part_patience = std::chrono::seconds(5);
};

// Why a dialer is not connected.
struct dial_failure {
    errc code = errc::timed_out;
    sp_reason reason = SP_REASON_NONE;
    std::uint16_t peer_protocol = 0; // when it was told
    std::string text;                // the refuser's own words
};

struct endpoint {
    bool dials = false;
    std::optional<place_id> place{}; // of the stream transport; else the fields of packets count
    std::uint32_t half_open = 0;     // streams that have come and not finished their hello
    std::deque<pipe_id> greeting{};  // these, in the order in which they came, and some that have
    socket_id socket{};
    std::size_t transport = 0;
    sp_address address{};         // of the peer, when dialing
    std::uint16_t local_port = 0; // served or sent from
    std::uint16_t peer_port = 0;
    pipe_id pipe = protocol::no_pipe;
    bool connected = false;
    std::uint32_t failures = 0; // in a row; the pause grows with it
    std::uint32_t attempts = 0;
    instant attempt_until = instant::max();
    instant retry_at = instant::max();
    instant scheduled = instant::max();
    std::optional<dial_failure> last_failure;
};

// What an admission predicate is told.
struct candidate {
    std::size_t transport;
    sp_address address;
    std::uint16_t port;
    std::uint16_t protocol;
    std::uint64_t instance;
    std::optional<stream_id> stream{};    // in place of transport, address and port
    std::optional<credentials> process{}; // over packets, where the transport vouches for it
};

// Something that happened to a pipe, in the order in which it did.
struct happening {
    enum class kind : std::uint8_t { attached, detached, refused };
    kind what{};
    pipe_id pipe = protocol::no_pipe; // attached, detached
    stat why{};                       // detached, refused
    std::string transport, peer;      // peer: on byte streams; over packets the address and port
    std::uint16_t protocol = 0;       // the peer's, as it said
    std::uint64_t instance = 0;
    sp_address address{};
    std::uint16_t port = 0;
    endpoint_id endpoint = no_endpoint; // that dialed or accepted it
    std::optional<credentials> process{};
};
inline constexpr std::size_t happenings_max = 1024; // kept for a socket; the oldest goes

// A pipe whose messages go through memory shared with the peer.
struct shared_pipe {
    pipe_id id;
    pipe *at;
};

struct socket {
    socket_id id{};
    any_machine machine;
    protocol::role role{};
    counters books; // what happened on this socket; its places are socket, pipe and listener
    socket_options options;
    std::move_only_function<bool(const candidate &)> admit;
    std::uint32_t peers = 0;
    std::vector<shared_pipe> shared_pipes;
    std::size_t shared_turn = 0; // whose ring is looked at next
    std::vector<pipe_id> aboard; // pipes that get what is published
    std::uint32_t untended = 0;  // messages published since the engine was last turned for it
    std::deque<happening> events;
    bool closing = false;
    instant scheduled = instant::max();
};

} // namespace sp::core
