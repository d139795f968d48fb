// SPDX-License-Identifier: BSD-2-Clause
//
// What the kernel tells about interfaces and the XDP programs on them, in the network namespace of
// the calling thread. Values only: a device may be gone the moment after.
#pragma once

#include "sp/error.hpp"
#include "userspace/xdp/steer.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sp::xdp {

struct device {
    std::string name;
    unsigned ifindex = 0;
};

// SP1011, with the names that are nearest.
[[nodiscard]] result<device> find_device(std::string_view name);

// The other end of a veth pair. `name` is empty and `mtu` 0 when it is in another network
// namespace.
struct veth_peer {
    std::string name;
    unsigned mtu = 0;
};

// Nothing when `ifindex` is not a veth device.
[[nodiscard]] std::optional<veth_peer> peer_of(unsigned ifindex);

// All interfaces of the network namespace.
[[nodiscard]] std::vector<device> devices();

struct attachment {
    std::uint32_t program_id;
    mode where;
};

// The program that runs on the interface, if one does.
[[nodiscard]] std::optional<attachment> attached_to(unsigned ifindex);

// A loaded program as the kernel describes it.
struct program_facts {
    std::string name, tag;
    std::uint64_t loaded_at = 0; // CLOCK_BOOTTIME, nanoseconds
    std::vector<std::uint32_t> maps;
};

// By id needs CAP_SYS_ADMIN or CAP_BPF; nothing without it, or when the program is gone.
[[nodiscard]] std::optional<program_facts> describe_program(int fd);
[[nodiscard]] std::optional<program_facts> describe_program_id(std::uint32_t id);

// What a bpf_link of an XDP program says; ifindex 0 when it is detached or its device is gone.
struct link_facts {
    unsigned ifindex = 0;
    std::uint32_t program_id = 0;
};
[[nodiscard]] std::optional<link_facts> describe_link(int fd);

// The process that holds a link of this program by a descriptor; best effort, reads /proc.
[[nodiscard]] std::optional<int> holder_of(std::uint32_t program_id);

} // namespace sp::xdp
