// SPDX-License-Identifier: BSD-2-Clause
//
// Large messages in memory of their own, handed to another process of the same user instead of
// copied: a memfd that is the body and nothing else. Its maker writes it and then seals it for good
// (F_SEAL_WRITE too), so the receiver checks it once and reads it in place: nobody can change it
// under its eyes, and no page of it is missing. In front of the body the receiver has a page of its
// own, where the header of the pattern goes.
//
// Who hands over what to whom, and when, is unixgram's (unixgram_handover.cpp).
#pragma once

#include "sp/abi/large_memory.hpp"
#include "userspace/transport/descriptor.hpp"

#include <cstdint>
#include <deque>
#include <span>

namespace sp::transport {

// The longest header of a pattern that fits in front of a body.
inline constexpr std::size_t lent_header_max = 4096;
// Messages handed over that one peer may have on the way. The queue of a unix socket takes about
// ten datagrams, of all peers.
inline constexpr std::uint64_t lent_max = 4;

// From how many bytes on handing over beats copying here, unless somebody knows better. Its price
// is fresh pages: memory that was handed over is never written again, while copies go through
// memory that is there. In CPU time of both sides, a request and an answer of that size
// (bench/large_local, 2.8 GHz, Linux 6.18, virtual):
//
//              copied    handed over, pages of 4 KiB    of 2 MiB
//      2 MiB   0.77 ms              2.8 ms               0.54 ms
//      4 MiB   2.1 ms               5.7 ms               0.93 ms
//     16 MiB  11 ms                23 ms                 5.9 ms
//
// So where the system gives huge pages to a memfd, from 2 MiB on; where it does not, only what one
// does not want to have in memory three times.
[[nodiscard]] std::size_t handover_bytes_usual() noexcept;
inline constexpr std::size_t handover_bytes_min = 64 * 1024; // less is never worth it

// Room for a body, to be written and sealed.
[[nodiscard]] large_memory make_large(std::size_t size) noexcept;
// Writes the beginning of it. Where pages are small it is cheaper than through the mapping: they
// are not fetched one by one and cleared first.
void write_into(large_memory &memory, std::span<const std::byte> body) noexcept;
// From now on its first `size` bytes are the body, and never change. False: they cannot be sealed,
// and it stays here.
[[nodiscard]] bool seal(large_memory &memory, std::size_t size) noexcept;

// A body that has come, before it is looked at.
class lent_body {
public:
    lent_body(std::uint64_t number, descriptor fd) noexcept : fd_(std::move(fd)), number_(number) {}

    [[nodiscard]] std::uint64_t number() const noexcept { return number_; }
    // Is it sealed, of exactly this size, and all there?
    [[nodiscard]] bool is_sound(std::uint64_t size) noexcept;
    [[nodiscard]] std::size_t size() const noexcept { return size_; } // of one that is
    // To be read, behind a copy of this header. Empty: the system has no room for it now.
    [[nodiscard]] large_memory map(std::span<const std::byte> header) noexcept;

private:
    descriptor fd_;
    std::uint64_t number_;
    std::size_t size_ = 0; // 0: it was not looked at
};

// Those of one peer that have come and whose records have not been read.
class lent_bodies {
public:
    // The next one. False: it is not, or there are more than a peer may have on the way.
    [[nodiscard]] bool add(std::uint64_t number, descriptor fd) noexcept;
    [[nodiscard]] lent_body *front() noexcept { return waiting_.empty() ? nullptr : &waiting_[0]; }
    void pop() noexcept { waiting_.pop_front(); }

private:
    std::deque<lent_body> waiting_;
    std::uint64_t next_ = 0;
};

} // namespace sp::transport
