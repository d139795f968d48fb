// SPDX-License-Identifier: BSD-2-Clause
//
// A device runs inside the engine's turn: whenever anything may have changed, whatever can pass
// passes, frame by frame, without a lock or a copy in between.
#include "sp/device.hpp"

#include "userspace/calls.hpp"

#include <utility>

namespace sp::inline v1 {
namespace detail {
namespace {

using protocol::raw_machine;
using protocol::role;

// One direction.
class passage {
public:
    passage(core_ptr from, core_ptr to, socket_core *tap, device_way &count) noexcept
        : from_(std::move(from)), to_(std::move(to)), tap_(tap), count_(&count)
    {
    }

    // Moves what can be moved now, in a bounded step; whether anything was.
    bool move()
    {
        static constexpr int step = 64;
        int moved = 0;
        while (moved < step && (waiting_ || take()) && pass())
            ++moved;
        return moved > 0;
    }

    // What still waits is lost.
    void end()
    {
        if (!waiting_)
            return;
        engine().pool().release(waiting_->frame);
        waiting_.reset();
        add(count_->dropped);
    }

private:
    static void add(std::atomic<std::uint64_t> &n) noexcept
    {
        n.fetch_add(1, std::memory_order_relaxed); // read by people
    }
    [[nodiscard]] node::engine_type &engine() noexcept { return from_->engine(); }

    // Reads only if the other side has room for a message.
    bool take()
    {
        if (!from_->machine<raw_machine>().waiting() || !to_->machine<raw_machine>().send_ready(0))
            return false;
        const auto taken = engine().with<raw_machine>(
            from_->id(), from_->home()->latest(), [](auto &m, auto &out) { return m.take(out); });
        if (!taken)
            return false;
        auto &f = engine().pool()[taken->frame];
        header_ = from_->machine<raw_machine>().header_of(*taken, f.bytes());
        f.offset = static_cast<std::uint32_t>(taken->header_bytes);
        from_->count(stat::socket_delivered);
        add(count_->received);
        waiting_ = taken;
        copy_to_tap(f);
        return true;
    }

    // False: the other side has no room for it.
    bool pass()
    {
        auto &f = engine().pool()[waiting_->frame];
        const auto now = to_->home()->latest();
        const auto refused = engine().with<raw_machine>(to_->id(), now, [&](auto &m, auto &out) {
            return m.on_send(header_.all(), f.id, f.body().size(), now, out);
        });
        if (refused == errc::would_block)
            return false;
        if (refused) {
            engine().pool().release(f.id);
            add(count_->dropped);
        } else {
            to_->count(stat::socket_accepted);
            add(count_->forwarded);
        }
        waiting_.reset();
        return true;
    }

    void copy_to_tap(core::frame &f)
    {
        if (!tap_)
            return;
        const auto now = tap_->home()->latest();
        const auto size = f.body().size();
        const auto refused = engine().with<raw_machine>(tap_->id(), now, [&](auto &m, auto &out) {
            std::optional<errc> why = errc::would_block;
            if (m.send_ready(size)) {
                out.retain(f.id);
                why = m.on_send(tap_header(), f.id, size, now, out);
                if (why)
                    out.release(f.id);
            }
            return why;
        });
        if (!refused)
            tap_->count(stat::socket_accepted);
        add(refused ? count_->missed : count_->tapped);
    }

    [[nodiscard]] std::span<const std::byte> tap_header() const noexcept
    {
        static constexpr std::array<std::byte, 4> no_hops{};
        return tap_->role() == role::pair1 ? std::span<const std::byte>(no_hops)
                                           : std::span<const std::byte>();
    }

    core_ptr from_, to_;
    socket_core *tap_;
    device_way *count_;
    std::optional<protocol::taken> waiting_;
    protocol::raw_header header_;
};

std::unexpected<error> wrong(std::string what, std::string why)
{
    return std::unexpected(error::numbered(2008, std::move(what), std::move(why)));
}

std::optional<error> unfit_tap(const raw &tap, const core_ptr &core, const core_ptr &first)
{
    switch (tap.pattern()) {
    case pattern::pub:
    case pattern::push:
    case pattern::bus:
    case pattern::pair:
    case pattern::pair0:
        break;
    default:
        return error::numbered(2008, "this socket cannot be a tap",
                               "a tap sends what passes: pub, push, bus or pair");
    }
    if (core->home() != first->home())
        return error::numbered(2008, "the tap is on another engine", "open all on one engine");
    return std::nullopt;
}

result<void> run(const core_ptr &first, const core_ptr &second, device_options options)
{
    device_counters unread;
    auto &counters = options.counters ? *options.counters : unread;
    core_ptr tap;
    if (options.tap) {
        tap = access::core_of(*options.tap);
        if (auto why = unfit_tap(*options.tap, tap, first))
            return std::unexpected(std::move(*why));
    }
    const bool alone = first == second;
    auto held = first->home()->claim();
    passage there(first, second, tap.get(), counters.there);
    passage back(second, first, tap.get(), counters.back);
    const auto closed = [&] {
        return first->closed() || second->closed() || (tap && tap->closed());
    };
    const auto outcome = first->home()->run_until(held, options.until, [&] {
        if (closed())
            return true;
        bool moved = there.move();
        moved = (!alone && back.move()) || moved;
        if (moved)
            first->engine().finish(first->home()->latest());
        return false;
    });
    const bool ended = closed();
    if (!first->home()->forked()) {
        there.end();
        back.end();
    }
    if (ended)
        return std::unexpected(errc::closed);
    if (outcome && outcome != errc::timed_out && outcome != errc::canceled)
        return std::unexpected(*outcome);
    return {};
}

} // namespace
} // namespace detail

result<void> device(raw first, raw second, device_options options)
{
    const auto one = detail::access::core_of(first), other = detail::access::core_of(second);
    if (protocol::peer_of(one->role()) != other->role())
        return detail::wrong("the two sides of this device do not fit each other",
                             "one side speaks to what the other side is: req and rep, pub and sub");
    if (one->home() != other->home())
        return detail::wrong("the two sides of this device are on two engines",
                             "open both on one engine");
    for (const auto &core : {one, other})
        if (const auto held = core->home()->claim(); auto why = core->unusable())
            return std::unexpected(*why);
    return detail::run(one, other, std::move(options));
}

result<void> device(raw reflector, device_options options)
{
    const auto one = detail::access::core_of(reflector);
    if (one->role() != protocol::role::bus)
        return detail::wrong("only a bus can be a device by itself",
                             "the other patterns need two sides");
    if (const auto held = one->home()->claim(); auto why = one->unusable())
        return std::unexpected(*why);
    return detail::run(one, one, std::move(options));
}

} // namespace sp::inline v1
