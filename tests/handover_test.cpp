// SPDX-License-Identifier: BSD-2-Clause
//
// Large messages in memory of their own, as an application meets them: handed from one process to
// another by unixgram:// without a copy, in order with all others, by every pattern, on and on; and
// copied as before wherever that cannot be. What somebody else may do to this is in
// wild_handover_test.cpp.
#include "tests/support/local.hpp"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <grp.h>
#include <optional>
#include <string>
#include <sys/resource.h>

namespace {

using namespace sp::test;
using sp::stat;

constexpr std::size_t mib = 1u << 20;
constexpr std::size_t large = 4 * mib;

std::string body_of(std::size_t n, unsigned salt)
{
    std::string all(n, '\0');
    for (std::size_t i = 0; i < n; ++i)
        all[i] = static_cast<char>(i * 31 + (i >> 12) + salt);
    return all;
}

void fill(std::span<std::byte> to, unsigned salt)
{
    const auto body = body_of(to.size(), salt);
    std::memcpy(to.data(), body.data(), body.size());
}

// Does this lie in memory that was handed over, by the word of the kernel?
bool is_handed_over(sp::bytes body)
{
    std::ifstream maps("/proc/self/maps");
    const auto at = reinterpret_cast<std::uintptr_t>(body.data());
    for (std::string line; std::getline(maps, line);) {
        std::uintptr_t from = 0, to = 0;
        char rights[5] = {};
        if (std::sscanf(line.c_str(), "%lx-%lx %4s", &from, &to, rights) == 3 && from <= at &&
            at + body.size() <= to)
            return line.contains("/memfd:sp-message") && rights == std::string_view("r--p");
    }
    return false;
}

std::ptrdiff_t descriptors_open()
{
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
}

// Bytes that this machine can give without anything else having to go.
std::uint64_t memory_left()
{
    std::ifstream file("/proc/meminfo");
    for (std::string line; std::getline(file, line);)
        if (line.starts_with("MemAvailable:"))
            return std::stoull(line.substr(13)) * 1024;
    return 0;
}

std::uint64_t resident_private() // of this process, in bytes
{
    std::ifstream file("/proc/self/status");
    for (std::string line; std::getline(file, line);)
        if (line.starts_with("RssAnon:"))
            return std::stoull(line.substr(8)) * 1024;
    return 0;
}

class handover : public on_one_host {
protected:
    void SetUp() override
    {
        on_one_host::SetUp();
        open_engine(roomy);
        theirs_.emplace(must(sp::engine::open(roomy)));
    }
    void TearDown() override
    {
        if (theirs_) {
            EXPECT_EQ(theirs_->frames_in_use(), 0u) << "message buffers leaked";
        }
        theirs_.reset();
        on_one_host::TearDown();
    }
    sp::options near(sp::options o = {}) { return o.message_max = 64 * mib, at(o); }
    sp::options far(sp::options o = {})
    {
        o.message_max = 64 * mib;
        o.on = &*theirs_;
        return o;
    }
    sp::engine &theirs() { return *theirs_; }
    void drop_engines()
    {
        theirs_.reset();
        drop_engine();
    }
    std::uint64_t handed() { return theirs_->statistics()[stat::ring_handed_over]; }
    std::uint64_t taken() { return count(stat::ring_taken_over); }

    static constexpr sp::engine_options roomy{.memory_max = 512 * mib, .handover_bytes = mib};

private:
    std::optional<sp::engine> theirs_;
};

TEST_F(handover, brings_a_loan_and_a_copy_alike)
{
    const auto where = url();
    auto pull = must(sp::pull::open(near({.listen = where})));
    auto push = must(sp::push::open(far()));
    (void)must(push.dial(where, patience));
    for (const std::size_t n : {mib, mib + 1, large, large - 17, 33 * mib}) {
        auto loan = must(push.loan(n, patience));
        fill(loan.body(), 1);
        must(push.send(std::move(loan), patience));
        auto got = must(pull.recv(patience));
        EXPECT_TRUE(got.text() == body_of(n, 1)) << n;
        EXPECT_TRUE(is_handed_over(got.body())) << n;
        EXPECT_EQ(got.transport(), "unixgram");
        must(push.send(body_of(n, 2), patience));
        got = must(pull.recv(patience));
        EXPECT_TRUE(got.text() == body_of(n, 2)) << n;
        EXPECT_TRUE(is_handed_over(got.body())) << n;
    }
    EXPECT_EQ(handed(), 10u);
    EXPECT_EQ(taken(), 10u);
}

TEST_F(handover, is_refused_for_what_is_never_worth_it)
{
    const auto refused = sp::engine::open({.handover_bytes = 65535});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().number(), 2008);
}

