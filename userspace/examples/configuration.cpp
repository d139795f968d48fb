// SPDX-License-Identifier: BSD-2-Clause
//
// Configuration distribution (PUB/SUB): a controller publishes its settings, agents hear of those
// they have subscribed to. What is published before an agent is there does not reach it, so the
// controller says everything again when somebody has come late.
//
//   configuration controller URL AGENTS LATE  publishes to AGENTS, later also to LATE more
//   configuration agents URL NAME=TOPIC...    an agent each; +NAME=TOPIC comes late: when the
//                                             others have heard something
#include <atomic>
#include <cstdio>
#include <future>
#include <map>
#include <sp/sp.hpp>
#include <sstream>
#include <string>
#include <vector>
using namespace std::chrono_literals;

constexpr auto patience = 20s;

sp::result<void> publish(sp::pub &feed, int version)
{
    for (const std::string setting : {"config.routing ", "config.logging "})
        if (auto sent = feed.send(setting + std::to_string(version)); !sent)
            return sent;
    return {};
}

sp::result<void> control(sp::pub &feed, std::size_t agents, std::size_t late)
{
    if (auto here = feed.wait_peers(agents, patience); !here)
        return here;
    if (auto sent = publish(feed, 1); !sent)
        return sent;
    std::printf("version 1 for %zu agents\n", agents);
    if (late > 0) {
        if (auto here = feed.wait_peers(agents + late, patience); !here)
            return here;
        if (auto sent = publish(feed, 1); !sent)
            return sent;
        std::printf("version 1 again for %zu that came late\n", late);
    }
    if (auto sent = publish(feed, 2); !sent)
        return sent;
    if (auto sent = feed.send("end"); !sent)
        return sent;
    std::printf("version 2 for %zu agents\n", agents + late);
    while (feed.peers() > 0) // an agent goes when it has read the end
        if (auto event = feed.next_event(patience); !event)
            return std::unexpected(event.error());
    return {};
}

int controller(const std::string &url, std::size_t agents, std::size_t late)
{
    auto feed = sp::pub::open({.listen = url});
    if (!feed)
        return sp::complain(feed.error());
    if (auto done = control(*feed, agents, late); !done)
        return sp::complain(done.error());
    const auto dropped = feed->statistics()[sp::stat::socket_send_full]; // for one who was slow
    std::printf("dropped %d\n", int(dropped));
    return dropped == 0 ? 0 : 1;
}

int agent(const std::string &url, const std::string &name, const std::string &topic,
          std::atomic_flag &heard)
{
    auto feed = sp::sub::open();
    if (!feed)
        return sp::complain(feed.error());
    for (const auto &wanted : {topic, std::string("end")}) // before dialing: nothing is missed
        if (auto subscribed = feed->subscribe(wanted); !subscribed)
            return sp::complain(subscribed.error());
    if (auto dialed = feed->dial(url); !dialed)
        return sp::complain(dialed.error());
    std::map<std::string, int> known; // setting and version
    std::string via;
    int updates = 0, lost = 0;
    for (;;) {
        auto news = feed->recv(patience);
        if (!news)
            return sp::complain(news.error());
        if (news->text() == "end")
            break;
        std::istringstream words{std::string(news->text())};
        std::string setting;
        int version = 0;
        words >> setting >> version;
        auto &last = known[setting];
        if (version == last)
            continue; // said again for somebody else
        if (last > 0)
            lost += version - last - 1;
        last = version;
        via = news->transport();
        ++updates;
        heard.test_and_set();
        heard.notify_all();
    }
    std::printf("%s: %d updates to %s, lost %d, via %s\n", name.c_str(), updates, topic.c_str(),
                lost, via.c_str());
    return lost == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    const std::vector<std::string> words(argv + 1, argv + argc);
    if (words.size() == 4 && words[0] == "controller")
        return controller(words[1], std::stoul(words[2]), std::stoul(words[3]));
    if (words.size() < 3 || words[0] != "agents")
        return std::fputs("usage: configuration controller URL AGENTS LATE\n"
                          "       configuration agents URL NAME=TOPIC...\n",
                          stderr),
               2;
    std::atomic_flag heard;
    std::vector<std::future<int>> agents;
    for (std::size_t i = 2; i < words.size(); ++i)
        agents.push_back(std::async(std::launch::async, [&, what = words[i]] {
            const bool late = what.starts_with('+');
            const auto equals = what.find('=');
            if (late)
                heard.wait(false);
            const auto status =
                agent(words[1], what.substr(late, equals - late), what.substr(equals + 1), heard);
            heard.test_and_set(); // also when it failed: nobody shall wait for ever
            heard.notify_all();
            return status;
        }));
    int failed = 0;
    for (auto &one : agents)
        failed |= one.get();
    return failed;
}
