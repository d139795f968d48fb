// SPDX-License-Identifier: BSD-2-Clause
//
// Applications of the patterns in which messages flow one by one: PUSH and PULL, PAIR, PUB and SUB,
// BUS.
#include "tests/sim/actor.hpp"

#include <algorithm>
#include <array>
#include <unordered_set>
#include <utility>

namespace sp::sim {
namespace {

using protocol::alone;
using protocol::bus_machine;
using protocol::overflow;
using protocol::pair_machine;
using protocol::pub_machine;
using protocol::pull_machine;
using protocol::push_machine;
using protocol::sub_machine;

// What PUSH and PAIR have in common: one receiver, and a sender that may have to wait.
class distributing : public actor {
public:
    using actor::actor;

protected:
    template <class M>
    bool send(std::size_t header)
    {
        const bool oversize =
            world_.plan().says.message_max < 30'000 && state().peers > 0 && choose(16) == 15;
        const auto size = oversize ? world_.plan().says.message_max + 1 : draw_size();
        const bool ready = machine<M>().send_ready(size);
        if (!ready && !oversize && choose(8) != 7)
            return true; // as one does who looks first
        const auto m = compose(size);
        if (!m.frame)
            return true;
        const auto refusal = with<M>([&](auto &machine, auto &out) {
            return machine.on_send(m.frame->id, size, now(), out);
        });
        if (oversize)
            world_.rules.oversize_refused(refusal.has_value(), [&] {
                return name() + ": a message over message_max was taken";
            });
        if (!refusal) {
            ++said_;
            accepted(m.number);
            return true;
        }
        refused(m);
        if (*refusal == errc::would_block) {
            check_blocked(size + header);
            world_.rules.backpressure_bounds(
                !ready, [&] { return name() + " was ready to send and then told to wait"; });
        }
        return true;
    }
    // A message of ours that somebody got.
    void delivered(std::uint32_t number, rule once, rule ordered)
    {
        auto &e = world_.book[number];
        world_.rules.look(once, ++e.deliveries == 1, [&] {
            return name() + " got message " + std::to_string(number) +
                   " which was delivered before";
        });
        if (ordered == once || !direct())
            return;
        auto &latest = latest_[e.sender];
        world_.rules.look(ordered, latest <= e.order, [&] {
            return name() + " got message " + std::to_string(number) + " after a later one";
        });
        latest = e.order + 1;
    }
    void forget() override { latest_.clear(); }

private:
    std::unordered_map<std::uint32_t, std::uint32_t> latest_; // by sender
};

class push_actor final : public distributing {
public:
    using distributing::distributing;
    std::string unfinished() override
    {
        return engine().find(id_)->peers > 0 && !engine().drained(id_) ? "messages wait to be sent"
                                                                       : "";
    }
    std::size_t queued() const override
    {
        auto &self = const_cast<push_actor &>(*this);
        return self.machine<push_machine>().queued_out();
    }

private:
    void make() override
    {
        protocol::push_options o;
        if (fickle()) {
            o.queue = bounds();
            o.on_full = overflow_of(true);
            o.on_no_peer = static_cast<alone>(choose(3));
        }
        id_ = *engine().open<push_machine>(role::push, shaping(), o);
    }
    void forget() override
    {
        distributing::forget();
        begun_.clear();
        latest_.clear();
    }
    bool speak() override
    {
        // The queue gives to whoever has room first, and who had none has lost his turn.
        if (auto before = ready_pipes(); before != latest_)
            begun_ = std::move(before);
        const bool spoke = send<push_machine>(0);
        latest_ = ready_pipes();
        if (!std::ranges::equal(begun_, latest_, {}, &share::pipe, &share::pipe))
            begun_ = latest_;
        if (latest_.size() < 2)
            return spoke;
        std::uint32_t least = ~0u, most = 0;
        for (std::size_t i = 0; i < latest_.size(); ++i) {
            least = std::min(least, latest_[i].given - begun_[i].given);
            most = std::max(most, latest_[i].given - begun_[i].given);
        }
        world_.rules.fair_share(most - least <= 1, [&] {
            return name() + " gave " + std::to_string(most) + " messages to one pipe and " +
                   std::to_string(least) + " to another, both ready all the time";
        });
        return spoke;
    }
    bool read() override { return false; }

