// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/transport/waiter.hpp"

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace sp::transport {
namespace {

constexpr int a_bell = -1; // what epoll tells of every one of them: no descriptor

} // namespace

result<waiter> waiter::open()
{
    descriptor epoll(::epoll_create1(EPOLL_CLOEXEC));
    descriptor event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (epoll.get() < 0 || event.get() < 0)
        return std::unexpected(
            error::numbered(2009, "cannot open an engine", std::strerror(errno)));
    waiter w(std::move(epoll), std::move(event));
    if (auto added = w.add(w.event_.get()); !added)
        return std::unexpected(added.error());
    return w;
}

result<void> waiter::add(int fd)
{
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
        return std::unexpected(
            error::numbered(2037, "cannot watch a descriptor", std::strerror(errno)));
    return {};
}

bool waiter::add_bell(int fd) noexcept
{
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    event.data.fd = a_bell;
    return ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

void waiter::remove(int fd) noexcept
{
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

waiter::woken waiter::sleep(std::chrono::steady_clock::time_point now,
                            std::chrono::steady_clock::time_point until) noexcept
{
    using namespace std::chrono;
    timespec left{};
    const bool endless = until == steady_clock::time_point::max();
    if (!endless && until > now) {
        const auto ns = (until - now).count();
        left = {.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
    }
    std::array<epoll_event, 64> events;
    const int n = ::epoll_pwait2(epoll_.get(), events.data(), events.size(),
                                 endless ? nullptr : &left, nullptr);
    auto what = n == 0 ? woken::in_time : woken::by_bells;
    if (n < 0 || n == static_cast<int>(events.size()))
        what = woken::by_more;
    for (int i = 0; i < n; ++i) {
        const auto fd = events[static_cast<std::size_t>(i)].data.fd;
        if (fd != a_bell)
            what = woken::by_more;
        if (fd == event_.get()) {
            std::uint64_t count;
            (void)!::read(event_.get(), &count,
                          sizeof count); // our own descriptor, non-blocking: EAGAIN is nothing
        }
    }
    return what;
}

void waiter::forget() noexcept
{
    (void)sleep({}, {});
}

void waiter::wake() noexcept
{
    const std::uint64_t one = 1;
    (void)!::write(event_.get(), &one, sizeof one); // full means that a wake is pending already
}

} // namespace sp::transport
