// SPDX-License-Identifier: BSD-2-Clause
//
// The engine: packets from transports go to connections, messages from connections to patterns,
// effects of patterns back to connections and packets. One object, one thread at a time, no locks,
// no clock, no system call of its own: time, randomness and transports are handed in, so that tests
// and the simulator run the same code as the drivers.
//
// A turn (poll) is bounded: receive a batch, timers, collect returned buffers, retry what had no
// room, flush. Calls of the application (with(), dial(), ...) may come between turns and push out
// what they produced themselves.
#pragma once

#include "userspace/engine/frame_pool.hpp"
#include "userspace/engine/objects.hpp"
#include "userspace/engine/random.hpp"
#include "userspace/engine/slab.hpp"
#include "userspace/engine/stream_transport.hpp"
#include "userspace/engine/timers.hpp"
#include "userspace/engine/transport.hpp"
#include "userspace/link/cookie.hpp"
#include "userspace/link/packet.hpp"
#include "userspace/link/stranger.hpp"

#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

namespace sp::core {

// So many events per second, no more; what is over is not remembered.
class budget {
public:
    explicit budget(std::uint32_t per_second) noexcept : per_second_(per_second), left_(per_second)
    {
    }

    [[nodiscard]] bool take(instant now) noexcept
    {
        if (now - filled_at_ >= std::chrono::seconds(1)) {
            filled_at_ = now;
            left_ = per_second_;
        }
        if (left_ == 0)
            return false;
        --left_;
        return true;
    }

private:
    std::uint32_t per_second_;
    std::uint32_t left_;
    instant filled_at_{};
};

struct engine_config {
    random_source::seed seed{};
    std::size_t memory_max = 256u << 20;
    std::size_t pipes_max = 4096;
    std::uint32_t first_seq =
        0; // of every connection; for tests of the wrap, the same at both ends
};

template <transport Transport, stream_transport Streams = no_streams>
class engine {
public:
    static constexpr std::size_t batch = 64; // packets per transport and turn

    // The rest makes the stream transport.
    template <class... Args>
    engine(const engine_config &config, instant now, Args &&...streams);

    // ---- transports; a slot keeps its number until it is removed
    std::size_t add_transport(Transport transport);
    void remove_transport(std::size_t slot);
    [[nodiscard]] Transport &transport_at(std::size_t slot) { return *transports_[slot]; }
    [[nodiscard]] std::size_t transports() const noexcept { return transports_.size(); }
    [[nodiscard]] bool has_transport(std::size_t slot) const noexcept
    {
        return slot < transports_.size() && transports_[slot] != nullptr;
    }

    [[nodiscard]] Streams &streams() noexcept { return streams_; }

    // ---- sockets
    // A socket of this role; the rest makes its machine. Empty: there are too many.
    template <class Machine, class... Args>
    [[nodiscard]] std::optional<socket_id> open(protocol::role role, const socket_options &options,
                                                Args &&...args);
    // Ends its pipes with their peers told, its endpoints and its machine. Returns what was left
    // undone.
    struct leftovers {
        struct of_pipe {
            pipe_id pipe;
            std::uint64_t undelivered, unconfirmed;
        };
        std::uint64_t undelivered = 0, unconfirmed = 0;
        std::vector<of_pipe> pipes{}; // on which something was left
    };
    leftovers close_socket(socket_id id, instant now);
    [[nodiscard]] socket *find(socket_id id) noexcept { return sockets_.find(id); }
    [[nodiscard]] bool drained(socket_id id); // nothing waits in it to be sent
    template <class F>
    void each_pipe(socket_id id, F &&f) // f(name, pipe), of one socket
    {
        pipes_.each([&](pipe_id name, pipe &p) {
            if (p.socket == id)
                f(name, p);
        });
    }

    // Calls f(machine, effects) and carries the effects out. The machine must be of the socket's
    // kind. What that changed on pipes is looked at by finish() or the next turn: messages go out
    // first.
    template <class Machine, class F>
    auto with(socket_id id, instant now, F &&f);

    // ---- the short way, see express.hpp
    // Puts a message into shared memory at once, if that is all there is to do. The pipe that it
    // went by, which must be nudged before long; null: send it the long way.
    [[nodiscard]] pipe *put_now(socket &s, const protocol::direct_way &way,
                                std::span<const std::byte> body);
    void nudge(const pipe &p) noexcept;
    // Takes one from there, if `accept(pipe's name, frame)` has nothing to do with it but to take
    // it. False: none has come, or it must go the long way.
    template <class Accept>
    [[nodiscard]] bool take_now(socket &s, Accept &&accept);
    void watch_deadline(socket &s, instant at) { schedule(s, at); }
    [[nodiscard]] bool came(const socket &s) const noexcept;
    bool take_what_came(socket &s, instant now); // true: there was something

