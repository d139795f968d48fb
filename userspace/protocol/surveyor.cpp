// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/protocol/surveyor.hpp"

#include "userspace/marks.hpp"
#include "userspace/plants.hpp"
#include "userspace/protocol/backtrace.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace sp::protocol {

// ---- contexts ----

surveyor_machine::context *surveyor_machine::find(context_id id) noexcept
{
    const auto slot = static_cast<std::uint32_t>(id) & 0xffff;
    if (slot >= contexts_.size() || !contexts_[slot].open ||
        contexts_[slot].generation != static_cast<std::uint32_t>(id) >> 16)
        return nullptr;
    return &contexts_[slot];
}

const surveyor_machine::context *surveyor_machine::find(context_id id) const noexcept
{
    return const_cast<surveyor_machine *>(this)->find(id);
}

std::size_t surveyor_machine::slot_of(const context &c) const noexcept
{
    return static_cast<std::size_t>(&c - contexts_.data());
}

std::optional<context_id> surveyor_machine::open_context()
{
    if (free_.empty()) {
        if (contexts_.size() == contexts_max)
            return std::nullopt;
        free_.push_back(static_cast<std::uint16_t>(contexts_.size()));
        contexts_.emplace_back(options_);
        ids_.push_back(0);
        ends_.push_back(instant::max());
    }
    const auto slot = free_.back();
    free_.pop_back();
    auto &c = contexts_[slot];
    SP_INVARIANT(c.state == survey_state::idle && c.answers.empty());
    ++c.generation;
    c.open = true;
    return static_cast<context_id>(std::uint32_t{c.generation} << 16 | slot);
}

void surveyor_machine::close_context(context_id id, effects &out)
{
    auto *c = find(id);
    if (!c)
        return;
    cancel(id, out);
    c->open = false;
    free_.push_back(static_cast<std::uint16_t>(slot_of(*c)));
}

survey_state surveyor_machine::state(context_id id) const noexcept
{
    const auto *c = find(id);
    return c ? c->state : survey_state::idle;
}

std::uint32_t surveyor_machine::serial(context_id id) const noexcept
{
    const auto *c = find(id);
    return c ? c->serial : 0;
}

surveyor_machine::standing surveyor_machine::count(context_id id) const noexcept
{
    const auto *c = find(id);
    return c ? c->tally : standing{};
}

std::span<const surveyor_machine::respondent>
surveyor_machine::respondents(context_id id) const noexcept
{
    const auto *c = find(id);
    return c ? std::span<const respondent>(c->respondents) : std::span<const respondent>{};
}

// ---- asking ----

std::uint32_t surveyor_machine::fresh_id(std::uint32_t random) const noexcept
{
    std::uint32_t id = random | end_bit;
    while (std::ranges::find(ids_, id) != ids_.end()) // at most 4096 are taken of 2^31
        id = (id + 1) | end_bit;
    return id;
}

bool surveyor_machine::was_ours(std::uint32_t id) const noexcept
{
    return std::ranges::find(ended_, id) != ended_.end();
}

void surveyor_machine::on_survey(context_id id, frame_id frame, std::size_t size,
                                 std::uint32_t random, std::chrono::nanoseconds time, instant now,
                                 effects &out)
{
    auto *c = find(id);
    SP_INVARIANT(c);
    reset(*c);
    const auto slot = slot_of(*c);
    ids_[slot] = fresh_id(random);
    c->state = survey_state::open;
    set_end(slot, time < instant::max() - now ? now + time : instant::max());
    if (SP_PLANTED(survey_ends_early))
        set_end(slot, now + time / 2);
    if (SP_PLANTED(survey_never_ends))
        set_end(slot, now + 100 * time);

    std::array<std::byte, id_bytes> header;
    const std::uint32_t word = __builtin_bswap32(ids_[slot]);
    std::memcpy(header.data(), &word, sizeof word);
    ask(*c, {.frame = frame, .size = size, .header = header}, out);
    if (options_.end_when_all_answered && c->tally.pending == 0)
        end(*c);
    answers_.pump(out);
}

void surveyor_machine::ask(context &c, const fanout::outgoing &message, effects &out)
{
    const auto handed = fanout_.begin(message);
    for (std::size_t i = 0; i < fanout_.pipes(); ++i) {
        const auto pipe = fanout_.pipe(i);
        switch (fanout_.offer(handed, pipe, out)) {
        case fate::sent:
        case fate::queued:
            if (SP_PLANTED(survey_lists_half) && i % 2 == 1)
                continue;
            ++c.tally.asked;
            ++c.tally.pending;
            c.respondents.push_back({pipe, stance::pending});
            break;
        case fate::full:
        case fate::too_large:
            ++c.tally.missed;
            c.respondents.push_back({pipe, stance::missed});
            break;
        case fate::gone:
            break;
        }
    }
    fanout_.end(handed, out);
    std::ranges::sort(c.respondents, {}, &respondent::pipe);
}

// ---- answers ----

surveyor_machine::respondent *surveyor_machine::find(context &c, pipe_id pipe) noexcept
{
    const auto found = std::ranges::lower_bound(c.respondents, pipe, {}, &respondent::pipe);
    return found != c.respondents.end() && found->pipe == pipe ? &*found : nullptr;
}

