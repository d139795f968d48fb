// SPDX-License-Identifier: BSD-2-Clause
//
// See cat_socket.hpp.
#include "userspace/cli/cat_socket.hpp"

#include <concepts>
#include <optional>
#include <span>
#include <string>
#include <utility>

namespace sp::cli {
namespace {

template <class Role>
result<cat_socket> opened_as(const options &how)
{
    auto opened = Role::open(how);
    if (!opened)
        return std::unexpected(opened.error());
    auto socket = std::make_shared<Role>(std::move(*opened));
    cat_socket made{.socket = socket, .send = {}, .recv = {}, .next = {}};
    if constexpr (requires { socket->send(payload(""), wait()); })
        made.send = [socket](payload body, const wait &w) { return socket->send(body, w); };
    else if constexpr (requires { socket->send(payload("")); })
        made.send = [socket](payload body, const wait &) { return socket->send(body); };
    if constexpr (std::derived_from<Role, answerer>)
        made.next = [socket](const wait &w) { return socket->recv(w); };
    else if constexpr (requires { socket->recv(wait()); })
        made.recv = [socket](const wait &w) { return socket->recv(w); };
    return made;
}

template <>
result<cat_socket> opened_as<sp::req>(const options &how)
{
    auto opened = sp::req::open(how);
    if (!opened)
        return std::unexpected(opened.error());
    auto context = opened->open_context();
    if (!context)
        return std::unexpected(context.error());
    auto socket = std::make_shared<sp::req>(std::move(*opened));
    auto asks = std::make_shared<req_context>(std::move(*context));
    return cat_socket{.socket = socket,
                      .send = [asks](payload body, const wait &w) { return asks->send(body, w); },
                      .recv = [asks](const wait &w) { return asks->recv(w); },
                      .next = {}};
}

template <>
result<cat_socket> opened_as<sp::surveyor>(const options &how)
{
    auto opened = sp::surveyor::open(how);
    if (!opened)
        return std::unexpected(opened.error());
    auto socket = std::make_shared<sp::surveyor>(std::move(*opened));
    auto current = std::make_shared<std::optional<survey>>();
    return cat_socket{.socket = socket,
                      .send = [socket, current](payload body, const wait &) -> result<void> {
                          auto begun = socket->survey(body);
                          if (!begun)
                              return std::unexpected(begun.error());
                          *current = std::move(*begun);
                          return {};
                      },
                      .recv = [current](const wait &w) { return (*current)->recv(w); },
                      .next = {}};
}

result<cat_socket> opened_as_sub(std::span<const std::string> topics, const options &how)
{
    auto opened = sp::sub::open(how);
    if (!opened)
        return std::unexpected(opened.error());
    for (const auto &topic : topics)
        if (auto done = opened->subscribe(topic); !done)
            return std::unexpected(done.error());
    auto socket = std::make_shared<sp::sub>(std::move(*opened));
    return cat_socket{.socket = socket,
                      .send = {},
                      .recv = [socket](const wait &w) { return socket->recv(w); },
                      .next = {}};
}

} // namespace

result<cat_socket> open_cat_socket(const cat_arguments &arguments, const options &how)
{
    switch (arguments.role) {
    case cat_role::req:
        return opened_as<sp::req>(how);
    case cat_role::rep:
        return opened_as<sp::rep>(how);
    case cat_role::pub:
        return opened_as<sp::pub>(how);
    case cat_role::sub:
        return opened_as_sub(arguments.topics, how);
    case cat_role::push:
        return opened_as<sp::push>(how);
    case cat_role::pull:
        return opened_as<sp::pull>(how);
    case cat_role::surveyor:
        return opened_as<sp::surveyor>(how);
    case cat_role::respondent:
        return opened_as<sp::respondent>(how);
    case cat_role::bus:
        return opened_as<sp::bus>(how);
    case cat_role::pair:
    case cat_role::pair0:
    case cat_role::pair1:
        break;
    }
    return opened_as<sp::pair>(how);
}

} // namespace sp::cli
