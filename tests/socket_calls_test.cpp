// SPDX-License-Identifier: BSD-2-Clause
//
// What every call says when it cannot do what it was asked: a time-out ends the call and not the
// request, a refused call has changed nothing, and each error comes with its reason.
#include "tests/support/local.hpp"

#include <vector>

namespace {

using namespace sp::test;
using sp::errc;
using sp::stat;

template <class T>
std::string said(const sp::result<T> &r)
{
    return r ? "success" : std::string(sp::describe(r.error().code()).name);
}

class call : public on_one_host {
protected:
    // A thread in context.recv(), and it has begun to wait.
    class waiting_receiver {
    public:
        explicit waiting_receiver(sp::req_context &context, const sp::wait &how_long = sp::forever)
            : thread_([this, &context, how_long] {
                  auto answer = context.recv(how_long);
                  if (answer)
                      text_ = answer->text();
                  else
                      text_ = std::string("error ") +
                              std::string(sp::describe(answer.error().code()).name);
              })
        {
            until([&] { return said(context.recv(0s)) == "invalid_state"; });
        }
        const std::string &result()
        {
            thread_.join();
            return text_;
        }

    private:
        std::string text_;
        std::jthread thread_;
    };
};

// ---- time

TEST_F(call, that_times_out_leaves_the_request_alive)
{
    auto rep = listening();
    auto req = dialed();
    auto context = must(req.open_context());
    must(context.send("slow question", patience));
    EXPECT_EQ(said(context.recv(1ms)), "timed_out");
    EXPECT_EQ(said(context.recv(sp::engine_clock::now())), "timed_out");
    EXPECT_EQ(said(context.recv(0s)), "would_block");
    must(must(rep.recv(patience)).reply("slow answer", patience));
    EXPECT_EQ(must(context.recv(patience)).text(), "slow answer");
    EXPECT_EQ(said(context.recv(patience)), "invalid_state");
}

TEST_F(call, that_may_not_wait_says_so_only_when_it_would_have_to)
{
    auto rep = listening();
    EXPECT_EQ(said(rep.recv(0s)), "would_block");
    EXPECT_FALSE(rep.try_recv());
    auto lonely = must(sp::req::open(at()));
    EXPECT_EQ(said(lonely.request("?", 0s)), "would_block");
    EXPECT_EQ(said(lonely.wait_peers(1, 0s)), "would_block");
    EXPECT_EQ(said(lonely.wait_peers(0, 0s)), "success");
    auto req = dialed();
    auto context = must(req.open_context());
    EXPECT_EQ(said(context.send("?", 0s)), "success");
    std::optional<sp::request> question;
    until([&] { return (question = rep.try_recv()).has_value(); });
    EXPECT_EQ(said(std::move(*question).reply("!", 0s)), "success");
    until([&] { return said(context.recv(0s)) == "success"; });
}

TEST_F(call, that_times_out_in_a_send_withdraws_what_it_wanted_to_send)
{
    auto req = must(sp::req::open(at()));
    auto context = must(req.open_context());
    EXPECT_EQ(said(context.send("never sent", 1ms)), "timed_out");
    EXPECT_EQ(said(context.recv(patience)), "invalid_state");
    EXPECT_EQ(said(req.request("never sent either", 1ms)), "timed_out");
    EXPECT_EQ(engine().frames_in_use(), 0u);
    auto rep = listening();
    (void)must(req.dial(url(), patience));
    must(context.send("sent", patience));
    EXPECT_EQ(must(rep.recv(patience)).text(), "sent");
}

TEST_F(call, is_ended_by_a_stop_from_another_thread_and_the_request_lives)
{
    auto rep = listening();
    auto req = dialed();
    auto context = must(req.open_context());
    must(context.send("?", patience));
    std::stop_source stop;
    {
        waiting_receiver receiver(context, sp::wait(stop.get_token()));
        stop.request_stop();
        EXPECT_EQ(receiver.result(), "error canceled");
    }
    must(must(rep.recv(patience)).reply("!", patience));
    EXPECT_EQ(must(context.recv(patience)).text(), "!");
    EXPECT_EQ(said(rep.recv(stop.get_token())), "canceled") << "a stop that came before the call";
    EXPECT_EQ(said(req.wait_peers(7, stop.get_token())), "canceled");
    EXPECT_EQ(said(req.request("?", sp::wait(patience, stop.get_token()))), "canceled");
    EXPECT_EQ(said(req.dial(url("nobody"), stop.get_token())), "connection_refused");
}

// ---- state

TEST_F(call, to_receive_needs_a_request)
{
    auto rep = listening();
    auto req = dialed();
    auto context = must(req.open_context());
    EXPECT_EQ(said(context.recv(patience)), "invalid_state");
    EXPECT_EQ(said(sp::request().reply("!")), "invalid_state");
    EXPECT_EQ(said(sp::request().loan(1)), "invalid_state");
    must(context.send("?", patience));
    auto question = must(rep.recv(patience));
    must(std::move(question).reply("once", patience));
    EXPECT_EQ(said(std::move(question).reply("twice", patience)),
              "invalid_state");                         // NOLINT: that is the point
    EXPECT_EQ(said(question.loan(1)), "invalid_state"); // NOLINT
}

TEST_F(call, to_receive_is_refused_while_another_thread_waits)
{
    auto rep = listening();
    auto req = dialed();
    auto context = must(req.open_context());
    must(context.send("?", patience));
    waiting_receiver receiver(context);
    EXPECT_EQ(said(context.recv(patience)), "invalid_state");
    must(must(rep.recv(patience)).reply("for the first", patience));
    EXPECT_EQ(receiver.result(), "for the first");
}

TEST_F(call, to_send_cancels_what_was_asked_before)
{
    auto rep = listening();
    auto req = dialed();
    auto context = must(req.open_context());
    must(context.send("old", patience));
    auto old_question = must(rep.recv(patience));
    waiting_receiver receiver(context);
    must(context.send("new", patience));
    EXPECT_EQ(receiver.result(), "error canceled");
    must(std::move(old_question).reply("old answer", patience));
    must(must(rep.recv(patience)).reply("new answer", patience));
    EXPECT_EQ(must(context.recv(patience)).text(), "new answer");
    EXPECT_EQ(count(stat::socket_late), 1u);
}

TEST_F(call, to_send_throws_an_unread_answer_away)
{
    auto rep = listening();
    auto req = dialed();
    auto context = must(req.open_context());
    must(context.send("old", patience));
    must(must(rep.recv(patience)).reply("unread", patience));
    auto other = must(req.open_context());
    must(other.send("?", patience));
    must(must(rep.recv(patience)).reply("behind it on the same pipe", patience));
    (void)must(other.recv(patience));
    must(context.send("new", patience));
    must(must(rep.recv(patience)).reply("read", patience));
    EXPECT_EQ(must(context.recv(patience)).text(), "read");
    EXPECT_EQ(count(stat::socket_abandoned), 1u);
}

TEST_F(call, to_send_that_is_refused_leaves_the_request_before_untouched)
{
    auto rep = listening({.message_max = 1000, .credit_messages = 64});
    auto req = dialed();
    std::vector<sp::req_context> contexts;
    do
        contexts.push_back(must(req.open_context()));
    while (contexts.back().send(std::to_string(contexts.size()), 0s));
    auto &first = contexts.front();
    EXPECT_EQ(said(first.send("no room for it", 0s)), "would_block");
    EXPECT_EQ(said(first.send(std::string(2000, 'x'), 0s)), "would_block");
    EXPECT_EQ(said(first.send(std::string(2000, 'x'), patience)), "message_too_large");
    EXPECT_EQ(said(first.send(std::string(2 << 20, 'x'), patience)), "message_too_large");
    auto question = must(rep.recv(patience));
    EXPECT_EQ(question.text(), "1");
    must(std::move(question).reply("answer to 1", patience));
    EXPECT_EQ(must(first.recv(patience)).text(), "answer to 1");
}

TEST_F(call, to_cancel_ends_the_receive_of_another_thread)
{
    auto rep = listening();
    auto req = dialed();
    auto context = must(req.open_context());
    context.cancel(); // nothing to cancel
    must(context.send("?", patience));
    auto question = must(rep.recv(patience));
    waiting_receiver receiver(context);
    context.cancel();
    EXPECT_EQ(receiver.result(), "error canceled");
    EXPECT_EQ(said(context.recv(patience)), "invalid_state");
    must(std::move(question).reply("too late", patience));
    must(context.send("again", patience));
    must(must(rep.recv(patience)).reply("in time", patience));
    EXPECT_EQ(must(context.recv(patience)).text(), "in time");
    EXPECT_EQ(count(stat::socket_late), 1u);
}

TEST_F(call, fails_at_once_without_a_peer_if_so_wished)
{
    auto req = must(sp::req::open(at({.on_no_peer = sp::when_alone::fail})));
    auto context = must(req.open_context());
    EXPECT_EQ(said(context.send("?", patience)), "no_peer");
    EXPECT_EQ(said(req.request("?", patience)), "no_peer");
}

TEST_F(call, tells_once_that_a_request_reached_its_deadline)
{
    auto rep = listening();
    auto req = dialed({.request_deadline = 10ms});
    auto context = must(req.open_context());
    must(context.send("?", patience));
    EXPECT_EQ(said(context.recv(patience)), "expired");
    EXPECT_EQ(said(context.recv(patience)), "invalid_state");
    auto alone = must(sp::req::open(at({.request_deadline = 10ms})));
    EXPECT_EQ(said(alone.request("?", patience)), "expired");
}

TEST_F(call, tells_once_that_the_peer_went_when_nothing_is_sent_again)
{
    std::optional<sp::rep> rep = listening();
    auto req = dialed({.resend_time = 0s});
    auto answered = must(req.open_context()), waiting = must(req.open_context()),
         late = must(req.open_context());
    must(answered.send("answered", patience));
    must(must(rep->recv(patience)).reply("kept", patience));
    must(waiting.send("not answered", patience));
    must(late.send("nor this", patience));
    waiting_receiver receiver(waiting);
    rep.reset();
    EXPECT_EQ(receiver.result(), "error connection_reset");
    EXPECT_EQ(said(waiting.recv(patience)), "invalid_state");
    EXPECT_EQ(said(late.recv(patience)), "connection_reset");
    EXPECT_EQ(said(late.recv(patience)), "invalid_state");
    EXPECT_EQ(must(answered.recv(patience)).text(), "kept");
}

TEST_F(call, on_a_closed_socket_says_that_it_is_closed)
{
    auto rep = listening();
    auto req = dialed();
    auto context = must(req.open_context()), asked = must(req.open_context());
    must(asked.send("?", patience));
    auto question = must(rep.recv(patience));
    auto loan = must(req.loan(10, patience));
    const auto id = must(req.dial(url()));
    req.close();
    req.close(); // again
    rep.close();
    EXPECT_EQ(said(req.request("?", patience)), "closed");
    EXPECT_EQ(said(req.request(std::move(loan), patience)), "closed");
    EXPECT_EQ(said(req.loan(1, patience)), "closed");
    EXPECT_EQ(said(req.open_context()), "closed");
    EXPECT_EQ(said(req.dial(url())), "closed");
    EXPECT_EQ(said(req.listen(url("other"))), "closed");
    EXPECT_EQ(said(req.wait_peers(0)), "closed");
    EXPECT_EQ(said(req.url(id)), "closed");
    EXPECT_EQ(said(context.send("?", patience)), "closed");
    EXPECT_EQ(said(asked.recv(patience)), "closed");
    EXPECT_EQ(said(asked.request("?", patience)), "closed");
    EXPECT_EQ(said(rep.recv(patience)), "closed");
    EXPECT_FALSE(rep.try_recv());
    EXPECT_EQ(said(question.loan(1)), "closed");
    EXPECT_EQ(said(std::move(question).reply("!", patience)), "closed");
    EXPECT_EQ(req.peers(), 0u);
    EXPECT_FALSE(req.last_error(id));
    req.admit([](const sp::pipe_info &) { return true; });
    req.close_endpoint(id);
    context.cancel();
}

// ---- size

TEST_F(call, names_the_limit_of_a_message_that_is_too_large)
{
    auto rep = listening({.message_max = 1000});
    auto req = dialed({.message_max = 2000});
    const auto ours = req.request(std::string(2001, 'x'), patience);
    ASSERT_FALSE(ours);
    EXPECT_EQ(ours.error().number(), 2007);
    EXPECT_TRUE(ours.error().what().contains("2001")) << ours.error().what();
    EXPECT_TRUE(ours.error().why().contains("2000")) << ours.error().why();
    EXPECT_EQ(said(req.loan(2001)), "message_too_large");
    const auto theirs = req.request(std::string(1001, 'x'), patience);
    ASSERT_FALSE(theirs);
    EXPECT_EQ(theirs.error().number(), 2007);
    EXPECT_EQ(req.peers(), 1u); // nobody was hurt

    auto context = must(req.open_context());
    must(context.send("?", patience));
    auto question = must(rep.recv(patience));
    const auto reply = std::move(question).reply(std::string(1001, 'x'), patience);
    EXPECT_EQ(said(reply), "message_too_large");
    EXPECT_TRUE(reply.error().why().contains("1000")) << reply.error().why();
    EXPECT_EQ(said(context.recv(1ms)), "timed_out");
}

TEST_F(call, waits_while_the_memory_for_messages_is_used_up)
{
    sp::engine_options small;
    small.memory_max = 256 << 10;
    open_engine(small);
    auto req = must(sp::req::open(at()));
    std::vector<sp::loan> held;
    for (;;) {
        auto loan = req.loan(60000, 0s);
        if (!loan) {
            EXPECT_EQ(said(loan), "would_block");
            break;
        }
        held.push_back(std::move(*loan));
    }
    EXPECT_EQ(held.size(), 4u);
    EXPECT_EQ(said(req.loan(60000, 1ms)), "timed_out");
    std::jthread giver([&] { held.pop_back(); });
    EXPECT_EQ(said(req.loan(60000)), "success"); // without end: nothing but the giver wakes it
}

// ---- options

TEST_F(call, to_open_is_refused_a_message_max_that_might_never_find_room)
{
    sp::engine_options small;
    small.memory_max = 1 << 20;
    open_engine(small);
    EXPECT_TRUE(sp::rep::open(at({.message_max = 256 << 10})));
    const auto refused = sp::rep::open(at({.message_max = (256 << 10) + 1}));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().number(), 2008);
    auto req = must(sp::req::open(at())); // unset, it is what fits
    EXPECT_EQ(said(req.loan((256 << 10) + 1, 0s)), "message_too_large");
}

