// SPDX-License-Identifier: BSD-2-Clause
//
// What a connection does about loss, order, credit, size and a path that changes: two machines in
// virtual time. The simulator plays the same with chance; here each rule stands by itself.
#include "tests/support/link_pair.hpp"

#include <numeric>
#include <random>

namespace {

using namespace sp::link;
using namespace sp::test;

sp_header header_of(const bytes &packet)
{
    return read<sp_header>(packet);
}

bool is_data(const bytes &packet)
{
    const auto type = header_of(packet).type;
    return type == SP_DATA || type == SP_PART;
}

// Loses the packets with these numbers of contents, each at its first sending.
auto loses_once(std::vector<std::uint32_t> numbers)
{
    return [numbers](const bytes &packet) mutable {
        if (!is_data(packet))
            return false;
        const auto found = std::ranges::find(numbers, be32(header_of(packet).seq));
        if (found == numbers.end())
            return false;
        numbers.erase(found);
        return true;
    };
}

TEST(recovery, delivers_each_packet_once)
{
    link_pair p;
    p.open();
    p.say(p.dialer, "hello");
    const auto packet = p.packet_of(p.dialer);
    EXPECT_EQ(p.at_listener(packet), arrival::records);
    EXPECT_EQ(p.at_listener(packet), arrival::duplicate);
    EXPECT_EQ(p.listener.got, std::vector<std::string>{"hello"});
}

TEST(recovery, recognises_contents_that_come_again_in_a_new_packet)
{
    link_pair p;
    p.open();
    p.say(p.dialer, "hello");
    auto packet = p.packet_of(p.dialer);
    EXPECT_EQ(p.at_listener(packet), arrival::records);
    auto header = header_of(packet);
    header.pn = be64(be64(header.pn) + 1); // as a retransmission has it: same seq
    std::memcpy(packet.data(), &header, sizeof header);
    finish(packet);
    EXPECT_EQ(p.at_listener(packet), arrival::duplicate);
    EXPECT_EQ(p.listener.got.size(), 1u);
}

TEST(recovery, sends_again_at_once_what_three_later_packets_have_overtaken)
{
    link_pair p;
    p.latency = 10us;
    p.open();
    p.lose = loses_once({1});
    for (const auto *text : {"a", "lost", "c", "d", "e"}) {
        p.say(p.dialer, text);
        p.drive();
    }
    const auto before = p.now;
    p.pass(25us); // one round trip and half of the next
    EXPECT_LE(p.now - before, 25us);
    p.pass(10us);
    EXPECT_EQ(p.listener.got, (std::vector<std::string>{"a", "lost", "c", "d", "e"}));
    EXPECT_EQ(p.dialer.link->take_counts().sent.data_resent, 1u);
}

TEST(recovery, sends_again_soon_what_one_later_packet_has_overtaken)
{
    link_pair p;
    p.latency = 10us;
    p.open();
    p.lose = loses_once({0});
    p.say(p.dialer, "lost");
    p.drive();
    p.say(p.dialer, "second");
    p.pass(200us); // a quarter of a round trip of patience, not a time-out
    EXPECT_EQ(p.listener.got, (std::vector<std::string>{"lost", "second"}));
    EXPECT_EQ(p.dialer.link->take_counts().sent.timeouts, 0u);
}

TEST(recovery, asks_after_a_lost_tail_before_a_time_out)
{
    link_pair p;
    p.latency = 10us;
    p.open();
    p.lose = loses_once({0});
    p.say(p.dialer, "the last word");
    p.pass(2ms);
    EXPECT_EQ(p.listener.got, std::vector<std::string>{"the last word"});
    const auto counts = p.dialer.link->take_counts().sent;
    EXPECT_EQ(counts.timeouts, 0u);
    EXPECT_EQ(counts.questions, 1u);
    EXPECT_EQ(counts.data_resent, 1u);
}

TEST(recovery, waits_longer_each_time_when_nothing_comes_back)
{
    link_pair p([](connection_config &c) { c.peer_timeout = 1h; });
    p.open();
    std::vector<instant> sent;
    p.lose = [&](const bytes &packet) {
        if (is_data(packet))
            sent.push_back(p.now);
        return true;
    };
    p.say(p.dialer, "into the void");
    p.pass(10s);
    ASSERT_GE(sent.size(), 8u);
    EXPECT_GE(sent[1] - sent[0], 5ms); // never sooner
    for (std::size_t i = 2; i < 6; ++i)
        EXPECT_GE(sent[i] - sent[i - 1], (sent[i - 1] - sent[i - 2]) * 19 / 10);
    EXPECT_LE(sent.size(), 30u); // and no storm
}

// A path that stood still has left a round trip of nearly a second: questions are useless.
TEST(recovery, needs_two_time_outs_for_whatever_was_lost_and_not_one_for_two_packets)
{
    link_pair p;
    p.latency = 10us;
    p.lose = [&, types = std::vector<int>{SP_PROBE, SP_INIT}](const bytes &packet) mutable {
        return std::erase(types, header_of(packet).type) > 0; // the handshake tells no round trip
    };
    p.pass(100ms);
    ASSERT_EQ(p.dialer.link->state(), phase::open);
    p.say(p.dialer, "sent before the pause");
    p.pass(415us); // its acknowledgement is on the way
    p.now += 900ms;
    p.drive();
    ASSERT_GE(p.dialer.link->rtt().shortest(), 900ms);
    std::vector<std::uint32_t> numbers(20);
    std::iota(numbers.begin(), numbers.end(), 1);
    p.lose = loses_once(numbers);
    const std::vector<std::string> all(20, numbered(1400));
    for (const auto &text : all)
        p.say(p.dialer, text);
    p.pass(2100ms);
    EXPECT_EQ(p.listener.got.size(), 21u);
}

TEST(recovery, lets_a_packet_rest_that_is_lost_again_and_again_while_others_pass)
{
    link_pair p;
    p.latency = 10us;
    p.open();
    std::vector<instant> sent;
    p.lose = [&](const bytes &packet) {
        const bool cursed = is_data(packet) && header_of(packet).seq == be32(3);
        if (cursed)
            sent.push_back(p.now);
        return cursed;
    };
    std::vector<std::string> all(400, numbered(1000));
    std::size_t next = 0, from = 0;
    for (int i = 0; i < 400; ++i) {
        (void)p.feed(p.dialer, all, next, from);
        p.pass(100us);
    }
    EXPECT_GE(sent.size(), 5u);
    EXPECT_LE(sent.size(), 12u); // in 40 ms: not one each round trip
    p.lose = [](const bytes &) { return false; };
    p.pass(300ms);
    EXPECT_GE(p.listener.got.size(), 4u); // and it comes at last
}

TEST(recovery, does_not_send_again_what_is_only_late)
{
    link_pair p;
    p.latency = 40ms; // far over the time-out that is used while nothing is measured
    p.open();
    for (int i = 0; i < 20; ++i) {
        p.say(p.dialer, "x");
        p.pass(7ms);
    }
    p.pass(300ms);
    EXPECT_EQ(p.listener.got.size(), 20u);
    EXPECT_EQ(p.dialer.link->take_counts().sent.data_resent, 0u);
}

TEST(recovery, puts_any_order_right)
{
    const auto seed = std::random_device{}();
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    link_pair p([](connection_config &c) { c.window = 256; });
    p.open();
    std::vector<bytes> packets;
    for (int i = 0; i < 200; ++i) {
        p.say(p.dialer, std::to_string(i));
        packets.push_back(p.packet_of(p.dialer));
        if (packets.back().empty()) // it waits for company
            packets.pop_back();
    }
    std::ranges::shuffle(packets, random);
    for (const auto &packet : packets)
        (void)p.at_listener(packet);
    p.pass(1s);
    ASSERT_EQ(p.listener.got.size(), 200u);
    for (int i = 0; i < 200; ++i)
        EXPECT_EQ(p.listener.got[static_cast<std::size_t>(i)], std::to_string(i));
}

// Everything at once, both ways; nothing may be lost, doubled, changed or out of order, and all of
// it must be there soon after the road is good again.
void hostile_road(unsigned loss_percent, std::uint32_t first_seq, std::uint16_t window)
{
    const auto seed = std::random_device{}();
    std::printf("seed %u\n", seed);
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    link_pair p([&](connection_config &c) {
        c.first_seq = first_seq;
        c.window = window;
        c.peer_timeout = 1h; // a dead peer is another test
    });
    p.latency = 50us;
    p.open();
    std::vector<bytes> kept;
    p.lose = [&](const bytes &packet) {
        if (random() % 100 < loss_percent)
            return true;
        if (random() % 100 < 30) // doubled, now or much later
            kept.push_back(packet);
        if (!kept.empty() && random() % 4 == 0) {
            const auto which = random() % kept.size();
            const auto dcid = be64(header_of(kept[which]).dcid);
            if (dcid == listener_id || dcid == dialer_id)
                p.road.push_back({p.now + 20us * (random() % 100), dcid == dialer_id, kept[which]});
        }
        if (random() % 10 == 0) { // late
            p.road.push_back({p.now + 20us * (random() % 100),
                              be64(header_of(packet).dcid) == dialer_id, packet});
            return true;
        }
        return false;
    };
    std::vector<std::string> there, back;
    for (unsigned i = 0; i < 300; ++i) {
        there.push_back(numbered(random() % 20 == 0 ? random() % 20'000 : random() % 300, i));
        back.push_back(numbered(random() % 2000, i + 1000));
    }
    std::size_t next_there = 0, from_there = 0, next_back = 0, from_back = 0;
    bool all = false;
    for (int round = 0; round < 200'000 && !all; ++round) {
        const bool a = p.feed(p.dialer, there, next_there, from_there);
        const bool b = p.feed(p.listener, back, next_back, from_back);
        all = a && b;
        p.pass(500us);
    }
    ASSERT_TRUE(all);
    p.lose = [](const bytes &) { return false; };
    p.pass(2s);
    EXPECT_EQ(p.listener.got, there);
    EXPECT_EQ(p.dialer.got, back);
    EXPECT_EQ(p.dialer.link->unconfirmed(), 0u);
    EXPECT_EQ(p.dialer.link->confirmed(), 300u);
    EXPECT_EQ(p.listener.link->confirmed(), 300u);
}

TEST(recovery, loses_nothing_on_a_road_that_loses_five_percent)
{
    hostile_road(5, 0, 32);
}
TEST(recovery, loses_nothing_on_a_road_that_loses_thirty_percent)
{
    hostile_road(30, 0, 64);
}
TEST(recovery, loses_nothing_on_a_road_that_loses_sixty_percent)
{
    hostile_road(60, 0, 16);
}
TEST(recovery, does_not_care_where_numbers_begin)
{
    hostile_road(20, 0xffff'fff0u, 32);
    hostile_road(20, 0x7fff'fff0u, 256);
    hostile_road(20, 0xffffu, 2);
}

TEST(recovery, sends_little_more_than_what_was_lost)
{
    const auto seed = std::random_device{}();
    std::printf("seed %u\n", seed);
    std::mt19937 random(seed);
    link_pair p;
    p.latency = 20us;
    p.open();
    std::uint64_t lost = 0;
    p.lose = [&](const bytes &packet) {
        const bool gone = random() % 100 == 0;
        lost += gone && is_data(packet);
        return gone;
    };
    std::vector<std::string> all(100'000,
                                 "sixty-four bytes, more or less, of a small message, say");
    std::size_t next = 0, from = 0;
    while (!p.feed(p.dialer, all, next, from))
        p.pass(50us);
    p.pass(1s);
    EXPECT_EQ(p.listener.got.size(), all.size());
    const auto counts = p.dialer.link->take_counts().sent;
    EXPECT_GT(lost, 10u);
    EXPECT_LE(counts.data_resent, lost + lost / 5 + 2) << "of " << counts.data_sent;
}

// ---- credit

TEST(credit, stops_sending_when_it_is_used_up_and_goes_on_when_it_returns)
{
    link_pair p;
    p.open();
    p.listener.consumes = false;
    std::uint32_t sent = 0;
    for (; p.dialer.link->send_ready(); ++sent) {
        ASSERT_LE(sent, 32u);
        p.say(p.dialer, numbered(1000));
        p.drive();
    }
    EXPECT_EQ(sent, 32u);
    p.pass(900ms);
    EXPECT_FALSE(p.dialer.link->send_ready());   // nothing was consumed
    EXPECT_EQ(p.dialer.link->unconfirmed(), 0u); // though all of it is there
    p.listener.link->consumed(16, p.now);
    p.drive();
    EXPECT_TRUE(p.dialer.link->send_ready());
}

TEST(credit, is_asked_for_when_the_news_of_it_was_lost)
{
    link_pair p;
    p.open();
    p.listener.consumes = false;
    while (p.dialer.link->send_ready()) {
        p.say(p.dialer, numbered(1000));
        p.drive();
    }
    p.pass(3ms);
    p.lose = [](const bytes &) { return true; };
    p.listener.link->consumed(32, p.now);
    p.drive();
    p.lose = [](const bytes &) { return false; };
    EXPECT_FALSE(p.dialer.link->send_ready());
    p.pass(50ms); // long before the keep-alive
    EXPECT_TRUE(p.dialer.link->send_ready());
}

TEST(credit, holds_back_a_sender_whose_reader_does_not_take)
{
    link_pair p;
    p.open();
    p.listener.takes = false;
    std::uint32_t sent = 0;
    for (; p.dialer.link->send_ready(); ++sent) {
        ASSERT_LE(sent, 32u);
        p.say(p.dialer, numbered(1000, sent));
        p.drive();
    }
    p.pass(10s);
    EXPECT_EQ(p.dialer.link->state(), phase::open);
    EXPECT_FALSE(p.dialer.link->send_ready());
    EXPECT_TRUE(p.listener.got.empty());
    EXPECT_EQ(p.dialer.link->take_counts().sent.data_resent, 0u);
    p.listener.takes = true;
    p.listener.take(p.now);
    ASSERT_EQ(p.listener.got.size(), sent);
    for (std::uint32_t i = 0; i < sent; ++i)
        EXPECT_EQ(p.listener.got[i], numbered(1000, i));
    p.drive();
    EXPECT_TRUE(p.dialer.link->send_ready());
}

TEST(credit, closes_a_peer_that_sends_beyond_it)
{
    link_pair p;
    p.open();
    p.say(p.dialer, "x");
    auto packet = p.packet_of(p.dialer);
    auto header = header_of(packet);
    header.seq = be32(32);
    std::memcpy(packet.data(), &header, sizeof header);
    finish(packet);
    EXPECT_EQ(p.at_listener(packet), arrival::malformed);
    EXPECT_EQ(p.listener.link->reason(), SP_REASON_PROTOCOL_ERROR);
}

TEST(credit, closes_a_peer_that_acknowledges_what_was_never_sent)
{
    link_pair p;
    p.open();
    p.say(p.dialer, "x");
    auto packet = p.packet_of(p.dialer);
    auto header = header_of(packet);
    header.ack = be32(1);
    std::memcpy(packet.data(), &header, sizeof header);
    finish(packet);
    EXPECT_EQ(p.at_listener(packet), arrival::malformed);
    EXPECT_EQ(p.listener.link->reason(), SP_REASON_PROTOCOL_ERROR);
}

TEST(credit, in_messages_is_kept_where_the_receiver_counts_them)
{
    link_pair p([](connection_config &c) { c.records_max = 1; });
    p.open();
    for (int i = 0; i < 20; ++i)
        p.say(p.dialer, "small");
    p.pass(1ms);
    EXPECT_EQ(p.listener.got.size(), 20u);
    EXPECT_EQ(p.listener.records_in_packet_most, 1);
}

TEST(acknowledgement, comes_without_data_to_ride_on)
{
    link_pair p;
    p.open();
    p.say(p.dialer, "x");
    p.drive();
    EXPECT_EQ(p.dialer.link->unconfirmed(), 1u);
    p.pass(500us); // before the sender would ask
    EXPECT_EQ(p.dialer.link->unconfirmed(), 0u);
    EXPECT_EQ(p.dialer.link->confirmed(), 1u);
    EXPECT_EQ(p.dialer.link->take_counts().sent.questions, 0u);
}

// ---- small and large messages

TEST(coalescing, lets_a_lone_message_go_at_once)
{
    link_pair p;
    p.open();
    for (int i = 0; i < 5; ++i) {
        p.say(p.dialer, "lone");
        EXPECT_GT(p.dialer.link->transmit_size(), 0u);
        p.pass(1ms);
    }
    EXPECT_EQ(p.listener.got.size(), 5u);
    EXPECT_EQ(p.listener.records_in_packet_most, 1);
}

TEST(coalescing, packs_what_comes_in_one_step)
{
    link_pair p;
    p.open();
    for (int i = 0; i < 20; ++i)
        p.say(p.dialer, numbered(64, static_cast<unsigned>(i)));
    const auto packet = p.packet_of(p.dialer);
    EXPECT_EQ(packet.size(), SP_OVERHEAD + 20 * 68u);
    EXPECT_TRUE(p.packet_of(p.dialer).empty());
    (void)p.at_listener(packet);
    EXPECT_EQ(p.listener.got.size(), 20u);
}

TEST(coalescing, fills_packets_while_many_are_on_their_way)
{
    link_pair p;
    p.latency = 10us;
    p.open();
    const auto before = p.packets;
    for (int i = 0; i < 200; ++i) { // the sender does not look for what comes back meanwhile
        p.say(p.dialer, numbered(64, static_cast<unsigned>(i)));
        p.collect(p.dialer, false);
    }
    EXPECT_LE(p.packets - before, 8u + 200u / 20u);
    p.pass(300us); // and the last of them do not wait for more
    EXPECT_EQ(p.listener.got.size(), 200u);
}

TEST(coalescing, never_splits_what_fits_a_packet)
{
    for (const auto size :
         {std::size_t{0}, std::size_t{1}, message_space(1480) - 1, message_space(1480)}) {
        link_pair p;
        p.open();
        p.say(p.dialer, numbered(100));
        p.say(p.dialer, numbered(size, 3));
        bool parts = false;
        p.lose = [&](const bytes &packet) {
            record_reader records(contents_of(packet));
            while (const auto r = records.next())
                parts = parts || (!r->control() && !(r->first() && r->last()));
            return false;
        };
        p.pass(1ms);
        EXPECT_FALSE(parts);
        ASSERT_EQ(p.listener.got.size(), 2u);
        EXPECT_EQ(p.listener.got[1], numbered(size, 3));
    }
}

TEST(splitting, carries_messages_of_any_size)
{
    link_pair p;
    p.latency = 10us;
    p.open();
    std::vector<std::string> all;
    for (const auto size : {message_space(1480) + 1, std::size_t{2840}, std::size_t{100'000},
                            std::size_t{1} << 20, std::size_t{7}})
        all.push_back(numbered(size, static_cast<unsigned>(size)));
    std::size_t next = 0, from = 0;
    while (!p.feed(p.dialer, all, next, from))
        p.pass(20us);
    p.pass(10ms);
    ASSERT_EQ(p.listener.got.size(), all.size());
    for (std::size_t i = 0; i < all.size(); ++i)
        EXPECT_TRUE(p.listener.got[i] == all[i]) << i;
    EXPECT_EQ(p.dialer.link->confirmed(), all.size());
}

// ---- a path that becomes narrower

TEST(narrow_path, loses_nothing_of_what_was_packed_for_the_wide_one)
{
    link_pair p([](connection_config &c) { c.packet_max = 8980; });
    p.latency = 10us;
    p.open();
    std::vector<std::string> all;
    for (unsigned i = 0; i < 50; ++i)
        all.push_back(numbered(8000, i));
    std::size_t next = 0, from = 0;
    (void)p.feed(p.dialer, all, next, from);
    p.lose = [](const bytes &packet) { return packet.size() > 1480; };
    p.drive();
    p.dialer.link->narrow(1480);
    while (!p.feed(p.dialer, all, next, from))
        p.pass(100us);
    p.pass(500ms);
    EXPECT_TRUE(p.listener.got == all);
    EXPECT_GT(p.dialer.link->take_counts().sent.cut, 32u);
}

TEST(narrow_path, is_found_out_when_nobody_tells)
{
    link_pair p;
    p.latency = 10us;
    p.open();
    std::vector<std::string> all(100, numbered(1400));
    std::size_t next = 0, from = 0;
    p.lose = [](const bytes &packet) { return packet.size() > 1300; };
    while (!p.feed(p.dialer, all, next, from)) {
        p.pass(1ms);
        ASSERT_EQ(p.dialer.link->state(), phase::open);
    }
    p.pass(1s);
    EXPECT_EQ(p.dialer.link->packet_max(), sender::packet_safe);
    EXPECT_TRUE(p.listener.got == all);
}

TEST(narrow_path, is_found_out_by_slices_too)
{
    link_pair p([](connection_config &c) { c.packet_max = 8980; });
    p.latency = 10us;
    p.open();
    p.say(p.dialer, numbered(8000));
    p.lose = [](const bytes &packet) { return packet.size() > 1300; };
    p.drive();
    p.dialer.link->narrow(1480); // it is said to be wider than it is
    p.pass(10s);
    ASSERT_EQ(p.dialer.link->state(), phase::open);
    EXPECT_EQ(p.dialer.link->packet_max(), sender::packet_safe);
    EXPECT_EQ(p.listener.got.size(), 1u);
}

TEST(narrow_path, takes_slices_in_any_order_and_more_than_once)
{
    link_pair p([](connection_config &c) { c.packet_max = 8980; });
    p.open();
    const auto text = numbered(8000);
    p.say(p.dialer, text);
    p.dialer.link->narrow(1480);
    std::vector<bytes> slices;
    for (auto s = p.packet_of(p.dialer); !s.empty(); s = p.packet_of(p.dialer))
        slices.push_back(s);
    ASSERT_EQ(slices.size(), 6u);
    for (const std::size_t i : {5u, 0u, 3u, 1u, 2u})
        EXPECT_EQ(p.at_listener(slices[i]), arrival::nothing);
    auto again = slices[3]; // in a packet of its own
    auto header = header_of(again);
    header.pn = be64(99);
    std::memcpy(again.data(), &header, sizeof header);
    finish(again);
    EXPECT_EQ(p.at_listener(again), arrival::duplicate);
    EXPECT_EQ(p.at_listener(slices[4]), arrival::records);
    ASSERT_EQ(p.listener.got.size(), 1u);
    EXPECT_TRUE(p.listener.got[0] == text);
}

TEST(narrow_path, closes_a_peer_whose_slices_do_not_fit)
{
    struct row {
        const char *story;
        std::uint16_t offset, total;
        std::size_t size;
    };
    for (const auto &r :
         {row{"beyond the end", 1000, 1024, 100}, row{"over what a packet holds", 0, 9000, 100},
          row{"not in words", 2, 1024, 100}, row{"odd length", 0, 1024, 99},
          row{"nothing", 0, 1024, 0}}) {
        link_pair p;
        p.open();
        p.say(p.dialer, "x");
        auto packet = p.packet_of(p.dialer);
        auto header = header_of(packet);
        header.type = SP_PART;
        packet.assign(SP_HEADER_SIZE + SP_SLICE_SIZE + r.size + SP_TRAILER_SIZE, std::byte{0});
        std::memcpy(packet.data(), &header, sizeof header);
        const sp_slice slice{.offset = be16(r.offset), .total = be16(r.total)};
        std::memcpy(packet.data() + SP_HEADER_SIZE, &slice, sizeof slice);
        finish(packet);
        EXPECT_EQ(p.at_listener(packet), arrival::malformed) << r.story;
        EXPECT_EQ(p.listener.link->reason(), SP_REASON_PROTOCOL_ERROR) << r.story;
    }
}

// ---- congestion

TEST(congestion, costs_nothing_on_an_idle_path_and_gives_way_to_a_standing_queue)
{
    round_trip rtt;
    congestion path;
    instant now{1h};
    for (int i = 0; i < 1000; ++i) {
        rtt.sample(20us, now);
        path.on_ack(rtt, 20us, now += 20us);
    }
    EXPECT_EQ(path.window(), congestion::window_max);
    for (int i = 0; i < 50; ++i) { // wake-ups of a sleeping reader are no queue
        rtt.sample(i % 2 == 0 ? 20us : 400us, now);
        path.on_ack(rtt, i % 2 == 0 ? 20us : 400us, now += 400us);
    }
    EXPECT_EQ(path.window(), congestion::window_max);
    for (int i = 0; i < 100; ++i) {
        rtt.sample(5ms, now);
        path.on_ack(rtt, 5ms, now += 5ms);
    }
    EXPECT_LE(path.window(), 4u);
    for (int i = 0; i < 10'000; ++i) { // it was no queue: the path has become longer
        rtt.sample(5ms, now);
        path.on_ack(rtt, 5ms, now += 5ms);
    }
    EXPECT_EQ(path.window(), congestion::window_max);
    for (int i = 0; i < 100; ++i) {
        rtt.sample(15ms, now);
        path.on_ack(rtt, 15ms, now += 15ms);
    }
    EXPECT_LE(path.window(), 16u);
    for (int i = 0; i < 400; ++i) {
        rtt.sample(30us, now);
        path.on_ack(rtt, 30us, now += 5ms);
    }
    EXPECT_EQ(path.window(), congestion::window_max);
}

} // namespace
