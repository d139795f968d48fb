// SPDX-License-Identifier: BSD-2-Clause
//
// A file descriptor with one owner, and the maps of the program as a set of them. Nothing here
// fails: what close() reports is not asked, since none of these descriptors carries unwritten data.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

namespace sp::xdp {

class descriptor {
public:
    descriptor() noexcept = default;
    explicit descriptor(int fd) noexcept : fd_(fd) {}
    descriptor(descriptor &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    descriptor &operator=(descriptor &&other) noexcept
    {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~descriptor()
    {
        if (fd_ >= 0)
            ::close(fd_);
    }

    // A second descriptor for what `fd` names; empty when the process has none left.
    [[nodiscard]] static descriptor duplicate(int fd) noexcept
    {
        return descriptor(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    }

    [[nodiscard]] int get() const noexcept { return fd_; }
    explicit operator bool() const noexcept { return fd_ >= 0; }

private:
    int fd_ = -1;
};

// The maps of abi/maps.h, in the order of their names.
enum class map : std::uint8_t { config, stats, ports, local, xsks, pings };
inline constexpr std::array map_names{"sp_config", "sp_stats", "sp_ports",
                                      "sp_local",  "sp_xsks",  "sp_pings"};

class map_set {
public:
    descriptor &operator[](map which) noexcept { return fds_[static_cast<std::size_t>(which)]; }
    [[nodiscard]] int fd(map which) const noexcept
    {
        return fds_[static_cast<std::size_t>(which)].get();
    }

private:
    std::array<descriptor, map_names.size()> fds_;
};

inline constexpr std::array every_map{map::config, map::stats, map::ports,
                                      map::local,  map::xsks,  map::pings};
static_assert(every_map.size() == map_names.size());

[[nodiscard]] constexpr const char *name_of(map which) noexcept
{
    return map_names[static_cast<std::size_t>(which)];
}

} // namespace sp::xdp
