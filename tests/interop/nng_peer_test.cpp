// SPDX-License-Identifier: BSD-2-Clause
//
// Conformance with libnng: PAIR, the scenarios P1 to P4; PUSH and PULL, L1 to L4.
#include "tests/interop/nng_scene.hpp"

#include <array>
#include <atomic>
#include <functional>
#include <map>

namespace sp::test {
namespace {

class nng_pair : public nng_scene {
protected:
    struct version {
        std::uint32_t number;
        nng_role open;
    };
    static constexpr std::array<version, 2> both{{{0, nng_role::pair0}, {1, nng_role::pair1}}};
};
INSTANTIATE_TEST_SUITE_P(with, nng_pair, ::testing::ValuesIn(over_ipc), name_of);

// The nth body of a stream that must arrive whole.
std::string numbered(int n)
{
    return std::to_string(n) + std::string(4096, '.');
}

TEST_P(nng_pair, p1_libnng_that_does_not_read_holds_us_back_and_nothing_is_lost)
{
    for (const auto &[number, open] : both) {
        SCOPED_TRACE(number);
        nng_peer lazy(open);
        auto pair = joined_to<sp::pair>(lazy, {.pair_version = number});
        int sent = 0;
        while (sent < 5000 && pair.send(numbered(sent), 200ms))
            ++sent;
        EXPECT_LT(sent, 1000) << "somebody keeps it all";
        EXPECT_EQ(error_of(pair.send("x", 0s)), "would_block");
        EXPECT_EQ(error_of(pair.send("x", 1ms)), "timed_out");
        expect_balance(pair);
        for (int i = 0; i < sent; ++i)
            expect_mail(lazy.recv(), numbered(i));
        must(pair.send("last", patience));
        expect_mail(lazy.recv(), "last");
        expect_balance(pair);
    }
}

TEST_P(nng_pair, p1_we_hold_libnng_back_and_lose_nothing)
{
    for (const auto &[number, open] : both) {
        SCOPED_TRACE(number);
        nng_peer sender(open);
        auto pair = joined_to<sp::pair>(sender, {.pair_version = number});
        int sent = 0;
        while (sent < 5000 && sender.send(numbered(sent), nng_wait(200)) == 0)
            ++sent;
        EXPECT_LT(sent, 1000);
        EXPECT_EQ(sender.send("x", not_at_all), nng_does::say_when_a_send_would_wait);
        EXPECT_LE(engine().frames_in_use(), 2u);
        for (int i = 0; i < sent; ++i)
            expect_message(pair.recv(patience), numbered(i));
        nng_must(sender.send("last"), "send");
        expect_message(pair.recv(patience), "last");
        expect_balance(pair);
    }
}

TEST_P(nng_pair, p1_a_second_partner_is_refused_and_the_first_not_disturbed)
{
    for (const auto &[number, open] : both) {
        SCOPED_TRACE(number);
        nng_peer first(open);
        auto pair = joined_to<sp::pair>(first, {.pair_version = number});
        const auto where = new_address();
        (void)must(pair.listen(where));
        nng_peer second(open);
        EXPECT_EQ(second.try_dial(where), nng_does::say_of_a_dial_to_a_busy_pair);
        until([&] { return count(stat::listener_peer_busy) > number; });
        must(pair.send("to the first", patience));
        expect_mail(first.recv(), "to the first");
        nng_must(first.send("from the first"), "send");
        expect_message(pair.recv(patience), "from the first");
        first.close(); // the second tries on, and is taken
        must(pair.send("to the second", patience));
        expect_mail(second.recv(), "to the second");
        expect_balance(pair);
    }
}

TEST_P(nng_pair, p2_the_two_versions_do_not_connect)
{
    nng_peer v0(nng_role::pair0);
    auto pair = opened<sp::pair>();
    if (GetParam().who == listener::nng) {
        EXPECT_EQ(error_of(pair.dial(v0.listen(new_address()), patience)), "protocol_mismatch");
    } else {
        const auto where = new_address();
        (void)must(pair.listen(where));
        EXPECT_EQ(v0.try_dial(where), nng_does::say_of_a_dial_to_another_protocol);
        until([&] { return count(stat::listener_peer_protocol) > 0; });
    }
    EXPECT_EQ(pair.peers(), 0u);
    EXPECT_EQ(v0.pipes(), 0u);
    expect_balance(pair);
}

TEST_P(nng_pair, p3_the_hop_word_that_is_sent_is_one)
{
    nng_peer raw(nng_role::pair1_raw);
    auto pair = joined_to<sp::pair>(raw);
    must(pair.send("a", patience));
    const auto came = raw.recv();
    expect_mail(came, "a");
    EXPECT_EQ(came.header, wire::word(1));
    expect_balance(pair);
}

TEST_P(nng_pair, p4_hops_up_to_ttl_max_are_delivered_and_more_are_dropped)
{
    nng_peer raw(nng_role::pair1_raw);
    auto pair = joined_to<sp::pair>(raw, {.ttl_max = 3});
    // libnng adds one when it sends.
    for (const std::uint32_t hops : {0u, 2u, 3u, 200u, 1u})
        nng_must(raw.send_with(wire::word(hops), std::to_string(hops)), "send");
    for (const char *body : {"0", "2", "1"})
        expect_message(pair.recv(patience), body);
    EXPECT_EQ(pair.statistics()[stat::socket_ttl], 2u);
    EXPECT_EQ(pair.peers(), 1u);
    expect_balance(pair);
}

class nng_line : public nng_scene {};
INSTANTIATE_TEST_SUITE_P(with, nng_line, ::testing::ValuesIn(over_ipc), name_of);

// Three workers that are equally fast: nobody is given the next message before the last 30 have
// been read, so the kernel's buffers never decide who gets it.
class workshop {
public:
    static constexpr int count = 10'000, ahead = 30;