TEST_F(handover, is_for_large_messages_only)
{
    const auto where = url();
    auto pull = must(sp::pull::open(near({.listen = where})));
    auto push = must(sp::push::open(far()));
    (void)must(push.dial(where, patience));
    auto loan = must(push.loan(2 * mib, patience));
    fill(loan.body(), 1);
    loan.shrink(mib - 1);
    must(push.send(std::move(loan), patience));
    EXPECT_TRUE(must(pull.recv(patience)).text() == body_of(mib - 1, 1));
    must(push.send(body_of(mib - 1, 2), patience));
    EXPECT_TRUE(must(pull.recv(patience)).text() == body_of(mib - 1, 2));
    EXPECT_EQ(handed(), 0u);
}

TEST_F(handover, gives_what_a_loan_was_shrunk_to)
{
    const auto where = url();
    auto pull = must(sp::pull::open(near({.listen = where})));
    auto push = must(sp::push::open(far()));
    (void)must(push.dial(where, patience));
    auto loan = must(push.loan(large, patience));
    fill(loan.body(), 5);
    loan.shrink(mib + 4097);
    must(push.send(std::move(loan), patience));
    const auto got = must(pull.recv(patience));
    EXPECT_TRUE(got.text() == body_of(large, 5).substr(0, mib + 4097));
    EXPECT_TRUE(is_handed_over(got.body()));
}

TEST_F(handover, gives_all_pages_of_a_loan_that_was_not_all_written)
{
    const auto where = url();
    auto pull = must(sp::pull::open(near({.listen = where})));
    auto push = must(sp::push::open(far()));
    (void)must(push.dial(where, patience));
    auto loan = must(push.loan(large, patience));
    loan.body()[2 * mib] = std::byte{7};
    must(push.send(std::move(loan), patience));
    const auto got = must(pull.recv(patience));
    EXPECT_TRUE(is_handed_over(got.body()));
    EXPECT_EQ(got.body()[2 * mib], std::byte{7});
    EXPECT_EQ(std::ranges::count(got.body(), std::byte{0}), std::ptrdiff_t{large - 1});
}

TEST_F(handover, keeps_the_order_among_small_and_large)
{
    const auto where = url();
    auto pull = must(sp::pull::open(near({.listen = where})));
    auto push = must(sp::push::open(far()));
    (void)must(push.dial(where, patience));
    const auto size_of = [](unsigned i) -> std::size_t {
        return i % 5 == 0 ? large + i : i % 5 == 2 ? 300'000 + i : i + 1;
    };
    std::jthread sender([&] {
        for (unsigned i = 0; i < 100; ++i)
            if (!push.send(body_of(size_of(i), i), patience))
                return;
    });
    for (unsigned i = 0; i < 100; ++i)
        ASSERT_TRUE(must(pull.recv(patience)).text() == body_of(size_of(i), i)) << i;
    EXPECT_EQ(handed(), 20u);
}

TEST_F(handover, carries_questions_and_answers)
{
    const auto where = url();
    auto rep = must(sp::rep::open(near({.listen = where})));
    std::jthread service([&] {
        for (unsigned i = 0; i < 8; ++i) {
            auto question = must(rep.recv(patience));
            EXPECT_TRUE(is_handed_over(question.body()));
            EXPECT_TRUE(question.text() == body_of(large, i));
            auto answer = must(question.loan(large + i, patience));
            fill(answer.body(), i + 100);
            must(std::move(question).reply(std::move(answer)));
        }
    });
    auto req = must(sp::req::open(far()));
    (void)must(req.dial(where, patience));
    for (unsigned i = 0; i < 8; ++i) {
        const auto answer = must(req.request(body_of(large, i), patience));
        EXPECT_TRUE(is_handed_over(answer.body()));
        EXPECT_TRUE(answer.text() == body_of(large + i, i + 100));
    }
    service.join();
    EXPECT_EQ(handed(), 8u);
    EXPECT_EQ(theirs().statistics()[stat::ring_taken_over], 8u);
}

