// SPDX-License-Identifier: BSD-2-Clause
#include "tests/net/hosts.hpp"

#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <spawn.h>
#include <stdexcept>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace sp::test {
namespace {

constexpr std::string_view netns_directory = "/run/netns";
constexpr std::string_view name_prefix = "sp-test-";

std::string errno_text(std::string_view what)
{
    return std::string(what) + ": " + std::strerror(errno);
}

int must_open(const std::string &path)
{
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        throw std::runtime_error(errno_text(path));
    return fd;
}

std::string must_command(const std::vector<std::string> &argv)
{
    const auto done = command(argv);
    if (done.status == 0)
        return done.output;
    std::string line;
    for (const auto &word : argv)
        line += word + ' ';
    throw std::runtime_error(line + "ended with " + std::to_string(done.status) + ": " +
                             done.output);
}

std::string drain(int fd)
{
    std::string text;
    char part[4096];
    for (;;) {
        const auto n = read(fd, part, sizeof part);
        if (n > 0)
            text.append(part, static_cast<std::size_t>(n));
        else if (n == 0 || errno != EINTR)
            return text;
    }
}

// The process id in sp-test-PID-N-a, or 0 for any other name.
pid_t maker_of(std::string_view name)
{
    if (!name.starts_with(name_prefix))
        return 0;
    name.remove_prefix(name_prefix.size());
    pid_t pid = 0;
    const auto [end, bad] = std::from_chars(name.data(), name.data() + name.size(), pid);
    return bad == std::errc{} && end != name.data() + name.size() && *end == '-' ? pid : 0;
}

// Two tests may do this at once: a name that is gone by now is no failure.
void remove_stale()
{
    std::error_code none;
    for (const auto &entry : std::filesystem::directory_iterator(netns_directory, none)) {
        const auto name = entry.path().filename().string();
        const auto pid = maker_of(name);
        if (pid > 0 && kill(pid, 0) < 0 && errno == ESRCH)
            command({"ip", "netns", "del", name});
    }
}

bool running(const std::string &interface)
{
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        throw std::runtime_error(errno_text("socket"));
    ifreq request{};
    interface.copy(request.ifr_name, sizeof request.ifr_name - 1);
    const bool asked = ioctl(fd, SIOCGIFFLAGS, &request) == 0;
    close(fd);
    return asked && (request.ifr_flags & IFF_RUNNING) != 0;
}

std::string try_once()
{
    if (geteuid() != 0)
        return "network namespaces need root";
    try {
        const hosts probe;
    } catch (const std::exception &e) {
        return std::string("no network namespaces with veth here: ") + e.what();
    }
    return {};
}

} // namespace

outcome command(const std::vector<std::string> &argv)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        throw std::runtime_error(errno_text("pipe2"));
    std::vector<char *> words;
    for (const auto &word : argv)
        words.push_back(const_cast<char *>(word.c_str()));
    words.push_back(nullptr);
    char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
         language[] = "LC_ALL=C";
    char *environment[] = {path, language, nullptr};

    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, ends[1], STDERR_FILENO);
    pid_t child = 0;
    int failed = ENOENT;
    if (argv.front().contains('/'))
        failed = posix_spawn(&child, words[0], &files, nullptr, words.data(), environment);
    for (const char *folder : {"/usr/sbin/", "/usr/bin/", "/sbin/", "/bin/", "/usr/local/bin/"})
        if (failed == ENOENT && !argv.front().contains('/'))
            failed = posix_spawn(&child, (folder + argv.front()).c_str(), &files, nullptr,
                                 words.data(), environment);
    posix_spawn_file_actions_destroy(&files);
    close(ends[1]);
    if (failed != 0) {
        close(ends[0]);
        return {127, argv.front() + ": " + std::strerror(failed)};
    }
    auto output = drain(ends[0]);
    close(ends[0]);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), std::move(output)};
}

enter::enter(int netns_fd) : back_(must_open("/proc/thread-self/ns/net"))
{
    if (setns(netns_fd, CLONE_NEWNET) < 0) {
        close(back_);
        throw std::runtime_error(errno_text("setns"));
    }
}

