// SPDX-License-Identifier: BSD-2-Clause
//
// The transports of one node: which one a URL needs, made once, shared by the sockets that use it,
// closed with the last. This is where ip:// chooses between AF_XDP and the kernel: io=auto takes
// AF_XDP where the program is loaded on the interface that leads there and this process may use it;
// io=xdp demands it, and attaches the program for as long as the process lives if nobody has;
// io=kernel never looks. It never loads anything that stays. Byte streams (ipc, abstract, tcp) have
// one transport, which the engine has from the beginning and which costs nothing until it is used.
#pragma once

#include "sp/abi/address.h"
#include "sp/options.hpp"
#include "sp/wait.hpp"
#include "userspace/engine_type.hpp"
#include "userspace/transport/waiter.hpp"
#include "userspace/url.hpp"

#include <deque>
#include <optional>
#include <string>

namespace sp {

// What an endpoint needs to know of its transport.
struct place {
    // Set: a place of the engine's transport of byte streams, and of the rest only `shown` counts.
    std::optional<place_id> stream;
    std::size_t slot = 0;         // in the engine
    std::uint16_t local_port = 0; // served (listen) or sent from (dial); 0 on unixgram
    sp_address peer{};            // dial
    std::string shown;            // the URL as it is after port 0 got its number
};

class transports {
public:
    using engine_type = sp::engine_type;

    transports(engine_type &e, transport::waiter &w, const engine_options &options) noexcept
        : engine_(&e), waiter_(&w), options_(&options)
    {
    }

    // Each successful call is undone by one leave() with the same place.
    [[nodiscard]] result<place> listen(const url &u, const transport::stream_options &options);
    [[nodiscard]] result<place> dial(const url &u, const transport::stream_options &options);
    void leave(const place &p, bool listened) noexcept;

    [[nodiscard]] bool stalled() const noexcept;
    // Now and then: a program that was detached, or a device that was made anew, serves again.
    void tend(instant now) noexcept;
    // Somebody is about to sleep, and is awake again. False: something has come meanwhile.
    [[nodiscard]] bool arm() noexcept;
    void disarm() noexcept;

private:
    // One transport in use. An AF_XDP transport also serves what reaches its host by other
    // interfaces, through the raw socket beside it.
    struct road {
        std::size_t slot;
        scheme what;
        std::string interface;         // empty: the kernel's
        bool attached_here = false;    // the program is held by this process, not pinned
        std::uint16_t dialer_port = 0; // shared by all dialers, 0 until the first
        std::size_t users = 0;
    };

    [[nodiscard]] result<place> listen_path(const url &u, const transport::stream_options &options);
    [[nodiscard]] result<place> listen_ip(const url &u);
    [[nodiscard]] result<place> listen_stream(const url &u, transport::stream_options options);
    [[nodiscard]] result<place> dial_path(const url &u);
    void lend_memory() noexcept;
    [[nodiscard]] result<place> dial_ip(const url &u);
    [[nodiscard]] result<place> dial_stream(const url &u, transport::stream_options options);
    [[nodiscard]] result<place> watch_streams(place_id made);
    [[nodiscard]] result<road *> ip_road(const url &u, const std::string &interface);
    [[nodiscard]] result<road *> road_for(const url &u, const std::string &interface);
    void close(const road &r) noexcept;
    [[nodiscard]] transport::xdp_options options_for(const std::string &interface,
                                                     const xdp::steering &program) const;
    void revive(road &r) noexcept;
    [[nodiscard]] result<road *> open_xdp(const url &u, const std::string &interface);
    [[nodiscard]] result<road *> open_kernel();
    [[nodiscard]] result<road *> add(carrier c, scheme what, std::string interface);
    [[nodiscard]] result<void> may_use_ip(const url &u) const;
    [[nodiscard]] road *find(std::size_t slot) noexcept;
    template <class F>
    auto on_ip(const road &r, F &&f);

    engine_type *engine_;
    transport::waiter *waiter_;
    const engine_options *options_;
    std::shared_ptr<transport::broadcasts> rings_ = std::make_shared<transport::broadcasts>();
    std::deque<road> roads_;
    bool streams_watched_ = false; // from the first place on, for good
    instant tended_at_{};
};

} // namespace sp
