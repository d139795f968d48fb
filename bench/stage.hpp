// SPDX-License-Identifier: BSD-2-Clause
//
// Two network namespaces as two hosts, joined by one veth pair per question, so that nobody's XDP
// program or queue is in another's way. They are named sp-bench-PID-a and -b; the names are bound
// in a mount namespace of this process alone, so nothing is visible outside and whatever ends the
// process (SIGKILL too) takes everything along. The calling process leaves the host's mounts for
// good.
#pragma once

#include "bench/pair.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <spawn.h>
#include <string>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

namespace sp::bench {

// NAME-a at 198.18.N.1 and NAME-b at 198.18.N.2, with MACs that need not be asked for.
struct veth {
    std::string name;
    unsigned number = 0;

    [[nodiscard]] std::string device(side at) const
    {
        return name + (at == side::asking ? "-a" : "-b");
    }
    [[nodiscard]] std::string address(side at) const
    {
        return "198.18." + std::to_string(number) + (at == side::asking ? ".1" : ".2");
    }
    [[nodiscard]] std::array<std::uint8_t, 6> mac(side at) const noexcept
    {
        return {2,
                0,
                0,
                0,
                static_cast<std::uint8_t>(number),
                static_cast<std::uint8_t>(at == side::asking ? 1 : 2)};
    }
};

class stage {
public:
    // The error says why this machine cannot.
    [[nodiscard]] static result<stage> build(std::span<const veth> links)
    {
        stage built;
        if (::geteuid() != 0)
            return failed("network namespaces need root");
        if (::unshare(CLONE_NEWNS) != 0 ||
            ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
            ::mount("sp-bench", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755") != 0 ||
            ::mkdir("/run/netns", 0755) != 0)
            return failed("no mount namespace of our own", std::strerror(errno));
        const fd home(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
        for (const auto at : both) {
            auto made = make_netns(name_of(at), home.get());
            if (!made)
                return std::unexpected(made.error());
            built.netns_[index(at)] = std::move(*made);
        }
        for (const auto &one : links)
            if (auto joined = built.join(one); !joined)
                return std::unexpected(joined.error());
        for (const auto &one : links)
            for (const auto at : both) {
                if (auto inside = built.enter(at); !inside)
                    return std::unexpected(inside.error());
                if (!comes_up(one.device(at)))
                    return failed("a veth does not come up");
            }
        if (::setns(home.get(), CLONE_NEWNET) != 0)
            return failed("cannot come back", std::strerror(errno));
        return built;
    }

    // The calling thread goes there to stay.
    [[nodiscard]] result<void> enter(side at) const
    {
        if (::setns(netns_[index(at)].get(), CLONE_NEWNET) != 0)
            return failed("cannot enter a network namespace", std::strerror(errno));
        return {};
    }

private:
    static constexpr std::array both{side::asking, side::answering};

    [[nodiscard]] static std::size_t index(side at) noexcept { return at == side::asking ? 0 : 1; }
    [[nodiscard]] static std::string name_of(side at)
    {
        static const std::string prefix = "sp-bench-" + std::to_string(::getpid());
        return prefix + (at == side::asking ? "-a" : "-b");
    }

    [[nodiscard]] static result<fd> make_netns(const std::string &name, int home)
    {
        const auto path = "/run/netns/" + name;
        if (::unshare(CLONE_NEWNET) != 0)
            return failed("no network namespaces", std::strerror(errno));
        fd made(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
        const fd file(::open(path.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444));
        const bool bound = file.get() >= 0 && ::mount("/proc/thread-self/ns/net", path.c_str(),
                                                      nullptr, MS_BIND, nullptr) == 0;
        const int why = errno;
        if (::setns(home, CLONE_NEWNET) != 0 || !bound)
            return failed("cannot keep a network namespace", std::strerror(why));
        return made;
    }

    // ip, in the namespace of this thread; words are separated by single spaces.
    [[nodiscard]] static result<void> ip(const std::string &words)
    {
        std::vector<std::string> each{"ip"};
        for (std::size_t at = 0; at < words.size();) {
            const auto end = std::min(words.find(' ', at), words.size());
            each.push_back(words.substr(at, end - at));
            at = end + 1;
        }
        std::vector<char *> argv;
        for (auto &word : each)
            argv.push_back(word.data());
        argv.push_back(nullptr);
        std::string path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
        std::array<char *, 2> environment{path.data(), nullptr};
        pid_t child = 0;
        int status = -1;
        if (::posix_spawnp(&child, "ip", nullptr, nullptr, argv.data(), environment.data()) != 0)
            return failed("the program ip is missing");
        while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
        return status == 0 ? result<void>() : failed("a call of ip failed", words.c_str());
    }

    // Unequal indices: the kernel takes a device whose index is that of its peer for one without a
    // lower device, and reports its carrier up to a second late.
    [[nodiscard]] result<void> join(const veth &one) const
    {
        if (auto inside = enter(side::asking); !inside)
            return inside;
        const auto end = [&](side at) {
            const auto mac = one.mac(at);
            char text[18];
            std::snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1],
                          mac[2], mac[3], mac[4], mac[5]);
            return one.device(at) + " address " + text + " index " +
                   std::to_string(10 + 2 * one.number + index(at)) + " mtu 1500";
        };
        auto done = ip("link add " + end(side::asking) + " type veth peer name " +
                       end(side::answering) + " netns /run/netns/" + name_of(side::answering));
        for (const auto at : both) {
            if (done)
                done = enter(at);
            for (const auto &words :
                 {std::string("link set lo up"),
                  "address add " + one.address(at) + "/24 dev " + one.device(at),
                  "link set " + one.device(at) + " up"})
                if (done)
                    done = ip(words);
        }
        return done;
    }

    [[nodiscard]] static bool comes_up(const std::string &device)
    {
        const fd asked(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        ifreq request{};
        device.copy(request.ifr_name, sizeof request.ifr_name - 1);
        constexpr int attempts = 3000; // one each millisecond
        for (int left = attempts; left > 0; --left) {
            if (::ioctl(asked.get(), SIOCGIFFLAGS, &request) == 0 &&
                (request.ifr_flags & IFF_RUNNING))
                return true;
            ::poll(nullptr, 0, 1);
        }
        return false;
    }

    std::array<fd, 2> netns_;
};

} // namespace sp::bench
