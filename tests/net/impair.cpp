// SPDX-License-Identifier: BSD-2-Clause
#include "tests/net/impair.hpp"

#include "sp/abi/wire.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdexcept>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

namespace sp::test {
namespace {

constexpr std::size_t links = 2, frame_max = 65536;
constexpr int frames_per_turn = 64;

sim::scenario must_parse(std::string_view text)
{
    auto scenario = sim::parse_scenario(text);
    if (!scenario)
        throw std::runtime_error(std::string(text) + ": " + scenario.error());
    return *scenario;
}

transport::descriptor open_at(const char *interface)
{
    transport::descriptor fd(
        ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, SP_BE16(ETH_P_ALL)));
    sockaddr_ll name{};
    name.sll_family = AF_PACKET;
    name.sll_protocol = SP_BE16(ETH_P_ALL);
    name.sll_ifindex = static_cast<int>(::if_nametoindex(interface));
    constexpr int yes = 1, buffer = 32 << 20;
    if (!fd || name.sll_ifindex == 0 ||
        ::bind(fd.get(), reinterpret_cast<const sockaddr *>(&name), sizeof name) != 0 ||
        ::setsockopt(fd.get(), SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof yes) != 0 ||
        ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer) != 0)
        throw std::runtime_error(std::string("no packet socket at ") + interface + ": " +
                                 std::strerror(errno));
    return fd;
}

// How many bytes stand in front of the SP packet; 0: there is none.
std::size_t before_sp(std::span<const std::byte> frame)
{
    sp_parsed parsed;
    if (sp_parse_frame(frame.data(), frame.data() + frame.size(), SP_IP_PROTOCOL,
                       SP_BE16(SP_UDP_PORT), &parsed) != SP_SHAPE_SP)
        return 0;
    return static_cast<std::size_t>(reinterpret_cast<const std::byte *>(parsed.header) -
                                    frame.data());
}

} // namespace

impair::impair(const hosts &two, std::string_view scenario)
    : scenario_(must_parse(scenario)), sp_(links, scenario_.seed), rest_(links, scenario_.seed),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), space_(frame_max)
{
    text_ = sim::to_text(scenario_);
    {
        const auto inside = enter(two.middle_fd());
        sockets_ = {open_at("mid-a"), open_at("mid-b")};
    }
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t link = 0; link < links; ++link)
        sp_.set(link, scenario_.faults);
    sp_.schedule(start, scenario_.outages);
    rest_.schedule(start, scenario_.outages);
    thread_ = std::jthread([this](const std::stop_token &stop) { run(stop); });
}

impair::~impair()
{
    thread_.request_stop();
    (void)::eventfd_write(wake_.get(), 1);
}

sim::network::tally impair::total() const
{
    const std::scoped_lock lock(held_);
    return sp_.total();
}

void impair::cut(bool yes)
{
    const std::scoped_lock lock(held_);
    for (std::size_t link = 0; link < links; ++link) {
        sp_.cut(link, yes);
        rest_.cut(link, yes);
    }
}

void impair::read(std::size_t link)
{
    const auto now = std::chrono::steady_clock::now();
    for (int i = 0; i < frames_per_turn; ++i) {
        const auto got = ::recv(sockets_[link].get(), space_.data(), space_.size(), 0);
        if (got <= 0)
            return;
        const auto frame = std::span<const std::byte>(space_).first(static_cast<std::size_t>(got));
        const auto clear = before_sp(frame);
        clear ? sp_.submit(now, link, frame, clear) : rest_.submit(now, link, frame);
    }
}

// A device that is down or full loses the frame, as a switch would.
void impair::write(std::size_t link, std::span<const std::byte> frame)
{
    (void)::send(sockets_[1 - link].get(), frame.data(), frame.size(), 0);
}

void impair::run(const std::stop_token &stop)
{
    while (!stop.stop_requested()) {
        auto next = sim::instant::max();
        {
            const std::scoped_lock lock(held_);
            for (std::size_t link = 0; link < links; ++link)
                read(link);
            const auto now = std::chrono::steady_clock::now();
            for (auto *model : {&sp_, &rest_}) {
                model->poll(now, [&](std::size_t link, std::span<const std::byte> frame) {
                    write(link, frame);
                });
                next = std::min(next, model->next_deadline());
            }
        }
        std::array<pollfd, 3> ready{{{sockets_[0].get(), POLLIN, 0},
                                     {sockets_[1].get(), POLLIN, 0},
                                     {wake_.get(), POLLIN, 0}}};
        timespec time{};
        if (next != sim::instant::max()) {
            const auto left =
                std::max(next - std::chrono::steady_clock::now(), sim::instant::duration::zero());
            const auto seconds = std::chrono::floor<std::chrono::seconds>(left);
            time = {seconds.count(), (left - seconds).count()};
        }
        (void)::ppoll(ready.data(), ready.size(), next == sim::instant::max() ? nullptr : &time,
                      nullptr);
    }
}

} // namespace sp::test
