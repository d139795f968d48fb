// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/protocol/distributor.hpp"
#include "userspace/marks.hpp"
#include "userspace/plants.hpp"

#include <algorithm>

namespace sp::protocol {
namespace {

// Nearly always the first.
template <class Item>
void erase_at(fifo<Item> &items, std::size_t i) noexcept
{
    for (; i > 0; --i)
        items[i] = items[i - 1];
    items.pop_front();
}

} // namespace

distributor::distributor(const queue_bounds &bounds, overflow on_full, alone on_no_peer)
    : bounds_(bounds), on_full_(on_full), on_no_peer_(on_no_peer)
{
    SP_INVARIANT(on_full != overflow::disconnect);
}

// ---- pipes ----

void distributor::add(const pipe_profile &pipe)
{
    pipes_.add({.id = pipe.id, .capacity = pipe.capacity});
    largest_ = std::max(largest_, pipe.capacity);
}

void distributor::remove(pipe_id id)
{
    const auto *pipe = pipes_.find(id);
    if (!pipe)
        return;
    for (std::size_t i = 0; pipe->ready && i < ready_.size(); ++i)
        if (ready_[i] == id) {
            erase_at(ready_, i);
            break;
        }
    pipes_.remove(id);
    largest_ = 0;
    for (const auto &other : pipes_)
        largest_ = std::max(largest_, other.capacity);
}

void distributor::ready(pipe_id id, effects &out)
{
    auto *pipe = pipes_.find(id);
    if (!pipe || pipe->ready)
        return;
    pipe->ready = true;
    ready_.push_back(id);
    passed_ = 0;
    pump(out);
}

void distributor::take_back(pipe_id id, frame_id frame)
{
    arrears_.count(stat::socket_failovers);
    auto *pipe = pipes_.find(id);
    for (auto i = pipe ? pipe->sent.size() : 0; i-- > 0;)
        if (pipe->sent[i].frame == frame) {
            const auto m = pipe->sent[i];
            pipe->sent.truncate(i);
            SP_MARK(push_takes_back);
            if (SP_PLANTED(push_takes_back_last))
                queue_.push_back(m);
            else
                queue_.push_front(m);
            charged_ += m.size + queue_bounds::charge;
            passed_ = 0;
            return;
        }
    arrears_.count(stat::socket_pipe_closed, id);
    arrears_.release(frame);
}

// ---- messages ----

distributor::pipe_state *distributor::pick(std::size_t size) noexcept
{
    for (std::size_t i = 0; i < ready_.size(); ++i) {
        const auto at = SP_PLANTED(push_serves_the_latest) ? ready_.size() - 1 - i : i;
        auto *pipe = pipes_.find(ready_[at]);
        SP_INVARIANT(pipe && pipe->ready);
        if (size > pipe->capacity)
            continue;
        erase_at(ready_, at);
        return pipe;
    }
    return nullptr;
}

// The header in the effect is the remembered one: nothing moves it before the pipe's next message.
void distributor::transmit(pipe_state &pipe, const message &m, effects &out)
{
    pipe.ready = false;
    if (pipe.sent.size() == remembered_max)
        pipe.sent.pop_front();
    pipe.sent.push_back(m);
    const auto &kept = pipe.sent[pipe.sent.size() - 1];
    out.send(pipe.id, std::span(kept.header).first(kept.header_bytes), kept.frame);
    out.release(kept.frame);
}

void distributor::enqueue(const message &m)
{
    if (SP_PLANTED(push_queue_backwards))
        queue_.push_front(m);
    else
        queue_.push_back(m);
    charged_ += m.size + queue_bounds::charge;
}

void distributor::drop_oldest(stat why)
{
    const auto m = queue_.pop_front();
    charged_ -= m.size + queue_bounds::charge;
    passed_ -= passed_ > 0 ? 1 : 0;
    arrears_.count(why);
    arrears_.release(m.frame);
}

std::optional<errc> distributor::send(std::span<const std::byte> header, frame_id frame,
                                      std::size_t body, effects &out)
{
    SP_INVARIANT(header.size() <= header_bytes_max);
    const auto size = header.size() + body;
    if (!pipes_.empty() && size > largest_)
        return errc::message_too_large;
    if (!send_ready(size))
        return errc::would_block;
    message m{.frame = frame,
              .size = static_cast<std::uint32_t>(size),
              .header_bytes = static_cast<std::uint8_t>(header.size())};
    std::ranges::copy(header, m.header.begin());
    if (auto *pipe = pick(size)) {
        if (SP_PLANTED(push_to_two_pipes))
            if (auto *second = pick(size)) {
                second->ready = false;
                out.send(second->id, header, frame);
            }
        transmit(*pipe, m, out);
        return std::nullopt;
    }
    const auto fits = [&] { return bounds_.fits(queue_.size(), charged_, size); };
    const bool nobody = pipes_.empty() && on_no_peer_ != alone::wait;
    if (!fits() && nobody && on_no_peer_ == alone::fail)
        return errc::no_peer;
    while (!fits() && !nobody && on_full_ == overflow::drop_oldest && !queue_.empty() &&
           bounds_.bytes > 0)
        drop_oldest(stat::socket_send_full);
    if (fits()) {
        enqueue(m);
    } else {
        if (!SP_PLANTED(push_drop_uncounted))
            arrears_.count(nobody ? stat::socket_no_peer : stat::socket_send_full);
        arrears_.release(frame);
    }
    arrears_.pay(out);
    return std::nullopt;
}

bool distributor::send_ready(std::size_t size) const noexcept
{
    if (pipes_.empty() ? on_no_peer_ != alone::wait : size > largest_)
        return true;
    if (on_full_ != overflow::block || bounds_.fits(queue_.size(), charged_, size))
        return true;
    for (std::size_t i = 0; i < ready_.size() && !SP_PLANTED(push_waits_for_nothing); ++i)
        if (size <= pipes_.find(ready_[i])->capacity)
            return true;
    return false;
}

void distributor::pump(effects &out)
{
    arrears_.pay(out);
    while (passed_ < queue_.size() && !ready_.empty() && out.left() >= 2) {
        auto *pipe = pick(queue_[passed_].size);
        if (!pipe) {
            ++passed_;
            continue;
        }
        charged_ -= queue_[passed_].size + queue_bounds::charge;
        transmit(*pipe, queue_[passed_], out);
        if (SP_PLANTED(push_queue_twice) && queue_.size() > passed_ + 1)
            erase_at(queue_, passed_ + 1);
        erase_at(queue_, passed_);
    }
}

std::size_t distributor::drop_all(effects &out)
{
    arrears_.pay(out);
    std::size_t dropped = 0;
    for (; !queue_.empty() && out.left() >= 2; ++dropped) {
        drop_oldest(stat::socket_closed);
        arrears_.pay(out);
    }
    return dropped;
}

} // namespace sp::protocol
