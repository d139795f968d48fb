// SPDX-License-Identifier: BSD-2-Clause
//
// How a message body is printed: byte for byte as nngcat prints it, so that scripts may change from
// one to the other, and `text` besides, for people. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sp::cli {

// text: as it is, and a newline unless it ends with one. ascii: what is not printable as '.', no
// newline. quoted: in quotes, with \n \t \r \" \\ and \x00, and a newline. hex: in quotes, every
// byte as \x00, and a newline. msgpack: a bin 8, 16 or 32. raw: the bytes. none prints nothing.
enum class body_format : std::uint8_t { text, none, ascii, quoted, hex, msgpack, raw };

// By the words text, no, ascii, quoted, hex, msgpack and raw.
[[nodiscard]] std::optional<body_format> parse_format(std::string_view word);

[[nodiscard]] std::string render(std::string_view body, body_format format);

// Two digits for each byte and nothing else, as JSON carries what is not text.
[[nodiscard]] std::string hex_digits(std::string_view body);

} // namespace sp::cli
