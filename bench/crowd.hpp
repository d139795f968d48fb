// SPDX-License-Identifier: BSD-2-Clause
//
// Many processes that listen to this one, each a fork of it, and what they tell: when each had a
// message, how many it had, what that cost. They die with this one.
#pragma once

#include "bench/figures.hpp"

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <new>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace sp::bench {

// CPU time of this process so far.
[[nodiscard]] inline std::chrono::nanoseconds cpu_time() noexcept
{
    rusage u{};
    ::getrusage(RUSAGE_SELF, &u);
    const auto of = [](const timeval &t) {
        return std::chrono::seconds(t.tv_sec) + std::chrono::microseconds(t.tv_usec);
    };
    return of(u.ru_utime) + of(u.ru_stime);
}

class crowd {
public:
    static constexpr std::size_t most = 128;

    // What one of them says; memory that all share.
    struct alignas(128) voice {
        std::atomic<bool> ready;
        std::atomic<std::uint64_t> rounds;   // so many are done
        std::atomic<std::uint64_t> had_at;   // on the clock, in ns
        std::atomic<std::uint64_t> received; // messages, of all its sockets
        std::atomic<std::uint64_t> lost;
        std::atomic<std::uint64_t> busy; // ns of CPU
        std::atomic<std::uint64_t> took; // ns from the first message to the last
    };

    // `body` says ready and ends its process by returning.
    crowd(std::size_t n, const std::function<int(std::size_t, voice &)> &body)
    {
        std::fflush(nullptr);
        const pid_t parent = ::getpid();
        void *const got = ::mmap(nullptr, most * sizeof(voice), PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (got == MAP_FAILED || n > most)
            std::_Exit(EXIT_FAILURE);
        voices_ = new (got) voice[most]{};
        for (std::size_t i = 0; i < n; ++i) {
            const pid_t made = ::fork();
            if (made == 0) {
                ::prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (::getppid() != parent)
                    std::_Exit(EXIT_FAILURE);
                std::_Exit(body(i, voices_[i]));
            }
            members_.push_back(made);
        }
    }
    ~crowd()
    {
        for (const auto each : members_)
            ::kill(each, SIGKILL);
        for (const auto each : members_)
            ::waitpid(each, nullptr, 0);
        ::munmap(voices_, most * sizeof(voice));
    }
    crowd(const crowd &) = delete;
    crowd &operator=(const crowd &) = delete;

    [[nodiscard]] std::size_t size() const noexcept { return members_.size(); }
    [[nodiscard]] voice &operator[](std::size_t i) const noexcept { return voices_[i]; }
    // Sleeps until `done` holds of each. False: that takes too long.
    template <class Done>
    [[nodiscard]] bool wait(Done done) const
    {
        for (int i = 0; i < 100'000; ++i) {
            std::size_t n = 0;
            while (n < size() && done(voices_[n]))
                ++n;
            if (n == size())
                return true;
            ::usleep(200);
        }
        return false;
    }
    [[nodiscard]] std::uint64_t sum(std::atomic<std::uint64_t> voice::*what) const
    {
        std::uint64_t n = 0;
        for (std::size_t i = 0; i < size(); ++i)
            n += (voices_[i].*what).load();
        return n;
    }

private:
    voice *voices_ = nullptr;
    std::vector<pid_t> members_;
};

} // namespace sp::bench
