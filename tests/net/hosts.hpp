// SPDX-License-Identifier: BSD-2-Clause
//
// Two hosts on one machine: two network namespaces joined by a veth pair whose ends are made inside
// them, or by two pairs to a third namespace where a bridge of the test's own stands between them.
// Nothing ever appears in the namespace the test was started in. An object owns both;
// its destructor removes them, and the next object removes what a killed test left. Setting up
// throws std::runtime_error with the words of the command that failed, which GoogleTest reports; a
// machine that cannot do it at all says so in why_not().
//
// A thread enters a namespace by setns(CLONE_NEWNET). `ip netns exec` would also change the mount
// namespace and hide the BPF file system.
#pragma once

#include <gtest/gtest.h>
#include <optional>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <vector>

namespace sp::test {

enum class host : unsigned { a, b };
enum class wiring : unsigned { direct, through_a_middle };

// A command that has ended: its exit status (128+n for a signal) and what it wrote to stdout and
// stderr.
struct outcome {
    int status;
    std::string output;
};

// Runs argv[0], found in PATH or the sbin directories, in the network namespace of the calling
// thread. No shell.
outcome command(const std::vector<std::string> &argv);

// The calling thread is in another network namespace for as long as this lives. Leave in the thread
// that entered.
class enter {
public:
    explicit enter(int netns_fd);
    ~enter();
    enter(const enter &) = delete;
    enter &operator=(const enter &) = delete;

private:
    int back_;
};

class hosts {
public:
    // Why this machine cannot make hosts, in words for GTEST_SKIP(); empty when it can. Found out
    // once.
    [[nodiscard]] static const std::string &why_not();

    explicit hosts(wiring how = wiring::direct);
    ~hosts();
    hosts(const hosts &) = delete;
    hosts &operator=(const hosts &) = delete;

    [[nodiscard]] int netns_fd(host which) const { return sides_[index(which)].netns; }
    [[nodiscard]] const std::string &name(host which) const { return sides_[index(which)].name; }
    [[nodiscard]] unsigned ifindex(host which) const { return sides_[index(which)].ifindex; }

    // veth-a or veth-b.
    [[nodiscard]] static std::string interface(host which)
    {
        return which == host::a ? "veth-a" : "veth-b";
    }

    // Of the namespace between them, which has mid-a and mid-b, the far ends of veth-a and veth-b.
    [[nodiscard]] int middle_fd() const { return middle_.netns; }

    // AF_INET: 198.18.N.1 or .2; AF_INET6: fd00:5370:N::1 or ::2.
    [[nodiscard]] std::string address(host which, int family = AF_INET) const;

    // const auto here = two.in(host::a);
    [[nodiscard]] enter in(host which) const { return enter(netns_fd(which)); }

    // run(host::a, {"ip", "link", "show"}): the command runs inside, its outcome is handed back.
    outcome run(host which, const std::vector<std::string> &argv) const;

    // The same, and throws unless it succeeded.
    std::string must_run(host which, const std::vector<std::string> &argv) const;

    // Makes the veth pair and its addresses anew, after a test has deleted it.
    void plug_in();

    // Waits until the kernel reports both ends running; throws after two seconds. Needed after a
    // test took an end down and up again.
    void wait_for_link() const;

private:
    struct side {
        std::string name;
        int netns = -1;
        unsigned ifindex = 0;
    };

    static std::size_t index(host which) { return static_cast<std::size_t>(which); }
    void build(wiring how);
    void join(wiring how);
    void set_up();
    void remove() noexcept;

    unsigned number_;
    side sides_[2];
    side middle_;
};

// A fixture with two hosts; skips with the reason where there cannot be any.
class on_two_hosts : public ::testing::Test {
protected:
    void SetUp() override
    {
        if (!hosts::why_not().empty())
            GTEST_SKIP() << hosts::why_not();
        two_.emplace(wired());
    }
    [[nodiscard]] virtual wiring wired() const { return wiring::direct; }

    hosts &two() { return *two_; }

private:
    std::optional<hosts> two_;
};

} // namespace sp::test
