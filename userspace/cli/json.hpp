// SPDX-License-Identifier: BSD-2-Clause
//
// A JSON document as a plain tree that keeps the order of its members, and its text. The library that writes
// it is known to json.cpp only, because it is dear to compile. Bytes that are not UTF-8 are replaced, never
// refused.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace sp::cli::json
{

struct value;
struct member;
using array = std::vector<value>;
using object = std::vector<member>;

struct value {
    std::variant<std::nullptr_t, bool, std::int64_t, std::uint64_t, double, std::string, array, object> is;

    value() : is(nullptr) {}
    template <class T>
        requires std::same_as<T, bool>
    value(T b) : is(b) // NOLINT(google-explicit-constructor): members are written as {"name", anything}
    {
    }
    template <std::signed_integral T>
    value(T n) : is(std::int64_t{n}) // NOLINT(google-explicit-constructor)
    {
    }
    template <std::unsigned_integral T>
        requires(!std::same_as<T, bool>)
    value(T n) : is(std::uint64_t{n}) // NOLINT(google-explicit-constructor)
    {
    }
    value(double d) : is(d) {}                              // NOLINT(google-explicit-constructor)
    value(const char *text) : is(std::string(text)) {}      // NOLINT(google-explicit-constructor)
    value(std::string_view text) : is(std::string(text)) {} // NOLINT(google-explicit-constructor)
    value(std::string text) : is(std::move(text)) {}        // NOLINT(google-explicit-constructor)
    value(array items) : is(std::move(items)) {}            // NOLINT(google-explicit-constructor)
    value(object members) : is(std::move(members)) {}       // NOLINT(google-explicit-constructor)
};

struct member {
    std::string name;
    json::value value;
};

enum class layout : std::uint8_t { line, indented };

// Without a newline at its end.
[[nodiscard]] std::string text(const value &document, layout how);

} // namespace sp::cli::json
