// SPDX-License-Identifier: BSD-2-Clause
//
// Where a loaded program stays: ROOT/IFACE/{link,prog,maps/NAME} on a BPF file system. In a network
// namespace other than the first the directory is IFACE@INODE, so that equal names do not meet;
// what may not stand in a name there is written as in a URL. A directory is filled under another
// name and then renamed, so nobody sees half of one.
#pragma once

#include "sp/error.hpp"
#include "userspace/xdp/device.hpp"
#include "userspace/xdp/program.hpp"

#include <optional>
#include <string>
#include <string_view>

namespace sp::xdp {

// The directory for an interface of the calling thread's network namespace.
[[nodiscard]] std::string pin_directory(std::string_view root, std::string_view interface);

// The right to change what is below a root; goes with the object.
class pin_lock {
public:
    // Makes the root, mounts a BPF file system there if it is none yet (mode 0750, group sp where
    // there is one), and waits a short time for another sp that is at work below it. SP1010, or
    // errc::busy.
    [[nodiscard]] static result<pin_lock> take(const std::string &root);

private:
    explicit pin_lock(descriptor held) noexcept : held_(std::move(held)) {}

    descriptor held_;
};

// What is pinned for one interface. The link is empty when this process may only read.
struct pinned {
    descriptor link, program;
    map_set maps;
    std::uint32_t program_id = 0;
};

// For use of the maps: opens program and maps, not the link. Nothing when nothing is pinned; SP1010
// when this process may not.
[[nodiscard]] result<std::optional<pinned>> open_maps(const std::string &directory);

// For change: opens the link too. Pins whose device has gone or was made anew, or that are
// incomplete, are removed and count as nothing.
[[nodiscard]] result<std::optional<pinned>> open_all(const std::string &directory,
                                                     unsigned ifindex);

// Pins all but the link in a fresh directory beside `directory`, whose name is handed back.
[[nodiscard]] result<std::string> stage(const std::string &directory, const program &loaded);

// Pins the link there too and gives the fresh directory its name, in exchange for the old one if
// there is one, which is removed. The fresh directory is gone if this fails.
[[nodiscard]] result<> publish(const std::string &staged, const std::string &directory,
                               int link_fd);

// Removes a directory of pins; one that is not there is fine.
[[nodiscard]] result<> remove_pins(const std::string &directory);

} // namespace sp::xdp
