// SPDX-License-Identifier: BSD-2-Clause
//
// Devices: two raw sockets joined, so that one network reaches into another: NNG on ipc:// and
// tcp:// to agents on ip:// and unixgram://, or several hosts to each other. Messages go on as they
// are, with their headers; nothing is copied. Where a pattern pushes back, a side is read only when
// the other can take the message, so that a slow receiver holds back the sender behind the device;
// patterns that drop do so by their own queues. Loops end by ttl_max of the raw sockets; patterns
// without a header have no protection against loops.
#pragma once

#include "sp/raw.hpp"

#include <atomic>
#include <cstdint>
#include <optional>

#pragma GCC visibility push(default)
namespace sp::inline v1 {

// What went one way. received = forwarded + dropped + (0 or 1 that waits for the other side).
struct device_way {
    std::atomic<std::uint64_t> received = 0;
    std::atomic<std::uint64_t> forwarded = 0;
    std::atomic<std::uint64_t> dropped =
        0;                                 // larger than any peer of the other side takes, a header
                                           // that it cannot have, or still waiting at the end
    std::atomic<std::uint64_t> tapped = 0; // copies that the tap took
    std::atomic<std::uint64_t> missed = 0; // copies that it had no room for
};

// Written by the device, read by anybody while it runs and afterwards.
struct device_counters {
    device_way there; // from the first socket to the second
    device_way back;
};

struct device_options {
    wait until = forever; // a time or a stop: how long the device runs
    // Gets a copy of each body that passes, if it has room at once; it never slows the traffic.
    // Opened for a pattern that sends: pub, push, bus, pair.
    std::optional<raw> tap = {};
    device_counters *counters = nullptr; // must outlive the device
};

// Runs in this thread until it is over; the sockets are the device's from now on. Success: the time
// is over or it was stopped. Errors: invalid_argument (the protocols do not fit each other, the
// sockets are not on one engine, or the tap cannot send), closed.
[[nodiscard]] result<void> device(raw first, raw second, device_options options = {});
// One BUS joined to itself: what comes from one peer goes to all the others.
[[nodiscard]] result<void> device(raw reflector, device_options options = {});

} // namespace sp::inline v1
#pragma GCC visibility pop
