// SPDX-License-Identifier: BSD-2-Clause
//
// See bodies.hpp.
#include "userspace/cli/bodies.hpp"

#include "userspace/cli/text.hpp"

#include <algorithm>
#include <fmt/format.h>

namespace sp::cli {
namespace {

// A terminal obeys control characters, whoever sent them.
std::string for_terminal(std::string_view body)
{
    std::string text(body);
    std::ranges::replace_if(
        text, [](unsigned char c) { return (c < 0x20 && c != '\t' && c != '\n') || c == 0x7f; },
        '.');
    return text;
}

bool show_json(const shown &m, std::string_view schema, body_format format, console &out)
{
    json::object members{
        {"seq", m.sequence}, {"transport", m.transport}, {"bytes", std::uint64_t{m.body.size()}}};
    if (m.microseconds >= 0)
        members.push_back({"microseconds", m.microseconds});
    if (format == body_format::hex || !is_text(m.body)) {
        members.push_back({"body_hex", hex_digits(m.body)});
    } else if (format != body_format::none)
        members.push_back({"body", m.body});
    return out.object(schema, exit_done, std::move(members)) == exit_done;
}

} // namespace

bool show(const shown &m, std::string_view schema, body_format format, console &out)
{
    if (out.json())
        return show_json(m, schema, format, out);
    if (m.microseconds >= 0)
        out.detail(fmt::format("{}: {} bytes over {} in {:.1f} us", m.sequence, m.body.size(),
                               m.transport, m.microseconds));
    else
        out.detail(fmt::format("{}: {} bytes over {}", m.sequence, m.body.size(), m.transport));
    if (format == body_format::text && out.to_terminal())
        return out.print(render(for_terminal(m.body), format));
    auto row = render(m.body, format);
    if (format == body_format::ascii) // one row per message, unlike nngcat
        row += '\n';
    return out.print(row);
}

} // namespace sp::cli
