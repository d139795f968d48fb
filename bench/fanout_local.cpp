// SPDX-License-Identifier: BSD-2-Clause
//
// How long does a BUS need to tell 1, 10 and 100 members in another process of this host, until the
// last of them has it and has said so? And how many messages a second does one member take, in
// bursts of a thousand? Over unixgram, both processes awake.
#include "bench/exchanges.hpp"
#include "bench/folder.hpp"

#include <memory>
#include <span>

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

} // namespace

int main()
{
    print_heading("fanout_local",
                  "BUS: one tells many of another process, and the last one answers",
                  "5 rounds of 200 broadcasts in turns, medians of the rounds; ends pinned to "
                  "different CPUs");
    if (cpus_allowed() < 2) {
        std::puts("  skipped   two ends that spin need two CPUs\n");
        return 0;
    }
    const folder place;
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
