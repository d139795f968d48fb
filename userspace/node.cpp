// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/node.hpp"

#include "userspace/transport/handover.hpp"
#include "userspace/transport/segment.hpp"

#include <csignal>
#include <cstdlib>
#include <pthread.h>
#include <sched.h>
#include <sodium.h>
#include <string_view>
#include <unistd.h>

namespace sp::inline v1::detail {
namespace {

using namespace std::chrono_literals;

// While an application calls, it polls by itself; after this much quiet the keeper takes over.
// Sooner where a peer waits for a sign of us: before it would send again what has arrived (10 ms).
constexpr auto keeper_patience = 5ms;
constexpr auto keeper_patience_owing = 2ms;
// A hot sweep does not look at everything: a full one is due this often, and after every sleep.
constexpr auto full_sweep_every = 1ms;
// A transport holds packets that the system would not take, and only time tells when it will.
constexpr auto stalled_retry = 200us;

sp::core::engine_config config_of(const engine_options &options)
{
    sp::core::engine_config config;
    config.memory_max = options.memory_max;
    randombytes_buf(config.seed.data(), config.seed.size());
    return config;
}

// Of the calling thread, now: who pins a process does so before it opens sockets.
bool has_one_cpu() noexcept
{
    cpu_set_t mine;
    return ::sched_getaffinity(0, sizeof mine, &mine) == 0 && CPU_COUNT(&mine) == 1;
}

} // namespace

result<std::shared_ptr<node>> node::open(const engine_options &options)
{
    if (sodium_init() < 0)
        return std::unexpected(error::numbered(9001, "libsodium cannot be used"));
    if (options.ring_bytes != 0 && !transport::own_segment::takes(options.ring_bytes))
        return std::unexpected(
            error::numbered(2008, "ring_bytes is 0, or a power of two from 4 KiB to 16 MiB"));
    if (options.handover_bytes && *options.handover_bytes < transport::handover_bytes_min)
        return std::unexpected(error::numbered(2008, "handover_bytes is at least 64 KiB"));
    static const int watching_forks =
        ::pthread_atfork(nullptr, nullptr, [] { fork_generation.fetch_add(1); });
    (void)watching_forks;
    auto waiter = transport::waiter::open();
    if (!waiter)
        return std::unexpected(waiter.error());
    auto chosen = options;
    if (const char *word = std::getenv("SP_INSECURE"); word && std::string_view(word) == "1")
        chosen.insecure = true;
    auto made = std::shared_ptr<node>(new node(chosen, std::move(*waiter)), retire);
    if (chosen.driver == driver::caller) {
        sigset_t all, before; // signals belong to the application's threads
        ::sigfillset(&all);
        ::pthread_sigmask(SIG_BLOCK, &all, &before);
        made->keeper_ = std::jthread([n = made.get()] { n->keep(); });
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }
    return made;
}

result<std::shared_ptr<node>> node::shared()
{
    static std::mutex guard;
    static std::weak_ptr<node> own;
    const std::lock_guard hold(guard);
    if (auto existing = own.lock(); existing && !existing->forked())
        return existing;
    auto made = open({});
    if (made)
        own = *made;
    return made;
}

node::node(const engine_options &options, transport::waiter waiter)
    : options_(options), waiter_(std::move(waiter)),
      engine_(config_of(options), engine_clock::now()), transports_(engine_, waiter_, options_),
      fork_generation_(fork_generation.load()),
      shares_cpu_(options.waiting != waiting::spin && has_one_cpu())
{
}

node::~node()
{
    stop_keeper();
}

// A child of fork() leaves the node as it is: its threads, its paths and its peers are the
// parent's.
void node::retire(node *n) noexcept
{
    if (n->forked())
        return;
    n->stop_keeper();
    auto held = n->claim();
    const auto out = static_cast<std::int64_t>(n->engine_.pool().retire());
    held.unlock();
    if (n->still_out_.fetch_add(out, std::memory_order_acq_rel) + out == 0)
        delete n;
}

void node::give_back_shared(sp::core::frame &f) noexcept
{
    auto held = claim();
    if (forked())
        return;
    const auto what = engine_.pool().give_back_shared(f);
    held.unlock();
    if (what != sp::core::frame_pool::giving::done)
        given_back(what);
}

void node::given_back(sp::core::frame_pool::giving what) noexcept
{
    if (what == sp::core::frame_pool::giving::asked) {
        const auto held = claim(); // a call waits for memory
        return changed();
    }
    if (still_out_.fetch_sub(1, std::memory_order_acq_rel) == 1)
        delete this;
}

void node::stop_keeper() noexcept
{
    if (!keeper_.joinable())
        return;
    {
        const auto held = claim();
        stopping_ = true;
        park_.notify_all();
        waiter_.wake();
    }
    keeper_.join();
}

// Before the lock goes: who sleeps may have to wake.
void node::tell_others() noexcept
{
    if (!watches_.empty())
        tell_watches();
    if (leading_)
        if (const auto at = next_deadline(); at < wakes_at_) {
            wakes_at_ = at;
            waiter_.wake();
        }
}

// Who waits in poll(2) has nobody to make the next turn: what its last call left on the pipes, the
// credit of a message it took above all, goes out now.
void node::tell_watches() noexcept
{
    if (callers_ == 0)
        engine_.finish(engine_clock::now());
    watches_.refresh();
}

result<int> node::descriptor(const watch_key &key, std::move_only_function<bool()> ready)
{
    const bool first = watches_.empty();
    auto fd = watches_.descriptor(key, std::move(ready));
    if (fd && first)
        park_.notify_one();
    return fd;
}

std::chrono::nanoseconds node::patience() const noexcept
{
    if (!watches_.empty())
        return std::chrono::nanoseconds(0);
    const bool owing = engine_.next_deadline() < active_at_ + keeper_patience;
    return owing ? keeper_patience_owing : keeper_patience;
}

std::size_t node::turn(instant now, sp::core::socket_id attended) noexcept
{
    const bool full = look_everywhere_ || now - full_at_ >= full_sweep_every;
    look_everywhere_ = false;
    latest_ = now;
    if (full) {
        full_at_ = now;
        transports_.tend(now);
    }
    const auto work = engine_.poll(now, full ? sp::core::sweep::full : sp::core::sweep::hot,
                                   attended);
    if (work > 0)
        changed(); // the sleeper too: what made its descriptor readable is in our hands now
    return work;
}

std::size_t node::turn_everywhere(instant now) noexcept
{
    look_everywhere_ = true;
    return turn(now);
}

std::size_t node::turn_by_hand(instant now) noexcept
{
    waiter_.forget();
    const auto work = turn_everywhere(now);
    if (!transports_.arm())
        waiter_.wake();
    return work;
}

// Somebody who waits may find it done, and the sleeper may have to wake earlier than it thought.
void node::changed() noexcept
{
    if (followers_ > 0)
        follow_.notify_all();
    if (leading_)
        waiter_.wake();
}

instant node::next_deadline() const noexcept
{
    auto at = engine_.next_deadline();
    if (transports_.stalled())
        at = std::min(at, engine_clock::now() + stalled_retry);
    return at;
}

void node::enter(instant now) noexcept
{
    ++callers_;
    active_at_ = now;
    if (keeper_leads_)
        waiter_.wake(); // it must not be woken by packets that we are about to poll for
}

void node::leave(instant now) noexcept
{
    --callers_;
    active_at_ = now;
    if (followers_ > 0 && !leading_)
        follow_.notify_one();
    if (keeper_parked_)
        park_.notify_one();
}

// Stays awake for a while with the lock, and lends it to whoever asks. Says when the time to sleep
// has come.
node::step node::spin(lock &held, instant now, instant spin_until) noexcept
{
    active_at_ = now;
    if (contended()) {
        held.unlock();
        for (int i = 0; i < 256 && contended(); ++i)
            relax();
        if (contended())
            std::this_thread::yield();
        held.lock();
        return step::again;
    }
    if (options_.waiting != waiting::spin && now >= spin_until)
        return step::sleep;
    relax();
    return step::again;
}

void node::sleep(lock &held, instant now, instant until) noexcept
{
    if (leading_) {
        ++followers_;
        if (until == instant::max())
            follow_.wait(held);
        else
            follow_.wait_until(held, until);
        --followers_;
        return;
    }
    lead(held, now, until);
}

// Sleeps for everybody. What came since the last look makes a descriptor readable, so nothing is
// missed.
void node::lead(lock &held, instant now, instant until) noexcept
{
    leading_ = true;
    auto woken = transport::waiter::woken::by_bells;
    if (transports_.arm()) {
        const auto wake_at = wakes_at_ = std::min(until, next_deadline());
        held.unlock();
        woken = waiter_.sleep(now, wake_at);
        held.lock();
    } else { // whoever wants the lock has it all the same
        held.unlock();
        give_way();
        held.lock();
    }
    if (options_.driver == driver::caller) // who polls by hand watches fd(), which must always tell
        transports_.disarm();
    leading_ = false;
    if (woken == transport::waiter::woken::by_more)
        look_everywhere_ = true;
}

void node::keep() noexcept
{
    auto held = claim();
    while (!stopping_) {
        if (callers_ > 0 &&
            (leading_ || followers_ > 0)) { // an application's thread sleeps for all
            keeper_parked_ = true;
            park_.wait(held);
            keeper_parked_ = false;
            continue;
        }
        auto now = engine_clock::now();
        if (callers_ > 0 || now - active_at_ < patience()) {
            keeper_parked_ = !watches_.empty(); // the call that ends hands over to us
            park_.wait_for(held,
                           std::max<std::chrono::nanoseconds>(patience(), keeper_patience_owing));
            keeper_parked_ = false;
            continue;
        }
        turn(now);
        keeper_leads_ = true;
        lead(held, now, instant::max());
        keeper_leads_ = false;
        if (callers_ == 0)
            turn(engine_clock::now());
        if (followers_ > 0)
            follow_.notify_all();
    }
}

} // namespace sp::inline v1::detail
