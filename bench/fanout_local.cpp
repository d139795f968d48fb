// SPDX-License-Identifier: BSD-2-Clause
//
// What does it cost to tell many on this host? A BUS tells 1, 10 and 100 members of another
// process, until the last of them has it and has said so; and one member in bursts of a thousand. A
// PUB publishes to 1, 10 and 100 subscribers: how fast is it, how much do they receive and lose?
// With every listener asleep in a process of its own: when has the last one a message, against bare
// datagrams to as many? Over unixgram.
#include "bench/crowd.hpp"
#include "bench/exchanges.hpp"
#include "bench/folder.hpp"

#include <algorithm>
#include <memory>
#include <span>
#include <sys/un.h>

namespace {

using namespace sp::bench;
using namespace std::chrono_literals;

constexpr std::string_view body =
    "sixty-four bytes of gossip, as agents of one host tell each other";
constexpr auto patience = 20s;

struct station {
    sp::engine engine;
    std::vector<sp::bus> members;
};

// The answering side: every member listens, so that the asking one can dial them all.
sp::result<player> members_at(const std::string &url, std::size_t members, std::size_t burst)
{
    auto engine = sp::engine::open({.waiting = sp::waiting::spin});
    if (!engine)
        return std::unexpected(engine.error());
    auto all = std::make_shared<station>(station{std::move(*engine), {}});
    for (std::size_t i = 0; i < members; ++i) {
        auto one = sp::bus::open({.listen = url + '-' + std::to_string(i), .on = &all->engine});
        if (!one)
            return std::unexpected(one.error());
        all->members.push_back(std::move(*one));
    }
    return [all, burst](std::size_t count, samples &) -> sp::result<void> {
        for (std::size_t n = 0; n < count; ++n) {
            for (std::size_t i = 0; i < burst; ++i)
                for (auto &member : all->members)
                    if (auto got = member.recv(patience); !got)
                        return std::unexpected(got.error());
            if (auto sent = all->members.back().send("all"); !sent)
                return sent;
        }
        return {};
    };
}

sp::result<player> hub_to(const std::string &url, std::size_t members, std::size_t burst)
{
    auto engine = sp::engine::open({.waiting = sp::waiting::spin});
    if (!engine)
        return std::unexpected(engine.error());
    auto hub = sp::bus::open({.on = &*engine});
    if (!hub)
        return std::unexpected(hub.error());
    for (std::size_t i = 0; i < members; ++i)
        if (auto dialed = hub->dial(url + '-' + std::to_string(i), patience); !dialed)
            return std::unexpected(dialed.error());
    auto kept =
        std::make_shared<std::pair<sp::engine, sp::bus>>(std::move(*engine), std::move(*hub));
    return [kept, burst](std::size_t count, samples &took) -> sp::result<void> {
        const bool done = timed(count, took, [&] {
            for (std::size_t i = 0; i < burst; ++i)
                if (!kept->second.send(body))
                    return false;
            return kept->second.recv(patience).has_value();
        });
        return done ? sp::result<void>() : failed("a broadcast or its answer was lost");
    };
}

contender bus(const std::string &url, std::size_t members, std::size_t burst)
{
    return {std::to_string(members) + " members, bursts of " + std::to_string(burst),
            [=](side mine) {
                return mine == side::asking ? hub_to(url, members, burst)
                                            : members_at(url, members, burst);
            }};
}

// ---- many subscribers, awake

constexpr std::size_t reading = 2; // processes that the subscribers share

struct pace {
    double publisher = 0, received = 0;   // M messages a second; received: by all together
    double publishing = 0, receiving = 0; // ns of CPU a message
    std::uint64_t lost = 0, all = 0;
};

// Its share of the subscribers, until each has heard the end.
int read_all(const std::string &url, std::size_t subscribers, std::optional<sp::when_full> policy,
             crowd::voice &out)
{
    auto engine = sp::engine::open({});
    if (!engine)
        return sp::complain(engine.error());
    std::vector<sp::sub> all;
    for (std::size_t i = 0; i < subscribers; ++i) {
        auto sub = sp::sub::open({.dial = url, .on = &*engine, .on_recv_full = policy});
        if (!sub || !sub->subscribe(""))
            return EXIT_FAILURE;
        all.push_back(std::move(*sub));
    }
    out.ready = true;
    std::vector<sp::message> room(64);
    std::vector<bool> over(subscribers);
    std::uint64_t n = 0;
    std::optional<clock::time_point> first;
    std::chrono::nanoseconds before{};
    for (std::size_t left = subscribers; left > 0;)
        for (std::size_t i = 0; i < subscribers; ++i) {
            const auto got =
                over[i] ? sp::result<std::size_t>(std::size_t{0})
                        : all[i].recv_batch(room, subscribers == 1 ? sp::wait(patience) : 0s);
            if (!got || *got == 0)
                continue;
            if (!first) {
                first = clock::now();
                before = cpu_time();
            }
            n += *got;
            if (room[*got - 1].size() < body.size()) {
                over[i] = true;
                --left;
                --n;
            }
        }
    out.took = static_cast<std::uint64_t>((clock::now() - *first).count());
    out.busy = static_cast<std::uint64_t>((cpu_time() - before).count());
    out.received = n;
    for (const auto &sub : all) {
        const auto books = sub.statistics();
        out.lost += books[sp::stat::socket_overrun] + books[sp::stat::socket_recv_full];
    }
    out.rounds = 1;
    ::pause();
    return 0;
}

sp::result<pace> publish_to(const std::string &url, std::size_t subscribers, std::size_t messages,
                            std::optional<sp::when_full> policy)
{
    const crowd readers(std::min(reading, subscribers), [&](std::size_t i, crowd::voice &out) {
        const auto ways = std::min(reading, subscribers);
        return read_all(url, subscribers / ways + (i < subscribers % ways), policy, out);
    });
    auto engine = sp::engine::open({});
    if (!engine)
        return std::unexpected(engine.error());
    auto pub = sp::pub::open({.listen = url, .on = &*engine, .on_send_full = policy});
    if (!pub)
        return std::unexpected(pub.error());
    if (auto here = pub->wait_peers(subscribers, patience); !here)
        return std::unexpected(here.error());
    if (!readers.wait([](const crowd::voice &v) { return v.ready.load(); }))
        return failed("the subscribers did not come");
    const auto begun = clock::now();
    const auto before = cpu_time();
    for (std::size_t i = 0; i < messages; ++i)
        if (auto sent = pub->send(body); !sent)
            return std::unexpected(sent.error());
    const std::chrono::duration<double> took = clock::now() - begun;
    pace p;
    p.publishing =
        static_cast<double>((cpu_time() - before).count()) / static_cast<double>(messages);
    p.publisher = static_cast<double>(messages) / took.count() / 1e6;
    std::uint64_t ends = 0; // the last one may be overrun too
    const auto heard = [&] {
        ++ends;
        if (!pub->send("end"))
            return false;
        for (int i = 0; i < 50; ++i) {
            ::usleep(1000);
            std::size_t n = 0;
            while (n < readers.size() && readers[n].rounds.load() > 0)
                ++n;
            if (n == readers.size())
                return true;
        }
        return false;
    };
    while (!heard())
        if (ends > 400)
            return failed("the subscribers did not come to an end");
    const auto received = readers.sum(&crowd::voice::received);
    for (std::size_t i = 0; i < readers.size(); ++i)
        p.received += static_cast<double>(readers[i].received.load()) /
                      static_cast<double>(readers[i].took.load()) * 1e3;
    p.receiving = static_cast<double>(readers.sum(&crowd::voice::busy)) /
                  static_cast<double>(std::max<std::uint64_t>(received, 1));
    p.lost = readers.sum(&crowd::voice::lost);
    p.all = received + p.lost;
    return p;
}

sp::result<void> print_paces(const folder &place)
{
    struct row {
        std::size_t subscribers, messages;
        std::optional<sp::when_full> policy;
        std::vector<pace> paces{};
    };
    std::array rows{row{1, 500'000, {}}, row{10, 200'000, {}}, row{100, 100'000, {}},
                    row{1, 500'000, sp::when_full::block}, row{10, 200'000, sp::when_full::block}};
    for (int round = 0; round < 3; ++round)
        for (auto &r : rows) {
            const auto p = publish_to("unixgram://" + place.file("paces"), r.subscribers,
                                      r.messages, r.policy);
            if (!p)
                return std::unexpected(p.error());
            r.paces.push_back(*p);
        }
    std::puts("  PUB to subscribers of two other processes, medians of 3 rounds; M messages/s, and "
              "ns of CPU a message");
    std::printf("  %-34s %10s %10s %10s %10s %8s\n", "", "published", "received", "ns to send",
                "ns to get", "lost");
    for (auto &r : rows) {
        const auto middle = [&](double pace::*what) {
            std::vector<double> all;
            for (const auto &p : r.paces)
                all.push_back(p.*what);
            return median(all);
        };
        std::uint64_t lost = 0, all = 0;
        for (const auto &p : r.paces) {
            lost += p.lost;
            all += p.all;
        }
        std::printf(
            "  %-34s %10.2f %10.2f %10.0f %10.0f %7.1f%%\n",
            (std::to_string(r.subscribers) + (r.policy ? " subscribers, block" : " subscribers"))
                .c_str(),
            middle(&pace::publisher), middle(&pace::received), middle(&pace::publishing),
            middle(&pace::receiving), 100.0 * static_cast<double>(lost) / static_cast<double>(all));
    }
    std::puts("");
    return {};
}

// ---- many listeners, asleep

[[nodiscard]] std::uint64_t now_ns() noexcept
{
    return static_cast<std::uint64_t>(clock::now().time_since_epoch().count());
}

// Waits for one message after the other by `receive`, and says when it had each.
template <class Receive>
int hear_rounds(crowd::voice &out, Receive receive)
{
    out.ready = true;
    while (receive()) {
        out.had_at = now_ns();
        out.rounds.fetch_add(1);
    }
    return 0;
}

// From a send until the last one had it, in us: once for each round, while all sleep.
template <class Send>
sp::result<double> last_of(const crowd &listeners, Send send)
{
    static constexpr std::uint64_t rounds = 50;
    if (!listeners.wait([](const crowd::voice &v) { return v.ready.load(); }))
        return failed("the listeners did not come");
    std::vector<double> all;
    for (std::uint64_t round = 1; round <= rounds; ++round) {
        ::usleep(8000); // they fall asleep
        const auto begun = now_ns();
        if (!send())
            return failed("a message could not be sent");
        if (!listeners.wait([&](const crowd::voice &v) { return v.rounds.load() >= round; }))
            return failed("a message was lost");
        std::uint64_t last = 0;
        for (std::size_t i = 0; i < listeners.size(); ++i)
            last = std::max(last, listeners[i].had_at.load());
        all.push_back(static_cast<double>(last - begun) / 1e3);
    }
    return median(all);
}

sp::result<double> bare_datagrams(const folder &place, std::size_t n)
{
    const auto address = [&](std::size_t i) {
        sockaddr_un a{};
        a.sun_family = AF_UNIX;
        place.file("bare" + std::to_string(i)).copy(a.sun_path, sizeof a.sun_path - 1);
        return a;
    };
    std::vector<fd> sockets;
    for (std::size_t i = 0; i < n; ++i) {
        const auto a = address(i);
        sockets.emplace_back(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        ::unlink(a.sun_path);
        if (::bind(sockets.back().get(), reinterpret_cast<const sockaddr *>(&a), sizeof a) != 0)
            return failed("no sockets");
    }
    const crowd listeners(n, [&](std::size_t i, crowd::voice &out) {
        return hear_rounds(out, [&] {
            std::array<char, 128> room;
            return ::recv(sockets[i].get(), room.data(), room.size(), 0) > 0;
        });
    });
    const fd out(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    std::vector<sockaddr_un> addresses;
    for (std::size_t i = 0; i < n; ++i)
        addresses.push_back(address(i));
    return last_of(listeners, [&] {
        return std::ranges::all_of(addresses, [&](const sockaddr_un &a) {
            return ::sendto(out.get(), body.data(), body.size(), 0,
                            reinterpret_cast<const sockaddr *>(&a), sizeof a) > 0;
        });
    });
}

template <class Talker, class Listener>
sp::result<double> sleeping(const folder &place, std::size_t n)
{
    const auto url = "unixgram://" + place.file("asleep");
    const crowd listeners(n, [&](std::size_t, crowd::voice &out) {
        auto engine = sp::engine::open({.waiting = sp::waiting::block});
        if (!engine)
            return sp::complain(engine.error());
        auto one = Listener::open({.on = &*engine});
        if (!one)
            return sp::complain(one.error());
        if constexpr (requires { one->subscribe(""); })
            (void)one->subscribe("");
        if (auto dialed = one->dial(url); !dialed) // it may be there before the other
            return sp::complain(dialed.error());
        return hear_rounds(out, [&] { return one->recv().has_value(); });
    });
    auto talker = Talker::open({.listen = url});
    if (!talker)
        return std::unexpected(talker.error());
    if (auto here = talker->wait_peers(n, patience); !here)
        return std::unexpected(here.error());
    return last_of(listeners, [&] { return talker->send(body).has_value(); });
}

sp::result<void> print_sleepers(const folder &place)
{
    std::puts("  every listener asleep in a process of its own: us until the last had a message, "
              "medians of 50, best of 3");
    std::printf("  %-34s %10s %10s %10s\n", "", "datagrams", "PUB", "BUS");
    for (const std::size_t n : {std::size_t{10}, std::size_t{100}}) {
        std::array<double, 3> best{1e9, 1e9, 1e9};
        for (int round = 0; round < 3; ++round) {
            const std::array took{bare_datagrams(place, n), sleeping<sp::pub, sp::sub>(place, n),
                                  sleeping<sp::bus, sp::bus>(place, n)};
            for (std::size_t i = 0; i < took.size(); ++i) {
                if (!took[i])
                    return std::unexpected(took[i].error());
                best[i] = std::min(best[i], *took[i]);
            }
        }
        std::printf("  %-34s %10.0f %10.0f %10.0f\n", (std::to_string(n) + " listeners").c_str(),
                    best[0], best[1], best[2]);
    }
    std::puts("");
    return {};
}

} // namespace

int main()
{
    print_heading(
        "fanout_local",
        "BUS: one tells many of another process, and the last one answers; PUB: many listen",
        "5 rounds of 200 broadcasts in turns, medians of the rounds; ends pinned to "
        "different CPUs");
    if (cpus_allowed() < 2) {
        std::puts("  skipped   two ends that spin need two CPUs\n");
        return 0;
    }
    const folder place;
    // Before this process has threads: they are forks of it.
    for (auto *part : {print_paces, print_sleepers})
        if (const auto played = part(place); !played)
            return sp::complain(played.error());
    struct question {
        std::size_t members, burst;
    };
    constexpr std::array questions{question{1, 1}, question{10, 1}, question{100, 1},
                                   question{1, 1000}};
    std::vector<contender> all;
    for (const auto &q : questions)
        all.push_back(bus("unixgram://" +
                              place.file(std::to_string(q.members) + 'x' + std::to_string(q.burst)),
                          q.members, q.burst));
    pair two({.exchanges = 200});
    const auto played = two.play(all);
    if (!played)
        return sp::complain(played.error());
    std::printf("  %-34s %10s %10s %12s %14s\n", "", "p50 us", "p99 us", "us a member",
                "messages/s");
    for (std::size_t i = 0; i < all.size(); ++i) {
        const auto &o = (*played)[i];
        const auto copies = static_cast<double>(questions[i].members * questions[i].burst);
        std::printf("  %-34s %10.2f %10.2f %12.2f %14.0f\n", all[i].name.c_str(), o.p50_us,
                    o.p99_us, o.p50_us / copies, copies / o.p50_us * 1e6);
    }
    print_disturbed(*played);
    std::puts("");
    return 0;
}
