// SPDX-License-Identifier: BSD-2-Clause
//
// Applications that ask and answer: REQ and REP, SURVEYOR and RESPONDENT.
#include "tests/sim/actor.hpp"

#include <algorithm>
#include <unordered_set>

namespace sp::sim {
namespace {

using namespace std::chrono_literals;
using protocol::context_id;
using protocol::rep_machine;
using protocol::req_machine;
using protocol::request_state;
using protocol::survey_state;
using protocol::surveyor_machine;

constexpr auto resend_time = 1s; // the API's default is a minute
constexpr std::size_t ttl_max = 8;

// ---- REQ ----

class req_actor final : public actor {
public:
    using actor::actor;
    std::string unfinished() override
    {
        if (state().peers == 0)
            return {}; // nobody dials it, or it would be missed as a connection
        for (const auto &c : contexts_)
            if (c.asked != unknown)
                return "request " + std::to_string(c.asked) + " waits for its answer";
        return {};
    }
    void end() override
    {
        for (const auto &c : contexts_) {
            const auto open = c.asked == unknown ? 0u : 1u;
            world_.rules.completes_once(asked_ == ended_ + open || contexts_.size() > 1, [&] {
                return name() + " asked " + std::to_string(asked_) + " times, " +
                       std::to_string(ended_) + " have ended";
            });
        }
    }
    std::size_t queued() const override
    {
        auto &m = const_cast<req_actor &>(*this).machine<req_machine>();
        return m.queued_out() + m.queued_in();
    }
    bool takes(std::uint32_t) const override { return false; }

private:
    struct context {
        context_id id{};
        std::uint32_t asked = unknown; // the message; unknown: nothing is outstanding
        instant asked_at{};            // of the host's clock
        std::uint64_t lost_before = 0; // pipes that had gone by then
    };

    void make() override
    {
        protocol::req_options o;
        o.resend_time = resend_time;
        o.request_deadline = deadline_ = world_.plan().says.request_deadline;
        id_ = *engine().open<req_machine>(role::req, shaping(), o);
        for (auto n = 1 + choose(4); n > 0; --n)
            contexts_.push_back({.id = *machine<req_machine>().open_context()});
    }
    void forget() override
    {
        contexts_.clear();
        asked_ = ended_ = 0;
    }
    void over(context &c)
    {
        if (c.asked == unknown)
            return;
        ++ended_;
        c.asked = unknown;
        again_in(world_.plan().says.pace);
    }
    bool speak() override
    {
        auto &c = contexts_[choose(static_cast<std::uint32_t>(contexts_.size()))];
        if (c.asked != unknown) {
            if (!world_.plan().says.cancels)
                return std::ranges::any_of(
                    contexts_, [](const context &other) { return other.asked == unknown; });
            if (choose(8) != 7)
                return true;
            if (choose(2) == 0) {
                with<req_machine>([&](auto &m, auto &out) {
                    m.cancel(c.id, out);
                    return true;
                });
                world_.rules.completes_once(
                    machine<req_machine>().state(c.id) == request_state::idle,
                    [&] { return name() + ": a canceled request is still there"; });
                over(c);
                return true;
            }
        }
        ask(c);
        return true;
    }
    void ask(context &c)
    {
        const auto m = compose(draw_size());
        if (!m.frame)
            return;
        const auto random = static_cast<std::uint32_t>(engine().random()());
        const auto refusal = with<req_machine>([&](auto &machine, auto &out) {
            return machine.on_request(c.id, m.frame->id, m.frame->size, random, now(), out);
        });
        if (refusal)
            return refused(m);
        ++said_;
        over(c);
        ++asked_;
        accepted(m.number);
        c.asked = m.number;
        c.asked_at = now();
        c.lost_before = lost_pipes();
    }
    bool read() override
    {
        bool any = false;
        for (auto &c : contexts_)
            any = read(c) || any;
        return any;
    }
    bool read(context &c)
    {
        const auto state = machine<req_machine>().state(c.id);
        if (state == request_state::failed) {
            (void)machine<req_machine>().take_failure(c.id);
            world_.rules.completes_once(c.asked != unknown, [&] {
                return name() + ": a request failed that had ended before";
            });
            over(c);
            return true;
        }
        if (state != request_state::ready)
            return false;
        const auto reply = machine<req_machine>().take_reply(c.id);
        take({.frame = reply.frame, .pipe = reply.pipe, .header_bytes = req_machine::id_bytes}, c);
        return true;
    }
    void take(const protocol::taken &t, context &c)
    {
        auto *f = flow_of(t.pipe);
        const auto number = got(t, order::none);
        world_.rules.completes_once(c.asked != unknown, [&] {
            return name() + " got reply " + std::to_string(number) + " to nothing";
        });
        if (number == unknown || c.asked == unknown)
            return;
        auto &reply = world_.book[number];
        auto &request = world_.book[c.asked];
        world_.rules.reply_id_matches(reply.answers == c.asked, [&] {
            return name() + " asked " + std::to_string(c.asked) + " and got the answer to " +
                   std::to_string(reply.answers);
        });
        world_.rules.reply_content(reply.answers != nobody, [&] {
            return name() + " got " + std::to_string(number) + ", which is no answer";
        });
        world_.rules.one_reply(++request.deliveries == 1, [&] {
            return name() + " got two replies to " + std::to_string(c.asked);
        });
        if (!direct())
            world_.rules.backtrace_exact(reply.answers == c.asked, [] { return std::string(); });
        if (f && !f->ambiguous)
            world_.rules.reply_from_asked_pipe(
                std::ranges::find(request.carried, f->reverse) != request.carried.end(), [&] {
                    return name() + " got a reply to " + std::to_string(c.asked) +
                           " by a pipe that did not carry it";
                });
        over(c);
    }
    bool inspect() override
    {
        for (auto &c : contexts_) {
            if (c.asked == unknown)
                continue;
            const auto waited = now() - c.asked_at;
            const auto state = machine<req_machine>().state(c.id);
            const auto &e = world_.book[c.asked];
            const auto sent = std::ranges::count_if(e.carried, [&](std::uint32_t number) {
                const auto &f = world_.wire[number];
                return f.from == what_.host && f.from_port == what_.port;
            });
            const auto most = 1 + static_cast<std::uint64_t>(waited / resend_time) +
                              (lost_pipes() - c.lost_before);
            world_.rules.resends_bounded(static_cast<std::uint64_t>(sent) <= most, [&] {
                return name() + ": request " + std::to_string(c.asked) + " went out " +
                       std::to_string(sent) + " times in " + std::to_string(waited / 1ms) +
                       " ms, with " + std::to_string(lost_pipes() - c.lost_before) + " pipes lost";
            });
            if (deadline_.count() > 0)
                world_.rules.deadline_met(waited < deadline_ || (state != request_state::waiting &&
                                                                 state != request_state::queued),
                                          [&] {
                                              return name() + ": request " +
                                                     std::to_string(c.asked) +
                                                     " outlives its deadline";
                                          });
        }
        return false;
    }

