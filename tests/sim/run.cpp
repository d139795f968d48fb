// SPDX-License-Identifier: BSD-2-Clause
//
// See run.hpp.
#include "tests/sim/run.hpp"

#include "tests/sim/actor.hpp"

#include <fstream>
#include <sstream>

namespace sp::sim {

namespace {

constexpr instant beginning{std::chrono::hours(1)};
constexpr std::size_t streams_max = 4096;

} // namespace

outcome run(choices &from, const run_options &options)
{
    auto plan = draw_config(from);
    if (options.first_seq)
        plan.first_seq = *options.first_seq;
    world w(plan, from, beginning);
    w.rules.tracing = options.trace;
    w.stop_at(options.until);
    w.run();
    return {.failure = w.rules.failure(),
            .hash = w.hash(),
            .shape = w.shape(),
            .events = w.rules.events,
            .passed = w.passed(),
            .messages = w.book.size(),
            .looks = w.rules.counts(),
            .befell = w.what_befell(),
            .lines = w.rules.lines()};
}

outcome run_seed(std::uint64_t seed, const run_options &options)
{
    choices from(seed);
    return run(from, options);
}

outcome run_tape(const tape &recorded, const run_options &options)
{
    choices from(recorded);
    return run(from, options);
}

tape tape_of(std::uint64_t seed)
{
    choices from(seed);
    (void)run(from);
    return from.recorded();
}

std::string configuration_of(choices from)
{
    return to_text(draw_config(from));
}

std::string to_text(const tape &t, const std::string &comment)
{
    std::string out = "# " + comment + "\n";
    for (std::size_t i = 0; i < t.size(); ++i) {
        if (t[i].empty())
            continue;
        out += std::to_string(i) + ':';
        for (const auto n : t[i])
            out += ' ' + std::to_string(n);
        out += '\n';
    }
    return out;
}

std::expected<tape, std::string> read_tape(const std::string &path)
{
    std::ifstream file(path);
    if (!file)
        return std::unexpected(path + ": cannot be read");
    tape t;
    for (std::string line; std::getline(file, line);) {
        if (line.empty() || line[0] == '#')
            continue;
        std::istringstream words(line);
        std::size_t stream = 0;
        char colon = 0;
        if (!(words >> stream >> colon) || colon != ':' || stream >= streams_max)
            return std::unexpected(path + ": no stream of choices: " + line.substr(0, 40));
        if (t.size() <= stream)
            t.resize(stream + 1);
        for (std::uint32_t n = 0; words >> n;)
            t[stream].push_back(n);
        if (!words.eof())
            return std::unexpected(path + ": not a number in stream " + std::to_string(stream));
    }
    return t;
}

} // namespace sp::sim
