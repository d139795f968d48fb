// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/transport/broadcast.hpp"

#include "userspace/ring/doorbell.hpp"
#include "userspace/transport/hearing.hpp"

#include <algorithm>
#include <cstring>

namespace sp::transport {
namespace {

template <class Memory, class Byte>
Memory memory_of(const mapping &map, std::size_t ring_bytes) noexcept
{
    const auto word = [&](std::size_t offset) {
        return reinterpret_cast<std::uint64_t *>(map.at(offset));
    };
    return {.slots = std::span<Byte>(map.at(SP_BROADCAST_SLOTS), ring_bytes),
            .data = std::span<Byte>(map.at(SP_BROADCAST_SLOTS) + ring_bytes, ring_bytes),
            .oldest = word(SP_BROADCAST_OLDEST),
            .published = word(SP_BROADCAST_PUBLISHED)};
}

} // namespace

// ---- hearing

hearing::hearing(mapping map) noexcept
    : map_(std::move(map)), memory_(memory_of<ring::subscribed_memory, const std::byte>(
                                map_, (map_.size() - SP_BROADCAST_SLOTS) / 2))
{
}

std::unique_ptr<hearing> hearing::map(const descriptor &fd) noexcept
{
    auto map = map_sealed(fd);
    if (!map || map.size() <= SP_BROADCAST_SLOTS)
        return nullptr;
    sp_broadcast_head head; // copied once; nothing is read from it again
    std::memcpy(&head, map.at(0), sizeof head);
    if (head.magic != SP_BROADCAST_MAGIC || head.version != SP_BROADCAST_VERSION ||
        !own_segment::takes(head.ring_bytes) ||
        map.size() != SP_BROADCAST_SLOTS + 2 * head.ring_bytes)
        return nullptr;
    return std::unique_ptr<hearing>(new hearing(std::move(map)));
}

bool hearing::board(const sp_boarding &b) noexcept
{
    const auto before = boarded_ ? reached_ : b.left;
    if (aboard_ || b.left < before || b.next < b.left || b.next >= ring::slot_busy / 2) {
        fault_ = true;
        return false;
    }
    missed_ += b.left - before; // a parting was overrun, and these with it
    listener_.emplace(memory_, b.next);
    reached_ = b.next;
    partings_ = b.partings;
    boarded_ = aboard_ = true;
    return true;
}

// ---- the publisher's side

std::shared_ptr<broadcast> broadcast::make(std::size_t ring_bytes, broadcasts &all) noexcept
{
    auto memory = make_sealed(SP_BROADCAST_SLOTS + 2 * ring_bytes);
    if (!memory)
        return nullptr;
    const sp_broadcast_head head{.magic = SP_BROADCAST_MAGIC,
                                 .version = SP_BROADCAST_VERSION,
                                 .ring_bytes = ring_bytes,
                                 .reserved = {}};
    std::memcpy(memory->map.at(0), &head, sizeof head);
    return std::make_shared<broadcast>(std::move(*memory), ring_bytes, all);
}

broadcast::broadcast(sealed_memory memory, std::size_t ring_bytes, broadcasts &all) noexcept
    : fd_(std::move(memory.fd)), map_(std::move(memory.map)),
      ring_(memory_of<ring::published_memory, std::byte>(map_, ring_bytes)), all_(&all)
{
}

broadcast::member *broadcast::find(const shared_peer &peer) noexcept
{
    const auto found = std::ranges::find(members_, &peer, &member::peer);
    return found == members_.end() ? nullptr : &*found;
}

void broadcast::add(shared_peer &peer, process where)
{
    members_.push_back({.peer = &peer, .sleep = &peer.sleep(), .where = where});
    tell_patience();
}

void broadcast::remove(shared_peer &peer) noexcept
{
    auto *m = find(peer);
    if (!m)
        return;
    if (m->aboard)
        peer.leave(published());
    *m = members_.back();
    members_.pop_back();
    tell_patience();
    if (members_.empty() && std::exchange(stirred_, false))
        std::erase(all_->stirred_, this);
}

void broadcast::board(shared_peer &peer) noexcept
{
    auto *m = find(peer);
    SP_INVARIANT(m && !m->aboard);
    m->boarded = published();
    peer.board({.next = m->boarded,
                .left = std::exchange(m->ever, true) ? m->left : m->boarded,
                .partings = partings_});
    m->aboard = true;
}

void broadcast::part() noexcept
{
    for (auto &m : members_)
        if (std::exchange(m.aboard, false))
            m.left = published();
    ring_.publish(partings_ << 1 | hearing::parting, {});
    ++partings_;
    stir();
}

void broadcast::publish(std::span<const std::byte> body) noexcept
{
    ring_.publish(partings_ << 1, body);
    stir();
}

// What is the oldest that it may still want to read, and how far it is: what it says counts only
// between what it said before and what there is.
std::uint64_t broadcast::wants_from(member &m) const noexcept
{
    m.passed = m.peer->heard(m.passed, published());
    if (m.ever && m.passed < m.left)
        return m.passed;
    return m.aboard ? std::max(m.passed, m.boarded) : published();
}

std::uint64_t broadcast::slowest() noexcept
{
    auto least = published();
    for (auto &m : members_)
        least = std::min(least, wants_from(m));
    return least;
}

bool broadcast::has_room(std::size_t n) noexcept
{
    if (!full_ && ring_.room_for(n, slowest_))
        return true;
    slowest_ = slowest();
    full_ = !ring_.room_for(n, slowest_);
    for (auto &m : members_)
        m.peer->await(full_ && wants_from(m) < published() ? std::optional(m.passed)
                                                           : std::nullopt);
    return !full_;
}

bool broadcast::crowded() noexcept
{
    const auto most = ring_.slot_count() / 4 * 3;
    return std::ranges::any_of(members_, [&](member &m) {
        return m.where == process::own && published() - wants_from(m) > most;
    });
}

std::uint64_t broadcast::unread(const shared_peer &peer) noexcept
{
    auto *m = find(peer);
    if (!m || !m->ever)
        return 0;
    const auto from = wants_from(*m);
    if (m->passed < m->left)
        return m->left - m->passed + (m->aboard ? published() - m->boarded : 0);
    return published() - from;
}

// Who announced a sleep while it was another must be seen by the next look, whatever we publish.
void broadcast::tell_patience() noexcept
{
    auto &word = ring::word_at(map_.at(SP_BROADCAST_PATIENCE));
    const std::uint64_t patience =
        members_.size() < many ? 0 : std::chrono::nanoseconds(wake_patience).count();
    if (ring::hardware::load<std::memory_order_relaxed>(word) == patience)
        return;
    ring::hardware::store<std::memory_order_relaxed>(word, patience);
    looked_at_ = {};
    stir();
}

// A sleep has a number of its own: who was rung and has not come yet is not rung again.
std::optional<std::size_t> broadcast::wake() noexcept
{
    std::size_t woken = 0;
    ring::hardware::fence<std::memory_order_seq_cst>(); // pairs with unixgram::arm()
    if (members_.size() >= many) {
        // After what was published, so that none of it is older than this.
        const auto now = std::chrono::steady_clock::now();
        if (now - looked_at_ < wake_patience)
            return std::nullopt;
        looked_at_ = now;
    }
    for (auto &m : members_) {
        const auto sleep = m.aboard ? ring::hardware::load<std::memory_order_relaxed>(*m.sleep) : 0;
        if (sleep == 0 || sleep == m.rung)
            continue;
        m.rung = sleep;
        (void)m.peer->ring_bell();
        ++woken;
    }
    return woken;
}

void broadcast::stir() noexcept
{
    if (std::exchange(stirred_, true))
        return;
    all_->stirred_.push_back(this);
}

// ---- all of a node

std::shared_ptr<broadcast> broadcasts::of(std::uint32_t socket, std::size_t ring_bytes) noexcept
{
    if (const auto known = rings_.find(socket); known != rings_.end())
        if (auto ring = known->second.lock())
            return ring;
    std::erase_if(rings_, [](const auto &each) { return each.second.expired(); });
    auto made = broadcast::make(ring_bytes, *this);
    if (made)
        rings_[socket] = made;
    return made;
}

broadcasts::woken broadcasts::flush() noexcept
{
    std::size_t of_them = 0;
    std::erase_if(stirred_, [&](broadcast *each) {
        const auto n = each->wake();
        of_them += n.value_or(0);
        each->stirred_ = !n;
        return n.has_value();
    });
    return {.of_them = of_them, .all = stirred_.empty()};
}

} // namespace sp::transport
