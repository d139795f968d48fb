// SPDX-License-Identifier: BSD-2-Clause
//
// `sp req`: asks and prints the answers. The dial runs in the background, so that either side may
// start first; while there is no peer we look at why, and end with a reason that will not go away
// by itself.
#include "sp/sp.hpp"
#include "userspace/cli/bodies.hpp"
#include "userspace/cli/interrupt.hpp"
#include "userspace/cli/options.hpp"
#include "userspace/cli/verbs.hpp"

#include <algorithm>
#include <condition_variable>
#include <fmt/format.h>
#include <mutex>

namespace sp::cli {
namespace {

using namespace std::chrono_literals;

constexpr auto look_interval = 100ms; // how often we ask why there is no peer
constexpr auto silence_max = 1s;      // before we say that we wait

class asker {
public:
    asker(const req_arguments &arguments, console &out, std::stop_token stop)
        : arguments_(arguments), out_(out), stop_(std::move(stop))
    {
    }

    [[nodiscard]] result<void> open()
    {
        options how;
        if (auto set = set_options(arguments_.set, how); !set)
            return set;
        auto own = engine::open({.insecure = plaintext_allowed(arguments_.insecure)});
        if (!own)
            return std::unexpected(own.error());
        engine_.emplace(std::move(*own));
        how.on = &*engine_;
        auto socket = sp::req::open(how);
        if (!socket)
            return std::unexpected(socket.error());
        socket_.emplace(std::move(*socket));
        auto dialer = socket_->dial(arguments_.url);
        if (!dialer)
            return std::unexpected(dialer.error());
        dialer_ = *dialer;
        auto context = socket_->open_context();
        if (!context)
            return std::unexpected(context.error());
        context_.emplace(std::move(*context));
        return {};
    }

    // A time-out of send() withdraws the request, one of recv() does not: each slice only looks up
    // and goes on.
    [[nodiscard]] result<message> ask()
    {
        const auto began = engine_clock::now();
        const auto deadline =
            arguments_.timeout ? wait(*arguments_.timeout).deadline(began) : instant::max();
        for (bool asked = false;;) {
            const wait slice(std::min(deadline, engine_clock::now() + look_interval), stop_);
            if (!asked) {
                auto sent = context_->send(arguments_.body, slice);
                if (!sent && sent.error() != errc::timed_out)
                    return std::unexpected(sent.error());
                asked = sent.has_value();
            } else {
                auto answer = context_->recv(slice);
                if (answer || answer.error() != errc::timed_out)
                    return answer;
            }
            if (auto why = obstacle(); why && !why->retryable())
                return std::unexpected(*why);
            if (engine_clock::now() >= deadline)
                return std::unexpected(late());
            if (socket_->peers() == 0 && engine_clock::now() - began >= silence_max)
                say_waiting();
        }
    }

private:
    [[nodiscard]] std::optional<error> obstacle() const
    {
        return socket_->peers() == 0 ? socket_->last_error(dialer_) : std::nullopt;
    }

    // Out of time: a known obstacle tells more than the clock.
    [[nodiscard]] error late() const
    {
        if (auto why = obstacle())
            return *why;
        const auto seconds = std::chrono::duration<double>(*arguments_.timeout).count();
        const auto what = fmt::format("no answer from {} within {:g} s", arguments_.url, seconds);
        if (socket_->peers() == 0)
            return error::numbered(2011, what, "no peer was reached",
                                   "is the other side started? sp doctor");
        return error::numbered(2011, what, "the peer is connected and has not answered",
                               "--timeout gives it more time");
    }

    void say_waiting()
    {
        if (!std::exchange(said_, true))
            out_.status(fmt::format("waiting for a peer at {}", arguments_.url));
    }

    const req_arguments &arguments_;
    console &out_;
    std::stop_token stop_;
    bool said_ = false;
    std::optional<engine> engine_;
    std::optional<sp::req> socket_;
    std::optional<req_context> context_; // goes before its socket
    endpoint_id dialer_{};
};

void pause(std::chrono::nanoseconds how_long, const std::stop_token &stop)
{
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    never.wait_for(lock, stop, how_long, [] { return false; });
}

} // namespace

int req(const req_arguments &arguments, console &out)
{
    const interrupt interrupted;
    asker asking(arguments, out, interrupted.token());
    if (auto opened = asking.open(); !opened)
        return out.fail(opened.error());
    for (std::uint64_t n = 1; arguments.count == 0 || n <= arguments.count; ++n) {
        if (n > 1 && arguments.interval > 0ns)
            pause(arguments.interval, interrupted.token());
        if (interrupted.exit_status())
            break;
        const auto began = engine_clock::now();
        auto answer = asking.ask();
        const std::chrono::duration<double, std::micro> took = engine_clock::now() - began;
        if (interrupted.exit_status())
            break;
        if (!answer)
            return out.fail(answer.error());
        const shown row{n, answer->transport(), answer->text(), took.count()};
        if (!show(row, "sp.req/1", arguments.format, out))
            return exit_reader_gone();
    }
    return interrupted.exit_status();
}

} // namespace sp::cli
