// SPDX-License-Identifier: BSD-2-Clause
//
// Real faults under load: links, programs, devices and processes go and come back while numbered
// messages are on a pipe. What lives loses nothing; what dies is reported in time, and what comes
// back works again in time.
#include "tests/net/numbered.hpp"
#include "tests/net/road.hpp"
#include "tests/net/wire.hpp"

#include <csignal>
#include <fstream>

namespace {

using namespace sp::test;
using sp::errc;
using sp::stat;
using clock_type = std::chrono::steady_clock;

constexpr auto reported_within = 1200ms, working_within = 500ms;
// A pipe that outlives every outage here: what comes through must come through it.
constexpr sp::options steadfast{.reconnect_max = 100ms, .peer_timeout = 20s};
// As by default, but for the pause between two attempts of a dialer.
constexpr sp::options prompt{.reconnect_max = 100ms};

std::size_t resident_kib()
{
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;)
        if (std::size_t kib = 0; word == "VmRSS:" && status >> kib)
            return kib;
    return 0;
}

class outage : public on_the_road {
protected:
    sp::options at(host which, sp::options o)
    {
        o.on = &on(which);
        return o;
    }
    template <class Socket>
    std::string listen(Socket &socket, const std::string &keys)
    {
        const auto shown = must(socket.url(must(socket.listen(url(host::b, 0, keys)))));
        return "ip://" + shown.substr(5, shown.find('?') - 5) + '?' + keys;
    }
    void set(host which, const std::string &what)
    {
        two().must_run(which, {"ip", "link", "set", hosts::interface(which), what});
    }
    // What happened to the pipes of a socket so far.
    static std::string story(sp::socket &of)
    {
        std::string told;
        while (const auto e = of.next_event(0s)) {
            constexpr const char *words[] = {"attached", "detached", "refused"};
            told += std::string("\n  ") + words[static_cast<int>(e->what)] + ' ' +
                    e->info.transport + ' ' + e->info.peer + ' ' + std::string(e->reason);
        }
        return told;
    }
    std::uint64_t counted(host which, stat what) { return on(which).statistics()[what]; }
};

// Numbers without end from a to b, each in its turn, until it is told to stop.
class stream {
public:
    stream(sp::push &from, sp::pull &to)
        : sender_([this, &from](const std::stop_token &stop) {
              while (!stop.stop_requested()) {
                  (void)must(from.send(numbered_body(sent_), patience));
                  ++sent_;
              }
          }),
          receiver_([this, &to](const std::stop_token &stop) {
              while (!stop.stop_requested() || received_ < sent_) {
                  // The last message may have come before the stop: then none will.
                  const auto got = to.recv(stop.stop_requested() ? sp::wait(patience)
                                                                 : sp::wait(patience, stop));
                  if (!got && got.error() == errc::canceled)
                      continue;
                  if (!got) {
                      ADD_FAILURE() << told(got.error());
                      return;
                  }
                  const auto wrong = complaint_of(got->text(), received_);
                  if (!wrong.empty()) {
                      ADD_FAILURE() << wrong;
                      return;
                  }
                  ++received_;
              }
          })
    {
    }
    // Goes on until so many more have come.
    void flow(std::uint64_t more = 200) const
    {
        const auto before = received_.load();
        until([&] { return received_ >= before + more || ::testing::Test::HasFailure(); });
    }
    // All that was sent has come.
    void finish()
    {
        sender_ = {};
        receiver_ = {};
        EXPECT_EQ(received_, sent_);
    }

private:
    std::atomic<std::uint64_t> sent_ = 0, received_ = 0;
    std::jthread sender_, receiver_;
};

class outage_by : public outage, public ::testing::WithParamInterface<const char *> {};

TEST_P(outage_by, of_the_interface_loses_nothing)
{
    auto pull = must(sp::pull::open(at(host::b, steadfast)));
    auto push = must(sp::push::open(at(host::a, steadfast)));
    (void)must(push.dial(listen(pull, GetParam())));
    stream numbers(push, pull);
    for (const auto which : {host::a, host::b, host::a}) {
        numbers.flow();
        const auto before = counted(host::a, stat::link_timeouts);
        set(which, "down");
        until([&] { return counted(host::a, stat::link_timeouts) > before; }); // it was felt
        set(which, "up");
        two().wait_for_link();
        const auto up = clock_type::now();
        numbers.flow(1);
        EXPECT_LT(clock_type::now() - up, 1s);
    }
    numbers.flow();
    numbers.finish();
    EXPECT_EQ(counted(host::a, stat::pipe_opened), 1u) << "another pipe took over";
}

