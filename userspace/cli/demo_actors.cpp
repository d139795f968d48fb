// SPDX-License-Identifier: BSD-2-Clause
//
// See demo_actors.hpp.
#include "userspace/cli/demo_actors.hpp"

#include "userspace/cli/console.hpp"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace sp::cli {
namespace {

struct actor {
    pid_t pid = 0;
    int ear = -1; // the parent's end
    bool done = false;
};

void copy_text(std::string_view from, std::span<char> to)
{
    from.copy(to.data(), to.size() - 1); // the array was zero
}

// The first and the last CPU we may use: on most machines these are not two threads of one core.
void pin_to(unsigned side) noexcept
{
    cpu_set_t allowed, mine;
    CPU_ZERO(&mine);
    if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) < 2)
        return;
    int first = -1, last = -1;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET(cpu, &allowed)) {
            first = first < 0 ? cpu : first;
            last = cpu;
        }
    CPU_SET(static_cast<unsigned>(side == 0 ? first : last), &mine);
    ::sched_setaffinity(0, sizeof mine, &mine);
}

[[noreturn]] void act(const part &what, unsigned side, pid_t parent, const lines &out)
{
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent)
        std::_Exit(exit_failed);
    pin_to(side);
    int exit = exit_done;
    try {
        if (auto played = what(out); !played) {
            out.tell(failure_report(played.error()));
            exit = exit_failed;
        }
    } catch (const std::exception &e) {
        out.tell(failure_report(error::numbered(9001, "this is a fault in sp", e.what())));
        exit = exit_failed;
    }
    std::_Exit(exit); // what the parent left open or unflushed is the parent's
}

class troupe {
public:
    ~troupe()
    {
        for (auto &a : actors_)
            if (a.pid > 0 && !a.done)
                ::kill(a.pid, SIGKILL);
        for (auto &a : actors_) {
            if (a.pid > 0)
                reap(a);
            if (a.ear >= 0)
                ::close(a.ear);
        }
    }

    [[nodiscard]] bool start(const std::array<part, 2> &parts)
    {
        int bell[2];
        if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, bell) != 0)
            return false;
        const pid_t parent = ::getpid();
        bool all = true;
        for (unsigned side = 0; side < 2 && all; ++side) {
            int ends[2];
            all = ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0;
            if (!all)
                break;
            actors_[side].ear = ends[0];
            actors_[side].pid = ::fork();
            if (actors_[side].pid == 0) {
                ::close(bell[1 - side]); // so that each notices when the other dies
                ::close(ends[0]);
                act(parts[side], side, parent, lines(ends[1], bell[side]));
            }
            ::close(ends[1]);
            all = actors_[side].pid > 0;
        }
        ::close(bell[0]);
        ::close(bell[1]);
        return all;
    }

    [[nodiscard]] result<void> listen(int signals, std::chrono::milliseconds patience,
                                      const std::function<void(unsigned, const report &)> &hear)
    {
        while (!actors_[0].done || !actors_[1].done) {
            std::array<pollfd, 3> ready{{{actors_[0].done ? -1 : actors_[0].ear, POLLIN, 0},
                                         {actors_[1].done ? -1 : actors_[1].ear, POLLIN, 0},
                                         {signals, POLLIN, 0}}};
            const int n = ::poll(ready.data(), ready.size(), static_cast<int>(patience.count()));
            if (n < 0 && errno != EINTR)
                return std::unexpected(errc::io_error);
            if (n == 0)
                return std::unexpected(error::numbered(2011, "the demo does not get on",
                                                       "one side waits for the other",
                                                       "please report it"));
            if (ready[2].revents)
                return std::unexpected(errc::canceled);
            for (unsigned side = 0; side < 2; ++side)
                if (ready[side].revents)
                    if (auto said = hear_from(side, hear); !said)
                        return said;
        }
        return {};
    }

private:
    [[nodiscard]] result<void> hear_from(unsigned side,
                                         const std::function<void(unsigned, const report &)> &hear)
    {
        report r;
        const auto n = ::recv(actors_[side].ear, &r, sizeof r, 0);
        if (n == sizeof r && r.what == report::kind::failed)
            return std::unexpected(error_of(r));
        if (n == sizeof r) {
            hear(side, r);
            return {};
        }
        actors_[side].done = true;
        if (reap(actors_[side]) == 0)
            return {};
        return std::unexpected(error::numbered(2037, "a process of the demo ended too early"));
    }

    static int reap(actor &a) noexcept
    {
        int status = 0;
        while (::waitpid(a.pid, &status, 0) < 0 && errno == EINTR) {
        }
        a.pid = 0;
        return status;
    }

    std::array<actor, 2> actors_;
};

} // namespace

report failure_report(const error &e)
{
    report r;
    r.error_number = e.number();
    copy_text(e.what(), r.error_what);
    copy_text(e.why(), r.error_why);
    copy_text(e.fix(), r.error_fix);
    return r;
}

error error_of(const report &r)
{
    return error::numbered(r.error_number, r.error_what.data(), r.error_why.data(),
                           r.error_fix.data());
}

void lines::tell(const report &r) const noexcept
{
    (void)::send(parent_, &r, sizeof r, MSG_NOSIGNAL); // a parent that is gone takes us along
}

bool lines::meet() const noexcept
{
    char knock = 0;
    return ::send(other_, &knock, 1, MSG_NOSIGNAL) == 1 && ::recv(other_, &knock, 1, 0) == 1;
}

result<void> play(const std::array<part, 2> &parts, int signals, std::chrono::milliseconds patience,
                  const std::function<void(unsigned actor, const report &)> &hear)
{
    troupe actors;
    if (!actors.start(parts))
        return std::unexpected(
            error::numbered(2037, "cannot start the processes of the demo", std::strerror(errno)));
    return actors.listen(signals, patience, hear);
}

std::size_t cpus() noexcept
{
    cpu_set_t allowed;
    return ::sched_getaffinity(0, sizeof allowed, &allowed) == 0
               ? static_cast<std::size_t>(CPU_COUNT(&allowed))
               : 1;
}

} // namespace sp::cli
