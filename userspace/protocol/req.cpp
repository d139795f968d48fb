// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/protocol/req.hpp"

#include "userspace/marks.hpp"
#include "userspace/plants.hpp"
#include "userspace/protocol/backtrace.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace sp::protocol {

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
    check_sizes_ = !queue_.empty();
}

void req_machine::on_pipe_ready(pipe_id pipe, instant now, effects &out)
{
    auto *p = pipes_.find(pipe);
    if (!p || p->ready)
        return;
    p->ready = true;
    ++ready_;
    if (!queue_.empty())
        pump(now, out);
}

void req_machine::on_pipe_closed(pipe_id pipe, instant)
{
    auto *p = pipes_.find(pipe);
    if (!p)
        return;
    if (p->ready)
        --ready_;
    pipes_.remove(pipe);
    check_sizes_ = true;
    for (std::size_t slot = 0; slot < contexts_.size(); ++slot) {
        auto &c = contexts_[slot];
        if (c.state != request_state::waiting || c.sent_on != pipe)
            continue;
        c.sent_on = no_pipe;
        if (options_.resend_time.count() > 0)
            enqueue(slot, stat::socket_failovers);
        else
            doom(slot, errc::connection_reset);
    }
}

// A copy that never reached the wire is as if it had not been sent: when it was the only one, the
// request waits for a pipe as it did before. With resend off its pipe's end ends it all the same:
// the application cannot see how far it had come.
void req_machine::on_unsent(pipe_id pipe, frame_id frame)
{
    arrears_.release(frame);
    if (options_.resend_time.count() == 0)
        return;
    const auto found = std::ranges::find_if(contexts_, [&](const context &c) {
        return c.state == request_state::waiting && c.frame == frame;
    });
    if (found == contexts_.end()) // it is over: what came back is nobody's
        return;
    auto &c = *found;
    SP_INVARIANT(c.copies > 0);
    SP_MARK(req_unsent);
    if (c.sent_on == pipe)
        c.sent_on = no_pipe;
    if (--c.copies == 0)
        arrears_.count(stat::socket_failovers);
    enqueue(static_cast<std::size_t>(found - contexts_.begin()), stat::socket_failovers);
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
    std::uint32_t id = (SP_PLANTED(req_id_constant) ? 7 : random) | end_bit;
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
    begin(*c, frame, size, now);
    watch(*c);
    enqueue(slot, stat::socket_sent);
    pump(now, out);
    return std::nullopt;
}

void req_machine::begin(context &c, frame_id frame, std::size_t size, instant now) noexcept
{
    c.frame = frame;
    c.size = size;
    c.state = request_state::waiting;
    c.carriers = 0;
    c.copies = 0;
    c.sent_on = no_pipe;
    c.resend_at = instant::max();
    c.deadline_at =
        options_.request_deadline.count() > 0 ? now + options_.request_deadline : instant::max();
}

direct_way req_machine::direct(context_id id, std::size_t size, std::uint32_t random) noexcept
{
    auto *c = find(id);
    if (!c || c->state != request_state::idle || !queue_.empty() || !doomed_.empty() ||
        !arrears_.empty())
        return {};
    const auto *pipe = pick(size, no_pipe);
    if (!pipe)
        return {};
    c->id = fresh_id(random);
    const std::uint32_t word = __builtin_bswap32(c->id);
    std::memcpy(c->header.data(), &word, sizeof word);
    return {.pipe = pipe->id, .header = c->header};
}

void req_machine::went(context_id id, pipe_id pipe, frame_id frame, std::size_t size, instant now)
{
    auto &c = *find(id);
    ids_[static_cast<std::size_t>(&c - contexts_.data())] = c.id;
    ++c.serial;
    begin(c, frame, size, now);
    c.carried[c.carriers++] = pipe;
    c.copies = 1;
    c.sent_on = pipe;
    if (options_.resend_time.count() > 0)
        c.resend_at = now + options_.resend_time;
    watch(c);
}

