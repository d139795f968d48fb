// SPDX-License-Identifier: BSD-2-Clause
//
// Any transport, as the engine's one transport type: a switch over the three kinds, decided per
// call. Part of the composition root; together with an AF_XDP transport it keeps the steering that
// feeds it.
#pragma once

#include "userspace/engine/transport.hpp"
#include "userspace/transport/rawip.hpp"
#include "userspace/transport/unixgram.hpp"
#include "userspace/transport/xdp.hpp"
#include "userspace/xdp/steer.hpp"

#include <memory>
#include <variant>

namespace sp {

class carrier {
    template <class F>
    decltype(auto) visit(F &&f)
    {
        return std::visit(std::forward<F>(f), any_);
    }
    template <class F>
    decltype(auto) visit(F &&f) const
    {
        return std::visit(std::forward<F>(f), any_);
    }

public:
    explicit carrier(transport::unixgram t) : any_(std::move(t)) {}
    explicit carrier(transport::rawip t) : any_(std::move(t)) {}
    carrier(transport::xdp t, xdp::steering program)
        : program_(std::make_unique<xdp::steering>(std::move(program))), any_(std::move(t))
    {
    }

    template <class Sink>
    std::size_t receive(Sink &&sink, std::size_t n, core::sweep how, std::int64_t now) noexcept
    {
        return visit([&](auto &t) { return t.receive(sink, n, how, now); });
    }
    std::optional<route_id> open_route(const sp_address &peer) noexcept
    {
        return visit([&](auto &t) { return t.open_route(peer); });
    }
    void close_route(route_id route) noexcept
    {
        visit([&](auto &t) { t.close_route(route); });
    }
    std::span<std::byte> reserve(route_id route, std::size_t n) noexcept
    {
        return visit([&](auto &t) { return t.reserve(route, n); });
    }
    void submit(route_id route, std::size_t n) noexcept
    {
        visit([&](auto &t) { t.submit(route, n); });
    }
    void send_to(const sp_address &peer, std::span<const std::byte> packet) noexcept
    {
        visit([&](auto &t) { t.send_to(peer, packet); });
    }
    void flush() noexcept
    {
        visit([](auto &t) { t.flush(); });
    }
    [[nodiscard]] bool stalled() const noexcept
    {
        return visit([](const auto &t) {
            if constexpr (requires { t.stalled(); })
                return t.stalled();
            else
                return false;
        });
    }
    std::optional<std::pair<sp_address, errc>> next_failure() noexcept
    {
        return visit([](auto &t) { return t.next_failure(); });
    }
    [[nodiscard]] std::size_t packet_max(route_id route) const noexcept
    {
        return visit([&](const auto &t) { return t.packet_max(route); });
    }
    [[nodiscard]] std::size_t rx_packets() const noexcept
    {
        const auto *t = std::get_if<transport::xdp>(&any_);
        return t ? t->rx_packets() : 0;
    }
    [[nodiscard]] std::string_view name(route_id route) const noexcept
    {
        return visit([&](const auto &t) { return t.name(route); });
    }
    [[nodiscard]] bool certain() const noexcept
    {
        return visit([](const auto &t) { return t.certain(); });
    }
    // Only unix datagrams know which process is at the other end.
    [[nodiscard]] std::optional<credentials> sender() const noexcept
    {
        const auto *t = std::get_if<transport::unixgram>(&any_);
        return t ? t->sender() : std::nullopt;
    }
    [[nodiscard]] std::optional<credentials> peer_of(route_id route) const noexcept
    {
        const auto *t = std::get_if<transport::unixgram>(&any_);
        return t ? t->peer_of(route) : std::nullopt;
    }
    [[nodiscard]] bool may_come(const std::optional<credentials> &who) const noexcept
    {
        const auto *t = std::get_if<transport::unixgram>(&any_);
        return !t || t->may_come(who);
    }
    // Only unix datagrams lead to shared memory.
    void allow(route_id route, std::uint32_t credit) noexcept
    {
        if (auto *t = std::get_if<transport::unixgram>(&any_))
            t->allow(route, credit);
    }
    [[nodiscard]] bool share(route_id route, std::uint32_t cookie) noexcept
    {
        auto *t = std::get_if<transport::unixgram>(&any_);
        return t && t->share(route, cookie);
    }
    [[nodiscard]] bool watches_life(route_id route) const noexcept
    {
        return std::get<transport::unixgram>(any_).watches_life(route);
    }
    [[nodiscard]] std::size_t put(route_id route, std::span<const std::byte> head,
                                  std::span<const std::byte> body, std::size_t from) noexcept
    {
        return std::get_if<transport::unixgram>(&any_)->put(route, head, body, from);
    }
    using lane_type = transport::shared_peer;
    [[nodiscard]] lane_type *lane(route_id route) noexcept
    {
        return std::get_if<transport::unixgram>(&any_)->lane(route);
    }
    void wake(route_id route) noexcept { std::get_if<transport::unixgram>(&any_)->wake(route); }
    [[nodiscard]] handing hand_over(route_id route, std::span<const std::byte> head,
                                    large_memory &body, std::size_t n) noexcept
    {
        return std::get_if<transport::unixgram>(&any_)->hand_over(route, head, body, n);
    }
    [[nodiscard]] std::uint64_t unread(route_id route) const noexcept
    {
        return std::get<transport::unixgram>(any_).unread(route);
    }
    template <class Use, class Skip>
    std::size_t records(Use &&use, Skip &&skip) noexcept
    {
        auto *t = std::get_if<transport::unixgram>(&any_);
        return t ? t->records(use, skip) : 0;
    }
    template <class Use>
    std::size_t records_of(route_id route, Use &&use) noexcept
    {
        return std::get_if<transport::unixgram>(&any_)->records_of(route, use);
    }
    void consumed(route_id route) noexcept
    {
        std::get_if<transport::unixgram>(&any_)->consumed(route);
    }
    // And to memory that all peers of a socket read.
    void publishes(route_id route, std::uint32_t socket) noexcept
    {
        if (auto *t = std::get_if<transport::unixgram>(&any_))
            t->publishes(route, socket);
    }
    void hears(route_id route) noexcept
    {
        if (auto *t = std::get_if<transport::unixgram>(&any_))
            t->hears(route);
    }
    [[nodiscard]] std::size_t broadcast_max(route_id route) const noexcept
    {
        return std::get_if<transport::unixgram>(&any_)->broadcast_max(route);
    }
    void board(route_id route) noexcept { std::get_if<transport::unixgram>(&any_)->board(route); }
    void part(route_id route) noexcept { std::get_if<transport::unixgram>(&any_)->part(route); }
    void publish(route_id route, std::span<const std::byte> body) noexcept
    {
        std::get_if<transport::unixgram>(&any_)->publish(route, body);
    }
    [[nodiscard]] bool broadcast_room(route_id route, std::size_t n) noexcept
    {
        return std::get_if<transport::unixgram>(&any_)->broadcast_room(route, n);
    }
    [[nodiscard]] bool broadcast_crowded(route_id route) noexcept
    {
        return std::get_if<transport::unixgram>(&any_)->broadcast_crowded(route);
    }
    [[nodiscard]] std::uint64_t published(route_id route) const noexcept
    {
        return std::get_if<transport::unixgram>(&any_)->published(route);
    }
    // A transport whose descriptor costs something while it is watched can be told that nobody
    // sleeps on it. False: something has come that no descriptor will tell of, so do not sleep.
    [[nodiscard]] bool arm() noexcept
    {
        return visit([](auto &t) {
            if constexpr (requires { { t.arm() } -> std::same_as<bool>; })
                return t.arm();
            else if constexpr (requires { t.arm(); })
                t.arm();
            return true;
        });
    }
    [[nodiscard]] std::chrono::nanoseconds patience() const noexcept
    {
        const auto *t = std::get_if<transport::unixgram>(&any_);
        return t ? t->patience() : std::chrono::nanoseconds(0);
    }
    [[nodiscard]] bool quiet() const noexcept
    {
        const auto *t = std::get_if<transport::unixgram>(&any_);
        return !t || t->quiet();
    }
    void disarm() noexcept
    {
        visit([](auto &t) {
            if constexpr (requires { t.disarm(); })
                t.disarm();
        });
    }
    [[nodiscard]] int wake_fd() const noexcept
    {
        return visit([](const auto &t) { return t.wake_fd(); });
    }

    // The one kind that a caller knows it is, or null.
    template <class T>
    [[nodiscard]] T *as() noexcept
    {
        return std::get_if<T>(&any_);
    }
    [[nodiscard]] const xdp::steering *program() const noexcept { return program_.get(); }
    // Another one feeds the sockets from now on.
    void set_program(xdp::steering program)
    {
        program_ = std::make_unique<xdp::steering>(std::move(program));
    }

private:
    std::unique_ptr<xdp::steering> program_; // outlives the sockets in its maps
    std::variant<transport::unixgram, transport::rawip, transport::xdp> any_;
};

static_assert(core::vouching_transport<carrier> && core::framed_transport<carrier> &&
              core::broadcasting_transport<carrier> && core::lending_transport<carrier>);

} // namespace sp
