// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/transport/segment.hpp"

#include "userspace/ring/record_ring.hpp"
#include "userspace/transport/memfd.hpp"

#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>

namespace sp::transport {
namespace {

// FUTURE_WRITE forbids whatever would write but the mapping that is there already; SHRINK and GROW
// alone would leave the punching of holes.
constexpr int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
constexpr off_t whole_max = SP_SEGMENT_RING + 2 * off_t{SP_SEGMENT_RING_MAX}; // slots and data

static_assert(SP_SEGMENT_RING_MIN >= ring::ring_bytes_min);
static_assert(SP_SEGMENT_RING_MAX <= ring::ring_bytes_max);
static_assert(SP_SEGMENT_ASLEEP - SP_SEGMENT_PROGRESS == ring::line_distance);

} // namespace

mapping::mapping(int fd, std::size_t bytes, int protection) noexcept
{
    void *const got = ::mmap(nullptr, bytes, protection, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (got == MAP_FAILED)
        return;
    at_ = static_cast<std::byte *>(got);
    bytes_ = bytes;
    ::madvise(got, bytes, MADV_DONTFORK);
    ::madvise(got, bytes, MADV_DONTDUMP);
}

mapping &mapping::operator=(mapping &&other) noexcept
{
    if (this != &other) {
        this->~mapping();
        at_ = std::exchange(other.at_, nullptr);
        bytes_ = std::exchange(other.bytes_, 0);
    }
    return *this;
}

mapping::~mapping()
{
    if (at_)
        ::munmap(at_, bytes_);
    at_ = nullptr;
}

std::optional<sealed_memory> make_sealed(std::size_t bytes) noexcept
{
    const auto size = static_cast<off_t>(bytes);
    auto fd = make_memfd("sp-segment");
    // The pages are the owner's from the start: a fault of the reader would be charged to it.
    if (!fd || ::ftruncate(fd.get(), size) != 0 || ::fallocate(fd.get(), 0, 0, size) != 0)
        return std::nullopt;
    mapping map(fd.get(), bytes, PROT_READ | PROT_WRITE);
    if (!map || ::fcntl(fd.get(), F_ADD_SEALS, seals) != 0)
        return std::nullopt;
    return sealed_memory{std::move(fd), std::move(map)};
}

mapping map_sealed(const descriptor &fd) noexcept
{
    // Only a memfd has seals; a plain file of tmpfs that has some has not these.
    const int has = ::fcntl(fd.get(), F_GET_SEALS);
    if (has < 0 || (has & seals) != seals)
        return {};
    struct stat file{};
    if (::fstat(fd.get(), &file) != 0 || !S_ISREG(file.st_mode) ||
        file.st_size <= SP_SEGMENT_RING || file.st_size > whole_max ||
        static_cast<std::uint64_t>(file.st_blocks) * block_bytes <
            static_cast<std::uint64_t>(file.st_size))
        return {};
    return mapping(fd.get(), static_cast<std::size_t>(file.st_size), PROT_READ);
}

std::optional<own_segment> own_segment::make(std::size_t ring_bytes) noexcept
{
    SP_INVARIANT(takes(ring_bytes));
    auto made = make_sealed(SP_SEGMENT_RING + ring_bytes);
    if (!made)
        return std::nullopt;
    const sp_segment_head head{.magic = SP_SEGMENT_MAGIC,
                               .version = SP_SEGMENT_VERSION,
                               .ring_bytes = ring_bytes,
                               .reserved = {}};
    std::memcpy(made->map.at(0), &head, sizeof head);
    return own_segment(std::move(made->fd), std::move(made->map));
}

std::optional<peer_segment> peer_segment::map(const descriptor &fd) noexcept
{
    auto map = map_sealed(fd);
    if (!map || !own_segment::takes(map.size() - SP_SEGMENT_RING))
        return std::nullopt;
    sp_segment_head head; // copied once; nothing is read from it again
    std::memcpy(&head, map.at(0), sizeof head);
    if (head.magic != SP_SEGMENT_MAGIC || head.version != SP_SEGMENT_VERSION ||
        head.ring_bytes != map.size() - SP_SEGMENT_RING)
        return std::nullopt;
    return peer_segment(std::move(map));
}

} // namespace sp::transport
