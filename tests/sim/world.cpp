// SPDX-License-Identifier: BSD-2-Clause
//
// The loop of the cluster: the next event, whatever it is, then what follows from it at once.
#include "tests/sim/world.hpp"

#include "tests/sim/actor.hpp"
#include "userspace/link/packet.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace sp::sim {

using namespace std::chrono_literals;

namespace {

constexpr int turns_max = 2000; // of one engine at one instant

template <class Config>
void begin_at(Config &c, std::uint32_t seq)
{
    if constexpr (requires { c.first_seq; })
        c.first_seq = seq;
}

std::string hex(std::uint64_t n)
{
    std::array<char, 24> text{};
    std::snprintf(text.data(), text.size(), "%llx", static_cast<unsigned long long>(n));
    return text.data();
}

} // namespace

world::world(const config &c, choices &from, instant start)
    : chance(from), wire(rules, book), config_(c), start_(start), now_(start),
      net_(std::size_t{c.hosts} * c.hosts, from, streams::links), hosts_(c.hosts),
      mtu_(c.packet_max)
{
    const bool cuts = c.befalls.interval.count() > 0 && // all is lost, often, or comes seconds late
                      (c.befalls.partition > 0 || c.befalls.clog > 0);
    if (cuts || c.net.queue > 0 || c.net.bandwidth > 0 || c.net.to_bad > 0 ||
        c.net.loss > certain * 3 / 10)
        wire.resends_every = 64ms;
    wire.round_trip_min = 2 * calm_delay();
    for (std::uint32_t i = 0; i < c.hosts; ++i) {
        auto &h = hosts_[i];
        h.number = i;
        h.door.out = this;
        h.door.host = i;
        h.door.address = address_of(i);
        h.door.packet_max = c.packet_max;
        h.door.batch = c.batch;
        if (c.drift > 0)
            h.drift =
                static_cast<std::int64_t>(chance.choose(streams::turns, 2 * c.drift + 1)) - c.drift;
        h.ahead = static_cast<std::int64_t>(i) * 1'000'000'000'000;
    }
    for (std::uint32_t i = 0; i < c.members.size(); ++i) {
        const auto &m = c.members[i];
        switch (m.as) {
        case role::req:
        case role::rep:
        case role::surveyor:
        case role::respondent:
            actors_.push_back(m.raw ? make_device(*this, i) : make_asking_actor(*this, i));
            break;
        default:
            actors_.push_back(m.raw ? make_device(*this, i) : make_flow_actor(*this, i));
        }
        if (!m.raw && !m.listens && m.dials.size() == 1)
            wire.expect_order(m.host, m.port);
        hosts_[m.host].actors.push_back(actors_.back().get());
    }
}

world::~world() = default;

// Clocks run at their own speed; a host only ever sees its own.
instant world::local(const host &h) const noexcept
{
    const auto d = (now_ - start_).count();
    return start_ + nanoseconds(h.ahead + d + d * h.drift / 1'000'000);
}

// The first common instant at which the host's clock says that.
instant world::global(const host &h, instant then) const noexcept
{
    if (then == instant::max())
        return then;
    const auto there = (then - start_).count() - h.ahead;
    const auto at = [&](std::int64_t d) { return d + d * h.drift / 1'000'000; };
    auto d = there - there * h.drift / (1'000'000 + h.drift); // or a little beside it
    while (at(d) >= there)
        d -= 2;
    while (at(d) < there)
        ++d;
    return start_ + nanoseconds(d);
}

void world::start(host &h)
{
    ++h.starts;
    core::engine_config c;
    // The number of the start keeps two engines apart when the tape says 0.
    const auto drawn = chance.choose(streams::engines, 0xffffffff);
    const auto seed = mix(drawn ^ std::uint64_t{h.number} << 48 ^ std::uint64_t{h.starts} << 32);
    std::memcpy(c.seed.data(), &seed, sizeof seed);
    begin_at(c, config_.first_seq);
    h.engine = std::make_unique<engine_type>(c, local(h));
    h.slot = h.engine->add_transport(sim_transport(h.door));
    h.flows.clear();
    h.live.clear();
    h.opened = 0;
    h.door.refused = false;
    h.restart_at = instant::max();
    for (auto *a : h.actors)
        a->open();
    h.wake = now_;
}

