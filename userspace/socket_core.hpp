// SPDX-License-Identifier: BSD-2-Clause
//
// What is behind every socket object: its place in a node's engine, its endpoints, and the calls
// that all roles share. Owned by the socket object, its contexts and its unanswered requests
// together; closed once, by whoever is first. Calls take the node's lock themselves unless they are
// handed it.
#pragma once

#include "sp/socket.hpp"
#include "userspace/node.hpp"

#include <algorithm>
#include <string>
#include <vector>

namespace sp::inline v1::detail {

class socket_core {
public:
    using lock = node::lock;

    socket_core(std::shared_ptr<node> n, core::socket_id id, const options &o, protocol::role role);

    ~socket_core();
    // Makes the engine's part by `open(engine, socket options)`, dials and listens as the options
    // say.
    template <class Open>
    [[nodiscard]] static result<std::shared_ptr<socket_core>>
    open(const options &o, protocol::role role, Open &&open);

    [[nodiscard]] result<endpoint_id> dial(std::string_view text);
    [[nodiscard]] result<endpoint_id> dial(std::string_view text, const wait &first_connection);
    [[nodiscard]] result<endpoint_id> listen(std::string_view text);
    [[nodiscard]] result<std::string> url(endpoint_id id);
    [[nodiscard]] result<void> wait_peers(std::size_t count, const wait &how_long);
    [[nodiscard]] std::size_t peers();
    [[nodiscard]] std::optional<sp::pipe_info> pipe_info(pipe_id pipe);
    [[nodiscard]] std::optional<error> last_error(endpoint_id id);
    void admit(std::move_only_function<bool(const sp::pipe_info &)> decide);
    [[nodiscard]] result<pipe_event> next_event(const wait &how_long);
    [[nodiscard]] result<int> event_fd();
    [[nodiscard]] counters statistics();
    [[nodiscard]] std::optional<counters> statistics(pipe_id pipe);
    [[nodiscard]] std::size_t queued();
    void close_endpoint(endpoint_id id);
    close_report close(const wait &drain);
    [[nodiscard]] std::chrono::nanoseconds linger() const noexcept { return linger_; }
    void end() noexcept; // of the socket object: drains, and takes its descriptors back

    // A descriptor for poll(2), readable while `ready()` holds and for good once the socket is
    // closed, so that nobody sleeps for ever. `ready` is called with the lock held and the socket
    // open. It lives as long as the socket object, or as the context it is for.
    using watched = watch_key::kind;
    using context_name = std::optional<std::uint32_t>;
    [[nodiscard]] result<int> descriptor(watched what, context_name context,
                                         std::move_only_function<bool()> ready);
    void end_context(std::uint32_t context) noexcept; // takes the descriptors of a context back
    [[nodiscard]] bool
    memory_left() noexcept; // with the lock held; if not, being given some is told

    [[nodiscard]] const std::shared_ptr<node> &home() const noexcept { return node_; }
    [[nodiscard]] node::engine_type &engine() noexcept { return node_->engine(); }
    [[nodiscard]] core::socket_id id() const noexcept { return id_; }

    // With the lock held.
    [[nodiscard]] bool closed() const noexcept { return closed_; }
    [[nodiscard]] std::optional<errc> unusable() const noexcept;
    template <class Machine>
    [[nodiscard]] Machine &machine()
    {
        return std::get<Machine>(engine().find(id_)->machine);
    }
    void count(stat which) { engine().count(*engine().find(id_), which); }
    // A frame holding `body`; waits while memory_max is reached.
    [[nodiscard]] result<core::frame *> frame_for(lock &held, std::size_t size,
                                                  const wait &how_long);
    [[nodiscard]] result<core::frame *> frame_of(lock &held, bytes body, const wait &how_long);

private:
    struct own_endpoint {
        endpoint_id name;
        place where;
        bool listens;
        std::string url;
    };

    [[nodiscard]] own_endpoint *find(endpoint_id id) noexcept;
    [[nodiscard]] error error_of(const own_endpoint &e, const core::dial_failure &f) const;
    void forget_endpoint(endpoint_id id) noexcept;

