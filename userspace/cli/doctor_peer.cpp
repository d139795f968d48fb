// SPDX-License-Identifier: BSD-2-Clause
//
// `sp doctor --peer`: the way to another host, as far as questions that need no listener tell. The
// XDP program there answers pings plain and behind UDP alike, so that one answered and the other
// not shows what the network drops.
#include "userspace/cli/finding.hpp"
#include "userspace/cli/host.hpp"

#include "sp/abi/wire.h"

#include <array>
#include <fmt/format.h>

namespace sp::cli {
namespace {

using namespace std::chrono_literals;

constexpr int tries = 3;
constexpr auto patience = 300ms;

enum class reply : std::uint8_t { answered, refused, silence, unknown };

// What became of a question of one size; it is asked again when nothing comes.
reply ask(echo &asker, std::size_t ip_bytes, std::uint64_t &number)
{
    for (int i = 0; i < tries; ++i) {
        if (asker.ask(++number, ip_bytes) != 0)
            return reply::silence; // more than the path is known to carry, or no route
        const auto until = std::chrono::steady_clock::now() + patience;
        while (const auto came = asker.wait(until)) {
            if (came->what == echo::answer::kind::answered && came->number == number)
                return reply::answered;
            if (came->what == echo::answer::kind::refused)
                return reply::refused;
            if (came->what == echo::answer::kind::too_large)
                break;
        }
    }
    return reply::silence;
}

struct contact {
    std::optional<echo> asker;
    reply is = reply::unknown;
    std::uint64_t number = 0;
};

contact try_to(const target &peer, question what, std::uint16_t udp_port)
{
    contact made;
    auto opened = echo::open(peer, what, udp_port);
    if (!opened)
        return made;
    made.asker.emplace(std::move(*opened));
    made.is = ask(*made.asker, 0, made.number);
    return made;
}

finding plain_finding(reply plain, reply behind_udp, reply icmp)
{
    const auto subject = fmt::format("proto {}", SP_IP_PROTOCOL);
    constexpr auto allow =
        "allow IP protocol 253 in the security group or switch, or use ?encap=udp";
    if (plain == reply::answered)
        return {subject, "the XDP program there answers", verdict::ok, ""};
    if (plain == reply::refused)
        return {subject, "reaches the host, which refuses it: sp is not loaded there", verdict::fix,
                "there: sp xdp load IFACE, or start a listener"};
    if (behind_udp == reply::answered)
        return {subject, "no answer and no refusal, while UDP passes: dropped on the way",
                verdict::fix, allow};
    if (icmp != reply::answered && behind_udp != reply::refused)
        return {subject, "no answer", verdict::unknown, "nothing reaches the host"};
    return {subject, "no answer and no refusal", verdict::fix,
            fmt::format("if sp runs there: sp xdp load IFACE there tells; else {}", allow)};
}

finding udp_finding(reply behind_udp, std::uint16_t port)
{
    const auto subject = fmt::format("udp {}", port);
    switch (behind_udp) {
    case reply::answered:
        return {subject, "the XDP program there answers: encap=udp works", verdict::ok, ""};
    case reply::refused:
        return {subject, "reaches the host, which has nobody there", verdict::ok,
                "encap=udp works once sp has it there: sp xdp load IFACE, or a listener"};
    default:
        return {subject, "no answer and no refusal", verdict::unknown,
                "dropped on the way, or sp runs there without the XDP program"};
    }
}

// The largest packet that comes back. What the system knows of the path is tried first; where
// larger ones vanish without a word, the sizes that usual links leave.
finding mtu_finding(contact &by)
{
    constexpr std::array usual{9000uz, 4352uz, 1500uz, 1492uz, 1480uz,
                               1450uz, 1400uz, 1280uz, 576uz};
    std::size_t known = by.asker->mtu();
    for (int i = 0; i < tries && known; ++i) { // each "too large" on the way makes it smaller
        if (ask(*by.asker, known, by.number) == reply::answered)
            return {"path mtu", fmt::format("{}, both ways", known), verdict::ok, ""};
        const auto now = by.asker->mtu();
        if (now >= known)
            break;
        known = now;
    }
    for (const auto size : usual)
        if (size < known && ask(*by.asker, size, by.number) == reply::answered)
            return {"path mtu", fmt::format("{} passes, {} vanishes without a word", size, known),
                    verdict::fix,
                    fmt::format("the same MTU on both ends and between: ip link set IFACE mtu {}",
                                size)};
    return {"path mtu", "only small packets pass", verdict::fix,
            "the same MTU on both ends and between"};
}

} // namespace

void look_at_peer(const target &peer, std::uint16_t udp_port, std::vector<finding> &found)
{
    if (!capabilities::effective().holds(capability::net_raw)) {
        found.push_back(
            {"peer", peer.text + " is not asked", verdict::unknown, "CAP_NET_RAW would tell"});
        return;
    }
    auto plain = try_to(peer, question::ping, udp_port);
    auto behind = try_to(peer, question::ping_behind_udp, udp_port);
    auto icmp = try_to(peer, question::icmp_echo, udp_port);
    const bool up = icmp.is == reply::answered;
    const bool heard = up || plain.is == reply::answered || plain.is == reply::refused ||
                       behind.is == reply::answered || behind.is == reply::refused;
    found.push_back({"peer", peer.text + (up ? " answers ICMP echo" : " does not answer ICMP echo"),
                     heard ? verdict::ok : verdict::fix,
                     up      ? ""
                     : heard ? "it answers other questions"
                             : "is it up? ip route get " + peer.text});
    found.push_back(plain_finding(plain.is, behind.is, icmp.is));
    found.push_back(udp_finding(behind.is, udp_port));
    for (auto *by : {&plain, &behind, &icmp})
        if (by->is == reply::answered) {
            found.push_back(mtu_finding(*by));
            return;
        }
}

} // namespace sp::cli
