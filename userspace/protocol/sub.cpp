// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/protocol/sub.hpp"
#include "userspace/plants.hpp"

#include <utility>

namespace sp::protocol {

// ---- contexts ----

sub_machine::context *sub_machine::find(context_id id) noexcept
{
    const auto slot = static_cast<std::uint32_t>(id) & 0xffff;
    if (slot >= contexts_.size() || !contexts_[slot].open ||
        contexts_[slot].generation != static_cast<std::uint32_t>(id) >> 16)
        return nullptr;
    return &contexts_[slot];
}

const sub_machine::context *sub_machine::find(context_id id) const noexcept
{
    return const_cast<sub_machine *>(this)->find(id);
}

topic_tree::subscriber sub_machine::slot_of(const context &c) const noexcept
{
    return static_cast<topic_tree::subscriber>(&c - contexts_.data());
}

std::optional<context_id> sub_machine::open_context()
{
    if (free_.empty()) {
        if (contexts_.size() == contexts_max)
            return std::nullopt;
        free_.push_back(static_cast<std::uint16_t>(contexts_.size()));
        contexts_.push_back({.queue = inbox(options_.queue, options_.on_full)});
    }
    const auto slot = free_.back();
    free_.pop_back();
    auto &c = contexts_[slot];
    SP_INVARIANT(!c.open && c.queue.empty());
    ++c.generation;
    c.open = true;
    return static_cast<context_id>(std::uint32_t{c.generation} << 16 | slot);
}

void sub_machine::close_context(context_id id, effects &out)
{
    auto *c = find(id);
    if (!c)
        return;
    topics_.remove_all(slot_of(*c));
    c->queue.drop_all(stat::socket_unread, arrivals_);
    c->open = false;
    free_.push_back(slot_of(*c));
    arrivals_.pump(out);
}

// ---- topics ----

void sub_machine::subscribe(context_id id, std::span<const std::byte> topic)
{
    if (const auto *c = find(id))
        topics_.add(topic, slot_of(*c));
}

bool sub_machine::unsubscribe(context_id id, std::span<const std::byte> topic, effects &out)
{
    auto *c = find(id);
    if (!c)
        return false;
    const auto who = slot_of(*c);
    if (!topics_.remove(topic, who))
        return SP_PLANTED(sub_ends_anything);
    if (SP_PLANTED(sub_keeps_unsubscribed))
        return true;
    c->queue.keep_if(
        [&](std::span<const std::byte> message) { return topics_.matches(message, who); },
        stat::socket_unsubscribed, arrivals_);
    arrivals_.pump(out);
    return true;
}

// ---- messages ----

void sub_machine::on_message(pipe_id pipe, frame_id frame, std::span<const std::byte> payload,
                             instant, effects &out)
{
    // One byte of the topic is not looked at, if that is planted.
    const auto wanted = topics_.match(SP_PLANTED(sub_topic_short)
                                          ? payload.first(std::min<std::size_t>(payload.size(), 1))
                                          : payload);
    if (wanted.empty())
        return arrivals_.refuse(pipe, frame, stat::socket_filtered, out);
    const auto id = arrivals_.begin(pipe, frame, payload);
    for (const auto slot : wanted) {
        contexts_[slot].queue.add(id, arrivals_);
        if (SP_PLANTED(sub_delivers_twice))
            contexts_[slot].queue.add(id, arrivals_);
    }
    arrivals_.end(id, out);
}

bool sub_machine::waiting(context_id id) const noexcept
{
    const auto *c = find(id);
    return c && !c->queue.empty();
}

std::optional<taken> sub_machine::take(context_id id, effects &out)
{
    auto *c = find(id);
    return c ? c->queue.take(arrivals_, out) : std::nullopt;
}

std::size_t sub_machine::queued_in() const noexcept
{
    std::size_t n = 0;
    for (const auto &c : contexts_)
        n += c.queue.size();
    return n;
}

std::size_t sub_machine::close(effects &out)
{
    for (auto &c : contexts_)
        c.queue.drop_all(stat::socket_unread, arrivals_);
    arrivals_.pump(out);
    return 0;
}

} // namespace sp::protocol
