// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/quick_lock.hpp"

#include <gtest/gtest.h>
#include <mutex>
#include <thread>
#include <vector>

namespace {

using sp::detail::quick_lock;

TEST(quick_lock, lets_one_in_at_a_time)
{
    quick_lock lock;
    long inside = 0, turns = 0; // guarded by it
    constexpr int threads = 4, each = 50'000;
    {
        std::vector<std::jthread> all;
        for (int t = 0; t < threads; ++t)
            all.emplace_back([&] {
                for (int i = 0; i < each; ++i) {
                    const std::lock_guard held(lock);
                    EXPECT_EQ(++inside, 1);
                    ++turns;
                    --inside;
                }
            });
    }
    EXPECT_EQ(turns, long{threads} * each);
}

TEST(quick_lock, is_not_taken_twice)
{
    quick_lock lock;
    ASSERT_TRUE(lock.try_lock());
    EXPECT_FALSE(lock.try_lock());
    lock.unlock();
    EXPECT_TRUE(lock.try_lock());
    lock.unlock();
}

TEST(quick_lock, wakes_who_waits_for_it)
{
    quick_lock lock;
    lock.lock();
    std::atomic<bool> got = false;
    std::jthread waiter([&] {
        const std::lock_guard held(lock);
        got = true;
        got.notify_one();
    });
    EXPECT_FALSE(got);
    lock.unlock();
    got.wait(false);
}

} // namespace
