// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/protocol/push.hpp"

namespace sp::protocol {

std::optional<errc> push_machine::on_send(frame_id frame, std::size_t size, instant, effects &out)
{
    return out_.send({}, frame, size, out);
}

void push_machine::on_message(pipe_id pipe, frame_id frame, std::span<const std::byte>, instant,
                              effects &out)
{
    out.count(stat::socket_unexpected, pipe);
    out.release(frame);
    out.consumed(pipe);
}

} // namespace sp::protocol
