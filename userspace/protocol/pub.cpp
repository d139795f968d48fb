// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/protocol/pub.hpp"

namespace sp::protocol {

void pub_machine::on_message(pipe_id pipe, frame_id frame, std::span<const std::byte>, instant,
                             effects &out)
{
    out.count(stat::socket_unexpected, pipe);
    out.release(frame);
    out.close_pipe(pipe, stat::pipe_unexpected);
}

void pub_machine::on_send(frame_id frame, std::size_t size, instant, effects &out)
{
    sends_.send({.frame = frame, .size = size}, out);
}

} // namespace sp::protocol
