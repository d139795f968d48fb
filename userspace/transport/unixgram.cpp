// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/transport/unixgram.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/un.h>
#include <unistd.h>
#include <utility>

namespace sp::transport {
namespace {

constexpr std::size_t failures_max = 64;
// The kernel's own names (autobind): a zero byte and five hexadecimal digits.
constexpr std::size_t autobind_bytes = 5;

unix_name name_of(const sp_address &peer) noexcept
{
    // The address of a dialer is the abstract name that the kernel chose for it.
    return *abstract_name({reinterpret_cast<const char *>(peer.bytes), peer.length});
}

// The kernel must be asked for credentials before anybody can know the socket: what is queued
// without them has none.
result<descriptor> open_socket()
{
    constexpr int on = 1;
    descriptor fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd || ::setsockopt(fd.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0)
        return std::unexpected(socket_error("cannot open a unix socket"));
    return fd;
}

} // namespace

unixgram::unixgram(descriptor fd, std::string path, bool listens, counters &stats,
                   share_options share)
    : fd_(std::move(fd)), path_(std::move(path)), listens_(listens), stats_(&stats),
      scratch_(packet_bytes_max), room_(new std::byte[batch * packet_bytes_max]), share_(share),
      shares_(share.sleeper != nullptr && share.ring_bytes > 0)
{
    constexpr int buffer =
        4 << 20; // what a queue of ten large packets needs; the kernel caps it by its own limit
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
}

result<unixgram> unixgram::listen(const std::string &path, unsigned mode, counters &stats,
                                  allow_list allowed, share_options share)
{
    auto fd = open_socket();
    if (!fd)
        return std::unexpected(fd.error());
    auto bound = unix_path::bind(fd->get(), SOCK_DGRAM, path, mode);
    if (!bound)
        return std::unexpected(bound.error());
    unixgram t(std::move(*fd), path, true, stats, share);
    t.allowed_ = std::move(allowed);
    t.bound_.emplace(std::move(*bound));
    return t;
}

result<unixgram> unixgram::dial(const std::string &path, counters &stats, share_options share)
{
    if (!path_name(path))
        return std::unexpected(path_error(path));
    auto fd = open_socket();
    if (!fd)
        return std::unexpected(fd.error());
    const sa_family_t family = AF_UNIX; // only the family: the kernel chooses an abstract name
    if (::bind(fd->get(), reinterpret_cast<const sockaddr *>(&family), sizeof family) != 0)
        return std::unexpected(socket_error("cannot name a unix socket"));
    return unixgram(std::move(*fd), path, false, stats, share);
}

sp_address unixgram::listener_address() noexcept
{
    sp_address a{};
    a.family = SP_FAMILY_UNIX;
    return a;
}

// ---- receiving ----

std::size_t unixgram::receive_batch() noexcept
{
    std::array<mmsghdr, batch> messages{};
    std::array<iovec, batch> vectors;
    std::array<sockaddr_un, batch> names;
    for (std::size_t i = 0; i < batch; ++i) {
        vectors[i] = {room_.get() + i * packet_bytes_max, packet_bytes_max};
        messages[i].msg_hdr.msg_iov = &vectors[i];
        messages[i].msg_hdr.msg_iovlen = 1;
        messages[i].msg_hdr.msg_name = listens_ ? &names[i] : nullptr;
        messages[i].msg_hdr.msg_namelen = listens_ ? sizeof names[i] : 0;
        messages[i].msg_hdr.msg_control = control_[i].bytes.data();
        messages[i].msg_hdr.msg_controllen = credentials_space + (shares_ ? gifts_space : 0);
    }
    const int got =
        ::recvmmsg(fd_.get(), messages.data(), batch, MSG_DONTWAIT | MSG_CMSG_CLOEXEC, nullptr);
    if (got <= 0)
        return 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(got); ++i) {
        const auto &header = messages[i].msg_hdr;
        length_[i] = messages[i].msg_len;
        flags_[i] = header.msg_flags;
        control_[i].length = header.msg_controllen;
        if (control_[i].length > credentials_space)
            open_gifts(i);
        from_[i] = listener_address();
        if (!listens_)
            continue;
        const auto name_bytes =
            header.msg_namelen -
            std::min<std::size_t>(header.msg_namelen, offsetof(sockaddr_un, sun_path));
        if (name_bytes == autobind_bytes + 1 && names[i].sun_path[0] == 0) {
            from_[i].length = autobind_bytes;
            std::memcpy(from_[i].bytes, names[i].sun_path + 1, autobind_bytes);
        } else {
            length_[i] = 0; // not a dialer of ours: nobody to answer
        }
    }
    return static_cast<std::size_t>(got);
}

