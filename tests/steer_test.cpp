// SPDX-License-Identifier: BSD-2-Clause
//
// The XDP program, packet by packet, run by the kernel on frames made here (BPF_PROG_TEST_RUN):
// verdict and counter of each. The AF_XDP socket behind a slot is never bound to a device: the
// program only asks whether one is there.
#include "sp/abi/maps.h"
#include "sp/abi/names.hpp"
#include "sp/abi/wire.h"
#include "userspace/xdp/program.hpp"
#include "userspace/xdp/steer.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstring>
#include <functional>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <linux/if_xdp.h>
#include <map>
#include <random>
#include <set>
#include <sys/socket.h>
#include <unistd.h>

namespace sp::xdp {
namespace {

constexpr std::uint16_t served_port = 8080, other_port = 8081, wrong_shard_port = 8082;
constexpr std::uint16_t encapsulated_port = 5370;
constexpr const char *local_ipv4 = "198.18.0.2", *other_ipv4 = "198.18.0.3";
constexpr const char *local_ipv6 = "fd00:5370::2", *other_ipv6 = "fd00:5370::3";

// The sum of a UDP packet with its pseudo header; all ones if its checksum is right.
std::uint16_t udp_sum(const std::vector<std::uint8_t> &frame, std::size_t udp, unsigned family)
{
    const std::size_t size = frame.size() - udp, addresses = family == 4 ? 8 : 32;
    auto sum = static_cast<std::uint32_t>(size) + SP_PROTOCOL_UDP;
    for (std::size_t i = udp - addresses; i < frame.size(); ++i)
        sum += static_cast<std::uint32_t>(frame[i]) << ((i - udp) % 2 ? 0 : 8);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(sum);
}

bool udp_sum_is_right(const std::vector<std::uint8_t> &frame, std::size_t udp, unsigned family)
{
    return udp_sum(frame, udp, family) == 0xffff;
}

// A frame, described. Each call changes one thing and hands the packet back; bytes() writes it
// down.
class packet {
public:
    packet &ipv6() { return family_ = AF_INET6, *this; }
    packet &to(const char *address) { return destination_ = address, *this; }
    packet &station(std::uint8_t first) { return station_ = first, *this; }
    packet &vlan(std::uint16_t type = SP_ETHERTYPE_VLAN) { return vlans_.push_back(type), *this; }
    packet &ethertype(std::uint16_t type) { return ethertype_ = type, *this; }
    packet &udp(std::uint16_t port = encapsulated_port) { return udp_ = port, *this; }
    packet &udp_length(std::uint16_t length) { return udp_length_ = length, *this; }
    packet &protocol(std::uint8_t number) { return protocol_ = number, *this; }
    packet &ip_first(std::uint8_t byte) { return ip_first_ = byte, *this; }
    packet &fragment(std::uint16_t field) { return fragment_ = field, *this; }
    packet &ip_length(std::uint16_t length) { return ip_length_ = length, *this; }
    packet &version(std::uint8_t byte) { return version_ = byte, *this; }
    packet &type(std::uint8_t number) { return type_ = number, *this; }
    packet &flags(std::uint8_t bits) { return flags_ = bits, *this; }
    packet &port(std::uint16_t number) { return port_ = number, *this; }
    packet &sport(std::uint16_t number) { return sport_ = number, *this; }
    packet &sum() { return sum_ = true, *this; } // UDP with a checksum
    packet &size(std::size_t bytes_of_sp) { return size_ = bytes_of_sp, *this; }
    packet &cut(std::size_t last) { return cut_ = last, *this; }
    packet &pad(std::size_t more) { return pad_ = more, *this; }

