// SPDX-License-Identifier: BSD-2-Clause
//
// The fuzzer fuzzed: a target with a fault behind four conditions, which `make fuzz` must find.
// When it does not, coverage guidance is off and the other targets' silence means little.
#include "tests/fuzz/target.hpp"

namespace sp::fuzz {
namespace {

void run(bytes input)
{
    constexpr std::string_view word = "oops";
    std::size_t right = 0;
    for (; right < word.size() && right < input.size(); ++right)
        if (std::to_integer<char>(input[right]) != word[right])
            return;
    must(right < word.size(), "nobody finds the fault that was planted");
}

const registration here("planted", run, {});

} // namespace
} // namespace sp::fuzz
