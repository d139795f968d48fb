// SPDX-License-Identifier: BSD-2-Clause
//
// See options.hpp.
#include "userspace/cli/options.hpp"

#include "userspace/cli/text.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <fmt/format.h>
#include <limits>
#include <variant>

namespace sp::cli {
namespace {

using std::string_view;
using duration_field = std::optional<std::chrono::nanoseconds> options::*;
using size_field = std::optional<std::uint64_t> options::*;
using count_field = std::optional<std::uint32_t> options::*;
using alone_field = std::optional<when_alone> options::*;
struct mode_field {
    count_field mode; // in octal
};

struct option_name {
    string_view name;
    std::variant<duration_field, size_field, count_field, alone_field, mode_field> field;
};

constexpr std::array option_names{
    option_name{"message_max", &options::message_max},
    option_name{"on_no_peer", &options::on_no_peer},
    option_name{"resend_time", &options::resend_time},
    option_name{"request_deadline", &options::request_deadline},
    option_name{"linger", &options::linger},
    option_name{"ttl_max", &options::ttl_max},
    option_name{"dedupe_time", &options::dedupe_time},
    option_name{"reply_cache_bytes", &options::reply_cache_bytes},
    option_name{"connect_timeout", &options::connect_timeout},
    option_name{"reconnect_min", &options::reconnect_min},
    option_name{"reconnect_max", &options::reconnect_max},
    option_name{"keepalive_interval", &options::keepalive_interval},
    option_name{"peer_timeout", &options::peer_timeout},
    option_name{"pipes_max", &options::pipes_max},
    option_name{"ipc_mode", mode_field{&options::ipc_mode}},
};

// Each assigns what it understands and otherwise says what it expects; an empty text is success.
struct assign {
    options &out;
    string_view value;

    template <class Field, class Parsed>
    [[nodiscard]] string_view store(Field field, const Parsed &parsed, string_view expected) const
    {
        if (!parsed)
            return expected;
        out.*field = parsed;
        return {};
    }
    string_view operator()(duration_field f) const
    {
        return store(f, parse_duration(value), "a time such as 100ms, 2s, 1h");
    }
    string_view operator()(size_field f) const
    {
        return store(f, parse_size(value), "a size such as 4096, 64KiB, 1MiB");
    }
    string_view operator()(count_field f) const
    {
        const auto n = parse_count(value);
        const bool fits = n && *n <= std::numeric_limits<std::uint32_t>::max();
        return store(f, fits ? std::optional(static_cast<std::uint32_t>(*n)) : std::nullopt,
                     "a number");
    }
    string_view operator()(alone_field f) const
    {
        return store(f,
                     value == "wait"   ? std::optional(when_alone::wait)
                     : value == "fail" ? std::optional(when_alone::fail)
                                       : std::nullopt,
                     "wait or fail");
    }
    string_view operator()(mode_field f) const
    {
        std::uint32_t mode = 0;
        const auto *end = value.data() + value.size();
        const auto [rest, bad] = std::from_chars(value.data(), end, mode, 8);
        const bool fits = bad == std::errc{} && rest == end && mode <= 0777;
        return store(f.mode, fits ? std::optional(mode) : std::nullopt,
                     "an octal mode such as 0600");
    }
};

error unknown_option(string_view name)
{
    std::array<string_view, option_names.size()> names;
    std::ranges::transform(option_names, names.begin(), &option_name::name);
    const auto meant = nearest(name, names);
    return error::numbered(2008, fmt::format("unknown option \"{}\"", name),
                           fmt::format("known: {}", fmt::join(names, " ")),
                           meant.empty() ? "--set OPTION=VALUE"
                                         : fmt::format("did you mean {}?", meant));
}

} // namespace

result<void> set_options(std::span<const std::string> assignments, options &out)
{
    for (const string_view text : assignments) {
        const auto equals = text.find('=');
        if (equals == text.npos)
            return std::unexpected(error::numbered(2008, fmt::format("\"{}\" has no value", text),
                                                   "", "--set OPTION=VALUE"));
        const auto name = text.substr(0, equals), value = text.substr(equals + 1);
        const auto found = std::ranges::find(option_names, name, &option_name::name);
        if (found == option_names.end())
            return std::unexpected(unknown_option(name));
        const auto expected = std::visit(assign{out, value}, found->field);
        if (!expected.empty())
            return std::unexpected(
                error::numbered(2008, fmt::format("{}: \"{}\" is not understood", name, value),
                                fmt::format("it takes {}", expected)));
    }
    return {};
}

bool plaintext_allowed(bool flag) noexcept
{
    const char *word = std::getenv("SP_INSECURE");
    return flag || (word && *word && string_view(word) != "0");
}

} // namespace sp::cli
