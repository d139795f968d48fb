// SPDX-License-Identifier: BSD-2-Clause
//
// Why the XDP program cannot be loaded here: every refusal that can be provoked is provoked, its
// text compared, and the fix that the text names is tried where it can be.
#include "tests/net/xdp_fixture.hpp"
#include "userspace/xdp/device.hpp"
#include "userspace/xdp/faults.hpp"
#include "userspace/xdp/words.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fstream>
#include <gmock/gmock.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <sstream>
#include <sys/wait.h>
#include <thread>

namespace sp::xdp {
namespace {

using test::host;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Two instructions that let everything pass: an XDP program of somebody else.
descriptor foreign_program()
{
    const bpf_insn pass[]{{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, XDP_PASS},
                          {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
    return descriptor(
        bpf_prog_load(BPF_PROG_TYPE_XDP, "not_ours", "GPL", pass, std::size(pass), nullptr));
}

// ---- refusals
// ------------------------------------------------------------------------------------------------

TEST_F(xdp, missing_interface_is_named_with_the_nearest)
{
    const auto done = load("vteh-a", options());
    ASSERT_FALSE(done);
    EXPECT_EQ(text(done.error()),
              "SP1011 no such interface: vteh-a | this network namespace has: veth-a lo | did you "
              "mean veth-a? ip link shows what there is");
    EXPECT_EQ(done.error().exit_status(), 6);
    const auto far = steering::attach("enp129s0f1", {});
    ASSERT_FALSE(far);
    EXPECT_EQ(far.error().number(), 1011);
    EXPECT_THAT(text(far.error()), ::testing::Not(HasSubstr("did you mean")));
    EXPECT_EQ(status("nothing", root()).error().number(), 1011);
    EXPECT_EQ(steering::open_pinned("nothing", root()).error().number(), 1011);
}

TEST_F(xdp, nothing_loaded_is_not_found)
{
    const auto opened = steering::open_pinned("veth-a", root());
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code(), errc::not_found);
    EXPECT_THAT(text(opened.error()), HasSubstr("sp xdp load veth-a"));
}

TEST_F(xdp, program_of_somebody_else_is_named_and_left_alone)
{
    const auto theirs = foreign_program();
    ASSERT_TRUE(theirs);
    ASSERT_EQ(bpf_xdp_attach(static_cast<int>(veth_a()), theirs.get(), XDP_FLAGS_DRV_MODE, nullptr),
              0);
    const auto before = attached_to(veth_a());
    ASSERT_TRUE(before);

    const auto one = must_status();
    EXPECT_EQ(one.program_name, "not_ours");
    EXPECT_FALSE(one.ours);
    EXPECT_FALSE(one.layout);
    EXPECT_EQ(one.kept_by, "unknown");
    for (const auto how : {mode::native, mode::automatic}) {
        auto chosen = options();
        chosen.how = how;
        chosen.replace = true;
        const auto done = load("veth-a", chosen);
        ASSERT_FALSE(done);
        EXPECT_EQ(done.error().number(), 1007);
        EXPECT_EQ(done.error().exit_status(), 5);
        EXPECT_THAT(text(done.error()),
                    HasSubstr("program \"not_ours\", id " + std::to_string(before->program_id) +
                              ", tag " + one.tag + ", loaded 20"));
        EXPECT_THAT(text(done.error()), HasSubstr("native mode"));
    }
    const auto unloaded = unload("veth-a", root());
    ASSERT_FALSE(unloaded);
    EXPECT_EQ(unloaded.error().number(), 1007);
    const auto after = attached_to(veth_a());
    ASSERT_TRUE(after);
    EXPECT_EQ(after->program_id, before->program_id);
    EXPECT_THAT(status("lo", root()).value(), IsEmpty());
    EXPECT_EQ(bpf_xdp_detach(static_cast<int>(veth_a()), XDP_FLAGS_DRV_MODE, nullptr), 0);
    EXPECT_EQ(must_load(options()).outcome, load_outcome::loaded)
        << "the refused loads left nothing in the way";
}

TEST_F(xdp, veth_whose_peer_has_too_large_an_mtu_is_refused_in_the_words_of_the_kernel)
{
    two().must_run(host::b, {"ip", "link", "set", "veth-b", "mtu", "9000"});
    ::testing::internal::CaptureStderr();
    const auto far = load("veth-a", options());
    EXPECT_EQ(::testing::internal::GetCapturedStderr(), "") << "libbpf prints nothing by itself";
    ASSERT_FALSE(far);
    EXPECT_EQ(text(far.error()),
              "SP1005 cannot attach to the veth device veth-a | veth: Peer MTU is too "
              "large to set XDP (ERANGE); the "
              "peer is in another network namespace | ip link set PEER mtu 3506");
    EXPECT_EQ(far.error().exit_status(), 9);

    ip({"link", "add", "veth-c", "type", "veth", "peer", "name", "veth-d", "mtu", "9000"});
    const auto near = load("veth-c", options());
    ASSERT_FALSE(near);
    EXPECT_EQ(near.error().number(), 1005);
    EXPECT_THAT(text(near.error()),
                HasSubstr("the peer is veth-d, its MTU is 9000 | ip link set veth-d mtu 3506"));
    ip({"link", "set", "veth-d", "mtu", "3506"});
    EXPECT_EQ(must_load(options(), "veth-c").attached, mode::native)
        << "the fix that was told works";
    EXPECT_FALSE(attached_to(veth_a()));
}

TEST_F(xdp, automatic_mode_falls_to_skb_and_says_why)
{
    auto chosen = options();
    chosen.how = mode::automatic;
    two().must_run(host::b, {"ip", "link", "set", "veth-b", "mtu", "9000"});
    const auto report = must_load(chosen);
    EXPECT_EQ(report.attached, mode::skb);
    EXPECT_THAT(report.remark, HasSubstr("native mode: veth: Peer MTU is too large to set XDP"));
    EXPECT_EQ(must_load(chosen).outcome, load_outcome::already);
    ASSERT_TRUE(unload("veth-a", root()));
    two().must_run(host::b, {"ip", "link", "set", "veth-b", "mtu", "1500"});
    const auto native = must_load(chosen);
    EXPECT_EQ(native.attached, mode::native);
    EXPECT_EQ(native.remark, "");
}

TEST_F(xdp, device_without_native_mode_is_told_the_command_for_skb)
{
    const auto done = load("lo", options());
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().number(), 1003);
    EXPECT_EQ(done.error().what(), "cannot attach to lo in native mode");
    EXPECT_THAT(std::string(done.error().why()), HasSubstr("(EOPNOTSUPP)"));
    EXPECT_THAT(std::string(done.error().why()), HasSubstr("native mode")) << "the kernel's words";
    EXPECT_EQ(done.error().fix(), "sp xdp load lo -m skb");
    auto chosen = options();
    chosen.how = mode::skb;
    EXPECT_EQ(must_load(chosen, "lo").attached, mode::skb) << "the fix that was told works";
}

// Runs `act` in a child process as nobody and hands back what it wrote.
template <class Act>
std::string as_nobody(Act &&act)
{
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) < 0)
        return "pipe";
    const auto child = ::fork();
    if (child == 0) {
        constexpr unsigned nobody = 65534;
        std::string said = "cannot become nobody";
        if (::setresgid(nobody, nobody, nobody) == 0 && ::setresuid(nobody, nobody, nobody) == 0)
            said = act();
        const auto n = ::write(ends[1], said.data(), said.size());
        ::_exit(n == static_cast<ssize_t>(said.size()) ? 0 : 1);
    }
    ::close(ends[1]);
    std::string said;
    char part[512];
    for (ssize_t n; (n = ::read(ends[0], part, sizeof part)) > 0;)
        said.append(part, static_cast<std::size_t>(n));
    ::close(ends[0]);
    ::waitpid(child, nullptr, 0);
    return said;
}

