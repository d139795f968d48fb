// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/stream/wire.hpp"

#include <algorithm>

namespace sp::stream {
namespace {

constexpr std::array magic{std::byte{0}, std::byte{'S'}, std::byte{'P'}, std::byte{0}};
constexpr std::byte message_type{1};
constexpr std::uint64_t length_max = 0x0fff'ffff'ffff'ffff;

} // namespace

hello make_hello(std::uint16_t protocol) noexcept
{
    hello h{};
    std::ranges::copy(magic, h.begin());
    h[4] = static_cast<std::byte>(protocol >> 8);
    h[5] = static_cast<std::byte>(protocol & 0xff);
    return h;
}

hello_read read_hello(std::span<const std::byte> bytes) noexcept
{
    const auto shown = std::min(bytes.size(), magic.size());
    if (!std::ranges::equal(bytes.first(shown), std::span(magic).first(shown)))
        return {.what = verdict::bad};
    for (std::size_t reserved = 6; reserved < std::min(bytes.size(), hello_bytes); ++reserved)
        if (bytes[reserved] != std::byte{0})
            return {.what = verdict::bad};
    if (bytes.size() < hello_bytes)
        return {};
    return {.what = verdict::good,
            .protocol = static_cast<std::uint16_t>(std::to_integer<unsigned>(bytes[4]) << 8 |
                                                   std::to_integer<unsigned>(bytes[5]))};
}

head_read read_head(std::span<const std::byte> bytes, framing f) noexcept
{
    if (f == framing::ipc && !bytes.empty() && bytes[0] != message_type)
        return {.what = verdict::bad};
    const auto size = head_bytes(f);
    if (bytes.size() < size)
        return {};
    std::uint64_t length = 0;
    for (const auto b : bytes.subspan(size - 8, 8))
        length = length << 8 | std::to_integer<std::uint64_t>(b);
    if (length > length_max)
        return {.what = verdict::bad};
    return {.what = verdict::good, .length = length};
}

head make_head(std::uint64_t length, framing f) noexcept
{
    head h{.size = head_bytes(f)};
    if (f == framing::ipc)
        h.bytes[0] = message_type;
    for (std::size_t i = 0; i < 8; ++i)
        h.bytes[h.size - 1 - i] = static_cast<std::byte>(length >> (8 * i) & 0xff);
    return h;
}

} // namespace sp::stream