TEST_F(handover, gives_many_subscribers_the_same_memory)
{
    const auto where = url();
    auto pub = must(sp::pub::open(far({.listen = where, .send_queue_bytes = 256 * mib})));
    std::vector<sp::sub> subs;
    for (int i = 0; i < 3; ++i) {
        subs.push_back(must(sp::sub::open(near({.recv_queue_bytes = 256 * mib}))));
        must(subs.back().subscribe(""));
        (void)must(subs.back().dial(where, patience));
    }
    must(pub.wait_peers(3, patience));
    // By a stream too: it is read here after it was sealed.
    const auto stream = "ipc://" + file("stream");
    (void)must(pub.listen(stream));
    subs.push_back(must(sp::sub::open(near({.recv_queue_bytes = 256 * mib}))));
    must(subs.back().subscribe(""));
    (void)must(subs.back().dial(stream, patience));
    must(pub.wait_peers(4, patience));
    for (unsigned i = 0; i < 6; ++i) {
        auto loan = must(pub.loan(large));
        fill(loan.body(), i);
        must(pub.send(std::move(loan)));
        for (auto &sub : subs) {
            const auto got = must(sub.recv(patience));
            EXPECT_TRUE(got.text() == body_of(large, i)) << i;
            EXPECT_EQ(is_handed_over(got.body()), got.transport() == "unixgram");
        }
    }
    EXPECT_EQ(handed(), 18u);
}

TEST_F(handover, goes_on_by_a_device_in_the_same_memory)
{
    const auto there = url("there"), here = url("here");
    auto rep = must(sp::rep::open(far({.listen = there})));
    auto in = must(sp::raw::open(sp::pattern::rep, near({.listen = here})));
    auto out = must(sp::raw::open(sp::pattern::req, near()));
    (void)must(out.dial(there, patience));
    std::jthread middle([&](std::stop_token stop) {
        (void)sp::device(std::move(in), std::move(out), {.until = stop});
    });
    std::jthread service([&] {
        for (unsigned i = 0; i < 4; ++i) {
            auto question = must(rep.recv(patience));
            EXPECT_TRUE(is_handed_over(question.body()));
            must(std::move(question).reply(question.body(), patience));
        }
    });
    auto asking = must(sp::engine::open(roomy));
    auto req = must(sp::req::open({.on = &asking, .message_max = 64 * mib}));
    (void)must(req.dial(here, patience));
    for (unsigned i = 0; i < 4; ++i) {
        const auto answer = must(req.request(body_of(large, i), patience));
        EXPECT_TRUE(answer.text() == body_of(large, i));
        EXPECT_TRUE(is_handed_over(answer.body()));
    }
    EXPECT_EQ(taken(), 8u);
    EXPECT_EQ(count(stat::ring_handed_over), 8u) << "the device copied";
}

TEST_F(handover, leaves_a_message_readable_after_everything_else_has_gone)
{
    sp::message kept;
    {
        const auto where = url();
        auto pull = must(sp::pull::open(near({.listen = where})));
        auto push = must(sp::push::open(far()));
        (void)must(push.dial(where, patience));
        must(push.send(body_of(large, 9), patience));
        kept = must(pull.recv(patience));
    }
    EXPECT_TRUE(kept.text() == body_of(large, 9));
    EXPECT_TRUE(is_handed_over(kept.body()));
}

TEST_F(handover, holds_back_a_sender_whose_messages_nobody_takes_and_loses_none)
{
    const auto where = url();
    auto pull = must(sp::pull::open(near({.listen = where})));
    auto push = must(sp::push::open(far()));
    (void)must(push.dial(where, patience));
    unsigned sent = 0;
    while (push.send(body_of(large, sent), 20ms))
        ASSERT_LT(++sent, 200u);
    EXPECT_GT(sent, 3u);
    std::uint64_t came = 0;
    for (unsigned i = 0; i < sent; ++i)
        came += must(pull.recv(patience)).text() == body_of(large, i);
    EXPECT_EQ(came, sent);
    must(push.send(body_of(large, 3), patience));
    EXPECT_TRUE(must(pull.recv(patience)).text() == body_of(large, 3));
}

TEST_F(handover, counts_what_it_takes_against_the_memory_of_the_engine)
{
    open_engine({.memory_max = 24 * mib, .handover_bytes = mib});
    const auto where = url();
    auto pull = must(sp::pull::open(at({.listen = where, .message_max = 6 * mib})));
    auto push = must(sp::push::open(far()));
    (void)must(push.dial(where, patience));
    std::jthread sender([&] {
        for (unsigned i = 0; i < 12; ++i)
            if (!push.send(body_of(large, i), patience))
                return;
    });
    std::vector<sp::message> hoard;
    while (hoard.size() < 5)
        hoard.push_back(must(pull.recv(patience)));
    EXPECT_EQ(pull.recv(50ms).error(), sp::errc::timed_out) << "more than memory_max is mapped";
    hoard.clear();
    for (unsigned i = 5; i < 12; ++i)
        ASSERT_TRUE(must(pull.recv(patience)).text() == body_of(large, i)) << i;
}