    // ---- messages to all, see broadcast.hpp
    // A message of so many bytes overruns nobody who shares a ring.
    [[nodiscard]] bool may_publish(socket_id id, std::size_t size) noexcept;
    // So many were published that whoever reads them in this engine needs a turn.
    [[nodiscard]] bool owes_turn(socket_id id) noexcept;
    // Publishes a message for all pipes of a socket, which are aboard and so many, at once.
    void publish_now(socket_id id, std::span<const std::byte> body, std::size_t pipes) noexcept;
    // A pipe with its books as of now.
    [[nodiscard]] pipe *find_settled(pipe_id id) noexcept;

    // ---- endpoints
    [[nodiscard]] std::optional<endpoint_id> listen(socket_id id, std::size_t transport,
                                                    std::uint16_t port);
    [[nodiscard]] bool listened(std::size_t transport, std::uint16_t port);
    [[nodiscard]] std::optional<endpoint_id> dial(socket_id id, std::size_t transport,
                                                  const sp_address &peer, std::uint16_t local_port,
                                                  std::uint16_t peer_port, instant now);
    // The same by a place of the stream transport, which stays the caller's.
    [[nodiscard]] std::optional<endpoint_id> listen(socket_id id, place_id place);
    [[nodiscard]] std::optional<endpoint_id> dial(socket_id id, place_id place, instant now);
    void close_endpoint(endpoint_id id, instant now);
    [[nodiscard]] endpoint *find(endpoint_id id) noexcept { return endpoints_.find(id); }
    [[nodiscard]] pipe *find(pipe_id id) noexcept { return pipes_.find(id); }

    // ---- driving
    // The rings of `attended` are left alone: the caller takes from them himself (take_now).
    std::size_t poll(instant now, sweep how, socket_id attended = {});
    [[nodiscard]] instant next_deadline() const noexcept;
    void flush() noexcept;
    // Pushes out what calls between turns produced, then looks at the pipes they touched. `now` is
    // the time on the clock: packets that go out here are timed by it.
    void finish(instant now);

    [[nodiscard]] frame_pool &pool() noexcept { return pool_; }
    [[nodiscard]] counters &stats() noexcept { return stats_; }
    // Counts what happened to messages of a socket, and of a pipe if one is named: the one place
    // through which every drop goes.
    void count(socket &s, stat which, std::uint64_t n = 1, pipe_id by = protocol::no_pipe) noexcept;
    void count(socket &s, pipe &by, stat which) noexcept
    {
        stats_.add(which);
        s.books.add(which);
        by.books.add(which, 1);
    }
    [[nodiscard]] random_source &random() noexcept { return random_; }
    [[nodiscard]] std::uint64_t instance() const noexcept { return instance_; }

private:
    // packets.hpp: what arrives
    void on_packet(std::size_t transport, const sp_address &from, std::span<const std::byte> packet,
                   instant now);
    void on_known(pipe_id id, pipe &p, std::span<const std::byte> packet, instant now);
    void on_stranger(std::size_t transport, const sp_address &from,
                     std::span<const std::byte> packet, instant now);
    void on_probe(std::size_t transport, const sp_address &from, std::span<const std::byte> packet,
                  instant now);
    void on_init(std::size_t transport, const sp_address &from, std::span<const std::byte> packet,
                 instant now);
    void on_reset(const sp_address &from, std::span<const std::byte> packet, instant now);
    void accept(std::size_t transport, const sp_address &from, const sp_init &init,
                endpoint_id listener, instant now);
    // What taking a record came to: it is with its pattern, has to wait, or ended the pipe.
    enum class taking : std::uint8_t { done, not_now, ended };
    void take(pipe_id id, pipe &p, instant now);
    [[nodiscard]] taking take_record(pipe_id id, pipe &p, socket &s, const link::record &r,
                                     instant now);
    [[nodiscard]] taking take_part(pipe_id id, pipe &p, socket &s, const link::record &r,
                                   instant now);
    void hand_over(pipe_id id, pipe &p, socket &s, frame &f, instant now);
    void packet_done(pipe &p, instant now);
    void hold(pipe_id id, pipe &p);
    void take_held(instant now);
    [[nodiscard]] bool may_assemble(const pipe &p, const socket &s,
                                    std::uint32_t bytes) const noexcept;
    void discharge(pipe &p) noexcept;
    void drop_packets(socket *s, pipe_id id, pipe &p);
    void refuse(std::size_t transport, const sp_address &to, const sp_header &question,
                std::uint64_t scid, sp_reason why, std::uint16_t protocol, stat count, instant now);
    [[nodiscard]] endpoint_id listener_for(std::size_t transport, std::uint16_t port);
    // Where a listener is: a port of a transport, or a place.
    [[nodiscard]] static std::uint64_t door_of(std::size_t transport, std::uint16_t port) noexcept
    {
        return std::uint64_t{transport} << 16 | port;
    }
    [[nodiscard]] static std::uint64_t door_of(place_id place) noexcept
    {
        return std::uint64_t{1} << 63 | std::to_underlying(place);
    }

