// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/protocol/fanout.hpp"
#include "userspace/plants.hpp"

#include <algorithm>
#include <utility>

namespace sp::protocol {

// ---- pipes ----

void fanout::add(const pipe_profile &pipe)
{
    pipes_.add({.id = pipe.id,
                .capacity = pipe.capacity,
                .together = std::min(pipe.together, pipe.capacity)});
}

void fanout::remove(pipe_id id)
{
    auto *pipe = pipes_.find(id);
    if (!pipe) {
        aboard_.remove(id);
        return limit_publishing();
    }
    drop_queue(*pipe, stat::socket_pipe_closed);
    pipes_.remove(id);
}

void fanout::ready(pipe_id id, effects &out)
{
    auto *pipe = pipes_.find(id);
    if (!pipe)
        return;
    pipe->ready = true;
    if ((!pipe->queue.empty() || may_board(*pipe)) && !pipe->scheduled) {
        pipe->scheduled = true;
        work_.push_back(id);
    }
    pump(out);
}

// ---- one message ----

fanout::message_id fanout::begin(const outgoing &m)
{
    SP_INVARIANT(m.header.size() <= header_bytes_max);
    if (unused_.empty()) {
        unused_.push_back(static_cast<std::uint32_t>(messages_.size()));
        messages_.emplace_back();
    }
    const auto slot = unused_.back();
    unused_.pop_back();
    messages_[slot] = {.frame = m.frame,
                       .places = 1,
                       .copies = 0,
                       .size = m.header.size() + m.size,
                       .header_bytes = static_cast<std::uint8_t>(m.header.size())};
    if (!m.header.empty()) {
        if (slot >= headers_.size())
            headers_.resize(messages_.size());
        std::ranges::copy(m.header, headers_[slot].begin());
    }
    return static_cast<message_id>(slot);
}

fate fanout::offer(message_id message, pipe_id id, effects &out)
{
    auto *pipe = pipes_.find(id);
    return pipe ? offer(static_cast<std::uint32_t>(message), *pipe, out) : fate::gone;
}

void fanout::end(message_id id, effects &out)
{
    const auto slot = static_cast<std::uint32_t>(id);
    const auto copies = messages_[slot].copies;
    if (copies == 0)
        arrears_.count(stat::socket_no_peer);
    else
        arrears_.count(stat::socket_copied_out, no_pipe, copies - 1);
    put_down(slot);
    pump(out);
}

void fanout::send_to_others(pipe_id except, const outgoing &m, effects &out)
{
    const auto id = begin(m);
    if (!aboard_.empty())
        publish(static_cast<std::uint32_t>(id), except, out);
    for (auto &pipe : pipes_)
        if (pipe.id != except || SP_PLANTED(bus_echoes))
            offer(static_cast<std::uint32_t>(id), pipe, out);
    end(id, out);
}

fate fanout::send_to(pipe_id id, const outgoing &m, effects &out)
{
    auto *pipe = pipes_.find(id);
    if (!pipe || pipe->closing)
        return fate::gone;
    const auto message = begin(m);
    const auto what = offer(static_cast<std::uint32_t>(message), *pipe, out);
    end(message, out);
    return what;
}

// A ready pipe takes one message beyond its queue's bounds: the one that goes out.
bool fanout::fits(const pipe_state &pipe, std::size_t size) const noexcept
{
    return (pipe.ready && pipe.queue.empty()) ||
           bounds_.fits(pipe.queue.size(), pipe.charged, size);
}

fate fanout::offer(std::uint32_t slot, pipe_state &pipe, effects &out)
{
    if (pipe.closing)
        return fate::gone;
    auto &m = messages_[slot];
    ++m.copies;
    if (SP_PLANTED(fanout_skips_a_pipe) && m.copies == 2)
        return fate::gone;
    if (m.size > pipe.capacity) {
        arrears_.count(stat::socket_peer_limit, pipe.id);
        return fate::too_large;
    }
    if (!fits(pipe, m.size))
        return overflow_of(slot, pipe);
    if (!pipe.ready || !pipe.queue.empty()) {
        enqueue(slot, pipe);
        return fate::queued;
    }
    if (out.left() > 0) {
        transmit(slot, pipe, out);
        return fate::sent;
    }
    enqueue(slot, pipe);
    pipe.scheduled = true;
    work_.push_back(pipe.id);
    return fate::sent;
}

fate fanout::overflow_of(std::uint32_t slot, pipe_state &pipe)
{
    const auto size = messages_[slot].size;
    switch (on_full_) {
    case overflow::drop_oldest:
        while (!pipe.queue.empty() && !fits(pipe, size)) {
            put_down(dequeue(pipe));
            arrears_.count(stat::socket_send_full, pipe.id);
        }
        if (fits(pipe, size)) {
            enqueue(slot, pipe);
            return fate::queued;
        }
        break; // there is no queue at all
    case overflow::disconnect:
        drop_queue(pipe, stat::socket_pipe_closed);
        pipe.closing = true;
        pipe.ready = false;
        arrears_.close_pipe(pipe.id, stat::pipe_slow_peer);
        break;
    case overflow::drop_newest:
    case overflow::block:
        break;
    }
    arrears_.count(stat::socket_send_full, pipe.id);
    return fate::full;
}

bool fanout::accepts(pipe_id id, std::size_t size) const noexcept
{
    const auto *pipe = pipes_.find(id);
    return pipe && !pipe->closing && (size > pipe->capacity || fits(*pipe, size));
}

bool fanout::all_accept(std::size_t size) const noexcept
{
    return std::ranges::all_of(pipes_, [&](const pipe_state &pipe) {
        return pipe.closing || size > pipe.capacity || fits(pipe, size);
    });
}

// ---- queues ----

void fanout::enqueue(std::uint32_t slot, pipe_state &pipe)
{
    auto &m = messages_[slot];
    ++m.places;
    pipe.queue.push_back(slot);
    pipe.charged += m.size + queue_bounds::charge;
    ++queued_;
}

// The place in the queue becomes the caller's, who puts it down.
std::uint32_t fanout::dequeue(pipe_state &pipe)
{
    const auto slot = pipe.queue.pop_front();
    pipe.charged -= messages_[slot].size + queue_bounds::charge;
    --queued_;
    return slot;
}

void fanout::transmit(std::uint32_t slot, pipe_state &pipe, effects &out)
{
    const auto &m = messages_[slot];
    const auto header = m.header_bytes == 0 ? std::span<const std::byte>{}
                                            : std::span(headers_[slot]).first(m.header_bytes);
    pipe.ready = false;
    out.send(pipe.id, header, m.frame);
}

std::size_t fanout::drop_queue(pipe_state &pipe, stat why)
{
    const auto dropped = pipe.queue.size();
    while (!pipe.queue.empty())
        put_down(dequeue(pipe));
    arrears_.count(why, pipe.id, dropped);
    return dropped;
}

void fanout::put_down(std::uint32_t slot)
{
    auto &m = messages_[slot];
    SP_INVARIANT(m.places > 0);
    if (--m.places > 0)
        return;
    arrears_.release(m.frame);
    m.frame = no_frame;
    unused_.push_back(slot);
}

void fanout::pump(effects &out)
{
    while (!work_.empty() && out.left() > 0) {
        auto *pipe = pipes_.find(work_.back());
        work_.pop_back();
        if (!pipe)
            continue;
        pipe->scheduled = false;
        if (may_board(*pipe))
            board(*pipe, out);
        else if (pipe->ready && !pipe->queue.empty())
            send_next(*pipe, out);
    }
    arrears_.pay(out);
}

void fanout::send_next(pipe_state &pipe, effects &out)
{
    const auto slot = dequeue(pipe);
    transmit(slot, pipe, out);
    put_down(slot);
}

// ---- together ----

bool fanout::may_board(const pipe_state &pipe) noexcept
{
    return pipe.together > 0 && pipe.ready && pipe.queue.empty() && !pipe.closing;
}

void fanout::board(pipe_state &pipe, effects &out)
{
    const auto id = pipe.id;
    out.board(id);
    aboard_.add(std::move(pipe));
    pipes_.remove(id);
    limit_publishing();
}

void fanout::publish(std::uint32_t slot, pipe_id except, effects &out)
{
    auto &m = messages_[slot];
    if (except == no_pipe && m.header_bytes == 0 && m.size <= together_) {
        m.copies += static_cast<std::uint32_t>(aboard_.size());
        out.publish(m.frame);
        return;
    }
    out.part();
    while (!aboard_.empty()) {
        auto &last = aboard_[aboard_.size() - 1];
        const auto id = last.id;
        pipes_.add(std::move(last));
        aboard_.remove(id);
    }
}

void fanout::limit_publishing() noexcept
{
    together_ = ~std::size_t{0};
    for (const auto &pipe : aboard_)
        together_ = std::min(together_, pipe.together);
}

std::size_t fanout::drop_all(stat why, effects &out)
{
    std::size_t dropped = 0;
    for (auto &pipe : pipes_)
        dropped += drop_queue(pipe, why);
    pump(out);
    return dropped;
}

} // namespace sp::protocol