TEST_F(handover, leaves_no_descriptor_and_no_mapping_behind)
{
    const auto where = url();
    auto pull = must(sp::pull::open(near({.listen = where})));
    auto push = must(sp::push::open(far()));
    (void)must(push.dial(where, patience));
    const auto mappings = [] {
        std::ifstream maps("/proc/self/maps");
        std::ptrdiff_t n = 0;
        for (std::string line; std::getline(maps, line);)
            n += line.contains("/memfd:sp-message");
        return n;
    };
    std::ptrdiff_t before = 0;
    for (unsigned i = 0; i < 30; ++i) {
        must(push.send(body_of(large, i), patience));
        (void)must(pull.recv(patience));
        if (i == 2)
            before = descriptors_open();
    }
    until([&] { return engine().frames_in_use() == 0 && theirs().frames_in_use() == 0; });
    EXPECT_LE(descriptors_open(), before);
    EXPECT_EQ(mappings(), 0);
}

TEST_F(handover, uses_a_loan_again_that_was_not_sent)
{
    const auto where = url();
    auto pull = must(sp::pull::open(near({.listen = where})));
    auto push = must(sp::push::open(far()));
    (void)must(push.dial(where, patience));
    const std::byte *first = nullptr;
    {
        auto loan = must(push.loan(large, patience));
        first = loan.body().data();
        fill(loan.body(), 1);
    }
    until([&] { return theirs().frames_in_use() == 0; });
    auto loan = must(push.loan(large - mib, patience));
    EXPECT_EQ(loan.body().data(), first);
    fill(loan.body(), 2);
    must(push.send(std::move(loan), patience));
    const auto got = must(pull.recv(patience));
    EXPECT_TRUE(got.text() == body_of(large - mib, 2));
    EXPECT_TRUE(is_handed_over(got.body()));
}

TEST_F(handover, does_not_happen_without_shared_memory)
{
    auto none = must(sp::engine::open({.memory_max = 512 * mib, .ring_bytes = 0}));
    const auto where = url();
    auto pull = must(sp::pull::open(near({.listen = where})));
    auto push = must(sp::push::open({.on = &none, .message_max = 64 * mib}));
    (void)must(push.dial(where, patience));
    must(push.send(body_of(large, 1), patience));
    const auto got = must(pull.recv(patience));
    EXPECT_TRUE(got.text() == body_of(large, 1));
    EXPECT_FALSE(is_handed_over(got.body()));
}

TEST_F(handover, copies_when_no_descriptor_is_left_to_make_memory_with)
{
    const auto where = url();
    auto pull = must(sp::pull::open(near({.listen = where})));
    auto push = must(sp::push::open(far()));
    (void)must(push.dial(where, patience));
    rlimit usual{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &usual), 0);
    const rlimit none{.rlim_cur = 1, .rlim_max = usual.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
    const auto sent = push.send(body_of(large, 1), patience);
    auto got = pull.recv(patience);
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &usual), 0);
    must(sent);
    EXPECT_TRUE(must(std::move(got)).text() == body_of(large, 1));
    EXPECT_EQ(handed(), 0u);
}

TEST_F(handover, that_finds_no_descriptor_here_ends_the_pipe_and_the_next_one_copies)
{
    const auto where = url();
    auto rep = must(sp::rep::open(near({.listen = where})));
    auto req = must(sp::req::open(far()));
    (void)must(req.dial(where, patience));
    auto question = must(req.loan(large, patience));
    fill(question.body(), 1);
    rlimit usual{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &usual), 0);
    const rlimit none{.rlim_cur = 1, .rlim_max = usual.rlim_max};
    std::jthread asking([&] {
        const auto answer = req.request(std::move(question), patience);
        EXPECT_TRUE(answer && answer->text() == "good");
    });
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
    until([&] { return count(stat::ring_no_descriptor) > 0 || taken() > 0; });
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &usual), 0);
    // The request is asked again, and comes.
    auto asked = must(rep.recv(patience));
    EXPECT_TRUE(asked.text() == body_of(large, 1));
    must(std::move(asked).reply("good", patience));
    asking.join();
    EXPECT_EQ(taken(), count(stat::ring_no_descriptor) > 0 ? 0u : 1u);
}

