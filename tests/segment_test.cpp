// SPDX-License-Identifier: BSD-2-Clause
//
// The memory that two processes share: what its owner gives away when it hands it over (nothing but
// reading), and what is taken for such memory (nothing that could fault, shrink or cost the
// reader).
#include "userspace/transport/segment.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdexcept>
#include <string>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

namespace {

using namespace sp::transport;

constexpr std::size_t ring_bytes = 64 * 1024;
constexpr auto whole = static_cast<off_t>(SP_SEGMENT_RING + ring_bytes);
constexpr int all_seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;

descriptor copy_of(int fd)
{
    return descriptor(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

own_segment made()
{
    auto s = own_segment::make(ring_bytes);
    if (!s)
        throw std::runtime_error("no segment");
    return std::move(*s);
}

// A memfd as an honest owner makes it, but for what a test changes.
struct forgery {
    off_t size = whole;
    bool allocated = true;
    int seals = all_seals;
    sp_segment_head head{.magic = SP_SEGMENT_MAGIC,
                         .version = SP_SEGMENT_VERSION,
                         .ring_bytes = ring_bytes,
                         .reserved = {}};

    [[nodiscard]] descriptor make() const
    {
        descriptor fd(::memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING));
        EXPECT_EQ(::ftruncate(fd.get(), size), 0);
        if (allocated) {
            EXPECT_EQ(::fallocate(fd.get(), 0, 0, size), 0);
        }
        EXPECT_EQ(::pwrite(fd.get(), &head, sizeof head, 0), ssize_t{sizeof head});
        EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, seals), 0);
        return fd;
    }
};

TEST(segment, can_be_written_by_its_owner_and_nobody_else)
{
    const auto ours = made();
    const auto theirs = copy_of(ours.fd());
    ours.ring()[5] = std::byte{17};
    const std::byte one{1};
    EXPECT_EQ(::pwrite(theirs.get(), &one, 1, 0), -1);
    EXPECT_EQ(errno, EPERM);
    EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, theirs.get(), 0),
              MAP_FAILED);
    EXPECT_EQ(errno, EPERM);
    void *const seen = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, theirs.get(), 0);
    ASSERT_NE(seen, MAP_FAILED);
    EXPECT_EQ(::mprotect(seen, 4096, PROT_READ | PROT_WRITE), -1);
    ::munmap(seen, 4096);
    // Opened anew, it is the same file with the same seals.
    const descriptor again(
        ::open(("/proc/self/fd/" + std::to_string(theirs.get())).c_str(), O_RDWR | O_CLOEXEC));
    if (again) {
        EXPECT_EQ(::pwrite(again.get(), &one, 1, 0), -1);
    }
    const auto map = peer_segment::map(theirs);
    ASSERT_TRUE(map);
    EXPECT_EQ(map->ring()[5], std::byte{17});
    EXPECT_EQ(map->ring().size(), ring_bytes);
}

TEST(segment, keeps_its_size_and_its_pages)
{
    const auto ours = made();
    const auto theirs = copy_of(ours.fd());
    EXPECT_EQ(::ftruncate(theirs.get(), 4096), -1);
    EXPECT_EQ(::ftruncate(theirs.get(), whole * 2), -1);
    EXPECT_EQ(::fallocate(theirs.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
    EXPECT_EQ(::fcntl(theirs.get(), F_ADD_SEALS, F_SEAL_WRITE), -1);
    struct stat file{};
    ASSERT_EQ(::fstat(theirs.get(), &file), 0);
    EXPECT_GE(file.st_blocks * 512, whole);
}

TEST(segment, shows_words_that_the_owner_writes)
{
    const auto ours = made();
    const auto theirs = peer_segment::map(copy_of(ours.fd()));
    ASSERT_TRUE(theirs);
    for (const std::size_t which : {SP_SEGMENT_PROGRESS, SP_SEGMENT_ASLEEP, SP_SEGMENT_WAITING,
                                    SP_SEGMENT_LIMIT, SP_SEGMENT_CLOSED}) {
        EXPECT_EQ(theirs->word(which), 0u);
        ours.word(which) = which;
        EXPECT_EQ(theirs->word(which), which);
    }
}

TEST(segment, is_taken_as_an_honest_owner_makes_it)
{
    EXPECT_TRUE(peer_segment::map(forgery{}.make()));
}

TEST(segment, is_refused_when_any_seal_is_missing)
{
    for (const int missing : {F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_FUTURE_WRITE, F_SEAL_SEAL})
        EXPECT_FALSE(peer_segment::map(forgery{.seals = all_seals & ~missing}.make())) << missing;
}

TEST(segment, is_refused_when_its_pages_are_not_there)
{
    EXPECT_FALSE(peer_segment::map(forgery{.allocated = false}.make()));
}

TEST(segment, is_refused_when_its_size_is_not_one)
{
    for (const off_t size :
         {off_t{4096}, off_t{SP_SEGMENT_RING}, whole - 1, whole + 4096,
          off_t{SP_SEGMENT_RING} + 2048, off_t{SP_SEGMENT_RING} + 2 * off_t{SP_SEGMENT_RING_MAX}})
        EXPECT_FALSE(peer_segment::map(forgery{.size = size}.make())) << size;
}

TEST(segment, is_refused_when_its_head_says_something_else)
{
    auto wrong = forgery{};
    wrong.head.magic ^= 1;
    EXPECT_FALSE(peer_segment::map(wrong.make()));
    wrong = {};
    wrong.head.version = SP_SEGMENT_VERSION + 1;
    EXPECT_FALSE(peer_segment::map(wrong.make()));
    wrong = {};
    wrong.head.ring_bytes = ring_bytes / 2;
    EXPECT_FALSE(peer_segment::map(wrong.make()));
}

TEST(segment, is_no_other_kind_of_descriptor)
{
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    const descriptor in(ends[0]), out(ends[1]);
    const descriptor bell(::eventfd(0, EFD_CLOEXEC)),
        socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)),
        directory(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)),
        program(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC)), none;
    for (const auto *fd : {&in, &out, &bell, &socket, &directory, &program, &none})
        EXPECT_FALSE(peer_segment::map(*fd)) << fd->get();
}

} // namespace
