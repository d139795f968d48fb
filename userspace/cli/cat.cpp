// SPDX-License-Identifier: BSD-2-Clause
//
// See cat.hpp. The loops are those of nngcat: which of them runs is a matter of the role and of
// whether there is data.
#include "userspace/cli/cat.hpp"

#include "userspace/cli/cat_socket.hpp"
#include "userspace/cli/cat_texts.hpp"
#include "userspace/cli/console.hpp"
#include "userspace/cli/interrupt.hpp"
#include "userspace/cli/options.hpp"

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <expected>
#include <fmt/format.h>
#include <mutex>
#include <optional>
#include <utility>

namespace sp::cli {
namespace {

using namespace std::chrono_literals;

constexpr auto drain_max = 1s;               // what a last message may take to leave
constexpr std::uint64_t size_most = 1 << 30; // message_max goes no further
constexpr std::uint64_t size_usual = 1 << 20;
constexpr std::uint64_t header_room = 256; // of the longest backtrace

template <class T = void>
using outcome = std::expected<T, failure>;

// ---- nngcat's loops ----

class conversation {
public:
    conversation(const cat_arguments &arguments, std::stop_token stop)
        : a_(arguments), stop_(std::move(stop))
    {
    }

    [[nodiscard]] outcome<> run()
    {
        if (auto done = open(); !done)
            return done;
        for (const auto &each : a_.endpoints)
            if (auto done = connect(each); !done)
                return done;
        auto done = talk();
        if (done)
            (void)socket_.socket->close(wait(drain_max, stop_));
        return done;
    }

private:
    [[nodiscard]] outcome<> open()
    {
        auto own = engine::open(
            {.memory_max = std::max(engine_options().memory_max, 4 * message_max()),
             .insecure = plaintext_allowed(a_.insecure)});
        if (!own)
            return std::unexpected(failed("Unable to open socket", own.error()));
        engine_.emplace(std::move(*own));
        options how{.name = a_.name, .on = &*engine_};
        how.message_max = message_max();
        if (a_.role == cat_role::pair0 || a_.role == cat_role::pair1)
            how.pair_version = a_.role == cat_role::pair0 ? 0 : 1;
        auto made = open_cat_socket(a_, how);
        if (!made)
            return std::unexpected(failed("Unable to open socket", made.error()));
        socket_ = std::move(*made);
        return {};
    }

    // Ours bounds both directions, that of nngcat only what is received: what shall be sent fits.
    [[nodiscard]] std::uint64_t message_max() const
    {
        const auto received = a_.recv_bytes_max ? *a_.recv_bytes_max : size_usual;
        const auto sent = a_.data ? a_.data->size() + header_room : 0;
        return received == 0 ? size_most
                             : std::min(std::max<std::uint64_t>(received, sent), size_most);
    }

    [[nodiscard]] outcome<> connect(const cat_endpoint &at)
    {
        const bool dials = at.how == cat_endpoint::way::dial;
        const auto made = !dials     ? socket_.socket->listen(at.url)
                          : a_.async ? socket_.socket->dial(at.url)
                                     : socket_.socket->dial(at.url, stop_);
        if (!made)
            return std::unexpected(failed(at, made.error()));
        if (a_.speaks != loudness::verbose)
            return {};
        const auto url = dials ? result<std::string>(at.url) : socket_.socket->url(*made);
        return print(
            fmt::format("{}: {}\n", dials ? "Connected to" : "Listening at", url ? *url : at.url));
    }

    [[nodiscard]] outcome<> talk()
    {
        if (socket_.next)
            return a_.data ? answer() : receive();
        if (!a_.data)
            return receive();
        pause(a_.delay);
        return socket_.recv ? exchange() : send_all();
    }

    [[nodiscard]] outcome<> print(std::string_view bytes)
    {
        if (out_.print(bytes))
            return {};
        return std::unexpected(failure{.text = {}, .status = exit_reader_gone()});
    }

    [[nodiscard]] wait until(instant deadline) const
    {
        const auto now = engine_clock::now();
        return {std::min(deadline, a_.recv_timeout ? now + *a_.recv_timeout : instant::max()),
                stop_};
    }

    // Where a dial goes on in the background, nngcat would wait for ever for somebody to ask.
    [[nodiscard]] wait for_sending() const
    {
        auto time = a_.send_timeout;
        if (!time && a_.async && socket_.recv)
            time = a_.recv_timeout;
        return time ? wait(*time, stop_) : wait(stop_);
    }

    [[nodiscard]] outcome<> send()
    {
        const auto sent = socket_.send(*a_.data, for_sending());
        if (!sent && !stop_.stop_requested())
            return std::unexpected(failed("Send error", sent.error()));
        return {};
    }

    // Nothing more will come: a time-out, the end of a survey, an answer that was had.
    [[nodiscard]] static bool is_end(const error &e)
    {
        return e == errc::timed_out || e == errc::would_block || e == errc::expired ||
               e == errc::invalid_state;
    }

