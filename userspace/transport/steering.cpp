// SPDX-License-Identifier: BSD-2-Clause
//
// See steering.hpp.
#include "userspace/transport/steering.hpp"

#include <algorithm>
#include <bpf/bpf.h>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <string>

namespace sp::transport {
namespace {

constexpr std::uint16_t our_shard = 0;
static_assert(SP_SHARDS == 1, "one engine serves all queues: every port leads to shard 0");

sp_local_key key_of(const sp_address &address) noexcept
{
    sp_local_key key{};
    if (address.family == SP_FAMILY_IPV6) {
        std::memcpy(key.bytes, address.bytes, 16);
        return key;
    }
    key.bytes[10] = key.bytes[11] = 0xff;
    std::memcpy(key.bytes + 12, address.bytes, 4);
    return key;
}

bool same_key(const sp_local_key &a, const sp_local_key &b) noexcept
{
    return std::memcmp(&a, &b, sizeof a) == 0;
}

// Ours from here on, if it is a map with the sizes of abi/maps.h.
result<descriptor> keep(int fd, const char *name, std::uint32_t key_bytes,
                        std::uint32_t value_bytes)
{
    bpf_map_info info{};
    std::uint32_t length = sizeof info;
    if (bpf_obj_get_info_by_fd(fd, &info, &length) != 0)
        return std::unexpected(
            error::numbered(1025, std::string("cannot use the map ") + name, std::strerror(errno)));
    if (info.key_size != key_bytes || info.value_size != value_bytes)
        return std::unexpected(error::numbered(1013));
    descriptor own(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!own)
        return std::unexpected(error::numbered(2009, {}, std::strerror(errno)));
    return own;
}

} // namespace

result<steering> steering::open(const steering_maps &maps)
{
    auto xsks = keep(maps.xsks_fd, "sp_xsks", sizeof(std::uint32_t), sizeof(std::uint32_t));
    if (!xsks)
        return std::unexpected(xsks.error());
    auto ports = keep(maps.ports_fd, "sp_ports", sizeof(std::uint32_t), sizeof(std::uint16_t));
    if (!ports)
        return std::unexpected(ports.error());
    auto local = keep(maps.local_fd, "sp_local", sizeof(sp_local_key), sizeof(std::uint32_t));
    if (!local)
        return std::unexpected(local.error());
    return steering(std::move(*xsks), std::move(*ports), std::move(*local));
}

steering::~steering()
{
    while (!served_.empty())
        remove_port(served_.back());
    set_addresses({});
}

result<void> steering::add_socket(unsigned queue, int xsk_fd)
{
    const std::uint32_t key = queue * SP_SHARDS + our_shard;
    if (bpf_map_update_elem(xsks_.get(), &key, &xsk_fd, BPF_ANY) != 0)
        return std::unexpected(
            error::numbered(1025, "cannot steer queue " + std::to_string(queue) + " to its socket",
                            std::strerror(errno)));
    return {};
}

result<void> steering::add_port(std::uint16_t port)
{
    const std::uint32_t key = port;
    const std::uint16_t value = our_shard + 1;
    if (bpf_map_update_elem(ports_.get(), &key, &value, BPF_ANY) != 0)
        return std::unexpected(error::numbered(1025, "cannot steer port " + std::to_string(port),
                                               std::strerror(errno)));
    served_.push_back(port);
    return {};
}

void steering::remove_port(std::uint16_t port) noexcept
{
    const std::uint32_t key = port;
    const std::uint16_t nobody = 0;
    if (std::erase(served_, port) != 0)
        (void)bpf_map_update_elem(ports_.get(), &key, &nobody,
                                  BPF_ANY); // else the kernel's path serves nobody
}

bool steering::holds(const sp_local_key &key) const noexcept
{
    return std::ranges::any_of(held_,
                               [&](const sp_local_key &held) { return same_key(held, key); });
}

void steering::take(const sp_local_key &key)
{
    std::uint32_t owners = 0;
    (void)bpf_map_lookup_elem(local_.get(), &key, &owners); // not there yet: nobody owns it
    ++owners;
    if (bpf_map_update_elem(local_.get(), &key, &owners, BPF_ANY) == 0)
        held_.push_back(key);
}

void steering::give_back(const sp_local_key &key) noexcept
{
    std::uint32_t owners = 0;
    if (bpf_map_lookup_elem(local_.get(), &key, &owners) != 0)
        return;
    const auto others = owners & ~SP_LOCAL_KEPT;
    owners = (owners & SP_LOCAL_KEPT) | (others ? others - 1 : 0);
    if (!owners) {
        (void)bpf_map_delete_elem(local_.get(), &key);
        return;
    }
    (void)bpf_map_update_elem(local_.get(), &key, &owners, BPF_EXIST);
}

void steering::set_addresses(std::span<const sp_address> addresses) noexcept
{
    std::erase_if(held_, [&](const sp_local_key &held) {
        const bool stays = std::ranges::any_of(
            addresses, [&](const sp_address &address) { return same_key(held, key_of(address)); });
        if (!stays)
            give_back(held);
        return !stays;
    });
    for (const auto &address : addresses) {
        if (const auto key = key_of(address); !holds(key))
            take(key);
    }
}

} // namespace sp::transport
