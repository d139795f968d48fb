// SPDX-License-Identifier: BSD-2-Clause
//
// Coroutines over the descriptors of sockets and contexts: `co_await socket.async_recv()` and
// its like, a task, and a small reactor over epoll(7) that runs any number of them in one thread.
// Included by who wants it, after or instead of sp/sp.hpp; the library knows nothing of it. Nothing
// here throws; an exception that leaves a task ends the program.
//
// A socket must outlive the tasks that wait for it; close() from any thread ends their waits with
// errc::closed. A wait is as everywhere: a duration, a deadline, a stop token, or two of them.
#pragma once

#include "sp/engine.hpp"
#include "sp/error.hpp"
#include "sp/message.hpp"
#include "sp/wait.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <coroutine>
#include <cstdint>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <stop_token>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <utility>

namespace sp::inline v1 {

// ---- a task: begins when it is awaited or spawned, and gives its result to who awaits it ----

template <class T = void>
class task;

namespace detail {

struct promise_base {
    std::coroutine_handle<> awaiting = std::noop_coroutine();

    struct last {
        [[nodiscard]] bool await_ready() const noexcept { return false; }
        template <class Promise>
        std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> ended) const noexcept
        {
            return ended.promise().awaiting;
        }
        void await_resume() const noexcept {}
    };
    std::suspend_always initial_suspend() const noexcept { return {}; }
    last final_suspend() const noexcept { return {}; }
    void unhandled_exception() const noexcept { std::terminate(); }
};

template <class T>
struct promise : promise_base {
    std::optional<T> value;
    task<T> get_return_object() noexcept;
    void return_value(T v) noexcept { value.emplace(std::move(v)); }
    T take() noexcept { return std::move(*value); }
};

template <>
struct promise<void> : promise_base {
    task<void> get_return_object() noexcept;
    void return_void() const noexcept {}
    void take() const noexcept {}
};

} // namespace detail

template <class T>
class [[nodiscard]] task {
public:
    using promise_type = detail::promise<T>;
    using handle = std::coroutine_handle<promise_type>;

    explicit task(handle h) noexcept : handle_(h) {}
    task(task &&other) noexcept : handle_(std::exchange(other.handle_, {})) {}
    task &operator=(task &&other) noexcept
    {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~task()
    {
        if (handle_)
            handle_.destroy();
    }

    [[nodiscard]] bool await_ready() const noexcept { return false; }
    handle await_suspend(std::coroutine_handle<> awaiting) const noexcept
    {
        handle_.promise().awaiting = awaiting;
        return handle_;
    }
    T await_resume() const noexcept { return handle_.promise().take(); }

    [[nodiscard]] bool done() const noexcept { return handle_.done(); }
    [[nodiscard]] handle coroutine() const noexcept { return handle_; }

private:
    handle handle_;
};

template <class T>
task<T> detail::promise<T>::get_return_object() noexcept
{
    return task<T>(std::coroutine_handle<promise>::from_promise(*this));
}

inline task<void> detail::promise<void>::get_return_object() noexcept
{
    return task<void>(std::coroutine_handle<promise>::from_promise(*this));
}

// ---- the reactor ----

class reactor {
    struct waiter {
        int fd; // -1: only time or a stop ends it
        instant deadline;
        std::stop_token stop;
        std::coroutine_handle<> who{};
        std::optional<errc> ended{};
        std::optional<std::stop_callback<std::function<void()>>> on_stop{};
    };
    struct loop {
        int epoll = -1, timer = -1, wake = -1;
        std::list<waiter *> waiters{};
        std::deque<std::coroutine_handle<>> ready{};
        std::list<task<>> tasks{};
        engine *driven = nullptr;
        unsigned quick = 0; // calls in a row that had nothing to wait for
        std::atomic<bool> stopping = false;

