// SPDX-License-Identifier: BSD-2-Clause
//
// What a context is made of: its place on a socket, given back when the owner goes. Conversations
// of their own (req_context, sub_context, survey) hold one of these.
#pragma once

#include <cstdint>
#include <memory>

#pragma GCC visibility push(default)
namespace sp::inline v1::detail {

class socket_core;

class context {
public:
    using closer = void (*)(socket_core &, std::uint32_t) noexcept; // ends it in the pattern

    context(std::shared_ptr<socket_core> core, std::uint32_t id, closer close) noexcept;
    context(context &&other) noexcept;
    context &operator=(context &&other) noexcept;
    ~context();

    [[nodiscard]] const std::shared_ptr<socket_core> &core() const noexcept { return core_; }
    [[nodiscard]] std::uint32_t id() const noexcept { return id_; }

private:
    void end() noexcept;

    std::shared_ptr<socket_core> core_;
    std::uint32_t id_;
    closer close_;
};

} // namespace sp::inline v1::detail
#pragma GCC visibility pop
