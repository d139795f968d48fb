// SPDX-License-Identifier: BSD-2-Clause
//
// See host.hpp.
#include "userspace/cli/host.hpp"

#include "userspace/cli/netdev.hpp"

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fmt/format.h>
#include <fstream>
#include <linux/ethtool.h>
#include <linux/magic.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace sp::cli {
namespace {

constexpr std::array needed_for_xdp{std::pair(capability::bpf, "CAP_BPF"),
                                    std::pair(capability::net_admin, "CAP_NET_ADMIN"),
                                    std::pair(capability::net_raw, "CAP_NET_RAW")};

std::string first_word_of(const std::string &path)
{
    std::ifstream file(path);
    std::string word;
    file >> word;
    return word;
}

std::optional<std::uint64_t> number_in(const std::string &path)
{
    const auto word = first_word_of(path);
    std::uint64_t number = 0;
    const auto [rest, bad] = std::from_chars(word.data(), word.data() + word.size(), number);
    return bad == std::errc{} && !word.empty() ? std::optional(number) : std::nullopt;
}

// Asks the driver of one interface by ioctl; any datagram socket will do.
class driver_questions {
public:
    explicit driver_questions(const std::string &name)
        : socket_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0))
    {
        name.copy(request_.ifr_name, sizeof request_.ifr_name - 1);
    }
    ~driver_questions()
    {
        if (socket_ >= 0)
            ::close(socket_);
    }
    driver_questions(const driver_questions &) = delete;
    driver_questions &operator=(const driver_questions &) = delete;

    [[nodiscard]] bool ask(unsigned long question)
    {
        return ::ioctl(socket_, question, &request_) == 0;
    }
    template <class Command>
    [[nodiscard]] bool ethtool(Command &command)
    {
        request_.ifr_data = reinterpret_cast<char *>(&command);
        return ask(SIOCETHTOOL);
    }
    [[nodiscard]] const ifreq &answer() const noexcept { return request_; }

private:
    int socket_;
    ifreq request_{};
};

void ask_driver(interface_facts &facts)
{
    driver_questions device(facts.name);
    if (device.ask(SIOCGIFFLAGS))
        facts.up = (device.answer().ifr_flags & IFF_UP) != 0;
    if (device.ask(SIOCGIFMTU))
        facts.mtu = static_cast<unsigned>(device.answer().ifr_mtu);
    ethtool_drvinfo info{};
    info.cmd = ETHTOOL_GDRVINFO;
    if (device.ethtool(info))
        facts.driver.assign(info.driver, ::strnlen(info.driver, sizeof info.driver));
    ethtool_channels channels{};
    channels.cmd = ETHTOOL_GCHANNELS;
    if (device.ethtool(channels) && channels.combined_count + channels.rx_count > 0)
        facts.queues = channels.combined_count + channels.rx_count;
    ethtool_value flags{.cmd = ETHTOOL_GFLAGS, .data = 0};
    if (device.ethtool(flags))
        facts.lro = (flags.data & ETH_FLAG_LRO) != 0;
}

// A veth's peer by its index; the same index may belong to somebody else when the peer is in
// another namespace, so the peer has to name us too.
void find_peer(interface_facts &facts)
{
    if (facts.driver != "veth")
        return;
    const auto index = number_in("/sys/class/net/" + facts.name + "/iflink");
    std::array<char, IF_NAMESIZE> name{};
    if (!index || !::if_indextoname(static_cast<unsigned>(*index), name.data()))
        return;
    const std::string peer = name.data();
    if (number_in("/sys/class/net/" + peer + "/iflink") != facts.ifindex)
        return;
    facts.peer = peer;
    if (const auto mtu = number_in("/sys/class/net/" + peer + "/mtu"))
        facts.peer_mtu = static_cast<unsigned>(*mtu);
}

} // namespace

kernel_version kernel()
{
    utsname names{};
    ::uname(&names);
    kernel_version version{.release = names.release};
    std::sscanf(names.release, "%u.%u", &version.major, &version.minor);
    return version;
}

capabilities capabilities::effective()
{
    capabilities mine;
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("CapEff:\t"))
            std::from_chars(line.data() + 8, line.data() + line.size(), mine.bits_, 16);
    return mine;
}

bool capabilities::holds(capability which) const noexcept
{
    const auto has = [&](capability c) { return ((bits_ >> static_cast<unsigned>(c)) & 1) != 0; };
    return has(which) || (which == capability::bpf && has(capability::sys_admin));
}

std::string capabilities::present() const
{
    std::string names;
    for (const auto &[which, name] : needed_for_xdp)
        if (holds(which))
            (names += names.empty() ? "" : " ") += name;
    return names;
}

std::string capabilities::missing() const
{
    std::string names;
    for (const auto &[which, name] : needed_for_xdp)
        if (!holds(which))
            (names += names.empty() ? "" : " ") += name;
    return names;
}

// The family is looked up before the permission, so EPERM means that it is there.
bool has_af_xdp()
{
    const int fd = ::socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno != EAFNOSUPPORT;
    ::close(fd);
    return true;
}

bool has_btf()
{
    return ::access("/sys/kernel/btf/vmlinux", F_OK) == 0;
}

std::optional<std::uint64_t> memlock_limit()
{
    rlimit limit{};
    if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return std::nullopt;
    return limit.rlim_cur;
}

presence bpf_file_system_at(const std::string &path)
{
    struct statfs about{};
    if (::statfs(path.c_str(), &about) != 0)
        return errno == EACCES ? presence::unknown : presence::no;
    return about.f_type == BPF_FS_MAGIC ? presence::yes : presence::no;
}

std::optional<std::uint64_t> datagram_queue_length()
{
    return number_in("/proc/sys/net/unix/max_dgram_qlen");
}

std::optional<interface_facts> look_at(const std::string &name)
{
    interface_facts facts;
    facts.name = name;
    facts.ifindex = ::if_nametoindex(name.c_str());
    if (facts.ifindex == 0)
        return std::nullopt;
    ask_driver(facts);
    find_peer(facts);
    if (const auto features = xdp_features_of(facts.ifindex)) {
        facts.native_xdp = features->native;
        facts.zero_copy = features->zero_copy;
    }
    return facts;
}

std::vector<std::string> interface_names()
{
    std::vector<std::string> names;
    if (auto *list = ::if_nameindex()) {
        for (auto *each = list; each->if_index != 0; ++each)
            names.emplace_back(each->if_name);
        ::if_freenameindex(list);
    }
    return names;
}

std::string in_mebibytes(std::uint64_t bytes)
{
    return fmt::format("{:.3g} MiB", static_cast<double>(bytes) / (1 << 20));
}

} // namespace sp::cli
