// SPDX-License-Identifier: BSD-2-Clause
//
// Loading for good, replacing in place, unloading. The order of steps is such that a failure at any
// of them leaves what was there: pins are made beside the old ones, the link is updated, and only
// then do the names change.
#include "userspace/xdp/addresses.hpp"
#include "userspace/xdp/device.hpp"
#include "userspace/xdp/faults.hpp"
#include "userspace/xdp/pins.hpp"
#include "userspace/xdp/program.hpp"
#include "userspace/xdp/steer.hpp"
#include "userspace/xdp/words.hpp"

#include <bpf/bpf.h>
#include <cerrno>
#include <sys/stat.h>

namespace sp::xdp {
namespace {

load_report report_of(load_outcome outcome, const device &where, mode attached,
                      const program &loaded)
{
    return {outcome, where.name, where.ifindex,       attached, loaded.id, loaded.tag,
            {},      {},         loaded.counters_kept};
}

bool same_options(const sp_config &config, const load_options &options)
{
    return config.protocol == options.protocol && config.udp_port == SP_BE16(options.udp_port) &&
           (config.miss_drops != 0) == options.miss_drops;
}

error other_version(const device &where, std::string why)
{
    return error::numbered(1013, "another sp program is loaded on " + where.name, std::move(why),
                           "sp xdp load " + where.name + " --replace");
}

// Why what is pinned is not what these options ask for; empty when it is.
std::string difference(const pinned &present, const std::optional<sp_config> &config,
                       const program &wanted, const load_options &options)
{
    if (!config || config->layout != SP_MAP_LAYOUT)
        return "its maps have layout " + (config ? std::to_string(config->layout) : "unknown") +
               ", this sp needs " + std::to_string(SP_MAP_LAYOUT);
    const auto facts = describe_program(present.program.get());
    if (!facts || facts->tag != wanted.tag)
        return "its tag is " + (facts ? facts->tag : "unknown") + ", that of this sp " + wanted.tag;
    if (!wanted.counters_kept)
        return "its counters have another form";
    if (!same_options(*config, options))
        return "it has other options: protocol " + std::to_string(config->protocol) +
               ", UDP port " + std::to_string(SP_BE16(config->udp_port)) + ", a miss " +
               (config->miss_drops ? "drops" : "passes");
    return {};
}

result<load_report> verify(const device &where, const load_options &options)
{
    const auto loaded = load_program(options);
    if (!loaded)
        return std::unexpected(loaded.error());
    if (const auto ran = run_sample(*loaded); !ran)
        return std::unexpected(ran.error());
    return report_of(load_outcome::verified, where, options.how, *loaded);
}

result<load_report> load_fresh(const device &where, const std::string &directory,
                               const load_options &options)
{
    const auto loaded = load_program(options);
    if (!loaded)
        return std::unexpected(loaded.error());
    if (const auto kept = keep_addresses(loaded->maps.fd(map::local), where); !kept)
        return std::unexpected(kept.error());
    auto done = attach_program(loaded->fd.get(), where, options.how);
    if (!done)
        return std::unexpected(done.error());
    const auto staged = stage(directory, *loaded);
    if (!staged)
        return std::unexpected(staged.error());
    if (const auto published = publish(*staged, directory, done->link.get()); !published)
        return std::unexpected(published.error());
    auto report = report_of(load_outcome::loaded, where, done->where, *loaded);
    report.pinned_in = directory;
    report.remark = std::move(done->remark);
    return report;
}

result<> replace_in_place(const pinned &present, const program &loaded,
                          const std::string &directory, const load_options &options)
{
    const auto staged = stage(directory, loaded);
    if (!staged)
        return std::unexpected(staged.error());
    if (const int failed = bpf_link_update(present.link.get(), loaded.fd.get(), nullptr);
        failed < 0) {
        const auto removed = remove_pins(*staged);
        return std::unexpected(removed ? load_fault(-failed, {}) : removed.error());
    }
    if (const auto written = configure(loaded.maps.fd(map::config), options); !written)
        return std::unexpected(written.error());
    return publish(*staged, directory, present.link.get());
}

result<load_report> load_over(const device &where, const pinned &present,
                              const std::string &directory, const load_options &options)
{
    const auto runs = attached_to(where.ifindex);
    if (!runs)
        return std::unexpected(error::numbered(1014, {}, "its link has lost " + where.name));
    if (options.how != mode::automatic && options.how != runs->where)
        return std::unexpected(error::numbered(1013,
                                               "the program on " + where.name + " is loaded in " +
                                                   std::string(name_of(runs->where)) + " mode",
                                               "an attached program keeps its mode",
                                               "sp xdp unload " + where.name +
                                                   ", then sp xdp load " + where.name + " -m " +
                                                   std::string(name_of(options.how))));
    const auto config = read_config(present.maps.fd(map::config));
    const bool same_layout = config && config->layout == SP_MAP_LAYOUT;
    const auto loaded = load_program(options, same_layout ? &present.maps : nullptr);
    if (!loaded)
        return std::unexpected(loaded.error());
    if (const auto kept = keep_addresses(loaded->maps.fd(map::local), where); !kept)
        return std::unexpected(kept.error());
    auto why = difference(present, config, *loaded, options);
    auto report = report_of(load_outcome::replaced, where, runs->where, *loaded);
    report.pinned_in = directory;
    if (why.empty()) {
        report.outcome = load_outcome::already;
        report.program_id = present.program_id;
        return report;
    }
    if (!options.replace)
        return std::unexpected(other_version(where, std::move(why)));
    if (const auto replaced = replace_in_place(present, *loaded, directory, options); !replaced)
        return std::unexpected(replaced.error());
    return report;
}

} // namespace

result<load_report> load(std::string_view interface, const load_options &options)
{
    const auto where = find_device(interface);
    if (!where)
        return std::unexpected(where.error());
    if (options.dry_run)
        return verify(*where, options);
    const auto lock = pin_lock::take(options.pin_root);
    if (!lock) {
        // Who may not load at all is told that, not that a directory is closed to him.
        const auto loaded = load_program(options);
        return std::unexpected(loaded ? lock.error() : loaded.error());
    }
    const auto directory = pin_directory(options.pin_root, interface);
    const auto present = open_all(directory, where->ifindex);
    if (!present)
        return std::unexpected(present.error());
    return *present ? load_over(*where, **present, directory, options)
                    : load_fresh(*where, directory, options);
}

result<bool> unload(std::string_view interface, std::string_view pin_root)
{
    const auto where = find_device(interface);
    const auto directory = pin_directory(pin_root, interface);
    struct ::stat facts{};
    if (::stat(directory.c_str(), &facts) == 0) {
        const auto lock = pin_lock::take(std::string(pin_root));
        if (!lock)
            return std::unexpected(lock.error());
        const auto present = open_all(directory, where ? where->ifindex : 0);
        if (!present)
            return std::unexpected(present.error());
        if (*present) {
            // Another process may have the link open too: detaching does not wait for it.
            if (const int failed = bpf_link_detach((*present)->link.get()); failed < 0)
                return std::unexpected(error::numbered(2037, "cannot detach from " + where->name,
                                                       errno_words(-failed)));
            if (const auto removed = remove_pins(directory); !removed)
                return std::unexpected(removed.error());
            return true;
        }
        if (!where)
            return true; // what was left of a device that has gone
    } else if (errno != ENOENT && errno != ENOTDIR) {
        return std::unexpected(pin_fault(errno, "look at", directory));
    }
    if (!where)
        return std::unexpected(where.error());
    if (attached_to(where->ifindex))
        return std::unexpected(occupied_fault(*where, {}));
    return false;
}

} // namespace sp::xdp