    // pipes.hpp: connections and the patterns on them
    pipe *add_pipe(pipe_id &id, std::size_t transport, const sp_address &peer, const endpoint &e,
                   endpoint_id by);
    [[nodiscard]] link::connection_config config_of(const pipe &p, const socket &s, pipe_id id,
                                                    const endpoint &e);
    [[nodiscard]] std::uint16_t credit_for(std::size_t transport, std::uint16_t wanted) noexcept;
    void touch(pipe_id id, pipe &p);
    void settle_touched(instant now);
    void after_input(pipe_id id, pipe &p, instant now);
    void attach_if_room(pipe_id id, pipe &p, instant now);
    void attach(pipe_id id, pipe &p, instant now);
    void detach(pipe_id id, pipe &p, instant now);
    void emit(pipe_id id, pipe &p);
    void push_out(instant now);
    void transmit(pipe_id id, pipe &p, instant now);
    void write_outbox(pipe_id id, pipe &p, instant now);
    void report(pipe &p) noexcept;
    void end_older_incarnations(pipe_id id, const pipe &p);
    void block(pipe_id id, pipe &p);
    void settle(socket &s, instant now);
    template <class Machine>
    void settle(socket &s, Machine &machine, instant now);
    void carry_out(socket &s, const protocol::effect &e, instant now);
    void send(socket &s, const protocol::effect &e, instant now);
    bool write(socket &s, pipe_id id, pipe &p, const outgoing &message, instant now);
    void lose(socket &s, const protocol::effect &e);
    void take_back(socket &s, pipe_id id, pipe &p);
    void retry_blocked(instant now);
    void on_consumed(pipe &p, instant now);
    bool tell_confirmed(socket &s, pipe_id id, pipe &p);
    void tell_ready(pipe_id id, pipe &p, instant now);
    void schedule(pipe_id id, pipe &p);

    // shared.hpp: pipes whose messages go through memory shared with the peer
    static constexpr std::uint32_t shared_untaken = 128; // messages that a pattern may hold of one
    using lane_type = lane_of_transport<Transport>::type;
    [[nodiscard]] static lane_type &lane_of(const pipe &p) noexcept;
    void begin_sharing(pipe_id id, pipe &p, instant now);
    void end_sharing(socket &s, pipe_id id) noexcept;
    std::size_t poll_shared(std::size_t transport, socket_id attended, instant now);
    void take_more(pipe &p, instant now);
    [[nodiscard]] bool take_shared(pipe_id id, const auto &part, instant now);
    bool write_shared(socket &s, pipe_id id, pipe &p, const outgoing &message);
    void on_shared_consumed(pipe &p);
    // lent.hpp: large messages in memory of their own
    [[nodiscard]] handing hand_over_memory(pipe &p, const outgoing &message) noexcept;
    [[nodiscard]] taking take_piece(pipe_id id, pipe &p, socket &s, const auto &part, instant now);
    [[nodiscard]] taking take_lent(pipe_id id, pipe &p, socket &s, const auto &part, instant now);
    [[nodiscard]] std::uint64_t unread(const socket &s, const pipe &p) const noexcept;
    void drain_shared(socket *s, pipe_id id, pipe &p, instant now);

    // broadcast.hpp: messages that go to many pipes by one write
    struct listening;
    struct shared_sink;
    struct draining_sink;
    void introduce(const socket &s, const pipe &p) noexcept;
    [[nodiscard]] std::size_t together(const pipe &p) const noexcept;
    void board(socket &s, pipe_id id) noexcept;
    void publish(socket &s, frame_id frame) noexcept;
    void part(socket &s) noexcept;
    void disembark(socket &s, pipe_id id, pipe &p) noexcept;
    void settle_books(pipe &p) noexcept;
    [[nodiscard]] taking take_news(pipe_id id, pipe &p, socket &s, auto &news, instant now);

