// SPDX-License-Identifier: BSD-2-Clause
//
// The sending half of a connection: messages become the contents of numbered packets, which stay
// here, in private memory, until the peer has confirmed them. Small messages that pile up share a
// packet; large ones are split. The contents of a number never change: sending again means the same
// bytes in a new packet, or in slices where the path has become too narrow.
//
// Missing packets are found by those behind them (three overtook it, or one did and time has
// passed), by a question about the tail (an ACK that wants an answer), and at last by a time-out.
// The owner asks next() for what should go out, writes it and says on_sent().
#pragma once

#include "sp/abi/wire.h"
#include "userspace/link/congestion.hpp"
#include "userspace/link/receiver.hpp"
#include "userspace/link/rtt.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace sp::link {

using instant = std::chrono::steady_clock::time_point;

// What happened to packets, for counters.
struct sender_counts {
    std::uint32_t data_sent = 0, data_resent = 0, questions = 0, timeouts = 0, cut = 0;
};

// One packet that should go out: these contents, or a slice of them.
struct shipment {
    std::uint32_t seq;
    std::span<const std::byte> contents; // the slice's, of a slice
    std::uint16_t offset = 0, total = 0; // of a slice; total 0: all of them
    bool ask = false;                    // for an acknowledgement at once
};

// What the peer said of what it has.
struct feedback {
    std::uint32_t ack;                                // the next number it expects
    std::uint32_t sack;                               // bit i: ack + 1 + i is there
    std::uint32_t limit;                              // numbers it may be sent lie below
    std::optional<std::span<const std::byte>> wide{}; // as sack, a bit for each of 256
};

class sender {
public:
    explicit sender(std::uint32_t first) noexcept;

    // The handshake is over: how long packets may be, header to trailer, and what the peer takes.
    void open(std::size_t packet_max, std::uint32_t limit, std::uint16_t records_max) noexcept;

    // ---- messages in
    // May one more packet be begun? True means that any message can be begun.
    [[nodiscard]] bool ready() const noexcept;
    // Appends as much of the message of head and body as there is room for, from byte `from` of it
    // on; ready() was true. Returns up to where: the message's size when all of it is in.
    [[nodiscard]] std::size_t append(std::span<const std::byte> head,
                                     std::span<const std::byte> body, std::size_t from,
                                     instant now) noexcept;

    // ---- packets out
    [[nodiscard]] std::optional<shipment> next() noexcept;
    void on_sent(const shipment &what, instant now) noexcept;
    // An ACK that wants an answer went out.
    void on_asked(instant now) noexcept;

    // ---- what comes back
    // False: the peer confirms what was never sent.
    [[nodiscard]] bool on_feedback(const feedback &f, instant now) noexcept;
    // An answer took so long, and was one to something sent once.
    void on_round_trip(std::chrono::nanoseconds d, instant now) noexcept { rtt_.sample(d, now); }

    // ---- time
    // True: a question should go out.
    [[nodiscard]] bool on_deadline(instant now) noexcept;
    [[nodiscard]] instant next_deadline() const noexcept;

    // The path takes only shorter packets from now on.
    void narrow(std::size_t packet_max) noexcept;
    [[nodiscard]] std::size_t packet_max() const noexcept { return packet_max_; }
    // Longer packets than `safe` vanish while the peer answers: the path has become narrower.
    [[nodiscard]] bool swallows_long_packets() const noexcept;

    [[nodiscard]] std::uint32_t next_seq() const noexcept { return unsent_; } // to come, for ACK
    [[nodiscard]] std::uint32_t confirmed() const noexcept { return confirmed_; } // messages
    [[nodiscard]] std::uint32_t unconfirmed() const noexcept { return messages_ - confirmed_; }
    [[nodiscard]] bool idle() const noexcept { return oldest_ == next_; } // nothing is unconfirmed
    [[nodiscard]] const round_trip &rtt() const noexcept { return rtt_; }
    [[nodiscard]] sender_counts take_counts() noexcept;

    // Gives back memory that is not needed now.
    void shrink() noexcept;

    static constexpr std::uint32_t window_max = receiver::window_max; // packets unconfirmed
    // IP packets of 1280 bytes pass everywhere (RFC 8200, section 5).
    static constexpr std::size_t packet_safe = 1280 - 40;
    static constexpr std::size_t packet_least = sizeof(sp_init); // that any path must carry

private:
    enum class state : std::uint8_t { waiting, flying, missing, there };
    struct entry {
        std::uint64_t place = 0; // in the store, counted over its whole life
        std::uint64_t order = 0; // among all sendings, of the last that carried it
        instant sent_at{};
        std::uint16_t length = 0;
        std::uint16_t messages = 0; // that are complete with it
        std::uint16_t sliced = 0;   // bytes of it that have gone out in slices
        std::uint8_t sends = 0;
        state what = state::waiting;
    };

