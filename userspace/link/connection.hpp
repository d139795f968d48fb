// SPDX-License-Identifier: BSD-2-Clause
//
// One connection over packets: cookie handshake, connection ids, keep-alive, and the end with its
// reason; between them a sender and a receiver that make the pipe reliable and ordered. Sans-I/O:
// time and packets are handed in, packets are asked for.
//
// Call in this order: after every input (on_packet, on_deadline, append, consumed, close) call
// transmit() for as long as transmit_size() is not 0; look at state() when it may have changed;
// call on_deadline() no later than next_deadline(). Messages go out by append() while send_ready().
// When on_packet() says `records`, take them from front() on the spot and call keep() before the
// packet's memory goes away: what was not taken stays here and is offered by front() again.
//
//            start            COOKIE             ACCEPT          close(), DISCONNECT, silence
//   (dialer) -----> probing ----------> opening ----------> open -----------------------> closed
//                      |                   |                 ^
//                      +-- REFUSE, no answer --> closed      | anything from the dialer but INIT:
//                                                            | it has the ACCEPT
//   (listener) -- a good INIT --> accepted ------------------+
//                                    +-- no confirmation --> closed
//
// docs/link.md has every timer with its reason.
#pragma once

#include "sp/abi/wire.h"
#include "userspace/link/cookie.hpp"
#include "userspace/link/receiver.hpp"
#include "userspace/link/replay.hpp"
#include "userspace/link/sender.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace sp::link {

// Our own loop was late by more than this: the peer's silence is not its fault.
constexpr auto own_pause = std::chrono::milliseconds(10);

enum class phase : std::uint8_t { probing, opening, accepted, open, closed };

// What both ends say of themselves, and the limits of this end.
struct connection_config {
    std::uint64_t local_id = 0; // random; packets to us carry it
    std::uint64_t instance = 0; // boot epoch of this engine, random, not 0
    std::uint16_t local_port = 0;
    std::uint16_t peer_port = 0;
    std::uint16_t protocol = 0;      // our SP protocol number
    std::uint16_t peer_protocol = 0; // the only one we accept
    std::uint16_t packet_max = 0;    // what the route carries, header to trailer
    std::uint32_t message_max = 0;
    std::uint16_t window = 32;     // packets the peer may send ahead of what was consumed
    std::uint16_t records_max = 0; // messages that a packet to us may hold; 0: any number
    std::uint32_t first_seq = 0;   // both ends begin with it; for tests of the wrap
    std::chrono::nanoseconds keepalive_interval = std::chrono::milliseconds(250);
    std::chrono::nanoseconds peer_timeout = std::chrono::seconds(1);
};

// What a packet brought.
enum class arrival : std::uint8_t {
    nothing,    // control, dealt with
    records,    // front() has something: take it, then say consumed()
    duplicate,  // seen before; harmless
    malformed,  // out of range for this version; ignored
    unexpected, // does not fit the state; ignored
};

class connection {
public:
    // The asking side; the first packet to transmit is a PROBE.
    [[nodiscard]] static connection dial(const connection_config &config, instant now) noexcept;

    // The answering side: `init` passed its cookie, protocol and limits. The first packet to
    // transmit is the ACCEPT.
    [[nodiscard]] static connection accept(const connection_config &config, const sp_init &init,
                                           instant now) noexcept;

    // A packet whose dcid is ours and whose source and checksum are right.
    [[nodiscard]] arrival on_packet(std::span<const std::byte> packet, instant now) noexcept;

    // The same INIT came again: its ACCEPT was lost.
    void on_init_again() noexcept;

    // A stranger claims not to know our packets' connection. Only silence after two questions makes
    // it true.
    void on_reset(std::uint64_t unknown_pn, instant now) noexcept;

    // Somebody else tells when the peer's process ends: its silence means nothing. Rare keep-alives
    // find out that there is nobody left to take them.
    void rely(instant now) noexcept;

    void on_deadline(instant now) noexcept;
    [[nodiscard]] instant next_deadline() const noexcept;

    // `n` packets' worth of records have been taken by the pattern: credit goes back to the peer.
    void consumed(std::uint32_t n, instant now) noexcept;

    // Ends the connection; an open one tells the peer why.
    void close(sp_reason why) noexcept;

    // ---- packets out
    // Of the packet that should go out now; 0: none.
    [[nodiscard]] std::size_t transmit_size() noexcept;
    // Writes it into `room` (at least transmit_size() bytes) and returns its size.
    [[nodiscard]] std::size_t transmit(std::span<std::byte> room, instant now) noexcept;

    // ---- messages out
    // May a message be begun, or go on?
    [[nodiscard]] bool send_ready() const noexcept { return phase_ == phase::open && out_.ready(); }
    // Appends as much of one message of head and body as there is room for, from byte `from` of it
    // on; send_ready() was true. Returns up to where: its size when all of it is in. Its size is at
    // most message_capacity().
    [[nodiscard]] std::size_t append(std::span<const std::byte> head,
                                     std::span<const std::byte> body, std::size_t from,
                                     instant now) noexcept
    {
        return out_.append(head, body, from, now);
    }

    // ---- messages in: records in order, to be walked with a record_reader
    [[nodiscard]] std::optional<std::span<const std::byte>> front() const noexcept
    {
        return in_.front();
    }
    [[nodiscard]] std::uint32_t window() const noexcept { return in_.window(); }
    void took(std::size_t bytes) noexcept { in_.took(bytes); }
    void finished() noexcept { in_.finished(); }
    void keep() noexcept { in_.keep(); }

