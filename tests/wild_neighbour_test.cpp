// SPDX-License-Identifier: BSD-2-Clause
//
// A hostile process on the same host, which speaks the handshake well and then does with its own
// memory, its descriptors and its datagrams what it likes. It harms its own connection; the REP it
// dialed goes on answering an honest neighbour. Random scribbles print their seed.
#include "tests/support/wild.hpp"

#include <array>
#include <cstring>
#include <iostream>
#include <random>
#include <vector>

namespace {

using namespace sp::test;
using sp::stat;
using sp::transport::descriptor;

TEST_F(wild_neighbour, that_behaves_is_served)
{
    const half mine;
    wild w(file("socket"));
    ASSERT_TRUE(w.introduce({mine.memory.get(), mine.bell.get()}));
    commit(mine, 0, request(7, "hello"));
    w.ring();
    const auto &answer =
        *reinterpret_cast<const std::uint64_t *>(w.theirs()->ring().data()); // its commit word
    until([&] { return std::atomic_ref(const_cast<std::uint64_t &>(answer)).load() != 0; });
    EXPECT_EQ(std::memcmp(w.theirs()->ring().data() + 16 + 4, "hello", 5), 0);
}

TEST_F(wild_neighbour, that_scribbles_on_all_it_can_write_harms_only_itself)
{
    const auto seed = std::random_device()();
    std::cout << "note: wild_neighbour scribbles with seed " << seed << '\n';
    std::mt19937_64 chance(seed);
    for (int round = 0; round < 150; ++round) {
        SCOPED_TRACE("seed " + std::to_string(seed) + ", round " + std::to_string(round));
        const half mine;
        wild w(file("socket"));
        ASSERT_TRUE(w.introduce({mine.memory.get(), mine.bell.get()}));
        const auto words = whole / 8;
        for (int i = 0; i < 200; ++i) {
            auto where = chance() % words * 8;
            if (chance() % 4 == 0)
                where = SP_SEGMENT_PROGRESS + chance() % 5 * 0x80;
            else if (chance() % 2 == 0) // where the next record is looked for
                where = SP_SEGMENT_RING + chance() % 8 * 64;
            auto value = chance();
            if (chance() % 2 == 0) // nearly right
                value = sp::ring::pack(chance() % 3000, static_cast<sp::ring::kind>(chance() % 7),
                                       chance() % 8 * 64);
            mine.word(where) = value;
            if (chance() % 16 == 0)
                w.ring();
        }
        w.ring();
        if (round % 10 == 0)
            expect_served();
    }
    EXPECT_GT(count(stat::ring_bad_record), 0u) << "no scribble was ever looked at";
}

TEST_F(wild_neighbour, whose_record_is_no_record_is_closed)
{
    struct lie {
        const char *what;
        std::uint64_t word;
    };
    using sp::ring::kind;
    using sp::ring::pack;
    for (const auto &[what, word] :
         {lie{"longer than the ring", pack(ring_bytes, kind::data, 0)},
          lie{"longer than an eighth", pack(ring_bytes / 8, kind::data, 0)},
          lie{"of the lap before", pack(10, kind::data, ring_bytes)},
          lie{"padding in front", pack(ring_bytes - 16, kind::pad, 0)},
          lie{"of no kind", pack(10, static_cast<kind>(9), 0)},
          lie{"of a kind that is not used", pack(10, kind::descriptor, 0)}}) {
        SCOPED_TRACE(what);
        const half mine;
        wild w(file("socket"));
        ASSERT_TRUE(w.introduce({mine.memory.get(), mine.bell.get()}));
        until([&] { return rep_->peers() == 2; });
        mine.word(SP_SEGMENT_RING) = word;
        w.ring();
        expect_alone();
        expect_served();
    }
    EXPECT_EQ(count(stat::ring_bad_record), 6u);
}

TEST_F(wild_neighbour, that_dies_between_any_two_stores_of_a_send_has_sent_it_or_not)
{
    const auto body = request(9, std::string(100, 'x'));
    const auto lines = sp::ring::record_space(body.size()) / 8;
    for (std::size_t stores = 0; stores <= lines; ++stores) {
        const auto before = count(stat::socket_received);
        {
            const half mine, good;
            commit(good, 0, body); // and all but the last of its stores, in another order than ours
            wild w(file("socket"));
            ASSERT_TRUE(w.introduce({mine.memory.get(), mine.bell.get()}));
            until([&] { return rep_->peers() == 2; });
            for (std::size_t i = lines; i-- > lines - stores;)
                mine.word(SP_SEGMENT_RING + i * 8) = good.word(SP_SEGMENT_RING + i * 8);
            mine.word(SP_SEGMENT_CLOSED) = 1;
            w.ring();
            expect_alone();
        }
        EXPECT_EQ(count(stat::socket_received) - before, stores == lines ? 1u : 0u) << stores;
    }
}

TEST_F(wild_neighbour, that_moves_its_progress_where_it_cannot_be_is_closed)
{
    for (const std::uint64_t progress :
         {std::uint64_t{64} << 20, ~std::uint64_t{0}, std::uint64_t{7}}) {
        SCOPED_TRACE(progress);
        const half mine;
        wild w(file("socket"));
        ASSERT_TRUE(w.introduce({mine.memory.get(), mine.bell.get()}));
        until([&] { return rep_->peers() == 2; });
        mine.word(SP_SEGMENT_PROGRESS) = progress;
        // Its progress is looked at when the ring to it seems full: so many answers do that.
        std::uint64_t at = 0;
        const auto big = request(3, std::string(1900, 'y'));
        for (int i = 0; i < 4000 && rep_->peers() == 2; ++i) {
            const auto space = sp::ring::record_space(big.size());
            const auto rest = ring_bytes - (at & (ring_bytes - 1));
            if (rest < space) {
                mine.word(SP_SEGMENT_RING + (at & (ring_bytes - 1))) =
                    sp::ring::pack(rest - 16, sp::ring::kind::pad, at);
                at += rest;
            }
            const auto next = at + space;
            mine.word(SP_SEGMENT_RING + (next & (ring_bytes - 1))) = 0;
            commit(mine, at, big);
            at = next;
            w.ring();
            const auto read = [&] {
                return std::atomic_ref(
                           const_cast<std::uint64_t &>(w.theirs()->word(SP_SEGMENT_PROGRESS)))
                    .load();
            };
            until([&] { return at - read() < ring_bytes / 2 || rep_->peers() == 1; });
        }
        expect_alone();
    }
}

TEST_F(wild_neighbour, whose_gift_is_no_segment_is_served_by_datagrams)
{
    constexpr int good = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
    std::uint64_t bad = 0;
    const auto expect_datagrams = [&](const std::vector<int> &beside) {
        wild w(file("socket"));
        EXPECT_FALSE(w.introduce(beside));
        until([&] { return rep_->peers() == 2; });
        EXPECT_EQ(count(stat::ring_bad_segment), ++bad);
        expect_served();
    };
    const half sound;
    for (const int missing : {F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_FUTURE_WRITE, F_SEAL_SEAL}) {
        const half h(good & ~missing);
        expect_datagrams({h.memory.get(), h.bell.get()});
    }
    const half holed(good, false);
    expect_datagrams({holed.memory.get(), holed.bell.get()});
    expect_datagrams({sound.bell.get(), sound.memory.get()}); // the wrong way round
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    const descriptor in(ends[0]), out(ends[1]);
    expect_datagrams({out.get(), in.get()});
}

// A listener that answers as it should, but for what it hands over with its ACCEPT.
class wild_listener {
public:
    explicit wild_listener(const std::string &path)
        : fd_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0))
    {
        const auto name = sp::transport::path_name(path);
        if (::bind(fd_.get(), name->get(), name->length) != 0)
            throw std::runtime_error("cannot listen");
    }
    // Answers what comes until a dialer has opened without memory.
    void serve(const std::vector<int> &beside)
    {
        while (!link_ || link_->state() != sp::link::phase::open) {
            std::vector<std::byte> packet(65536);
            sockaddr_un from{};
            iovec piece{packet.data(), packet.size()};
            msghdr message{};
            message.msg_name = &from;
            message.msg_namelen = sizeof from;
            message.msg_iov = &piece;
            message.msg_iovlen = 1;
            const auto n = ::recvmsg(fd_.get(), &message, 0); // descriptors are cut off
            if (n < static_cast<ssize_t>(sizeof(sp_header)))
                continue;
            packet.resize(static_cast<std::size_t>(n));
            offered_ = (message.msg_flags & MSG_CTRUNC) != 0;
            answer(packet, from, message.msg_namelen, beside);
        }
    }
    [[nodiscard]] int accepted_with_memory() const { return with_memory_; }

