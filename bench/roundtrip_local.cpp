// SPDX-License-Identifier: BSD-2-Clause
//
// How long does a request and its answer take between two processes of one host, and how much of
// that is sp? REQ/REP over unixgram, always awake and waiting as sockets do by default, beside a
// bare ping-pong through shared memory and raw AF_UNIX datagrams with both ends spinning, in turns.
#include "bench/bare_memory.hpp"
#include "bench/exchanges.hpp"
#include "bench/folder.hpp"

#include <memory>
#include <optional>

namespace {

using namespace sp::bench;

contender raw(std::size_t size)
{
    int ends[2] = {-1, -1};
    (void)::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0,
                       ends); // before the fork: both have both
    auto both = std::make_shared<std::array<fd, 2>>(std::array{fd(ends[0]), fd(ends[1])});
    return {"raw AF_UNIX datagram, spinning", [both, size](side mine) -> sp::result<player> {
                const auto index = mine == side::asking ? 0u : 1u;
                return spinning_on(mine, [both, index] { return std::move((*both)[index]); }, size);
            }};
}

contender bare(std::size_t size)
{
    auto lines = in_shared_memory<bare_lines<1024>>(); // before the fork
    return {"bare shared memory, spinning", [lines, size](side mine) -> sp::result<player> {
                return [lines, size, mine](std::size_t count, samples &took) -> sp::result<void> {
                    std::vector<std::byte> body(size);
                    if (mine == side::asking)
                        (void)timed(count, took, [&] {
                            lines->send(0, body);
                            lines->receive(1, body);
                            return true;
                        });
                    else
                        for (std::size_t n = 0; n < count; ++n) {
                            lines->receive(0, body);
                            lines->send(1, body);
                        }
                    return {};
                };
            }};
}

contender sp_over(const std::string &path, std::size_t size, sp::waiting how)
{
    return {how == sp::waiting::spin ? "sp REQ/REP, spinning" : "sp REQ/REP, default waiting",
            [url = "unixgram://" + path, size, how](side mine) {
                return open_sp(mine, url, size, how);
            }};
}

} // namespace

int main()
{
    print_heading("roundtrip_local", "request and answer between two processes of this host",
                  "5 rounds of 20 000 exchanges in turns, medians of the rounds; ends pinned to "
                  "different CPUs");
    if (cpus_allowed() < 2) {
        std::puts("  skipped   two ends that spin need two CPUs\n");
        return 0;
    }
    const folder place;
    constexpr std::array<std::size_t, 3> sizes{40, 64, 1024};
    constexpr std::size_t ways = 4;
    std::vector<contender> all;
    for (const auto size : sizes) {
        const auto name = std::to_string(size);
        all.push_back(bare(size));
        all.push_back(raw(size));
        all.push_back(sp_over(place.file("spin-" + name), size, sp::waiting::spin));
        all.push_back(sp_over(place.file("wait-" + name), size, sp::waiting::adaptive));
    }
    pair two({.exchanges = 20'000});
    const auto played = two.play(all);
    if (!played)
        return sp::complain(played.error());
    std::printf("  %-34s %8s %8s %8s %9s\n", "", "bytes", "p50 us", "p99 us", "x bare");
    for (std::size_t i = 0; i < all.size(); ++i) {
        const auto &o = (*played)[i];
        std::printf("  %-34s %8zu %8.2f %8.2f %9.2f\n", all[i].name.c_str(), sizes[i / ways],
                    o.p50_us, o.p99_us, o.p50_us / (*played)[i / ways * ways].p50_us);
    }
    print_disturbed(*played);
    std::puts("");
    return 0;
}
