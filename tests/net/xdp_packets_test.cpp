// SPDX-License-Identifier: BSD-2-Clause
//
// Packets of another host, steered by the XDP program into an AF_XDP socket.
#include "sp/abi/maps.h"
#include "sp/abi/wire.h"
#include "tests/net/xdp_fixture.hpp"
#include "userspace/xdp/program.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <cstring>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/mman.h>
#include <xdp/xsk.h>

namespace sp::xdp {
namespace {

using test::host;
using test::hosts;

// ---- packets
// -------------------------------------------------------------------------------------------------

// An AF_XDP socket on queue 0 of an interface, in copy mode, with one page per frame.
class receiver {
public:
    explicit receiver(const std::string &interface)
    {
        constexpr std::uint64_t frames = 64, bytes = frames * XSK_UMEM__DEFAULT_FRAME_SIZE;
        area_ = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        bytes_ = bytes;
        const xsk_socket_config config{.rx_size = frames,
                                       .tx_size = frames,
                                       .libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
                                       .xdp_flags = 0,
                                       .bind_flags = XDP_COPY};
        EXPECT_EQ(xsk_umem__create(&umem_, area_, bytes, &fill_, &completion_, nullptr), 0);
        EXPECT_EQ(xsk_socket__create(&socket_, interface.c_str(), 0, umem_, &rx_, &tx_, &config),
                  0);
        std::uint32_t at = 0;
        EXPECT_EQ(xsk_ring_prod__reserve(&fill_, frames, &at), frames);
        for (std::uint32_t i = 0; i < frames; ++i)
            *xsk_ring_prod__fill_addr(&fill_, at + i) = i * XSK_UMEM__DEFAULT_FRAME_SIZE;
        xsk_ring_prod__submit(&fill_, frames);
    }
    ~receiver()
    {
        xsk_socket__delete(socket_);
        xsk_umem__delete(umem_);
        ::munmap(area_, bytes_);
    }
    receiver(const receiver &) = delete;
    receiver &operator=(const receiver &) = delete;

    [[nodiscard]] int fd() const { return xsk_socket__fd(socket_); }

