// SPDX-License-Identifier: BSD-2-Clause
//
// A bridge between two hosts that does to SP packets what networks do, by the network model of the
// simulator and its text: the n-th packet of a direction has the fate that the seed gives it,
// whatever the timing of the run. Headers in front of the SP packet are never damaged; other
// traffic passes unharmed, but not while the link is down. One thread, two packet sockets in the
// middle namespace of hosts that are wired so.
#pragma once

#include "tests/net/hosts.hpp"
#include "tests/sim/network.hpp"
#include "userspace/transport/descriptor.hpp"

#include <array>
#include <cstddef>
#include <mutex>
#include <stop_token>
#include <string_view>
#include <thread>
#include <vector>

namespace sp::test {

class impair {
public:
    // Directed links of the model: what a sends, and what b sends.
    static constexpr std::size_t from_a = 0, from_b = 1;

    // Bridges from now on. Throws std::runtime_error if the text is not understood.
    impair(const hosts &two, std::string_view scenario);
    ~impair();
    impair(const impair &) = delete;
    impair &operator=(const impair &) = delete;

    // With the seed, for SCOPED_TRACE: it makes the same faults again.
    [[nodiscard]] const std::string &text() const noexcept { return text_; }
    [[nodiscard]] sim::network::tally total() const;
    [[nodiscard]] const sim::link_faults &faults() const noexcept { return scenario_.faults; }
    // Nothing passes, or everything does again, whatever the scenario says.
    void cut(bool yes);

private:
    void run(const std::stop_token &stop);
    void read(std::size_t link);
    void write(std::size_t link, std::span<const std::byte> frame);

    std::string text_;
    sim::scenario scenario_;
    mutable std::mutex held_; // the model: the thread's, but for total() and cut()
    sim::network sp_, rest_;
    std::array<transport::descriptor, 2> sockets_; // towards a, towards b
    transport::descriptor wake_;
    std::vector<std::byte> space_;
    std::jthread thread_;
};

} // namespace sp::test
