// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/stream/connection.hpp"

#include <algorithm>

namespace sp::stream {

void connection::on_connected(instant now) noexcept
{
    if (phase_ != phase::connecting)
        return;
    phase_ = phase::greeting;
    silence_at_ = now + config_.hello_timeout;
}

std::span<const std::byte> connection::hello_due() const noexcept
{
    if (phase_ == phase::connecting || phase_ == phase::closed)
        return {};
    return std::span<const std::byte>(hello_).subspan(written_);
}

void connection::hello_written(std::size_t n) noexcept
{
    written_ = static_cast<std::uint8_t>(std::min(hello_bytes, written_ + n));
    maybe_open();
}

void connection::maybe_open() noexcept
{
    if (phase_ != phase::greeting || !greeted_ || written_ < hello_bytes)
        return;
    phase_ = phase::open;
    silence_at_ = instant::max();
}

std::size_t connection::on_bytes(std::span<const std::byte> bytes) noexcept
{
    if (phase_ == phase::greeting && !greeted_)
        return on_greeting(bytes);
    if (phase_ == phase::open && !in_message_)
        return on_head(bytes);
    return 0;
}

std::size_t connection::on_greeting(std::span<const std::byte> bytes) noexcept
{
    const auto used = std::min<std::size_t>(hello_bytes - partial_, bytes.size());
    std::ranges::copy(bytes.first(used), start_.begin() + partial_);
    partial_ = static_cast<std::uint8_t>(partial_ + used);
    const auto read = read_hello(std::span(start_).first(partial_));
    if (read.what == verdict::bad) {
        close(ending::bad_hello);
    } else if (read.what == verdict::good) {
        partial_ = 0;
        greeted_ = true;
        peer_protocol_ = read.protocol;
        if (peer_protocol_ != config_.peer_protocol)
            close(ending::peer_protocol);
        maybe_open();
    }
    return used;
}

std::size_t connection::on_head(std::span<const std::byte> bytes) noexcept
{
    const auto used = std::min<std::size_t>(head_bytes(config_.frames) - partial_, bytes.size());
    std::ranges::copy(bytes.first(used), start_.begin() + partial_);
    partial_ = static_cast<std::uint8_t>(partial_ + used);
    const auto read = read_head(std::span(start_).first(partial_), config_.frames);
    if (read.what == verdict::bad) {
        close(ending::bad_frame);
    } else if (read.what == verdict::good) {
        partial_ = 0;
        if (read.length > config_.message_max) {
            close(ending::too_large);
            return used;
        }
        in_message_ = true;
        length_ = read.length;
        have_ = 0;
    }
    return used;
}

void connection::close(ending why) noexcept
{
    if (phase_ == phase::closed)
        return;
    phase_ = phase::closed;
    why_ = why;
    silence_at_ = instant::max();
}

void connection::on_deadline(instant now) noexcept
{
    if (now >= silence_at_)
        close(ending::hello_timeout);
}

} // namespace sp::stream
