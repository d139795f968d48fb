// SPDX-License-Identifier: BSD-2-Clause
//
// Where a verb's output goes. Bodies, rows and JSON go to stdout; status, warnings and errors to
// stderr, except that with --json an error is an object on stdout, so that a program reads one
// stream. Nothing here throws; a reader of stdout that has gone is reported by print().
#pragma once

#include "sp/error.hpp"
#include "userspace/cli/json.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace sp::cli {

enum class when : std::uint8_t { automatic, always, never };

// What every verb understands.
struct settings {
    bool json = false;
    bool pretty = false; // implies json
    bool quiet = false;
    int verbose = 0;
    when colour = when::automatic;
};

// Exit codes that no error carries; the rest stand in abi/errors.def.
inline constexpr int exit_done = 0, exit_failed = 1, exit_usage = 2, exit_nothing_there = 3,
                     exit_not_found = 6, exit_to_fix = 8, exit_partly = 10, exit_signal = 128;

enum class style : std::uint8_t { plain, good, bad, unsure, strong };

class console {
public:
    explicit console(const settings &how);

    [[nodiscard]] bool json() const noexcept { return how_.json; }
    [[nodiscard]] bool verbose() const noexcept { return how_.verbose > 0; }
    [[nodiscard]] bool to_terminal() const noexcept { return terminal_; }

    // Bytes to stdout, at once; false when nobody reads them any more.
    [[nodiscard]] bool print(std::string_view bytes);
    // {"schema": schema, "exit": exit, members...} as one line, or indented with --pretty. Returns
    // `exit`, or 1 when nobody reads.
    int object(std::string_view schema, int exit, json::object members = {});

    void status(std::string_view line); // to stderr, unless --quiet
    void detail(std::string_view line); // to stderr, with --verbose
    void warn(std::string_view line);   // to stderr, always

    // Says what, why and fix, or the JSON of them; returns the exit status.
    int fail(const error &e);
    int fail(const error &e, int exit);

    // `text` in that style where stdout is a terminal or colour was asked for.
    [[nodiscard]] std::string paint(style as, std::string_view text) const;

private:
    settings how_;
    bool terminal_;
    bool colour_;
};

// The status a shell expects of a program whose reader has gone.
[[nodiscard]] int exit_reader_gone() noexcept;

} // namespace sp::cli