// Both ways at once, since it takes its time.
TEST_F(outage, of_the_receiver_for_ten_seconds_loses_nothing_and_holds_the_sender_back)
{
    constexpr std::uint64_t messages = 4000;
    struct way {
        std::string url;
        std::unique_ptr<child> receiver;
        std::optional<sp::push> push;
        std::atomic<std::uint64_t> sent = 0;
        std::jthread sender;
    };
    way ways[2];
    ways[0].url = url(host::b, 7000, "io=kernel");
    ways[1].url = url(host::b, 7001, "io=xdp");
    for (auto &w : ways)
        w.receiver = std::make_unique<child>([this, where = w.url](child::door door) {
            auto engine = sp::engine::open(options(host::b));
            auto o = steadfast;
            o.on = &*engine;
            auto pull = must(sp::pull::open(o));
            (void)must(pull.listen(where));
            door.tell();
            for (std::uint64_t i = 0; i < messages; ++i) {
                const auto got = pull.recv(patience);
                if (!got || !complaint_of(got->text(), i).empty())
                    return 1;
            }
            return pull.try_recv() ? 2 : 0;
        });
    for (auto &w : ways) {
        ASSERT_TRUE(w.receiver->wait_ready());
        w.push.emplace(must(sp::push::open(at(host::a, steadfast))));
        (void)must(w.push->dial(w.url, patience));
        w.sender = std::jthread([&w] {
            for (std::uint64_t i = 0; i < messages; ++i, ++w.sent)
                (void)must(w.push->send(numbered_body(i), 60s));
        });
    }
    until([&] { return ways[0].sent > 300 && ways[1].sent > 300; });
    for (auto &w : ways)
        w.receiver->signal(SIGSTOP);
    const auto all_sent = [&] { return ways[0].sent + ways[1].sent; };
    // Ten seconds in which nothing moves; senders that are not held back would come to their end.
    std::uint64_t held_at = 0;
    std::size_t memory = 0, buffers = 0;
    auto since = clock_type::now();
    until([&] {
        if (const auto now = all_sent(); std::exchange(held_at, now) != now) {
            since = clock_type::now();
            memory = resident_kib();
            buffers = on(host::a).frames_in_use();
        }
        return clock_type::now() - since > 10s;
    });
    EXPECT_LT(held_at, 2 * messages) << "a sender is not blocked";
    EXPECT_LE(resident_kib(), memory + 1024) << "memory grows";
    EXPECT_LE(on(host::a).frames_in_use(), buffers + 2) << "more than one message of each";
    for (auto &w : ways)
        w.receiver->signal(SIGCONT);
    for (auto &w : ways) {
        w.sender.join();
        EXPECT_EQ(w.receiver->wait_end(), 0) << "1: lost, doubled or damaged; 2: one too many";
    }
    for (auto &w : ways)
        EXPECT_EQ(w.push->statistics()[stat::pipe_opened], 1u)
            << "another pipe took over" << story(*w.push);
}

TEST_P(outage_by, a_message_of_64_mib_arrives_intact)
{
    constexpr std::size_t size = 64u << 20;
    for (const auto which : {host::a, host::b})
        (void)on(which);
    auto o = steadfast;
    o.message_max = size;
    auto pull = must(sp::pull::open(at(host::b, o)));
    auto push = must(sp::push::open(at(host::a, o)));
    (void)must(push.dial(listen(pull, GetParam()), patience));
    std::string body(size, '\0');
    for (std::size_t i = 0; i < size; ++i)
        body[i] = static_cast<char>(i * 2654435761u >> 13);
    std::jthread sender([&] { (void)must(push.send(body, patience)); });
    const auto got = pull.recv(60s);
    sender.join();
    ASSERT_TRUE(got) << told(got.error());
    EXPECT_TRUE(got->text() == body);
}

// ---- processes that end, or stand still ----

class process_at_b : public outage_by {
protected:
    static constexpr std::uint16_t port = 7000;