    std::vector<context> contexts_;
    nanoseconds deadline_{0};
    std::uint32_t asked_ = 0, ended_ = 0;
};

// ---- REP and RESPONDENT ----

class rep_actor final : public actor {
public:
    using actor::actor;
    std::string unfinished() override { return held_.empty() ? "" : "requests are held"; }
    std::size_t queued() const override
    {
        auto &m = const_cast<rep_actor &>(*this).machine<rep_machine>();
        return m.queued_out() + m.queued_in();
    }
    // A copy of what it was given is dropped while it works on that, and counted; that it gives up
    // later makes no difference to the copy.
    bool takes(std::uint32_t number) const override { return !given_.contains(number); }

private:
    struct held {
        protocol::ticket_id ticket;
        std::uint32_t request;
    };

    void make() override
    {
        protocol::rep_options o{.ttl_max = ttl_max};
        if (what_.as == role::respondent)
            o.dedupe_time = 0s;
        cache_ = o.reply_cache_bytes;
        id_ = *engine().open<rep_machine>(what_.as, shaping(), o, engine().random()());
        thinks_ = choose(3) == 2;
    }
    void forget() override
    {
        held_.clear();
        executed_.clear();
        given_.clear();
        replies_.clear();
        answered_bytes_ = 0;
    }
    bool speak() override
    {
        if (!held_.empty())
            answer(choose(static_cast<std::uint32_t>(held_.size())));
        return !held_.empty();
    }
    bool read() override
    {
        if (world_.healing() && !held_.empty() && answer(0))
            return true;
        if (!machine<rep_machine>().waiting() || held_.size() >= 64)
            return false;
        const auto t = with<rep_machine>([](auto &m, auto &out) { return m.take(out); });
        if (!t)
            return false;
        world_.rules.hops_bounded(t->header_bytes <= ttl_max * 4, [&] {
            return name() + " got a request of " + std::to_string(t->header_bytes / 4) + " words";
        });
        const auto number =
            got({.frame = t->frame, .pipe = t->pipe, .header_bytes = t->header_bytes}, order::gaps);
        if (number == unknown) {
            abandon(t->ticket);
            return true;
        }
        const bool again = !executed_.insert(number).second;
        given_.insert(number);
        if (what_.as == role::rep && direct())
            world_.rules.handler_once(!again || is_forgotten(number), [&] {
                return name() + " is given request " + std::to_string(number) + " twice";
            });
        held_.push_back({.ticket = t->ticket, .request = number});
        if (!thinks_ || world_.healing())
            answer(static_cast<std::uint32_t>(held_.size()) - 1);
        else
            again_in(world_.plan().says.pace);
        return true;
    }
    // What the asker's link has the reply to, read or not, is forgotten: a copy that was on its way
    // comes as new.
    [[nodiscard]] bool is_forgotten(std::uint32_t request)
    {
        if (answered_bytes_ > cache_ / 2 || world_.book[request].deliveries > 0)
            return true;
        const auto reply = replies_.find(request);
        return reply != replies_.end() &&
               (world_.wire.has_come(reply->second) || world_.wire.ambiguous());
    }
    void abandon(protocol::ticket_id ticket)
    {
        with<rep_machine>([&](auto &m, auto &out) {
            m.abandon(ticket, out);
            return true;
        });
    }
    // False: it has no room now.
    bool answer(std::uint32_t which)
    {
        const auto h = held_[which];
        const auto done = [&] { held_.erase(held_.begin() + which); };
        if (!world_.healing() && choose(32) == 31) {
            executed_.erase(h.request); // it may come again
            abandon(h.ticket);
            done();
            return true;
        }
        const auto m = compose(draw_size(), h.request);
        if (!m.frame)
            return false;
        const auto size = m.frame->size;
        const auto refusal = reply(h.ticket, m);
        if (refusal) {
            refused(m);
            if (*refusal == errc::would_block)
                return false;
            executed_.erase(h.request);
            abandon(h.ticket);
            done();
            return true;
        }
        accepted(m.number);
        replies_[h.request] = m.number;
        answered_bytes_ += size + rep_machine::charge;
        done();
        if (choose(8) == 7) { // the ticket has been used
            const auto second = compose(8, h.request);
            const auto twice = reply(h.ticket, second);
            world_.rules.rep_one_reply(twice == errc::invalid_state,
                                       [&] { return name() + " answers a request twice"; });
            world_.rules.stale_handle_inert(twice.has_value(), [] { return std::string(); });
            if (twice)
                refused(second);
        }
        return true;
    }
    std::optional<errc> reply(protocol::ticket_id ticket, const made &m)
    {
        return with<rep_machine>([&](auto &machine, auto &out) {
            return machine.reply(ticket, m.frame->id, m.frame->size, now(), out);
        });
    }

