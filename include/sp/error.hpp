// SPDX-License-Identifier: BSD-2-Clause
//
// Errors as values. An error born on the data path is a code and nothing else: nothing is
// allocated, its texts come from abi/errors.def. An error born at set-up also carries what failed,
// why (the kernel's own words where it gave any) and what to do. Copying an error copies a pointer;
// errors may be passed between threads.
#pragma once

#include "sp/abi/names.hpp"

#include <expected>
#include <memory>
#include <string>
#include <string_view>

#pragma GCC visibility push(default)
namespace sp::inline v1 {

class error {
public:
    // A code and nothing more.
    error(errc code) noexcept
        : code_(code) {} // NOLINT(google-explicit-constructor): `return std::unexpected(errc::x)`

    // An entry of the catalogue; an empty text means "as the catalogue says". `number` must be in
    // the catalogue, else the error becomes SP9001.
    [[nodiscard]] static error numbered(int number, std::string what = {}, std::string why = {},
                                        std::string fix = {});

    [[nodiscard]] errc code() const noexcept { return code_; } // what a program branches on
    [[nodiscard]] bool retryable() const noexcept { return describe(code_).retryable; }
    [[nodiscard]] sp::fault fault() const noexcept { return describe(code_).whose; }
    [[nodiscard]] int number() const noexcept;            // 1003 for SP1003
    [[nodiscard]] int exit_status() const noexcept;       // of a program that ends by it
    [[nodiscard]] std::string_view what() const noexcept; // cannot attach to eth0 in native mode
    [[nodiscard]] std::string_view why() const noexcept;  // the kernel's own words, if it gave any
    [[nodiscard]] std::string_view fix() const noexcept;  // a command or an option

    friend bool operator==(const error &e, errc code) noexcept { return e.code_ == code; }

private:
    struct detail {
        int number = 0;
        std::string what, why, fix;
    };

    errc code_;
    std::shared_ptr<const detail> detail_;
};

template <class T = void>
using result = std::expected<T, error>;

// Prints "sp: SPnnnn what", "  why: ..." and "  fix: ..." to stderr; returns the exit status for
// it.
int complain(const error &e) noexcept;

} // namespace sp::inline v1
#pragma GCC visibility pop
