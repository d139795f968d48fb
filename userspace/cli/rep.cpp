// SPDX-License-Identifier: BSD-2-Clause
//
// `sp rep`: prints each request and answers it with a fixed text, with the request itself, or with
// what a command makes of it. A request that cannot be answered does not end the service: it is
// said on stderr.
#include "sp/sp.hpp"
#include "userspace/cli/bodies.hpp"
#include "userspace/cli/command.hpp"
#include "userspace/cli/interrupt.hpp"
#include "userspace/cli/options.hpp"
#include "userspace/cli/verbs.hpp"

#include <fmt/format.h>

namespace sp::cli {
namespace {

constexpr std::uint64_t message_max_default = 1 << 20;

class answerer {
public:
    answerer(const rep_arguments &arguments, console &out, std::stop_token stop)
        : arguments_(arguments), out_(out), stop_(std::move(stop))
    {
    }

    [[nodiscard]] result<void> open()
    {
        options how;
        if (auto set = set_options(arguments_.set, how); !set)
            return set;
        message_max_ = how.message_max.value_or(message_max_default);
        auto own = engine::open({.insecure = plaintext_allowed(arguments_.insecure)});
        if (!own)
            return std::unexpected(own.error());
        engine_.emplace(std::move(*own));
        how.on = &*engine_;
        auto socket = sp::rep::open(how);
        if (!socket)
            return std::unexpected(socket.error());
        socket_.emplace(std::move(*socket));
        auto endpoint = socket_->listen(arguments_.url);
        if (!endpoint)
            return std::unexpected(endpoint.error());
        const auto url = socket_->url(*endpoint);
        out_.status(fmt::format("listening at {}", url ? *url : arguments_.url));
        return {};
    }

    [[nodiscard]] result<request> next() { return socket_->recv(stop_); }

    void answer(request question)
    {
        const auto body = fixed(question);
        const auto sent = arguments_.exec.empty() ? std::move(question).reply(body, stop_)
                                                  : answer_with_command(std::move(question));
        if (!sent && sent.error() != errc::canceled)
            complain(sent.error());
    }

    // The last answer may still be on its way.
    void close() { (void)socket_->close(wait(std::chrono::seconds(1), stop_)); }

private:
    [[nodiscard]] payload fixed(const request &question) const
    {
        return arguments_.echo ? payload(question.body()) : payload(arguments_.answer);
    }

    [[nodiscard]] result<void> answer_with_command(request question)
    {
        auto done = run({.words = {"/bin/sh", "-c", arguments_.exec},
                         .input = question.text(),
                         .output_max = message_max_},
                        stop_);
        if (!done)
            return std::unexpected(done.error());
        if (done->status != 0)
            out_.warn(fmt::format("sp: the command ended with {}; what it wrote is the answer",
                                  done->status));
        return std::move(question).reply(done->output, stop_);
    }

    const rep_arguments &arguments_;
    console &out_;
    std::stop_token stop_;
    std::uint64_t message_max_ = message_max_default;
    std::optional<engine> engine_;
    std::optional<sp::rep> socket_;
};

} // namespace

int rep(const rep_arguments &arguments, console &out)
{
    const interrupt interrupted;
    answerer service(arguments, out, interrupted.token());
    if (auto opened = service.open(); !opened)
        return out.fail(opened.error());
    for (std::uint64_t n = 1; arguments.count == 0 || n <= arguments.count; ++n) {
        auto question = service.next();
        if (interrupted.exit_status())
            break;
        if (!question)
            return out.fail(question.error());
        const shown row{n, question->transport(), question->text(), -1};
        if (!show(row, "sp.rep/1", arguments.format, out))
            return exit_reader_gone();
        service.answer(std::move(*question));
    }
    service.close();
    return interrupted.exit_status();
}

} // namespace sp::cli