    // The path has become narrower: `packet_max` is its largest packet, header to trailer.
    void narrow(std::size_t packet_max) noexcept;

    [[nodiscard]] phase state() const noexcept { return phase_; }
    [[nodiscard]] sp_reason reason() const noexcept { return reason_; } // why it is closed
    [[nodiscard]] bool closed_by_peer() const noexcept { return closed_by_peer_; }
    [[nodiscard]] bool answered() const noexcept
    {
        return answered_;
    } // did anything ever come from the peer?
    [[nodiscard]] std::uint16_t refused_by_protocol() const noexcept
    {
        return refused_by_protocol_;
    }
    [[nodiscard]] std::string_view refusal_text() const noexcept
    {
        return {refusal_text_, refusal_length_};
    }
    [[nodiscard]] std::uint64_t peer_instance() const noexcept { return peer_instance_; }
    [[nodiscard]] std::uint64_t peer_id() const noexcept { return peer_id_; }
    [[nodiscard]] std::uint64_t local_id() const noexcept { return config_.local_id; }
    [[nodiscard]] std::uint16_t peer_port() const noexcept { return config_.peer_port; }
    // That goes out; what comes in may have config's.
    [[nodiscard]] std::size_t packet_max() const noexcept
    {
        return out_.packet_max() != 0 ? out_.packet_max() : config_.packet_max;
    }
    [[nodiscard]] std::size_t
    message_capacity() const noexcept; // of one message here: the smaller of both limits
    [[nodiscard]] std::uint32_t confirmed() const noexcept
    {
        return out_.confirmed();
    } // messages the peer's link holds
    [[nodiscard]] std::uint32_t unconfirmed() const noexcept { return out_.unconfirmed(); }
    [[nodiscard]] const round_trip &rtt() const noexcept { return out_.rtt(); }

    // What happened since they were last taken.
    struct counts {
        sender_counts sent;
        std::uint32_t early = 0;
    };
    [[nodiscard]] counts take_counts() noexcept;

private:
    explicit connection(const connection_config &config) noexcept;

    enum due : std::uint8_t {
        due_probe = 1,
        due_init = 2,
        due_accept = 4,
        due_ack = 8,
        due_disconnect = 16
    };

    arrival on_cookie(std::span<const std::byte> packet, instant now) noexcept;
    arrival on_accept(std::span<const std::byte> packet, instant now) noexcept;
    arrival on_refuse(std::span<const std::byte> packet) noexcept;
    arrival on_data(const sp_header &header, std::span<const std::byte> packet,
                    instant now) noexcept;
    arrival on_disconnect(std::span<const std::byte> packet) noexcept;
    bool on_feedback(const sp_header &header, std::span<const std::byte> packet,
                     instant now) noexcept;
    void confirm(instant now) noexcept;
    void retry_handshake(instant now) noexcept;
    void watch_peer(instant now) noexcept;
    void end(sp_reason why) noexcept;
    void sample_handshake(instant now) noexcept;
    [[nodiscard]] std::size_t probe_size() const noexcept;
    void fill_header(sp_header &header, sp_packet_type type, std::uint8_t flags) noexcept;
    void fill_identity(sp_identity &identity) const noexcept;
    void fill_params(sp_params &params, std::size_t packet_max) const noexcept;
    std::size_t write_probe(std::span<std::byte> room) noexcept;
    std::size_t write_init(std::span<std::byte> room) noexcept;
    std::size_t write_accept(std::span<std::byte> room) noexcept;
    std::size_t write_data(std::span<std::byte> room, const shipment &what, instant now) noexcept;
    std::size_t write_ack(std::span<std::byte> room, instant now) noexcept;
    std::size_t write_disconnect(std::span<std::byte> room) noexcept;

    connection_config config_;
    phase phase_ = phase::probing;
    std::uint8_t due_ = 0;
    bool ask_ = false; // the next ACK carries ACK_NOW
    bool closed_by_peer_ = false;
    bool answered_ = false;
    bool suspect_ = false; // a RESET came: the peer may have restarted
    bool inited_ = false;  // with a cookie that was given up: what comes may be the answer to that
    std::uint8_t attempt_ = 0;

    std::uint64_t peer_id_ = 0;
    std::uint64_t peer_instance_ = 0;
    std::uint32_t peer_message_max_ = 0;

    sender out_;
    receiver in_;
    std::uint64_t next_pn_ = 0;
    replay_window seen_;
    std::uint32_t granted_ = 0;    // the credit that our last packet told the peer of
    std::uint32_t unanswered_ = 0; // data packets since our last packet
    std::uint32_t early_ = 0;      // for take_counts()
    std::uint32_t told_;           // the peer's seq up to which we said that something is missing

    instant retry_at_ = instant::max(); // handshake
    instant asked_at_{};                // the latest handshake packet of ours
    instant begun_at_{};
    instant ack_at_ = instant::max();
    instant ask_at_ = instant::max(); // keep-alive
    instant silence_at_ = instant::max();

    std::uint32_t cookie_epoch_ = 0;
    cookie cookie_{};
    std::uint16_t proven_packet_ = 0;

    sp_reason reason_ = SP_REASON_NONE;
    std::uint16_t refused_by_protocol_ = 0;
    std::uint8_t refusal_length_ = 0;
    char refusal_text_[64]{};
};

} // namespace sp::link