void surveyor_machine::on_message(pipe_id pipe, frame_id frame, std::span<const std::byte> payload,
                                  instant now, effects &out)
{
    const auto refuse = [&](stat why) { answers_.refuse(pipe, frame, why, out); };
    if (payload.size() < id_bytes) {
        out.close_pipe(pipe, stat::pipe_bad_header);
        out.release(frame);
        return;
    }
    const std::uint32_t id = load_word(payload);
    if ((id & end_bit) == 0)
        return refuse(stat::socket_unknown_id);
    auto found = std::ranges::find(ids_, id);
    if (SP_PLANTED(survey_takes_former) && found == ids_.end())
        found = std::ranges::find_if(ids_, [](std::uint32_t other) { return other != 0; });
    if (found == ids_.end())
        return refuse(was_ours(id) ? stat::socket_late : stat::socket_unknown_id);
    auto &c = contexts_[static_cast<std::size_t>(found - ids_.begin())];
    // Packets are looked at before timers, and our loop may have stood still meanwhile.
    if (now >= ends_[static_cast<std::size_t>(found - ids_.begin())] &&
        !SP_PLANTED(survey_takes_late)) {
        SP_MARK(survey_late_answer);
        return refuse(stat::socket_late);
    }
    auto *r = find(c, pipe);
    if (!r || r->where == stance::missed)
        return refuse(stat::socket_foreign_reply);
    if (r->where == stance::answered && options_.one_answer_per_peer)
        return refuse(stat::socket_duplicate_answer);
    const auto answer = answers_.begin(pipe, frame, payload, id_bytes);
    c.answers.add(answer, answers_);
    answers_.end(answer, out);
    settle_up(c, *r, stance::answered);
}

// A respondent that is pending no more: it answered or it went.
void surveyor_machine::settle_up(context &c, respondent &r, stance where)
{
    if (r.where != stance::pending)
        return;
    r.where = where;
    --c.tally.pending;
    if (where == stance::answered)
        ++c.tally.answered;
    if (options_.end_when_all_answered && c.tally.pending == 0)
        end(c);
}

bool surveyor_machine::waiting(context_id id) const noexcept
{
    const auto *c = find(id);
    return c && !c->answers.empty();
}

std::optional<taken> surveyor_machine::take(context_id id, effects &out)
{
    auto *c = find(id);
    return c ? c->answers.take(answers_, out) : std::nullopt;
}

void surveyor_machine::tell_end(context_id id) noexcept
{
    auto *c = find(id);
    SP_INVARIANT(c && c->state == survey_state::over && c->answers.empty());
    c->state = survey_state::idle;
}

// ---- ends ----

// No answer counts from here on; those that came stay.
void surveyor_machine::end(context &c) noexcept
{
    const auto slot = slot_of(c);
    if (ids_[slot] == 0)
        return;
    ended_[ended_next_++ % ended_.size()] = std::exchange(ids_[slot], 0);
    c.state = survey_state::over;
    set_end(slot, instant::max());
}

void surveyor_machine::set_end(std::size_t slot, instant at) noexcept
{
    const bool was_earliest = ends_[slot] == earliest_;
    ends_[slot] = at;
    if (at <= earliest_)
        earliest_ = at;
    else if (was_earliest)
        earliest_ = *std::ranges::min_element(ends_);
}

void surveyor_machine::reset(context &c)
{
    end(c);
    c.answers.drop_all(stat::socket_abandoned, answers_);
    c.state = survey_state::idle;
    c.tally = {};
    c.respondents.clear();
    ++c.serial;
}

void surveyor_machine::cancel(context_id id, effects &out)
{
    auto *c = find(id);
    if (!c)
        return;
    reset(*c);
    answers_.pump(out);
}

void surveyor_machine::on_pipe_ready(pipe_id pipe, instant, effects &out)
{
    fanout_.ready(pipe, out);
}

void surveyor_machine::on_pipe_closed(pipe_id pipe, instant)
{
    fanout_.remove(pipe);
    for (std::size_t slot = 0; slot < contexts_.size(); ++slot) {
        if (ids_[slot] == 0)
            continue;
        auto &c = contexts_[slot];
        if (auto *r = find(c, pipe))
            settle_up(c, *r, stance::gone);
    }
}

void surveyor_machine::on_deadline(instant now)
{
    if (now < earliest_)
        return;
    for (std::size_t slot = 0; slot < ends_.size(); ++slot)
        if (ids_[slot] != 0 && ends_[slot] <= now) {
            ends_[slot] = instant::max(); // so that the earliest is looked for once, below
            end(contexts_[slot]);
        }
    earliest_ = *std::ranges::min_element(ends_);
}

void surveyor_machine::pump(instant, effects &out)
{
    answers_.pump(out);
    fanout_.pump(out);
}

std::size_t surveyor_machine::queued_in() const noexcept
{
    std::size_t unread = 0;
    for (const auto &c : contexts_)
        unread += c.answers.size();
    return unread;
}

std::size_t surveyor_machine::close(effects &out)
{
    for (auto &c : contexts_) {
        if (!c.open)
            continue;
        end(c);
        c.answers.drop_all(stat::socket_unread, answers_);
        c.state = survey_state::idle;
        ++c.serial;
        c.open = false;
    }
    const auto never_sent = fanout_.drop_all(stat::socket_closed, out);
    answers_.pump(out);
    return never_sent;
}

} // namespace sp::protocol
