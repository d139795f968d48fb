// SPDX-License-Identifier: BSD-2-Clause
//
// Message buffers in sizes of powers of two, taken from the system in slabs and bounded by
// memory_max; slabs of which every frame is free, and large frames, which are slabs of their own,
// go back to the system when the memory is wanted for another size. The
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
#include <new>
#include <string_view>
#include <utility>
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
    std::uint32_t slab = 0;   // that it is cut from
    std::uint8_t size_class = 0;
    bool shared = false; // several messages of the application own it: set before the first is out
    std::string_view transport{}; // that it came by; static storage; empty: it is of this process

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
        for (const auto &each : slabs_)
            free_memory(each.memory);
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
            if (list.empty() && !grow(size_class)) {
                ++denials_;
                return nullptr;
            }
        }
        auto *f = list.back();
        list.pop_back();
        if (auto &from = slabs_[f->slab]; from.free-- == from.frames)
            --whole_[size_class];
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
        if (--f.references > 0)
            return;
        free_[f.size_class].push_back(&f); // the list has room for every frame of its class
        if (auto &from = slabs_[f.slab]; ++from.free == from.frames)
            ++whole_[f.size_class];
    }

    // From any thread: the caller's reference goes when the engine next collects. asked: somebody
    // wants memory, and must be woken. retired: nobody collects any more, and the reference is as
    // good as gone. Not for a frame that is shared, which would stand in the
    // list twice.
    enum class giving : std::uint8_t { done, asked, retired };
    [[nodiscard]] giving give_back(frame *f) noexcept
    {
        auto *head = returned_.load(std::memory_order_relaxed);
        do {
            if (head == &retired_)
                return giving::retired;
            f->next_returned.store(head, std::memory_order_relaxed);
        } while (!returned_.compare_exchange_weak(head, f,
                                                  std::memory_order_release, // pairs with collect()
                                                  std::memory_order_relaxed));
        return head == &asked_ ? giving::asked : giving::done;
    }

    // Of a frame that is shared, by the engine's thread.
    [[nodiscard]] giving give_back_shared(frame &f) noexcept
    {
        const auto *head = returned_.load(std::memory_order_relaxed);
        if (head == &retired_)
            return giving::retired;
        release(f.id);
        regain();
        return head == &asked_ ? giving::asked : giving::done;
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
        release_all(returned_.exchange(
            nullptr, std::memory_order_acquire)); // the giver's last reads are done
    }

    // A reference is the application's from now on, and is the engine's again. collect() and
    // give_back_shared() regain by themselves.
    void lend() noexcept { ++lent_; }
    void regain() noexcept { --lent_; }

    // Nobody collects any more. How many references the application still has: of each give_back()
    // says `retired`, and who hears it last may end the pool.
    [[nodiscard]] std::size_t retire() noexcept
    {
        release_all(returned_.exchange(&retired_, std::memory_order_acquire));
        return lent_;
    }

    // What a frame of `size` bytes takes of the memory, its own header included.
    [[nodiscard]] static constexpr std::size_t footprint(std::size_t size) noexcept
    {
        return std::size_t{1} << (class_of(size) + smallest_bits);
    }
    [[nodiscard]] std::size_t memory() const noexcept { return memory_; }
    [[nodiscard]] std::uint64_t denials() const noexcept { return denials_; } // for memory_max
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

    static constexpr std::size_t class_of(std::size_t size) noexcept
    {
        if (size > std::size_t{1} << 32)
            return classes; // there is none
        const auto bits = static_cast<std::size_t>(std::bit_width(size + sizeof(frame) - 1));
        return bits <= smallest_bits ? 0 : bits - smallest_bits;
    }

    static constexpr std::size_t slab_size(std::size_t size_class) noexcept
    {
        return std::max(std::size_t{1} << (size_class + smallest_bits), slab_bytes);
    }
    void release_all(frame *f) noexcept
    {
        while (f && f != &asked_) {
            auto *next = f->next_returned.load(std::memory_order_relaxed);
            release(f->id);
            regain();
            f = next;
        }
    }
    static void free_memory(std::byte *memory) noexcept
    {
        ::operator delete(memory, std::align_val_t{64});
    }

    struct slab {
        std::byte *memory = nullptr; // null: given back, and its number may be used again
        std::uint32_t frames = 0, free = 0;
    };

    bool grow(std::size_t size_class) noexcept
    {
        const std::size_t each = std::size_t{1} << (size_class + smallest_bits);
        const auto bytes = slab_size(size_class);
        if (bytes > memory_max_)
            return false;
        if (memory_ + bytes > memory_max_ && !make_room(bytes))
            return false;
        auto *memory =
            static_cast<std::byte *>(::operator new(bytes, std::align_val_t{64}, std::nothrow));
        if (!memory)
            return false;
        memory_ += bytes;
        if (unused_slabs_.empty()) {
            unused_slabs_.push_back(static_cast<std::uint32_t>(slabs_.size()));
            slabs_.emplace_back();
        }
        const auto number = unused_slabs_.back();
        unused_slabs_.pop_back();
        const auto frames = static_cast<std::uint32_t>(bytes / each);
        slabs_[number] = {.memory = memory, .frames = frames, .free = frames};
        ++whole_[size_class];
        for (std::size_t at = 0; at < bytes; at += each) {
            auto *f = ::new (memory + at) frame;
            f->id = new_name();
            f->size_class = static_cast<std::uint8_t>(size_class);
            f->capacity = static_cast<std::uint32_t>(each - sizeof(frame));
            f->slab = number;
            frames_[static_cast<std::uint32_t>(f->id)] = f;
            free_[size_class].push_back(f);
        }
        return true;
    }

    // Gives slabs back to the system, the largest first, until `bytes` more are allowed. Nothing is
    // given back in vain: it would have to be fetched again.
    bool make_room(std::size_t bytes) noexcept
    {
        std::size_t whole = 0;
        for (std::size_t size_class = 0; size_class < classes; ++size_class)
            whole += whole_[size_class] * slab_size(size_class);
        if (memory_ - whole + bytes > memory_max_)
            return false;
        for (std::size_t size_class = classes; size_class-- > 0;)
            if (memory_ + bytes > memory_max_ && whole_[size_class] > 0)
                give_whole(size_class, bytes);
        return true;
    }

    // As many whole slabs of this class as `bytes` more need.
    void give_whole(std::size_t size_class, std::size_t bytes) noexcept
    {
        const auto is_whole = [&](const frame *f) {
            return slabs_[f->slab].free == slabs_[f->slab].frames;
        };
        auto &list = free_[size_class];
        auto kept = list.begin();
        for (auto *f : list) {
            auto &from = slabs_[f->slab];
            if (from.memory && is_whole(f)) { // the first of its slab that is met
                if (memory_ + bytes <= memory_max_) {
                    *kept++ = f;
                    continue;
                }
                memory_ -= slab_size(size_class);
                --whole_[size_class];
                going_.push_back(std::exchange(from.memory, nullptr));
                unused_slabs_.push_back(f->slab);
            }
            if (from.memory) {
                *kept++ = f;
                continue;
            }
            frames_[static_cast<std::uint32_t>(f->id)] = nullptr;
            names_.push_back(f->id);
        }
        list.erase(kept, list.end());
        for (auto *memory : std::exchange(going_, {})) // after the last look at their frames
            free_memory(memory);
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

    std::size_t memory_max_;
    std::size_t memory_ = 0;
    std::uint64_t denials_ = 0;
    std::size_t lent_ = 0; // references that are with the application
    std::vector<slab> slabs_;
    std::vector<std::uint32_t> unused_slabs_;  // numbers in slabs_ without memory
    std::vector<std::byte *> going_;           // while they are given back
    std::array<std::size_t, classes> whole_{}; // by class: slabs of which every frame is free
    std::vector<frame *> frames_;              // by name
    std::vector<frame_id> names_;              // of frames_, given back and free to be used again
    std::array<std::vector<frame *>, classes> free_;
    frame asked_;   // lies at the bottom of the returned ones while somebody waits for memory
    frame retired_; // and in their place when nobody collects them any more
    alignas(64) std::atomic<frame *> returned_ = nullptr;
};

} // namespace sp::core
