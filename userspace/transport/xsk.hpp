// SPDX-License-Identifier: BSD-2-Clause
//
// One AF_XDP socket on one receive queue, with its packet memory: Ethernet frames in, Ethernet
// frames out. All ring work is done by the functions of libxdp, barriers included. A received frame
// is lent to the caller until it returns and then goes back to the FILL ring, so that ring holds at
// least half of the frames at any time; a frame to send comes back through the COMPLETION ring. No
// descriptor from the kernel or the driver is believed.
//
// One thread. Nothing is allocated and nothing waits after open().
#pragma once

#include "sp/abi/names.hpp"
#include "sp/error.hpp"
#include "userspace/transport/umem.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <xdp/xsk.h>

namespace sp::transport {

enum class zerocopy : std::uint8_t { automatic, required, off };

class xsk {
public:
    struct place {
        std::string interface;
        unsigned queue = 0;
    };
    enum class kicked : std::uint8_t {
        done,  // the kernel has taken all
        later, // it could not now: call again in another turn
        down,  // the device is down or gone: calling again is no use until it is up
    };
    struct statistics {
        std::uint64_t fill_empty = 0;
        std::uint64_t rx_ring_full = 0;
    };

    // In the network namespace of the calling thread. Waits up to 250 ms for a queue whose last
    // owner has just gone.
    [[nodiscard]] static result<xsk> open(const place &where, umem memory, zerocopy mode);

    [[nodiscard]] int fd() const noexcept { return xsk_socket__fd(socket_.get()); }
    [[nodiscard]] bool zero_copy() const noexcept { return zero_copy_; }

    // Lends at most `n` frames to `use(std::span<const std::byte>)`, one after the other. Returns
    // how many.
    template <class Use>
    std::size_t receive(Use &&use, std::size_t n, counters &stats) noexcept
    {
        std::uint32_t first = 0;
        auto &rx = rings_->rx;
        const auto wanted = static_cast<std::uint32_t>(std::min<std::size_t>(n, batch_max));
        const std::uint32_t came = xsk_ring_cons__peek(&rx, wanted, &first);
        if (came == 0) {
            if (zero_copy_)
                wake_receive();
            return 0;
        }
        std::array<std::uint64_t, batch_max> frames;
        std::uint32_t frame_count = 0;
        std::size_t lent = 0;
        for (std::uint32_t i = 0; i < came; ++i) {
            const xdp_desc descriptor = *xsk_ring_cons__rx_desc(&rx, first + i);
            if (descriptor.addr < rx_bytes_)
                frames[frame_count++] = frame_of(descriptor.addr);
            if (!is_sound(descriptor)) {
                stats.add(stat::xsk_bad_descriptor);
                continue;
            }
            ++lent;
            fetch(memory_.at(descriptor.addr), descriptor.len);
            use(std::span<const std::byte>(memory_.at(descriptor.addr), descriptor.len));
        }
        xsk_ring_cons__release(&rx, came);
        give_back({frames.data(), frame_count});
        return lent;
    }

    // Where to write one SP packet of at most tx_bytes_max(); room for headers lies before it.
    // Null: all frames are with the kernel. A reservation stands until submit() uses it.
    [[nodiscard]] std::byte *reserve() noexcept
    {
        if (reserved_ == no_frame) {
            if (free_count_ < reap_below_)
                reap();
            if (free_count_ == 0)
                return nullptr;
            reserved_ = free_[--free_count_];
        }
        return packet();
    }

    // What reserve() gave, between it and submit().
    [[nodiscard]] std::byte *packet() const noexcept
    {
        return memory_.at(reserved_ + umem::tx_packet_offset);
    }

    // Queues it: `header_bytes` right before the packet and `n` bytes of it.
    void submit(std::size_t header_bytes, std::size_t n) noexcept
    {
        std::uint32_t slot = 0;
        // As many slots as frames: who has a frame has a slot.
        (void)xsk_ring_prod__reserve(&rings_->tx, 1, &slot);
        auto *descriptor = xsk_ring_prod__tx_desc(&rings_->tx, slot);
        descriptor->addr = reserved_ + umem::tx_packet_offset - header_bytes;
        descriptor->len = static_cast<std::uint32_t>(header_bytes + n);
        descriptor->options = 0;
        reserved_ = no_frame;
        ++queued_;
    }

