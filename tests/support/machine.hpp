// SPDX-License-Identifier: BSD-2-Clause
//
// The engine's part for one protocol machine, without links: pipes with as much room as the test
// gives them, frames whose bytes vanish with their last reference, and virtual time. After every
// step it settles as the engine does and checks the machine's books (types.hpp) and the census of
// frames.
//
//   machine_engine<pub_machine> e(pub_options{});
//   const auto pipe = e.add_pipe();      // has no room yet
//   e.give_room(pipe, 2);                // takes two messages
//   e.send("hello");                     // and now e.wire[0].body == "hello"
//
// Inputs that only one machine has go through step():
//   e.step([&](effects &out) { e.machine.cancel(context, out); });
#pragma once

#include "userspace/protocol/types.hpp"

#include <algorithm>
#include <cstring>
#include <deque>
#include <gtest/gtest.h>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace sp::test {

template <protocol::machine Machine>
class machine_engine {
public:
    using frame_id = protocol::frame_id;
    using pipe_id = protocol::pipe_id;
    using effects = protocol::effects;
    using effect = protocol::effect;

    template <class... Args>
    explicit machine_engine(Args &&...args) : machine(std::forward<Args>(args)...)
    {
    }

    struct sent {
        pipe_id pipe;
        std::string header, body;
        frame_id frame;
    };

    struct pipe_state {
        std::size_t room = 0;   // messages it takes before it is full
        bool told = false;      // the machine knows that it is ready
        bool jammed = false;    // what is sent waits in front of the wire
        bool condemned = false; // the machine has closed it
        long received = 0, consumed = 0;
        std::deque<frame_id> outbox{}; // of a jammed pipe
    };

    Machine machine;
    effects out;
    protocol::instant now{std::chrono::hours(1)};
    std::vector<sent> wire;       // in order, all pipes
    std::map<stat, long> counted; // by the machine and for it
    std::map<std::pair<stat, pipe_id>, long> counted_on;
    std::vector<std::pair<pipe_id, stat>> closed; // by the machine
    std::map<pipe_id, pipe_state> pipes;          // that are connected
    std::set<pipe_id> aboard;                     // of these, those that get what is published
    std::size_t published = 0;                    // messages, each by one write
    std::optional<protocol::taken> last_taken;
    std::size_t steps = 0;

    // ---- pipes ----

    pipe_id add_pipe(std::size_t capacity = 1 << 20, std::uint64_t instance = 1,
                     std::size_t together = 0)
    {
        const auto index = free_index();
        const auto pipe = static_cast<pipe_id>(++generation_ << 16 | index);
        pipes[pipe] = {};
        machine.on_pipe_added({.id = pipe, .instance = instance, .capacity = capacity, .together = together});
        settle();
        return pipe;
    }
    void give_room(pipe_id pipe, std::size_t messages)
    {
        pipes.at(pipe).room += messages;
        settle();
    }
    // From now on what is sent on it waits in the engine and may come back.
    void jam(pipe_id pipe) { pipes.at(pipe).jammed = true; }
    void close_pipe(pipe_id pipe)
    {
        remove(pipe);
        settle();
    }

    // ---- messages ----

    // A frame with one reference, whose bytes are there as long as it has one.
    frame_id new_frame(std::string_view bytes)
    {
        const auto id = static_cast<frame_id>(next_frame_++);
        auto &f = frames_[id];
        f.bytes = std::make_unique<char[]>(bytes.size());
        std::ranges::copy(bytes, f.bytes.get());
        f.size = bytes.size();
        f.references = 1;
        return id;
    }
    void release(frame_id id)
    {
        const auto found = frames_.find(id);
        ASSERT_NE(found, frames_.end()) << "released once too often";
        if (--found->second.references == 0)
            frames_.erase(found);
    }
    [[nodiscard]] std::string text_of(frame_id id) const
    {
        const auto &f = frames_.at(id);
        return {f.bytes.get(), f.size};
    }

