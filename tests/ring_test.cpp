// SPDX-License-Identifier: BSD-2-Clause
//
// The record ring: what fits and what does not, in place and by copies, at the end of the ring and
// behind it; what a hostile peer may write; two threads at full speed.
#include "userspace/ring/record_ring.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <gtest/gtest.h>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using namespace sp::ring;
using bytes = std::vector<std::byte>;

// Both ends' memory, with nothing behind it that a stray access could meet unnoticed.
struct memory_of_a_ring {
    explicit memory_of_a_ring(std::size_t size)
        : owned(new(std::align_val_t{64}) std::byte[size]{}), ring(owned.get(), size)
    {
    }

    struct deleter {
        void operator()(std::byte *p) const { ::operator delete[](p, std::align_val_t{64}); }
    };
    std::unique_ptr<std::byte[], deleter> owned;
    std::span<std::byte> ring;
    alignas(64) std::uint64_t progress = 0;
};

struct pair {
    explicit pair(std::size_t size = 4096, std::uint64_t start = 0)
        : memory(size), in(memory.ring, memory.progress, start),
          out(memory.ring, memory.progress, start)
    {
        memory.progress = start;
    }
    memory_of_a_ring memory;
    writer<> in;
    reader<> out;
};

bytes text(std::string_view s)
{
    const auto view = std::as_bytes(std::span(s));
    return {view.begin(), view.end()};
}

// A message of n bytes that begins with its number.
bytes numbered(std::uint64_t number, std::size_t n)
{
    bytes all(n);
    for (std::size_t i = 0; i < n; ++i)
        all[i] = static_cast<std::byte>(number + i * 7);
    return all;
}

std::optional<bytes> take(reader<> &r, tag *what_for = nullptr)
{
    bytes room(r.payload_max());
    const auto got = r.receive(room);
    if (!got)
        return std::nullopt;
    if (what_for)
        *what_for = got->what_for;
    room.resize(got->size);
    return room;
}

TEST(record_ring, carries_records_of_every_size_in_order_with_their_tags)
{
    pair p;
    for (std::size_t n = 0; n <= p.in.payload_max(); ++n) {
        const auto message = numbered(n, n);
        const tag sent{.id = static_cast<std::uint32_t>(n), .flags = 7, .pipe = 9};
        ASSERT_TRUE(p.in.send({.what_for = sent, .payload = message})) << n;
        tag got;
        EXPECT_EQ(take(p.out, &got), message) << n;
        EXPECT_EQ(got, sent);
        EXPECT_FALSE(take(p.out)) << "nothing comes twice";
    }
    EXPECT_TRUE(p.in.drained());
}

TEST(record_ring, is_empty_when_new_and_hands_on_an_empty_message)
{
    pair p;
    EXPECT_FALSE(p.out.peek());
    EXPECT_TRUE(p.in.send({}));
    EXPECT_EQ(take(p.out), bytes{});
    EXPECT_FALSE(p.out.fault() || p.in.fault());
}

TEST(record_ring, says_when_it_is_full_and_goes_on_when_there_is_room)
{
    pair p(1024); // sixteen lines, of which one stays free for the next commit word
    const auto message = text("one line");
    std::size_t sent = 0;
    while (p.in.send({.payload = message}))
        ++sent;
    EXPECT_EQ(sent, 15u);
    EXPECT_FALSE(p.in.fault());
    EXPECT_TRUE(p.out.peek());
    EXPECT_FALSE(p.in.send({.payload = message})) << "looked at is not released";
    p.out.release();
    EXPECT_FALSE(p.in.send({.payload = message})) << "progress is told once in an eighth";
    p.out.tell();
    EXPECT_TRUE(p.in.send({.payload = message}));
    EXPECT_FALSE(p.in.send({.payload = message}));
}

TEST(record_ring, tells_its_progress_once_in_an_eighth_and_when_it_goes_idle)
{
    pair p(4096); // an eighth is eight lines
    for (int i = 0; i < 10; ++i)
        ASSERT_TRUE(p.in.send({}));
    for (int i = 1; i <= 7; ++i) {
        ASSERT_TRUE(take(p.out));
        EXPECT_EQ(p.memory.progress, 0u) << i;
    }
    ASSERT_TRUE(take(p.out));
    EXPECT_EQ(p.memory.progress, 8 * record_alignment);
    ASSERT_TRUE(take(p.out));
    ASSERT_TRUE(take(p.out));
    EXPECT_EQ(p.memory.progress, 8 * record_alignment);
    EXPECT_FALSE(take(p.out)); // idle
    EXPECT_EQ(p.memory.progress, 10 * record_alignment);
}

