// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/protocol/topics.hpp"

#include "userspace/invariant.hpp"

#include <algorithm>
#include <utility>

namespace sp::protocol {
namespace {

std::string_view text(std::span<const std::byte> bytes) noexcept
{
    return {reinterpret_cast<const char *>(bytes.data()), bytes.size()};
}

std::size_t common_length(std::string_view a, std::string_view b) noexcept
{
    const auto end = std::ranges::mismatch(a, b).in1;
    return static_cast<std::size_t>(end - a.begin());
}

} // namespace

// ---- going down ----

std::size_t topic_tree::child_position(const node &n, char first) const noexcept
{
    const auto at = std::ranges::lower_bound(n.children, first, {},
                                             [&](index i) { return nodes_[i].label.front(); });
    return static_cast<std::size_t>(at - n.children.begin());
}

std::optional<topic_tree::index> topic_tree::child(index of, char first) const noexcept
{
    const auto &n = nodes_[of];
    const auto position = child_position(n, first);
    if (position == n.children.size() || nodes_[n.children[position]].label.front() != first)
        return std::nullopt;
    return n.children[position];
}

std::optional<topic_tree::place> topic_tree::deeper(const place &from) const noexcept
{
    if (from.rest.empty())
        return std::nullopt;
    const auto next = child(from.at, from.rest.front());
    if (!next || !from.rest.starts_with(nodes_[*next].label))
        return std::nullopt;
    return place{.at = *next, .rest = from.rest.substr(nodes_[*next].label.size())};
}

std::span<const topic_tree::subscriber> topic_tree::match(std::span<const std::byte> message)
{
    found_.clear();
    ++matches_;
    std::optional<place> here = place{.at = root, .rest = text(message)};
    for (; here; here = deeper(*here))
        for (const auto who : nodes_[here->at].subscribers)
            if (std::exchange(seen_[who], matches_) != matches_)
                found_.push_back(who);
    return found_;
}

bool topic_tree::matches(std::span<const std::byte> message, subscriber who) const noexcept
{
    std::optional<place> here = place{.at = root, .rest = text(message)};
    for (; here; here = deeper(*here))
        if (std::ranges::binary_search(nodes_[here->at].subscribers, who))
            return true;
    return false;
}

bool topic_tree::may_match(std::span<const std::byte> begin, bool whole) const noexcept
{
    place here{.at = root, .rest = text(begin)};
    while (nodes_[here.at].subscribers.empty()) {
        if (here.rest.empty())
            return !whole && !nodes_[here.at].children.empty();
        const auto next = child(here.at, here.rest.front());
        if (!next)
            return false;
        const auto &label = nodes_[*next].label;
        if (!here.rest.starts_with(label))
            return !whole && label.starts_with(here.rest);
        here = {.at = *next, .rest = here.rest.substr(label.size())};
    }
    return true;
}

// ---- growing ----

topic_tree::index topic_tree::create(std::string_view label, index parent)
{
    if (unused_.empty()) {
        unused_.push_back(static_cast<index>(nodes_.size()));
        nodes_.emplace_back();
    }
    const auto at = unused_.back();
    unused_.pop_back();
    nodes_[at].label = label;
    nodes_[at].parent = parent;
    auto &siblings = nodes_[parent].children;
    const auto position = child_position(nodes_[parent], label.front());
    siblings.insert(siblings.begin() + static_cast<std::ptrdiff_t>(position), at);
    return at;
}

// The node keeps the first `length` bytes of its label; a new child gets the rest and all it had.
void topic_tree::split(index at, std::size_t length)
{
    const auto rest = nodes_[at].label.substr(length);
    auto children = std::exchange(nodes_[at].children, {});
    auto subscribers = std::exchange(nodes_[at].subscribers, {});
    nodes_[at].label.resize(length);
    const auto below = create(rest, at);
    for (const auto i : children)
        nodes_[i].parent = below;
    nodes_[below].children = std::move(children);
    nodes_[below].subscribers = std::move(subscribers);
}

void topic_tree::add(std::span<const std::byte> topic, subscriber who)
{
    if (who >= seen_.size())
        seen_.resize(std::size_t{who} + 1);
    index at = root;
    for (auto rest = text(topic); !rest.empty();) {
        const auto next = child(at, rest.front());
        if (!next) {
            at = create(rest, at);
            break;
        }
        const auto common = common_length(nodes_[*next].label, rest);
        if (common < nodes_[*next].label.size())
            split(*next, common);
        at = *next;
        rest.remove_prefix(common);
    }
    auto &all = nodes_[at].subscribers;
    const auto position = std::ranges::lower_bound(all, who);
    if (position == all.end() || *position != who)
        all.insert(position, who);
}

// ---- shrinking ----

bool topic_tree::remove(std::span<const std::byte> topic, subscriber who)
{
    place here{.at = root, .rest = text(topic)};
    while (!here.rest.empty()) {
        const auto next = deeper(here);
        if (!next)
            return false;
        here = *next;
    }
    auto &all = nodes_[here.at].subscribers;
    const auto position = std::ranges::lower_bound(all, who);
    if (position == all.end() || *position != who)
        return false;
    all.erase(position);
    tidy(here.at);
    return true;
}

void topic_tree::remove_all(subscriber who)
{
    for (auto &n : nodes_)
        std::erase(n.subscribers, who);
    for (index at = 0; at < nodes_.size(); ++at)
        tidy(at);
}

// Nodes stay only for subscribers or as forks.
void topic_tree::tidy(index at)
{
    while (at != root && !nodes_[at].label.empty() && nodes_[at].subscribers.empty()) {
        const auto parent = nodes_[at].parent;
        if (nodes_[at].children.size() > 1)
            return;
        if (nodes_[at].children.empty()) {
            detach(at);
            destroy(at);
            at = parent;
        } else {
            merge_with_child(at); // which may be bare itself, while many go at once
        }
    }
}

void topic_tree::merge_with_child(index at)
{
    const auto below = nodes_[at].children.front();
    nodes_[at].label += nodes_[below].label;
    nodes_[at].children = std::move(nodes_[below].children);
    nodes_[at].subscribers = std::move(nodes_[below].subscribers);
    for (const auto i : nodes_[at].children)
        nodes_[i].parent = at;
    destroy(below);
}

void topic_tree::detach(index at)
{
    auto &siblings = nodes_[nodes_[at].parent].children;
    const auto position = child_position(nodes_[nodes_[at].parent], nodes_[at].label.front());
    SP_INVARIANT(position < siblings.size() && siblings[position] == at);
    siblings.erase(siblings.begin() + static_cast<std::ptrdiff_t>(position));
}

void topic_tree::destroy(index at)
{
    SP_INVARIANT(at != root);
    nodes_[at] = {};
    unused_.push_back(at);
}

} // namespace sp::protocol
