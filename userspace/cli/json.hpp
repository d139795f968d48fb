// SPDX-License-Identifier: BSD-2-Clause
//
// A JSON document as a plain tree that keeps the order of its members, and its text. The library
// that writes it is known to json.cpp only, because it is dear to compile. Bytes that are not UTF-8
// are replaced, never refused.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace sp::cli::json {

struct value;
struct member;
using array = std::vector<value>;
using object = std::vector<member>;

// Made from anything a member may be: {"name", 7}. The constructors are defined below, where a
// member is complete. NOLINTBEGIN(google-explicit-constructor)
struct value {
    std::variant<std::nullptr_t, bool, std::int64_t, std::uint64_t, double, std::string, array,
                 object>
        is;

    value();
    template <class T>
        requires std::same_as<T, bool>
    value(T b);
    template <std::signed_integral T>
    value(T n);
    template <std::unsigned_integral T>
        requires(!std::same_as<T, bool>)
    value(T n);
    value(double d);
    value(const char *text);
    value(std::string_view text);
    value(std::string text);
    value(array items);
    value(object members);
};
// NOLINTEND(google-explicit-constructor)

struct member {
    std::string name;
    json::value value;
};

inline value::value() : is(nullptr) {}
template <class T>
    requires std::same_as<T, bool>
value::value(T b) : is(b)
{
}
template <std::signed_integral T>
value::value(T n) : is(std::int64_t{n})
{
}
template <std::unsigned_integral T>
    requires(!std::same_as<T, bool>)
value::value(T n) : is(std::uint64_t{n})
{
}
inline value::value(double d) : is(d) {}
inline value::value(const char *text) : is(std::string(text)) {}
inline value::value(std::string_view text) : is(std::string(text)) {}
inline value::value(std::string text) : is(std::move(text)) {}
inline value::value(array items) : is(std::move(items)) {}
inline value::value(object members) : is(std::move(members)) {}

enum class layout : std::uint8_t { line, indented };

// Without a newline at its end.
[[nodiscard]] std::string text(const value &document, layout how);

} // namespace sp::cli::json
