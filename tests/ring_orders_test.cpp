// SPDX-License-Identifier: BSD-2-Clause
//
// The rings on a memory that shows every order the language allows (support/weak_memory.hpp): two
// threads, all interleavings, all values a load may return. With every order in its place nothing
// is lost, torn, doubled or raced for; with any one of them taken away something is.
#include "tests/support/weak_memory.hpp"
#include "userspace/ring/broadcast_ring.hpp"
#include "userspace/ring/doorbell.hpp"
#include "userspace/ring/record_ring.hpp"

#include <algorithm>
#include <array>
#include <gtest/gtest.h>
#include <iostream>
#include <string>
#include <vector>

namespace {

using namespace sp::ring;
using namespace sp::test;

// ---- the record ring

constexpr std::size_t ring_bytes = 16 * record_alignment;
constexpr std::size_t ring_words = ring_bytes / 8;
constexpr std::size_t progress_word = ring_words, flag_word = ring_words + 1;
constexpr std::size_t ring_world = ring_words + 2;

struct alignas(64) ring_arena {
    std::array<std::byte, ring_world * 8> bytes{};

    [[nodiscard]] std::span<std::byte> ring() { return std::span(bytes).first(ring_bytes); }
    [[nodiscard]] std::uint64_t &progress() { return word_at(bytes.data() + progress_word * 8); }
    [[nodiscard]] std::uint64_t &flag() { return word_at(bytes.data() + flag_word * 8); }
};
ring_arena arena;

// The payload of message n: sizes in turn, so that records of one line and of two meet the end of
// the ring with a pad and without.
std::vector<std::uint64_t> payload_of(std::uint64_t n)
{
    const std::size_t words = n % 3 == 1 ? 8 : 1; // two lines, or one
    std::vector<std::uint64_t> all(words);
    all.front() = 0x1000 + n;
    all.back() = 0x1000 + n;
    return all;
}

template <class Value>
void put(std::string &out, const Value &value)
{
    out.append(reinterpret_cast<const char *>(&value), sizeof value);
}

template <class Memory>
struct sending {
    writer<Memory> end;
    std::uint64_t next = 0; // message to come
    std::uint64_t full = 0; // times there was no room

    void operation(std::size_t)
    {
        const auto payload = payload_of(next);
        const outgoing record{.what_for = {.id = static_cast<std::uint32_t>(next)},
                              .payload = std::as_bytes(std::span(payload))};
        end.send(record) ? ++next : ++full;
    }
    [[nodiscard]] std::string failed() const
    {
        return end.fault() ? "the writer sees a fault" : "";
    }
    void describe(std::string &out) const
    {
        put(out, next);
        put(out, full);
        put(out, end.position());
    }
};

template <class Memory>
struct receiving {
    reader<Memory> end;
    std::uint64_t next = 0;
    std::string wrong{};

