// SPDX-License-Identifier: BSD-2-Clause
//
// What the engine asks of a transport: packets in, packets out, by batch. A transport moves SP
// packets (header to trailer, see abi/wire.h) and knows no connection, no pattern and no
// retransmission; what it hands up has passed sp_check_packet(). All calls come from the one thread
// that drives the engine; none blocks, locks or allocates, except open_route(), which may allocate
// and ask the kernel.
//
// Routes: a peer the engine has a connection with gets a route, a small number behind which the
// transport keeps the ready packet headers (or the socket address) and its own idea of the next
// hop. Strangers get send_to().
#pragma once

#include "sp/abi/address.h"
#include "sp/abi/credentials.hpp"
#include "sp/abi/names.hpp"

#include <concepts>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

namespace sp::core {

// hot: only what costs no system call when nothing is there. full: look everywhere, reap, read
// netlink. The driver asks for a full sweep after every sleep and at least once a millisecond; a
// transport decides what each means.
enum class sweep : bool { hot, full };

// A sink for received packets; `packet` is valid until the sink returns.
inline constexpr auto any_sink = [](const sp_address &, std::span<const std::byte>) {};

template <class T>
concept transport =
    requires(T t, const T c, const sp_address &peer, route_id route,
             std::span<const std::byte> packet, std::size_t n, sweep how, std::int64_t now) {
        // Receives at most `n` packets, each handed to the sink as (source, packet). Returns how
        // many.
        { t.receive(any_sink, n, how, now) } noexcept -> std::same_as<std::size_t>;
        // A way to `peer`, or nothing when there is none or too many are open; failure() tells why.
        { t.open_route(peer) } noexcept -> std::same_as<std::optional<route_id>>;
        { t.close_route(route) } noexcept;
        // Room for one packet of `n` bytes; empty: back pressure, try in a later turn. Each
        // non-empty reserve() is followed by exactly one submit() before the next reserve().
        { t.reserve(route, n) } noexcept -> std::same_as<std::span<std::byte>>;
        { t.submit(route, n) } noexcept;
        // One packet to a stranger, best effort; what fails is counted.
        { t.send_to(peer, packet) } noexcept;
        // Pushes out what was submitted: one system call for a whole turn.
        { t.flush() } noexcept;
        // Peers that the system says are gone or unreachable, one per call. A hint: the engine
        // believes it only while dialing, unless the transport is local and the kernel knows for
        // certain.
        { t.next_failure() } noexcept -> std::same_as<std::optional<std::pair<sp_address, errc>>>;
        {
            c.packet_max(route)
        } noexcept -> std::same_as<std::size_t>; // largest SP packet, header to trailer
        {
            c.name(route)
        } noexcept -> std::same_as<std::string_view>;   // "ip/xdp", "ip/kernel", "unixgram"
        { c.certain() } noexcept -> std::same_as<bool>; // failures are facts, not hints
        { c.wake_fd() } noexcept -> std::same_as<int>; // readable when receive() may find something
    };

// A transport of one host may have its kernel's word on which process a peer is, and a list of who
// may come. Asked while a connection is made and when somebody wants to know, never per message.
template <class T>
concept vouching_transport =
    transport<T> && requires(const T c, route_id route, const std::optional<credentials> &who) {
        // Who sent the packet that the sink was given; only inside the sink.
        { c.sender() } noexcept -> std::same_as<std::optional<credentials>>;
        // Who is at the end of an open route, as of the handshake.
        { c.peer_of(route) } noexcept -> std::same_as<std::optional<credentials>>;
        { c.may_come(who) } noexcept -> std::same_as<bool>;
    };

// A transport that receives into a fixed number of frames says how many: the credit of all
// connections together stays below, so that nothing is dropped for want of one. 0: no such number.
template <class T>
concept framed_transport = transport<T> && requires(const T c) {
    { c.rx_packets() } noexcept -> std::same_as<std::size_t>;
};

// A transport of one host may lead to memory shared with the peer. Messages then go through rings,
// whole or in parts, reliable and in order; packets only open and close the connection.
inline constexpr auto any_part = [](std::uint32_t, const auto &) { return true; };

template <class T>
concept sharing_transport =
    transport<T> &&
    requires(T t, const T c, route_id route, std::uint32_t n, std::span<const std::byte> bytes) {
        // Of a route that was just opened: its peer may have so many messages on the way that were
        // not consumed(); 0: as many as fit.
        { t.allow(route, n) } noexcept;
        // Both ends of this route know each other. True: messages go through shared memory from now
        // on, and what comes is shown with the cookie `n`.
        { t.share(route, n) } noexcept -> std::same_as<bool>;
        // The system tells when the peer's process ends: silence means nothing.
        { c.watches_life(route) } noexcept -> std::same_as<bool>;
        // As much of a message of head and body as there is room for, from a byte of it on; up to
        // where.
        { t.put(route, bytes, bytes, std::size_t{}) } noexcept -> std::same_as<std::size_t>;
        // Messages put that the peer is not known to have read.
        { c.unread(route) } noexcept -> std::same_as<std::uint64_t>;
        // Shows what came as (cookie, part): part.payload, .first, .last, and .at, the bytes of the
        // whole message (first) or before this part. The memory is the peer's, so copy first. False
        // from the sink: not taken, and what follows waits for records_of(). How many were taken.
        { t.records(any_part) } noexcept -> std::same_as<std::size_t>;
        { t.records_of(route, any_part) } noexcept -> std::same_as<std::size_t>;
        { t.consumed(route) } noexcept;
    };

// Memory that all peers of one socket read: what is published there goes to all routes that are
// aboard, by one write.
template <class T>
concept broadcasting_transport =
    sharing_transport<T> && requires(T t, const T c, route_id route, std::uint32_t socket,
                                     std::span<const std::byte> body, std::size_t n) {
        // Of a route that was just opened: its socket, of this number, publishes; it hears what its
        // peer publishes.
        { t.publishes(route, socket) } noexcept;
        { t.hears(route) } noexcept;
        // The largest message that its peer takes by publish(); 0: none. From share() on.
        { c.broadcast_max(route) } noexcept -> std::same_as<std::size_t>;
        // It gets what is published, behind all that was put. It must not be put anything then.
        { t.board(route) } noexcept;
        // By any route that is aboard, for all of its socket that are. After part() none is.
        { t.part(route) } noexcept;
        { t.publish(route, body) } noexcept;
        // A message of so many bytes would overrun nobody. If not, whoever sleeps is woken when
        // there is more room.
        { t.broadcast_room(route, n) } noexcept -> std::same_as<bool>;
        // Most of what the ring holds is not read by somebody of this process.
        { t.broadcast_crowded(route) } noexcept -> std::same_as<bool>;
        { c.published(route) } noexcept -> std::same_as<std::uint64_t>; // so far, partings too
        // What comes is shown by records() to use.of(cookie), which is asked wants(beginning, size)
        // and told hear(news): news.size(), .copy(to) (false: it was overrun meanwhile); false: not
        // taken. missed(n): overrun; filtered(n): not wanted.
    };

} // namespace sp::core
