// SPDX-License-Identifier: BSD-2-Clause
//
// Messages of many sizes whose contents their number tells: what is lost, doubled, out of order or
// damaged shows at once, and is said in words.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <string>
#include <string_view>

namespace sp::test {

inline std::string numbered_body(std::uint64_t number, std::size_t size_max = 40'000)
{
    static constexpr std::size_t sizes[] = {8, 100, 64, 1400, 8, 5000, 700, 8, 40'000, 1};
    const auto size = std::min(sizes[number % std::size(sizes)], size_max);
    std::string text(std::max(sizeof number, size), '\0');
    for (std::size_t i = 0; i < text.size(); ++i)
        text[i] = static_cast<char>(number * 31 + i * 7);
    std::memcpy(text.data(), &number, sizeof number);
    return text;
}

// "", or what is wrong with it.
inline std::string complaint_of(std::string_view got, std::uint64_t due,
                                std::size_t size_max = 40'000)
{
    std::uint64_t number = 0;
    if (got.size() < sizeof number)
        return "a message without a number";
    std::memcpy(&number, got.data(), sizeof number);
    if (number != due)
        return "number " + std::to_string(number) + " where " + std::to_string(due) + " was due";
    return got == numbered_body(due, size_max) ? ""
                                               : "number " + std::to_string(due) + " is damaged";
}

} // namespace sp::test
