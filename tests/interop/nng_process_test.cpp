// SPDX-License-Identifier: BSD-2-Clause
//
// The process that libnng runs in: it is killed when it does not close; the test hears of it when
// it dies or does not answer; it never outlives its test.
#include "tests/interop/nng.hpp"
#include "tests/support/local.hpp"

#include <array>
#include <future>
#include <gtest/gtest-spi.h>
#include <poll.h>
#include <vector>

namespace sp::test {
namespace {

class nng_process_of_a_test : public testing::Test {
protected:
    static void stop(const nng_peer &n)
    {
        ::kill(n.pid(), SIGSTOP);
        int status = 0; // until all its threads stand
        ASSERT_EQ(::waitpid(n.pid(), &status, WUNTRACED), n.pid());
        ASSERT_TRUE(WIFSTOPPED(status));
    }
    // What closing prints, with little patience.
    static std::string closed(nng_peer &n)
    {
        testing::internal::CaptureStdout();
        n.close(1ms);
        return testing::internal::GetCapturedStdout();
    }
    static std::string thrown_by(const std::function<void()> &call)
    {
        try {
            call();
        } catch (const std::runtime_error &e) {
            return e.what();
        }
        return "nothing";
    }
    static constexpr auto note = "note: libnng did not end by itself, its process was killed\n";

private:
    watchdog watchdog_;
};

TEST_F(nng_process_of_a_test, is_killed_and_noted_when_it_does_not_close)
{
    nng_peer one(nng_role::pair0), two(nng_role::pair0, one);
    stop(one);
    EXPECT_EQ(closed(one), note);
    EXPECT_EQ(::kill(one.pid(), 0), -1) << "it is there still";
    EXPECT_EQ(thrown_by([&] { (void)two.pipes(); }),
              "libnng's process was killed when it did not close, before pipes");
    EXPECT_EQ(closed(two), "") << "the note again";
}

TEST_F(nng_process_of_a_test, throws_when_it_does_not_answer)
{
    nng_peer n(nng_role::pair0);
    stop(n);
    EXPECT_EQ(thrown_by([&] { (void)n.recv(not_at_all); }),
              "libnng has not come back from receive in 10000 ms");
    EXPECT_EQ(closed(n), note);
}

TEST_F(nng_process_of_a_test, throws_when_it_dies)
{
    nng_peer n(nng_role::pair0);
    auto waits = std::async(std::launch::async, [&] { return n.recv(); });
    ::kill(n.pid(), SIGKILL);
    EXPECT_EQ(thrown_by([&] { (void)waits.get(); }),
              "libnng's process ended with status 137 in receive");
    EXPECT_EQ(thrown_by([&] { n.subscribe(""); }),
              "libnng's process ended with status 137 in subscribe");
}

TEST_F(nng_process_of_a_test, fails_the_test_when_it_dies_and_only_the_close_sees_it)
{
    EXPECT_NONFATAL_FAILURE(
        {
            const nng_peer n(nng_role::pair0);
            ::kill(n.pid(), SIGKILL);
        },
        "libnng's process ended with status 137 in close");
}

TEST_F(nng_process_of_a_test, takes_calls_from_several_threads)
{
    const scratch_directory place;
    nng_peer one(nng_role::pair0), two(nng_role::pair0);
    two.dial(one.listen("ipc://" + place.file("pair")));
    constexpr int count = 8;
    std::vector<std::future<nng_mail>> waiting;
    for (int i = 0; i < count; ++i)
        waiting.push_back(std::async(std::launch::async, [&] { return two.recv(); }));
    for (int i = 0; i < count; ++i)
        nng_must(one.send("x"), "send");
    for (auto &w : waiting)
        EXPECT_EQ(w.get().body, "x");
}

TEST_F(nng_process_of_a_test, has_both_ends_of_a_device)
{
    nng_peer one(nng_role::rep0_raw), elsewhere(nng_role::req0_raw);
    EXPECT_EQ(thrown_by([&] { one.join_by_device(elsewhere); }),
              "a device of libnng is of one process");
}

// Also while a fork of the test's process holds the control socket open.
TEST_F(nng_process_of_a_test, ends_with_a_test_that_is_killed)
{
    std::array<int, 2> held, stay;
    ASSERT_EQ(::pipe(held.data()), 0); // libnng's process inherits the end for writing
    ASSERT_EQ(::pipe(stay.data()), 0);
    child test([&](child::door door) {
        const nng_peer n(nng_role::pair0);
        if (::fork() == 0) {
            ::close(held[1]);
            ::close(stay[1]);
            char byte;
            (void)!::read(stay[0], &byte, 1);
            std::_Exit(0);
        }
        door.tell();
        door.wait();
        return 0;
    });
    ::close(held[1]);
    ASSERT_TRUE(test.wait_ready());
    pollfd end{.fd = held[0], .events = POLLIN, .revents = 0};
    EXPECT_EQ(::poll(&end, 1, 0), 0) << "it ends before its test";
    test.kill();
    EXPECT_EQ(::poll(&end, 1, 30'000), 1) << "it outlives its test";
    for (const int fd : {held[0], stay[0], stay[1]})
        ::close(fd);
}

} // namespace
} // namespace sp::test
