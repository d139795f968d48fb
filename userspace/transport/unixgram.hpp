// SPDX-License-Identifier: BSD-2-Clause
//
// Unix datagrams between processes of one host: a transport for whole packets, satisfying
// core::transport. The listener is bound to a path, whose rights decide who may come; a dialer is
// bound to an abstract name that the kernel chooses and connected to the path, so nothing of it
// stays behind and nobody else can write to it. The kernel keeps order and loses nothing, but
// queues only about ten datagrams: what does not fit waits here, per route, bounded, and holds back
// its own peer only.
//
// The kernel says with every datagram whose process sent it (SO_PASSCRED): the real user and group
// at the time of sending, which nobody can forge who may not become them. Read only for the packets
// that open a connection; SO_PEERCRED knows nothing of datagrams.
//
// This is where the introduction will hand over shared-memory rings (docs/architecture.md); until
// then, and where memory cannot be shared, datagrams carry the messages.
#pragma once

#include "sp/abi/address.h"
#include "sp/abi/credentials.hpp"
#include "sp/abi/names.hpp"
#include "sp/abi/wire.h"
#include "sp/error.hpp"
#include "userspace/transport/descriptor.hpp"
#include "userspace/transport/unix_path.hpp"

#include <array>
#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <sys/socket.h>
#include <vector>

namespace sp::transport {

// Who may connect to a listener. Both empty: the rights of the path decide.
struct allow_list {
    std::vector<std::uint32_t> uids{}, gids{};
};

class unixgram {
public:
    static constexpr std::size_t packet_bytes_max = 65532; // one record of 64 KiB less its head
    static constexpr std::size_t batch = 8;                // datagrams per system call
    static constexpr std::size_t pending_max = 8;          // packets that wait for room, per route
    static constexpr std::size_t routes_max = 4096;

    // Binds `path` with the rights of `mode`, in force before the name appears. A stale file is
    // replaced, a live one is address_in_use and left alone. The file goes with the transport.
    [[nodiscard]] static result<unixgram> listen(const std::string &path, unsigned mode,
                                                 counters &stats, allow_list allowed = {});
    // Reaches for `path` only when a route is opened, so the listener may come later.
    [[nodiscard]] static result<unixgram> dial(const std::string &path, counters &stats);

    unixgram(unixgram &&) noexcept = default;
    unixgram &operator=(unixgram &&) = delete;

    template <class Sink, class Sweep>
    std::size_t receive(Sink &&sink, std::size_t n, Sweep, std::int64_t) noexcept
    {
        std::size_t received = 0;
        while (received < n) {
            const std::size_t got = receive_batch();
            for (std::size_t i = 0; i < got; ++i)
                if (const auto packet = take(i); !packet.empty()) {
                    at_ = i;
                    sink(from_[i], packet);
                }
            at_ = batch;
            received += got;
            if (got < batch)
                break;
        }
        return received;
    }

    [[nodiscard]] std::optional<route_id> open_route(const sp_address &peer) noexcept;
    void close_route(route_id route) noexcept;
    [[nodiscard]] std::span<std::byte> reserve(route_id route, std::size_t n) noexcept;
    void submit(route_id route, std::size_t n) noexcept;
    void send_to(const sp_address &peer, std::span<const std::byte> packet) noexcept;
    void flush() noexcept;
    [[nodiscard]] bool stalled() const noexcept
    {
        return waiting_ > 0;
    } // only time tells when there is room again
    [[nodiscard]] std::optional<std::pair<sp_address, errc>> next_failure() noexcept;
    [[nodiscard]] std::size_t packet_max(route_id) const noexcept { return packet_bytes_max; }
    [[nodiscard]] std::string_view name(route_id) const noexcept { return "unixgram"; }
    [[nodiscard]] bool certain() const noexcept { return true; }
    [[nodiscard]] int wake_fd() const noexcept { return fd_.get(); }

    // Who sent the packet that the sink was given; only inside the sink.
    [[nodiscard]] std::optional<credentials> sender() const noexcept;
    // Who is at the other end of an open route: who sent the packet it was opened for, and at a
    // dialer the listener that accepted it last.
    [[nodiscard]] std::optional<credentials> peer_of(route_id route) const noexcept;
    [[nodiscard]] bool may_come(const std::optional<credentials> &who) const noexcept;

    // The address of the listener as its dialers know it.
    [[nodiscard]] static sp_address listener_address() noexcept;
    [[nodiscard]] const std::string &path() const noexcept { return path_; }

private:
    struct route {
        bool open = false;
        sp_address peer{};
        std::optional<credentials> who{}; // of a listener's peer
        std::deque<std::vector<std::byte>> pending;
    };

    // Room for the credentials and nothing else: descriptors that somebody sends do not fit and are
    // never installed here.
    struct control {
        alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(ucred))> bytes;
        std::size_t length = 0;
    };

    enum class outcome : std::uint8_t { sent, full, failed };

    unixgram(descriptor fd, std::string path, bool listens, counters &stats);

    std::size_t receive_batch() noexcept;
    [[nodiscard]] std::optional<credentials> credentials_of(std::size_t i) const noexcept;
    [[nodiscard]] std::span<const std::byte> take(std::size_t i) noexcept;
    [[nodiscard]] bool reach() noexcept;
    [[nodiscard]] outcome try_send(const sp_address &peer,
                                   std::span<const std::byte> packet) noexcept;
    void drain(route &r) noexcept;
    void fail(const sp_address &peer, errc why) noexcept;

    descriptor fd_;
    std::string path_;
    bool listens_;
    std::optional<unix_path> bound_; // of a listener; declared after fd_: the file goes first
    counters *stats_;
    std::vector<route> routes_;
    std::size_t waiting_ = 0; // packets pending on all routes
    std::vector<std::byte> scratch_;
    std::unique_ptr<std::byte[]> room_; // `batch` datagrams
    std::array<std::uint32_t, batch> length_{};
    std::array<int, batch> flags_{};
    std::array<sp_address, batch> from_{};
    std::array<control, batch> control_{};
    std::size_t at_ = batch; // the datagram that the sink has; none: `batch`
    allow_list allowed_{};
    std::optional<credentials> listener_{}; // of a dialer: who accepted it last
    std::deque<std::pair<sp_address, errc>> failures_;
};

} // namespace sp::transport
