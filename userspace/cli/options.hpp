// SPDX-License-Identifier: BSD-2-Clause
//
// `--set OPTION=VALUE`: the fields of sp::options by their names, with times as 100ms and sizes as
// 64KiB.
#pragma once

#include "sp/error.hpp"
#include "sp/options.hpp"

#include <span>
#include <string>

namespace sp::cli {

// SP2008 names the option that is unknown (and the nearest one) or the value that is not
// understood. Whether the role reads an option, open() decides. A text option is a view of its
// assignment.
[[nodiscard]] result<void> set_options(std::span<const std::string> assignments, options &out);

// --insecure, or SP_INSECURE set to anything but 0 or nothing.
[[nodiscard]] bool plaintext_allowed(bool flag) noexcept;

} // namespace sp::cli
