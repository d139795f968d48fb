// SPDX-License-Identifier: BSD-2-Clause
//
// Where the kernel would send a packet, asked over netlink: interface, source address, gateway,
// MTU, and the neighbour's MAC if it is usable now. We never guess and never keep a routing table
// of our own: what may have changed is asked again. A second socket listens to the kernel's
// changes; each moves a generation number, and who keeps an answer compares numbers. No call
// blocks; nothing is allocated after open().
#pragma once

#include "sp/error.hpp"
#include "userspace/transport/descriptor.hpp"
#include "userspace/transport/inet.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <system_error>

struct mnl_socket;
struct nlmsghdr;

namespace sp::transport {

using mac_address = std::array<std::uint8_t, 6>;

struct link_state {
    mac_address mac{};
    std::uint32_t mtu = 0;
    bool ethernet = false; // has a MAC and takes Ethernet frames
    bool up = false;       // administratively up and with carrier
};

struct neighbour {
    mac_address mac{};
    bool fresh = false; // false: usable, but the kernel would like to hear from it again
};

struct next_hop {
    sp_address source{}; // what the kernel puts into the packet
    sp_address via{};    // whose MAC is needed: the gateway, or the destination itself
    unsigned oif = 0;
    std::uint32_t mtu = 0; // of the path as far as the kernel knows it, IP header included
    bool local = false;    // the destination is this host
    link_state link;
    std::optional<neighbour> to; // empty: the kernel has to resolve it first
};

// An interface has rarely more than a handful of addresses; what is beyond the bound takes the
// kernel's path.
struct address_list {
    static constexpr std::size_t addresses_max = 64;
    std::array<sp_address, addresses_max> items;
    std::size_t count = 0;

    [[nodiscard]] std::span<const sp_address> all() const noexcept { return {items.data(), count}; }
};

class nexthop {
public:
    // In the network namespace of the calling thread.
    [[nodiscard]] static result<nexthop> open();

    // The kernel's answer, or its reason for having none. `from` of family SP_FAMILY_NONE: any of
    // our addresses.
    [[nodiscard]] std::expected<next_hop, std::errc> resolve(const sp_address &destination,
                                                             const sp_address &from) noexcept;
    [[nodiscard]] std::expected<link_state, std::errc> link(unsigned ifindex) noexcept;
    [[nodiscard]] address_list addresses(unsigned ifindex) noexcept;

    // Tells the kernel that the neighbour is in use, so that it resolves or confirms it. Needs
    // CAP_NET_ADMIN; who lacks it loses nothing but the entry's freshness, hence no result.
    void use(const next_hop &hop) noexcept;

    // Reads what the kernel reported since; true if anything changed. Bounded: the rest waits for
    // the next call.
    bool read_events() noexcept;
    [[nodiscard]] std::uint64_t generation() const noexcept { return generation_; }
    [[nodiscard]] std::uint64_t link_generation() const noexcept { return link_generation_; }
    [[nodiscard]] std::uint64_t address_generation() const noexcept { return address_generation_; }
    [[nodiscard]] int events_fd() const noexcept;

private:
    struct closer {
        void operator()(mnl_socket *socket) const noexcept;
    };
    using socket_ptr = std::unique_ptr<mnl_socket, closer>;

    nexthop(socket_ptr questions, socket_ptr events);
    template <class Use>
    std::optional<std::errc> ask(nlmsghdr *request, Use &&use) noexcept;
    [[nodiscard]] nlmsghdr *request(std::uint16_t type, std::uint16_t flags) noexcept;
    [[nodiscard]] std::optional<neighbour> find_neighbour(const next_hop &hop) noexcept;
    void on_event(std::uint16_t type) noexcept;

    socket_ptr questions_, events_;
    std::unique_ptr<std::byte[]> out_, in_;
    std::uint32_t sequence_ = 0;
    std::uint64_t generation_ = 1, link_generation_ = 1, address_generation_ = 1;
};

} // namespace sp::transport
