// SPDX-License-Identifier: BSD-2-Clause
//
// Facts about this host and its interfaces, read without privilege and without changing anything:
// for `sp doctor` and the first line of `sp demo`. What cannot be seen is an empty optional.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sp::cli {

struct kernel_version {
    std::string release; // as uname has it
    unsigned major = 0, minor = 0;
};
[[nodiscard]] kernel_version kernel();

enum class capability : unsigned {
    net_admin = 12,
    net_raw = 13,
    ipc_lock = 14,
    sys_admin = 21,
    bpf = 39
};

class capabilities {
public:
    [[nodiscard]] static capabilities effective();
    // CAP_SYS_ADMIN holds what CAP_BPF was made from.
    [[nodiscard]] bool holds(capability which) const noexcept;
    // Of the three that XDP and AF_XDP want, those that are there or not, as CAP_BPF CAP_NET_ADMIN
    // ...
    [[nodiscard]] std::string present() const;
    [[nodiscard]] std::string missing() const;

private:
    std::uint64_t bits_ = 0;
};

[[nodiscard]] bool has_af_xdp();
[[nodiscard]] bool has_btf();
[[nodiscard]] std::optional<std::uint64_t> memlock_limit(); // bytes; empty: none

enum class presence : std::uint8_t { yes, no, unknown };
[[nodiscard]] presence bpf_file_system_at(const std::string &path);

[[nodiscard]] std::optional<std::uint64_t> datagram_queue_length(); // net.unix.max_dgram_qlen

struct interface_facts {
    std::string name, driver;
    unsigned ifindex = 0;
    bool up = false;
    unsigned mtu = 0;
    std::optional<unsigned> queues; // receive queues
    std::optional<bool> lro;
    std::string peer; // of a veth; empty: none, or in another namespace
    std::optional<unsigned> peer_mtu;
    std::optional<bool> native_xdp, zero_copy; // as the kernel says, from 6.3 on
};
[[nodiscard]] std::optional<interface_facts>
look_at(const std::string &name); // empty: there is none
[[nodiscard]] std::vector<std::string> interface_names();

// A number of bytes as 64 MiB.
[[nodiscard]] std::string in_mebibytes(std::uint64_t bytes);

} // namespace sp::cli