    // For machines with on_send(frame, size, now, out). Refused: the frame is dropped by the test.
    std::optional<errc> send(std::string_view body)
    {
        const auto frame = new_frame(body);
        return submit(frame, [&] { return machine.on_send(frame, body.size(), now, out); });
    }
    // Whatever else sends `frame`: f() calls the machine with `out`, and returns nothing or errc.
    template <class F>
    std::optional<errc> submit(frame_id frame, F &&f)
    {
        std::optional<errc> refused;
        if constexpr (std::is_void_v<decltype(f())>)
            f();
        else
            refused = f();
        if (refused)
            release(frame);
        else
            ++counted[stat::socket_accepted];
        settle();
        return refused;
    }
    void receive(pipe_id pipe, std::string_view bytes)
    {
        const auto frame = new_frame(bytes);
        const auto payload = std::as_bytes(std::span(frames_.at(frame).bytes.get(), bytes.size()));
        ++pipes.at(pipe).received;
        ++counted[stat::socket_received];
        machine.on_message(pipe, frame, payload, now, out);
        settle();
    }
    // machine.take(args..., out): the message's bytes, header included; its frame is given back.
    template <class... Args>
    std::optional<std::string> take(Args... args)
    {
        last_taken = machine.take(args..., out);
        if (last_taken)
            ++counted[stat::socket_delivered];
        settle();
        if (!last_taken)
            return std::nullopt;
        auto text = text_of(last_taken->frame);
        release(last_taken->frame);
        check();
        return text;
    }

    // ---- anything ----

    template <class F>
    auto step(F &&f)
    {
        if constexpr (std::is_void_v<decltype(f(out))>) {
            f(out);
            settle();
        } else {
            auto value = f(out);
            settle();
            return value;
        }
    }
    void advance(std::chrono::nanoseconds by)
    {
        now += by;
        machine.on_deadline(now);
        settle();
    }
    std::size_t close()
    {
        std::size_t undelivered = 0;
        do {
            out.clear();
            undelivered += machine.close(out);
            carry_out_all();
        } while (!out.empty());
        for (auto &[pipe, p] : pipes) {
            counted[stat::socket_closed] += static_cast<long>(p.outbox.size());
            for (const auto frame : p.outbox)
                release(frame);
            p.outbox.clear();
        }
        check();
        return undelivered;
    }

    [[nodiscard]] long count(stat why) const { return value_of(counted, why); }
    [[nodiscard]] long count(stat why, pipe_id pipe) const
    {
        return value_of(counted_on, std::pair{why, pipe});
    }
    [[nodiscard]] std::size_t frames_held() const { return frames_.size(); }
    // Messages of this pipe whose credit the machine keeps.
    [[nodiscard]] long withheld(pipe_id pipe) const
    {
        const auto &p = pipes.at(pipe);
        return p.received - p.consumed;
    }
    [[nodiscard]] std::vector<std::string> sent_on(pipe_id pipe) const
    {
        std::vector<std::string> bodies;
        for (const auto &s : wire)
            if (s.pipe == pipe)
                bodies.push_back(s.body);
        return bodies;
    }

private:
    struct held_frame {
        std::unique_ptr<char[]> bytes;
        std::size_t size = 0;
        long references = 0;
    };

    template <class Map, class Key>
    static long value_of(const Map &map, const Key &key)
    {
        const auto found = map.find(key);
        return found == map.end() ? 0 : found->second;
    }

    std::uint32_t free_index() const
    {
        for (std::uint32_t i = 0;; ++i)
            if (std::ranges::none_of(pipes, [&](const auto &p) {
                    return (static_cast<std::uint32_t>(p.first) & 0xffff) == i;
                }))
                return i;
    }

    void remove(pipe_id pipe)
    {
        auto &p = pipes.at(pipe);
        for (; !p.outbox.empty(); p.outbox.pop_back())
            take_back(pipe, p.outbox.back());
        pipes.erase(pipe);
        aboard.erase(pipe);
        machine.on_pipe_closed(pipe, now);
    }
    // It never reached the wire; the reference is handed on or dropped.
    void take_back(pipe_id pipe, frame_id id)
    {
        if constexpr (requires { machine.on_unsent(pipe, id); }) {
            ++counted[stat::socket_returned];
            machine.on_unsent(pipe, id);
        } else {
            ++counted[stat::socket_pipe_closed];
            ++counted_on[{stat::socket_pipe_closed, pipe}];
            release(id);
        }
    }

    void settle()
    {
        for (;;) {
            carry_out_all();
            out.clear();
            if (tell_ready() || remove_condemned())
                continue;
            machine.pump(now, out);
            if (out.empty())
                break;
        }
        ++steps;
        check();
    }
    // One pipe at a time, as the engine does. True: there are effects to carry out.
    bool tell_ready()
    {
        for (auto &[id, p] : pipes) {
            if (p.told || p.room == 0 || p.condemned)
                continue;
            p.told = true;
            machine.on_pipe_ready(id, now, out);
            if (!out.empty())
                return true;
        }
        return false;
    }
    bool remove_condemned()
    {
        const auto found =
            std::ranges::find_if(pipes, [](const auto &p) { return p.second.condemned; });
        if (found == pipes.end())
            return false;
        remove(found->first);
        return true;
    }