    // The next frame, or nothing after five seconds.
    std::vector<std::uint8_t> next()
    {
        std::uint32_t at = 0;
        if (!eventually([&] { return xsk_ring_cons__peek(&rx_, 1, &at) == 1; }))
            return {};
        const auto *found = xsk_ring_cons__rx_desc(&rx_, at);
        const auto *data =
            static_cast<const std::uint8_t *>(xsk_umem__get_data(area_, found->addr));
        std::vector<std::uint8_t> frame(data, data + found->len);
        xsk_ring_cons__release(&rx_, 1);
        return frame;
    }

private:
    void *area_ = nullptr;
    std::size_t bytes_ = 0;
    xsk_umem *umem_ = nullptr;
    xsk_socket *socket_ = nullptr;
    xsk_ring_prod fill_{}, tx_{};
    xsk_ring_cons completion_{}, rx_{};
};

// An SP packet of the smallest size from host b to host a, behind Ethernet and IPv4.
std::vector<std::uint8_t> smallest_frame(const hosts &two, std::uint16_t port)
{
    std::vector<std::uint8_t> frame(14 + 20 + SP_OVERHEAD, 0);
    std::fill_n(frame.begin(), 6, std::uint8_t{0xff}); // any receiver takes broadcast
    frame[6] = 2;
    frame[12] = 0x08;
    frame[14] = 0x45;
    frame[17] = 20 + SP_OVERHEAD;
    frame[22] = 64;
    frame[23] = SP_IP_PROTOCOL;
    EXPECT_EQ(inet_pton(AF_INET, two.address(host::b).c_str(), &frame[26]), 1);
    EXPECT_EQ(inet_pton(AF_INET, two.address(host::a).c_str(), &frame[30]), 1);
    frame[34] = SP_WIRE_VERSION;
    frame[35] = SP_DATA;
    frame[38] = static_cast<std::uint8_t>(port >> 8);
    frame[39] = static_cast<std::uint8_t>(port);
    return frame;
}

void send_frame(const hosts &two, const std::vector<std::uint8_t> &frame)
{
    const auto there = two.in(host::b);
    const descriptor out(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    to.sll_ifindex = static_cast<int>(two.ifindex(host::b));
    ASSERT_EQ(::sendto(out.get(), frame.data(), frame.size(), 0,
                       reinterpret_cast<const sockaddr *>(&to), sizeof to),
              static_cast<ssize_t>(frame.size()));
}

class xdp_in : public xdp, public ::testing::WithParamInterface<mode> {};

TEST_P(xdp_in, this_mode_packets_of_the_other_host_are_steered_into_the_socket)
{
    constexpr std::uint16_t port = 8080;
    load_options chosen;
    chosen.how = GetParam();
    auto steered = steering::attach("veth-a", chosen);
    ASSERT_TRUE(steered) << text(steered.error());
    receiver in("veth-a");
    const std::uint32_t slot = 0, key = port, owners = 1;
    const std::uint16_t shard = 1;
    const int fd = in.fd();
    sp_local_key local{};
    local.bytes[10] = local.bytes[11] = 0xff;
    ASSERT_EQ(inet_pton(AF_INET, two().address(host::a).c_str(), local.bytes + 12), 1);
    ASSERT_EQ(bpf_map_update_elem(steered->xsks_fd(), &slot, &fd, BPF_ANY), 0);
    ASSERT_EQ(bpf_map_update_elem(steered->ports_fd(), &key, &shard, BPF_ANY), 0);
    ASSERT_EQ(bpf_map_update_elem(steered->local_fd(), &local, &owners, BPF_ANY), 0);

    auto malformed = smallest_frame(two(), port);
    malformed[36] = 0x80;
    const auto sent = smallest_frame(two(), port);
    send_frame(two(), malformed);
    send_frame(two(), smallest_frame(two(), port + 1));
    send_frame(two(), sent);
    EXPECT_EQ(in.next(), sent);
    const auto counted = read_stats(steered->stats_fd());
    ASSERT_TRUE(counted);
    EXPECT_EQ((*counted)[SP_XDP_steered], 1u);
    EXPECT_EQ((*counted)[SP_XDP_bad_flags], 1u);
    EXPECT_EQ((*counted)[SP_XDP_no_port], 1u);
}

INSTANTIATE_TEST_SUITE_P(each, xdp_in, ::testing::Values(mode::native, mode::skb),
                         [](const auto &one) { return std::string(name_of(one.param)); });

TEST_F(xdp, a_queue_beyond_the_map_has_no_socket)
{
    constexpr std::uint32_t queue = SP_QUEUES_MAX;
    ip({"link", "add", "wide-a", "index", "41", "numrxqueues", "65", "type", "veth", "peer", "name",
        "wide-b"});
    ip({"link", "set", "wide-a", "up"});
    const auto loaded = load_program(options());
    ASSERT_TRUE(loaded) << text(loaded.error());
    const std::uint32_t key = 8080, owners = 1;
    const std::uint16_t shard = 1;
    sp_local_key local{};
    local.bytes[10] = local.bytes[11] = 0xff;
    ASSERT_EQ(inet_pton(AF_INET, two().address(host::a).c_str(), local.bytes + 12), 1);
    ASSERT_EQ(bpf_map_update_elem(loaded->maps.fd(map::ports), &key, &shard, BPF_ANY), 0);
    ASSERT_EQ(bpf_map_update_elem(loaded->maps.fd(map::local), &local, &owners, BPF_ANY), 0);
    const auto frame = smallest_frame(two(), 8080);
    xdp_md context{};
    context.data_end = static_cast<std::uint32_t>(frame.size());
    context.ingress_ifindex = 41;
    context.rx_queue_index = queue;
    LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame.data(),
                .data_size_in = static_cast<std::uint32_t>(frame.size()), .ctx_in = &context,
                .ctx_size_in = sizeof context, .repeat = 1);
    ASSERT_EQ(bpf_prog_test_run_opts(loaded->fd.get(), &run), 0) << std::strerror(errno);
    EXPECT_EQ(run.retval, static_cast<std::uint32_t>(XDP_PASS));
    const auto counted = read_stats(loaded->maps.fd(map::stats));
    ASSERT_TRUE(counted);
    EXPECT_EQ((*counted)[SP_XDP_no_socket], 1u);
}

} // namespace
} // namespace sp::xdp
