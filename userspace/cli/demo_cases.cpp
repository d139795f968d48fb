// SPDX-License-Identifier: BSD-2-Clause
//
// See demo_cases.hpp. Host a leads and listens; the agents are on host b.
#include "userspace/cli/demo_cases.hpp"

#include "userspace/cli/demo_scene.hpp"

#include <initializer_list>
#include <map>
#include <optional>
#include <utility>
#include <vector>

namespace sp::cli {
namespace {

using namespace std::chrono_literals;

constexpr int versions = 100, lines_said = 100;
constexpr unsigned feed_at = 1, survey_at = 2, pair_at = 3;

// ---- configuration distribution ----

// One version of both settings; beta wants the routing only.
result<void> publish(pub &feed, int version, tally &seen)
{
    const auto agents = feed.peers();
    for (const std::string setting : {"config.routing ", "config.logging "}) {
        if (auto sent = feed.send(setting + std::to_string(version)); !sent)
            return sent;
        seen.sent(setting.contains("routing") ? agents : agents - 1);
    }
    return {};
}

result<void> lead_configuration(const scene &s)
{
    tally seen(s, use_case::kind::configuration);
    auto feed = listening<pub>(s, host::a, feed_at, s.here());
    if (!feed)
        return std::unexpected(feed.error());
    if (auto listens = s.meet(); !listens)
        return listens;
    if (auto two = feed->wait_peers(2, answer_wait); !two)
        return two;
    for (int version = 1; version <= versions; ++version)
        if (auto sent = publish(*feed, version, seen); !sent)
            return sent;
    if (auto late = feed->wait_peers(3, answer_wait); !late)
        return late;
    for (const int version : {versions, versions + 1}) // once more for who came late, then news
        if (auto sent = publish(*feed, version, seen); !sent)
            return sent;
    seen.tell();
    return s.finish();
}

result<sub> agent(const scene &s, std::string_view topic)
{
    auto feed = sub::open(s.here());
    if (!feed)
        return feed;
    if (auto wanted = feed->subscribe(topic); !wanted)
        return std::unexpected(wanted.error());
    if (auto connected = feed->dial(s.at(host::a, feed_at), answer_wait); !connected)
        return std::unexpected(connected.error());
    return feed;
}

result<void> follow_configuration(const scene &s)
{
    tally seen(s, use_case::kind::configuration);
    if (auto listens = s.meet(); !listens)
        return listens;
    auto alpha = agent(s, "config."), beta = agent(s, "config.routing");
    for (auto *each : {&alpha, &beta})
        if (!*each)
            return std::unexpected(each->error());
    for (auto [who, most] : {std::pair(&alpha, 2 * versions), {&beta, versions}})
        if (auto heard = receive(**who, most, seen); !heard)
            return heard;
    auto gamma = agent(s, "config."); // comes late
    if (!gamma)
        return std::unexpected(gamma.error());
    for (auto [who, most] : {std::pair(&alpha, 4), {&beta, 2}, {&gamma, 4}})
        if (auto heard = receive(**who, most, seen); !heard)
            return heard;
    seen.who("gamma");
    seen.tell();
    return s.finish();
}

// ---- health ----

using names = std::map<pipe_id, std::string>;

// Who has answered by which pipe when the survey is over.
result<names> answers(survey &round, tally *seen)
{
    names said;
    for (;;) {
        auto answer = round.recv();
        if (!answer && answer.error() == errc::expired)
            return said;
        if (!answer)
            return std::unexpected(answer.error());
        said[answer->pipe()] = answer->text();
        if (seen)
            seen->received(*answer);
    }
}

result<void> lead_health(const scene &s)
{
    tally seen(s, use_case::kind::health);
    auto o = s.here();
    o.end_when_all_answered = true;
    auto boss = listening<surveyor>(s, host::a, survey_at, o);
    if (!boss)
        return std::unexpected(boss.error());
    if (auto listens = s.meet(); !listens)
        return listens;
    if (auto three = boss->wait_peers(3, answer_wait); !three)
        return three;
    auto first = boss->survey("who is there?", answer_wait);
    if (!first)
        return std::unexpected(first.error());
    const auto known = answers(*first, nullptr);
    if (!known)
        return std::unexpected(known.error());
    auto health = boss->survey("healthy?", 500ms);
    if (!health)
        return std::unexpected(health.error());
    if (auto in_time = answers(*health, &seen); !in_time)
        return std::unexpected(in_time.error());
    seen.sent(health->asked().size());
    std::string slow;
    for (const auto pipe : health->pending())
        slow.append(slow.empty() ? "" : " ").append(known->contains(pipe) ? known->at(pipe) : "?");
    seen.who(slow);
    auto again = boss->survey("and now?", answer_wait); // what was late comes before these answers
    if (!again)
        return std::unexpected(again.error());
    if (auto all = answers(*again, nullptr); !all)
        return std::unexpected(all.error());
    seen.late(boss->statistics()[stat::socket_late]);
    seen.tell();
    return s.finish();
}

result<void> follow_health(const scene &s)
{
    if (auto listens = s.meet(); !listens)
        return listens;
    std::vector<std::pair<std::string, respondent>> agents;
    for (const char *name : {"alpha", "beta", "gamma"}) {
        auto one = dialed<respondent>(s, host::a, survey_at);
        if (!one)
            return std::unexpected(one.error());
        agents.emplace_back(name, std::move(*one));
    }
    std::optional<request> put_off; // gamma is busy until it is asked once more
    for (int round = 0; round < 3; ++round)
        for (auto &[name, me] : agents) {
            auto question = me.recv(answer_wait);
            if (!question)
                return std::unexpected(question.error());
            if (name == "gamma" && round == 1) {
                put_off = std::move(*question);
                continue;
            }
            if (name == "gamma" && put_off)
                if (auto late = std::move(*put_off).reply(name, answer_wait); !late)
                    return late;
            if (auto sent = std::move(*question).reply(name, answer_wait); !sent)
                return sent;
        }
    tally(s, use_case::kind::health).tell();
    return s.finish();
}

// ---- pairing ----

result<void> talk(pair &channel, tally &seen)
{
    for (int i = 0; i < lines_said; ++i) {
        if (auto sent = channel.send(std::to_string(i), answer_wait); !sent)
            return sent;
        seen.sent();
        if (auto heard = receive(channel, 1, seen); !heard)
            return heard;
    }
    return {};
}

result<void> lead_pairing(const scene &s)
{
    tally seen(s, use_case::kind::pairing);
    auto channel = listening<pair>(s, host::a, pair_at, s.here());
    if (!channel)
        return std::unexpected(channel.error());
    if (auto listens = s.meet(); !listens)
        return listens;
    if (auto talked = talk(*channel, seen); !talked)
        return talked;
    for (bool refused = false; !refused;) {
        auto event = channel->next_event(answer_wait);
        if (!event)
            return std::unexpected(event.error());
        refused = event->what == pipe_event::kind::refused;
        seen.who(event->reason);
    }
    if (auto undisturbed = talk(*channel, seen); !undisturbed)
        return undisturbed;
    seen.tell();
    return s.finish();
}

result<void> follow_pairing(const scene &s)
{
    tally seen(s, use_case::kind::pairing);
    if (auto listens = s.meet(); !listens)
        return listens;
    auto channel = dialed<pair>(s, host::a, pair_at);
    if (!channel)
        return std::unexpected(channel.error());
    if (auto talked = talk(*channel, seen); !talked)
        return talked;
    const auto third = dialed<pair>(s, host::a, pair_at);
    seen.who(third ? "nobody" : describe(third.error().code()).name);
    if (auto undisturbed = talk(*channel, seen); !undisturbed)
        return undisturbed;
    seen.tell();
    return s.finish();
}

using one_case = result<void> (*)(const scene &);

// The next one begins when nothing of the last one is on its way.
result<void> all_of(std::initializer_list<one_case> cases, const lines &out, const stage *place,
                    const addresses &at, host where)
{
    for (const auto one : cases) {
        {
            const witness see(out, place, manner::standard, where);
            engine_options o;
            o.insecure = true; // two namespaces of our own
            auto on = engine::open(o);
            if (!on)
                return std::unexpected(on.error());
            if (auto played = one({.out = out, .on = *on, .at = at, .see = see}); !played)
                return played;
        }
        if (!out.meet())
            return std::unexpected(error::numbered(2017, "the other side of the demo has ended"));
    }
    return {};
}

} // namespace

result<void> lead_use_cases(const lines &out, const stage *place, const addresses &at)
{
    return all_of({lead_configuration, lead_telemetry, lead_health, lead_pairing}, out, place, at,
                  host::a);
}

result<void> follow_use_cases(const lines &out, const stage *place, const addresses &at)
{
    return all_of({follow_configuration, follow_telemetry, follow_health, follow_pairing}, out,
                  place, at, host::b);
}

} // namespace sp::cli
