// SPDX-License-Identifier: BSD-2-Clause
//
// A node: one engine, the lock that lends it to one thread at a time, and who drives it. The thread
// inside a call drives (it polls, spins, then sleeps for all); others in a call meanwhile follow,
// asleep, until their condition may hold or they are needed. While nobody is in a call, the keeper
// thread drives, so that acknowledgements, keep-alives and new connections go on while the
// application computes; it leaves at the first call and costs nothing while somebody else drives.
//
// Lock: every member except open(), shared() and the constructor's is used with the lock held, got
// by claim().
#pragma once

#include "sp/engine.hpp"
#include "userspace/engine_type.hpp"
#include "userspace/quick_lock.hpp"
#include "userspace/transport/waiter.hpp"
#include "userspace/transports.hpp"
#include "userspace/watches.hpp"

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>

namespace sp::inline v1::detail {

class node {
public:
    using engine_type = sp::engine_type;

    // What a lock holds. A thread that spins with it sees that somebody wants it, wherever that one
    // comes from, and lends it; who lets go of it and leaves an earlier deadline behind wakes the
    // sleeper. In a child of fork() there is nothing to take: the owner may be a thread that the
    // child does not have, and every call refuses.
    class gate {
    public:
        explicit gate(node &n) noexcept : node_(&n) {}
        void lock() noexcept { node_->take(); }
        void unlock() noexcept { node_->let_go(); }

    private:
        node *node_;
    };
    using lock = std::unique_lock<gate>;

    [[nodiscard]] static result<std::shared_ptr<node>> open(const engine_options &options);
    [[nodiscard]] static result<std::shared_ptr<node>>
    shared(); // the process's own: made with its first socket
    node(const engine_options &options, transport::waiter waiter);
    ~node();

    [[nodiscard]] lock claim() noexcept { return lock(gate_); } // from any thread
    // The process that made the node is not this one.
    [[nodiscard]] bool forked() const noexcept
    {
        return fork_generation_ != fork_generation.load(std::memory_order_relaxed);
    }

    [[nodiscard]] engine_type &engine() noexcept { return engine_; }
    [[nodiscard]] transports &roads() noexcept { return transports_; }
    [[nodiscard]] const engine_options &options() const noexcept { return options_; }

    // Drives or follows until done() holds: nothing, or why it never did (would_block, timed_out,
    // canceled). done() is called with the lock held, whenever anything may have changed.
    // look() says, at the cost of a few loads, that done() may hold now; it is asked between turns.
    // look.attended is a socket from whose rings done() takes by itself.
    struct nowhere {
        static constexpr sp::core::socket_id attended{};
        bool operator()() const noexcept { return false; }
    };
    template <class Done, class Look = nowhere>
    [[nodiscard]] std::optional<errc> run_until(lock &held, const wait &how_long, Done done,
                                                Look look = {});

    // One turn now, and everybody who waits looks again. For calls that changed something without
    // waiting.
    std::size_t turn(instant now, sp::core::socket_id attended = {}) noexcept;
    std::size_t turn_everywhere(instant now) noexcept; // with every descriptor looked at
    // For who polls by hand and watches fd(): with what it told taken note of, and ready to tell.
    std::size_t turn_by_hand(instant now) noexcept;
    // Without the lock: lets those who want it have it for a moment. For calls that never wait and
    // are made one after the other.
    void give_way() const noexcept
    {
        for (int i = 0; i < 256 && contended(); ++i)
            relax();
        if (contended())
            std::this_thread::yield();
    }
    void changed() noexcept;
    // What this socket's peers have put into shared memory, brought to its pattern without a turn.
    void take_what_came(sp::core::socket &s) noexcept
    {
        if (engine_.take_what_came(s, latest_))
            changed(); // it may be for somebody else
    }
    // A message was taken without a turn. Other things want to be done once in a while.
    void took_one(sp::core::socket_id from) noexcept
    {
        static constexpr std::uint32_t messages_per_turn = 64;
        if (++taken_ % messages_per_turn == 0)
            turn(engine_clock::now(), from);
    }

    [[nodiscard]] instant latest() const noexcept
    {
        return latest_;
    } // of the latest turn; saves reading the clock
    [[nodiscard]] instant next_deadline() const noexcept;
    [[nodiscard]] int fd() const noexcept { return waiter_.fd(); }

    // Descriptors for poll(2); see watches.hpp. From the first on, the keeper takes over as soon as
    // no call drives: somebody sleeps who is not in a call.
    [[nodiscard]] result<int> descriptor(const watch_key &key,
                                         std::move_only_function<bool()> ready);
    [[nodiscard]] watches &watched() noexcept { return watches_; }

    // From any thread, without the lock.
    void give_back(sp::core::frame *f) noexcept
    {
        if (f->shared) [[unlikely]]
            return give_back_shared(*f);
        const auto what = engine_.pool().give_back(f);
        if (what != sp::core::frame_pool::giving::done) [[unlikely]]
            given_back(what);
    }

private:
    enum class step : bool { again, sleep };

    [[nodiscard]] bool contended() const noexcept
    {
        return wanting_.load(std::memory_order_relaxed) > 0;
    }
    // Between two looks. A thread that may use one CPU only lets others have it: the peer may be
    // waiting for it.
    void relax() const noexcept
    {
        if (shares_cpu_)
            return std::this_thread::yield();
        pause();
    }
    static void pause() noexcept
    {
#ifdef __x86_64__
        __builtin_ia32_pause();
#endif
    }