    // A pipe that is ready, and how many messages it was ever given.
    struct share {
        pipe_id pipe{};
        std::uint32_t given = 0;
        friend bool operator==(const share &, const share &) = default;
    };
    std::vector<share> ready_pipes()
    {
        std::vector<share> all;
        engine().each_pipe(id_, [&](pipe_id id, const core::pipe &p) {
            if (p.attached && p.ready)
                all.push_back(
                    {id, p.books[stat::socket_sent] + static_cast<std::uint32_t>(p.outbox.size())});
        });
        return all;
    }

    std::vector<share> begun_, latest_; // all of them have been ready from then to now
};

class pull_actor final : public distributing {
public:
    using distributing::distributing;
    std::size_t queued() const override
    {
        auto &self = const_cast<pull_actor &>(*this);
        return self.machine<pull_machine>().queued_in();
    }
    bool takes(std::uint32_t) const override { return true; }

private:
    void make() override { id_ = *engine().open<pull_machine>(role::pull, shaping()); }
    bool speak() override { return false; }
    bool read() override
    {
        if (!machine<pull_machine>().waiting())
            return false;
        const auto t = with<pull_machine>([](auto &m, auto &out) { return m.take(out); });
        if (!t)
            return false;
        if (const auto number = got(*t, order::exact); number != unknown)
            delivered(number, rule::one_receiver, rule::one_receiver);
        return true;
    }
};

class pair_actor final : public distributing {
public:
    using distributing::distributing;
    std::string unfinished() override
    {
        return engine().find(id_)->peers > 0 && !engine().drained(id_) ? "messages wait to be sent"
                                                                       : "";
    }
    std::size_t queued() const override
    {
        auto &m = const_cast<pair_actor &>(*this).machine<pair_machine>();
        return m.queued_out() + m.queued_in();
    }
    bool takes(std::uint32_t) const override { return !drops_ && !too_far(); }

private:
    void make() override
    {
        protocol::pair_options o{.version = what_.as == role::pair1 ? 1 : 0};
        drops_ = false;
        hops_ = direct() ? 1 : 2;
        dropped_ = 0;
        if (fickle()) {
            o.send = bounds();
            o.recv = bounds();
            o.on_send_full = overflow_of(true);
            o.on_recv_full = overflow_of(true);
            o.on_no_peer = static_cast<alone>(choose(3));
            drops_ = o.on_recv_full != overflow::block;
            if (o.version == 1)
                o.ttl_max = std::array<std::size_t, 3>{8, 2, 1}[choose(3)];
        }
        ttl_max_ = o.ttl_max;
        id_ = *engine().open<pair_machine>(what_.as, shaping(), o);
    }
    bool speak() override { return send<pair_machine>(what_.as == role::pair1 ? 4 : 0); }
    bool read() override
    {
        if (!machine<pair_machine>().waiting())
            return false;
        const auto t = with<pair_machine>([](auto &m, auto &out) { return m.take(out); });
        if (!t)
            return false;
        if (t->header_bytes == protocol::hop_bytes) {
            const auto counted = protocol::load_word(engine().pool()[t->frame].bytes());
            world_.rules.hop_limit(counted == hops_ && !too_far(), [&] {
                return name() + " got a message of " + std::to_string(counted) +
                       " hops that made " + std::to_string(hops_) + ", ttl_max is " +
                       std::to_string(ttl_max_);
            });
        }
        if (const auto number = got(*t, drops_ ? order::gaps : order::exact); number != unknown)
            delivered(number, rule::exactly_once, rule::fifo_each_way);
        return true;
    }
    bool inspect() override
    {
        world_.rules.single_peer(state().peers <= 1,
                                 [&] { return name() + " has more than one peer"; });
        if (const auto dropped = state().books[stat::socket_ttl];
            std::exchange(dropped_, dropped) != dropped)
            world_.rules.hop_limit(too_far(), [&] {
                return name() + " dropped " + std::to_string(dropped) +
                       " messages for their hops, which are within ttl_max";
            });
        return false;
    }
    [[nodiscard]] bool too_far() const { return what_.as == role::pair1 && hops_ > ttl_max_; }