    [[nodiscard]] std::vector<std::uint8_t> bytes() const
    {
        std::vector<std::uint8_t> out{station_, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 9};
        for (const auto type : vlans_) {
            put(out, type);
            put(out, 7);
        }
        const bool v6 = family_ == AF_INET6;
        put(out, ethertype_.value_or(v6 ? SP_ETHERTYPE_IPV6 : SP_ETHERTYPE_IPV4));
        const auto payload = size_ + (udp_ ? sizeof(sp_udp) : 0);
        v6 ? put_ipv6(out, payload) : put_ipv4(out, payload);
        if (udp_) {
            put(out, 40000);
            put(out, *udp_);
            put(out, udp_length_.value_or(static_cast<std::uint16_t>(payload)));
            put(out, 0);
        }
        const auto begin = out.size();
        out.resize(begin + size_, 0);
        const std::uint8_t first[]{version_,
                                   type_,
                                   flags_,
                                   0,
                                   static_cast<std::uint8_t>(port_ >> 8),
                                   static_cast<std::uint8_t>(port_),
                                   static_cast<std::uint8_t>(sport_ >> 8),
                                   static_cast<std::uint8_t>(sport_)};
        std::copy_n(first, std::min(size_, sizeof first),
                    out.begin() + static_cast<std::ptrdiff_t>(begin));
        if (udp_ && sum_) {
            const auto udp = begin - sizeof(sp_udp);
            const auto sum = static_cast<std::uint16_t>(~udp_sum(out, udp, v6 ? 6 : 4));
            out[udp + 6] = static_cast<std::uint8_t>(sum >> 8);
            out[udp + 7] = static_cast<std::uint8_t>(sum);
        }
        out.resize(out.size() - cut_ + pad_, 0xee);
        return out;
    }

private:
    static void put(std::vector<std::uint8_t> &out, unsigned value)
    {
        out.push_back(static_cast<std::uint8_t>(value >> 8));
        out.push_back(static_cast<std::uint8_t>(value));
    }

    void put_address(std::vector<std::uint8_t> &out, const char *address, std::size_t length) const
    {
        std::uint8_t space[16]{};
        ASSERT_EQ(inet_pton(family_, address, space), 1) << address;
        out.insert(out.end(), space, space + length);
    }

    void put_ipv4(std::vector<std::uint8_t> &out, std::size_t payload) const
    {
        out.push_back(ip_first_.value_or(0x45));
        out.push_back(0);
        const auto words = ip_first_.value_or(0x45) & 15u;
        const auto options = words > 5 ? (words - 5) * 4 : 0;
        put(out, ip_length_.value_or(static_cast<std::uint16_t>(20 + options + payload)));
        put(out, 0);
        put(out, fragment_);
        out.push_back(64);
        out.push_back(protocol_.value_or(udp_ ? SP_PROTOCOL_UDP : SP_IP_PROTOCOL));
        put(out, 0);
        put_address(out, "198.18.0.9", 4);
        put_address(out, destination_ ? destination_ : local_ipv4, 4);
        out.resize(out.size() + options, 1);
    }

    void put_ipv6(std::vector<std::uint8_t> &out, std::size_t payload) const
    {
        out.push_back(ip_first_.value_or(0x60));
        out.resize(out.size() + 3, 0);
        put(out, ip_length_.value_or(static_cast<std::uint16_t>(payload)));
        out.push_back(protocol_.value_or(udp_ ? SP_PROTOCOL_UDP : SP_IP_PROTOCOL));
        out.push_back(64);
        put_address(out, "fd00:5370::9", 16);
        put_address(out, destination_ ? destination_ : local_ipv6, 16);
    }

    int family_ = AF_INET;
    const char *destination_ = nullptr;
    std::vector<std::uint16_t> vlans_;
    std::optional<std::uint16_t> ethertype_, udp_, udp_length_, ip_length_;
    std::optional<std::uint8_t> protocol_, ip_first_;
    std::uint16_t fragment_ = 0x4000, port_ = served_port, sport_ = 0;
    bool sum_ = false;
    std::uint8_t station_ = 2, version_ = SP_WIRE_VERSION, type_ = SP_DATA, flags_ = 0;
    std::size_t size_ = 124, cut_ = 0, pad_ = 0;
};

sp_local_key key_of(const char *address)
{
    sp_local_key key{};
    if (inet_pton(AF_INET6, address, key.bytes) != 1) {
        key.bytes[10] = key.bytes[11] = 0xff;
        EXPECT_EQ(inet_pton(AF_INET, address, key.bytes + 12), 1);
    }
    return key;
}

// What happened to a packet: the verdict, and the one counter that rose.
struct fate {
    unsigned verdict;
    unsigned counter;
    friend bool operator==(const fate &, const fate &) = default;
};

std::string to_text(const fate &one)
{
    constexpr std::array verdicts{"ABORTED", "DROP", "PASS", "TX", "REDIRECT"};
    return std::string(one.verdict < verdicts.size() ? verdicts[one.verdict] : "?") + " and " +
           (one.counter < SP_XDP_STATS ? std::string(stat_table[one.counter].name)
                                       : "not exactly one counter");
}

std::ostream &operator<<(std::ostream &out, const fate &one)
{
    return out << to_text(one);
}

class steer : public ::testing::Test {
protected:
    void SetUp() override
    {
        if (geteuid() != 0)
            GTEST_SKIP() << "BPF needs root";
    }