std::optional<frame_id> req_machine::direct(pipe_id pipe, frame_id frame,
                                            std::span<const std::byte> payload)
{
    if (payload.size() < id_bytes || !arrears_.empty())
        return std::nullopt;
    const auto id = load_word(payload);
    const auto found = std::ranges::find(ids_, id);
    if ((id & end_bit) == 0 || found == ids_.end())
        return std::nullopt;
    auto &c = contexts_[static_cast<std::size_t>(found - ids_.begin())];
    if (!carried(c, pipe))
        return std::nullopt;
    const auto request = end(c, request_state::ready);
    c.frame = frame;
    c.sent_on = pipe;
    return request;
}

bool req_machine::carried(const context &c, pipe_id pipe) noexcept
{
    const auto carriers =
        std::span(c.carried).first(std::min<std::size_t>(c.carriers, c.carried.size()));
    return std::ranges::find(carriers, pipe) != carriers.end();
}

// `why` it goes out; when it waits already, the first reason stands.
void req_machine::enqueue(std::size_t slot, stat why)
{
    auto &c = contexts_[slot];
    if (c.queued)
        return;
    c.queued = true;
    c.why = why;
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

// The next ready pipe in turn, so that the load spreads; `last` only if there is no other, so that
// a resend goes elsewhere if there is an elsewhere.
req_machine::pipe_state *req_machine::pick(std::size_t size, pipe_id last) noexcept
{
    const auto none = pipes_.size();
    auto chosen = none;
    for (std::size_t i = 0; i < pipes_.size(); ++i) {
        const auto at = (turn_ + i) % pipes_.size();
        const auto &pipe = pipes_[at];
        if (!pipe.ready || size + id_bytes > pipe.capacity)
            continue;
        if (pipe.id != last || chosen == none)
            chosen = at;
        if (pipe.id != last)
            break;
    }
    if (chosen == none)
        return nullptr;
    turn_ = (chosen + 1) % pipes_.size();
    return &pipes_[chosen];
}

void req_machine::pump(instant now, effects &out)
{
    arrears_.pay(out);
    if (check_sizes_ && !pipes_.empty())
        doom_too_large();
    send_queued(now, out);
    while (!doomed_.empty() && out.left() >= 2) {
        auto &c = contexts_[doomed_.back()];
        drop_unsent(c,
                    c.failure == errc::message_too_large ? stat::socket_peer_limit
                                                         : stat::socket_withdrawn,
                    out);
        finish(c, request_state::failed, out);
    }
}

// A request that waits for a pipe with room holds up none that another pipe takes.
void req_machine::send_queued(instant now, effects &out)
{
    std::size_t seen = 0, kept = 0;
    for (; seen < queue_.size() && ready_ > 0 && out.left() >= 2; ++seen) {
        const auto slot = queue_[seen];
        auto &c = contexts_[slot];
        auto *pipe = c.doomed ? nullptr : pick(c.size, c.sent_on);
        if (pipe) {
            c.queued = false;
            send(c, *pipe, now, out);
        } else {
            queue_[kept++] = slot;
        }
    }
    const auto first = queue_.begin();
    queue_.erase(first + static_cast<std::ptrdiff_t>(kept),
                 first + static_cast<std::ptrdiff_t>(seen));
}

// Other pipes than at the time of the request: what none of them takes fails.
void req_machine::doom_too_large()
{
    check_sizes_ = false;
    std::size_t largest = 0;
    for (const auto &p : pipes_)
        largest = std::max(largest, p.capacity);
    for (const auto slot : queue_)
        if (contexts_[slot].size + id_bytes > largest)
            doom(slot, errc::message_too_large);
}

// The failure is executed by pump(), which is bounded by the room for effects.
void req_machine::doom(std::size_t slot, errc why)
{
    auto &c = contexts_[slot];
    if (c.doomed)
        return;
    c.failure = why;
    c.doomed = true;
    doomed_.push_back(static_cast<std::uint16_t>(slot));
}

void req_machine::send(context &c, pipe_state &pipe, instant now, effects &out)
{
    pipe.ready = false;
    --ready_;
    c.carried[c.carriers % c.carried.size()] = pipe.id;
    ++c.carriers;
    if (c.carriers == 2 * c.carried.size()) // keep the count small, and above the array's size
        c.carriers = static_cast<std::uint8_t>(c.carried.size());
    if (c.copies > 0) // a returned one has been counted when it came back
        out.count(c.why);
    ++c.copies;
    c.sent_on = pipe.id;
    c.resend_at = options_.resend_time.count() > 0 ? now + options_.resend_time : instant::max();
    if (SP_PLANTED(req_never_resends))
        c.resend_at = instant::max();
    if (SP_PLANTED(req_resends_early))
        c.resend_at = now + options_.resend_time / 8;
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
        out.count(why, pipe);
        out.release(frame);
    };
    if (payload.size() < id_bytes) {
        out.close_pipe(pipe, stat::pipe_bad_header);
        out.release(frame);
        return;
    }
    const std::uint32_t id = load_word(payload);
    if ((id & end_bit) == 0) {
        if (SP_PLANTED(dead_code)) // ids of ours always end a stack, and nobody else answers
            return;
        return refuse(stat::socket_unknown_id);
    }
    auto found = std::ranges::find(ids_, id);
    if (SP_PLANTED(req_reply_by_any_id) && found == ids_.end())
        found = std::ranges::find_if(ids_, [](std::uint32_t other) { return other != 0; });
    if (found == ids_.end())
        SP_MARK(req_late_reply);
    if (found == ids_.end())
        return refuse(was_ours(id) ? stat::socket_late : stat::socket_unknown_id);
    auto &c = contexts_[static_cast<std::size_t>(found - ids_.begin())];
    if (!carried(c, pipe)) {
        SP_MARK(req_foreign_reply);
        return refuse(stat::socket_foreign_reply);
    }
    finish(c, request_state::ready, out);
    c.frame = frame;
    c.sent_on = pipe;
}

