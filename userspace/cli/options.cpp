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
#include <optional>
#include <utility>
#include <variant>
#include <vector>

namespace sp::cli {
namespace {

using std::string_view;
using duration_field = std::optional<std::chrono::nanoseconds> options::*;
using size_field = std::optional<std::uint64_t> options::*;
using count_field = std::optional<std::uint32_t> options::*;
using number_field = std::optional<int> options::*;
using flag_field = std::optional<bool> options::*;
using full_field = std::optional<when_full> options::*;
using alone_field = std::optional<when_alone> options::*;
using list_field = std::vector<std::uint32_t> options::*;
using text_field = string_view options::*;
struct mode_field {
    count_field mode; // in octal
};

struct option_name {
    string_view name;
    std::variant<duration_field, size_field, count_field, number_field, flag_field, full_field,
                 alone_field, list_field, text_field, mode_field>
        field;
};

// In the order of sp::options.
constexpr std::array option_names{
    option_name{"name", &options::name},
    option_name{"message_max", &options::message_max},
    option_name{"send_queue_bytes", &options::send_queue_bytes},
    option_name{"send_queue_messages", &options::send_queue_messages},
    option_name{"recv_queue_bytes", &options::recv_queue_bytes},
    option_name{"recv_queue_messages", &options::recv_queue_messages},
    option_name{"on_send_full", &options::on_send_full},
    option_name{"on_recv_full", &options::on_recv_full},
    option_name{"on_no_peer", &options::on_no_peer},
    option_name{"resend_time", &options::resend_time},
    option_name{"request_deadline", &options::request_deadline},
    option_name{"survey_time", &options::survey_time},
    option_name{"linger", &options::linger},
    option_name{"send_timeout", &options::send_timeout},
    option_name{"recv_timeout", &options::recv_timeout},
    option_name{"ttl_max", &options::ttl_max},
    option_name{"dedupe_time", &options::dedupe_time},
    option_name{"reply_cache_bytes", &options::reply_cache_bytes},
    option_name{"one_answer_per_peer", &options::one_answer_per_peer},
    option_name{"end_when_all_answered", &options::end_when_all_answered},
    option_name{"pair_version", &options::pair_version},
    option_name{"connect_timeout", &options::connect_timeout},
    option_name{"reconnect_min", &options::reconnect_min},
    option_name{"reconnect_max", &options::reconnect_max},
    option_name{"hello_timeout", &options::hello_timeout},
    option_name{"half_open_max", &options::half_open_max},
    option_name{"keepalive_interval", &options::keepalive_interval},
    option_name{"peer_timeout", &options::peer_timeout},
    option_name{"credit_messages", &options::credit_messages},
    option_name{"pipes_max", &options::pipes_max},
    option_name{"stream_send_bytes", &options::stream_send_bytes},
    option_name{"tcp_nodelay", &options::tcp_nodelay},
    option_name{"tcp_keepalive", &options::tcp_keepalive},
    option_name{"tcp_user_timeout", &options::tcp_user_timeout},
    option_name{"ipc_mode", mode_field{&options::ipc_mode}},
    option_name{"allow_uid", &options::allow_uid},
    option_name{"allow_gid", &options::allow_gid},
    option_name{"listen_fd", &options::listen_fd},
};

template <class Number>
std::optional<Number> number_within(string_view word)
{
    const auto n = parse_count(word);
    return n && *n <= static_cast<std::uint64_t>(std::numeric_limits<Number>::max())
               ? std::optional(static_cast<Number>(*n))
               : std::nullopt;
}

// 1000,1001; nothing between two commas is a mistake.
std::optional<std::vector<std::uint32_t>> list_of(string_view words)
{
    std::vector<std::uint32_t> all;
    for (std::size_t at = 0; at <= words.size();) {
        const auto comma = std::min(words.find(',', at), words.size());
        const auto n = number_within<std::uint32_t>(words.substr(at, comma - at));
        if (!n)
            return std::nullopt;
        all.push_back(*n);
        at = comma + 1;
    }
    return all;
}

template <class Value, std::size_t Size>
std::optional<Value> one_of(string_view word,
                            const std::array<std::pair<string_view, Value>, Size> &known)
{
    const auto found = std::ranges::find(known, word, &std::pair<string_view, Value>::first);
    return found == known.end() ? std::nullopt : std::optional(found->second);
}

constexpr std::array flag_words{
    std::pair<string_view, bool>("true", true), std::pair<string_view, bool>("yes", true),
    std::pair<string_view, bool>("1", true),    std::pair<string_view, bool>("false", false),
    std::pair<string_view, bool>("no", false),  std::pair<string_view, bool>("0", false),
};
constexpr std::array full_words{
    std::pair<string_view, when_full>("drop_oldest", when_full::drop_oldest),
    std::pair<string_view, when_full>("drop_newest", when_full::drop_newest),
    std::pair<string_view, when_full>("block", when_full::block),
    std::pair<string_view, when_full>("disconnect", when_full::disconnect),
};
constexpr std::array alone_words{
    std::pair<string_view, when_alone>("wait", when_alone::wait),
    std::pair<string_view, when_alone>("fail", when_alone::fail),
    std::pair<string_view, when_alone>("drop", when_alone::drop),
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
        return store(f, number_within<std::uint32_t>(value), "a number");
    }
    string_view operator()(number_field f) const
    {
        return store(f, number_within<int>(value), "the number of a descriptor");
    }
    string_view operator()(flag_field f) const
    {
        return store(f, one_of(value, flag_words), "true or false");
    }
    string_view operator()(full_field f) const
    {
        return store(f, one_of(value, full_words), "drop_oldest, drop_newest, block or disconnect");
    }
    string_view operator()(alone_field f) const
    {
        return store(f, one_of(value, alone_words), "wait, fail or drop");
    }
    string_view operator()(list_field f) const
    {
        auto numbers = list_of(value);
        if (!numbers)
            return "numbers such as 1000,1001";
        out.*f = std::move(*numbers);
        return {};
    }
    string_view operator()(text_field f) const
    {
        out.*f = value;
        return {};
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
