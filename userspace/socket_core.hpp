// SPDX-License-Identifier: BSD-2-Clause
//
// What is behind every socket object: its place in a node's engine, its endpoints, and the calls
// that all roles share. Owned by the socket object, its contexts and its unanswered requests
// together; closed once, by whoever is first. Calls take the node's lock themselves unless they are
// handed it.
#pragma once

#include "sp/abi/credentials.hpp"
#include "sp/socket.hpp"
#include "userspace/node.hpp"
#include "userspace/options.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

namespace sp::inline v1::detail {

class socket_core {
public:
    using lock = node::lock;

    socket_core(std::shared_ptr<node> n, core::socket_id id, const options &o, protocol::role role,
                std::uint32_t message_max);
    ~socket_core();

    // Makes the engine's part by `open(engine, socket options)`, dials and listens as the options
    // say.
    template <class Open>
    [[nodiscard]] static result<std::shared_ptr<socket_core>>
    open(const options &o, protocol::role role, Open &&open, form how = form::cooked);

    [[nodiscard]] result<endpoint_id> dial(std::string_view text);
    [[nodiscard]] result<endpoint_id> dial(std::string_view text, const wait &first_connection);
    [[nodiscard]] result<endpoint_id> listen(std::string_view text);
    [[nodiscard]] result<std::string> url(endpoint_id id);
    [[nodiscard]] result<void> wait_peers(std::size_t count, const wait &how_long);
    [[nodiscard]] std::size_t peers();
    [[nodiscard]] std::optional<sp::pipe_info> pipe_info(pipe_id pipe);
    [[nodiscard]] std::optional<error> last_error(endpoint_id id);
    [[nodiscard]] result<pipe_event> next_event(const wait &how_long);
    [[nodiscard]] result<int> event_fd();
    [[nodiscard]] counters statistics();
    [[nodiscard]] std::optional<counters> statistics(pipe_id pipe);
    [[nodiscard]] std::size_t queued();
    void admit(std::move_only_function<bool(const sp::pipe_info &)> decide);
    void close_endpoint(endpoint_id id);
    close_report close(const wait &drain);
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
    [[nodiscard]] std::chrono::nanoseconds linger() const noexcept { return linger_; }

    [[nodiscard]] const std::shared_ptr<node> &home() const noexcept { return node_; }
    [[nodiscard]] node::engine_type &engine() const noexcept { return node_->engine(); }
    [[nodiscard]] core::socket_id id() const noexcept { return id_; }
    [[nodiscard]] protocol::role role() const noexcept { return role_; }

    // A wait as the caller gave it, completed by the socket's options.
    [[nodiscard]] wait send_wait(const wait &w) const { return w.or_usual(send_timeout_); }
    [[nodiscard]] wait recv_wait(const wait &w) const { return w.or_usual(recv_timeout_); }

    [[nodiscard]] std::uint32_t message_max() const noexcept { return message_max_; }

    // The context that the socket object itself stands for, in roles that have contexts.
    [[nodiscard]] protocol::context_id own_context() const noexcept { return own_context_; }
    void set_own_context(protocol::context_id context) noexcept { own_context_ = context; }

    // With the lock held.
    [[nodiscard]] bool closed() const noexcept { return closed_; }
    [[nodiscard]] std::optional<errc> unusable() const noexcept;
    template <class Machine>
    [[nodiscard]] Machine &machine()
    {
        return std::get<Machine>(engine().find(id_)->machine);
    }
    void count(stat which) { engine().count(*engine().find(id_), which); }
    // The short way of a message; null: it has to go the long one.
    [[nodiscard]] core::pipe *put_now(const protocol::direct_way &way, bytes body)
    {
        return way.pipe == protocol::no_pipe || body.size() > message_max_
                   ? nullptr
                   : engine().put_now(*engine().find(id_), way, body);
    }
    // A frame holding `body` if there is one without waiting.
    [[nodiscard]] core::frame *frame_now(bytes body) noexcept
    {
        auto &pool = engine().pool();
        auto *f = body.size() <= message_max_ && body.size() < pool.large_bytes_min()
                      ? pool.allocate(body.size())
                      : nullptr;
        if (f && !body.empty())
            std::memcpy(f->data(), body.data(), body.size());
        return f;
    }
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
    [[nodiscard]] std::optional<sp::pipe_info> known(pipe_id pipe); // with the lock held
    void describe_stream(sp::pipe_info &info, stream_id stream);
    void name_endpoint(sp::pipe_info &info, core::endpoint_id endpoint);
    [[nodiscard]] std::uint64_t on_its_way(); // queued here, or not confirmed by a peer
    [[nodiscard]] std::string cause_of(const own_endpoint &e, const core::dial_failure &f) const;
    [[nodiscard]] static std::string cure_of(const own_endpoint &e);
    [[nodiscard]] error error_of(const own_endpoint &e, const core::dial_failure &f) const;
    void forget_endpoint(endpoint_id id) noexcept;

