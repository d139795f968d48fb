// SPDX-License-Identifier: BSD-2-Clause
//
// Conformance on byte streams, scenario X3: valid transcripts of all eleven roles with bytes
// changed, left out, put in, repeated and cut anywhere. Whatever comes, each connection ends with
// every message delivered or dropped for a counted reason and with one counted end, no message
// buffer stays behind, and valid transcripts in between are understood. SP_FUZZ_ROUNDS sets how
// many transcripts are tried, SP_FUZZ_SEED plays the same ones again.
#include "tests/interop/scene.hpp"

#include <algorithm>
#include <poll.h>
#include <random>
#include <sys/socket.h>

namespace sp::test {
namespace {

using generator = std::mt19937_64;

std::uint64_t number_from(const char *variable, std::uint64_t otherwise)
{
    const char *text = std::getenv(variable);
    return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

std::size_t below(generator &random, std::size_t bound)
{
    return std::uniform_int_distribution<std::size_t>(0, bound - 1)(random);
}

// One change of the kind that breaks parsers.
void mutate(std::string &bytes, generator &random)
{
    const auto at = below(random, bytes.size() + 1);
    const auto rest = bytes.size() - at;
    const auto some = rest == 0 ? 0 : 1 + below(random, std::min<std::size_t>(rest, 16));
    switch (below(random, 8)) {
    case 0: // a bit
        if (rest > 0)
            bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(random, 8)));
        break;
    case 1: // a byte that is often a limit
        if (rest > 0)
            bytes[at] = "\x00\x01\x7f\x80\xff"[below(random, 5)];
        break;
    case 2:
        bytes.erase(at, some);
        break;
    case 3:
        bytes.insert(at, std::string(1 + below(random, 16), static_cast<char>(random())));
        break;
    case 4:
        bytes.insert(at, bytes.substr(at, some));
        break;
    case 5: // cut
        bytes.resize(at);
        break;
    case 6: // another length, or whatever is there
        bytes.replace(at, some, wire::big_endian(random() >> below(random, 64), 8));
        break;
    default: // a piece from elsewhere
        if (const auto from = below(random, bytes.size() + 1); from < bytes.size())
            bytes.insert(at, bytes.substr(from, some));
        break;
    }
}

// ---- what the application does: everything that can be done without waiting ----

template <class Role>
class player {
public:
    explicit player(Role s) : socket(std::move(s)) {}

    // Before the transcript is written; for roles that speak first.
    void speak()
    {
        if constexpr (std::same_as<Role, sp::req>) {
            if (!context)
                context.emplace(must(socket.open_context()));
            (void)context->send("question", 0s);
        } else if constexpr (std::same_as<Role, sp::surveyor>) {
            round.emplace(must(socket.survey("question", 1h)));
        } else if constexpr (std::same_as<Role, sp::pub> || std::same_as<Role, sp::bus>) {
            (void)socket.send("news");
        } else if constexpr (std::same_as<Role, sp::push> || std::same_as<Role, sp::pair>) {
            (void)socket.try_send("work");
        }
    }
    // Whatever has come.
    void listen()
    {
        if constexpr (std::derived_from<Role, answerer>) {
            while (auto question = socket.try_recv()) {
                ++heard;
                if (heard % 3 != 0)
                    (void)std::move(*question).reply("answer", 0s);
            }
        } else if constexpr (std::same_as<Role, sp::req>) {
            while (context && context->recv(0s))
                ++heard;
        } else if constexpr (std::same_as<Role, sp::surveyor>) {
            while (round && round->try_recv())
                ++heard;
        } else if constexpr (requires { socket.try_recv(); }) {
            while (socket.try_recv())
                ++heard;
        }
    }
    void rest()
    {
        if constexpr (std::same_as<Role, sp::req>)
            context.reset();
        if constexpr (std::same_as<Role, sp::surveyor>)
            round.reset();
    }

    Role socket;
    std::optional<sp::req_context> context;
    std::optional<sp::survey> round;
    std::uint64_t heard = 0;
};

class mutated_transcript : public scene {
protected:
    void SetUp() override
    {
        scene::SetUp();
        open_engine({.driver = driver::manual}); // the test makes every turn: nothing is waited for
    }
    void turn() { engine().poll(engine_clock::now()); }