enter::~enter()
{
    // Staying inside would make every later test lie about where it runs.
    if (setns(back_, CLONE_NEWNET) < 0)
        std::abort();
    close(back_);
}

const std::string &hosts::why_not()
{
    static const std::string reason = try_once();
    return reason;
}

hosts::hosts(wiring how)
{
    static std::atomic<unsigned> made{0};
    number_ = made++ % 256;
    remove_stale();
    for (const auto which : {host::a, host::b})
        sides_[index(which)].name = std::string(name_prefix) + std::to_string(getpid()) + '-' +
                                    std::to_string(number_) + (which == host::a ? "-a" : "-b");
    try {
        build(how);
    } catch (...) {
        remove();
        throw;
    }
}

hosts::~hosts()
{
    remove();
}

void hosts::join(wiring how)
{
    // Unequal indices: the kernel takes a device whose index is that of its peer for one without a
    // lower device, and reports its carrier up to a second late.
    if (how == wiring::direct) {
        must_run(host::a,
                 {"ip", "link", "add", "veth-a", "index", "11", "mtu", "1500", "type", "veth",
                  "peer", "name", "veth-b", "index", "12", "mtu", "1500", "netns", name(host::b)});
        return;
    }
    middle_.name = sides_[0].name.substr(0, sides_[0].name.size() - 1) + 'm';
    must_command({"ip", "netns", "add", middle_.name});
    middle_.netns = must_open(std::string(netns_directory) + '/' + middle_.name);
    const auto inside = enter(middle_.netns);
    // The bridge's own ends say nothing.
    std::ofstream("/proc/sys/net/ipv6/conf/default/disable_ipv6") << 1;
    std::string index = "11", peer = "21";
    for (const auto which : {host::a, host::b}) {
        const std::string mid = which == host::a ? "mid-a" : "mid-b";
        must_command({"ip", "link", "add", mid, "index", peer, "mtu", "1500", "type", "veth",
                      "peer", "name", interface(which), "index", index, "mtu", "1500", "netns",
                      name(which)});
        must_command({"ip", "link", "set", mid, "up"});
        index = "12";
        peer = "22";
    }
}

void hosts::build(wiring how)
{
    for (auto &one : sides_) {
        must_command({"ip", "netns", "add", one.name});
        one.netns = must_open(std::string(netns_directory) + '/' + one.name);
    }
    join(how);
    set_up();
}

void hosts::plug_in()
{
    join(wiring::direct);
    set_up();
}

void hosts::set_up()
{
    for (const auto which : {host::a, host::b}) {
        const auto device = interface(which);
        must_run(which, {"ip", "address", "add", address(which) + "/24", "dev", device});
        must_run(which, {"ip", "address", "add", address(which, AF_INET6) + "/64", "dev", device,
                         "nodad"});
        must_run(which, {"ip", "link", "set", "lo", "up"});
        must_run(which, {"ip", "link", "set", device, "up"});
        const auto inside = in(which);
        sides_[index(which)].ifindex = if_nametoindex(device.c_str());
    }
    wait_for_link();
}

void hosts::remove() noexcept
{
    for (auto *one : {&sides_[0], &sides_[1], &middle_}) {
        if (one->netns < 0)
            continue;
        close(one->netns);
        one->netns = -1;
        command({"ip", "netns", "del", one->name});
    }
}

std::string hosts::address(host which, int family) const
{
    const std::string last = which == host::a ? "1" : "2";
    const auto middle = std::to_string(number_);
    return family == AF_INET6 ? "fd00:5370:" + middle + "::" + last
                              : "198.18." + middle + '.' + last;
}

outcome hosts::run(host which, const std::vector<std::string> &argv) const
{
    const auto inside = in(which);
    return command(argv);
}

std::string hosts::must_run(host which, const std::vector<std::string> &argv) const
{
    const auto inside = in(which);
    return must_command(argv);
}

void hosts::wait_for_link() const
{
    constexpr int attempts = 2000; // one each millisecond
    for (const auto which : {host::a, host::b}) {
        const auto inside = in(which);
        int left = attempts;
        while (!running(interface(which))) {
            if (--left == 0)
                throw std::runtime_error(interface(which) + " does not come up");
            poll(nullptr, 0, 1);
        }
    }
}

} // namespace sp::test