    [[nodiscard]] std::uint32_t queued() const noexcept { return queued_; }

    // Shows the kernel what was queued and makes it send: one system call, more only if it takes
    // less than all.
    [[nodiscard]] kicked kick() noexcept;

    // Takes back what has been sent.
    void reap() noexcept;

    [[nodiscard]] statistics read_statistics() const noexcept;
    // The device below has gone for good. Reads and clears the socket's error.
    [[nodiscard]] bool lost_device() const noexcept;

    // For tests: no frame may ever be lost.
    [[nodiscard]] std::uint32_t rx_frames() const noexcept { return memory_.shape().rx_frames; }
    [[nodiscard]] std::uint32_t free_tx_frames() const noexcept
    {
        return free_count_ + (reserved_ != no_frame);
    }

private:
    static constexpr std::uint32_t batch_max = 64;
    static constexpr std::uint64_t no_frame = ~std::uint64_t{0};

    struct ring_pair { // libxdp keeps pointers to these, so they must not move
        xsk_ring_cons rx{};
        xsk_ring_prod tx{};
    };
    struct deleter {
        void operator()(xsk_socket *socket) const noexcept { xsk_socket__delete(socket); }
    };
    using socket_ptr = std::unique_ptr<xsk_socket, deleter>;

    xsk(umem memory, std::unique_ptr<ring_pair> rings, socket_ptr socket);
    [[nodiscard]] static int try_bind(const place &where, umem &memory, ring_pair &rings,
                                      std::uint16_t mode, socket_ptr &socket);
    [[nodiscard]] std::uint64_t frame_of(std::uint64_t address) const noexcept
    {
        return address & ~std::uint64_t{memory_.shape().frame_bytes - 1};
    }
    // The sender's CPU has just written the packet. Asking for its first lines together, instead of
    // one after the other as they are parsed and summed, saves about 0.1 us for a small packet
    // (measured, veth).
    static void fetch(const std::byte *packet, std::size_t size) noexcept
    {
        constexpr std::size_t line = 64, lines_max = 4;
        for (std::size_t at = 0; at < std::min(size + line, lines_max * line); at += line)
            __builtin_prefetch(packet + at);
    }

    // Inside one frame of those to receive into.
    [[nodiscard]] bool is_sound(const xdp_desc &descriptor) const noexcept
    {
        return descriptor.addr < rx_bytes_ && descriptor.options == 0 &&
               (descriptor.addr & (memory_.shape().frame_bytes - 1)) + descriptor.len <=
                   memory_.shape().frame_bytes;
    }
    // The FILL ring has twice as many slots as there are frames to receive into, so the slots are
    // there.
    void give_back(std::span<const std::uint64_t> frames) noexcept
    {
        std::uint32_t slot = 0;
        const auto count = static_cast<std::uint32_t>(frames.size());
        (void)xsk_ring_prod__reserve(&memory_.fill(), count, &slot);
        for (const auto frame : frames)
            *xsk_ring_prod__fill_addr(&memory_.fill(), slot++) = frame;
        xsk_ring_prod__submit(&memory_.fill(), count);
    }
    void fill_all() noexcept;
    void wake_receive() noexcept;

    umem memory_;
    std::unique_ptr<ring_pair> rings_;
    socket_ptr socket_; // after memory_: closed before the memory goes
    std::uint64_t rx_bytes_;
    std::unique_ptr<std::uint64_t[]>
        free_; // frames to send from that are ours now; the last used is the next
    std::uint32_t free_count_ = 0;
    std::uint32_t reap_below_ = 0;
    std::uint32_t queued_ = 0;
    std::uint64_t reserved_ = no_frame;
    bool zero_copy_ = false;
};

} // namespace sp::transport
