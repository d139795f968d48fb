// SPDX-License-Identifier: BSD-2-Clause
//
// The descriptors that sockets lend to poll(2): each is readable exactly while its condition holds.
// The node looks at all of them before it lets go of its lock, so whatever a thread did with the
// lock is told when it lets go, and nothing can change while nobody has the lock. Used with the
// node's lock held; a program that asks for no descriptor pays one look at an empty list.
#pragma once

#include "userspace/transport/event.hpp"

#include <cstdint>
#include <functional>
#include <list>
#include <optional>

namespace sp::inline v1::detail {

class socket_core;

// What a descriptor tells: of a socket, or of one of its contexts.
struct watch_key {
    enum class kind : std::uint8_t { receive, send, events };

    const socket_core *owner;
    kind what;
    std::optional<std::uint32_t> context;

    friend bool operator==(const watch_key &, const watch_key &) = default;
};

class watches {
public:
    // The descriptor of this key, made on first use. `ready` is called with the lock held, often,
    // until forget(). Errors: limit_reached.
    [[nodiscard]] result<int> descriptor(const watch_key &key,
                                         std::move_only_function<bool()> ready);
    // Closes those of a context, or those of the socket itself.
    void forget(const socket_core *owner, std::optional<std::uint32_t> context) noexcept;
    void forget(const socket_core *owner) noexcept; // and of its contexts

    [[nodiscard]] bool empty() const noexcept { return all_.empty(); }
    void refresh() noexcept;

private:
    struct watch {
        watch_key key;
        std::move_only_function<bool()> ready;
        transport::event event;
    };

    std::list<watch> all_;
};

} // namespace sp::inline v1::detail
