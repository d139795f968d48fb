// SPDX-License-Identifier: BSD-2-Clause
//
// Memory that two processes share, one memfd per writer (abi/segment.h). The owner maps it for
// writing and then seals it: nobody can write, resize or punch it any more but through that one
// mapping. The peer checks all of this before it maps it for reading, so that no access to it can
// fault and none of its pages is paid for by the reader.
#pragma once

#include "sp/abi/segment.h"
#include "userspace/transport/descriptor.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

namespace sp::transport {

// A mapping with one owner. A child of fork() does not have it, a core dump does not show it.
class mapping {
public:
    mapping() noexcept = default;
    mapping(int fd, std::size_t bytes, int protection) noexcept;
    mapping(mapping &&other) noexcept
        : at_(std::exchange(other.at_, nullptr)), bytes_(std::exchange(other.bytes_, 0))
    {
    }
    mapping &operator=(mapping &&other) noexcept;
    mapping(const mapping &) = delete;
    mapping &operator=(const mapping &) = delete;
    ~mapping();

    explicit operator bool() const noexcept { return at_ != nullptr; }
    [[nodiscard]] std::byte *at(std::size_t offset) const noexcept { return at_ + offset; }
    [[nodiscard]] std::size_t size() const noexcept { return bytes_; }

private:
    std::byte *at_ = nullptr;
    std::size_t bytes_ = 0;
};

// A memfd of so many bytes, mapped for writing and then sealed. Nothing: the system has no memory, no
// descriptor or no seals to give.
struct sealed_memory {
    descriptor fd;
    mapping map;
};
[[nodiscard]] std::optional<sealed_memory> make_sealed(std::size_t bytes) noexcept;
// Somebody else's, for reading. Empty: it is not sealed, or not all its pages are there.
[[nodiscard]] mapping map_sealed(const descriptor &fd) noexcept;

// This side's half.
class own_segment {
public:
    // Can a ring have so many bytes? A power of two between SP_SEGMENT_RING_MIN and _MAX.
    [[nodiscard]] static constexpr bool takes(std::uint64_t ring_bytes) noexcept
    {
        return std::has_single_bit(ring_bytes) && ring_bytes >= SP_SEGMENT_RING_MIN &&
               ring_bytes <= SP_SEGMENT_RING_MAX;
    }
    // Nothing: the system has no memory, no descriptor or no seals to give.
    [[nodiscard]] static std::optional<own_segment> make(std::size_t ring_bytes) noexcept;

    [[nodiscard]] std::span<std::byte> ring() const noexcept
    {
        return {map_.at(SP_SEGMENT_RING), map_.size() - SP_SEGMENT_RING};
    }
    // One of the words SP_SEGMENT_PROGRESS to _CLOSED.
    [[nodiscard]] std::uint64_t &word(std::size_t which) const noexcept
    {
        return *reinterpret_cast<std::uint64_t *>(map_.at(which));
    }
    [[nodiscard]] int fd() const noexcept { return fd_.get(); } // to be handed over
    void forget_descriptor() noexcept { fd_.reset(); }          // it has been

private:
    own_segment(descriptor fd, mapping map) noexcept : fd_(std::move(fd)), map_(std::move(map)) {}

    descriptor fd_;
    mapping map_;
};

// The other side's half, for reading. What stands in it is not to be believed.
class peer_segment {
public:
    // Nothing: it is not a sealed segment of a size that fits its head, with all its pages there.
    [[nodiscard]] static std::optional<peer_segment> map(const descriptor &fd) noexcept;

    [[nodiscard]] std::span<const std::byte> ring() const noexcept
    {
        return {map_.at(SP_SEGMENT_RING), map_.size() - SP_SEGMENT_RING};
    }
    [[nodiscard]] const std::uint64_t &word(std::size_t which) const noexcept
    {
        return *reinterpret_cast<const std::uint64_t *>(map_.at(which));
    }

private:
    explicit peer_segment(mapping map) noexcept : map_(std::move(map)) {}

    mapping map_;
};

} // namespace sp::transport
