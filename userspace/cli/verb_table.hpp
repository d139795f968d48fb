// SPDX-License-Identifier: BSD-2-Clause
//
// The verbs of messages, one row each: how they connect, what they do, and what help says of them.
// main.cpp makes the flags from it, station.cpp the socket, messages.cpp the conversation.
#pragma once

#include "userspace/cli/verbs.hpp"

#include <span>
#include <string_view>

namespace sp::cli {

// ask: sends and prints the answers. answer: prints and answers. both: sends and receives, each at
// its own pace.
enum class conduct : std::uint8_t { send, receive, both, ask, answer };

struct verb_row {
    message_verb verb;
    std::string_view name;
    message_arguments::direction way; // of its URL, unless --listen or --dial says otherwise
    conduct does;
    std::string_view what;     // one line
    std::string_view words;    // after the URL; empty: none
    std::string_view of_words; // what they are
    std::string_view examples;
};

[[nodiscard]] std::span<const verb_row> verb_table() noexcept;
[[nodiscard]] const verb_row &row_of(message_verb verb) noexcept;

[[nodiscard]] constexpr bool sends(conduct does) noexcept
{
    return does == conduct::send || does == conduct::both || does == conduct::ask;
}
[[nodiscard]] constexpr bool receives(conduct does) noexcept
{
    return does == conduct::receive || does == conduct::both;
}

} // namespace sp::cli
