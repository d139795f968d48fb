// SPDX-License-Identifier: BSD-2-Clause
//
// See demo_parts.hpp. Both sides walk through the same exchanges and rounds and meet at the same
// points, so neither is told what comes next.
#include "userspace/cli/demo_parts.hpp"

#include "sp/sp.hpp"
#include "userspace/cli/demo_tcp.hpp"
#include "userspace/cli/demo_witness.hpp"

#include <array>
#include <optional>
#include <utility>

namespace sp::cli {
namespace {

using namespace std::chrono_literals;
using body = std::array<std::byte, demo_body_size>;

constexpr auto answer_wait = 10s; // far more than a machine with other work needs
constexpr std::uint16_t tcp_port = 7001;

std::unexpected<error> other_side_gone()
{
    return std::unexpected(error::numbered(2017, "the other side of the demo has ended"));
}

engine_options engine_for(manner how)
{
    engine_options o;
    o.insecure = true; // two namespaces of our own
    o.waiting = how == manner::spinning ? waiting::spin : waiting::adaptive;
    return o;
}

reading reading_for(manner how)
{
    return how == manner::spinning ? reading::spin : reading::block;
}

// The share of one round; the first one takes what does not divide.
std::uint64_t share(std::uint64_t messages, std::uint64_t round)
{
    return messages / demo_rounds + (round == 0 ? messages % demo_rounds : 0);
}

// ---- the asking side ----

result<void> ask_round(req &asker, std::uint64_t messages, stopwatch &watch, figures &sum)
{
    const body question{};
    for (std::uint64_t n = 0; n < messages; ++n) {
        const auto began = engine_clock::now();
        ++sum.asked;
        auto answer = asker.request(bytes(question), answer_wait);
        if (!answer)
            return std::unexpected(answer.error());
        watch.add(engine_clock::now() - began);
        ++sum.answered;
        sum.via_xdp += answer->transport() == "ip/xdp";
    }
    watch.end_round();
    return {};
}

result<void> tcp_ask_round(const tcp_peer &peer, reading how, std::uint64_t messages,
                           stopwatch &watch, figures &sum)
{
    body message{};
    for (std::uint64_t n = 0; n < messages; ++n) {
        const auto began = engine_clock::now();
        ++sum.asked;
        if (!peer.write_all(message) || !peer.read_all(message, how))
            return other_side_gone();
        watch.add(engine_clock::now() - began);
        ++sum.answered;
    }
    watch.end_round();
    return {};
}

void tell_figures(const lines &out, report::kind what, manner how, figures sum,
                  const stopwatch &watch)
{
    sum.p50_us = watch.p50_us();
    sum.p99_us = watch.p99_us();
    report r;
    r.what = what;
    r.how = how;
    r.measured = sum;
    out.tell(r);
}

result<void> ask(const lines &out, const script &s, const exchange &x)
{
    const witness w(out, s.place, x.how, host::a);
    auto engine = engine::open(engine_for(x.how));
    if (!engine)
        return std::unexpected(engine.error());
    auto asker = req::open({.on = &*engine});
    if (!asker)
        return std::unexpected(asker.error());
    if (!out.meet()) // REP listens
        return other_side_gone();
    if (auto dialed = asker->dial(s.at(host::b, 0), answer_wait); !dialed)
        return std::unexpected(dialed.error());
    if (auto seen = w.tell(report::kind::attached); !seen)
        return seen;
    std::optional<tcp_peer> tcp;
    if (s.place) {
        auto peer = tcp_peer::connect(s.place->at(host::b).address, tcp_port);
        if (!peer)
            return std::unexpected(peer.error());
        tcp.emplace(std::move(*peer));
    }
    const auto largest = static_cast<std::size_t>(share(x.messages, 0));
    stopwatch ours(largest), theirs(largest);
    figures our_sum, their_sum;
    for (std::uint64_t round = 0; round < demo_rounds; ++round) {
        if (auto played = ask_round(*asker, share(x.messages, round), ours, our_sum); !played)
            return played;
        if (!tcp)
            continue;
        if (auto played = tcp_ask_round(*tcp, reading_for(x.how), share(x.messages, round), theirs,
                                        their_sum);
            !played)
            return played;
    }
    tell_figures(out, report::kind::messages, x.how, our_sum, ours);
    if (tcp)
        tell_figures(out, report::kind::tcp, x.how, their_sum, theirs);
    if (!out.meet()) // all is across: the counters stand
        return other_side_gone();
    if (auto seen = w.tell(report::kind::proof); !seen)
        return seen;
    return out.meet() ? result<void>()
                      : other_side_gone(); // both have looked: now it may be closed
}

// ---- the answering side ----

result<void> answer_round(rep &service, std::uint64_t messages, figures &sum)
{
    for (std::uint64_t n = 0; n < messages; ++n) {
        auto question = service.recv(answer_wait);
        if (!question)
            return std::unexpected(question.error());
        ++sum.asked;
        sum.via_xdp += question->transport() == "ip/xdp";
        if (auto sent = std::move(*question).reply(question->body(), answer_wait); !sent)
            return sent;
        ++sum.answered;
    }
    return {};
}

result<void> tcp_answer_round(const tcp_peer &peer, reading how, std::uint64_t messages)
{
    body message{};
    for (std::uint64_t n = 0; n < messages; ++n)
        if (!peer.read_all(message, how) || !peer.write_all(message))
            return other_side_gone();
    return {};
}

result<void> answer(const lines &out, const script &s, const exchange &x)
{
    const witness w(out, s.place, x.how, host::b);
    auto engine = engine::open(engine_for(x.how));
    if (!engine)
        return std::unexpected(engine.error());
    auto service = rep::open({.on = &*engine});
    if (!service)
        return std::unexpected(service.error());
    if (auto listening = service->listen(s.at(host::b, 0)); !listening)
        return std::unexpected(listening.error());
    std::optional<tcp_peer> listener, tcp;
    if (s.place) {
        auto opened = tcp_peer::listen(tcp_port);
        if (!opened)
            return std::unexpected(opened.error());
        listener.emplace(std::move(*opened));
    }
    if (auto seen = w.tell(report::kind::attached); !seen)
        return seen;
    if (!out.meet()) // REP listens
        return other_side_gone();
    if (listener) {
        auto peer = listener->accept();
        if (!peer)
            return std::unexpected(peer.error());
        tcp.emplace(std::move(*peer));
    }
    figures sum;
    for (std::uint64_t round = 0; round < demo_rounds; ++round) {
        if (auto played = answer_round(*service, share(x.messages, round), sum); !played)
            return played;
        if (!tcp)
            continue;
        if (auto played = tcp_answer_round(*tcp, reading_for(x.how), share(x.messages, round));
            !played)
            return played;
    }
    tell_figures(out, report::kind::messages, x.how, sum, stopwatch(0));
    if (!out.meet()) // all is across: the counters stand
        return other_side_gone();
    if (auto seen = w.tell(report::kind::proof); !seen)
        return seen;
    return out.meet() ? result<void>()
                      : other_side_gone(); // both have looked: now it may be closed
}

template <class Exchange, class Cases>
part on(host where, script what, Exchange one, Cases cases)
{
    return [=, s = std::move(what)](const lines &out) -> result<void> {
        if (s.place)
            if (auto inside = s.place->enter(where); !inside)
                return inside;
        for (const auto &x : s.exchanges)
            if (auto played = one(out, s, x); !played)
                return played;
        return cases(out, s.place, s.at);
    };
}

} // namespace

part asking(script what)
{
    return on(host::a, std::move(what), ask, lead_use_cases);
}

part answering(script what)
{
    return on(host::b, std::move(what), answer, follow_use_cases);
}

} // namespace sp::cli
