// SPDX-License-Identifier: BSD-2-Clause
//
// PAIR, one peer at a time, both ways, nothing dropped. Version 1 has one word in front of the
// body, the number of hops so far; version 0 has none. That there is one peer is the engine's
// business: what is queued goes to the next one.
#pragma once

#include "userspace/protocol/distributor.hpp"
#include "userspace/protocol/fair_inbox.hpp"
#include "userspace/protocol/types.hpp"

#include <cstdint>
#include <optional>
#include <span>

namespace sp::protocol {

struct pair_options {
    int version = 1;         // 0 or 1
    std::size_t ttl_max = 8; // hops that are let through, 1 to 15; version 1 only
    queue_bounds send{};     // of the socket
    queue_bounds recv{};
    overflow on_send_full = overflow::block;
    overflow on_recv_full = overflow::block;
    alone on_no_peer = alone::wait;
};

// The word of version 1.
inline constexpr std::size_t hop_bytes = 4;
inline constexpr std::uint32_t hops_max = 0xff;

// Why a message of version 1 is not to be delivered, if it is not: pipe_bad_header ends its pipe.
[[nodiscard]] std::optional<stat> hop_fault(std::span<const std::byte> payload,
                                            std::size_t ttl_max) noexcept;

class pair_machine {
public:
    explicit pair_machine(const pair_options &options);

    // would_block, no_peer or message_too_large: nothing has changed.
    [[nodiscard]] std::optional<errc> on_send(frame_id frame, std::size_t size, instant now,
                                              effects &out);
    // Whether on_send() would not say would_block.
    [[nodiscard]] bool send_ready(std::size_t size) const noexcept;
    [[nodiscard]] bool waiting() const noexcept { return in_.waiting(); }
    [[nodiscard]] std::optional<taken> take(effects &out) { return in_.take(out); }

    [[nodiscard]] direct_way direct(std::size_t size) const noexcept
    {
        return {.pipe = out_.direct(header().size() + size), .header = header()};
    }
    void went(pipe_id pipe) noexcept { out_.went(pipe); }
    [[nodiscard]] std::optional<std::size_t>
    direct(std::span<const std::byte> payload) const noexcept
    {
        if (!in_.idle() || (version_ == 1 && hop_fault(payload, ttl_max_)))
            return std::nullopt;
        return header().size();
    }

    void on_pipe_added(const pipe_profile &pipe);
    void on_pipe_closed(pipe_id pipe, instant now);
    void on_pipe_ready(pipe_id pipe, instant, effects &out) { out_.ready(pipe, out); }
    void on_unsent(pipe_id pipe, frame_id frame) { out_.take_back(pipe, frame); }
    void on_message(pipe_id pipe, frame_id frame, std::span<const std::byte> payload, instant now,
                    effects &out);
    void on_deadline(instant) noexcept {}
    [[nodiscard]] instant next_deadline() const noexcept { return instant::max(); }
    void pump(instant now, effects &out);
    [[nodiscard]] std::size_t queued_out() const noexcept { return out_.queued(); }
    [[nodiscard]] std::size_t queued_in() const noexcept { return in_.size(); }
    std::size_t close(effects &out);

private:
    [[nodiscard]] std::span<const std::byte> header() const noexcept;

    int version_;
    std::size_t ttl_max_;
    distributor out_;
    fair_inbox in_;
};

} // namespace sp::protocol
