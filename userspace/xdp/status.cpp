// SPDX-License-Identifier: BSD-2-Clause
//
// What runs where, found out with whatever this process is allowed to do: from the program's own
// maps by id with CAP_SYS_ADMIN, else from the pins, else from netlink alone.
#include "userspace/xdp/device.hpp"
#include "userspace/xdp/pins.hpp"
#include "userspace/xdp/program.hpp"
#include "userspace/xdp/steer.hpp"

#include <algorithm>
#include <bpf/bpf.h>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <linux/bpf.h>

namespace sp::xdp {
namespace {

map_set maps_by_id(const std::vector<std::uint32_t> &ids)
{
    map_set found;
    for (const auto id : ids) {
        descriptor one(bpf_map_get_fd_by_id(id));
        bpf_map_info info{};
        std::uint32_t size = sizeof info;
        if (!one || bpf_obj_get_info_by_fd(one.get(), &info, &size) < 0)
            continue;
        for (const auto which : every_map)
            if (std::string_view(info.name) == name_of(which)) {
                found[which] = std::move(one);
                break;
            }
    }
    return found;
}

// How many ports have a shard. The map is read in blocks, not port by port.
std::optional<std::size_t> count_ports(int ports_fd)
{
    constexpr std::uint32_t block = 4096;
    std::vector<std::uint32_t> keys(block);
    std::vector<std::uint16_t> values(block);
    std::uint32_t position = 0, next = 0;
    std::size_t served = 0;
    bpf_map_info info{};
    std::uint32_t size = sizeof info;
    if (bpf_obj_get_info_by_fd(ports_fd, &info, &size) < 0 ||
        info.value_size != sizeof(std::uint16_t))
        return std::nullopt;
    for (std::uint32_t read = 0; read < info.max_entries; read += block) {
        std::uint32_t count = block;
        const int failed = bpf_map_lookup_batch(ports_fd, read == 0 ? nullptr : &position, &next,
                                                keys.data(), values.data(), &count, nullptr);
        if (failed < 0 && failed != -ENOENT) // ENOENT: this was the last block
            return std::nullopt;
        served +=
            count - static_cast<std::size_t>(std::count(values.begin(), values.begin() + count, 0));
        position = next;
    }
    return served;
}

void describe_ours(interface_status &one, const map_set &maps)
{
    if (const auto config =
            maps.fd(map::config) >= 0 ? read_config(maps.fd(map::config)) : std::nullopt) {
        one.layout = config->layout;
        if (config->layout == SP_MAP_LAYOUT) {
            const auto *text = reinterpret_cast<const char *>(config->version);
            one.version.assign(text, ::strnlen(text, sizeof config->version));
            one.protocol = config->protocol;
            one.udp_port = SP_BE16(config->udp_port);
            one.miss_drops = config->miss_drops != 0;
        }
    }
    if (one.layout != SP_MAP_LAYOUT)
        return; // what the other maps hold is for another sp to tell
    if (maps.fd(map::ports) >= 0)
        one.ports_served = count_ports(maps.fd(map::ports));
    if (maps.fd(map::stats) >= 0)
        if (const auto sums = read_stats(maps.fd(map::stats)))
            one.counters = *sums;
}

interface_status describe(const device &where, const attachment &runs, std::string_view pin_root)
{
    interface_status one;
    one.name = where.name;
    one.ifindex = where.ifindex;
    one.attached = runs.where;
    one.program_id = runs.program_id;

    auto pins = open_maps(pin_directory(pin_root, where.name));
    const bool is_pinned = pins && *pins && (*pins)->program_id == runs.program_id;
    auto facts = describe_program_id(runs.program_id);
    if (!facts && is_pinned)
        facts = describe_program((*pins)->program.get());
    if (facts) {
        timespec up{};
        ::clock_gettime(CLOCK_BOOTTIME, &up);
        one.program_name = facts->name;
        one.tag = facts->tag;
        one.ours = facts->name == SP_PROGRAM_NAME;
        one.uptime = std::chrono::seconds(up.tv_sec) + std::chrono::nanoseconds(up.tv_nsec) -
                     std::chrono::nanoseconds(facts->loaded_at);
    }
    if (one.ours && is_pinned)
        describe_ours(one, (*pins)->maps);
    else if (one.ours)
        describe_ours(one, maps_by_id(facts->maps));
    if (is_pinned)
        one.kept_by = "pin";
    else if (const auto pid = holder_of(runs.program_id))
        one.kept_by = "pid " + std::to_string(*pid);
    return one;
}

} // namespace

result<std::vector<interface_status>> status(std::optional<std::string_view> interface,
                                             std::string_view pin_root)
{
    std::vector<device> asked;
    if (interface) {
        auto where = find_device(*interface);
        if (!where)
            return std::unexpected(where.error());
        asked.push_back(*std::move(where));
    } else {
        asked = devices();
    }
    std::vector<interface_status> all;
    for (const auto &where : asked)
        if (const auto runs = attached_to(where.ifindex))
            all.push_back(describe(where, *runs, pin_root));
    return all;
}

} // namespace sp::xdp
