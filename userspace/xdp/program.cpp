// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/xdp/program.hpp"

#include "userspace/xdp/device.hpp"
#include "userspace/xdp/faults.hpp"
#include "userspace/xdp/words.hpp"

#include <algorithm>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <memory>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-function"
#include "sp_steer.skel.h"
#pragma GCC diagnostic pop

namespace sp::xdp {
namespace {

using skeleton = std::unique_ptr<sp_steer, decltype([](sp_steer *one) { sp_steer__destroy(one); })>;

bpf_map *map_in(const sp_steer &object, map which)
{
    return bpf_object__find_map_by_name(object.obj, name_of(which));
}

bool same_shape(const bpf_map *wanted, int fd)
{
    bpf_map_info info{};
    std::uint32_t size = sizeof info;
    return bpf_obj_get_info_by_fd(fd, &info, &size) == 0 && info.type == bpf_map__type(wanted) &&
           info.key_size == bpf_map__key_size(wanted) &&
           info.value_size == bpf_map__value_size(wanted) &&
           info.max_entries == bpf_map__max_entries(wanted) &&
           info.map_flags == bpf_map__map_flags(wanted);
}

// Takes over what fits; the answer has a bit for each map that did.
result<unsigned> take_over(const sp_steer &object, const map_set &reused)
{
    unsigned taken = 0;
    for (const auto which : every_map) {
        if (reused.fd(which) < 0 || !same_shape(map_in(object, which), reused.fd(which)))
            continue;
        if (const int failed = bpf_map__reuse_fd(map_in(object, which), reused.fd(which));
            failed < 0)
            return std::unexpected(load_fault(-failed, {}));
        taken |= 1u << static_cast<unsigned>(which);
    }
    return taken;
}

std::uint32_t id_of(int program_fd)
{
    bpf_prog_info info{};
    std::uint32_t size = sizeof info;
    return bpf_obj_get_info_by_fd(program_fd, &info, &size) == 0 ? info.id : 0;
}

// Takes descriptors out of the object, which is about to go.
result<program> extract(const sp_steer &object)
{
    program loaded;
    loaded.fd = descriptor::duplicate(bpf_program__fd(object.progs.sp_steer));
    bool complete = static_cast<bool>(loaded.fd);
    for (const auto which : every_map) {
        loaded.maps[which] = descriptor::duplicate(bpf_map__fd(map_in(object, which)));
        complete = complete && loaded.maps[which];
    }
    if (!complete)
        return std::unexpected(load_fault(EMFILE, {}));
    // The program does not read its sp_config; bound to it, whoever finds the program finds the
    // config too.
    if (const int failed = bpf_prog_bind_map(loaded.fd.get(), loaded.maps.fd(map::config), nullptr);
        failed < 0)
        return std::unexpected(load_fault(-failed, {}));
    const auto facts = describe_program(loaded.fd.get());
    loaded.id = id_of(loaded.fd.get());
    if (!facts || loaded.id == 0)
        return std::unexpected(load_fault(errno, {}));
    loaded.tag = facts->tag;
    return loaded;
}

std::uint32_t flags_of(mode how)
{
    return how == mode::skb ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE;
}

// A failed BPF_LINK_CREATE gives a number and nothing else. The same attachment by netlink fails
// for the same reason and says it. Should it succeed after all, it is undone at once.
std::string why_refused(int program_fd, const device &where, mode how)
{
    const libbpf_words words;
    const auto ifindex = static_cast<int>(where.ifindex);
    if (bpf_xdp_attach(ifindex, program_fd, flags_of(how) | XDP_FLAGS_UPDATE_IF_NOEXIST, nullptr) ==
        0) {
        libbpf_options<bpf_xdp_attach_opts> ours;
        ours.old_prog_fd = program_fd;
        bpf_xdp_detach(ifindex, flags_of(how) | XDP_FLAGS_REPLACE, &ours);
    }
    return words.kernel_message();
}

result<attached_program> attach_once(int program_fd, const device &where, mode how)
{
    libbpf_options<bpf_link_create_opts> options;
    options.flags = flags_of(how);
    std::string said;
    int fd;
    {
        const libbpf_words words;
        fd = bpf_link_create(program_fd, static_cast<int>(where.ifindex), BPF_XDP, &options);
        said = words.kernel_message();
    }
    if (fd >= 0)
        return attached_program{descriptor(fd), how, {}};
    if (said.empty())
        said = why_refused(program_fd, where, how);
    return std::unexpected(attach_fault(-fd, where, how, said));
}

} // namespace

result<program> load_program(const load_options &options, const map_set *reused)
{
    const libbpf_words words;
    const skeleton object(sp_steer__open());
    if (!object)
        return std::unexpected(load_fault(errno, words.all()));
    object->rodata->sp_protocol = options.protocol;
    object->rodata->sp_miss_drops = options.miss_drops ? 1 : 0;
    object->rodata->sp_udp_port = SP_BE16(options.udp_port);
    unsigned taken = 0;
    if (reused) {
        const auto done = take_over(*object, *reused);
        if (!done)
            return std::unexpected(done.error());
        taken = *done;
    }
    if (const int failed = sp_steer__load(object.get()); failed < 0)
        return std::unexpected(load_fault(-failed, words.all()));
    auto loaded = extract(*object);
    if (!loaded)
        return loaded;
    const auto was_taken = [&](map which) {
        return (taken >> static_cast<unsigned>(which) & 1) != 0;
    };
    loaded->counters_kept = was_taken(map::stats);
    if (!was_taken(map::config))
        if (const auto written = configure(loaded->maps.fd(map::config), options); !written)
            return std::unexpected(written.error());
    return loaded;
}

result<> configure(int config_fd, const load_options &options)
{
    constexpr std::string_view version = SP_VERSION;
    timespec now{};
    ::clock_gettime(CLOCK_BOOTTIME, &now);
    sp_config value{};
    value.layout = SP_MAP_LAYOUT;
    value.protocol = options.protocol;
    value.miss_drops = options.miss_drops ? 1 : 0;
    value.udp_port = SP_BE16(options.udp_port);
    value.loaded_at = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
                      static_cast<std::uint64_t>(now.tv_nsec);
    std::memcpy(value.version, version.data(), std::min(version.size(), sizeof value.version - 1));
    const std::uint32_t only = 0;
    if (const int failed = bpf_map_update_elem(config_fd, &only, &value, BPF_ANY); failed < 0)
        return std::unexpected(load_fault(-failed, {}));
    return {};
}

std::optional<sp_config> read_config(int config_fd)
{
    bpf_map_info info{};
    std::uint32_t size = sizeof info;
    if (bpf_obj_get_info_by_fd(config_fd, &info, &size) < 0 ||
        info.value_size < sizeof(std::uint32_t))
        return std::nullopt;
    std::vector<std::byte> value(info.value_size);
    const std::uint32_t only = 0;
    if (bpf_map_lookup_elem(config_fd, &only, value.data()) < 0)
        return std::nullopt;
    sp_config config{};
    std::memcpy(&config, value.data(), std::min(value.size(), sizeof config));
    return config;
}

result<> run_sample(const program &loaded)
{
    char packet[64]{};
    packet[12] = 0x08; // an ARP request: EtherType 0x0806
    packet[13] = 0x06;
    libbpf_options<bpf_test_run_opts> run;
    run.data_in = packet;
    run.data_size_in = sizeof packet;
    run.repeat = 1;
    if (const int failed = bpf_prog_test_run_opts(loaded.fd.get(), &run); failed < 0)
        return std::unexpected(load_fault(-failed, {}));
    if (run.retval != XDP_PASS)
        return std::unexpected(
            error::numbered(9001, "the XDP program takes what is not SP",
                            "verdict " + std::to_string(run.retval) + " on an ARP packet"));
    return {};
}

result<attached_program> attach_program(int program_fd, const device &where, mode how)
{
    if (how == mode::hardware)
        return std::unexpected(error::numbered(2029, "hardware mode cannot be asked for"));
    if (how != mode::automatic)
        return attach_once(program_fd, where, how);
    auto native = attach_once(program_fd, where, mode::native);
    if (native || (native.error() != errc::not_supported))
        return native;
    auto skb = attach_once(program_fd, where, mode::skb);
    if (skb)
        skb->remark = "native mode: " + std::string(native.error().why());
    return skb;
}

} // namespace sp::xdp
