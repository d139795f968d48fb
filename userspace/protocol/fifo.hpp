// SPDX-License-Identifier: BSD-2-Clause
//
// A queue in one piece of memory that is used again and again: it grows to the longest it has been
// and allocates nothing after that. Whoever uses it bounds it.
#pragma once

#include "userspace/invariant.hpp"

#include <cstddef>
#include <utility>
#include <vector>

namespace sp::protocol {

template <class Item> // default-constructible and cheap to copy
class fifo {
public:
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    [[nodiscard]] Item &operator[](std::size_t i) noexcept { return items_[place(i)]; }
    [[nodiscard]] const Item &operator[](std::size_t i) const noexcept { return items_[place(i)]; }
    [[nodiscard]] Item &front() noexcept { return (*this)[0]; }

    void push_back(const Item &item)
    {
        reserve_one();
        items_[place(size_++)] = item;
    }

    void push_front(const Item &item)
    {
        reserve_one();
        first_ = (first_ - 1) & (items_.size() - 1);
        ++size_;
        items_[first_] = item;
    }

    Item pop_front() noexcept
    {
        SP_INVARIANT(size_ > 0);
        const auto item = items_[first_];
        first_ = place(1);
        --size_;
        return item;
    }

    // Keeps the first `n`.
    void truncate(std::size_t n) noexcept
    {
        SP_INVARIANT(n <= size_);
        size_ = n;
    }

private:
    [[nodiscard]] std::size_t place(std::size_t i) const noexcept
    {
        return (first_ + i) & (items_.size() - 1); // the size is a power of two
    }

    void reserve_one()
    {
        if (size_ < items_.size())
            return;
        std::vector<Item> larger(items_.empty() ? 8 : items_.size() * 2);
        for (std::size_t i = 0; i < size_; ++i)
            larger[i] = items_[place(i)];
        items_ = std::move(larger);
        first_ = 0;
    }

    std::vector<Item> items_;
    std::size_t first_ = 0, size_ = 0;
};

} // namespace sp::protocol