    void load(const load_options &options)
    {
        auto made = load_program(options);
        ASSERT_TRUE(made) << made.error().what() << ": " << made.error().why();
        program_ = *std::move(made);
        options_ = options;
        set_port(served_port, 1);
        set_port(wrong_shard_port, SP_SHARDS + 1);
        for (const auto *address : {local_ipv4, local_ipv6}) {
            const auto key = key_of(address);
            const std::uint32_t owners = 1;
            ASSERT_EQ(bpf_map_update_elem(program_.maps.fd(map::local), &key, &owners, BPF_ANY), 0);
        }
        set_answered(0);
    }

    void set_port(std::uint32_t port, std::uint16_t value) const
    {
        ASSERT_EQ(bpf_map_update_elem(program_.maps.fd(map::ports), &port, &value, BPF_ANY), 0);
    }

    // As if so many pings were answered, in a time that does not pass.
    void set_answered(std::uint64_t answered) const
    {
        const std::uint32_t only = 0;
        const std::vector<sp_ping_budget> each(static_cast<std::size_t>(libbpf_num_possible_cpus()),
                                               sp_ping_budget{~std::uint64_t{0}, answered});
        ASSERT_EQ(bpf_map_update_elem(program_.maps.fd(map::pings), &only, each.data(), BPF_ANY),
                  0);
    }

    // A socket with a receive ring is all that the map wants.
    void put_socket(std::uint32_t queue)
    {
        socket_ = descriptor(::socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0));
        ASSERT_TRUE(socket_) << std::strerror(errno);
        const int entries = 64, fd = socket_.get();
        ASSERT_EQ(setsockopt(fd, SOL_XDP, XDP_RX_RING, &entries, sizeof entries), 0)
            << std::strerror(errno);
        ASSERT_EQ(bpf_map_update_elem(program_.maps.fd(map::xsks), &queue, &fd, BPF_ANY), 0)
            << std::strerror(errno);
    }

    [[nodiscard]] fate run(const std::vector<std::uint8_t> &frame) const
    {
        const auto before = read_stats(program_.maps.fd(map::stats));
        LIBBPF_OPTS(bpf_test_run_opts, how, .data_in = frame.data(),
                    .data_size_in = static_cast<std::uint32_t>(frame.size()), .repeat = 1);
        EXPECT_EQ(bpf_prog_test_run_opts(program_.fd.get(), &how), 0) << std::strerror(errno);
        const auto after = read_stats(program_.maps.fd(map::stats));
        fate seen{how.retval, SP_XDP_STATS};
        std::uint64_t risen = 0;
        for (unsigned i = 0; before && after && i < SP_XDP_STATS; ++i) {
            if ((*after)[i] != (*before)[i])
                seen.counter = i;
            risen += (*after)[i] - (*before)[i];
        }
        if (risen != 1)
            seen.counter = SP_XDP_STATS;
        return seen;
    }

