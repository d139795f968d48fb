// SPDX-License-Identifier: BSD-2-Clause
//
// Who is at the other end of unixgram://: what the kernel says of a peer's user, group and process,
// where it is shown, and whom the lists of a listener keep out.
#include "tests/support/datagrams.hpp"

#include <grp.h>
#include <vector>

namespace {

using namespace sp::test;
using sp::errc;
using sp::stat;
using kind = sp::pipe_event::kind;

constexpr std::uint32_t nobody = 65534;

void expect_own(const sp::pipe_info &info)
{
    EXPECT_EQ(info.uid, ::getuid());
    EXPECT_EQ(info.gid, ::getgid());
    EXPECT_EQ(info.pid, ::getpid());
}

// Another process, as `user`, that dials when it is told to and stays until it is told to go. Made
// while this process has no other thread.
class visitor {
public:
    visitor(const std::string &url, std::uint32_t user)
        : names_(), child_([&, url, user](child::door door) {
              if (user != ::getuid() &&
                  (::setgroups(0, nullptr) != 0 || ::setresgid(user, user, user) != 0 ||
                   ::setresuid(user, user, user) != 0))
                  return 100;
              const pid_t own = ::getpid();
              (void)!::write(names_.ends[1], &own, sizeof own);
              door.wait();
              auto req = sp::req::open();
              if (!req)
                  return 101;
              if (const auto dialed = req->dial(url, patience); !dialed)
                  return static_cast<int>(dialed.error().code());
              door.tell();
              door.wait();
              return 0;
          })
    {
        (void)!::read(names_.ends[0], &pid_, sizeof pid_);
    }
    [[nodiscard]] pid_t pid() const { return pid_; }
    // True: it is connected. False: see why_not().
    [[nodiscard]] bool come() const
    {
        child_.let_go();
        return child_.wait_ready();
    }
    int go()
    {
        child_.let_go();
        return child_.wait_end();
    }
    errc why_not() { return static_cast<errc>(child_.wait_end()); }

private:
    struct pipe_pair {
        pipe_pair() { EXPECT_EQ(::pipe(ends), 0); }
        ~pipe_pair()
        {
            ::close(ends[0]);
            ::close(ends[1]);
        }
        pipe_pair(const pipe_pair &) = delete;
        pipe_pair &operator=(const pipe_pair &) = delete;
        int ends[2] = {-1, -1};
    };

