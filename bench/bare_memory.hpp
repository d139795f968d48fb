// SPDX-License-Identifier: BSD-2-Clause
//
// What shared memory does without any protocol, for threads and for processes: a payload behind a
// sequence word, and the record ring alone. Everybody spins. Both ways go through one object, which
// must lie in memory that both ends have; direction 0 goes from the side that asks.
#pragma once

#include "userspace/ring/record_ring.hpp"

#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <sys/mman.h>

namespace sp::bench {

inline void pause() noexcept
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

// An object that a child of fork() shares with its parent.
template <class T>
[[nodiscard]] std::shared_ptr<T> in_shared_memory()
{
    void *const at = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (at == MAP_FAILED)
        throw std::bad_alloc();
    return {new (at) T, [](T *object) {
                object->~T();
                ::munmap(object, sizeof(T));
            }};
}

// A sequence word, and behind it the payload; one line holds 48 bytes as a record of the ring does.
template <std::size_t PayloadMax>
class bare_lines {
public:
    void send(int direction, std::span<const std::byte> payload) noexcept
    {
        auto &l = lines_[static_cast<std::size_t>(direction)];
        std::memcpy(l.payload, payload.data(), payload.size());
        l.sequence.store(++l.sent, std::memory_order_release);
    }
    void receive(int direction, std::span<std::byte> room) noexcept
    {
        auto &l = lines_[static_cast<std::size_t>(direction)];
        while (l.sequence.load(std::memory_order_acquire) == l.seen)
            pause();
        ++l.seen;
        std::memcpy(room.data(), l.payload, room.size());
    }

private:
    struct alignas(ring::line_distance) line {
        std::atomic<std::uint64_t> sequence = 0;
        std::uint64_t unused = 0;
        std::byte payload[PayloadMax]{};
        alignas(ring::line_distance) std::uint64_t sent = 0; // the sender's own
        alignas(ring::line_distance) std::uint64_t seen = 0; // the receiver's own
    };
    std::array<line, 2> lines_;
};

template <std::size_t RingBytes>
class bare_ring {
public:
    void send(int direction, std::span<const std::byte> payload) noexcept
    {
        auto &w = ways_[static_cast<std::size_t>(direction)].writer;
        while (!w.send({.payload = payload}))
            pause();
    }
    void receive(int direction, std::span<std::byte> room) noexcept
    {
        auto &w = ways_[static_cast<std::size_t>(direction)];
        for (;;) {
            if (const auto found = w.reader.peek()) {
                std::memcpy(room.data(), found->payload.data(), room.size());
                return w.reader.release();
            }
            pause();
        }
    }

private:
    struct way {
        alignas(ring::line_distance) std::array<std::byte, RingBytes> memory{};
        alignas(ring::line_distance) std::uint64_t progress = 0;
        alignas(ring::line_distance) ring::writer<> writer{memory, progress};
        alignas(ring::line_distance) ring::reader<> reader{memory, progress};
    };
    std::array<way, 2> ways_;
};

} // namespace sp::bench