    [[nodiscard]] entry &at(std::uint32_t seq) noexcept;
    [[nodiscard]] const entry &at(std::uint32_t seq) const noexcept;
    [[nodiscard]] std::size_t contents_max() const noexcept;
    [[nodiscard]] bool is_long(const entry &e) const noexcept;
    [[nodiscard]] std::span<std::byte> bytes_of(const entry &e) noexcept;
    [[nodiscard]] std::span<std::byte> room_in_open() noexcept;
    [[nodiscard]] std::size_t store_max() const noexcept;
    [[nodiscard]] std::optional<std::uint64_t> place_for(std::size_t n) const noexcept;
    void grow(std::size_t n);
    void begin_packet(instant now) noexcept;
    void end_packet() noexcept { open_ = false; }
    [[nodiscard]] std::size_t append_parts(std::span<const std::byte> head,
                                           std::span<const std::byte> body, std::size_t from,
                                           instant now) noexcept;
    [[nodiscard]] shipment ship(std::uint32_t seq, bool ask) noexcept;
    [[nodiscard]] bool waits_for_company() const noexcept;
    void on_delivered(entry &e, instant now) noexcept;
    void miss(entry &e, instant now) noexcept;
    void find_missing(std::uint32_t known_end, instant now) noexcept;
    void on_answer(std::uint32_t known_end, instant now) noexcept;
    void on_progress(instant now) noexcept;
    void on_timeout(instant now) noexcept;
    [[nodiscard]] instant rests_until(const entry &e) const noexcept;

    // So many packets may be under way before small messages wait for company: a burst of a few
    // goes out at once, a stream fills its packets.
    static constexpr std::uint32_t cork_flying = 8;
    // And so long at most, where the driver turns; acknowledgements free them before.
    static constexpr auto cork_time = std::chrono::microseconds(200);
    static constexpr std::uint64_t reordering = 3; // packets that may overtake one
    static constexpr unsigned questions_max = 2;   // before time-outs take over
    // Small messages share a packet up to these: beyond, a packet costs its messages little, and
    // what a credit of packets admits must stay well below the queue of a receiver that drops (1
    // MiB).
    static constexpr std::size_t shared_bytes_max = 4096;
    static constexpr std::uint16_t shared_messages_max = 48;
    // So often a packet is sent at once when it is missed; then it rests, longer each time.
    static constexpr unsigned sends_at_once = 3;
    static constexpr unsigned resent_on_timeout = 2;
    // Of long packets in a row before the path is called narrow.
    static constexpr unsigned long_missing_max = 6;

    std::size_t packet_max_ = 0;
    std::uint16_t records_max_ = 0;

    std::uint32_t oldest_; // all before it are confirmed
    std::uint32_t unsent_; // all before it went out at least once
    std::uint32_t next_;   // to be begun
    std::uint32_t limit_;
    bool open_ = false;   // packet next_ - 1 takes more records
    bool pushed_ = false; // and waits for none
    instant opened_at_{};

    std::vector<entry> entries_; // by seq; grows to what is under way
    std::vector<std::byte> store_;
    std::uint64_t tail_ = 0; // place of the next contents

    std::uint32_t flying_ = 0, missing_ = 0;
    std::uint32_t forced_ = 0; // of the missing, these go whatever the window says
    std::uint32_t messages_ = 0, confirmed_ = 0;
    std::uint32_t begun_ = 0;        // messages whose first record is written
    std::uint64_t sendings_ = 0;     // of data, first and later ones
    std::uint64_t newest_there_ = 0; // the latest of them that is known to have arrived
    std::uint32_t asked_at_seq_ = 0; // a packet that carried a question of ours...
    bool asked_ = false;             // ... which is not confirmed yet
    // Of a question without an answer: the sendings before it, and when it was asked.
    std::optional<std::uint64_t> question_;
    instant question_at_{};
    unsigned questions_ = 0, timeouts_ = 0; // since the last progress
    std::uint64_t timed_out_ = 0;           // the latest sending before the latest time-out
    unsigned credit_questions_ = 0;
    instant now_{};       // of the latest call that had one
    instant active_at_{}; // something went out, or was confirmed
    instant overtaken_at_ = instant::max();
    unsigned long_missing_ = 0;  // long packets missed since one arrived
    std::uint64_t narrowed_ = 0; // the latest sending before the path became narrower
    std::optional<std::chrono::nanoseconds> sample_; // of this feedback, the newest packet's
    round_trip rtt_;
    congestion congestion_;
    sender_counts counts_;
};

} // namespace sp::link
