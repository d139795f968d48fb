// SPDX-License-Identifier: BSD-2-Clause
//
// The broadcast ring: one publisher whom nobody holds up, readers that get whole messages and know
// exactly how many they missed, topics judged before payloads are touched, and a publisher that
// lies.
#include "userspace/ring/broadcast_ring.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <gtest/gtest.h>
#include <iostream>
#include <memory>
#include <random>
#include <thread>
#include <vector>

namespace {

using namespace sp::ring;
using bytes = std::vector<std::byte>;

constexpr auto everything = [](const listener<>::seen &) { return true; };

struct air {
    explicit air(std::size_t slot_count = 16, std::size_t data_bytes = 4096)
        : slots(make(slot_count * slot_bytes)), data(make(data_bytes)),
          published{.slots = {slots.get(), slot_count * slot_bytes},
                    .data = {data.get(), data_bytes},
                    .oldest = &oldest,
                    .published = &next},
          subscribed{.slots = published.slots,
                     .data = published.data,
                     .oldest = &oldest,
                     .published = &next},
          in(published)
    {
    }

    struct deleter {
        void operator()(std::byte *p) const { ::operator delete[](p, std::align_val_t{64}); }
    };
    using block = std::unique_ptr<std::byte[], deleter>;
    static block make(std::size_t n) { return block(new (std::align_val_t{64}) std::byte[n]{}); }

