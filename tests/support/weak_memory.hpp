// SPDX-License-Identifier: BSD-2-Clause
//
// A memory that shows everything the language allows, and every way two threads can meet on it. A
// load may return any value that nothing has forbidden yet (each store is kept with what its writer
// had seen, each thread has a view of what it must not look behind), so stores that a processor
// would let pass each other do so here; store buffers are a special case. What is not modelled: a
// load that returns what its own thread stores later. Plain copies must be ordered by words, or
// they race, and a race is a failure.
//
// Algorithms are templates over sp::ring::memory; `words` below is such a memory. A state is a
// value: memory, both threads' objects, and what the operation under way has read so far. A thread
// takes a step by running its operation again from its beginning on a copy: words it has read
// before read the same, the next one is new, and everything behind it is thrown away.
#pragma once

#include "userspace/ring/memory.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace sp::test {

inline constexpr std::size_t threads = 2;

// How much of the memory's history a thread has seen: per word the newest store, per thread its
// clock.
struct seen {
    std::vector<std::uint16_t> word;
    std::array<std::uint16_t, threads> clock{};

    explicit seen(std::size_t words) : word(words) {}
    void join(const seen &other)
    {
        for (std::size_t i = 0; i < word.size(); ++i)
            word[i] = std::max(word[i], other.word[i]);
        for (std::size_t t = 0; t < threads; ++t)
            clock[t] = std::max(clock[t], other.clock[t]);
    }
};

struct stored {
    std::uint64_t value;
    seen by; // what is seen by whoever synchronises with this store
};

struct word_history {
    std::uint16_t first = 0; // index of the oldest store that is kept
    std::vector<stored> stores;
    // Clocks of the last accesses, for races; 0 is before everything.
    std::array<std::uint16_t, threads> plain_write{}, atomic_write{}, plain_read{}, atomic_read{};
    std::uint64_t digest = 0; // of all this, when it is not 0

    [[nodiscard]] std::uint64_t make_digest() const
    {
        std::string all;
        const auto put = [&](const auto &values) {
            all.append(reinterpret_cast<const char *>(std::data(values)),
                       std::size(values) * sizeof *std::data(values));
        };
        for (const auto &one : stores) {
            put(std::array{one.value});
            if (stores.size() > 1) { // of a single one everybody has seen everything
                put(one.by.word);
                put(one.by.clock);
            }
        }
        for (const auto *clocks : {&plain_write, &atomic_write, &plain_read, &atomic_read})
            put(*clocks);
        return std::hash<std::string>()(all) | 1;
    }
};

struct thread_view {
    seen now;      // what is seen
    seen acquired; // what an acquire fence would add
    seen released; // what relaxed stores hand on since the last release fence

    explicit thread_view(std::size_t words) : now(words), acquired(words), released(words) {}
};

class weak_world {
public:
    explicit weak_world(std::size_t words)
        : views_{thread_view(words), thread_view(words)}, total_(words)
    {
        const auto blank = std::make_shared<word_history>();
        blank->stores.push_back({0, seen(words)});
        words_.assign(words, blank);
    }

