// SPDX-License-Identifier: BSD-2-Clause
//
// How long does a request and its answer take between two hosts, how much of that is sp, and what
// would one have without it? REQ/REP of 64 bytes through AF_XDP and through the kernel, beside bare
// AF_XDP that sends packets of the same size past the same program with no protocol at all, and
// beside TCP_NODELAY and UDP, both on a link with the XDP program, as sp has it, and on a link
// without any. Both ends spin; all ways take turns.
#include "bench/exchanges.hpp"
#include "bench/stage.hpp"
#include "userspace/transport/header_template.hpp"
#include "userspace/transport/steering.hpp"
#include "userspace/transport/xsk.hpp"
#include "userspace/xdp/steer.hpp"

#include <arpa/inet.h>
#include <memory>
#include <netinet/tcp.h>
#include <optional>

namespace {

using namespace sp::bench;

constexpr std::size_t body_size = 64;
constexpr std::uint16_t bare_port = 7002, stream_port = 7003, datagram_port = 7004;
// Header, record, request id, body and trailer: what sp sends for such a request.
constexpr std::size_t packet_bytes = SP_OVERHEAD + SP_RECORD_SIZE + 4 + body_size;

const veth fast{"sp", 0}, bare{"bare", 1}, plain{"plain", 2};

side other(side at)
{
    return at == side::asking ? side::answering : side::asking;
}

contender sp_over(const char *name, const veth &at, const char *port_and_query)
{
    const auto url = "ip://" + at.address(side::answering) + ':' + port_and_query;
    return {name, [url](side mine) { return open_sp(mine, url, body_size, sp::waiting::spin); }};
}

// ---- bare AF_XDP ----

sp_address host_of(const std::string &address)
{
    in_addr four{};
    ::inet_pton(AF_INET, address.c_str(), &four);
    return sp::transport::ipv4_address(&four);
}

// The program, the socket behind it and the headers of the other side. The packet has the form of
// SP, or the program would leave it to the kernel; what is in it is not looked at.
class bare_end {
public:
    [[nodiscard]] static sp::result<bare_end> open(side mine, const veth &at)
    {
        auto program = sp::xdp::steering::attach(at.device(mine), {.how = sp::xdp::mode::native});
        if (!program)
            return std::unexpected(program.error());
        auto memory = sp::transport::umem::create({});
        if (!memory)
            return std::unexpected(memory.error());
        auto socket =
            sp::transport::xsk::open({.interface = at.device(mine), .queue = 0}, std::move(*memory),
                                     sp::transport::zerocopy::automatic);
        if (!socket)
            return std::unexpected(socket.error());
        auto steer = sp::transport::steering::open({.xsks_fd = program->xsks_fd(),
                                                    .ports_fd = program->ports_fd(),
                                                    .local_fd = program->local_fd()});
        if (!steer)
            return std::unexpected(steer.error());
        const std::array own{host_of(at.address(mine))};
        steer->set_addresses(own);
        if (auto port = steer->add_port(bare_port); !port)
            return std::unexpected(port.error());
        if (auto queue = steer->add_socket(0, socket->fd()); !queue)
            return std::unexpected(queue.error());
        const sp::transport::header_template headers(own[0], host_of(at.address(other(mine))),
                                                     at.mac(mine), at.mac(other(mine)),
                                                     SP_IP_PROTOCOL);
        return bare_end(std::move(*program), std::move(*socket), std::move(*steer), headers);
    }

    // False: no frame is free, which cannot be with one packet on its way.
    [[nodiscard]] bool send() noexcept
    {
        auto *packet = socket_.reserve();
        if (!packet)
            return false;
        sp_header header{};
        header.version = SP_WIRE_VERSION;
        header.type = SP_DATA;
        header.dport = header.sport = SP_BE16(bare_port);
        std::memcpy(packet, &header, sizeof header);
        std::memset(packet + sizeof header, 0, packet_bytes - sizeof header);
        headers_.write_before(packet, packet_bytes);
        socket_.submit(headers_.size(), packet_bytes);
        return socket_.kick() == sp::transport::xsk::kicked::done;
    }
    void receive() noexcept
    {
        while (socket_.receive([](std::span<const std::byte>) {}, 1, stats_) == 0) {
        }
    }

private:
    bare_end(sp::xdp::steering program, sp::transport::xsk socket, sp::transport::steering steer,
             const sp::transport::header_template &headers)
        : program_(std::move(program)), socket_(std::move(socket)), steer_(std::move(steer)),
          headers_(headers)
    {
    }

