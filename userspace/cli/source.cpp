// SPDX-License-Identifier: BSD-2-Clause
//
// See source.hpp.
#include "userspace/cli/source.hpp"

#include "userspace/cli/text.hpp"
#include "userspace/cli/verb_table.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <mutex>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utility>

namespace sp::cli {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t body_max = 1 << 30; // no socket takes more
constexpr std::uint64_t random_max = 1 << 20;
constexpr auto debt_max = 1s; // of --rate: what was held up for longer is not caught up with

// In UTC: 2026-11-21T15:04:05.123456Z.
std::string time_text()
{
    const auto now = std::chrono::system_clock::now();
    const auto micros =
        std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch()).count();
    return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:06}Z",
                       fmt::gmtime(static_cast<std::time_t>(micros / 1'000'000)),
                       micros % 1'000'000);
}

std::string random_text(std::uint64_t length, std::mt19937_64 &random)
{
    constexpr std::string_view letters =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    std::uniform_int_distribution<std::size_t> any(0, letters.size() - 1);
    std::string text(std::min(length, random_max), '\0');
    std::ranges::generate(text, [&] { return letters[any(random)]; });
    return text;
}

std::optional<std::string> field_text(std::string_view name, std::uint64_t count,
                                      std::mt19937_64 &random)
{
    if (name == "count")
        return std::to_string(count);
    if (name == "time")
        return time_text();
    if (!name.starts_with("random:"))
        return std::nullopt;
    const auto length = parse_count(name.substr(name.find(':') + 1));
    return length ? std::optional(random_text(*length, random)) : std::nullopt;
}

error cannot_read(const std::string &what, int why)
{
    return error::numbered(why == ENOENT ? 2026 : 2037, "cannot read " + what, std::strerror(why));
}

} // namespace

std::string fill_in(const std::string &text, std::uint64_t count, std::mt19937_64 &random)
{
    std::string filled;
    for (std::size_t at = 0; at < text.size();) {
        const auto open = std::min(text.find('{', at), text.size());
        filled.append(text, at, open - at);
        const auto close = text.find('}', open);
        const auto field =
            close == text.npos
                ? std::nullopt
                : field_text(std::string_view(text).substr(open + 1, close - open - 1), count,
                             random);
        if (field)
            filled += *field;
        else
            filled.append(text, open, 1);
        at = field ? close + 1 : open + 1;
    }
    return filled;
}

input::input(int fd, std::stop_token stop)
    : fd_(fd), stopped_(::eventfd(0, EFD_CLOEXEC)), stop_(std::move(stop))
{
}

input::~input()
{
    ::close(stopped_);
    if (fd_ != STDIN_FILENO)
        ::close(fd_);
}

result<input::more> input::read_some()
{
    const std::stop_callback wake(stop_, [this] {
        const std::uint64_t one = 1;
        (void)!::write(stopped_, &one, sizeof one);
    });
    std::array<char, 65536> part;
    for (;;) {
        std::array<pollfd, 2> ready{{{fd_, POLLIN, 0}, {stopped_, POLLIN, 0}}};
        if (::poll(ready.data(), ready.size(), -1) < 0 && errno != EINTR)
            return std::unexpected(cannot_read("what is to be sent", errno));
        if (ready[1].revents)
            return more::ended;
        if (!ready[0].revents)
            continue;
        const auto n = ::read(fd_, part.data(), part.size());
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0)
            return std::unexpected(cannot_read("what is to be sent", errno));
        if (n == 0)
            return more::ended;
        text_.append(part.data(), static_cast<std::size_t>(n));
        if (text_.size() - taken_ > body_max)
            return std::unexpected(errc::message_too_large);
        return more::came;
    }
}

result<std::optional<std::string>> input::line()
{
    for (auto looked = taken_;;) {
        const auto newline = text_.find('\n', looked);
        if (newline != text_.npos) {
            auto found = text_.substr(taken_, newline - taken_);
            taken_ = newline + 1;
            return found;
        }
        text_.erase(0, std::exchange(taken_, 0));
        looked = text_.size();
        const auto read = read_some();
        if (!read)
            return std::unexpected(read.error());
        if (*read == more::came)
            continue;
        if (text_.empty() || stop_.stop_requested())
            return std::nullopt;
        return std::exchange(text_, {});
    }
}

result<std::string> input::rest()
{
    for (;;) {
        const auto read = read_some();
        if (!read)
            return std::unexpected(read.error());
        if (*read == more::ended)
            return std::exchange(text_, {});
    }
}

source::source(const message_arguments &arguments, std::stop_token stop)
    : arguments_(arguments), stop_(std::move(stop)), random_(std::random_device{}())
{
}

result<void> source::open()
{
    const auto &a = arguments_;
    const bool given = a.data || !a.file.empty();
    const bool read = !a.file.empty() || a.data == "-";
    if (!given && row_of(a.verb).does == conduct::both) {
        count_max_ = 0;
        return {};
    }
    if (!read)
        body_ = a.data.value_or("");
    else {
        const bool is_stdin = a.file.empty() || a.file == "-";
        const int fd = is_stdin ? STDIN_FILENO : ::open(a.file.c_str(), O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return std::unexpected(cannot_read(a.file, errno));
        input_.emplace(fd, stop_);
    }
    if (read && a.send_on == message_arguments::pieces::whole) {
        auto all = input_->rest();
        input_.reset();
        if (!all)
            return std::unexpected(all.error());
        body_ = std::move(*all);
    }
    if (!a.count && !input_)
        count_max_ = 1;
    else if (a.count.value_or(0) > 0)
        count_max_ = a.count;
    return {};
}

void source::pause_until(instant due)
{
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    never.wait_until(lock, stop_, due, [] { return false; });
}

// --rate is a time-table, --interval a pause.
void source::keep_pace()
{
    if (given_ > 0 && due_ > engine_clock::now())
        pause_until(due_);
    const auto now = engine_clock::now();
    if (arguments_.rate > 0) {
        const auto step = std::chrono::nanoseconds(1s) / arguments_.rate;
        due_ = std::max(given_ == 0 ? now : due_, now - debt_max) + step;
    }
}

result<std::optional<std::string>> source::next()
{
    if (count_max_ && given_ >= *count_max_)
        return std::nullopt;
    if (given_ == 0 && arguments_.delay > 0ns)
        pause_until(engine_clock::now() + arguments_.delay);
    if (given_ > 0 && arguments_.interval > 0ns)
        pause_until(engine_clock::now() + arguments_.interval);
    keep_pace();
    if (stop_.stop_requested())
        return std::nullopt;
    auto body = body_;
    if (input_) {
        auto line = input_->line();
        if (!line || !*line)
            return line;
        body = std::move(**line);
    }
    ++given_;
    return arguments_.with_template ? fill_in(body, given_, random_) : std::move(body);
}

} // namespace sp::cli
