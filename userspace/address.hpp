// SPDX-License-Identifier: BSD-2-Clause
//
// Host names and addresses as people write them, to and from sp_address. Asks the system's resolver
// and the interfaces of the calling thread's network namespace; may block, so it belongs to set-up
// only.
#pragma once

#include "sp/abi/address.h"
#include "sp/error.hpp"

#include <cstdint>
#include <string>

namespace sp {

// The first address of a name; "0.0.0.0" and "::" are every address. SP1011 when there is none.
[[nodiscard]] result<sp_address> resolve_host(const std::string &host);

[[nodiscard]] bool is_any(const sp_address &a) noexcept;
[[nodiscard]] bool is_loopback(const sp_address &a) noexcept;

// The interface of this host that has the address. SP1011 when none has it.
[[nodiscard]] result<std::string> interface_of(const sp_address &a);

// 198.18.0.2:7000, [fd00::2]:7000, or @name for a unix socket that the kernel named.
[[nodiscard]] std::string text_of(const sp_address &a, std::uint16_t port);

} // namespace sp