// A request that ends before it was on any pipe is a drop.
void req_machine::drop_unsent(const context &c, stat why, effects &out)
{
    if (c.state == request_state::waiting && c.copies == 0)
        out.count(why);
}

// The request is over: its frame goes, its id is remembered as ended.
void req_machine::finish(context &c, request_state state, effects &out)
{
    if (const auto frame = end(c, state); frame != no_frame)
        out.release(frame);
}

// The same, and the frame is the caller's.
frame_id req_machine::end(context &c, request_state state)
{
    const auto slot = static_cast<std::size_t>(&c - contexts_.data());
    const auto frame = std::exchange(c.frame, no_frame);
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
    return frame;
}

void req_machine::cancel(context_id id, effects &out)
{
    auto *c = find(id);
    if (!c)
        return;
    if (c->state == request_state::ready)
        out.count(stat::socket_abandoned);
    drop_unsent(*c, stat::socket_withdrawn, out);
    finish(*c, request_state::idle, out);
    ++c->serial;
}

request_state req_machine::state(context_id id) const noexcept
{
    const auto *c = find(id);
    if (!c)
        return request_state::idle;
    return c->state == request_state::waiting && c->copies == 0 ? request_state::queued : c->state;
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
        if (now >= c.deadline_at && !SP_PLANTED(req_deadline_ignored)) {
            doom(slot, errc::expired);
            continue;
        }
        if (now >= c.resend_at)
            enqueue(slot, stat::socket_resends);
        // A request that waits for a pipe has nothing to be woken for but its own deadline.
        earliest_ = std::min({earliest_, c.deadline_at, c.queued ? instant::max() : c.resend_at});
    }
}

std::size_t req_machine::queued_out() const noexcept
{
    return static_cast<std::size_t>(std::ranges::count_if(contexts_, [](const context &c) {
        return c.open && c.state == request_state::waiting && c.copies == 0;
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
        if (c.state == request_state::waiting && c.copies == 0)
            ++never_sent;
        drop_unsent(c, stat::socket_closed, out);
        if (c.state == request_state::ready)
            out.count(stat::socket_unread);
        finish(c, request_state::idle, out);
        ++c.serial;
        c.open = false;
    }
    arrears_.pay(out);
    return never_sent;
}

} // namespace sp::protocol
