// SPDX-License-Identifier: BSD-2-Clause
//
// A cluster in one thread and in virtual time: hosts that each run an engine as it ships, the
// network between them, the sockets and what they are used for. world owns all of it and drives it
// from event to event; what may go wrong is drawn from the choices, what must hold is told to the
// judge.
#pragma once

#include "tests/sim/config.hpp"
#include "tests/sim/judge.hpp"
#include "tests/sim/ledger.hpp"
#include "tests/sim/network.hpp"
#include "tests/sim/transport.hpp"
#include "tests/sim/watcher.hpp"
#include "userspace/engine/engine.hpp"

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace sp::sim {

using engine_type = core::engine<sim_transport>;
using protocol::pipe_id;

class actor;

// What befell a run.
struct befallen {
    std::uint64_t crashes = 0, pauses = 0, partitions = 0, clogs = 0, jams = 0, resizes = 0,
                  reopens = 0, hints = 0, strangers = 0;
    network::tally net{};
};

struct host {
    std::uint32_t number = 0;
    port door{};
    std::unique_ptr<engine_type> engine{}; // none: it is down
    std::size_t slot = 0;
    std::uint32_t starts = 0;
    std::int64_t drift = 0; // parts per million
    std::int64_t ahead = 0; // ns of its clock before the common one at the start
    instant wake = instant::max();
    instant paused_until{}, restart_at = instant::max(), jammed_until{}; // {}: long ago
    bool core = true;                                                    // will be healed
    std::vector<actor *> actors{};

    std::unordered_map<std::uint32_t, std::uint32_t> flows{}; // that come in by a pipe
    std::vector<pipe_id> live{};                              // pipes that were there last time
    std::uint64_t opened = 0;                                 // pipes of this engine so far
    std::uint64_t strangers_answered = 0;
    instant stranger_second{};

    // A packet is being handed to the engine.
    watcher::kind arriving{};
    std::size_t question = 0; // its size if it is a stranger's
    std::uint32_t answers = 0;
    std::uint64_t received_before = 0, sent_before = 0;
};

class world final : public medium {
public:
    world(const config &c, choices &chance, instant start);
    ~world();

    // Both phases and the end, or until something does not hold.
    void run();
    void stop_at(std::uint64_t event) noexcept { events_max_ = event; }

    // ---- for actors
    [[nodiscard]] const config &plan() const noexcept { return config_; }
    [[nodiscard]] instant now() const noexcept { return now_; }
    [[nodiscard]] instant local(const host &h) const noexcept;
    [[nodiscard]] instant global(const host &h, instant local) const noexcept;
    [[nodiscard]] bool healing() const noexcept { return healing_; }
    [[nodiscard]] std::uint32_t new_socket() noexcept { return sockets_++; }
    [[nodiscard]] host &at(std::uint32_t number) noexcept { return hosts_[number]; }
    [[nodiscard]] actor &of(std::uint32_t member) noexcept { return *actors_[member]; }
    void note(std::uint64_t what) noexcept { hash_ = mix(hash_ ^ what); }

    choices &chance;
    judge rules;
    ledger book;
    watcher wire;

    // ---- outcome
    [[nodiscard]] std::uint64_t hash() const noexcept { return hash_; }
    [[nodiscard]] std::uint64_t shape() const noexcept { return shape_; }
    [[nodiscard]] nanoseconds passed() const noexcept { return now_ - start_; }
    [[nodiscard]] befallen what_befell() const;

    // ---- medium
    void send(port &from, const sp_address &to, std::span<const std::byte> packet,
              bool to_stranger) noexcept override;
    void before(port &at, std::span<const std::byte> packet) noexcept override;
    void after(port &at) noexcept override;

private:
    // world.cpp: the loop
    void start(host &h);
    void run_until(instant end);
    void step(host &h);
    void deliver();
    void note_pipes(host &h);
    void check(host &h);
    [[nodiscard]] instant next_event() const noexcept;
    [[nodiscard]] std::size_t link_of(std::uint32_t from, std::uint32_t to) const noexcept
    {
        return from * hosts_.size() + to;
    }
    // chaos.cpp: what befalls hosts
    void set_faults();
    void befall();
    void crash(host &h);
    void partition();
    void clog();
    void jam(host &h);
    void resize();
    void reopen(host &h);
    void hint(host &h);
    void stranger(host &h);
    void forge(host &to, std::span<const std::byte> packet, const sp_address &from);
    void heal();
    [[nodiscard]] nanoseconds calm_delay() const noexcept; // of every link that is healed
    void mend();                                           // whatever partitions there are
    // ending.cpp: what must hold when all is over
    [[nodiscard]] nanoseconds bound() const;
    [[nodiscard]] bool whole(std::uint32_t group); // all its hosts are healed
    [[nodiscard]] bool healthy(const flow &f);
    [[nodiscard]] bool at_rest();
    [[nodiscard]] std::string unconnected(); // empty, or what is missing
    [[nodiscard]] std::string undelivered();
    [[nodiscard]] bool is_taken(const target &t);
    [[nodiscard]] static bool no_pipes(host &h);
    void expect_connected();
    void expect_drained();
    void expect_all_sent(actor &a, const std::vector<std::uint32_t> &taken);
    void expect_quiet();
    void expect_bounded_resends();
    void close_everything();

    const config config_;
    const instant start_;
    instant now_;
    network net_;
    std::vector<host> hosts_;
    std::vector<std::unique_ptr<actor>> actors_;
    instant next_fault_ = instant::max(), mend_at_ = instant::max();
    bool healing_ = false;
    std::uint32_t sockets_ = 0;
    std::uint64_t still_ = 0; // events at this instant
    std::uint32_t mtu_ = 0;   // that links carry
    std::uint64_t hash_ = 0, shape_ = 0;
    std::uint64_t events_max_ = ~std::uint64_t{0};
    befallen befell_;
};

} // namespace sp::sim

extern template class sp::core::engine<sp::sim::sim_transport>;
