// SPDX-License-Identifier: BSD-2-Clause
//
// See shrink.hpp. Every try is a child process: it costs a millisecond and nothing it does can harm
// the search.
#include "tests/sim/shrink.hpp"

#include "tests/sim/config.hpp"
#include "tests/sim/run.hpp"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace sp::sim {
namespace {

constexpr unsigned patience = 20; // seconds that one run may take
constexpr std::size_t board_size = 64u << 20;

// Memory that a child leaves behind for its parent.
class board {
public:
    board()
        : memory_(static_cast<std::byte *>(::mmap(nullptr, board_size, PROT_READ | PROT_WRITE,
                                                  MAP_SHARED | MAP_ANONYMOUS, -1, 0)))
    {
        if (memory_ == MAP_FAILED) {
            std::perror("sp-sim: mmap");
            std::exit(4);
        }
    }
    board(const board &) = delete;
    board &operator=(const board &) = delete;
    ~board() { ::munmap(memory_, board_size); }
    template <class T>
    [[nodiscard]] T &as() const noexcept
    {
        return *reinterpret_cast<T *>(memory_);
    }

private:
    std::byte *memory_;
};

struct result {
    bool failed;
    rule broken;
    std::uint64_t events;
    std::array<char, 1024> detail;
};

// Runs f() in a child; false if that ended otherwise than by its end.
bool in_a_child(const std::function<void()> &f)
{
    std::fflush(stdout);
    const auto child = ::fork();
    if (child == 0) {
        (void)!std::freopen("/dev/null", "w", stderr);
        ::alarm(patience);
        f();
        ::_exit(0);
    }
    int status = 0;
    return child > 0 && ::waitpid(child, &status, 0) == child && status == 0;
}

// For record(): the child may die anywhere, so what it has chosen is written down when it does.
const choices *recording = nullptr;
std::uint32_t *recorded_to = nullptr;

void write_down_tape(int)
{
    std::size_t at = 0;
    const auto put = [&](std::uint32_t n) {
        if (at < board_size / sizeof(std::uint32_t))
            recorded_to[at++] = n;
    };
    const auto &t = recording->recorded();
    put(static_cast<std::uint32_t>(t.size()));
    for (const auto &each : t) {
        put(static_cast<std::uint32_t>(each.size()));
        for (const auto n : each)
            put(n);
    }
    ::_exit(0);
}

std::size_t length(const tape &t)
{
    std::size_t n = 0;
    for (const auto &each : t)
        n += each.size();
    return n;
}

class search {
public:
    search(const tape &from, std::chrono::seconds at_most)
        : until_(std::chrono::steady_clock::now() + at_most)
    {
        out_.smallest = from;
        out_.last = try_tape(from);
        out_.events_before = out_.last.events;
        out_.choices_before = length(from);
    }

    shrunk run()
    {
        if (out_.last.broken)
            for (bool progress = true; progress && !late();) {
                progress = cut_tracks();
                progress = calm_configuration() || progress;
                progress = thin_tracks() || progress;
            }
        out_.choices_after = length(out_.smallest);
        return out_;
    }

private:
    [[nodiscard]] bool late() const { return std::chrono::steady_clock::now() >= until_; }

    // Kept if the same predicate fails, and no later: where the tape of the faults has ended they
    // follow one another every microsecond, a million of them in a second. Of a run that ended its
    // program it is not known how many events it had.
    bool keep(tape &&candidate)
    {
        ++out_.tries;
        const auto most = out_.last.events;
        const auto v = most > 0 ? try_tape(candidate, most + 1) : try_tape(candidate);
        if (v.broken != out_.last.broken || v.events > most)
            return false;
        out_.last = v;
        out_.smallest = std::move(candidate);
        return true;
    }