    void carry_out_all()
    {
        for (const auto &e : out.all())
            carry_out(e);
    }
    void carry_out(const effect &e)
    {
        switch (e.what) {
        case effect::kind::send:
            return carry_out_send(e);
        case effect::kind::retain:
            ++frames_.at(e.frame).references;
            return;
        case effect::kind::release:
            return release(e.frame);
        case effect::kind::consumed:
            if (const auto p = pipes.find(e.pipe); p != pipes.end()) {
                ++p->second.consumed;
                EXPECT_LE(p->second.consumed, p->second.received) << "more credit than it used";
            }
            return;
        case effect::kind::close_pipe:
            closed.emplace_back(e.pipe, e.why);
            if (const auto p = pipes.find(e.pipe); p != pipes.end()) {
                p->second.condemned = true;
                ++counted[e.why]; // the message that broke the rules is counted as its pipe's end
            }
            return;
        case effect::kind::count:
            counted[e.why] += static_cast<long>(e.times);
            if (e.pipe != protocol::no_pipe)
                counted_on[{e.why, e.pipe}] += static_cast<long>(e.times);
            return;
        case effect::kind::board:
            ASSERT_TRUE(pipes.contains(e.pipe)) << "a pipe that went boards";
            EXPECT_TRUE(pipes.at(e.pipe).told) << "a pipe boards that was not ready";
            EXPECT_TRUE(aboard.insert(e.pipe).second) << "a pipe boards twice";
            return;
        case effect::kind::publish:
            return carry_out_publish(e);
        case effect::kind::part:
            EXPECT_FALSE(aboard.empty());
            aboard.clear();
            return;
        }
    }
    void carry_out_publish(const effect &e)
    {
        ASSERT_TRUE(frames_.contains(e.frame)) << "a released frame was published";
        EXPECT_FALSE(aboard.empty());
        ++published;
        for (const auto pipe : aboard) {
            wire.push_back({pipe, {}, text_of(e.frame), e.frame});
            ++counted[stat::socket_sent];
        }
    }
    void carry_out_send(const effect &e)
    {
        ASSERT_TRUE(frames_.contains(e.frame)) << "a released frame was sent";
        EXPECT_FALSE(aboard.contains(e.pipe)) << "sent its own to a pipe that is aboard";
        const auto found = pipes.find(e.pipe);
        ASSERT_NE(found, pipes.end()) << "sent on a pipe that went";
        auto &p = found->second;
        if (p.condemned) { // closed a moment ago; the machine hears of it before the step is over
            ++frames_.at(e.frame).references;
            return take_back(e.pipe, e.frame);
        }
        ASSERT_TRUE(p.told && p.room > 0) << "sent on a pipe that had no room";
        --p.room;
        p.told = false;
        if (p.jammed) {
            ++frames_.at(e.frame).references;
            p.outbox.push_back(e.frame);
            return;
        }
        ++counted[stat::socket_sent];
        wire.push_back({.pipe = e.pipe,
                        .header = std::string(reinterpret_cast<const char *>(e.header.data()),
                                              e.header.size()),
                        .body = text_of(e.frame),
                        .frame = e.frame});
    }

    long sum(std::initializer_list<stat> which) const
    {
        long n = 0;
        for (const auto s : which)
            n += count(s);
        return n;
    }
    void check() const
    {
        using enum stat;
        long in_outboxes = 0;
        for (const auto &[pipe, p] : pipes)
            in_outboxes += static_cast<long>(p.outbox.size());
        EXPECT_EQ(sum({socket_accepted, socket_copied_out, socket_resends, socket_failovers}),
                  sum({socket_sent, socket_returned, socket_pipe_gone, socket_pipe_closed,
                       socket_closed, socket_withdrawn, socket_no_peer, socket_send_full,
                       socket_peer_limit, socket_bad_raw_header}) +
                      in_outboxes + static_cast<long>(machine.queued_out()))
            << "outgoing, step " << steps;
        EXPECT_EQ(sum({socket_received, socket_copied_in}),
                  sum({socket_delivered, socket_abandoned, socket_ttl, socket_late,
                       socket_unknown_id, socket_foreign_reply, socket_duplicate_request,
                       socket_memory, socket_recv_full, socket_unread, socket_duplicate_answer,
                       socket_filtered, socket_unsubscribed, socket_unexpected, pipe_bad_header}) +
                      static_cast<long>(machine.queued_in()))
            << "incoming, step " << steps;
    }

    std::map<frame_id, held_frame> frames_;
    std::uint32_t next_frame_ = 0;
    std::uint32_t generation_ = 0;
};

} // namespace sp::test
