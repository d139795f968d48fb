// SPDX-License-Identifier: BSD-2-Clause
//
// What does the record ring add to a bare ping-pong through shared memory? Two threads on CPUs of
// their own, both awake, send a payload back and forth: once by one or two cache lines and a
// sequence word, once by a ring each way. The bare exchange is what the memory of this machine can
// do; everything is printed as a ratio to it.
#include "bench/bare_memory.hpp"
#include "bench/figures.hpp"

#include <array>
#include <atomic>
#include <memory>
#include <pthread.h>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace sp::bench;

// The clock is read once in a batch: for each exchange it would cost a tenth of it. The median of
// the batches is not moved by other work that takes a CPU now and then.
constexpr int rounds = 5, batch = 100, batches = 300, exchanges = batch * batches;
constexpr std::size_t payload_bytes_max = 1024;

using bare = bare_lines<payload_bytes_max>;
using by_ring = bare_ring<256 * 1024>;

// The first and the last CPU that this process may use, looked up before any thread is pinned: a
// thread inherits the set of the one that makes it.
struct cpu_pair {
    unsigned first = 0, last = 0;
};
cpu_pair allowed_cpus() noexcept
{
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    (void)::sched_getaffinity(0, sizeof allowed, &allowed);
    cpu_pair found{.first = CPU_SETSIZE, .last = 0};
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET(cpu, &allowed)) {
            found.first = std::min(found.first, cpu);
            found.last = cpu;
        }
    return found;
}
void pin(unsigned cpu) noexcept
{
    cpu_set_t chosen;
    CPU_ZERO(&chosen);
    CPU_SET(cpu, &chosen);
    (void)::pthread_setaffinity_np(::pthread_self(), sizeof chosen, &chosen);
}

struct outcome {
    double ns; // of an exchange
    bool disturbed;
};

template <class Road>
outcome play(std::size_t size, unsigned answerer)
{
    const auto way = std::make_unique<Road>();
    std::thread answering([&] {
        pin(answerer);
        std::array<std::byte, payload_bytes_max> room{};
        const auto payload = std::span(room).first(size);
        for (int i = 0; i < exchanges; ++i) {
            way->receive(0, payload);
            way->send(1, payload);
        }
    });
    std::array<std::byte, payload_bytes_max> room{};
    const auto payload = std::span(room).first(size);
    std::vector<double> ns;
    ns.reserve(batches);
    const cpu_watch watch;
    auto begin = clock::now();
    for (int i = 0; i < batches; ++i) {
        for (int j = 0; j < batch; ++j) {
            way->send(0, payload);
            way->receive(1, payload);
        }
        const auto end = clock::now();
        ns.push_back(std::chrono::duration<double, std::nano>(end - begin).count() / batch);
        begin = end;
    }
    const bool disturbed = watch.disturbances() > 0;
    answering.join();
    return {median(std::move(ns)), disturbed};
}

struct contender {
    const char *name;
    std::size_t size;
    outcome (*play)(std::size_t size, unsigned answerer);
    std::vector<double> ns{}; // by round
    int disturbed = 0;
};

} // namespace

int main()
{
    print_heading("ring", "the record ring beside a bare ping-pong through shared memory",
                  "5 rounds of 300 batches of 100 exchanges in turns, medians of medians; two "
                  "threads, pinned");
    if (cpus_allowed() < 2) {
        std::puts("  skipped   two ends that spin need two CPUs\n");
        return 0;
    }
    const auto cpus = allowed_cpus();
    pin(cpus.first);
    std::vector<contender> all;
    for (const std::size_t size : {std::size_t{40}, std::size_t{64}, std::size_t{1024}}) {
        all.push_back({"bare", size, play<bare>});
        all.push_back({"record ring", size, play<by_ring>});
    }
    for (int round = 0; round < rounds; ++round)
        for (auto &one : all) {
            const auto o = one.play(one.size, cpus.last);
            one.ns.push_back(o.ns);
            one.disturbed += o.disturbed ? 1 : 0;
        }
    std::printf("  %-14s %8s %12s %9s\n", "", "bytes", "exchange ns", "x bare");
    double reference = 0;
    for (auto &one : all) {
        const auto ns = median(one.ns);
        if (one.play == play<bare>)
            reference = ns;
        std::printf("  %-14s %8zu %12.0f %9.2f%s\n", one.name, one.size, ns, ns / reference,
                    one.disturbed > rounds / 2 ? "  disturbed by other work" : "");
    }
    std::puts("");
    return 0;
}
