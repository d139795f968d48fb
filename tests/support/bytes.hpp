// SPDX-License-Identifier: BSD-2-Clause
//
// A transport of byte streams inside one thread for tests: a test plays the peer of every stream,
// byte for byte, and decides how much a read or a write moves. Nothing happens by itself.
#pragma once

#include "userspace/engine/stream_transport.hpp"

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace sp::test {

struct byte_end {
    std::vector<std::byte> in;    // the peer has written, the engine has not read
    std::vector<std::byte> out;   // the engine has written
    std::size_t write_max = ~0uz; // bytes that `out` takes before it is full
    std::size_t read_max = ~0uz;  // bytes of one read
    bool ended = false;           // the peer has closed
    bool closed = false;          // the engine has closed
    interest watched = interest::read;
    bool connected = false;
};

// What all copies of one transport share.
struct byte_net {
    std::map<stream_id, byte_end> ends;
    std::deque<stream_event> events;
    std::vector<std::pair<place_id, stream_id>> dialed;
    std::uint32_t next = 1;
    std::uint64_t reads = 0, writes = 0, watches = 0;

    stream_id accept(place_id place)
    {
        const auto id = static_cast<stream_id>(next++);
        ends[id].connected = true;
        events.push_back({.what = stream_event::kind::accepted, .stream = id, .place = place});
        return id;
    }
    void connect(stream_id id)
    {
        ends[id].connected = true;
        events.push_back({.what = stream_event::kind::connected, .stream = id});
    }
    void fail(stream_id id, errc why)
    {
        ends[id].closed = true;
        events.push_back({.what = stream_event::kind::failed, .stream = id, .why = why});
    }
    void give(stream_id id, std::span<const std::byte> bytes)
    {
        ends[id].in.insert(ends[id].in.end(), bytes.begin(), bytes.end());
    }
    void end(stream_id id) { ends[id].ended = true; }
    std::vector<std::byte> take(stream_id id) { return std::exchange(ends[id].out, {}); }
};

class byte_loopback {
public:
    explicit byte_loopback(byte_net &n) : net_(&n) {}

    template <class Sink>
    std::size_t poll(Sink &&sink, std::size_t max, core::sweep) noexcept
    {
        std::size_t n = 0;
        for (; n < max && !net_->events.empty(); ++n) {
            const auto event = net_->events.front();
            net_->events.pop_front();
            sink(event);
        }
        std::vector<stream_id> names;
        for (const auto &[id, e] : net_->ends)
            if (e.connected && !e.closed)
                names.push_back(id);
        for (const auto id : names) {
            const auto reads = [](interest i) {
                return i == interest::read || i == interest::both;
            };
            const auto writes = [](interest i) {
                return i == interest::write || i == interest::both;
            };
            if (auto &e = net_->ends[id];
                !e.closed && reads(e.watched) && (!e.in.empty() || e.ended)) {
                ++n;
                sink(stream_event{.what = stream_event::kind::readable, .stream = id});
            }
            if (auto &e = net_->ends[id];
                !e.closed && writes(e.watched) && e.out.size() < e.write_max) {
                ++n;
                sink(stream_event{.what = stream_event::kind::writable, .stream = id});
            }
        }
        return n;
    }
    stream_id connect(place_id place) noexcept
    {
        const auto id = static_cast<stream_id>(net_->next++);
        net_->ends[id];
        net_->dialed.emplace_back(place, id);
        return id;
    }
    transfer read(stream_id id, std::span<std::byte> room) noexcept
    {
        ++net_->reads;
        auto &e = net_->ends[id];
        const auto n = std::min({room.size(), e.in.size(), e.read_max});
        if (n == 0)
            return {.what = e.ended ? transfer::outcome::ended : transfer::outcome::would_block};
        std::memcpy(room.data(), e.in.data(), n);
        e.in.erase(e.in.begin(), e.in.begin() + static_cast<std::ptrdiff_t>(n));
        return {.what = transfer::outcome::moved, .bytes = n};
    }
    transfer write(stream_id id, std::span<const std::span<const std::byte>> parts) noexcept
    {
        ++net_->writes;
        auto &e = net_->ends[id];
        if (e.ended)
            return {.what = transfer::outcome::failed, .why = errc::connection_reset};
        std::size_t moved = 0;
        for (const auto part : parts) {
            const auto n = std::min(part.size(), e.write_max - std::min(e.write_max, e.out.size()));
            e.out.insert(e.out.end(), part.begin(), part.begin() + static_cast<std::ptrdiff_t>(n));
            moved += n;
        }
        if (moved == 0)
            return {};
        return {.what = transfer::outcome::moved, .bytes = moved};
    }
    void watch(stream_id id, interest what) noexcept
    {
        ++net_->watches;
        net_->ends[id].watched = what;
    }
    void close(stream_id id) noexcept { net_->ends[id].closed = true; }
    const peer_identity &peer(stream_id) noexcept { return nobody_; }
    [[nodiscard]] std::string_view name(stream_id) const noexcept { return "ipc"; }
    [[nodiscard]] bool typed_frames(stream_id) const noexcept { return true; }
    [[nodiscard]] int wake_fd() const noexcept { return -1; }

private:
    byte_net *net_;
    peer_identity nobody_{.text = "a test"};
};
static_assert(core::stream_transport<byte_loopback>);

} // namespace sp::test