    void operation(std::size_t)
    {
        std::array<std::byte, ring_bytes / 8> room{};
        const auto got = end.receive(room);
        if (!got)
            return;
        const auto expected = payload_of(next);
        const auto text = std::as_bytes(std::span(expected));
        if (got->what_for.id != next || !std::ranges::equal(text, std::span(room).first(got->size)))
            wrong = "a message came that was not sent, or not in its turn";
        ++next;
    }
    [[nodiscard]] std::string failed() const
    {
        return end.fault() ? "the reader sees a fault" : wrong;
    }
    void describe(std::string &out) const
    {
        put(out, next);
        put(out, end.position());
    }
};

struct result {
    std::string wrong;
    std::size_t states = 0, ends = 0;
    std::uint64_t full = 0; // the greatest number of times a writer found no room
};

// Both ends begin at line `start`; `before` messages are there when the six operations of each
// begin.
template <class Orders>
result explore_records(std::size_t start, std::size_t before)
{
    using words = weak_words<Orders>;
    using plan = exploration<sending<words>, receiving<words>>;
    const auto position = start * record_alignment;
    plan p(arena.bytes.data(), before + 6, 6);
    typename plan::state begin{.world = weak_world(ring_world),
                               .first = {.end = {arena.ring(), arena.progress(), position}},
                               .second = {.end = {arena.ring(), arena.progress(), position}}};
    // Progress begins at the position too.
    begin.world.store(1, progress_word, position, true);
    begin.world.meet();
    for (std::size_t i = 0; i < before; ++i)
        p.run(begin, 0);
    begin.world.meet();
    result all;
    all.wrong = p.explore(begin, [&](typename plan::state &s) -> std::string {
        all.full = std::max(all.full, s.first.full);
        s.world.meet();
        while (s.second.next < s.first.next) {
            const auto had = s.second.next;
            p.run(s, 1);
            if (s.second.next == had || !s.second.failed().empty())
                return "a message that was sent never comes";
        }
        return {};
    });
    all.states = p.states();
    all.ends = p.ends();
    return all;
}

struct start_row {
    const char *story;
    std::size_t start, before;
};
constexpr start_row starts[] = {
    {"at the beginning", 0, 0},
    {"one line before the end", 15, 0},
    {"a pad on the way", 13, 0},
    {"nearly full", 3, 9},
    {"nearly full and round the end", 11, 9},
    {"where the low half of positions begins again", (std::size_t{1} << 32) - 3, 0},
};

TEST(record_ring, loses_and_tears_nothing_in_any_order_of_two_threads)
{
    std::uint64_t full = 0;
    for (const auto &row : starts) {
        const auto all = explore_records<all_orders>(row.start, row.before);
        EXPECT_EQ(all.wrong, "") << row.story;
        EXPECT_GT(all.states, 100u) << row.story;
        full = std::max(full, all.full);
        std::cout << row.story << ": " << all.states << " states, " << all.ends << " ends\n";
    }
    EXPECT_GT(full, 0u) << "no start makes the ring full";
}

constexpr bool in_ring(std::size_t word)
{
    return word < ring_words;
}

struct commit_not_released : all_orders {
    static constexpr bool keeps_store(std::size_t word, std::memory_order)
    {
        return !in_ring(word);
    }
};
struct commit_not_acquired : all_orders {
    static constexpr bool keeps_load(std::size_t word, std::memory_order) { return !in_ring(word); }
};
struct progress_not_released : all_orders {
    static constexpr bool keeps_store(std::size_t word, std::memory_order) { return in_ring(word); }
};
struct progress_not_acquired : all_orders {
    static constexpr bool keeps_load(std::size_t word, std::memory_order) { return in_ring(word); }
};

// What the first failure is over all starts; empty when the weakened ring passes for a good one.
template <class Orders>
std::string first_failure()
{
    for (const auto &row : starts)
        if (const auto all = explore_records<Orders>(row.start, row.before); !all.wrong.empty())
            return all.wrong;
    return {};
}

TEST(record_ring, shows_it_when_any_order_is_weakened)
{
    EXPECT_NE(first_failure<commit_not_released>(), "");
    EXPECT_NE(first_failure<commit_not_acquired>(), "");
    EXPECT_NE(first_failure<progress_not_released>(), "");
    EXPECT_NE(first_failure<progress_not_acquired>(), "");
}

// ---- falling asleep

template <class Memory>
struct ringing : sending<Memory> {
    bool rang = false;

    void operation(std::size_t i)
    {
        sending<Memory>::operation(i);
        rang = rang || must_wake<Memory>(arena.flag());
    }
    void describe(std::string &out) const
    {
        sending<Memory>::describe(out);
        put(out, rang);
    }
};

template <class Memory>
struct sleeping : receiving<Memory> {
    bool asleep = false;

    void operation(std::size_t i)
    {
        if (asleep)
            return;
        announce_sleep<Memory>(arena.flag());
        const auto had = this->next;
        receiving<Memory>::operation(i);
        asleep = this->next == had;
        if (!asleep)
            announce_awake<Memory>(arena.flag());
    }
    void describe(std::string &out) const
    {
        receiving<Memory>::describe(out);
        put(out, asleep);
    }
};

template <class Orders>
result explore_sleep()
{
    using words = weak_words<Orders>;
    using plan = exploration<ringing<words>, sleeping<words>>;
    plan p(arena.bytes.data(), 2, 3);
    typename plan::state begin{.world = weak_world(ring_world),
                               .first = {{.end = {arena.ring(), arena.progress()}}},
                               .second = {{.end = {arena.ring(), arena.progress()}}}};
    result all;
    std::size_t slept = 0;
    all.wrong = p.explore(begin, [&](typename plan::state &s) -> std::string {
        slept += s.second.asleep ? 1 : 0;
        const bool waits = s.second.asleep && s.second.next < s.first.next;
        return waits && !s.first.rang ? "one sleeps over a message and nobody rings" : "";
    });
    all.states = p.states();
    all.ends = slept;
    return all;
}

struct no_full_fence : all_orders {
    static constexpr bool keeps_fence(std::memory_order) { return false; }
};

TEST(doorbell, is_rung_for_everybody_who_sleeps_over_a_message)
{
    const auto all = explore_sleep<all_orders>();
    EXPECT_EQ(all.wrong, "");
    EXPECT_GT(all.ends, 0u) << "nobody ever slept";
    std::cout << all.states << " states\n";
}

TEST(doorbell, is_not_rung_when_the_fences_are_taken_away)
{
    EXPECT_EQ(explore_sleep<no_full_fence>().wrong, "one sleeps over a message and nobody rings");
}

// ---- the broadcast ring

// Eight payloads of eight words fill the data ring, sixteen messages the slots.
constexpr std::size_t slots = 16, slot_words = slots * slot_bytes / 8, data_words = 64;
constexpr std::size_t oldest_word = slot_words + data_words, published_word = oldest_word + 1;
constexpr std::size_t broadcast_world = published_word + 1;

struct alignas(64) broadcast_arena {
    std::array<std::byte, broadcast_world * 8> bytes{};

