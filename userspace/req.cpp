// SPDX-License-Identifier: BSD-2-Clause
//
// The calls of REQ and its contexts over their machine.
#include "sp/req.hpp"

#include "userspace/socket_core.hpp"

namespace sp::inline v1 {

using detail::socket_core;
using protocol::context_id;
using protocol::req_machine;
using protocol::request_state;

namespace {

using lock = detail::node::lock;

context_id name_of(std::uint32_t context)
{
    return static_cast<context_id>(context);
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
        return error::numbered(
            2007, "a message of " + std::to_string(size) + " bytes is too large",
            "no peer of this socket takes one of this size; between hosts this version sends what "
            "fits a packet");
    return error(*refused);
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
    const auto outcome = node.run_until(held, how_long, [&] {
        if (core.closed())
            return true;
        auto &m = core.machine<req_machine>();
        const auto state = m.state(context);
        return m.serial(context) != serial || state == request_state::ready ||
               state == request_state::failed || state == request_state::idle;
    });
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
    const wait both(how_long.deadline(engine_clock::now()), how_long.stop());
    if (auto sent = send_frame(core, held, context, f, how_long.never() ? how_long : both); !sent)
        return std::unexpected(sent.error());
    return receive(core, held, context, how_long.never() ? how_long : both);
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
    if (o.ttl_max || o.dedupe_time || o.reply_cache_bytes)
        return std::unexpected(error::numbered(
            2008, "ttl_max, dedupe_time and reply_cache_bytes are read by rep only"));
    using namespace std::chrono_literals;
    const auto out_of_range = [](const std::optional<std::chrono::nanoseconds> &d,
                                 bool zero_is_off) {
        return d && *d < 1ms && !(zero_is_off && d->count() == 0);
    };
    if (out_of_range(o.resend_time, true) || out_of_range(o.request_deadline, false))
        return std::unexpected(error::numbered(
            2008, "resend_time is 0 or at least 1 ms, request_deadline at least 1 ms"));
    protocol::req_options machine;
    machine.resend_time = o.resend_time.value_or(machine.resend_time);
    machine.request_deadline = o.request_deadline.value_or(machine.request_deadline);
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
    auto f = core_->frame_of(held, body.view(), how_long);
    if (!f)
        return std::unexpected(f.error());
    return ask(*core_, held, *context.id(), **f, how_long);
}

result<message> req::request(sp::loan &&body, wait how_long)
{
    auto held = core_->home()->claim();
    auto *f = detail::access::take(body);
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
    auto f = core_->frame_for(held, size, how_long);
    if (!f)
        return std::unexpected(f.error());
    return detail::access::make_loan(core_->home(), **f);
}

result<req_context> req::open_context()
{
    const auto held = core_->home()->claim();
    if (auto why = core_->unusable())
        return std::unexpected(*why);
    const auto id = core_->engine().with<req_machine>(
        core_->id(), engine_clock::now(), [](auto &m, auto &) { return m.open_context(); });
    if (!id)
        return std::unexpected(error::numbered(2031, "no more than 4096 contexts on one socket"));
    return req_context(core_, static_cast<std::uint32_t>(*id));
}

result<int> req::send_fd()
{
    return core_->descriptor(socket_core::watched::send, std::nullopt,
                             [core = core_.get()] { return send_ready(*core); });
}

// ---- context ----

req_context::req_context(req_context &&) noexcept = default;

req_context &req_context::operator=(req_context &&other) noexcept
{
    if (this != &other) {
        const auto old = std::move(*this); // ends ours
        core_ = std::move(other.core_);
        context_ = other.context_;
    }
    return *this;
}

req_context::~req_context()
{
    if (!core_)
        return;
    core_->end_context(context_);
    const auto held = core_->home()->claim();
    if (core_->unusable())
        return;
    core_->engine().with<req_machine>(core_->id(), engine_clock::now(), [&](auto &m, auto &out) {
        m.close_context(name_of(context_), out);
        return true;
    });
}

result<void> req_context::send(payload body, wait how_long)
{
    auto held = core_->home()->claim();
    if (auto why = core_->unusable())
        return std::unexpected(*why);
    auto f = core_->frame_of(held, body.view(), how_long);
    if (!f)
        return std::unexpected(f.error());
    auto sent = send_frame(*core_, held, name_of(context_), **f, how_long);
    core_->home()->changed(); // a recv() of the request before has been canceled
    return sent;
}

result<message> req_context::recv(wait how_long)
{
    auto held = core_->home()->claim();
    if (auto why = core_->unusable())
        return std::unexpected(*why);
    auto &m = core_->machine<req_machine>();
    if (!m.begin_receive(name_of(context_)))
        return std::unexpected(errc::invalid_state);
    auto answer = receive(*core_, held, name_of(context_), how_long);
    if (!core_->closed())
        core_->machine<req_machine>().end_receive(name_of(context_));
    return answer;
}

result<message> req_context::request(payload body, wait how_long)
{
    auto held = core_->home()->claim();
    if (auto why = core_->unusable())
        return std::unexpected(*why);
    auto f = core_->frame_of(held, body.view(), how_long);
    if (!f)
        return std::unexpected(f.error());
    return ask(*core_, held, name_of(context_), **f, how_long);
}

void req_context::cancel() noexcept
{
    const auto held = core_->home()->claim();
    if (core_->unusable())
        return;
    withdraw(*core_, name_of(context_));
    core_->home()->changed();
}

result<int> req_context::recv_fd()
{
    return core_->descriptor(socket_core::watched::receive, context_,
                             [core = core_.get(), context = context_] {
                                 return receive_ready(*core, name_of(context));
                             });
}

result<int> req_context::send_fd()
{
    return core_->descriptor(socket_core::watched::send, context_,
                             [core = core_.get()] { return send_ready(*core); });
}

} // namespace sp::inline v1
