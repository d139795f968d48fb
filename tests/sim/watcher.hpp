// SPDX-License-Identifier: BSD-2-Clause
//
// Reads every packet as it enters the network and as it is handed to an engine, with a parser of
// its own, and holds what it sees against the promises of the link: numbers, contents, credit,
// acknowledgements, splitting, handshake. What it knows of each connection is also the yardstick of
// what applications get: which messages went by it, and in which order.
#pragma once

#include "sp/abi/wire.h"
#include "tests/sim/judge.hpp"
#include "tests/sim/ledger.hpp"
#include "userspace/protocol/types.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace sp::sim {

using protocol::role;

// A message as it stands in the packets of a flow.
struct passing {
    std::uint32_t number = unknown;
    std::uint32_t content = 0; // its first packet, by place in the flow
    std::uint32_t size = 0;    // header and body
    bool split = false;
    bool complete = false; // its last byte went out at least once
    bool delivered = false;
};

// A sequence number's contents: the records of its packet.
struct content {
    std::vector<std::byte> bytes{};
    std::uint32_t sends = 0;     // of all of it
    std::uint32_t known = 0;     // bytes that have been seen: it may begin as slices
    std::uint32_t slice_end = 0; // of the latest slice
    std::uint32_t first_message = 0, messages = 0;
    std::vector<bool> pieces{}; // of four bytes: those that arrived as slices
    std::uint32_t pieces_arrived = 0;
    bool arrived = false;
    instant arrived_at{}; // by the receiver's clock
    // As its sender knows it.
    bool out = false;        // all of it went out, and has not begun again
    bool confirmed = false;  // the news of its arrival has arrived
    std::uint32_t order = 0; // of its latest sending, among all of its flow
    instant first_at{}, sent_at{};
};

// One direction of one connection.
struct flow {
    std::uint64_t id = 0;           // the dcid of its packets
    std::uint32_t from = 0, to = 0; // hosts
    std::uint16_t from_port = 0, to_port = 0;
    std::uint32_t reverse = nobody; // the other direction
    role sender{};
    bool may_send = false; // the handshake has arrived at the sender
    std::uint16_t packet_max = 0;

    std::uint64_t last_number = 0;
    bool numbered = false;
    std::vector<bool> numbers_arrived{};

    bool based = false;
    std::uint32_t base = 0; // the first sequence number
    std::vector<content> contents{};
    std::uint32_t arrived = 0; // of contents, from the first without a gap
    std::uint32_t limit = 0;   // the highest credit that arrived at the sender
    bool has_limit = false;

    std::vector<passing> messages{};
    std::unordered_map<std::uint32_t, std::uint32_t> places{}; // in messages, by number
    std::unordered_set<std::uint64_t> stacks{};                // hashes of headers that it brought
    std::uint32_t unfinished = 0;                              // bytes of a split message to come
    bool resized = false; // the packet size of its sender changed while it lived

    // What the sender can know: of its contents, those before this have been confirmed.
    std::uint32_t confirmed = 0;
    std::uint32_t sendings = 0;
    std::uint32_t confirmed_order = 0; // the latest sending of anything that was confirmed
    std::uint32_t answered_order = 0;  // the latest sending before a question that was answered
    struct question {
        std::uint32_t order; // of the latest sending before it
        instant at;
    };
    std::deque<question> questions{}; // that nothing can have answered yet

    std::uint64_t bytes_sent = 0, bytes_resent = 0, bytes_arrived = 0;
    instant heard_at{}; // the latest packet of it, by the receiver's clock
    sp_header latest{};
    instant burst_at{};
    std::uint32_t burst = 0; // ACKs without news since then

    // Known once an application has been told of the pipe at that end.
    std::uint32_t sender_socket = nobody, receiver_socket = nobody;
    std::uint32_t opened_at_message = 0; // the ledger's size when the sender attached it
    bool ended = false;                  // at either end
    bool ambiguous = false;              // its packets cannot be told from another's
    std::vector<std::pair<std::uint32_t, std::uint32_t>> taken{}; // by context: place of the next
    std::uint32_t checked = 0; // of messages: those known to be delivered
};

class watcher {
public:
    watcher(judge &j, ledger &l) : judge_(j), ledger_(l) {}

