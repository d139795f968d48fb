// SPDX-License-Identifier: BSD-2-Clause
//
// See fleet.hpp.
#include "tests/sim/fleet.hpp"

#include "tests/sim/run.hpp"
#include "userspace/marks.hpp"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace sp::sim {
namespace {

constexpr std::uint64_t chunk = 8;    // seeds that a worker takes at a time
constexpr std::uint64_t one_in = 100; // seeds are audited

// What a worker has done. Written by it, read by the parent after its end.
struct tally {
    std::uint64_t seed = 0; // that it is at
    bool busy = false;
    std::uint64_t seeds = 0, events = 0, messages = 0, twice = 0;
    std::int64_t passed = 0;
    std::uint64_t hash = 0;
    rule_counts looks{};
    befallen befell{};
    std::array<std::uint64_t, marks_max> marks{};
    bool failed = false;
    std::uint64_t failed_seed = 0, failed_event = 0;
    std::int64_t failed_at = 0;
    rule broken{};
    std::array<char, 1024> detail{};
};

struct shared {
    std::atomic<std::uint64_t> next;
    std::atomic<bool> stop;
    tally workers[64];
};

void add(befallen &sum, const befallen &b)
{
    sum.crashes += b.crashes;
    sum.pauses += b.pauses;
    sum.partitions += b.partitions;
    sum.clogs += b.clogs;
    sum.jams += b.jams;
    sum.resizes += b.resizes;
    sum.reopens += b.reopens;
    sum.hints += b.hints;
    sum.strangers += b.strangers;
    sum.net.submitted += b.net.submitted;
    sum.net.delivered += b.net.delivered;
    sum.net.lost += b.net.lost;
    sum.net.cut += b.net.cut;
    sum.net.overflowed += b.net.overflowed;
    sum.net.too_large += b.net.too_large;
    sum.net.damaged += b.net.damaged;
    sum.net.doubled += b.net.doubled;
    sum.net.replayed += b.net.replayed;
    sum.net.reordered += b.net.reordered;
}

void write_down(tally &t, std::uint64_t seed, const violation &v)
{
    t.failed = true;
    t.failed_seed = seed;
    t.failed_event = v.event;
    t.failed_at = v.at.count();
    t.broken = v.which;
    std::snprintf(t.detail.data(), t.detail.size(), "%s", v.detail.c_str());
}

// The same seed must give the same run, and another first number the same run in other numbers.
void audit(tally &t, std::uint64_t seed, const outcome &first)
{
    const auto again = run_seed(seed);
    ++t.twice;
    ++t.looks[static_cast<std::size_t>(rule::trace_reproducible)];
    if (again.hash != first.hash || again.events != first.events)
        return write_down(t, seed,
                          {.which = rule::trace_reproducible,
                           .detail = "two runs of one seed differ",
                           .event = std::min(again.events, first.events)});
    if constexpr (wraps) {
        const auto low = run_seed(seed, {.first_seq = 0}),
                   high = run_seed(seed, {.first_seq = 0xfffffffe});
        ++t.looks[static_cast<std::size_t>(rule::wrap_invariant)];
        if (low.shape != high.shape)
            write_down(t, seed,
                       {.which = rule::wrap_invariant,
                        .detail = "a run whose numbers wrap differs from one whose numbers do not",
                        .event = std::min(low.events, high.events)});
    }
}

void run_one(tally &t, std::uint64_t seed, bool audited)
{
    const auto o = run_seed(seed);
    ++t.seeds;
    t.events += o.events;
    t.messages += o.messages;
    t.passed += o.passed.count();
    t.hash += mix(o.hash ^ seed);
    for (std::size_t i = 0; i < o.looks.size(); ++i)
        t.looks[i] += o.looks[i];
    add(t.befell, o.befell);
    if (o.failure)
        return write_down(t, seed, *o.failure);
    if (audited && seed % one_in == 0)
        audit(t, seed, o);
}

void work(shared &all, tally &t, const fleet_options &options)
{
    const auto end = options.from + options.seeds;
    while (!all.stop && !t.failed) {
        const auto first = all.next.fetch_add(chunk);
        if (first >= end)
            break;
        for (auto seed = first; seed < std::min(first + chunk, end) && !t.failed; ++seed) {
            t.seed = seed;
            t.busy = true;
            run_one(t, seed, options.audit);
            t.busy = false;
        }
    }
    if (t.failed)
        all.stop = true;
#ifdef SP_MARKS
    static_assert(marks::hits.size() <= marks_max);
    std::copy(marks::hits.begin(), marks::hits.end(), t.marks.begin());
#endif
}

void collect(fleet_result &sum, const tally &t)
{
    sum.seeds += t.seeds;
    sum.events += t.events;
    sum.messages += t.messages;
    sum.twice += t.twice;
    sum.passed += nanoseconds(t.passed);
    sum.hash += t.hash;
    for (std::size_t i = 0; i < t.looks.size(); ++i)
        sum.looks[i] += t.looks[i];
    for (std::size_t i = 0; i < t.marks.size(); ++i)
        sum.marks[i] += t.marks[i];
    add(sum.befell, t.befell);
    if (!t.failed || (sum.failure && sum.failure->seed < t.failed_seed))
        return;
    sum.failure = fleet_failure{.seed = t.failed_seed,
                                .what = {.which = t.broken,
                                         .detail = t.detail.data(),
                                         .event = t.failed_event,
                                         .at = nanoseconds(t.failed_at)}};
}

} // namespace

fleet_result run_fleet(const fleet_options &options)
{
    auto *memory =
        ::mmap(nullptr, sizeof(shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        std::perror("sp-sim: mmap");
        std::exit(4);
    }
    auto &all = *::new (memory) shared{};
    all.next = options.from;
    const auto jobs = std::clamp(options.jobs, 1u, 64u);
    std::vector<pid_t> children;
    std::fflush(stdout);
    for (unsigned i = 0; i < jobs; ++i) {
        const auto child = ::fork();
        if (child == 0) {
            if (options.silent)
                (void)!std::freopen("/dev/null", "w", stderr);
            work(all, all.workers[i], options);
            std::exit(0); // which is when leaks are looked for
        }
        if (child > 0)
            children.push_back(child);
    }
    fleet_result sum;
    for (std::size_t i = 0; i < children.size(); ++i) {
        int status = 0;
        ::waitpid(children[i], &status, 0);
        auto &t = all.workers[i];
        const bool died = status != 0;
        if (died) {
            all.stop = true;
            write_down(
                t, t.seed,
                {.which = rule::no_abort,
                 .detail = WIFSIGNALED(status)
                               ? "the program ended by signal " + std::to_string(WTERMSIG(status))
                               : "the program ended with " + std::to_string(WEXITSTATUS(status))});
        }
        collect(sum, t);
        if (died && sum.failure && sum.failure->seed == t.seed)
            sum.failure->died = true;
    }
    sum.looks[static_cast<std::size_t>(rule::no_abort)] += sum.seeds;
    ::munmap(memory, sizeof(shared));
    return sum;
}

} // namespace sp::sim
