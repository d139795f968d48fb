// SPDX-License-Identifier: BSD-2-Clause
//
// See sink.hpp.
#include "userspace/cli/sink.hpp"

#include "userspace/cli/text.hpp"
#include "userspace/cli/verb_table.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fmt/format.h>
#include <unistd.h>

namespace sp::cli {
namespace {

// A terminal obeys control characters, whoever sent them.
std::string for_terminal(std::string_view body)
{
    std::string text(body);
    std::ranges::replace_if(
        text, [](unsigned char c) { return (c < 0x20 && c != '\t' && c != '\n') || c == 0x7f; },
        '.');
    return text;
}

error cannot_write(const std::string &path, int why)
{
    return error::numbered(2037, "cannot write " + path, std::strerror(why),
                           why == EEXIST ? "an empty directory: nothing is overwritten" : "");
}

bool write_all(int fd, std::string_view bytes)
{
    while (!bytes.empty()) {
        const auto n = ::write(fd, bytes.data(), bytes.size());
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0)
            bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
}

} // namespace

sink::sink(const message_arguments &arguments, console &out)
    : arguments_(arguments), out_(out),
      schema_(fmt::format("sp.{}/1", row_of(arguments.verb).name)),
      told_at_(std::chrono::steady_clock::now())
{
}

sink::~sink()
{
    finish();
}

result<void> sink::open()
{
    std::error_code why;
    if (!arguments_.dump.empty() && !std::filesystem::create_directories(arguments_.dump, why) &&
        why)
        return std::unexpected(cannot_write(arguments_.dump, why.value()));
    if (arguments_.rate_only)
        teller_ = std::jthread([this](const std::stop_token &stop) { tell_rates(stop); });
    return {};
}

result<void> sink::take(const shown &message)
{
    if (arguments_.rate_only) {
        const std::scoped_lock lock(mutex_);
        ++all_.messages;
        all_.bytes += message.body.size();
        return unread_ ? result<void>(std::unexpected(errc::closed)) : result<void>();
    }
    std::string file;
    if (!arguments_.dump.empty()) {
        auto written = write_file(message);
        if (!written)
            return std::unexpected(written.error());
        file = std::move(*written);
    }
    const bool read = out_.json() ? show_json(message, file) : show(message, file);
    return read ? result<void>() : std::unexpected(errc::closed);
}

// Numbered as they came, so that they sort; what is there already stays as it is.
result<std::string> sink::write_file(const shown &message) const
{
    auto path = fmt::format("{}/{:08}", arguments_.dump, message.sequence);
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return std::unexpected(cannot_write(path, errno));
    const bool written = write_all(fd, message.body);
    const int why = errno;
    if (::close(fd) != 0 || !written)
        return std::unexpected(cannot_write(path, written ? errno : why));
    return path;
}

bool sink::show(const shown &m, const std::string &file)
{
    if (out_.verbose()) {
        auto line = fmt::format("{}: {} bytes over {}", m.sequence, m.body.size(), m.transport);
        if (!m.peer.empty())
            line += " from " + m.peer;
        if (m.microseconds >= 0)
            line += fmt::format(" in {:.1f} us", m.microseconds);
        if (!file.empty())
            line += " to " + file;
        out_.detail(line);
    }
    if (!file.empty())
        return true;
    const auto how = arguments_.format;
    if (how == body_format::text && out_.to_terminal())
        return out_.print(render(for_terminal(m.body), how));
    auto row = render(m.body, how);
    if (how == body_format::ascii) // one row per message, unlike nngcat
        row += '\n';
    return out_.print(row);
}

bool sink::show_json(const shown &m, const std::string &file)
{
    json::object members{
        {"seq", m.sequence}, {"transport", m.transport}, {"bytes", std::uint64_t{m.body.size()}}};
    if (!m.peer.empty())
        members.push_back({"peer", m.peer});
    if (m.microseconds >= 0)
        members.push_back({"microseconds", m.microseconds});
    if (!file.empty())
        members.push_back({"file", file});
    else if (arguments_.format == body_format::hex || !is_text(m.body))
        members.push_back({"body_hex", hex_digits(m.body)});
    else if (arguments_.format != body_format::none)
        members.push_back({"body", m.body});
    return out_.object(schema_, exit_done, std::move(members)) == exit_done;
}

void sink::tell_rates(const std::stop_token &stop)
{
    using namespace std::chrono_literals;
    std::unique_lock lock(mutex_);
    while (!over_.wait_until(lock, stop, told_at_ + 1s, [&] { return stop.stop_requested(); }) &&
           !stop.stop_requested())
        tell_rate();
}

void sink::tell_rate()
{
    const auto now = std::chrono::steady_clock::now();
    const auto seconds = std::chrono::duration<double>(now - told_at_).count();
    const total part{all_.messages - told_.messages, all_.bytes - told_.bytes};
    const auto per_second = [&](std::uint64_t n) {
        return seconds > 0 ? static_cast<double>(n) / seconds : 0;
    };
    told_ = all_;
    told_at_ = now;
    const bool read = out_.json()
                          ? out_.object("sp.rate/1", exit_done,
                                        {{"seconds", seconds},
                                         {"messages", part.messages},
                                         {"bytes", part.bytes},
                                         {"messages_per_second", per_second(part.messages)},
                                         {"bytes_per_second", per_second(part.bytes)},
                                         {"messages_in_all", all_.messages}}) == exit_done
                          : out_.print(fmt::format("{:.0f} messages/s {:.0f} bytes/s, {} in all\n",
                                                   per_second(part.messages),
                                                   per_second(part.bytes), all_.messages));
    unread_ = unread_ || !read;
}

void sink::finish()
{
    if (!teller_.joinable())
        return;
    teller_.request_stop();
    teller_.join();
    const std::scoped_lock lock(mutex_);
    if (all_.messages > told_.messages && !unread_)
        tell_rate();
}

} // namespace sp::cli
