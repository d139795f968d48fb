// SPDX-License-Identifier: BSD-2-Clause
//
// A hostile process on the same host, which speaks the handshake well and then does with its own
// memory, its descriptors and its datagrams what it likes; and a REP that it dials, with an honest
// neighbour who must be served before and after.
#pragma once

#include "tests/support/local.hpp"
#include "userspace/link/connection.hpp"
#include "userspace/link/packet.hpp"
#include "userspace/link/stranger.hpp"
#include "userspace/ring/record.hpp"
#include "userspace/transport/segment.hpp"
#include "userspace/transport/unix_path.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <random>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <vector>

namespace sp::test {

using transport::descriptor;

inline constexpr std::size_t ring_bytes = 16 * 1024;
inline constexpr std::size_t whole = SP_SEGMENT_RING + ring_bytes;

// What it hands over, before it is spoiled.
struct half {
    descriptor memory, bell{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    std::byte *at = nullptr;

    explicit half(int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL,
                  bool allocated = true)
        : memory(::memfd_create("wild", MFD_CLOEXEC | MFD_ALLOW_SEALING))
    {
        if (::ftruncate(memory.get(), whole) != 0 ||
            (allocated && ::fallocate(memory.get(), 0, 0, whole) != 0))
            throw std::runtime_error("no memory");
        void *const got =
            ::mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
        if (got == MAP_FAILED)
            throw std::runtime_error("no map");
        at = static_cast<std::byte *>(got);
        if (allocated) {
            const sp_segment_head head{.magic = SP_SEGMENT_MAGIC,
                                       .version = SP_SEGMENT_VERSION,
                                       .ring_bytes = ring_bytes,
                                       .reserved = {}};
            std::memcpy(at, &head, sizeof head);
            word(SP_SEGMENT_LIMIT) = ~std::uint64_t{0};
        }
        if (::fcntl(memory.get(), F_ADD_SEALS, seals) != 0)
            throw std::runtime_error("no seals");
    }
    half(const half &) = delete;
    half &operator=(const half &) = delete;
    ~half() { ::munmap(at, whole); }

    [[nodiscard]] std::uint64_t &word(std::size_t offset) const
    {
        return *reinterpret_cast<std::uint64_t *>(at + offset);
    }
};

// Descriptors beside a datagram.
class gift_control {
public:
    void put(msghdr &message, const std::vector<int> &beside)
    {
        if (beside.empty())
            return;
        message.msg_control = room_.data();
        message.msg_controllen = CMSG_SPACE(beside.size() * sizeof(int));
        auto *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(beside.size() * sizeof(int));
        std::memcpy(CMSG_DATA(head), beside.data(), beside.size() * sizeof(int));
    }

private:
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(64 * sizeof(int))> room_{};
};

class wild {
public:
    explicit wild(const std::string &path, std::uint16_t protocol = 0x30,
                  std::uint16_t peer_protocol = 0x31)
        : fd_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)), link_([=] {
              static std::mt19937_64 names{std::random_device()()};
              link::connection_config c;
              c.local_id = names() | 1;
              c.instance = names() | 1;
              c.local_port = 0;
              c.protocol = protocol;
              c.peer_protocol = peer_protocol;
              c.packet_max = 65532;
              c.message_max = 1 << 20;
              return link::connection::dial(c, engine_clock::now());
          }())
    {
        const auto name = transport::path_name(path);
        const sa_family_t family = AF_UNIX;
        if (::bind(fd_.get(), reinterpret_cast<const sockaddr *>(&family), sizeof family) != 0 ||
            ::connect(fd_.get(), name->get(), name->length) != 0)
            throw std::runtime_error("cannot connect");
    }

    ~wild()
    {
        link_.close(SP_REASON_SHUTTING_DOWN);
        transmit({});
    }
    wild(const wild &) = delete;
    wild &operator=(const wild &) = delete;