    // Nobody has a handle to the node any more. What it stands on goes with the last buffer that
    // the application still has, which may be now.
    static void retire(node *n) noexcept;
    void give_back_shared(sp::core::frame &f) noexcept;
    void given_back(sp::core::frame_pool::giving what) noexcept;
    void stop_keeper() noexcept;

    void take() noexcept
    {
        if (forked() || mutex_.try_lock())
            return;
        wanting_.fetch_add(1, std::memory_order_relaxed);
        mutex_.lock();
        wanting_.fetch_sub(1, std::memory_order_relaxed);
    }
    void let_go() noexcept
    {
        if (forked())
            return;
        if (leading_ || !watches_.empty())
            tell_others();
        mutex_.unlock();
    }
    void tell_others() noexcept;
    void tell_watches() noexcept;
    [[nodiscard]] std::chrono::nanoseconds patience() const noexcept;
    void enter(instant now) noexcept;
    void leave(instant now) noexcept;
    void lead(lock &held, instant now, instant until) noexcept;
    [[nodiscard]] step spin(lock &held, instant now, instant spin_until) noexcept;
    void sleep(lock &held, instant now, instant until) noexcept;
    void keep() noexcept;

    inline static std::atomic<std::uint32_t> fork_generation = 0;

    engine_options options_;
    gate gate_{*this};
    quick_lock mutex_;
    std::atomic<int> wanting_ = 0; // threads that wait for the lock
    transport::waiter waiter_;
    engine_type engine_;
    transports transports_;
    std::uint32_t fork_generation_;
    watches watches_;
    bool shares_cpu_; // and nobody asked to spin whatever it costs

    bool leading_ = false;      // somebody sleeps in waiter_
    bool keeper_leads_ = false; // and it is the keeper
    bool keeper_parked_ = false;
    bool stopping_ = false;
    bool look_everywhere_ = true; // the next turn is a full sweep
    std::uint32_t taken_ = 0; // messages, by took_one()
    int followers_ = 0;
    int callers_ = 0; // threads inside run_until
    instant latest_{};
    instant wakes_at_ = instant::max(); // when the sleeper wakes by itself
    instant full_at_{};                 // the latest full sweep
    instant active_at_{};               // the latest turn of an application's thread
    std::atomic<std::int64_t> still_out_ = 0; // buffers that are out, once nobody collects them
    std::condition_variable_any follow_, park_;
    std::jthread keeper_;
};

// ---- templates ----

template <class Done, class Look>
std::optional<errc> node::run_until(lock &held, const wait &how_long, Done done, Look look)
{
    if (done())
        return std::nullopt;
    auto now = engine_clock::now();
    const auto until = how_long.deadline(now);
    if (how_long.never()) {
        turn(now);
        return done() ? std::nullopt : std::optional(errc::would_block);
    }
    // A stop must reach us wherever we wait; the callback runs in the stopper's thread.
    std::optional<std::stop_callback<std::function<void()>>> on_stop;
    if (how_long.stop().stop_possible()) {
        held.unlock();
        on_stop.emplace(how_long.stop(), [this] {
            const auto stopper = claim();
            changed();
        });
        held.lock();
    }
    static constexpr auto spin_time =
        std::chrono::microseconds(50); // about two wake-ups from another CPU
    enter(now);
    std::optional<errc> outcome;
    // The clock costs as much as a look at the rings, so it is read once in so many looks that
    // found nothing.
    static constexpr int looks_per_clock = 8;
    int looks = 0;
    // Together about as long as a peer that is awake takes to answer: it may well run on another
    // CPU although we have only one.
    static constexpr int looks_per_turn = 16;
    const auto found = [&] { // something that the look is for, before the next turn is due
        for (int i = 0; i < looks_per_turn && !contended(); ++i) {
            pause();
            if (look())
                return done();
        }
        return false;
    };
    auto spin_until = options_.waiting == waiting::block ? now : now + spin_time;
    for (;;) {
        const auto work = turn(now, watches_.empty() ? look.attended : sp::core::socket_id{});
        if (done())
            break;
        if (how_long.stop().stop_requested()) {
            outcome = errc::canceled;
            break;
        }
        if (now >= until) {
            outcome = errc::timed_out;
            break;
        }
        if (work > 0 && !watches_.empty())
            watches_.refresh(); // it may be long until we let go of the lock
        if (work == 0 && ++looks % looks_per_clock != 0 && options_.waiting != waiting::block &&
            !contended()) {
            if constexpr (!std::is_same_v<Look, nowhere>) {
                if (found())
                    break;
                if (shares_cpu_)
                    relax();
            } else {
                relax();
            }
            continue;
        }
        if (work > 0 && options_.waiting != waiting::block)
            spin_until = now + spin_time;
        if (spin(held, now, spin_until) == step::sleep) {
            sleep(held, now, until);
            now = engine_clock::now();
            if (look() && done())
                break;
            if (options_.waiting != waiting::block)
                spin_until = now + spin_time;
            continue;
        }
        now = engine_clock::now();
    }
    leave(now);
    if (on_stop) {
        held.unlock(); // its destructor waits for a callback that is running and wants the lock
        on_stop.reset();
        held.lock();
    }
    return outcome;
}

} // namespace sp::inline v1::detail
