// SPDX-License-Identifier: BSD-2-Clause
#include "tests/support/program.hpp"

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdexcept>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace sp::test {
namespace {

using clock = std::chrono::steady_clock;
constexpr auto patience = std::chrono::seconds(30); // far more than anything here needs

int remaining_ms(clock::time_point deadline)
{
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock::now()).count();
    return left > 0 ? static_cast<int>(left) : 0;
}

// A file in memory: it can hold any input without somebody who writes it.
int file_with(std::string_view input)
{
    const int fd = ::memfd_create("stdin", MFD_CLOEXEC);
    if (fd < 0 || ::write(fd, input.data(), input.size()) != static_cast<ssize_t>(input.size()))
        throw std::runtime_error("cannot prepare stdin");
    ::lseek(fd, 0, SEEK_SET);
    return fd;
}

words environment_with(const words &more)
{
    words all;
    for (char **each = environ; *each; ++each) {
        const std::string_view entry = *each;
        if (!entry.starts_with("SP_") && !entry.starts_with("NO_COLOR="))
            all.emplace_back(entry);
    }
    all.insert(all.end(), more.begin(), more.end());
    return all;
}

std::vector<char *> pointers(const words &text)
{
    std::vector<char *> all;
    for (const auto &word : text)
        all.push_back(const_cast<char *>(word.c_str()));
    all.push_back(nullptr);
    return all;
}

} // namespace

std::string built(const std::string &name)
{
    const char *folder = std::getenv("SP_BUILD");
    return std::string(folder ? folder : "build") + '/' + name;
}

program::program(const words &argv, const words &environment, std::string_view input)
{
    int out[2], err[2];
    if (::pipe2(out, O_CLOEXEC) != 0 || ::pipe2(err, O_CLOEXEC) != 0)
        throw std::runtime_error("no pipes");
    const int in = file_with(input);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, in, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, out[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, err[1], STDERR_FILENO);
    const auto variables = environment_with(environment);
    const int failed = ::posix_spawnp(&pid_, argv.front().c_str(), &files, nullptr,
                                      pointers(argv).data(), pointers(variables).data());
    posix_spawn_file_actions_destroy(&files);
    for (const int fd : {in, out[1], err[1]})
        ::close(fd);
    out_fd_ = out[0];
    err_fd_ = err[0];
    if (failed) {
        close_all();
        throw std::runtime_error(argv.front() + ": " + std::strerror(failed));
    }
}

program::~program()
{
    if (pid_ > 0) {
        ::kill(pid_, SIGKILL);
        (void)reap();
    }
    close_all();
}

bool program::read_some(int timeout_ms)
{
    std::array<pollfd, 2> ready{{{out_fd_, POLLIN, 0}, {err_fd_, POLLIN, 0}}};
    if (out_fd_ < 0 && err_fd_ < 0)
        return false;
    if (::poll(ready.data(), ready.size(), timeout_ms) <= 0)
        return false;
    std::array<char, 8192> part;
    for (unsigned i = 0; i < ready.size(); ++i) {
        if (!ready[i].revents)
            continue;
        int &fd = i == 0 ? out_fd_ : err_fd_;
        const auto n = ::read(fd, part.data(), part.size());
        if (n > 0)
            (i == 0 ? out_ : err_).append(part.data(), static_cast<std::size_t>(n));
        else
            ::close(std::exchange(fd, -1));
    }
    return true;
}

bool program::says(std::string_view text)
{
    const auto deadline = clock::now() + patience;
    while (!out_.contains(text) && !err_.contains(text))
        if (!read_some(remaining_ms(deadline)))
            return false;
    return true;
}

void program::signal(int number) const
{
    ::kill(pid_, number);
}

finished program::wait()
{
    const auto deadline = clock::now() + patience;
    while (read_some(remaining_ms(deadline))) {
    }
    const bool ended = out_fd_ < 0 && err_fd_ < 0;
    if (!ended)
        ::kill(pid_, SIGKILL);
    const int status = reap();
    return {ended ? status : -1, out_, err_};
}

void program::close_all() noexcept
{
    for (int *fd : {&out_fd_, &err_fd_})
        if (*fd >= 0)
            ::close(std::exchange(*fd, -1));
}

int program::reap() noexcept
{
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

finished run(const words &argv, const words &environment, std::string_view input)
{
    return program(argv, environment, input).wait();
}

} // namespace sp::test
