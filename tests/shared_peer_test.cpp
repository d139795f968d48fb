// SPDX-License-Identifier: BSD-2-Clause
//
// Two halves of shared memory, introduced to each other in one process: messages of every size, a
// ring that is full, a credit, sleep and bells, the end.
#include "userspace/transport/shared_peer.hpp"
#include "userspace/transport/waiter.hpp"

#include <algorithm>
#include <array>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace sp::transport;
using bytes = std::vector<std::byte>;

constexpr std::size_t ring_bytes = 16 * 1024;

descriptor copy_of(int fd)
{
    return descriptor(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

bytes body_of(std::size_t n, unsigned salt = 0)
{
    bytes all(n);
    for (std::size_t i = 0; i < n; ++i)
        all[i] = static_cast<std::byte>((i * 7 + salt) & 0xff);
    return all;
}

struct side {
    side() : sleeper(*waiter::open()), half(*shared_peer::make(ring_bytes, sleeper)) {}

    // A whole message, in as many steps as it takes; false: it is not all in.
    [[nodiscard]] bool put(const bytes &body, const bytes &head = {})
    {
        from = half.put(head, body, from);
        if (from < head.size() + body.size())
            return false;
        from = 0;
        return true;
    }
    std::size_t take(std::size_t n = 1000)
    {
        return half.take(n, [&](const shared_part &p) {
            if (refuses)
                return false;
            EXPECT_EQ(p.first, building.empty() && !begun);
            if (p.first) {
                begun = true;
                total = p.last ? p.payload.size() : p.at;
            } else {
                EXPECT_EQ(p.at, building.size());
            }
            building.insert(building.end(), p.payload.begin(), p.payload.end());
            if (p.last) {
                EXPECT_EQ(building.size(), total);
                came.push_back(std::exchange(building, {}));
                begun = false;
            }
            return true;
        });
    }

    waiter sleeper;
    shared_peer half;
    std::size_t from = 0;
    bool refuses = false, begun = false;
    std::size_t total = 0;
    bytes building;
    std::vector<bytes> came;
};

class shared_peers : public ::testing::Test {
protected:
    void SetUp() override { begin(0, 0); }
    void begin(std::uint32_t credit_of_a, std::uint32_t credit_of_b)
    {
        a.emplace();
        b.emplace();
        a->half.allow(credit_of_a);
        b->half.allow(credit_of_b);
        ASSERT_TRUE(a->half.meet(copy_of(b->half.segment_fd()), copy_of(b->half.bell_fd())));
        ASSERT_TRUE(b->half.meet(copy_of(a->half.segment_fd()), copy_of(a->half.bell_fd())));
        a->half.begin(1, false);
        b->half.begin(2, false);
        (void)a->half.settle();
        (void)b->half.settle();
    }
    std::optional<side> a, b;
};

bool wakes(const waiter &w)
{
    pollfd p{.fd = w.fd(), .events = POLLIN, .revents = 0};
    return ::poll(&p, 1, 0) == 1;
}

TEST_F(shared_peers, carry_messages_of_every_size_both_ways)
{
    for (const std::size_t n : {0, 1, 40, 48, 49, 64, 1024, 2032, 2033, 5000, 16 * 1024, 100'000}) {
        for (auto [from, to] : {std::pair{&*a, &*b}, std::pair{&*b, &*a}}) {
            const auto body = body_of(n);
            while (!from->put(body))
                to->take();
            to->take();
            ASSERT_EQ(to->came.size(), 1u) << n;
            EXPECT_EQ(to->came.front(), body);
            to->came.clear();
        }
    }
}

TEST_F(shared_peers, put_head_and_body_behind_each_other)
{
    const auto head = body_of(9, 100), body = body_of(5000, 3);
    auto whole = head;
    whole.insert(whole.end(), body.begin(), body.end());
    ASSERT_TRUE(a->put(body, head));
    b->take();
    ASSERT_EQ(b->came.size(), 1u);
    EXPECT_EQ(b->came.front(), whole);
}

TEST_F(shared_peers, keep_order_and_lose_nothing_at_random)
{
    const auto seed = std::random_device()();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 chance(seed);
    std::vector<bytes> sent;
    std::optional<bytes> next;
    for (int i = 0; i < 20'000; ++i) {
        if (chance() % 2 == 0) {
            if (!next)
                next = body_of(chance() % 8 == 0 ? chance() % 40'000 : chance() % 300, i & 0xff);
            if (a->put(*next)) {
                sent.push_back(std::move(*next));
                next.reset();
            }
        } else {
            b->take(1 + chance() % 8);
        }
    }
    while (next && !a->put(*next))
        b->take();
    if (next)
        sent.push_back(*next);
    while (b->take() > 0)
        ;
    EXPECT_EQ(b->came, sent);
}

TEST_F(shared_peers, say_when_the_ring_is_full_and_go_on_when_it_is_read)
{
    const auto body = body_of(100);
    std::size_t n = 0;
    while (a->put(body))
        ++n;
    EXPECT_GE(n, ring_bytes / 128 - 2);
    EXPECT_FALSE(a->put(body));
    b->take(n); // the reader tells of an eighth of the ring at a time
    EXPECT_TRUE(a->put(body));
}

TEST_F(shared_peers, show_again_what_was_not_taken)
{
    ASSERT_TRUE(a->put(body_of(10)));
    ASSERT_TRUE(a->put(body_of(20)));
    b->refuses = true;
    EXPECT_EQ(b->take(), 0u);
    b->refuses = false;
    EXPECT_EQ(b->take(), 0u) << "it waits for resume()";
    b->half.resume();
    EXPECT_EQ(b->take(), 2u);
    EXPECT_EQ(b->came, (std::vector{body_of(10), body_of(20)}));
}

TEST_F(shared_peers, have_as_many_messages_on_the_way_as_were_allowed)
{
    begin(0, 3);
    for (int i = 0; i < 3; ++i)
        EXPECT_TRUE(a->put(body_of(10)));
    EXPECT_FALSE(a->put(body_of(10)));
    b->take();
    EXPECT_FALSE(a->put(body_of(10))) << "taken is not consumed";
    b->half.consumed();
    EXPECT_TRUE(a->put(body_of(10)));
    EXPECT_FALSE(a->put(body_of(10)));
}

TEST_F(shared_peers, are_woken_only_when_they_sleep)
{
    ASSERT_TRUE(a->put(body_of(10)));
    EXPECT_FALSE(a->half.settle()) << "it is awake";
    b->take();
    b->half.arm();
    EXPECT_FALSE(b->half.worth_waking());
    ASSERT_TRUE(a->put(body_of(10)));
    EXPECT_TRUE(b->half.worth_waking());
    ASSERT_TRUE(a->half.settle());
    EXPECT_FALSE(a->half.settle()) << "told already";
    EXPECT_FALSE(wakes(b->sleeper));
    EXPECT_TRUE(a->half.ring_bell());
    EXPECT_TRUE(wakes(b->sleeper));
    b->sleeper.forget();
    EXPECT_FALSE(wakes(b->sleeper));
    b->half.disarm();
    ASSERT_TRUE(a->put(body_of(10)));
    EXPECT_FALSE(a->half.settle());
}

TEST_F(shared_peers, are_woken_when_there_is_room_again)
{
    while (a->put(body_of(1000)))
        ;
    (void)a->half.settle();
    a->half.arm();
    EXPECT_FALSE(a->half.worth_waking());
    b->take();
    EXPECT_TRUE(a->half.worth_waking());
    ASSERT_TRUE(b->half.stirred());
    EXPECT_TRUE(b->half.settle());
}

TEST_F(shared_peers, are_woken_when_they_are_allowed_more)
{
    begin(0, 1);
    ASSERT_TRUE(a->put(body_of(10)));
    ASSERT_FALSE(a->put(body_of(10)));
    (void)a->half.settle();
    a->half.arm();
    EXPECT_FALSE(a->half.worth_waking());
    b->take();
    (void)b->half.settle();
    b->half.consumed();
    EXPECT_TRUE(a->half.worth_waking());
    EXPECT_TRUE(b->half.settle());
}

TEST_F(shared_peers, do_not_wake_who_takes_nothing)
{
    ASSERT_TRUE(a->put(body_of(10)));
    b->refuses = true;
    b->take();
    b->half.arm();
    EXPECT_FALSE(b->half.worth_waking());
    ASSERT_TRUE(a->put(body_of(10)));
    EXPECT_FALSE(a->half.settle());
}

TEST_F(shared_peers, leave_what_they_had_put_when_they_end)
{
    ASSERT_TRUE(a->put(body_of(10)));
    EXPECT_FALSE(b->half.ended());
    a.reset();
    EXPECT_TRUE(b->half.ended());
    EXPECT_TRUE(wakes(b->sleeper));
    EXPECT_EQ(b->take(), 1u);
    EXPECT_FALSE(b->half.fault());
}

TEST_F(shared_peers, take_no_other_descriptor_for_a_bell)
{
    side other;
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    const descriptor in(ends[0]);
    side third;
    ASSERT_TRUE(other.half.meet(copy_of(third.half.segment_fd()), descriptor(ends[1])));
    EXPECT_FALSE(other.half.has_bell());
}

} // namespace
