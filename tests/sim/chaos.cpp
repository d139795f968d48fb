// SPDX-License-Identifier: BSD-2-Clause
//
// What befalls the hosts of a cluster, and how it ends.
#include "tests/sim/actor.hpp"
#include "tests/sim/world.hpp"
#include "userspace/link/packet.hpp"

#include <algorithm>
#include <cstring>

namespace sp::sim {

using namespace std::chrono_literals;

namespace {

constexpr auto ms = [](std::uint32_t n) { return nanoseconds(std::int64_t{n} * 1'000'000); };

} // namespace

void world::set_faults()
{
    const auto n = hosts_.size();
    for (std::size_t link = 0; link < n * n; ++link) {
        auto f = config_.net;
        if (config_.uneven && chance.choose(streams::faults, 2) == 0) {
            f.loss = f.to_bad = f.corrupt = f.truncate = 0;
            f.duplicate /= 4;
        }
        f.mtu = mtu_;
        net_.set(link, f);
    }
    if (config_.befalls.interval.count() > 0 && config_.befalls.sum() > 0)
        next_fault_ =
            now_ + nanoseconds(static_cast<std::int64_t>(chance.between(
                       streams::faults, 0,
                       2 * static_cast<std::uint64_t>(config_.befalls.interval.count()))));
}

void world::befall()
{
    const auto &b = config_.befalls;
    const auto pick = [&](std::uint32_t n) { return chance.choose(streams::faults, n); };
    next_fault_ = now_ + 1us +
                  nanoseconds(static_cast<std::int64_t>(chance.between(
                      streams::faults, 0, 2 * static_cast<std::uint64_t>(b.interval.count()))));
    auto left = pick(b.sum());
    auto &h = hosts_[pick(static_cast<std::uint32_t>(hosts_.size()))];
    const auto it_is = [&](std::uint32_t weight) {
        const bool yes = left < weight;
        left -= std::min(left, weight);
        if (yes)
            left = ~0u;
        return yes;
    };
    if (it_is(b.hint))
        return hint(h);
    if (it_is(b.jam))
        return jam(h);
    if (it_is(b.stranger))
        return stranger(h);
    if (it_is(b.clog))
        return clog();
    if (it_is(b.resize))
        return resize();
    if (it_is(b.reopen))
        return reopen(h);
    if (it_is(b.partition))
        return partition();
    if (it_is(b.pause)) {
        ++befell_.pauses;
        h.paused_until = now_ + ms(1 + pick(pick(4) == 3 ? 30'000 : 1500));
        rules.trace([&] { return "host " + std::to_string(h.number) + " stands still"; });
        return;
    }
    if (it_is(b.crash) && h.engine)
        crash(h);
}

void world::crash(host &h)
{
    ++befell_.crashes;
    rules.trace([&] { return "host " + std::to_string(h.number) + " crashes"; });
    for (auto *a : h.actors)
        a->lose();
    for (const auto &[pipe, in] : h.flows)
        wire[in].ended = wire[wire[in].reverse].ended = true;
    h.flows.clear();
    h.live.clear();
    h.engine.reset();
    h.door.inbox.clear();
    h.door.hints.clear();
    h.door.jammed = false;
    const auto kind = chance.choose(streams::faults, 4);
    h.restart_at = kind == 3
                       ? instant::max() // not before it is healed
                       : now_ + ms(1 + chance.choose(streams::faults, kind == 2 ? 4000 : 100));
}

// Sets of links are cut, for a while or until everything is mended.
void world::partition()
{
    ++befell_.partitions;
    const auto n = static_cast<std::uint32_t>(hosts_.size());
    const auto pick = [&](std::uint32_t of) { return chance.choose(streams::faults, of); };
    const auto cut = [&](std::uint32_t from, std::uint32_t to) {
        if (from != to)
            net_.cut(link_of(from, to), true);
    };
    switch (pick(4)) {
    case 0: // one way between two hosts
        cut(pick(n), pick(n));
        break;
    case 1: { // two halves
        const auto members = pick(1u << n);
        for (std::uint32_t from = 0; from < n; ++from)
            for (std::uint32_t to = 0; to < n; ++to)
                if ((members >> from & 1) != (members >> to & 1))
                    cut(from, to);
        break;
    }
    case 2: { // one alone
        const auto alone = pick(n);
        for (std::uint32_t other = 0; other < n; ++other) {
            cut(alone, other);
            cut(other, alone);
        }
        break;
    }
    default: // any links, each way by itself
        for (std::uint32_t link = 0; link < n * n; ++link)
            if (pick(3) == 0)
                cut(link / n, link % n);
    }
    mend_at_ = now_ + ms(1 + pick(pick(3) == 2 ? 5000 : 300));
    rules.trace([] { return std::string("links are cut"); });
}

void world::mend()
{
    mend_at_ = instant::max();
    for (std::size_t link = 0; link < hosts_.size() * hosts_.size(); ++link)
        net_.cut(link, false);
    rules.trace([] { return std::string("no link is cut any more"); });
}

// One link or all of them, which open again at different times.
void world::clog()
{
    ++befell_.clogs;
    const auto n = static_cast<std::uint32_t>(hosts_.size() * hosts_.size());
    const auto pick = [&](std::uint32_t of) { return chance.choose(streams::faults, of); };
    const bool all = pick(4) == 3;
    for (std::uint32_t link = all ? 0 : pick(n); link < n; ++link) {
        net_.clog(link, now_ + ms(1 + pick(pick(4) == 3 ? 5000 : 200)));
        if (!all)
            break;
    }
}

void world::jam(host &h)
{
    ++befell_.jams;
    h.door.jammed = true;
    h.jammed_until =
        now_ + nanoseconds(std::int64_t{1000} * (1 + chance.choose(streams::faults, 100'000)));
}

// Another MTU on all links. The hosts are told at once, or packets vanish for a while first.
void world::resize()
{
    ++befell_.resizes;
    static constexpr std::array<std::uint32_t, 5> sizes{1240, 1480, 1400, 8980, 3000};
    mtu_ =
        std::min(config_.packet_max, std::max(sizes[chance.choose(streams::faults, sizes.size())],
                                              std::min(config_.packet_max, 1240u)));
    for (std::size_t link = 0; link < hosts_.size() * hosts_.size(); ++link) {
        auto f = net_.faults(link);
        f.mtu = mtu_;
        net_.set(link, f);
    }
    for (auto &h : hosts_)
        if (chance.choose(streams::faults, 4) != 3 || h.door.packet_max < mtu_) {
            if (h.door.packet_max != mtu_)
                wire.on_resized(h.number);
            h.door.packet_max = mtu_;
        }
    rules.trace([&] { return "links carry " + std::to_string(mtu_) + " bytes"; });
}

void world::reopen(host &h)
{
    if (!h.engine || h.actors.empty() || now_ < h.paused_until)
        return;
    ++befell_.reopens;
    auto &a =
        *h.actors[chance.choose(streams::faults, static_cast<std::uint32_t>(h.actors.size()))];
    if (a.is_open())
        a.close();
    note_pipes(h);
    a.open();
    h.wake = now_;
}

// The system says that a peer cannot be reached: a hint, and perhaps a forged one.
void world::hint(host &h)
{
    ++befell_.hints;
    const auto about = chance.choose(streams::faults, static_cast<std::uint32_t>(hosts_.size()));
    h.door.hints.emplace_back(address_of(about), errc::unreachable);
    h.wake = std::min(h.wake, now_);
}

void world::forge(host &to, std::span<const std::byte> packet, const sp_address &from)
{
    if (to.engine && to.door.inbox.size() < 4096)
        to.door.inbox.push_back({from, {packet.begin(), packet.end()}});
    to.wake = std::min(to.wake, now_);
}

// Packets of somebody who has no business here: floods of openings, forged resets, noise.
void world::stranger(host &h)
{
    ++befell_.strangers;
    const auto pick = [&](std::uint32_t of) { return chance.choose(streams::faults, of); };
    auto from = address_of(0xff00 + pick(200));
    const auto n = 1 + pick(40);
    const auto port =
        config_.members[pick(static_cast<std::uint32_t>(config_.members.size()))].port;
    for (std::uint32_t i = 0; i < n; ++i) {
        std::vector<std::byte> packet(sizeof(sp_init));
        sp_init init{};
        init.header.version = SP_WIRE_VERSION;
        init.header.dport = link::be16(port);
        init.header.sport = link::be16(static_cast<std::uint16_t>(pick(0x10000)));
        init.identity.scid = link::be64(mix(book.size() + pick(1 << 20)));
        init.identity.instance = link::be64(mix(pick(1 << 20)) | 1);
        init.identity.version_min = init.identity.version_max = SP_WIRE_VERSION_NUMBER;
        init.identity.protocol = link::be16(static_cast<std::uint16_t>(pick(0x80)));
        init.params.packet_max = link::be16(1480);
        init.header.type = static_cast<__u8>(1 + pick(12));
        if (pick(3) == 0)
            init.header.dcid = link::be64(mix(pick(1 << 20)));
        if (init.header.type == SP_RESET && wire.size() > 0 && pick(2) == 0) {
            // The worst that can be guessed: the right connection and a packet of it.
            const auto &f = wire[pick(wire.size())];
            sp_reset reset{};
            std::memcpy(reset.clear, &init.header, sizeof reset.clear);
            std::memset(reset.clear + offsetof(sp_header, dcid), 0, 8);
            reset.unknown_dcid = link::be64(f.id);
            reset.unknown_pn = link::be64(f.last_number);
            packet.resize(sizeof reset);
            std::memcpy(packet.data(), &reset, sizeof reset);
            link::finish(packet);
            forge(hosts_[f.from], packet, address_of(f.to));
            continue;
        }
        std::memcpy(packet.data(), &init, sizeof init);
        if (pick(4) == 0)
            packet.resize(SP_OVERHEAD + pick(200));
        link::finish(packet);
        forge(h, packet, from);
    }
}

nanoseconds world::calm_delay() const noexcept
{
    return std::min<nanoseconds>(config_.net.delay, 1ms);
}

// From now on nothing goes wrong between the hosts of the core; the others stay as they are.
void world::heal()
{
    healing_ = true;
    next_fault_ = mend_at_ = instant::max();
    for (auto &h : hosts_)
        h.core = config_.whole_core || chance.choose(streams::faults, 4) != 3;
    const auto n = static_cast<std::uint32_t>(hosts_.size());
    for (std::uint32_t from = 0; from < n; ++from)
        for (std::uint32_t to = 0; to < n; ++to) {
            if (!hosts_[from].core || !hosts_[to].core)
                continue;
            const auto link = link_of(from, to);
            link_faults calm;
            calm.delay = calm_delay();
            calm.mtu = mtu_;
            net_.set(link, calm);
            net_.cut(link, false);
            net_.clog(link, now_);
        }
    for (auto &h : hosts_) {
        if (!h.core)
            continue;
        h.paused_until = now_;
        h.door.jammed = false;
        if (h.door.packet_max != mtu_)
            wire.on_resized(h.number);
        h.door.packet_max = mtu_;
        if (!h.engine)
            h.restart_at = now_;
        h.wake = now_;
    }
    rules.trace([] { return std::string("everything is healed"); });
}

} // namespace sp::sim
