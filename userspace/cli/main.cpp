// SPDX-License-Identifier: BSD-2-Clause
//
// `sp`: the command line. Turns words into the arguments of verbs.hpp, calls one verb and ends with
// its status. The only file that includes CLI11, which is dear to compile. What CLI11 throws is
// turned into an error here; nothing leaves.
#include "userspace/cli/cat.hpp"
#include "userspace/cli/text.hpp"
#include "userspace/cli/verb_table.hpp"
#include "userspace/cli/verbs.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fmt/format.h>
#include <iostream>
#include <iterator>
#include <optional>
#include <span>
#include <string_view>

namespace sp::cli {
namespace {

constexpr auto exit_codes =
    "Exit: 0 done, 1 failed, 2 usage, 3 nothing loaded, 4 not permitted, 5 busy,\n"
    "      6 no such thing or nobody there, 7 timed out, 8 something to be fixed, 9 not "
    "supported,\n"
    "      10 partly done, 128+n ended by signal n";

// CLI11 names a validator's complaint after the option and the word; these say what would have been
// right.
const CLI::Validator a_duration(
    [](std::string &word) {
        return parse_duration(word) ? "" : word + " is not a time such as 100ms, 2s, 1h";
    },
    "TIME", "duration");
const CLI::Validator
    a_count([](std::string &word) { return parse_count(word) ? "" : word + " is not a number"; },
            "N", "count");
const CLI::Validator a_port(
    [](std::string &word) {
        const auto port = parse_count(word);
        return port && *port <= 65535 ? "" : word + " is not a port from 0 to 65535";
    },
    "N", "port");
const CLI::Validator a_format(
    [](std::string &word) {
        return parse_format(word) ? ""
                                  : word + " is none of text, no, ascii, quoted, hex, msgpack, raw";
    },
    "FORMAT", "format");

const CLI::Validator pieces_word(
    [](std::string &word) {
        return word == "newline" || word == "eof" ? "" : word + " is none of newline, eof";
    },
    "WHEN", "pieces");

// The words as given; they become values only after all of them were accepted.
struct message_words {
    std::optional<std::string> url, data;
    std::vector<std::string> more; // PREFIX... PEER...
    std::string count, timeout, interval, delay, rate, wait, time, wait_peers, send_on = "eof",
                                                                               format = "text";
    bool listen = false, dial = false;
    message_arguments rest; // what needs no parsing
};

struct words {
    settings how;
    std::string colour = "auto";
    std::array<message_words, 10> message; // by message_verb
    device_arguments device;
    std::string ttl_max;
    bool device_listen = false, device_dial = false;
    xdp_arguments load, unload, status;
    std::string udp_port;
    doctor_arguments doctor;
    std::string doctor_udp_port;
    ping_arguments ping;
    std::string ping_count, ping_interval, ping_timeout, ping_encap, ping_udp_port;
    demo_arguments demo;
    std::string demo_count;
    errors_arguments errors;
};

// Flags that every verb takes, before or after its name. Below `xdp`, -p is the place of the pins.
void add_common(CLI::App &app, words &w, const char *pretty = "-p,--pretty")
{
    app.add_flag("-j,--json", w.how.json, "one JSON object per run, or per message")
        ->group("Common");
    app.add_flag(pretty, w.how.pretty, "JSON, indented")->group("Common");
    app.add_flag("-v,--verbose", w.how.verbose, "say more on stderr")->group("Common");
    app.add_flag("-q,--quiet", w.how.quiet, "no status lines on stderr")->group("Common");
    app.add_option("--color", w.colour, "auto, always or never; NO_COLOR means never")
        ->check(CLI::IsMember({"auto", "always", "never"}))
        ->option_text("WHEN")
        ->group("Common");
}

CLI::App &add_verb(CLI::App &app, words &w, const char *name, const char *what,
                   const char *examples, const char *group)
{
    auto &verb = *app.add_subcommand(name, what);
    verb.group(group);
    verb.footer(fmt::format("{}\n\nExamples:\n{}", exit_codes, examples));
    add_common(verb, w);
    return verb;
}

void add_time(CLI::App &verb, const char *name, std::string &word, const char *what)
{
    verb.add_option(name, word, what)->check(a_duration)->option_text("TIME");
}

void add_number(CLI::App &verb, const char *name, std::string &word, const char *what)
{
    verb.add_option(name, word, what)->check(a_count)->option_text("N");
}

// How a socket is made and connected.
void add_socket(CLI::App &verb, std::vector<std::string> &set, bool &listen, bool &dial,
                bool &insecure)
{
    auto *listens = verb.add_flag("--listen", listen, "the URL is ours, others come to it");
    verb.add_flag("--dial", dial, "somebody else listens at the URL")->excludes(listens);
    verb.add_option("--set", set, "an option of the socket, such as peer_timeout=2s")
        ->option_text("OPTION=VALUE")
        ->expected(1)
        ->allow_extra_args(false)
        ->take_all();
    verb.add_flag("--insecure", insecure,
                  "plaintext between hosts, knowingly (also SP_INSECURE=1)");
}

void add_words(CLI::App &verb, const verb_row &row, message_words &m)
{
    verb.add_option("URL", m.url,
                    "ip://HOST:PORT, unixgram:///path, ipc:///path, abstract://name or "
                    "tcp://HOST:PORT (default: $SP_URL)")
        ->option_text(" ");
    const std::string name(row.words), what(row.of_words);
    if (row.verb == message_verb::sub || row.verb == message_verb::bus)
        verb.add_option(name, m.more, what)->option_text("...");
    else if (!name.empty())
        verb.add_option(name, m.data, what)->option_text(" ");
    if (row.verb == message_verb::bus)
        verb.add_option("--data", m.data, "the message, as after --")->option_text("DATA");
}

void add_sending(CLI::App &verb, message_words &m)
{
    add_time(verb, "--timeout", m.timeout, "for one message, finding a peer included");
    auto *interval = verb.add_option("--interval", m.interval, "pause between two");
    interval->check(a_duration)->option_text("TIME");
    verb.add_option("--rate", m.rate, "so many in a second")
        ->check(a_count)
        ->option_text("N")
        ->excludes(interval);
    verb.add_option("--send-on", m.send_on,
                    "newline: each line of stdin or of the file is a message; eof: all of it is")
        ->check(pieces_word)
        ->option_text("WHEN");
    verb.add_flag("--template", m.rest.with_template,
                  "fill in {count}, {time} and {random:N} in each message");
    verb.add_option("--file", m.rest.file, "what is sent; - is stdin")->option_text("FILE");
    add_number(verb, "--wait-peers", m.wait_peers,
               "peers that must be there before the first (pub, bus, survey: 1)");
    add_time(verb, "--delay", m.delay, "pause before the first");
}

void add_receiving(CLI::App &verb, message_words &m)
{
    add_time(verb, "--wait", m.wait, "end when nothing has come for so long");
    auto *dump = verb.add_option("--dump", m.rest.dump, "each body into a file of its own in DIR");
    dump->option_text("DIR");
    verb.add_flag("--rate-only", m.rest.rate_only, "messages and bytes per second, no bodies")
        ->excludes(dump);
}

void add_messages(CLI::App &app, words &w)
{
    for (const auto &row : verb_table()) {
        auto &m = w.message[static_cast<std::size_t>(row.verb)];
        auto &verb = add_verb(app, w, std::string(row.name).c_str(), std::string(row.what).c_str(),
                              std::string(row.examples).c_str(), "Messages");
        m.rest.verb = row.verb;
        add_words(verb, row, m);
        add_number(verb, "--count", m.count, "messages before it ends; 0: no end");
        if (row.does != conduct::send)
            verb.add_option("--format", m.format, "text, no, ascii, quoted, hex, msgpack or raw")
                ->check(a_format)
                ->option_text("FORMAT");
        add_socket(verb, m.rest.set, m.listen, m.dial, m.rest.insecure);
        if (sends(row.does))
            add_sending(verb, m);
        if (receives(row.does))
            add_receiving(verb, m);
        if (row.verb == message_verb::survey)
            add_time(verb, "--time", m.time, "for the answers (default 1s)");
        if (row.does != conduct::answer)
            continue;
        auto *echo = verb.add_flag("--echo", m.rest.echo, "answer with the request");
        verb.add_option("--exec", m.rest.exec,
                        "answer with what CMD makes of the request: its stdin, and its stdout")
            ->option_text("CMD")
            ->excludes(echo);
    }
}

void add_device(CLI::App &app, words &w)
{
    auto &verb = add_verb(app, w, "device", "join two networks of one pattern",
                          "  sp device reqrep ipc:///run/old.sock unixgram:///run/new.sock\n"
                          "  sp device --insecure pubsub tcp://198.18.0.9:5555 ip://0.0.0.0:7000",
                          "Messages");
    verb.add_option("PATTERN", w.device.pattern, "reqrep, pubsub, pushpull, survey, bus or pair")
        ->option_text(" ")
        ->required();
    verb.add_option("URL", w.device.first, "where requesters, publishers, pushers, surveyors are")
        ->option_text(" ")
        ->required();
    verb.add_option("URL2", w.device.second, "where those are whom they want to reach")
        ->option_text(" ")
        ->required();
    verb.add_option("--tap", w.device.tap, "a PUB that listens there gets a copy of each body")
        ->option_text("URL");
    add_number(verb, "--ttl-max", w.ttl_max, "hops after which a message is dropped, 1 to 15");
    add_socket(verb, w.device.set, w.device_listen, w.device_dial, w.device.insecure);
}

// Only for the list of verbs: its words are its own, see call_cat().
void add_cat(CLI::App &app)
{
    auto &verb = *app.add_subcommand("cat", "as nngcat, with its options, over every URL of sp");
    verb.group("Messages");
    verb.set_help_flag();
    verb.prefix_command();
}

void add_xdp(CLI::App &app, words &w)
{
    auto &xdp = add_verb(app, w, "xdp", "the XDP program on an interface",
                         "  sp xdp load eth0 -m auto\n"
                         "  sp xdp status -j",
                         "The host");
    xdp.require_subcommand(1);
    const auto add = [&](const char *name, const char *what, xdp_arguments &a,
                         xdp_arguments::action action) -> CLI::App & {
        a.what = action;
        auto &verb = *xdp.add_subcommand(name, what);
        verb.footer(exit_codes);
        add_common(verb, w, "--pretty");
        auto *interface =
            verb.add_option("IFACE", a.interface, "a network interface")->option_text(" ");
        if (action != xdp_arguments::action::status)
            interface->required();
        verb.add_option("-p,--pin-root", a.pin_root, "where the pins are (default /run/sp/bpf)")
            ->option_text("PATH");
        return verb;
    };
    auto &load = add("load", "attach the program and pin it: it stays until unload or reboot",
                     w.load, xdp_arguments::action::load);
    load.add_option("-m,--mode", w.load.mode,
                    "native (default), skb or auto; nothing falls back in silence")
        ->option_text("MODE");
    load.add_option("--udp-port", w.udp_port,
                    "where packets of encap=udp come, the same on every host (default 5370); 0: "
                    "they are left to the kernel")
        ->check(a_port)
        ->option_text("N");
    load.add_flag("--replace", w.load.replace, "an older program of sp gives way, without a gap");
    load.add_flag("--dry-run", w.load.dry_run, "verify and run once in the kernel, attach nothing");
    auto &unload =
        add("unload", "detach and unpin what load left", w.unload, xdp_arguments::action::unload);
    unload.add_flag("--strict", w.unload.strict, "exit 3 when nothing was loaded");
    add("status", "what is attached, by whom, and what it counted", w.status,
        xdp_arguments::action::status);
}

void add_udp_port(CLI::App &verb, std::string &word)
{
    verb.add_option("--udp-port", word, "where encap=udp goes (default 5370)")
        ->check(a_port)
        ->option_text("N");
}

void add_ping(CLI::App &app, words &w)
{
    auto &ping = add_verb(app, w, "ping", "does the XDP program of sp answer on another host?",
                          "  sp ping 10.0.0.7 -c 3\n  sp ping 10.0.0.7 --encap udp", "The host");
    ping.add_option("HOST", w.ping.host, "a name or an address")->option_text(" ")->required();
    ping.add_option("-c,--count", w.ping_count, "so many questions; without it, no end")
        ->check(a_count)
        ->option_text("N");
    add_time(ping, "-i,--interval", w.ping_interval,
             "between two questions (default 1s); 0: the next when the last was answered");
    add_time(ping, "--timeout", w.ping_timeout, "for each answer (default 1s)");
    ping.add_option("--encap", w.ping_encap, "udp: ask behind UDP, as ?encap=udp would")
        ->check(CLI::IsMember({"udp"}))
        ->option_text("udp");
    add_udp_port(ping, w.ping_udp_port);
}

void add_rest(CLI::App &app, words &w)
{
    auto &doctor =
        add_verb(app, w, "doctor", "what is missing on this host, and the command that mends it",
                 "  sp doctor\n  sp doctor eth0 --peer 10.0.0.7", "The host");
    doctor.add_option("IFACE", w.doctor.interface, "look at this interface too")->option_text(" ");
    doctor.add_option("--peer", w.doctor.peer, "look at the way to this host too")
        ->option_text("HOST");
    add_udp_port(doctor, w.doctor_udp_port);

    auto &demo = add_verb(app, w, "demo", "two hosts on this machine exchange messages through XDP",
                          "  sp demo\n  sp demo --no-xdp", "The host");
    demo.add_flag("--no-xdp", w.demo.no_xdp, "only the part on one host; exit 10");
    demo.add_option("--count", w.demo_count, "round trips (default 100000)")
        ->check(a_count)
        ->option_text("N");

    auto &errors = add_verb(app, w, "errors", "the catalogue of errors, counters and drop reasons",
                            "  sp errors SP1003\n  sp errors no_port", "Help");
    errors.add_option("WORD", w.errors.word, "a number such as SP1003, or a word to look for")
        ->option_text(" ");
    errors.add_flag("--counters", w.errors.counters, "the counters instead of the errors");
    errors.add_flag("--markdown", w.errors.markdown, "as the page in docs/");

    add_verb(app, w, "version", "the version", "  sp version\n  sp version -j", "Help");
}

error usage(std::string what, std::string why, std::string fix)
{
    return error::numbered(4002, std::move(what), std::move(why), std::move(fix));
}

// Which help to read: of the verb that was named, if one was.
std::string help_of(const CLI::App &app)
{
    std::string name = "sp";
    const auto *at = &app;
    while (!at->get_subcommands().empty()) {
        at = at->get_subcommands().front();
        name += ' ' + at->get_name();
    }
    return name + " --help";
}

// The option or verb nearest to a word nobody knows; both levels of verbs are looked at.
std::string suggestion(const CLI::App &app, std::string_view word)
{
    const auto *at = &app;
    while (!at->get_subcommands().empty())
        at = at->get_subcommands().front();
    std::vector<std::string> names;
    for (const auto *option : at->get_options())
        for (const auto &name : option->get_lnames())
            names.push_back("--" + name);
    for (const auto *verb : at->get_subcommands([](const CLI::App *) { return true; }))
        names.push_back(verb->get_name());
    const std::vector<std::string_view> views(names.begin(), names.end());
    return std::string(nearest(word, views));
}

error explain(const CLI::App &app, const CLI::ParseError &e)
{
    const auto left = app.remaining(true);
    const bool unknown =
        dynamic_cast<const CLI::ExtrasError *>(&e) || dynamic_cast<const CLI::RequiredError *>(&e);
    if (unknown && !left.empty()) {
        const auto meant = suggestion(app, left.front());
        return usage(fmt::format("\"{}\" is not understood here", left.front()),
                     left.size() > 1 ? "more words than are expected"
                                     : "no such verb or option, or a word too many",
                     meant.empty() ? help_of(app)
                                   : fmt::format("did you mean {}? {}", meant, help_of(app)));
    }
    return usage("the command line is not understood", e.what(), help_of(app));
}

// With SP_URL the first word is the URL only if it looks like one.
std::optional<error> take_words(const message_words &m, const verb_row &row, message_arguments &a)
{
    const char *preset = std::getenv("SP_URL");
    const bool use_preset = preset && *preset && !(m.url && m.url->contains("://"));
    if (!use_preset && !m.url)
        return usage("no URL is given", "",
                     fmt::format("sp {} URL, or SP_URL in the environment", row.name));
    a.url = use_preset ? preset : *m.url;
    a.data = m.data;
    auto more = m.more;
    if (use_preset && m.url) {
        const bool many = row.verb == message_verb::sub || row.verb == message_verb::bus;
        if (many)
            more.insert(more.begin(), *m.url);
        else if (m.data || row.words.empty())
            return usage(fmt::format("\"{}\" is a word too many", m.data.value_or(*m.url)),
                         "the URL is that of SP_URL", fmt::format("sp {} --help", row.name));
        else
            a.data = m.url;
    }
    (row.verb == message_verb::bus ? a.peers : a.topics) = std::move(more);
    return std::nullopt;
}

std::uint16_t port_of(const std::string &word)
{
    return static_cast<std::uint16_t>(parse_count(word).value_or(SP_UDP_PORT));
}

message_arguments::direction way_of(bool listens, bool dials)
{
    using enum message_arguments::direction;
    return listens ? listen : dials ? dial : usual;
}

int call_message(const message_words &m, const verb_row &row, console &out)
{
    using std::chrono::nanoseconds;
    auto a = m.rest;
    if (auto wrong = take_words(m, row, a))
        return out.fail(*wrong);
    const bool answers = row.does == conduct::answer;
    if (a.data && (answers ? a.echo || !a.exec.empty() : !a.file.empty()))
        return out.fail(
            usage(answers ? "an answer is given twice" : "a message is given twice",
                  fmt::format("\"{}\" and {}", *a.data, answers ? "--echo or --exec" : "--file"),
                  fmt::format("sp {} --help", row.name)));
    a.way = way_of(m.listen, m.dial);
    a.format = parse_format(m.format).value_or(body_format::text);
    a.count = parse_count(m.count);
    a.timeout = parse_duration(m.timeout);
    a.interval = parse_duration(m.interval).value_or(nanoseconds(0));
    a.delay = parse_duration(m.delay).value_or(nanoseconds(0));
    a.silence_max = parse_duration(m.wait);
    a.survey_time = parse_duration(m.time);
    a.rate = parse_count(m.rate).value_or(0);
    a.peers_min = parse_count(m.wait_peers);
    a.send_on = m.send_on == "newline" ? message_arguments::pieces::lines
                                       : message_arguments::pieces::whole;
    return messages(a, out);
}

int call(const CLI::App &app, words &w, console &out)
{
    const auto *verb = app.get_subcommands().front();
    const auto name = verb->get_name();
    for (const auto &row : verb_table())
        if (name == row.name)
            return call_message(w.message[static_cast<std::size_t>(row.verb)], row, out);
    if (name == "device") {
        w.device.way = way_of(w.device_listen, w.device_dial);
        w.device.ttl_max = parse_count(w.ttl_max);
        return device(w.device, out);
    }
    if (name == "cat")
        return cat("sp cat", verb->remaining());
    if (name == "doctor") {
        w.doctor.udp_port = port_of(w.doctor_udp_port);
        return doctor(w.doctor, out);
    }
    if (name == "ping") {
        w.ping.count = parse_count(w.ping_count);
        w.ping.interval = parse_duration(w.ping_interval).value_or(w.ping.interval);
        w.ping.timeout = parse_duration(w.ping_timeout).value_or(w.ping.timeout);
        w.ping.behind_udp = !w.ping_encap.empty();
        w.ping.udp_port = port_of(w.ping_udp_port);
        return ping(w.ping, out);
    }
    if (name == "errors")
        return errors(w.errors, out);
    if (name == "demo") {
        w.demo.count = parse_count(w.demo_count).value_or(w.demo.count);
        return demo(w.demo, out);
    }
    if (name == "xdp") {
        const auto action = verb->get_subcommands().front()->get_name();
        w.load.udp_port = port_of(w.udp_port);
        return xdp(action == "load" ? w.load : action == "unload" ? w.unload : w.status, out);
    }
    return version(out);
}

console console_for(words &w)
{
    w.how.colour = w.colour == "always"  ? when::always
                   : w.colour == "never" ? when::never
                                         : when::automatic;
    return console(w.how);
}

// -j before a mistake still wants JSON, and the parse has not come that far.
bool json_is_asked(int argc, char **argv)
{
    const std::vector<std::string_view> words(argv + 1, argv + argc);
    const auto given = [&](std::string_view word) {
        return std::ranges::find(words, word) != words.end();
    };
    return given("-j") || given("--json") || given("--pretty") || (given("-p") && !given("xdp"));
}

// As CLI11 wants them, the last one first. What stands after -- on a BUS is the message, whatever
// it looks like.
std::vector<std::string> in_order(int argc, char **argv)
{
    std::vector<std::string> all(argv + 1, argv + argc);
    const auto dashes = std::ranges::find(all, "--");
    if (std::find(all.begin(), dashes, "bus") != dashes && all.end() - dashes == 2) {
        auto data = "--data=" + all.back();
        all.erase(dashes, all.end());
        all.push_back(std::move(data));
    }
    std::ranges::reverse(all);
    return all;
}

int run(int argc, char **argv)
{
    words w;
    CLI::App app("sp: Scalability Protocols between hosts through XDP, and on one host", "sp");
    app.set_help_flag("-h,--help", "this text");
    app.set_version_flag("--version", "sp " SP_VERSION, "the version");
    app.require_subcommand(1);
    app.failure_message([](const CLI::App *, const CLI::Error &) { return std::string(); });
    app.footer(exit_codes);
    add_common(app, w);
    add_messages(app, w);
    add_device(app, w);
    add_cat(app);
    add_xdp(app, w);
    add_ping(app, w);
    add_rest(app, w);
    try {
        app.parse(in_order(argc, argv));
    } catch (const CLI::ParseError &e) {
        if (e.get_exit_code() == 0) { // --help, --version
            app.exit(e, std::cout, std::cerr);
            return exit_done;
        }
        w.how.json = w.how.json || json_is_asked(argc, argv);
        return console_for(w).fail(explain(app, e));
    }
    auto out = console_for(w);
    return call(app, w, out);
}

// The verb that CLI11 cannot parse, and the names that a link to this program may have.
std::optional<int> call_cat(std::span<char *const> words)
{
    if (words.empty())
        return std::nullopt;
    const std::string_view path = words[0];
    const auto name = path.substr(path.rfind('/') + 1);
    const auto cat_of = [&](std::string_view called, std::size_t first) {
        const auto rest = words.subspan(first);
        return cat(called, std::vector<std::string>(rest.begin(), rest.end()));
    };
    if (name == "spcat" || name == "nngcat")
        return cat_of(name, 1);
    if (words.size() > 1 && std::string_view(words[1]) == "cat")
        return cat_of("sp cat", 2);
    return std::nullopt;
}

} // namespace
} // namespace sp::cli

int main(int argc, char **argv)
{
    try {
        const std::span<char *const> words(argv, static_cast<std::size_t>(argc));
        if (const auto done = sp::cli::call_cat(words))
            return *done;
        return sp::cli::run(argc, argv);
    } catch (const std::exception &e) {
        return sp::complain(sp::error::numbered(9001, "this is a fault in sp", e.what()));
    }
}