    bool drops_ = false;
    std::uint32_t hops_ = 1; // of every message that comes here: a device is passed, or none
    std::size_t ttl_max_ = 8;
    std::uint64_t dropped_ = 0; // for their hops, at the latest look
};

// ---- PUB and SUB ----

constexpr std::array<char, 3> letters{'a', 'b', 'c'};

std::uint16_t topic_of(std::uint32_t first, std::uint32_t second)
{
    const std::array<char, 2> text{letters[first], letters[second]};
    std::uint16_t topic = 0;
    std::memcpy(&topic, text.data(), sizeof topic);
    return topic;
}

class pub_actor final : public actor {
public:
    using actor::actor;
    std::string unfinished() override
    {
        return state().peers > 0 && !engine().drained(id_) ? "messages wait to be sent" : "";
    }
    std::size_t queued() const override
    {
        return const_cast<pub_actor &>(*this).machine<pub_machine>().queued_out();
    }

private:
    void make() override
    {
        protocol::pub_options o;
        may_block_ = false;
        if (fickle()) {
            o.queue = bounds();
            o.on_full = overflow_of(true);
            may_block_ = o.on_full == overflow::block;
        }
        id_ = *engine().open<pub_machine>(role::pub, shaping(), o);
    }
    bool speak() override
    {
        const auto size = draw_size();
        const bool ready = machine<pub_machine>().send_ready(size);
        world_.rules.slow_reader_isolated(ready || may_block_, [&] {
            return name() + " is held up although it drops what is too much";
        });
        const auto m = compose(size, nobody, topic_of(choose(3), choose(3)));
        if (!m.frame)
            return true;
        ++said_;
        accepted(m.number);
        with<pub_machine>([&](auto &machine, auto &out) {
            machine.on_send(m.frame->id, m.frame->size, now(), out);
            return true;
        });
        return true;
    }
    bool read() override { return false; }

    bool may_block_ = false;
};

class sub_actor final : public actor {
public:
    using actor::actor;
    std::string unfinished() override
    {
        return std::ranges::any_of(
                   contexts_,
                   [&](const context &c) { return machine<sub_machine>().waiting(c.id); })
                   ? "messages wait to be read"
                   : "";
    }
    std::size_t queued() const override
    {
        return const_cast<sub_actor &>(*this).machine<sub_machine>().queued_in();
    }
    bool takes(std::uint32_t number) const override
    {
        auto &self = const_cast<sub_actor &>(*this);
        if (!constant_ || self.state().books[stat::socket_recv_full] > 0)
            return false;
        const auto &e = self.world_.book[number];
        return std::ranges::any_of(contexts_, [&](const context &c) { return c.wants(e.topic); });
    }
    void end() override
    {
        // What matched and arrived has been delivered to each context that wanted it.
        if (!constant_ || state().books[stat::socket_recv_full] > 0)
            return;
        for (const auto &[pipe, in] : home().flows) {
            const auto &f = world_.wire[in];
            if (f.ended || f.receiver_socket != socket_)
                continue;
            for (const auto &m : f.messages)
                for (std::uint32_t i = 0; i < contexts_.size(); ++i)
                    if (const auto &e = world_.book[m.number]; contexts_[i].wants(e.topic))
                        world_.rules.all_that_matches(
                            std::ranges::find(e.receivers, receiver(i)) != e.receivers.end(), [&] {
                                return name() + " never got message " + std::to_string(m.number);
                            });
        }
    }

private:
    struct context {
        protocol::context_id id{};
        std::vector<std::string> topics{};
        [[nodiscard]] bool wants(std::uint16_t topic) const
        {
            std::array<char, 2> text{};
            std::memcpy(text.data(), &topic, sizeof topic);
            return std::ranges::any_of(topics, [&](const std::string &t) {
                return std::string_view(text.data(), text.size()).starts_with(t);
            });
        }
    };

