// SPDX-License-Identifier: BSD-2-Clause
//
// Answers to strangers: packets that are made without remembering anything of the one who asked.
// None is longer than what it answers, so that nobody can be flooded through us.
#pragma once

#include "sp/abi/wire.h"
#include "userspace/link/cookie.hpp"

#include <cstdint>
#include <span>
#include <string_view>

namespace sp::link {

// `question` is the packet that is answered; ports and ids come from it.
[[nodiscard]] sp_cookie make_cookie(const sp_probe &question, std::uint16_t length,
                                    std::uint32_t epoch, const cookie &value) noexcept;

// `protocol`: what the refuser speaks, 0 when nobody listens. The text is cut to its 64 bytes.
[[nodiscard]] sp_refuse make_refuse(const sp_header &question, std::uint64_t scid, sp_reason why,
                                    std::uint16_t protocol, std::string_view text) noexcept;

[[nodiscard]] sp_reset make_reset(const sp_header &question) noexcept;

// A reason as it came. One that this version does not know is none: no value of the type may lie
// beyond its names.
[[nodiscard]] sp_reason reason_of(std::uint16_t wire) noexcept;

// A reason in words, for REFUSE and for messages.
[[nodiscard]] std::string_view describe(sp_reason why) noexcept;

} // namespace sp::link