    [[nodiscard]] published_memory published()
    {
        return {.slots = std::span(bytes).first(slot_words * 8),
                .data = std::span(bytes).subspan(slot_words * 8, data_words * 8),
                .oldest = &word_at(bytes.data() + oldest_word * 8),
                .published = &word_at(bytes.data() + published_word * 8)};
    }
    [[nodiscard]] subscribed_memory subscribed()
    {
        const auto p = published();
        return {.slots = p.slots, .data = p.data, .oldest = p.oldest, .published = p.published};
    }
};
broadcast_arena air;

// Message n is made of one word, so that a torn one shows.
std::vector<std::uint64_t> broadcast_of(std::uint64_t n, std::size_t words)
{
    return std::vector<std::uint64_t>(words, 0x2000 + n);
}

template <class Memory>
struct publishing {
    publisher<Memory> end;
    std::size_t words;

    void operation(std::size_t)
    {
        const auto n = end.published();
        const auto payload = broadcast_of(n, words);
        end.publish(static_cast<std::uint32_t>(n), std::as_bytes(std::span(payload)));
    }
    [[nodiscard]] static std::string failed() { return {}; }
    void describe(std::string &out) const { put(out, end.published()); }
};

template <class Memory>
struct listening {
    listener<Memory> end;
    std::size_t words;
    std::uint64_t taken = 0;
    std::string wrong{};

