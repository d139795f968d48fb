// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/protocol/rep.hpp"

#include "userspace/marks.hpp"
#include "userspace/plants.hpp"
#include "userspace/protocol/backtrace.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace sp::protocol {

rep_machine::rep_machine(const rep_options &options, std::uint64_t salt)
    : options_(options), salt_(salt | 1), buckets_(buckets, nobody)
{
    SP_INVARIANT(options.ttl_max >= 1 && options.ttl_max * 4 <= header_bytes_max);
}

// ---- lists and table ----

void rep_machine::append(list &l, std::uint32_t slot) noexcept
{
    auto &r = requests_[slot];
    r.previous = l.last;
    r.next = nobody;
    (l.last == nobody ? l.first : requests_[l.last].next) = slot;
    l.last = slot;
}

void rep_machine::remove(list &l, std::uint32_t slot) noexcept
{
    auto &r = requests_[slot];
    (r.previous == nobody ? l.first : requests_[r.previous].next) = r.next;
    (r.next == nobody ? l.last : requests_[r.next].previous) = r.previous;
    r.previous = r.next = nobody;
}

std::size_t rep_machine::bucket(std::uint64_t instance,
                                std::span<const std::byte> header) const noexcept
{
    std::uint64_t hash = instance ^ salt_;
    for (std::size_t i = 0; i + 4 <= header.size(); i += 4) {
        std::uint32_t word;
        std::memcpy(&word, header.data() + i, sizeof word);
        hash = (hash ^ word) * (salt_ | 0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
    }
    return hash % buckets;
}

std::uint32_t rep_machine::lookup(std::uint64_t instance,
                                  std::span<const std::byte> header) const noexcept
{
    for (auto slot = buckets_[bucket(instance, header)]; slot != nobody;
         slot = requests_[slot].chain) {
        const auto &r = requests_[slot];
        if (r.instance == instance && r.header_bytes == header.size() &&
            std::memcmp(r.header.data(), header.data(), header.size()) == 0)
            return slot;
    }
    return nobody;
}

// A free slot; the oldest kept reply makes room when all are taken.
std::uint32_t rep_machine::allocate()
{
    if (unused_.empty() && requests_.size() == requests_max && kept_.first != nobody)
        free(kept_.first);
    if (unused_.empty()) {
        if (requests_.size() == requests_max)
            return nobody;
        unused_.push_back(static_cast<std::uint32_t>(requests_.size()));
        requests_.emplace_back();
    }
    const auto slot = unused_.back();
    unused_.pop_back();
    return slot;
}

void rep_machine::free(std::uint32_t slot)
{
    auto &r = requests_[slot];
    auto *pipe = pipes_.find(r.pipe);
    switch (r.what) {
    case state::queued:
        remove(pipe->queued, slot);
        break;
    case state::answered:
        remove(pipe->answered, slot);
        break;
    case state::again:
        remove(pipe->again, slot);
        break;
    case state::kept:
        kept_bytes_ -= r.size + charge;
        remove(kept_, slot);
        break;
    case state::held:
    case state::unused:
        break;
    }
    if (r.known) {
        auto *link = &buckets_[bucket(r.instance, std::span(r.header).first(r.header_bytes))];
        while (*link != slot)
            link = &requests_[*link].chain;
        *link = r.chain;
    }
    if (r.frame != no_frame && !(SP_PLANTED(rep_leaks_reply) && r.what == state::answered))
        arrears_.release(r.frame);
    const auto generation = static_cast<std::uint16_t>(r.generation + 1);
    const auto header = r.header; // a send effect of this call may still point to it
    r = {};
    r.generation = generation;
    r.header = header;
    unused_.push_back(slot);
}

std::uint32_t rep_machine::find(ticket_id ticket) const noexcept
{
    const auto slot = static_cast<std::uint32_t>(ticket) & 0xffff;
    if (slot >= requests_.size() || requests_[slot].what != state::held ||
        requests_[slot].generation != static_cast<std::uint32_t>(ticket) >> 16)
        return nobody;
    return slot;
}

// ---- pipes ----

void rep_machine::on_pipe_added(const pipe_profile &pipe)
{
    pipes_.add({.id = pipe.id, .instance = pipe.instance, .capacity = pipe.capacity});
}

void rep_machine::on_pipe_ready(pipe_id id, instant, effects &out)
{
    auto *pipe = pipes_.find(id);
    if (!pipe)
        return;
    pipe->ready = true;
    if (const auto slot = pipe->again.first; slot != nobody) {
        remove(pipe->again, slot);
        send(slot, *pipe, out);
    }
}

void rep_machine::on_pipe_closed(pipe_id id, instant now)
{
    auto *pipe = pipes_.find(id);
    if (!pipe)
        return;
    while (pipe->queued.first != nobody) { // the asker sends it again on its next pipe
        free(pipe->queued.first);
        if (SP_PLANTED(rep_drop_uncounted))
            continue;
        arrears_.count(stat::socket_unread, id);
    }
    std::erase(turn_, id);
    while (pipe->answered.first != nobody) {
        const auto slot = pipe->answered.first;
        remove(pipe->answered, slot);
        keep(slot, now);
    }
    while (pipe->again.first != nobody) {
        const auto slot = pipe->again.first;
        remove(pipe->again, slot);
        keep(slot, now);
        arrears_.count(stat::socket_pipe_closed, id);
    }
    for (auto &r : requests_)
        if (r.what == state::held && r.pipe == id)
            r.pipe = no_pipe;
    pipes_.remove(id);
}

// The reply stays for the asker's next pipe, within time and bytes, if it could be told that the
// asker there is the same.
void rep_machine::keep(std::uint32_t slot, instant now)
{
    auto &r = requests_[slot];
    if (!r.known) {
        r.what = state::held; // in no list
        return free(slot);
    }
    r.what = state::kept;
    r.pipe = no_pipe;
    r.kept_until = now + options_.dedupe_time;
    append(kept_, slot);
    kept_bytes_ += r.size + charge;
    while (kept_bytes_ > options_.reply_cache_bytes) {
        SP_MARK(rep_evicts_reply);
        free(kept_.first);
    }
}

void rep_machine::on_confirmed(pipe_id id, std::uint32_t messages, effects &)
{
    auto *pipe = pipes_.find(id);
    if (!pipe)
        return;
    pipe->confirmed += messages;
    while (pipe->answered.first != nobody &&
           static_cast<std::int32_t>(requests_[pipe->answered.first].number - pipe->confirmed) < 0)
        free(pipe->answered.first);
}

// ---- requests ----

rep_machine::parsed rep_machine::parse(std::span<const std::byte> payload) const noexcept
{
    const auto stack = read_backtrace(payload, options_.ttl_max);
    switch (stack.what) {
    case backtrace::verdict::whole:
        return {.bytes = stack.bytes, .fault = std::nullopt};
    case backtrace::verdict::too_many_words:
        return {.fault = stat::socket_ttl};
    case backtrace::verdict::malformed:
        break;
    }
    return {.fault = stat::pipe_bad_header, .closes = true};
}

void rep_machine::on_message(pipe_id id, frame_id frame, std::span<const std::byte> payload,
                             instant, effects &out)
{
    auto *pipe = pipes_.find(id);
    SP_INVARIANT(pipe);
    const auto refuse = [&](stat why) {
        out.count(why, id);
        out.release(frame);
        out.consumed(id);
    };
    const auto stack = parse(payload);
    if (stack.fault && stack.closes) {
        out.release(frame);
        out.close_pipe(id, *stack.fault);
        return;
    }
    if (stack.fault)
        return refuse(*stack.fault);
    const auto header = payload.first(stack.bytes);
    if (knows(*pipe))
        if (const auto known = lookup(pipe->instance, header); known != nobody) {
            SP_MARK(rep_duplicate);
            out.count(stat::socket_duplicate_request, id);
            out.release(frame);
            return on_duplicate(known, *pipe, out);
        }
    const auto slot = note(*pipe, header);
    if (slot == nobody)
        return refuse(stat::socket_memory);
    requests_[slot].frame = frame;
    enqueue(slot, *pipe);
}

// Without an identity every request is new: two strangers may use the same stack.
bool rep_machine::knows(const pipe_state &pipe) const noexcept
{
    return options_.dedupe_time.count() > 0 && pipe.instance != 0 &&
           !SP_PLANTED(rep_forgets_requests);
}

// A slot for a new request, if there is one.
std::uint32_t rep_machine::note(const pipe_state &pipe, std::span<const std::byte> header)
{
    const auto slot = allocate();
    if (slot == nobody)
        return nobody;
    auto &r = requests_[slot];
    r.header_bytes = static_cast<std::uint8_t>(header.size());
    std::ranges::copy(header, r.header.begin());
    r.instance = pipe.instance;
    if (knows(pipe)) {
        auto &chain = buckets_[bucket(r.instance, header)];
        r.known = true;
        r.chain = chain;
        chain = slot;
    }
    return slot;
}

std::optional<taken_request> rep_machine::direct(pipe_id id, frame_id frame,
                                                 std::span<const std::byte> payload)
{
    const auto *pipe = pipes_.find(id);
    if (!pipe || !turn_.empty() || !arrears_.empty())
        return std::nullopt;
    const auto stack = parse(payload);
    const auto header = payload.first(stack.bytes);
    if (stack.fault || (knows(*pipe) && lookup(pipe->instance, header) != nobody))
        return std::nullopt;
    const auto slot = note(*pipe, header);
    if (slot == nobody)
        return std::nullopt;
    requests_[slot].what = state::held;
    requests_[slot].pipe = id;
    return taken_request{
        .ticket = ticket_of(slot), .frame = frame, .header_bytes = stack.bytes, .pipe = id};
}

// The asker has sent it again: the answer goes where the asker is now, since it may have given its
// other pipe up before we know. On the pipe where request or reply already are, the link brings
// them.
void rep_machine::on_duplicate(std::uint32_t slot, pipe_state &pipe, effects &out)
{
    auto &r = requests_[slot];
    auto *before = pipes_.find(r.pipe);
    if (before == &pipe && r.what != state::held)
        return out.consumed(pipe.id);
    if (r.what == state::queued) {
        remove(before->queued, slot);
        if (before->queued.first == nobody)
            std::erase(turn_, before->id);
        out.consumed(before->id); // and the new pipe's credit returns when it is taken
        enqueue(slot, pipe);
        return;
    }
    out.consumed(pipe.id);
    if (r.what == state::held) {
        r.pipe = pipe.id;
        return;
    }
    if (r.what != state::again) // which is counted already
        out.count(stat::socket_resends);
    if (r.size + r.header_bytes > pipe.capacity) {
        if (r.what == state::again)
            out.count(stat::socket_resends);
        return out.count(stat::socket_peer_limit, pipe.id);
    }
    if (r.what == state::kept) {
        kept_bytes_ -= r.size + charge;
        remove(kept_, slot);
    } else {
        remove(r.what == state::answered ? before->answered : before->again, slot);
    }
    SP_MARK(rep_repeats_reply);
    if (pipe.ready)
        return send(slot, pipe, out);
    r.what = state::again;
    r.pipe = pipe.id;
    append(pipe.again, slot);
}

void rep_machine::enqueue(std::uint32_t slot, pipe_state &pipe)
{
    auto &r = requests_[slot];
    r.what = state::queued;
    r.pipe = pipe.id;
    if (pipe.queued.first == nobody)
        turn_.push_back(pipe.id);
    append(pipe.queued, slot);
}

std::optional<taken_request> rep_machine::take(effects &out)
{
    if (turn_.empty())
        return std::nullopt;
    auto *pipe = pipes_.find(turn_.front());
    SP_INVARIANT(pipe);
    turn_.erase(turn_.begin());
    const auto slot = pipe->queued.first;
    remove(pipe->queued, slot);
    if (pipe->queued.first != nobody)
        turn_.push_back(pipe->id);
    auto &r = requests_[slot];
    r.what = state::held;
    if (SP_PLANTED(rep_answers_the_first_pipe))
        r.pipe = pipes_.begin()->id;
    if (!SP_PLANTED(rep_keeps_credit))
        out.consumed(pipe->id);
    return taken_request{.ticket = ticket_of(slot),
                         .frame = std::exchange(r.frame, no_frame),
                         .header_bytes = r.header_bytes,
                         .pipe = r.pipe};
}

std::optional<errc> rep_machine::reply(ticket_id ticket, frame_id frame, std::size_t size,
                                       instant now, effects &out)
{
    const auto slot = find(ticket);
    if (slot == nobody)
        return errc::invalid_state;
    auto &r = requests_[slot];
    auto *pipe = pipes_.find(r.pipe);
    if (pipe && size + r.header_bytes > pipe->capacity)
        return errc::message_too_large;
    if (pipe && !pipe->ready)
        return errc::would_block;
    r.frame = frame;
    r.size = static_cast<std::uint32_t>(size);
    if (pipe) {
        send(slot, *pipe, out);
    } else {
        out.count(stat::socket_pipe_gone);
        keep(slot, now);
        pump(now, out);
    }
    return std::nullopt;
}

// Replies are confirmed in their order: those that are still on the way go first.
direct_way rep_machine::direct(ticket_id ticket, std::size_t size) const noexcept
{
    const auto slot = find(ticket);
    if (slot == nobody || !arrears_.empty())
        return {};
    const auto &r = requests_[slot];
    const auto *pipe = pipes_.find(r.pipe);
    if (!pipe || !pipe->ready || pipe->answered.first != nobody ||
        size + r.header_bytes > pipe->capacity)
        return {};
    return {.pipe = pipe->id, .header = std::span(r.header).first(r.header_bytes)};
}

void rep_machine::went(ticket_id ticket)
{
    const auto slot = find(ticket);
    auto *pipe = pipes_.find(requests_[slot].pipe);
    ++pipe->sent;
    ++pipe->confirmed;
    free(slot);
}

void rep_machine::send(std::uint32_t slot, pipe_state &pipe, effects &out)
{
    auto &r = requests_[slot];
    r.pipe = pipe.id;
    r.number = pipe.sent++;
    pipe.ready = false;
    out.send(pipe.id, std::span(r.header).first(r.header_bytes), r.frame);
    if (!r.known) // nobody can ask for it again
        return free(slot);
    r.what = state::answered;
    append(pipe.answered, slot);
}

void rep_machine::abandon(ticket_id ticket, effects &out)
{
    const auto slot = find(ticket);
    if (slot == nobody)
        return;
    out.count(stat::socket_abandoned);
    free(slot);
}

// ---- time and end ----

void rep_machine::on_deadline(instant now)
{
    while (kept_.first != nobody && requests_[kept_.first].kept_until <= now)
        free(kept_.first);
}

instant rep_machine::next_deadline() const noexcept
{
    return kept_.first == nobody ? instant::max() : requests_[kept_.first].kept_until;
}

void rep_machine::pump(instant, effects &out)
{
    arrears_.pay(out);
}

std::size_t rep_machine::queued_out() const noexcept
{
    return static_cast<std::size_t>(std::ranges::count(requests_, state::again, &request::what));
}

std::size_t rep_machine::queued_in() const noexcept
{
    return static_cast<std::size_t>(std::ranges::count(requests_, state::queued, &request::what));
}

std::size_t rep_machine::close(effects &out)
{
    std::size_t never_sent = 0;
    for (std::uint32_t slot = 0; slot < requests_.size() && out.left() > 0; ++slot) {
        const auto &r = requests_[slot];
        if (r.what == state::unused)
            continue;
        if (r.what == state::queued)
            out.count(stat::socket_unread, r.pipe);
        if (r.what == state::again) {
            ++never_sent;
            out.count(stat::socket_closed, r.pipe);
        }
        free(slot);
    }
    turn_.clear();
    pump(instant{}, out);
    return never_sent;
}

} // namespace sp::protocol
