// SPDX-License-Identifier: BSD-2-Clause
//
// What every benchmark prints and how it counts: samples of one round, percentiles of rounds, the
// machine it ran on, and the table. A round that other work disturbed is seen by its involuntary
// context switches. Values only; who measures what is the business of the programs beside this.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <sched.h>
#include <string>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <vector>

namespace sp::bench {

using clock = std::chrono::steady_clock;

// One round. Nothing is allocated while it is filled.
class samples {
public:
    explicit samples(std::size_t count) { taken_.reserve(count); }

    void clear() noexcept { taken_.clear(); }
    void add(clock::duration took)
    {
        taken_.push_back(std::chrono::duration_cast<std::chrono::nanoseconds>(took).count());
    }
    // In microseconds; `share` in [0,1]. 0 when there are none.
    [[nodiscard]] double percentile_us(double share)
    {
        if (taken_.empty())
            return 0;
        const auto last = static_cast<double>(taken_.size() - 1);
        const auto at = taken_.begin() + static_cast<std::ptrdiff_t>(share * last);
        std::ranges::nth_element(taken_, at);
        return static_cast<double>(*at) / 1000;
    }

private:
    std::vector<std::int64_t> taken_;
};

[[nodiscard]] inline double median(std::vector<double> values)
{
    if (values.empty())
        return 0;
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::ranges::nth_element(values, middle);
    return *middle;
}

// What a thread that never sleeps has lost to others on its CPU. A switch alone says little: sp's
// own timekeeper and threads of the kernel take a CPU for microseconds; who competes for it takes
// it for milliseconds.
class cpu_watch {
public:
    // Involuntary switches since this was made, if they cost more than `lost_share_max` of the
    // time; else 0.
    [[nodiscard]] long disturbances() const noexcept
    {
        const auto now = look();
        const auto wall = now.at - began_.at;
        const auto lost = wall - (now.used - began_.used);
        return lost > wall / lost_share_max ? now.switches - began_.switches : 0;
    }

private:
    static constexpr int lost_share_max = 50; // one part in fifty

    struct reading {
        clock::time_point at;
        clock::duration used;
        long switches = 0;
    };
    [[nodiscard]] static reading look() noexcept
    {
        rusage used{};
        timespec cpu{};
        (void)::getrusage(RUSAGE_THREAD, &used);
        (void)::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
        return {clock::now(),
                std::chrono::seconds(cpu.tv_sec) + std::chrono::nanoseconds(cpu.tv_nsec),
                used.ru_nivcsw};
    }

    reading began_ = look();
};

[[nodiscard]] inline int cpus_allowed() noexcept
{
    cpu_set_t allowed;
    return ::sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
}

[[nodiscard]] inline std::string machine()
{
    std::string model = "unknown CPU";
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);)
        if (line.starts_with("model name")) {
            model = line.substr(line.find(':') + 2);
            break;
        }
    utsname kernel{};
    ::uname(&kernel);
    return model + ", " + std::to_string(cpus_allowed()) + " CPUs, " + kernel.sysname + ' ' +
           kernel.release;
}

inline void print_heading(const char *program, const char *question, const char *method)
{
    std::printf("%s: %s\n  machine   %s\n  method    %s\n", program, question, machine().c_str(),
                method);
}

// A bar is a promise about a ratio; whether it is kept is said, and is not the exit status: a busy
// machine is no fault.
inline void print_bar(const char *what, double ratio, const char *relation, double bar, bool met)
{
    std::printf("  %-8s  %s: %.2f (bar: %s %.2f)\n", met ? "met" : "NOT MET", what, ratio, relation,
                bar);
}

} // namespace sp::bench
