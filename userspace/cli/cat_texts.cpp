// SPDX-License-Identifier: BSD-2-Clause
//
// See cat_texts.hpp.
#include "userspace/cli/cat_texts.hpp"

#include <fmt/format.h>

namespace sp::cli {
namespace {

// What nngcat calls it.
std::string_view words_for(const error &e)
{
    switch (e.code()) {
    case errc::closed:
        return "Object closed";
    case errc::timed_out:
    case errc::expired:
        return "Timed out";
    case errc::would_block:
        return "Try again";
    case errc::invalid_state:
        return "Incorrect state";
    case errc::canceled:
        return "Operation canceled";
    case errc::connection_refused:
        return "Connection refused";
    case errc::connection_reset:
        return "Connection reset";
    case errc::protocol_mismatch:
    case errc::protocol_error:
        return "Protocol error";
    case errc::peer_busy:
    case errc::busy:
        return "Resource busy";
    case errc::rejected:
    case errc::permission_denied:
        return "Permission denied";
    case errc::message_too_large:
        return "Message too large";
    case errc::no_peer:
    case errc::unreachable:
        return "Destination unreachable";
    case errc::not_supported:
        return "Not supported";
    case errc::not_found:
        return "Entry not found";
    case errc::address_in_use:
        return "Address in use";
    case errc::invalid_address:
        return "Address invalid";
    case errc::invalid_argument:
        return "Invalid argument";
    case errc::limit_reached:
        return "Out of files";
    default:
        return e.what();
    }
}

failure failed(std::string_view doing, const error &e, std::string_view words)
{
    return {.text = fmt::format("{}: {}", doing, words),
            .status = e.exit_status(),
            .why = std::string(e.why()),
            .fix = std::string(e.fix())};
}

constexpr auto help_text =
    R"(Usage: {0} ROLE PEER... [FORMAT] [OPTION...] [BODY]

ROLE, one of
  --req --rep --pub --sub --push --pull --surveyor --respondent --bus,
  each also with a 0 behind it; --pair0 --pair1; --pair (--pair1, with --compat --pair0)

PEER, one or more; every URL of sp
  --dial URL, --connect URL      connect to a listener, and fail if there is none
  --listen URL, --bind URL       let others connect
  -x, --connect-ipc PATH         --dial ipc:///PATH
  -X, --bind-ipc PATH            --listen ipc:///PATH
  -l, --connect-local PORT       --dial tcp://127.0.0.1:PORT
  -L, --bind-local PORT          --listen tcp://127.0.0.1:PORT

FORMAT of what is received, at most one; without it nothing is printed
  --format no|raw|ascii|quoted|hex|msgpack
  -A, --ascii   -Q, --quoted   --hex   --msgpack   --raw

BODY of what is sent, at most one
  -D, --data TEXT
  -F, --file FILE                - is standard input

OPTION
  -C, --count N                  end after N messages; 0: do not
  -d, --delay SECONDS            wait before the first is sent
  -i, --interval SECONDS         send again and again
  --send-timeout SECONDS, --recv-timeout SECONDS
  --subscribe TOPIC              of --sub, any number; without it everything
  -Z, --recv-maxsz BYTES         what a received message may have; 0: any size
  --socket-name NAME             shown by tools
  --async                        dial in the background, also without a listener
  --compat                       as nanocat: --async, and --pair is --pair0
  -k, --insecure                 plaintext between hosts, knowingly
  --cacert FILE, -E, --cert FILE, --key FILE, --zt-home DIR
                                 taken for the sake of scripts; no URL of sp needs them
  -v, --verbose   -q, --silent   -h, --help   -V, --version

A long option may be cut short as long as it is the only one that begins so, and written
--option VALUE, --option=VALUE or --option:VALUE; a short one -L VALUE or -LVALUE.
)";
constexpr auto help_more = R"(
Exit: 0 done, also when nothing more came in time, 1 failed, 2 usage, 4 not permitted, 5 busy,
      6 nobody there, 7 timed out, 9 not supported, 128+n ended by signal n

Examples:
  {0} --rep --listen ipc:///run/clock.sock -D tick -A
  {0} --req --dial ipc:///run/clock.sock -D 'what time?' -Q
)";

} // namespace

failure failed(std::string_view doing, const error &e)
{
    return failed(doing, e, words_for(e));
}

failure failed(const cat_endpoint &at, const error &e)
{
    const bool dials = at.how == cat_endpoint::way::dial;
    // A host that nobody knows, an address that is not of this host.
    const bool nowhere = e == errc::not_found && at.url.starts_with("tcp:");
    if (e != errc::invalid_address)
        return failed(fmt::format("Unable to {} on {}", dials ? "dial" : "listen", at.url), e,
                      nowhere ? "Address invalid" : words_for(e));
    const auto words = !at.url.contains("://")                     ? "Invalid argument"
                       : e.what().starts_with("unknown transport") ? "Not supported"
                                                                   : "Address invalid";
    return failed(fmt::format("Unable to create {} for {}", dials ? "dialer" : "listener", at.url),
                  e, words);
}

std::string cat_help(std::string_view called, likeness as)
{
    auto text = fmt::format(help_text, called);
    if (as == likeness::ours)
        text += fmt::format(help_more, called);
    return text;
}

} // namespace sp::cli
