// SPDX-License-Identifier: BSD-2-Clause
//
// `sp doctor`: what this host lacks for sp, and the command that mends each. Needs no privilege and
// changes nothing; what cannot be seen without one is marked `?` and says which would tell.
#include "userspace/cli/finding.hpp"
#include "userspace/cli/host.hpp"
#include "userspace/cli/table.hpp"
#include "userspace/cli/text.hpp"
#include "userspace/cli/verbs.hpp"
#include "userspace/xdp/steer.hpp"

#include <algorithm>
#include <fmt/format.h>

namespace sp::cli {
namespace {

// One AF_XDP socket per receive queue, each with its own packet memory: engine_options::frames
// times a frame.
constexpr std::uint64_t frames_per_queue = 4096;
constexpr unsigned mtu_of_small_frames = 1748; // a frame of 2048 bytes less headroom and Ethernet
constexpr unsigned mtu_native_max = 3498; // page less headroom: ena and virtio; veth takes 8 more
constexpr unsigned mtu_veth_peer_max = 3506;

finding kernel_finding()
{
    const auto k = kernel();
    const bool enough = k.major > 5 || (k.major == 5 && k.minor >= 15);
    if (!enough)
        return {"kernel", k.release, verdict::fix,
                "upgrade the kernel to 5.15 or later; unixgram:// works meanwhile"};
    return {"kernel", k.release, verdict::ok, "5.15 is the least"};
}

finding features_finding()
{
    const bool sockets = has_af_xdp(), types = has_btf();
    if (sockets && types)
        return {"features", "AF_XDP, BTF, bpf_link for XDP", verdict::ok, ""};
    return {"features", fmt::format("missing:{}{}", sockets ? "" : " AF_XDP", types ? "" : " BTF"),
            verdict::fix,
            fmt::format("a kernel with{}{}", sockets ? "" : " CONFIG_XDP_SOCKETS=y",
                        types ? "" : " CONFIG_DEBUG_INFO_BTF=y")};
}

finding caps_finding()
{
    const auto mine = capabilities::effective();
    const auto missing = mine.missing();
    if (missing.empty())
        return {"caps", mine.present(), verdict::ok, ""};
    return {"caps", "missing: " + missing, verdict::fix,
            "run as root, or: setcap cap_bpf,cap_net_admin,cap_net_raw+ep PROGRAM; unixgram:// "
            "needs none"};
}

finding memlock_finding(const std::optional<interface_facts> &interface)
{
    const auto limit = memlock_limit();
    const unsigned queues = interface ? interface->queues.value_or(1) : 1;
    const std::uint64_t frame = interface && interface->mtu > mtu_of_small_frames ? 4096 : 2048;
    const auto needed = queues * frames_per_queue * frame;
    const auto seen =
        fmt::format("{}, AF_XDP on {} queue{} needs {}", limit ? in_mebibytes(*limit) : "no limit",
                    queues, queues == 1 ? "" : "s", in_mebibytes(needed));
    if (!limit || capabilities::effective().holds(capability::ipc_lock))
        return {"memlock", seen, verdict::ok, limit ? "CAP_IPC_LOCK lifts the limit" : ""};
    if (*limit >= needed)
        return {"memlock", seen, verdict::ok, ""};
    return {"memlock", seen, verdict::fix,
            "LimitMEMLOCK=infinity in the unit, or ulimit -l unlimited"};
}

finding bpffs_finding()
{
    const std::string path(xdp::pin_root_default);
    switch (bpf_file_system_at(path)) {
    case presence::yes:
        return {"bpffs", path, verdict::ok, ""};
    case presence::no:
        return {"bpffs", path + " is not mounted", verdict::ok, "sp xdp load mounts it"};
    case presence::unknown:
        break;
    }
    return {"bpffs", path, verdict::unknown, "root, or group sp, may look"};
}

finding unixgram_finding()
{
    const auto length = datagram_queue_length();
    if (!length)
        return {"unixgram", "net.unix.max_dgram_qlen cannot be read", verdict::unknown, ""};
    return {"unixgram", fmt::format("net.unix.max_dgram_qlen {}", *length), verdict::ok,
            *length < 64 ? "sysctl net.unix.max_dgram_qlen=512 helps many senders" : ""};
}

finding driver_finding(const interface_facts &f)
{
    const auto driver = f.driver.empty() ? std::string("unknown driver") : f.driver;
    if (!f.native_xdp)
        return {"driver", driver + ", native XDP unknown", verdict::unknown,
                fmt::format("before Linux 6.3 only trying tells: sp xdp load {}", f.name)};
    if (!*f.native_xdp)
        return {"driver", driver + ", no native XDP", verdict::ok,
                fmt::format("sp xdp load {} -m skb works, slower", f.name)};
    return {"driver",
            fmt::format("{}, native XDP, zero-copy {}", driver, *f.zero_copy ? "yes" : "no"),
            verdict::ok, *f.zero_copy ? "" : "copy mode"};
}

finding queues_finding(const interface_facts &f)
{
    if (!f.queues)
        return {"queues", "the driver does not say", verdict::ok, "taken as 1"};
    const auto seen = fmt::format("{}, each gets a socket", *f.queues);
    if (*f.queues > SP_QUEUES_MAX)
        return {"queues", fmt::format("{}, sp serves {}", *f.queues, SP_QUEUES_MAX), verdict::fix,
                fmt::format("ethtool -L {} combined {}", f.name, SP_QUEUES_MAX)};
    return {"queues", seen, verdict::ok, ""};
}

finding mtu_finding(const interface_facts &f)
{
    if (f.driver == "veth") {
        if (f.peer.empty())
            return {
                "mtu", fmt::format("{}; the peer is in another namespace", f.mtu), verdict::ok,
                fmt::format("native XDP needs the peer's MTU at {} or less", mtu_veth_peer_max)};
        const auto seen = fmt::format("{}, peer {} has {}", f.mtu, f.peer, f.peer_mtu.value_or(0));
        if (f.peer_mtu.value_or(0) > mtu_veth_peer_max)
            return {"mtu", seen, verdict::fix,
                    fmt::format("ip link set {} mtu {}", f.peer, mtu_veth_peer_max)};
        return {"mtu", seen, verdict::ok, ""};
    }
    if (f.mtu > mtu_native_max)
        return {"mtu",
                fmt::format("{}, drivers take native XDP up to about {}", f.mtu, mtu_native_max),
                verdict::fix,
                fmt::format("ip link set {} mtu {} on all hosts of that network", f.name,
                            mtu_native_max)};
    return {"mtu", fmt::format("{}", f.mtu), verdict::ok, ""};
}

finding offloads_finding(const interface_facts &f)
{
    if (!f.lro)
        return {"offloads", "the driver does not say", verdict::unknown,
                fmt::format("ethtool -k {}", f.name)};
    if (*f.lro)
        return {"offloads", "LRO on", verdict::fix, fmt::format("ethtool -K {} lro off", f.name)};
    return {"offloads", "LRO off", verdict::ok, ""};
}

finding program_finding(const interface_facts &f)
{
    const auto found = xdp::status(f.name);
    if (!found)
        return {"XDP", "cannot be asked", verdict::unknown, std::string(found.error().why())};
    if (found->empty())
        return {"XDP", "no program is attached", verdict::ok,
                fmt::format("sp xdp load {}", f.name)};
    const auto &s = found->front();
    const auto seen = fmt::format("{} id {}, {} mode, kept by {}",
                                  s.program_name.empty() ? "a program" : s.program_name,
                                  s.program_id, xdp::name_of(s.attached), s.kept_by);
    if (s.ours)
        return {"XDP", seen, verdict::ok, ""};
    if (s.program_name.empty())
        return {"XDP", seen, verdict::unknown, "CAP_BPF and CAP_SYS_ADMIN would tell whose it is"};
    return {"XDP", seen + ", not of sp", verdict::fix,
            "unload it with the tool that loaded it, or use another interface"};
}

void look_at_interface(const interface_facts &f, std::vector<finding> &found)
{
    found.push_back(f.up ? finding{"link", f.name + " is up", verdict::ok, ""}
                         : finding{"link", f.name + " is down", verdict::fix,
                                   fmt::format("ip link set {} up", f.name)});
    for (auto look :
         {driver_finding, queues_finding, mtu_finding, offloads_finding, program_finding})
        found.push_back(look(f));
}

error no_interface(const std::string &name)
{
    const auto names = interface_names();
    const std::vector<std::string_view> views(names.begin(), names.end());
    const auto meant = nearest(name, views);
    return error::numbered(1011, fmt::format("no interface {} in this network namespace", name),
                           fmt::format("there are: {}", fmt::join(names, " ")),
                           meant.empty() ? "" : fmt::format("did you mean {}?", meant));
}

std::string_view word_of(verdict v)
{
    return v == verdict::ok ? "ok" : v == verdict::fix ? "FIX" : "?";
}

std::string line_of(const finding &f, std::size_t width, const console &out)
{
    const auto word = out.paint(f.is == verdict::ok    ? style::good
                                : f.is == verdict::fix ? style::bad
                                                       : style::unsure,
                                fmt::format("{:<4}", word_of(f.is)));
    const auto remark = f.remark.empty() || f.is == verdict::fix ? f.remark : "(" + f.remark + ")";
    auto line = fmt::format("{:<10} {:<{}}  {} {}", f.subject, f.seen, width, word, remark);
    line.erase(line.find_last_not_of(' ') + 1);
    return line + '\n';
}

int print_text(const std::vector<finding> &found, std::size_t to_fix, int exit, console &out)
{
    std::size_t width = 0;
    for (const auto &f : found)
        width = std::max(width, f.seen.size());
    std::string text;
    for (const auto &f : found)
        text += line_of(f, width, out);
    text += to_fix ? fmt::format("{} to fix\n", to_fix) : "nothing to fix\n";
    return out.print(text) ? exit : exit_failed;
}

} // namespace

int doctor(const doctor_arguments &a, console &out)
{
    std::optional<interface_facts> facts;
    if (!a.interface.empty()) {
        facts = look_at(a.interface);
        if (!facts)
            return out.fail(no_interface(a.interface));
    }
    std::optional<target> peer;
    if (!a.peer.empty()) {
        const auto host = find_host(a.peer);
        if (!host)
            return out.fail(host.error());
        peer = *host;
    }
    std::vector<finding> found{kernel_finding(),       features_finding(), caps_finding(),
                               memlock_finding(facts), bpffs_finding(),    unixgram_finding()};
    if (facts)
        look_at_interface(*facts, found);
    if (peer)
        look_at_peer(*peer, a.udp_port, found);
    const auto to_fix =
        static_cast<std::size_t>(std::ranges::count(found, verdict::fix, &finding::is));
    const int exit = to_fix ? exit_to_fix : exit_done;
    if (!out.json())
        return print_text(found, to_fix, exit, out);
    json::array rows;
    for (const auto &f : found)
        rows.emplace_back(json::object{{"subject", f.subject},
                                       {"seen", f.seen},
                                       {"verdict", f.is == verdict::ok    ? "ok"
                                                   : f.is == verdict::fix ? "fix"
                                                                          : "unknown"},
                                       {f.is == verdict::fix ? "fix" : "remark", f.remark}});
    return out.object("sp.doctor/1", exit,
                      {{"findings", std::move(rows)}, {"to_fix", std::uint64_t{to_fix}}});
}

} // namespace sp::cli