private:
    void answer(std::span<const std::byte> packet, const sockaddr_un &to, socklen_t length,
                const std::vector<int> &beside)
    {
        const auto now = sp::engine_clock::now();
        const auto type = sp::link::read<sp_header>(packet).type;
        if (type == SP_PROBE) {
            const auto cookie = sp::link::make_cookie(sp::link::read<sp_probe>(packet),
                                                      static_cast<std::uint16_t>(packet.size()), 1,
                                                      sp::link::cookie{});
            send(std::as_bytes(std::span(&cookie, 1)), to, length, {});
        } else if (type == SP_INIT) {
            sp::link::connection_config c;
            c.local_id = ++ids_ << 16 | 1;
            c.instance = 77;
            c.protocol = 0x31;
            c.peer_protocol = 0x30;
            c.packet_max = 65532;
            c.message_max = 1 << 20;
            link_ = sp::link::connection::accept(c, sp::link::read<sp_init>(packet), now);
            std::vector<std::byte> accept(link_->transmit_size());
            accept.resize(link_->transmit(accept, now));
            with_memory_ += offered_;
            send(accept, to, length, offered_ ? beside : std::vector<int>{});
        } else if (link_) {
            (void)link_->on_packet(packet, now);
        }
    }
    void send(std::span<const std::byte> bytes, const sockaddr_un &to, socklen_t length,
              const std::vector<int> &beside) const
    {
        iovec piece{const_cast<std::byte *>(bytes.data()), bytes.size()};
        msghdr message{};
        message.msg_name = const_cast<sockaddr_un *>(&to);
        message.msg_namelen = length;
        message.msg_iov = &piece;
        message.msg_iovlen = 1;
        gift_control control;
        control.put(message, beside);
        ASSERT_GE(::sendmsg(fd_.get(), &message, 0), 0);
    }

    descriptor fd_;
    std::optional<sp::link::connection> link_;
    std::uint64_t ids_ = 1;
    bool offered_ = false;
    int with_memory_ = 0;
};

