// SPDX-License-Identifier: BSD-2-Clause
//
// Message buffers in sizes of powers of two, taken from the system in slabs and bounded by
// memory_max; large ones go back to the system when the memory is wanted for another size. The
// engine's thread allocates and counts references; an application thread that is
// done with a message gives its reference back through give_back(), the one call that may come from
// any thread. Frames live as long as the pool.
#pragma once

#include "userspace/protocol/types.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

namespace sp::core {

using protocol::frame_id;

struct alignas(64) frame {
    std::atomic<frame *> next_returned = nullptr; // written by the thread that gives the frame back
    frame_id id{};
    std::uint32_t references = 0; // the engine's thread only
    std::uint32_t size = 0;       // bytes in use
    std::uint32_t capacity = 0;
    std::uint32_t offset = 0; // where the body begins, behind the pattern's header
    std::uint8_t size_class = 0;
    bool shared = false; // several messages of the application own it: set before the first is out

    [[nodiscard]] std::byte *data() noexcept { return reinterpret_cast<std::byte *>(this + 1); }
    [[nodiscard]] std::span<std::byte> room() noexcept { return {data(), capacity}; }
    [[nodiscard]] std::span<std::byte> bytes() noexcept { return {data(), size}; }
    [[nodiscard]] std::span<std::byte> body() noexcept { return bytes().subspan(offset); }
};
static_assert(sizeof(frame) == 64);

class frame_pool {
public:
    explicit frame_pool(std::size_t memory_max) : memory_max_(memory_max) {}
    frame_pool(const frame_pool &) = delete;
    frame_pool &operator=(const frame_pool &) = delete;
    ~frame_pool()
    {
        for (auto *f : frames_)
            if (f && is_large(f->size_class))
                free_memory(reinterpret_cast<std::byte *>(f));
    }

    // A frame of `size` bytes with one reference, or null: memory_max is reached.
    [[nodiscard]] frame *allocate(std::size_t size) noexcept
    {
        const auto size_class = class_of(size);
        if (size_class >= free_.size())
            return nullptr;
        auto &list = free_[size_class];
        if (list.empty()) {
            collect();
            if (list.empty() && !grow(size_class))
                return nullptr;
        }
        auto *f = list.back();
        list.pop_back();
        f->references = 1;
        f->size = static_cast<std::uint32_t>(size);
        f->offset = 0;
        f->shared = false;
        return f;
    }

    [[nodiscard]] frame &operator[](frame_id id) noexcept
    {
        return *frames_[static_cast<std::uint32_t>(id)];
    }
    void reference(frame_id id) noexcept { ++(*this)[id].references; }

    void release(frame_id id) noexcept
    {
        auto &f = (*this)[id];
        SP_INVARIANT(f.references > 0);
        if (--f.references == 0)
            free_[f.size_class].push_back(&f); // the list has room for every frame of its class
    }

    // From any thread: the caller's reference goes when the engine next collects. True: somebody
    // asked for memory, and must be woken. Not for a frame that is shared, which would stand in the
    // list twice.
    [[nodiscard]] bool give_back(frame *f) noexcept
    {
        auto *head = returned_.load(std::memory_order_relaxed);
        do
            f->next_returned.store(head, std::memory_order_relaxed);
        while (!returned_.compare_exchange_weak(head, f,
                                                std::memory_order_release, // pairs with collect()
                                                std::memory_order_relaxed));
        return head == &asked_;
    }

    // Of a frame that is shared, by the engine's thread. True as above.
    [[nodiscard]] bool give_back_shared(frame &f) noexcept
    {
        release(f.id);
        return returned_.load(std::memory_order_relaxed) == &asked_;
    }

    // From now on the next give_back() tells. False: something has come back, try again.
    [[nodiscard]] bool ask() noexcept
    {
        frame *head = nullptr;
        return returned_.compare_exchange_strong(head, &asked_, std::memory_order_relaxed) ||
               head == &asked_;
    }

