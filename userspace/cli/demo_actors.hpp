// SPDX-License-Identifier: BSD-2-Clause
//
// The two processes of the demo and how they report. Each is a fork of this one, pinned to a CPU of
// its own, and dies with it; what it has to say it sends as one record through a socket pair. The
// parent only reads and prints.
#pragma once

#include "sp/abi/maps.h"
#include "sp/error.hpp"
#include "userspace/cli/demo_figures.hpp"

#include <array>
#include <chrono>
#include <functional>
#include <span>
#include <sys/types.h>

namespace sp::cli {

// How both ends of an exchange wait: always awake, or as sockets do unless told otherwise.
enum class manner : std::uint8_t { spinning, standard };

struct xdp_proof {
    bool native = false, zero_copy = false;
    std::uint32_t program_id = 0;
    std::array<std::uint64_t, SP_XDP_STATS> counted{};
    std::uint64_t unknown_protocols = 0; // what the kernel's IP layer did not know, in this phase
};

// What one side has seen of a use case. Everything sent is received by somebody on either side.
struct use_case {
    enum class kind : std::uint8_t { configuration, telemetry, health, pairing };
    kind what = kind::configuration;
    std::uint64_t sent = 0, received = 0;
    std::uint64_t by_way = 0;   // of those received: by the transport that is shown
    std::uint64_t twice = 0;    // received again
    std::uint64_t late = 0;     // answers after the survey's end
    std::array<char, 80> who{}; // was late, too slow or refused
};

// One record, sent as it is between two forks of one program.
struct report {
    enum class kind : std::uint8_t { attached, messages, tcp, proof, used, use_proof, failed };
    kind what = kind::failed;
    manner how = manner::spinning;
    figures measured;
    xdp_proof proof;
    use_case use;
    int error_number = 0;
    std::array<char, 200> error_what{}, error_why{}, error_fix{};
};

[[nodiscard]] report failure_report(const error &e);
[[nodiscard]] error error_of(const report &r);

// What an actor has: a voice to the parent and a bell to the other one.
class lines {
public:
    lines(int parent, int other) noexcept : parent_(parent), other_(other) {}
    void tell(const report &r) const noexcept;
    // A meeting: returns when the other side has called it as often as we did; false when it is
    // gone.
    [[nodiscard]] bool meet() const noexcept;

private:
    int parent_, other_;
};

using part = std::function<result<void>(const lines &)>;

// Forks two, lets them play, hands every report to `hear` as it comes. Ends with the first error:
// what an actor said, canceled when `signals` (a signalfd) became readable, timed_out when nothing
// was heard for `patience`, io_error when one died without a word. Nobody lives on afterwards.
[[nodiscard]] result<void> play(const std::array<part, 2> &parts, int signals,
                                std::chrono::milliseconds patience,
                                const std::function<void(unsigned actor, const report &)> &hear);

// CPUs that this process may use; with fewer than two, nobody can spin.
[[nodiscard]] std::size_t cpus() noexcept;

} // namespace sp::cli
