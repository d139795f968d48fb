// SPDX-License-Identifier: BSD-2-Clause
//
// Two processes that play ping-pong in several ways, in turns: this one asks, a fork of it answers,
// each on a CPU of its own. Before and after each round they meet and tell each other how much they
// were disturbed; a disturbed round is played again after a pause, at most `repeats_max` times;
// then the least disturbed one is kept, and counted as such. The answering process dies with this
// one.
#pragma once

#include "bench/figures.hpp"
#include "sp/error.hpp"

#include <csignal>
#include <cstdlib>
#include <functional>
#include <optional>
#include <poll.h>
#include <span>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

namespace sp::bench {

enum class side : std::uint8_t { asking, answering };

// Plays `count` exchanges. The asking side notes how long each took; the other one leaves `took`
// alone.
using player = std::move_only_function<result<void>(std::size_t count, samples &took)>;

// One way to exchange messages. The answering side opens first. What open() makes stays until all
// rounds are played.
struct contender {
    std::string name;
    std::function<result<player>(side)> open;
    std::optional<std::size_t> exchanges = {}; // per round, if fewer than the plan says
};

struct plan {
    std::size_t exchanges = 40'000; // per round
    int rounds = 5;
    int repeats_max = 3;
    bool one_cpu = false; // both sides on the same
    unsigned seconds_max = 80; // then the kernel ends the program: somebody waits for what was lost
    std::function<result<void>(side)> enter = [](side) {
        return result<void>();
    }; // before anything is opened
};

struct outcome {
    double p50_us = 0, p99_us = 0; // medians over the rounds
    int repeated = 0;              // rounds that were played again
    int kept_disturbed = 0;        // rounds that stayed disturbed
};

[[nodiscard]] inline std::unexpected<error> failed(const char *what, const char *why = "")
{
    return std::unexpected(error::numbered(2037, what, why));
}

// Times `exchange()` until it was done `count` times or returned false.
template <class Exchange>
[[nodiscard]] bool timed(std::size_t count, samples &took, Exchange &&exchange)
{
    auto last = clock::now();
    for (std::size_t n = 0; n < count; ++n) {
        if (!exchange())
            return false;
        const auto now = clock::now();
        took.add(now - last);
        last = now;
    }
    return true;
}

// What the two sides tell each other when they meet.
struct word {
    long switches = 0; // involuntary ones that cost time, in the round just played
};

// A descriptor, closed by whoever has it.
class fd {
public:
    explicit fd(int number = -1) noexcept : fd_(number) {}
    fd(fd &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    fd &operator=(fd &&other) noexcept
    {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~fd()
    {
        if (fd_ >= 0)
            ::close(fd_);
    }
    [[nodiscard]] int get() const noexcept { return fd_; }

private:
    int fd_;
};

class pair {
public:
    explicit pair(const plan &how) : how_(how)
    {
        CPU_ZERO(&allowed_);
        (void)::sched_getaffinity(0, sizeof allowed_, &allowed_);
    }
    pair(const pair &) = delete;
    pair &operator=(const pair &) = delete;
    ~pair()
    {
        if (bell_ >= 0)
            ::close(bell_); // the answering side leaves when nobody is at the other end
        if (child_ > 0)
            ::waitpid(child_, nullptr, 0);
        ::sched_setaffinity(0, sizeof allowed_, &allowed_);
    }

    // In the order of the contenders.
    [[nodiscard]] result<std::vector<outcome>> play(std::span<const contender> all)
    {
        int ends[2];
        if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
            return failed("no socket pair");
        ::alarm(how_.seconds_max);
        std::fflush(nullptr);
        const pid_t parent = ::getpid();
        child_ = ::fork();
        if (child_ < 0)
            return failed("no second process");
        const auto mine = child_ == 0 ? side::answering : side::asking;
        bell_ = ends[mine == side::asking ? 0 : 1];
        ::close(ends[mine == side::asking ? 1 : 0]);
        if (mine == side::asking)
            return play_as(mine, all);
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != parent)
            std::_Exit(EXIT_FAILURE);
        const auto played = play_as(mine, all);
        std::_Exit(played ? EXIT_SUCCESS : complain(played.error()));
    }

private:
    // The first and the last CPU we may use: on most machines these are not two threads of one
    // core.
    void pin(side mine) const noexcept
    {
        cpu_set_t chosen;
        CPU_ZERO(&chosen);
        const auto &allowed = allowed_;
        unsigned first = CPU_SETSIZE, last = 0;
        for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu)
            if (CPU_ISSET(cpu, &allowed)) {
                first = std::min(first, cpu);
                last = cpu;
            }
        CPU_SET(mine == side::asking || how_.one_cpu ? first : last, &chosen);
        ::sched_setaffinity(0, sizeof chosen, &chosen);
    }