    std::shared_ptr<node> node_;
    core::socket_id id_;
    protocol::role role_;
    std::chrono::nanoseconds linger_;
    transport::stream_options local_;
    std::uint32_t message_max_;
    std::optional<std::chrono::nanoseconds> send_timeout_, recv_timeout_;
    protocol::context_id own_context_{};
    bool closed_ = false;
    std::vector<own_endpoint> endpoints_;
};

// What a kernel vouches for goes into what the application is told.
void describe_process(sp::pipe_info &info, const std::optional<credentials> &who);

// How the facade reaches into the public classes.
struct access {
    // A message over a frame whose one reference it takes.
    template <class Message>
    static void fill(Message &m, const std::shared_ptr<node> &home, core::frame &f,
                     core::pipe_id pipe)
    {
        home->engine().pool().lend();
        m.node_ = home.get();
        m.frame_ = &f;
        m.body_ = f.body();
        m.pipe_ = static_cast<pipe_id>(pipe);
        m.transport_ = f.transport; // its pipe may have gone since
    }
    static void bind(request &r, std::shared_ptr<socket_core> home, protocol::ticket_id ticket)
    {
        r.home_ = std::move(home);
        r.ticket_ = static_cast<std::uint32_t>(ticket);
    }
    static loan make_loan(const std::shared_ptr<node> &home, core::frame &f)
    {
        home->engine().pool().lend();
        loan l;
        l.node_ = home.get();
        l.frame_ = &f;
        l.body_ = f.bytes();
        return l;
    }
    // The loan's frame, cut to its size. Null: it is empty, or of another engine.
    static core::frame *frame_of(const loan &l, const std::shared_ptr<node> &home)
    {
        auto *f = l.node_ == home.get() ? static_cast<core::frame *>(l.frame_) : nullptr;
        if (f)
            f->size = static_cast<std::uint32_t>(l.body_.size());
        return f;
    }
    // The same of a message that was received; its frame keeps the header in front of the body.
    static core::frame *frame_of(const message &m, const std::shared_ptr<node> &home)
    {
        return m.node_ == home.get() ? static_cast<core::frame *>(m.frame_) : nullptr;
    }
    [[nodiscard]] static bool is_at(const message &m, const std::shared_ptr<node> &home)
    {
        return m.frame_ && m.node_ == home.get();
    }
    template <class RawMessage>
    static void set_header(RawMessage &m, bytes header)
    {
        std::ranges::copy(header, m.header_.begin());
        m.header_size_ = static_cast<std::uint8_t>(header.size());
    }
    // Its frame is the engine's now.
    template <class Holder>
    static void empty(Holder &h)
    {
        h.node_->engine().pool().regain();
        h.frame_ = nullptr;
        h.body_ = {};
    }
    static core::frame *take(loan &l, const std::shared_ptr<node> &home)
    {
        auto *f = frame_of(l, home);
        if (f)
            empty(l);
        return f;
    }
    static const std::shared_ptr<socket_core> &core_of(const socket &s) { return s.core_; }
    static const std::shared_ptr<node> &node_of(const engine &e) { return e.node_; }
};

template <class Open>
result<std::shared_ptr<socket_core>> socket_core::open(const options &o, protocol::role role,
                                                       Open &&open, form how)
{
    if (auto wrong = refuse(o, role, how))
        return std::unexpected(std::move(*wrong));
    auto home = o.on ? result<std::shared_ptr<node>>(access::node_of(*o.on)) : node::shared();
    if (!home)
        return std::unexpected(home.error());
    const auto message_max = message_max_of(o, (*home)->options().memory_max);
    if (!message_max)
        return std::unexpected(message_max.error());
    auto shaping = shaping_of(o, role);
    shaping.message_max = *message_max;
    std::optional<core::socket_id> id;
    {
        const auto held = (*home)->claim();
        if ((*home)->forked())
            return std::unexpected(errc::forked);
        id = open((*home)->engine(), shaping);
    }
    if (!id)
        return std::unexpected(error::numbered(2031, "no more than 4096 sockets on one engine"));
    auto made = std::make_shared<socket_core>(*home, *id, o, role, *message_max);
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
