// SPDX-License-Identifier: BSD-2-Clause
#include "tests/interop/nng.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <gtest/gtest.h>
#include <mutex>
#include <spawn.h>
#include <stdexcept>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace sp::test {

// The process itself: started with the first socket, killed and collected after the last. There is
// no thread for it on this side. Channels are made as they are needed, and kept for the next call.
class nng_process {
public:
    nng_process();
    ~nng_process();
    nng_process(const nng_process &) = delete;
    nng_process &operator=(const nng_process &) = delete;

    // Throws unless there is an answer.
    [[nodiscard]] nng_frame call(const nng_head &head, std::string_view text = {},
                                 std::string_view body = {});
    // For what closes a socket or a context: with the process, if libnng hangs.
    void end(const nng_head &head) noexcept;

    [[nodiscard]] pid_t pid() const noexcept { return pid_; }

private:
    enum class state : std::uint8_t { running, ended, killed };

    [[nodiscard]] std::expected<nng_frame, nng_silence>
    exchange(const nng_head &head, std::string_view text, std::string_view body, nng_wait patience);
    [[nodiscard]] std::expected<descriptor, nng_silence> take_channel();
    [[nodiscard]] std::string why_gone(const nng_head &head);
    [[nodiscard]] state now();
    void kill();
    void collect(int flags); // as of waitpid(2)

    pid_t pid_ = 0;
    descriptor control_;
    std::mutex mutex_; // of what follows
    std::vector<descriptor> idle_;
    state state_ = state::running;
    int status_ = 0; // when it has ended, as a shell has it: 128 + n for a signal
};

namespace {

// What a call may take beyond libnng's own time-out; then it hangs.
constexpr nng_wait answer_margin = std::chrono::seconds(10);

std::string program_path()
{
    return std::filesystem::read_symlink("/proc/self/exe").parent_path() / "nng-process";
}

std::pair<descriptor, descriptor> two_ends()
{
    std::array<int, 2> fds;
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) != 0)
        throw std::runtime_error(std::string("socketpair: ") + std::strerror(errno));
    return {descriptor(fds[0]), descriptor(fds[1])};
}

std::string name_of(const nng_head &head)
{
    return nng_op_names.at(std::to_underlying(head.op));
}

} // namespace

nng_process::nng_process()
{
    auto [ours, theirs] = two_ends();
    const auto path = program_path();
    std::array argv{const_cast<char *>(path.c_str()), static_cast<char *>(nullptr)};
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, theirs.get(), STDIN_FILENO);
    const int failed = ::posix_spawn(&pid_, path.c_str(), &files, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&files);
    if (failed != 0)
        throw std::runtime_error(path + ": " + std::strerror(failed));
    control_ = std::move(ours);
}

nng_process::~nng_process()
{
    if (now() != state::running)
        return;
    collect(WNOHANG);
    if (now() == state::ended) // and no call was there to tell it
        ADD_FAILURE() << "libnng's process ended by itself with status " << status_;
    kill();
}

nng_frame nng_process::call(const nng_head &head, std::string_view text, std::string_view body)
{
    auto answer = exchange(head, text, body, head.how_long + answer_margin);
    if (answer)
        return std::move(*answer);
    if (answer.error() == nng_silence::late)
        throw std::runtime_error("libnng has not come back from " + name_of(head) + " in " +
                                 std::to_string((head.how_long + answer_margin).count()) + " ms");
    throw std::runtime_error(why_gone(head));
}

void nng_process::end(const nng_head &head) noexcept
try {
    if (now() != state::running) // everything in it is closed; a call has told, or the note
        return;
    const auto answer = exchange(head, {}, {}, head.how_long);
    if (answer) {
        nng_must(answer->head.code, name_of(head));
    } else if (answer.error() == nng_silence::late) {
        kill();
        EXPECT_TRUE(nng_does::hang_in_close) << name_of(head);
        std::printf("note: libnng did not end by itself, its process was killed\n");
        std::fflush(stdout);
    } else if (now() != state::killed) { // by a close in another thread
        ADD_FAILURE() << why_gone(head);
    }
} catch (const std::exception &e) {
    ADD_FAILURE() << e.what();
}

