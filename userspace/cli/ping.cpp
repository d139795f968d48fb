// SPDX-License-Identifier: BSD-2-Clause
//
// `sp ping`: is the XDP program of sp alive on another host, and how far is it? What comes back was
// turned around by the program itself, so it proves host, NIC and program, and no application.
#include "userspace/cli/echo.hpp"
#include "userspace/cli/interrupt.hpp"
#include "userspace/cli/verbs.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <map>
#include <numeric>
#include <unistd.h>

namespace sp::cli {
namespace {

using std::chrono::nanoseconds;
using namespace std::chrono_literals;

constexpr std::size_t times_max = 100'000; // percentiles are of the last so many

// One run: what is on its way, and what has come.
class pinging {
public:
    pinging(const ping_arguments &a, const target &host, echo &asker, console &out)
        : arguments_(&a), host_(&host), asker_(&asker), out_(&out)
    {
    }

    // To the end of the count, an interruption (the signal's number), or a refusal.
    int run(int signals)
    {
        for (;;) {
            const auto now = std::chrono::steady_clock::now();
            expire(now);
            const bool more = !arguments_->count || asked_ < *arguments_->count;
            if (!more && waiting_.empty())
                return 0;
            // Without an interval the next question waits for the last one's end.
            const bool free = arguments_->interval > 0ns || waiting_.empty();
            if (more && free && now >= next_) {
                ask(now);
                continue;
            }
            auto until = waiting_.empty() ? next_ : waiting_.begin()->second + arguments_->timeout;
            if (more && free)
                until = std::min(until, next_);
            if (const auto came = asker_->wait(until, signals))
                take(*came);
            else if (const int signal = take_signal(signals))
                return signal;
            if (reader_gone_ || (refused_ && !answered_))
                return 0;
        }
    }

    [[nodiscard]] bool reader_gone() const noexcept { return reader_gone_; }
    [[nodiscard]] std::uint64_t answered() const noexcept { return answered_; }
    [[nodiscard]] std::uint64_t refused() const noexcept { return refused_; }
    [[nodiscard]] std::uint64_t asked() const noexcept { return asked_; }
    [[nodiscard]] int why_not_sent() const noexcept { return why_not_sent_; }

    int conclude(int exit)
    {
        std::ranges::sort(times_);
        const double lost =
            asked_ ? 100.0 * static_cast<double>(asked_ - answered_) / static_cast<double>(asked_)
                   : 0.0;
        if (out_->json()) {
            json::object members{{"host", host_->text},
                                 {"asked", asked_},
                                 {"answered", answered_},
                                 {"refused", refused_},
                                 {"loss_percent", lost}};
            if (!times_.empty())
                members.push_back({"ms", json::object{{"min", least_},
                                                      {"avg", average()},
                                                      {"p50", percentile(50)},
                                                      {"p90", percentile(90)},
                                                      {"p99", percentile(99)},
                                                      {"max", most_}}});
            return out_->object("sp.ping/1", exit, std::move(members));
        }
        auto text = fmt::format("{} asked, {} answered, {:.4g} % lost", asked_, answered_, lost);
        if (!times_.empty())
            text += fmt::format("; ms: min {:.3f} avg {:.3f} p50 {:.3f} p90 {:.3f} p99 {:.3f} max "
                                "{:.3f}",
                                least_, average(), percentile(50), percentile(90), percentile(99),
                                most_);
        return out_->print(text + '\n') ? exit : exit_failed;
    }

private:
    void ask(instant now)
    {
        next_ = std::max(next_ + arguments_->interval, now);
        const auto number = asked_++;
        const auto before = std::chrono::steady_clock::now();
        if (const int failed = asker_->ask(number)) {
            why_not_sent_ = failed;
            return say(number, std::strerror(failed));
        }
        waiting_.emplace(number, before);
    }

    void take(const echo::answer &came)
    {
        using enum echo::answer::kind;
        if (came.what == answered) {
            const auto question = waiting_.find(came.number);
            if (question == waiting_.end())
                return; // it came after its time, or twice
            const auto took = came.at - question->second;
            waiting_.erase(question);
            note(std::chrono::duration<double, std::milli>(took).count());
            return say(came.number, {}, times_.empty() ? 0.0 : last_);
        }
        if (came.what == too_large || waiting_.empty())
            return;
        // The oldest question is what an error is about, whatever was quoted of it.
        const auto number = waiting_.begin()->first;
        waiting_.erase(waiting_.begin());
        refused_ += came.what == refused;
        say(number, came.what == refused ? "refused" : "unreachable");
    }