    // Whole streams, then their ends.
    bool cut_tracks()
    {
        bool progress = false;
        for (std::size_t i = 0; i < out_.smallest.size(); ++i)
            for (std::size_t size = 0; size < out_.smallest[i].size() && !late();) {
                auto candidate = out_.smallest;
                candidate[i].resize(size);
                if (keep(std::move(candidate))) {
                    progress = true;
                    break;
                }
                const auto rest = out_.smallest[i].size() - size;
                size += std::max<std::size_t>(rest / 2, 1);
            }
        return progress;
    }
    // Fewer hosts, no faults: the choices of the configuration keep their places.
    bool calm_configuration()
    {
        bool progress = false;
        if (out_.smallest.empty())
            return progress;
        for (std::size_t i = 0; i < out_.smallest[streams::config].size() && !late(); ++i)
            for (const std::uint32_t divisor : {0u, 4u, 2u}) {
                const auto old = out_.smallest[streams::config][i];
                const auto value = divisor == 0 ? 0 : old / divisor;
                if (value == old)
                    break;
                auto candidate = out_.smallest;
                candidate[streams::config][i] = value;
                if (keep(std::move(candidate))) {
                    progress = true;
                    break;
                }
            }
        return progress;
    }
    // Blocks of all other streams, zeroed or taken out, from large to small.
    bool thin_tracks()
    {
        bool progress = false;
        for (std::size_t i = streams::config + 1; i < out_.smallest.size(); ++i)
            for (auto block = out_.smallest[i].size() / 2; block > 0 && !late(); block /= 2)
                for (std::size_t at = 0; at < out_.smallest[i].size() && !late(); at += block)
                    progress = thin(i, at, block) || progress;
        return progress;
    }
    bool thin(std::size_t stream, std::size_t at, std::size_t block)
    {
        const auto end = std::min(at + block, out_.smallest[stream].size());
        const auto first = out_.smallest[stream].begin();
        if (std::all_of(first + static_cast<std::ptrdiff_t>(at),
                        first + static_cast<std::ptrdiff_t>(end), [](auto n) { return n == 0; }))
            return false;
        auto without = out_.smallest;
        without[stream].erase(without[stream].begin() + static_cast<std::ptrdiff_t>(at),
                              without[stream].begin() + static_cast<std::ptrdiff_t>(end));
        if (keep(std::move(without)))
            return true;
        auto zeroed = out_.smallest;
        std::fill(zeroed[stream].begin() + static_cast<std::ptrdiff_t>(at),
                  zeroed[stream].begin() + static_cast<std::ptrdiff_t>(end), 0);
        return keep(std::move(zeroed));
    }

    std::chrono::steady_clock::time_point until_;
    shrunk out_;
};

} // namespace

verdict try_tape(const tape &t, std::uint64_t until)
{
    const board place;
    auto &r = place.as<result>();
    const bool ended = in_a_child([&] {
        const auto o = run_tape(t, {.until = until});
        r.events = o.events;
        r.failed = o.failure.has_value();
        if (o.failure) {
            r.broken = o.failure->which;
            std::snprintf(r.detail.data(), r.detail.size(), "%s", o.failure->detail.c_str());
        }
    });
    if (!ended)
        return {.broken = rule::no_abort, .detail = "the program ended", .events = r.events};
    if (!r.failed)
        return {.events = r.events};
    return {.broken = r.broken, .detail = r.detail.data(), .events = r.events};
}

tape record(std::uint64_t seed)
{
    const board place;
    auto *words = &place.as<std::uint32_t>();
    (void)in_a_child([&] {
        choices from(seed);
        recording = &from;
        recorded_to = words;
        for (const int signal : {SIGABRT, SIGSEGV, SIGALRM})
            std::signal(signal, write_down_tape);
        (void)run(from);
        write_down_tape(0);
    });
    tape t(*words++);
    for (auto &each : t) {
        each.resize(*words++);
        for (auto &n : each)
            n = *words++;
    }
    return t;
}

shrunk shrink(const tape &from, std::chrono::seconds at_most)
{
    return search(from, at_most).run();
}

} // namespace sp::sim
