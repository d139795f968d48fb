// SPDX-License-Identifier: BSD-2-Clause
//
// Objects addressed by {index, generation}: a name of something that is gone finds nothing, however
// long it is kept. References to an object stay valid until it is removed. The low 16 bits of a
// name are the index, the next 15 the generation, which is never 0, so that 0 names nothing. Bit 31
// is never set: names of pipes travel in backtraces, where it marks the end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace sp::core {

template <class T, class Id>
class slab {
public:
    explicit slab(std::size_t objects_max) : max_(objects_max < 65536 ? objects_max : 65536) {}

    // A new object, or null when `objects_max` exist.
    [[nodiscard]] T *add(Id &name)
    {
        if (free_.empty()) {
            if (places_.size() == max_)
                return nullptr;
            free_.push_back(static_cast<std::uint32_t>(places_.size()));
            places_.emplace_back();
        }
        const auto index = free_.back();
        free_.pop_back();
        auto &slot = places_[index];
        slot.generation = slot.generation == 0x7fff ? 1 : slot.generation + 1;
        slot.object = std::make_unique<T>();
        name = static_cast<Id>(slot.generation << 16 | index);
        ++size_;
        return slot.object.get();
    }

    [[nodiscard]] T *find(Id name) noexcept
    {
        const auto index = static_cast<std::uint32_t>(name) & 0xffff;
        if (index >= places_.size() ||
            places_[index].generation != static_cast<std::uint32_t>(name) >> 16)
            return nullptr;
        return places_[index].object.get(); // null after its end, until the place is used again
    }

    [[nodiscard]] T *at(std::size_t index) noexcept
    {
        return index < places_.size() ? places_[index].object.get() : nullptr;
    }

    [[nodiscard]] Id name(std::size_t index) const noexcept
    {
        return static_cast<Id>(places_[index].generation << 16 | static_cast<std::uint32_t>(index));
    }

    void remove(Id name) noexcept
    {
        if (!find(name))
            return;
        const auto index = static_cast<std::uint32_t>(name) & 0xffff;
        places_[index].object.reset();
        free_.push_back(index);
        --size_;
    }

    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    // Calls f(name, object) for each; f may remove the object it was given.
    template <class F>
    void each(F &&f)
    {
        for (std::size_t i = 0; i < places_.size(); ++i)
            if (places_[i].object)
                f(name(i), *places_[i].object);
    }

private:
    struct place {
        std::uint32_t generation = 0; // 15 bits of it are used
        std::unique_ptr<T> object;
    };

    std::size_t max_;
    std::size_t size_ = 0;
    std::vector<place> places_;
    std::vector<std::uint32_t> free_;
};

} // namespace sp::core
