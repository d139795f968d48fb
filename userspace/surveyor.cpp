// SPDX-License-Identifier: BSD-2-Clause
//
// The calls of SURVEYOR and its surveys over their machine. A survey is a context that asks once.
#include "sp/surveyor.hpp"

#include "userspace/calls.hpp"

#include <algorithm>

namespace sp::inline v1 {

using detail::socket_core;
using protocol::context_id;
using protocol::survey_state;
using protocol::surveyor_machine;
using stance = surveyor_machine::stance;

namespace {

context_id name_of(const detail::context &c)
{
    return static_cast<context_id>(c.id());
}

// Says why there will be no more answers. The end is told once; who was waiting for it hears it
// even if somebody else was told first.
class ended {
public:
    ended(const detail::core_ptr &core, context_id context) noexcept
        : core_(core.get()), context_(context)
    {
    }

    std::optional<errc> operator()()
    {
        auto &m = core_->machine<surveyor_machine>();
        switch (m.state(context_)) {
        case survey_state::open:
            waited_ = true;
            return std::nullopt;
        case survey_state::over:
            m.tell_end(context_);
            return errc::expired;
        case survey_state::idle:
            break;
        }
        return waited_ ? errc::expired : errc::invalid_state;
    }

private:
    socket_core *core_;
    context_id context_;
    bool waited_ = false;
};

using duration = std::optional<std::chrono::nanoseconds>; // empty: survey_time

// With the lock held. On an error the frame is still the caller's.
result<detail::context> ask(const detail::core_ptr &core, const core::frame &f, duration time)
{
    if (time && time->count() <= 0)
        return std::unexpected(errc::invalid_argument);
    auto context = detail::open_context<surveyor_machine>(core);
    if (!context)
        return context;
    auto &engine = core->engine();
    const auto now = engine_clock::now();
    const auto random = static_cast<std::uint32_t>(engine.random()());
    engine.with<surveyor_machine>(core->id(), now, [&](auto &m, auto &out) {
        m.on_survey(name_of(*context), f.id, f.size, random, time.value_or(m.survey_time()), now,
                    out);
        return true;
    });
    core->count(stat::socket_accepted);
    engine.finish(now);
    return context;
}

result<detail::context> ask(const detail::core_ptr &core, payload question, duration time)
{
    auto held = core->home()->claim();
    if (auto why = core->unusable())
        return std::unexpected(*why);
    auto f = core->frame_of(held, question.view(), std::chrono::seconds(0));
    if (!f)
        return std::unexpected(f.error());
    auto context = ask(core, **f, time);
    if (!context)
        core->engine().pool().release((*f)->id);
    return context;
}

result<detail::context> ask(const detail::core_ptr &core, loan &question, duration time)
{
    const auto held = core->home()->claim();
    if (auto why = core->unusable())
        return std::unexpected(*why);
    const auto *f = detail::access::frame_of(question, core->home());
    if (!f)
        return std::unexpected(errc::invalid_argument);
    auto context = ask(core, *f, time);
    if (context)
        detail::access::empty(question);
    return context;
}

template <class Belongs>
std::vector<pipe_id> listed(const detail::context &c, Belongs belongs)
{
    std::vector<pipe_id> pipes;
    const auto &core = c.core();
    const auto held = core->home()->claim();
    if (core->unusable())
        return pipes;
    for (const auto &r : core->machine<surveyor_machine>().respondents(name_of(c)))
        if (belongs(r.where))
            pipes.push_back(static_cast<pipe_id>(r.pipe));
    return pipes;
}

} // namespace

// ---- surveyor ----

result<surveyor> surveyor::open(const options &o)
{
    protocol::surveyor_options machine;
    detail::assign(machine.survey_time, o.survey_time);
    detail::assign_send_queue(machine.send, o);
    detail::assign_recv_queue(machine.recv, o);
    detail::assign(machine.on_send_full, o.on_send_full);
    detail::assign(machine.on_recv_full, o.on_recv_full);
    detail::assign(machine.one_answer_per_peer, o.one_answer_per_peer);
    detail::assign(machine.end_when_all_answered, o.end_when_all_answered);
    auto core =
        socket_core::open(o, protocol::role::surveyor, [&](auto &engine, const auto &shaping) {
            return engine.template open<surveyor_machine>(protocol::role::surveyor, shaping,
                                                          machine);
        });
    if (!core)
        return std::unexpected(core.error());
    return surveyor(std::move(*core));
}

result<survey> surveyor::made(result<detail::context> context)
{
    if (!context)
        return std::unexpected(context.error());
    return sp::survey(std::move(*context));
}

result<survey> surveyor::survey(payload question)
{
    return made(ask(core_, question, std::nullopt));
}

result<survey> surveyor::survey(payload question, std::chrono::nanoseconds time)
{
    return made(ask(core_, question, time));
}

result<survey> surveyor::survey(sp::loan &&question)
{
    return made(ask(core_, question, std::nullopt));
}

result<survey> surveyor::survey(sp::loan &&question, std::chrono::nanoseconds time)
{
    return made(ask(core_, question, time));
}

result<loan> surveyor::loan(std::size_t size)
{
    return detail::lend_now(*core_, size);
}

// ---- survey ----

result<message> survey::recv(wait how_long)
{
    const auto &core = context_.core();
    const auto name = name_of(context_);
    return detail::receive_until<surveyor_machine>(core, how_long, ended(core, name), name);
}

std::optional<message> survey::try_recv()
{
    return detail::try_receive<surveyor_machine>(context_.core(), name_of(context_));
}

result<std::size_t> survey::recv_batch(std::span<message> batch, wait how_long)
{
    const auto &core = context_.core();
    const auto name = name_of(context_);
    return detail::receive_batch_until<surveyor_machine>(core, batch, how_long, ended(core, name),
                                                         name);
}

std::size_t survey::try_recv_batch(std::span<message> batch)
{
    return detail::try_receive_batch<surveyor_machine>(context_.core(), batch, name_of(context_));
}

result<int> survey::recv_fd()
{
    const auto &core = context_.core();
    return core->descriptor(socket_core::watched::receive, context_.id(),
                            [c = core.get(), name = name_of(context_)] {
                                auto &m = c->machine<surveyor_machine>();
                                return m.waiting(name) || m.state(name) == survey_state::over;
                            });
}

void survey::cancel() noexcept
{
    auto &core = *context_.core();
    const auto held = core.home()->claim();
    if (core.unusable())
        return;
    core.engine().with<surveyor_machine>(core.id(), engine_clock::now(), [&](auto &m, auto &out) {
        m.cancel(name_of(context_), out);
        return true;
    });
    core.home()->changed();
}

std::vector<pipe_id> survey::asked() const
{
    return listed(context_, [](stance s) { return s != stance::missed; });
}

std::vector<pipe_id> survey::answered() const
{
    return listed(context_, [](stance s) { return s == stance::answered; });
}

std::vector<pipe_id> survey::pending() const
{
    return listed(context_, [](stance s) { return s == stance::pending; });
}

std::vector<pipe_id> survey::missed() const
{
    return listed(context_, [](stance s) { return s == stance::missed; });
}

} // namespace sp::inline v1