    // The body of the next message; nothing at the end.
    [[nodiscard]] outcome<bool> receive_one(instant deadline)
    {
        const auto took = [&](const auto &got) -> outcome<bool> {
            if (got) {
                auto printed = print(render(got->text(), a_.format));
                return printed ? outcome<bool>(true) : std::unexpected(printed.error());
            }
            if (stop_.stop_requested() || is_end(got.error()))
                return false;
            return std::unexpected(failed("Receive error", got.error()));
        };
        return socket_.next ? took(socket_.next(until(deadline)))
                            : took(socket_.recv(until(deadline)));
    }

    [[nodiscard]] outcome<> receive()
    {
        for (std::uint32_t n = 0; a_.count == 0 || n < a_.count; ++n) {
            const auto more = receive_one(instant::max());
            if (!more)
                return std::unexpected(more.error());
            if (!*more)
                break;
        }
        return {};
    }

    [[nodiscard]] outcome<> answer()
    {
        for (std::uint32_t n = 0; a_.count == 0 || n < a_.count; ++n) {
            auto question = socket_.next(until(instant::max()));
            if (stop_.stop_requested())
                break;
            if (!question)
                return std::unexpected(failed("Receive error", question.error()));
            if (auto printed = print(render(question->text(), a_.format)); !printed)
                return printed;
            const auto sent = std::move(*question).reply(*a_.data, for_sending());
            if (!sent && !stop_.stop_requested())
                return std::unexpected(failed("Send error", sent.error()));
        }
        return {};
    }

    [[nodiscard]] outcome<> send_all()
    {
        for (std::uint32_t n = 1;; ++n) {
            const auto began = engine_clock::now();
            if (auto sent = send(); !sent)
                return sent;
            if (is_last(n))
                return {};
            if (a_.interval)
                pause(began + *a_.interval - engine_clock::now());
        }
    }

    [[nodiscard]] outcome<> exchange()
    {
        for (std::uint32_t n = 1;; ++n) {
            const auto began = engine_clock::now();
            if (auto sent = send(); !sent)
                return sent;
            if (!a_.interval && a_.count == 0)
                return receive();
            const auto end = a_.interval ? began + *a_.interval : instant::max();
            for (bool more = true; more;) {
                const auto got = receive_one(end);
                if (!got)
                    return std::unexpected(got.error());
                more = *got && engine_clock::now() < end;
            }
            if (is_last(n))
                return {};
            if (a_.interval)
                pause(end - engine_clock::now());
        }
    }

    [[nodiscard]] bool is_last(std::uint32_t sent) const
    {
        return stop_.stop_requested() || (a_.count == 0 ? !a_.interval : sent >= a_.count);
    }

    void pause(std::chrono::nanoseconds how_long)
    {
        std::mutex mutex;
        std::condition_variable_any never;
        std::unique_lock lock(mutex);
        if (how_long > 0ns)
            never.wait_for(lock, stop_, how_long, [] { return false; });
    }

    const cat_arguments &a_;
    std::stop_token stop_;
    console out_{settings{}};
    std::optional<engine> engine_;
    cat_socket socket_;
};

// ---- the program ----

int say(const failure &f, likeness as, loudness speaks)
{
    auto lines = f.text.empty() ? std::string() : f.text + '\n';
    if (as == likeness::ours && speaks != loudness::silent) {
        if (!f.why.empty())
            lines += fmt::format("  why: {}\n", f.why);
        if (!f.fix.empty())
            lines += fmt::format("  fix: {}\n", f.fix);
    }
    std::fwrite(lines.data(), 1, lines.size(), stderr);
    return as == likeness::nngcat ? exit_failed : f.status;
}

int end(const cat_end &why, std::string_view called, likeness as)
{
    console out{settings{}};
    switch (why.what) {
    case cat_end::kind::refused:
        return say({.text = why.text, .status = exit_usage}, as, loudness::usual);
    case cat_end::kind::version:
        return out.print(SP_VERSION "\n") ? exit_done : exit_reader_gone();
    case cat_end::kind::help:
        break;
    }
    if (!out.print(cat_help(called, as)))
        return exit_reader_gone();
    return as == likeness::nngcat ? exit_failed : exit_done; // as there
}

} // namespace

int cat(std::string_view called, std::span<const std::string> words)
{
    const auto as = called == "nngcat" ? likeness::nngcat : likeness::ours;
    const auto arguments = parse_cat(words);
    if (!arguments)
        return end(arguments.error(), called, as);
    const interrupt interrupted;
    const auto done = conversation(*arguments, interrupted.token()).run();
    if (const auto status = interrupted.exit_status())
        return status;
    return done ? exit_done : say(done.error(), as, arguments->speaks);
}

} // namespace sp::cli
