// SPDX-License-Identifier: BSD-2-Clause
//
// Every role through its descriptors alone: nothing here waits in a call, with either driver.
#include "tests/support/descriptors.hpp"

#include <string>

namespace {

using namespace sp::test;
using sp::errc;

class poll_fd_of_roles : public on_descriptors, public testing::WithParamInterface<sp::driver> {
protected:
    void SetUp() override
    {
        on_descriptors::SetUp();
        sp::engine_options o;
        o.driver = GetParam();
        open_engine(o);
    }
    void sleep(sp::result<int> fd) { sleep_on(must(fd), GetParam()); }
    template <class Socket>
    void connected(Socket &socket)
    {
        sleep(socket.event_fd());
        EXPECT_EQ(must(socket.next_event(0s)).what, sp::pipe_event::kind::attached);
    }
    template <class Listener, class Dialer>
    void connect(Listener &to, Dialer &from)
    {
        (void)must(to.listen(url()));
        (void)must(from.dial(url()));
        connected(to);
        connected(from);
    }
    template <class Receiver>
    void receives(Receiver &in, const std::string &text)
    {
        const int fd = must(in.recv_fd());
        sleep(fd);
        const auto got = in.try_recv();
        ASSERT_TRUE(got) << "readable, and yet there was nothing";
        EXPECT_EQ(got->text(), text);
        EXPECT_FALSE(readable(fd)) << "nothing more was sent";
    }
    static constexpr int rounds = 300;
};

TEST_P(poll_fd_of_roles, carry_push_and_pull)
{
    auto out = must(sp::push::open(at()));
    auto in = must(sp::pull::open(at()));
    EXPECT_FALSE(readable(must(out.send_fd())));
    connect(in, out);
    for (int i = 0; i < rounds; ++i) {
        sleep(out.send_fd());
        must(out.send(std::to_string(i), 0s));
        receives(in, std::to_string(i));
    }
}

// As many as go without waiting, and not one more: then the descriptor must know it too.
TEST_P(poll_fd_of_roles, to_send_by_tell_when_the_peer_is_full_and_when_it_is_not)
{
    auto out = must(sp::push::open(at()));
    auto in = must(sp::pull::open(at()));
    connect(in, out);
    sleep(out.send_fd());
    int sent = 0, taken = 0;
    while (out.send("x", 0s))
        ++sent;
    EXPECT_GT(sent, 0);
    EXPECT_FALSE(readable(must(out.send_fd())));
    while (taken < sent) {
        sleep(in.recv_fd());
        while (in.try_recv())
            ++taken;
    }
    sleep(out.send_fd());
    must(out.send("last", 0s));
    receives(in, "last");
}

TEST_P(poll_fd_of_roles, carry_a_pair)
{
    auto one = must(sp::pair::open(at())), other = must(sp::pair::open(at()));
    connect(one, other);
    for (int i = 0; i < rounds; ++i) {
        sleep(one.send_fd());
        must(one.send("there", 0s));
        receives(other, "there");
        sleep(other.send_fd());
        must(other.send("and back", 0s));
        receives(one, "and back");
    }
}

TEST_P(poll_fd_of_roles, carry_publications_to_a_socket_and_to_a_context)
{
    auto pub = must(sp::pub::open(at()));
    auto sub = must(sp::sub::open(at()));
    auto context = must(sub.open_context());
    must(sub.subscribe("a"));
    must(context.subscribe("b"));
    connect(pub, sub);
    for (int i = 0; i < rounds; ++i) {
        must(pub.send("a message"));
        must(pub.send("nobody wants this"));
        receives(sub, "a message");
        EXPECT_FALSE(readable(must(context.recv_fd())));
        must(pub.send("b message"));
        receives(context, "b message");
        EXPECT_FALSE(readable(must(sub.recv_fd())));
    }
}

TEST_P(poll_fd_of_roles, carry_a_bus)
{
    auto one = must(sp::bus::open(at())), other = must(sp::bus::open(at()));
    connect(one, other);
    for (int i = 0; i < rounds; ++i) {
        must(one.send("there"));
        receives(other, "there");
        must(other.send("and back"));
        receives(one, "and back");
    }
}

TEST_P(poll_fd_of_roles, carry_surveys_and_tell_their_end_once)
{
    auto asker = must(sp::surveyor::open(at()));
    auto answerer = must(sp::respondent::open(at()));
    connect(answerer, asker);
    for (int i = 0; i < rounds; ++i) {
        auto survey = must(asker.survey("?", patience));
        EXPECT_FALSE(readable(must(survey.recv_fd())));
        sleep(answerer.recv_fd());
        auto question = answerer.try_recv();
        ASSERT_TRUE(question);
        must(std::move(*question).reply("!", 0s));
        receives(survey, "!");
    }
    auto unanswered = must(asker.survey("?", 5ms));
    sleep(unanswered.recv_fd());
    EXPECT_EQ(unanswered.recv(0s).error(), errc::expired);
    EXPECT_FALSE(readable(must(unanswered.recv_fd())));
}

TEST_P(poll_fd_of_roles, carry_raw_sockets)
{
    auto out = must(sp::raw::open(sp::pattern::push, at()));
    auto in = must(sp::raw::open(sp::pattern::pull, at()));
    connect(in, out);
    for (int i = 0; i < rounds; ++i) {
        sleep(out.send_fd());
        must(out.send({}, std::to_string(i), 0s));
        receives(in, std::to_string(i));
    }
}

INSTANTIATE_TEST_SUITE_P(each, poll_fd_of_roles,
                         testing::Values(sp::driver::caller, sp::driver::manual),
                         [](const auto &i) {
                             return i.param == sp::driver::caller ? "caller" : "manual";
                         });

} // namespace
