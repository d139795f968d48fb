// SPDX-License-Identifier: BSD-2-Clause
//
// All chance of a run. Every decision is one call of choose(), answered by xoshiro256** from the
// seed and written on a tape; a run is its configuration and its tape. Each concern (applications,
// faults, one link of the network ...) has a stream and a tape of its own, so that one more
// operation of an application does not shuffle the network.
//
// A tape replays what it holds and says 0 after its end, and 0 is always the harmless choice: no
// fault, the first of several, the shortest wait. So a tape that is cut short is a calmer run.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace sp::sim {

// Probabilities are integers, in parts of this.
inline constexpr std::uint32_t certain = 65536;
using parts = std::uint32_t;

// Spreads a number over 64 bits; the step of splitmix64.
[[nodiscard]] constexpr std::uint64_t mix(std::uint64_t x) noexcept
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

// xoshiro256** of Blackman and Vigna.
class xoshiro {
public:
    constexpr explicit xoshiro(std::uint64_t seed) noexcept
    {
        for (auto &word : state_)
            word = seed = mix(seed);
    }

    constexpr std::uint64_t operator()() noexcept
    {
        const auto result = std::rotl(state_[1] * 5, 7) * 9;
        const auto t = state_[1] << 17;
        state_[2] ^= state_[0];
        state_[3] ^= state_[1];
        state_[1] ^= state_[2];
        state_[0] ^= state_[3];
        state_[2] ^= t;
        state_[3] = std::rotl(state_[3], 45);
        return result;
    }

private:
    std::array<std::uint64_t, 4> state_{};
};

using track = std::vector<std::uint32_t>;
using tape = std::vector<track>; // by stream

class choices {
public:
    explicit choices(std::uint64_t seed) : seed_(seed) {}
    explicit choices(tape from) : replays_(true), tape_(std::move(from)) {}

    // One of `n`; of none or one it is always the first, and nothing is written.
    [[nodiscard]] std::uint32_t choose(std::size_t stream, std::uint32_t n)
    {
        if (n < 2)
            return 0;
        auto &s = at(stream);
        if (replays_)
            return s.next < tape_[stream].size() ? tape_[stream][s.next++] % n : 0;
        // The high half of a product is uniform but for a bias below 2^-32.
        const auto chosen = static_cast<std::uint32_t>(((s.random() >> 32) * n) >> 32);
        tape_[stream].push_back(chosen);
        return chosen;
    }

    // Whether something happens that has this probability; 0 on the tape says no.
    [[nodiscard]] bool chance(std::size_t stream, parts probability)
    {
        return probability != 0 && choose(stream, certain) + probability >= certain;
    }

    // In [low, high]; 0 on the tape says low.
    [[nodiscard]] std::uint64_t between(std::size_t stream, std::uint64_t low, std::uint64_t high)
    {
        const auto span = high - low;
        if (span < 0xffffffff)
            return low + choose(stream, static_cast<std::uint32_t>(span) + 1);
        const std::uint64_t coarse = choose(stream, 0xffffffff);
        return low + span / 0xffffffff * coarse;
    }

    [[nodiscard]] const tape &recorded() const noexcept { return tape_; }

private:
    struct stream_state {
        explicit stream_state(std::uint64_t seed) noexcept : random(seed) {}
        xoshiro random;
        std::size_t next = 0; // of the tape
    };

    stream_state &at(std::size_t stream)
    {
        while (streams_.size() <= stream)
            streams_.emplace_back(mix(seed_) ^ mix(~streams_.size()));
        if (tape_.size() <= stream)
            tape_.resize(stream + 1);
        return streams_[stream];
    }

    bool replays_ = false;
    std::uint64_t seed_ = 0;
    tape tape_;
    std::vector<stream_state> streams_;
};

} // namespace sp::sim
