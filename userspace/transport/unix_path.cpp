// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/transport/unix_path.hpp"

#include "userspace/transport/descriptor.hpp"

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <dirent.h>
#include <fcntl.h>
#include <fstream>
#include <memory>
#include <sstream>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace sp::transport {
namespace {

// Does a live socket own the path? Asked with a socket of the other type: the one that lives there
// answers EPROTOTYPE and never notices; a file that nobody listens on answers ECONNREFUSED.
enum class owner : std::uint8_t { none, stale, alive };

owner owner_of(const unix_name &n, int type) noexcept
{
    struct ::stat status{};
    if (::lstat(n.name.sun_path, &status) != 0)
        return owner::none;
    if (!S_ISSOCK(status.st_mode))
        return owner::alive; // somebody's file: not ours to remove
    const int other = type == SOCK_STREAM ? SOCK_DGRAM : SOCK_STREAM;
    descriptor probe(::socket(AF_UNIX, other | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!probe || ::connect(probe.get(), n.get(), n.length) == 0)
        return owner::alive;
    return errno == ECONNREFUSED ? owner::stale : owner::alive;
}

// Keeps two listeners that start together apart: held while the stale file is looked at and
// replaced, which takes microseconds. Who holds it for longer than this is no listener, and shall
// not keep us from starting; nor does a directory that cannot be opened.
descriptor lock_directory(const std::string &path) noexcept
{
    constexpr int tries = 1000;
    constexpr timespec between{.tv_sec = 0, .tv_nsec = 1'000'000};
    const auto slash = path.rfind('/');
    const std::string directory = slash == std::string::npos ? "."
                                  : slash == 0               ? "/"
                                                             : path.substr(0, slash);
    descriptor lock(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    for (int i = 0; lock && i < tries && ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0; ++i)
        ::nanosleep(&between, nullptr);
    return lock;
}

// The number of the socket that is bound to the path, as /proc/net/unix shows it; 0: not to be
// seen. What was accepted has the same path there: the listener comes first, being the older.
std::uint64_t inode_bound_to(const std::string &path)
{
    std::ifstream table("/proc/net/unix");
    std::uint64_t oldest = 0;
    for (std::string line; std::getline(table, line);) {
        std::istringstream words(line);
        std::string skipped;
        std::uint64_t inode = 0;
        for (int i = 0; i < 6; ++i)
            words >> skipped;
        if (!(words >> inode) || line.size() <= path.size())
            continue;
        const auto at = line.size() - path.size();
        if (line.compare(at, path.size(), path) == 0 && line[at - 1] == ' ' &&
            (oldest == 0 || inode < oldest))
            oldest = inode;
    }
    return oldest;
}

using directory = std::unique_ptr<DIR, decltype([](DIR *d) { ::closedir(d); })>;

bool holds(const std::string &process, const std::string &link)
{
    const auto folder = "/proc/" + process + "/fd";
    const directory open(::opendir(folder.c_str()));
    while (const auto *entry = open ? ::readdir(open.get()) : nullptr) {
        char target[64] = {};
        const auto at = folder + '/' + entry->d_name;
        if (::readlink(at.c_str(), target, sizeof target - 1) > 0 && link == target)
            return true;
    }
    return false;
}

// "a live socket or another file is there", better with who has it: process 4711 (nngcat).
std::string holder_of(const std::string &path)
{
    const auto inode = inode_bound_to(path);
    const directory processes(inode == 0 ? nullptr : ::opendir("/proc"));
    const auto link = "socket:[" + std::to_string(inode) + ']';
    while (const auto *entry = processes ? ::readdir(processes.get()) : nullptr) {
        const std::string id(entry->d_name);
        if (id.find_first_not_of("0123456789") != id.npos || !holds(id, link))
            continue;
        std::ifstream file("/proc/" + id + "/comm");
        std::string name;
        std::getline(file, name);
        std::string text("process ");
        text.append(id).append(" (").append(name).append(") has it");
        return text;
    }
    return "a live socket or another file is there";
}

} // namespace

std::optional<unix_name> path_name(std::string_view path) noexcept
{
    unix_name n;
    n.name.sun_family = AF_UNIX;
    if (path.empty() || path.size() > unix_name_max || path.find('\0') != path.npos)
        return std::nullopt;
    std::memcpy(n.name.sun_path, path.data(), path.size());
    n.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
    return n;
}

std::optional<unix_name> abstract_name(std::string_view name) noexcept
{
    unix_name n;
    n.name.sun_family = AF_UNIX;
    if (name.size() > unix_name_max)
        return std::nullopt;
    if (!name.empty())
        std::memcpy(n.name.sun_path + 1, name.data(), name.size());
    n.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    return n;
}

error path_error(const std::string &path)
{
    return error::numbered(2001, "the path of a unix socket has 1 to 107 bytes",
                           std::to_string(path.size()) + " bytes: " + path);
}

error socket_error(std::string what)
{
    const int number = errno;
    if (number == EMFILE || number == ENFILE)
        return error::numbered(2009, std::move(what), std::strerror(number));
    if (number == EACCES || number == EPERM || number == EROFS)
        return error::numbered(2022, std::move(what), std::strerror(number),
                               "check the rights of the directory");
    if (number == ENOENT || number == ENOTDIR)
        return error::numbered(2026, std::move(what), std::strerror(number),
                               "make the directory first");
    return error::numbered(2037, std::move(what), std::strerror(number));
}

result<unix_path> unix_path::bind(int fd, int type, const std::string &path, unsigned mode)
{
    const auto name = path_name(path);
    if (!name)
        return std::unexpected(path_error(path));
    const auto lock = lock_directory(path);
    switch (owner_of(*name, type)) {
    case owner::alive:
        return std::unexpected(error::numbered(2002, path + " is in use", holder_of(path)));
    case owner::stale:
        ::unlink(path.c_str());
        break;
    case owner::none:
        break;
    }
    // The rights of the socket become the file's, less the umask; then chmod gives back what that
    // took.
    ::fchmod(fd, mode & 0777);
    if (::bind(fd, name->get(), name->length) != 0)
        return std::unexpected(errno == EADDRINUSE
                                   ? error::numbered(2002, path + " is in use", holder_of(path))
                                   : socket_error("cannot listen at " + path));
    ::chmod(path.c_str(), mode & 0777);
    unix_path made(path);
    struct ::stat status{};
    if (::lstat(path.c_str(), &status) == 0) {
        made.device_ = status.st_dev;
        made.inode_ = status.st_ino;
    }
    return made;
}

unix_path::unix_path(std::string path) noexcept : path_(std::move(path)) {}

unix_path::unix_path(unix_path &&other) noexcept
    : path_(std::exchange(other.path_, {})), device_(other.device_), inode_(other.inode_)
{
}

unix_path::~unix_path()
{
    struct ::stat status{};
    if (!path_.empty() && ::lstat(path_.c_str(), &status) == 0 && status.st_ino == inode_ &&
        status.st_dev == device_)
        ::unlink(path_.c_str());
}

} // namespace sp::transport
