// SPDX-License-Identifier: BSD-2-Clause
//
// What the tests of whole sockets share: a directory of their own for the paths of unix sockets, a
// watchdog instead of time-outs, children that can be killed, and a fixture that takes the census
// when a test is over: no message buffer is held by anybody, no thread is left.
#pragma once

#include "sp/sp.hpp"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <gtest/gtest.h>
#include <optional>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace sp::test {

using namespace std::chrono_literals;

// What a call may take that is expected to succeed: far more than it needs, less than the watchdog.
inline constexpr auto patience = 30s;

// Ends the process when a test takes longer than anything here can take. A signal, because a thread
// of our own would stand in the way of fork() and of counting threads.
class watchdog {
public:
    explicit watchdog(unsigned seconds = 90)
    {
        std::signal(SIGALRM, [](int) {
            constexpr char text[] = "the watchdog ended a test that hangs\n";
            (void)!::write(STDERR_FILENO, text, sizeof text - 1);
            std::abort();
        });
        ::alarm(seconds);
    }
    ~watchdog() { ::alarm(0); }
    watchdog(const watchdog &) = delete;
    watchdog &operator=(const watchdog &) = delete;
};

class scratch_directory {
public:
    scratch_directory()
    {
        auto name = (std::filesystem::temp_directory_path() / "sp-test-XXXXXX").string();
        if (!::mkdtemp(name.data()))
            throw std::runtime_error("cannot make " + name);
        path_ = name;
    }
    ~scratch_directory()
    {
        std::error_code gone;
        std::filesystem::remove_all(path_, gone);
    }
    scratch_directory(const scratch_directory &) = delete;
    scratch_directory &operator=(const scratch_directory &) = delete;

    [[nodiscard]] const std::filesystem::path &path() const { return path_; }
    [[nodiscard]] std::string file(const std::string &name) const
    {
        return (path_ / name).string();
    }

private:
    std::filesystem::path path_;
};

// A child process that runs `body` and says when it is ready. Killed and collected at the latest by
// the destructor.
class child {
public:
    class door // in the child
    {
    public:
        door(int in, int out) : in_(in), out_(out) {}
        void tell() const { (void)!::write(out_, "", 1); } // the parent's wait_ready() returns
        void wait() const                                  // for the parent's let_go()
        {
            char byte;
            (void)!::read(in_, &byte, 1);
        }

    private:
        int in_, out_;
    };

    explicit child(const std::function<int(door)> &body)
    {
        int to[2], from[2];
        if (::pipe(to) != 0 || ::pipe(from) != 0)
            throw std::runtime_error("no pipe");
        pid_ = ::fork();
        if (pid_ == 0) {
            ::close(to[1]);
            ::close(from[0]);
            ::alarm(90);
            std::_Exit(body(door(to[0], from[1])));
        }
        ::close(to[0]);
        ::close(from[1]);
        to_ = to[1];
        from_ = from[0];
    }
    ~child()
    {
        if (pid_ > 0)
            kill();
        ::close(to_);
        ::close(from_);
    }
    child(const child &) = delete;
    child &operator=(const child &) = delete;

    void let_go() const { (void)!::write(to_, "", 1); }
    // False: it ended without being ready.
    [[nodiscard]] bool wait_ready() const
    {
        char byte;
        return ::read(from_, &byte, 1) == 1;
    }
    int wait_end() // its exit status, 128+n for a signal
    {
        int status = 0;
        ::waitpid(pid_, &status, 0);
        pid_ = 0;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    void kill()
    {
        ::kill(pid_, SIGKILL);
        (void)wait_end();
    }
    void signal(int number) const { ::kill(pid_, number); }

private:
    pid_t pid_ = 0;
    int to_ = -1, from_ = -1;
};

inline std::size_t threads_now()
{
    // A sanitizer may start a thread of its own together with the first of ours.
    static const bool warm = (std::thread([] {}).join(), true);
    (void)warm;
    std::size_t n = 0;
    for ([[maybe_unused]] const auto &task : std::filesystem::directory_iterator("/proc/self/task"))
        ++n;
    return n;
}

// Waits for what will come about by itself; the watchdog bounds it.
inline void until(const std::function<bool()> &condition)
{
    while (!condition())
        std::this_thread::yield();
}

inline std::string told(const error &e)
{
    return 'S' + ('P' + std::to_string(e.number())) + ' ' + std::string(e.what()) + ": " +
           std::string(e.why());
}

// Unwraps what a test cannot go on without.
template <class T>
T must(result<T> r)
{
    if (!r)
        throw std::runtime_error(told(r.error()));
    if constexpr (!std::is_void_v<T>)
        return std::move(*r);
}

inline std::string text_of(const result<message> &m)
{
    return m ? std::string(m->text()) : "error " + told(m.error());
}

// Answers every request with its own body until it goes, and closes the socket then.
class echo {
public:
    explicit echo(rep &socket)
        : socket_(&socket), thread_([&socket] {
              const auto ended =
                  socket.serve([](const request &q) { return std::string(q.text()); });
              EXPECT_EQ(ended, errc::closed);
          })
    {
    }
    ~echo() { socket_->close(); }
    echo(const echo &) = delete;
    echo &operator=(const echo &) = delete;

private:
    rep *socket_;
    std::jthread thread_;
};

// A fixture with an engine of its own, gone without trace at the end of the test.
class on_one_host : public ::testing::Test {
protected:
    void SetUp() override
    {
        threads_before_ = threads_now();
        open_engine({});
    }
    void TearDown() override
    {
        if (engine_) {
            EXPECT_EQ(engine_->frames_in_use(), 0u) << "message buffers leaked";
            engine_.reset();
        }
        until([&] { return threads_now() == threads_before_; });
    }

    void open_engine(const engine_options &o)
    {
        engine_.reset();
        engine_.emplace(must(sp::engine::open(o)));
    }
    sp::engine &engine() { return *engine_; }
    void drop_engine() { engine_.reset(); }

    std::string file(const std::string &name) const { return directory_.file(name); }
    std::string url(const std::string &name = "socket") const { return "unixgram://" + file(name); }

    options at(options o = {}) { return o.on = &engine(), o; }
    sp::rep listening(options o = {}, const std::string &name = "socket")
    {
        const auto where = url(name);
        o.listen = where;
        return must(sp::rep::open(at(o)));
    }
    sp::req dialed(options o = {}, const std::string &name = "socket")
    {
        auto r = must(sp::req::open(at(o)));
        (void)must(r.dial(url(name), patience));
        return r;
    }
    std::uint64_t count(stat which) { return engine().statistics()[which]; }

private:
    watchdog watchdog_;
    scratch_directory directory_;
    std::size_t threads_before_ = 0;
    std::optional<sp::engine> engine_;
};

} // namespace sp::test
