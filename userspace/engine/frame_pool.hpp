// SPDX-License-Identifier: BSD-2-Clause
//
// Message buffers in sizes of powers of two, taken from the system in slabs and bounded by
// memory_max; slabs of which every frame is free, and large frames, which are slabs of their own,
// go back to the system when the memory is wanted for another size. The
// engine's thread allocates and counts references; an application thread that is
// done with a message gives its reference back through give_back(), the one call that may come from
// any thread. Frames live as long as the pool. A large message may lie in memory of its own, which
// is made elsewhere (sp/abi/large_memory.hpp): the pool keeps it, and counts it like its own.
#pragma once

#include "sp/abi/large_memory.hpp"
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
    bool large = false;  // it is a large_frame
    std::string_view transport{}; // that it came by; static storage; empty: it is of this process
    std::byte *begin = nullptr;

    [[nodiscard]] std::byte *data() noexcept { return begin; }
    [[nodiscard]] std::span<std::byte> room() noexcept { return {data(), capacity}; }
    [[nodiscard]] std::span<std::byte> bytes() noexcept { return {data(), size}; }
    [[nodiscard]] std::span<std::byte> body() noexcept { return bytes().subspan(offset); }
};
static_assert(sizeof(frame) == 64);

// Its bytes lie in memory of their own: room for the body, or a header and a body that nobody can
// write.
struct large_frame : frame {
    large_memory memory;
};

class frame_pool {
public:
    static constexpr std::size_t large_max = 256; // each keeps a descriptor

    explicit frame_pool(std::size_t memory_max) : memory_max_(memory_max) {}
    frame_pool(const frame_pool &) = delete;
    frame_pool &operator=(const frame_pool &) = delete;
    ~frame_pool()
    {
        for (auto *f : frames_)
            if (f && f->large)
                delete static_cast<large_frame *>(f);
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
        if (f.large) [[unlikely]]
            return retire(static_cast<large_frame &>(f));
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

    // ---- memory of their own
    // Frames to be sent of at least so many bytes lie in what this makes, as long as it makes any.
    void lend_from(large_maker make, std::size_t bytes_min) noexcept
    {
        make_large_ = make;
        large_bytes_min_ = bytes_min;
    }
    [[nodiscard]] std::size_t large_bytes_min() const noexcept { return large_bytes_min_; }
    // As allocate(), for a message that the application writes.
    [[nodiscard]] frame *allocate_to_send(std::size_t size) noexcept
    {
        if (size >= large_bytes_min_)
            if (auto *f = allocate_large(size))
                return f;
        return allocate(size);
    }
    [[nodiscard]] static large_memory *memory_of(frame &f) noexcept
    {
        return f.large ? &static_cast<large_frame &>(f).memory : nullptr;
    }
    // Is there room for adopt() of so many bytes?
    [[nodiscard]] bool may_adopt(std::size_t size) noexcept
    {
        if (large_count_ < large_max && may_grow(large_footprint(size)))
            return true;
        ++denials_;
        return false;
    }
    // A frame, with one reference, over memory that came from elsewhere with `header` bytes in
    // front of its body. may_adopt() has said that there is room.
    [[nodiscard]] frame &adopt(large_memory memory, std::size_t header)
    {
        auto &f = add_large(std::move(memory), header);
        f.size = f.capacity;
        f.shared = true; // given back at once: it is not kept for others
        return f;
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
        return frames_.size() - names_.size() - free - spares_.size();
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
        if (!may_grow(bytes))
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
            f->begin = reinterpret_cast<std::byte *>(f + 1);
            frames_[static_cast<std::uint32_t>(f->id)] = f;
            free_[size_class].push_back(f);
        }
        return true;
    }

    // ---- large frames
    static constexpr std::size_t spares_max = 4; // kept for the next, written by nobody else
    static constexpr std::size_t large_footprint(std::size_t size) noexcept
    {
        constexpr std::size_t page = 4096;
        return (size + 2 * page - 1) & ~(page - 1); // and its frame
    }

    [[nodiscard]] frame *allocate_large(std::size_t size) noexcept
    {
        const auto fits = std::ranges::find_if(spares_, [&](const large_frame *f) {
            return f->capacity >= size && f->capacity / 2 <= size;
        });
        large_frame *f = nullptr;
        if (fits != spares_.end()) {
            f = *fits;
            spares_.erase(fits);
        } else {
            if (large_count_ == large_max || !may_grow(large_footprint(size)))
                return nullptr;
            auto memory = make_large_(size);
            if (!memory)
                return nullptr;
            f = &add_large(std::move(memory), 0);
        }
        f->references = 1;
        f->size = static_cast<std::uint32_t>(size);
        f->offset = 0;
        f->shared = false;
        return f;
    }

    large_frame &add_large(large_memory memory, std::size_t header)
    {
        auto *f = new large_frame;
        f->id = new_name();
        f->references = 1;
        f->capacity = static_cast<std::uint32_t>(header + memory->size);
        f->begin = memory->body - header;
        f->large = true;
        f->memory = std::move(memory);
        frames_[static_cast<std::uint32_t>(f->id)] = f;
        memory_ += large_footprint(f->capacity);
        ++large_count_;
        return *f;
    }

    // Memory that was handed over is never written again.
    void retire(large_frame &f) noexcept
    {
        if (!f.memory->sealed && f.memory->fd >= 0 && spares_.size() < spares_max)
            spares_.push_back(&f);
        else
            end_large(f);
    }
    void end_large(large_frame &f) noexcept
    {
        memory_ -= large_footprint(f.capacity);
        --large_count_;
        frames_[static_cast<std::uint32_t>(f.id)] = nullptr;
        names_.push_back(f.id);
        delete &f;
    }

    [[nodiscard]] bool may_grow(std::size_t bytes) noexcept
    {
        return bytes <= memory_max_ && (memory_ + bytes <= memory_max_ || make_room(bytes));
    }

    // Gives slabs back to the system, the largest first, until `bytes` more are allowed. Nothing is
    // given back in vain: it would have to be fetched again.
    bool make_room(std::size_t bytes) noexcept
    {
        std::size_t whole = 0;
        for (const auto *f : spares_)
            whole += large_footprint(f->capacity);
        for (std::size_t size_class = 0; size_class < classes; ++size_class)
            whole += whole_[size_class] * slab_size(size_class);
        if (memory_ - whole + bytes > memory_max_)
            return false;
        for (; memory_ + bytes > memory_max_ && !spares_.empty(); spares_.pop_back())
            end_large(*spares_.back());
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
    large_maker make_large_ = nullptr;
    std::size_t large_bytes_min_ = ~std::size_t{0}; // none is large enough
    std::vector<large_frame *> spares_;             // without a reference, to be used again
    std::size_t large_count_ = 0;
    frame asked_;   // lies at the bottom of the returned ones while somebody waits for memory
    frame retired_; // and in their place when nobody collects them any more
    alignas(64) std::atomic<frame *> returned_ = nullptr;
};

} // namespace sp::core
