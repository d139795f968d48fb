// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/protocol/req.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace sp::protocol {
namespace {

constexpr std::uint32_t end_bit = 0x80000000; // marks the last word of the stack: the request's id

std::uint32_t load_word(std::span<const std::byte> bytes) noexcept
{
    std::uint32_t word;
    std::memcpy(&word, bytes.data(), sizeof word);
    return __builtin_bswap32(word);
}

} // namespace

req_machine::context *req_machine::find(context_id id) noexcept
{
    const auto slot = static_cast<std::uint32_t>(id) & 0xffff;
    if (slot >= contexts_.size() || !contexts_[slot].open ||
        contexts_[slot].generation != static_cast<std::uint32_t>(id) >> 16)
        return nullptr;
    return &contexts_[slot];
}

const req_machine::context *req_machine::find(context_id id) const noexcept
{
    return const_cast<req_machine *>(this)->find(id);
}

void req_machine::on_pipe_added(const pipe_profile &pipe)
{
    pipes_.add({pipe.id, pipe.capacity, false});
}

void req_machine::on_pipe_ready(pipe_id pipe, instant now, effects &out)
{
    if (auto *p = pipes_.find(pipe))
        p->ready = true;
    if (!queue_.empty())
        pump(now, out);
}

void req_machine::on_pipe_closed(pipe_id pipe, instant)
{
    pipes_.remove(pipe);
    for (std::size_t slot = 0; slot < contexts_.size(); ++slot) {
        auto &c = contexts_[slot];
        if (c.state != request_state::waiting || c.sent_on != pipe)
            continue;
        c.sent_on = no_pipe;
        if (options_.resend_time.count() > 0)
            enqueue(slot);
        else
            doom(slot, errc::connection_reset);
    }
}

std::optional<context_id> req_machine::open_context()
{
    if (free_.empty()) {
        if (contexts_.size() == contexts_max)
            return std::nullopt;
        free_.push_back(static_cast<std::uint16_t>(contexts_.size()));
        contexts_.emplace_back();
        ids_.push_back(0);
    }
    const auto slot = free_.back();
    free_.pop_back();
    auto &c = contexts_[slot];
    const std::uint16_t generation = c.generation;
    const std::uint32_t serial = c.serial;
    SP_INVARIANT(!c.queued && !c.doomed);
    c = {};
    c.generation = static_cast<std::uint16_t>(generation + 1);
    c.serial = serial;
    c.open = true;
    return static_cast<context_id>(std::uint32_t{c.generation} << 16 | slot);
}

void req_machine::close_context(context_id id, effects &out)
{
    auto *c = find(id);
    if (!c)
        return;
    cancel(id, out);
    c->open = false;
    free_.push_back(static_cast<std::uint16_t>(c - contexts_.data()));
}

std::uint32_t req_machine::fresh_id(std::uint32_t random) const noexcept
{
    std::uint32_t id = random | end_bit;
    while (std::ranges::find(ids_, id) != ids_.end()) // at most 4096 are taken of 2^31
        id = (id + 1) | end_bit;
    return id;
}

std::optional<errc> req_machine::on_request(context_id id, frame_id frame, std::size_t size,
                                            std::uint32_t random, instant now, effects &out)
{
    auto *c = find(id);
    if (!c)
        return errc::closed;
    if (pipes_.empty() && options_.fail_without_peer)
        return errc::no_peer;
    if (!pipes_.empty() && !fits_somewhere(size))
        return errc::message_too_large;
    cancel(id, out);

    const auto slot = static_cast<std::size_t>(c - contexts_.data());
    c->id = fresh_id(random);
    ids_[slot] = c->id;
    const std::uint32_t word = __builtin_bswap32(c->id);
    std::memcpy(c->header.data(), &word, sizeof word);
    c->frame = frame;
    c->size = size;
    c->state = request_state::waiting;
    c->carriers = 0;
    c->sent = false;
    c->sent_on = no_pipe;
    c->resend_at = instant::max();
    c->deadline_at =
        options_.request_deadline.count() > 0 ? now + options_.request_deadline : instant::max();
    watch(*c);
    enqueue(slot);
    pump(now, out);
    return std::nullopt;
}