std::expected<nng_frame, nng_silence> nng_process::exchange(const nng_head &head,
                                                            std::string_view text,
                                                            std::string_view body,
                                                            nng_wait patience)
{
    const auto until = std::chrono::steady_clock::now() + patience;
    auto channel = take_channel();
    if (!channel)
        return std::unexpected(channel.error());
    if (const auto sent = send_frame(*channel, head, text, body, until); !sent)
        return std::unexpected(sent.error());
    auto answer = receive_frame(*channel, until);
    if (answer) { // otherwise a late answer might come to another call
        const std::lock_guard lock(mutex_);
        idle_.push_back(std::move(*channel));
    }
    return answer;
}

std::expected<descriptor, nng_silence> nng_process::take_channel()
{
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
        auto channel = std::move(idle_.back());
        idle_.pop_back();
        return channel;
    }
    auto [ours, theirs] = two_ends();
    if (const auto sent = send_channel(control_, theirs); !sent)
        return std::unexpected(sent.error());
    return std::move(ours);
}

std::string nng_process::why_gone(const nng_head &head)
{
    if (now() == state::killed)
        return "libnng's process was killed when it did not close, before " + name_of(head);
    collect(0);
    return "libnng's process ended with status " + std::to_string(status_) + " in " + name_of(head);
}

nng_process::state nng_process::now()
{
    const std::lock_guard lock(mutex_);
    return state_;
}

void nng_process::kill()
{
    const std::lock_guard lock(mutex_);
    if (state_ != state::running)
        return;
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
    state_ = state::killed;
}

