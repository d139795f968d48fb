// SPDX-License-Identifier: BSD-2-Clause
//
// SIGINT, SIGTERM and SIGHUP as a stop token. The signals are blocked in the thread that makes the
// object and in every thread it starts afterwards, so it is made before the engine; a thread of
// ours takes them from a descriptor, where any call is allowed. The second signal ends the process
// at once: somebody means it.
#pragma once

#include <atomic>
#include <stop_token>
#include <thread>

namespace sp::cli {

class interrupt {
public:
    interrupt();
    ~interrupt(); // the signals stay blocked: what comes during the last clean-up is not allowed to
                  // cut it short
    interrupt(const interrupt &) = delete;
    interrupt &operator=(const interrupt &) = delete;

    [[nodiscard]] std::stop_token token() const noexcept { return stop_.get_token(); }
    // 128 + n when signal n has come, else 0.
    [[nodiscard]] int exit_status() const noexcept;

private:
    void listen() noexcept;

    std::stop_source stop_;
    std::atomic<int> signal_ = 0;
    int signals_ = -1; // signalfd
    int leave_ = -1;   // eventfd: the destructor has come
    std::thread thread_;
};

// For a program that polls anyway: a descriptor that is readable when one of the three has come,
// and which it was. The signals are blocked in the calling thread from then on.
[[nodiscard]] int open_signals() noexcept;
[[nodiscard]] int take_signal(int signals) noexcept; // 0: none

// For a child that shall be interrupted like any other program.
void unblock_signals() noexcept;

} // namespace sp::cli
