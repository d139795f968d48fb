// SPDX-License-Identifier: BSD-2-Clause
//
// Other programs, run by posix_spawn: what they read and what they wrote, without a shell in
// between unless the caller names one, and without a deadlock whatever the pipes hold.
#pragma once

#include "sp/error.hpp"

#include <cstddef>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace sp::cli {

struct command {
    std::vector<std::string> words;    // words[0] is looked up in PATH and the sbin directories
    std::string_view input = {};       // its stdin
    std::size_t output_max = 64 << 10; // bytes of its stdout
    bool errors_too = false;           // its stderr into the output; otherwise it writes to ours
};

struct outcome {
    int status = 0; // as a shell has it: 128 + n for a signal
    std::string output;
};

// Errors: not_found (no such program), message_too_large (more than output_max: the command is
// ended), canceled (stop was requested: the command and what it started are ended), io_error.
[[nodiscard]] result<outcome> run(const command &what, std::stop_token stop = {});

} // namespace sp::cli
