// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/xdp/addresses.hpp"

#include "sp/abi/maps.h"
#include "userspace/xdp/words.hpp"

#include <algorithm>
#include <bpf/bpf.h>
#include <cerrno>
#include <cstring>
#include <ifaddrs.h>
#include <memory>
#include <netinet/in.h>
#include <optional>

namespace sp::xdp {
namespace {

bool same(const sp_local_key &a, const sp_local_key &b)
{
    return std::memcmp(&a, &b, sizeof a) == 0;
}

// Empty for an address that is neither IPv4 nor IPv6.
std::optional<sp_local_key> key_of(const sockaddr *name)
{
    sp_local_key key{};
    if (name->sa_family == AF_INET) {
        sockaddr_in in;
        std::memcpy(&in, name, sizeof in);
        key.bytes[10] = key.bytes[11] = 0xff;
        std::memcpy(key.bytes + 12, &in.sin_addr, 4);
        return key;
    }
    if (name->sa_family != AF_INET6)
        return std::nullopt;
    sockaddr_in6 in;
    std::memcpy(&in, name, sizeof in);
    std::memcpy(key.bytes, &in.sin6_addr, sizeof key.bytes);
    return key;
}

std::vector<sp_local_key> keys_in(int map_fd)
{
    std::vector<sp_local_key> all;
    sp_local_key next;
    const sp_local_key *last = nullptr;
    while (all.size() < SP_LOCAL_MAX && bpf_map_get_next_key(map_fd, last, &next) == 0) {
        all.push_back(next);
        last = &all.back();
    }
    return all;
}

// The kernel keeps no transaction over a map: an engine that starts at this moment may count
// itself from the older value. It then takes the kernel's way until it looks again.
int set_kept(int map_fd, const sp_local_key &key, bool kept)
{
    std::uint32_t owners = 0;
    (void)bpf_map_lookup_elem(map_fd, &key, &owners);
    owners = kept ? owners | SP_LOCAL_KEPT : owners & ~SP_LOCAL_KEPT;
    return owners ? bpf_map_update_elem(map_fd, &key, &owners, BPF_ANY)
                  : bpf_map_delete_elem(map_fd, &key);
}

} // namespace

result<> keep_addresses(int local_fd, const device &where)
{
    ifaddrs *list = nullptr;
    if (::getifaddrs(&list) != 0)
        return std::unexpected(error::numbered(2037, "cannot list the addresses of " + where.name,
                                               errno_words(errno)));
    const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner(list, &::freeifaddrs);
    std::vector<sp_local_key> wanted;
    for (const auto *i = list; i; i = i->ifa_next)
        if (i->ifa_addr && where.name == i->ifa_name)
            if (const auto key = key_of(i->ifa_addr))
                wanted.push_back(*key);
    const auto is_wanted = [&](const sp_local_key &key) {
        return std::ranges::any_of(wanted, [&](const auto &each) { return same(each, key); });
    };
    for (const auto &key : keys_in(local_fd))
        if (!is_wanted(key))
            (void)set_kept(local_fd, key, false); // at worst the program answers for it still
    for (const auto &key : wanted)
        if (const int failed = set_kept(local_fd, key, true); failed < 0)
            return std::unexpected(
                error::numbered(2037, "cannot tell the program the addresses of " + where.name,
                                errno_words(-failed)));
    return {};
}

} // namespace sp::xdp