TEST(record_ring, is_written_and_read_in_place)
{
    pair p;
    const auto room = p.in.reserve(100);
    ASSERT_TRUE(room);
    ASSERT_EQ(room->size(), 100u);
    std::ranges::copy(text("in place"), room->begin());
    EXPECT_FALSE(p.out.peek()) << "nothing is there before it is submitted";
    p.in.submit(8, {.id = 5}, kind::control);
    const auto view = p.out.peek();
    ASSERT_TRUE(view);
    EXPECT_EQ(view->what, kind::control);
    EXPECT_EQ(view->what_for.id, 5u);
    EXPECT_TRUE(std::ranges::equal(view->payload, text("in place")));
    EXPECT_EQ(view->payload.data(), room->data()) << "nothing was copied";
    EXPECT_EQ(p.in.position(), record_space(8)) << "what was not used is not taken";
}

TEST(record_ring, takes_a_reservation_back_when_another_one_is_made)
{
    pair p;
    ASSERT_TRUE(p.in.reserve(400));
    const auto room = p.in.reserve(4);
    ASSERT_TRUE(room);
    std::ranges::copy(text("four"), room->begin());
    p.in.submit(4);
    EXPECT_EQ(take(p.out), text("four"));
    EXPECT_FALSE(take(p.out));
}

TEST(record_ring, never_splits_a_record_at_its_end)
{
    for (std::size_t line = 0; line < 16; ++line)
        for (const std::size_t size : {std::size_t{1}, std::size_t{100}, payload_max(1024)}) {
            pair p(1024, line * record_alignment);
            const auto message = numbered(line, size);
            for (int i = 0; i < 40; ++i) {
                ASSERT_TRUE(p.in.send({.payload = message})) << line << ' ' << size << ' ' << i;
                const auto view = p.out.peek();
                ASSERT_TRUE(view && std::ranges::equal(view->payload, message));
                p.out.release();
                p.out.tell();
            }
        }
}

TEST(record_ring, sends_a_batch_as_far_as_there_is_room_and_receives_it_under_a_bound)
{
    pair p(1024);
    std::vector<bytes> messages;
    for (std::uint64_t i = 0; i < 20; ++i)
        messages.push_back(numbered(i, 8));
    std::vector<outgoing> batch;
    for (const auto &m : messages)
        batch.push_back({.payload = m});
    EXPECT_EQ(p.in.send_batch(batch), 15u);
    std::size_t next = 0;
    const auto check = [&](const reader<>::view &v) {
        EXPECT_TRUE(std::ranges::equal(v.payload, messages[next++]));
    };
    EXPECT_EQ(p.out.receive_batch(4, check), 4u);
    EXPECT_EQ(p.in.send_batch(std::span(batch).subspan(15)), 4u);
    EXPECT_EQ(p.out.receive_batch(64, check), 15u);
    EXPECT_EQ(p.in.send_batch(std::span(batch).subspan(19)), 1u);
    EXPECT_EQ(p.out.receive_batch(64, check), 1u);
    EXPECT_EQ(next, 20u);
}

TEST(record_ring, goes_on_where_positions_wrap_in_the_commit_word)
{
    constexpr auto start = ((std::uint64_t{1} << 32) - 5) * record_alignment;
    pair p(1024, start);
    for (std::uint64_t i = 0; i < 50; ++i) {
        ASSERT_TRUE(p.in.send({.payload = numbered(i, 30)}));
        EXPECT_EQ(take(p.out), numbered(i, 30));
        p.out.tell();
    }
    EXPECT_GT(p.in.position(), std::uint64_t{1} << 38);
}

// ---- what a peer may write

struct lie {
    const char *story;
    std::uint64_t word;
};

