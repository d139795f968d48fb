// SPDX-License-Identifier: BSD-2-Clause
//
// What every role has: endpoints, peers and the end. A socket may be used from several threads at
// once; close() from another thread ends every wait within 10 ms with errc::closed. The destructor
// closes, drains for `linger` at most, and gives everything back.
#pragma once

#include "sp/engine.hpp"
#include "sp/error.hpp"
#include "sp/message.hpp"
#include "sp/options.hpp"
#include "sp/wait.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#pragma GCC visibility push(default)
namespace sp::inline v1 {

enum class endpoint_id : std::uint32_t {};

struct pipe_info {
    pipe_id pipe{};
    std::string transport;    // ip/xdp, ip/kernel, unixgram, unixgram/datagram, ipc, abstract, tcp
    std::string peer;         // 198.18.0.2:49311, or the name of a unix socket
    std::uint16_t protocol{}; // the peer's SP protocol number
    std::uint64_t instance{}; // its boot epoch: another number is another start; 0: not known
    std::optional<std::uint32_t> uid{}, gid{}; // of the process there, where the transport knows
    std::optional<std::int32_t> pid{};
    endpoint_id endpoint{}; // of ours: that dialed it or that it came to; see url()
    std::string url{};      // and its URL, while that endpoint is open
};

// Something that happened to a pipe.
struct pipe_event {
    enum class kind : std::uint8_t { attached, detached, refused };
    kind what{};
    sp::pipe_info info;      // refused: what is known of who came
    std::string_view reason; // detached, refused: as in docs/metrics.md, peer_closed; else empty
};

struct close_report {
    struct of_pipe {
        pipe_id pipe;
        std::uint64_t undelivered, unconfirmed;
    };
    std::uint64_t delivered = 0;   // waited when the drain began, and the peer has them
    std::uint64_t undelivered = 0; // still queued here when the drain ended
    std::uint64_t unconfirmed = 0; // on their way; the peer had not confirmed them
    std::vector<of_pipe> pipes{};  // where something was left; a queue for all pipes is in none
};

class socket {
public:
    socket(socket &&) noexcept;
    socket &operator=(socket &&) noexcept;
    ~socket();

    // Keeps trying in the background, with growing pauses, whatever happens. Errors:
    // invalid_address, not_found, permission_denied, limit_reached; nothing about the peer.
    [[nodiscard]] result<endpoint_id> dial(std::string_view url);
    // Waits for the first connection and says why it failed: connection_refused, protocol_mismatch,
    // rejected, timed_out ... On an error nothing goes on in the background.
    [[nodiscard]] result<endpoint_id> dial(std::string_view url, wait first_connection);
    [[nodiscard]] result<endpoint_id> listen(std::string_view url);
    [[nodiscard]] result<std::string>
    url(endpoint_id endpoint) const; // after port 0: with the port that was given

    [[nodiscard]] result<void> wait_peers(std::size_t count, wait how_long = forever);
    [[nodiscard]] std::size_t peers() const noexcept;
    [[nodiscard]] std::optional<sp::pipe_info> pipe_info(pipe_id pipe) const;
    [[nodiscard]] std::optional<error>
    last_error(endpoint_id dialer) const; // why it is not connected

    // What happened to pipes, in order. The latest 1024 are kept, older ones counted as dropped
    // (socket_events). Errors: would_block, timed_out, canceled, closed.
    [[nodiscard]] result<pipe_event> next_event(wait how_long = forever);
    // For poll(2), level-triggered: readable while an event waits, and for good once the socket is
    // closed. Not to be read from; closed with the object.
    [[nodiscard]] result<int> event_fd();

    // What this socket has counted; all 0 once it is closed.
    [[nodiscard]] counters statistics() const;
    // What happened to the messages of one pipe, while it lives.
    [[nodiscard]] std::optional<counters> statistics(pipe_id pipe) const;
    // Messages that wait in this socket, to be sent or to be received.
    [[nodiscard]] std::size_t queued() const;

    // Asked before a peer becomes a pipe; false refuses it and its dial() gets errc::rejected. Runs
    // inside the engine: it must be quick and must not call sp.
    void admit(std::move_only_function<bool(const sp::pipe_info &)> decide);

    void close_endpoint(endpoint_id endpoint) noexcept;
    close_report close(wait drain);
    void close() noexcept; // without draining

protected:
    explicit socket(std::shared_ptr<detail::socket_core> core) noexcept : core_(std::move(core)) {}
    friend struct detail::access;

    std::shared_ptr<detail::socket_core> core_;
};

} // namespace sp::inline v1
#pragma GCC visibility pop
