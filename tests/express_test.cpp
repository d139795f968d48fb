// SPDX-License-Identifier: BSD-2-Clause
//
// The short way of a message through shared memory (engine/express.hpp) beside the long one. For
// the machines: two of a kind live through the same random events, one of them by the short way
// wherever it is offered, and are compared after each. For sockets: what the long way promises
// holds when both are mixed.
#include "tests/support/local.hpp"
#include "userspace/protocol/push.hpp"
#include "userspace/protocol/rep.hpp"
#include "userspace/protocol/req.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace {

using namespace sp::test;
using namespace sp::protocol;
using sp::stat;

// ---- machines

constexpr std::uint32_t lives = 200, events = 400;

class chance {
public:
    explicit chance(std::uint32_t seed) : next_(seed) {}
    std::uint32_t operator()() { return static_cast<std::uint32_t>(next_()); }

private:
    std::mt19937 next_;
};

// A machine, what it has sent, and the census of its frames.
template <class Machine>
struct life {
    template <class... Args>
    explicit life(Args &&...args) : machine(std::forward<Args>(args)...)
    {
    }

    void settle()
    {
        do {
            for (const auto &e : out.all())
                switch (e.what) {
                case effect::kind::send:
                    wire.push_back({e.pipe, {e.header.begin(), e.header.end()}});
                    sent_on = e.pipe;
                    break;
                case effect::kind::retain:
                    ++held[e.frame];
                    break;
                case effect::kind::release:
                    --held[e.frame];
                    break;
                case effect::kind::count:
                    counted[e.why] += static_cast<int>(e.times);
                    break;
                case effect::kind::consumed:
                    ++consumed;
                    break;
                case effect::kind::close_pipe:
                    ++closed;
                    break;
                case effect::kind::board:
                case effect::kind::publish:
                case effect::kind::part:
                    FAIL() << "none of these machines broadcasts";
                }
            out.clear();
            machine.pump(now, out);
        } while (!out.empty());
    }
    // Shared memory has room again as soon as a message is in it, and has confirmed it.
    void settle_sent()
    {
        settle();
        while (sent_on != no_pipe) {
            const auto pipe = std::exchange(sent_on, no_pipe);
            if constexpr (requires { machine.on_confirmed(pipe, 1, out); })
                machine.on_confirmed(pipe, 1, out);
            machine.on_pipe_ready(pipe, now, out);
            settle();
        }
    }
    frame_id frame()
    {
        const auto f = static_cast<frame_id>(frames++);
        held[f] = 1;
        return f;
    }
    [[nodiscard]] long frames_held() const
    {
        long n = 0;
        for (const auto &[f, count] : held)
            n += count;
        return n;
    }

    Machine machine;
    effects out;
    instant now{1h};
    std::vector<std::pair<pipe_id, std::vector<std::byte>>> wire;
    pipe_id sent_on = no_pipe;
    std::map<stat, int> counted;
    int consumed = 0, closed = 0;
    std::map<frame_id, int> held;
    std::uint32_t frames = 0;
};

// The pipes of both lives.
class some_pipes {
public:
    // One more, or one fewer if there are `most`.
    template <class Life>
    void come_or_go(std::size_t most, std::size_t capacity, Life &a, Life &b)
    {
        for (auto *l : {&a, &b}) {
            if (names_.size() < most) {
                const auto name = static_cast<pipe_id>(generation_ << 16 | names_.size());
                l->machine.on_pipe_added({.id = name, .instance = 1, .capacity = capacity});
                l->machine.on_pipe_ready(name, l->now, l->out);
            } else {
                l->machine.on_pipe_closed(names_.back(), l->now);
            }
            l->settle_sent();
        }
        if (names_.size() < most)
            names_.push_back(static_cast<pipe_id>(generation_ << 16 | names_.size()));
        else
            names_.pop_back();
        ++generation_;
    }
    [[nodiscard]] bool empty() const { return names_.empty(); }
    [[nodiscard]] std::size_t size() const { return names_.size(); }
    [[nodiscard]] pipe_id operator[](std::size_t i) const { return names_[i]; }
    [[nodiscard]] bool has(pipe_id name) const
    {
        return std::ranges::find(names_, name) != names_.end();
    }

private:
    std::vector<pipe_id> names_;
    std::uint32_t generation_ = 1;
};