    std::vector<held> held_;
    std::unordered_set<std::uint32_t> executed_; // and not given up
    std::unordered_set<std::uint32_t> given_;
    std::unordered_map<std::uint32_t, std::uint32_t> replies_; // by request
    std::size_t answered_bytes_ = 0, cache_ = 0;
    bool thinks_ = false; // answers later, in any order
};

// ---- SURVEYOR ----

class surveyor_actor final : public actor {
public:
    using actor::actor;
    std::string unfinished() override
    {
        for (const auto &c : contexts_)
            if (c.asked != unknown)
                return "survey " + std::to_string(c.asked) + " has not ended";
        return {};
    }
    std::size_t queued() const override
    {
        auto &m = const_cast<surveyor_actor &>(*this).machine<surveyor_machine>();
        return m.queued_out() + m.queued_in();
    }

private:
    struct context {
        context_id id{};
        std::uint32_t asked = unknown;
        instant ends{};
        std::size_t connected = 0;
    };

    void make() override
    {
        protocol::surveyor_options o;
        if (fickle()) {
            o.send = bounds();
            o.recv = bounds();
            o.on_send_full = overflow_of(false);
            o.on_recv_full = overflow_of(true);
            o.one_answer_per_peer = choose(2) == 1;
            o.end_when_all_answered = choose(2) == 1;
        }
        early_ = o.end_when_all_answered;
        id_ = *engine().open<surveyor_machine>(role::surveyor, shaping(), o);
        for (auto n = 1 + choose(3); n > 0; --n)
            contexts_.push_back({.id = *machine<surveyor_machine>().open_context()});
    }
    void forget() override { contexts_.clear(); }
    bool speak() override
    {
        auto &c = contexts_[choose(static_cast<std::uint32_t>(contexts_.size()))];
        const auto state = machine<surveyor_machine>().state(c.id);
        if (state != survey_state::idle && (!world_.plan().says.cancels || choose(4) != 3))
            return true;
        if (state != survey_state::idle && choose(2) == 0) {
            with<surveyor_machine>([&](auto &m, auto &out) {
                m.cancel(c.id, out);
                return true;
            });
            c.asked = unknown;
            return true;
        }
        ask(c);
        return true;
    }
    void ask(context &c)
    {
        const auto m = compose(draw_size());
        if (!m.frame)
            return;
        const auto random = static_cast<std::uint32_t>(engine().random()());
        const auto time = std::chrono::milliseconds(2 + choose(500));
        c.connected = state().peers;
        ++said_;
        accepted(m.number);
        c.asked = m.number;
        c.ends = now() + time;
        with<surveyor_machine>([&](auto &machine, auto &out) {
            machine.on_survey(c.id, m.frame->id, m.frame->size, random, time, now(), out);
            return true;
        });
        const auto standing = machine<surveyor_machine>().count(c.id);
        world_.rules.fanout_counted(
            standing.asked + standing.missed == c.connected ||
                machine<surveyor_machine>().state(c.id) != survey_state::open,
            [&] {
                return name() + ": " + std::to_string(c.connected) + " connected, " +
                       std::to_string(standing.asked) + " asked, " +
                       std::to_string(standing.missed) + " missed";
            });
    }
    bool read() override
    {
        bool any = false;
        for (auto &c : contexts_)
            any = read(c) || any;
        return any;
    }
    bool read(context &c)
    {
        auto &m = machine<surveyor_machine>();
        if (!m.waiting(c.id)) {
            if (m.state(c.id) != survey_state::over)
                return false;
            m.tell_end(c.id);
            c.asked = unknown;
            return true;
        }
        const auto t = with<surveyor_machine>(
            [&](auto &machine, auto &out) { return machine.take(c.id, out); });
        if (!t)
            return false;
        const auto number = got(*t, order::none);
        if (number == unknown)
            return true;
        auto &e = world_.book[number];
        world_.rules.survey_id_matches(c.asked != unknown && e.answers == c.asked, [&] {
            return name() + " asks " + std::to_string(c.asked) + " and got an answer to " +
                   std::to_string(e.answers);
        });
        world_.rules.surveys_separate(e.answers == c.asked, [] { return std::string(); });
        world_.rules.one_per_respondent(++e.deliveries == 1, [&] {
            return name() + " got answer " + std::to_string(number) + " twice";
        });
        if (!direct())
            world_.rules.backtrace_exact(e.answers == c.asked, [] { return std::string(); });
        check_in_time(c, number, flow_of(t->pipe));
        return true;
    }
    // By when its first packet came here. What comes by a connection that cannot be told from
    // another is not seen to.
    void check_in_time(const context &c, std::uint32_t number, const flow *f)
    {
        if (!f || f->ambiguous || !f->places.contains(number))
            return;
        const auto came = f->contents[f->messages[f->places.at(number)].content].arrived_at;
        world_.rules.nothing_late(came < c.ends, [&] {
            return name() + " got answer " + std::to_string(number) + ", which came " +
                   std::to_string((came - c.ends).count()) + " ns after the end";
        });
    }
    bool inspect() override
    {
        for (auto &c : contexts_) {
            if (c.asked == unknown)
                continue;
            const bool over = machine<surveyor_machine>().state(c.id) != survey_state::open;
            world_.rules.one_end_marker(over ? now() >= c.ends || early_ : now() < c.ends, [&] {
                return name() + ": survey " + std::to_string(c.asked) +
                       (over ? " ended too early" : " outlives its time");
            });
        }
        return false;
    }

    std::vector<context> contexts_;
    bool early_ = false; // it may end when all have answered
};

} // namespace

std::unique_ptr<actor> make_asking_actor(world &w, std::uint32_t place)
{
    switch (w.plan().members[place].as) {
    case role::req:
        return std::make_unique<req_actor>(w, place);
    case role::surveyor:
        return std::make_unique<surveyor_actor>(w, place);
    default:
        return std::make_unique<rep_actor>(w, place);
    }
}

} // namespace sp::sim