struct bad_option {
    const char *name;
    sp::options options;
};

TEST_F(call, to_open_refuses_options_that_are_out_of_range)
{
    const bad_option both[] = {
        {"message_max 0", {.message_max = 0}},
        {"message_max over 1 GiB", {.message_max = (1ull << 30) + 1}},
        {"connect_timeout 0", {.connect_timeout = 0s}},
        {"reconnect_min 0", {.reconnect_min = 0s}},
        {"reconnect_max below reconnect_min", {.reconnect_min = 2s, .reconnect_max = 1s}},
        {"keepalive_interval 9 ms", {.keepalive_interval = 9ms}},
        {"peer_timeout 49 ms", {.peer_timeout = 49ms}},
        {"pipes_max 0", {.pipes_max = 0}},
        {"linger negative", {.linger = -1s}},
        {"linger over an hour", {.linger = 1h + 1ns}},
        {"ipc_mode with more than rights", {.ipc_mode = 01777}},
    };
    const bad_option of_req[] = {
        {"resend_time 1 us", {.resend_time = 1us}},
        {"resend_time negative", {.resend_time = -1s}},
        {"request_deadline 0", {.request_deadline = 0s}},
        {"ttl_max", {.ttl_max = 8}},
        {"dedupe_time", {.dedupe_time = 1s}},
        {"reply_cache_bytes", {.reply_cache_bytes = 1}},
    };
    const bad_option of_rep[] = {
        {"ttl_max 0", {.ttl_max = 0}},
        {"ttl_max 16", {.ttl_max = 16}},
        {"dedupe_time negative", {.dedupe_time = -1s}},
        {"reply_cache_bytes over 1 GiB", {.reply_cache_bytes = (1ull << 30) + 1}},
        {"on_no_peer", {.on_no_peer = sp::when_alone::wait}},
        {"resend_time", {.resend_time = 1s}},
        {"request_deadline", {.request_deadline = 1s}},
    };
    const auto refused = [&](const char *name, const auto &opened) {
        ASSERT_FALSE(opened) << name;
        EXPECT_EQ(opened.error().number(), 2008) << name;
        EXPECT_EQ(opened.error().code(), errc::invalid_argument) << name;
        EXPECT_FALSE(opened.error().what().empty()) << name;
    };
    for (const auto &o : both) {
        refused(o.name, sp::req::open(at(o.options)));
        refused(o.name, sp::rep::open(at(o.options)));
    }
    for (const auto &o : of_req)
        refused(o.name, sp::req::open(at(o.options)));
    for (const auto &o : of_rep)
        refused(o.name, sp::rep::open(at(o.options)));
    EXPECT_TRUE(sp::req::open(at({.message_max = 64u << 20, .resend_time = 0s, .linger = 1h})));
    EXPECT_TRUE(sp::rep::open(at({.ttl_max = 15, .dedupe_time = 0s, .reply_cache_bytes = 0})));
}

} // namespace