std::span<const std::byte> unixgram::take(std::size_t i) noexcept
{
    if ((flags_[i] & MSG_CTRUNC) != 0)
        stats_->add(stat::unixgram_descriptors);
    if ((flags_[i] & MSG_TRUNC) != 0) {
        stats_->add(stat::unixgram_truncated);
        return {};
    }
    const std::span<const std::byte> packet(room_.get() + i * packet_bytes_max, length_[i]);
    if (shares_ && packet.size() == bell.size())
        return {}; // it has woken us
    if (shares_ && on_handover(i, packet))
        return {};
    if (sp_check_packet(packet.data(), packet.data() + packet.size(),
                        static_cast<__u32>(packet.size())) != SP_SHAPE_SP) {
        stats_->add(stat::unixgram_malformed);
        return {};
    }
    stats_->add(stat::unixgram_received);
    const auto type = packet[offsetof(sp_header, type)];
    if (!listens_ && (type == std::byte{SP_COOKIE} || type == std::byte{SP_ACCEPT}))
        listener_ = credentials_of(i); // nobody else can write to a socket that is connected
    if (!listens_ && type == std::byte{SP_ACCEPT} && !meet_listener(i, packet))
        return {};
    if (gifts_[i][0] && type != std::byte{listens_ ? SP_INIT : SP_ACCEPT})
        stats_->add(stat::unixgram_descriptors);
    return packet;
}

// ---- who is there ----

std::optional<credentials> unixgram::credentials_of(std::size_t i) const noexcept
{
    cmsghdr head;
    ucred who;
    if (control_[i].length < CMSG_LEN(sizeof who))
        return std::nullopt;
    std::memcpy(&head, control_[i].bytes.data(), sizeof head);
    if (head.cmsg_level != SOL_SOCKET || head.cmsg_type != SCM_CREDENTIALS)
        return std::nullopt;
    std::memcpy(&who, control_[i].bytes.data() + CMSG_LEN(0), sizeof who);
    return credentials{.uid = who.uid, .gid = who.gid, .pid = who.pid};
}

std::optional<credentials> unixgram::sender() const noexcept
{
    return at_ < batch ? credentials_of(at_) : std::nullopt;
}

std::optional<credentials> unixgram::peer_of(route_id id) const noexcept
{
    return listens_ ? routes_[static_cast<std::uint32_t>(id)].who : listener_;
}

bool unixgram::may_come(const std::optional<credentials> &who) const noexcept
{
    const auto &[uids, gids] = allowed_;
    if (uids.empty() && gids.empty())
        return true;
    return who && (std::ranges::find(uids, who->uid) != uids.end() ||
                   std::ranges::find(gids, who->gid) != gids.end());
}

// ---- routes ----

bool unixgram::reach() noexcept
{
    const auto name = path_name(path_);
    if (::connect(fd_.get(), name->get(), name->length) == 0)
        return true;
    fail(listener_address(),
         errno == EACCES || errno == EPERM ? errc::permission_denied : errc::connection_refused);
    return false;
}

std::optional<route_id> unixgram::open_route(const sp_address &peer) noexcept
{
    if (!listens_ && !reach())
        return std::nullopt;
    auto free = std::ranges::find_if(routes_, [](const route &r) { return !r.open; });
    if (free == routes_.end()) {
        if (routes_.size() == routes_max)
            return std::nullopt;
        free = routes_.emplace(routes_.end());
    }
    free->open = true;
    free->peer = peer;
    ++open_;
    if (listens_) {
        free->who = sender(); // a listener opens routes for the packet it is looking at
        meet_dialer(*free);
    }
    return static_cast<route_id>(free - routes_.begin());
}

void unixgram::close_route(route_id id) noexcept
{
    auto &r = routes_[static_cast<std::uint32_t>(id)];
    drain(r);
    waiting_ -= r.pending.size();
    part_from(r);
    r = {};
    --open_;
}

