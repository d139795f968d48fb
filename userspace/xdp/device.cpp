// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/xdp/device.hpp"

#include "userspace/xdp/words.hpp"

#include <algorithm>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <charconv>
#include <fcntl.h>
#include <filesystem>
#include <libmnl/libmnl.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <numeric>
#include <ranges>

namespace sp::xdp {
namespace {

// How many letters must change to make one name of the other.
std::size_t distance(std::string_view a, std::string_view b)
{
    std::vector<std::size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), 0uz);
    for (std::size_t i = 0; i < a.size(); ++i) {
        auto diagonal = std::exchange(row[0], i + 1);
        for (std::size_t j = 0; j < b.size(); ++j) {
            const auto replaced = diagonal + (a[i] == b[j] ? 0 : 1);
            diagonal = row[j + 1];
            row[j + 1] = std::min({replaced, diagonal + 1, row[j] + 1});
        }
    }
    return row[b.size()];
}

error no_device(std::string_view name)
{
    constexpr std::size_t names_max = 8;
    auto there = devices();
    std::ranges::sort(there, {}, [&](const device &one) { return distance(one.name, name); });
    std::string names;
    for (const auto &one : there | std::views::take(names_max))
        names += ' ' + one.name;
    std::string fix;
    if (!there.empty() && distance(there.front().name, name) <= 2)
        fix = "did you mean " + there.front().name + "? ip link shows what there is";
    return error::numbered(1011, "no such interface: " + std::string(name),
                           "this network namespace has:" + (names.empty() ? " none" : names),
                           std::move(fix));
}

struct netlink_facts {
    std::string name, kind;
    unsigned mtu = 0, lower = 0;
    bool lower_is_elsewhere = false;
};

int read_link_info(const nlattr *attribute, void *to)
{
    if (mnl_attr_get_type(attribute) == IFLA_INFO_KIND)
        static_cast<netlink_facts *>(to)->kind = mnl_attr_get_str(attribute);
    return MNL_CB_OK;
}

int read_attribute(const nlattr *attribute, void *to)
{
    auto &facts = *static_cast<netlink_facts *>(to);
    switch (mnl_attr_get_type(attribute)) {
    case IFLA_IFNAME:
        facts.name = mnl_attr_get_str(attribute);
        break;
    case IFLA_MTU:
        facts.mtu = mnl_attr_get_u32(attribute);
        break;
    case IFLA_LINK:
        facts.lower = mnl_attr_get_u32(attribute);
        break;
    case IFLA_LINK_NETNSID:
        facts.lower_is_elsewhere = true;
        break;
    case IFLA_LINKINFO:
        return mnl_attr_parse_nested(attribute, read_link_info, to);
    default:
        break;
    }
    return MNL_CB_OK;
}

int read_link(const nlmsghdr *message, void *to)
{
    return mnl_attr_parse(message, sizeof(ifinfomsg), read_attribute, to);
}

std::optional<netlink_facts> ask_netlink(unsigned ifindex)
{
    alignas(nlmsghdr) char space[16384]; // a link message is about 2 KiB
    auto *request = mnl_nlmsg_put_header(space);
    request->nlmsg_type = RTM_GETLINK;
    request->nlmsg_flags = NLM_F_REQUEST;
    auto *about = static_cast<ifinfomsg *>(mnl_nlmsg_put_extra_header(request, sizeof(ifinfomsg)));
    about->ifi_index = static_cast<int>(ifindex);

    auto *socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
    if (!socket)
        return std::nullopt;
    std::optional<netlink_facts> facts;
    if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) >= 0 &&
        mnl_socket_sendto(socket, request, request->nlmsg_len) >= 0) {
        const auto n = mnl_socket_recvfrom(socket, space, sizeof space);
        facts.emplace();
        if (n <= 0 || mnl_cb_run(space, static_cast<std::size_t>(n), 0,
                                 mnl_socket_get_portid(socket), read_link, &*facts) < MNL_CB_STOP)
            facts.reset();
    }
    mnl_socket_close(socket);
    return facts;
}