    // How many values a load of this word could return now.
    [[nodiscard]] std::size_t choices(std::size_t t, std::size_t at) const
    {
        const auto &w = *words_[at];
        return w.first + w.stores.size() - std::max(w.first, views_[t].now.word[at]);
    }
    // Choice 0 is the newest.
    [[nodiscard]] std::uint64_t load(std::size_t t, std::size_t at, bool acquire,
                                     std::size_t choice)
    {
        auto &w = change(at);
        auto &v = views_[t];
        tick(t);
        race(t, w.plain_write, "an atomic load and a plain write");
        w.atomic_read[t] = v.now.clock[t];
        const auto index = w.first + w.stores.size() - 1 - choice;
        const auto &found = w.stores[index - w.first];
        v.now.word[at] = static_cast<std::uint16_t>(index);
        v.acquired.join(found.by);
        if (acquire)
            v.now.join(found.by);
        return found.value;
    }
    void store(std::size_t t, std::size_t at, std::uint64_t value, bool release)
    {
        auto &w = change(at);
        auto &v = views_[t];
        tick(t);
        race(t, w.plain_write, "an atomic store and a plain write");
        race(t, w.plain_read, "an atomic store and a plain read");
        w.atomic_write[t] = v.now.clock[t];
        append(t, at, value, release ? v.now : v.released);
    }
    void fence(std::size_t t, std::memory_order order)
    {
        auto &v = views_[t];
        tick(t);
        if (order != std::memory_order_release)
            v.now.join(v.acquired);
        if (order == std::memory_order_seq_cst) {
            v.now.join(total_);
            total_ = v.now;
        }
        if (order != std::memory_order_acquire)
            v.released = v.now;
    }
    void plain_write(std::size_t t, std::size_t at, std::uint64_t value)
    {
        auto &w = change(at);
        tick(t);
        race(t, w.plain_write, "two plain writes");
        race(t, w.plain_read, "a plain write and a plain read");
        race(t, w.atomic_read, "a plain write and an atomic load");
        w.plain_write[t] = views_[t].now.clock[t];
        append(t, at, value, seen(words_.size()));
    }
    [[nodiscard]] std::uint64_t plain_read(std::size_t t, std::size_t at)
    {
        auto &w = change(at);
        tick(t);
        race(t, w.plain_write, "a plain read and a plain write");
        race(t, w.atomic_write, "a plain read and an atomic store");
        w.plain_read[t] = views_[t].now.clock[t];
        return w.stores.back().value;
    }

    // Both threads have seen everything: what went before is history.
    void meet()
    {
        auto all = views_[0].now;
        all.join(views_[1].now);
        for (std::size_t i = 0; i < words_.size(); ++i)
            all.word[i] =
                static_cast<std::uint16_t>(words_[i]->first + words_[i]->stores.size() - 1);
        for (auto &v : views_)
            v.now = v.acquired = v.released = all;
        total_ = all;
        forget();
    }
    // What nobody can read any more is dropped, so that equal states look equal.
    void forget()
    {
        for (std::size_t i = 0; i < words_.size(); ++i) {
            const auto oldest = std::min(views_[0].now.word[i], views_[1].now.word[i]);
            if (oldest <= words_[i]->first)
                continue;
            auto &w = change(i);
            w.stores.erase(w.stores.begin(), w.stores.begin() + (oldest - w.first));
            w.first = oldest;
        }
    }

    [[nodiscard]] const std::string &race_found() const noexcept { return race_; }

    void describe(std::string &out) const
    {
        const auto put = [&](const auto &values) {
            out.append(reinterpret_cast<const char *>(std::data(values)),
                       std::size(values) * sizeof *std::data(values));
        };
        const auto put_seen = [&](const seen &s) {
            put(s.word);
            put(s.clock);
        };
        for (const auto &w : words_) {
            if (w->digest == 0)
                w->digest = w->make_digest();
            put(std::array{w->digest});
        }
        for (const auto &v : views_) {
            put_seen(v.now);
            put_seen(v.acquired);
            put_seen(v.released);
        }
        put_seen(total_);
    }

private:
    // A history is shared by all states in which it is the same.
    [[nodiscard]] word_history &change(std::size_t at)
    {
        auto &w = words_[at];
        if (w.use_count() > 1)
            w = std::make_shared<word_history>(*w);
        w->digest = 0;
        return *w;
    }
    void tick(std::size_t t) { ++views_[t].now.clock[t]; }
    void race(std::size_t t, const std::array<std::uint16_t, threads> &others, const char *what)
    {
        const auto other = 1 - t;
        if (others[other] > views_[t].now.clock[other])
            race_ = what;
    }
    void append(std::size_t t, std::size_t at, std::uint64_t value, seen by)
    {
        auto &w = change(at);
        const auto index = static_cast<std::uint16_t>(w.first + w.stores.size());
        views_[t].now.word[at] = index;
        by.word[at] = index;
        w.stores.push_back({value, std::move(by)});
    }

