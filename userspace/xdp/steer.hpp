// SPDX-License-Identifier: BSD-2-Clause
//
// The XDP program on an interface: loading, attaching, replacing, pinning, unloading, and telling
// what is there. Two ways to have it. `steering::attach` holds the program by a bpf_link of this
// process: it goes when the process goes, however it dies. `load` pins it on purpose: it stays
// until `unload` or reboot, and any process that may open the pins uses it through
// `steering::open_pinned`.
//
// Everything concerns the network namespace of the calling thread. Nothing falls back in silence:
// native mode is native mode or an error. Errors carry the kernel's own words, the extended
// acknowledgement included. All calls may block and allocate; none belongs on a data path.
#pragma once

#include "sp/abi/maps.h"
#include "sp/abi/wire.h"
#include "sp/error.hpp"
#include "userspace/xdp/descriptor.hpp"

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sp::xdp {

// native: in the driver. skb: in the kernel's stack, slower, on every device. hardware: seen in a
// status, never asked for. automatic: native, else skb, and the report says which and why.
enum class mode : std::uint8_t { native, skb, hardware, automatic };

[[nodiscard]] std::string_view name_of(mode how) noexcept;

inline constexpr std::string_view pin_root_default = "/run/sp/bpf";

struct load_options {
    mode how = mode::native;
    std::string pin_root{pin_root_default};
    bool replace = false; // an older or differently configured program of ours gives way
    bool dry_run = false; // verify and run once in the kernel, attach nothing
    std::uint8_t protocol = SP_IP_PROTOCOL; // IP protocol number that is steered
    std::uint16_t udp_port = 0;             // encapsulated packets come here; 0: not offered
    bool miss_drops = false; // what finds no port or socket is dropped, not left to the kernel
};

enum class load_outcome : std::uint8_t { loaded, already, replaced, verified };

struct load_report {
    load_outcome outcome = load_outcome::loaded;
    std::string interface;
    unsigned ifindex = 0;
    mode attached = mode::native;
    std::uint32_t program_id = 0;
    std::string tag;       // 16 hexadecimal digits
    std::string pinned_in; // the directory with link, prog and maps/; empty after a dry run
    std::string remark;    // why `automatic` did not take native mode; else empty
    bool counters_kept = false;
};

using steer_counters =
    std::array<std::uint64_t, SP_XDP_STATS>; // indexed by sp_xdp_stat, summed over the CPUs

// The maps of a program that is attached. Move-only; the destructor gives the descriptors back, and
// with them the program itself if this object attached it.
class steering {
public:
    // Loads and attaches; the program goes with this object. Options `pin_root`, `replace` and
    // `dry_run` are not read. SP1002 to SP1005, SP1007, SP1011.
    [[nodiscard]] static result<steering> attach(std::string_view interface,
                                                 const load_options &options);

    // The maps that `load` pinned. errc::not_found (SP2026) when nothing of ours is loaded there,
    // SP1013 when its maps have another layout, SP1010 when this process may not open the pins.
    [[nodiscard]] static result<steering> open_pinned(std::string_view interface,
                                                      std::string_view pin_root = pin_root_default);

    [[nodiscard]] int config_fd() const noexcept { return maps_.fd(map::config); }
    [[nodiscard]] int stats_fd() const noexcept { return maps_.fd(map::stats); }
    [[nodiscard]] int ports_fd() const noexcept { return maps_.fd(map::ports); }
    [[nodiscard]] int local_fd() const noexcept { return maps_.fd(map::local); }
    [[nodiscard]] int xsks_fd() const noexcept { return maps_.fd(map::xsks); }

    // Where the program looks for encapsulated packets now; 0: nowhere.
    [[nodiscard]] std::uint16_t udp_port() const;
    [[nodiscard]] unsigned ifindex() const noexcept { return ifindex_; }
    [[nodiscard]] mode attached_mode() const noexcept { return mode_; }
    // The program when this object was made; a later `load` with `replace` leaves the maps and
    // changes the id.
    [[nodiscard]] std::uint32_t program_id() const noexcept { return program_id_; }
    // Why `automatic` did not take native mode; else empty.
    [[nodiscard]] const std::string &remark() const noexcept { return remark_; }

    // Asks the kernel: does a program that uses these maps run on the interface now? Call it in the
    // network namespace of the interface.
    [[nodiscard]] bool attached() const;

private:
    steering() = default;

    map_set maps_;
    descriptor link_; // empty when the program is pinned
    unsigned ifindex_ = 0;
    mode mode_ = mode::native;
    std::uint32_t program_id_ = 0;
    std::string remark_;
};

[[nodiscard]] result<load_report> load(std::string_view interface, const load_options &options);

// Detaches and unpins what `load` left; false: there was nothing. A program of somebody else, or
// one that a process holds, is left alone: SP1007.
[[nodiscard]] result<bool> unload(std::string_view interface,
                                  std::string_view pin_root = pin_root_default);

// An interface that has an XDP program, ours or not. Empty optionals: this process may not see it,
// or the program is not ours.
struct interface_status {
    std::string name;
    unsigned ifindex = 0;
    mode attached = mode::native;
    std::uint32_t program_id = 0;
    std::string program_name; // empty: not permitted to ask
    std::string tag;
    bool ours = false;
    std::string kept_by = "unknown"; // "pin", "pid N" or "unknown"
    std::optional<std::chrono::nanoseconds> uptime;
    std::optional<std::uint32_t> layout;
    std::string version;       // of the sp that loaded it
    std::uint8_t protocol = 0; // of ours
    std::uint16_t udp_port = 0;
    bool miss_drops = false;
    std::optional<std::size_t> ports_served;
    std::optional<steer_counters> counters;
};

// Every interface of this network namespace that has an XDP program, or only the one named (an
// empty list when it has none, SP1011 when it does not exist).
[[nodiscard]] result<std::vector<interface_status>>
status(std::optional<std::string_view> interface, std::string_view pin_root = pin_root_default);

[[nodiscard]] result<steer_counters> read_stats(int stats_fd);

} // namespace sp::xdp
