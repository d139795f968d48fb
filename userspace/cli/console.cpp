// SPDX-License-Identifier: BSD-2-Clause
//
// See console.hpp.
#include "userspace/cli/console.hpp"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fmt/format.h>
#include <unistd.h>

namespace sp::cli {
namespace {

bool wants_colour(when asked, bool terminal)
{
    if (asked != when::automatic)
        return asked == when::always;
    const char *no =
        std::getenv("NO_COLOR"); // any value but the empty one: the convention of that variable
    return terminal && !(no && *no);
}

void to_stderr(std::string_view line)
{
    const auto whole = std::string(line) + '\n';
    std::fwrite(whole.data(), 1, whole.size(),
                stderr); // one call: lines of several processes stay whole
}

} // namespace

int exit_reader_gone() noexcept
{
    return exit_signal + SIGPIPE;
}

console::console(const settings &how)
    : how_(how), terminal_(::isatty(STDOUT_FILENO) == 1),
      colour_(wants_colour(how.colour, terminal_))
{
    how_.json = how.json || how.pretty;
}

bool console::print(std::string_view bytes)
{
    while (!bytes.empty()) {
        const auto n = ::write(STDOUT_FILENO, bytes.data(), bytes.size());
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0)
            bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
}

int console::object(std::string_view schema, int exit, json::object members)
{
    json::object whole{{"schema", schema}, {"exit", exit}};
    for (auto &m : members)
        whole.push_back(std::move(m));
    return print(json::text(whole, how_.pretty ? json::layout::indented : json::layout::line) +
                 '\n')
               ? exit
               : exit_failed;
}

void console::status(std::string_view line)
{
    if (!how_.quiet)
        to_stderr(line);
}

void console::detail(std::string_view line)
{
    if (verbose())
        to_stderr(line);
}

void console::warn(std::string_view line)
{
    to_stderr(line);
}

int console::fail(const error &e)
{
    return fail(e, e.exit_status());
}

int console::fail(const error &e, int exit)
{
    if (!how_.json) {
        complain(e);
        return exit;
    }
    json::object texts{{"code", fmt::format("SP{:04}", e.number())}, {"what", e.what()}};
    if (!e.why().empty())
        texts.push_back({"why", e.why()});
    if (!e.fix().empty())
        texts.push_back({"fix", e.fix()});
    const json::object whole{{"error", std::move(texts)}, {"exit", exit}};
    return print(json::text(whole, how_.pretty ? json::layout::indented : json::layout::line) +
                 '\n')
               ? exit
               : exit_failed;
}

std::string console::paint(style as, std::string_view text) const
{
    const char *code = as == style::good     ? "32"
                       : as == style::bad    ? "31"
                       : as == style::unsure ? "33"
                       : as == style::strong ? "1"
                                             : nullptr;
    if (!colour_ || !code)
        return std::string(text);
    return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

} // namespace sp::cli
