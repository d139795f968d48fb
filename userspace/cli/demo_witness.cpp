// SPDX-License-Identifier: BSD-2-Clause
//
// See demo_witness.hpp.
#include "userspace/cli/demo_witness.hpp"

#include "userspace/xdp/steer.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <linux/if_xdp.h>
#include <sstream>
#include <string>
#include <sys/socket.h>

namespace sp::cli {
namespace {

// Ip: InUnknownProtos of the namespace this thread is in: packets whose protocol nobody in the
// kernel wanted.
std::uint64_t unknown_protocols()
{
    std::ifstream file("/proc/thread-self/net/snmp");
    std::string names, values;
    while (std::getline(file, names))
        if (names.starts_with("Ip: ") && std::getline(file, values))
            break;
    std::istringstream name_words(names), value_words(values);
    for (std::string name, value; name_words >> name && value_words >> value;)
        if (name == "InUnknownProtos")
            return std::stoull(value);
    return 0;
}

// The kernel's word on the AF_XDP sockets of this process.
bool zero_copy_in_force()
{
    constexpr int af_xdp = 44, sol_xdp = 283;
    std::error_code none;
    for (const auto &entry : std::filesystem::directory_iterator("/proc/self/fd", none)) {
        const int fd = std::atoi(entry.path().filename().c_str());
        int family = 0;
        socklen_t size = sizeof family;
        if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size) != 0 || family != af_xdp)
            continue;
        xdp_options how{};
        size = sizeof how;
        if (::getsockopt(fd, sol_xdp, XDP_OPTIONS, &how, &size) == 0)
            return (how.flags & XDP_OPTIONS_ZEROCOPY) != 0;
    }
    return false;
}

result<report> look_at_xdp(report::kind what, manner how, const stage &place, host where)
{
    const auto found = xdp::status(place.at(where).interface);
    if (!found)
        return std::unexpected(found.error());
    report r;
    r.what = what;
    r.how = how;
    if (!found->empty() && found->front().ours) {
        const auto &s = found->front();
        r.proof.program_id = s.program_id;
        r.proof.native = s.attached == xdp::mode::native;
        r.proof.zero_copy = zero_copy_in_force();
        if (s.counters)
            r.proof.counted = *s.counters;
    }
    return r;
}

} // namespace

witness::witness(const lines &out, const stage *place, manner how, host where)
    : out_(out), place_(place), how_(how), where_(where), unknown_before_(unknown_protocols())
{
}

result<void> witness::tell(report::kind what) const
{
    if (!place_)
        return {};
    auto r = look_at_xdp(what, how_, *place_, where_);
    if (!r)
        return std::unexpected(r.error());
    r->proof.unknown_protocols = unknown_protocols() - unknown_before_;
    out_.tell(*r);
    return {};
}

} // namespace sp::cli