    // streams.hpp: connections over byte streams
    static constexpr std::size_t stream_read = 16 * 1024;  // bytes of one read of small messages
    static constexpr std::size_t stream_turn = 256 * 1024; // bytes of one stream in one turn
    pipe *add_byte_pipe(pipe_id &id, stream_id stream, const endpoint &e, endpoint_id by);
    [[nodiscard]] stream::connection_config stream_config_of(const socket &s, stream_id stream);
    std::size_t poll_streams(instant now, sweep how);
    void on_event(const stream_event &event, instant now);
    void on_accepted(const stream_event &event, instant now);
    void on_readable(pipe_id id, pipe &p, instant now);
    [[nodiscard]] bool read_some(pipe_id id, pipe &p, std::size_t &budget, instant now);
    [[nodiscard]] std::size_t feed(pipe_id id, pipe &p, std::span<const std::byte> bytes,
                                   instant now);
    // shortage.hpp: what happens when there is no memory, and who goes when there are too many
    bool starve(pipe_id id, byte_pipe &b);
    void feed_starved(instant now);
    void make_room(instant now);
    void shed_half_open(endpoint &e, pipe_id newest);
    void shed_filling();
    [[nodiscard]] bool make_filling(byte_pipe &b, std::size_t more);
    [[nodiscard]] frame *take_filling(byte_pipe &b) noexcept;
    bool deliver(pipe_id id, pipe &p, instant now);
    void on_stream_end(pipe_id id, pipe &p, const transfer &t);
    void write_hello(pipe &p);
    void admit_stream(pipe_id id, pipe &p, instant now);
    bool write_stream(socket &s, pipe_id id, pipe &p, const outgoing &message);
    void write_waiting(pipe_id id, pipe &p);
    void resume(pipe_id id, pipe &p, instant now);
    void watch(pipe &p);
    void drop_stream(socket *s, pipe_id id, pipe &p);

    // endpoints.hpp: dialing
    [[nodiscard]] pipe *open_pipe(endpoint_id id, endpoint &e, pipe_id &name, instant now);
    void remember(socket &s, happening what);
    [[nodiscard]] happening happening_of(happening::kind what, pipe_id id, const pipe &p);
    // Why a peer that fits cannot become a pipe of this socket, if it cannot.
    struct denial {
        sp_reason reason;
        stat count;
    };
    [[nodiscard]] std::optional<denial> unwelcome(socket &s, const candidate &who);
    void connect(endpoint_id id, endpoint &e, instant now);
    void on_dial_ended(endpoint_id id, const pipe &p, instant now);
    void pause(endpoint_id id, endpoint &e, instant now);
    void on_failure(std::size_t transport, const sp_address &peer, errc why, instant now);
    void on_endpoint_deadline(endpoint_id id, endpoint &e, instant now);
    void schedule(endpoint_id id, endpoint &e);
    [[nodiscard]] static dial_failure failure_of(const pipe &p);
    [[nodiscard]] static dial_failure stream_failure_of(const pipe &p);
    void on_link_deadline(pipe &p, std::chrono::nanoseconds late, instant now);
    void run_timers(instant now);
    void schedule(socket &s, instant at);

    template <class F>
    static void visit(socket &s, F &&f);

    random_source random_;
    std::uint64_t instance_;
    link::cookie_jar cookies_;
    counters stats_;
    frame_pool pool_;
    std::vector<std::unique_ptr<Transport>> transports_;
    Streams streams_;
    std::unordered_map<stream_id, pipe_id> by_stream_;
    std::vector<std::byte> scratch_; // what one read of a stream brings
    std::vector<pipe_id> starved_;   // streams that wait for memory
    std::size_t filling_ = 0;        // bytes of frames of which only a part has come
    std::uint64_t denied_ = 0;       // of the pool's denials, those that have been seen
    instant denied_at_{}, short_since_ = instant::max();
    instant turned_at_{}; // the latest poll()
    slab<pipe, pipe_id> pipes_;
    slab<endpoint, endpoint_id> endpoints_{4096};
    slab<socket, socket_id> sockets_{4096};
    std::unordered_map<std::uint64_t, endpoint_id> listeners_; // by door_of()
    std::vector<std::uint64_t>
        peer_ids_; // by pipe index: what its packets carry; looked up by RESET and INIT
    timer_heap timers_;
    protocol::effects out_;
    std::vector<pipe_id> again_;   // took a message in this step and may have room for another
    std::vector<pipe_id> touched_; // to be looked at before long
    bool delivered_ =
        false; // this turn brought messages: the application goes first, then the touched pipes
    std::vector<pipe_id> blocked_; // the transport had no room for them
    std::vector<pipe_id> retrying_;
    std::vector<pipe_id> emitting_; // have packets for this turn
    std::vector<pipe_id> held_;     // have messages for which there was no room
    std::size_t charged_ = 0;       // bytes of split messages that are not taken yet
    std::uint32_t first_seq_;
    budget handshakes_{5000};
    budget answers_{100};
};

} // namespace sp::core

#include "userspace/engine/assembly.hpp"
#include "userspace/engine/broadcast.hpp"
#include "userspace/engine/endpoints.hpp"
#include "userspace/engine/express.hpp"
#include "userspace/engine/lent.hpp"
#include "userspace/engine/packets.hpp"
#include "userspace/engine/pipes.hpp"
#include "userspace/engine/shared.hpp"
#include "userspace/engine/shortage.hpp"
#include "userspace/engine/streams.hpp"
