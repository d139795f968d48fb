// SPDX-License-Identifier: BSD-2-Clause
//
// Things known by a name that stays valid or dies: index and generation in 32 bits, so that a
// closed one's name finds nothing. The slot that has been free for longest is used first, and its
// generation moves on, so a name comes again only after many others. No name is 0. Values stay
// where they are until they are removed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <utility>

namespace sp::transport {

template <class T, class Id>
class slots {
public:
    static constexpr std::uint32_t index_bits = 20;
    static constexpr std::size_t size_max = std::size_t{1} << index_bits;

    // Nothing: there are too many.
    [[nodiscard]] std::optional<Id> add(T value)
    {
        if (free_.empty() && all_.size() == size_max)
            return std::nullopt;
        // A few stay free, so that a name is not given again at once.
        if (free_.size() < spare && all_.size() < size_max) {
            all_.emplace_back();
            free_.push_front(static_cast<std::uint32_t>(all_.size() - 1));
        }
        const auto index = free_.front();
        free_.pop_front();
        auto &s = all_[index];
        s.value.emplace(std::move(value));
        ++size_;
        return name_of(index, s.generation);
    }
    void remove(Id id)
    {
        if (!find(id))
            return;
        const auto index = static_cast<std::uint32_t>(id) & mask;
        auto &s = all_[index];
        s.value.reset();
        s.generation = s.generation == generation_max ? 1 : s.generation + 1;
        free_.push_back(index);
        --size_;
    }
    [[nodiscard]] T *find(Id id) noexcept
    {
        const auto index = static_cast<std::uint32_t>(id) & mask;
        if (index >= all_.size() || !all_[index].value ||
            name_of(index, all_[index].generation) != id)
            return nullptr;
        return &*all_[index].value;
    }
    [[nodiscard]] const T *find(Id id) const noexcept
    {
        return const_cast<slots *>(this)->find(id);
    }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    template <class F>
    void each(F &&f)
    {
        for (std::uint32_t i = 0; i < all_.size(); ++i)
            if (all_[i].value)
                f(name_of(i, all_[i].generation), *all_[i].value);
    }

private:
    static constexpr std::uint32_t mask = (1u << index_bits) - 1;
    static constexpr std::uint32_t generation_max = (1u << (32 - index_bits)) - 1;
    static constexpr std::size_t spare = 64;

    struct slot {
        std::uint32_t generation = 1;
        std::optional<T> value;
    };

    [[nodiscard]] static Id name_of(std::uint32_t index, std::uint32_t generation) noexcept
    {
        return static_cast<Id>(generation << index_bits | index);
    }

    std::deque<slot> all_;
    std::deque<std::uint32_t> free_; // the one that has been free for longest comes first
    std::size_t size_ = 0;
};

} // namespace sp::transport
