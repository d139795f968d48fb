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
// Peers are introduced to shared memory by the handshake itself: the dialer's INIT and the
// listener's ACCEPT carry the descriptors of each side's half (shared_peer.hpp). From then on
// messages go through the rings, and datagrams only say that a connection begins and ends. Where
// one side has no memory to share, or the other's is not what it should be, datagrams carry the
// messages too.
#pragma once

#include "sp/abi/address.h"
#include "sp/abi/credentials.hpp"
#include "sp/abi/names.hpp"
#include "sp/abi/wire.h"
#include "sp/error.hpp"
#include "userspace/transport/broadcast.hpp"
#include "userspace/transport/descriptor.hpp"
#include "userspace/transport/shared_peer.hpp"
#include "userspace/transport/unix_path.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <sys/socket.h>
#include <utility>
#include <vector>

namespace sp::transport {

// Who may connect to a listener. Both empty: the rights of the path decide.
struct allow_list {
    std::vector<std::uint32_t> uids{}, gids{};
};

// Whether memory is shared: with a ring of so many bytes each way, and who sleeps for us. No waiter
// or no bytes: datagrams carry everything.
struct share_options {
    waiter *sleeper = nullptr;
    std::size_t ring_bytes = 256 * 1024;
    std::shared_ptr<broadcasts> rings{}; // of the node's sockets; none: nothing is broadcast
};

class unixgram {
public:
    static constexpr std::size_t packet_bytes_max = 65532; // one record of 64 KiB less its head
    static constexpr std::size_t batch = 8;                // datagrams per system call
    static constexpr std::size_t pending_max = 8;          // packets that wait for room, per route
    static constexpr std::size_t routes_max = 4096;
    static constexpr std::size_t records_turn = 64; // of one peer, in one turn

    // Binds `path` with the rights of `mode`, in force before the name appears. A stale file is
    // replaced, a live one is address_in_use and left alone. The file goes with the transport.
    [[nodiscard]] static result<unixgram> listen(const std::string &path, unsigned mode,
                                                 counters &stats, allow_list allowed = {},
                                                 share_options share = {});
    // Reaches for `path` only when a route is opened, so the listener may come later.
    [[nodiscard]] static result<unixgram> dial(const std::string &path, counters &stats,
                                               share_options share = {});

    unixgram(unixgram &&) noexcept = default;
    unixgram &operator=(unixgram &&) = delete;
    ~unixgram();