std::vector<std::byte> header_of(std::uint32_t id)
{
    std::vector<std::byte> header(4);
    const auto word = __builtin_bswap32(id | 0x8000'0000u);
    std::memcpy(header.data(), &word, 4);
    return header;
}

template <class Life>
void expect_alike(const Life &one, const Life &other)
{
    ASSERT_EQ(one.wire, other.wire);
    ASSERT_EQ(one.counted, other.counted);
    ASSERT_EQ(one.closed, other.closed);
    ASSERT_EQ(one.frames_held(), other.frames_held());
    ASSERT_EQ(one.machine.next_deadline(), other.machine.next_deadline());
    ASSERT_EQ(one.machine.queued_in(), other.machine.queued_in());
    ASSERT_EQ(one.machine.queued_out(), other.machine.queued_out());
}

TEST(express, req_by_the_short_way_is_as_it_is_by_the_long_one)
{
    int went_short = 0;
    for (std::uint32_t seed = 1; seed <= lives; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        chance random(seed);
        const req_options options{.resend_time = random() % 4 == 0 ? 0ns : 1s,
                                  .request_deadline = random() % 3 == 0 ? 3s : 0ns};
        life<req_machine> a(options), b(options);
        some_pipes pipes;
        std::vector<context_id> contexts;
        for (int i = 0; i < 3; ++i) {
            contexts.push_back(*a.machine.open_context());
            ASSERT_EQ(contexts.back(), *b.machine.open_context());
        }
        const auto both = [&](auto &&f) {
            f(a);
            f(b);
        };
        for (std::uint32_t n = 0; n < events; ++n) {
            const auto pick = random() % 10;
            const auto context = contexts[random() % contexts.size()];
            const auto id = random();
            if (pick < 1 || pipes.empty()) {
                pipes.come_or_go(3, 1000, a, b);
            } else if (pick < 5) {
                const auto frame = a.frame();
                ASSERT_FALSE(a.machine.on_request(context, frame, 10, id, a.now, a.out));
                a.settle_sent();
                const auto same = b.frame();
                const auto way = b.machine.direct(context, 10, id);
                if (way.pipe != no_pipe) {
                    ++went_short;
                    b.wire.push_back({way.pipe, {way.header.begin(), way.header.end()}});
                    b.machine.went(context, way.pipe, same, 10, b.now);
                } else {
                    ASSERT_FALSE(b.machine.on_request(context, same, 10, id, b.now, b.out));
                    b.settle_sent();
                }
            } else if (pick < 9 && !a.wire.empty()) {
                // An answer to one of the latest requests, mostly from where it went.
                const auto &asked =
                    a.wire[a.wire.size() - 1 - random() % std::min<std::size_t>(a.wire.size(), 4)];
                const auto from = random() % 5 == 0 ? pipes[random() % pipes.size()] : asked.first;
                if (!pipes.has(from))
                    continue;
                auto payload = asked.second;
                payload.resize(random() % 8 == 0 ? random() % 4 : 12);
                const auto frame = a.frame();
                a.machine.on_message(from, frame, payload, a.now, a.out);
                a.settle_sent();
                const auto same = b.frame();
                if (const auto request = b.machine.direct(from, same, payload)) {
                    --b.held[*request];
                } else {
                    b.machine.on_message(from, same, payload, b.now, b.out);
                    b.settle_sent();
                }
            } else {
                both([&](auto &l) {
                    l.now += 400ms;
                    l.machine.on_deadline(l.now);
                    l.settle_sent();
                });
            }
            for (const auto c : contexts) {
                ASSERT_EQ(a.machine.state(c), b.machine.state(c));
                ASSERT_EQ(a.machine.serial(c), b.machine.serial(c));
                if (random() % 2 == 0)
                    continue;
                both([&](auto &l) {
                    if (l.machine.state(c) == request_state::ready)
                        --l.held[l.machine.take_reply(c).frame];
                    else if (l.machine.state(c) == request_state::failed)
                        (void)l.machine.take_failure(c);
                });
            }
            ASSERT_NO_FATAL_FAILURE(expect_alike(a, b));
        }
    }
    EXPECT_GT(went_short, static_cast<int>(lives)); // else nothing was compared
}

TEST(express, rep_by_the_short_way_is_as_it_is_by_the_long_one)
{
    int went_short = 0;
    for (std::uint32_t seed = 1; seed <= lives; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        chance random(seed);
        const rep_options options{.dedupe_time = random() % 4 == 0 ? 0ns : 2s,
                                  .reply_cache_bytes = 2000};
        life<rep_machine> a(options, 7u), b(options, 7u);
        some_pipes pipes;
        std::vector<std::pair<ticket_id, ticket_id>> tickets; // the same request's, in a and in b
        std::uint32_t id = 1;
        const auto both = [&](auto &&f) {
            f(a);
            f(b);
        };
        for (std::uint32_t n = 0; n < events; ++n) {
            const auto pick = random() % 10;
            if (pick < 1 || pipes.empty()) {
                pipes.come_or_go(3, 1000, a, b);
            } else if (pick < 5) {
                const auto from = pipes[random() % pipes.size()];
                // Now and then one that was asked before, or none at all.
                const auto asked = random() % 5 == 0 && id > 3 ? id - random() % 3 : ++id;
                auto payload = header_of(asked);
                if (random() % 16 == 0)
                    payload[0] = std::byte{0}; // no end to the stack
                payload.resize(random() % 32 == 0 ? 3 : 12);
                const auto frame = a.frame();
                a.machine.on_message(from, frame, payload, a.now, a.out);
                a.settle_sent();
                const auto first = a.machine.take(a.out);
                a.settle_sent();
                const auto same = b.frame();
                auto second = b.machine.direct(from, same, payload);
                if (second) {
                    ++b.consumed;
                } else {
                    b.machine.on_message(from, same, payload, b.now, b.out);
                    b.settle_sent();
                    second = b.machine.take(b.out);
                    b.settle_sent();
                }
                ASSERT_EQ(first.has_value(), second.has_value());
                if (first) {
                    ASSERT_EQ(first->pipe, second->pipe);
                    ASSERT_EQ(first->header_bytes, second->header_bytes);
                    both([&](auto &l) { --l.held[&l == &a ? first->frame : second->frame]; });
                    tickets.push_back({first->ticket, second->ticket});
                }
                ASSERT_EQ(a.consumed, b.consumed);
            } else if (pick < 9 && !tickets.empty()) {
                const auto which = random() % tickets.size();
                const auto [first, second] = tickets[which];
                tickets.erase(tickets.begin() + static_cast<std::ptrdiff_t>(which));
                const std::size_t size = 100;
                const auto frame = a.frame();
                ASSERT_FALSE(a.machine.reply(first, frame, size, a.now, a.out));
                a.settle_sent();
                const auto same = b.frame();
                const auto way = b.machine.direct(second, size);
                if (way.pipe != no_pipe) {
                    ++went_short;
                    b.wire.push_back({way.pipe, {way.header.begin(), way.header.end()}});
                    b.machine.went(second);
                    --b.held[same];
                    b.settle_sent();
                } else {
                    ASSERT_FALSE(b.machine.reply(second, same, size, b.now, b.out));
                    b.settle_sent();
                }
            } else {
                both([&](auto &l) {
                    l.now += 400ms;
                    l.machine.on_deadline(l.now);
                    l.settle_sent();
                });
            }
            ASSERT_NO_FATAL_FAILURE(expect_alike(a, b));
        }
    }
    EXPECT_GT(went_short, static_cast<int>(lives));
}

TEST(express, push_by_the_short_way_is_as_it_is_by_the_long_one)
{
    int went_short = 0;
    for (std::uint32_t seed = 1; seed <= lives; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        chance random(seed);
        const push_options options{.queue = {.bytes = random() % 2 == 0 ? 2000u : 0u}};
        life<push_machine> a(options), b(options);
        some_pipes pipes;
        for (std::uint32_t n = 0; n < events; ++n) {
            const auto pick = random() % 10;
            if (pick < 2) {
                pipes.come_or_go(4, random() % 4 == 0 ? 50 : 1000, a, b);
                continue;
            }
            const std::size_t size = random() % 5 == 0 ? 100 : 10;
            const auto frame = a.frame();
            const auto first = a.machine.on_send(frame, size, a.now, a.out);
            if (first)
                --a.held[frame];
            a.settle_sent();
            const auto same = b.frame();
            const auto way = b.machine.direct(size);
            if (way.pipe != no_pipe) {
                ++went_short;
                ASSERT_FALSE(first);
                b.wire.push_back({way.pipe, {way.header.begin(), way.header.end()}});
                b.machine.went(way.pipe);
                --b.held[same];
            } else {
                const auto second = b.machine.on_send(same, size, b.now, b.out);
                ASSERT_EQ(first, second);
                if (second)
                    --b.held[same];
                b.settle_sent();
            }
            ASSERT_NO_FATAL_FAILURE(expect_alike(a, b));
        }
    }
    EXPECT_GT(went_short, static_cast<int>(lives));
}

// ---- sockets

class express_sockets : public on_one_host {
protected:
    sp::engine other(sp::engine_options o = {}) { return must(sp::engine::open(o)); }
};

std::string body_of(std::size_t n, std::size_t size)
{
    auto body = std::to_string(n) + ':';
    body.resize(std::max(size, body.size()), static_cast<char>('a' + n % 26));
    return body;
}

TEST_F(express_sockets, small_and_large_messages_keep_their_order)
{
    open_engine({.ring_bytes = 8192});
    const auto where = url();
    auto theirs = other({.ring_bytes = 8192});
    auto left = must(sp::pair::open(at({.listen = where})));
    auto right = must(sp::pair::open({.on = &theirs}));
    (void)must(right.dial(where, patience));
    chance random(1);
    std::vector<std::size_t> sizes;
    for (int i = 0; i < 3000; ++i)
        sizes.push_back(random() % 8 == 0 ? 1000 + random() % 30'000 : random() % 200);
    std::jthread sender([&] {
        for (std::size_t n = 0; n < sizes.size(); ++n)
            must(right.send(body_of(n, sizes[n]), patience));
    });
    for (std::size_t n = 0; n < sizes.size(); ++n) {
        const auto got = must(left.recv(patience));
        ASSERT_EQ(got.text(), body_of(n, sizes[n]));
    }
}

TEST_F(express_sockets, peers_are_served_in_turn)
{
    const auto where = url();
    auto pull = must(sp::pull::open(at({.listen = where})));
    auto a = other(), b = other();
    auto first = must(sp::push::open({.on = &a})), second = must(sp::push::open({.on = &b}));
    (void)must(first.dial(where, patience));
    (void)must(second.dial(where, patience));
    must(pull.wait_peers(2, patience));
    for (int i = 0; i < 40; ++i) {
        must(first.send("first", patience));
        must(second.send("second", patience));
    }
    int balance = 0;
    for (int i = 0; i < 80; ++i) {
        balance += must(pull.recv(patience)).text() == "first" ? 1 : -1;
        ASSERT_LE(std::abs(balance), 2) << i;
    }
    EXPECT_EQ(balance, 0);
}

TEST_F(express_sockets, several_threads_share_what_comes)
{
    const auto where = url();
    auto pull = must(sp::pull::open(at({.listen = where})));
    auto theirs = other();
    auto push = must(sp::push::open({.on = &theirs}));
    (void)must(push.dial(where, patience));
    constexpr int messages = 20'000, threads = 3;
    std::atomic<int> taken = 0;
    std::vector<std::jthread> workers;
    for (int t = 0; t < threads; ++t)
        workers.emplace_back([&] {
            while (must(pull.recv(patience)).text() != "end")
                taken.fetch_add(1);
        });
    for (int i = 0; i < messages; ++i)
        must(push.send(std::to_string(i), patience));
    for (int t = 0; t < threads; ++t)
        must(push.send("end", patience));
    workers.clear();
    EXPECT_EQ(taken, messages);
}

TEST_F(express_sockets, contexts_of_several_threads_get_their_own_answers)
{
    auto rep = listening();
    const echo answers(rep);
    auto theirs = other();
    auto req = must(sp::req::open({.on = &theirs}));
    (void)must(req.dial(url(), patience));
    std::vector<std::jthread> askers;
    std::atomic<int> wrong = 0;
    for (int t = 0; t < 3; ++t)
        askers.emplace_back([&, t] {
            for (int i = 0; i < 3000; ++i) {
                const auto question = std::to_string(t) + '/' + std::to_string(i);
                if (must(req.request(question, patience)).text() != question)
                    wrong.fetch_add(1);
            }
        });
    askers.clear();
    EXPECT_EQ(wrong, 0);
}

TEST_F(express_sockets, a_request_goes_elsewhere_when_its_pipe_goes)
{
    const auto first_place = url("a"), second_place = url("b");
    auto theirs = other();
    auto req = must(sp::req::open(at({})));
    std::optional<sp::rep> first = must(sp::rep::open({.listen = first_place, .on = &theirs}));
    (void)must(req.dial(first_place, patience));
    auto context = must(req.open_context());
    must(context.send("question", patience));
    {
        const auto question = must(first->recv(patience));
        EXPECT_EQ(question.text(), "question");
        first.reset(); // it goes with the question unanswered
    }
    auto second = must(sp::rep::open({.listen = second_place, .on = &theirs}));
    (void)must(req.dial(second_place, patience));
    auto again = must(second.recv(patience));
    EXPECT_EQ(again.text(), "question");
    must(std::move(again).reply("answer", patience));
    EXPECT_EQ(text_of(context.recv(patience)), "answer");
    EXPECT_EQ(req.statistics()[stat::socket_failovers], 1u);
}

TEST_F(express_sockets, both_ways_count_alike)
{
    const auto where = url();
    auto theirs = other();
    auto rep = must(sp::rep::open({.listen = where, .on = &theirs}));
    auto req = must(sp::req::open(at({})));
    (void)must(req.dial(where, patience));
    auto context = must(req.open_context());
    constexpr unsigned exchanges = 100;
    for (unsigned i = 0; i < exchanges; ++i) {
        const auto size = i % 4 == 0 ? 100'000u : 10u; // in parts: the long way
        must(context.send(body_of(i, size), patience));
        auto question = must(rep.recv(patience));
        const std::string back(question.text());
        must(std::move(question).reply(back, patience));
        EXPECT_EQ(text_of(context.recv(patience)), body_of(i, size));
    }
    for (const auto &books : {req.statistics(), rep.statistics()})
        for (const auto which : {stat::socket_accepted, stat::socket_sent, stat::socket_received,
                                 stat::socket_delivered})
            EXPECT_EQ(books[which], exchanges) << describe(which).name;
}

// ---- what a message stands on

TEST_F(express_sockets, messages_outlive_their_socket_and_their_engine)
{
    const auto descriptors = [] {
        return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
    };
    const auto before = descriptors();
    std::vector<sp::message> kept;
    {
        auto mine = other(), theirs = other();
        const auto where = url();
        auto pull = must(sp::pull::open({.listen = where, .on = &mine}));
        auto push = must(sp::push::open({.on = &theirs}));
        (void)must(push.dial(where, patience));
        for (int i = 0; i < 10; ++i) {
            must(push.send(std::to_string(i), patience));
            kept.push_back(must(pull.recv(patience)));
        }
        const auto unsent =
            must(push.loan(100, patience)); // goes with the block, before its engine
    }
    for (int i = 0; i < 10; ++i)
        EXPECT_EQ(kept[static_cast<std::size_t>(i)].text(), std::to_string(i));
    {
        std::vector<std::jthread> givers; // the last of them ends the engine
        for (auto &each : kept)
            givers.emplace_back([m = std::move(each)]() mutable { m = sp::message(); });
    }
    EXPECT_EQ(descriptors(), before);
}

} // namespace
