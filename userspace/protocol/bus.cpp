// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/protocol/bus.hpp"

namespace sp::protocol {

void bus_machine::on_message(pipe_id pipe, frame_id frame, std::span<const std::byte> payload,
                             instant, effects &out)
{
    const auto id = arrivals_.begin(pipe, frame, payload);
    queue_.add(id, arrivals_);
    arrivals_.end(id, out);
}

void bus_machine::on_send(frame_id frame, std::size_t size, instant, effects &out)
{
    sends_.send({.frame = frame, .size = size}, out);
}

void bus_machine::pump(instant, effects &out)
{
    sends_.pump(out);
    arrivals_.pump(out);
}

std::size_t bus_machine::close(effects &out)
{
    queue_.drop_all(stat::socket_unread, arrivals_);
    arrivals_.pump(out);
    return sends_.drop_all(stat::socket_closed, out);
}

} // namespace sp::protocol
