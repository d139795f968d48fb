// SPDX-License-Identifier: BSD-2-Clause
//
// The verbs of messages: one loop that sends, one that receives, one that asks and one that
// answers. verb_table says which of them a verb is.
#include "userspace/cli/command.hpp"
#include "userspace/cli/interrupt.hpp"
#include "userspace/cli/sink.hpp"
#include "userspace/cli/source.hpp"
#include "userspace/cli/station.hpp"
#include "userspace/cli/verb_table.hpp"

#include <atomic>
#include <fmt/format.h>
#include <thread>

namespace sp::cli {
namespace {

class conversation {
public:
    conversation(const message_arguments &arguments, console &out, const interrupt &interrupted)
        : arguments_(arguments), out_(out), interrupted_(interrupted),
          chain_(interrupted.token(), stop_{&both_}), station_(arguments, out, both_.get_token()),
          source_(arguments, both_.get_token()), sink_(arguments, out)
    {
    }

    // The exit status.
    int run()
    {
        const auto does = row_of(arguments_.verb).does;
        auto done = open(does);
        if (done)
            done = does == conduct::send      ? send_all()
                   : does == conduct::receive ? receive_all()
                   : does == conduct::both    ? talk()
                   : does == conduct::ask     ? ask_all()
                                              : answer_all();
        sink_.finish();
        if (const int status = interrupted_.exit_status())
            return status;
        if (!done && reader_gone_)
            return exit_reader_gone();
        if (!done)
            return out_.fail(done.error());
        return close(does);
    }

private:
    struct stop_ {
        std::stop_source *of;
        void operator()() const { of->request_stop(); }
    };
    struct volume {
        std::uint64_t messages = 0, bytes = 0;
    };

    [[nodiscard]] result<void> open(conduct does);
    [[nodiscard]] result<void> send_all();
    [[nodiscard]] result<void> receive_all();
    [[nodiscard]] result<void> talk();
    [[nodiscard]] result<void> ask_all();
    [[nodiscard]] result<void> survey_all(const std::string &body);
    [[nodiscard]] result<void> answer_all();
    [[nodiscard]] result<void> answer(request question) const;
    [[nodiscard]] result<void> show(const message &m, double microseconds = -1);
    [[nodiscard]] result<void> answer_with_command(request question) const;
    [[nodiscard]] error silent();
    int close(conduct does);