        ~loop()
        {
            tasks.clear(); // what they wait for leaves the list
            for (const int fd : {epoll, timer, wake})
                if (fd >= 0)
                    ::close(fd);
        }
        void watch(int fd) const noexcept
        {
            epoll_event e{};
            e.events = EPOLLIN;
            e.data.fd = fd;
            ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e); // EEXIST: another task waits for it too
        }
        void end(waiter &w, std::optional<errc> how)
        {
            w.ended = how;
            ready.push_back(w.who);
            forget(w);
        }
        void forget(waiter &w) noexcept
        {
            waiters.remove(&w);
            for (const auto *other : waiters)
                if (other->fd == w.fd)
                    return;
            if (w.fd >= 0)
                ::epoll_ctl(epoll, EPOLL_CTL_DEL, w.fd, nullptr);
        }
        void alarm(instant at) const noexcept
        {
            itimerspec t{};
            if (at != instant::max()) {
                const auto ns = std::max<std::int64_t>(1, at.time_since_epoch().count());
                t.it_value = {.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
            }
            ::timerfd_settime(timer, TFD_TIMER_ABSTIME, &t, nullptr);
        }
    };

public:
    // Errors: limit_reached (descriptors).
    [[nodiscard]] static result<reactor> open()
    {
        auto made = std::make_unique<loop>();
        made->epoll = ::epoll_create1(EPOLL_CLOEXEC);
        made->timer = ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        made->wake = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (made->epoll < 0 || made->timer < 0 || made->wake < 0)
            return std::unexpected(
                error::numbered(2009, "cannot open a reactor", std::strerror(errno)));
        made->watch(made->timer);
        made->watch(made->wake);
        return reactor(std::move(made));
    }

    // From a task of this reactor, or before run(). The reactor keeps it until it is done.
    void spawn(task<> work)
    {
        loop_->ready.push_back(work.coroutine());
        loop_->tasks.push_back(std::move(work));
    }
    // For driver::manual: polls the engine whenever it has something to do.
    void drive(engine &e)
    {
        loop_->driven = &e;
        loop_->watch(e.fd());
    }
    // Runs until every task is done, or until stop(). What is left then goes with the reactor.
    void run()
    {
        auto &l = *loop_;
        auto *const outer = std::exchange(current_, &l);
        while (!l.stopping && step(l)) {
        }
        current_ = outer;
    }
    // From any thread: run() returns soon.
    void stop() noexcept
    {
        loop_->stopping = true;
        wake(*loop_);
    }

    // What a task awaits until a descriptor is readable: nothing then, else timed_out or canceled.
    class readable {
    public:
        readable(int fd, const wait &how_long)
            : loop_(current_), waiter_{.fd = fd,
                                       .deadline = how_long.deadline(engine_clock::now()),
                                       .stop = how_long.stop()}
        {
        }
        readable(const readable &) = delete;
        readable &operator=(const readable &) = delete;
        ~readable()
        {
            if (waiting_)
                loop_->forget(waiter_);
        }
        [[nodiscard]] bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> who)
        {
            waiter_.who = who;
            waiting_ = true;
            loop_->quick = 0;
            loop_->waiters.push_back(&waiter_);
            if (waiter_.fd >= 0)
                loop_->watch(waiter_.fd);
            if (waiter_.stop.stop_possible())
                waiter_.on_stop.emplace(waiter_.stop, [l = loop_] { wake(*l); });
        }
        std::optional<errc> await_resume() noexcept
        {
            waiting_ = false;
            return waiter_.ended;
        }

    private:
        loop *loop_;
        waiter waiter_;
        bool waiting_ = false;
    };

    // Lets the others run for a moment, when a task has gone on for long without waiting.
    struct fair {
        [[nodiscard]] bool await_ready() const noexcept { return ++current_->quick < 64; }
        void await_suspend(std::coroutine_handle<> who) const
        {
            current_->quick = 0;
            current_->ready.push_back(who);
        }
        void await_resume() const noexcept {}
    };

private:
    explicit reactor(std::unique_ptr<loop> l) noexcept : loop_(std::move(l)) {}

