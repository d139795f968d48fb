// SPDX-License-Identifier: BSD-2-Clause
//
// What the kernel refused, as entries of the error catalogue: the number, what was tried, why in
// the kernel's own words, and the command that helps. `code` is a positive errno.
#pragma once

#include "sp/error.hpp"
#include "userspace/xdp/device.hpp"

#include <string>
#include <string_view>

namespace sp::xdp {

// Loading failed; `words` is what libbpf printed, which ends with the verifier's log if there is
// one. A refusal by the verifier is our fault: the log goes to a file and the error names it.
[[nodiscard]] error load_fault(int code, std::string_view words);

// Attaching to `where` in this mode failed; `kernel_message` may be empty.
[[nodiscard]] error attach_fault(int code, const device &where, mode how,
                                 std::string_view kernel_message);

// An XDP program that this call may not replace is on the interface. `kernel_message` may be empty.
[[nodiscard]] error occupied_fault(const device &where, std::string_view kernel_message);

// A pin below `path` could not be made, opened or removed.
[[nodiscard]] error pin_fault(int code, std::string_view doing, std::string_view path);

// "CAP_BPF CAP_NET_ADMIN", those of the two that the calling thread lacks; empty when it has both.
[[nodiscard]] std::string missing_capabilities();

// True for a release as uname() gives it ("5.10.0-8-amd64") that is older than sp needs.
[[nodiscard]] bool too_old(std::string_view release) noexcept;

} // namespace sp::xdp
