// SPDX-License-Identifier: BSD-2-Clause
//
// Byte streams towards NNG and its relatives: ipc://, abstract:// and tcp://, satisfying
// core::stream_transport. One object has all stream sockets of a node. Places (listeners and
// targets) are registered here by the composition root; the engine connects, reads, writes and
// closes. One epoll descriptor, made with the first place, tells when there is something to do;
// it is level-triggered, so what a bounded turn leaves undone comes again.
//
// Out of descriptors: one is kept in reserve. It is given up to take the connections that wait and
// close them, which tells their owners sooner than silence; then that listener pauses, until a
// stream is closed or a short time has passed. Other listeners and all streams go on.
#pragma once

#include "sp/abi/streams.hpp"
#include "sp/error.hpp"
#include "userspace/transport/descriptor.hpp"
#include "userspace/transport/slots.hpp"
#include "userspace/transport/stream_address.hpp"
#include "userspace/transport/stream_listener.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <sys/epoll.h>
#include <utility>
#include <vector>

namespace sp::transport {

class stream {
public:
    static constexpr std::size_t events_max =
        64; // handed out by one poll(), which is asked for two or more
    static constexpr std::size_t accepts_max = 16; // of one listener in one poll()
    static constexpr std::size_t parts_max = 64;   // of one write; more are a short count
    static constexpr auto pause = std::chrono::milliseconds(100); // of a listener in want

    stream() = default;
    stream(const stream &) = delete;
    stream &operator=(const stream &) = delete;

    // ---- for the composition root. Listening makes the socket; a target is only looked at when it
    // is connected to, every time anew.
    [[nodiscard]] result<place_id> listen(const stream_address &where,
                                          const stream_options &options);
    [[nodiscard]] result<place_id> add_target(const stream_address &where,
                                              const stream_options &options);
    void close_place(place_id place) noexcept; // its streams stay
    // As it is after port 0 got its number; empty for a closed place.
    [[nodiscard]] std::string url(place_id place) const;
    // The system's words on the latest connect() that failed there; empty: none has.
    [[nodiscard]] std::string_view last_failure(place_id place) const noexcept;

    // ---- core::stream_transport
    template <class Sink, class Sweep>
    std::size_t poll(Sink &&sink, std::size_t n, Sweep) noexcept
    {
        const auto found = gather(n);
        std::size_t told = 0;
        for (std::size_t i = 0; i < found; ++i)
            if (still_so(events_[i])) { // the sink may have closed what a later event is about
                sink(std::as_const(events_[i]));
                ++told;
            }
        return told;
    }
    [[nodiscard]] stream_id connect(place_id place) noexcept;
    [[nodiscard]] transfer read(stream_id id, std::span<std::byte> room) noexcept;
    [[nodiscard]] transfer write(stream_id id,
                                 std::span<const std::span<const std::byte>> parts) noexcept;
    void watch(stream_id id, interest what) noexcept;
    void close(stream_id id) noexcept;
    [[nodiscard]] const peer_identity &peer(stream_id id) noexcept; // of a closed one: nobody
    [[nodiscard]] std::string_view name(stream_id id) const noexcept;
    [[nodiscard]] bool typed_frames(stream_id id) const noexcept;
    [[nodiscard]] int wake_fd() const noexcept { return epoll_.get(); }

    [[nodiscard]] std::size_t streams() const noexcept { return streams_.size(); }

private:
    enum class hearing : std::uint8_t { always, paused, ended };
    struct place_state {
        stream_address where;
        stream_options options;
        descriptor netns;                        // of the options, ours
        std::optional<stream_listener> listener; // none: a target
        hearing hears = hearing::always;
        std::string failure;
    };
    // What an epoll event is about; the name finds nothing when its owner has gone.
    enum class source : std::uint32_t { timer, listener, connection };
    enum class state : std::uint8_t { connecting, open, failed };
    struct connection {
        descriptor fd;
        place_id from{};
        stream_family family{};
        state is = state::connecting;
        std::uint32_t watched = 0; // what epoll is asked to tell
        errc why{};                // failed
        peer_identity who;
        std::vector<stream_name> left; // addresses of the host that were not tried yet, last first
    };

    [[nodiscard]] result<void> start();
    [[nodiscard]] result<place_id> add(place_state p);

    [[nodiscard]] static epoll_event registration(std::uint32_t events, source kind,
                                                  std::uint32_t name) noexcept;
    // Fills events_ with at most `most`; how many. `room` is what one descriptor may take of it.
    std::size_t gather(std::size_t most) noexcept;
    void on_listener(place_id id, std::uint32_t ready, std::size_t room) noexcept;
    void on_connection(stream_id id, std::uint32_t ready, std::size_t room) noexcept;
    void on_timer(std::size_t room) noexcept;
    void tell(stream_event event) noexcept { events_[found_++] = event; }
    [[nodiscard]] bool still_so(const stream_event &event) noexcept;

    void take_in(place_id id, stream_listener::accepted came) noexcept;
    void on_shortage(place_id id, place_state &p, std::size_t room) noexcept;
    void resume() noexcept;

    void try_next(stream_id id, connection &c, const place_state &p) noexcept;
    void on_connected(stream_id id, connection &c) noexcept;
    void fail(stream_id id, connection &c, errc why, std::string words) noexcept;
    [[nodiscard]] transfer end(stream_id id, connection &c, transfer last) noexcept;
    void hear(place_id id, place_state &p, hearing how) noexcept;
    [[nodiscard]] bool join(stream_id id, connection &c, std::uint32_t wanted) noexcept;
    void set_watched(stream_id id, connection &c, std::uint32_t wanted) noexcept;
    void drop(connection &c) noexcept;
    void fire(std::chrono::nanoseconds after) noexcept;

    descriptor epoll_;
    descriptor timer_;   // fires when failures wait to be told, or a pause is over
    descriptor reserve_; // of no use but to be closed
    slots<place_state, place_id> places_;
    slots<connection, stream_id> streams_;
    std::deque<stream_id> failed_; // to be told
    std::array<stream_event, events_max> events_{};
    std::size_t found_ = 0; // in events_
    bool any_paused_ = false;
    const peer_identity nobody_;
};

} // namespace sp::transport
