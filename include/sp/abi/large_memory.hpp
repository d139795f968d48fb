// SPDX-License-Identifier: BSD-2-Clause
//
// Memory of its own for one large message, which a process of this host can be handed by a
// descriptor. Who makes it knows the system (transport/handover.hpp); the frame pool keeps it and
// makes no system call: what both know is this.
#pragma once

#include <cstddef>
#include <utility>

namespace sp::inline v1 {

class large_memory {
public:
    struct place {
        std::byte *map = nullptr;  // what was taken from the system begins here
        std::size_t mapped = 0;    // and has so many bytes
        std::byte *body = nullptr; // at the beginning of a page
        std::size_t size = 0;      // room for the body; once it is sealed, its size
        int fd = -1;               // -1: it cannot be handed over, or not again
        bool sealed = false;       // nobody, nor its maker, can write the body any more
    };
    using ending = void (*)(place &) noexcept;

    large_memory() noexcept = default;
    large_memory(const place &at, ending end) noexcept : at_(at), end_(end) {}
    large_memory(large_memory &&other) noexcept
        : at_(std::exchange(other.at_, {})), end_(std::exchange(other.end_, nullptr))
    {
    }
    large_memory &operator=(large_memory &&other) noexcept
    {
        if (this != &other) {
            if (end_)
                end_(at_);
            at_ = std::exchange(other.at_, {});
            end_ = std::exchange(other.end_, nullptr);
        }
        return *this;
    }
    large_memory(const large_memory &) = delete;
    large_memory &operator=(const large_memory &) = delete;
    ~large_memory()
    {
        if (end_)
            end_(at_);
    }

    explicit operator bool() const noexcept { return end_ != nullptr; }
    [[nodiscard]] place *operator->() noexcept { return &at_; }
    [[nodiscard]] const place *operator->() const noexcept { return &at_; }

private:
    place at_{};
    ending end_ = nullptr;
};

// Room for a body of so many bytes, to be written; empty: the system has none to give.
using large_maker = large_memory (*)(std::size_t size) noexcept;

// What came of handing it over: the peer has it, it must wait as for a ring that is full, or it
// cannot be and is copied.
enum class handing : unsigned char { done, full, copy };

} // namespace sp::inline v1
