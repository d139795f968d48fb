// SPDX-License-Identifier: BSD-2-Clause
//
// See demo_stage.hpp.
#include "userspace/cli/demo_stage.hpp"

#include "userspace/cli/command.hpp"
#include "userspace/cli/host.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

namespace sp::cli {
namespace {

constexpr auto as_root = "run as root: sudo make demo";

error cannot(std::string_view what, int why)
{
    return error::numbered(
        why == EPERM || why == EACCES ? 2022 : 2037, std::string(what), std::strerror(why),
        why == EPERM ? "in a container: give it CAP_SYS_ADMIN and CAP_NET_ADMIN" : "sp doctor");
}

// One look at the capabilities tells more than the first EPERM.
result<void> look_before()
{
    const auto mine = capabilities::effective();
    auto missing = mine.missing();
    if (!mine.holds(capability::sys_admin))
        (missing += missing.empty() ? "" : " ") += "CAP_SYS_ADMIN";
    if (!missing.empty())
        return std::unexpected(
            error::numbered(2022, "two hosts and XDP need " + missing, "", as_root));
    return {};
}

// A namespace has no name in any file system: it lives as long as somebody has it open.
std::string path_of(const stage_host &h)
{
    return fmt::format("/proc/{}/fd/{}", ::getpid(), h.netns);
}

int open_own_netns()
{
    return ::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
}

// Makes a namespace and comes back to `home`.
result<int> make_netns(int home)
{
    if (::unshare(CLONE_NEWNET) != 0)
        return std::unexpected(cannot("no network namespaces", errno));
    const int made = open_own_netns();
    const int why = errno;
    if (::setns(home, CLONE_NEWNET) != 0 || made < 0)
        return std::unexpected(cannot("cannot keep a network namespace", why));
    return made;
}

// In the namespace of the calling thread.
result<void> ip(std::string_view words)
{
    command what{.words = {"ip"}, .output_max = 64 << 10, .errors_too = true};
    for (std::size_t at = 0; at < words.size();) {
        const auto end = std::min(words.find(' ', at), words.size());
        what.words.emplace_back(words.substr(at, end - at));
        at = end + 1;
    }
    auto done = run(what);
    if (!done && done.error() == errc::not_found)
        return std::unexpected(
            error::numbered(2026, "the program ip is missing", "", "apt-get install iproute2"));
    if (!done)
        return std::unexpected(done.error());
    if (done->status == 0)
        return {};
    done->output.erase(done->output.find_last_not_of('\n') + 1);
    return std::unexpected(error::numbered(2025, fmt::format("ip {} failed", words), done->output,
                                           done->output.contains("Unknown device type") ||
                                                   done->output.contains("not supported")
                                               ? "modprobe veth"
                                               : "sp doctor"));
}

bool running(const std::string &interface)
{
    const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ifreq request{};
    interface.copy(request.ifr_name, sizeof request.ifr_name - 1);
    const bool yes = ::ioctl(fd, SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_RUNNING);
    ::close(fd);
    return yes;
}

result<void> wait_until_running(const std::string &interface)
{
    constexpr int attempts =
        3000; // one each millisecond; the kernel may take a second to see the carrier
    for (int left = attempts; left > 0; --left) {
        if (running(interface))
            return {};
        ::poll(nullptr, 0, 1);
    }
    return std::unexpected(error::numbered(2037, interface + " does not come up", "", "sp doctor"));
}

} // namespace

stage::stage(stage &&other) noexcept : hosts_(std::move(other.hosts_))
{
    for (auto &h : other.hosts_)
        h.netns = -1;
}

stage::~stage()
{
    for (auto &h : hosts_)
        if (h.netns >= 0)
            ::close(h.netns);
}

result<stage> stage::build()
{
    if (auto may = look_before(); !may)
        return std::unexpected(may.error());
    const int home = open_own_netns();
    if (home < 0)
        return std::unexpected(cannot("cannot find the way back", errno));
    stage built;
    result<void> joined;
    for (const char side : {'a', 'b'}) {
        auto &h = built.hosts_[side == 'a' ? 0 : 1];
        h.name = fmt::format("sp-demo-{}-{}", ::getpid(), side);
        h.interface = fmt::format("veth-{}", side);
        h.address = fmt::format("198.18.0.{}", side == 'a' ? 1 : 2);
        if (auto made = make_netns(home); made)
            h.netns = *made;
        else
            joined = std::unexpected(made.error());
    }
    if (joined)
        joined = built.join();
    const bool back = ::setns(home, CLONE_NEWNET) == 0;
    ::close(home);
    if (!joined || !back)
        return std::unexpected(joined ? cannot("cannot come back", errno) : joined.error());
    return built;
}

// Unequal indices: a device whose index is that of its peer passes for one without a lower device,
// and the kernel reports its carrier up to a second late.
result<void> stage::join()
{
    if (auto inside = enter(host::a); !inside)
        return inside;
    auto done = ip(fmt::format(
        "link add veth-a index 11 mtu {0} type veth peer name veth-b index 12 mtu {0} netns {1}",
        stage_mtu, path_of(at(host::b))));
    for (const auto which : {host::a, host::b}) {
        if (done)
            done = enter(which);
        const auto &h = at(which);
        for (const auto &words : {std::string("link set lo up"),
                                  fmt::format("address add {}/24 dev {}", h.address, h.interface),
                                  fmt::format("link set {} up", h.interface)})
            if (done)
                done = ip(words);
    }
    for (const auto which : {host::a, host::b}) {
        if (done)
            done = enter(which);
        if (done)
            done = wait_until_running(at(which).interface);
    }
    return done;
}

result<void> stage::enter(host which) const
{
    if (::setns(at(which).netns, CLONE_NEWNET) != 0)
        return std::unexpected(cannot("cannot enter a network namespace", errno));
    return {};
}

} // namespace sp::cli
