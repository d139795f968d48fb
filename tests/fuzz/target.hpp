// SPDX-License-Identifier: BSD-2-Clause
//
// What a fuzz target is: a function over bytes that asserts properties, under a name, with the
// marks that its corpus has to reach. The same function runs in two programs: alone under
// libFuzzer (fuzzer.cpp), and in the test program, which replays the committed corpus
// (replay_test.cpp). How a broken property ends is the program's business: broken() is theirs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <source_location>
#include <span>
#include <string_view>
#include <vector>

namespace sp::fuzz {

using bytes = std::span<const std::byte>;

// A place that inputs have to reach. A target whose marks are never reached checks nothing, however
// long it runs.
struct mark {
    std::string_view name;
    bool reached = false;

    void operator()() noexcept { reached = true; }
};

struct target {
    std::string_view name; // of the file, of its corpus and of its program
    void (*run)(bytes input);
    std::vector<mark *> marks;
};

[[nodiscard]] inline std::vector<target> &targets()
{
    static std::vector<target> all;
    return all;
}

// A static object of this type is how a file brings its target in.
struct registration {
    registration(std::string_view name, void (*run)(bytes), std::initializer_list<mark *> marks)
    {
        targets().push_back({name, run, marks});
    }
};

// Does not return.
[[noreturn]] void broken(std::string_view property, const std::source_location &where);

// A property in the words of a person; it says what holds, not what went wrong.
inline void must(bool holds, std::string_view property,
                 const std::source_location &where = std::source_location::current())
{
    if (!holds)
        broken(property, where);
}

// Takes values from the front of an input. Behind its end everything is 0, so that a short input
// is an input too.
class reader {
public:
    explicit reader(bytes input) noexcept : rest_(input) {}

    template <class T>
    [[nodiscard]] T take() noexcept
    {
        T value{};
        const auto n = std::min(sizeof value, rest_.size());
        if (n > 0)
            std::memcpy(&value, rest_.data(), n);
        rest_ = rest_.subspan(n);
        return value;
    }
    [[nodiscard]] std::uint8_t byte() noexcept { return take<std::uint8_t>(); }
    // In [0, n); `n` is not 0.
    [[nodiscard]] std::size_t below(std::size_t n) noexcept
    {
        return n <= 256 ? byte() % n : take<std::uint32_t>() % n;
    }
    [[nodiscard]] bytes take_bytes(std::size_t n) noexcept
    {
        const auto front = rest_.first(std::min(n, rest_.size()));
        rest_ = rest_.subspan(front.size());
        return front;
    }
    [[nodiscard]] bytes rest() const noexcept { return rest_; }
    [[nodiscard]] bool empty() const noexcept { return rest_.empty(); }

private:
    bytes rest_;
};

// A copy with nothing behind it, so that the address sanitizer sees the first byte read too far.
[[nodiscard]] inline std::vector<std::byte> exact(bytes input)
{
    return {input.begin(), input.end()};
}

} // namespace sp::fuzz
