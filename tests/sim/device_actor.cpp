// SPDX-License-Identifier: BSD-2-Clause
//
// A device: two raw sockets, or one that reflects, and whatever comes in at one side goes out at
// the other, frame by frame. The library's own device() moves messages in the same way, from inside
// the calls of its facade.
#include "tests/sim/actor.hpp"

#include <algorithm>

namespace sp::sim {
namespace {

using protocol::raw_machine;

// One side. Each moves what comes in at it.
class side final : public actor {
public:
    using actor::actor;
    std::string unfinished() override
    {
        if (state().peers > 0 && !engine().drained(id_))
            return "messages wait to be sent";
        const auto *to = other();
        const bool more = waiting_ || machine<raw_machine>().waiting();
        return more && to && to->peers() > 0 ? "messages wait to pass" : "";
    }
    std::size_t queued() const override
    {
        auto &m = const_cast<side &>(*this).machine<raw_machine>();
        return m.queued_out() + m.queued_in();
    }

    bool takes(std::uint32_t) const override { return world_.plan().whole_core && !drops_; }

private:
    void make() override
    {
        auto o = protocol::raw_defaults(what_.as);
        if (fickle()) {
            o.send = bounds();
            o.recv = bounds();
        }
        drops_ = o.on_recv_full != protocol::overflow::block;
        id_ = *engine().open<raw_machine>(what_.as, shaping(), o);
    }
    void forget() override
    {
        if (waiting_)
            engine().pool().release(waiting_->frame);
        waiting_.reset();
    }
    bool speak() override { return false; }
    bool read() override { return false; }
    bool inspect() override
    {
        int moved = 0;
        while (moved < 64 && (waiting_ || take()) && pass())
            ++moved;
        return moved > 0;
    }

    bool take()
    {
        auto *to = other();
        if (!to || !machine<raw_machine>().waiting() || !to->machine<raw_machine>().send_ready(0))
            return false;
        const auto t = with<raw_machine>([](auto &m, auto &out) { return m.take(out); });
        if (!t)
            return false;
        auto &f = engine().pool()[t->frame];
        const auto header = machine<raw_machine>().header_of(*t, f.bytes());
        const std::size_t topic = what_.as == role::sub ? 2 : 0;
        const auto body = f.bytes().subspan(t->header_bytes);
        const auto number = ledger::number_of(body, topic);
        count(stat::socket_delivered);
        if (check_body(number, body))
            check_place(number, t->pipe, drops_ ? order::gaps : order::exact, 0);
        f.offset = static_cast<std::uint32_t>(t->header_bytes);
        waiting_ = t;
        header_ = header;
        return true;
    }
    bool pass()
    {
        auto *to = other();
        if (!to)
            return false;
        auto &f = engine().pool()[waiting_->frame];
        const auto size = f.body().size();
        const auto refusal = to->with<raw_machine>(
            [&](auto &m, auto &out) { return m.on_send(header_.all(), f.id, size, now(), out); });
        if (refusal == errc::would_block)
            return false;
        if (refusal)
            engine().pool().release(f.id);
        else
            to->count(stat::socket_accepted);
        waiting_.reset();
        return true;
    }
    [[nodiscard]] std::size_t peers() const { return const_cast<side &>(*this).state().peers; }
    [[nodiscard]] side *other()
    {
        auto &o = static_cast<side &>(world_.of(what_.other));
        return o.is_open() ? &o : nullptr;
    }

    std::optional<protocol::taken> waiting_;
    protocol::raw_header header_;
    bool drops_ = false; // what its queue has no room for
};

} // namespace

std::unique_ptr<actor> make_device(world &w, std::uint32_t place)
{
    return std::make_unique<side>(w, place);
}

} // namespace sp::sim