// ---- the loop ----

instant world::next_event() const noexcept
{
    auto at = std::min({net_.next_deadline(), next_fault_, mend_at_});
    for (const auto &h : hosts_) {
        if (!h.engine) {
            at = std::min(at, h.restart_at);
            continue;
        }
        auto wake = h.wake;
        for (const auto *a : h.actors)
            wake = std::min(wake, a->next());
        if (h.door.jammed)
            wake = std::min(wake, h.jammed_until);
        at = std::min(at, std::max(wake, h.paused_until));
    }
    return std::max(at, now_);
}

void world::run_until(instant end)
{
    while (!rules.failed() && rules.events < events_max_) {
        const auto at = next_event();
        if (at > end)
            break;
        still_ = at == now_ ? still_ + 1 : 0;
        rules.step_bounded(still_ < 50'000, [&] {
            std::string who =
                "time stands still: network " + std::to_string((net_.next_deadline() - at) / 1ns);
            for (const auto &h : hosts_) {
                who += ", host " + std::to_string(h.number) + " wakes " +
                       std::to_string((h.wake - at) / 1ns);
                for (const auto *a : h.actors)
                    who += (a->is_open() ? " open " : " shut ") +
                           std::to_string((a->next() - at) / 1ns);
            }
            return who;
        });
        now_ = at;
        rules.since_start = now_ - start_;
        ++rules.events;
        deliver();
        if (now_ >= mend_at_)
            mend();
        if (now_ >= next_fault_)
            befall();
        for (auto &h : hosts_) {
            if (!h.engine && now_ >= h.restart_at)
                start(h);
            if (!h.engine || now_ < h.paused_until)
                continue;
            if (h.door.jammed && now_ >= h.jammed_until) {
                h.door.jammed = false;
                h.wake = now_;
            }
            bool due = now_ >= h.wake;
            for (auto *a : h.actors)
                if (a->is_open() && now_ >= a->next()) {
                    a->act();
                    due = true;
                }
            if (due && !rules.failed())
                step(h);
        }
    }
    if (!rules.failed() && rules.events < events_max_)
        now_ = std::max(now_, end);
    rules.since_start = now_ - start_;
}

void world::deliver()
{
    net_.poll(now_, [&](std::size_t link, std::span<std::byte> packet) {
        auto &to = hosts_[link % hosts_.size()];
        if (!to.engine || to.door.inbox.size() >= 4096)
            return;
        to.door.inbox.push_back({address_of(static_cast<std::uint32_t>(link / hosts_.size())),
                                 {packet.begin(), packet.end()}});
        const auto lag =
            config_.lag.count() > 0 && !healing_
                ? chance.between(streams::turns, 0, static_cast<std::uint64_t>(config_.lag.count()))
                : 0;
        to.wake = std::min(to.wake, now_ + nanoseconds(static_cast<std::int64_t>(lag)));
    });
}

// The host works until it has nothing more to do at this instant.
void world::step(host &h)
{
    int turns = 0;
    for (bool moved = true; moved && !rules.failed() && turns < turns_max; ++turns) {
        moved = h.engine->poll(local(h), core::sweep::full) > 0;
        note_pipes(h);
        for (auto *a : h.actors)
            if (a->is_open() && !rules.failed())
                moved = a->look() || moved;
        h.engine->finish(local(h));
        moved = moved || !h.door.inbox.empty() || h.engine->next_deadline() <= local(h);
    }
    if (rules.failed())
        return;
    rules.step_bounded(turns < turns_max, [&] {
        return "the engine of host " + std::to_string(h.number) + " does not come to rest; its " +
               "next deadline is in " +
               std::to_string((h.engine->next_deadline() - local(h)).count()) + " ns" +
               (h.door.jammed ? ", its transport is full" : "");
    });
    note_pipes(h);
    const auto next = h.engine->next_deadline();
    rules.timers_exact(next > local(h), [&] {
        return "a deadline of host " + std::to_string(h.number) + " lies " +
               std::to_string((local(h) - next).count()) + " ns in the past after its turn" +
               (h.door.jammed ? ", its transport is full" : "");
    });
    h.wake = global(h, next);
    check(h);
}

