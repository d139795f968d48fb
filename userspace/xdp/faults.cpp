// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/xdp/faults.hpp"

#include "userspace/xdp/words.hpp"

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

namespace sp::xdp {
namespace {

// Bit i of the effective set of the calling thread; 0 when it cannot be read.
std::uint64_t effective_capabilities()
{
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3]{};
    if (::syscall(SYS_capget, &header, data) < 0)
        return 0;
    return data[0].effective | static_cast<std::uint64_t>(data[1].effective) << 32;
}

std::string running_release()
{
    utsname facts{};
    return ::uname(&facts) == 0 ? facts.release : "";
}

// Writes the log below TMPDIR or /tmp; returns the path, or why there is none.
std::string keep_log(std::string_view words)
{
    const char *folder = ::secure_getenv("TMPDIR");
    std::string path = std::string(folder && *folder ? folder : "/tmp") + "/sp-verifier-XXXXXX";
    const descriptor file(::mkostemp(path.data(), O_CLOEXEC));
    if (!file)
        return "no log: " + path + ": " + errno_words(errno);
    while (!words.empty()) {
        const auto n = ::write(file.get(), words.data(), words.size());
        if (n <= 0)
            return "the log is cut short: " + path;
        words.remove_prefix(static_cast<std::size_t>(n));
    }
    return "the verifier's log is in " + path;
}

std::string utc(std::uint64_t boottime_ns)
{
    timespec now{}, up{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    ::clock_gettime(CLOCK_BOOTTIME, &up);
    const auto then =
        now.tv_sec - up.tv_sec + static_cast<std::time_t>(boottime_ns / 1'000'000'000);
    std::tm parts{};
    char space[32];
    ::gmtime_r(&then, &parts);
    return {space, std::strftime(space, sizeof space, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

std::string kernel_says(std::string_view message, int code)
{
    return message.empty() ? errno_words(code)
                           : std::string(message) + " (" + errno_name(code) + ')';
}

error mode_fault(int code, const device &where, mode how, std::string_view message)
{
    std::string fix = "sp xdp load " + where.name + " -m skb";
    if (how == mode::skb)
        fix = "this device takes no XDP program; io=kernel works without one";
    else if (message.contains("LRO"))
        fix += ", or: ethtool -K " + where.name + " lro off";
    else if (message.contains("GRO_HW"))
        fix += ", or: ethtool -K " + where.name + " rx-gro-hw off";
    return error::numbered(
        1003, "cannot attach to " + where.name + " in " + std::string(name_of(how)) + " mode",
        kernel_says(message, code), std::move(fix));
}

error veth_fault(int code, const device &where, std::string_view message)
{
    const auto peer = peer_of(where.ifindex).value_or(veth_peer{});
    auto why = kernel_says(message, code);
    if (peer.name.empty())
        why += "; the peer is in another network namespace";
    else
        why += "; the peer is " + peer.name + ", its MTU is " + std::to_string(peer.mtu);
    return error::numbered(1005, "cannot attach to the veth device " + where.name, std::move(why),
                           "ip link set " + (peer.name.empty() ? "PEER" : peer.name) + " mtu 3506");
}

} // namespace

std::string missing_capabilities()
{
    const auto have = effective_capabilities();
    const auto has = [&](unsigned bit) { return (have >> bit & 1) != 0; };
    std::string missing;
    if (!has(CAP_BPF) && !has(CAP_SYS_ADMIN))
        missing = "CAP_BPF";
    if (!has(CAP_NET_ADMIN))
        missing += missing.empty() ? "CAP_NET_ADMIN" : " CAP_NET_ADMIN";
    return missing;
}

bool too_old(std::string_view release) noexcept
{
    constexpr unsigned major_least = 5, minor_least = 15;
    unsigned major = 0, minor = 0;
    const auto *end = release.data() + release.size();
    const auto [dot, bad] = std::from_chars(release.data(), end, major);
    if (bad != std::errc{} || dot == end || *dot != '.')
        return false;
    std::from_chars(dot + 1, end, minor);
    return major < major_least || (major == major_least && minor < minor_least);
}

error load_fault(int code, std::string_view words)
{
    if (code == EPERM || code == EACCES) {
        const auto missing = missing_capabilities();
        if (!missing.empty() || code == EPERM)
            return error::numbered(
                1002, {},
                "CAP_BPF and CAP_NET_ADMIN are required for bpf(); " +
                    (missing.empty() ? "this process has both, yet the kernel refuses: a seccomp "
                                       "filter, a lockdown or a user namespace"
                                     : "this process lacks " + missing) +
                    "; " + errno_words(code));
    }
    const auto release = running_release();
    if (too_old(release))
        return error::numbered(
            1004, {}, "this is Linux " + release + ", sp needs 5.15; " + errno_words(code));
    if (code == ENOMEM || code == ENOSPC || code == EMFILE || code == ENFILE)
        return error::numbered(2037, "cannot load the XDP program", errno_words(code));
    return error::numbered(9001, "the kernel refuses the XDP program of this sp",
                           errno_words(code) + " on Linux " + release + "; " + keep_log(words));
}

error attach_fault(int code, const device &where, mode how, std::string_view kernel_message)
{
    switch (code) {
    case EPERM:
    case EACCES:
        return load_fault(EPERM, {});
    case EBUSY:
    case EEXIST:
        return occupied_fault(where, kernel_message);
    case ENODEV:
        return error::numbered(1011, "no such interface: " + where.name, "it went away meanwhile");
    default:
        break;
    }
    if (kernel_message.contains("Peer MTU") || (code == ERANGE && peer_of(where.ifindex)))
        return veth_fault(code, where, kernel_message);
    if (code == EINVAL && too_old(running_release()))
        return load_fault(code, {});
    return mode_fault(code, where, how, kernel_message);
}

error occupied_fault(const device &where, std::string_view kernel_message)
{
    std::string why;
    std::string fix;
    if (const auto other = attached_to(where.ifindex)) {
        const auto facts = describe_program_id(other->program_id);
        why = "program " +
              (facts ? '"' + facts->name + '"' : "with a name that this process may not see") +
              ", id " + std::to_string(other->program_id);
        if (facts)
            why += ", tag " + facts->tag + ", loaded " + utc(facts->loaded_at);
        why += ", " + std::string(name_of(other->where)) + " mode";
        if (const auto pid = holder_of(other->program_id))
            why += ", held by pid " + std::to_string(*pid);
        if (facts && facts->name == SP_PROGRAM_NAME)
            fix = "end the process that holds it, or sp xdp unload " + where.name;
    } else {
        why = "the interface has an XDP program";
    }
    if (!kernel_message.empty())
        why += "; " + std::string(kernel_message);
    return error::numbered(1007, "another XDP program is attached to " + where.name, std::move(why),
                           std::move(fix));
}

error pin_fault(int code, std::string_view doing, std::string_view path)
{
    std::string fix;
    if (code == EACCES || code == EPERM)
        fix = "run as root, or as a member of the group sp";
    else if (path.starts_with("/sys/fs/bpf"))
        fix = "ip netns exec hides /sys/fs/bpf: use nsenter --net=FILE";
    return error::numbered(1010, "cannot " + std::string(doing) + ' ' + std::string(path),
                           errno_words(code), std::move(fix));
}

} // namespace sp::xdp
