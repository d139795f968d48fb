// SPDX-License-Identifier: BSD-2-Clause
//
// `sp xdp load|unload|status`: the operator's side of userspace/xdp.
#include "userspace/xdp/steer.hpp"

#include "userspace/cli/table.hpp"
#include "userspace/cli/verbs.hpp"

#include <algorithm>
#include <fmt/format.h>

namespace sp::cli {
namespace {

using xdp::interface_status, xdp::load_outcome, xdp::load_report;

std::optional<xdp::mode> mode_of(std::string_view word)
{
    if (word == "native" || word == "drv")
        return xdp::mode::native;
    if (word == "skb" || word == "generic")
        return xdp::mode::skb;
    if (word == "auto")
        return xdp::mode::automatic;
    return std::nullopt;
}

std::string_view name_of(load_outcome outcome)
{
    switch (outcome) {
    case load_outcome::loaded:
        return "loaded";
    case load_outcome::already:
        return "already loaded";
    case load_outcome::replaced:
        return "replaced";
    case load_outcome::verified:
        return "verified";
    }
    return "";
}

std::string pin_root_of(const xdp_arguments &arguments)
{
    return arguments.pin_root.empty() ? std::string(xdp::pin_root_default) : arguments.pin_root;
}

std::string sentence(const load_report &r)
{
    if (r.outcome == load_outcome::verified)
        return fmt::format(
            "{}: {} passed the kernel's verifier and a sample packet; nothing is attached",
            r.interface, SP_PROGRAM_NAME);
    return fmt::format("{}: {} {} in {} mode, id {}, tag {}{}, pinned in {}", r.interface,
                       SP_PROGRAM_NAME, name_of(r.outcome), xdp::name_of(r.attached), r.program_id,
                       r.tag, r.counters_kept ? ", counters kept" : "", r.pinned_in);
}

int load(const xdp_arguments &a, console &out)
{
    const auto how = mode_of(a.mode);
    if (!how)
        return out.fail(error::numbered(4002, fmt::format("unknown mode \"{}\"", a.mode),
                                        "known: native skb auto", "sp xdp load IFACE -m native"));
    xdp::load_options options;
    options.udp_port = a.udp_port;
    options.how = *how;
    options.pin_root = pin_root_of(a);
    options.replace = a.replace;
    options.dry_run = a.dry_run;
    const auto report = xdp::load(a.interface, options);
    if (!report)
        return out.fail(report.error());
    if (!report->remark.empty())
        out.warn(fmt::format("sp: {}: not in native mode: {}", report->interface, report->remark));
    if (!out.json())
        return out.print(sentence(*report) + '\n') ? exit_done : exit_failed;
    return out.object("sp.xdp.load/1", exit_done,
                      {{"interface", report->interface},
                       {"outcome", name_of(report->outcome)},
                       {"mode", xdp::name_of(report->attached)},
                       {"program", json::object{{"name", SP_PROGRAM_NAME},
                                                {"id", report->program_id},
                                                {"tag", report->tag}}},
                       {"pinned_in", report->pinned_in},
                       {"counters_kept", report->counters_kept},
                       {"remark", report->remark}});
}

int unload(const xdp_arguments &a, console &out)
{
    const auto done = xdp::unload(a.interface, pin_root_of(a));
    if (!done)
        return out.fail(done.error());
    const int exit = !*done && a.strict ? exit_nothing_there : exit_done;
    if (out.json())
        return out.object("sp.xdp.unload/1", exit,
                          {{"interface", a.interface}, {"unloaded", *done}});
    if (!*done)
        out.status(fmt::format("{}: nothing of sp was loaded", a.interface));
    else if (!out.print(fmt::format("{}: unloaded\n", a.interface)))
        return exit_failed;
    return exit;
}

std::uint64_t sum(const xdp::steer_counters &counters, stat_kind kind)
{
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < counters.size(); ++i)
        if (stat_table[i].kind ==
            kind) // the table begins with the SP_XDP lines, in the order of the map
            total += counters[i];
    return total;
}

// Our own or an unknown value in words a person can compare; '-' where there is none.
template <class T>
std::string cell(const std::optional<T> &value)
{
    return value ? fmt::format("{}", *value) : "-";
}

row row_of(const interface_status &s)
{
    const auto count = [&](stat_kind kind) {
        return s.counters ? fmt::format("{}", sum(*s.counters, kind)) : "-";
    };
    return {s.name,
            std::string(xdp::name_of(s.attached)),
            s.program_name.empty() ? "?" : s.program_name,
            fmt::format("{}", s.program_id),
            s.tag.empty() ? "?" : s.tag,
            cell(s.layout),
            cell(s.ports_served),
            s.uptime
                ? fmt::format("{}s",
                              std::chrono::duration_cast<std::chrono::seconds>(*s.uptime).count())
                : "-",
            count(stat_kind::count),
            count(stat_kind::drop),
            s.kept_by};
}

json::object counters_of(const xdp::steer_counters &counters)
{
    json::object named;
    for (std::size_t i = 0; i < counters.size(); ++i)
        named.push_back({std::string(stat_table[i].name), counters[i]});
    return named;
}

json::object object_of(const interface_status &s)
{
    json::object program{
        {"name", s.program_name}, {"id", s.program_id}, {"tag", s.tag}, {"ours", s.ours}};
    if (!s.version.empty())
        program.push_back({"version", s.version});
    if (s.layout)
        program.push_back({"layout", *s.layout});
    json::object whole{{"name", s.name},
                       {"ifindex", s.ifindex},
                       {"mode", xdp::name_of(s.attached)},
                       {"program", std::move(program)},
                       {"kept_by", s.kept_by}};
    if (s.uptime)
        whole.push_back({"uptime_seconds", std::chrono::duration<double>(*s.uptime).count()});
    if (s.ours) {
        whole.push_back({"protocol", std::uint64_t{s.protocol}});
        whole.push_back({"udp_port", std::uint64_t{s.udp_port}});
        whole.push_back({"miss", s.miss_drops ? "drop" : "pass"});
    }
    if (s.ports_served)
        whole.push_back({"ports", std::uint64_t{*s.ports_served}});
    if (s.counters) {
        whole.push_back({"rx", sum(*s.counters, stat_kind::count)});
        whole.push_back({"passed", sum(*s.counters, stat_kind::pass)});
        whole.push_back({"drops", sum(*s.counters, stat_kind::drop)});
        whole.push_back({"counters", counters_of(*s.counters)});
    }
    return whole;
}

void warn_about(const interface_status &s, console &out)
{
    if (!s.ours)
        return;
    if (s.layout && *s.layout != SP_MAP_LAYOUT)
        out.warn(fmt::format(
            "sp: {}: its program has map layout {}, this sp {}; fix: sp xdp load {} --replace",
            s.name, *s.layout, SP_MAP_LAYOUT, s.name));
    else if (!s.version.empty() && s.version != SP_VERSION)
        out.warn(fmt::format("sp: {}: its program was loaded by sp {}, this is {}", s.name,
                             s.version, SP_VERSION));
}

int status(const xdp_arguments &a, console &out)
{
    const auto found = xdp::status(
        a.interface.empty() ? std::nullopt : std::optional<std::string_view>(a.interface),
        pin_root_of(a));
    if (!found)
        return out.fail(found.error());
    const bool loaded = std::ranges::any_of(*found, &interface_status::ours);
    const int exit = loaded ? exit_done : exit_nothing_there;
    for (const auto &s : *found)
        warn_about(s, out);
    if (out.json()) {
        json::array interfaces;
        for (const auto &s : *found)
            interfaces.emplace_back(object_of(s));
        return out.object("sp.xdp.status/1", exit, {{"interfaces", std::move(interfaces)}});
    }
    if (found->empty()) {
        out.status(fmt::format("no XDP program is attached{}",
                               a.interface.empty() ? "" : " to " + a.interface));
        return exit;
    }
    std::vector<row> rows{{"Interface", "Mode", "Program", "ID", "Tag", "Layout", "Ports", "Uptime",
                           "Rx", "Drops", "Kept by"}};
    for (const auto &s : *found)
        rows.push_back(row_of(s));
    return out.print(columns(rows)) ? exit : exit_failed;
}

} // namespace

int xdp(const xdp_arguments &arguments, console &out)
{
    switch (arguments.what) {
    case xdp_arguments::action::load:
        return load(arguments, out);
    case xdp_arguments::action::unload:
        return unload(arguments, out);
    case xdp_arguments::action::status:
        return status(arguments, out);
    }
    return exit_usage;
}

} // namespace sp::cli
