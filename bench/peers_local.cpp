// SPDX-License-Identifier: BSD-2-Clause
//
// How do ZeroMQ, NNG and nanomsg fare beside sp on one host? A request and its answer, and messages
// one way, 64 bytes each, between two processes: sp over unixgram, the others over their ipc://,
// all as they are when nothing is set, in turns. Who is slower plays fewer messages. What is
// lost, doubled or out of order ends the program: the messages are numbered, but for the requests
// of sp, whose socket tells.
#include "bench/exchanges.hpp"
#include "bench/folder.hpp"
#include "bench/peers.hpp"

#include <memory>

namespace {

using namespace sp::bench;

constexpr std::size_t body_size = 64;

struct numbered {
    std::uint64_t number = 0;
    std::array<std::byte, body_size - sizeof number> rest{};
    bool operator==(const numbered &) const = default;
};

std::span<std::byte> bytes_of(numbered &body)
{
    return std::as_writable_bytes(std::span(&body, 1));
}

// ---- a request and its answer ----

sp::result<void> ask(peer_socket &socket, std::size_t count, samples &took)
{
    sp::result<void> done;
    numbered question, answer;
    const bool all = timed(count, took, [&] {
        ++question.number;
        done = socket.send(bytes_of(question));
        if (done)
            done = socket.receive(bytes_of(answer));
        return done && answer == question;
    });
    return all || !done ? done : failed("an answer is not to its question");
}

sp::result<void> answer(peer_socket &socket, std::size_t count)
{
    numbered body;
    for (std::size_t n = 0; n < count; ++n) {
        if (auto got = socket.receive(bytes_of(body)); !got)
            return got;
        if (auto sent = socket.send(bytes_of(body)); !sent)
            return sent;
    }
    return {};
}

contender round_trip(const library &of, const std::string &url, std::size_t exchanges)
{
    return {of.name,
            [of, url](side mine) -> sp::result<player> {
                auto socket = of.open(mine == side::asking ? role::req : role::rep, url);
                if (!socket)
                    return std::unexpected(socket.error());
                return [mine, socket = std::move(*socket)](std::size_t count,
                                                           samples &took) mutable {
                    return mine == side::asking ? ask(socket, count, took) : answer(socket, count);
                };
            },
            exchanges};
}

contender round_trip(const char *name, const std::string &url, sp::waiting how)
{
    return {name, [url, how](side mine) { return open_sp(mine, url, body_size, how); }};
}

// ---- one way ----

sp::result<void> pull_all(peer_socket &socket, std::size_t messages)
{
    numbered body;
    for (std::uint64_t n = 0; n < messages; ++n) {
        if (auto got = socket.receive(bytes_of(body)); !got)
            return got;
        if (body.number != n)
            return failed("a message was lost, doubled or out of order");
    }
    return {};
}

sp::result<void> push_all(peer_socket &socket, std::size_t messages)
{
    for (numbered body; body.number < messages; ++body.number)
        if (auto sent = socket.send(bytes_of(body)); !sent)
            return sent;
    return {};
}

// All messages of a round are timed as one exchange: between queues, a few of them say nothing.
contender one_way(const library &of, const std::string &url, std::size_t messages)
{
    return {of.name,
            [of, url, messages](side mine) -> sp::result<player> {
                auto socket = of.open(mine == side::asking ? role::pull : role::push, url);
                if (!socket)
                    return std::unexpected(socket.error());
                return [mine, messages, socket = std::move(*socket)](
                           std::size_t, samples &took) mutable -> sp::result<void> {
                    if (mine == side::answering)
                        return push_all(socket, messages);
                    sp::result<void> done;
                    (void)timed(1, took, [&] {
                        done = pull_all(socket, messages);
                        return done.has_value();
                    });
                    return done;
                };
            },
            1};
}

sp::result<peer_socket> push_of_sp(std::shared_ptr<sp::engine> engine, const std::string &url)
{
    auto push = sp::push::open({.listen = url, .on = engine.get()});
    if (!push)
        return std::unexpected(push.error());
    return peer_socket{[engine, push = std::move(*push)](std::span<const std::byte> body) mutable {
                           return push.send(body, patience);
                       },
                       {}};
}

sp::result<peer_socket> pull_of_sp(std::shared_ptr<sp::engine> engine, const std::string &url)
{
    auto pull = sp::pull::open({.on = engine.get()});
    if (!pull)
        return std::unexpected(pull.error());
    if (auto dialed = pull->dial(url, patience); !dialed)
        return std::unexpected(dialed.error());
    return peer_socket{
        {},
        [engine, pull = std::move(*pull)](std::span<std::byte> body) mutable -> sp::result<void> {
            auto got = pull.recv(patience);
            if (!got)
                return std::unexpected(got.error());
            if (got->size() != body.size())
                return failed("a message has another size than was sent");
            std::ranges::copy(got->body(), body.begin());
            return {};
        }};
}

// PUSH and PULL by the same two calls as the others; a REQ of sp asks and hears in one.
library sp_one_way(const char *name, sp::waiting how)
{
    return {name, SP_VERSION, [how](role of, const std::string &url) -> sp::result<peer_socket> {
                auto engine = sp::engine::open({.waiting = how});
                if (!engine)
                    return std::unexpected(engine.error());
                auto own = std::make_shared<sp::engine>(std::move(*engine));
                return of == role::push ? push_of_sp(own, url) : pull_of_sp(own, url);
            }};
}

// ---- the two tables ----

constexpr const char *sp_waits = "sp, default waiting", *sp_spins = "sp, spinning";
constexpr std::size_t ways = 5; // sp twice, then the others

// Messages of a round of PUSH/PULL: each takes about a quarter of a second.
constexpr std::array<std::size_t, ways> messages{500'000, 500'000, 500'000, 20'000, 100'000};

void print_round_trips(std::span<const contender> all, std::span<const outcome> played)
{
    std::printf("  %-26s %10s %10s %12s\n", "REQ/REP, 64 bytes", "p50 us", "p99 us", "x sp");
    for (std::size_t i = 0; i < ways; ++i)
        std::printf("  %-26s %10.2f %10.2f %12.2f\n", all[i].name.c_str(), played[i].p50_us,
                    played[i].p99_us, played[i].p50_us / played[0].p50_us);
}

std::array<double, ways> rates(std::span<const outcome> played)
{
    std::array<double, ways> each{};
    for (std::size_t i = 0; i < ways; ++i)
        each[i] = static_cast<double>(messages[i]) / played[i].p50_us * 1e6;
    return each;
}

void print_one_way(std::span<const contender> all, const std::array<double, ways> &rate)
{
    std::printf("  %-26s %10s %12s\n", "PUSH/PULL, 64 bytes", "messages", "messages/s");
    for (std::size_t i = 0; i < ways; ++i)
        std::printf("  %-26s %10zu %12.0f\n", all[i].name.c_str(), messages[i], rate[i]);
    std::puts("  nothing was lost, doubled or out of order");
}

} // namespace

int main()
{
    print_heading(
        "peers_local", "other messaging libraries between two processes of this host",
        "5 rounds of each in turns, medians of the rounds, none played again; ends pinned "
        "to different CPUs, with their library's threads");
    const std::array others{zeromq(), nng(), nanomsg()};
    std::printf("  versions  sp %s", SP_VERSION);
    for (const auto &one : others)
        std::printf(", %s %s", one.name.c_str(), one.version.c_str());
    std::puts("");
    if (cpus_allowed() < 2) {
        std::puts("  skipped   two ends that spin need two CPUs\n");
        return 0;
    }
    const folder place;
    const auto own = [&](const char *name) { return "unixgram://" + place.file(name); };
    const auto ipc = [&](const std::string &name) { return "ipc://" + place.file(name); };
    std::vector<contender> all;
    all.push_back(round_trip(sp_waits, own("req-waits"), sp::waiting::adaptive));
    all.push_back(round_trip(sp_spins, own("req-spins"), sp::waiting::spin));
    for (const auto &one : others)
        all.push_back(round_trip(one, ipc("req-" + one.name), 3'000));
    all.push_back(
        one_way(sp_one_way(sp_waits, sp::waiting::adaptive), own("push-waits"), messages[0]));
    all.push_back(one_way(sp_one_way(sp_spins, sp::waiting::spin), own("push-spins"), messages[1]));
    for (std::size_t i = 0; i < others.size(); ++i)
        all.push_back(one_way(others[i], ipc("push-" + others[i].name), messages[2 + i]));

    // Who sleeps is not told from who is disturbed, so nobody's rounds are played again.
    pair two({.exchanges = 20'000, .repeats_max = 0});
    const auto played = two.play(all);
    if (!played)
        return sp::complain(played.error());
    const std::span contenders(all);
    const std::span outcomes(*played);
    print_round_trips(contenders.first(ways), outcomes.first(ways));
    const auto rate = rates(outcomes.last(ways));
    print_one_way(contenders.last(ways), rate);

    double best_us = outcomes[2].p50_us, best_rate = rate[2];
    for (std::size_t i = 3; i < ways; ++i) {
        best_us = std::min(best_us, outcomes[i].p50_us);
        best_rate = std::max(best_rate, rate[i]);
    }
    const double lower = best_us / outcomes[0].p50_us, faster = rate[0] / best_rate;
    print_bar("the best other round trip over sp's", lower, "at least", 50, lower >= 50);
    print_bar("sp's rate over the best other", faster, "at least", 3, faster >= 3);
    std::puts("");
    return 0;
}
