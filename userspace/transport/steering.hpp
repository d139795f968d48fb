// SPDX-License-Identifier: BSD-2-Clause
//
// What a transport tells the XDP program through its maps: which ports have somebody behind AF_XDP,
// which addresses are this host's, and which socket serves a queue. Everything that was put there
// is taken out again when this goes; after a crash the entries stay, and the program then finds no
// socket and leaves the packets to the kernel.
//
// sp_local counts owners without a lock: two processes that open or close at the same moment may
// count one owner too few or too many. The first leaves packets to the kernel, the second is
// harmless.
#pragma once

#include "sp/abi/maps.h"
#include "sp/error.hpp"
#include "userspace/transport/descriptor.hpp"
#include "userspace/transport/inet.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace sp::transport {

// Descriptors of the maps of abi/maps.h, owned by whoever loaded them.
struct steering_maps {
    int xsks_fd = -1;
    int ports_fd = -1;
    int local_fd = -1;
};

class steering {
public:
    // Keeps descriptors of its own. Fails with SP1013 when the maps are not those of abi/maps.h.
    [[nodiscard]] static result<steering> open(const steering_maps &maps);

    steering(steering &&) noexcept = default;
    steering &operator=(steering &&) = delete;
    ~steering();

    // A closed socket leaves its map by itself.
    [[nodiscard]] result<void> add_socket(unsigned queue, int xsk_fd);
    [[nodiscard]] result<void> add_port(std::uint16_t port);
    void remove_port(std::uint16_t port) noexcept;
    // From now on exactly these are our part of sp_local. What finds no room takes the kernel's
    // path.
    void set_addresses(std::span<const sp_address> addresses) noexcept;

private:
    steering(descriptor xsks, descriptor ports, descriptor local)
        : xsks_(std::move(xsks)), ports_(std::move(ports)), local_(std::move(local))
    {
    }
    [[nodiscard]] bool holds(const sp_local_key &key) const noexcept;
    void take(const sp_local_key &key);
    void give_back(const sp_local_key &key) noexcept;

    descriptor xsks_, ports_, local_;
    std::vector<std::uint16_t> served_;
    std::vector<sp_local_key> held_;
};

} // namespace sp::transport
