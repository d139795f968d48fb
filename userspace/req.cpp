// SPDX-License-Identifier: BSD-2-Clause
//
// The calls of REQ and its contexts over their machine.
#include "sp/req.hpp"

#include "userspace/calls.hpp"

namespace sp::inline v1 {

using detail::socket_core;
using protocol::context_id;
using protocol::req_machine;
using protocol::request_state;

namespace {

using lock = detail::node::lock;

context_id name_of(const detail::context &context)
{
    return static_cast<context_id>(context.id());
}

// Hands the frame to the context; on an error the frame is released.
std::optional<error> give(socket_core &core, context_id context, core::frame &f,
                          const wait &how_long)
{
    auto &engine = core.engine();
    if (how_long.never() && !core.machine<req_machine>().send_ready(f.size)) {
        core.home()->turn(engine_clock::now());
        if (!core.machine<req_machine>().send_ready(f.size)) {
            engine.pool().release(f.id);
            return error(errc::would_block);
        }
    }
    const auto now = engine_clock::now();
    const auto random = static_cast<std::uint32_t>(engine.random()());
    const auto refused = engine.with<req_machine>(core.id(), now, [&](auto &m, auto &out) {
        return m.on_request(context, f.id, f.size, random, now, out);
    });
    engine.finish(now);
    if (!refused) {
        core.count(stat::socket_accepted);
        return std::nullopt;
    }
    const auto size = f.size;
    engine.pool().release(f.id);
    if (*refused == errc::message_too_large)
        return detail::too_large_for_peers(core, size);
    return error(*refused);
}

// The short way; false: it has to go the long one.
bool give_now(socket_core &core, context_id context, const core::frame &f, bytes body)
{
    auto &m = core.machine<req_machine>();
    const auto way =
        m.direct(context, body.size(), static_cast<std::uint32_t>(core.engine().random()()));
    const auto *p = core.put_now(way, body);
    if (!p)
        return false;
    core.engine().nudge(*p);
    m.went(context, way.pipe, f.id, f.size, engine_clock::now());
    core.engine().watch_deadline(*core.engine().find(core.id()), m.next_deadline());
    return true;
}

void withdraw(socket_core &core, context_id context)
{
    core.engine().with<req_machine>(core.id(), engine_clock::now(), [&](auto &m, auto &out) {
        m.cancel(context, out);
        return true;
    });
}

result<void> send_frame(socket_core &core, lock &held, context_id context, core::frame &f,
                        const wait &how_long)
{
    if (give_now(core, context, f, f.bytes()))
        return {};
    if (auto refused = give(core, context, f, how_long))
        return std::unexpected(*refused);
    auto &node = *core.home();
    const auto serial = core.machine<req_machine>().serial(context);
    const auto on_a_pipe = [&] {
        if (core.closed())
            return true;
        auto &m = core.machine<req_machine>();
        return m.serial(context) != serial || m.state(context) != request_state::queued;
    };
    if (on_a_pipe() && !core.closed())
        return {};
    const auto outcome = node.run_until(held, how_long, on_a_pipe);
    if (core.closed())
        return std::unexpected(errc::closed);
    auto &m = core.machine<req_machine>();
    if (m.serial(context) != serial)
        return std::unexpected(errc::canceled);
    if (outcome) {
        withdraw(core, context);
        return std::unexpected(*outcome);
    }
    return {};
}

result<message> receive(socket_core &core, lock &held, context_id context, const wait &how_long)
{
    auto &node = *core.home();
    if (core.machine<req_machine>().state(context) == request_state::idle)
        return std::unexpected(errc::invalid_state);
    const auto serial = core.machine<req_machine>().serial(context);
    const auto over = [&] {
        if (core.closed())
            return true;
        auto &m = core.machine<req_machine>();
        auto &s = *core.engine().find(core.id());
        const auto accept = [&](protocol::pipe_id pipe, core::frame &f) {
            const auto request = m.direct(pipe, f.id, f.bytes());
            if (request)
                core.engine().pool().release(*request);
            return request.has_value();
        };
        if (core.engine().take_now(s, accept)) {
            node.took_one(core.id());
            if (m.state(context) != request_state::ready)
                node.changed(); // it is for somebody else
        } else {
            node.take_what_came(s);
        }
        const auto state = m.state(context);
        return m.serial(context) != serial || state == request_state::ready ||
               state == request_state::failed || state == request_state::idle;
    };
    const auto outcome = node.run_until(held, how_long, over, detail::looking_at(core, true));
    if (core.closed())
        return std::unexpected(errc::closed);
    auto &m = core.machine<req_machine>();
    if (m.serial(context) != serial)
        return std::unexpected(errc::canceled);
    if (outcome)
        return std::unexpected(*outcome);
    if (m.state(context) == request_state::failed)
        return std::unexpected(m.take_failure(context));
    if (m.state(context) != request_state::ready)
        return std::unexpected(errc::canceled);
    const auto reply = m.take_reply(context);
    auto &f = core.engine().pool()[reply.frame];
    f.offset = req_machine::id_bytes;
    message answer;
    detail::access::fill(answer, core.home(), f, reply.pipe);
    core.count(stat::socket_delivered);
    return answer;
}

// A context for one call.
class borrowed_context {
public:
    explicit borrowed_context(socket_core &core) : core_(core)
    {
        id_ = core.machine<req_machine>().open_context();
    }
    borrowed_context(const borrowed_context &) = delete;
    borrowed_context &operator=(const borrowed_context &) = delete;
    ~borrowed_context()
    {
        if (id_ && !core_.closed())
            core_.engine().with<req_machine>(core_.id(), core_.home()->latest(),
                                             [&](auto &m, auto &out) {
                                                 m.close_context(*id_, out);
                                                 return true;
                                             });
    }
    [[nodiscard]] const std::optional<context_id> &id() const noexcept { return id_; }

private:
    socket_core &core_;
    std::optional<context_id> id_;
};

// Send and receive under one wait.
result<message> ask(socket_core &core, lock &held, context_id context, core::frame &f,
                    const wait &how_long)
{
    const auto both = detail::one_end(how_long);
    if (auto sent = send_frame(core, held, context, f, core.send_wait(both)); !sent)
        return std::unexpected(sent.error());
    return receive(core, held, context, core.recv_wait(both));
}

result<message> ask(socket_core &core, lock &held, context_id context, payload body,
                    const wait &how_long)
{
    auto *now = core.frame_now(body.view());
    if (now && give_now(core, context, *now, body.view()))
        return receive(core, held, context, core.recv_wait(how_long));
    const auto both = detail::one_end(how_long);
    if (now)
        return ask(core, held, context, *now, both);
    auto f = core.frame_of(held, body.view(), core.send_wait(both));
    if (!f)
        return std::unexpected(f.error());
    return ask(core, held, context, **f, both);
}

// Would a request go out at once, or be refused at once?
bool send_ready(socket_core &core)
{
    return core.machine<req_machine>().send_ready(0) && core.memory_left();
}

// Is there an answer, or an error to tell?
bool receive_ready(socket_core &core, context_id context)
{
    const auto state = core.machine<req_machine>().state(context);
    return state == request_state::ready || state == request_state::failed;
}

} // namespace

// ---- req ----

result<req> req::open(const options &o)
{
    protocol::req_options machine;
    detail::assign(machine.resend_time, o.resend_time);
    detail::assign(machine.request_deadline, o.request_deadline);
    machine.fail_without_peer = o.on_no_peer == when_alone::fail;
    auto core = socket_core::open(o, protocol::role::req, [&](auto &engine, const auto &shaping) {
        return engine.template open<req_machine>(protocol::role::req, shaping, machine);
    });
    if (!core)
        return std::unexpected(core.error());
    return req(std::move(*core));
}

result<message> req::request(payload body, wait how_long)
{
    auto held = core_->home()->claim();
    if (auto why = core_->unusable())
        return std::unexpected(*why);
    const borrowed_context context(*core_);
    if (!context.id())
        return std::unexpected(errc::would_block);
    return ask(*core_, held, *context.id(), body, how_long);
}

result<message> req::request(sp::loan &&body, wait how_long)
{
    auto held = core_->home()->claim();
    auto *f = detail::access::take(body, core_->home());
    if (!f)
        return std::unexpected(errc::invalid_argument);
    const auto refuse = [&](errc why) {
        core_->engine().pool().release(f->id);
        return std::unexpected(why);
    };
    if (auto why = core_->unusable())
        return refuse(*why);
    const borrowed_context context(*core_);
    if (!context.id())
        return refuse(errc::would_block);
    return ask(*core_, held, *context.id(), *f, how_long);
}

result<loan> req::loan(std::size_t size, wait how_long)
{
    auto held = core_->home()->claim();
    if (auto why = core_->unusable())
        return std::unexpected(*why);
    auto f = core_->frame_for(held, size, core_->send_wait(how_long));
    if (!f)
        return std::unexpected(f.error());
    return detail::access::make_loan(core_->home(), **f);
}

result<req_context> req::open_context()
{
    const auto held = core_->home()->claim();
    if (auto why = core_->unusable())
        return std::unexpected(*why);
    auto context = detail::open_context<req_machine>(core_);
    if (!context)
        return std::unexpected(context.error());
    return req_context(std::move(*context));
}

result<int> req::send_fd()
{
    return core_->descriptor(socket_core::watched::send, std::nullopt,
                             [core = core_.get()] { return send_ready(*core); });
}

// ---- context ----

result<void> req_context::send(payload body, wait how_long)
{
    auto &core = *context_.core();
    auto held = core.home()->claim();
    if (auto why = core.unusable())
        return std::unexpected(*why);
    const auto patience = detail::one_end(core.send_wait(how_long));
    auto f = core.frame_of(held, body.view(), patience);
    if (!f)
        return std::unexpected(f.error());
    auto sent = send_frame(core, held, name_of(context_), **f, patience);
    core.home()->changed(); // a recv() of the request before has been canceled
    return sent;
}

result<message> req_context::recv(wait how_long)
{
    auto &core = *context_.core();
    auto held = core.home()->claim();
    if (auto why = core.unusable())
        return std::unexpected(*why);
    if (!core.machine<req_machine>().begin_receive(name_of(context_)))
        return std::unexpected(errc::invalid_state);
    auto answer = receive(core, held, name_of(context_), core.recv_wait(how_long));
    if (!core.closed())
        core.machine<req_machine>().end_receive(name_of(context_));
    return answer;
}

std::optional<message> req_context::try_recv()
{
    auto &core = *context_.core();
    const auto is_here = [&] {
        const auto held = core.home()->claim();
        if (core.unusable())
            return false;
        const auto ready = [&] {
            return core.machine<req_machine>().state(name_of(context_)) == request_state::ready;
        };
        if (!ready())
            core.home()->turn(engine_clock::now());
        return ready();
    };
    if (!is_here())
        return std::nullopt;
    auto answer = recv(std::chrono::seconds(0));
    return answer ? std::optional(std::move(*answer)) : std::nullopt;
}

result<message> req_context::request(payload body, wait how_long)
{
    auto &core = *context_.core();
    auto held = core.home()->claim();
    if (auto why = core.unusable())
        return std::unexpected(*why);
    return ask(core, held, name_of(context_), body, how_long);
}

void req_context::cancel() noexcept
{
    auto &core = *context_.core();
    const auto held = core.home()->claim();
    if (core.unusable())
        return;
    withdraw(core, name_of(context_));
    core.home()->changed();
}

result<int> req_context::recv_fd()
{
    return context_.core()->descriptor(socket_core::watched::receive, context_.id(),
                                       [core = context_.core().get(), name = name_of(context_)] {
                                           return receive_ready(*core, name);
                                       });
}

result<int> req_context::send_fd()
{
    return context_.core()->descriptor(
        socket_core::watched::send, context_.id(),
        [core = context_.core().get()] { return send_ready(*core); });
}

} // namespace sp::inline v1
