// SPDX-License-Identifier: BSD-2-Clause
//
// The XDP program in the kernel: verified, configured, with its maps, attached nowhere yet.
#pragma once

#include "sp/error.hpp"
#include "userspace/xdp/steer.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace sp::xdp {

struct program {
    descriptor fd;
    map_set maps;
    std::uint32_t id = 0;
    std::string tag;
    bool counters_kept = false; // sp_stats is that of `reused`
};

// Maps of `reused` that have the shape this program wants are taken over with their contents; the
// others are made new. sp_config is written when it is new, else left for configure().
[[nodiscard]] result<program> load_program(const load_options &options,
                                           const map_set *reused = nullptr);

// Writes sp_config.
[[nodiscard]] result<> configure(int config_fd, const load_options &options);

// The config of a map that may have another layout: what is missing is zero. Nothing when it cannot
// be read.
[[nodiscard]] std::optional<sp_config> read_config(int config_fd);

// Runs the program once in the kernel on a packet of another protocol; it must leave that to the
// kernel.
[[nodiscard]] result<> run_sample(const program &loaded);

// A program attached by a link; the link is unpinned, so it goes with its descriptor.
struct attached_program {
    descriptor link;
    mode where;
    std::string remark;
};

struct device;
[[nodiscard]] result<attached_program> attach_program(int program_fd, const device &where,
                                                      mode how);

} // namespace sp::xdp
