// SPDX-License-Identifier: BSD-2-Clause
//
// How many messages a second go from one process of this host to another, one way? PUSH to PULL
// over unixgram, one send and one receive call for each, beside the record ring alone. Both
// processes are awake.
#include "bench/bare_memory.hpp"
#include "bench/exchanges.hpp"
#include "bench/folder.hpp"

#include <memory>

namespace {

using namespace sp::bench;

constexpr std::size_t burst = 1000; // messages in what is timed as one

contender bare(std::size_t size)
{
    auto ring = in_shared_memory<bare_ring<256 * 1024>>(); // before the fork
    return {"bare ring", [ring, size](side mine) -> sp::result<player> {
                return [ring, size, mine](std::size_t count, samples &took) -> sp::result<void> {
                    std::vector<std::byte> body(size);
                    if (mine == side::asking)
                        (void)timed(count, took, [&] {
                            for (std::size_t i = 0; i < burst; ++i)
                                ring->receive(1, body);
                            return true;
                        });
                    else
                        for (std::size_t n = 0; n < count * burst; ++n)
                            ring->send(1, body);
                    return {};
                };
            }};
}

sp::result<player> puller(const std::string &url)
{
    auto engine = sp::engine::open({.waiting = sp::waiting::spin});
    if (!engine)
        return std::unexpected(engine.error());
    auto pull = sp::pull::open({.on = &*engine});
    if (!pull)
        return std::unexpected(pull.error());
    if (auto dialed = pull->dial(url, patience); !dialed)
        return std::unexpected(dialed.error());
    return [engine = std::make_shared<sp::engine>(std::move(*engine)),
            pull = std::make_shared<sp::pull>(std::move(*pull))](
               std::size_t count, samples &took) -> sp::result<void> {
        const bool all = timed(count, took, [&] {
            for (std::size_t i = 0; i < burst; ++i)
                if (!pull->recv(patience))
                    return false;
            return true;
        });
        return all ? sp::result<void>() : failed("a message did not come");
    };
}

sp::result<player> pusher(const std::string &url, std::size_t size)
{
    auto engine = sp::engine::open({.waiting = sp::waiting::spin});
    if (!engine)
        return std::unexpected(engine.error());
    auto push = sp::push::open({.listen = url, .on = &*engine});
    if (!push)
        return std::unexpected(push.error());
    return [engine = std::make_shared<sp::engine>(std::move(*engine)),
            push = std::make_shared<sp::push>(std::move(*push)),
            size](std::size_t count, samples &) -> sp::result<void> {
        const std::vector<std::byte> body(size);
        for (std::size_t n = 0; n < count * burst; ++n)
            if (auto sent = push->send(sp::bytes(body), patience); !sent)
                return sent;
        return {};
    };
}

contender by_sp(const std::string &path, std::size_t size)
{
    return {"sp PUSH/PULL", [url = "unixgram://" + path, size](side mine) {
                return mine == side::asking ? puller(url) : pusher(url, size);
            }};
}

} // namespace

int main()
{
    print_heading("stream_local", "messages one way between two processes of this host",
                  "5 rounds of 300 bursts of 1000 messages in turns, medians of the rounds; ends "
                  "pinned to different CPUs");
    if (cpus_allowed() < 2) {
        std::puts("  skipped   two ends that spin need two CPUs\n");
        return 0;
    }
    const folder place;
    constexpr std::array<std::size_t, 3> sizes{64, 1024, 16384};
    std::vector<contender> all;
    for (const auto size : sizes) {
        all.push_back(bare(size));
        all.push_back(by_sp(place.file(std::to_string(size)), size));
    }
    pair two({.exchanges = 300});
    const auto played = two.play(all);
    if (!played)
        return sp::complain(played.error());
    std::printf("  %-20s %8s %12s %10s %12s\n", "", "bytes", "messages/s", "GB/s", "of the ring");
    for (std::size_t i = 0; i < all.size(); ++i) {
        const auto rate = [&](std::size_t of) {
            return static_cast<double>(burst) / (*played)[of].p50_us * 1e6;
        };
        std::printf("  %-20s %8zu %12.0f %10.2f %11.0f%%\n", all[i].name.c_str(), sizes[i / 2],
                    rate(i), rate(i) * static_cast<double>(sizes[i / 2]) / 1e9,
                    100 * rate(i) / rate(i / 2 * 2));
    }
    print_disturbed(*played);
    std::puts("");
    return 0;
}
