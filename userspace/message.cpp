// SPDX-License-Identifier: BSD-2-Clause
//
// Messages, loans and requests: who owns a buffer, and how it goes back.
#include "userspace/calls.hpp"

#include <utility>

namespace sp::inline v1 {

// ---- message ----

message::message(message &&other) noexcept
    : node_(other.node_), frame_(std::exchange(other.frame_, nullptr)),
      body_(std::exchange(other.body_, {})), pipe_(other.pipe_), transport_(other.transport_)
{
}

message &message::operator=(message &&other) noexcept
{
    if (this != &other) {
        if (frame_)
            node_->give_back(static_cast<core::frame *>(frame_));
        node_ = other.node_;
        frame_ = std::exchange(other.frame_, nullptr);
        body_ = std::exchange(other.body_, {});
        pipe_ = other.pipe_;
        transport_ = other.transport_;
    }
    return *this;
}

message::~message()
{
    if (frame_)
        node_->give_back(static_cast<core::frame *>(frame_));
}

// ---- loan ----

loan::loan(loan &&other) noexcept
    : node_(other.node_), frame_(std::exchange(other.frame_, nullptr)),
      body_(std::exchange(other.body_, {}))
{
}

loan &loan::operator=(loan &&other) noexcept
{
    if (this != &other) {
        if (frame_)
            node_->give_back(static_cast<core::frame *>(frame_));
        node_ = other.node_;
        frame_ = std::exchange(other.frame_, nullptr);
        body_ = std::exchange(other.body_, {});
    }
    return *this;
}

loan::~loan()
{
    if (frame_)
        node_->give_back(static_cast<core::frame *>(frame_));
}

// ---- request ----

request::request(request &&other) noexcept
    : message(static_cast<message &&>(other)), home_(std::move(other.home_)), ticket_(other.ticket_)
{
}

request &request::operator=(request &&other) noexcept
{
    if (this != &other) {
        drop();
        message::operator=(static_cast<message &&>(other));
        home_ = std::move(other.home_);
        ticket_ = other.ticket_;
    }
    return *this;
}

request::~request()
{
    drop();
}

// Nobody will answer it.
void request::drop() noexcept
{
    if (!home_)
        return;
    const auto home = std::move(home_);
    const auto held = home->home()->claim();
    if (home->unusable())
        return;
    home->engine().with<protocol::rep_machine>(
        home->id(), engine_clock::now(), [&](auto &rep, auto &out) {
            rep.abandon(static_cast<protocol::ticket_id>(ticket_), out);
            return true;
        });
}

namespace {

using detail::socket_core;

// SP2007 with the limit of the pipe that the answer was for.
error too_large_for(socket_core &home, protocol::pipe_id asker, std::size_t size)
{
    const auto *p = home.engine().find(asker);
    if (!p || !p->link)
        return detail::too_large_for_peers(home, size);
    return error::numbered(2007, "an answer of " + std::to_string(size) + " bytes is too large",
                           "the asker takes at most " +
                               std::to_string(p->link->message_capacity()) +
                               " bytes, the header of the pattern included",
                           "raise message_max at the asker");
}

// Gives the frame to the machine, waiting while the asker's pipe has no room. On an error the frame
// is released.
std::optional<error> answer(socket_core &home, detail::node::lock &held, protocol::ticket_id ticket,
                            protocol::pipe_id asker, core::frame &f, const wait &how_long)
{
    std::optional<errc> refused;
    const auto size = f.size;
    const auto attempt = [&] {
        refused = errc::closed;
        if (home.closed())
            return true;
        const auto now = engine_clock::now(); // packets are timed by it
        refused =
            home.engine().with<protocol::rep_machine>(home.id(), now, [&](auto &rep, auto &out) {
                return rep.reply(ticket, f.id, size, now, out);
            });
        if (!refused) {
            home.count(stat::socket_accepted);
            home.engine().finish(now);
        }
        return refused != errc::would_block;
    };
    if (const auto outcome = home.home()->run_until(held, how_long, attempt))
        refused = outcome;
    if (!refused)
        return std::nullopt;
    home.engine().pool().release(f.id);
    if (refused == errc::message_too_large)
        return too_large_for(home, asker, size);
    return error(*refused);
}

bool may_try_again(const error &why)
{
    return why == errc::would_block || why == errc::timed_out || why == errc::canceled ||
           why == errc::message_too_large;
}

} // namespace

result<loan> request::loan(std::size_t size, wait how_long)
{
    if (!home_)
        return std::unexpected(errc::invalid_state);
    auto held = home_->home()->claim();
    if (auto why = home_->unusable())
        return std::unexpected(*why);
    auto f = home_->frame_for(held, size, home_->send_wait(how_long));
    if (!f)
        return std::unexpected(f.error());
    return detail::access::make_loan(home_->home(), **f);
}

result<void> request::reply(payload body, wait how_long) &&
{
    if (!home_)
        return std::unexpected(errc::invalid_state);
    auto held = home_->home()->claim();
    if (auto why = home_->unusable())
        return std::unexpected(*why);
    auto &rep = home_->machine<protocol::rep_machine>();
    const auto ticket = static_cast<protocol::ticket_id>(ticket_);
    if (const auto *p = home_->put_now(rep.direct(ticket, body.view().size()), body.view())) {
        home_->engine().nudge(*p);
        rep.went(ticket);
        held.unlock();
        home_.reset();
        return {};
    }
    const auto patience = detail::one_end(home_->send_wait(how_long));
    auto f = home_->frame_of(held, body.view(), patience);
    if (!f)
        return std::unexpected(f.error());
    const auto refused =
        answer(*home_, held, ticket, static_cast<protocol::pipe_id>(pipe()), **f, patience);
    held.unlock();
    return over(refused);
}

result<void> request::reply(sp::loan &&body) &&
{
    if (!home_)
        return std::unexpected(errc::invalid_state);
    auto held = home_->home()->claim();
    if (auto why = home_->unusable()) {
        held.unlock();
        const auto unused = std::move(body);
        return std::unexpected(*why);
    }
    auto *f = detail::access::take(body, home_->home());
    if (!f)
        return std::unexpected(errc::invalid_argument);
    const auto refused = answer(*home_, held, static_cast<protocol::ticket_id>(ticket_),
                                static_cast<protocol::pipe_id>(pipe()), *f, forever);
    held.unlock();
    return over(refused);
}

// The request has been answered, or has failed for good, unless it may be tried again.
result<void> request::over(const std::optional<error> &refused)
{
    if (refused && may_try_again(*refused))
        return std::unexpected(*refused);
    if (refused)
        drop();
    home_.reset();
    if (refused)
        return std::unexpected(*refused);
    return {};
}

} // namespace sp::inline v1
