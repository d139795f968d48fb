// SPDX-License-Identifier: BSD-2-Clause
//
// sp-sim: runs seeds of the simulator on all cores, or one seed or tape in detail. What it will run
// is printed before it runs; the last line says what came out.
#include "tests/sim/fleet.hpp"
#include "tests/sim/run.hpp"
#include "tests/sim/shrink.hpp"
#include "userspace/marks.hpp"
#include "userspace/plants.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <thread>

namespace {

using namespace sp::sim;

struct arguments {
    std::optional<std::uint64_t> seed{};
    std::string tape{}, out = ".", trace{}, plant{};
    std::uint64_t seeds = 1000, from = 1, until = ~std::uint64_t{0};
    unsigned jobs = std::max(std::thread::hardware_concurrency(), 1u);
    int shrink_for = 60; // seconds
    bool traced = false, rules = false, all_plants = false;
};

auto n(std::uint64_t value)
{
    return static_cast<unsigned long long>(value);
}

double ms(nanoseconds d)
{
    return static_cast<double>(d.count()) / 1e6;
}

void print_violation(const violation &v)
{
    const auto &r = rule_table[static_cast<std::size_t>(v.which)];
    std::printf("FAILED %.*s %.*s: %.*s\n  %s\n  at event %llu, %.6f ms\n",
                static_cast<int>(r.id.size()), r.id.data(), static_cast<int>(r.name.size()),
                r.name.data(), static_cast<int>(r.text.size()), r.text.data(), v.detail.c_str(),
                n(v.event), ms(v.at));
}

void print_rules(const rule_counts &looks)
{
    for (std::size_t i = 0; i < looks.size(); ++i)
        std::printf("  %-5s %-26s %12llu\n", rule_table[i].id.data(), rule_table[i].name.data(),
                    n(looks[i]));
}

void print_befallen(const befallen &b)
{
    std::printf("  packets %llu: lost %llu, cut off %llu, overflowed %llu, too large %llu, damaged "
                "%llu, doubled %llu, replayed %llu, windows reversed %llu\n",
                n(b.net.submitted), n(b.net.lost), n(b.net.cut), n(b.net.overflowed),
                n(b.net.too_large), n(b.net.damaged), n(b.net.doubled), n(b.net.replayed),
                n(b.net.reordered));
    std::printf("  crashes %llu, pauses %llu, partitions %llu, clogs %llu, jams %llu, MTU changes "
                "%llu, reopened sockets %llu, false hints %llu, strangers %llu\n",
                n(b.crashes), n(b.pauses), n(b.partitions), n(b.clogs), n(b.jams), n(b.resizes),
                n(b.reopens), n(b.hints), n(b.strangers));
}

void print_marks([[maybe_unused]] const fleet_result &r)
{
#ifdef SP_MARKS
    for (std::size_t i = 0; i < sp::marks::table.size(); ++i)
        std::printf("  mark  %-26s %12llu\n", sp::marks::table[i].name.data(), n(r.marks[i]));
#endif
}

// Writes what is left of a failing tape beside the others.
void shrink_and_write(const tape &t, const std::string &name, const arguments &a)
{
    const auto s = shrink(t, std::chrono::seconds(a.shrink_for));
    if (!s.last.broken) {
        std::printf("the tape does not fail again; nothing to shrink\n");
        return;
    }
    const auto &r = rule_table[static_cast<std::size_t>(*s.last.broken)];
    const auto path = a.out + '/' + std::string(r.name) + '-' + name + ".tape";
    std::ofstream(path) << to_text(s.smallest, std::string(r.id) + ' ' + std::string(r.name) +
                                                   ": " + s.last.detail);
    std::printf("%s: %llu events instead of %llu, %llu choices instead of %llu, after %llu tries\n",
                path.c_str(), n(s.last.events), n(s.events_before), n(s.choices_after),
                n(s.choices_before), n(s.tries));
    std::printf("  CFG=%s\n", configuration_of(choices(s.smallest)).c_str());
}

// One run in detail.
int run_once(const arguments &a)
{
    const auto name = a.tape.empty() ? "SEED=" + std::to_string(*a.seed) : "TAPE=" + a.tape;
    tape t;
    if (!a.tape.empty()) {
        auto read = read_tape(a.tape);
        if (!read) {
            std::fprintf(stderr, "sp-sim: %s\n", read.error().c_str());
            return 2;
        }
        t = std::move(*read);
    }
    const auto fresh = [&] { return a.tape.empty() ? choices(*a.seed) : choices(t); };
    std::printf("%s CFG=%s\n", name.c_str(), configuration_of(fresh()).c_str());
    std::fflush(stdout);
    auto from = fresh();
    const auto o = run(from, {.until = a.until, .trace = a.traced});
    const bool wanted = !o.failure || a.trace.empty() ||
                        a.trace == rule_table[static_cast<std::size_t>(o.failure->which)].id ||
                        a.trace == rule_table[static_cast<std::size_t>(o.failure->which)].name;
    if (wanted)
        for (const auto &line : o.lines)
            std::printf("%s\n", line.c_str());
    if (a.rules)
        print_rules(o.looks);
    if (o.failure)
        print_violation(*o.failure);
    std::printf("%s HASH=0x%llx EVENTS=%llu VTIME=%.6fms %s\n", name.c_str(), n(o.hash),
                n(o.events), ms(o.passed), o.failure ? "FAILED" : "ok");
    if (o.failure && !a.traced && a.shrink_for > 0)
        shrink_and_write(from.recorded(), a.tape.empty() ? std::to_string(*a.seed) : "tape", a);
    return o.failure ? 1 : 0;
}

int run_many(const arguments &a)
{
    std::printf("SEEDS=%llu FROM=%llu JOBS=%u\n", n(a.seeds), n(a.from), a.jobs);
    const auto r = run_fleet({.from = a.from, .seeds = a.seeds, .jobs = a.jobs});
    print_befallen(r.befell);
    if (a.rules) {
        print_rules(r.looks);
        print_marks(r);
    }
    if (r.failure) {
        print_violation(r.failure->what);
        std::printf("  again: sp-sim --seed %llu --trace\n  CFG=%s\n", n(r.failure->seed),
                    configuration_of(choices(r.failure->seed)).c_str());
        if (a.shrink_for > 0)
            shrink_and_write(record(r.failure->seed), std::to_string(r.failure->seed), a);
    }
    std::printf("SEEDS=%llu FROM=%llu FAILED=%d TWICE=%llu EVENTS=%llu MESSAGES=%llu VTIME=%.1fs "
                "HASH=0x%llx\n",
                n(r.seeds), n(a.from), r.failure ? 1 : 0, n(r.twice), n(r.events), n(r.messages),
                ms(r.passed) / 1e3, n(r.hash));
    return r.failure ? 1 : 0;
}

#ifdef SP_PLANTS
struct catch_of {
    bool caught = false;
    std::uint64_t seeds = 0;
    rule by{};
    std::string detail{};
};

catch_of hunt(sp::plants::plant which, const arguments &a)
{
    sp::plants::planted = which;
    const auto r = run_fleet(
        {.from = a.from, .seeds = a.seeds, .jobs = a.jobs, .audit = true, .silent = true});
    sp::plants::planted = sp::plants::plant::none;
    if (!r.failure)
        return {.seeds = r.seeds};
    return {.caught = true,
            .seeds = r.failure->seed - a.from + 1,
            .by = r.failure->what.which,
            .detail = r.failure->what.detail};
}

// Every plant must be caught, but for the one that nothing reaches.
int run_plants(const arguments &a)
{
    std::vector<std::uint64_t> needed;
    int wrong = 0;
    std::printf("PLANTS=%zu SEEDS=%llu FROM=%llu\n", sp::plants::table.size() - 1, n(a.seeds),
                n(a.from));
    for (std::size_t i = 1; i < sp::plants::table.size(); ++i) {
        const auto &p = sp::plants::table[i];
        if (!a.plant.empty() && a.plant != p.name)
            continue;
        const auto c = hunt(static_cast<sp::plants::plant>(i), a);
        const bool dead = p.name == "dead_code";
        const auto &r = rule_table[static_cast<std::size_t>(c.by)];
        if (c.caught)
            std::printf("%-28s %-5s %-24s %6llu seeds%s\n", p.name.data(), r.id.data(),
                        r.name.data(), n(c.seeds), dead ? "  WRONG: nothing reaches it" : "");
        else
            std::printf("%-28s never in %llu seeds%s\n", p.name.data(), n(c.seeds),
                        dead ? ", as it should be" : "  WRONG");
        std::fflush(stdout);
        wrong += c.caught == dead;
        if (c.caught && !dead)
            needed.push_back(c.seeds);
    }
    std::ranges::sort(needed);
    std::printf("CAUGHT=%zu MISSED=%d MEDIAN=%llu\n", needed.size(), wrong,
                n(needed.empty() ? 0 : needed[needed.size() / 2]));
    return wrong == 0 ? 0 : 1;
}
#endif

int main_of(int argc, char **argv)
{
    arguments a;
    CLI::App app("Runs clusters of engines in virtual time under every fault there is, and looks "
                 "whether what must hold holds.",
                 "sp-sim");
    app.add_option("--seeds", a.seeds, "how many seeds")->check(CLI::PositiveNumber);
    app.add_option("--from", a.from, "the first one");
    app.add_option("--jobs", a.jobs, "processes at a time")->check(CLI::PositiveNumber);
    auto *seed = app.add_option("--seed", a.seed, "one seed, in detail");
    app.add_option("--tape", a.tape, "one tape, in detail")->excludes(seed);
    app.add_option("--until", a.until, "stop a single run at this event");
    auto *trace =
        app.add_option("--trace", a.trace, "print what happens; with a name, if that is what fails")
            ->expected(0, 1);
    app.add_option("--shrink", a.shrink_for, "seconds to spend on a smaller tape; 0: none");
    app.add_option("--out", a.out, "folder for tapes that fail");
    app.add_flag("--rules", a.rules, "print how often each predicate was looked at");
#ifdef SP_PLANTS
    app.add_option("--plant", a.plant, "switch this planted bug on, and find it");
    app.add_flag("--plants", a.all_plants, "find every planted bug");
#endif
    CLI11_PARSE(app, argc, argv);
    a.traced = trace->count() > 0;
#ifdef SP_PLANTS
    if (!a.plant.empty() &&
        std::ranges::find(sp::plants::table, a.plant, &sp::plants::entry::name) ==
            sp::plants::table.end()) {
        std::fprintf(stderr, "sp-sim: no bug is planted under the name %s\n", a.plant.c_str());
        return 2;
    }
    if (!a.plant.empty() && a.seed)
        sp::plants::planted = static_cast<sp::plants::plant>(
            std::ranges::find(sp::plants::table, a.plant, &sp::plants::entry::name) -
            sp::plants::table.begin());
    else if (a.all_plants || !a.plant.empty())
        return run_plants(a);
#endif
    return a.seed || !a.tape.empty() ? run_once(a) : run_many(a);
}

} // namespace

int main(int argc, char **argv)
{
    try {
        return main_of(argc, argv);
    } catch (const std::exception &e) {
        std::fprintf(stderr, "sp-sim: %s\n", e.what());
        return 4;
    }
}