    std::shared_ptr<node> node_;
    core::socket_id id_;
    protocol::role role_;
    std::chrono::nanoseconds linger_;
    std::uint32_t ipc_mode_;
    std::uint32_t message_max_;
    bool closed_ = false;
    [[nodiscard]] std::optional<sp::pipe_info> known(pipe_id pipe); // with the lock held
    void describe_stream(sp::pipe_info &info, stream_id stream);
    void name_endpoint(sp::pipe_info &info, core::endpoint_id endpoint);
    [[nodiscard]] std::uint64_t on_its_way(); // queued here, or not confirmed by a peer
    std::vector<own_endpoint> endpoints_;
};

// How the facade reaches into the public classes.
struct access {
    // A message over a frame whose one reference it takes.
    template <class Message>
    static void fill(Message &m, const std::shared_ptr<node> &home, core::frame &f,
                     core::pipe_id pipe)
    {
        m.node_ = home;
        m.frame_ = &f;
        m.body_ = f.body();
        m.pipe_ = static_cast<pipe_id>(pipe);
        if (const auto *p = home->engine().find(pipe))
            m.transport_ = home->engine().transport_at(p->transport).name(p->route);
    }
    static void bind(request &r, std::shared_ptr<socket_core> home, protocol::ticket_id ticket)
    {
        r.home_ = std::move(home);
        r.ticket_ = static_cast<std::uint32_t>(ticket);
    }
    static loan make_loan(const std::shared_ptr<node> &home, core::frame &f)
    {
        loan l;
        l.node_ = home;
        l.frame_ = &f;
        l.body_ = f.bytes();
        return l;
    }
    // The loan's frame, cut to its size; the loan is empty afterwards.
    static core::frame *take(loan &l)
    {
        auto *f = static_cast<core::frame *>(l.frame_);
        if (f)
            f->size = static_cast<std::uint32_t>(l.body_.size());
        l.frame_ = nullptr;
        l.body_ = {};
        l.node_.reset();
        return f;
    }
    static const std::shared_ptr<node> &node_of(const engine &e) { return e.node_; }
};

template <class Open>
result<std::shared_ptr<socket_core>> socket_core::open(const options &o, protocol::role role,
                                                       Open &&open)
{
    auto home = o.on ? result<std::shared_ptr<node>>(access::node_of(*o.on)) : node::shared();
    if (!home)
        return std::unexpected(home.error());
    core::socket_options shaping;
    const auto take = [](auto &to, const auto &from) {
        if (from)
            to = static_cast<std::remove_reference_t<decltype(to)>>(*from);
    };
    if (o.message_max && (*o.message_max == 0 || *o.message_max > 1u << 30))
        return std::unexpected(error::numbered(2008, "message_max is from 1 byte to 1 GiB"));
    if (o.pipes_max && *o.pipes_max == 0)
        return std::unexpected(error::numbered(2008, "pipes_max is at least 1"));
    if (o.linger && (*o.linger < std::chrono::seconds(0) || *o.linger > std::chrono::hours(1)))
        return std::unexpected(error::numbered(2008, "linger is from 0 to 1 hour"));
    if (o.ipc_mode && (*o.ipc_mode & ~0777u) != 0)
        return std::unexpected(
            error::numbered(2008, "ipc_mode is made of the nine rights of a file: 0 to 0777"));
    take(shaping.message_max, o.message_max);
    take(shaping.pipes_max, o.pipes_max);
    take(shaping.connect_timeout, o.connect_timeout);
    take(shaping.reconnect_min, o.reconnect_min);
    take(shaping.reconnect_max, o.reconnect_max);
    take(shaping.keepalive_interval, o.keepalive_interval);
    take(shaping.peer_timeout, o.peer_timeout);
    using namespace std::chrono_literals;
    if (shaping.connect_timeout < 1ms || shaping.reconnect_min < 1ms ||
        shaping.reconnect_max < shaping.reconnect_min || shaping.keepalive_interval < 10ms ||
        shaping.peer_timeout < 50ms)
        return std::unexpected(error::numbered(2008, "a duration is out of its range",
                                               "least: connect_timeout and reconnect_min 1 ms, "
                                               "keepalive_interval 10 ms, peer_timeout 50 ms"));
    std::optional<core::socket_id> id;
    {
        const auto held = (*home)->claim();
        if ((*home)->forked())
            return std::unexpected(errc::forked);
        id = open((*home)->engine(), shaping);
    }
    if (!id)
        return std::unexpected(error::numbered(2031, "no more than 4096 sockets on one engine"));
    auto made = std::make_shared<socket_core>(*home, *id, o, role);
    const auto give_up = [&](error why) {
        (void)made->close(std::chrono::seconds(0));
        return std::unexpected(std::move(why));
    };
    if (!o.listen.empty())
        if (auto listened = made->listen(o.listen); !listened)
            return give_up(listened.error());
    if (!o.dial.empty())
        if (auto dialed = made->dial(o.dial); !dialed)
            return give_up(dialed.error());
    return made;
}

} // namespace sp::inline v1::detail
