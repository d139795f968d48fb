// SPDX-License-Identifier: BSD-2-Clause
//
// The stages that a packet passes, see network.hpp. Integers only, so that a run is the same on
// every machine and at every optimisation.
#include "tests/sim/network.hpp"

#include <algorithm>
#include <cstring>

namespace sp::sim {

// Answers the questions about one packet, from a stream or from its number.
class network::fate {
public:
    fate(choices *from, std::size_t stream, std::uint64_t hash) noexcept
        : from_(from), stream_(stream), hash_(hash)
    {
    }

    [[nodiscard]] std::uint32_t choose(std::uint32_t n)
    {
        if (from_)
            return from_->choose(stream_, n);
        hash_ = mix(hash_);
        return n < 2 ? 0 : static_cast<std::uint32_t>(((hash_ >> 32) * n) >> 32);
    }
    [[nodiscard]] bool chance(parts probability)
    {
        return probability != 0 && choose(certain) + probability >= certain;
    }
    [[nodiscard]] nanoseconds within(nanoseconds most) // [0, most]
    {
        const auto whole = static_cast<std::uint64_t>(most.count());
        if (whole < 0xffffffff)
            return nanoseconds(choose(static_cast<std::uint32_t>(whole) + 1));
        return nanoseconds(static_cast<std::int64_t>(whole / 0xffffffff * choose(0xffffffff)));
    }

private:
    choices *from_;
    std::size_t stream_;
    std::uint64_t hash_;
};

void link_faults::set_loss(parts total, std::uint32_t burst) noexcept
{
    loss = total;
    to_bad = 0;
    to_good = certain;
    if (burst < 2 || total == 0 || total >= certain)
        return;
    // The share of the bad state is to_bad / (to_bad + to_good), its mean stay 1 / to_good.
    loss = 0;
    to_good = std::max(certain / burst, 1u);
    to_bad = static_cast<parts>(
        std::max<std::uint64_t>(std::uint64_t{to_good} * total / (certain - total), 1));
    to_bad = std::min(to_bad, certain);
}

bool outage::holds(nanoseconds since_start) const noexcept
{
    if (since_start < start)
        return false;
    const auto into = since_start - start;
    return (period.count() > 0 ? into % period : into) < length;
}

network::network(std::size_t links, choices &from, std::size_t first)
    : from_(&from), first_(first), links_(links)
{
}

network::network(std::size_t links, std::uint64_t seed) : seed_(seed), links_(links) {}

void network::schedule(instant start, const std::vector<outage> &outages)
{
    outages_from_ = start;
    outages_ = outages;
}

bool network::scheduled_cut(std::size_t link, instant now) const noexcept
{
    return std::ranges::any_of(outages_, [&](const outage &o) {
        return o.what != outage::shape::clog &&
               (o.what == outage::shape::both_ways || link % 2 == 0) &&
               o.holds(now - outages_from_);
    });
}

// When what is submitted now can go on.
instant network::scheduled_clog(instant now) const noexcept
{
    auto until = now;
    for (const auto &o : outages_) {
        const auto since = now - outages_from_;
        if (o.what != outage::shape::clog || !o.holds(since))
            continue;
        const auto into = o.period.count() > 0 ? (since - o.start) % o.period : since - o.start;
        until = std::max(until, now + (o.length - into));
    }
    return until;
}

void network::submit(instant now, std::size_t link, std::span<const std::byte> packet,
                     std::size_t clear)
{
    auto &l = links_[link];
    const auto &f = l.faults;
    fate draw(from_, first_ + link, mix(seed_) ^ mix(link << 48 | l.packets));
    ++l.packets;
    ++total_.submitted;
    if (l.cut || (!outages_.empty() && scheduled_cut(link, now))) {
        ++total_.cut;
        return;
    }
    if (f.queue != 0 && l.on_the_way >= f.queue) {
        ++total_.overflowed;
        return;
    }
    if (f.mtu != 0 && packet.size() > f.mtu + clear) {
        ++total_.too_large;
        return;
    }
    if (f.to_bad != 0 && draw.chance(l.bad ? f.to_good : f.to_bad))
        l.bad = !l.bad;
    if ((f.to_bad != 0 && l.bad) || draw.chance(f.loss)) {
        ++total_.lost;
        return;
    }
    if (f.replay != 0 && draw.chance(f.replay) && !l.old.empty()) {
        ++total_.replayed;
        const auto which = draw.choose(static_cast<std::uint32_t>(l.old.size()));
        launch(link, store(l.old[which]), draw, now);
    }
    if (f.replay != 0) {
        if (l.old.size() < old_packets)
            l.old.emplace_back(packet.begin(), packet.end());
        else if (l.packets % 8 == 0) // so that very old ones stay
            l.old[l.packets / 8 % old_packets].assign(packet.begin(), packet.end());
    }
    if (draw.chance(f.duplicate)) {
        ++total_.doubled;
        launch(link, store(packet), draw, now);
    }
    const auto slot = store(packet);
    if (draw.chance(f.corrupt)) {
        ++total_.damaged;
        damage(slots_[slot], clear, l, draw);
    } else if (draw.chance(f.truncate)) {
        ++total_.damaged;
        auto &bytes = slots_[slot];
        const auto most = bytes.size() > clear ? bytes.size() - clear : 0;
        bytes.resize(clear + draw.choose(static_cast<std::uint32_t>(most)));
    }
    launch(link, slot, draw, now);
}

// A burst of at most 32 bits, another length, or the beginning of one packet and the end of
// another: what a CRC32C finds.
void network::damage(std::vector<std::byte> &packet, std::size_t clear, const link_state &l,
                     fate &f)
{
    if (packet.size() <= clear)
        return;
    const auto size = static_cast<std::uint32_t>(packet.size() - clear);
    const auto at = [&](std::uint32_t i) -> std::byte & { return packet[clear + i]; };
    switch (f.choose(7)) {
    case 0: // one bit
        at(f.choose(size)) ^= std::byte{1} << f.choose(8);
        return;
    case 1: // one byte
        at(f.choose(size)) ^= static_cast<std::byte>(1 + f.choose(255));
        return;
    case 2: { // four bytes in a row
        const auto from = f.choose(size);
        for (std::uint32_t i = from; i < std::min(from + 4, size); ++i)
            at(i) ^= static_cast<std::byte>(1 + f.choose(255));
        return;
    }
    case 3: // longer
        for (auto n = 1 + f.choose(64); n > 0; --n)
            packet.push_back(static_cast<std::byte>(f.choose(256)));
        return;
    case 4: { // two packets in one
        if (l.old.empty())
            break;
        const auto &other = l.old[f.choose(static_cast<std::uint32_t>(l.old.size()))];
        const auto from = f.choose(size);
        for (std::size_t i = clear + from; i < std::min(packet.size(), other.size()); ++i)
            packet[i] = other[i];
        return;
    }
    case 5: // in the header
        at(f.choose(std::min(size, 40u))) ^= std::byte{1} << f.choose(8);
        return;
    default:
        break;
    }
    at(size - 1 - f.choose(std::min(size, 16u))) ^= std::byte{1} << f.choose(8); // in the trailer
}

std::uint32_t network::store(std::span<const std::byte> packet)
{
    if (unused_.empty()) {
        unused_.push_back(static_cast<std::uint32_t>(slots_.size()));
        slots_.emplace_back();
    }
    const auto slot = unused_.back();
    unused_.pop_back();
    slots_[slot].assign(packet.begin(), packet.end());
    return slot;
}

// It is on its way: how long that takes, and whether it keeps its place.
void network::launch(std::size_t link, std::uint32_t slot, fate &f, instant now)
{
    auto &l = links_[link];
    ++l.on_the_way;
    if (!l.held.empty()) { // a window is open: it arrives behind what comes later
        l.held.push_back(slot);
        if (l.held.size() >= l.held_target)
            release_window(link, now);
        return;
    }
    if (f.chance(l.faults.reorder)) {
        ++total_.reordered;
        l.held.push_back(slot);
        l.held_target = 2 + f.choose(std::max(l.faults.window, 2u) - 1);
        l.held_until = now + l.faults.hold;
        ++windows_;
        return;
    }
    auto at = std::max({now, l.clogged_until, scheduled_clog(now)});
    if (l.faults.bandwidth > 0) {
        const auto size = static_cast<std::uint64_t>(slots_[slot].size());
        at = std::max(at, l.busy_until) +
             nanoseconds(static_cast<std::int64_t>(size * 1'000'000'000 / l.faults.bandwidth));
        l.busy_until = at;
    }
    at += l.faults.delay + f.within(l.faults.jitter);
    if (f.chance(
            l.faults.tail)) { // half of them up to an eighth of the longest, a quarter twice that
        auto most = l.faults.tail_max / 8;
        for (int doublings = 0; doublings < 3 && f.choose(2) == 1; ++doublings)
            most *= 2;
        at += f.within(most);
    }
    push(link, slot, at);
}

void network::push(std::size_t link, std::uint32_t slot, instant at)
{
    queue_.push_back({at, order_++, static_cast<std::uint32_t>(link), slot});
    std::ranges::push_heap(queue_, [](const arrival &a, const arrival &b) {
        return a.at != b.at ? a.at > b.at : a.order > b.order;
    });
}

network::arrival network::pop()
{
    std::ranges::pop_heap(queue_, [](const arrival &a, const arrival &b) {
        return a.at != b.at ? a.at > b.at : a.order > b.order;
    });
    const auto next = queue_.back();
    queue_.pop_back();
    return next;
}

// The whole window takes the least delay, so that its order stays backwards.
void network::release_window(std::size_t link, instant now)
{
    auto &l = links_[link];
    const auto at = std::max({now, l.clogged_until, scheduled_clog(now)}) + l.faults.delay;
    for (; !l.held.empty(); l.held.pop_back())
        push(link, l.held.back(), at);
    l.held_until = instant::max();
    --windows_;
}

void network::end_windows(instant now)
{
    if (windows_ == 0)
        return;
    for (std::size_t link = 0; link < links_.size(); ++link)
        if (!links_[link].held.empty() && links_[link].held_until <= now)
            release_window(link, now);
}

instant network::next_deadline() const noexcept
{
    auto at = queue_.empty() ? instant::max() : queue_.front().at;
    if (windows_ > 0)
        for (const auto &l : links_)
            at = std::min(at, l.held_until);
    return at;
}

void network::clear()
{
    for (const auto &a : queue_)
        unused_.push_back(a.slot);
    queue_.clear();
    for (auto &l : links_) {
        for (const auto slot : l.held)
            unused_.push_back(slot);
        l.held.clear();
        l.held_until = instant::max();
        l.on_the_way = 0;
        l.old.clear();
    }
    windows_ = 0;
}

} // namespace sp::sim