    void operation(std::size_t)
    {
        std::array<std::byte, 104> room{};
        const auto got = end.next(room, [](const auto &) { return true; });
        if (!got)
            return;
        ++taken;
        const auto expected = broadcast_of(got->number, words);
        if (got->tag != got->number || !std::ranges::equal(std::as_bytes(std::span(expected)),
                                                           std::span(room).first(got->size)))
            wrong = "a message came that was not published";
        if (taken + end.lost() != end.position())
            wrong = "taken and lost are not all";
    }
    [[nodiscard]] std::string failed() const
    {
        return end.fault() ? "the listener sees a fault" : wrong;
    }
    void describe(std::string &out) const
    {
        put(out, taken);
        put(out, end.lost());
        put(out, end.position());
    }
};

// `before` messages of so many words are there; then some are published while the listener looks.
template <class Orders>
result explore_broadcast(std::size_t words, std::size_t before, std::size_t more, std::size_t looks)
{
    using play = weak_words<Orders>;
    using plan = exploration<publishing<play>, listening<play>>;
    plan p(air.bytes.data(), before + more, looks);
    typename plan::state begin{.world = weak_world(broadcast_world),
                               .first = {.end = publisher<play>(air.published()), .words = words},
                               .second = {.end = listener<play>(air.subscribed()), .words = words}};
    for (std::size_t i = 0; i < before; ++i)
        p.run(begin, 0);
    begin.world.meet();
    result all;
    std::uint64_t lost = 0;
    all.wrong = p.explore(begin, [&](typename plan::state &s) -> std::string {
        lost = std::max(lost, s.second.end.lost());
        s.world.meet();
        for (std::size_t i = 0; i < 2 * slots; ++i)
            p.run(s, 1);
        if (!s.second.failed().empty())
            return s.second.failed();
        return s.second.end.position() == s.first.end.published() ? ""
                                                                  : "the listener stays behind";
    });
    all.states = p.states();
    all.ends = p.ends();
    all.full = lost;
    return all;
}

struct broadcast_row {
    const char *story;
    std::size_t words, before, more, looks;
};
constexpr broadcast_row broadcasts[] = {
    {"new", 2, 0, 2, 3},
    {"about to be overrun", 2, 16, 3, 3},
    {"the data ring comes round before the slots", 7, 8, 1, 2},
};

TEST(broadcast_ring, shows_no_torn_message_and_counts_what_is_lost_in_any_order_of_two_threads)
{
    std::uint64_t lost = 0;
    for (const auto &row : broadcasts) {
        const auto all = explore_broadcast<all_orders>(row.words, row.before, row.more, row.looks);
        EXPECT_EQ(all.wrong, "") << row.story;
        lost = std::max(lost, all.full);
        std::cout << row.story << ": " << all.states << " states, " << all.ends << " ends\n";
    }
    EXPECT_GT(lost, 0u) << "nobody is ever overrun";
}

struct number_not_released : all_orders {
    static constexpr bool keeps_store(std::size_t, std::memory_order) { return false; }
};
struct number_not_acquired : all_orders {
    static constexpr bool keeps_load(std::size_t, std::memory_order) { return false; }
};
struct busy_not_fenced : all_orders {
    static constexpr bool keeps_fence(std::memory_order o)
    {
        return o != std::memory_order_release;
    }
};
struct copy_not_fenced : all_orders {
    static constexpr bool keeps_fence(std::memory_order o)
    {
        return o != std::memory_order_acquire;
    }
};

// A message whose data is overwritten, and its slot does not say so.
struct nothing_retired : all_orders {
    static constexpr bool writes(std::size_t word, std::uint64_t value)
    {
        return word != 0 || value != ((slots + 1) | slot_busy);
    }
};

template <class Orders>
std::string first_broadcast_failure()
{
    for (const auto &row : broadcasts)
        if (const auto all = explore_broadcast<Orders>(row.words, row.before, row.more, row.looks);
            !all.wrong.empty())
            return all.wrong;
    return {};
}

TEST(broadcast_ring, shows_it_when_any_order_is_weakened)
{
    EXPECT_NE(first_broadcast_failure<number_not_released>(), "");
    EXPECT_NE(first_broadcast_failure<number_not_acquired>(), "");
    EXPECT_NE(first_broadcast_failure<busy_not_fenced>(), "");
    EXPECT_NE(first_broadcast_failure<copy_not_fenced>(), "");
    EXPECT_NE(first_broadcast_failure<nothing_retired>(), "");
}

// The model itself: it finds the two classic faults and no fault where there is none.

template <class Orders>
struct passing {
    bool writes = false;
    std::uint64_t flag = 0, value = 1;

    void operation(std::size_t)
    {
        using m = weak_words<Orders>;
        auto &value_word = word_at(arena.bytes.data()),
             &flag_word_here = word_at(arena.bytes.data() + 8);
        if (writes) {
            m::template store<std::memory_order_relaxed>(value_word, 1);
            m::template store<std::memory_order_release>(flag_word_here, 1);
        } else {
            flag = m::template load<std::memory_order_acquire>(flag_word_here);
            value = m::template load<std::memory_order_relaxed>(value_word);
        }
    }
    [[nodiscard]] std::string failed() const
    {
        return flag == 1 && value == 0 ? "the flag came before the value" : "";
    }
    void describe(std::string &out) const
    {
        put(out, flag);
        put(out, value);
    }
};

template <class Orders>
std::string pass_a_message()
{
    using plan = exploration<passing<Orders>, passing<Orders>>;
    plan p(arena.bytes.data(), 1, 1);
    return p.explore({.world = weak_world(2), .first = {.writes = true}, .second = {}},
                     [](auto &) { return std::string(); });
}

struct nothing_released : all_orders {
    static constexpr bool keeps_store(std::size_t, std::memory_order) { return false; }
};
struct nothing_acquired : all_orders {
    static constexpr bool keeps_load(std::size_t, std::memory_order) { return false; }
};

TEST(weak_memory, lets_a_flag_come_before_its_value_unless_it_is_released_and_acquired)
{
    EXPECT_EQ(pass_a_message<all_orders>(), "");
    EXPECT_NE(pass_a_message<nothing_released>(), "");
    EXPECT_NE(pass_a_message<nothing_acquired>(), "");
}

} // namespace