// Two processes, as most of this is for. Made before this process has threads of its own.
TEST_F(handover, of_a_gibibyte_between_two_processes_copies_nothing)
{
    constexpr std::size_t gib = std::size_t{1} << 30;
    if (const auto left = memory_left(); left < gib * 5 / 2)
        GTEST_SKIP() << "memory: " << left / mib << " MiB are available, 2560 are needed";
    drop_engines();
    const auto where = url();
    child pusher([where](child::door door) {
        door.wait();
        auto engine = sp::engine::open({.memory_max = 4 * gib});
        if (!engine)
            return 1;
        auto push = sp::push::open({.on = &*engine, .message_max = gib});
        if (!push || !push->dial(where, patience))
            return 2;
        auto loan = push->loan(gib, patience);
        if (!loan)
            return 3;
        for (std::size_t at = 0; at < gib; at += 4096)
            std::memcpy(loan->body().data() + at, &at, sizeof at);
        if (!push->send(std::move(*loan), patience))
            return 4;
        door.tell();
        door.wait();
        return engine->statistics()[stat::ring_handed_over] == 1 ? 0 : 5;
    });
    open_engine({.memory_max = 4 * gib});
    auto pull = must(sp::pull::open(at({.listen = where, .message_max = gib})));
    const auto before = resident_private();
    pusher.let_go();
    auto got = must(pull.recv(patience));
    ASSERT_TRUE(pusher.wait_ready());
    EXPECT_EQ(got.size(), gib);
    EXPECT_TRUE(is_handed_over(got.body()));
    std::size_t wrong = 0;
    for (std::size_t at = 0; at < gib; at += 4096) {
        std::size_t mark = 0;
        std::memcpy(&mark, got.body().data() + at, sizeof mark);
        wrong += mark != at;
    }
    EXPECT_EQ(wrong, 0u);
    EXPECT_LT(resident_private(), before + 64 * mib) << "this process has a copy";
    EXPECT_EQ(count(stat::ring_taken_over), 1u);
    got = {};
    pusher.let_go();
    EXPECT_EQ(pusher.wait_end(), 0);
}

TEST_F(handover, by_a_process_that_is_killed_comes_all_the_same)
{
    drop_engines();
    const auto where = url();
    child pusher([where](child::door door) {
        door.wait();
        auto engine = sp::engine::open(roomy);
        auto push = sp::push::open({.on = &*engine, .message_max = 64 * mib});
        if (!push || !push->dial(where, patience))
            return 1;
        for (unsigned i = 0; i < 3; ++i)
            if (!push->send(body_of(large, i), patience))
                return 2;
        door.tell();
        door.wait();
        return 0;
    });
    open_engine(roomy);
    auto pull =
        must(sp::pull::open(near({.listen = where, .keepalive_interval = 1h, .peer_timeout = 2h})));
    pusher.let_go();
    ASSERT_TRUE(pusher.wait_ready());
    pusher.kill();
    until([&] { return pull.peers() == 0; });
    for (unsigned i = 0; i < 3; ++i) {
        const auto got = must(pull.recv(patience));
        EXPECT_TRUE(got.text() == body_of(large, i)) << i;
    }
}

TEST_F(handover, to_a_process_of_another_user_is_a_copy)
{
    if (::geteuid() != 0)
        GTEST_SKIP() << "becoming another user needs root";
    drop_engines();
    std::filesystem::permissions(std::filesystem::path(file("socket")).parent_path(),
                                 std::filesystem::perms{0755});
    const auto where = url();
    child asker([where](child::door door) {
        constexpr std::uint32_t nobody = 65534;
        if (::setgroups(0, nullptr) != 0 || ::setresgid(nobody, nobody, nobody) != 0 ||
            ::setresuid(nobody, nobody, nobody) != 0)
            return 1;
        door.wait();
        auto engine = sp::engine::open(roomy);
        if (!engine)
            return 2;
        auto req = sp::req::open({.on = &*engine, .message_max = 64 * mib});
        if (!req || !req->dial(where, patience))
            return 3;
        const auto answer = req->request(body_of(large, 1), patience);
        if (!answer || answer->text() != body_of(large, 2))
            return 4;
        const auto counted = engine->statistics();
        return counted[stat::ring_begun] == 1 && counted[stat::ring_handed_over] == 0 ? 0 : 5;
    });
    open_engine(roomy);
    auto rep = must(sp::rep::open(near({.listen = where, .ipc_mode = 0666u})));
    asker.let_go();
    auto question = must(rep.recv(patience));
    EXPECT_TRUE(question.text() == body_of(large, 1));
    EXPECT_FALSE(is_handed_over(question.body()));
    must(std::move(question).reply(body_of(large, 2), patience));
    EXPECT_EQ(asker.wait_end(), 0);
    EXPECT_EQ(taken(), 0u);
    EXPECT_EQ(count(stat::ring_handed_over), 0u);
}

} // namespace
