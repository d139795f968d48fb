// SPDX-License-Identifier: BSD-2-Clause
//
// `sp device`: two raw sockets of one pattern joined, so that two networks become one. Each of them
// listens or dials as its role does in the other verbs.
#include "sp/device.hpp"

#include "sp/sp.hpp"
#include "userspace/cli/interrupt.hpp"
#include "userspace/cli/options.hpp"
#include "userspace/cli/verbs.hpp"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <utility>

namespace sp::cli {
namespace {

using direction = message_arguments::direction;

// Which role faces those at the first URL and at the second, and what each does there.
struct joint {
    std::string_view name;
    pattern first;
    direction first_way;
    pattern second;
    direction second_way;
};

constexpr std::array joints{
    joint{"reqrep", pattern::rep, direction::listen, pattern::req, direction::dial},
    joint{"pubsub", pattern::sub, direction::dial, pattern::pub, direction::listen},
    joint{"pushpull", pattern::pull, direction::dial, pattern::push, direction::listen},
    joint{"survey", pattern::respondent, direction::dial, pattern::surveyor, direction::listen},
    joint{"bus", pattern::bus, direction::listen, pattern::bus, direction::dial},
    joint{"pair", pattern::pair, direction::listen, pattern::pair, direction::dial},
};

bool counts_hops(pattern as)
{
    return as == pattern::rep || as == pattern::respondent || as == pattern::pair;
}

class bridge {
public:
    bridge(const device_arguments &arguments, console &out) : arguments_(arguments), out_(out) {}

    [[nodiscard]] result<void> run(const std::stop_token &stop);
    int tell(int status) const;

private:
    struct end {
        pattern as;
        direction way;
        const std::string &url;
    };

    [[nodiscard]] result<raw> open(const end &of);

    const device_arguments &arguments_;
    console &out_;
    std::optional<engine> engine_;
    device_counters counters_;
};

result<raw> bridge::open(const end &of)
{
    options how;
    if (auto set = set_options(arguments_.set, how); !set)
        return std::unexpected(set.error());
    if (arguments_.ttl_max && counts_hops(of.as))
        how.ttl_max =
            static_cast<std::uint32_t>(std::min<std::uint64_t>(*arguments_.ttl_max, 1000));
    how.on = &*engine_;
    auto opened = raw::open(of.as, how);
    if (!opened)
        return opened;
    const auto way = arguments_.way == direction::usual ? of.way : arguments_.way;
    const auto endpoint = way == direction::listen ? opened->listen(of.url) : opened->dial(of.url);
    if (!endpoint)
        return std::unexpected(endpoint.error());
    if (way == direction::listen) {
        const auto real = opened->url(*endpoint);
        out_.status(fmt::format("listening at {}", real ? *real : of.url));
    }
    return opened;
}

result<void> bridge::run(const std::stop_token &stop)
{
    const auto found = std::ranges::find(joints, arguments_.pattern, &joint::name);
    if (found == joints.end())
        return std::unexpected(error::numbered(
            4002, fmt::format("unknown pattern \"{}\"", arguments_.pattern),
            "known: reqrep pubsub pushpull survey bus pair", "sp device PATTERN URL URL"));
    if (arguments_.ttl_max && !counts_hops(found->first) && !counts_hops(found->second))
        return std::unexpected(error::numbered(
            2008, fmt::format("messages of {} carry no hops to be counted", found->name),
            "--ttl-max is for reqrep, survey and pair"));
    auto own = engine::open({.insecure = plaintext_allowed(arguments_.insecure)});
    if (!own)
        return std::unexpected(own.error());
    engine_.emplace(std::move(*own));
    auto first = open({found->first, found->first_way, arguments_.first});
    if (!first)
        return std::unexpected(first.error());
    auto second = open({found->second, found->second_way, arguments_.second});
    if (!second)
        return std::unexpected(second.error());
    device_options how{.until = stop, .tap = {}, .counters = &counters_};
    if (!arguments_.tap.empty()) {
        auto tap = raw::open(pattern::pub, {.on = &*engine_});
        if (!tap)
            return std::unexpected(tap.error());
        if (auto listens = tap->listen(arguments_.tap); !listens)
            return std::unexpected(listens.error());
        how.tap.emplace(std::move(*tap));
    }
    return sp::device(std::move(*first), std::move(*second), std::move(how));
}

int bridge::tell(int status) const
{
    json::object ways;
    for (const auto &[name, way] :
         {std::pair<const char *, const device_way &>("there", counters_.there),
          std::pair<const char *, const device_way &>("back", counters_.back)}) {
        out_.detail(fmt::format("{}: {} received, {} forwarded, {} dropped; the tap took {}, "
                                "missed {}",
                                name, way.received.load(), way.forwarded.load(), way.dropped.load(),
                                way.tapped.load(), way.missed.load()));
        ways.push_back({name, json::object{{"received", way.received.load()},
                                           {"forwarded", way.forwarded.load()},
                                           {"dropped", way.dropped.load()},
                                           {"tapped", way.tapped.load()},
                                           {"missed", way.missed.load()}}});
    }
    return out_.json() ? out_.object("sp.device/1", status, std::move(ways)) : status;
}

} // namespace

int device(const device_arguments &arguments, console &out)
{
    const interrupt interrupted;
    bridge it(arguments, out);
    if (auto ran = it.run(interrupted.token()); !ran)
        return out.fail(ran.error());
    return it.tell(interrupted.exit_status());
}

} // namespace sp::cli
