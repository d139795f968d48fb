// SPDX-License-Identifier: BSD-2-Clause
//
// Both phases of a run, and what must hold after the second: everybody healthy is connected,
// everything that waited has been delivered, the network is quiet, and what is closed leaves
// nothing behind.
#include "tests/sim/actor.hpp"
#include "tests/sim/world.hpp"

#include <algorithm>
#include <set>
#include <utility>

namespace sp::sim {

using namespace std::chrono_literals;

void world::run()
{
    set_faults();
    for (auto &h : hosts_)
        start(h);
    run_until(start_ + config_.hostile);
    if (rules.failed() || rules.events >= events_max_)
        return;
    heal();
    const auto latest = now_ + bound();
    while (!rules.failed() && rules.events < events_max_ && now_ < latest && !at_rest())
        run_until(std::min(latest, now_ + 50ms));
    if (rules.failed() || rules.events >= events_max_)
        return;
    expect_connected();
    expect_drained();
    for (auto &a : actors_)
        if (a->is_open() && at(a->what().host).core && !rules.failed()) {
            if (whole(a->what().group))
                a->end();
            a->check_books();
        }
    expect_bounded_resends();
    if (!rules.failed())
        expect_quiet();
    if (!rules.failed())
        close_everything();
}

// Back-off, the death of peers and a resend, and what the backlog takes over the calm links.
nanoseconds world::bound() const
{
    std::uint64_t packets = 0;
    auto &entries = const_cast<ledger &>(book);
    for (std::uint32_t i = 0; i < book.size(); ++i)
        if (const auto &e = entries[i]; e.accepted)
            packets += e.size / 200 + 1;
    return 5s + nanoseconds(static_cast<std::int64_t>(
                    packets * 3'000'000 / std::max<std::uint64_t>(config_.says.window, 1)));
}

bool world::whole(std::uint32_t group)
{
    return std::ranges::all_of(
        config_.members, [&](const member &m) { return m.group != group || hosts_[m.host].core; });
}

bool world::healthy(const flow &f)
{
    if (f.ended || f.ambiguous || !hosts_[f.from].core || !hosts_[f.to].core)
        return false;
    const auto open = [&](std::uint32_t host, std::uint32_t socket) {
        return std::ranges::any_of(hosts_[host].actors, [&](const actor *a) {
            return a->is_open() && a->socket() == socket;
        });
    };
    return open(f.from, f.sender_socket) && open(f.to, f.receiver_socket);
}

// Empty, or whose connection is missing.
std::string world::unconnected()
{
    for (auto &a : actors_) {
        const auto &m = a->what();
        if (!hosts_[m.host].core || !a->is_open())
            continue;
        const bool pair = m.as == role::pair0 || m.as == role::pair1;
        for (const auto &t : m.dials) {
            if (!hosts_[t.host].core)
                continue;
            bool there = pair && a->state().peers == 0 && is_taken(t);
            hosts_[m.host].engine->each_pipe(a->id(), [&](pipe_id, const core::pipe &p) {
                const auto to = address_of(t.host);
                there = there || (p.attached && p.link && core::same(p.address, to) &&
                                  p.link->peer_port() == t.port);
            });
            if (!there)
                return "member " + std::to_string(a->place()) + " on host " +
                       std::to_string(m.host) + " is not connected to port " +
                       std::to_string(t.port) + " of host " + std::to_string(t.host);
        }
    }
    return {};
}

// Somebody else is paired with whoever listens there.
bool world::is_taken(const target &t)
{
    return std::ranges::any_of(actors_, [&](const auto &a) {
        return a->is_open() && a->what().host == t.host && a->what().port == t.port &&
               a->state().peers > 0;
    });
}

std::string world::undelivered()
{
    for (auto &a : actors_)
        if (a->is_open() && hosts_[a->what().host].core && whole(a->what().group))
            if (auto what = a->unfinished(); !what.empty())
                return "member " + std::to_string(a->place()) + " on host " +
                       std::to_string(a->what().host) + ": " + what;
    for (std::uint32_t i = 0; i < wire.size(); ++i) {
        auto &f = wire[i];
        if (f.checked == f.messages.size() || !healthy(f))
            continue;
        const auto receiver = std::ranges::find_if(
            hosts_[f.to].actors, [&](const actor *a) { return a->socket() == f.receiver_socket; });
        for (; f.checked < f.messages.size(); ++f.checked) {
            const auto &m = f.messages[f.checked];
            if (!m.delivered && (*receiver)->takes(m.number))
                return "message " + std::to_string(m.number) + " from host " +
                       std::to_string(f.from) + " has not been delivered on host " +
                       std::to_string(f.to) + ", member " + std::to_string((*receiver)->place());
        }
    }
    return {};
}

bool world::at_rest()
{
    return unconnected().empty() && undelivered().empty();
}

void world::expect_connected()
{
    const auto missing = unconnected();
    const bool herd = config_.hosts > 3;
    for (const auto which : {rule::reconnects, rule::handshake_completes})
        rules.look(which, missing.empty(), [&] { return missing; });
    if (herd)
        rules.herd(missing.empty(), [&] { return missing; });
}

void world::expect_drained()
{
    const auto missing = undelivered();
    const bool request = missing.contains("request") || missing.contains("survey");
    for (auto &a : actors_)
        if (a->what().as == role::req && !a->what().raw) {
            rules.pending_completes(!request, [&] { return missing; });
            rules.requests_complete(!request, [&] { return missing; });
        }
    rules.backlog_drains(missing.empty(), [&] { return missing; });
    if (rules.failed())
        return;
    // By socket: the messages that it took, in order.
    std::vector<std::vector<std::uint32_t>> taken(sockets_);
    for (std::uint32_t i = 0; i < book.size(); ++i)
        if (book[i].accepted)
            taken[book[i].sender].push_back(i);
    for (auto &a : actors_)
        if (a->is_open() && !a->what().raw && whole(a->what().group) && !wire.ambiguous())
            expect_all_sent(*a, taken[a->socket()]);
}

// Every message that a socket took is on the wire of whoever it was for, or was counted.
void world::expect_all_sent(actor &a, const std::vector<std::uint32_t> &taken)
{
    const auto &c = a.state().books;
    const auto counted = [&](std::initializer_list<stat> which) {
        std::uint64_t n = 0;
        for (const auto s : which)
            n += c[s];
        return n;
    };
    using enum stat;
    const auto dropped = counted(
        {socket_no_peer, socket_send_full, socket_peer_limit, socket_pipe_closed, socket_memory});
    const auto as = a.what().as;
    if (as == role::push || as == role::pair0 || as == role::pair1) {
        const auto missing = static_cast<std::uint64_t>(
            std::ranges::count_if(taken, [&](std::uint32_t n) { return book[n].carried.empty(); }));
        // A link takes messages before it sends them: those of a pipe that went are unconfirmed.
        rules.nothing_vanishes(missing <= dropped + a.queued() + c[socket_unconfirmed], [&] {
            return "member " + std::to_string(a.place()) + ": " + std::to_string(missing) +
                   " messages were never sent, the first is " +
                   std::to_string(*std::ranges::find_if(
                       taken, [&](std::uint32_t n) { return book[n].carried.empty(); })) +
                   ", " + std::to_string(dropped) + " were dropped, " + std::to_string(a.queued()) +
                   " wait";
        });
    }
    if ((as != role::pub && as != role::bus) || dropped > c[socket_no_peer])
        return;
    for (std::uint32_t i = 0; i < wire.size(); ++i) {
        const auto &f = wire[i];
        if (f.sender_socket != a.socket() || !healthy(f))
            continue;
        const auto due =
            std::ranges::count_if(taken, [&](std::uint32_t n) { return n >= f.opened_at_message; });
        rules.look(as == role::pub ? rule::all_that_matches : rule::gaps_counted,
                   static_cast<std::size_t>(due) == f.messages.size(), [&] {
                       return "member " + std::to_string(a.place()) + " took " +
                              std::to_string(due) + " messages and sent " +
                              std::to_string(f.messages.size()) + " to host " +
                              std::to_string(f.to);
                   });
    }
}

// Where nothing but loss and damage happened, what is sent again is in proportion.
void world::expect_bounded_resends()
{
    const auto &n = config_.net;
    const bool calm = config_.befalls.interval.count() == 0 || config_.befalls.sum() == 0;
    if (!calm || n.tail > 0 || n.queue > 0 || n.bandwidth > 0 || n.to_bad > 0 ||
        n.loss > certain * 3 / 10 || n.reorder > 0 || n.delay > 3ms || n.jitter > 0ns ||
        config_.lag > 100us)
        return;
    for (std::uint32_t i = 0; i < wire.size(); ++i) {
        const auto &f = wire[i];
        const auto lost = f.bytes_sent - std::min(f.bytes_sent, f.bytes_arrived);
        rules.retransmit_bounded(f.bytes_resent <= 3 * lost + 65536, [&] {
            return "host " + std::to_string(f.from) + " to host " + std::to_string(f.to) + ": " +
                   std::to_string(f.bytes_resent) + " bytes sent again, " + std::to_string(lost) +
                   " lost";
        });
    }
}

// A second in which nobody has anything to say. What was given up may still be on its way before: a
// credit of one packet and a path of 30 ms take eight seconds for 200 KB.
void world::expect_quiet()
{
    const bool all = std::ranges::all_of(hosts_, [](const host &h) { return h.core; });
    net_.clear(); // what was clogged before the healing would still be answered
    run_until(now_ + 200ms);
    std::vector<std::uint32_t> idle;
    for (std::uint32_t i = 0; i < wire.size(); ++i)
        if (healthy(wire[i]))
            idle.push_back(i);
    constexpr int patience = 60;
    auto data = wire.data_packets();
    for (int second = 0; second < patience; ++second) {
        run_until(now_ + 1s);
        if (std::exchange(data, wire.data_packets()) == data)
            break;
    }
    const auto packets = net_.total().submitted;
    run_until(now_ + 1s);
    if (rules.failed() || rules.events >= events_max_)
        return;
    for (const auto i : idle)
        rules.idle_pipes_stay(!wire[i].ended, [&] {
            return "the pipe from host " + std::to_string(wire[i].from) + " to host " +
                   std::to_string(wire[i].to) + " has ended while nobody spoke";
        });
    if (!all)
        return;
    std::uint64_t flows = 0;
    for (std::uint32_t i = 0; i < wire.size(); ++i)
        flows += healthy(wire[i]);
    const auto more = net_.total().submitted - packets;
    // Keep-alives and their answers, and those who are refused and try again.
    const auto most = 12 * flows + 40 * config_.members.size();
    rules.quiet_when_idle(wire.data_packets() == data && more <= most, [&] {
        return std::to_string(wire.data_packets() - data) + " packets with messages and " +
               std::to_string(more) + " in all, over " + std::to_string(flows) +
               " directions, while nobody speaks";
    });
}

void world::close_everything()
{
    for (auto &h : hosts_)
        if (h.engine && h.core) {
            for (auto *a : h.actors)
                if (a->is_open())
                    a->close();
            h.wake = now_;
        }
    run_until(now_ + 1500ms);
    if (rules.failed() || rules.events >= events_max_)
        return;
    for (auto &h : hosts_) {
        if (!h.engine || !h.core)
            continue;
        const auto held = h.engine->pool().in_use();
        rules.frames_conserved(held == 0, [&] {
            return "host " + std::to_string(h.number) + " holds " + std::to_string(held) +
                   " frames after everything was closed";
        });
        rules.close_in_time(no_pipes(h), [&] {
            return "host " + std::to_string(h.number) +
                   " still has pipes after everything was closed";
        });
    }
}

bool world::no_pipes(host &h)
{
    return std::ranges::all_of(h.live, [&](pipe_id id) { return h.engine->find(id) == nullptr; });
}

} // namespace sp::sim