    std::vector<std::shared_ptr<word_history>> words_;
    std::array<thread_view, threads> views_;
    seen total_; // what sequentially consistent fences have seen
    std::string race_;
};

// The operation under way of one thread, and how far it may go.
struct weak_step {
    weak_world *world = nullptr;
    std::byte *base = nullptr; // of the memory that is played; its bytes are never touched
    std::size_t thread = 0;
    std::vector<std::uint64_t> *log = nullptr; // what was read or done before
    std::size_t at = 0;
    std::size_t budget = 0; // new accesses to words
    std::size_t choice = 0, choices = 1;
    bool stopped = false;

    // Whether an access is a new one that is made now. If it is not, `value` is what it gave.
    [[nodiscard]] bool enter(std::uint64_t &value, bool costs)
    {
        value = 0;
        if (stopped)
            return false;
        if (at < log->size()) {
            value = (*log)[at++];
            return false;
        }
        if (costs && budget == 0) {
            stopped = true;
            return false;
        }
        budget -= costs ? 1 : 0;
        return true;
    }
    void leave(std::uint64_t value)
    {
        log->push_back(value);
        ++at;
    }
};

inline weak_step *weak_now = nullptr; // one thread of the test plays both

// No order is taken away. A test derives from this to take one.
struct all_orders {
    static constexpr bool keeps_load(std::size_t, std::memory_order) { return true; }
    static constexpr bool keeps_store(std::size_t, std::memory_order) { return true; }
    static constexpr bool keeps_fence(std::memory_order) { return true; }
    static constexpr bool writes(std::size_t, std::uint64_t) { return true; } // is it stored at all?
};

// A memory for ring templates. `Orders` says which orders are kept, by the number of the word.
template <class Orders = all_orders>
struct weak_words {
    static std::size_t index(const void *p)
    {
        return static_cast<std::size_t>(static_cast<const std::byte *>(p) - weak_now->base) / 8;
    }

    template <std::memory_order Order>
    static std::uint64_t load(const std::uint64_t &word) noexcept
    {
        std::uint64_t value;
        if (!weak_now->enter(value, true))
            return value;
        const auto i = index(&word);
        weak_now->choices = weak_now->world->choices(weak_now->thread, i);
        const bool acquire = Order != std::memory_order_relaxed && Orders::keeps_load(i, Order);
        value = weak_now->world->load(weak_now->thread, i, acquire, weak_now->choice);
        weak_now->leave(value);
        return value;
    }
    template <std::memory_order Order>
    static void store(std::uint64_t &word, std::uint64_t value) noexcept
    {
        std::uint64_t ignored;
        if (!weak_now->enter(ignored, true))
            return;
        const auto i = index(&word);
        const bool release = Order != std::memory_order_relaxed && Orders::keeps_store(i, Order);
        if (Orders::writes(i, value))
            weak_now->world->store(weak_now->thread, i, value, release);
        weak_now->leave(0);
    }
    template <std::memory_order Order>
    static void fence() noexcept
    {
        std::uint64_t ignored;
        // Only a full fence meets others; where it stands among their steps matters.
        if (!weak_now->enter(ignored, Order == std::memory_order_seq_cst))
            return;
        if (Orders::keeps_fence(Order))
            weak_now->world->fence(weak_now->thread, Order);
        weak_now->leave(0);
    }
    // Whole words; a test chooses its payloads so.
    static void write(std::byte *to, const std::byte *from, std::size_t n) noexcept
    {
        for (std::size_t i = 0; i < n; i += 8) {
            std::uint64_t value = 0, ignored;
            std::memcpy(&value, from + i, 8);
            if (!weak_now->enter(ignored, false))
                continue;
            weak_now->world->plain_write(weak_now->thread, index(to + i), value);
            weak_now->leave(0);
        }
    }
    static void read(std::byte *to, const std::byte *from, std::size_t n) noexcept
    {
        for (std::size_t i = 0; i < n; i += 8) {
            std::uint64_t value;
            if (weak_now->enter(value, false)) {
                value = weak_now->world->plain_read(weak_now->thread, index(from + i));
                weak_now->leave(value);
            }
            std::memcpy(to + i, &value, 8);
        }
    }
};