// ---- sending ----

// As sendmsg() says, with errno.
bool unixgram::transmit(const sp_address &peer, std::span<const std::byte> packet,
                        std::span<const int> descriptors) noexcept
{
    auto to = name_of(peer);
    iovec bytes{const_cast<std::byte *>(packet.data()), packet.size()};
    msghdr message{};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    if (listens_) {
        message.msg_name = &to.name;
        message.msg_namelen = to.length;
    }
    alignas(cmsghdr) std::array<std::byte, gifts_space> beside{};
    if (!descriptors.empty()) {
        cmsghdr head{};
        head.cmsg_len = CMSG_LEN(descriptors.size_bytes());
        head.cmsg_level = SOL_SOCKET;
        head.cmsg_type = SCM_RIGHTS;
        std::memcpy(beside.data(), &head, sizeof head);
        std::memcpy(beside.data() + CMSG_LEN(0), descriptors.data(), descriptors.size_bytes());
        message.msg_control = beside.data();
        message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    }
    return ::sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

unixgram::outcome unixgram::try_send(const sp_address &peer, std::span<const std::byte> packet,
                                     route *by) noexcept
{
    std::array<int, 3> ours{};
    std::span<const int> beside;
    if (by && gives(*by, packet)) {
        const bool all = by->ring && same_user(*by);
        ours = {by->shared->segment_fd(), by->shared->bell_fd(), all ? by->ring->fd() : -1};
        beside = std::span(ours).first(all ? 3 : 2);
    }
    const bool sent = transmit(peer, packet, beside);
    if (sent) {
        stats_->add(stat::unixgram_sent);
        return outcome::sent;
    }
    if (errno == EAGAIN || errno == ENOBUFS) {
        stats_->add(stat::unixgram_queue_full);
        return outcome::full;
    }
    stats_->add(stat::unixgram_send_failed);
    fail(peer, errno == ECONNREFUSED || errno == ECONNRESET || errno == ENOENT || errno == ENOTCONN
                   ? errc::connection_refused
                   : errc::io_error);
    return outcome::failed;
}

std::span<std::byte> unixgram::reserve(route_id id, std::size_t n) noexcept
{
    auto &r = routes_[static_cast<std::uint32_t>(id)];
    if (!r.pending.empty())
        drain(r);
    if (r.pending.size() >= pending_max || n > packet_bytes_max)
        return {};
    return std::span(scratch_).first(n);
}

void unixgram::submit(route_id id, std::size_t n) noexcept
{
    auto &r = routes_[static_cast<std::uint32_t>(id)];
    const auto packet = std::span<const std::byte>(scratch_).first(n);
    if (!listens_ && packet[offsetof(sp_header, type)] == std::byte{SP_INIT} && offer(r))
        std::memcpy(&r.offered, packet.data() + offsetof(sp_init, identity.scid), sizeof r.offered);
    if (r.pending.empty() && try_send(r.peer, packet, &r) != outcome::full)
        return;
    r.pending.emplace_back(packet.begin(), packet.end());
    ++waiting_;
}

void unixgram::drain(route &r) noexcept
{
    while (!r.pending.empty() && try_send(r.peer, r.pending.front(), &r) != outcome::full) {
        r.pending.pop_front();
        --waiting_;
    }
}

void unixgram::send_to(const sp_address &peer, std::span<const std::byte> packet) noexcept
{
    (void)try_send(peer, packet); // best effort; what fails is counted
}

void unixgram::flush() noexcept
{
    if (!stirred_.empty())
        ring_bells();
    if (aired_) {
        const auto woken = share_.rings->flush();
        stats_->add(stat::ring_doorbells, woken.of_them);
        aired_ = !woken.all;
    }
    if (waiting_ == 0)
        return;
    for (auto &r : routes_)
        drain(r);
}

void unixgram::fail(const sp_address &peer, errc why) noexcept
{
    if (failures_.size() < failures_max)
        failures_.emplace_back(peer, why);
}

std::optional<std::pair<sp_address, errc>> unixgram::next_failure() noexcept
{
    if (failures_.empty())
        return std::nullopt;
    const auto first = failures_.front();
    failures_.pop_front();
    return first;
}

} // namespace sp::transport
