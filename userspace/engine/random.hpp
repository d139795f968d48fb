// SPDX-License-Identifier: BSD-2-Clause
//
// Random numbers that must not be guessed, handed in as a seed: the kernel's in production, a
// test's in a test, where the same seed gives the same run. ChaCha20 of libsodium with fast key
// erasure: each refill replaces its own seed.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <sodium.h>

namespace sp::core {

class random_source {
public:
    using seed = std::array<unsigned char, randombytes_SEEDBYTES>;

    explicit random_source(const seed &s) noexcept : seed_(s) {}

    [[nodiscard]] std::uint64_t operator()() noexcept
    {
        if (used_ == words_.size()) {
            std::array<unsigned char, sizeof seed_ + sizeof words_> stream;
            randombytes_buf_deterministic(stream.data(), stream.size(), seed_.data());
            std::memcpy(seed_.data(), stream.data(), seed_.size());
            std::memcpy(words_.data(), stream.data() + seed_.size(), sizeof words_);
            sodium_memzero(stream.data(), stream.size());
            used_ = 0;
        }
        return words_[used_++];
    }

    // Uniform in [low, high], for waits; the bias of the remainder is below 2^-40.
    [[nodiscard]] std::uint64_t between(std::uint64_t low, std::uint64_t high) noexcept
    {
        return low + (*this)() % (high - low + 1);
    }

    template <class Bytes>
    void fill(Bytes &bytes) noexcept
    {
        for (auto &b : bytes)
            b = static_cast<typename Bytes::value_type>((*this)());
    }

private:
    seed seed_;
    std::array<std::uint64_t, 64> words_{};
    std::size_t used_ = words_.size();
};

} // namespace sp::core