    pipe_pair names_;
    pid_t pid_ = 0;
    child child_;
};

class unixgram_identity : public on_one_host {
protected:
    visitor visiting(std::uint32_t user)
    {
        std::filesystem::permissions(std::filesystem::path(file("socket")).parent_path(),
                                     std::filesystem::perms{0755});
        return {url(), user};
    }
};

TEST_F(unixgram_identity, is_known_at_both_ends)
{
    auto rep = listening();
    auto req = dialed();
    const auto came = must(rep.next_event(patience));
    expect_own(came.info);
    expect_own(*rep.pipe_info(came.info.pipe));
    const auto reached = must(req.next_event(patience));
    expect_own(reached.info);
    expect_own(*req.pipe_info(reached.info.pipe));
}

TEST_F(unixgram_identity, is_still_known_when_the_pipe_has_gone)
{
    auto rep = listening();
    (void)dialed();
    EXPECT_EQ(must(rep.next_event(patience)).what, kind::attached);
    const auto went = must(rep.next_event(patience));
    EXPECT_EQ(went.what, kind::detached);
    expect_own(went.info);
}

TEST_F(unixgram_identity, is_of_the_process_that_dialed)
{
    drop_engine(); // no thread stands in the way of fork()
    auto other = visiting(::getuid());
    open_engine({});
    auto rep = listening();
    ASSERT_TRUE(other.come());
    const auto came = must(rep.next_event(patience));
    EXPECT_EQ(came.info.pid, other.pid());
    EXPECT_NE(came.info.pid, ::getpid());
    EXPECT_EQ(came.info.uid, ::getuid());
    EXPECT_EQ(rep.pipe_info(came.info.pipe)->pid, other.pid());
    EXPECT_EQ(other.go(), 0);
}

TEST_F(unixgram_identity, is_told_to_the_admission_predicate)
{
    auto rep = listening();
    std::vector<sp::pipe_info> asked;
    rep.admit([&](const sp::pipe_info &who) {
        asked.push_back(who);
        return who.uid != ::getuid();
    });
    auto req = must(sp::req::open(at()));
    EXPECT_EQ(req.dial(url(), patience).error(), errc::rejected);
    const auto refused = must(rep.next_event(patience));
    ASSERT_FALSE(asked.empty());
    expect_own(asked.front());
    EXPECT_EQ(refused.what, kind::refused);
    EXPECT_EQ(refused.reason, "rejected");
    expect_own(refused.info);
}

TEST_F(unixgram_identity, is_kept_out_when_the_lists_do_not_name_it)
{
    auto rep = listening({.allow_uid = {::getuid() + 1}, .allow_gid = {::getgid() + 1}});
    bool asked = false;
    rep.admit([&](const sp::pipe_info &) { return asked = true; });
    auto req = must(sp::req::open(at()));
    EXPECT_EQ(req.dial(url(), patience).error(), errc::rejected);
    EXPECT_FALSE(asked) << "the lists come first";
    EXPECT_GE(rep.statistics()[stat::listener_access], 1u);
    EXPECT_EQ(rep.peers(), 0u);
    const auto refused = must(rep.next_event(patience));
    EXPECT_EQ(refused.what, kind::refused);
    EXPECT_EQ(refused.reason, "access");
    expect_own(refused.info);
}

TEST_F(unixgram_identity, is_let_in_by_either_list)
{
    {
        auto rep = listening({.allow_uid = {::getuid()}});
        auto req = dialed();
        EXPECT_EQ(rep.statistics()[stat::listener_access], 0u);
    }
    auto rep = listening({.allow_uid = {::getuid() + 1}, .allow_gid = {::getgid()}});
    echo e(rep);
    auto req = dialed();
    EXPECT_EQ(text_of(req.request("let in", patience)), "let in");
    EXPECT_EQ(rep.statistics()[stat::listener_access], 0u);
}

TEST_F(unixgram_identity, of_another_user_is_let_in_where_only_that_one_may_come)
{
    if (::geteuid() != 0)
        GTEST_SKIP() << "becoming another user needs root";
    drop_engine();
    auto other = visiting(nobody);
    open_engine({});
    auto rep = listening({.ipc_mode = 0666u, .allow_uid = {nobody}});
    auto own = must(sp::req::open(at()));
    EXPECT_EQ(own.dial(url(), patience).error(), errc::rejected);
    EXPECT_EQ(must(rep.next_event(patience)).info.uid, 0u);
    ASSERT_TRUE(other.come());
    const auto came = must(rep.next_event(patience));
    EXPECT_EQ(came.what, kind::attached);
    EXPECT_EQ(came.info.uid, nobody);
    EXPECT_EQ(came.info.gid, nobody);
    EXPECT_EQ(came.info.pid, other.pid());
    EXPECT_EQ(other.go(), 0);
}

TEST_F(unixgram_identity, of_a_process_that_became_nobody_is_refused_where_only_root_may_come)
{
    if (::geteuid() != 0)
        GTEST_SKIP() << "becoming another user needs root";
    drop_engine();
    auto other = visiting(nobody);
    open_engine({});
    auto rep = listening({.ipc_mode = 0666u, .allow_uid = {0}});
    EXPECT_FALSE(other.come());
    EXPECT_EQ(other.why_not(), errc::rejected);
    const auto refused = must(rep.next_event(patience));
    EXPECT_EQ(refused.what, kind::refused);
    EXPECT_EQ(refused.reason, "access");
    EXPECT_EQ(refused.info.uid, nobody);
    EXPECT_EQ(refused.info.pid, other.pid());
    auto own = must(sp::req::open(at()));
    EXPECT_TRUE(own.dial(url(), patience));
}

TEST_F(unixgram_identity, lists_are_refused_where_no_kernel_vouches)
{
    open_engine({.insecure = true});
    for (const std::string where : {"tcp://127.0.0.1:0", "ip://127.0.0.1:0"}) {
        const auto rep = sp::rep::open(at({.listen = where, .allow_uid = {0}}));
        ASSERT_FALSE(rep) << where;
        EXPECT_EQ(rep.error().number(), 2025) << where;
    }
}

// ---- the transport alone

using datagram_sender = with_unixgram;

TEST_F(datagram_sender, is_known_inside_the_sink_only)
{
    auto listener = listening();
    auto d = dialed();
    ASSERT_TRUE(put(d.transport, d.route, packet_of(SP_OVERHEAD, 1)));
    std::optional<sp::credentials> who;
    (void)listener.receive(
        [&](const sp_address &, std::span<const std::byte>) { who = listener.sender(); }, 1,
        sp::core::sweep::full, 0);
    ASSERT_TRUE(who);
    EXPECT_EQ(who->uid, ::getuid());
    EXPECT_EQ(who->pid, ::getpid());
    EXPECT_FALSE(listener.sender());
}

TEST_F(datagram_sender, is_known_beside_a_descriptor_that_is_not_taken)
{
    auto listener = listening();
    foreign_socket stranger(path());
    stranger.autobind();
    ASSERT_TRUE(stranger.send_with_descriptor(packet_of(SP_OVERHEAD, 1), STDERR_FILENO));
    std::optional<sp::credentials> who;
    (void)listener.receive(
        [&](const sp_address &, std::span<const std::byte>) { who = listener.sender(); }, 1,
        sp::core::sweep::full, 0);
    ASSERT_TRUE(who);
    EXPECT_EQ(who->gid, ::getgid());
    EXPECT_EQ(stats[stat::unixgram_descriptors], 1u);
}

} // namespace
