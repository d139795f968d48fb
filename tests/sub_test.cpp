// SPDX-License-Identifier: BSD-2-Clause
//
// The SUB machine and its tree of topics with made-up pipes. The engine's part checks books and
// frames after every step; what matches is compared with the plainest way to say it.
#include "userspace/protocol/sub.hpp"

#include "tests/support/machine.hpp"

#include <random>
#include <set>

namespace {

using namespace sp::protocol;
using sp::stat;
using strings = std::vector<std::string>;

constexpr queue_bounds two{.bytes = 1 << 20, .messages = 2};

std::span<const std::byte> bytes(std::string_view text)
{
    return std::as_bytes(std::span(text));
}

class subscriber : public sp::test::machine_engine<sub_machine> {
public:
    explicit subscriber(const sub_options &options = {}) : machine_engine(options) {}

    context_id open(std::initializer_list<std::string_view> topics = {})
    {
        const auto c = *machine.open_context();
        for (const auto topic : topics)
            subscribe(c, topic);
        return c;
    }
    void subscribe(context_id c, std::string_view topic) { machine.subscribe(c, bytes(topic)); }
    bool unsubscribe(context_id c, std::string_view topic)
    {
        return step([&](effects &o) { return machine.unsubscribe(c, bytes(topic), o); });
    }
    void close(context_id c)
    {
        step([&](effects &o) { machine.close_context(c, o); });
    }
    using machine_engine::close;
    strings take_all(context_id c)
    {
        strings all;
        while (auto text = take(c))
            all.push_back(*text);
        return all;
    }
};

// ---- topics ----

TEST(sub, wants_what_begins_with_one_of_its_topics)
{
    subscriber e;
    const auto pipe = e.add_pipe();
    const auto c = e.open({"ab", "abcd", "x"});
    for (const auto *text : {"a", "ab", "abc", "abcde", "b", "x", "xy", ""})
        e.receive(pipe, text);
    EXPECT_EQ(e.take_all(c), (strings{"ab", "abc", "abcde", "x", "xy"}));
    EXPECT_EQ(e.count(stat::socket_filtered, pipe), 3);
    EXPECT_EQ(e.withheld(pipe), 0);
    EXPECT_EQ(e.frames_held(), 0u);
}

TEST(sub, wants_nothing_without_a_topic_and_everything_with_the_empty_one)
{
    subscriber e;
    const auto pipe = e.add_pipe();
    const auto nothing = e.open(), everything = e.open({""});
    e.receive(pipe, "");
    e.receive(pipe, "x");
    EXPECT_TRUE(e.take_all(nothing).empty());
    EXPECT_EQ(e.take_all(everything), (strings{"", "x"}));
}

TEST(sub, delivers_a_message_once_however_many_topics_match)
{
    subscriber e;
    const auto pipe = e.add_pipe();
    const auto c = e.open({"", "a", "ab"});
    e.receive(pipe, "abc");
    EXPECT_EQ(e.take_all(c), strings{"abc"});
    EXPECT_EQ(e.count(stat::socket_copied_in), 0);
}

TEST(sub, has_a_topic_once_however_often_it_subscribes)
{
    subscriber e;
    const auto c = e.open({"a", "a"});
    EXPECT_TRUE(e.unsubscribe(c, "a"));
    EXPECT_FALSE(e.unsubscribe(c, "a"));
    e.receive(e.add_pipe(), "abc");
    EXPECT_EQ(e.count(stat::socket_filtered), 1);
}

TEST(sub, does_not_know_a_topic_that_others_have_or_that_is_only_a_part_of_one)
{
    subscriber e;
    const auto c = e.open({"abc", "abd"}), other = e.open({"x"});
    for (const auto *topic : {"", "a", "ab", "abcd", "x"})
        EXPECT_FALSE(e.unsubscribe(c, topic)) << topic;
    EXPECT_TRUE(e.unsubscribe(other, "x"));
    EXPECT_TRUE(e.unsubscribe(c, "abc"));
    EXPECT_TRUE(e.unsubscribe(c, "abd"));
}

TEST(sub, compares_bytes_of_any_value)
{
    subscriber e;
    const auto pipe = e.add_pipe();
    const std::string zero("\0\xff", 2), other("\0\x7f", 2);
    const auto c = e.open({zero});
    e.receive(pipe, zero + "x");
    e.receive(pipe, other + "x");
    EXPECT_EQ(e.take_all(c), strings{zero + "x"});
}

TEST(sub, drops_what_is_queued_and_no_longer_wanted)
{
    subscriber e;
    const auto pipe = e.add_pipe();
    const auto c = e.open({"a", "ab", "c"}), other = e.open({"a"});
    for (const auto *text : {"a1", "ab2", "c3", "a4"})
        e.receive(pipe, text);
    EXPECT_TRUE(e.unsubscribe(c, "a"));
    EXPECT_EQ(e.count(stat::socket_unsubscribed), 2);
    EXPECT_EQ(e.take_all(c), (strings{"ab2", "c3"}));
    EXPECT_EQ(e.take_all(other), (strings{"a1", "ab2", "a4"}));
    EXPECT_EQ(e.frames_held(), 0u);
}

TEST(sub, keeps_what_a_topic_still_wants_that_came_later_than_the_message)
{
    subscriber e;
    const auto c = e.open({"a"});
    e.receive(e.add_pipe(), "abc");
    e.subscribe(c, "ab");
    EXPECT_TRUE(e.unsubscribe(c, "a"));
    EXPECT_EQ(e.take_all(c), strings{"abc"});
}

// ---- contexts ----

TEST(sub, holds_a_message_that_several_contexts_want_once)
{
    subscriber e;
    const auto pipe = e.add_pipe();
    const auto a = e.open({"t"}), b = e.open({""}), c = e.open({"u"});
    e.receive(pipe, "t1");
    EXPECT_EQ(e.frames_held(), 1u);
    EXPECT_EQ(e.count(stat::socket_copied_in), 1);
    EXPECT_EQ(e.take(a), "t1");
    EXPECT_EQ(e.last_taken->pipe, pipe);
    EXPECT_EQ(e.take(b), "t1");
    EXPECT_FALSE(e.machine.waiting(c));
    EXPECT_EQ(e.frames_held(), 0u);
}

TEST(sub, forgets_a_context_that_is_closed_with_its_topics_and_its_queue)
{
    subscriber e;
    const auto pipe = e.add_pipe();
    const auto c = e.open({"a", "ab", "abc", "b"}), other = e.open({"ab"});
    e.receive(pipe, "abx");
    e.close(c);
    EXPECT_EQ(e.count(stat::socket_unread, pipe), 1);
    EXPECT_FALSE(e.machine.waiting(c));
    EXPECT_EQ(e.take(c), std::nullopt);
    EXPECT_FALSE(e.unsubscribe(c, "a"));
    const auto again = e.open();
    EXPECT_NE(again, c);
    for (const auto *text : {"a", "abc", "b"})
        e.receive(pipe, text);
    EXPECT_TRUE(e.take_all(again).empty()) << "the topics of the one that had its slot";
    EXPECT_EQ(e.take_all(other), (strings{"abx", "abc"}));
}

TEST(sub, opens_no_more_contexts_than_its_limit)
{
    sub_machine machine{sub_options{}};
    for (std::size_t i = 0; i < sub_machine::contexts_max; ++i)
        ASSERT_TRUE(machine.open_context());
    EXPECT_FALSE(machine.open_context());
}

// ---- full queues ----

TEST(sub, drops_the_oldest_of_a_full_queue_unless_told_otherwise)
{
    subscriber e({.queue = two});
    const auto a = e.add_pipe(), b = e.add_pipe();
    const auto c = e.open({""});
    e.receive(a, "1");
    e.receive(b, "2");
    e.receive(b, "3");
    EXPECT_EQ(e.count(stat::socket_recv_full, a), 1);
    EXPECT_EQ(e.count(stat::socket_recv_full, b), 0);
    EXPECT_EQ(e.withheld(b), 0);
    EXPECT_EQ(e.take_all(c), (strings{"2", "3"}));
}

TEST(sub, drops_the_newest_when_told_so)
{
    subscriber e({.queue = two, .on_full = overflow::drop_newest});
    const auto a = e.add_pipe(), b = e.add_pipe();
    const auto c = e.open({""});
    e.receive(a, "1");
    e.receive(a, "2");
    e.receive(b, "3");
    EXPECT_EQ(e.count(stat::socket_recv_full, b), 1);
    EXPECT_EQ(e.take_all(c), (strings{"1", "2"}));
}

TEST(sub, fills_the_queue_of_each_context_for_itself)
{
    subscriber e({.queue = two});
    const auto pipe = e.add_pipe();
    const auto slow = e.open({""}), quick = e.open({""});
    strings seen;
    for (const auto *text : {"1", "2", "3"}) {
        e.receive(pipe, text);
        seen.push_back(*e.take(quick));
    }
    EXPECT_EQ(seen, (strings{"1", "2", "3"}));
    EXPECT_EQ(e.take_all(slow), (strings{"2", "3"}));
}

TEST(sub, keeps_only_the_last_with_a_queue_of_one)
{
    subscriber e({.queue = {.bytes = 1 << 20, .messages = 1}});
    const auto pipe = e.add_pipe();
    const auto c = e.open({""});
    for (int i = 0; i <= 50; ++i)
        e.receive(pipe, std::to_string(i));
    EXPECT_EQ(e.take_all(c), strings{"50"});
}

TEST(sub, that_blocks_keeps_credit_until_every_context_has_room)
{
    subscriber e({.queue = two, .on_full = overflow::block});
    const auto pipe = e.add_pipe();
    const auto slow = e.open({""}), quick = e.open({""});
    for (const auto *text : {"1", "2", "3"})
        e.receive(pipe, text);
    EXPECT_EQ(e.take_all(quick).size(), 3u);
    EXPECT_EQ(e.withheld(pipe), 1);
    EXPECT_EQ(e.take(slow), "1");
    EXPECT_EQ(e.withheld(pipe), 0);
    EXPECT_EQ(e.take_all(slow), (strings{"2", "3"}));
    EXPECT_EQ(e.count(stat::socket_recv_full), 0);
}

TEST(sub, that_blocks_gives_credit_back_for_what_is_dropped_otherwise)
{
    subscriber e({.queue = two, .on_full = overflow::block});
    const auto pipe = e.add_pipe();
    const auto c = e.open({"a", "b"}), leaving = e.open({"a"});
    for (const auto *text : {"a1", "b2", "a3", "b4", "a5"})
        e.receive(pipe, text);
    EXPECT_EQ(e.withheld(pipe), 3);
    e.close(leaving);
    EXPECT_EQ(e.withheld(pipe), 3);
    EXPECT_TRUE(e.unsubscribe(c, "a"));
    EXPECT_EQ(e.withheld(pipe), 0);
    EXPECT_EQ(e.take_all(c), (strings{"b2", "b4"}));
}

TEST(sub, that_blocks_gives_a_burst_of_credit_back_when_one_large_message_is_taken)
{
    subscriber e({.queue = {.bytes = 100000}, .on_full = overflow::block});
    const auto pipe = e.add_pipe();
    const auto c = e.open({""});
    e.receive(pipe, std::string(1 << 20, 'x'));
    for (int i = 0; i < 300; ++i) // more than one list of effects holds
        e.receive(pipe, "y");
    EXPECT_EQ(e.withheld(pipe), 300);
    EXPECT_TRUE(e.take(c));
    EXPECT_EQ(e.withheld(pipe), 0);
}

TEST(sub, counts_at_close_what_was_not_read)
{
    subscriber e;
    const auto pipe = e.add_pipe();
    e.open({""});
    e.open({""});
    for (int i = 0; i < 100; ++i)
        e.receive(pipe, "x");
    EXPECT_EQ(e.close(), 0u);
    EXPECT_EQ(e.count(stat::socket_unread, pipe), 200);
    EXPECT_EQ(e.frames_held(), 0u);
    EXPECT_EQ(e.machine.queued_in(), 0u);
}

// ---- chance ----

// A short alphabet makes topics that share their beginnings.
std::string some_text(std::mt19937 &random, std::size_t longest)
{
    std::string text(random() % (longest + 1), ' ');
    for (auto &c : text)
        c = "ab\xff"[random() % 3];
    return text;
}

TEST(topics, match_as_the_plainest_comparison_does)
{
    const auto seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    topic_tree tree;
    std::map<std::string, std::set<std::uint16_t>> naive;
    for (int step = 0; step < 20000 && !HasFailure(); ++step) {
        const auto topic = some_text(random, 7);
        const auto who = static_cast<std::uint16_t>(random() % 5);
        const auto what = random() % 1000;
        if (what < 2) {
            tree.remove_all(who);
            for (auto &[t, all] : naive)
                all.erase(who);
        } else if (what < 400) {
            tree.add(bytes(topic), who);
            naive[topic].insert(who);
        } else {
            const auto found = naive.find(topic);
            const bool known = found != naive.end() && found->second.erase(who) > 0;
            EXPECT_EQ(tree.remove(bytes(topic), who), known) << topic;
        }
        const auto message = some_text(random, 12);
        std::set<std::uint16_t> expected;
        for (const auto &[t, all] : naive)
            if (message.starts_with(t))
                expected.insert(all.begin(), all.end());
        const auto found = tree.match(bytes(message));
        EXPECT_EQ(std::set<std::uint16_t>(found.begin(), found.end()), expected) << message;
        EXPECT_EQ(found.size(), expected.size()) << "each once";
        for (std::uint16_t w = 0; w < 5; ++w)
            EXPECT_EQ(tree.matches(bytes(message), w), expected.contains(w));
        std::erase_if(naive, [](const auto &t) { return t.second.empty(); });
        for (std::size_t known = 0; known <= message.size(); ++known) {
            const auto begin = message.substr(0, known);
            const bool longer = std::ranges::any_of(
                naive, [&](const auto &t) { return t.first.starts_with(begin); });
            const bool begun = std::ranges::any_of(
                naive, [&](const auto &t) { return begin.starts_with(t.first); });
            EXPECT_EQ(tree.may_match(bytes(begin), true), begun) << begin;
            EXPECT_EQ(tree.may_match(bytes(begin), false), begun || longer) << begin;
        }
        EXPECT_LE(tree.nodes(), 2 * naive.size() + 1) << "nodes that nobody needs";
    }
    for (std::uint16_t who = 0; who < 5; ++who)
        tree.remove_all(who);
    EXPECT_EQ(tree.nodes(), 1u);
}

TEST(topics, leave_no_nodes_behind_when_they_go)
{
    topic_tree tree;
    for (const auto *topic : {"abc", "abd", "ab", "x"})
        tree.add(bytes(topic), 1);
    EXPECT_EQ(tree.nodes(), 5u); // and the root
    EXPECT_TRUE(tree.remove(bytes("ab"), 1));
    EXPECT_EQ(tree.nodes(), 5u) << "a fork";
    EXPECT_TRUE(tree.remove(bytes("abc"), 1));
    EXPECT_EQ(tree.nodes(), 3u) << "a fork of one is none";
    EXPECT_TRUE(tree.remove(bytes("x"), 1));
    EXPECT_TRUE(tree.remove(bytes("abd"), 1));
    EXPECT_EQ(tree.nodes(), 1u);
}

TEST(topics, may_be_as_long_as_they_like)
{
    topic_tree tree;
    std::string topic;
    for (int i = 0; i < 3000; ++i)
        tree.add(bytes(topic += 'a'), 0);
    EXPECT_EQ(tree.match(bytes(topic)).size(), 1u);
    EXPECT_TRUE(tree.match(bytes("b")).empty());
    tree.remove_all(0);
    EXPECT_EQ(tree.nodes(), 1u);
}

// What a context has: its topics, and what it should be given.
struct expected {
    std::set<std::string> topics;
    std::vector<std::string> queue;
    bool wants(const std::string &m) const
    {
        return std::ranges::any_of(topics, [&](const auto &t) { return m.starts_with(t); });
    }
};

TEST(sub, gives_each_context_what_it_wants_in_order_whatever_happens)
{
    const auto seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    for (const auto policy : {overflow::drop_oldest, overflow::drop_newest, overflow::block}) {
        const std::size_t most = random() % 10 + 1;
        subscriber e({.queue = {.bytes = 1 << 20, .messages = most}, .on_full = policy});
        std::map<context_id, expected> contexts;
        const auto some = [&](auto &map) {
            return std::next(map.begin(), static_cast<long>(random() % map.size()));
        };
        for (int step = 0; step < 6000 && !HasFailure(); ++step) {
            const auto what = random() % 100;
            if (e.pipes.empty() || (what < 2 && e.pipes.size() < 20)) {
                e.add_pipe();
            } else if (what < 3) {
                e.close_pipe(some(e.pipes)->first);
            } else if (contexts.empty() || (what < 5 && contexts.size() < 30)) {
                contexts[e.open()];
            } else if (what < 6) {
                const auto c = some(contexts);
                e.close(c->first);
                contexts.erase(c);
            } else if (what < 20) {
                const auto c = some(contexts);
                const auto topic = some_text(random, 4);
                e.subscribe(c->first, topic);
                c->second.topics.insert(topic);
            } else if (what < 30) {
                const auto c = some(contexts);
                const auto topic = some_text(random, 4);
                EXPECT_EQ(e.unsubscribe(c->first, topic), c->second.topics.erase(topic) > 0);
                std::erase_if(c->second.queue, [&](const auto &m) { return !c->second.wants(m); });
            } else if (what < 65) {
                const auto pipe = some(e.pipes)->first;
                if (e.withheld(pipe) > 5)
                    continue;
                const auto message = some_text(random, 6) + std::to_string(step);
                e.receive(pipe, message);
                for (auto &[id, c] : contexts) {
                    if (!c.wants(message))
                        continue;
                    if (policy != overflow::drop_newest || c.queue.size() < most)
                        c.queue.push_back(message);
                    if (policy == overflow::drop_oldest && c.queue.size() > most)
                        c.queue.erase(c.queue.begin());
                }
            } else {
                const auto c = some(contexts);
                auto &queue = c->second.queue;
                const auto text = e.take(c->first);
                ASSERT_EQ(text.has_value(), !queue.empty());
                if (text) {
                    EXPECT_EQ(*text, queue.front());
                    queue.erase(queue.begin());
                }
            }
            std::set<std::string> held;
            bool over = false;
            for (const auto &[id, c] : contexts) {
                held.insert(c.queue.begin(), c.queue.end());
                over = over || c.queue.size() > most;
                EXPECT_EQ(e.machine.waiting(id), !c.queue.empty());
            }
            EXPECT_EQ(e.frames_held(), held.size());
            for (const auto &[pipe, p] : e.pipes)
                EXPECT_TRUE(over || e.withheld(pipe) == 0);
        }
        e.close();
        EXPECT_EQ(e.frames_held(), 0u);
    }
}

} // namespace