    // What came since the last look; nothing more will come once `ended`.
    struct inflow {
        std::string bytes;
        bool ended = false;
    };
    static void look(byte_peer &peer, inflow &in)
    {
        pollfd p{.fd = peer.fd(), .events = POLLIN, .revents = 0};
        while (!in.ended && ::poll(&p, 1, 0) == 1) {
            char piece[4096];
            const auto n = ::recv(peer.fd(), piece, sizeof piece, MSG_DONTWAIT);
            if (n <= 0)
                in.ended = true;
            else
                in.bytes.append(piece, static_cast<std::size_t>(n));
        }
    }

    // One connection from its hello to its end. `change` may alter what is written.
    template <class Role, class Change>
    void play(player<Role> &p, std::uint16_t number, generator &random, Change &&change)
    {
        auto peer = byte_peer::dial(ipc());
        auto hello = wire::hello(number);
        change(hello, random, 4);
        bool writable = peer.try_send(hello);
        inflow in;
        for (int i = 0; i < 3; ++i)
            turn();
        p.speak();
        turn();
        look(peer, in);
        auto frames = transcript<Role>(in.bytes, random);
        change(frames, random, 2);
        std::string_view left = frames;
        for (int turns = 0; !in.ended; ++turns) {
            ASSERT_LT(turns, 10'000) << "the connection does not end";
            const auto piece = left.substr(0, 1 + below(random, 64));
            if (writable && !left.empty()) {
                writable = peer.try_send(piece);
                left.remove_prefix(piece.size());
            }
            if (left.empty())
                peer.half_close();
            turn();
            p.listen();
            look(peer, in);
        }
        peer.close();
        turn();
        p.rest();
    }

    // What a well-behaved peer would write now, having read `came`.
    template <class Role>
    static std::string transcript(const std::string &came, generator &random)
    {
        std::string all;
        const auto n = 1 + below(random, 4);
        for (std::size_t i = 0; i < n; ++i) {
            const auto body = wire::body(below(random, 40), static_cast<std::uint32_t>(i));
            if constexpr (std::derived_from<Role, answerer>)
                all +=
                    wire::frame(wire::stack(1 + below(random, 9),
                                            wire::end_bit | static_cast<std::uint32_t>(random())),
                                body);
            else if constexpr (std::same_as<Role, sp::req> || std::same_as<Role, sp::surveyor>)
                all += wire::frame(came.size() >= 8 + 9 + 4 ? came.substr(17, 4) : wire::word(7),
                                   body);
            else if constexpr (std::same_as<Role, sp::pair>)
                all += wire::frame(wire::word(static_cast<std::uint32_t>(below(random, 10))), body);
            else
                all += wire::frame(body);
        }
        return all;
    }

    // Every end has one reason: refused, or attached and then detached, or gone before its hello.
    static std::string expect_one_end(sp::socket &s)
    {
        int attached = 0, detached = 0, refused = 0;
        std::string reason;
        while (const auto event = s.next_event(0s)) {
            reason = event->reason;
            attached += event->what == pipe_event::kind::attached;
            detached += event->what == pipe_event::kind::detached;
            refused += event->what == pipe_event::kind::refused;
            EXPECT_EQ(event->reason.empty(), event->what == pipe_event::kind::attached);
        }
        EXPECT_EQ(attached, detached);
        EXPECT_LE(attached + refused, 1);
        EXPECT_EQ(s.peers(), 0u);
        return reason;
    }

    template <class Role>
    void expect_survives(const char *name, std::uint16_t number, options o = {})
    {
        SCOPED_TRACE(name);
        const auto rounds = number_from("SP_FUZZ_ROUNDS", 20'000) / all_roles.size() + 1;
        const auto seed = number_from("SP_FUZZ_SEED", std::random_device()());
        std::printf("%s: %llu transcripts, SP_FUZZ_SEED=%llu\n", name,
                    static_cast<unsigned long long>(rounds), static_cast<unsigned long long>(seed));
        o.message_max = 64u << 10;
        player<Role> p(open<Role>(std::move(o)));
        if constexpr (std::same_as<Role, sp::sub>)
            must(p.socket.subscribe(""));
        const auto as_it_is = [](std::string &, generator &, std::size_t) {};
        const auto changed = [](std::string &bytes, generator &random, std::size_t one_in) {
            if (below(random, one_in) != 0)
                return;
            for (auto n = 1 + below(random, 3); n > 0; --n)
                mutate(bytes, random);
        };
        for (std::uint64_t round = 0; round < rounds && !HasFailure(); ++round) {
            SCOPED_TRACE("round " + std::to_string(round));
            generator random(seed + round);
            const bool valid = round % 100 == 0;
            if (valid)
                play(p, number, random, as_it_is);
            else
                play(p, number, random, changed);
            const auto reason = expect_one_end(p.socket);
            if (valid) {
                EXPECT_EQ(reason, (std::same_as<Role, sp::pub> ? "unexpected" : "peer_closed"));
            }
            expect_balance(p.socket);
            EXPECT_EQ(p.socket.queued(), 0u);
            EXPECT_EQ(engine().frames_in_use(), 0u);
        }
        if (rounds >= 1000)
            expect_all_kinds(p);
    }

    // Mutations that never reach a check prove nothing about it. Each kind comes in more than one
    // transcript of a hundred, so that none of a thousand is not chance.
    template <class Role>
    static void expect_all_kinds(player<Role> &p)
    {
        const auto counted = p.socket.statistics();
        if (std::getenv("SP_FUZZ_VERBOSE"))
            std::printf("%s\n", books::text_of(counted).c_str());
        EXPECT_GT(counted[stat::pipe_peer_closed], 0u);
        EXPECT_GT(counted[stat::pipe_bad_frame], 0u);
        EXPECT_GT(counted[stat::pipe_too_large], 0u);
        EXPECT_GT(counted[stat::pipe_rx_partial], 0u);
        EXPECT_GT(counted[stat::listener_bad_hello], 0u);
        EXPECT_GT(counted[stat::listener_peer_protocol], 0u);
        EXPECT_GT(counted[stat::socket_received], 0u);
        constexpr bool hears = !std::same_as<Role, sp::pub> && !std::same_as<Role, sp::push>;
        EXPECT_EQ(p.heard > 0, hears);
    }
};

TEST_F(mutated_transcript, x3_of_pair_v0_ends_in_delivery_a_counted_drop_or_a_counted_close)
{
    expect_survives<sp::pair>("pair v0", pair0_number, {.pair_version = 0u});
}

TEST_F(mutated_transcript, x3_of_pair_ends_in_delivery_a_counted_drop_or_a_counted_close)
{
    expect_survives<sp::pair>("pair", pair1_number);
}

TEST_F(mutated_transcript, x3_of_pub_ends_in_a_counted_close)
{
    expect_survives<sp::pub>("pub", sub_number);
}

TEST_F(mutated_transcript, x3_of_sub_ends_in_delivery_a_counted_drop_or_a_counted_close)
{
    expect_survives<sp::sub>("sub", pub_number);
}

TEST_F(mutated_transcript, x3_of_req_ends_in_delivery_a_counted_drop_or_a_counted_close)
{
    expect_survives<sp::req>("req", rep_number);
}

TEST_F(mutated_transcript, x3_of_rep_ends_in_delivery_a_counted_drop_or_a_counted_close)
{
    expect_survives<sp::rep>("rep", req_number);
}

TEST_F(mutated_transcript, x3_of_push_ends_in_a_counted_drop_or_a_counted_close)
{
    expect_survives<sp::push>("push", pull_number);
}

TEST_F(mutated_transcript, x3_of_pull_ends_in_delivery_a_counted_drop_or_a_counted_close)
{
    expect_survives<sp::pull>("pull", push_number);
}

TEST_F(mutated_transcript, x3_of_surveyor_ends_in_delivery_a_counted_drop_or_a_counted_close)
{
    expect_survives<sp::surveyor>("surveyor", respondent_number);
}

TEST_F(mutated_transcript, x3_of_respondent_ends_in_delivery_a_counted_drop_or_a_counted_close)
{
    expect_survives<sp::respondent>("respondent", surveyor_number);
}

TEST_F(mutated_transcript, x3_of_bus_ends_in_delivery_a_counted_drop_or_a_counted_close)
{
    expect_survives<sp::bus>("bus", bus_number);
}

} // namespace
} // namespace sp::test