    void expire(instant now)
    {
        while (!waiting_.empty() && now >= waiting_.begin()->second + arguments_->timeout) {
            const auto number = waiting_.begin()->first;
            waiting_.erase(waiting_.begin());
            say(number, "no answer");
        }
    }

    void note(double ms)
    {
        last_ = ms;
        least_ = answered_ ? std::min(least_, ms) : ms;
        most_ = std::max(most_, ms);
        sum_ += ms;
        if (times_.size() < times_max)
            times_.push_back(ms);
        else
            times_[answered_ % times_max] = ms;
        ++answered_;
    }

    void say(std::uint64_t number, std::string_view trouble, double ms = 0)
    {
        if (out_->json()) {
            json::object members{{"host", host_->text}, {"number", number}};
            if (trouble.empty())
                members.push_back({"ms", ms});
            else
                members.push_back({"trouble", std::string(trouble)});
            reader_gone_ |= out_->object("sp.ping.answer/1", exit_done, std::move(members)) != 0;
            return;
        }
        const auto line = trouble.empty()
                              ? fmt::format("PONG {} n={} {:.3f} ms\n", host_->text, number, ms)
                              : fmt::format("---- {} n={} {}\n", host_->text, number, trouble);
        reader_gone_ |= !out_->print(line);
    }

    [[nodiscard]] double average() const { return sum_ / static_cast<double>(answered_); }
    [[nodiscard]] double percentile(int p) const // of what is sorted; the nearest rank
    {
        const auto rank = std::ceil(p / 100.0 * static_cast<double>(times_.size()));
        return times_[static_cast<std::size_t>(std::max(rank, 1.0)) - 1];
    }

    const ping_arguments *arguments_;
    const target *host_;
    echo *asker_;
    console *out_;
    std::map<std::uint64_t, instant> waiting_; // by number: the oldest first
    std::vector<double> times_;
    double last_ = 0, least_ = 0, most_ = 0, sum_ = 0; // ms
    std::uint64_t asked_ = 0, answered_ = 0, refused_ = 0;
    int why_not_sent_ = 0;
    instant next_ = instant::min();
    bool reader_gone_ = false;
};

// What the silence of the program may mean: does the host itself say something?
error silence(const target &host, const ping_arguments &a, const std::string &carried)
{
    const bool up = answers_echo(host);
    return error::numbered(
        1021, fmt::format("no answer from {}", host.text),
        up ? fmt::format("the host answers ICMP echo: {} is dropped on the way, or sp runs there "
                         "without the XDP program",
                         carried)
           : "the host is down, or nothing reaches it",
        fmt::format("sp doctor --peer {} tells more{}", host.text,
                    up && !a.behind_udp ? "; encap=udp where the network drops that protocol"
                                        : ""));
}

} // namespace

int ping(const ping_arguments &a, console &out)
{
    const auto host = find_host(a.host);
    if (!host)
        return out.fail(host.error());
    auto asker =
        echo::open(*host, a.behind_udp ? question::ping_behind_udp : question::ping, a.udp_port);
    if (!asker)
        return out.fail(asker.error());
    const auto carried = a.behind_udp ? fmt::format("UDP port {}", a.udp_port)
                                      : fmt::format("IP protocol {}", SP_IP_PROTOCOL);
    const int signals = open_signals();
    pinging all(a, *host, *asker, out);
    const int signal = all.run(signals);
    ::close(signals);
    if (all.reader_gone())
        return exit_reader_gone();
    if (all.refused() && !all.answered())
        return out.fail(
            error::numbered(1020, fmt::format("{} is up, but sp is not loaded there", host->text),
                            fmt::format("it answered that it does not know {}", carried),
                            a.behind_udp ? "there: sp xdp load IFACE, or a listener with encap=udp"
                                         : "there: sp xdp load IFACE, or start a listener"));
    if (const int done = all.conclude(signal ? exit_signal + signal : exit_done);
        done || all.answered() || !all.asked())
        return done;
    if (all.why_not_sent())
        return out.fail(error::numbered(1023, fmt::format("cannot send to {}", host->text),
                                        std::strerror(all.why_not_sent())));
    return out.fail(silence(*host, a, carried));
}

} // namespace sp::cli
