// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/xdp/steer.hpp"

#include "userspace/xdp/device.hpp"
#include "userspace/xdp/faults.hpp"
#include "userspace/xdp/pins.hpp"
#include "userspace/xdp/program.hpp"
#include "userspace/xdp/words.hpp"

#include <algorithm>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <linux/bpf.h>

namespace sp::xdp {
namespace {

error layout_fault(std::string_view interface, const std::optional<sp_config> &config)
{
    return error::numbered(1013, {},
                           "its maps have layout " +
                               (config ? std::to_string(config->layout) : "unknown") +
                               ", this sp needs " + std::to_string(SP_MAP_LAYOUT),
                           "sp xdp load " + std::string(interface) + " --replace");
}

error not_loaded(const device &where, std::string why)
{
    return error::numbered(2026, "no XDP program of sp is loaded on " + where.name, std::move(why),
                           "sp xdp load " + where.name);
}

std::uint32_t map_id(int map_fd)
{
    bpf_map_info info{};
    std::uint32_t size = sizeof info;
    return bpf_obj_get_info_by_fd(map_fd, &info, &size) == 0 ? info.id : 0;
}

} // namespace

std::string_view name_of(mode how) noexcept
{
    switch (how) {
    case mode::native:
        return "native";
    case mode::skb:
        return "skb";
    case mode::hardware:
        return "hw";
    case mode::automatic:
        return "auto";
    }
    std::unreachable();
}

result<steering> steering::attach(std::string_view interface, const load_options &options)
{
    const auto where = find_device(interface);
    if (!where)
        return std::unexpected(where.error());
    auto loaded = load_program(options);
    if (!loaded)
        return std::unexpected(loaded.error());
    auto done = attach_program(loaded->fd.get(), *where, options.how);
    if (!done)
        return std::unexpected(done.error());
    steering made;
    made.maps_ = std::move(loaded->maps);
    made.link_ = std::move(done->link);
    made.ifindex_ = where->ifindex;
    made.mode_ = done->where;
    made.program_id_ = loaded->id;
    made.remark_ = std::move(done->remark);
    return made;
}

result<steering> steering::open_pinned(std::string_view interface, std::string_view pin_root)
{
    const auto where = find_device(interface);
    if (!where)
        return std::unexpected(where.error());
    auto found = open_maps(pin_directory(pin_root, interface));
    if (!found)
        return std::unexpected(found.error());
    if (!*found)
        return std::unexpected(
            not_loaded(*where, "nothing is pinned below " + std::string(pin_root)));
    auto &pins = **found;
    const auto runs = attached_to(where->ifindex);
    if (!runs || runs->program_id != pins.program_id)
        return std::unexpected(not_loaded(
            *where,
            "program " + std::to_string(pins.program_id) + " is pinned, " +
                (runs ? "program " + std::to_string(runs->program_id) : std::string("none")) +
                " is attached"));
    const auto config = read_config(pins.maps.fd(map::config));
    const bool complete =
        std::ranges::all_of(every_map, [&](map which) { return pins.maps.fd(which) >= 0; });
    if (!config || config->layout != SP_MAP_LAYOUT || !complete)
        return std::unexpected(layout_fault(interface, config));
    steering made;
    made.maps_ = std::move(pins.maps);
    made.ifindex_ = where->ifindex;
    made.mode_ = runs->where;
    made.program_id_ = pins.program_id;
    return made;
}

std::uint16_t steering::udp_port() const
{
    const auto config = read_config(config_fd());
    return config ? SP_BE16(config->udp_port) : 0;
}

bool steering::attached() const
{
    if (link_) {
        const auto facts = describe_link(link_.get());
        return facts && facts->ifindex == ifindex_;
    }
    const auto runs = attached_to(ifindex_);
    if (!runs)
        return false;
    if (runs->program_id == program_id_)
        return true;
    // Replaced in place: as good as ours while it redirects into the same sockets.
    const auto facts = describe_program_id(runs->program_id);
    return facts && std::ranges::find(facts->maps, map_id(xsks_fd())) != facts->maps.end();
}

result<steer_counters> read_stats(int stats_fd)
{
    bpf_map_info info{};
    std::uint32_t size = sizeof info;
    const int processors = libbpf_num_possible_cpus();
    if (bpf_obj_get_info_by_fd(stats_fd, &info, &size) < 0 || processors <= 0)
        return std::unexpected(
            error::numbered(2037, "cannot read the counters of XDP", errno_words(errno)));
    // Each CPU has a copy of the value, padded to 8 bytes, which whole counters need not be.
    const std::size_t each = info.value_size / sizeof(std::uint64_t);
    std::vector<std::uint64_t> values(each * static_cast<std::size_t>(processors));
    const std::uint32_t only = 0;
    if (bpf_map_lookup_elem(stats_fd, &only, values.data()) < 0)
        return std::unexpected(
            error::numbered(2037, "cannot read the counters of XDP", errno_words(errno)));
    steer_counters sums{};
    for (std::size_t cpu = 0; cpu < static_cast<std::size_t>(processors); ++cpu)
        for (std::size_t i = 0; i < std::min(each, sums.size()); ++i)
            sums[i] += values[cpu * each + i];
    return sums;
}

} // namespace sp::xdp
