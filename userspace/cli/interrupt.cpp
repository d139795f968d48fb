// SPDX-License-Identifier: BSD-2-Clause
//
// See interrupt.hpp.
#include "userspace/cli/interrupt.hpp"

#include "userspace/cli/console.hpp"
#include "userspace/invariant.hpp"

#include <cerrno>
#include <csignal>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace sp::cli {
namespace {

sigset_t the_signals() noexcept
{
    sigset_t set;
    sigemptyset(&set);
    for (const int each : {SIGINT, SIGTERM, SIGHUP})
        sigaddset(&set, each);
    return set;
}

} // namespace

int open_signals() noexcept
{
    const auto set = the_signals();
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    return ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int take_signal(int signals) noexcept
{
    signalfd_siginfo info;
    return ::read(signals, &info, sizeof info) == sizeof info ? static_cast<int>(info.ssi_signo)
                                                              : 0;
}

void unblock_signals() noexcept
{
    const auto set = the_signals();
    pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

interrupt::interrupt() : signals_(open_signals()), leave_(::eventfd(0, EFD_CLOEXEC))
{
    SP_INVARIANT(signals_ >= 0 && leave_ >= 0); // the first descriptors of the process
    thread_ = std::thread([this] { listen(); });
}

interrupt::~interrupt()
{
    const std::uint64_t one = 1;
    SP_INVARIANT(::write(leave_, &one, sizeof one) == sizeof one);
    thread_.join();
    ::close(leave_);
    ::close(signals_);
}

void interrupt::listen() noexcept
{
    pollfd ready[] = {{.fd = signals_, .events = POLLIN, .revents = 0},
                      {.fd = leave_, .events = POLLIN, .revents = 0}};
    for (;;) {
        if (::poll(ready, 2, -1) < 0 && errno != EINTR)
            return;
        if (ready[1].revents)
            return;
        const int came = take_signal(signals_);
        if (came == 0)
            continue;
        if (signal_.exchange(came) != 0)
            ::_exit(exit_signal + came);
        stop_.request_stop();
    }
}

int interrupt::exit_status() const noexcept
{
    const int came = signal_.load();
    return came == 0 ? 0 : exit_signal + came;
}

} // namespace sp::cli