    // Tells the other side and hears it; it is there when this returns.
    [[nodiscard]] result<word> meet(word mine = {}) const
    {
        word theirs;
        if (::send(bell_, &mine, sizeof mine, MSG_NOSIGNAL) != sizeof mine ||
            ::recv(bell_, &theirs, sizeof theirs, 0) != sizeof theirs)
            return failed("the other side of the benchmark has ended");
        return theirs;
    }

    [[nodiscard]] result<std::vector<player>> open(side mine, std::span<const contender> all) const
    {
        std::vector<player> players;
        for (const auto &one : all)
            for (const auto turn : {side::answering, side::asking}) {
                if (turn == mine) {
                    auto opened = one.open(mine);
                    if (!opened)
                        return std::unexpected(opened.error());
                    players.push_back(std::move(*opened));
                }
                if (const auto met = meet(); !met)
                    return std::unexpected(met.error());
            }
        return players;
    }

    // How much both sides together were disturbed; 0: not at all.
    [[nodiscard]] result<long> play_once(player &one, std::size_t exchanges, samples &took) const
    {
        took.clear();
        if (const auto met = meet(); !met)
            return std::unexpected(met.error());
        const cpu_watch watch;
        if (const auto played = one(exchanges, took); !played)
            return std::unexpected(played.error());
        const word mine{watch.disturbances()};
        const auto theirs = meet(mine);
        if (!theirs)
            return std::unexpected(theirs.error());
        return mine.switches + theirs->switches;
    }

    // The best of as many attempts as it takes.
    struct attempt {
        double p50_us = 0, p99_us = 0;
        long switches = 0;
        int repeats = 0;
    };
    [[nodiscard]] result<attempt> play_round(player &one, std::size_t exchanges,
                                             samples &took) const
    {
        attempt best;
        for (int repeats = 0; repeats <= how_.repeats_max; ++repeats) {
            if (repeats > 0)
                ::poll(nullptr, 0, pause_ms); // who disturbed us may be done then
            const auto switches = play_once(one, exchanges, took);
            if (!switches)
                return std::unexpected(switches.error());
            if (repeats == 0 || *switches < best.switches)
                best = {took.percentile_us(0.50), took.percentile_us(0.99), *switches, 0};
            best.repeats = repeats;
            if (*switches == 0)
                break;
        }
        return best;
    }

    [[nodiscard]] result<std::vector<outcome>> play_as(side mine,
                                                       std::span<const contender> all) const
    {
        if (const auto inside = how_.enter(mine); !inside)
            return std::unexpected(inside.error());
        pin(mine);
        auto players = open(mine, all);
        if (!players)
            return std::unexpected(players.error());
        std::vector<outcome> outcomes(all.size());
        std::vector<std::vector<double>> p50(all.size()), p99(all.size());
        samples took(how_.exchanges);
        for (int round = 0; round < how_.rounds; ++round)
            for (std::size_t i = 0; i < all.size(); ++i) {
                const auto played =
                    play_round((*players)[i], all[i].exchanges.value_or(how_.exchanges), took);
                if (!played)
                    return std::unexpected(played.error());
                p50[i].push_back(played->p50_us);
                p99[i].push_back(played->p99_us);
                outcomes[i].repeated += played->repeats;
                outcomes[i].kept_disturbed += played->switches > 0;
            }
        for (std::size_t i = 0; i < all.size(); ++i) {
            outcomes[i].p50_us = median(p50[i]);
            outcomes[i].p99_us = median(p99[i]);
        }
        if (const auto met = meet(); !met) // nobody closes what the other still uses
            return std::unexpected(met.error());
        return outcomes;
    }

    static constexpr int pause_ms = 50;

    plan how_;
    cpu_set_t allowed_; // to this process before it was pinned
    pid_t child_ = 0;
    int bell_ = -1;
};

inline void print_disturbed(std::span<const outcome> all)
{
    int repeated = 0, kept = 0;
    for (const auto &o : all) {
        repeated += o.repeated;
        kept += o.kept_disturbed;
    }
    std::printf("  disturbed by other work: %d rounds played again, %d kept as they were\n",
                repeated, kept);
}

} // namespace sp::bench
