// SPDX-License-Identifier: BSD-2-Clause
//
// The tables of abi/ as C++ names: error codes, counters and the reasons behind drops. Every layer
// may include this; it holds no behaviour beyond looking a text up. Counters are plain numbers with
// one writer at a time (the thread that drives the engine).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sp::inline v1 {

enum class errc : std::uint8_t {
#define SP_ERRC(name, status, retryable, fault, text) name,
#include "sp/abi/errors.def"
};

// Whose doing an error was.
enum class fault : std::uint8_t { local, peer, network, policy };

struct errc_entry {
    std::string_view name, text;
    int exit_status;
    bool retryable;
    sp::fault whose;
};

inline constexpr std::array errc_table{
#define SP_ERRC(name, status, retryable, whose, text)                                              \
    errc_entry{#name, text, status, (retryable) != 0, sp::fault::whose},
#include "sp/abi/errors.def"
};

[[nodiscard]] constexpr const errc_entry &describe(errc code) noexcept
{
    return errc_table[static_cast<std::size_t>(code)];
}

// One row of the catalogue, SPnnnn.
struct error_entry {
    int number;
    errc code;
    int exit_status;
    std::string_view what, why, fix;
};

inline constexpr std::array error_table{
#define SP_ERROR(number, code, status, what, why, fix)                                             \
    error_entry{number, errc::code, status, what, why, fix},
#include "sp/abi/errors.def"
};

enum class stat : std::uint16_t {
#define SP_STAT(where, name, kind, what, cure) where##_##name,
#include "sp/abi/stats.def"
};

enum class stat_kind : std::uint8_t { count, pass, drop, close, refuse };

struct stat_entry {
    std::string_view where, name, what, cure;
    stat_kind kind;
};

inline constexpr std::array stat_table{
#define SP_STAT(where, name, kind, what, cure)                                                     \
    stat_entry{#where, #name, what, cure, stat_kind::kind},
#include "sp/abi/stats.def"
};

[[nodiscard]] constexpr const stat_entry &describe(stat which) noexcept
{
    return stat_table[static_cast<std::size_t>(which)];
}

// All counters of one engine, in the order of stats.def. Everything that is dropped passes through
// add().
class counters {
public:
    void add(stat which, std::uint64_t n = 1) noexcept
    {
        values_[static_cast<std::size_t>(which)] += n;
    }
    void set(stat which, std::uint64_t n) noexcept { values_[static_cast<std::size_t>(which)] = n; }
    [[nodiscard]] std::uint64_t operator[](stat which) const noexcept
    {
        return values_[static_cast<std::size_t>(which)];
    }

private:
    std::array<std::uint64_t, stat_table.size()> values_{};
};

// A way from a transport to one peer, made by the transport, opaque to everybody else.
enum class route_id : std::uint32_t {};

} // namespace sp::inline v1
