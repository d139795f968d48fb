// SPDX-License-Identifier: BSD-2-Clause
//
// See command.hpp. One poll loop feeds stdin, drains stdout, watches for the end of the process
// (pidfd) and for a stop (eventfd); each command leads a process group of its own, so that ending
// it ends what it started.
#include "userspace/cli/command.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

namespace sp::cli {
namespace {

class descriptor {
public:
    explicit descriptor(int fd = -1) noexcept : fd_(fd) {}
    descriptor(descriptor &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    descriptor &operator=(descriptor &&other) noexcept
    {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~descriptor() { close(); }
    [[nodiscard]] int get() const noexcept { return fd_; }
    void close() noexcept
    {
        if (fd_ >= 0)
            ::close(std::exchange(fd_, -1));
    }

private:
    int fd_;
};

error failed(std::string what, int why)
{
    return error::numbered(why == ENOENT ? 2026 : 2037, std::move(what), std::strerror(why));
}

// Writing to a command that does not read must not end us.
class without_sigpipe {
public:
    without_sigpipe() noexcept
    {
        struct sigaction ignore = {};
        ignore.sa_handler = SIG_IGN;
        ::sigaction(SIGPIPE, &ignore, &before_);
    }
    ~without_sigpipe() { ::sigaction(SIGPIPE, &before_, nullptr); }
    without_sigpipe(const without_sigpipe &) = delete;
    without_sigpipe &operator=(const without_sigpipe &) = delete;

private:
    struct sigaction before_ = {};
};

// A child begins with no signal blocked or ignored, in a group of its own, with our pipes as its
// stdin and stdout.
class spawn_plan {
public:
    spawn_plan(int input, int output, bool errors_too)
    {
        posix_spawn_file_actions_init(&files_);
        posix_spawn_file_actions_adddup2(&files_, input, STDIN_FILENO);
        posix_spawn_file_actions_adddup2(&files_, output, STDOUT_FILENO);
        if (errors_too)
            posix_spawn_file_actions_adddup2(&files_, output, STDERR_FILENO);
        posix_spawnattr_init(&attributes_);
        sigset_t none, all;
        sigemptyset(&none);
        sigfillset(&all);
        posix_spawnattr_setsigmask(&attributes_, &none);
        posix_spawnattr_setsigdefault(&attributes_, &all);
        posix_spawnattr_setpgroup(&attributes_, 0);
        posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                   POSIX_SPAWN_SETPGROUP);
    }
    ~spawn_plan()
    {
        posix_spawnattr_destroy(&attributes_);
        posix_spawn_file_actions_destroy(&files_);
    }
    spawn_plan(const spawn_plan &) = delete;
    spawn_plan &operator=(const spawn_plan &) = delete;

    // Ordinary users have no sbin in PATH, and ip lives there.
    [[nodiscard]] result<pid_t> start(const std::vector<std::string> &words)
    {
        std::vector<char *> argv;
        argv.reserve(words.size() + 1);
        for (const auto &word : words)
            argv.push_back(const_cast<char *>(word.c_str()));
        argv.push_back(nullptr);
        pid_t child = 0;
        int why = ::posix_spawnp(&child, argv[0], &files_, &attributes_, argv.data(), environ);
        for (const char *folder : {"/usr/sbin/", "/sbin/", "/usr/local/sbin/"})
            if (why == ENOENT && !words[0].contains('/'))
                why = ::posix_spawn(&child, (folder + words[0]).c_str(), &files_, &attributes_,
                                    argv.data(), environ);
        if (why)
            return std::unexpected(failed("cannot run " + words[0], why));
        return child;
    }

private:
    posix_spawn_file_actions_t files_;
    posix_spawnattr_t attributes_;
};

struct pipe_ends {
    descriptor read, write;
};

result<pipe_ends> open_pipe()
{
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0)
        return std::unexpected(failed("cannot make a pipe", errno));
    return pipe_ends{descriptor(ends[0]), descriptor(ends[1])};
}

class conversation {
public:
    conversation(const command &what, pid_t child, descriptor input, descriptor output)
        : rest_(what.input), output_max_(what.output_max), child_(child), input_(std::move(input)),
          output_(std::move(output)), ended_(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)))
    {
        ::fcntl(input_.get(), F_SETFL, O_NONBLOCK);
        ::fcntl(output_.get(), F_SETFL, O_NONBLOCK);
    }

