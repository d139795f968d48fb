// SPDX-License-Identifier: BSD-2-Clause
//
// The use cases in demo_verdict.hpp: their lines, their verdict and their JSON.
#include "userspace/cli/demo_verdict.hpp"
#include "userspace/cli/text.hpp"

#include <algorithm>
#include <fmt/format.h>

namespace sp::cli {
namespace {

using kind = use_case::kind;

constexpr std::array kinds{kind::configuration, kind::telemetry, kind::health, kind::pairing};

constexpr std::array<std::pair<const char *, const char *>, 4> titles{{{"configuration", "PUB/SUB"},
                                                                       {"telemetry", "PUSH/PULL"},
                                                                       {"health", "SURVEY"},
                                                                       {"pairing", "PAIR"}}};

const auto &title_of(kind what)
{
    return titles[static_cast<std::size_t>(what)];
}

std::unexpected<error> failed(kind what, std::string why)
{
    return std::unexpected(
        error::numbered(9001, fmt::format("the use case {} went wrong", title_of(what).first),
                        std::move(why), "please report it"));
}

} // namespace

// An answer that came too late was not lost.
std::uint64_t use_cases::both::lost() const noexcept
{
    const auto came = sum(&use_case::received) + sum(&use_case::late);
    return sum(&use_case::sent) - std::min(sum(&use_case::sent), came);
}

void use_cases::hear(unsigned side, const use_case &told)
{
    auto &c = all_[static_cast<std::size_t>(told.what)];
    c.side[side] = told;
    c.told[side] = true;
}

bool use_cases::whole(kind what) const noexcept
{
    return of(what).told[0] && of(what).told[1];
}

std::uint64_t use_cases::received_by(unsigned side) const noexcept
{
    std::uint64_t sum = 0;
    for (const auto &c : all_)
        sum += c.side[side].received;
    return sum;
}

std::string use_cases::line_of(kind what, std::string_view way) const
{
    const auto &c = of(what);
    const auto &[a, b] = c.side;
    std::string text;
    switch (what) {
    case kind::configuration:
        text = fmt::format("{} updates to agents, {} received, lost {}; {} came late and was told",
                           grouped(a.sent), grouped(b.received), c.lost(), b.who.data());
        break;
    case kind::telemetry:
        text = fmt::format("{} metrics, {} at the sink by {} workers, lost {}, twice {}",
                           grouped(a.sent), grouped(a.received), a.who.data(), c.lost(), a.twice);
        break;
    case kind::health:
        text = fmt::format("{} agents asked, {} answered within 500 ms; too slow: {} ({} late)",
                           a.sent, a.received, a.who.data(), a.late);
        break;
    case kind::pairing:
        text = fmt::format("{} lines both ways, {} heard, lost {}; a third was refused: {}",
                           grouped(c.sum(&use_case::sent)), grouped(c.sum(&use_case::received)),
                           c.lost(), b.who.data());
        break;
    }
    const auto &[name, pattern] = title_of(what);
    return fmt::format("      {:<9} {:<9} {}: {}", pattern, way, name, text);
}

result<void> use_cases::judge() const
{
    for (const auto what : kinds) {
        const auto &c = of(what);
        if (!whole(what))
            return failed(what, "one side has not told");
        if (c.lost() > 0 ||
            c.sum(&use_case::received) + c.sum(&use_case::late) != c.sum(&use_case::sent))
            return failed(what, fmt::format("{} sent, {} received", c.sum(&use_case::sent),
                                            c.sum(&use_case::received)));
        if (c.sum(&use_case::twice) > 0)
            return failed(what, fmt::format("{} came twice", c.sum(&use_case::twice)));
        if (c.sum(&use_case::by_way) != c.sum(&use_case::received))
            return failed(what, fmt::format("of {} messages {} came the way that is shown",
                                            c.sum(&use_case::received), c.sum(&use_case::by_way)));
    }
    if (const auto &a = of(kind::health).side[0];
        a.late != 1 || std::string_view(a.who.data()) != "gamma")
        return failed(kind::health, fmt::format("too slow: {}", a.who.data()));
    for (const auto &side : of(kind::pairing).side)
        if (std::string_view(side.who.data()) != "peer_busy")
            return failed(kind::pairing, fmt::format("the third: {}", side.who.data()));
    return {};
}

json::object use_cases::object() const
{
    json::object members;
    for (const auto what : kinds) {
        const auto &c = of(what);
        json::object figures{{"sent", c.sum(&use_case::sent)},
                             {"received", c.sum(&use_case::received)},
                             {"lost", c.lost()},
                             {"twice", c.sum(&use_case::twice)}};
        if (what == kind::health) {
            figures.push_back({"late", c.side[0].late});
            figures.push_back({"too_slow", std::string(c.side[0].who.data())});
        }
        if (what == kind::pairing)
            figures.push_back({"third_refused", std::string(c.side[1].who.data())});
        members.push_back({title_of(what).first, std::move(figures)});
    }
    return members;
}

} // namespace sp::cli
