// SPDX-License-Identifier: BSD-2-Clause
//
// Health survey (SURVEYOR/RESPONDENT): an orchestrator asks all agents at once and goes on after
// 500 ms with the answers it has. Who was too slow is known by name; the answer that comes too late
// is counted, and taken for nothing else.
//
//   health orchestrator URL AGENTS  asks as soon as AGENTS are there
//   health agents URL NAME...       an agent each; one called slow... puts its health off until it
//                                   is asked again
#include <cstdio>
#include <future>
#include <map>
#include <optional>
#include <set>
#include <sp/sp.hpp>
#include <string>
#include <vector>
using namespace std::chrono_literals;

constexpr auto patience = 20s;

struct answers {
    std::map<sp::pipe_id, std::string> names; // who answered by which pipe
    std::set<std::string> ways;               // the transports that the answers took
};

// All answers to a question, until its time is over or everybody has answered.
sp::result<answers> collect(sp::survey &round)
{
    answers said;
    for (;;) {
        auto answer = round.recv();
        if (!answer && answer.error() == sp::errc::expired)
            return said;
        if (!answer)
            return std::unexpected(answer.error());
        said.names[answer->pipe()] = answer->text();
        said.ways.emplace(answer->transport());
    }
}

std::string names(const std::vector<sp::pipe_id> &pipes, const answers &known)
{
    std::set<std::string> sorted;
    for (const auto pipe : pipes)
        sorted.insert(known.names.contains(pipe) ? known.names.at(pipe) : "somebody new");
    std::string text;
    for (const auto &name : sorted)
        text += " " + name;
    return text.empty() ? " nobody" : text;
}

sp::result<int> orchestrate(sp::surveyor &boss, std::size_t agents)
{
    if (auto here = boss.wait_peers(agents, patience); !here)
        return std::unexpected(here.error());
    auto first = boss.survey("who is there?", patience);
    if (!first)
        return std::unexpected(first.error());
    const auto known = collect(*first);
    if (!known)
        return std::unexpected(known.error());
    std::printf("there:%s\n", names(first->answered(), *known).c_str());

    auto health = boss.survey("healthy?", 500ms);
    if (!health)
        return std::unexpected(health.error());
    const auto in_time = collect(*health);
    if (!in_time)
        return std::unexpected(in_time.error());
    const auto slow = health->pending();
    std::printf("healthy:%s, via", names(health->answered(), *known).c_str());
    for (const auto &way : in_time->ways)
        std::printf(" %s", way.c_str());
    std::printf("\ntoo slow for 500 ms:%s\n", names(slow, *known).c_str());

    auto last = boss.survey("goodbye", patience);
    if (!last)
        return std::unexpected(last.error());
    const auto left = collect(*last);
    if (!left)
        return std::unexpected(left.error());
    const auto late = boss.statistics()[sp::stat::socket_late]; // it came before the goodbye
    std::printf("said goodbye: %zu of %zu; came late: %d\n", left->names.size(), agents, int(late));
    return left->names.size() == agents && late == slow.size() ? 0 : 1;
}

int agent(const std::string &url, const std::string &name)
{
    auto me = sp::respondent::open({.dial = url});
    if (!me)
        return sp::complain(me.error());
    std::optional<sp::request> put_off; // what the slow one has not answered yet
    for (bool done = false; !done;) {
        auto question = me->recv(patience);
        if (!question)
            return sp::complain(question.error());
        if (name.starts_with("slow") && question->text() == "healthy?") {
            put_off = std::move(*question);
            continue;
        }
        if (put_off)
            if (auto sent = std::move(*put_off).reply(name + " at last", patience); !sent)
                return sp::complain(sent.error());
        put_off.reset();
        done = question->text() == "goodbye";
        if (auto sent = std::move(*question).reply(name, patience); !sent)
            return sp::complain(sent.error());
    }
    return 0;
}

int main(int argc, char **argv)
{
    const std::vector<std::string> words(argv + 1, argv + argc);
    if (words.size() == 3 && words[0] == "orchestrator") {
        auto boss = sp::surveyor::open({.listen = words[1], .end_when_all_answered = true});
        if (!boss)
            return sp::complain(boss.error());
        const auto done = orchestrate(*boss, std::stoul(words[2]));
        return done ? *done : sp::complain(done.error());
    }
    if (words.size() < 3 || words[0] != "agents")
        return std::fputs("usage: health orchestrator URL AGENTS\n"
                          "       health agents URL NAME...\n",
                          stderr),
               2;
    std::vector<std::future<int>> agents;
    for (std::size_t i = 2; i < words.size(); ++i)
        agents.push_back(std::async(std::launch::async, agent, words[1], words[i]));
    int failed = 0;
    for (auto &one : agents)
        failed |= one.get();
    return failed;
}
