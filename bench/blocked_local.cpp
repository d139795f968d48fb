// SPDX-License-Identifier: BSD-2-Clause
//
// How long does a request and its answer take between two processes of one host that both sleep
// until the other wakes them? REQ/REP over unixgram with waiting = block beside a bare ping-pong of
// two eventfds, on one CPU and on two.
#include "bench/exchanges.hpp"
#include "bench/folder.hpp"

#include <memory>
#include <sys/eventfd.h>

namespace {

using namespace sp::bench;

constexpr std::size_t size = 64;

contender bare()
{
    auto bells = std::make_shared<std::array<fd, 2>>( // before the fork: both have both
        std::array{fd(::eventfd(0, EFD_CLOEXEC)), fd(::eventfd(0, EFD_CLOEXEC))});
    return {"bare eventfds", [bells](side mine) -> sp::result<player> {
                return [bells, mine](std::size_t count, samples &took) -> sp::result<void> {
                    const auto ring = [&](std::size_t which) {
                        const std::uint64_t one = 1;
                        return ::write((*bells)[which].get(), &one, sizeof one) == sizeof one;
                    };
                    const auto hear = [&](std::size_t which) {
                        std::uint64_t rung;
                        return ::read((*bells)[which].get(), &rung, sizeof rung) == sizeof rung;
                    };
                    bool all = true;
                    if (mine == side::asking)
                        all = timed(count, took, [&] { return ring(0) && hear(1); });
                    for (std::size_t n = 0; mine == side::answering && all && n < count; ++n)
                        all = hear(0) && ring(1);
                    return all ? sp::result<void>() : failed("an eventfd failed");
                };
            }};
}

contender blocked(const std::string &path)
{
    return {"sp REQ/REP, waiting = block", [url = "unixgram://" + path](side mine) {
                return open_sp(mine, url, size, sp::waiting::block);
            }};
}

// 0: all went well.
int play(const char *where, bool one_cpu, const std::string &path)
{
    const std::array all{bare(), blocked(path)};
    // Who sleeps is not disturbed by who works meanwhile: no round is played again.
    pair two({.exchanges = 10'000, .repeats_max = 0, .one_cpu = one_cpu});
    const auto played = two.play(all);
    if (!played)
        return sp::complain(played.error());
    for (std::size_t i = 0; i < all.size(); ++i)
        std::printf("  %-30s %-10s %8.2f %8.2f %9.2f\n", all[i].name.c_str(), where,
                    (*played)[i].p50_us, (*played)[i].p99_us,
                    (*played)[i].p50_us / (*played)[0].p50_us);
    const auto ratio = (*played)[1].p50_us / (*played)[0].p50_us;
    print_bar(where, ratio, "at most", 1.1, ratio <= 1.1);
    return 0;
}

} // namespace

int main()
{
    print_heading("blocked_local", "request and answer between two processes that sleep",
                  "5 rounds of 10 000 exchanges of 64 B in turns, medians of the rounds");
    const folder place;
    std::printf("  %-30s %-10s %8s %8s %9s\n", "", "", "p50 us", "p99 us", "x bare");
    if (const int failed = play("one CPU", true, place.file("one")); failed != 0)
        return failed;
    if (cpus_allowed() < 2)
        std::puts("  skipped   two CPUs are not there");
    else if (const int failed = play("two CPUs", false, place.file("two")); failed != 0)
        return failed;
    std::puts("");
    return 0;
}