class wild_listening : public on_one_host {};

// It believes that there are rings, and the dialer cannot read them: no message may go either way.
TEST_F(wild_listening, whose_gift_is_no_segment_gets_a_new_dial_that_offers_none)
{
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    const descriptor in(ends[0]), out(ends[1]);
    wild_listener listener(file("socket"));
    std::jthread serving([&] { listener.serve({in.get(), out.get()}); });
    auto req = must(sp::req::open(at()));
    (void)must(req.dial(url())); // keeps trying; one that waits is told of the first attempt
    must(req.wait_peers(1, patience));
    serving.join();
    EXPECT_EQ(listener.accepted_with_memory(), 1);
    EXPECT_EQ(count(stat::ring_bad_segment), 1u);
    EXPECT_EQ(count(stat::pipe_opened), 1u) << "the first one opened too";
}

TEST_F(wild_neighbour, that_sends_many_descriptors_leaves_none_here)
{
    const half mine;
    const auto open_now = [] {
        return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
    };
    std::vector<int> many(60, mine.memory.get());
    wild w(file("socket"));
    const auto before = open_now();
    EXPECT_FALSE(w.introduce(many)); // more than an introduction has: none was taken
    until([&] { return rep_->peers() == 2; });
    for (int i = 0; i < 200; ++i)
        (void)w.send(std::array<std::byte, 100>{}, many);
    expect_served();
    until([&] { return open_now() <= before; });
    EXPECT_GT(count(stat::unixgram_descriptors), 0u);
}

TEST_F(wild_neighbour, that_floods_bells_and_hellos_does_not_stop_the_others)
{
    const half mine;
    wild w(file("socket"));
    ASSERT_TRUE(w.introduce({mine.memory.get(), mine.bell.get()}));
    std::atomic<bool> over = false;
    std::jthread flood([&] {
        std::vector<std::byte> hello(SP_PROBE_SIZE_MIN);
        hello[0] = std::byte{SP_WIRE_VERSION};
        hello[offsetof(sp_header, type)] = std::byte{SP_PROBE};
        while (!over.load()) {
            w.ring();
            (void)w.send(hello);
        }
    });
    for (int i = 0; i < 500; ++i)
        expect_served();
    over = true;
}

} // namespace
