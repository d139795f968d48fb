// SPDX-License-Identifier: BSD-2-Clause
//
// The file that names a unix socket: made with its rights in force before it appears, a stale one
// replaced, a live one left alone, removed with the listener if it is still the one we made. The
// same for datagrams and streams.
#pragma once

#include "sp/error.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

namespace sp::transport {

struct unix_name {
    sockaddr_un name{};
    socklen_t length = sizeof(sa_family_t);

    [[nodiscard]] const sockaddr *get() const noexcept
    {
        return reinterpret_cast<const sockaddr *>(&name);
    }
};

inline constexpr std::size_t unix_name_max = sizeof(sockaddr_un::sun_path) - 1; // 107 bytes

// Nothing when the path has no byte, too many, or a zero byte.
[[nodiscard]] std::optional<unix_name> path_name(std::string_view path) noexcept;
// At most unix_name_max bytes after the zero byte that comes before them.
[[nodiscard]] std::optional<unix_name> abstract_name(std::string_view name) noexcept;

[[nodiscard]] error path_error(const std::string &path);
// What errno says about a socket or its file, as an entry of the catalogue.
[[nodiscard]] error socket_error(std::string what);

class unix_path {
public:
    // Binds `fd`, of this type (SOCK_DGRAM, SOCK_STREAM), to `path` with the rights of `mode`.
    // Errors: SP2001, SP2002 naming the process that listens there if it can be seen, SP2022,
    // SP2026, SP2037.
    [[nodiscard]] static result<unix_path> bind(int fd, int type, const std::string &path,
                                                unsigned mode);

    unix_path(unix_path &&other) noexcept;
    unix_path &operator=(unix_path &&) = delete;
    ~unix_path();

    [[nodiscard]] const std::string &text() const noexcept { return path_; }

private:
    explicit unix_path(std::string path) noexcept;

    std::string path_; // empty: moved from
    dev_t device_ = 0; // of the file we made: only that one is removed
    ino_t inode_ = 0;
};

} // namespace sp::transport
