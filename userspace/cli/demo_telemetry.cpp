// SPDX-License-Identifier: BSD-2-Clause
//
// Telemetry in demo_scene.hpp: producers and the sink on host a, workers on host b.
#include "userspace/cli/demo_scene.hpp"

#include <algorithm>
#include <functional>
#include <future>
#include <set>
#include <utility>
#include <vector>

namespace sp::cli {
namespace {

constexpr int producers = 3, workers = 3, metrics = 1000;
constexpr unsigned sink_at = 20, workers_at = 21;

result<void> produce(push &out, int first)
{
    for (int i = 0; i < metrics; ++i)
        if (auto sent = out.send(std::to_string(first + i), answer_wait); !sent)
            return sent;
    return {};
}

result<void> collect(pull &sink, tally &seen)
{
    std::set<std::string> metric, worker;
    while (metric.size() < std::size_t{producers} * metrics) {
        auto result = sink.recv(answer_wait);
        if (!result && result.error() == errc::timed_out)
            break;
        if (!result)
            return std::unexpected(result.error());
        const auto text = result->text();
        const auto space = std::min(text.find(' '), text.size());
        worker.emplace(text.substr(space));
        if (metric.emplace(text.substr(0, space)).second)
            seen.received(*result);
        else
            seen.twice();
    }
    seen.who(std::to_string(worker.size()));
    return {};
}

// Until its socket is closed.
result<use_case> work(const scene &s, pull &in, push &out, int number)
{
    tally seen(s, use_case::kind::telemetry);
    for (;;) {
        auto metric = in.recv();
        if (!metric && metric.error() == errc::closed)
            return seen.seen();
        if (!metric)
            return std::unexpected(metric.error());
        seen.received(*metric);
        std::string done(metric->text());
        done.append(" ").append(std::to_string(number));
        if (auto sent = out.send(done, answer_wait); !sent)
            return std::unexpected(sent.error());
        seen.sent();
    }
}

} // namespace

result<void> lead_telemetry(const scene &s)
{
    tally seen(s, use_case::kind::telemetry);
    auto sink = listening<pull>(s, host::a, sink_at, s.here());
    if (!sink)
        return std::unexpected(sink.error());
    if (auto all_listen = s.meet(); !all_listen)
        return all_listen;
    std::vector<push> ready; // until the sink has everything
    std::vector<std::future<result<void>>> running;
    for (int p = 0; p < producers; ++p) {
        auto out = dialed<push>(s, host::b, workers_at);
        for (unsigned w = 1; out && w < workers; ++w)
            if (auto more = out->dial(s.at(host::b, workers_at + w), answer_wait); !more)
                return std::unexpected(more.error());
        if (!out)
            return std::unexpected(out.error());
        ready.push_back(std::move(*out));
    }
    for (int p = 0; p < producers; ++p)
        running.push_back(std::async(std::launch::async, produce,
                                     std::ref(ready[static_cast<std::size_t>(p)]), p * metrics));
    seen.sent(std::uint64_t{producers} * metrics);
    if (auto collected = collect(*sink, seen); !collected)
        return collected;
    for (auto &one : running)
        if (auto done = one.get(); !done)
            return done;
    seen.tell();
    return s.finish();
}

result<void> follow_telemetry(const scene &s)
{
    std::vector<pull> in;
    std::vector<push> out;
    for (unsigned w = 0; w < workers; ++w) {
        auto one = listening<pull>(s, host::b, workers_at + w, s.here());
        if (!one)
            return std::unexpected(one.error());
        in.push_back(std::move(*one));
    }
    if (auto all_listen = s.meet(); !all_listen)
        return all_listen;
    for (unsigned w = 0; w < workers; ++w) {
        auto one = dialed<push>(s, host::a, sink_at);
        if (!one)
            return std::unexpected(one.error());
        out.push_back(std::move(*one));
    }
    std::vector<std::future<result<use_case>>> running;
    for (std::size_t w = 0; w < workers; ++w)
        running.push_back(std::async(
            std::launch::async, [&, w] { return work(s, in[w], out[w], static_cast<int>(w)); }));
    const auto over = s.finish();
    for (auto &one : in)
        one.close();
    report r;
    r.what = report::kind::used;
    r.use.what = use_case::kind::telemetry;
    for (auto &one : running) {
        const auto did = one.get();
        if (!did)
            return std::unexpected(did.error());
        r.use.sent += did->sent;
        r.use.received += did->received;
        r.use.by_way += did->by_way;
    }
    s.out.tell(r);
    return over;
}

} // namespace sp::cli
