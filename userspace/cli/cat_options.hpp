// SPDX-License-Identifier: BSD-2-Clause
//
// The command line of `sp cat`: the options of nngcat, with its syntax and its complaints, word for
// word. `--opt v`, `--opt=v`, `--opt:v`, `-Lv` and `-L v`; a unique beginning of a long option is
// that option; short options stand alone; the first word that is no option ends them. Files are
// read while their option is, as there.
#pragma once

#include "userspace/cli/format.hpp"

#include <chrono>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace sp::cli {

enum class cat_role : std::uint8_t {
    req,
    rep,
    pub,
    sub,
    push,
    pull,
    surveyor,
    respondent,
    bus,
    pair0,
    pair1,
    pair // pair1, or pair0 with --compat; never in what parse_cat() returns
};

struct cat_endpoint {
    enum class way : std::uint8_t { dial, listen };
    way how;
    std::string url;
};

enum class loudness : std::uint8_t { usual, verbose, silent };

struct cat_arguments {
    cat_role role{};
    std::vector<cat_endpoint> endpoints{}; // at least one
    std::vector<std::string> topics{};     // of sub: at least one, "" for everything
    std::optional<std::string> data{};
    body_format format = body_format::none;
    std::uint32_t count = 0; // 0: no end
    std::chrono::seconds delay{};
    std::optional<std::chrono::seconds> interval{}, send_timeout{}, recv_timeout{};
    std::optional<std::uint32_t> recv_bytes_max{}; // 0: no limit
    std::string name{};
    loudness speaks = loudness::usual;
    bool async = false, insecure = false;
};

// Why there is nothing to be done.
struct cat_end {
    enum class kind : std::uint8_t { refused, help, version };
    kind what = kind::refused;
    std::string text{}; // of a refusal
};

[[nodiscard]] std::expected<cat_arguments, cat_end> parse_cat(std::span<const std::string> words);

} // namespace sp::cli
