// SPDX-License-Identifier: BSD-2-Clause
//
// What the engine asks of the transport of byte streams: ipc://, abstract:// and tcp:// towards NNG
// and its relatives. One object holds all stream sockets of a node: listeners and targets to dial
// (places, registered by the composition root) and the connections made there (streams). It moves
// bytes and knows neither hello nor frame. All calls come from the one thread that drives the
// engine; none blocks, except connect() where a name must be resolved.
#pragma once

#include "sp/abi/streams.hpp"
#include "userspace/engine/transport.hpp"

#include <concepts>
#include <cstddef>
#include <span>
#include <string_view>

namespace sp::core {

inline constexpr auto any_event_sink = [](const stream_event &) {};

template <class T>
concept stream_transport =
    requires(T t, const T c, place_id place, stream_id stream, std::span<std::byte> room,
             std::span<const std::span<const std::byte>> parts, interest what, std::size_t n,
             sweep how) {
        // Hands at most `n` events to the sink; how many there were. The sink may call everything
        // here except poll().
        { t.poll(any_event_sink, n, how) } noexcept -> std::same_as<std::size_t>;
        // Begins a connection to a place; connected or failed follows as an event.
        { t.connect(place) } noexcept -> std::same_as<stream_id>;
        { t.read(stream, room) } noexcept -> std::same_as<transfer>;
        // One vectored write; a short count is back pressure.
        { t.write(stream, parts) } noexcept -> std::same_as<transfer>;
        // A new stream is watched for reading; a stream that waits to be connected needs no watch.
        { t.watch(stream, what) } noexcept;
        { t.close(stream) } noexcept;
        { t.peer(stream) } noexcept -> std::same_as<const peer_identity &>;
        { c.name(stream) } noexcept -> std::same_as<std::string_view>; // "ipc", "abstract", "tcp"
        { c.typed_frames(stream) } noexcept -> std::same_as<bool>; // ipc and abstract: a type byte
        {
            c.wake_fd()
        } noexcept -> std::same_as<int>; // readable when poll() may find something; -1: none yet
    };

// For engines without streams.
struct no_streams {
    std::size_t poll(auto &&, std::size_t, sweep) noexcept { return 0; }
    stream_id connect(place_id) noexcept { return {}; }
    transfer read(stream_id, std::span<std::byte>) noexcept { return {}; }
    transfer write(stream_id, std::span<const std::span<const std::byte>>) noexcept { return {}; }
    void watch(stream_id, interest) noexcept {}
    void close(stream_id) noexcept {}
    const peer_identity &peer(stream_id) noexcept { return nobody; }
    [[nodiscard]] std::string_view name(stream_id) const noexcept { return ""; }
    [[nodiscard]] bool typed_frames(stream_id) const noexcept { return false; }
    [[nodiscard]] int wake_fd() const noexcept { return -1; }

    peer_identity nobody;
};
static_assert(stream_transport<no_streams>);

} // namespace sp::core