TEST(reader, calls_a_fault_what_no_honest_writer_commits)
{
    constexpr std::size_t size = 1024;
    constexpr std::uint64_t start = 3 * record_alignment;
    const lie lies[] = {
        {"a position of another line", pack(4, kind::data, 4 * record_alignment)},
        {"a position of the lap before", pack(4, kind::data, start + size)},
        {"a kind that does not exist", pack(4, kind{6}, start)},
        {"kind 0 with a position", pack(4, kind{0}, start)},
        {"one byte too long", pack(payload_max(size) + 1, kind::data, start)},
        {"the longest length", pack(0xff'ffff, kind::data, start)},
        {"a pad that ends before the end", pack(0, kind::pad, start)},
        {"a pad over an eighth", pack(13 * record_alignment - record_head, kind::pad, start)},
        {"all ones", ~std::uint64_t{0}},
    };
    for (const auto &[story, word] : lies) {
        pair p(size, start);
        word_at(p.memory.ring.data() + start) = word;
        EXPECT_FALSE(p.out.peek()) << story;
        EXPECT_TRUE(p.out.fault()) << story;
        word_at(p.memory.ring.data() + start) = pack(4, kind::data, start);
        EXPECT_FALSE(p.out.peek()) << story << ": a fault stays";
    }
    // The same place, honestly.
    pair p(size, start);
    word_at(p.memory.ring.data() + start) = pack(payload_max(size), kind::data, start);
    EXPECT_TRUE(p.out.peek());
    EXPECT_FALSE(p.out.fault());
}

TEST(reader, calls_a_record_over_the_end_and_a_pad_at_the_beginning_faults)
{
    pair over(1024, 15 * record_alignment);
    word_at(over.memory.ring.data() + 15 * record_alignment) =
        pack(60, kind::data, 15 * record_alignment);
    EXPECT_FALSE(over.out.peek());
    EXPECT_TRUE(over.out.fault());

    pair pads(1024, 15 * record_alignment);
    word_at(pads.memory.ring.data() + 15 * record_alignment) =
        pack(48, kind::pad, 15 * record_alignment);
    word_at(pads.memory.ring.data()) = pack(48, kind::pad, 16 * record_alignment);
    EXPECT_FALSE(pads.out.peek());
    EXPECT_TRUE(pads.out.fault()) << "pads alone would keep the reader for ever";
}

TEST(writer, calls_a_fault_progress_that_goes_back_or_ahead_or_between_records)
{
    struct row {
        const char *story;
        std::uint64_t progress;
        bool fault;
    };
    const std::uint64_t start = 20 * record_alignment, written = start + 10 * record_alignment;
    const row rows[] = {
        {"nothing new", start, false},
        {"all of it", written, false},
        {"back", start - record_alignment, true},
        {"ahead", written + record_alignment, true},
        {"far ahead", start + (std::uint64_t{1} << 40), true},
        {"between lines", start + 8, true},
        {"all ones", ~std::uint64_t{0}, true},
        {"zero", 0, true},
    };
    for (const auto &r : rows) {
        pair p(1024, start);
        for (int i = 0; i < 10; ++i)
            ASSERT_TRUE(p.in.send({}));
        p.memory.progress = r.progress;
        EXPECT_EQ(p.in.drained(), r.progress == written) << r.story;
        EXPECT_EQ(p.in.fault(), r.fault) << r.story;
        if (r.fault) {
            p.memory.progress = written;
            EXPECT_FALSE(p.in.send({})) << r.story << ": a fault stays";
            EXPECT_FALSE(p.in.drained());
        }
    }
}

// A memory that leaves out the one thing: zeros are not stored.
struct never_clears : hardware {
    template <std::memory_order Order>
    static void store(std::uint64_t &word, std::uint64_t value) noexcept
    {
        if (value != 0)
            hardware::store<Order>(word, value);
    }
};

// Fills the ring with payloads that look like records of the next lap, as a stranger could whose
// messages are passed on. Returns whether the reader takes one for a record.
template <class Memory>
bool old_payload_poses_as_a_record()
{
    memory_of_a_ring m(1024);
    writer<Memory> in(m.ring, m.progress);
    reader<> out(m.ring, m.progress);
    for (std::size_t sent = 0; sent < 40; ++sent) {
        const auto room = in.reserve(100); // two lines; the second is payload alone
        if (!room)
            return true;
        const auto second = in.position() + record_alignment + m.ring.size();
        const auto forged = pack(8, kind::data, second);
        std::memcpy(room->data() + record_alignment - record_head, &forged, sizeof forged);
        in.submit(100);
        if (!out.peek())
            return true;
        // One line in between, so that headers come to stand where payloads were.
        const bool odd = sent % 3 == 2;
        if (odd && (!in.send({}) || !out.peek()))
            return true;
        out.release();
        out.tell();
        if (out.peek() || out.fault())
            return true; // nothing more was sent
    }
    return false;
}

TEST(record_ring, clears_the_next_commit_word_so_that_old_payload_does_not_pose_as_a_record)
{
    EXPECT_FALSE(old_payload_poses_as_a_record<hardware>());
    EXPECT_TRUE(old_payload_poses_as_a_record<never_clears>())
        << "the test would not notice if the word were not cleared";
}

// A peer that scribbles: every word of its memory may change between any two looks. The reader
// gives valid views or a fault, and touches nothing outside (address sanitizer).
TEST(hostile_writer, gets_a_valid_message_or_a_fault_and_never_a_look_outside)
{
    const auto seed = std::random_device{}();
    std::cout << "seed " << seed << '\n';
    std::mt19937_64 random(seed);
    std::size_t messages = 0, faults = 0;
    for (int round = 0; round < 20'000; ++round) {
        const auto start = random() % 64 * record_alignment;
        pair p(1024, start);
        const auto words = p.memory.ring.size() / 8;
        for (int step = 0; step < 12 && !p.out.fault(); ++step) {
            // Near enough to the truth to be looked at, in half of the cases.
            const auto at = p.out.position();
            auto word = pack(random() % 130, static_cast<kind>(1 + random() % 5), at);
            if (random() % 4 == 0)
                word ^= std::uint64_t{1} << random() % 64;
            word_at(p.memory.ring.data() + at % p.memory.ring.size()) = word;
            word_at(p.memory.ring.data() + random() % words * 8) = random();
            const auto view = p.out.peek();
            if (!view)
                continue;
            ++messages;
            const auto begin = view->payload.data() - p.memory.ring.data();
            ASSERT_TRUE(begin >= 0 && static_cast<std::size_t>(begin) + view->payload.size() <=
                                          p.memory.ring.size())
                << "seed " << seed;
            ASSERT_LE(view->payload.size(), p.out.payload_max());
            const bytes copy(view->payload.begin(), view->payload.end());
            p.out.release();
        }
        faults += p.out.fault() ? 1 : 0;
    }
    EXPECT_GT(messages, 20'000u);
    EXPECT_GT(faults, 1'000u);
}

TEST(hostile_reader, gets_a_writer_to_stop_and_never_to_write_outside_or_over_itself)
{
    const auto seed = std::random_device{}();
    std::cout << "seed " << seed << '\n';
    std::mt19937_64 random(seed);
    std::size_t faults = 0;
    for (int round = 0; round < 20'000; ++round) {
        pair p(1024);
        for (int step = 0; step < 40 && !p.in.fault(); ++step) {
            if (random() % 3 == 0)
                p.memory.progress = random() % 8 == 0 ? random() : random() % 40 * record_alignment;
            const auto before = p.in.position();
            (void)p.in.send({.payload = numbered(1, random() % p.in.payload_max())});
            ASSERT_GE(p.in.position(), before);
        }
        faults += p.in.fault() ? 1 : 0;
    }
    EXPECT_GT(faults, 1'000u);
}

// ---- two threads

// Sends and receives at full speed; how many messages were not as they should be.
template <class Memory>
std::uint64_t wrong_between_threads(std::size_t size, std::uint64_t messages)
{
    memory_of_a_ring m(size);
    writer<Memory> in(m.ring, m.progress);
    reader<Memory> out(m.ring, m.progress);
    const auto length = [&](std::uint64_t n) { return 8 + n * 37 % (in.payload_max() - 7); };
    std::thread sender([&] {
        bytes room(in.payload_max());
        for (std::uint64_t n = 0; n < messages && !in.fault();) {
            std::ranges::fill(room, static_cast<std::byte>(n));
            std::memcpy(room.data(), &n, sizeof n);
            const auto message = std::span(room).first(length(n));
            if (in.send({.what_for = {.id = static_cast<std::uint32_t>(n)}, .payload = message}))
                ++n;
            else
                std::this_thread::yield(); // one CPU may have to do
        }
    });
    std::uint64_t next = 0, wrong = 0;
    while (next < messages && !out.fault()) {
        const auto seen = out.receive_batch(64, [&](const auto &v) {
            std::uint64_t n = 0;
            std::memcpy(&n, v.payload.data(), sizeof n);
            const bool right =
                n == next && v.what_for.id == static_cast<std::uint32_t>(next) &&
                v.payload.size() == length(next) &&
                (v.payload.size() == 8 || v.payload.back() == static_cast<std::byte>(next));
            wrong += right ? 0 : 1;
            ++next;
        });
        if (seen == 0)
            std::this_thread::yield();
    }
    sender.join();
    return wrong + (messages - next);
}

TEST(record_ring, carries_everything_between_two_threads_in_order)
{
    EXPECT_EQ(wrong_between_threads<hardware>(1024, 100'000), 0u);
    EXPECT_EQ(wrong_between_threads<hardware>(std::size_t{64} << 10, 30'000), 0u);
}

#ifdef __SANITIZE_THREAD__
// The real memory, with one kind of order taken away.
struct no_release : hardware {
    template <std::memory_order>
    static void store(std::uint64_t &word, std::uint64_t value) noexcept
    {
        hardware::store<std::memory_order_relaxed>(word, value);
    }
};
struct no_acquire : hardware {
    template <std::memory_order>
    [[nodiscard]] static std::uint64_t load(const std::uint64_t &word) noexcept
    {
        return hardware::load<std::memory_order_relaxed>(word);
    }
};

template <class Memory>
[[noreturn]] void play_and_exit()
{
    (void)wrong_between_threads<Memory>(1024, 10'000);
    std::exit(0);
}

TEST(record_ring_death_test, is_reported_by_the_thread_sanitizer_when_an_order_is_weakened)
{
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const auto reported = testing::ExitedWithCode(66); // the sanitizer's own status
    EXPECT_EXIT(play_and_exit<no_release>(), reported, "data race");
    EXPECT_EXIT(play_and_exit<no_acquire>(), reported, "data race");
    EXPECT_EXIT(play_and_exit<hardware>(), testing::ExitedWithCode(0), "");
}
#endif

} // namespace