void req_machine::enqueue(std::size_t slot)
{
    auto &c = contexts_[slot];
    if (c.queued)
        return;
    c.queued = true;
    queue_.push_back(static_cast<std::uint16_t>(slot));
}

bool req_machine::fits_somewhere(std::size_t size) noexcept
{
    return std::ranges::any_of(pipes_,
                               [&](const auto &p) { return size + id_bytes <= p.capacity; });
}

bool req_machine::send_ready(std::size_t size) noexcept
{
    return std::ranges::any_of(
        pipes_, [&](const auto &p) { return p.ready && size + id_bytes <= p.capacity; });
}

// The next ready pipe in turn, so that the load spreads and a resend goes elsewhere if there is an
// elsewhere.
req_machine::pipe_state *req_machine::pick(std::size_t size) noexcept
{
    for (std::size_t i = 0; i < pipes_.size(); ++i) {
        auto &pipe = pipes_[(turn_ + i) % pipes_.size()];
        if (!pipe.ready || size + id_bytes > pipe.capacity)
            continue;
        turn_ = (turn_ + i + 1) % pipes_.size();
        return &pipe;
    }
    return nullptr;
}

void req_machine::pump(instant now, effects &out)
{
    std::size_t taken = 0;
    while (taken < queue_.size() && out.left() >= 4) {
        const auto slot = queue_[taken];
        auto &c = contexts_[slot];
        if (!pipes_.empty() && !fits_somewhere(c.size)) {
            doom(slot, errc::message_too_large);
        } else {
            auto *pipe = pick(c.size);
            if (!pipe)
                break;
            send(c, *pipe, now, out);
        }
        c.queued = false;
        ++taken;
    }
    queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(taken));
    while (!doomed_.empty() && out.left() >= 2)
        finish(contexts_[doomed_.back()], request_state::failed, out);
}

// The failure is executed by pump(), which is bounded by the room for effects.
void req_machine::doom(std::size_t slot, errc why)
{
    auto &c = contexts_[slot];
    c.failure = why;
    if (c.doomed)
        return;
    c.doomed = true;
    doomed_.push_back(static_cast<std::uint16_t>(slot));
}

void req_machine::send(context &c, pipe_state &pipe, instant now, effects &out)
{
    pipe.ready = false;
    c.carried[c.carriers % c.carried.size()] = pipe.id;
    ++c.carriers;
    if (c.carriers == 2 * c.carried.size()) // keep the count small, and above the array's size
        c.carriers = static_cast<std::uint8_t>(c.carried.size());
    if (c.sent)
        out.count(c.resend_at <= now ? stat::socket_resends : stat::socket_failovers);
    c.sent = true;
    c.sent_on = pipe.id;
    c.resend_at = options_.resend_time.count() > 0 ? now + options_.resend_time : instant::max();
    watch(c);
    out.send(pipe.id, c.header, c.frame);
}

bool req_machine::was_ours(std::uint32_t id) const noexcept
{
    return std::ranges::find(ended_, id) != ended_.end();
}

void req_machine::on_message(pipe_id pipe, frame_id frame, std::span<const std::byte> payload,
                             instant, effects &out)
{
    out.consumed(pipe);
    const auto refuse = [&](stat why) {
        out.count(why);
        out.release(frame);
    };
    if (payload.size() < id_bytes) {
        out.close_pipe(pipe, stat::pipe_bad_header);
        out.release(frame);
        return;
    }
    const std::uint32_t id = load_word(payload);
    if ((id & end_bit) == 0)
        return refuse(stat::socket_unknown_id);
    const auto found = std::ranges::find(ids_, id);
    if (found == ids_.end())
        return refuse(was_ours(id) ? stat::socket_late : stat::socket_unknown_id);
    auto &c = contexts_[static_cast<std::size_t>(found - ids_.begin())];
    const auto carriers =
        std::span(c.carried).first(std::min<std::size_t>(c.carriers, c.carried.size()));
    if (std::ranges::find(carriers, pipe) == carriers.end())
        return refuse(stat::socket_foreign_reply);
    finish(c, request_state::ready, out);
    c.frame = frame;
    c.sent_on = pipe;
}

