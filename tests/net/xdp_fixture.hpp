// SPDX-License-Identifier: BSD-2-Clause
//
// What the tests of the XDP program on real interfaces share: a fixture in host a's network
// namespace, with a BPF file system of the test's own for the pins.
#pragma once

#include "tests/net/hosts.hpp"
#include "userspace/xdp/steer.hpp"

#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <optional>
#include <poll.h>
#include <string>
#include <sys/mount.h>
#include <vector>

namespace sp::xdp {

constexpr int patience_ms = 5000;

// Asks again every millisecond until the answer is yes; false after five seconds.
template <class Question>
bool eventually(Question &&question)
{
    for (int left = patience_ms; left > 0; --left) {
        if (question())
            return true;
        ::poll(nullptr, 0, 1);
    }
    return false;
}

// What an error says, on one line, for messages and comparison.
inline std::string text(const error &e)
{
    return "SP" + std::to_string(e.number()) + ' ' + std::string(e.what()) + " | " +
           std::string(e.why()) + " | " + std::string(e.fix());
}

// In host a's namespace, with pins below a directory of its own. One thread, so entering once is
// enough.
class xdp : public ::testing::Test {
protected:
    void SetUp() override
    {
        if (!test::hosts::why_not().empty())
            GTEST_SKIP() << test::hosts::why_not();
        char path[] = "/tmp/sp-test-pins-XXXXXX";
        ASSERT_NE(::mkdtemp(path), nullptr);
        folder_ = path;
        two_.emplace();
        inside_.emplace(two_->netns_fd(test::host::a));
    }

    void TearDown() override
    {
        inside_.reset();
        two_.reset();
        if (folder_.empty())
            return;
        ::umount2(root().c_str(), MNT_DETACH);
        std::filesystem::remove_all(folder_);
    }

    [[nodiscard]] std::string root() const { return folder_ + "/bpf"; }

    [[nodiscard]] load_options options() const
    {
        load_options chosen;
        chosen.pin_root = root();
        return chosen;
    }

    // Loads and expects no trouble.
    load_report must_load(const load_options &chosen, const std::string &interface = "veth-a")
    {
        auto done = load(interface, chosen);
        if (!done) {
            ADD_FAILURE() << text(done.error());
            return {};
        }
        return *std::move(done);
    }

    // The status of the one interface that has a program.
    interface_status must_status()
    {
        auto all = status(std::nullopt, root());
        if (!all || all->size() != 1) {
            ADD_FAILURE() << (all ? std::to_string(all->size()) + " interfaces"
                                  : text(all.error()));
            return {};
        }
        return all->front();
    }

    test::hosts &two() { return *two_; }
    [[nodiscard]] unsigned veth_a() { return two_->ifindex(test::host::a); }

    // ip, in the namespace of this thread.
    static void ip(std::vector<std::string> words)
    {
        words.insert(words.begin(), "ip");
        const auto done = test::command(words);
        ASSERT_EQ(done.status, 0) << done.output;
    }

private:
    std::string folder_;
    std::optional<test::hosts> two_;
    std::optional<test::enter> inside_;
};

} // namespace sp::xdp
