// SPDX-License-Identifier: BSD-2-Clause
//
// The broadcast ring of one socket that publishes (PUB, BUS), and who listens to it: all its peers
// on this host that are of the same user and have mapped it, over however many listeners and
// dialers they came. One write serves them all; what is done for each of them is a look whether it
// sleeps.
//
// Who is aboard gets what is published. A peer boards when nothing for it waits elsewhere and is
// told so by its pair's ring; all leave together when a message comes that does not fit, which then
// goes to each by its pair's ring. So each peer gets one order of messages.
//
// A look at everybody's sleep costs more than the message once there are many. So for many it is
// not taken again within wake_patience of the last one, and who is about to sleep looks once more
// when that has passed: a message that nobody was woken for was there before that.
//
// By itself the ring overruns who is too slow. A publisher that would rather wait asks has_room()
// first: the slowest one's position is looked at only when the ring seems full.
#pragma once

#include "sp/abi/broadcast.h"
#include "userspace/ring/broadcast_ring.hpp"
#include "userspace/transport/shared_peer.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

namespace sp::transport {

class broadcasts;

class broadcast {
public:
    // Nothing: the system has no memory, no descriptor or no seals to give.
    [[nodiscard]] static std::shared_ptr<broadcast> make(std::size_t ring_bytes,
                                                         broadcasts &all) noexcept;
    broadcast(sealed_memory memory, std::size_t ring_bytes, broadcasts &all) noexcept;

    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    [[nodiscard]] std::size_t payload_max() const noexcept { return ring_.payload_max(); }
    [[nodiscard]] std::uint64_t published() const noexcept { return ring_.published(); }

    // Peers that listen. They stay where they are until remove().
    // `own`: of this very process, which reads nothing while it publishes and never turns.
    enum class process : bool { other, own };
    void add(shared_peer &peer, process where);
    void remove(shared_peer &peer) noexcept; // tells it where it ended
    void board(shared_peer &peer) noexcept;
    void part() noexcept; // all who are aboard leave

    // To all who are aboard; at most payload_max() bytes.
    void publish(std::span<const std::byte> body) noexcept;
    // Whether so many bytes overrun nobody. If they do, those who hold us back are asked to wake
    // us.
    [[nodiscard]] bool has_room(std::size_t n) noexcept;
    // Most of what the ring holds is not read yet by somebody of this process.
    [[nodiscard]] bool crowded() noexcept;
    // Published for it, and not known to have been passed.
    [[nodiscard]] std::uint64_t unread(const shared_peer &peer) noexcept;

    // Wakes those aboard who sleep; how many. Nothing: it is too early, to be called again.
    [[nodiscard]] std::optional<std::size_t> wake() noexcept;

    static constexpr std::size_t many = 8; // a look at so many costs as much as one at the clock
    static constexpr auto wake_patience = std::chrono::microseconds(10);

private:
    struct member {
        shared_peer *peer;
        const std::uint64_t *sleep;          // the word that it says it by
        std::uint64_t boarded = 0, left = 0; // numbers; what is between them is not for it
        std::uint64_t passed = 0;            // as it has said
        std::uint64_t rung = 0;              // the sleep that it was last woken from
        process where = process::other;
        bool aboard = false;
        bool ever = false;
    };
    [[nodiscard]] member *find(const shared_peer &peer) noexcept;
    [[nodiscard]] std::uint64_t wants_from(member &m) const noexcept;
    [[nodiscard]] std::uint64_t slowest() noexcept;
    void tell_patience() noexcept;
    void stir() noexcept;

    descriptor fd_;
    mapping map_;
    ring::publisher<> ring_;
    broadcasts *all_;
    std::vector<member> members_;
    std::uint32_t partings_ = 0;
    std::uint64_t slowest_ = 0;                         // nobody needs what is before it
    bool full_ = false;                                 // has_room() said no
    bool stirred_ = false;                              // listed
    std::chrono::steady_clock::time_point looked_at_{}; // at who sleeps
    friend class broadcasts;
};

// The broadcast rings of one node, made for whoever is the first to listen and gone with the last.
class broadcasts {
public:
    [[nodiscard]] std::shared_ptr<broadcast> of(std::uint32_t socket,
                                                std::size_t ring_bytes) noexcept;
    // Wakes whom something was published for; how many, and whether it is done with.
    struct woken {
        std::size_t of_them;
        bool all;
    };
    [[nodiscard]] woken flush() noexcept;

private:
    friend class broadcast;
    std::unordered_map<std::uint32_t, std::weak_ptr<broadcast>> rings_;
    std::vector<broadcast *> stirred_;
};

} // namespace sp::transport