// The request is over: its frame goes, its id is remembered as ended.
void req_machine::finish(context &c, request_state state, effects &out)
{
    const auto slot = static_cast<std::size_t>(&c - contexts_.data());
    if (c.frame != no_frame)
        out.release(c.frame);
    c.frame = no_frame;
    if (ids_[slot] != 0)
        ended_[ended_next_++ % ended_.size()] = ids_[slot];
    ids_[slot] = 0;
    c.state = state;
    if (c.queued)
        std::erase(queue_, static_cast<std::uint16_t>(slot));
    if (c.doomed)
        std::erase(doomed_, static_cast<std::uint16_t>(slot));
    c.queued = c.doomed = false;
    c.resend_at = c.deadline_at = instant::max();
}

void req_machine::cancel(context_id id, effects &out)
{
    auto *c = find(id);
    if (!c)
        return;
    if (c->state == request_state::ready)
        out.count(stat::socket_abandoned);
    finish(*c, request_state::idle, out);
    ++c->serial;
}

request_state req_machine::state(context_id id) const noexcept
{
    const auto *c = find(id);
    if (!c)
        return request_state::idle;
    return c->state == request_state::waiting && !c->sent ? request_state::queued : c->state;
}

std::uint32_t req_machine::serial(context_id id) const noexcept
{
    const auto *c = find(id);
    return c ? c->serial : 0;
}

bool req_machine::begin_receive(context_id id) noexcept
{
    auto *c = find(id);
    if (!c || c->receiving || c->state == request_state::idle)
        return false;
    return c->receiving = true;
}

void req_machine::end_receive(context_id id) noexcept
{
    if (auto *c = find(id))
        c->receiving = false;
}

req_machine::reply req_machine::take_reply(context_id id) noexcept
{
    auto *c = find(id);
    SP_INVARIANT(c && c->state == request_state::ready);
    c->state = request_state::idle;
    return {std::exchange(c->frame, no_frame), c->sent_on};
}

errc req_machine::take_failure(context_id id) noexcept
{
    auto *c = find(id);
    SP_INVARIANT(c && c->state == request_state::failed);
    c->state = request_state::idle;
    return c->failure;
}

void req_machine::watch(const context &c) noexcept
{
    earliest_ = std::min({earliest_, c.resend_at, c.deadline_at});
}

void req_machine::on_deadline(instant now)
{
    if (now < earliest_)
        return;
    earliest_ = instant::max();
    for (std::size_t slot = 0; slot < contexts_.size(); ++slot) {
        auto &c = contexts_[slot];
        if (c.state != request_state::waiting || c.doomed)
            continue;
        if (now >= c.deadline_at) {
            doom(slot, errc::expired);
            continue;
        }
        if (now >= c.resend_at)
            enqueue(slot);
        // A request that waits for a pipe has nothing to be woken for but its own deadline.
        earliest_ = std::min({earliest_, c.deadline_at, c.queued ? instant::max() : c.resend_at});
    }
}

std::size_t req_machine::queued_out() const noexcept
{
    return static_cast<std::size_t>(std::ranges::count_if(contexts_, [](const context &c) {
        return c.open && c.state == request_state::waiting && !c.sent;
    }));
}

std::size_t req_machine::queued_in() const noexcept
{
    return static_cast<std::size_t>(std::ranges::count_if(
        contexts_, [](const context &c) { return c.open && c.state == request_state::ready; }));
}

std::size_t req_machine::close(effects &out)
{
    std::size_t never_sent = 0;
    for (auto &c : contexts_) {
        if (!c.open || out.left() < 4)
            continue;
        if (c.state == request_state::waiting && !c.sent) {
            ++never_sent;
            out.count(stat::socket_closed);
        }
        if (c.state == request_state::ready)
            out.count(stat::socket_unread);
        finish(c, request_state::idle, out);
        ++c.serial;
        c.open = false;
    }
    return never_sent;
}

} // namespace sp::protocol