    // A hot sweep leaves the socket alone while all peers share memory: what datagrams say can
    // wait.
    template <class Sink, class Sweep>
    std::size_t receive(Sink &&sink, std::size_t n, Sweep how, std::int64_t) noexcept
    {
        std::size_t received = 0;
        if (how == Sweep::full)
            look_after_peers();
        else if (open_ > 0 && open_ == begun_.size() && !lacks_lent_)
            return 0;
        crowded_ = false; // who has something to send tries again in every turn
        const bool demands = std::exchange(lacks_lent_, false); // the next turn finds out anew
        if (demands)
            demand_lent();
        while (received < n) {
            const std::size_t got = receive_batch();
            for (std::size_t i = 0; i < got; ++i)
                if (const auto packet = take(i); !packet.empty()) {
                    at_ = i;
                    sink(from_[i], packet);
                }
            gifts_ = {}; // what nobody took is closed
            at_ = batch;
            received += got;
            if (got < batch) {
                if (demands)
                    on_all_received();
                break;
            }
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
        return waiting_ > 0 || crowded_;
    } // only time tells when there is room again
    [[nodiscard]] std::optional<std::pair<sp_address, errc>> next_failure() noexcept;
    [[nodiscard]] std::size_t packet_max(route_id) const noexcept { return packet_bytes_max; }
    [[nodiscard]] std::string_view name(route_id id) const noexcept
    {
        const auto &peer = routes_[static_cast<std::uint32_t>(id)].shared;
        return peer && peer->begun() ? "unixgram" : "unixgram/datagram";
    }
    [[nodiscard]] bool certain() const noexcept { return true; }
    [[nodiscard]] int wake_fd() const noexcept { return fd_.get(); }

    // Who sent the packet that the sink was given; only inside the sink.
    [[nodiscard]] std::optional<credentials> sender() const noexcept;
    // Who is at the other end of an open route: who sent the packet it was opened for, and at a
    // dialer the listener that accepted it last.
    [[nodiscard]] std::optional<credentials> peer_of(route_id route) const noexcept;
    [[nodiscard]] bool may_come(const std::optional<credentials> &who) const noexcept;

    // ---- shared memory: what core::sharing_transport asks for
    // Of a route that was just opened: so many messages from its peer may be on the way; 0: any.
    void allow(route_id id, std::uint32_t credit) noexcept;
    // From now on the records of this route are shown, with this cookie. False: it has no rings.
    [[nodiscard]] bool share(route_id id, std::uint32_t cookie) noexcept;
    // Its peer's death is known without asking.
    [[nodiscard]] bool watches_life(route_id id) const noexcept
    {
        return static_cast<bool>(routes_[static_cast<std::uint32_t>(id)].life);
    }
    [[nodiscard]] std::size_t put(route_id id, std::span<const std::byte> head,
                                  std::span<const std::byte> body, std::size_t from) noexcept
    {
        auto &r = routes_[static_cast<std::uint32_t>(id)];
        const auto to = r.shared->put(head, body, from);
        if (to < head.size() + body.size()) {
            stats_->add(stat::ring_full);
            wait_for_room(r);
        }
        stir(r);
        return to;
    }
    // The same of a message whose body lies in memory of its own, of which it is the first `n`
    // bytes: the peer gets that memory.
    [[nodiscard]] handing hand_over(route_id id, std::span<const std::byte> head,
                                    large_memory &body, std::size_t n) noexcept;
    // Shows what came, `use(cookie, part)`, part by part until one is not taken. What is not taken
    // waits for records_of(). `use` closes no route.
    template <class Use, class Skip>
    std::size_t records(Use &&use, Skip &&skip) noexcept // but of those that skip(cookie) names
    {
        std::size_t n = 0;
        for (const auto i : begun_)
            if (auto &r = routes_[i]; !skip(r.shared->cookie()))
                n += take(r, use);
            else if (r.shared->fault())
                end(r, errc::protocol_error);
        return n;
    }
    template <class Use>
    std::size_t records_of(route_id id, Use &&use) noexcept
    {
        auto &r = routes_[static_cast<std::uint32_t>(id)];
        r.shared->resume();
        return take(r, use);
    }
    using lane_type = shared_peer;
    [[nodiscard]] shared_peer *lane(route_id id) noexcept
    {
        return routes_[static_cast<std::uint32_t>(id)].shared.get();
    }
    // Its peer sleeps and has something to do.
    void wake(route_id id) noexcept;
    // Messages put that its peer is not known to have read.
    [[nodiscard]] std::uint64_t unread(route_id id) const noexcept
    {
        const auto &r = routes_[static_cast<std::uint32_t>(id)];
        return r.shared->unread() + (r.ring ? r.ring->unread(*r.shared) : 0);
    }
    // The application took a message that came by this route.
    void consumed(route_id id) noexcept
    {
        auto &r = routes_[static_cast<std::uint32_t>(id)];
        r.shared->consumed();
        stir(r);
    }
    // ---- broadcast rings: what core::broadcasting_transport asks for
    // Of a route that was just opened: its socket publishes, or hears what its peer publishes.
    void publishes(route_id id, std::uint32_t socket) noexcept;
    void hears(route_id id) noexcept;
    // The largest message that its peer, with whom memory is shared, takes from our broadcast ring;
    // 0: it does not listen.
    [[nodiscard]] std::size_t broadcast_max(route_id id) const noexcept
    {
        const auto &r = routes_[static_cast<std::uint32_t>(id)];
        return r.ring && r.shared->listens() ? r.ring->payload_max() : 0;
    }
    void board(route_id id) noexcept
    {
        auto &r = routes_[static_cast<std::uint32_t>(id)];
        r.ring->board(*r.shared);
        stir(r);
    }
    // By any route that is aboard, for all of its socket that are.
    void part(route_id id) noexcept
    {
        ring_of(id).part();
        aired_ = true;
    }
    void publish(route_id id, std::span<const std::byte> body) noexcept
    {
        ring_of(id).publish(body);
        aired_ = true;
    }
    [[nodiscard]] bool broadcast_room(route_id id, std::size_t n) noexcept
    {
        return ring_of(id).has_room(n);
    }
    [[nodiscard]] bool broadcast_crowded(route_id id) noexcept { return ring_of(id).crowded(); }
    [[nodiscard]] std::uint64_t published(route_id id) const noexcept
    {
        return ring_of(id).published();
    }
    // Somebody is about to sleep, and is awake again. False: not now, something has come.
    [[nodiscard]] bool arm() noexcept;
    void disarm() noexcept;
    // Armed: so much later one looks once more whether it is still quiet, or sleeps over something;
    // see broadcast.hpp.
    [[nodiscard]] std::chrono::nanoseconds patience() const noexcept;
    [[nodiscard]] bool quiet() const noexcept;

    // The address of the listener as its dialers know it.
    [[nodiscard]] static sp_address listener_address() noexcept;
    [[nodiscard]] const std::string &path() const noexcept { return path_; }

private:
    struct route {
        bool open = false;
        sp_address peer{};
        std::optional<credentials> who{}; // of a listener's peer
        std::deque<std::vector<std::byte>> pending{};
        std::unique_ptr<shared_peer> shared{};
        std::uint32_t credit = 0;  // messages from the peer that may be on the way; 0: any number
        std::uint64_t offered = 0; // the id of the connection, as the dialer's INIT had it
        descriptor life{};         // readable when the peer's process has ended
        std::shared_ptr<broadcast> ring{}; // that its peer may hear
        descriptor given{};                // its peer's, until we know whether we hear it
        bool hears = false;
        bool stirred = false; // listed in stirred_
        bool over = false;    // its end has been told
    };

    // What comes beside a packet: a segment, a bell and, from who publishes, a broadcast ring.
    using gifts = std::array<descriptor, 3>;

    // A datagram that says nothing but: wake up.
    static constexpr std::array bell{std::byte{0}};

    // Room for the credentials and, where memory is shared, three descriptors. What else somebody
    // sends does not fit and is never installed here.
    static constexpr std::size_t credentials_space = CMSG_SPACE(sizeof(ucred));
    static constexpr std::size_t gifts_space = CMSG_SPACE(3 * sizeof(int));
    struct control {
        alignas(cmsghdr) std::array<std::byte, credentials_space + gifts_space> bytes;
        std::size_t length = 0;
    };

    enum class outcome : std::uint8_t { sent, full, failed };

    unixgram(descriptor fd, std::string path, bool listens, counters &stats, share_options share);

    std::size_t receive_batch() noexcept;
    [[nodiscard]] std::optional<credentials> credentials_of(std::size_t i) const noexcept;
    [[nodiscard]] std::span<const std::byte> take(std::size_t i) noexcept;
    [[nodiscard]] bool reach() noexcept;
    [[nodiscard]] bool transmit(const sp_address &peer, std::span<const std::byte> packet,
                                std::span<const int> descriptors) noexcept;
    [[nodiscard]] outcome try_send(const sp_address &peer, std::span<const std::byte> packet,
                                   route *by = nullptr) noexcept;
    void drain(route &r) noexcept;

    // unixgram_handover.cpp: large messages in memory of their own
    [[nodiscard]] handing send_memory(route &r, int fd, std::uint64_t number) noexcept;
    [[nodiscard]] bool on_handover(std::size_t i, std::span<const std::byte> packet) noexcept;
    void demand_lent() noexcept;
    void on_all_received() noexcept;

    // unixgram_share.cpp: introductions, and what they lead to
    void open_gifts(std::size_t i) noexcept;
    [[nodiscard]] bool offer(route &r) noexcept;
    void meet_dialer(route &r) noexcept;
    [[nodiscard]] bool meet_listener(std::size_t i, std::span<const std::byte> packet) noexcept;
    [[nodiscard]] bool meet(route &r, std::size_t i,
                            const std::optional<credentials> &who) noexcept;
    [[nodiscard]] bool gives(const route &r, std::span<const std::byte> packet) const noexcept;
    [[nodiscard]] broadcast &ring_of(route_id id) const noexcept
    {
        return *routes_[static_cast<std::uint32_t>(id)].ring;
    }
    [[nodiscard]] bool same_user(const route &r) const noexcept;
    void hear(route &r, descriptor ring) noexcept;
    void look_after_peers() noexcept;
    void ring_bells() noexcept;
    void wait_for_room(route &r) noexcept;
    void part_from(route &r) noexcept;
    void stir(route &r) noexcept
    {
        if (r.stirred || !r.shared->stirred())
            return;
        r.stirred = true;
        stirred_.push_back(static_cast<std::uint32_t>(&r - routes_.data()));
    }
    template <class Use>
    std::size_t take(route &r, Use &use) noexcept
    {
        auto &peer = *r.shared;
        auto n = peer.take(records_turn,
                           [&](const shared_part &part) { return use(peer.cookie(), part); });
        if constexpr (requires { use.of(peer.cookie()); })
            while (n < records_turn && peer.aboard()) { // and back, when they part
                n += peer.take_heard(records_turn - n, use.of(peer.cookie()));
                if (peer.aboard())
                    break;
                n += peer.take(records_turn - n,
                               [&](const shared_part &part) { return use(peer.cookie(), part); });
            }
        stir(r);
        lacks_lent_ |= peer.lacks_lent();
        if (peer.fault())
            end(r, errc::protocol_error);
        return n;
    }
    void end(route &r, errc why) noexcept;

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
    std::array<gifts, batch> gifts_{};
    std::size_t at_ = batch; // the datagram that the sink has; none: `batch`
    allow_list allowed_{};
    std::optional<credentials> listener_{}; // of a dialer: who accepted it last
    share_options share_;
    bool shares_;
    descriptor lives_{};                 // all the routes' lives in one
    std::size_t open_ = 0;               // routes
    std::vector<std::uint32_t> begun_;   // those whose messages go through rings
    std::vector<std::uint32_t> stirred_; // those whose peer may have to be woken
    bool armed_ = false;
    bool aired_ = false; // something was published by a route of ours
    bool takes_lent_ = true;  // large messages that are handed over; until no descriptor was free
    bool lacks_lent_ = false; // a ring waits for what is in the socket
    bool crowded_ = false;    // a peer's socket had no room for a descriptor
    std::deque<std::pair<sp_address, errc>> failures_;
};

} // namespace sp::transport
