// SPDX-License-Identifier: BSD-2-Clause
//
// A hostile process of our own user that hands over large messages: what it may hand over, what
// ends its pipe, and that nothing of it stays here.
#include "tests/support/wild.hpp"

#include "userspace/transport/handover.hpp"

#include <string>

namespace {

using namespace sp::test;
using sp::stat;
using sp::ring::kind;
using sp::transport::descriptor;
using sp::transport::lent_max;

constexpr std::size_t body_bytes = 200'000;
constexpr int sound_seals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

// Memory as an honest peer hands it over, or nearly.
descriptor body_of(std::size_t n, int seals = sound_seals, bool written = true)
{
    descriptor fd(::memfd_create("wild-message", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (::ftruncate(fd.get(), static_cast<off_t>(n)) != 0)
        throw std::runtime_error("no memory");
    const std::string text(n, 'w');
    if (written && ::pwrite(fd.get(), text.data(), n, 0) != static_cast<ssize_t>(n))
        throw std::runtime_error("no memory");
    if (::fcntl(fd.get(), F_ADD_SEALS, seals) != 0)
        throw std::runtime_error("no seals");
    return fd;
}

std::ptrdiff_t descriptors_open()
{
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
}

class wild_handover : public wild_neighbour {
protected:
    wild_handover() { answering_ = {.handover_bytes = 64 * 1024}; }

    // A neighbour with memory, whose first record lies at the beginning of its ring.
    struct visitor {
        half mine;
        wild w;

        explicit visitor(const std::string &path) : w(path)
        {
            EXPECT_TRUE(w.introduce({mine.memory.get(), mine.bell.get()}));
        }
        bool hand_over(std::uint64_t number, const std::vector<int> &fds) const
        {
            const sp_handover said{
                .magic = SP_HANDOVER_MAGIC, .connection = w.connection(), .number = number};
            return w.send(std::as_bytes(std::span(&said, 1)), fds);
        }
        void record(std::uint64_t number, std::uint64_t size, std::size_t header = 4) const
        {
            const sp_lent said{.number = number, .size = size};
            auto bytes = request(7, std::string(header - 4, 'h'));
            const auto *at = reinterpret_cast<const std::byte *>(&said);
            bytes.insert(bytes.begin(), at, at + sizeof said);
            commit(mine, 0, bytes, 3, kind::descriptor);
            w.ring();
        }
    };
    std::unique_ptr<visitor> come()
    {
        auto v = std::make_unique<visitor>(file("socket"));
        until([&] { return rep_->peers() == 2; });
        return v;
    }
};

TEST_F(wild_handover, that_behaves_is_served)
{
    const auto v = come();
    const auto body = body_of(body_bytes);
    ASSERT_TRUE(v->hand_over(0, {body.get()}));
    v->record(0, body_bytes);
    const auto &answer = *reinterpret_cast<const std::uint64_t *>(v->w.theirs()->ring().data());
    until([&] { return std::atomic_ref(const_cast<std::uint64_t &>(answer)).load() != 0; });
    EXPECT_EQ(count(stat::ring_taken_over), 1u);
    EXPECT_EQ(count(stat::ring_bad_record), 0u);
}

TEST_F(wild_handover, of_memory_that_is_not_what_it_says_ends_its_pipe)
{
    std::uint64_t bad = 0;
    const auto expect_end = [&](const char *what, const descriptor &body, std::uint64_t size) {
        SCOPED_TRACE(what);
        const auto v = come();
        ASSERT_TRUE(v->hand_over(0, {body.get()}));
        v->record(0, size);
        expect_alone();
        EXPECT_EQ(count(stat::ring_bad_record), ++bad);
        expect_served();
    };
    for (const int missing : {F_SEAL_WRITE, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL})
        expect_end("a seal is missing", body_of(body_bytes, sound_seals & ~missing), body_bytes);
    expect_end("longer than it is", body_of(body_bytes), body_bytes + 1);
    expect_end("shorter than it is", body_of(body_bytes), body_bytes - 1);
    expect_end("nothing", body_of(0), 0);
    expect_end("larger than can be", body_of(body_bytes), ~std::uint64_t{0});
    expect_end("holes", body_of(body_bytes, sound_seals, false), body_bytes);
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    const descriptor in(ends[0]), out(ends[1]);
    expect_end("a pipe", in, body_bytes);
    EXPECT_EQ(count(stat::ring_taken_over), 0u);
}

TEST_F(wild_handover, whose_record_lies_ends_its_pipe)
{
    std::uint64_t bad = 0;
    const auto expect_end = [&](const char *what, auto lie) {
        SCOPED_TRACE(what);
        const auto v = come();
        lie(*v);
        expect_alone();
        EXPECT_EQ(count(stat::ring_bad_record), ++bad);
        expect_served();
    };
    const auto body = body_of(body_bytes);
    expect_end("no descriptor comes", [&](visitor &v) { v.record(0, body_bytes); });
    expect_end("another number", [&](visitor &v) {
        ASSERT_TRUE(v.hand_over(0, {body.get()}));
        v.record(1, body_bytes);
    });
    expect_end("too short", [&](visitor &v) {
        ASSERT_TRUE(v.hand_over(0, {body.get()}));
        commit(v.mine, 0, request(7, "short"), 3, kind::descriptor);
        v.w.ring();
    });
    expect_end("not whole", [&](visitor &v) {
        ASSERT_TRUE(v.hand_over(0, {body.get()}));
        commit(v.mine, 0, request(7, "a header and more"), 1, kind::descriptor);
        v.w.ring();
    });
    expect_end("of a kind that is not used", [&](visitor &v) {
        commit(v.mine, 0, request(7, "a header and more"), 3, kind::arena);
        v.w.ring();
    });
}

TEST_F(wild_handover, of_more_than_a_message_may_be_ends_its_pipe)
{
    const auto v = come();
    const auto body = body_of((1 << 20) + 1);
    ASSERT_TRUE(v->hand_over(0, {body.get()}));
    v->record(0, (1 << 20) + 1);
    expect_alone();
    EXPECT_EQ(count(stat::pipe_too_large), 1u);
}

TEST_F(wild_handover, whose_descriptors_are_not_expected_ends_its_pipe)
{
    const auto before = descriptors_open();
    const auto body = body_of(body_bytes);
    const auto expect_end = [&](const char *what, auto lie) {
        SCOPED_TRACE(what);
        const auto counted = count(stat::unixgram_descriptors);
        const auto v = come();
        lie(*v);
        expect_alone();
        EXPECT_GT(count(stat::unixgram_descriptors), counted);
        expect_served();
    };
    expect_end("out of order", [&](visitor &v) { (void)v.hand_over(1, {body.get()}); });
    expect_end("none", [&](visitor &v) { (void)v.hand_over(0, {}); });
    expect_end("two at once", [&](visitor &v) { (void)v.hand_over(0, {body.get(), body.get()}); });
    expect_end("more than may be on the way", [&](visitor &v) {
        for (std::uint64_t n = 0; n <= lent_max; ++n)
            until([&] { return v.hand_over(n, {body.get()}); });
    });
    until([&] { return descriptors_open() <= before + 1; }); // and `body`
}

TEST_F(wild_handover, floods_descriptors_in_vain)
{
    const auto body = body_of(body_bytes);
    const auto before = descriptors_open();
    {
        const auto v = come();
        for (std::uint64_t n = 0; n < 2000; ++n)
            (void)v->hand_over(n, {body.get()});
        expect_served();
        // Of a connection that is not its own.
        const sp_handover said{
            .magic = SP_HANDOVER_MAGIC, .connection = v->w.connection() + 1, .number = 0};
        for (int n = 0; n < 200; ++n)
            (void)v->w.send(std::as_bytes(std::span(&said, 1)), {body.get()});
        expect_served();
    }
    until([&] { return descriptors_open() <= before; });
    EXPECT_GT(count(stat::unixgram_descriptors), 0u);
}

TEST_F(wild_handover, that_ends_before_the_record_has_sent_nothing)
{
    const auto before = descriptors_open();
    const auto received = count(stat::socket_received);
    {
        const auto v = come();
        const auto body = body_of(body_bytes);
        ASSERT_TRUE(v->hand_over(0, {body.get()}));
        expect_served(); // and it is with us, most likely
        v->mine.word(SP_SEGMENT_CLOSED) = 1;
        v->w.ring();
        expect_alone();
    }
    EXPECT_EQ(count(stat::socket_received), received + 1); // the honest one's
    until([&] { return descriptors_open() <= before; });
}

TEST_F(wild_handover, that_ends_after_the_record_has_sent_it)
{
    const auto v = come();
    const auto body = body_of(body_bytes);
    ASSERT_TRUE(v->hand_over(0, {body.get()}));
    v->record(0, body_bytes);
    v->mine.word(SP_SEGMENT_CLOSED) = 1;
    v->w.ring();
    expect_alone();
    EXPECT_EQ(count(stat::ring_taken_over), 1u);
}

TEST_F(wild_handover, that_says_it_takes_more_than_it_may_ends_its_pipe)
{
    const auto v = come();
    const auto body = body_of(body_bytes);
    v->mine.word(SP_SEGMENT_TAKES) = lent_max + 1;
    ASSERT_TRUE(v->hand_over(0, {body.get()}));
    v->record(0, body_bytes); // the answer would be handed over
    expect_alone();
    EXPECT_EQ(count(stat::ring_bad_record), 1u);
    EXPECT_EQ(count(stat::ring_handed_over), 0u);
}

TEST_F(wild_handover, that_does_not_take_what_it_is_handed_gets_no_more_of_it)
{
    const auto v = come();
    v->mine.word(SP_SEGMENT_TAKES) = lent_max;
    const auto body = body_of(body_bytes);
    std::uint64_t at = 0;
    for (std::uint64_t n = 0; n <= lent_max; ++n) {
        until([&] { return v->hand_over(n, {body.get()}); });
        const sp_lent said{.number = n, .size = body_bytes};
        auto bytes = request(static_cast<std::uint32_t>(n), "");
        const auto *raw = reinterpret_cast<const std::byte *>(&said);
        bytes.insert(bytes.begin(), raw, raw + sizeof said);
        v->mine.word(SP_SEGMENT_RING + at + 64) = 0;
        commit(v->mine, at, bytes, 3, kind::descriptor);
        at += sp::ring::record_space(bytes.size());
        v->w.ring();
        until([&] { return count(stat::ring_taken_over) == n + 1; });
    }
    expect_served();
    EXPECT_EQ(count(stat::ring_handed_over), lent_max);
    EXPECT_EQ(rep_->peers(), 2u);
}

} // namespace
