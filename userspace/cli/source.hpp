// SPDX-License-Identifier: BSD-2-Clause
//
// The bodies that a verb sends, one after the other, each when it is due: a word of the command
// line, stdin or a file, whole or line by line, with the fields of a template filled in.
#pragma once

#include "sp/error.hpp"
#include "sp/wait.hpp"
#include "userspace/cli/verbs.hpp"

#include <cstdint>
#include <optional>
#include <random>
#include <stop_token>
#include <string>

namespace sp::cli {

// Fields of a template; what is not one of {count}, {time} and {random:N} stays as it is.
[[nodiscard]] std::string fill_in(const std::string &text, std::uint64_t count,
                                  std::mt19937_64 &random);

// Bytes from a descriptor, at the pace at which they come; a stop ends the wait for them.
class input {
public:
    input(int fd, std::stop_token stop); // takes the descriptor, unless it is stdin
    ~input();
    input(const input &) = delete;
    input &operator=(const input &) = delete;

    // Without its newline; a last line may lack one. Empty: the end, or a stop.
    [[nodiscard]] result<std::optional<std::string>> line();
    [[nodiscard]] result<std::string> rest();

private:
    enum class more : std::uint8_t { came, ended };
    [[nodiscard]] result<more> read_some();

    int fd_, stopped_; // an eventfd
    std::stop_token stop_;
    std::string text_; // read and not yet taken
    std::size_t taken_ = 0;
};

class source {
public:
    source(const message_arguments &arguments, std::stop_token stop);

    [[nodiscard]] result<void> open();
    // When it is due. Empty: that was all, or a stop.
    [[nodiscard]] result<std::optional<std::string>> next();

private:
    void pause_until(instant due);
    void keep_pace();

    const message_arguments &arguments_;
    std::stop_token stop_;
    std::optional<input> input_; // of lines
    std::string body_;           // otherwise
    std::uint64_t given_ = 0;
    std::optional<std::uint64_t> count_max_; // none: no end but that of the input
    instant due_{};                          // of the next
    std::mt19937_64 random_;
};

} // namespace sp::cli