TEST_F(xdp, without_capabilities_it_says_which_are_missing)
{
    const auto said = as_nobody([&] {
        const auto done = load("veth-a", options());
        return done ? "loaded" : text(done.error());
    });
    EXPECT_EQ(said, "SP1002 cannot load the XDP program | CAP_BPF and CAP_NET_ADMIN are required "
                    "for bpf(); this "
                    "process lacks CAP_BPF CAP_NET_ADMIN; Operation not permitted (EPERM) | run as "
                    "root: sp xdp load "
                    "IFACE");
    EXPECT_EQ(missing_capabilities(), "");
}

TEST_F(xdp, without_capabilities_status_still_tells_what_netlink_knows)
{
    const auto report = must_load(options());
    const auto said = as_nobody([&] {
        const auto all = status(std::nullopt, root());
        if (!all || all->size() != 1)
            return std::string("no status");
        const auto &one = all->front();
        return one.name + ' ' + std::string(name_of(one.attached)) + ' ' +
               std::to_string(one.program_id) + ' ' + one.kept_by +
               (one.counters ? " counters" : "");
    });
    EXPECT_EQ(said, "veth-a native " + std::to_string(report.program_id) + " unknown");
    const auto opened = as_nobody([&] {
        const auto maps = steering::open_pinned("veth-a", root());
        return maps ? "opened" : text(maps.error());
    });
    EXPECT_THAT(opened, HasSubstr("SP1010 cannot open " + root()));
    EXPECT_THAT(opened, HasSubstr("run as root, or as a member of the group sp"));
}