    program program_;
    load_options options_;
    descriptor socket_;
};

struct row {
    const char *sentence;
    packet sent;
    fate expected;
};

fate passes(sp_xdp_stat counter)
{
    return {XDP_PASS, counter};
}

fate drops(sp_xdp_stat counter)
{
    return {XDP_DROP, counter};
}

constexpr fate redirected{XDP_REDIRECT, SP_XDP_steered}, answered{XDP_TX, SP_XDP_ponged};

// With encapsulation on port 5370 and a socket on queue 0.
std::vector<row> default_rows()
{
    const auto p = [] { return packet(); };
    return {
        {"SP over IPv4 is steered", p(), redirected},
        {"the smallest SP packet is steered", p().size(56), redirected},
        {"SP over IPv6 is steered", p().ipv6(), redirected},
        {"SP in UDP over IPv4 is steered", p().udp(), redirected},
        {"SP in UDP over IPv6 is steered", p().ipv6().udp(), redirected},
        {"the smallest SP packet in UDP is steered", p().udp().size(56), redirected},
        {"PROBE of another version in UDP reaches the engine",
         p().udp().type(SP_PROBE).version(0x25).size(160), redirected},
        {"padding behind a short packet in UDP is no fault", p().udp().size(56).pad(4), redirected},
        {"one VLAN tag is read over", p().vlan(), redirected},
        {"one service tag is read over", p().vlan(SP_ETHERTYPE_QINQ).ipv6(), redirected},
        {"a tagged packet in UDP is steered", p().vlan().udp(), redirected},
        {"padding behind a short packet is no fault", p().size(56).pad(10), redirected},
        {"any byte of type of service is fine, and so is no DF", p().fragment(0), redirected},
        {"PROBE of another version reaches the engine", p().type(SP_PROBE).version(0x25).size(160),
         redirected},
        {"all known flags may be set", p().flags(SP_FLAGS_KNOWN), redirected},
        {"PONG is the last known type", p().type(SP_PONG), redirected},
        {"PING is answered", p().type(SP_PING).port(0).size(56), answered},
        {"PING over IPv6 is answered", p().ipv6().type(SP_PING).port(0), answered},
        {"PING behind UDP is answered", p().udp().type(SP_PING).port(0), answered},
        {"PING behind a tag and UDP over IPv6 is answered",
         p().vlan().ipv6().udp().type(SP_PING).port(0).size(1400), answered},
        {"PING to another host is the kernel's", p().type(SP_PING).port(0).to(other_ipv4),
         passes(SP_XDP_foreign_address)},
        {"PING to a station of many is the kernel's", p().type(SP_PING).port(0).station(0xff),
         passes(SP_XDP_foreign_address)},
        {"PING of another version is left alone", p().type(SP_PING).port(0).version(0x25),
         passes(SP_XDP_other_version)},
        {"PING to a port is an engine's", p().type(SP_PING), redirected},
        {"PONG without a port is the kernel's", p().type(SP_PONG).port(0), passes(SP_XDP_no_port)},
        {"ARP is left alone", p().ethertype(0x0806), passes(SP_XDP_not_sp)},
        {"two VLAN tags are too many", p().vlan(SP_ETHERTYPE_QINQ).vlan(), passes(SP_XDP_not_sp)},
        {"TCP is left alone", p().protocol(6), passes(SP_XDP_not_sp)},
        {"ICMPv6 is left alone", p().ipv6().protocol(58), passes(SP_XDP_not_sp)},
        {"an IPv6 extension header is not followed", p().ipv6().protocol(44),
         passes(SP_XDP_not_sp)},
        {"UDP to another port is left alone", p().udp(53), passes(SP_XDP_not_sp)},
        {"UDP behind options is somebody else's", p().udp().ip_first(0x46), passes(SP_XDP_not_sp)},
        {"a UDP fragment is somebody else's", p().udp().fragment(0x2000), passes(SP_XDP_not_sp)},
        {"IPv4 that says version 6 is left alone", p().ip_first(0x65), passes(SP_XDP_not_sp)},
        {"IPv6 that says version 4 is left alone", p().ipv6().ip_first(0x45),
         passes(SP_XDP_not_sp)},
        {"a frame that ends in the IP header is left alone", p().size(0).cut(1),
         passes(SP_XDP_not_sp)},
        {"a frame that ends in the VLAN tag is left alone", p().vlan().size(0).cut(20),
         passes(SP_XDP_not_sp)},
        {"IPv4 options are counted", p().ip_first(0x46), passes(SP_XDP_ip_options)},
        {"a first fragment is counted", p().fragment(0x2000), passes(SP_XDP_fragment)},
        {"a later fragment is counted", p().fragment(0x00b9), passes(SP_XDP_fragment)},
        {"another version is left alone", p().version(0x25), passes(SP_XDP_other_version)},
        {"PROBE with another header length is left alone", p().type(SP_PROBE).version(0x16),
         passes(SP_XDP_other_version)},
        {"39 bytes are no SP header", p().size(39), passes(SP_XDP_other_version)},
        {"nothing behind the IP header is no SP header", p().size(0), passes(SP_XDP_other_version)},
        {"55 bytes are no SP packet", p().size(55), drops(SP_XDP_bad_length)},
        {"a packet longer than its frame is refused", p().cut(1), drops(SP_XDP_bad_length)},
        {"an IPv6 packet longer than its frame is refused", p().ipv6().cut(1),
         drops(SP_XDP_bad_length)},
        {"an IPv4 length below its own header is refused", p().ip_length(19),
         drops(SP_XDP_bad_length)},
        {"a UDP length beyond the IP packet is refused", p().udp().udp_length(200),
         drops(SP_XDP_bad_length)},
        {"a UDP length below its own header is refused", p().udp().udp_length(7),
         drops(SP_XDP_bad_length)},
        {"39 bytes behind UDP are no SP header", p().udp().size(39), passes(SP_XDP_other_version)},
        {"another version behind UDP is left alone", p().udp().version(0x25),
         passes(SP_XDP_other_version)},
        {"55 bytes behind UDP are no SP packet", p().ipv6().udp().size(55),
         drops(SP_XDP_bad_length)},
        {"a packet behind UDP that is longer than its frame is refused", p().udp().cut(1),
         drops(SP_XDP_bad_length)},
        {"a reserved flag behind UDP is refused", p().udp().flags(8), drops(SP_XDP_bad_flags)},
        {"a frame that ends in the UDP header is left alone", p().udp().size(0).cut(1),
         passes(SP_XDP_not_sp)},
        {"another host's packet behind UDP is the kernel's", p().udp().to(other_ipv4),
         passes(SP_XDP_foreign_address)},
        {"type 0 does not exist", p().type(0), drops(SP_XDP_bad_type)},
        {"type 13 does not exist", p().type(13), drops(SP_XDP_bad_type)},
        {"type 39 is not type 7", p().type(39), drops(SP_XDP_bad_type)},
        {"a reserved flag is refused", p().flags(8), drops(SP_XDP_bad_flags)},
        {"a port that nobody serves is the kernel's", p().port(other_port), passes(SP_XDP_no_port)},
        {"port 0 is the kernel's", p().port(0), passes(SP_XDP_no_port)},
        {"port 65535 is the kernel's", p().port(65535), passes(SP_XDP_no_port)},
        {"another host's packet is the kernel's", p().to(other_ipv4),
         passes(SP_XDP_foreign_address)},
        {"another host's IPv6 packet is the kernel's", p().ipv6().to(other_ipv6),
         passes(SP_XDP_foreign_address)},
        {"a mapped address of ours is not our IPv6 address", p().ipv6().to("fd00:5370::"),
         passes(SP_XDP_foreign_address)},
        {"broadcast is the kernel's", p().to("198.18.0.255"), passes(SP_XDP_foreign_address)},
        {"a shard that does not exist has no socket", p().port(wrong_shard_port),
         passes(SP_XDP_no_socket)},
    };
}

TEST_F(steer, gives_each_packet_its_verdict_and_raises_its_counter)
{
    load({.udp_port = encapsulated_port});
    put_socket(0);
    std::set<unsigned> risen;
    for (const auto &[sentence, sent, expected] : default_rows()) {
        const auto seen = run(sent.bytes());
        EXPECT_EQ(seen, expected) << sentence;
        risen.insert(seen.counter);
    }
    set_answered(SP_PINGS_MAX);
    const auto ping = packet().type(SP_PING).port(0).bytes();
    EXPECT_EQ(run(ping), drops(SP_XDP_ping_rate));
    set_answered(SP_PINGS_MAX - 1);
    EXPECT_EQ(run(ping), answered);
    EXPECT_EQ(run(ping), drops(SP_XDP_ping_rate));
    risen.insert(SP_XDP_ping_rate);
    for (unsigned i = 0; i < SP_XDP_STATS; ++i)
        EXPECT_TRUE(risen.contains(i)) << "no packet of the table raises " << stat_table[i].name;
}

TEST_F(steer, leaves_packets_to_the_kernel_while_no_socket_is_bound)
{
    load({});
    EXPECT_EQ(run(packet().bytes()), passes(SP_XDP_no_socket));
    put_socket(0);
    EXPECT_EQ(run(packet().bytes()), redirected);
    socket_ = descriptor();
    EXPECT_EQ(run(packet().bytes()), passes(SP_XDP_no_socket))
        << "a closed socket leaves the map by itself";
}

TEST_F(steer, asks_the_socket_of_its_own_queue)
{
    load({});
    put_socket(1);
    EXPECT_EQ(run(packet().bytes()), passes(SP_XDP_no_socket)) << "test runs arrive on queue 0";
}

TEST_F(steer, strict_mode_drops_what_nobody_serves_and_nothing_of_other_hosts)
{
    load({.miss_drops = true});
    EXPECT_EQ(run(packet().port(other_port).bytes()), drops(SP_XDP_no_port));
    EXPECT_EQ(run(packet().bytes()), drops(SP_XDP_no_socket));
    EXPECT_EQ(run(packet().port(wrong_shard_port).bytes()), drops(SP_XDP_no_socket));
    EXPECT_EQ(run(packet().to(other_ipv4).bytes()), passes(SP_XDP_foreign_address));
    EXPECT_EQ(run(packet().port(other_port).to(other_ipv4).bytes()),
              passes(SP_XDP_foreign_address));
    EXPECT_EQ(run(packet().ethertype(0x0806).bytes()), passes(SP_XDP_not_sp));
    EXPECT_EQ(run(packet().version(0x25).bytes()), passes(SP_XDP_other_version));
    put_socket(0);
    EXPECT_EQ(run(packet().bytes()), redirected);
}

TEST_F(steer, reads_no_udp_unless_a_port_is_configured)
{
    load({});
    put_socket(0);
    EXPECT_EQ(run(packet().udp(0).bytes()), passes(SP_XDP_not_sp));
    EXPECT_EQ(run(packet().udp().bytes()), passes(SP_XDP_not_sp));
}

TEST_F(steer, takes_the_protocol_number_it_was_given)
{
    load({.protocol = 254});
    put_socket(0);
    EXPECT_EQ(run(packet().bytes()), passes(SP_XDP_not_sp));
    EXPECT_EQ(run(packet().protocol(254).bytes()), redirected);
    EXPECT_EQ(run(packet().ipv6().protocol(254).bytes()), redirected);
}

TEST_F(steer, stops_when_its_port_is_withdrawn)
{
    load({});
    put_socket(0);
    set_port(served_port, 0);
    EXPECT_EQ(run(packet().bytes()), passes(SP_XDP_no_port));
}

TEST_F(steer, is_described_by_its_config)
{
    load({.protocol = 254, .udp_port = 1234, .miss_drops = true});
    const auto config = read_config(program_.maps.fd(map::config));
    ASSERT_TRUE(config);
    EXPECT_EQ(config->layout, SP_MAP_LAYOUT);
    EXPECT_EQ(config->protocol, 254);
    EXPECT_EQ(ntohs(config->udp_port), 1234);
    EXPECT_EQ(config->miss_drops, 1);
    EXPECT_GT(config->loaded_at, 0u);
    EXPECT_STREQ(reinterpret_cast<const char *>(config->version), SP_VERSION);
}

bool is_local(const sp_parsed &found)
{
    const bool v4 = found.family == 4;
    std::uint8_t local[16]{};
    inet_pton(v4 ? AF_INET : AF_INET6, v4 ? local_ipv4 : local_ipv6, local);
    return std::memcmp(found.destination, local, v4 ? 4 : 16) == 0;
}

// The same decision in user space. `budget`: another ping may be answered.
fate decide(const std::vector<std::uint8_t> &frame, const load_options &options, bool has_socket,
            bool budget)
{
    sp_parsed found{};
    const auto miss = options.miss_drops ? XDP_DROP : XDP_PASS;
    switch (sp_parse_frame(frame.data(), frame.data() + frame.size(), options.protocol,
                           htons(options.udp_port), &found)) {
    case SP_SHAPE_SP:
        break;
    case SP_SHAPE_NOT_SP:
        return passes(SP_XDP_not_sp);
    case SP_SHAPE_IP_OPTIONS:
        return passes(SP_XDP_ip_options);
    case SP_SHAPE_FRAGMENT:
        return passes(SP_XDP_fragment);
    case SP_SHAPE_OTHER_VERSION:
        return passes(SP_XDP_other_version);
    case SP_SHAPE_BAD_LENGTH:
        return drops(SP_XDP_bad_length);
    case SP_SHAPE_BAD_TYPE:
        return drops(SP_XDP_bad_type);
    case SP_SHAPE_BAD_FLAGS:
        return drops(SP_XDP_bad_flags);
    }
    const auto port = ntohs(found.header->dport);
    if (found.header->type == SP_PING && !port)
        return !is_local(found) || ((frame[0] | frame[6]) & 1) ? passes(SP_XDP_foreign_address)
               : budget                                        ? answered
                                                               : drops(SP_XDP_ping_rate);
    const bool served = port == served_port || port == wrong_shard_port;
    const bool ours = is_local(found);
    if (!served && (!options.miss_drops || found.header->type == SP_PONG))
        return passes(SP_XDP_no_port);
    if (!ours)
        return passes(SP_XDP_foreign_address);
    if (!served)
        return {static_cast<unsigned>(miss), SP_XDP_no_port};
    if (port == wrong_shard_port || !has_socket)
        return {static_cast<unsigned>(miss), SP_XDP_no_socket};
    return redirected;
}

// Changes a frame where it hurts: mostly in the first 100 bytes, by bits, by bytes that mean
// something, by length.
void mutate(std::vector<std::uint8_t> &frame, std::mt19937_64 &random)
{
    constexpr std::uint8_t telling[]{0,    1,    4,    5,    7,    8,    13,  0x15, 0x25,
                                     0x45, 0x46, 0x60, 0x81, 0x86, 0x88, 253, 17,   255};
    constexpr std::size_t ethernet_least = 14; // the kernel runs no program on less
    for (auto changes = random() % 4; changes > 0; --changes) {
        auto &byte = frame[random() % std::min<std::size_t>(frame.size(), 100)];
        switch (random() % 3) {
        case 0:
            byte = static_cast<std::uint8_t>(byte ^ 1u << random() % 8);
            break;
        case 1:
            byte = telling[random() % std::size(telling)];
            break;
        default:
            byte = static_cast<std::uint8_t>(random());
        }
    }
    if (random() % 8 == 0)
        frame.resize(ethernet_least + random() % (frame.size() + 32),
                     static_cast<std::uint8_t>(random()));
}

// What the program made of a frame, by the kernel's test run.
TEST_F(steer, answers_a_ping_with_what_came_both_ends_exchanged)
{
    load({.udp_port = encapsulated_port});
    for (auto p : {packet(), packet().ipv6(), packet().udp(), packet().ipv6().udp(),
                   packet().vlan().ipv6().udp()}) {
        const auto sent = p.type(SP_PING).port(0).sport(4711).size(80).sum().bytes();
        std::vector<std::uint8_t> back(sent.size());
        LIBBPF_OPTS(bpf_test_run_opts, how, .data_in = sent.data(), .data_out = back.data(),
                    .data_size_in = static_cast<std::uint32_t>(sent.size()),
                    .data_size_out = static_cast<std::uint32_t>(back.size()), .repeat = 1);
        ASSERT_EQ(bpf_prog_test_run_opts(program_.fd.get(), &how), 0) << std::strerror(errno);
        ASSERT_EQ(how.retval, static_cast<unsigned>(XDP_TX));
        ASSERT_EQ(how.data_size_out, sent.size()) << "as long as it came";
        EXPECT_TRUE(std::equal(sent.begin(), sent.begin() + 6, back.begin() + 6));
        EXPECT_TRUE(std::equal(sent.begin() + 6, sent.begin() + 12, back.begin()));
        sp_parsed question{}, answer{};
        const auto parse = [](const auto &frame, sp_parsed &out) {
            return sp_parse_frame(frame.data(), frame.data() + frame.size(), SP_IP_PROTOCOL,
                                  htons(encapsulated_port), &out);
        };
        ASSERT_EQ(parse(sent, question), SP_SHAPE_SP);
        // What came behind UDP goes back to a port that is not ours: parsed as it was asked.
        if (question.udp) {
            const auto at = reinterpret_cast<const std::uint8_t *>(question.udp) - sent.data();
            sp_udp udp;
            std::memcpy(&udp, back.data() + at, sizeof udp);
            EXPECT_EQ(udp.source, htons(encapsulated_port));
            EXPECT_EQ(udp.destination, question.udp->source);
            EXPECT_TRUE(udp_sum_is_right(back, static_cast<std::size_t>(at), question.family));
            const auto port = udp.source;
            udp.source = udp.destination;
            udp.destination = port;
            std::memcpy(back.data() + at, &udp, sizeof udp);
        }
        ASSERT_EQ(parse(back, answer), SP_SHAPE_SP);
        EXPECT_EQ(answer.length, question.length);
        const std::size_t bytes = question.family == 4 ? 4 : 16;
        EXPECT_EQ(std::memcmp(answer.source, question.destination, bytes), 0);
        EXPECT_EQ(std::memcmp(answer.destination, question.source, bytes), 0);
        EXPECT_EQ(answer.header->type, SP_PONG);
        EXPECT_EQ(answer.header->dport, htons(4711));
        EXPECT_EQ(answer.header->sport, 0);
        EXPECT_EQ(std::memcmp(answer.header + 1, question.header + 1,
                              question.length - sizeof(sp_header)),
                  0);
    }
}

TEST_F(steer, answers_pings_again_when_their_second_is_over)
{
    load({});
    const std::uint32_t only = 0;
    const std::vector<sp_ping_budget> spent(static_cast<std::size_t>(libbpf_num_possible_cpus()),
                                            sp_ping_budget{0, SP_PINGS_MAX}); // of an earlier time
    ASSERT_EQ(bpf_map_update_elem(program_.maps.fd(map::pings), &only, spent.data(), BPF_ANY), 0);
    EXPECT_EQ(run(packet().type(SP_PING).port(0).bytes()), answered);
}

class steer_like_the_parser : public steer, public ::testing::WithParamInterface<bool> {};

TEST_P(steer_like_the_parser, on_fifty_thousand_mutated_packets)
{
    constexpr int packets = 50'000;
    const auto seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    RecordProperty("seed", std::to_string(seed));
    std::cout << "seed " << seed << '\n';
    std::mt19937_64 random(seed);
    load({.udp_port = encapsulated_port, .miss_drops = GetParam()});
    put_socket(0);
    std::vector<std::vector<std::uint8_t>> base;
    for (const auto &one : default_rows())
        base.push_back(one.sent.bytes());
    std::map<unsigned, int> spread;
    for (int i = 0; i < packets; ++i) {
        auto frame = base[random() % base.size()];
        mutate(frame, random);
        const bool budget = random() % 2;
        const auto expected = decide(frame, options_, true, budget);
        set_answered(budget ? 0 : SP_PINGS_MAX);
        const auto seen = run(frame);
        ASSERT_EQ(seen, expected) << "packet " << i << ": " << ::testing::PrintToString(frame);
        ++spread[seen.counter];
    }
    for (unsigned i = 0; i < SP_XDP_STATS; ++i)
        EXPECT_GT(spread[i], packets / 2000)
            << "the packets hardly ever reach " << stat_table[i].name;
}

INSTANTIATE_TEST_SUITE_P(in_both_miss_modes, steer_like_the_parser, ::testing::Bool(),
                         [](const auto &one) { return one.param ? "strict" : "lenient"; });

} // namespace
} // namespace sp::xdp