    void collect() noexcept
    {
        if (auto *head = returned_.load(std::memory_order_relaxed);
            head == nullptr || head == &asked_)
            return;
        auto *f = returned_.exchange(nullptr,
                                     std::memory_order_acquire); // the giver's last reads are done
        while (f && f != &asked_) {
            auto *next = f->next_returned.load(std::memory_order_relaxed);
            release(f->id);
            f = next;
        }
    }

    [[nodiscard]] std::size_t memory() const noexcept { return memory_; }
    [[nodiscard]] std::size_t memory_max() const noexcept { return memory_max_; }
    [[nodiscard]] std::size_t
    in_use() noexcept // frames with a reference: the census that tests take
    {
        collect();
        std::size_t free = 0;
        for (const auto &list : free_)
            free += list.size();
        return frames_.size() - names_.size() - free;
    }

private:
    static constexpr std::size_t smallest_bits = 8; // 256 bytes, header included
    static constexpr std::size_t classes = 24;      // up to 2 GiB
    static constexpr std::size_t slab_bytes = 64 * 1024;

    static std::size_t class_of(std::size_t size) noexcept
    {
        const auto bits = static_cast<std::size_t>(std::bit_width(size + sizeof(frame) - 1));
        return bits <= smallest_bits ? 0 : bits - smallest_bits;
    }

    static constexpr bool is_large(std::size_t size_class) noexcept
    {
        return std::size_t{1} << (size_class + smallest_bits) >= slab_bytes;
    }
    static void free_memory(std::byte *memory) noexcept
    {
        ::operator delete(memory, std::align_val_t{64});
    }

    bool grow(std::size_t size_class) noexcept
    {
        const std::size_t each = std::size_t{1} << (size_class + smallest_bits);
        const std::size_t bytes = std::max(each, slab_bytes);
        if (bytes > memory_max_)
            return false;
        if (memory_ + bytes > memory_max_ && !make_room(bytes))
            return false;
        auto *memory =
            static_cast<std::byte *>(::operator new(bytes, std::align_val_t{64}, std::nothrow));
        if (!memory)
            return false;
        if (!is_large(size_class))
            slabs_.emplace_back(memory);
        memory_ += bytes;
        for (std::size_t at = 0; at < bytes; at += each) {
            auto *f = ::new (memory + at) frame;
            f->id = new_name();
            f->size_class = static_cast<std::uint8_t>(size_class);
            f->capacity = static_cast<std::uint32_t>(each - sizeof(frame));
            frames_[static_cast<std::uint32_t>(f->id)] = f;
            free_[size_class].push_back(f);
        }
        return true;
    }

    // Gives free large frames back to the system, the largest first, until `bytes` more are
    // allowed.
    bool make_room(std::size_t bytes) noexcept
    {
        for (std::size_t size_class = classes; size_class-- > 0 && is_large(size_class);)
            while (memory_ + bytes > memory_max_ && !free_[size_class].empty()) {
                auto *f = free_[size_class].back();
                free_[size_class].pop_back();
                frames_[static_cast<std::uint32_t>(f->id)] = nullptr;
                names_.push_back(f->id);
                memory_ -= std::size_t{1} << (size_class + smallest_bits);
                free_memory(reinterpret_cast<std::byte *>(f));
            }
        return memory_ + bytes <= memory_max_;
    }

    frame_id new_name()
    {
        if (names_.empty()) {
            names_.push_back(static_cast<frame_id>(frames_.size()));
            frames_.push_back(nullptr);
        }
        const auto name = names_.back();
        names_.pop_back();
        return name;
    }

    struct slab_delete {
        void operator()(std::byte *memory) const noexcept { free_memory(memory); }
    };

    std::size_t memory_max_;
    std::size_t memory_ = 0;
    std::vector<std::unique_ptr<std::byte, slab_delete>> slabs_;
    std::vector<frame *> frames_; // by name
    std::vector<frame_id> names_; // of frames_, given back and free to be used again
    std::array<std::vector<frame *>, classes> free_;
    frame asked_; // lies at the bottom of the returned ones while somebody waits for memory
    alignas(64) std::atomic<frame *> returned_ = nullptr;
};

} // namespace sp::core