    // `next` returns the next body of this worker; "end" ends it.
    void add(std::function<std::string()> next)
    {
        reading_.push_back(std::async(std::launch::async, [this, next = std::move(next)] {
            std::map<int, int> seen;
            for (auto body = next(); !body.empty() && body != "end"; body = next()) {
                ++seen[std::stoi(body)];
                ++read_;
            }
            return seen;
        }));
    }
    // Gives out the numbers, and then "end" until every worker has had one.
    void hand_out(const std::function<bool(const std::string &, nng_wait)> &send)
    {
        const auto running = [&] {
            return std::ranges::any_of(reading_, [](const auto &f) {
                return f.wait_for(0s) != std::future_status::ready;
            });
        };
        for (int i = 0; i < count; ++i) {
            until([&] { return i - read_ < ahead; });
            ASSERT_TRUE(send(std::to_string(i), nng_patience));
        }
        until([&] { return read_ == count; });
        while (running())
            (void)send("end", nng_wait(10));
    }
    void expect_shares()
    {
        std::map<int, int> all;
        for (auto &f : reading_) {
            const auto seen = f.get();
            EXPECT_GE(seen.size() * 4, std::size_t{count}) << "a worker was left out";
            for (const auto &[number, times] : seen)
                all[number] += times;
        }
        EXPECT_EQ(all.size(), std::size_t{count});
        for (const auto &[number, times] : all)
            EXPECT_EQ(times, 1) << number;
    }

private:
    std::atomic<int> read_ = 0;
    std::vector<std::future<std::map<int, int>>> reading_;
};

TEST_P(nng_line, l1_each_message_goes_to_one_of_three_workers_of_libnng)
{
    auto push = opened<sp::push>();
    nng_peer one(nng_role::pull0), two(nng_role::pull0), three(nng_role::pull0);
    workshop work;
    for (auto *n : {&one, &two, &three}) {
        join(push, *n);
        work.add([n] { return n->recv().body; });
    }
    work.hand_out(
        [&](const std::string &body, nng_wait w) { return push.send(body, w).has_value(); });
    work.expect_shares();
    expect_balance(push);
}

TEST_P(nng_line, l1_libnng_distributes_among_three_workers_of_ours)
{
    nng_peer push(nng_role::push0);
    auto one = joined_to<sp::pull>(push), two = joined_to<sp::pull>(push),
         three = joined_to<sp::pull>(push);
    workshop work;
    for (auto *s : {&one, &two, &three})
        work.add([s] { return text_of(s->recv(patience)); });
    work.hand_out([&](const std::string &body, nng_wait w) { return push.send(body, w) == 0; });
    work.expect_shares();
    for (auto *s : {&one, &two, &three})
        expect_balance(*s);
}

TEST_P(nng_line, l2_without_a_worker_it_would_block_and_what_waits_goes_out_at_once)
{
    auto push = opened<sp::push>({.send_queue_bytes = 1 << 20, .send_queue_messages = 3});
    EXPECT_EQ(error_of(opened<sp::push>().send("x", 0s)), "would_block");
    for (const char *body : {"1", "2", "3"})
        must(push.send(body, 0s));
    EXPECT_EQ(error_of(push.send("x", 0s)), "would_block");
    EXPECT_EQ(error_of(push.send("x", 10ms)), "timed_out");
    auto waits = std::async(std::launch::async, [&] { return push.send("4", patience); });
    nng_peer worker(nng_role::pull0);
    join(push, worker);
    must(waits.get());
    for (const char *body : {"1", "2", "3", "4"})
        expect_mail(worker.recv(), body);
    expect_balance(push);
}

TEST_P(nng_line, l2_libnng_without_a_worker_waits_for_ours)
{
    nng_peer push(nng_role::push0);
    EXPECT_EQ(push.send("x", not_at_all), nng_does::say_when_a_send_would_wait);
    EXPECT_EQ(push.send("x", nng_wait(10)), NNG_ETIMEDOUT);
    auto worker = joined_to<sp::pull>(push);
    nng_must(push.send("1"), "push");
    expect_message(worker.recv(patience), "1");
    expect_balance(worker);
}

TEST_P(nng_line, l2_what_is_not_on_the_wire_when_a_worker_goes_is_for_the_next)
{
    auto push = opened<sp::push>();
    int sent = 0;
    {
        nng_peer lazy(nng_role::pull0);
        join(push, lazy);
        while (sent < 5000 && push.send(numbered(sent), 200ms))
            ++sent;
        EXPECT_LT(sent, 1000);
    }
    wait_peers_gone(push);
    nng_peer next(nng_role::pull0);
    join(push, next);
    must(push.send("last", patience));
    std::string body;
    while (body != "last") {
        const auto m = next.recv();
        ASSERT_EQ(m.error, 0);
        body = m.body;
    }
    expect_balance(push);
}

TEST_P(nng_line, l3_what_a_worker_sends_is_dropped_and_its_pipe_stays)
{
    auto push = opened<sp::push>();
    const auto where = new_address("ipc");
    (void)must(push.listen(where));
    auto talks = byte_peer::dial(where); // no PULL of libnng can send
    talks.send(wire::hello(pull_number) + wire::frame("unasked"));
    EXPECT_EQ(talks.receive(8), wire::hello(push_number));
    wait_count(stat::socket_unexpected, 1);
    nng_peer worker(nng_role::pull0);
    EXPECT_EQ(worker.send("x"), NNG_ENOTSUP);
    join(push, worker);
    EXPECT_EQ(push.peers(), 2u);
    must(push.send("1", patience));
    must(push.send("2", patience));
    const auto by_frame = talks.receive_frame(), by_nng = worker.recv().body;
    EXPECT_EQ(std::stoi(by_frame) + std::stoi(by_nng), 3);
    expect_balance(push);
}

TEST_P(nng_line, l4_two_pushers_of_libnng_are_heard_in_turn)
{
    nng_peer one(nng_role::push0), two(nng_role::push0);
    auto pull = joined_to<sp::pull>(one);
    join(pull, two);
    // Both have as much under way as the kernel takes.
    std::map<char, int> sent;
    for (auto *n : {&one, &two}) {
        const char who = n == &one ? 'a' : 'b';
        while (sent[who] < 1000 && n->send(who + std::string(1000, '.'), nng_wait(200)) == 0)
            ++sent[who];
    }
    const int common = std::min(sent['a'], sent['b']);
    ASSERT_GT(common, 10);
    std::string heard;
    for (int i = 0; i < common * 2; ++i)
        heard += must(pull.recv(patience)).text().front();
    // While both have something there, neither is more than two ahead.
    int lead = 0;
    for (const char who : heard) {
        lead += who == 'a' ? 1 : -1;
        ASSERT_LE(std::abs(lead), 2) << heard;
    }
    for (int rest = sent['a'] + sent['b'] - common * 2; rest > 0; --rest)
        (void)must(pull.recv(patience));
    expect_balance(pull);
}

} // namespace
} // namespace sp::test
