// SPDX-License-Identifier: BSD-2-Clause
//
// Programs under test: started by posix_spawn, read without a deadlock, waited for by what they
// print and never by time. A program that is still running when its object goes is killed and
// reaped.
#pragma once

#include <string>
#include <string_view>
#include <sys/types.h>
#include <utility>
#include <vector>

namespace sp::test {

using words = std::vector<std::string>;

struct finished {
    int status; // as a shell has it: 128 + n for a signal
    std::string out, err;
};

// build/sp of the build that is being tested.
[[nodiscard]] std::string built(const std::string &name = "sp");

class program {
public:
    // Looked up in PATH unless there is a slash in its name; in the network namespace of the
    // calling thread. The environment is ours less SP_* and NO_COLOR, and with `environment`
    // (NAME=VALUE). Its stdin ends after `input`.
    explicit program(const words &argv, const words &environment = {}, std::string_view input = {});
    ~program();
    program(const program &) = delete;
    program &operator=(const program &) = delete;

    // Reads until `text` is in what it wrote to stdout or stderr; false when it ended first, or
    // after half a minute.
    [[nodiscard]] bool says(std::string_view text);
    void signal(int number) const;
    // Reads to the end. A program that does not end in half a minute is killed and has status -1.
    [[nodiscard]] finished wait();

    [[nodiscard]] pid_t pid() const noexcept { return pid_; }
    [[nodiscard]] const std::string &out() const noexcept { return out_; }
    [[nodiscard]] const std::string &err() const noexcept { return err_; }

private:
    [[nodiscard]] bool read_some(int timeout_ms);
    void close_all() noexcept;
    int reap() noexcept;

    pid_t pid_ = 0;
    int out_fd_ = -1, err_fd_ = -1;
    std::string out_, err_;
};

[[nodiscard]] finished run(const words &argv, const words &environment = {},
                           std::string_view input = {});

} // namespace sp::test
