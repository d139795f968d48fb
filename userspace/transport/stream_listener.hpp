// SPDX-License-Identifier: BSD-2-Clause
//
// A listening stream socket: bound to its path, name or port, or handed in by who started the
// process. It takes connections one at a time, asks who they are, and lets in only users and groups
// that may come. When no descriptor is left it says so; what to do then is its owner's decision.
#pragma once

#include "sp/abi/streams.hpp"
#include "sp/error.hpp"
#include "userspace/transport/descriptor.hpp"
#include "userspace/transport/stream_address.hpp"
#include "userspace/transport/unix_path.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sp::transport {

// Options of listeners and targets, and of the connections made there.
struct stream_options {
    unsigned ipc_mode = 0600; // rights of the path; in force before it appears
    // Who may connect, on ipc:// and abstract://. Both empty: the rights of the path decide. Else:
    // who is in one of them; a group also by supplementary membership.
    std::vector<std::uint32_t> allow_uid, allow_gid;
    int listen_fd = -1;                // a listening socket to use; it is duplicated, not taken
    std::size_t stream_send_bytes = 0; // of the kernel's send buffer; 0: as the system has it
    bool tcp_nodelay = true;
    bool tcp_keepalive = true;
    std::chrono::milliseconds tcp_user_timeout{10'000}; // 0: as the system has it
    int netns_fd = -1; // sockets are made in this network namespace; duplicated; -1: the caller's
};

// What every stream socket gets, accepted or dialed.
void shape_stream(int fd, stream_family family, const stream_options &options) noexcept;
// What the system's number says about a stream, and about an attempt to connect one.
[[nodiscard]] errc stream_errc(int number) noexcept;
// The user and process at the other end of a local stream; nothing on tcp.
[[nodiscard]] peer_identity identity_of(int fd, stream_family family, std::string text) noexcept;

class stream_listener {
public:
    static constexpr int backlog = 128;

    // Binds what `where` names, in the calling thread's network namespace, or takes listen_fd.
    // Errors: SP2001, SP2002, SP2008, SP2009, SP2022, SP2026, SP1011, SP1026, SP2037.
    [[nodiscard]] static result<stream_listener> open(const stream_address &where,
                                                      const stream_options &options);

    struct accepted {
        enum class outcome : std::uint8_t {
            taken,    // `fd` and `who`
            nothing,  // nobody waits, or who waited has gone
            refused,  // closed: not among those who may come
            shortage, // no descriptor or no memory; who waits still waits
            ended,    // the socket listens no more
        };
        outcome what = outcome::nothing;
        descriptor fd{};
        peer_identity who{};
    };
    // Takes one connection. Never blocks.
    [[nodiscard]] accepted accept() noexcept;
    // Takes one connection and closes it at once, with the one descriptor that the caller has just
    // set free for that. False: nobody waited, or not even that could be done.
    [[nodiscard]] bool turn_away() noexcept;

    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    [[nodiscard]] const stream_address &address() const noexcept { return where_; }
    [[nodiscard]] const stream_options &options() const noexcept { return options_; }

private:
    stream_listener(descriptor fd, stream_address where, stream_options options) noexcept;
    [[nodiscard]] static result<descriptor> handed_in(const stream_address &where, int fd);
    [[nodiscard]] result<void> bind(const stream_name &name);
    void learn_port() noexcept;
    [[nodiscard]] bool may_come(const peer_identity &who, int fd) const noexcept;

    descriptor fd_;
    stream_address where_;
    stream_options options_;
    std::optional<unix_path> path_; // declared after fd_: the file goes before the socket
};

} // namespace sp::transport