    // Receives without end, and says when it listens, and when it has the first message.
    std::unique_ptr<child> receiver()
    {
        return std::make_unique<child>([this](child::door door) {
            door.wait();
            auto engine = sp::engine::open(options(host::b));
            auto o = prompt;
            o.on = &*engine;
            auto pull = must(sp::pull::open(o));
            (void)must(pull.listen(url(host::b, port, GetParam())));
            door.tell();
            (void)must(pull.recv(patience));
            door.tell();
            while (pull.recv(patience))
                ;
            return 1;
        });
    }
};

INSTANTIATE_TEST_SUITE_P(over, process_at_b, ::testing::Values("io=kernel", "io=xdp"),
                         [](const auto &p) { return std::string(p.param).substr(3); });

TEST_P(process_at_b, that_is_killed_is_reported_in_time_and_replaced_in_time)
{
    std::vector<std::unique_ptr<child>> lives;
    for (int i = 0; i < 4; ++i)
        lives.push_back(receiver());
    auto push = must(sp::push::open(at(host::a, prompt)));
    (void)must(push.dial(url(host::b, port, GetParam())));
    std::jthread sender([&](const std::stop_token &stop) {
        while (!stop.stop_requested())
            (void)push.send("load", {stop});
    });
    for (const auto &life : lives) {
        life->let_go();
        ASSERT_TRUE(life->wait_ready());
        const auto listening = clock_type::now();
        ASSERT_TRUE(life->wait_ready());
        EXPECT_LT(clock_type::now() - listening, working_within);
        until([&] { return push.peers() == 1; });
        const auto killed = clock_type::now();
        life->kill();
        until([&] { return push.peers() == 0; });
        EXPECT_LT(clock_type::now() - killed, reported_within);
    }
}

TEST_P(process_at_b, that_is_stopped_is_reported_in_time_and_back_in_time)
{
    const auto life = receiver();
    auto push = must(sp::push::open(at(host::a, prompt)));
    (void)must(push.dial(url(host::b, port, GetParam())));
    std::jthread sender([&](const std::stop_token &stop) {
        while (!stop.stop_requested())
            (void)push.send("load", {stop});
    });
    life->let_go();
    ASSERT_TRUE(life->wait_ready() && life->wait_ready());
    for (int i = 0; i < 2; ++i) {
        until([&] { return push.peers() == 1; });
        const auto stopped = clock_type::now();
        life->signal(SIGSTOP);
        until([&] { return push.peers() == 0; });
        EXPECT_LT(clock_type::now() - stopped, reported_within);
        life->signal(SIGCONT);
        const auto back = clock_type::now();
        until([&] { return push.peers() == 1; });
        EXPECT_LT(clock_type::now() - back, working_within);
    }
}

TEST_P(process_at_b, hears_in_time_that_the_sender_was_killed)
{
    child sender([&](child::door door) {
        door.wait();
        auto engine = sp::engine::open(options(host::a));
        auto o = prompt;
        o.on = &*engine;
        auto push = must(sp::push::open(o));
        (void)must(push.dial(url(host::b, port, GetParam())));
        while (push.send("load", patience))
            ;
        return 1;
    });
    auto pull = must(sp::pull::open(at(host::b, prompt)));
    (void)must(pull.listen(url(host::b, port, GetParam())));
    sender.let_go();
    for (int i = 0; i < 100; ++i)
        (void)must(pull.recv(patience));
    const auto killed = clock_type::now();
    sender.kill();
    until([&] {
        while (pull.try_recv())
            ;
        return pull.peers() == 0;
    });
    EXPECT_LT(clock_type::now() - killed, reported_within);
}

INSTANTIATE_TEST_SUITE_P(by, outage_by, ::testing::Values("io=kernel", "io=xdp"),
                         [](const auto &p) { return std::string(p.param).substr(3); });

// ---- programs and devices ----

TEST_F(outage, of_the_program_goes_on_through_the_kernel_and_back_after_a_reload)
{
    load_program(host::a);
    load_program(host::b);
    auto pull = must(sp::pull::open(at(host::b, steadfast)));
    auto push = must(sp::push::open(at(host::a, steadfast)));
    (void)must(push.dial(listen(pull, "io=auto")));
    stream numbers(push, pull);
    for (int i = 0; i < 2; ++i) {
        auto before = counted(host::b, stat::xsk_received);
        until([&] { return counted(host::b, stat::xsk_received) > before + 200; });
        unload_program(host::b);
        before = counted(host::b, stat::rawip_received);
        until([&] { return counted(host::b, stat::rawip_received) > before + 200; });
        EXPECT_FALSE(program_counters(host::b)) << "nobody loads what the operator has unloaded";
        load_program(host::b);
    }
    auto before = counted(host::b, stat::xsk_received);
    until([&] { return counted(host::b, stat::xsk_received) > before + 200; });
    numbers.finish();
    EXPECT_EQ(counted(host::a, stat::pipe_opened), 1u);
}