    void make() override
    {
        protocol::sub_options o;
        if (fickle()) {
            o.queue = bounds();
            o.on_full = overflow_of(true);
        }
        id_ = *engine().open<sub_machine>(role::sub, shaping(), o);
        constant_ = choose(2) == 0;
        contexts_.clear();
        for (auto n = 1 + choose(2); n > 0; --n) {
            contexts_.push_back({.id = *machine<sub_machine>().open_context()});
            subscribe(contexts_.back());
        }
        drawn_ = 0;
    }
    void forget() override { contexts_.clear(); }
    std::string draw_topic()
    {
        std::string topic;
        for (auto n = choose(3); n > 0; --n)
            topic += letters[choose(3)];
        return topic;
    }
    void subscribe(context &c)
    {
        const auto topic = draw_topic();
        machine<sub_machine>().subscribe(c.id, std::as_bytes(std::span(topic)));
        if (std::ranges::find(c.topics, topic) == c.topics.end())
            c.topics.push_back(topic);
    }
    // Its operations are subscriptions.
    bool speak() override
    {
        if (constant_ || ++drawn_ > 20)
            return false;
        auto &c = contexts_[choose(static_cast<std::uint32_t>(contexts_.size()))];
        if (choose(2) == 0) {
            subscribe(c);
            return true;
        }
        const auto topic = draw_topic();
        const auto held = std::ranges::find(c.topics, topic);
        const bool ended = with<sub_machine>([&](auto &m, auto &out) {
            return m.unsubscribe(c.id, std::as_bytes(std::span(topic)), out);
        });
        world_.rules.unknown_unsubscribe(ended == (held != c.topics.end()), [&] {
            return name() + ": ending the subscription '" + topic + "' said " +
                   (ended ? "yes" : "no");
        });
        if (held != c.topics.end())
            c.topics.erase(held);
        return true;
    }
    bool read() override
    {
        bool any = false;
        for (std::uint32_t i = 0; i < contexts_.size(); ++i)
            any = read(i) || any;
        return any;
    }
    bool read(std::uint32_t i)
    {
        const auto id = contexts_[i].id;
        if (!machine<sub_machine>().waiting(id))
            return false;
        const auto t = with<sub_machine>([&](auto &m, auto &out) { return m.take(id, out); });
        if (!t)
            return false;
        // Two contexts with a queue that drops its oldest may be told of messages in turn; of
        // one context the order of its pipe is kept.
        const auto number = got(*t, order::gaps, i, sizeof(std::uint16_t));
        if (number == unknown)
            return true;
        auto &e = world_.book[number];
        world_.rules.matched(contexts_[i].wants(e.topic), [&] {
            return name() + " got message " + std::to_string(number) +
                   " whose topic is not subscribed";
        });
        const bool first = std::ranges::find(e.receivers, receiver(i)) == e.receivers.end();
        world_.rules.no_duplicate(first, [&] {
            return name() + " got message " + std::to_string(number) + " twice in one context";
        });
        e.receivers.push_back(receiver(i));
        ++e.deliveries;
        auto &latest = latest_[std::uint64_t{e.sender} << 32 | i];
        world_.rules.order_per_pair(latest <= e.order || !direct(), [&] {
            return name() + " got message " + std::to_string(number) + " after a later one";
        });
        latest = e.order + 1;
        return true;
    }

