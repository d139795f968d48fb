// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/transport/handover.hpp"

#include "userspace/invariant.hpp"
#include "userspace/transport/memfd.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <fcntl.h>
#include <string_view>
#include <sys/stat.h>
#include <utility>

namespace sp::transport {
namespace {

constexpr int seals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
constexpr std::size_t page = 4096;
// Where the system gives huge pages to a memfd, it does so at such an address only.
constexpr std::size_t huge_page = std::size_t{2} << 20;

[[nodiscard]] std::size_t whole_pages(std::size_t n) noexcept
{
    return (n + page - 1) & ~(page - 1);
}

void end(large_memory::place &at) noexcept
{
    if (at.map)
        ::munmap(at.map, at.mapped);
    if (at.fd >= 0)
        ::close(at.fd);
}

// Addresses for a body and for so many bytes before it, nothing behind them yet.
[[nodiscard]] large_memory::place reserve(std::size_t front, std::size_t size) noexcept
{
    const auto spread = size >= huge_page ? huge_page : 0;
    large_memory::place at{.mapped = front + whole_pages(size) + spread, .size = size};
    void *const got =
        ::mmap(nullptr, at.mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (got == MAP_FAILED)
        return {};
    at.map = static_cast<std::byte *>(got);
    at.body = at.map + front;
    if (spread > 0)
        at.body += -reinterpret_cast<std::uintptr_t>(at.body) & (huge_page - 1);
    return at;
}

[[nodiscard]] bool put_behind(const large_memory::place &at, int fd, int protection,
                              int how) noexcept
{
    if (::mmap(at.body, at.size, protection, how | MAP_FIXED, fd, 0) == MAP_FAILED)
        return false;
    if (at.size >= huge_page)
        ::madvise(at.body, at.size, MADV_HUGEPAGE); // a wish
    return true;
}

// The room behind the body is kept as addresses, which end() gives back with the others.
[[nodiscard]] bool forget_rest(const large_memory::place &at, std::size_t room) noexcept
{
    const auto used = whole_pages(at.size);
    return used == room ||
           ::mmap(at.body + used, room - used, PROT_NONE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED;
}

// Does the system give huge pages to a memfd that wishes for them? The file shows all that it could
// be told, with what it was told in brackets.
[[nodiscard]] bool has_huge_pages() noexcept
{
    std::array<char, 128> text{};
    const descriptor file(
        ::open("/sys/kernel/mm/transparent_hugepage/shmem_enabled", O_RDONLY | O_CLOEXEC));
    const auto n = file ? ::read(file.get(), text.data(), text.size()) : 0;
    const std::string_view told(text.data(), static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    return told.contains('[') && !told.contains("[never]") && !told.contains("[deny]");
}

} // namespace

std::size_t handover_bytes_usual() noexcept
{
    static const bool huge = has_huge_pages();
    return huge ? huge_page : std::size_t{64} << 20;
}

large_memory make_large(std::size_t size) noexcept
{
    const auto room = whole_pages(size);
    auto fd = make_memfd("sp-message");
    if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(room)) != 0)
        return {};
    auto at = reserve(0, room);
    if (!at.map)
        return {};
    if (!put_behind(at, fd.get(), PROT_READ | PROT_WRITE, MAP_SHARED)) {
        end(at);
        return {};
    }
    // A child would hold a mapping that can write, and then nothing can be sealed.
    ::madvise(at.body, at.size, MADV_DONTFORK);
    at.fd = std::exchange(fd, {}).release();
    return {at, end};
}

void write_into(large_memory &memory, std::span<const std::byte> body) noexcept
{
    SP_INVARIANT(!memory->sealed && body.size() <= memory->size);
    std::size_t done = 0;
    while (done < body.size() && handover_bytes_usual() != huge_page) {
        const auto n =
            ::pwrite(memory->fd, body.data() + done, body.size() - done, static_cast<off_t>(done));
        if (n <= 0)
            break;
        done += static_cast<std::size_t>(n);
    }
    if (done < body.size())
        std::memcpy(memory->body + done, body.data() + done, body.size() - done);
}

bool seal(large_memory &memory, std::size_t size) noexcept
{
    auto &at = *memory.operator->();
    if (at.fd < 0)
        return false;
    if (at.sealed)
        return size == at.size;
    // The pages that were never written are missing: they are ours to pay for, not the reader's.
    struct stat file{};
    const auto length = static_cast<off_t>(size);
    const bool shaped = ::ftruncate(at.fd, length) == 0 && ::fstat(at.fd, &file) == 0 &&
                        (static_cast<std::uint64_t>(file.st_blocks) * block_bytes >= size ||
                         ::fallocate(at.fd, 0, 0, length) == 0);
    const auto room = std::exchange(at.size, size);
    at.sealed = true; // whatever comes of it
    // In place of the mapping that can write, with which no seal is given: a private one that
    // cannot, since before Linux 6.7 a shared one is refused once the seal is there.
    if (shaped && put_behind(at, at.fd, PROT_READ, MAP_PRIVATE) && forget_rest(at, room) &&
        ::fcntl(at.fd, F_ADD_SEALS, seals) == 0)
        return true;
    ::close(std::exchange(at.fd, -1));
    return false;
}

// ---- what has come ----

bool lent_body::is_sound(std::uint64_t size) noexcept
{
    if (size_ != 0)
        return size_ == size;
    const int has = ::fcntl(fd_.get(), F_GET_SEALS); // only a memfd has these
    struct stat file{};
    if (has < 0 || (has & seals) != seals || ::fstat(fd_.get(), &file) != 0 ||
        !S_ISREG(file.st_mode) || file.st_size <= 0)
        return false;
    if (static_cast<std::uint64_t>(file.st_size) != size ||
        static_cast<std::uint64_t>(file.st_blocks) * block_bytes < size)
        return false;
    size_ = static_cast<std::size_t>(size);
    return true;
}

large_memory lent_body::map(std::span<const std::byte> header) noexcept
{
    SP_INVARIANT(size_ != 0 && header.size() <= lent_header_max);
    auto at = reserve(lent_header_max, size_);
    if (!at.map)
        return {};
    auto *const front = at.body - lent_header_max;
    if (::mprotect(front, lent_header_max, PROT_READ | PROT_WRITE) != 0 ||
        !put_behind(at, fd_.get(), PROT_READ, MAP_PRIVATE)) {
        end(at);
        return {};
    }
    std::memcpy(at.body - header.size(), header.data(), header.size());
    at.sealed = true;
    at.fd = std::exchange(fd_, {}).release();
    return {at, end};
}

bool lent_bodies::add(std::uint64_t number, descriptor fd) noexcept
{
    if (number != next_ || waiting_.size() == lent_max)
        return false;
    ++next_;
    waiting_.emplace_back(number, std::move(fd));
    return true;
}

} // namespace sp::transport
