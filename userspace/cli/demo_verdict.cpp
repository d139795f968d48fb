// SPDX-License-Identifier: BSD-2-Clause
//
// See demo_verdict.hpp.
#include "userspace/cli/demo_verdict.hpp"

#include "userspace/cli/text.hpp"

#include <algorithm>
#include <fmt/format.h>

namespace sp::cli {
namespace {

std::uint64_t sum_of(const xdp_proof &p, stat_kind kind, stat except = stat::xdp_steered)
{
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < p.counted.size(); ++i)
        if (stat_table[i].kind == kind && static_cast<stat>(i) != except)
            sum += p.counted[i];
    return sum;
}

// SP packets that the kernel got: everything that passed but other protocols, of which there are
// ARP and TCP.
std::uint64_t passed_of(const xdp_proof &p)
{
    return sum_of(p, stat_kind::pass, stat::xdp_not_sp);
}

std::string by_reason(const std::array<xdp_proof, 6> &all, stat_kind kind)
{
    std::string text;
    for (std::size_t i = 0; i < SP_XDP_STATS; ++i) {
        std::uint64_t n = 0;
        for (const auto &p : all)
            n += p.counted[i];
        if (stat_table[i].kind == kind && static_cast<stat>(i) != stat::xdp_not_sp && n > 0)
            text +=
                fmt::format("{}{} {}", text.empty() ? ": " : ", ", stat_table[i].name, grouped(n));
    }
    return text;
}

std::unexpected<error> not_by_xdp(std::string why)
{
    return std::unexpected(error::numbered(9001, "the messages did not all go through XDP",
                                           std::move(why), "sp doctor, and please report it"));
}

// Of lone messages each is a packet at least; of those that pile up many share one, and each was
// asked which way it came. The kernel saw none.
result<void> look_at(const xdp_proof &proof, std::uint64_t packets)
{
    if (proof.counted[SP_XDP_steered] < packets)
        return not_by_xdp(fmt::format("the program steered {} packets, and there were at least {}",
                                      proof.counted[SP_XDP_steered], packets));
    if (proof.unknown_protocols > 0)
        return not_by_xdp("the kernel's IP layer saw packets of a protocol it does not know");
    return {};
}

json::object object_of(const figures &f)
{
    return {
        {"asked", f.asked}, {"answered", f.answered}, {"p50_us", f.p50_us}, {"p99_us", f.p99_us}};
}

} // namespace

std::string_view name_of(manner how) noexcept
{
    return how == manner::spinning ? "spinning" : "standard";
}

std::string comparison_of(const phase &p)
{
    const auto ratio = times_faster(p);
    return ratio >= 1 || ratio == 0 ? fmt::format("sp is {:.1f} times faster", ratio)
                                    : fmt::format("TCP is {:.1f} times faster", 1 / ratio);
}

double times_faster(const phase &p) noexcept
{
    return p.ours.p50_us > 0 ? p.theirs.p50_us / p.ours.p50_us : 0;
}

std::string figures_line(std::string_view word, std::string_view name, const figures &f,
                         std::string_view remark)
{
    auto line = fmt::format(
        "      {:<9} {:<9} {:>7} asked  {:>7} answered   p50 {:5.1f} us   p99 {:6.1f} us   {}",
        word, name, grouped(f.asked), grouped(f.answered), f.p50_us, f.p99_us, remark);
    line.erase(line.find_last_not_of(' ') + 1);
    return line;
}

std::string proof_of(const story &run)
{
    const auto &s = run.spinning.proof, &d = run.standard.proof;
    const auto &u = run.use_proof;
    const std::array all{s[0], s[1], d[0], d[1], u[0], u[1]};
    const auto steered = [&](unsigned side) {
        return s[side].counted[SP_XDP_steered] + d[side].counted[SP_XDP_steered] +
               u[side].counted[SP_XDP_steered];
    };
    std::uint64_t passed = 0, dropped = 0, unknown = 0;
    for (const auto &p : all) {
        passed += passed_of(p);
        dropped += sum_of(p, stat_kind::drop);
        unknown += p.unknown_protocols;
    }
    const auto &so = run.spinning.ours, &st = run.standard.ours;
    return fmt::format(
        "      proof     steered into rings by XDP: {} packets at a, {} at b\n"
        "                passed to the kernel: {} sp packets{}; dropped: {}{}\n"
        "                unknown to the kernel (InUnknownProtos): {}; lost: {} of {} requests",
        grouped(steered(0)), grouped(steered(1)), grouped(passed), by_reason(all, stat_kind::pass),
        grouped(dropped), by_reason(all, stat_kind::drop), grouped(unknown),
        grouped(so.asked + st.asked - so.answered - st.answered), grouped(so.asked + st.asked));
}

result<void> judge(const story &run)
{
    for (const auto *p : {&run.spinning, &run.standard}) {
        if (p->ours.answered != p->ours.asked)
            return std::unexpected(
                error::numbered(9001, "messages were lost", "", "please report it"));
        if (p->ours.via_xdp != p->ours.answered || p->served_via_xdp != p->ours.answered)
            return not_by_xdp(fmt::format("of {} requests {} came through AF_XDP, of {} answers {}",
                                          p->ours.asked, p->served_via_xdp, p->ours.answered,
                                          p->ours.via_xdp));
        for (const auto &proof : p->proof)
            if (auto by_xdp = look_at(proof, p->ours.answered); !by_xdp)
                return by_xdp;
    }
    for (unsigned side = 0; side < 2; ++side)
        if (auto by_xdp = look_at(run.use_proof[side], run.uses.received_by(side) > 0); !by_xdp)
            return by_xdp;
    return run.uses.judge();
}

json::object object_of(const story &o)
{
    json::object whole;
    for (const auto &[name, p] :
         {std::pair("spinning", &o.spinning), std::pair("standard", &o.standard)}) {
        if (p->ours.asked == 0)
            continue;
        json::object members{{"sp", object_of(p->ours)}};
        if (p->theirs.asked > 0) {
            members.push_back({"tcp", object_of(p->theirs)});
            members.push_back({"times_faster", times_faster(*p)});
            for (unsigned side = 0; side < 2; ++side)
                members.push_back(
                    {side ? "at_b" : "at_a",
                     json::object{{"steered", p->proof[side].counted[SP_XDP_steered]},
                                  {"passed", passed_of(p->proof[side])},
                                  {"dropped", sum_of(p->proof[side], stat_kind::drop)},
                                  {"unknown_to_the_kernel", p->proof[side].unknown_protocols}}});
        }
        whole.push_back({name, std::move(members)});
    }
    whole.push_back({"use_cases", o.uses.object()});
    return whole;
}

} // namespace sp::cli