    static void wake(const loop &l) noexcept
    {
        const std::uint64_t one = 1;
        (void)!::write(l.wake, &one, sizeof one);
    }
    // One round: who is ready runs, then the next that can go on are found. False: all is done.
    static bool step(loop &l)
    {
        for (auto n = l.ready.size(); n > 0 && !l.stopping; --n) {
            const auto next = l.ready.front();
            l.ready.pop_front();
            next.resume();
        }
        l.tasks.remove_if([](const task<> &t) { return t.done(); });
        if (l.tasks.empty())
            return false;
        auto at = instant::max();
        if (l.driven) {
            while (l.driven->poll(engine_clock::now()) > 0) {
            }
            at = l.driven->next_deadline();
        }
        for (const auto *w : l.waiters)
            at = std::min(at, w->deadline);
        l.alarm(at);
        std::array<epoll_event, 64> events;
        const int n = ::epoll_wait(l.epoll, events.data(), static_cast<int>(events.size()),
                                   l.ready.empty() && !l.stopping ? -1 : 0);
        for (int i = 0; i < n; ++i)
            readied(l, events[static_cast<std::size_t>(i)].data.fd);
        const auto now = engine_clock::now();
        for (auto w = l.waiters.begin(); w != l.waiters.end();) {
            auto &each = **w++; // end() takes it out of the list
            if (each.stop.stop_requested())
                l.end(each, errc::canceled);
            else if (now >= each.deadline)
                l.end(each, errc::timed_out);
        }
        return true;
    }
    static void readied(loop &l, int fd)
    {
        if (fd == l.timer || fd == l.wake) {
            std::uint64_t count;
            (void)!::read(fd, &count, sizeof count);
            return;
        }
        for (auto w = l.waiters.begin(); w != l.waiters.end();) {
            auto &each = **w++;
            if (each.fd == fd)
                l.end(each, std::nullopt);
        }
    }

    static inline thread_local loop *current_ = nullptr; // whose run() this thread is in
    std::unique_ptr<loop> loop_;
};

// ---- what tasks await ----

namespace detail {

// Makes the call that does not wait, again whenever the descriptor says that it would not have to.
template <class Call, class Descriptor>
auto attempt(wait how_long, Call call, Descriptor fd) -> task<decltype(call())>
{
    const wait until(how_long.deadline(engine_clock::now()), how_long.stop());
    for (;;) {
        co_await reactor::fair();
        auto outcome = call();
        if (outcome || outcome.error() != errc::would_block || how_long.never())
            co_return std::move(outcome);
        const auto which = fd();
        if (!which)
            co_return std::unexpected(which.error());
        const std::optional<errc> ended = co_await reactor::readable(*which, until);
        if (ended)
            co_return std::unexpected(*ended);
    }
}

} // namespace detail

// Of a socket or a context that receives: what its recv() gives.
template <class Receiver>
auto async_recv(Receiver &from, wait how_long = forever)
{
    return detail::attempt(
        std::move(how_long), [&from] { return from.recv(std::chrono::seconds(0)); },
        [&from] { return from.recv_fd(); });
}

// Of a socket or a context whose send() may wait. The body must live until the task is done.
template <class Sender>
auto async_send(Sender &to, payload body, wait how_long = forever)
{
    return detail::attempt(
        std::move(how_long), [&to, body] { return to.send(body, std::chrono::seconds(0)); },
        [&to] { return to.send_fd(); });
}

// Of a context of REQ: sends, and gives the answer. One wait for both.
template <class Context>
task<result<message>> async_request(Context &context, payload body, wait how_long = forever)
{
    const wait both =
        how_long.never() ? how_long : wait(how_long.deadline(engine_clock::now()), how_long.stop());
    auto sent = co_await async_send(context, body, both);
    if (!sent)
        co_return std::unexpected(sent.error());
    co_return co_await async_recv(context, both);
}

template <class Socket>
auto async_next_event(Socket &of, wait how_long = forever)
{
    return detail::attempt(
        std::move(how_long), [&of] { return of.next_event(std::chrono::seconds(0)); },
        [&of] { return of.event_fd(); });
}

namespace detail {

template <>
struct awaiting<void> {
    template <class Receiver>
    static auto recv(Receiver &from, wait how_long)
    {
        return sp::async_recv(from, std::move(how_long));
    }
    template <class Sender>
    static auto send(Sender &to, payload body, wait how_long)
    {
        return sp::async_send(to, body, std::move(how_long));
    }
};

} // namespace detail

// timed_out when the time is over, canceled when it was stopped.
inline task<errc> async_sleep(wait how_long)
{
    const std::optional<errc> ended = co_await reactor::readable(-1, how_long);
    co_return ended.value_or(errc::timed_out);
}

} // namespace sp::inline v1
