// SPDX-License-Identifier: BSD-2-Clause
//
// PUSH/PULL, PAIR and raw sockets through the public API, over unixgram: who gets what, who waits
// for whom, and what each call says. BUS, PUB/SUB and surveys have files of their own.
#include "tests/support/roles.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

namespace {

using namespace sp::test;
using sp::errc;
using sp::stat;

const std::array<sp::payload, 3> three{"0", "1", "2"};

void fill(sp::loan &loan, std::string_view text)
{
    std::ranges::copy(std::as_bytes(std::span(text)), loan.body().begin());
    loan.shrink(text.size());
}

// ---- PUSH and PULL

class push_and_pull : public on_one_engine {
protected:
    // Sends until there is no room; how many went out.
    static int fill_up(sp::push &push)
    {
        int n = 0;
        while (push.try_send(std::to_string(n)))
            ++n;
        return n;
    }
};

TEST_F(push_and_pull, tell_by_what_a_message_came_though_its_pipe_has_gone)
{
    auto pull = listens<sp::pull>();
    {
        auto push = dials<sp::push>();
        must(push.send("last words", patience));
    }
    until([&] { return pull.peers() == 0; });
    auto got = must(pull.recv(patience));
    EXPECT_EQ(got.text(), "last words");
    EXPECT_EQ(got.transport(), "unixgram");
}

TEST_F(push_and_pull, carry_each_message_once_and_in_order)
{
    auto pull = listens<sp::pull>();
    auto push = dials<sp::push>();
    std::jthread sender([&] {
        for (int i = 0; i < 1000; ++i)
            EXPECT_TRUE(push.send(std::to_string(i), patience));
    });
    EXPECT_EQ(numbers_from(pull, 1000), numbers_up_to(1000));
    EXPECT_FALSE(pull.try_recv());
    EXPECT_EQ(count(stat::socket_accepted), 1000u);
    EXPECT_EQ(count(stat::socket_delivered), 1000u);
}

TEST_F(push_and_pull, share_the_work_among_those_who_have_room)
{
    auto push = listens<sp::push>();
    auto one = dials<sp::pull>(), two = dials<sp::pull>();
    must(push.wait_peers(2, patience));
    for (int i = 0; i < 20; ++i)
        must(push.send("job", patience));
    for (int i = 0; i < 10; ++i) {
        EXPECT_TRUE(one.recv(patience));
        EXPECT_TRUE(two.recv(patience));
    }
    EXPECT_FALSE(one.try_recv());
    EXPECT_FALSE(two.try_recv());
}

TEST_F(push_and_pull, make_the_sender_wait_and_lose_nothing)
{
    auto pull = listens<sp::pull>({.credit_messages = 4});
    auto push = dials<sp::push>();
    const int sent = fill_up(push);
    ASSERT_GT(sent, 0);
    ASSERT_LT(sent, 1000) << "nothing holds the sender back";
    EXPECT_EQ(said(push.send("no room", 0s)), "would_block");
    EXPECT_EQ(said(push.send("no room", 1ms)), "timed_out");
    EXPECT_EQ(said(push.loan(10, 0s)), "would_block");
    EXPECT_EQ(said(push.loan(10, 1ms)), "timed_out");
    EXPECT_EQ(said(push.send_batch(three, 0s)), "would_block");
    std::stop_source stop;
    stop.request_stop();
    EXPECT_EQ(said(push.send("no room", stop.get_token())), "canceled");
    std::jthread waits([&] { EXPECT_TRUE(push.send(std::to_string(sent))); });
    EXPECT_EQ(numbers_from(pull, static_cast<std::size_t>(sent) + 1), numbers_up_to(sent + 1));
}

TEST_F(push_and_pull, wait_for_the_first_peer)
{
    auto push = must(sp::push::open(at()));
    EXPECT_EQ(said(push.send("?", 0s)), "would_block");
    EXPECT_FALSE(push.try_send("?"));
    std::jthread waits([&] { EXPECT_TRUE(push.send("found")); });
    auto pull = listens<sp::pull>();
    (void)must(push.dial(url(), patience));
    EXPECT_EQ(text_of(pull.recv(patience)), "found");
}

TEST_F(push_and_pull, fail_or_drop_without_a_peer_if_so_wished)
{
    auto fails = must(sp::push::open(at({.on_no_peer = sp::when_alone::fail})));
    EXPECT_EQ(said(fails.send("?")), "no_peer");
    auto drops = must(sp::push::open(at({.on_no_peer = sp::when_alone::drop})));
    EXPECT_EQ(said(drops.send("?")), "success");
    EXPECT_EQ(count(stat::socket_no_peer), 1u);
    EXPECT_EQ(count(stat::socket_accepted), 1u);
    EXPECT_EQ(engine().frames_in_use(), 0u);
}

TEST_F(push_and_pull, take_batches_at_both_ends)
{
    auto pull = listens<sp::pull>();
    auto push = dials<sp::push>();
    EXPECT_EQ(must(push.send_batch(three, patience)), 3u);
    std::array<sp::message, 8> batch;
    std::vector<std::string> texts;
    while (texts.size() < 3) {
        const auto n = must(pull.recv_batch(batch, patience));
        for (const auto &m : std::span(batch).first(n))
            texts.emplace_back(m.text());
    }
    EXPECT_EQ(texts, (std::vector<std::string>{"0", "1", "2"}));
    EXPECT_EQ(pull.try_recv_batch(batch), 0u);
    EXPECT_EQ(must(pull.recv_batch(std::span<sp::message>(), patience)), 0u);
    EXPECT_EQ(said(pull.recv_batch(batch, 1ms)), "timed_out");
    EXPECT_EQ(must(push.send_batch({}, patience)), 0u);
    EXPECT_EQ(engine().frames_in_use(), 0u); // what the array held went back
}

TEST_F(push_and_pull, send_as_much_of_a_batch_as_has_room)
{
    auto pull = listens<sp::pull>({.credit_messages = 4});
    auto push = dials<sp::push>();
    const std::vector<sp::payload> many(1000, "x");
    const auto sent = must(push.send_batch(many, patience));
    EXPECT_GT(sent, 0u);
    EXPECT_LT(sent, many.size());
    for (std::size_t i = 0; i < sent; ++i)
        EXPECT_TRUE(pull.recv(patience));
    EXPECT_FALSE(pull.try_recv());
}

TEST_F(push_and_pull, send_loans_and_keep_those_that_are_refused)
{
    auto pull = listens<sp::pull>({.credit_messages = 1});
    auto push = dials<sp::push>();
    auto loan = must(push.loan(100, patience));
    fill(loan, "in place");
    (void)fill_up(push);
    EXPECT_EQ(said(push.send(std::move(loan), 0s)), "would_block");
    EXPECT_EQ(loan.body().size(), 8u); // NOLINT(bugprone-use-after-move): it was not sent
    std::jthread waits([&] { EXPECT_TRUE(push.send(std::move(loan))); });
    std::string last;
    while (last != "in place")
        last = text_of(pull.recv(patience));
    waits.join();
    EXPECT_EQ(said(push.send(std::move(loan), patience)), "invalid_argument");
}

TEST_F(push_and_pull, refuse_the_loan_of_another_engine)
{
    auto elsewhere = must(sp::engine::open({}));
    {
        auto push = must(sp::push::open(at({.send_queue_bytes = 1000})));
        auto other = must(sp::pub::open({.on = &elsewhere}));
        auto loan = must(other.loan(10));
        EXPECT_EQ(said(push.send(std::move(loan), patience)), "invalid_argument");
        must(other.send(std::move(loan)));
    }
    EXPECT_EQ(elsewhere.frames_in_use(), 0u);
}

TEST_F(push_and_pull, queue_as_much_as_they_are_told_to)
{
    auto push = must(
        sp::push::open(at({.send_queue_bytes = 1 << 20, .send_queue_messages = 3, .linger = 0s})));
    EXPECT_EQ(must(push.send_batch(three, 0s)), 3u);
    EXPECT_FALSE(push.try_send("3"));
    auto pull = listens<sp::pull>();
    (void)must(push.dial(url(), patience));
    EXPECT_EQ(numbers_from(pull, 3), numbers_up_to(3));
    auto newest = must(sp::push::open(at({.send_queue_bytes = 1 << 20,
                                          .send_queue_messages = 1,
                                          .on_send_full = sp::when_full::drop_oldest,
                                          .linger = 0s})));
    for (const auto text : three)
        must(newest.send(text, 0s));
    EXPECT_EQ(count(stat::socket_send_full), 2u);
    (void)must(newest.dial(url(), patience));
    EXPECT_EQ(text_of(pull.recv(patience)), "2");
}

TEST_F(push_and_pull, name_the_size_of_a_message_that_nobody_takes)
{
    auto pull = listens<sp::pull>({.message_max = 1000});
    auto push = dials<sp::push>({.message_max = 2000});
    const auto ours = push.send(std::string(2001, 'x'), patience);
    ASSERT_EQ(said(ours), "message_too_large");
    EXPECT_TRUE(ours.error().why().contains("2000")) << ours.error().why();
    const auto theirs = push.send(std::string(1001, 'x'), patience);
    ASSERT_EQ(said(theirs), "message_too_large");
    EXPECT_TRUE(theirs.error().what().contains("1001")) << theirs.error().what();
    must(push.send(std::string(1000, 'x'), patience));
    EXPECT_EQ(must(pull.recv(patience)).size(), 1000u);
}

TEST_F(push_and_pull, end_their_waits_when_they_are_closed)
{
    auto push = must(sp::push::open(at()));
    auto pull = must(sp::pull::open(at()));
    std::jthread sends([&] { EXPECT_EQ(said(push.send("?")), "closed"); });
    std::jthread lends([&] { EXPECT_EQ(said(push.loan(1)), "closed"); });
    std::jthread receives([&] { EXPECT_EQ(said(pull.recv()), "closed"); });
    std::jthread batches([&] {
        std::array<sp::message, 2> batch;
        EXPECT_EQ(said(pull.recv_batch(batch)), "closed");
    });
    push.close();
    pull.close();
    EXPECT_EQ(said(push.send_batch(three)), "closed");
    EXPECT_FALSE(push.try_send("?"));
    EXPECT_FALSE(pull.try_recv());
    std::array<sp::message, 2> batch;
    EXPECT_EQ(pull.try_recv_batch(batch), 0u);
}

TEST_F(push_and_pull, take_a_message_once_however_many_receive)
{
    auto pull = listens<sp::pull>();
    auto push = dials<sp::push>();
    std::atomic<int> received = 0, sum = 0;
    {
        std::vector<std::jthread> threads;
        for (int t = 0; t < 4; ++t)
            threads.emplace_back([&] {
                std::stop_source stop; // with a stop the lock is lent once more than without
                while (received < 400)
                    if (auto m = pull.recv(sp::wait(1ms, stop.get_token()))) {
                        sum += std::stoi(std::string(m->text()));
                        ++received;
                    }
            });
        for (int i = 0; i < 400; ++i)
            must(push.send(std::to_string(i), patience));
    }
    EXPECT_EQ(received, 400);
    EXPECT_EQ(sum, 400 * 399 / 2);
}

// ---- PAIR

class pairs : public on_one_engine, public ::testing::WithParamInterface<std::uint32_t> {};

TEST_P(pairs, talk_both_ways)
{
    auto a = listens<sp::pair>({.pair_version = GetParam()});
    auto b = dials<sp::pair>({.pair_version = GetParam()});
    must(a.wait_peers(1, patience));
    must(a.send("ping", patience));
    EXPECT_EQ(text_of(b.recv(patience)), "ping");
    EXPECT_TRUE(b.try_send("pong"));
    EXPECT_EQ(text_of(a.recv(patience)), "pong");
    EXPECT_EQ(must(b.send_batch(three, patience)), 3u);
    EXPECT_EQ(numbers_from(a, 3), numbers_up_to(3));
    auto loan = must(a.loan(10, patience));
    fill(loan, "lent");
    must(a.send(std::move(loan)));
    std::array<sp::message, 4> batch;
    EXPECT_EQ(must(b.recv_batch(batch, patience)), 1u);
    EXPECT_EQ(batch[0].text(), "lent");
    EXPECT_EQ(b.try_recv_batch(batch), 0u);
    EXPECT_FALSE(b.try_recv());
    EXPECT_EQ(said(b.recv(1ms)), "timed_out");
}

TEST_P(pairs, refuse_a_second_peer_and_take_it_when_the_first_has_gone)
{
    auto a = listens<sp::pair>({.pair_version = GetParam()});
    std::optional<sp::pair> b = dials<sp::pair>({.pair_version = GetParam()});
    must(a.wait_peers(1, patience));
    auto c = must(sp::pair::open(at({.pair_version = GetParam()})));
    EXPECT_EQ(said(c.dial(url(), patience)), "peer_busy");
    must(a.send("undisturbed", patience));
    EXPECT_EQ(text_of(b->recv(patience)), "undisturbed");
    b.reset();
    until([&] { return a.peers() == 0; });
    (void)must(c.dial(url(), patience));
    must(c.send("next", patience));
    EXPECT_EQ(text_of(a.recv(patience)), "next");
}

TEST_P(pairs, push_back_and_lose_nothing)
{
    auto a = listens<sp::pair>({.pair_version = GetParam()});
    auto b = dials<sp::pair>({.pair_version = GetParam()});
    int sent = 0; // small ones share packets; a packet of unixgram:// holds 60 KB
    const auto text_of_size = [](int n) { return std::to_string(n) + std::string(30'000, ' '); };
    for (; said(b.send(text_of_size(sent), 100ms)) == "success"; ++sent)
        ASSERT_LT(sent, 1000) << "nothing holds the sender back";
    for (int i = 0; i < sent; ++i)
        EXPECT_TRUE(text_of(a.recv(patience)) == text_of_size(i)) << i;
    EXPECT_TRUE(b.send("room again", patience));
}

TEST_P(pairs, wait_fail_or_drop_without_a_peer)
{
    const auto version = GetParam();
    auto waits = must(sp::pair::open(at({.pair_version = version})));
    EXPECT_EQ(said(waits.send("?", 0s)), "would_block");
    EXPECT_EQ(said(waits.send("?", 1ms)), "timed_out");
    auto fails =
        must(sp::pair::open(at({.on_no_peer = sp::when_alone::fail, .pair_version = version})));
    EXPECT_EQ(said(fails.send("?")), "no_peer");
    auto drops =
        must(sp::pair::open(at({.on_no_peer = sp::when_alone::drop, .pair_version = version})));
    EXPECT_EQ(said(drops.send("?")), "success");
    std::jthread waiting([&] { EXPECT_EQ(said(waits.recv()), "closed"); });
    std::jthread sending([&] { EXPECT_EQ(said(waits.send("?")), "closed"); });
    waits.close();
}

INSTANTIATE_TEST_SUITE_P(of_version, pairs, ::testing::Values(0u, 1u),
                         [](const auto &version) { return std::to_string(version.param); });

class pair_versions : public on_one_engine {};

TEST_F(pair_versions, do_not_connect_to_each_other)
{
    auto a = listens<sp::pair>();
    auto b = must(sp::pair::open(at({.pair_version = 0})));
    const auto dialed = b.dial(url(), patience);
    ASSERT_EQ(said(dialed), "protocol_mismatch");
    EXPECT_TRUE(dialed.error().what().contains("PAIR v0")) << dialed.error().what();
}

// ---- raw

class raw_socket : public on_one_engine {};

std::uint32_t word_of(sp::bytes header, std::size_t i)
{
    std::uint32_t word = 0;
    std::memcpy(&word, header.data() + 4 * i, 4);
    return __builtin_bswap32(word);
}

TEST_F(raw_socket, of_rep_shows_the_way_home_and_answers_by_it)
{
    auto rep = must(sp::raw::open(sp::pattern::rep, at()));
    EXPECT_EQ(rep.pattern(), sp::pattern::rep);
    (void)must(rep.listen(url()));
    auto req = dials<sp::req>();
    auto context = must(req.open_context());
    must(context.send("question", patience));
    auto question = must(rep.recv(patience));
    EXPECT_EQ(question.text(), "question");
    ASSERT_EQ(question.header().size(), 8u);
    EXPECT_EQ(word_of(question.header(), 0) & 0x80000000u, 0u) << "a pipe";
    EXPECT_NE(word_of(question.header(), 1) & 0x80000000u, 0u) << "an id";
    must(rep.send(question.header(), "answer", patience));
    EXPECT_EQ(text_of(context.recv(patience)), "answer");
}

TEST_F(raw_socket, passes_on_what_another_received)
{
    auto front = must(sp::raw::open(sp::pattern::rep, at()));
    auto back = must(sp::raw::open(sp::pattern::req, at()));
    (void)must(front.listen(url("front")));
    auto rep = listens<sp::rep>({}, "back");
    (void)must(back.dial(url("back"), patience));
    auto req = dials<sp::req>({}, "front");
    const echo answers(rep);
    std::jthread device([&] {
        must(back.send(must(front.recv(patience)), patience));
        auto reply = must(back.recv(patience));
        must(front.send(std::move(reply), patience));
        EXPECT_EQ(reply.size(), 0u); // NOLINT(bugprone-use-after-move): it has gone on
    });
    EXPECT_EQ(text_of(req.request("through", patience)), "through");
}

TEST_F(raw_socket, passes_on_to_another_engine_what_it_has_to_copy)
{
    auto elsewhere = must(sp::engine::open({}));
    {
        auto in = must(sp::raw::open(sp::pattern::pull, at()));
        (void)must(in.listen(url("in")));
        auto out = must(sp::raw::open(sp::pattern::push, {.on = &elsewhere}));
        auto end = listens<sp::pull>({}, "out");
        (void)must(out.dial(url("out"), patience));
        auto push = dials<sp::push>({}, "in");
        must(push.send("far", patience));
        auto m = must(in.recv(patience));
        EXPECT_EQ(said(in.send({}, "back", patience)), "not_supported");
        must(out.send(std::move(m), patience));
        EXPECT_EQ(text_of(end.recv(patience)), "far");
        EXPECT_EQ(said(out.recv(patience)), "not_supported");
        EXPECT_FALSE(out.try_recv());
    }
    EXPECT_EQ(elsewhere.frames_in_use(), 0u);
}

TEST_F(raw_socket, of_pair_refuses_a_header_that_it_cannot_have)
{
    auto a = listens<sp::pair>();
    auto b = must(sp::raw::open(sp::pattern::pair, at()));
    (void)must(b.dial(url(), patience));
    EXPECT_EQ(said(b.send({}, "?", patience)), "invalid_argument");
    constexpr std::array<std::byte, 4> hops{};
    must(b.send(hops, "first hop", patience));
    EXPECT_EQ(text_of(a.recv(patience)), "first hop");
    must(a.send("back", patience));
    const auto back = must(b.recv(patience));
    ASSERT_EQ(back.header().size(), 4u);
    EXPECT_EQ(word_of(back.header(), 0), 1u);
}

TEST_F(raw_socket, of_bus_reflects_to_everybody_but_the_sender)
{
    auto reflector = must(sp::raw::open(sp::pattern::bus, at()));
    (void)must(reflector.listen(url()));
    auto one = dials<sp::bus>(), two = dials<sp::bus>(), three_ = dials<sp::bus>();
    must(reflector.wait_peers(3, patience));
    must(one.send("from one"));
    must(reflector.send(must(reflector.recv(patience)), patience));
    EXPECT_EQ(text_of(two.recv(patience)), "from one");
    EXPECT_EQ(text_of(three_.recv(patience)), "from one");
    must(reflector.send({}, "mark", patience));
    EXPECT_EQ(text_of(one.recv(patience)), "mark");
}

TEST_F(raw_socket, takes_batches_and_ends_its_waits_when_it_is_closed)
{
    auto pull = must(sp::raw::open(sp::pattern::pull, at({.recv_timeout = 1ms})));
    (void)must(pull.listen(url()));
    auto push = dials<sp::push>();
    must(push.send_batch(three, patience));
    std::array<sp::raw_message, 4> batch;
    std::size_t n = 0;
    while (n < 3)
        n += must(pull.recv_batch(batch, patience));
    EXPECT_EQ(pull.try_recv_batch(batch), 0u);
    EXPECT_EQ(said(pull.recv()), "timed_out");
    std::jthread waits([&] { EXPECT_EQ(said(pull.recv(sp::forever)), "closed"); });
    pull.close();
    EXPECT_EQ(said(pull.recv()), "closed");
}

} // namespace