void nng_process::collect(int flags)
{
    const std::lock_guard lock(mutex_);
    int status = 0;
    if (state_ != state::running || ::waitpid(pid_, &status, flags) != pid_)
        return;
    state_ = state::ended;
    status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// ---- sockets and contexts -----------------------------------------------------------------------

std::string nng_name(int code)
{
    static constexpr std::array<std::pair<int, const char *>, 31> names{{
        {0, "success"},
        {NNG_EINTR, "NNG_EINTR"},
        {NNG_ENOMEM, "NNG_ENOMEM"},
        {NNG_EINVAL, "NNG_EINVAL"},
        {NNG_EBUSY, "NNG_EBUSY"},
        {NNG_ETIMEDOUT, "NNG_ETIMEDOUT"},
        {NNG_ECONNREFUSED, "NNG_ECONNREFUSED"},
        {NNG_ECLOSED, "NNG_ECLOSED"},
        {NNG_EAGAIN, "NNG_EAGAIN"},
        {NNG_ENOTSUP, "NNG_ENOTSUP"},
        {NNG_EADDRINUSE, "NNG_EADDRINUSE"},
        {NNG_ESTATE, "NNG_ESTATE"},
        {NNG_ENOENT, "NNG_ENOENT"},
        {NNG_EPROTO, "NNG_EPROTO"},
        {NNG_EUNREACHABLE, "NNG_EUNREACHABLE"},
        {NNG_EADDRINVAL, "NNG_EADDRINVAL"},
        {NNG_EPERM, "NNG_EPERM"},
        {NNG_EMSGSIZE, "NNG_EMSGSIZE"},
        {NNG_ECONNABORTED, "NNG_ECONNABORTED"},
        {NNG_ECONNRESET, "NNG_ECONNRESET"},
        {NNG_ECANCELED, "NNG_ECANCELED"},
        {NNG_ENOFILES, "NNG_ENOFILES"},
        {NNG_ENOSPC, "NNG_ENOSPC"},
        {NNG_EEXIST, "NNG_EEXIST"},
        {NNG_EREADONLY, "NNG_EREADONLY"},
        {NNG_EWRITEONLY, "NNG_EWRITEONLY"},
        {NNG_EPEERAUTH, "NNG_EPEERAUTH"},
        {NNG_ENOARG, "NNG_ENOARG"},
        {NNG_EBADTYPE, "NNG_EBADTYPE"},
        {NNG_ECONNSHUT, "NNG_ECONNSHUT"},
        {NNG_EINTERNAL, "NNG_EINTERNAL"},
    }};
    const auto found = std::ranges::find(names, code, &std::pair<int, const char *>::first);
    return found == names.end() ? "error " + std::to_string(code) : found->second;
}

void nng_must(int code, const std::string &what)
{
    if (code != 0)
        throw std::runtime_error(what + ": libnng says " + nng_name(code));
}

namespace {

nng_mail mail_of(nng_frame answer)
{
    return {.error = answer.head.code,
            .body = std::move(answer.body),
            .header = std::move(answer.text),
            .pipe = answer.head.id};
}

} // namespace

nng_peer::nng_peer(nng_role role) : nng_peer(role, std::make_shared<nng_process>()) {}

nng_peer::nng_peer(nng_role role, const nng_peer &beside) : nng_peer(role, beside.process_) {}

nng_peer::nng_peer(nng_role role, std::shared_ptr<nng_process> in) : process_(std::move(in))
{
    const auto opened = ask(nng_op::open, {}, std::to_underlying(role));
    nng_must(opened.head.code, "open");
    id_ = opened.head.id;
}

// What has no time-out of its own in libnng.
nng_frame nng_peer::ask(nng_op op, std::string_view text, std::int64_t value) const
{
    return process_->call({.op = op, .id = id_, .value = value, .how_long = nng_patience}, text);
}

std::string nng_peer::listen(const std::string &url)
{
    const auto answer = ask(nng_op::listen, url);
    nng_must(answer.head.code, "listen on " + url);
    return answer.text;
}

int nng_peer::try_listen(const std::string &url)
{
    return ask(nng_op::listen, url).head.code;
}

int nng_peer::try_dial(const std::string &url)
{
    return ask(nng_op::dial, url).head.code;
}

void nng_peer::dial(const std::string &url)
{
    nng_must(try_dial(url), "dial " + url);
}

void nng_peer::dial_on(const std::string &url)
{
    nng_must(ask(nng_op::dial_on, url).head.code, "dial " + url);
}

void nng_peer::close(nng_wait how_long) noexcept
{
    if (id_ != 0)
        process_->end({.op = nng_op::close, .id = std::exchange(id_, 0), .how_long = how_long});
}

void nng_peer::join_by_device(const nng_peer &other)
{
    if (process_ != other.process_)
        throw std::runtime_error("a device of libnng is of one process");
    nng_must(ask(nng_op::device, {}, other.id_).head.code, "device");
}

void nng_peer::set(const char *option, nng_wait value)
{
    nng_must(ask(nng_op::set_ms, option, value.count()).head.code, option);
}

void nng_peer::set(const char *option, int value)
{
    nng_must(ask(nng_op::set_int, option, value).head.code, option);
}

void nng_peer::set_size(const char *option, std::size_t value)
{
    nng_must(ask(nng_op::set_size, option, static_cast<std::int64_t>(value)).head.code, option);
}

void nng_peer::subscribe(std::string_view topic)
{
    nng_must(ask(nng_op::subscribe, topic).head.code, "subscribe");
}

int nng_peer::send(std::string_view body, nng_wait how_long)
{
    return send_with({}, body, how_long);
}

int nng_peer::send_with(std::string_view header, std::string_view body, nng_wait how_long)
{
    return process_->call({.op = nng_op::send, .id = id_, .how_long = how_long}, header, body)
        .head.code;
}

nng_mail nng_peer::recv(nng_wait how_long)
{
    return mail_of(process_->call({.op = nng_op::receive, .id = id_, .how_long = how_long}));
}

void nng_peer::wait_pipes(std::size_t count) const
{
    const auto now = ask(nng_op::wait_pipes, {}, static_cast<std::int64_t>(count)).head;
    nng_must(now.code,
             "libnng has " + std::to_string(now.value) + " pipes, not " + std::to_string(count));
}

void nng_peer::wait_pipes_ever(std::size_t count) const
{
    const auto ever = ask(nng_op::wait_pipes_ever, {}, static_cast<std::int64_t>(count)).head;
    nng_must(ever.code, "libnng has had " + std::to_string(ever.value) + " pipes");
}

std::size_t nng_peer::pipes() const
{
    return static_cast<std::size_t>(ask(nng_op::pipes).head.value);
}

std::size_t nng_peer::pipes_ever() const
{
    return static_cast<std::size_t>(ask(nng_op::pipes_ever).head.value);
}

pid_t nng_peer::pid() const
{
    return process_->pid();
}

nng_context::nng_context(const nng_peer &of) : process_(of.process_)
{
    const auto opened = of.ask(nng_op::context_open);
    nng_must(opened.head.code, "nng_ctx_open");
    id_ = opened.head.id;
}

nng_context::~nng_context()
{
    process_->end({.op = nng_op::context_close, .id = id_, .how_long = nng_close_patience});
}

int nng_context::send(std::string_view body, nng_wait how_long)
{
    return process_->call({.op = nng_op::context_send, .id = id_, .how_long = how_long}, {}, body)
        .head.code;
}

nng_mail nng_context::recv(nng_wait how_long)
{
    return mail_of(
        process_->call({.op = nng_op::context_receive, .id = id_, .how_long = how_long}));
}

} // namespace sp::test