class outage_of_the_device : public outage, public ::testing::WithParamInterface<bool> {};

TEST_P(outage_of_the_device, ends_when_it_is_made_again)
{
    const bool loaded = GetParam();
    const std::string keys = loaded ? "io=auto" : "io=xdp";
    const auto load = [&] {
        if (loaded)
            load_program(host::b);
    };
    load();
    auto pull = must(sp::pull::open(at(host::b, steadfast)));
    auto push = must(sp::push::open(at(host::a, steadfast)));
    auto where = listen(pull, keys);
    (void)must(push.dial(where.substr(0, where.find('?')) + "?io=kernel"));
    stream numbers(push, pull);
    for (int i = 0; i < 2; ++i) {
        auto before = counted(host::b, stat::xsk_received);
        until([&] { return counted(host::b, stat::xsk_received) > before + 200; });
        two().must_run(host::b, {"ip", "link", "del", hosts::interface(host::b)});
        two().plug_in();
        load();
    }
    auto before = counted(host::b, stat::xsk_received);
    until([&] { return counted(host::b, stat::xsk_received) > before + 200; });
    numbers.finish();
    EXPECT_EQ(counted(host::a, stat::pipe_opened), 1u);
}

INSTANTIATE_TEST_SUITE_P(with, outage_of_the_device, ::testing::Bool(),
                         [](const auto &p) { return p.param ? "a_loaded_program" : "its_own"; });

// The rings are full of what nobody wants while b does not look, and what comes then is lost.
TEST_F(outage, of_receive_frames_is_counted_and_recovered_from)
{
    auto o = options(host::b);
    o.frames = 64;
    o.driver = sp::driver::manual;
    auto small = must(sp::engine::open(o));
    auto by_hand = steadfast;
    by_hand.on = &small;
    {
        auto pull = must(sp::pull::open(by_hand));
        auto push = must(sp::push::open(at(host::a, steadfast)));
        const auto shown = must(pull.url(must(pull.listen(url(host::b, 0, "io=xdp")))));
        wire_tap tap(two(), host::a);
        std::uint64_t sent = 0, received = 0;
        const auto turn_until = [&](const std::function<bool()> &condition) {
            until([&] {
                (void)small.poll(clock_type::now());
                while (const auto got = pull.try_recv())
                    EXPECT_EQ(complaint_of(got->text(), received++, 1000), "");
                return condition();
            });
        };
        const auto send = [&](int messages) {
            for (int i = 0; i < messages; ++i)
                (void)must(push.send(numbered_body(sent++, 1000), patience));
        };
        const auto starved = [&] {
            const auto now = small.statistics();
            return now[stat::xsk_fill_empty] + now[stat::xsk_rx_ring_full];
        };
        (void)must(push.dial(shown + "?io=kernel"));
        turn_until([&] { return push.peers() == 1; });
        send(1);
        std::vector<wire_frame> data;
        turn_until([&] {
            for (auto &frame : tap.sent())
                if (frame.header().type == SP_DATA)
                    data.push_back(std::move(frame));
            return received == sent && !data.empty();
        });
        for (std::uint64_t due = 6; due <= 16; due += 5) {
            const auto before = starved();
            for (int i = 0; i < 500; ++i) // far more than there are frames
                tap.send(data.front());
            // By a thread, since credit may be too little for all of them before b looks.
            const auto packets = counted(host::a, stat::link_data_sent);
            std::jthread sender([&] { send(5); });
            until([&] { return counted(host::a, stat::link_data_sent) > packets; });
            turn_until([&] { return received == due && starved() > before; });
        }
        EXPECT_EQ(counted(host::a, stat::pipe_opened), 1u);
        EXPECT_GT(counted(host::a, stat::link_data_resent), 0u) << "nothing was lost at all";
    }
    until([&] {
        (void)small.poll(clock_type::now());
        return small.frames_in_use() == 0;
    });
}

} // namespace