    // Whoever sends from there has one pipe at a time: all that it takes goes out in order, over
    // reconnects too.
    void expect_order(std::uint32_t host, std::uint16_t port)
    {
        orderly_.insert(std::uint32_t{host} << 16 | port);
    }

    // A packet of an engine enters the network. `packet_max`: what its transport says now.
    void on_sent(std::uint32_t from, std::uint32_t to, std::span<const std::byte> packet,
                 std::size_t packet_max, instant now);

    enum class kind : std::uint8_t { other, damaged, fresh, again };
    // A packet is about to be handed to the engine of host `at`, whose own clock says `local`.
    kind on_arriving(std::uint32_t at, std::span<const std::byte> packet, instant now,
                     instant local);

    // The number of the flow whose packets carry this id, or nobody.
    [[nodiscard]] std::uint32_t find(std::uint64_t dcid) const;
    [[nodiscard]] flow &operator[](std::uint32_t n) noexcept { return flows_[n]; }
    [[nodiscard]] std::uint32_t size() const noexcept
    {
        return static_cast<std::uint32_t>(flows_.size());
    }
    void on_resized(std::uint32_t host); // its packet size changed

    // Whether a message has arrived, or the first packet of it, on any connection.
    [[nodiscard]] bool has_come(std::uint32_t message);
    [[nodiscard]] bool ambiguous() const noexcept // somewhere in this run
    {
        return std::ranges::any_of(flows_, &flow::ambiguous);
    }
    [[nodiscard]] std::uint64_t data_packets() const noexcept { return data_packets_; }

    // Of one packet: so often, and where it may be lost every time once more for each such time. It
    // rests for twice that long, but now and then a time-out sends it earlier.
    static constexpr std::uint32_t sends_max = 20;
    std::chrono::nanoseconds resends_every = std::chrono::nanoseconds::max();
    std::chrono::nanoseconds round_trip_min{0}; // no answer can come sooner

private:
    struct proposal { // an INIT on its way
        std::uint32_t from, to;
        role protocol;
        std::uint16_t from_port, to_port, packet_max;
        std::uint32_t limit;
    };

    void on_accept(const sp_accept &accept);
    void on_data(flow &f, std::uint32_t number, const sp_header &h,
                 std::span<const std::byte> packet, std::size_t packet_max, instant now);
    void note_sending(flow &f, std::size_t place, std::size_t begin, bool ends, instant now);
    void learn(flow &f, const sp_header &h, std::span<const std::byte> packet, instant now);
    void on_contents(flow &f, std::uint32_t number, std::size_t place,
                     std::span<const std::byte> bytes, std::size_t offset, std::size_t total,
                     std::size_t packet_max);
    void has_come(flow &f, std::size_t place, instant local);
    void read_contents(flow &f, std::uint32_t number, std::size_t place,
                       std::span<const std::byte> records, std::size_t packet_max);
    void on_message(flow &f, std::uint32_t number, std::size_t in,
                    std::span<const std::byte> payload, std::size_t total, bool split);
    void check_numbers(flow &f, const sp_header &h, instant now);
    void check_acknowledgement(const flow &f, const sp_header &h,
                               std::span<const std::byte> packet);
    [[nodiscard]] bool has_arrived(const flow &f, std::uint32_t seq) const;
    // Whether all of a message went out on this flow: what is cut off by its end arrives nowhere.
    [[nodiscard]] static bool is_complete(const flow &f, std::uint32_t number);
    void check_header(flow &f, std::uint32_t number, std::span<const std::byte> header);

    judge &judge_;
    ledger &ledger_;
    std::vector<flow> flows_;
    std::unordered_map<std::uint64_t, std::uint32_t> by_id_;
    std::unordered_map<std::uint64_t, proposal> proposals_;        // by the dialer's id
    std::unordered_map<std::uint64_t, std::uint32_t> request_ids_; // by socket and id: the message
    std::unordered_set<std::uint32_t> orderly_;                    // by host and port
    std::unordered_map<std::uint32_t, std::uint32_t> latest_;      // by socket, of those
    std::uint64_t data_packets_ = 0;
};

// How many bytes of a payload are the header of this pattern; its size if it never ends.
[[nodiscard]] std::size_t header_size(role sender, std::span<const std::byte> payload) noexcept;
[[nodiscard]] std::uint64_t hash_of(std::span<const std::byte> bytes) noexcept;

} // namespace sp::sim
