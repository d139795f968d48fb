// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/protocol/pull.hpp"

namespace sp::protocol {

void pull_machine::on_message(pipe_id pipe, frame_id frame, std::span<const std::byte> payload,
                              instant, effects &out)
{
    in_.put({.frame = frame, .pipe = pipe, .header_bytes = 0}, payload.size(), out);
}

std::size_t pull_machine::close(effects &out)
{
    in_.drop_all(out);
    return 0;
}

} // namespace sp::protocol