    std::vector<context> contexts_;
    bool constant_ = true; // its subscriptions never change
    std::uint32_t drawn_ = 0;
    std::unordered_map<std::uint64_t, std::uint32_t> latest_; // by sender and context
};

// ---- BUS ----

class bus_actor final : public actor {
public:
    using actor::actor;
    std::string unfinished() override
    {
        return state().peers > 0 && !engine().drained(id_) ? "messages wait to be sent" : "";
    }
    std::size_t queued() const override
    {
        auto &m = const_cast<bus_actor &>(*this).machine<bus_machine>();
        return m.queued_out() + m.queued_in();
    }
    bool takes(std::uint32_t) const override
    {
        return const_cast<bus_actor &>(*this).state().books[stat::socket_recv_full] == 0;
    }

private:
    void make() override
    {
        protocol::bus_options o;
        may_block_ = false;
        if (fickle()) {
            o.send = bounds();
            o.recv = bounds();
            o.on_send_full = overflow_of(true);
            o.on_recv_full = overflow_of(true);
            may_block_ = o.on_send_full == overflow::block;
        }
        id_ = *engine().open<bus_machine>(role::bus, shaping(), o);
    }
    void forget() override
    {
        latest_.clear();
        told_on_these_pipes_.clear();
    }
    bool speak() override
    {
        const auto m = compose(draw_size());
        if (!m.frame)
            return true;
        ++said_;
        notice_new_pipes();
        told_on_these_pipes_.insert(m.number);
        world_.rules.send_never_blocks(
            may_block_ || machine<bus_machine>().send_ready(m.frame->size),
            [&] { return name() + " is held up although it drops what is too much"; });
        accepted(m.number);
        with<bus_machine>([&](auto &machine, auto &out) {
            machine.on_send(m.frame->id, m.frame->size, now(), out);
            return true;
        });
        return true;
    }
    bool read() override
    {
        if (!machine<bus_machine>().waiting())
            return false;
        const auto t = with<bus_machine>([](auto &m, auto &out) { return m.take(out); });
        if (!t)
            return false;
        const bool complete = state().books[stat::socket_recv_full] == 0;
        const auto number = got(*t, complete ? order::exact : order::gaps);
        if (number == unknown)
            return true;
        if (complete)
            world_.rules.gaps_counted(true, [] { return std::string(); }); // or exact would say so
        auto &e = world_.book[number];
        // A relay knows whence a message came by its pipe: on a later pipe it is somebody else.
        notice_new_pipes();
        const bool from_before = !direct() && !told_on_these_pipes_.contains(number);
        world_.rules.no_loopback(e.sender != socket_ || from_before, [&] {
            return name() + " hears itself: message " + std::to_string(number);
        });
        world_.rules.once_per_peer(
            std::ranges::find(e.receivers, receiver(0)) == e.receivers.end(),
            [&] { return name() + " got message " + std::to_string(number) + " twice"; });
        e.receivers.push_back(receiver(0));
        auto &latest = latest_[e.sender];
        world_.rules.order_per_sender(latest <= e.order || !direct(), [&] {
            return name() + " got message " + std::to_string(number) + " after a later one";
        });
        latest = e.order + 1;
        return true;
    }

    void notice_new_pipes()
    {
        if (const auto all = state().books[stat::pipe_opened]; std::exchange(pipes_, all) != all)
            told_on_these_pipes_.clear();
    }

    bool may_block_ = false;
    std::unordered_map<std::uint32_t, std::uint32_t> latest_; // by sender
    std::unordered_set<std::uint32_t> told_on_these_pipes_;
    std::uint64_t pipes_ = 0;
};

} // namespace

std::unique_ptr<actor> make_flow_actor(world &w, std::uint32_t place)
{
    switch (w.plan().members[place].as) {
    case role::push:
        return std::make_unique<push_actor>(w, place);
    case role::pull:
        return std::make_unique<pull_actor>(w, place);
    case role::pub:
        return std::make_unique<pub_actor>(w, place);
    case role::sub:
        return std::make_unique<sub_actor>(w, place);
    case role::bus:
        return std::make_unique<bus_actor>(w, place);
    default:
        return std::make_unique<pair_actor>(w, place);
    }
}

} // namespace sp::sim