// True when this descriptor of a process is a link of the program, by its fdinfo file.
bool holds(const std::filesystem::path &fdinfo, std::uint32_t program_id)
{
    const descriptor file(::open(fdinfo.c_str(), O_RDONLY | O_CLOEXEC));
    char space[1024];
    const auto n = file ? ::read(file.get(), space, sizeof space) : 0;
    const std::string_view text(space, n > 0 ? static_cast<std::size_t>(n) : 0);
    constexpr std::string_view label = "prog_id:\t";
    const auto at = text.find(label);
    if (at == std::string_view::npos || !text.contains("link_type:\txdp"))
        return false;
    std::uint32_t id = 0;
    std::from_chars(text.data() + at + label.size(), text.data() + text.size(), id);
    return id == program_id;
}

bool process_holds(const std::filesystem::path &process, std::uint32_t program_id)
{
    std::error_code gone;
    for (std::filesystem::directory_iterator one(process / "fd", gone), end; one != end;
         one.increment(gone)) {
        std::error_code unreadable;
        const auto target = std::filesystem::read_symlink(one->path(), unreadable).native();
        if (target.starts_with("anon_inode:bpf") &&
            holds(process / "fdinfo" / one->path().filename(), program_id))
            return true;
    }
    return false;
}

} // namespace

result<device> find_device(std::string_view name)
{
    device found{std::string(name), 0};
    found.ifindex = if_nametoindex(found.name.c_str());
    if (found.ifindex == 0)
        return std::unexpected(no_device(name));
    return found;
}

std::vector<device> devices()
{
    std::vector<device> found;
    struct if_nameindex *list = if_nameindex();
    for (auto *one = list; one && one->if_index != 0; ++one)
        found.push_back({one->if_name, one->if_index});
    if_freenameindex(list);
    return found;
}

std::optional<veth_peer> peer_of(unsigned ifindex)
{
    const auto own = ask_netlink(ifindex);
    if (!own || own->kind != "veth")
        return std::nullopt;
    if (own->lower_is_elsewhere)
        return veth_peer{};
    const auto peer = ask_netlink(own->lower);
    return peer ? veth_peer{peer->name, peer->mtu} : veth_peer{};
}

std::optional<attachment> attached_to(unsigned ifindex)
{
    const libbpf_words quiet;
    libbpf_options<bpf_xdp_query_opts> found;
    if (bpf_xdp_query(static_cast<int>(ifindex), 0, &found) < 0)
        return std::nullopt;
    if (found.hw_prog_id != 0)
        return attachment{found.hw_prog_id, mode::hardware};
    if (found.drv_prog_id != 0)
        return attachment{found.drv_prog_id, mode::native};
    if (found.skb_prog_id != 0)
        return attachment{found.skb_prog_id, mode::skb};
    return std::nullopt;
}

std::optional<program_facts> describe_program(int fd)
{
    std::uint32_t maps[64];
    bpf_prog_info info{};
    std::uint32_t size = sizeof info;
    info.nr_map_ids = std::size(maps);
    info.map_ids = reinterpret_cast<std::uintptr_t>(maps);
    if (bpf_obj_get_info_by_fd(fd, &info, &size) < 0)
        return std::nullopt;
    program_facts facts{info.name, {}, info.load_time, {}};
    for (const unsigned byte : info.tag) {
        constexpr std::string_view digits = "0123456789abcdef";
        facts.tag += digits[byte >> 4];
        facts.tag += digits[byte & 15];
    }
    facts.maps.assign(maps, maps + std::min<std::size_t>(info.nr_map_ids, std::size(maps)));
    return facts;
}

std::optional<program_facts> describe_program_id(std::uint32_t id)
{
    const descriptor program(bpf_prog_get_fd_by_id(id));
    return program ? describe_program(program.get()) : std::nullopt;
}

std::optional<link_facts> describe_link(int fd)
{
    bpf_link_info info{};
    std::uint32_t size = sizeof info;
    if (bpf_obj_get_info_by_fd(fd, &info, &size) < 0 || info.type != BPF_LINK_TYPE_XDP)
        return std::nullopt;
    return link_facts{info.xdp.ifindex, info.prog_id};
}

std::optional<int> holder_of(std::uint32_t program_id)
{
    std::error_code gone;
    for (std::filesystem::directory_iterator one("/proc", gone), end; one != end;
         one.increment(gone)) {
        const auto name = one->path().filename().native();
        int pid = 0;
        const auto [last, bad] = std::from_chars(name.data(), name.data() + name.size(), pid);
        if (bad == std::errc{} && last == name.data() + name.size() &&
            process_holds(one->path(), program_id))
            return pid;
    }
    return std::nullopt;
}

} // namespace sp::xdp
