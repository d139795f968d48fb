// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/transports.hpp"

#include "userspace/address.hpp"
#include "userspace/transport/netns.hpp"
#include "userspace/transport/nexthop.hpp"

#include <algorithm>
#include <cstring>
#include <net/if.h>
#include <thread>

namespace sp {
namespace {

std::string text_of_error(std::errc code)
{
    return std::strerror(static_cast<int>(code));
}

std::string interface_name(unsigned ifindex)
{
    char name[IF_NAMESIZE] = {};
    return ::if_indextoname(ifindex, name) ? name : "";
}

xdp::load_options load_options_of(const engine_options &options)
{
    xdp::load_options wanted;
    wanted.protocol = options.ip_protocol;
    wanted.udp_port = options.udp_port;
    return wanted;
}

// An address that somebody else can dial.
std::string shown(const url &u, const sp_address &address, std::uint16_t port)
{
    return "ip://" + text_of(address, port) + (u.encapsulated ? "?encap=udp" : "");
}

error not_read(const std::string &interface, std::uint16_t read, std::uint16_t wanted)
{
    return error::numbered(
        1013, "the XDP program on " + interface + " does not steer what is behind UDP",
        "it reads " + (read ? "UDP port " + std::to_string(read) : std::string("no UDP port")) +
            ", this engine uses " + std::to_string(wanted),
        "sp xdp load " + interface + " --replace --udp-port " + std::to_string(wanted));
}

transport::stream_address stream_address_of(const url &u)
{
    using enum transport::stream_family;
    switch (u.scheme) {
    case scheme::ipc:
        return {.family = ipc, .name = u.path};
    case scheme::abstract:
        return {.family = abstract, .name = u.path};
    default:
        return {.family = tcp, .name = u.host, .port = u.port};
    }
}

} // namespace

result<void> transports::may_use_ip(const url &u) const
{
    if (options_->insecure)
        return {};
    return std::unexpected(
        error::numbered(3001, "ip://" + u.host + ':' + std::to_string(u.port) +
                                  " needs keys, or a word that plaintext is meant"));
}

transports::road *transports::find(std::size_t slot) noexcept
{
    const auto found = std::ranges::find(roads_, slot, &road::slot);
    return found == roads_.end() ? nullptr : &*found;
}

// The port calls are the same on both IP transports.
template <class F>
auto transports::on_ip(const road &r, F &&f)
{
    auto &any = engine_->transport_at(r.slot);
    if (auto *x = any.as<transport::xdp>())
        return f(*x);
    return f(*any.as<transport::rawip>());
}

result<transports::road *> transports::add(carrier c, scheme what, std::string interface)
{
    const int fd = c.wake_fd();
    const auto slot = engine_->add_transport(std::move(c));
    if (auto watched = waiter_->add(fd); !watched) {
        engine_->remove_transport(slot);
        return std::unexpected(watched.error());
    }
    return &roads_.emplace_back(
        road{.slot = slot, .what = what, .interface = std::move(interface)});
}

result<transports::road *> transports::open_kernel()
{
    for (auto &r : roads_)
        if (r.what == scheme::ip && r.interface.empty())
            return &r;
    auto opened = transport::rawip::open({.protocol = options_->ip_protocol,
                                          .netns_fd = options_->netns_fd,
                                          .udp_port = options_->udp_port},
                                         engine_->stats());
    if (!opened)
        return std::unexpected(opened.error());
    return add(carrier(std::move(*opened)), scheme::ip, "");
}

result<transports::road *> transports::open_xdp(const url &u, const std::string &interface)
{
    for (auto &r : roads_)
        if (r.what == scheme::ip && r.interface == interface)
            return &r;
    auto program = xdp::steering::open_pinned(interface, options_->pin_root);
    const bool attach = !program && u.io == io_path::xdp && program.error() == errc::not_found;
    if (attach)
        program = xdp::steering::attach(interface, load_options_of(*options_));
    if (!program)
        return std::unexpected(program.error());
    if (u.encapsulated && program->udp_port() != options_->udp_port)
        return std::unexpected(not_read(interface, program->udp_port(), options_->udp_port));
    auto opened = transport::xdp::open(options_for(interface, *program), engine_->stats());
    if (!opened)
        return std::unexpected(opened.error());
    auto made = add(carrier(std::move(*opened), std::move(*program)), scheme::ip, interface);
    if (made)
        (*made)->attached_here = attach;
    return made;
}

transport::xdp_options transports::options_for(const std::string &interface,
                                               const xdp::steering &program) const
{
    transport::xdp_options wanted;
    wanted.interface = interface;
    wanted.ifindex = program.ifindex();
    wanted.maps = {.xsks_fd = program.xsks_fd(),
                   .ports_fd = program.ports_fd(),
                   .local_fd = program.local_fd()};
    wanted.frames = options_->frames;
    wanted.native = program.attached_mode() == xdp::mode::native;
    wanted.kernel = {.protocol = options_->ip_protocol,
                     .netns_fd = options_->netns_fd,
                     .udp_port = options_->udp_port};
    return wanted;
}

// Nothing tells when a program is detached or attached, so it is asked, while packets are moving.
// They take the kernel's way meanwhile, and nothing is lost by looking late.
void transports::tend(instant now) noexcept
{
    constexpr auto tend_every = std::chrono::milliseconds(250);
    const auto by_rings = [](const road &r) {
        return r.what == scheme::ip && !r.interface.empty();
    };
    if (now - tended_at_ < tend_every || std::ranges::none_of(roads_, by_rings))
        return;
    tended_at_ = now;
    const auto inside = transport::netns_visit::enter(options_->netns_fd);
    if (!inside)
        return;
    for (auto &r : roads_) {
        if (!by_rings(r))
            continue;
        auto &c = engine_->transport_at(r.slot);
        if (!c.as<transport::xdp>()->accelerated() || !c.program()->attached())
            revive(r);
    }
}

// Fails as long as there is no program or no device. One that this process had attached is attached
// again only to a new device: from the old one somebody has taken it.
void transports::revive(road &r) noexcept
{
    auto &c = engine_->transport_at(r.slot);
    auto program = xdp::steering::open_pinned(r.interface, options_->pin_root);
    const bool device_went = !c.as<transport::xdp>()->accelerated() ||
                             ::if_nametoindex(r.interface.c_str()) != c.program()->ifindex();
    const bool again =
        !program && r.attached_here && device_went && program.error() == errc::not_found;
    if (again)
        program = xdp::steering::attach(r.interface, load_options_of(*options_));
    if (!program)
        return;
    if (!c.as<transport::xdp>()->follow(options_for(r.interface, *program)))
        return;
    c.set_program(std::move(*program));
    r.attached_here = again;
}

// Called inside the node's network namespace.
result<transports::road *> transports::ip_road(const url &u, const std::string &interface)
{
    if (u.io == io_path::kernel || (u.io == io_path::automatic && interface.empty()))
        return open_kernel();
    if (interface.empty())
        return std::unexpected(error::numbered(
            2001, "io=xdp needs one interface", "the address does not name one of this host",
            "add &if=IFACE, or give the interface's own address"));
    auto fast = open_xdp(u, interface);
    if (fast || u.io == io_path::xdp)
        return fast;
    return open_kernel();
}

// A road that carries encapsulated packets too, if the address asks for them.
result<transports::road *> transports::road_for(const url &u, const std::string &interface)
{
    auto r = ip_road(u, interface);
    if (!r || !u.encapsulated)
        return r;
    if (auto open = on_ip(**r, [](auto &t) { return t.encapsulate(); }); !open) {
        if ((*r)->users == 0)
            close(**r);
        return std::unexpected(open.error());
    }
    return r;
}

void transports::close(const road &r) noexcept
{
    waiter_->remove(engine_->transport_at(r.slot).wake_fd());
    engine_->remove_transport(r.slot);
    std::erase_if(roads_, [&](const road &each) { return &each == &r; });
}

result<place> transports::listen(const url &u, const transport::stream_options &options)
{
    const bool narrowed = !options.allow_uid.empty() || !options.allow_gid.empty();
    // Better no listener than one that lets in who was meant to stay out.
    if (narrowed && (u.scheme == scheme::ip || u.scheme == scheme::tcp))
        return std::unexpected(error::numbered(
            2025, "allow_uid and allow_gid work on unixgram://, ipc:// and abstract:// only",
            "between hosts nobody vouches for the user of a peer",
            "listen at a path, or leave the lists out"));
    switch (u.scheme) {
    case scheme::ip:
        return listen_ip(u);
    case scheme::unixgram:
        return listen_path(u, options);
    case scheme::ipc:
    case scheme::abstract:
    case scheme::tcp:
        break;
    }
    return listen_stream(u, options);
}

result<place> transports::dial(const url &u, const transport::stream_options &options)
{
    switch (u.scheme) {
    case scheme::ip:
        return dial_ip(u);
    case scheme::unixgram:
        return dial_path(u);
    case scheme::ipc:
    case scheme::abstract:
    case scheme::tcp:
        break;
    }
    return dial_stream(u, options);
}

// ---- byte streams ----

result<place> transports::watch_streams(place_id made)
{
    auto &streams = engine_->streams();
    if (!streams_watched_)
        if (auto watched = waiter_->add(streams.wake_fd()); !watched) {
            streams.close_place(made);
            return std::unexpected(watched.error());
        }
    streams_watched_ = true;
    return place{.stream = made, .peer = {}, .shown = streams.url(made)};
}

result<place> transports::listen_stream(const url &u, transport::stream_options options)
{
    options.netns_fd = options_->netns_fd;
    auto inside = transport::netns_visit::enter(options.netns_fd);
    if (!inside)
        return std::unexpected(inside.error());
    auto made = engine_->streams().listen(stream_address_of(u), options);
    if (!made)
        return std::unexpected(made.error());
    return watch_streams(*made);
}

result<place> transports::dial_stream(const url &u, transport::stream_options options)
{
    options.netns_fd = options_->netns_fd;
    const auto where = stream_address_of(u);
    if (u.scheme == scheme::tcp &&
        (u.port == 0 || u.host == "*" || u.host == "0.0.0.0" || u.host == "::"))
        return std::unexpected(error::numbered(2001, url_of(where) + " cannot be dialed", "",
                                               "dial the address and port that the listener has"));
    auto made = engine_->streams().add_target(where, options);
    if (!made)
        return std::unexpected(made.error());
    return watch_streams(*made);
}

// ---- unixgram ----

// Large messages can be handed to peers of this host, if they lie in memory that is made for it.
void transports::lend_memory() noexcept
{
    if (options_->ring_bytes > 0)
        engine_->pool().lend_from(transport::make_large, options_->handover_bytes.value_or(
                                                             transport::handover_bytes_usual()));
}

result<place> transports::listen_path(const url &u, const transport::stream_options &options)
{
    auto opened = transport::unixgram::listen(
        u.path, options.ipc_mode, engine_->stats(),
        {.uids = options.allow_uid, .gids = options.allow_gid},
        {.sleeper = waiter_, .ring_bytes = options_->ring_bytes, .rings = rings_});
    if (!opened)
        return std::unexpected(opened.error());
    auto made = add(carrier(std::move(*opened)), scheme::unixgram, "");
    if (!made)
        return std::unexpected(made.error());
    lend_memory();
    ++(*made)->users;
    return place{.stream = {}, .slot = (*made)->slot, .peer = {}, .shown = "unixgram://" + u.path};
}

result<place> transports::dial_path(const url &u)
{
    auto opened = transport::unixgram::dial(
        u.path, engine_->stats(),
        {.sleeper = waiter_, .ring_bytes = options_->ring_bytes, .rings = rings_});
    if (!opened)
        return std::unexpected(opened.error());
    auto made = add(carrier(std::move(*opened)), scheme::unixgram, "");
    if (!made)
        return std::unexpected(made.error());
    lend_memory();
    ++(*made)->users;
    return place{.stream = {},
                 .slot = (*made)->slot,
                 .peer = transport::unixgram::listener_address(),
                 .shown = "unixgram://" + u.path};
}

// ---- ip ----

result<place> transports::listen_ip(const url &u)
{
    if (auto allowed = may_use_ip(u); !allowed)
        return std::unexpected(allowed.error());
    auto inside = transport::netns_visit::enter(options_->netns_fd);
    if (!inside)
        return std::unexpected(inside.error());
    auto address = resolve_host(u.host);
    if (!address)
        return std::unexpected(address.error());
    auto interface = u.interface;
    if (!is_any(*address)) {
        auto owner = interface_of(*address);
        if (!owner)
            return std::unexpected(owner.error());
        if (interface.empty() && !is_loopback(*address))
            interface = *owner;
    }
    auto r = road_for(u, interface);
    if (!r)
        return std::unexpected(r.error());
    std::uint16_t port = u.port;
    if (port == 0) {
        auto chosen = on_ip(**r, [](auto &t) { return t.add_ephemeral_port(); });
        if (!chosen)
            return std::unexpected(chosen.error());
        port = *chosen;
    } else if (auto added = on_ip(**r, [&](auto &t) { return t.add_port(port); }); !added) {
        return std::unexpected(added.error());
    }
    ++(*r)->users;
    return place{.stream = {},
                 .slot = (*r)->slot,
                 .local_port = port,
                 .peer = {},
                 .shown = shown(u, *address, port)};
}

result<place> transports::dial_ip(const url &u)
{
    if (auto allowed = may_use_ip(u); !allowed)
        return std::unexpected(allowed.error());
    auto inside = transport::netns_visit::enter(options_->netns_fd);
    if (!inside)
        return std::unexpected(inside.error());
    auto address = resolve_host(u.host);
    if (!address)
        return std::unexpected(address.error());
    if (is_any(*address) || u.port == 0)
        return std::unexpected(
            error::numbered(2001, "ip://" + text_of(*address, u.port) + " cannot be dialed", "",
                            "dial the address and port that the listener has"));
    std::string interface = u.interface;
    if (interface.empty() && u.io != io_path::kernel) {
        auto routes = transport::nexthop::open();
        if (!routes)
            return std::unexpected(routes.error());
        const auto hop = routes->resolve(*address, {});
        if (!hop && u.io == io_path::xdp)
            return std::unexpected(
                error::numbered(1023, "no route to " + u.host, text_of_error(hop.error())));
        if (hop && !hop->local) // this host itself: packets never leave, XDP never sees them
            interface = interface_name(hop->oif);
    }
    auto r = road_for(u, interface);
    if (!r)
        return std::unexpected(r.error());
    if ((*r)->dialer_port == 0) {
        auto chosen = on_ip(**r, [](auto &t) { return t.add_ephemeral_port(); });
        if (!chosen)
            return std::unexpected(chosen.error());
        (*r)->dialer_port = *chosen;
    }
    ++(*r)->users;
    if (u.encapsulated)
        address->port = SP_BE16(options_->udp_port);
    return place{.stream = {},
                 .slot = (*r)->slot,
                 .local_port = (*r)->dialer_port,
                 .peer = *address,
                 .shown = shown(u, *address, u.port)};
}

void transports::leave(const place &p, bool listened) noexcept
{
    if (p.stream)
        return engine_->streams().close_place(*p.stream);
    auto *r = find(p.slot);
    if (!r)
        return;
    if (listened && r->what == scheme::ip)
        on_ip(*r, [&](auto &t) { t.remove_port(p.local_port); });
    if (--r->users == 0)
        close(*r);
}

bool transports::arm() noexcept
{
    bool quiet = true;
    std::chrono::nanoseconds patience{0};
    for (const auto &r : roads_) {
        auto &c = engine_->transport_at(r.slot);
        quiet = c.arm() && quiet;
        patience = std::max(patience, c.patience());
    }
    if (!quiet || patience == std::chrono::nanoseconds(0))
        return quiet;
    // Whoever else wants this CPU has it meanwhile.
    const auto until = engine_clock::now() + patience;
    do
        std::this_thread::yield();
    while (engine_clock::now() < until);
    return std::ranges::all_of(
        roads_, [&](const road &r) { return engine_->transport_at(r.slot).quiet(); });
}

void transports::disarm() noexcept
{
    for (const auto &r : roads_)
        engine_->transport_at(r.slot).disarm();
}

bool transports::stalled() const noexcept
{
    return std::ranges::any_of(
        roads_, [&](const road &r) { return engine_->transport_at(r.slot).stalled(); });
}

} // namespace sp
