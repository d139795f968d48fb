// SPDX-License-Identifier: BSD-2-Clause
//
// A network that does to packets what networks do: loses, damages, doubles, delays and reorders
// them, cuts and clogs links. No I/O and no clock: packets go in by submit(), out by poll(), and
// next_deadline() says when to come again. The simulator and the bridge between real interfaces
// share it, and the text that describes a seed and its faults.
//
// A packet passes these stages, in this order: link up? clogged? room in the queue? within the
// MTU? lost? damaged? doubled, or an old one again? how long does it take? in which order?
//
// Where its chance comes from: in the simulator from a stream of choices for each link; in fate
// mode, for a network whose timing nobody repeats, from hash(seed, link, n) alone: the n-th packet
// of a link has the same fate in every run.
#pragma once

#include "tests/sim/choices.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sp::sim {

using instant = std::chrono::steady_clock::time_point;
using std::chrono::nanoseconds;

// What happens on one directed link. Without a word it carries every packet at once.
struct link_faults {
    // Loss in two states (Gilbert and Elliott): in the good one so many are lost, in the bad one
    // all are; and so likely is each change of state, before each packet.
    parts loss = 0, to_bad = 0, to_good = certain;
    parts corrupt = 0;  // damage that a CRC32C always finds
    parts truncate = 0; // only a beginning arrives
    parts duplicate = 0;
    parts replay = 0;  // besides the packet an old one of this link
    parts reorder = 0; // this packet begins a window that arrives backwards
    std::uint32_t window = 2;
    nanoseconds hold{20'000'000}; // an unfinished window ends
    nanoseconds delay{0}, jitter{0};
    parts tail = 0; // so many take far longer, up to tail_max
    nanoseconds tail_max{0};
    std::uint32_t mtu = 0;       // bytes; 0: none
    std::uint32_t queue = 0;     // packets on the way; 0: any number
    std::uint64_t bandwidth = 0; // bytes per second; 0: infinite

    // So many of all packets are lost, in runs of this mean length.
    void set_loss(parts total, std::uint32_t burst) noexcept;

    friend bool operator==(const link_faults &, const link_faults &) = default;
};

// Links that are down for a while, once or again and again.
struct outage {
    enum class shape : std::uint8_t { both_ways, one_way, clog };
    shape what = shape::both_ways;
    nanoseconds length{0}, start{0}, period{0}; // period 0: once

    [[nodiscard]] bool holds(nanoseconds since_start) const noexcept;
    friend bool operator==(const outage &, const outage &) = default;
};

// A seed and faults, as text:
//   seed=0x1f,loss=30%,burst=8,dup=10%,reorder=5%,corrupt=1%,delay=1ms..5ms,partition=2s@1s
struct scenario {
    std::uint64_t seed = 0;
    parts loss = 0;
    std::uint32_t burst = 1;
    link_faults faults{};          // loss and burst included
    std::vector<outage> outages{}; // from the network's start

    friend bool operator==(const scenario &, const scenario &) = default;
};
[[nodiscard]] std::expected<scenario, std::string> parse_scenario(std::string_view text);
[[nodiscard]] std::string to_text(const scenario &what);
[[nodiscard]] std::string scenario_syntax(); // for --help: every key, one a line

class network {
public:
    struct tally {
        std::uint64_t submitted = 0, delivered = 0;
        std::uint64_t lost = 0, cut = 0, overflowed = 0, too_large = 0;      // and are gone
        std::uint64_t damaged = 0, doubled = 0, replayed = 0, reordered = 0; // and arrive
    };

    // Chance from the streams of `from` that begin at `first`, one for each link.
    network(std::size_t links, choices &from, std::size_t first);
    // Fate mode.
    network(std::size_t links, std::uint64_t seed);

    void set(std::size_t link, const link_faults &faults) { links_[link].faults = faults; }
    [[nodiscard]] const link_faults &faults(std::size_t link) const { return links_[link].faults; }
    // What is submitted while a link is cut is lost; while it is clogged it waits.
    void cut(std::size_t link, bool yes) { links_[link].cut = yes; }
    [[nodiscard]] bool is_cut(std::size_t link) const { return links_[link].cut; }
    void clog(std::size_t link, instant until) { links_[link].clogged_until = until; }
    // Down at the times of these outages; both_ways and clog concern every link, one_way those with
    // even numbers.
    void schedule(instant start, const std::vector<outage> &outages);

    // The first `clear` bytes are never damaged and do not count for the MTU: headers that are not
    // ours.
    void submit(instant now, std::size_t link, std::span<const std::byte> packet,
                std::size_t clear = 0);
    [[nodiscard]] instant next_deadline() const noexcept;

    // Hands out what has arrived by now, as out(link, packet), in order. Returns how many.
    template <class Out>
    std::size_t poll(instant now, Out &&out)
    {
        end_windows(now);
        std::size_t n = 0;
        for (; !queue_.empty() && queue_.front().at <= now; ++n) {
            const auto next = pop();
            ++total_.delivered;
            --links_[next.link].on_the_way;
            out(next.link, std::span(slots_[next.slot]));
            unused_.push_back(next.slot);
        }
        return n;
    }

    // What is on the way is lost, as when everything is unplugged; old packets are forgotten too.
    void clear();
    [[nodiscard]] const tally &total() const noexcept { return total_; }
    [[nodiscard]] std::size_t on_the_way() const noexcept { return queue_.size(); }

private:
    static constexpr std::size_t old_packets = 32; // of a link that may come again

    struct arrival {
        instant at;
        std::uint64_t order;
        std::uint32_t link;
        std::uint32_t slot;
    };
    struct link_state {
        link_faults faults{};
        bool bad = false; // in the bad state of loss
        bool cut = false;
        instant clogged_until = instant::min();
        instant busy_until = instant::min();
        std::uint64_t packets = 0;         // submitted: names the fate of each
        std::uint32_t on_the_way = 0;      // counted for the queue
        std::vector<std::uint32_t> held{}; // slots of a window that will arrive backwards
        std::uint32_t held_target = 0;
        instant held_until = instant::max();
        std::vector<std::vector<std::byte>> old{};
    };
    class fate;

    [[nodiscard]] std::uint32_t store(std::span<const std::byte> packet);
    void damage(std::vector<std::byte> &packet, std::size_t clear, const link_state &l, fate &f);
    void launch(std::size_t link, std::uint32_t slot, fate &f, instant now);
    void push(std::size_t link, std::uint32_t slot, instant at);
    void release_window(std::size_t link, instant now);
    void end_windows(instant now);
    [[nodiscard]] bool scheduled_cut(std::size_t link, instant now) const noexcept;
    [[nodiscard]] instant scheduled_clog(instant now) const noexcept;
    arrival pop();

    choices *from_ = nullptr; // none: fate mode
    std::size_t first_ = 0;
    std::uint64_t seed_ = 0;
    std::vector<link_state> links_;
    std::vector<outage> outages_;
    instant outages_from_{};
    std::vector<arrival> queue_; // a heap
    std::vector<std::vector<std::byte>> slots_;
    std::vector<std::uint32_t> unused_;
    std::uint64_t order_ = 0;
    std::size_t windows_ = 0; // links with a window that is not full
    tally total_;
};

} // namespace sp::sim
