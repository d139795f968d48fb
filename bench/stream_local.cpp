// SPDX-License-Identifier: BSD-2-Clause
//
// How many messages a second go from one process of this host to another, one way? PUSH to PULL
// over unixgram beside the record ring alone: a call for each message at both ends, batched
// receive, and batches both ways. Both processes are awake.
#include "bench/bare_memory.hpp"
#include "bench/exchanges.hpp"
#include "bench/folder.hpp"

#include <memory>

namespace {

using namespace sp::bench;

constexpr std::size_t burst = 1000;    // messages in what is timed as one
constexpr std::size_t batch_size = 50; // of them, in one call

enum class calls : std::uint8_t { each, receive_batched, both_batched };

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

// As many messages as one burst has.
bool pull_burst(sp::pull &pull, calls how, std::vector<sp::message> &room)
{
    if (how == calls::each) {
        for (std::size_t i = 0; i < burst; ++i)
            if (!pull.recv(patience))
                return false;
        return true;
    }
    for (std::size_t got = 0; got < burst;) {
        const auto want = std::min(room.size(), burst - got);
        const auto n = pull.recv_batch(std::span(room).first(want), patience);
        if (!n)
            return false;
        got += *n;
    }
    return true;
}

sp::result<player> puller(const std::string &url, calls how)
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
            pull = std::make_shared<sp::pull>(std::move(*pull)),
            how](std::size_t count, samples &took) -> sp::result<void> {
        std::vector<sp::message> room(batch_size);
        const bool all = timed(count, took, [&] { return pull_burst(*pull, how, room); });
        return all ? sp::result<void>() : failed("a message did not come");
    };
}

sp::result<player> pusher(const std::string &url, std::size_t size, calls how)
{
    auto engine = sp::engine::open({.waiting = sp::waiting::spin});
    if (!engine)
        return std::unexpected(engine.error());
    auto push = sp::push::open({.listen = url, .on = &*engine});
    if (!push)
        return std::unexpected(push.error());
    return [engine = std::make_shared<sp::engine>(std::move(*engine)),
            push = std::make_shared<sp::push>(std::move(*push)), size,
            how](std::size_t count, samples &) -> sp::result<void> {
        const std::vector<std::byte> body(size);
        const std::vector<sp::payload> batch(batch_size, sp::bytes(body));
        for (std::size_t n = 0; how == calls::both_batched && n < count * burst;) {
            const auto want = std::min(batch.size(), count * burst - n);
            const auto sent = push->send_batch(std::span(batch).first(want), patience);
            if (!sent)
                return std::unexpected(sent.error());
            n += *sent;
        }
        for (std::size_t n = 0; how != calls::both_batched && n < count * burst; ++n)
            if (auto sent = push->send(sp::bytes(body), patience); !sent)
                return sent;
        return {};
    };
}

const char *name_of(calls how)
{
    switch (how) {
    case calls::each:
        return "sp, a call for each";
    case calls::receive_batched:
        return "sp, batched receive";
    case calls::both_batched:
        break;
    }
    return "sp, batches both ways";
}

contender by_sp(const std::string &path, std::size_t size, calls how)
{
    return {name_of(how), [url = "unixgram://" + path, size, how](side mine) {
                return mine == side::asking ? puller(url, how) : pusher(url, size, how);
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
    constexpr std::array ways{calls::each, calls::receive_batched, calls::both_batched};
    constexpr std::size_t per_size = 1 + ways.size();
    std::vector<contender> all;
    for (const auto size : sizes) {
        all.push_back(bare(size));
        for (const auto how : ways)
            all.push_back(by_sp(place.file(std::to_string(all.size())), size, how));
    }
    pair two({.exchanges = 300, .seconds_max = 240}); // many contenders
    const auto played = two.play(all);
    if (!played)
        return sp::complain(played.error());
    std::printf("  %-22s %8s %12s %10s %12s\n", "", "bytes", "messages/s", "GB/s", "of the ring");
    const auto rate = [&](std::size_t of) {
        return static_cast<double>(burst) / (*played)[of].p50_us * 1e6;
    };
    const auto share = [&](std::size_t of) { return rate(of) / rate(of / per_size * per_size); };
    for (std::size_t i = 0; i < all.size(); ++i) {
        const auto size = sizes[i / per_size];
        std::printf("  %-22s %8zu %12.0f %10.2f %11.0f%%\n", all[i].name.c_str(), size, rate(i),
                    rate(i) * static_cast<double>(size) / 1e9, 100 * share(i));
    }
    print_disturbed(*played);
    struct bar {
        const char *what;
        std::size_t of;
        double least;
    };
    for (const auto &[what, of, least] :
         {bar{"64 B, a call for each, of the bare ring", 1, 0.45},
          bar{"64 B, batched receive", 2, 0.70}, bar{"64 B, batches both ways", 3, 0.80},
          bar{"1 KiB, a call for each", per_size + 1, 0.75}})
        print_bar(what, share(of), "at least", least, share(of) >= least);
    std::puts("");
    return 0;
}
