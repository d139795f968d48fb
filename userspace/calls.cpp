// SPDX-License-Identifier: BSD-2-Clause
//
// The parts of calls.hpp that are the same for every machine, and what contexts are made of.
#include "userspace/calls.hpp"

#include <chrono>
#include <string>

namespace sp::inline v1::detail {

using namespace std::chrono_literals;

// ---- context ----

context::context(core_ptr core, std::uint32_t id, closer close) noexcept
    : core_(std::move(core)), id_(id), close_(close)
{
}

context::context(context &&other) noexcept = default;

context &context::operator=(context &&other) noexcept
{
    if (this != &other) {
        end();
        core_ = std::move(other.core_);
        id_ = other.id_;
        close_ = other.close_;
    }
    return *this;
}

context::~context()
{
    end();
}

void context::end() noexcept
{
    if (const auto core = std::move(core_))
        close_(*core, id_);
}

// ---- receiving ----

void fill(message &m, const core_ptr &core, protocol::frame_id frame, std::size_t header_bytes,
          protocol::pipe_id pipe)
{
    auto &f = core->engine().pool()[frame];
    f.offset = static_cast<std::uint32_t>(header_bytes);
    f.shared = f.shared || f.references > 1;
    access::fill(m, core->home(), f, pipe);
}

// ---- sending ----

error too_large_for_peers(const socket_core &core, std::size_t size)
{
    (void)core;
    return error::numbered(2007, "a message of " + std::to_string(size) + " bytes is too large",
                           "no peer of this socket takes one of this size",
                           "raise message_max at the receiving end");
}

result<loan> lend_now(socket_core &core, std::size_t size)
{
    auto held = core.home()->claim();
    if (auto why = core.unusable())
        return std::unexpected(*why);
    auto f = core.frame_for(held, size, 0s);
    if (!f)
        return std::unexpected(f.error());
    return access::make_loan(core.home(), **f);
}

result<core::frame *> frame_or_drop(node::lock &held, socket_core &core, bytes body)
{
    auto f = core.frame_of(held, body, 0s);
    if (f || f.error() != errc::would_block)
        return f;
    core.count(stat::socket_accepted);
    core.count(stat::socket_memory);
    return nullptr;
}

} // namespace sp::inline v1::detail