TEST_F(xdp, place_that_cannot_hold_pins_is_named)
{
    auto chosen = options();
    chosen.pin_root = "/proc/sp-pins";
    const auto done = load("veth-a", chosen);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().number(), 1010);
    EXPECT_THAT(text(done.error()), HasSubstr("cannot make /proc/sp-pins"));
    EXPECT_FALSE(attached_to(veth_a()));
}

TEST(xdp_faults, refusal_by_the_verifier_keeps_its_log)
{
    const auto fault = load_fault(EINVAL, "0: (b7) r0 = 2\nR1 is bad\n");
    EXPECT_EQ(fault.number(), 9001);
    const std::string why(fault.why());
    constexpr std::string_view label = "the verifier's log is in ";
    const auto at = why.find(label);
    ASSERT_NE(at, std::string::npos) << why;
    const auto path = why.substr(at + label.size());
    std::stringstream kept;
    kept << std::ifstream(path).rdbuf();
    EXPECT_EQ(kept.str(), "0: (b7) r0 = 2\nR1 is bad\n");
    std::filesystem::remove(path);
}

TEST(xdp_faults, kernels_before_5_15_are_too_old)
{
    for (const auto *old : {"4.19.0-27-amd64", "5.10.0-8-amd64", "5.14.99", "3.10"})
        EXPECT_TRUE(too_old(old)) << old;
    for (const auto *recent : {"5.15.0", "5.15", "6.1.0-13-amd64", "6.18.44-x", "10.0", "strange"})
        EXPECT_FALSE(too_old(recent)) << recent;
}

TEST(xdp_words, other_threads_and_printers_keep_their_own)
{
    static thread_local int heard = 0;
    const auto theirs = +[](libbpf_print_level, const char *, va_list) { return ++heard; };
    const auto before = libbpf_set_print(theirs);
    // libbpf complains about a name that is no object file.
    const auto provoke = [] {
        bpf_object__close(bpf_object__open_file("/nonexistent/object", nullptr));
    };
    {
        const libbpf_words words;
        provoke();
        EXPECT_THAT(words.all(), HasSubstr("/nonexistent/object"));
        EXPECT_EQ(heard, 0);
        std::thread([&] {
            provoke();
            EXPECT_GT(heard, 0);
        }).join();
    }
    provoke();
    EXPECT_GT(heard, 0);
    EXPECT_EQ(libbpf_set_print(before), theirs);
}

} // namespace
} // namespace sp::xdp
