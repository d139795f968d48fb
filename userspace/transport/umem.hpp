// SPDX-License-Identifier: BSD-2-Clause
//
// The packet memory of one AF_XDP queue: frames of one size, pinned and registered with the kernel,
// split for good into frames to receive into and frames to send from, so that neither can starve
// the other and a leak shows as a wrong count. It also holds the two rings through which frames
// change hands with the kernel. Which frame is where is the business of xsk.
#pragma once

#include "sp/error.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <xdp/xsk.h>

namespace sp::transport {

struct umem_shape {
    std::uint32_t frame_bytes = 2048; // 2048 or 4096
    std::uint32_t rx_frames = 2048;   // powers of two
    std::uint32_t tx_frames = 2048;   // or 0: this queue only receives
};

class umem {
public:
    // The kernel puts a received frame behind its own 256 bytes and these: Ethernet and IPv4 take
    // 34 bytes, so SP begins at 320, a cache line of its own.
    static constexpr std::uint32_t headroom = 30;
    static constexpr std::uint32_t kernel_headroom = 256;
    // Where an SP packet begins in a frame that is sent; its headers, up to 62 bytes, stand right
    // before.
    static constexpr std::uint32_t tx_packet_offset = 64;

    // In the network namespace of the calling thread, where the socket will be bound. Fails with
    // SP1009 when the memory may not be locked.
    [[nodiscard]] static result<umem> create(const umem_shape &shape);

    [[nodiscard]] const umem_shape &shape() const noexcept { return shape_; }
    [[nodiscard]] std::uint64_t bytes() const noexcept
    {
        return std::uint64_t{shape_.frame_bytes} * (shape_.rx_frames + shape_.tx_frames);
    }
    [[nodiscard]] std::byte *at(std::uint64_t address) const noexcept
    {
        return area_.get() + address;
    }
    [[nodiscard]] xsk_umem *handle() const noexcept { return handle_.get(); }
    [[nodiscard]] xsk_ring_prod &fill() noexcept { return rings_->fill; }
    [[nodiscard]] xsk_ring_cons &completion() noexcept { return rings_->completion; }

    // Longest Ethernet frame that fits a frame when received, and longest SP packet when sent.
    [[nodiscard]] static constexpr std::uint32_t rx_bytes_max(std::uint32_t frame_bytes) noexcept
    {
        return frame_bytes - kernel_headroom - headroom;
    }
    [[nodiscard]] static constexpr std::uint32_t tx_bytes_max(std::uint32_t frame_bytes) noexcept
    {
        return frame_bytes - tx_packet_offset;
    }

private:
    struct unmapper {
        std::size_t bytes;
        void operator()(std::byte *area) const noexcept;
    };
    struct deleter {
        void operator()(xsk_umem *handle) const noexcept { xsk_umem__delete(handle); }
    };
    struct ring_pair { // libxdp keeps pointers to these, so they must not move
        xsk_ring_prod fill{};
        xsk_ring_cons completion{};
    };
    using area_ptr = std::unique_ptr<std::byte, unmapper>;
    using handle_ptr = std::unique_ptr<xsk_umem, deleter>;

    umem(const umem_shape &shape, area_ptr area, std::unique_ptr<ring_pair> rings,
         handle_ptr handle) noexcept
        : shape_(shape), area_(std::move(area)), rings_(std::move(rings)),
          handle_(std::move(handle))
    {
    }

    umem_shape shape_;
    area_ptr area_; // first: the kernel lets go of it before it is unmapped
    std::unique_ptr<ring_pair> rings_;
    handle_ptr handle_;
};

} // namespace sp::transport
