// SPDX-License-Identifier: BSD-2-Clause
//
// Telemetry pipeline (PUSH/PULL): producers hand each metric to one of the workers, workers hand
// what they made of it to a sink. Whoever is slow gets less, and when all are slow the producers
// wait: nothing is lost and nothing is done twice, which the sink checks.
//
//   telemetry center SINK-URL PRODUCERS METRICS WORKER-URL...  the producers and the sink
//   telemetry workers SINK-URL WORKER-URL...                   a worker for each URL
#include <cstdio>
#include <future>
#include <map>
#include <set>
#include <sp/sp.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>
using namespace std::chrono_literals;

constexpr auto patience = 20s;
using urls = std::vector<std::string>;

int worker(const std::string &sink, const std::string &url)
{
    auto in = sp::pull::open({.listen = url});
    if (!in)
        return sp::complain(in.error());
    auto out = sp::push::open({.dial = sink});
    if (!out)
        return sp::complain(out.error());
    // The work is done when the sink has come and gone: closing ends the wait below.
    std::jthread watch([&](std::stop_token stop) {
        while (auto event = out->next_event(stop))
            if (event->what == sp::pipe_event::kind::detached)
                return in->close();
    });
    int done = 0;
    for (;; ++done) {
        auto metric = in->recv(patience);
        if (!metric && metric.error() == sp::errc::closed)
            break;
        if (!metric)
            return sp::complain(metric.error());
        std::string result(metric->text());
        result += " " + url;
        if (auto sent = out->send(result, patience); !sent)
            return sp::complain(sent.error());
    }
    std::printf("%s: %d metrics\n", url.c_str(), done);
    return 0;
}

int produce(sp::push &out, int producer, int metrics)
{
    for (int i = 0; i < metrics; ++i)
        if (auto sent = out.send(std::to_string(producer * metrics + i), patience); !sent)
            return sp::complain(sent.error());
    return 0;
}

// Takes results until every metric has been seen.
int collect(sp::pull &sink, std::size_t metrics)
{
    std::set<int> seen;
    std::map<std::string, int> share;
    std::string via;
    std::size_t twice = 0;
    while (seen.size() < metrics) {
        auto result = sink.recv(patience);
        if (!result) {
            std::printf("lost %zu\n", metrics - seen.size());
            return sp::complain(result.error());
        }
        std::istringstream words{std::string(result->text())};
        int metric = -1;
        std::string worker;
        words >> metric >> worker;
        twice += !seen.insert(metric).second;
        ++share[worker];
        via = result->transport();
    }
    std::printf("%zu of %zu metrics, lost 0, twice %zu, by %zu workers, via %s\n", seen.size(),
                metrics, twice, share.size(), via.c_str());
    return twice == 0 ? 0 : 1;
}

int center(const std::string &url, int producers, int metrics, const urls &workers)
{
    auto sink = sp::pull::open({.listen = url});
    if (!sink)
        return sp::complain(sink.error());
    std::vector<sp::push> sockets; // they stay until the sink has everything
    for (int i = 0; i < producers; ++i) {
        auto out = sp::push::open();
        if (!out)
            return sp::complain(out.error());
        for (const auto &worker : workers)
            if (auto dialed = out->dial(worker); !dialed)
                return sp::complain(dialed.error());
        if (auto here = out->wait_peers(workers.size(), patience); !here)
            return sp::complain(here.error());
        sockets.push_back(std::move(*out));
    }
    std::vector<std::future<int>> running;
    for (int i = 0; i < producers; ++i)
        running.push_back(
            std::async(std::launch::async, [&, i] { return produce(sockets[i], i, metrics); }));
    int failed = collect(*sink, std::size_t(producers) * std::size_t(metrics));
    for (auto &one : running)
        failed |= one.get();
    return failed;
}

int main(int argc, char **argv)
{
    const urls words(argv + 1, argv + argc);
    if (words.size() > 4 && words[0] == "center")
        return center(words[1], std::stoi(words[2]), std::stoi(words[3]),
                      {words.begin() + 4, words.end()});
    if (words.size() < 3 || words[0] != "workers")
        return std::fputs("usage: telemetry center SINK-URL PRODUCERS METRICS WORKER-URL...\n"
                          "       telemetry workers SINK-URL WORKER-URL...\n",
                          stderr),
               2;
    std::vector<std::future<int>> workers;
    for (std::size_t i = 2; i < words.size(); ++i)
        workers.push_back(std::async(std::launch::async, worker, words[1], words[i]));
    int failed = 0;
    for (auto &one : workers)
        failed |= one.get();
    return failed;
}
