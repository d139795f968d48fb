// SPDX-License-Identifier: BSD-2-Clause
//
// A hostile process on the same host, which speaks the handshake well and then does with its own
// memory, its descriptors and its datagrams what it likes. It harms its own connection; the REP it
// dialed goes on answering an honest neighbour. Random scribbles print their seed.
#include "sp/abi/broadcast.h"
#include "tests/support/wild.hpp"
#include "userspace/ring/broadcast_ring.hpp"

#include <array>
#include <cstring>
#include <functional>
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

TEST_F(wild_neighbour, whose_third_descriptor_nobody_asked_for_is_served_without)
{
    const half mine;
    wild w(file("socket"));
    const auto before = count(stat::unixgram_descriptors);
    EXPECT_TRUE(w.introduce({mine.memory.get(), mine.bell.get(), mine.bell.get()}));
    until([&] { return rep_->peers() == 2; });
    EXPECT_EQ(count(stat::unixgram_descriptors), before + 1) << "a REP hears no broadcasts";
    wild greedy(file("socket"));
    EXPECT_FALSE(greedy.introduce(std::vector<int>(4, mine.bell.get())));
}

// ---- a hostile publisher

// Its broadcast ring, before it is spoiled.
struct airwave {
    static constexpr std::size_t bytes = SP_BROADCAST_SLOTS + 2 * ring_bytes;
    descriptor memory{::memfd_create("wild", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    std::byte *at = nullptr;

    explicit airwave(int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL,
                     std::size_t size = bytes, std::uint64_t said = ring_bytes)
    {
        if (::ftruncate(memory.get(), static_cast<off_t>(size)) != 0 ||
            ::fallocate(memory.get(), 0, 0, static_cast<off_t>(size)) != 0)
            throw std::runtime_error("no memory");
        void *const got =
            ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
        if (got == MAP_FAILED)
            throw std::runtime_error("no map");
        at = static_cast<std::byte *>(got);
        const sp_broadcast_head head{.magic = SP_BROADCAST_MAGIC,
                                     .version = SP_BROADCAST_VERSION,
                                     .ring_bytes = said,
                                     .reserved = {}};
        std::memcpy(at, &head, sizeof head);
        if (::fcntl(memory.get(), F_ADD_SEALS, seals) != 0)
            throw std::runtime_error("no seals");
    }
    airwave(const airwave &) = delete;
    airwave &operator=(const airwave &) = delete;
    ~airwave() { ::munmap(at, bytes); }

    [[nodiscard]] sp::ring::published_memory ring() const
    {
        return {.slots = {at + SP_BROADCAST_SLOTS, ring_bytes},
                .data = {at + SP_BROADCAST_SLOTS + ring_bytes, ring_bytes},
                .oldest = &sp::ring::word_at(at + SP_BROADCAST_OLDEST),
                .published = &sp::ring::word_at(at + SP_BROADCAST_PUBLISHED)};
    }
};

std::span<const std::byte> bytes_of(std::string_view text)
{
    return std::as_bytes(std::span(text));
}

class wild_publisher : public on_one_host {
protected:
    void SetUp() override
    {
        on_one_host::SetUp();
        const auto where = url();
        sub_.emplace(must(sp::sub::open(at({.listen = where}))));
        must(sub_->subscribe(""));
        honest_engine_.emplace(must(sp::engine::open({})));
        honest_.emplace(must(sp::pub::open({.on = &*honest_engine_})));
        (void)must(honest_->dial(where, patience));
        must(sub_->wait_peers(1, patience));
    }
    void TearDown() override
    {
        must(honest_->send("the honest one"));
        while (text_of(sub_->recv(patience)) != "the honest one")
            ;
        honest_.reset();
        honest_engine_.reset();
        sub_.reset();
        on_one_host::TearDown();
    }
    static void board(const half &h, std::uint64_t position, const sp_boarding &b)
    {
        commit(h, position, std::as_bytes(std::span(&b, 1)), 0, sp::ring::kind::control);
    }
    void expect_ended()
    {
        until([&] { return sub_->peers() == 1; });
        EXPECT_GE(count(stat::ring_bad_record), 1u);
    }

    std::optional<sp::sub> sub_;
    std::optional<sp::engine> honest_engine_;
    std::optional<sp::pub> honest_;
};

TEST_F(wild_publisher, that_behaves_is_heard)
{
    const half mine;
    const airwave air;
    wild w(file("socket"), 0x20, 0x21);
    ASSERT_TRUE(w.introduce({mine.memory.get(), mine.bell.get(), air.memory.get()}));
    until([&] { return sub_->peers() == 2; });
    EXPECT_EQ(w.theirs()->word(SP_SEGMENT_LISTENS), 1u);
    sp::ring::publisher<> ring(air.ring());
    commit(mine, 0, bytes_of("first"));
    ring.publish(0, bytes_of("before it boards"));
    board(mine, 64, {.next = 1, .left = 1, .partings = 0});
    ring.publish(0, bytes_of("second"));
    ring.publish(1, {}); // a parting
    commit(mine, 128, bytes_of("third"));
    board(mine, 192, {.next = 4, .left = 2, .partings = 1});
    ring.publish(2, bytes_of("for others"));
    ring.publish(2, bytes_of("fourth"));
    w.ring();
    for (const char *text : {"first", "second", "third", "fourth"})
        EXPECT_EQ(text_of(sub_->recv(patience)), text);
    EXPECT_EQ(sub_->statistics()[stat::socket_overrun], 0u);
}

TEST_F(wild_publisher, whose_ring_is_none_is_heard_by_the_ring_of_the_pair)
{
    constexpr int no_write_seal = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    const descriptor in(ends[0]), out(ends[1]);
    const airwave writable(no_write_seal),
        odd(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL, airwave::bytes + 4096),
        liar(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL, airwave::bytes,
             2 * ring_bytes);
    std::uint64_t bad = 0;
    for (const int air : {writable.memory.get(), odd.memory.get(), liar.memory.get(), in.get()}) {
        const half mine;
        wild w(file("socket"), 0x20, 0x21);
        ASSERT_TRUE(w.introduce({mine.memory.get(), mine.bell.get(), air}));
        until([&] { return sub_->peers() == 2; });
        EXPECT_EQ(w.theirs()->word(SP_SEGMENT_LISTENS), 0u);
        EXPECT_EQ(count(stat::ring_bad_segment), ++bad);
        commit(mine, 0, bytes_of("by the pair"));
        w.ring();
        EXPECT_EQ(text_of(sub_->recv(patience)), "by the pair");
        // It never said that it listens: a boarding is no record here.
        board(mine, 64, {.next = 0, .left = 0, .partings = 0});
        w.ring();
        expect_ended();
    }
}

TEST_F(wild_publisher, that_says_what_no_honest_one_says_is_closed)
{
    const auto slot = [](const airwave &air, std::uint64_t n, std::uint64_t what,
                         std::uint64_t place, std::uint64_t number) {
        auto *at = air.ring().slot(n);
        sp::ring::word_at(at + 8) = what;
        sp::ring::word_at(at + 16) = place;
        std::atomic_ref(sp::ring::word_at(at)).store(number);
    };
    using story = std::function<void(const half &, const airwave &)>;
    const std::vector<story> stories{
        [&](const half &, const airwave &air) { slot(air, 0, 0xffff'ffff, 0, 1); }, // too long
        [&](const half &, const airwave &air) { slot(air, 0, 100, 8, 1); }, // a crooked place
        [&](const half &, const airwave &air) { slot(air, 0, 5, 0, 77); },  // not this slot
        [&](const half &h, const airwave &air) {                            // a parting,
            slot(air, 0, std::uint64_t{1} << 32, 0, 1);
            board(h, 64, {.next = 0, .left = 1, .partings = 1}); // and back before it
        },
        [&](const half &h, const airwave &air) {
            slot(air, 0, std::uint64_t{1} << 32, 0, 1);
            board(h, 64, {.next = ~std::uint64_t{0}, .left = 1, .partings = 1});
        },
        [&](const half &h, const airwave &air) {
            slot(air, 0, std::uint64_t{1} << 32, 0, 1);
            commit(h, 64, bytes_of("short"), 0, sp::ring::kind::control);
        },
    };
    for (const auto &spoil : stories) {
        const half mine;
        const airwave air;
        wild w(file("socket"), 0x20, 0x21);
        ASSERT_TRUE(w.introduce({mine.memory.get(), mine.bell.get(), air.memory.get()}));
        until([&] { return sub_->peers() == 2; });
        const auto bad = count(stat::ring_bad_record);
        board(mine, 0, {.next = 0, .left = 0, .partings = 0});
        spoil(mine, air);
        w.ring();
        until([&] { return sub_->peers() == 1; });
        EXPECT_EQ(count(stat::ring_bad_record), bad + 1) << &spoil - stories.data();
    }
}

TEST_F(wild_publisher, that_scribbles_on_its_ring_harms_only_itself)
{
    const auto seed = std::random_device{}();
    std::cout << "seed " << seed << '\n';
    std::mt19937_64 random(seed);
    for (int round = 0; round < 20; ++round) {
        const half mine;
        const airwave air;
        wild w(file("socket"), 0x20, 0x21);
        ASSERT_TRUE(w.introduce({mine.memory.get(), mine.bell.get(), air.memory.get()}));
        until([&] { return sub_->peers() == 2; });
        board(mine, 0, {.next = 0, .left = 0, .partings = 0});
        sp::ring::publisher<> ring(air.ring());
        for (int step = 0; step < 3000 && sub_->peers() == 2; ++step) {
            if (random() % 4 > 0) {
                const std::vector<std::byte> body(random() % 1000, static_cast<std::byte>(step));
                ring.publish(random() % 50 == 0 ? static_cast<std::uint32_t>(random() % 4) : 0,
                             body);
            } else {
                const auto at = random() % (random() % 2 ? 0x180 : airwave::bytes - 8) & ~7ull;
                sp::ring::word_at(air.at + at) = random() % 3 ? random() % 5000 : random();
            }
            if (step % 20 != 0)
                continue;
            w.ring();
            while (sub_->try_recv())
                ;
        }
    }
    until([&] { return sub_->peers() == 1; });
}

TEST_F(wild_publisher, cannot_be_held_for_a_subscriber_that_lies_about_its_progress)
{
    const half mine;
    const auto where = url("pub");
    auto pub = must(sp::pub::open(at({.listen = where, .on_send_full = sp::when_full::block})));
    wild w(file("pub"), 0x21, 0x20);
    mine.word(SP_SEGMENT_LISTENS) = 1;
    ASSERT_TRUE(w.introduce({mine.memory.get(), mine.bell.get()}));
    must(pub.wait_peers(1, patience));
    mine.word(SP_SEGMENT_HEARD) = 1'000'000; // more than was ever published
    for (int i = 0; i < 10'000 && pub.peers() == 1; ++i)
        must(pub.send("x"));
    until([&] { return pub.peers() == 0; });
    EXPECT_GE(count(stat::ring_bad_record), 1u);
}

} // namespace