    block slots, data;
    std::uint64_t oldest = 0, next = 0;
    published_memory published;
    subscribed_memory subscribed;
    publisher<> in;
};

bytes numbered(std::uint64_t number, std::size_t n)
{
    bytes all(n);
    for (std::size_t i = 0; i < n; ++i)
        all[i] = static_cast<std::byte>(number * 31 + i);
    return all;
}

std::optional<bytes> take(listener<> &l)
{
    bytes room(l.payload_max());
    const auto got = l.next(room, everything);
    if (!got)
        return std::nullopt;
    room.resize(got->size);
    return room;
}

TEST(broadcast_ring, gives_every_reader_every_message_of_every_size)
{
    air a;
    listener<> one(a.subscribed), two(a.subscribed);
    for (std::size_t n = 0; n <= a.in.payload_max(); ++n) {
        a.in.publish(7, numbered(n, n));
        EXPECT_EQ(take(one), numbered(n, n)) << n;
        EXPECT_EQ(take(two), numbered(n, n)) << n;
        EXPECT_FALSE(take(one)) << "nothing comes twice";
    }
    EXPECT_EQ(one.lost() + two.lost(), 0u);
    EXPECT_FALSE(one.fault() || two.fault());
}

TEST(broadcast_ring, counts_exactly_what_a_slow_reader_missed)
{
    for (std::uint64_t late = 0; late < 100; ++late) {
        air a; // sixteen slots
        listener<> l(a.subscribed);
        for (std::uint64_t i = 0; i < late; ++i)
            a.in.publish(0, numbered(i, 8));
        std::uint64_t taken = 0;
        while (const auto m = take(l)) {
            EXPECT_EQ(m, numbered(l.position() - 1, 8));
            ++taken;
        }
        EXPECT_EQ(taken + l.lost(), late);
        EXPECT_EQ(l.lost() == 0, late <= 16) << late;
        EXPECT_TRUE(late < 16 || taken >= 14) << "the newest are what remains";
    }
}

TEST(broadcast_ring, counts_a_payload_that_the_data_ring_has_overwritten)
{
    air a(64, 1024); // of each 128 bytes lie beside: eight come round long before the slots
    listener<> l(a.subscribed);
    for (std::uint64_t i = 0; i < 20; ++i)
        a.in.publish(0, numbered(i, 168));
    std::uint64_t taken = 0;
    while (const auto m = take(l)) {
        EXPECT_EQ(m, numbered(l.position() - 1, 168));
        ++taken;
    }
    EXPECT_EQ(taken, 7u) << "an eighth of what is there is given up";
    EXPECT_EQ(l.lost(), 13u);
}

TEST(broadcast_ring, begins_for_a_new_reader_where_it_says)
{
    air a;
    for (std::uint64_t i = 0; i < 5; ++i)
        a.in.publish(0, numbered(i, 8));
    listener<> l(a.subscribed, a.in.published());
    EXPECT_FALSE(take(l));
    a.in.publish(0, numbered(5, 8));
    EXPECT_EQ(take(l), numbered(5, 8));
    EXPECT_EQ(l.lost(), 0u) << "what was before is not missed";
}

TEST(broadcast_ring, judges_topics_before_payloads)
{
    air a;
    listener<> l(a.subscribed);
    for (std::uint32_t i = 0; i < 10; ++i)
        a.in.publish(i, numbered(i, 100));
    std::ranges::fill(std::span(a.data.get(), 6 * 64),
                      std::byte{0xee}); // of those before the sixth
    std::vector<std::uint32_t> asked;
    bytes room(l.payload_max());
    const auto got = l.next(room, [&](const listener<>::seen &s) {
        EXPECT_EQ(s.size, 100u);
        EXPECT_TRUE(std::ranges::equal(s.beginning(), bytes(numbered(s.number, slot_inline))));
        asked.push_back(s.tag);
        return s.tag == 6;
    });
    ASSERT_TRUE(got);
    EXPECT_EQ(got->number, 6u);
    EXPECT_TRUE(std::ranges::equal(std::span(room).first(got->size), numbered(6, 100)));
    EXPECT_EQ(asked.size(), 7u);
    EXPECT_EQ(l.filtered(), 6u);
    EXPECT_FALSE(l.next(room, [](const listener<>::seen &) { return false; }));
    EXPECT_EQ(l.filtered(), 9u);
    EXPECT_EQ(l.lost(), 0u);
}

TEST(broadcast_ring, shows_the_same_message_until_it_is_passed)
{
    air a;
    listener<> l(a.subscribed);
    EXPECT_FALSE(l.waiting());
    a.in.publish(3, numbered(0, 100));
    EXPECT_TRUE(l.waiting());
    for (int i = 0; i < 3; ++i) {
        const auto found = l.look();
        ASSERT_TRUE(found);
        bytes all(found->size);
        ASSERT_TRUE(l.copy(*found, all));
        EXPECT_EQ(all, numbered(0, 100));
    }
    l.pass();
    EXPECT_FALSE(l.waiting());
    EXPECT_FALSE(l.look());
}

TEST(broadcast_ring, does_not_copy_what_was_overwritten_after_the_look)
{
    air a(64, 1024);
    listener<> l(a.subscribed);
    a.in.publish(0, numbered(0, 168));
    const auto found = l.look();
    ASSERT_TRUE(found);
    for (std::uint64_t i = 1; i < 9; ++i)
        a.in.publish(0, numbered(i, 168));
    bytes all(found->size);
    EXPECT_FALSE(l.copy(*found, all));
    const auto next = l.look();
    ASSERT_TRUE(next);
    EXPECT_GT(next->number, 0u);
    EXPECT_EQ(next->number, l.lost());
}

// What a publisher asks that waits for its readers: nothing is ever overwritten that it was told
// to leave alone, and a ring that nobody has to read takes one more.
TEST(broadcast_ring, has_room_as_long_as_the_slowest_keeps_all)
{
    const auto seed = std::random_device{}();
    std::cout << "seed " << seed << '\n';
    std::mt19937_64 random(seed);
    air a(16, 1024);
    listener<> slow(a.subscribed);
    std::uint64_t refused = 0;
    for (int step = 0; step < 20'000; ++step) {
        const auto n = random() % (a.in.payload_max() + 1);
        EXPECT_TRUE(a.in.room_for(n, a.in.published()));
        if (a.in.room_for(n, slow.position()))
            a.in.publish(0, numbered(a.in.published(), n));
        else
            ++refused;
        if (random() % 3 == 0)
            (void)take(slow);
    }
    EXPECT_EQ(slow.lost(), 0u) << "seed " << seed;
    EXPECT_GT(refused, 1000u);
}

TEST(broadcast_ring, is_left_alone_by_a_publisher_that_died_in_the_middle)
{
    air a;
    listener<> l(a.subscribed);
    a.in.publish(0, numbered(0, 8));
    word_at(a.published.slot(1)) = 2 | slot_busy; // it began message 1 and nothing more
    EXPECT_EQ(take(l), numbered(0, 8));
    EXPECT_FALSE(take(l));
    EXPECT_FALSE(l.fault());
    EXPECT_EQ(l.lost(), 0u);
}

TEST(listener, calls_a_fault_what_no_honest_publisher_writes)
{
    struct row {
        const char *story;
        std::uint64_t number, size, place;
    };
    const row rows[] = {
        {"a number of another slot", 4, 8, 0},
        {"a payload over the limit", 1, 40 + 4096 / 8 + 1, 0},
        {"the longest payload", 1, 0xffff'ffff, 0},
        {"a place between lines", 1, 100, 8},
        {"a place whose payload crosses the end", 1, 300, 4096 - 64},
    };
    for (const auto &r : rows) {
        air a;
        listener<> l(a.subscribed);
        auto *slot = a.published.slot(0);
        word_at(slot + 8) = r.size;
        word_at(slot + 16) = r.place;
        word_at(slot) = r.number;
        EXPECT_FALSE(take(l)) << r.story;
        EXPECT_TRUE(l.fault()) << r.story;
    }
}

TEST(hostile_publisher, gets_a_valid_message_or_a_fault_and_never_a_look_outside)
{
    const auto seed = std::random_device{}();
    std::cout << "seed " << seed << '\n';
    std::mt19937_64 random(seed);
    std::size_t messages = 0, faults = 0;
    bytes room(552);
    for (int round = 0; round < 10'000; ++round) {
        air a;
        listener<> l(a.subscribed, random() % 100);
        for (int step = 0; step < 20 && !l.fault(); ++step) {
            auto *slot = a.published.slot(l.position());
            word_at(slot + 8) = random() % 8 == 0 ? random() : random() % 600;
            word_at(slot + 16) = random() % 8 == 0 ? random() : random() % 600 * 64;
            word_at(slot) = random() % 16 == 0 ? random() : l.position() + 1 + random() % 2 * 16;
            a.oldest = random() % 4 == 0 ? random() : random() % 8192;
            a.next = random() % 4 == 0 ? random() : random() % 8192;
            const auto before = l.position();
            const auto got = l.next(room, everything);
            ASSERT_GE(l.position(), before) << "seed " << seed;
            ASSERT_TRUE(!got || got->size <= l.payload_max());
            messages += got ? 1 : 0;
        }
        faults += l.fault() ? 1 : 0;
    }
    EXPECT_GT(messages, 5'000u);
    EXPECT_GT(faults, 1'000u);
}

// Readers at their own speed beside a publisher who waits for nobody: every message that comes is
// whole, and taken and lost together are all.
TEST(broadcast_ring, loses_only_what_it_counts_between_threads)
{
    constexpr std::uint64_t messages = 100'000;
    air a(64, 4096);
    std::atomic<bool> over{false};
    struct tally {
        std::uint64_t taken = 0, torn = 0, lost = 0, position = 0;
    };
    std::array<tally, 2> tallies;
    const auto listen = [&](tally &t) {
        listener<> l(a.subscribed);
        bytes room(l.payload_max());
        for (;;) {
            const bool last = over.load();
            bool any = false;
            while (const auto got = l.next(room, everything)) {
                any = true;
                ++t.taken;
                for (std::size_t i = 0; i < got->size; ++i)
                    if (room[i] != static_cast<std::byte>(got->number * 31 + i)) {
                        ++t.torn;
                        break;
                    }
            }
            if (last)
                break;
            if (!any)
                std::this_thread::yield();
        }
        t.lost = l.lost();
        t.position = l.position();
        EXPECT_FALSE(l.fault());
    };
    std::thread one([&] { listen(tallies[0]); }), two([&] { listen(tallies[1]); });
    for (std::uint64_t n = 0; n < messages; ++n)
        a.in.publish(0, numbered(n, n * 13 % 200));
    over = true;
    one.join();
    two.join();
    for (const auto &t : tallies) {
        EXPECT_EQ(t.torn, 0u);
        EXPECT_EQ(t.position, messages);
        EXPECT_EQ(t.taken + t.lost, messages);
        EXPECT_GT(t.taken, 0u);
        std::cout << t.taken << " taken, " << t.lost << " lost\n";
    }
}

} // namespace
