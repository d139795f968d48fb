// SPDX-License-Identifier: BSD-2-Clause
//
// Where received messages go: printed as rows or JSON, written to files, or counted by the second.
// A pipe gets bodies only, a program one object per message.
#pragma once

#include "sp/error.hpp"
#include "userspace/cli/console.hpp"
#include "userspace/cli/format.hpp"
#include "userspace/cli/verbs.hpp"

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

namespace sp::cli {

struct shown {
    std::uint64_t sequence; // from 1
    std::string_view transport, body;
    std::string peer = {};    // empty: not known
    double microseconds = -1; // of the round trip; negative: not measured
};

class sink {
public:
    sink(const message_arguments &arguments, console &out);
    ~sink();
    sink(const sink &) = delete;
    sink &operator=(const sink &) = delete;

    [[nodiscard]] result<void> open();
    // closed: nobody reads any more.
    [[nodiscard]] result<void> take(const shown &message);
    // What was counted since the last full second is told now.
    void finish();

private:
    struct total {
        std::uint64_t messages = 0, bytes = 0;
    };

    [[nodiscard]] result<std::string> write_file(const shown &message) const;
    [[nodiscard]] bool show(const shown &message, const std::string &file);
    [[nodiscard]] bool show_json(const shown &message, const std::string &file);
    void tell_rates(const std::stop_token &stop);
    void tell_rate(); // with mutex_ held

    const message_arguments &arguments_;
    console &out_;
    const std::string schema_; // sp.sub/1

    std::mutex mutex_; // guards what follows
    std::condition_variable_any over_;
    total all_, told_;
    std::chrono::steady_clock::time_point told_at_;
    bool unread_ = false;
    std::jthread teller_;
};

} // namespace sp::cli