static_assert(ring::memory<weak_words<>>);

// What both threads do: `first` and `second` are objects that are copied with the state. Each has
// operation(i), which makes its i-th operation; failed(), a complaint or nothing; describe(out).
template <class First, class Second>
class exploration {
public:
    struct state {
        weak_world world;
        First first;
        Second second;
        std::array<std::size_t, threads> done{};
        std::array<std::vector<std::uint64_t>, threads> log{};
    };

    exploration(std::byte *base, std::size_t operations_first, std::size_t operations_second)
        : base_(base), operations_{operations_first, operations_second}
    {
    }

    // Explores all that can follow `begin`. `at_end(state)` judges where both have done all their
    // operations: a complaint or nothing. Returns the first failure, or nothing.
    template <class AtEnd>
    [[nodiscard]] std::string explore(state begin, AtEnd &&at_end)
    {
        std::vector<state> open;
        open.push_back(std::move(begin));
        while (!open.empty()) {
            auto now = std::move(open.back());
            open.pop_back();
            bool ended = true;
            for (std::size_t t = 0; t < threads; ++t) {
                if (now.done[t] == operations_[t])
                    continue;
                ended = false;
                for (std::size_t choice = 0, choices = 1; choice < choices; ++choice) {
                    auto next = now;
                    choices = step(next, t, choice);
                    if (auto wrong = complaint(next); !wrong.empty())
                        return wrong;
                    std::string key;
                    describe(next, key);
                    if (visited_.insert(std::hash<std::string>()(key)).second)
                        open.push_back(std::move(next));
                }
            }
            if (ended) {
                ++ends_;
                if (auto wrong = at_end(now); !wrong.empty())
                    return wrong;
            }
        }
        return {};
    }

    // Runs one whole operation of `t`, reading the newest values.
    void run(state &s, std::size_t t)
    {
        const auto done = s.done[t];
        while (s.done[t] == done)
            (void)step(s, t, 0);
    }

    [[nodiscard]] std::size_t states() const noexcept { return visited_.size(); }
    [[nodiscard]] std::size_t ends() const noexcept { return ends_; }

private:
    // One new access to a word by thread `t`. Returns how many values it could have had.
    [[nodiscard]] std::size_t step(state &s, std::size_t t, std::size_t choice)
    {
        weak_step now{.world = &s.world,
                      .base = base_,
                      .thread = t,
                      .log = &s.log[t],
                      .budget = 1,
                      .choice = choice};
        weak_now = &now;
        if (t == 0)
            play(s.first, s, t, now);
        else
            play(s.second, s, t, now);
        weak_now = nullptr;
        s.world.forget();
        return now.choices;
    }

    template <class Actor>
    void play(Actor &actor, state &s, std::size_t t, weak_step &now)
    {
        auto copy = actor;
        copy.operation(s.done[t]);
        if (now.stopped)
            return;
        actor = std::move(copy);
        s.log[t].clear();
        ++s.done[t];
    }

    [[nodiscard]] static std::string complaint(const state &s)
    {
        if (!s.world.race_found().empty())
            return "a race: " + s.world.race_found();
        auto wrong = s.first.failed();
        return wrong.empty() ? s.second.failed() : wrong;
    }

    static void describe(const state &s, std::string &out)
    {
        s.world.describe(out);
        for (std::size_t t = 0; t < threads; ++t) {
            out.push_back(static_cast<char>(s.done[t]));
            out.push_back(static_cast<char>(s.log[t].size()));
            out.append(reinterpret_cast<const char *>(s.log[t].data()), s.log[t].size() * 8);
        }
        s.first.describe(out);
        s.second.describe(out);
    }

    std::byte *base_;
    std::array<std::size_t, threads> operations_;
    std::unordered_set<std::uint64_t> visited_; // by their digests
    std::size_t ends_ = 0;
};

} // namespace sp::test
