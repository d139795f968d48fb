// SPDX-License-Identifier: BSD-2-Clause
//
// The stack of words in front of requests and surveys, read word by word.
#include "userspace/protocol/backtrace.hpp"

#include <gtest/gtest.h>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace sp::protocol;
using verdict = backtrace::verdict;

backtrace read(const std::string &bytes, std::size_t words_max)
{
    return read_backtrace(std::as_bytes(std::span(bytes)), words_max);
}

const std::string hop("\x00\x01\x02\x03", 4), id("\x80\x00\x00\x07", 4);

std::string stack(std::size_t hops, const std::string &end)
{
    std::string s;
    while (hops-- > 0)
        s += hop;
    return s + end;
}

TEST(backtrace, ends_with_the_word_whose_top_bit_is_set)
{
    struct row {
        std::string payload;
        std::size_t words_max;
        verdict what;
        std::size_t bytes;
    };
    const std::vector<row> rows{
        {id, 8, verdict::whole, 4},
        {id + "body", 8, verdict::whole, 4},
        {id + id, 8, verdict::whole, 4}, // the second one is body
        {stack(7, id), 8, verdict::whole, 32},
        {stack(15, id), 16, verdict::whole, 64},
        {stack(7, id + "b"), 8, verdict::whole, 32},
    };
    for (const auto &r : rows) {
        const auto b = read(r.payload, r.words_max);
        EXPECT_EQ(b.what, r.what) << r.payload.size();
        EXPECT_EQ(b.bytes, r.bytes) << r.payload.size();
    }
}

TEST(backtrace, of_too_many_words_is_found_before_its_end_is_looked_for)
{
    EXPECT_EQ(read(stack(8, id), 8).what, verdict::too_many_words);
    EXPECT_EQ(read(stack(8, ""), 8).what, verdict::too_many_words); // all of it read, and no end
    EXPECT_EQ(read(stack(20, ""), 8).what, verdict::too_many_words);
    EXPECT_EQ(read(stack(8, "x"), 8).what, verdict::too_many_words);
    EXPECT_EQ(read(stack(3, id), 3).what, verdict::too_many_words);
    EXPECT_EQ(read(stack(2, id), 3).what, verdict::whole);
    EXPECT_EQ(read(stack(30, id), 16).what, verdict::too_many_words);
}

TEST(backtrace, that_stops_before_its_end_is_malformed)
{
    for (const auto &payload : {std::string(), std::string("\x80\x00\x00", 3), hop, stack(3, ""),
                                stack(7, "\x80"), stack(7, "")})
        EXPECT_EQ(read(payload, 8).what, verdict::malformed) << payload.size();
}

TEST(backtrace, words_are_big_endian)
{
    EXPECT_EQ(load_word(std::as_bytes(std::span(id))), 0x80000007u);
    std::array<std::byte, 4> bytes;
    store_word(bytes, 0x01020304);
    EXPECT_EQ(bytes[0], std::byte{1});
    EXPECT_EQ(bytes[3], std::byte{4});
    EXPECT_EQ(load_word(bytes), 0x01020304u);
}

// The rule once more, as simply as it can be said, against bytes of chance.
TEST(backtrace, of_chance_is_read_as_the_rule_says)
{
    const auto seed = std::random_device{}();
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    for (int i = 0; i < 20000; ++i) {
        std::string bytes(random() % 80, '\0');
        for (auto &b : bytes)
            b = static_cast<char>(random() % 256 & (random() % 8 == 0 ? 0xff : 0x7f));
        const std::size_t words_max = 1 + random() % 16;
        std::size_t end = 0; // words up to and with the first end, 0: none
        for (std::size_t w = 0; end == 0 && (w + 1) * 4 <= bytes.size(); ++w)
            if ((bytes[w * 4] & 0x80) != 0)
                end = w + 1;
        const auto b = read(bytes, words_max);
        if (end != 0 && end <= words_max)
            ASSERT_EQ(b.bytes, end * 4);
        else if (bytes.size() / 4 >= words_max)
            ASSERT_EQ(b.what, verdict::too_many_words);
        else
            ASSERT_EQ(b.what, verdict::malformed);
    }
}

} // namespace
