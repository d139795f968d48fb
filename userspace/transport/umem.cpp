// SPDX-License-Identifier: BSD-2-Clause
//
// See umem.hpp.
#include "userspace/transport/umem.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <sys/mman.h>
#include <sys/resource.h>

namespace sp::transport {
namespace {

std::string mebibytes(std::uint64_t bytes)
{
    const auto tenths = (bytes * 10 + (1 << 19)) >> 20;
    return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " MiB";
}

error cannot_lock(std::uint64_t bytes)
{
    rlimit limit{};
    (void)::getrlimit(RLIMIT_MEMLOCK, &limit);
    const std::string allowed =
        limit.rlim_cur == RLIM_INFINITY ? std::string("unlimited") : mebibytes(limit.rlim_cur);
    return error::numbered(1009, "cannot lock " + mebibytes(bytes) + " of packet memory",
                           "the locked-memory limit (RLIMIT_MEMLOCK) is " + allowed +
                               " for all queues together, and CAP_IPC_LOCK is missing");
}

error cannot_create(int why, std::uint64_t bytes)
{
    if (why == ENOBUFS || why == ENOMEM)
        return cannot_lock(bytes);
    if (why == EPERM || why == EACCES)
        return error::numbered(1001, "cannot open an AF_XDP socket");
    if (why == EMFILE || why == ENFILE)
        return error::numbered(2009, "cannot open an AF_XDP socket", std::strerror(why));
    return error::numbered(1025, "cannot register packet memory for AF_XDP", std::strerror(why));
}

} // namespace

void umem::unmapper::operator()(std::byte *area) const noexcept
{
    ::munmap(area, bytes);
}

result<umem> umem::create(const umem_shape &shape)
{
    const std::size_t bytes = std::size_t{shape.frame_bytes} * (shape.rx_frames + shape.tx_frames);
    void *mapped =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED)
        return std::unexpected(cannot_create(errno, bytes));
    area_ptr area(static_cast<std::byte *>(mapped), unmapper{bytes});
    // A child must not share the pinned pages: the first write after fork() would move the parent
    // to copies that the kernel does not know. Huge pages only spare TLB misses.
    (void)::madvise(mapped, bytes, MADV_DONTFORK);
    (void)::madvise(mapped, bytes, MADV_HUGEPAGE);

    auto rings = std::make_unique<ring_pair>();
    xsk_umem_config config{};
    config.fill_size =
        2 * shape.rx_frames; // never full: giving a frame back does not read the kernel's index
    config.comp_size =
        std::max(shape.tx_frames, 64u); // the kernel insists on a ring even where nothing is sent
    config.frame_size = shape.frame_bytes;
    config.frame_headroom = headroom;
    xsk_umem *handle = nullptr;
    const int status =
        xsk_umem__create(&handle, mapped, bytes, &rings->fill, &rings->completion, &config);
    if (status != 0)
        return std::unexpected(cannot_create(-status, bytes));
    return umem(shape, std::move(area), std::move(rings), handle_ptr(handle));
}

} // namespace sp::transport