    // Ends with the process: what it left running in the background may hold the pipe for ever.
    [[nodiscard]] result<outcome> talk(int stopped)
    {
        for (;;) {
            feed();
            if (!drain())
                return std::unexpected(give_up(errc::message_too_large));
            std::array<pollfd, 4> ready{{{input_.get(), POLLOUT, 0},
                                         {output_.get(), POLLIN, 0},
                                         {ended_.get(), POLLIN, 0},
                                         {stopped, POLLIN, 0}}};
            if (::poll(ready.data(), ready.size(), -1) < 0 && errno != EINTR)
                return std::unexpected(give_up(errc::io_error));
            if (ready[3].revents)
                return std::unexpected(give_up(errc::canceled));
            if (!ready[2].revents)
                continue;
            if (!drain())
                return std::unexpected(give_up(errc::message_too_large));
            return outcome{reap(), std::move(text_)};
        }
    }

private:
    void feed()
    {
        while (input_.get() >= 0 && !rest_.empty()) {
            const auto n = ::write(input_.get(), rest_.data(), rest_.size());
            if (n < 0 && errno == EAGAIN)
                return;
            if (n < 0 && errno != EINTR)
                rest_ = {}; // it does not want to read, which is its right
            else if (n > 0)
                rest_.remove_prefix(static_cast<std::size_t>(n));
        }
        input_.close();
    }

    // False when there is more than may be.
    [[nodiscard]] bool drain()
    {
        std::array<char, 16384> part;
        while (output_.get() >= 0) {
            const auto n = ::read(output_.get(), part.data(), part.size());
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0 && errno == EAGAIN)
                return true;
            if (n <= 0) {
                output_.close();
                return true;
            }
            if (text_.size() + static_cast<std::size_t>(n) > output_max_)
                return false;
            text_.append(part.data(), static_cast<std::size_t>(n));
        }
        return true;
    }

    error give_up(errc code)
    {
        ::kill(-child_, SIGKILL);
        (void)reap();
        if (code == errc::message_too_large)
            return error::numbered(
                2007, "the command wrote more than " + std::to_string(output_max_) + " bytes",
                "an answer is one message; this request stays unanswered",
                "--set message_max=SIZE");
        return code;
    }

    [[nodiscard]] int reap() const
    {
        int status = 0;
        while (::waitpid(child_, &status, 0) < 0 && errno == EINTR) {
        }
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }

    std::string_view rest_; // of the input
    std::size_t output_max_;
    pid_t child_;
    descriptor input_, output_, ended_;
    std::string text_;
};

} // namespace

result<outcome> run(const command &what, std::stop_token stop)
{
    const without_sigpipe quiet;
    auto input = open_pipe(), output = open_pipe();
    if (!input || !output)
        return std::unexpected(input ? output.error() : input.error());
    const descriptor stopped(::eventfd(0, EFD_CLOEXEC));
    const std::stop_callback wake(stop, [&] {
        const std::uint64_t one = 1;
        (void)!::write(stopped.get(), &one, sizeof one);
    });
    auto child =
        spawn_plan(input->read.get(), output->write.get(), what.errors_too).start(what.words);
    if (!child)
        return std::unexpected(child.error());
    input->read.close();
    output->write.close();
    return conversation(what, *child, std::move(input->write), std::move(output->read))
        .talk(stopped.get());
}

} // namespace sp::cli