    const message_arguments &arguments_;
    console &out_;
    const interrupt &interrupted_;
    std::stop_source both_; // a signal, or the end of the other loop
    std::stop_callback<stop_> chain_;
    station station_;
    source source_;
    sink sink_;
    std::uint64_t shown_ = 0;
    std::atomic<bool> sending_ = false;
    std::atomic<bool> reader_gone_ = false;
    volume sent_; // by the loop that sends; read when it has ended
    instant began_ = engine_clock::now();
};

result<void> conversation::open(conduct does)
{
    if (sends(does))
        if (auto opened = source_.open(); !opened)
            return opened;
    if (auto opened = sink_.open(); !opened)
        return opened;
    return station_.open();
}

result<void> conversation::show(const message &m, double microseconds)
{
    shown row{++shown_, m.transport(), m.text(), {}, microseconds};
    if (out_.verbose() || out_.json())
        row.peer = station_.peer_of(m);
    auto taken = sink_.take(row);
    if (!taken && taken.error() == errc::closed)
        reader_gone_ = true;
    return taken;
}

// ---- sending, receiving, both ----

result<void> conversation::send_all()
{
    bool met = false; // nobody is waited for before there is something to be sent
    for (;;) {
        auto body = source_.next();
        if (!body)
            return std::unexpected(body.error());
        if (!*body)
            return {};
        if (!met)
            if (auto there = station_.wait_peers(); !there)
                return there;
        met = true;
        if (auto done = station_.send(**body); !done)
            return done;
        ++sent_.messages;
        sent_.bytes += (*body)->size();
    }
}

// Silence is measured from the last message, and not while we still send ourselves.
result<void> conversation::receive_all()
{
    auto heard = engine_clock::now();
    const auto deadline = [&] {
        if (sending_)
            heard = engine_clock::now();
        if (sending_ || !arguments_.silence_max)
            return instant::max();
        return wait(*arguments_.silence_max).deadline(heard);
    };
    const auto count = arguments_.count.value_or(0);
    while (count == 0 || shown_ < count) {
        auto m = station_.next(deadline);
        if (!m && m.error() == errc::timed_out) {
            const bool enough = count == 0 && (shown_ > 0 || sent_.messages > 0);
            return enough ? result<void>() : std::unexpected(silent());
        }
        if (!m)
            return std::unexpected(m.error());
        if (auto done = show(*m); !done)
            return done;
        heard = engine_clock::now();
    }
    return {};
}

error conversation::silent()
{
    auto what = fmt::format("nothing came from {} for {:g} s", arguments_.url,
                            std::chrono::duration<double>(*arguments_.silence_max).count());
    if (shown_ > 0)
        what += fmt::format(", after {} of {} messages", shown_, arguments_.count.value_or(0));
    const auto why = station_.obstacle();
    return error::numbered(2011, std::move(what),
                           why                     ? std::string(why->what())
                           : station_.peers() == 0 ? "no peer was reached"
                                                   : "a peer is connected and is silent",
                           "--wait gives it more time");
}

// The first loop that fails ends the other.
result<void> conversation::talk()
{
    result<void> sent_all;
    sending_ = true;
    std::thread sender([&] {
        sent_all = send_all();
        if (!sent_all)
            both_.request_stop();
        sending_ = false;
    });
    auto received = receive_all();
    if (!received)
        both_.request_stop();
    sender.join();
    const bool sender_first = !sent_all && sent_all.error() != errc::canceled;
    return sender_first ? sent_all : received;
}

// ---- asking ----

result<void> conversation::ask_all()
{
    bool met = false;
    for (;;) {
        auto body = source_.next();
        if (!body)
            return std::unexpected(body.error());
        if (!*body)
            return {};
        if (!met)
            if (auto there = station_.wait_peers(); !there)
                return there;
        met = true;
        if (arguments_.verb == message_verb::survey) {
            if (auto done = survey_all(**body); !done)
                return done;
            continue;
        }
        const auto began = engine_clock::now();
        auto answer = station_.ask(**body);
        if (!answer)
            return std::unexpected(answer.error());
        const std::chrono::duration<double, std::micro> took = engine_clock::now() - began;
        if (auto done = show(*answer, took.count()); !done)
            return done;
    }
}

result<void> conversation::survey_all(const std::string &body)
{
    const auto began = engine_clock::now();
    auto question = station_.ask_all(body);
    if (!question)
        return std::unexpected(question.error());
    const auto before = shown_;
    for (;;) {
        auto answer = station_.next_answer(*question);
        if (!answer && answer.error() == errc::expired)
            break;
        if (!answer)
            return std::unexpected(answer.error());
        const std::chrono::duration<double, std::micro> took = engine_clock::now() - began;
        if (auto done = show(*answer, took.count()); !done)
            return done;
    }
    const auto asked = question->asked().size();
    out_.detail(fmt::format("{} answers of {} asked", shown_ - before, asked));
    if (shown_ > before)
        return {};
    return std::unexpected(error::numbered(
        2011, "nobody answered the survey in its time", fmt::format("{} were asked", asked),
        asked == 0 ? "--wait-peers N waits for them" : "--time gives them more time"));
}

// ---- answering ----

result<void> conversation::answer_all()
{
    const auto count = arguments_.count.value_or(0);
    while (count == 0 || shown_ < count) {
        auto question = station_.next_request();
        if (!question)
            return std::unexpected(question.error());
        if (auto done = show(*question); !done)
            return done;
        // What cannot be answered does not end the service.
        if (auto sent = answer(std::move(*question)); !sent && sent.error() != errc::canceled)
            complain(sent.error());
    }
    return {};
}

result<void> conversation::answer(request question) const
{
    if (!arguments_.exec.empty())
        return answer_with_command(std::move(question));
    const auto fixed = arguments_.data.value_or("");
    const auto body = arguments_.echo ? payload(question.body()) : payload(fixed);
    return std::move(question).reply(body, both_.get_token());
}

result<void> conversation::answer_with_command(request question) const
{
    auto done = cli::run({.words = {"/bin/sh", "-c", arguments_.exec},
                          .input = question.text(),
                          .output_max = station_.message_max()},
                         both_.get_token());
    if (!done)
        return std::unexpected(done.error());
    if (done->status != 0)
        out_.warn(fmt::format("sp: the command ended with {}; what it wrote is the answer",
                              done->status));
    return std::move(question).reply(done->output, both_.get_token());
}

// ---- the end ----

// What was sent last may still be on its way.
int conversation::close(conduct does)
{
    if (does == conduct::receive)
        return exit_done;
    const auto peers = station_.peers();
    const auto drops = station_.drops();
    const auto report = station_.close();
    if (!sends(does) || does == conduct::ask)
        return exit_done;
    const auto seconds = std::chrono::duration<double>(engine_clock::now() - began_).count();
    out_.detail(fmt::format("sent {} messages, {} bytes, in {:.3f} s, to {} peers at the end",
                            sent_.messages, sent_.bytes, seconds, peers));
    if (!drops.empty())
        out_.status(fmt::format("dropped: {}        more: sp errors --counters", drops));
    const int status = report.undelivered > 0 ? exit_failed : exit_done;
    if (report.undelivered > 0)
        out_.warn(fmt::format("sp: {} messages were not delivered", report.undelivered));
    if (!out_.json() || does == conduct::both)
        return status;
    return out_.object(fmt::format("sp.{}/1", row_of(arguments_.verb).name), status,
                       {{"messages", sent_.messages},
                        {"bytes", sent_.bytes},
                        {"seconds", seconds},
                        {"peers", std::uint64_t{peers}},
                        {"undelivered", report.undelivered}});
}

} // namespace

int messages(const message_arguments &arguments, console &out)
{
    const interrupt interrupted;
    conversation it(arguments, out, interrupted);
    return it.run();
}

} // namespace sp::cli
