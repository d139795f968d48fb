// SPDX-License-Identifier: BSD-2-Clause
//
// See netdev.hpp. The numbers of the family are those of linux/netdev.h, which Debian 12 does not
// have.
#include "userspace/cli/netdev.hpp"

#include <array>
#include <cstdint>
#include <ctime>
#include <libmnl/libmnl.h>
#include <linux/genetlink.h>
#include <memory>

namespace sp::cli {
namespace {

constexpr std::uint8_t command_dev_get = 1;
constexpr std::uint16_t attribute_ifindex = 1, attribute_xdp_features = 3;
constexpr std::uint64_t feature_basic = 1, feature_redirect = 2, feature_zero_copy = 8;

struct closer {
    void operator()(mnl_socket *s) const noexcept { mnl_socket_close(s); }
};
using netlink = std::unique_ptr<mnl_socket, closer>;
using buffer = std::array<char, 8192>;

nlmsghdr *begin(buffer &space, std::uint16_t family, std::uint8_t command)
{
    auto *header = mnl_nlmsg_put_header(space.data());
    header->nlmsg_type = family;
    header->nlmsg_flags = NLM_F_REQUEST;
    header->nlmsg_seq = 1;
    auto *generic =
        static_cast<genlmsghdr *>(mnl_nlmsg_put_extra_header(header, sizeof(genlmsghdr)));
    generic->cmd = command;
    generic->version = 1;
    return header;
}

// The attribute of that number in the first answer; the kernel answers one question by one message.
template <class Read>
auto ask(mnl_socket &socket, nlmsghdr &question, buffer &space, std::uint16_t wanted, Read read)
    -> std::optional<decltype(read(static_cast<const nlattr *>(nullptr)))>
{
    if (mnl_socket_sendto(&socket, &question, question.nlmsg_len) < 0)
        return std::nullopt;
    const auto got = mnl_socket_recvfrom(&socket, space.data(), space.size());
    auto *answer = reinterpret_cast<nlmsghdr *>(space.data());
    if (got < 0 || !mnl_nlmsg_ok(answer, static_cast<int>(got)) ||
        answer->nlmsg_type == NLMSG_ERROR)
        return std::nullopt;
    const auto *end = static_cast<const char *>(mnl_nlmsg_get_payload_tail(answer));
    auto *attribute =
        static_cast<nlattr *>(mnl_nlmsg_get_payload_offset(answer, sizeof(genlmsghdr)));
    while (
        mnl_attr_ok(attribute, static_cast<int>(end - reinterpret_cast<const char *>(attribute)))) {
        if (mnl_attr_get_type(attribute) == wanted)
            return read(attribute);
        attribute = mnl_attr_next(attribute);
    }
    return std::nullopt;
}

} // namespace

std::optional<xdp_features> xdp_features_of(unsigned ifindex)
{
    const netlink socket(mnl_socket_open(NETLINK_GENERIC));
    if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0)
        return std::nullopt;
    buffer space{};
    auto *question = begin(space, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
    mnl_attr_put_strz(question, CTRL_ATTR_FAMILY_NAME, "netdev");
    const auto family = ask(*socket, *question, space, CTRL_ATTR_FAMILY_ID, mnl_attr_get_u16);
    if (!family)
        return std::nullopt;
    space = {};
    question = begin(space, *family, command_dev_get);
    mnl_attr_put_u32(question, attribute_ifindex, ifindex);
    const auto features = ask(*socket, *question, space, attribute_xdp_features, mnl_attr_get_u64);
    if (!features)
        return std::nullopt;
    return xdp_features{.native = (*features & feature_basic) && (*features & feature_redirect),
                        .zero_copy = (*features & feature_zero_copy) != 0};
}

} // namespace sp::cli
