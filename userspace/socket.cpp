// SPDX-License-Identifier: BSD-2-Clause
//
// The composition root of a socket: options, endpoints, peers and the end. Here protocol, engine
// and transport are named together; the calls of the roles are in req.cpp and rep.cpp.
#include "userspace/socket_core.hpp"

#include "userspace/address.hpp"
#include "userspace/link/stranger.hpp"

#include <cstring>

namespace sp::inline v1 {
namespace detail {
namespace {

std::string role_name(std::uint16_t protocol)
{
    switch (protocol) {
    case 0x10:
        return "PAIR v0";
    case 0x11:
        return "PAIR";
    case 0x20:
        return "PUB";
    case 0x21:
        return "SUB";
    case 0x30:
        return "REQ";
    case 0x31:
        return "REP";
    case 0x50:
        return "PUSH";
    case 0x51:
        return "PULL";
    case 0x62:
        return "SURVEYOR";
    case 0x63:
        return "RESPONDENT";
    case 0x70:
        return "BUS";
    default:
        return "protocol " + std::to_string(protocol);
    }
}

std::string name_of(protocol::role role)
{
    return role_name(static_cast<std::uint16_t>(role));
}

// What listeners and streams of this socket are made with.
transport::stream_options local_options(const options &o, protocol::role role, int netns_fd)
{
    transport::stream_options made;
    assign(made.ipc_mode, o.ipc_mode);
    made.allow_uid = o.allow_uid;
    made.allow_gid = o.allow_gid;
    assign(made.listen_fd, o.listen_fd);
    // What a stuck worker hoards in its kernel is lost with it, while others starve.
    if (role == protocol::role::push)
        made.stream_send_bytes = 64 * 1024;
    assign(made.stream_send_bytes, o.stream_send_bytes);
    assign(made.tcp_nodelay, o.tcp_nodelay);
    assign(made.tcp_keepalive, o.tcp_keepalive);
    if (o.tcp_user_timeout)
        made.tcp_user_timeout = std::chrono::ceil<std::chrono::milliseconds>(*o.tcp_user_timeout);
    made.netns_fd = netns_fd;
    return made;
}

std::string_view transport_name(carrier &c)
{
    return c.as<transport::unixgram>() ? "unixgram"
           : c.as<transport::xdp>()    ? "ip/xdp"
                                       : "ip/kernel";
}

} // namespace

void describe_process(sp::pipe_info &info, const std::optional<credentials> &who)
{
    if (!who)
        return;
    info.uid = who->uid;
    info.gid = who->gid;
    if (who->pid != 0)
        info.pid = who->pid;
}

socket_core::socket_core(std::shared_ptr<node> n, core::socket_id id, const options &o,
                         protocol::role role, std::uint32_t message_max)
    : node_(std::move(n)), id_(id), role_(role),
      linger_(o.linger.value_or(std::chrono::seconds(1))),
      local_(local_options(o, role, node_->options().netns_fd)), message_max_(message_max),
      send_timeout_(o.send_timeout), recv_timeout_(o.recv_timeout)
{
}

std::optional<errc> socket_core::unusable() const noexcept
{
    if (node_->forked())
        return errc::forked;
    return closed_ ? std::optional(errc::closed) : std::nullopt;
}

socket_core::own_endpoint *socket_core::find(endpoint_id id) noexcept
{
    const auto found = std::ranges::find(endpoints_, id, &own_endpoint::name);
    return found == endpoints_.end() ? nullptr : &*found;
}

// ---- endpoints ----

result<endpoint_id> socket_core::listen(std::string_view text)
{
    auto u = parse_url(text);
    if (!u)
        return std::unexpected(u.error());
    auto held = node_->claim();
    if (auto why = unusable())
        return std::unexpected(*why);
    auto where = node_->roads().listen(*u, local_);
    if (!where)
        return std::unexpected(where.error());
    const auto made = where->stream ? engine().listen(id_, *where->stream)
                                    : engine().listen(id_, where->slot, where->local_port);
    if (!made) {
        node_->roads().leave(*where, true);
        return std::unexpected(error::numbered(2031, "no more than 4096 endpoints on one engine"));
    }
    const auto name = static_cast<endpoint_id>(*made);
    auto shown = where->shown;
    endpoints_.push_back({name, std::move(*where), true, std::move(shown)});
    node_->changed();
    return name;
}

result<endpoint_id> socket_core::dial(std::string_view text)
{
    auto u = parse_url(text);
    if (!u)
        return std::unexpected(u.error());
    auto held = node_->claim();
    if (auto why = unusable())
        return std::unexpected(*why);
    auto where = node_->roads().dial(*u, local_);
    if (!where)
        return std::unexpected(where.error());
    const auto now = engine_clock::now();
    const auto made = where->stream ? engine().dial(id_, *where->stream, now)
                                    : engine().dial(id_, where->slot, where->peer,
                                                    where->local_port, u->port, now);
    if (!made) {
        node_->roads().leave(*where, false);
        return std::unexpected(error::numbered(2031, "no more than 4096 endpoints on one engine"));
    }
    const auto name = static_cast<endpoint_id>(*made);
    auto shown = where->shown;
    endpoints_.push_back({name, std::move(*where), false, std::move(shown)});
    engine().flush();
    node_->changed();
    return name;
}

result<endpoint_id> socket_core::dial(std::string_view text, const wait &first_connection)
{
    auto name = dial(text);
    if (!name)
        return name;
    auto held = node_->claim();
    const auto id = static_cast<core::endpoint_id>(*name);
    const auto outcome = node_->run_until(held, first_connection, [&] {
        if (closed_)
            return true;
        const auto *e = engine().find(id);
        return !e || e->connected || e->last_failure;
    });
    if (closed_)
        return std::unexpected(errc::closed);
    const auto *e = engine().find(id);
    if (e && e->connected)
        return name;
    error why = outcome.value_or(errc::closed);
    if (const auto *own = find(*name); own && e) {
        if (e->last_failure)
            why = error_of(*own, *e->last_failure);
        else if (outcome == errc::timed_out)
            why = error_of(*own, {.code = errc::timed_out, .text = {}});
    }
    forget_endpoint(*name);
    return std::unexpected(why);
}

// Why an address did not answer as hoped, in the system's own words where it gave any.
std::string socket_core::cause_of(const own_endpoint &e, const core::dial_failure &f) const
{
    const bool refused = f.code == errc::connection_refused;
    if (e.where.stream)
        return f.text.empty() && !engine().streams().last_failure(*e.where.stream).empty()
                   ? std::string(engine().streams().last_failure(*e.where.stream))
                   : f.text;
    if (e.url.starts_with("unixgram:"))
        return refused ? "the path is missing, or its owner is gone" : "";
    const bool encapsulated = e.where.peer.port != 0;
    const auto carried = encapsulated
                             ? "UDP port " + std::to_string(node_->options().udp_port)
                             : "IP protocol " + std::to_string(node_->options().ip_protocol);
    if (!refused)
        return "the host is down, nothing listens there, or something drops " + carried;
    if (f.reason == SP_REASON_NO_LISTENER)
        return "the host answered that nobody serves this port";
    return "the host refuses " + carried + ": no sp runs there" +
           (encapsulated ? ", or none that listens with encap=udp" : "");
}

// What may help a dialer whose question stayed unanswered.
std::string socket_core::cure_of(const own_endpoint &e)
{
    if (!e.url.starts_with("ip:"))
        return {};
    return e.where.peer.port != 0
               ? "see that firewalls let that port pass both ways; without encap=udp it may pass"
               : "start the listener; where that protocol is dropped: encap=udp, at both ends";
}

error socket_core::error_of(const own_endpoint &e, const core::dial_failure &f) const
{
    const auto &at = e.url;
    switch (f.code) {
    case errc::connection_refused:
        return error::numbered(2003, "nobody listens at " + at, cause_of(e, f));
    case errc::protocol_mismatch:
        return error::numbered(2004, "the peer at " + at + " is a " + role_name(f.peer_protocol) +
                                         ", this is a " + name_of(role_) + ", which needs a " +
                                         name_of(peer_of(role_)));
    case errc::rejected:
        if (f.reason == SP_REASON_AUTH)
            return error::numbered(3003, at + " refused: keys or plaintext do not agree");
        return error::numbered(2021, at + " refused this side", f.text);
    case errc::version_mismatch:
        return error::numbered(2036, at + " speaks another version of the packet", f.text);
    case errc::permission_denied:
        return error::numbered(2022, "cannot reach " + at,
                               "its path may not be written by this user",
                               "the listener's ipc_mode decides who may come");
    case errc::timed_out:
        return error::numbered(2011, "no answer from " + at, cause_of(e, f), cure_of(e));
    case errc::unreachable:
        return error::numbered(1023, "no way to " + at);
    default:
        return error::numbered(error(f.code).number(),
                               at + ": " + std::string(describe(f.code).text),
                               f.text.empty() ? std::string(link::describe(f.reason)) : f.text);
    }
}

void socket_core::forget_endpoint(endpoint_id id) noexcept
{
    const auto *e = find(id);
    if (!e)
        return;
    engine().close_endpoint(static_cast<core::endpoint_id>(id), engine_clock::now());
    engine().flush();
    node_->roads().leave(e->where, e->listens);
    std::erase_if(endpoints_, [&](const own_endpoint &each) { return each.name == id; });
    node_->changed();
}

void socket_core::close_endpoint(endpoint_id id)
{
    const auto held = node_->claim();
    forget_endpoint(id);
}

result<std::string> socket_core::url(endpoint_id id)
{
    const auto held = node_->claim();
    if (auto why = unusable())
        return std::unexpected(*why);
    const auto *e = find(id);
    if (!e)
        return std::unexpected(errc::not_found);
    return e->url;
}

// ---- peers ----

result<void> socket_core::wait_peers(std::size_t count, const wait &how_long)
{
    auto held = node_->claim();
    if (auto why = unusable())
        return std::unexpected(*why);
    const auto outcome = node_->run_until(
        held, how_long, [&] { return closed_ || engine().find(id_)->peers >= count; });
    if (closed_)
        return std::unexpected(errc::closed);
    if (outcome)
        return std::unexpected(*outcome);
    return {};
}

std::size_t socket_core::peers()
{
    const auto held = node_->claim();
    return closed_ ? 0 : engine().find(id_)->peers;
}

std::optional<pipe_info> socket_core::pipe_info(pipe_id pipe)
{
    const auto held = node_->claim();
    return known(pipe);
}

std::optional<pipe_info> socket_core::known(pipe_id pipe)
{
    const auto *p = engine().find(static_cast<core::pipe_id>(pipe));
    if (closed_ || !p || p->socket != id_ || !p->attached)
        return std::nullopt;
    sp::pipe_info info;
    info.pipe = pipe;
    info.protocol = static_cast<std::uint16_t>(peer_of(role_));
    name_endpoint(info, p->endpoint);
    if (p->bytes) {
        describe_stream(info, p->bytes->id);
        return info;
    }
    info.transport = engine().transport_at(p->transport).name(p->route);
    info.peer = text_of(p->address, p->link->peer_port());
    info.instance = p->link->peer_instance();
    describe_process(info, engine().transport_at(p->transport).peer_of(p->route));
    return info;
}

// What the transport of byte streams knows of a peer.
void socket_core::describe_stream(sp::pipe_info &info, stream_id stream)
{
    info.transport = engine().streams().name(stream);
    const auto &who = engine().streams().peer(stream);
    info.peer = who.text;
    if (who.local)
        describe_process(info, credentials{.uid = who.uid, .gid = who.gid, .pid = who.pid});
}

std::optional<error> socket_core::last_error(endpoint_id id)
{
    const auto held = node_->claim();
    const auto *own = find(id);
    const auto *e = engine().find(static_cast<core::endpoint_id>(id));
    if (!own || !e || !e->last_failure)
        return std::nullopt;
    return error_of(*own, *e->last_failure);
}

void socket_core::admit(std::move_only_function<bool(const sp::pipe_info &)> decide)
{
    const auto held = node_->claim();
    if (closed_)
        return;
    engine().find(id_)->admit = [this,
                                 decide = std::move(decide)](const core::candidate &c) mutable {
        sp::pipe_info info;
        if (c.stream) {
            describe_stream(info, *c.stream);
        } else {
            info.transport = transport_name(engine().transport_at(c.transport));
            info.peer = text_of(c.address, c.port);
            describe_process(info, c.process);
        }
        info.protocol = c.protocol;
        info.instance = c.instance;
        return decide(info);
    };
}

// ---- frames ----

result<core::frame *> socket_core::frame_for(lock &held, std::size_t size, const wait &how_long)
{
    if (size > message_max_)
        return std::unexpected(
            error::numbered(2007, "a message of " + std::to_string(size) + " bytes is too large",
                            "message_max is " + std::to_string(message_max_) + " here"));
    auto *f = engine().pool().allocate_to_send(size);
    if (f)
        return f;
    const auto outcome = node_->run_until(held, how_long, [&] {
        if (closed_)
            return true;
        do
            f = engine().pool().allocate_to_send(size);
        while (!f && !engine().pool().ask());
        return f != nullptr;
    });
    if (closed_) {
        if (f)
            engine().pool().release(f->id);
        return std::unexpected(errc::closed);
    }
    if (outcome)
        return std::unexpected(*outcome);
    return f;
}

result<core::frame *> socket_core::frame_of(lock &held, bytes body, const wait &how_long)
{
    auto f = frame_for(held, body.size(), how_long);
    if (f && core::frame_pool::memory_of(**f))
        transport::write_into(*core::frame_pool::memory_of(**f), body);
    else if (f && !body.empty())
        std::memcpy((*f)->data(), body.data(), body.size());
    return f;
}

// ---- descriptors ----

result<int> socket_core::descriptor(watched what, context_name context,
                                    std::move_only_function<bool()> ready)
{
    const auto held = node_->claim();
    if (auto why = unusable())
        return std::unexpected(*why);
    return node_->descriptor(
        {.owner = this, .what = what, .context = context},
        [this, ready = std::move(ready)]() mutable { return closed_ || ready(); });
}

void socket_core::end_context(std::uint32_t context) noexcept
{
    const auto held = node_->claim();
    if (!node_->forked())
        node_->watched().forget(this, context);
}

bool socket_core::memory_left() noexcept
{
    auto &pool = engine().pool();
    for (;;) {
        if (auto *f = pool.allocate(0)) {
            pool.release(f->id);
            return true;
        }
        if (pool.ask())
            return false;
    }
}

// ---- the end ----

socket_core::~socket_core()
{
    const auto held = node_->claim();
    if (!node_->forked())
        node_->watched().forget(this);
}

void socket_core::end() noexcept
{
    (void)close(linger_);
    const auto held = node_->claim();
    if (!node_->forked())
        node_->watched().forget(this, std::nullopt);
}

} // namespace detail

// ---- the public class ----

socket::socket(socket &&) noexcept = default;

socket &socket::operator=(socket &&other) noexcept
{
    if (this != &other) {
        if (core_)
            core_->end();
        core_ = std::move(other.core_);
    }
    return *this;
}

socket::~socket()
{
    if (core_)
        core_->end();
}

result<endpoint_id> socket::dial(std::string_view url)
{
    return core_->dial(url);
}

result<endpoint_id> socket::dial(std::string_view url, wait first_connection)
{
    return core_->dial(url, first_connection);
}

result<endpoint_id> socket::listen(std::string_view url)
{
    return core_->listen(url);
}

result<std::string> socket::url(endpoint_id endpoint) const
{
    return core_->url(endpoint);
}

result<void> socket::wait_peers(std::size_t count, wait how_long)
{
    return core_->wait_peers(count, how_long);
}

std::size_t socket::peers() const noexcept
{
    return core_->peers();
}

std::optional<pipe_info> socket::pipe_info(pipe_id pipe) const
{
    return core_->pipe_info(pipe);
}

std::optional<error> socket::last_error(endpoint_id dialer) const
{
    return core_->last_error(dialer);
}

void socket::admit(std::move_only_function<bool(const sp::pipe_info &)> decide)
{
    core_->admit(std::move(decide));
}

void socket::close_endpoint(endpoint_id endpoint) noexcept
{
    core_->close_endpoint(endpoint);
}

close_report socket::close(wait drain)
{
    return core_->close(drain);
}

void socket::close() noexcept
{
    (void)core_->close(std::chrono::seconds(0));
}

} // namespace sp::inline v1
