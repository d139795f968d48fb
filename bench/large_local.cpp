// SPDX-License-Identifier: BSD-2-Clause
//
// How long does a large request and an answer of the same size take between two processes of this
// host? Each side takes a loan, writes all of it, and reads all that it gets. Over unixgram, with
// the memory itself handed over and copied through the ring, beside a byte stream and beside a
// memcpy of that size in memory that is there already.
#include "bench/exchanges.hpp"
#include "bench/folder.hpp"

#include <algorithm>
#include <memory>
#include <numeric>

namespace {

using namespace sp::bench;

constexpr std::uint64_t message_max = 32u << 20;
constexpr std::uint64_t always = 64 * 1024, never = 1ull << 40; // bytes from which on it is done

sp::result<sp::engine> roomy(std::uint64_t handover_bytes)
{
    return sp::engine::open({.waiting = sp::waiting::spin,
                             .memory_max = 8 * message_max,
                             .handover_bytes = handover_bytes});
}

void write_all(std::span<std::byte> body)
{
    std::memset(body.data(), 0x5a, body.size());
}

// One byte of each cache line, which fetches all of it.
bool read_all(sp::bytes body)
{
    unsigned sum = 0;
    for (std::size_t i = 0; i < body.size(); i += 64)
        sum += std::to_integer<unsigned>(body[i]);
    return sum == 0x5a * ((body.size() + 63) / 64);
}

sp::result<player> asking(const std::string &url, std::size_t size, std::uint64_t handover_bytes)
{
    auto engine = roomy(handover_bytes);
    if (!engine)
        return std::unexpected(engine.error());
    auto req = sp::req::open({.on = &*engine, .message_max = message_max});
    if (!req)
        return std::unexpected(req.error());
    if (auto dialed = req->dial(url, patience); !dialed)
        return std::unexpected(dialed.error());
    return [engine = std::make_shared<sp::engine>(std::move(*engine)),
            req = std::make_shared<sp::req>(std::move(*req)),
            size](std::size_t count, samples &took) -> sp::result<void> {
        const bool all = timed(count, took, [&] {
            auto question = req->loan(size, patience);
            if (!question)
                return false;
            write_all(question->body());
            const auto answer = req->request(std::move(*question), patience);
            return answer && read_all(answer->body());
        });
        return all ? sp::result<void>() : failed("an answer did not come");
    };
}

sp::result<player> answering(const std::string &url, std::uint64_t handover_bytes)
{
    auto engine = roomy(handover_bytes);
    if (!engine)
        return std::unexpected(engine.error());
    auto rep = sp::rep::open({.listen = url, .on = &*engine, .message_max = message_max});
    if (!rep)
        return std::unexpected(rep.error());
    return [engine = std::make_shared<sp::engine>(std::move(*engine)),
            rep = std::make_shared<sp::rep>(std::move(*rep))](std::size_t count,
                                                              samples &) -> sp::result<void> {
        for (std::size_t n = 0; n < count; ++n) {
            auto question = rep->recv(patience);
            if (!question)
                return std::unexpected(question.error());
            if (!read_all(question->body()))
                return failed("a question came damaged");
            auto answer = question->loan(question->size(), patience);
            if (!answer)
                return std::unexpected(answer.error());
            write_all(answer->body());
            if (auto sent = std::move(*question).reply(std::move(*answer)); !sent)
                return sent;
        }
        return {};
    };
}

contender by_sp(const char *name, const std::string &url, std::size_t size,
                std::uint64_t handover_bytes)
{
    return {name, [url, size, handover_bytes](side mine) {
                return mine == side::asking ? asking(url, size, handover_bytes)
                                            : answering(url, handover_bytes);
            }};
}

double memcpy_us(std::size_t size)
{
    const std::vector<std::byte> from(size, std::byte{1});
    std::vector<std::byte> to(size, std::byte{2});
    constexpr std::size_t rounds = 11;
    samples took(rounds);
    (void)timed(rounds, took, [&] {
        std::memcpy(to.data(), from.data(), size);
        return read_all({}) && to[size / 2] == std::byte{1};
    });
    return took.percentile_us(0.5);
}

} // namespace

int main()
{
    print_heading("large_local", "large request and answer between two processes of this host",
                  "3 rounds of 20 exchanges in turns, medians of the rounds; each side writes a "
                  "loan and reads what it gets; ends pinned to different CPUs");
    if (cpus_allowed() < 2) {
        std::puts("  skipped   two ends that spin need two CPUs\n");
        return 0;
    }
    const folder place;
    constexpr std::array<std::size_t, 3> sizes{1u << 20, 4u << 20, 16u << 20};
    constexpr std::size_t ways = 3;
    std::vector<contender> all;
    for (const auto size : sizes) {
        const auto name = std::to_string(size);
        const auto file = [&](const char *of) { return "unixgram://" + place.file(of + name); };
        all.push_back(by_sp("unixgram, handed over", file("handed"), size, always));
        all.push_back(by_sp("unixgram, copied", file("copied"), size, never));
        all.push_back(by_sp("ipc", "ipc://" + place.file("stream" + name), size, never));
    }
    pair two({.exchanges = 20, .rounds = 3});
    const auto played = two.play(all);
    if (!played)
        return sp::complain(played.error());
    std::printf("  %-24s %6s %10s %8s %10s\n", "", "MiB", "p50 us", "GB/s", "x memcpy");
    for (std::size_t i = 0; i < all.size(); ++i) {
        const auto size = sizes[i / ways];
        const auto us = (*played)[i].p50_us;
        std::printf("  %-24s %6zu %10.0f %8.2f %10.1f\n", all[i].name.c_str(), size >> 20, us,
                    2 * static_cast<double>(size) / us / 1e3, us / memcpy_us(size));
    }
    print_disturbed(*played);
    std::puts("");
    return 0;
}
