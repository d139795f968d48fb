// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/protocol/fair_inbox.hpp"

#include <algorithm>

namespace sp::protocol {

fair_inbox::fair_inbox(const queue_bounds &bounds, overflow on_full, order by)
    : bounds_(bounds), on_full_(on_full), by_(on_full == overflow::block ? by : order::of_arrival)
{
    SP_INVARIANT(on_full != overflow::disconnect);
    if (by_ == order::of_arrival)
        lanes_.emplace_back(); // everybody's
}

// ---- pipes ----

std::uint32_t fair_inbox::make_lane()
{
    if (by_ == order::of_arrival)
        return 0;
    if (unused_lanes_.empty()) {
        unused_lanes_.push_back(static_cast<std::uint32_t>(lanes_.size()));
        lanes_.emplace_back();
    }
    const auto slot = unused_lanes_.back();
    unused_lanes_.pop_back();
    lanes_[slot] = {};
    return slot;
}

void fair_inbox::add(pipe_id pipe)
{
    pipes_.add({.id = pipe, .lane = make_lane()});
}

void fair_inbox::remove(pipe_id id)
{
    const auto *pipe = pipes_.find(id);
    if (!pipe)
        return;
    if (by_ == order::in_turn) {
        auto &l = lanes_[pipe->lane];
        l.gone = true;
        stop_waiting_outside(pipe->lane);
        if (l.first == none)
            unused_lanes_.push_back(pipe->lane);
    }
    pipes_.remove(id);
}

// ---- lanes ----

void fair_inbox::append(std::uint32_t slot, const message &m)
{
    if (unused_messages_.empty()) {
        unused_messages_.push_back(static_cast<std::uint32_t>(messages_.size()));
        messages_.emplace_back();
    }
    const auto i = unused_messages_.back();
    unused_messages_.pop_back();
    messages_[i] = m;
    auto &l = lanes_[slot];
    if (l.first == none)
        turn_.push_back(slot);
    (l.first == none ? l.first : messages_[l.last].next) = i;
    l.last = i;
    ++size_;
    if (m.inside) {
        ++inside_;
        charged_ += m.size + queue_bounds::charge;
    } else if (l.outside == none) {
        l.outside = i;
        outside_.push_back(slot);
    }
}

// The oldest of a lane. Its place in the turn is the caller's business.
fair_inbox::message fair_inbox::pop(std::uint32_t slot)
{
    auto &l = lanes_[slot];
    const auto i = l.first;
    const auto m = messages_[i];
    unused_messages_.push_back(i);
    l.first = m.next;
    --size_;
    if (m.inside) {
        --inside_;
        charged_ -= m.size + queue_bounds::charge;
    } else if (l.outside == i) {
        l.outside = m.next;
        if (m.next == none)
            stop_waiting_outside(slot);
    }
    return m;
}

void fair_inbox::stop_waiting_outside(std::uint32_t slot)
{
    lanes_[slot].outside = none;
    for (auto n = outside_.size(); n > 0; --n)
        if (const auto other = outside_.pop_front(); other != slot)
            outside_.push_back(other);
}

bool fair_inbox::fits(std::size_t size) const noexcept
{
    if (on_full_ != overflow::block && inside_ == 0)
        return true; // without bytes there is still the one that is read ahead
    return bounds_.fits(inside_, charged_, size);
}

// One message of each pipe in turn.
void fair_inbox::bring_inside(effects &out)
{
    while (!outside_.empty() && out.left() > 0) {
        const auto slot = outside_.front();
        auto &l = lanes_[slot];
        auto &m = messages_[l.outside];
        if (!fits(m.size))
            return;
        m.inside = true;
        ++inside_;
        charged_ += m.size + queue_bounds::charge;
        out.consumed(m.what.pipe);
        outside_.pop_front();
        l.outside = m.next;
        if (l.outside != none)
            outside_.push_back(slot);
    }
}

// ---- messages ----

void fair_inbox::put(const taken &what, std::size_t size, effects &out)
{
    const auto *pipe = pipes_.find(what.pipe);
    SP_INVARIANT(pipe);
    if (on_full_ == overflow::drop_newest && !fits(size))
        return refuse(what.pipe, what.frame, stat::socket_recv_full, out);
    while (on_full_ == overflow::drop_oldest && !fits(size)) {
        const auto oldest = pop(0);
        if (lanes_[0].first == none)
            turn_.pop_front();
        arrears_.count(stat::socket_recv_full, oldest.what.pipe);
        arrears_.release(oldest.what.frame);
    }
    const bool drops = on_full_ != overflow::block;
    append(pipe->lane, {.what = what, .size = size, .inside = drops});
    if (drops)
        arrears_.consumed(what.pipe);
    pump(out);
}

void fair_inbox::refuse(pipe_id pipe, frame_id frame, stat why, effects &out)
{
    arrears_.count(why, pipe);
    arrears_.release(frame);
    arrears_.consumed(pipe);
    arrears_.pay(out);
}

std::optional<taken> fair_inbox::take(effects &out)
{
    if (turn_.empty())
        return std::nullopt;
    const auto slot = turn_.pop_front();
    const auto m = pop(slot);
    auto &l = lanes_[slot];
    if (!m.inside && !l.gone)
        arrears_.consumed(m.what.pipe);
    if (l.first != none)
        turn_.push_back(slot);
    else if (l.gone)
        unused_lanes_.push_back(slot);
    pump(out);
    return m.what;
}

void fair_inbox::pump(effects &out)
{
    arrears_.pay(out);
    bring_inside(out);
}

void fair_inbox::drop_all(effects &out)
{
    arrears_.pay(out);
    while (!turn_.empty() && out.left() >= 2) {
        const auto slot = turn_.front();
        const auto m = pop(slot);
        out.count(stat::socket_unread, m.what.pipe);
        out.release(m.what.frame);
        if (lanes_[slot].first != none)
            continue;
        turn_.pop_front();
        if (lanes_[slot].gone)
            unused_lanes_.push_back(slot);
    }
}

} // namespace sp::protocol