// Which pipes have come and gone; which flow of packets each one is.
void world::note_pipes(host &h)
{
    auto &e = *h.engine;
    std::size_t peers = 0;
    for (auto *a : h.actors)
        peers += a->is_open() ? a->state().peers : 0;
    const auto opened = e.stats()[stat::pipe_opened];
    if (opened == h.opened && peers == h.live.size())
        return;
    h.opened = opened;
    std::erase_if(h.live, [&](pipe_id id) {
        const auto *p = e.find(id);
        if (p && p->attached)
            return false;
        if (const auto found = h.flows.find(static_cast<std::uint32_t>(id));
            found != h.flows.end()) {
            auto &in = wire[found->second];
            auto &out = wire[in.reverse];
            in.ended = out.ended = true;
        }
        return true;
    });
    for (auto *a : h.actors)
        if (a->is_open())
            e.each_pipe(a->id(), [&](pipe_id id, const core::pipe &p) {
                if (!p.attached || !p.link || std::ranges::find(h.live, id) != h.live.end())
                    return;
                h.live.push_back(id);
                const auto in = wire.find(p.link->local_id());
                if (in == nobody)
                    return;
                h.flows[static_cast<std::uint32_t>(id)] = in;
                wire[in].heard_at = std::max(wire[in].heard_at, local(h));
                wire[in].receiver_socket = a->socket();
                auto &out = wire[wire[in].reverse];
                out.sender_socket = a->socket();
                out.opened_at_message = book.size();
            });
}

void world::check(host &h)
{
    auto &pool = h.engine->pool();
    rules.pools_bounded(pool.memory() <= pool.memory_max(), [&] {
        return "host " + std::to_string(h.number) + " uses " + std::to_string(pool.memory()) +
               " bytes";
    });
    for (const auto id : h.live) {
        const auto found = h.flows.find(static_cast<std::uint32_t>(id));
        if (found == h.flows.end() || now_ - h.paused_until < 4s)
            continue;
        const auto &f = wire[found->second];
        rules.dead_peer_noticed(local(h) - f.heard_at < 1400ms, [&] {
            return "host " + std::to_string(h.number) + " has heard nothing of host " +
                   std::to_string(f.from) + " for " +
                   std::to_string((local(h) - f.heard_at) / 1ms) + " ms and keeps the pipe";
        });
    }
    if (!h.door.jammed && std::exchange(h.door.refused, false))
        for (const auto id : h.live) {
            auto *p = h.engine->find(id);
            const auto waits = p && p->link ? p->link->transmit_size() : 0;
            rules.room_used(waits == 0, [&] {
                return "host " + std::to_string(h.number) + " keeps a packet of " +
                       std::to_string(waits) + " bytes although its transport has room again";
            });
        }
    if (rules.events % 8 == 0)
        for (auto *a : h.actors)
            if (a->is_open())
                a->check_books();
}

// ---- medium ----

