// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/protocol/inbox.hpp"
#include "userspace/marks.hpp"
#include "userspace/plants.hpp"

#include <utility>

namespace sp::protocol {

// ---- messages ----

arrival_id arrivals::begin(pipe_id pipe, frame_id frame, std::span<const std::byte> payload,
                           std::size_t header_bytes)
{
    if (unused_.empty()) {
        unused_.push_back(static_cast<std::uint32_t>(arrivals_.size()));
        arrivals_.emplace_back();
    }
    const auto slot = unused_.back();
    unused_.pop_back();
    arrivals_[slot] = {.frame = frame,
                       .pipe = pipe,
                       .payload = payload,
                       .header_bytes = header_bytes,
                       .places = 1,
                       .copies = 0,
                       .outside = 1};
    return static_cast<arrival_id>(slot);
}

void arrivals::end(arrival_id id, effects &out)
{
    const auto copies = at(id).copies;
    SP_INVARIANT(copies > 0);
    arrears_.count(stat::socket_copied_in, no_pipe, copies - 1);
    bring_inside(id);
    put_down(id);
    arrears_.pay(out);
}

void arrivals::refuse(pipe_id pipe, frame_id frame, stat why, effects &out)
{
    arrears_.count(why, pipe);
    arrears_.release(frame);
    arrears_.consumed(pipe);
    arrears_.pay(out);
}

void arrivals::bring_inside(arrival_id id)
{
    auto &a = at(id);
    SP_INVARIANT(a.outside > 0);
    if (a.outside > 1)
        SP_MARK(inbox_holds_credit);
    if (--a.outside == 0 && !SP_PLANTED(inbox_keeps_credit))
        arrears_.consumed(a.pipe);
}

void arrivals::put_down(arrival_id id)
{
    auto &a = at(id);
    SP_INVARIANT(a.places > 0);
    if (--a.places > 0)
        return;
    SP_INVARIANT(a.outside == 0);
    arrears_.release(a.frame);
    a = {};
    unused_.push_back(static_cast<std::uint32_t>(id));
}

taken arrivals::hand_over(arrival_id id, effects &out)
{
    auto &a = at(id);
    const taken t{.frame = a.frame, .pipe = a.pipe, .header_bytes = a.header_bytes};
    if (a.places > 1) {
        --a.places;
        out.retain(t.frame);
    } else {
        a = {};
        unused_.push_back(static_cast<std::uint32_t>(id));
    }
    return t;
}

// ---- queues ----

inbox::inbox(const queue_bounds &bounds, overflow on_full) : bounds_(bounds), on_full_(on_full)
{
    SP_INVARIANT(on_full != overflow::disconnect);
}

bool inbox::fits(std::size_t size) const noexcept
{
    return inside_ == 0 || bounds_.fits(inside_, charged_, size);
}

void inbox::add(arrival_id id, arrivals &from)
{
    auto &a = from.at(id);
    ++a.copies;
    const auto size = a.payload.size();
    if (on_full_ == overflow::drop_oldest)
        while (!fits(size)) {
            const auto oldest = queue_.pop_front();
            --inside_;
            drop(oldest, stat::socket_recv_full, false, from);
        }
    if (on_full_ == overflow::drop_newest && !fits(size))
        return SP_PLANTED(inbox_drop_uncounted)
                   ? void()
                   : from.arrears_.count(stat::socket_recv_full, a.pipe);
    ++a.places;
    ++a.outside;
    queue_.push_back(id);
    advance(from);
}

std::optional<taken> inbox::take(arrivals &from, effects &out)
{
    if (queue_.empty())
        return std::nullopt;
    SP_INVARIANT(inside_ > 0);
    const auto id = queue_.pop_front();
    --inside_;
    charged_ -= from[id].payload.size() + queue_bounds::charge;
    const auto t = from.hand_over(id, out);
    advance(from);
    from.pump(out);
    return t;
}

void inbox::drop_all(stat why, arrivals &from)
{
    keep_if([](auto) { return false; }, why, from);
}

// The message has left the queue, or is about to.
void inbox::drop(arrival_id id, stat why, bool outside, arrivals &from)
{
    if (outside)
        from.bring_inside(id);
    else
        charged_ -= from[id].payload.size() + queue_bounds::charge;
    from.arrears_.count(why, from[id].pipe);
    from.put_down(id);
}

// What waits behind the bounds moves in as there is room, oldest first.
void inbox::advance(arrivals &from)
{
    while (inside_ < queue_.size()) {
        const auto id = queue_[inside_];
        const auto size = from[id].payload.size();
        if (!fits(size))
            return;
        ++inside_;
        charged_ += size + queue_bounds::charge;
        from.bring_inside(id);
    }
}

} // namespace sp::protocol
