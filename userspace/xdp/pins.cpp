// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/xdp/pins.hpp"

#include "userspace/xdp/faults.hpp"
#include "userspace/xdp/words.hpp"

#include <bpf/bpf.h>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <grp.h>
#include <linux/bpf.h>
#include <linux/magic.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

namespace sp::xdp {
namespace {

namespace fs = std::filesystem;

constexpr mode_t root_mode = 0750;    // root writes, the group sp looks in
constexpr mode_t program_mode = 0640; // the group reads which program it is
constexpr mode_t map_mode = 0660;     // and fills ports, addresses and sockets
constexpr int lock_attempts = 200;    // one each 10 ms: two seconds

std::optional<ino_t> inode(const char *path)
{
    struct ::stat facts{};
    return ::stat(path, &facts) == 0 ? std::optional(facts.st_ino) : std::nullopt;
}

// Is this the network namespace that the machine booted with? From Linux 6.18 on its inode number
// is fixed; before, namespaces were numbered from 1 in the order they were made (SO_NETNS_COOKIE).
// Comparing with /proc/1/ns/net would need the right to trace process 1: root and a member of the
// group sp would look for the same pins in two places.
bool in_first_netns(ino_t own)
{
    constexpr ino_t first_inode = 0xeffffff9;
    constexpr std::uint64_t first_cookie = 1;
    const descriptor asker(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    std::uint64_t cookie = 0;
    socklen_t size = sizeof cookie;
    return own == first_inode ||
           (::getsockopt(asker.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) == 0 &&
            cookie == first_cookie);
}

// The group that may use what root loaded; nothing where it does not exist.
std::optional<gid_t> group_sp()
{
    char space[4096];
    group entry{}, *found = nullptr;
    return ::getgrnam_r("sp", &entry, space, sizeof space, &found) == 0 && found
               ? std::optional(found->gr_gid)
               : std::nullopt;
}

// The BPF file system reserves dots; '@' begins our own suffixes.
std::string as_file_name(std::string_view interface)
{
    constexpr std::string_view digits = "0123456789abcdef";
    std::string name;
    for (const char letter : interface) {
        const auto value = static_cast<unsigned char>(letter);
        if (letter == '.' || letter == '@' || letter == '%' || letter == '+')
            (((name += '%') += digits[value >> 4]) += digits[value & 15]);
        else
            name += letter;
    }
    return name;
}

bool is_bpffs(const std::string &path)
{
    struct statfs facts{};
    return ::statfs(path.c_str(), &facts) == 0 && facts.f_type == static_cast<long>(BPF_FS_MAGIC);
}

// Sets the mode, and gives the path to the group sp where there is one; else the group is root's.
bool share(const std::string &path, mode_t mode)
{
    const auto group = group_sp();
    return ::chmod(path.c_str(), mode) == 0 &&
           (!group || ::chown(path.c_str(), static_cast<uid_t>(-1), *group) == 0);
}

result<> prepare_root(const std::string &root)
{
    std::error_code failed;
    bool made = fs::create_directories(root, failed);
    if (failed)
        return std::unexpected(pin_fault(failed.value(), "make", root));
    if (!is_bpffs(root)) {
        if (::mount("bpf", root.c_str(), "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0750") < 0)
            return std::unexpected(pin_fault(errno, "mount a BPF file system on", root));
        made = true;
    }
    // A directory that was there before keeps the mode that its owner gave it.
    if (made && !share(root, root_mode))
        return std::unexpected(pin_fault(errno, "set the mode of", root));
    return {};
}

// A pinned object, or the errno that denied it, negative. Links can only be opened for writing, the
// rest also without.
int open_pin(const std::string &path, std::uint32_t flags)
{
    libbpf_options<struct bpf_obj_get_opts> options;
    options.file_flags = flags;
    return bpf_obj_get_opts(path.c_str(), &options);
}

// Opens the maps for writing if this process may, else for reading.
result<> open_each_map(pinned &found, const std::string &directory)
{
    for (const auto which : every_map) {
        const auto path = directory + "/maps/" + name_of(which);
        int fd = open_pin(path, 0);
        if (fd == -EACCES || fd == -EPERM)
            fd = open_pin(path, BPF_F_RDONLY);
        if (fd < 0 && fd != -ENOENT)
            return std::unexpected(pin_fault(-fd, "open", path));
        found.maps[which] = descriptor(fd < 0 ? -1 : fd);
    }
    return {};
}

} // namespace

std::string pin_directory(std::string_view root, std::string_view interface)
{
    auto path = std::string(root) + '/' + as_file_name(interface);
    const auto own = inode("/proc/thread-self/ns/net");
    return own && !in_first_netns(*own) ? path + '@' + std::to_string(*own) : path;
}

result<pin_lock> pin_lock::take(const std::string &root)
{
    if (const auto ready = prepare_root(root); !ready)
        return std::unexpected(ready.error());
    descriptor held(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!held)
        return std::unexpected(pin_fault(errno, "open", root));
    for (int left = lock_attempts; ::flock(held.get(), LOCK_EX | LOCK_NB) < 0; --left) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return std::unexpected(pin_fault(errno, "lock", root));
        if (left == 0)
            return std::unexpected(
                error::numbered(2030, "another sp is loading or unloading", root + " is locked"));
        ::poll(nullptr, 0, 10);
    }
    return pin_lock(std::move(held));
}

result<std::optional<pinned>> open_maps(const std::string &directory)
{
    const libbpf_words quiet;
    pinned found;
    const auto path = directory + "/prog";
    const int fd = open_pin(path, BPF_F_RDONLY);
    if (fd == -ENOENT || fd == -ENOTDIR)
        return std::nullopt;
    if (fd < 0)
        return std::unexpected(pin_fault(-fd, "open", path));
    found.program = descriptor(fd);
    bpf_prog_info info{};
    std::uint32_t size = sizeof info;
    if (bpf_obj_get_info_by_fd(fd, &info, &size) < 0)
        return std::unexpected(pin_fault(errno, "read", path));
    found.program_id = info.id;
    if (const auto opened = open_each_map(found, directory); !opened)
        return std::unexpected(opened.error());
    return found;
}

result<std::optional<pinned>> open_all(const std::string &directory, unsigned ifindex)
{
    auto found = open_maps(directory);
    if (!found)
        return found;
    const int fd = open_pin(directory + "/link", 0);
    if (fd < 0 && fd != -ENOENT && fd != -ENOTDIR)
        return std::unexpected(pin_fault(-fd, "open", directory + "/link"));
    const descriptor link(fd < 0 ? -1 : fd);
    const auto facts = link ? describe_link(link.get()) : std::nullopt;
    if (*found && facts && facts->ifindex == ifindex && ifindex != 0) {
        (*found)->link = descriptor::duplicate(link.get());
        return found;
    }
    if (const auto removed = remove_pins(directory); !removed)
        return std::unexpected(removed.error());
    return std::nullopt;
}

result<std::string> stage(const std::string &directory, const program &loaded)
{
    auto fresh = directory + "+" + std::to_string(::getpid());
    const auto fail = [&](const std::string &path) {
        auto fault = pin_fault(errno, "pin", path);
        const auto removed = remove_pins(fresh);
        return std::unexpected(removed ? fault : removed.error());
    };
    if (const auto removed = remove_pins(fresh); !removed)
        return std::unexpected(removed.error());
    for (const auto &folder : {fresh, fresh + "/maps"})
        if (::mkdir(folder.c_str(), root_mode) < 0 || !share(folder, root_mode))
            return fail(folder);
    if (bpf_obj_pin(loaded.fd.get(), (fresh + "/prog").c_str()) < 0 ||
        !share(fresh + "/prog", program_mode))
        return fail(fresh + "/prog");
    for (const auto which : every_map) {
        const auto path = fresh + "/maps/" + name_of(which);
        if (bpf_obj_pin(loaded.maps.fd(which), path.c_str()) < 0 || !share(path, map_mode))
            return fail(path);
    }
    return fresh;
}

result<> publish(const std::string &staged, const std::string &directory, int link_fd)
{
    const auto fail = [&](const std::string &doing) -> result<> {
        auto fault = pin_fault(errno, doing, staged);
        const auto removed = remove_pins(staged);
        return std::unexpected(removed ? fault : removed.error());
    };
    if (bpf_obj_pin(link_fd, (staged + "/link").c_str()) < 0)
        return fail("pin the link in");
    if (::renameat2(AT_FDCWD, staged.c_str(), AT_FDCWD, directory.c_str(), RENAME_NOREPLACE) == 0)
        return {};
    if (errno != EEXIST ||
        ::renameat2(AT_FDCWD, staged.c_str(), AT_FDCWD, directory.c_str(), RENAME_EXCHANGE) < 0)
        return fail("rename");
    return remove_pins(staged);
}

result<> remove_pins(const std::string &directory)
{
    std::error_code failed;
    fs::remove_all(directory, failed);
    if (failed && failed.value() != ENOENT)
        return std::unexpected(pin_fault(failed.value(), "remove", directory));
    return {};
}

} // namespace sp::xdp
