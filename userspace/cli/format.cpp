// SPDX-License-Identifier: BSD-2-Clause
//
// See format.hpp.
#include "userspace/cli/format.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

namespace sp::cli {
namespace {

using std::string_view;

bool is_printable(char c)
{
    return c >= 0x20 && c < 0x7f;
}

void append_digits(std::string &text, char c)
{
    constexpr auto digits = string_view("0123456789abcdef");
    const auto byte = static_cast<unsigned char>(c);
    text += digits[byte >> 4];
    text += digits[byte & 15];
}

void append_escape(std::string &text, char c)
{
    text += "\\x";
    append_digits(text, c);
}

std::string ascii(string_view body)
{
    std::string text(body);
    std::ranges::replace_if(text, [](char c) { return !is_printable(c); }, '.');
    return text;
}

std::string quoted(string_view body)
{
    std::string text = "\"";
    for (const char c : body) {
        if (c == '"' || c == '\\')
            (text += '\\') += c;
        else if (is_printable(c))
            text += c;
        else if (c == '\n')
            text += "\\n";
        else if (c == '\t')
            text += "\\t";
        else if (c == '\r')
            text += "\\r";
        else
            append_escape(text, c);
    }
    return text += "\"\n";
}

std::string escaped(string_view body)
{
    std::string text = "\"";
    for (const char c : body)
        append_escape(text, c);
    return text += "\"\n";
}

// A type byte, then the length in 1, 2 or 4 bytes, the highest first.
std::string packed(string_view body)
{
    const int bytes = body.size() < 0x100 ? 1 : body.size() < 0x10000 ? 2 : 4;
    std::string text(1, static_cast<char>(bytes == 1 ? 0xc4 : bytes == 2 ? 0xc5 : 0xc6));
    for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
        text += static_cast<char>(body.size() >> shift & 0xff);
    return text += body;
}

} // namespace

std::optional<body_format> parse_format(string_view word)
{
    constexpr std::array<std::pair<string_view, body_format>, 7> known{
        {{"text", body_format::text},
         {"no", body_format::none},
         {"ascii", body_format::ascii},
         {"quoted", body_format::quoted},
         {"hex", body_format::hex},
         {"msgpack", body_format::msgpack},
         {"raw", body_format::raw}}};
    const auto found = std::ranges::find(known, word, &std::pair<string_view, body_format>::first);
    return found == known.end() ? std::nullopt : std::optional(found->second);
}

std::string render(string_view body, body_format format)
{
    switch (format) {
    case body_format::none:
        return {};
    case body_format::raw:
        return std::string(body);
    case body_format::text:
        return body.ends_with('\n') ? std::string(body) : std::string(body) += '\n';
    case body_format::ascii:
        return ascii(body);
    case body_format::quoted:
        return quoted(body);
    case body_format::hex:
        return escaped(body);
    case body_format::msgpack:
        return packed(body);
    }
    std::unreachable();
}

std::string hex_digits(string_view body)
{
    std::string text;
    for (const char c : body)
        append_digits(text, c);
    return text;
}

} // namespace sp::cli
