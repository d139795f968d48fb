// SPDX-License-Identifier: BSD-2-Clause
//
// The SP service ports of one transport: which they are, that nobody else in this network namespace
// serves them, and the kernel-side filter that lets only their packets into our raw sockets. A port
// is held by an abstract unix socket named "sp/ip/PORT": abstract names belong to the network
// namespace, and the kernel frees them with the process, however it ends. Any local process can
// hold such a name, as it can hold a UDP port.
#pragma once

#include "sp/error.hpp"
#include "userspace/transport/descriptor.hpp"

#include <cstdint>
#include <vector>

namespace sp::transport {

class service_ports {
public:
    static constexpr std::size_t ports_max =
        64; // each is one comparison for every packet of the raw socket
    static constexpr std::uint16_t ephemeral_first = 49152;

    // Keeps its own descriptor of the namespace, since ports may be added later and by another
    // thread.
    [[nodiscard]] static result<service_ports> open(int netns_fd);

    [[nodiscard]] result<void> add(std::uint16_t port);
    [[nodiscard]] result<std::uint16_t> add_ephemeral();
    void remove(std::uint16_t port) noexcept;
    [[nodiscard]] bool contains(std::uint16_t port) const noexcept;
    [[nodiscard]] bool empty() const noexcept { return held_.empty(); }
    [[nodiscard]] std::vector<std::uint16_t> all() const;
    [[nodiscard]] std::uint16_t last() const noexcept { return held_.back().port; }

    // Makes `socket_fd` pass what is for us: unicast, and for one of the ports; with no port,
    // nothing. What the filter of an IPv4 raw socket sees begins with the IP header, that of an
    // IPv6 one behind it. With a `udp_port` the packets are those encapsulated there.
    enum class begins_with { ipv4_header, payload };
    [[nodiscard]] result<void> filter(int socket_fd, begins_with layout,
                                      std::uint16_t udp_port = 0) const;

    [[nodiscard]] int netns_fd() const noexcept { return netns_.get(); } // -1: the thread's own

private:
    struct held {
        std::uint16_t port;
        descriptor name;
    };

    explicit service_ports(descriptor netns) : netns_(std::move(netns))
    {
        held_.reserve(ports_max);
    }

    descriptor netns_; // empty: the thread's own
    std::vector<held> held_;
};

} // namespace sp::transport
