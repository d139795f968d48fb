// SPDX-License-Identifier: BSD-2-Clause
//
// A raw socket of any role: the wire of its protocol without the state. What the cooked socket
// keeps to itself, the header, is the application's: a device moves it from one side to the other,
// a broker routes by it. No timers, no retries, no request that must come first.
//
//   role                  to whom a message goes             the header beside the body
//   req                   any ready pipe                     the stack, up to and with the id
//   surveyor              every pipe                         the same
//   rep, respondent       the pipe that its first word names the pipe it came by, then the stack
//   bus                   every pipe but the one it names    the pipe it came by; may be left out
//   pub; sub              every pipe; nobody                 none
//   push, pair0; pull     any ready pipe; nobody             none
//   pair1                 any ready pipe                     the hops so far: one is added
//
// The name of a pipe in a header has its top bit clear, so that it never looks like an id.
#pragma once

#include "userspace/protocol/backtrace.hpp"
#include "userspace/protocol/distributor.hpp"
#include "userspace/protocol/fair_inbox.hpp"
#include "userspace/protocol/fanout.hpp"
#include "userspace/protocol/types.hpp"

#include <array>
#include <optional>
#include <span>

namespace sp::protocol {

struct raw_options {
    role as;
    std::size_t ttl_max = 8; // words or hops, 1 to 15: rep, respondent and pair1
    queue_bounds send{.bytes = 256 << 10};
    queue_bounds recv{.bytes = 256 << 10};
    overflow on_send_full = overflow::drop_newest;
    overflow on_recv_full = overflow::block;
};

// The queues that a raw socket of this role has unless it is told otherwise.
[[nodiscard]] raw_options raw_defaults(role as) noexcept;

// A header as the application sees it: one word more than what may be on the wire.
struct raw_header {
    static constexpr std::size_t bytes_max = word_bytes + header_bytes_max;

    std::array<std::byte, bytes_max> bytes{};
    std::size_t size = 0;

    [[nodiscard]] std::span<const std::byte> all() const noexcept
    {
        return std::span(bytes).first(size);
    }
};

class raw_machine {
public:
    static constexpr std::size_t ttl_limit = 15; // and the pipe's own word make a full header

    explicit raw_machine(const raw_options &options);

    // invalid_argument (a header that this role cannot have), not_supported (pull, sub), and where
    // one pipe of many takes it would_block and message_too_large: nothing has changed. A header
    // that names no pipe is success, and counted.
    [[nodiscard]] std::optional<errc> on_send(std::span<const std::byte> header, frame_id frame,
                                              std::size_t size, instant now, effects &out);
    // Whether a message of this size, header on the wire included, would be taken without being
    // told would_block and, with overflow::block, without a drop.
    [[nodiscard]] bool send_ready(std::size_t size) const noexcept;

    [[nodiscard]] bool waiting() const noexcept { return in_.waiting(); }
    // header_bytes: of the words that stand in front of the body in the frame.
    [[nodiscard]] std::optional<taken> take(effects &out) { return in_.take(out); }
    // The header that goes beside the body; `payload` is the whole of the frame that was taken.
    [[nodiscard]] raw_header header_of(const taken &message,
                                       std::span<const std::byte> payload) const noexcept;

    void on_pipe_added(const pipe_profile &pipe);
    void on_pipe_closed(pipe_id pipe, instant now);
    void on_pipe_ready(pipe_id pipe, instant now, effects &out);
    void on_unsent(pipe_id pipe, frame_id frame);
    void on_message(pipe_id pipe, frame_id frame, std::span<const std::byte> payload, instant now,
                    effects &out);
    void on_deadline(instant) noexcept {}
    [[nodiscard]] instant next_deadline() const noexcept { return instant::max(); }
    void pump(instant now, effects &out);
    [[nodiscard]] std::size_t queued_out() const noexcept;
    [[nodiscard]] std::size_t queued_in() const noexcept { return in_.size(); }
    std::size_t close(effects &out);

private:
    enum class reach : std::uint8_t { nobody, one, named, all };

    // The header of a message that came, or why it is not one.
    struct reading {
        std::size_t header_bytes = 0;
        std::optional<stat> fault{};
        bool closes = false; // the fault ends the pipe
    };

    [[nodiscard]] static reach reach_of(role as) noexcept;
    [[nodiscard]] reading read(std::span<const std::byte> payload) const noexcept;
    [[nodiscard]] pipe_id named_by(std::span<const std::byte> header) const noexcept;
    [[nodiscard]] std::optional<errc> send_to_one(std::span<const std::byte> header, frame_id frame,
                                                  std::size_t size, effects &out);
    void send_to_named(std::span<const std::byte> header, frame_id frame, std::size_t size,
                       effects &out);
    [[nodiscard]] std::optional<errc> send_to_all(std::span<const std::byte> header, frame_id frame,
                                                  std::size_t size, effects &out);

    role as_;
    reach reach_;
    std::size_t ttl_max_;
    bool blocks_; // a full queue of a peer is waited for
    distributor one_;
    fanout many_;
    pipe_table<pipe_profile> pipes_; // by the names that headers have
    fair_inbox in_;
    arrears arrears_;
};

} // namespace sp::protocol