void world::send(port &from, const sp_address &to, std::span<const std::byte> packet,
                 bool to_stranger) noexcept
{
    auto &h = hosts_[from.host];
    const auto type = packet.size() >= SP_OVERHEAD ? std::to_integer<unsigned>(packet[1]) : 0;
    const auto target = static_cast<std::uint32_t>(to.bytes[3]) - 1;
    rules.trace([&] {
        return "host " + std::to_string(h.number) + " -> " + std::to_string(target) + "  type " +
               std::to_string(type) + ", " + std::to_string(packet.size()) + " bytes, dcid " +
               hex(link::be64(link::read<sp_header>(packet).dcid)) + " pn " +
               std::to_string(link::be64(link::read<sp_header>(packet).pn)) + " seq " +
               std::to_string(link::be32(link::read<sp_header>(packet).seq)) + " ack " +
               std::to_string(link::be32(link::read<sp_header>(packet).ack)) + " sack " +
               hex(link::be32(link::read<sp_header>(packet).sack)) + " limit " +
               std::to_string(link::be32(link::read<sp_header>(packet).limit)) + " flags " +
               std::to_string(std::to_integer<unsigned>(packet[2]));
    });
    if (to.bytes[2] != 0) // to a stranger, who never has a good cookie
        rules.stateless_before_cookie(type != SP_ACCEPT, [&] {
            return "host " + std::to_string(h.number) + " accepts somebody without a cookie";
        });
    if (to_stranger) {
        ++h.answers;
        rules.no_amplification(h.answers == 1 && packet.size() <= h.question, [&] {
            return "host " + std::to_string(h.number) + " answers " + std::to_string(h.question) +
                   " bytes of a stranger with " + std::to_string(packet.size()) + ", answer " +
                   std::to_string(h.answers);
        });
        if (now_ - h.stranger_second >= 1s) {
            h.stranger_second = now_;
            h.strangers_answered = 0;
        }
        rules.stranger_budget(++h.strangers_answered <= 10'300, [&] {
            return "host " + std::to_string(h.number) + " answers strangers without end";
        });
    }
    const auto moment = static_cast<std::uint64_t>((now_ - start_).count());
    std::uint64_t tail = 0;
    std::memcpy(&tail, packet.data() + packet.size() - SP_TRAILER_SIZE, sizeof tail);
    shape_ = mix(shape_ ^ moment ^ std::uint64_t{type} << 56 ^ std::uint64_t{packet.size()} << 40 ^
                 std::uint64_t{target} << 32);
    hash_ = mix(hash_ ^ shape_ ^ tail);
    if (to.bytes[2] != 0 || target >= hosts_.size())
        return; // to somebody who is not there
    wire.on_sent(h.number, target, packet, from.packet_max, now_);
    net_.submit(now_, link_of(h.number, target), packet);
}

void world::before(port &at, std::span<const std::byte> packet) noexcept
{
    auto &h = hosts_[at.host];
    h.arriving = wire.on_arriving(h.number, packet, now_, local(h));
    h.question = packet.size();
    h.answers = 0;
    h.received_before = h.engine->stats()[stat::socket_received];
    h.sent_before = at.sent;
    rules.trace([&] {
        return "host " + std::to_string(h.number) + " receives type " +
               std::to_string(packet.size() > 2 ? std::to_integer<unsigned>(packet[1]) : 0) + ", " +
               std::to_string(packet.size()) + " bytes" +
               (h.arriving == watcher::kind::damaged ? ", damaged"
                : h.arriving == watcher::kind::again ? ", again"
                                                     : "") +
               (packet.size() >= SP_OVERHEAD
                    ? " pn " + std::to_string(link::be64(link::read<sp_header>(packet).pn))
                    : "");
    });
}

void world::after(port &at) noexcept
{
    auto &h = hosts_[at.host];
    const auto received = h.engine->stats()[stat::socket_received];
    if (h.arriving == watcher::kind::damaged)
        rules.damage_inert(received == h.received_before && at.sent == h.sent_before, [&] {
            return "host " + std::to_string(h.number) + " acts on a damaged packet";
        });
    if (h.arriving == watcher::kind::again)
        rules.replay_refused(received == h.received_before, [&] {
            return "host " + std::to_string(h.number) +
                   " takes messages from a packet that came again";
        });
    h.question = 0;
}

befallen world::what_befell() const
{
    auto all = befell_;
    all.net = net_.total();
    return all;
}

} // namespace sp::sim
