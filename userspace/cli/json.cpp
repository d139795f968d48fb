// SPDX-License-Identifier: BSD-2-Clause
//
// See json.hpp. The only file that includes nlohmann's header.
#include "userspace/cli/json.hpp"

#include <nlohmann/json.hpp>

namespace sp::cli::json {
namespace {

using tree = nlohmann::ordered_json;

tree convert(const value &v)
{
    if (const auto *items = std::get_if<array>(&v.is)) {
        auto list = tree::array();
        for (const auto &item : *items)
            list.push_back(convert(item));
        return list;
    }
    if (const auto *members = std::get_if<object>(&v.is)) {
        auto map = tree::object();
        for (const auto &m : *members)
            map[m.name] = convert(m.value);
        return map;
    }
    if (const auto *word = std::get_if<std::string>(&v.is))
        return *word;
    if (const auto *yes = std::get_if<bool>(&v.is))
        return *yes;
    if (const auto *number = std::get_if<std::int64_t>(&v.is))
        return *number;
    if (const auto *number = std::get_if<std::uint64_t>(&v.is))
        return *number;
    if (const auto *number = std::get_if<double>(&v.is))
        return *number;
    return nullptr;
}

} // namespace

std::string text(const value &document, layout how)
{
    return convert(document).dump(how == layout::indented ? 2 : -1, ' ', false,
                                  tree::error_handler_t::replace);
}

} // namespace sp::cli::json
