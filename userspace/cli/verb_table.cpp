// SPDX-License-Identifier: BSD-2-Clause
//
// See verb_table.hpp.
#include "userspace/cli/verb_table.hpp"

#include "userspace/invariant.hpp"

#include <array>
#include <utility>

namespace sp::cli {
namespace {

using enum message_arguments::direction;

constexpr std::array table{
    verb_row{message_verb::req, "req", dial, conduct::ask, "ask, and print the answer", "DATA",
             "the request; - reads stdin",
             "  sp req unixgram:///run/echo.sock hello\n"
             "  date | sp req --insecure --timeout 2s 'ip://198.18.0.2:7000?io=xdp' -"},
    verb_row{message_verb::rep, "rep", listen, conduct::answer, "answer requests, and print them",
             "DATA", "the answer to every request",
             "  sp rep unixgram:///run/echo.sock --echo\n"
             "  sp rep --insecure ip://0.0.0.0:7000 --exec 'tr a-z A-Z'"},
    verb_row{message_verb::pub, "pub", listen, conduct::send, "send to every subscriber", "DATA",
             "the message; - reads stdin",
             "  vmstat 1 | sp pub ipc:///run/load.sock - --send-on newline\n"
             "  sp pub ipc:///run/load.sock 'tick {count}' --template --interval 1s --count 0"},
    verb_row{message_verb::sub, "sub", dial, conduct::receive, "print what is published", "PREFIX",
             "topics: how a message begins (default: every message)",
             "  sp sub ipc:///run/load.sock tick\n"
             "  sp sub ipc:///run/load.sock --rate-only"},
    verb_row{message_verb::push, "push", listen, conduct::send, "hand each message to one worker",
             "DATA", "the message; - reads stdin",
             "  ls | sp push unixgram:///run/jobs.sock - --send-on newline\n"
             "  sp push unixgram:///run/jobs.sock --file job.json --timeout 5s"},
    verb_row{message_verb::pull, "pull", dial, conduct::receive, "be a worker, and print the jobs",
             "", "",
             "  sp pull unixgram:///run/jobs.sock\n"
             "  sp pull unixgram:///run/jobs.sock --count 10 --dump jobs/"},
    verb_row{message_verb::survey, "survey", listen, conduct::ask,
             "ask everybody, and print the answers", "DATA", "the question; - reads stdin",
             "  sp survey ipc:///run/census.sock 'who is there?' --time 500ms -v\n"
             "  sp survey ipc:///run/census.sock load --wait-peers 3 -j"},
    verb_row{message_verb::respond, "respond", dial, conduct::answer,
             "answer surveys, and print them", "DATA", "the answer to every question",
             "  sp respond ipc:///run/census.sock $HOSTNAME\n"
             "  sp respond ipc:///run/census.sock --exec 'cat /proc/loadavg'"},
    verb_row{message_verb::bus, "bus", listen, conduct::both,
             "send to every neighbour, and print what they send", "PEER",
             "URLs of others, which are dialed; after -- the message",
             "  sp bus ipc:///run/a.sock\n"
             "  sp bus ipc:///run/b.sock ipc:///run/a.sock -- hello"},
    verb_row{message_verb::pair, "pair", dial, conduct::both,
             "talk to one other, and print what it says", "DATA", "the message; - reads stdin",
             "  sp pair unixgram:///run/talk.sock --listen\n"
             "  sp pair unixgram:///run/talk.sock - --send-on newline"},
};

} // namespace

std::span<const verb_row> verb_table() noexcept
{
    return table;
}

const verb_row &row_of(message_verb verb) noexcept
{
    const auto &row = table[std::to_underlying(verb)];
    SP_INVARIANT(row.verb == verb);
    return row;
}

} // namespace sp::cli
