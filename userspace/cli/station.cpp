// SPDX-License-Identifier: BSD-2-Clause
//
// See station.hpp. Every wait is made of slices; between two of them we look up.
#include "userspace/cli/station.hpp"

#include "userspace/cli/options.hpp"
#include "userspace/cli/verb_table.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <utility>

namespace sp::cli {
namespace {

using namespace std::chrono_literals;

constexpr auto look_interval = 100ms; // how often we ask why there is no peer
constexpr auto calm_interval = 1s;    // the same while there is one
constexpr auto silence_max = 1s;      // before we say that we wait
constexpr std::uint64_t message_max_default = 1 << 20;

instant never()
{
    return instant::max();
}

} // namespace

template <class Role>
result<void> station::take(const options &how)
{
    auto opened = Role::open(how);
    if (!opened)
        return std::unexpected(opened.error());
    socket_.emplace(std::move(*opened));
    return {};
}

result<void> station::open_role(const options &how)
{
    switch (arguments_.verb) {
    case message_verb::req:
        return take<sp::req>(how);
    case message_verb::rep:
        return take<sp::rep>(how);
    case message_verb::pub:
        return take<sp::pub>(how);
    case message_verb::sub:
        return take<sp::sub>(how);
    case message_verb::push:
        return take<sp::push>(how);
    case message_verb::pull:
        return take<sp::pull>(how);
    case message_verb::survey:
        return take<sp::surveyor>(how);
    case message_verb::respond:
        return take<sp::respondent>(how);
    case message_verb::bus:
        return take<sp::bus>(how);
    case message_verb::pair:
        return take<sp::pair>(how);
    }
    std::unreachable();
}

result<void> station::open()
{
    if (auto set = set_options(arguments_.set, how_); !set)
        return set;
    if (arguments_.survey_time)
        how_.survey_time = arguments_.survey_time;
    auto own = engine::open({.insecure = plaintext_allowed(arguments_.insecure)});
    if (!own)
        return std::unexpected(own.error());
    engine_.emplace(std::move(*own));
    how_.on = &*engine_;
    if (auto opened = open_role(how_); !opened)
        return opened;
    if (auto *sub = std::get_if<sp::sub>(&*socket_)) {
        auto topics = arguments_.topics;
        if (topics.empty())
            topics.emplace_back();
        for (const auto &topic : topics)
            if (auto done = sub->subscribe(topic); !done)
                return done;
    }
    if (auto connected = connect(); !connected)
        return connected;
    if (auto *req = std::get_if<sp::req>(&*socket_)) {
        auto context = req->open_context();
        if (!context)
            return std::unexpected(context.error());
        context_.emplace(std::move(*context));
    }
    return {};
}

result<void> station::connect()
{
    using direction = message_arguments::direction;
    const auto way =
        arguments_.way == direction::usual ? row_of(arguments_.verb).way : arguments_.way;
    if (auto first = way == direction::listen ? listen(arguments_.url) : dial(arguments_.url);
        !first)
        return first;
    for (const auto &peer : arguments_.peers)
        if (auto dialed = dial(peer); !dialed)
            return dialed;
    return {};
}

result<void> station::listen(const std::string &url)
{
    auto endpoint = base().listen(url);
    if (!endpoint)
        return std::unexpected(endpoint.error());
    const auto real = base().url(*endpoint);
    out_.status(fmt::format("listening at {}", real ? *real : url));
    return {};
}

result<void> station::dial(const std::string &url)
{
    auto dialer = base().dial(url);
    if (!dialer)
        return std::unexpected(dialer.error());
    dialers_.push_back(*dialer);
    return {};
}

socket &station::base()
{
    return std::visit([](auto &s) -> socket & { return s; }, *socket_);
}

std::uint64_t station::message_max() const noexcept
{
    return how_.message_max.value_or(message_max_default);
}

std::string station::peer_of(const message &m)
{
    const auto info = base().pipe_info(m.pipe());
    return info ? info->peer : std::string();
}

std::optional<error> station::obstacle()
{
    if (base().peers() > 0)
        return std::nullopt;
    for (const auto dialer : dialers_)
        if (auto why = base().last_error(dialer))
            return why;
    return std::nullopt;
}

void station::say_waiting()
{
    if (!said_.exchange(true))
        out_.status(fmt::format("waiting for a peer at {}", arguments_.url));
}

// A time-out of the call itself only ends a slice.
template <class Call>
auto station::patiently(const std::function<instant()> &deadline, alone when_alone, Call call)
    -> decltype(call(wait()))
{
    const auto began = engine_clock::now();
    for (;;) {
        const bool calm = base().peers() > 0 && !arguments_.silence_max;
        const auto slice = calm ? calm_interval : look_interval;
        auto done = call(wait(std::min(deadline(), engine_clock::now() + slice), stop_));
        if (done || done.error() != errc::timed_out)
            return done;
        if (auto why = obstacle(); why && !why->retryable())
            return std::unexpected(*why);
        if (engine_clock::now() >= deadline())
            return std::unexpected(errc::timed_out);
        if (base().peers() == 0 && engine_clock::now() - began >= silence_max &&
            (when_alone == alone::says_so || !dialers_.empty()))
            say_waiting();
    }
}

instant station::timeout_from_now() const
{
    return arguments_.timeout ? wait(*arguments_.timeout).deadline(engine_clock::now()) : never();
}

// Out of time: a known obstacle tells more than the clock.
error station::late(std::string what)
{
    if (auto why = obstacle())
        return *why;
    what +=
        fmt::format(" within {:g} s", std::chrono::duration<double>(*arguments_.timeout).count());
    if (base().peers() == 0)
        return error::numbered(2011, std::move(what), "no peer was reached",
                               "is the other side started? sp doctor");
    return error::numbered(2011, std::move(what), "a peer is connected and gave no answer or room",
                           "--timeout gives it more time");
}

result<void> station::wait_peers()
{
    const bool lossy = arguments_.verb == message_verb::pub ||
                       arguments_.verb == message_verb::bus ||
                       arguments_.verb == message_verb::survey;
    const auto count = arguments_.peers_min.value_or(lossy ? 1 : 0);
    if (count == 0)
        return {};
    const auto until = timeout_from_now();
    auto there = patiently([&] { return until; }, alone::says_so,
                           [&](const wait &w) { return base().wait_peers(count, w); });
    if (!there && there.error() == errc::timed_out)
        return std::unexpected(
            late(fmt::format("{} of {} peers came to {}", peers(), count, arguments_.url)));
    return there;
}

result<void> station::send(std::string_view body)
{
    const auto until = timeout_from_now();
    auto sent = patiently([&] { return until; }, alone::says_so,
                          [&](const wait &w) {
                              return std::visit(
                                  [&](auto &s) -> result<void> {
                                      if constexpr (requires { s.send(body, w); })
                                          return s.send(body, w);
                                      else if constexpr (requires { s.send(body); })
                                          return s.send(body);
                                      else
                                          return std::unexpected(errc::not_supported);
                                  },
                                  *socket_);
                          });
    if (!sent && sent.error() == errc::timed_out)
        return std::unexpected(late(fmt::format("nobody at {} took it", arguments_.url)));
    return sent;
}

// A time-out of send() withdraws the request, one of recv() does not.
result<message> station::ask(std::string_view body)
{
    const auto until = timeout_from_now();
    bool asked = false;
    auto answer = patiently([&] { return until; }, alone::says_so,
                            [&](const wait &w) -> result<message> {
                                if (asked)
                                    return context_->recv(w);
                                if (auto sent = context_->send(body, w); !sent)
                                    return std::unexpected(sent.error());
                                asked = true;
                                return context_->recv(w);
                            });
    if (!answer && answer.error() == errc::timed_out)
        return std::unexpected(late(fmt::format("no answer from {}", arguments_.url)));
    return answer;
}

result<survey> station::ask_all(std::string_view body)
{
    return std::get<sp::surveyor>(*socket_).survey(body);
}

result<message> station::next_answer(survey &question)
{
    return patiently(never, alone::is_silent, [&](const wait &w) { return question.recv(w); });
}

result<request> station::next_request()
{
    return patiently(never, alone::is_silent, [&](const wait &w) {
        return std::visit(
            [&](auto &s) -> result<request> {
                if constexpr (std::derived_from<std::remove_cvref_t<decltype(s)>, answerer>)
                    return s.recv(w);
                else
                    return std::unexpected(errc::not_supported);
            },
            *socket_);
    });
}

result<message> station::next(const std::function<instant()> &deadline)
{
    return patiently(deadline, alone::is_silent, [&](const wait &w) {
        return std::visit(
            [&](auto &s) -> result<message> {
                if constexpr (requires {
                                  { s.recv(w) } -> std::same_as<result<message>>;
                              })
                    return s.recv(w);
                else
                    return std::unexpected(errc::not_supported);
            },
            *socket_);
    });
}

std::string station::drops()
{
    const auto counted = base().statistics();
    std::string text;
    for (std::size_t i = 0; i < stat_table.size(); ++i)
        if (const auto n = counted[static_cast<stat>(i)];
            n > 0 && stat_table[i].kind == stat_kind::drop)
            text += fmt::format("{}{} {}", text.empty() ? "" : ", ", stat_table[i].name, n);
    return text;
}

close_report station::close()
{
    context_.reset();
    return base().close(wait(how_.linger.value_or(1s), stop_));
}

} // namespace sp::cli