    // The handshake, its INIT with these descriptors beside it. True: it was accepted with memory.
    bool introduce(const std::vector<int> &beside)
    {
        while (link_.state() != link::phase::open) {
            transmit(beside);
            if (link_.state() == link::phase::closed)
                throw std::runtime_error("refused");
            receive();
        }
        transmit({});
        return static_cast<bool>(theirs_);
    }
    [[nodiscard]] const std::optional<transport::peer_segment> &theirs() const { return theirs_; }
    // As its INIT has it.
    [[nodiscard]] std::uint64_t connection() const { return SP_BE64(link_.local_id()); }
    void ring() const
    {
        const std::uint64_t one = 1;
        (void)!::write(bell_.get(), &one, sizeof one);
    }
    bool send(std::span<const std::byte> bytes, const std::vector<int> &beside = {}) const
    {
        iovec piece{const_cast<std::byte *>(bytes.data()), bytes.size()};
        msghdr message{};
        message.msg_iov = &piece;
        message.msg_iovlen = 1;
        gift_control control;
        control.put(message, beside);
        return ::sendmsg(fd_.get(), &message, MSG_DONTWAIT) >= 0;
    }

private:
    void transmit(const std::vector<int> &beside)
    {
        while (const auto n = link_.transmit_size()) {
            std::vector<std::byte> packet(n);
            packet.resize(link_.transmit(packet, engine_clock::now()));
            const bool init = packet[offsetof(sp_header, type)] == std::byte{SP_INIT};
            until([&] { return send(packet, init ? beside : std::vector<int>{}); });
        }
    }
    void receive()
    {
        pollfd p{.fd = fd_.get(), .events = POLLIN, .revents = 0};
        if (::poll(&p, 1, 10) == 0) {
            link_.on_deadline(engine_clock::now());
            return;
        }
        std::vector<std::byte> packet(65536);
        iovec piece{packet.data(), packet.size()};
        alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(3 * sizeof(int))> control{};
        msghdr message{};
        message.msg_iov = &piece;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        const auto got = ::recvmsg(fd_.get(), &message, MSG_CMSG_CLOEXEC);
        if (got < 0)
            throw std::runtime_error("nothing came");
        if (const auto *head = CMSG_FIRSTHDR(&message); head && head->cmsg_type == SCM_RIGHTS) {
            std::array<int, 3> fds{-1, -1, -1};
            std::memcpy(fds.data(), CMSG_DATA(head),
                        std::min(sizeof fds, head->cmsg_len - CMSG_LEN(0)));
            const descriptor air(fds[2]); // of a publisher
            theirs_ = transport::peer_segment::map(descriptor(fds[0]));
            bell_ = descriptor(fds[1]);
        }
        packet.resize(static_cast<std::size_t>(got));
        (void)link_.on_packet(packet, engine_clock::now());
    }

    descriptor fd_, bell_;
    link::connection link_;
    std::optional<transport::peer_segment> theirs_;
};

class wild_neighbour : public on_one_host {
protected:
    void SetUp() override
    {
        on_one_host::SetUp();
        open_engine(answering_);
        rep_.emplace(listening());
        answers_.emplace(*rep_);
        honest_engine_.emplace(must(sp::engine::open({})));
        honest_.emplace(must(sp::req::open({.on = &*honest_engine_})));
        (void)must(honest_->dial(url(), patience));
        expect_served();
    }
    void TearDown() override
    {
        expect_served();
        honest_.reset();
        honest_engine_.reset();
        answers_.reset();
        rep_.reset();
        on_one_host::TearDown();
    }
    void expect_served()
    {
        const auto body = "honest question " + std::to_string(++asked_);
        EXPECT_EQ(text_of(honest_->request(body, patience)), body);
    }
    void expect_alone()
    {
        until([&] { return rep_->peers() == 1; });
    }

    sp::engine_options answering_{}; // what the REP's engine is opened with
    std::optional<sp::rep> rep_;
    std::optional<echo> answers_;
    std::optional<sp::engine> honest_engine_;
    std::optional<sp::req> honest_;
    int asked_ = 0;
};

// A record as an honest writer commits it, at a position of the ring.
inline void commit(const half &h, std::uint64_t position, std::span<const std::byte> payload,
                   std::uint16_t flags = 3, ring::kind what = ring::kind::data)
{
    auto *at = h.at + SP_SEGMENT_RING + (position & (ring_bytes - 1));
    const ring::tag tag{.id = static_cast<std::uint32_t>(payload.size()), .flags = flags};
    std::memcpy(at + 8, &tag, sizeof tag);
    std::memcpy(at + 16, payload.data(), payload.size());
    std::atomic_ref(*reinterpret_cast<std::uint64_t *>(at))
        .store(ring::pack(payload.size(), what, position));
}

inline std::vector<std::byte> request(std::uint32_t id, std::string_view body)
{
    std::vector<std::byte> all(4 + body.size());
    const auto wire = SP_BE32(id | 0x8000'0000u);
    std::memcpy(all.data(), &wire, sizeof wire);
    std::memcpy(all.data() + 4, body.data(), body.size());
    return all;
}

} // namespace sp::test
