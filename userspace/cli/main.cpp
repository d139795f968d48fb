// SPDX-License-Identifier: BSD-2-Clause
//
// `sp`: the command line. Turns words into the arguments of verbs.hpp, calls one verb and ends with
// its status. The only file that includes CLI11, which is dear to compile. What CLI11 throws is
// turned into an error here; nothing leaves.
#include "userspace/cli/text.hpp"
#include "userspace/cli/verbs.hpp"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <cstdlib>
#include <fmt/format.h>
#include <iostream>
#include <iterator>

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
const CLI::Validator a_format(
    [](std::string &word) {
        return parse_format(word) ? ""
                                  : word + " is none of text, no, ascii, quoted, hex, msgpack, raw";
    },
    "FORMAT", "format");

// The words as given; they become values only after all of them were accepted.
struct message_words {
    std::optional<std::string> first, second; // [URL] [DATA]
    std::string count, timeout, interval, format = "text";
    std::vector<std::string> set;
    bool insecure = false;
};

struct words {
    settings how;
    std::string colour = "auto";
    message_words req, rep;
    bool echo = false;
    std::string exec;
    xdp_arguments load, unload, status;
    std::string doctor_interface;
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

void add_message_options(CLI::App &verb, message_words &m, const char *data)
{
    verb.add_option("URL", m.first, "ip://HOST:PORT or unixgram:///path (default: $SP_URL)")
        ->option_text(" ");
    verb.add_option("DATA", m.second, data)->option_text(" ");
    verb.add_option("--count", m.count, "messages before it ends; 0: no end")
        ->check(a_count)
        ->option_text("N");
    verb.add_option("--format", m.format, "text, no, ascii, quoted, hex, msgpack or raw")
        ->check(a_format)
        ->option_text("FORMAT");
    verb.add_option("--set", m.set, "an option of the socket, such as peer_timeout=2s")
        ->option_text("OPTION=VALUE")
        ->expected(1)
        ->allow_extra_args(false)
        ->take_all();
    verb.add_flag("--insecure", m.insecure,
                  "plaintext between hosts, knowingly (also SP_INSECURE=1)");
}

void add_messages(CLI::App &app, words &w)
{
    auto &req = add_verb(app, w, "req", "ask, and print the answer",
                         "  sp req unixgram:///run/echo.sock hello\n"
                         "  date | sp req --insecure --timeout 2s 'ip://198.18.0.2:7000?io=xdp' -",
                         "Messages");
    add_message_options(req, w.req, "the request; - reads stdin");
    req.add_option("--timeout", w.req.timeout, "for one request, finding a peer included")
        ->check(a_duration)
        ->option_text("TIME");
    req.add_option("--interval", w.req.interval, "pause between two requests")
        ->check(a_duration)
        ->option_text("TIME");

    auto &rep = add_verb(app, w, "rep", "answer requests, and print them",
                         "  sp rep unixgram:///run/echo.sock --echo\n"
                         "  sp rep --insecure ip://0.0.0.0:7000 --exec 'tr a-z A-Z'",
                         "Messages");
    add_message_options(rep, w.rep, "the answer to every request");
    auto *echo = rep.add_flag("--echo", w.echo, "answer with the request")->option_text(" ");
    rep.add_option("--exec", w.exec,
                   "answer with what CMD makes of the request: its stdin, and its stdout")
        ->option_text("CMD")
        ->excludes(echo);
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
    load.add_flag("--replace", w.load.replace, "an older program of sp gives way, without a gap");
    load.add_flag("--dry-run", w.load.dry_run, "verify and run once in the kernel, attach nothing");
    auto &unload =
        add("unload", "detach and unpin what load left", w.unload, xdp_arguments::action::unload);
    unload.add_flag("--strict", w.unload.strict, "exit 3 when nothing was loaded");
    add("status", "what is attached, by whom, and what it counted", w.status,
        xdp_arguments::action::status);
}

void add_rest(CLI::App &app, words &w)
{
    auto &doctor =
        add_verb(app, w, "doctor", "what is missing on this host, and the command that mends it",
                 "  sp doctor\n  sp doctor eth0", "The host");
    doctor.add_option("IFACE", w.doctor_interface, "look at this interface too")->option_text(" ");

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

std::optional<error> take_positional(const message_words &m, const char *verb, std::string &url,
                                     std::optional<std::string> &data)
{
    const char *preset = std::getenv("SP_URL");
    const bool use_preset = preset && *preset && !(m.first && m.first->contains("://"));
    if (!use_preset && !m.first)
        return usage("no URL is given", "",
                     fmt::format("sp {} URL, or SP_URL in the environment", verb));
    if (use_preset && m.second)
        return usage(fmt::format("\"{}\" is a word too many", *m.second),
                     "the URL is that of SP_URL", fmt::format("sp {} --help", verb));
    url = use_preset ? preset : *m.first;
    data = use_preset ? m.first : m.second;
    return std::nullopt;
}

void take_common(const message_words &m, message_arguments &a, std::uint64_t count_default)
{
    a.set = m.set;
    a.insecure = m.insecure;
    a.format = parse_format(m.format).value_or(body_format::text);
    a.count = parse_count(m.count).value_or(count_default);
}

int call_req(const words &w, console &out)
{
    req_arguments a;
    std::optional<std::string> data;
    if (auto wrong = take_positional(w.req, "req", a.url, data))
        return out.fail(*wrong);
    take_common(w.req, a, 1);
    a.body = data.value_or("");
    if (data == "-")
        a.body.assign(std::istreambuf_iterator<char>(std::cin), {});
    a.timeout = parse_duration(w.req.timeout);
    a.interval = parse_duration(w.req.interval).value_or(std::chrono::nanoseconds(0));
    return req(a, out);
}

int call_rep(const words &w, console &out)
{
    rep_arguments a;
    std::optional<std::string> data;
    if (auto wrong = take_positional(w.rep, "rep", a.url, data))
        return out.fail(*wrong);
    if (data && (w.echo || !w.exec.empty()))
        return out.fail(usage("an answer is given twice",
                              fmt::format("\"{}\" and --echo or --exec", *data), "sp rep --help"));
    take_common(w.rep, a, 0);
    a.answer = data.value_or("");
    a.echo = w.echo;
    a.exec = w.exec;
    return rep(a, out);
}

int call(const CLI::App &app, words &w, console &out)
{
    const auto *verb = app.get_subcommands().front();
    const auto name = verb->get_name();
    if (name == "req")
        return call_req(w, out);
    if (name == "rep")
        return call_rep(w, out);
    if (name == "doctor")
        return doctor(w.doctor_interface, out);
    if (name == "errors")
        return errors(w.errors, out);
    if (name == "demo") {
        w.demo.count = parse_count(w.demo_count).value_or(w.demo.count);
        return demo(w.demo, out);
    }
    if (name == "xdp") {
        const auto action = verb->get_subcommands().front()->get_name();
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
    add_xdp(app, w);
    add_rest(app, w);
    try {
        app.parse(argc, argv);
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

} // namespace
} // namespace sp::cli

int main(int argc, char **argv)
{
    try {
        return sp::cli::run(argc, argv);
    } catch (const std::exception &e) {
        return sp::complain(sp::error::numbered(9001, "this is a fault in sp", e.what()));
    }
}
