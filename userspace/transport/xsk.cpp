// SPDX-License-Identifier: BSD-2-Clause
//
// See xsk.hpp.
#include "userspace/transport/xsk.hpp"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <linux/if_xdp.h>
#include <sys/socket.h>

namespace sp::transport {
namespace {

// A queue stays taken for 12 to 25 ms after its owner has gone (measured): the kernel frees it
// later.
constexpr int busy_retries = 250;
constexpr timespec busy_pause{0, 1'000'000};

// A kernel from 6.17 sends more than 32 packets of a copying socket in one call when asked to; not
// in every header.
constexpr int max_tx_budget_option = 9;

error cannot_bind(const xsk::place &where, int why)
{
    const std::string queue = where.interface + " queue " + std::to_string(where.queue);
    switch (why) {
    case EBUSY:
        return error::numbered(1008, "receive queue " + std::to_string(where.queue) + " of " +
                                         where.interface + " is in use");
    case EPERM:
    case EACCES:
        return error::numbered(1001, "cannot open an AF_XDP socket");
    case ENODEV:
        return error::numbered(1011, "no such interface: " + where.interface);
    case ENOBUFS:
    case ENOMEM:
        return error::numbered(1009, "not enough memory for the rings of " + queue,
                               std::strerror(why));
    default:
        return error::numbered(1025, "cannot bind AF_XDP to " + queue, std::strerror(why));
    }
}

bool refuses_zero_copy(int status) noexcept
{
    return status == EOPNOTSUPP || status == EINVAL;
}

} // namespace

xsk::xsk(umem memory, std::unique_ptr<ring_pair> rings, socket_ptr socket)
    : memory_(std::move(memory)), rings_(std::move(rings)), socket_(std::move(socket)),
      rx_bytes_(std::uint64_t{memory_.shape().rx_frames} * memory_.shape().frame_bytes),
      free_(std::make_unique<std::uint64_t[]>(memory_.shape().tx_frames)),
      free_count_(memory_.shape().tx_frames), reap_below_(memory_.shape().tx_frames / 4)
{
    for (std::uint32_t i = 0; i < free_count_; ++i)
        free_[i] = rx_bytes_ + std::uint64_t{i} * memory_.shape().frame_bytes;
}

// Returns 0 or the kernel's errno; an EBUSY is retried while it may pass.
int xsk::try_bind(const place &where, umem &memory, ring_pair &rings, std::uint16_t mode,
                  socket_ptr &socket)
{
    xsk_socket_config config{};
    config.rx_size =
        memory.shape().rx_frames / 2; // the other half is in FILL whatever the reader does
    config.tx_size = memory.shape().tx_frames;
    config.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD;
    config.bind_flags = static_cast<std::uint16_t>(XDP_USE_NEED_WAKEUP | mode);
    auto *tx = memory.shape().tx_frames ? &rings.tx : nullptr;
    for (int attempt = 0;; ++attempt) {
        xsk_socket *made = nullptr;
        const int status = xsk_socket__create(&made, where.interface.c_str(), where.queue,
                                              memory.handle(), &rings.rx, tx, &config);
        if (status == 0) {
            socket.reset(made);
            return 0;
        }
        if (status != -EBUSY || attempt == busy_retries)
            return -status;
        ::nanosleep(&busy_pause, nullptr);
    }
}

result<xsk> xsk::open(const place &where, umem memory, zerocopy mode)
{
    auto rings = std::make_unique<ring_pair>();
    socket_ptr socket;
    int status = EOPNOTSUPP;
    if (mode != zerocopy::off)
        status = try_bind(where, memory, *rings, XDP_ZEROCOPY, socket);
    if (mode == zerocopy::required && refuses_zero_copy(status))
        return std::unexpected(error::numbered(1012, "zero-copy is refused on " + where.interface,
                                               std::strerror(status)));
    if (mode != zerocopy::required && refuses_zero_copy(status))
        status = try_bind(where, memory, *rings, XDP_COPY, socket);
    if (status != 0)
        return std::unexpected(cannot_bind(where, status));

    xsk opened(std::move(memory), std::move(rings), std::move(socket));
    xdp_options options{};
    socklen_t length = sizeof options;
    if (::getsockopt(opened.fd(), SOL_XDP, XDP_OPTIONS, &options, &length) == 0)
        opened.zero_copy_ = options.flags & XDP_OPTIONS_ZEROCOPY;
    const int budget = static_cast<int>(opened.memory_.shape().tx_frames);
    (void)::setsockopt(opened.fd(), SOL_XDP, max_tx_budget_option, &budget, sizeof budget);
    opened.fill_all();
    return opened;
}

void xsk::fill_all() noexcept
{
    for (std::uint64_t frame = 0; frame < rx_bytes_; frame += memory_.shape().frame_bytes)
        give_back({&frame, 1});
}

void xsk::wake_receive() noexcept
{
    if (xsk_ring_prod__needs_wakeup(&memory_.fill()))
        (void)::recvfrom(fd(), nullptr, 0, MSG_DONTWAIT, nullptr, nullptr);
}

xsk::kicked xsk::kick() noexcept
{
    auto &tx = rings_->tx;
    if (queued_) {
        xsk_ring_prod__submit(&tx, queued_);
        queued_ = 0;
    }
    if (!xsk_ring_prod__needs_wakeup(&tx))
        return kicked::done;
    // Each call that sends less than all has moved the ring, or the loop ends: it is bounded by the
    // frames.
    for (std::uint32_t room = xsk_prod_nb_free(&tx, tx.size);;) {
        if (::sendto(fd(), nullptr, 0, MSG_DONTWAIT, nullptr, 0) >= 0)
            return kicked::done;
        const int why = errno;
        if (why == ENXIO || why == ENETDOWN || why == EBADF)
            return kicked::down;
        const std::uint32_t left = xsk_prod_nb_free(&tx, tx.size);
        if (why != EAGAIN || left == room)
            return left == tx.size ? kicked::done : kicked::later;
        room = left;
    }
}

void xsk::reap() noexcept
{
    std::uint32_t first = 0;
    auto &completion = memory_.completion();
    const std::uint32_t done = xsk_ring_cons__peek(&completion, memory_.shape().tx_frames, &first);
    if (done == 0)
        return;
    for (std::uint32_t i = 0; i < done; ++i) {
        const std::uint64_t address = *xsk_ring_cons__comp_addr(&completion, first + i);
        // The kernel echoes what was submitted; what was not ours is not taken.
        if (address >= rx_bytes_ && address < memory_.bytes() &&
            free_count_ < memory_.shape().tx_frames)
            free_[free_count_++] = frame_of(address);
    }
    xsk_ring_cons__release(&completion, done);
}

xsk::statistics xsk::read_statistics() const noexcept
{
    xdp_statistics found{};
    socklen_t length = sizeof found;
    if (::getsockopt(fd(), SOL_XDP, XDP_STATISTICS, &found, &length) != 0)
        return {};
    return {found.rx_fill_ring_empty_descs, found.rx_ring_full};
}

bool xsk::lost_device() const noexcept
{
    int pending = 0;
    socklen_t length = sizeof pending;
    return ::getsockopt(fd(), SOL_SOCKET, SO_ERROR, &pending, &length) != 0 || pending != 0;
}

} // namespace sp::transport
