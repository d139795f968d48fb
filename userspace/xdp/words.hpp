// SPDX-License-Identifier: BSD-2-Clause
//
// What libbpf prints, caught. The kernel's reason for refusing an attachment (the netlink extended
// acknowledgement) and the verifier's log reach a program through libbpf's print function only.
// While an object of this class lives, what libbpf prints in this thread is kept in it and appears
// nowhere else; other threads, and an application with a print function of its own, notice nothing.
#pragma once

#include <cstring>
#include <string>
#include <string_view>

namespace sp::xdp {

class libbpf_words {
public:
    libbpf_words();
    ~libbpf_words();
    libbpf_words(const libbpf_words &) = delete;
    libbpf_words &operator=(const libbpf_words &) = delete;

    [[nodiscard]] const std::string &all() const noexcept { return text_; }

    // The kernel's last "error message" line, verbatim; empty when it gave none.
    [[nodiscard]] std::string kernel_message() const;

private:
    std::string text_;
    std::string *outer_; // what this thread wrote to before; objects nest
};

// A structure of options for libbpf: zero to its last byte, padding too, since libbpf looks at
// that. (Its own macro is C.)
template <class Options>
struct libbpf_options : Options {
    libbpf_options() noexcept
    {
        std::memset(static_cast<Options *>(this), 0, sizeof(Options));
        this->sz = sizeof(Options);
    }
};

// "EPERM", for a positive errno.
[[nodiscard]] std::string errno_name(int code);

// "Operation not permitted (EPERM)", for a positive errno.
[[nodiscard]] std::string errno_words(int code);

} // namespace sp::xdp