    sp::xdp::steering program_;
    sp::transport::xsk socket_;
    sp::transport::steering steer_; // takes its entries out before the socket closes
    sp::transport::header_template headers_;
    sp::counters stats_;
};

contender bare_over(const char *name, const veth &at)
{
    return {name, [at](side mine) -> sp::result<player> {
                auto end = bare_end::open(mine, at);
                if (!end)
                    return std::unexpected(end.error());
                return [mine, end = std::move(*end)](std::size_t count,
                                                     samples &took) mutable -> sp::result<void> {
                    bool all = true;
                    const auto ask = [&] {
                        all = end.send();
                        if (all)
                            end.receive();
                        return all;
                    };
                    if (mine == side::asking)
                        all = timed(count, took, ask);
                    for (std::size_t n = 0; mine == side::answering && all && n < count; ++n) {
                        end.receive();
                        all = end.send();
                    }
                    return all ? sp::result<void>() : failed("bare AF_XDP cannot send");
                };
            }};
}

// ---- TCP and UDP ----

sockaddr_in name_of(const veth &at, side end, std::uint16_t port)
{
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(port);
    ::inet_pton(AF_INET, at.address(end).c_str(), &name.sin_addr);
    return name;
}

bool is_bound(int to, const sockaddr_in &name)
{
    return ::bind(to, reinterpret_cast<const sockaddr *>(&name), sizeof name) == 0;
}

bool is_connected(int to, const sockaddr_in &name)
{
    return ::connect(to, reinterpret_cast<const sockaddr *>(&name), sizeof name) == 0;
}

fd without_delay(fd made)
{
    const int on = 1;
    (void)::setsockopt(made.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return made;
}

contender tcp_over(const char *name, const veth &at)
{
    return {name, [at](side mine) -> sp::result<player> {
                fd made(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
                const auto answerer = name_of(at, side::answering, stream_port);
                if (mine == side::asking) {
                    if (!is_connected(made.get(), answerer))
                        return failed("cannot connect with TCP", std::strerror(errno));
                    return spinning_on(
                        mine,
                        [made = without_delay(std::move(made))] mutable { return std::move(made); },
                        body_size);
                }
                if (!is_bound(made.get(), answerer) || ::listen(made.get(), 1) != 0)
                    return failed("cannot listen with TCP", std::strerror(errno));
                auto accept = [made = std::move(made)] {
                    return without_delay(fd(::accept4(made.get(), nullptr, nullptr, SOCK_CLOEXEC)));
                };
                return spinning_on(mine, std::move(accept), body_size);
            }};
}

contender udp_over(const char *name, const veth &at)
{
    return {name, [at](side mine) -> sp::result<player> {
                fd made(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
                if (!is_bound(made.get(), name_of(at, mine, datagram_port)) ||
                    !is_connected(made.get(), name_of(at, other(mine), datagram_port)))
                    return failed("no UDP", std::strerror(errno));
                return spinning_on(
                    mine, [made = std::move(made)] mutable { return std::move(made); }, body_size);
            }};
}

int skip(const sp::error &why)
{
    std::printf("  skipped   %s%s%s\n\n", std::string(why.what()).c_str(),
                why.why().empty() ? "" : ": ", std::string(why.why()).c_str());
    return 0;
}

} // namespace

int main()
{
    print_heading("roundtrip_net", "request and answer of 64 bytes between two hosts",
                  "two network namespaces, veth, MTU 1500; 5 rounds of 40 000 exchanges in turns, "
                  "medians of the "
                  "rounds; both ends spin on CPUs of their own");
    if (cpus_allowed() < 2)
        return skip(sp::error::numbered(2037, "two ends that spin need two CPUs"));
    const std::array links{fast, bare, plain};
    const auto place = stage::build(links);
    if (!place)
        return skip(place.error());

    enum way : std::size_t { bare_xdp, sp_xdp, sp_kernel, tcp, udp, tcp_plain, udp_plain };
    const std::array all{bare_over("bare AF_XDP, no protocol", bare),
                         sp_over("sp REQ/REP, io=xdp", fast, "7000?io=xdp"),
                         sp_over("sp REQ/REP, io=kernel, no XDP on link", plain, "7001?io=kernel"),
                         tcp_over("TCP_NODELAY, XDP on link", fast),
                         udp_over("UDP, XDP on link", fast),
                         tcp_over("TCP_NODELAY, no XDP on link", plain),
                         udp_over("UDP, no XDP on link", plain)};
    pair two({.enter = [&](side at) { return place->enter(at); }});
    const auto played = two.play(all);
    if (!played)
        return sp::complain(played.error());

    const auto &o = *played;
    std::printf("  %-40s %8s %8s %9s %12s\n", "", "p50 us", "p99 us", "x bare", "x faster");
    for (std::size_t i = 0; i < all.size(); ++i)
        std::printf("  %-40s %8.2f %8.2f %9.2f %12.2f\n", all[i].name.c_str(), o[i].p50_us,
                    o[i].p99_us, o[i].p50_us / o[bare_xdp].p50_us, o[tcp].p50_us / o[i].p50_us);
    std::puts("  x bare: times the p50 of bare AF_XDP; x faster: how many of its p50 fit that of "
              "TCP, XDP on link");
    print_disturbed(o);
    const auto to_bare = o[sp_xdp].p50_us / o[bare_xdp].p50_us,
               to_tcp = o[tcp].p50_us / o[sp_xdp].p50_us,
               to_plain = o[tcp_plain].p50_us / o[sp_xdp].p50_us;
    print_bar("sp over bare AF_XDP", to_bare, "at most", 1.3, to_bare <= 1.3);
    print_bar("TCP over sp, XDP on the link of both", to_tcp, "at least", 1.8, to_tcp >= 1.8);
    print_bar("TCP on a link without XDP over sp", to_plain, "at least", 1.8, to_plain >= 1.8);
    std::puts("");
    return 0;
}
