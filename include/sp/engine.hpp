// SPDX-License-Identifier: BSD-2-Clause
//
// The engine behind sockets, for programs that want their own: another namespace, another way of
// waiting, or a loop of their own. Programs that do not care never name it: the process's own is
// made with the first socket and gone with the last.
#pragma once

#include "sp/error.hpp"
#include "sp/message.hpp"
#include "sp/options.hpp"
#include "sp/wait.hpp"

#include <memory>

#pragma GCC visibility push(default)
namespace sp::inline v1 {

class engine {
public:
    // Sockets opened on it keep it alive. Errors: limit_reached (descriptors).
    [[nodiscard]] static result<engine> open(const engine_options &options = {});

    // For driver::manual: moves what can be moved, never blocks; how much was done. Any thread, one
    // at a time.
    std::size_t poll(instant now) noexcept;
    // When poll() must be called next even if fd() stays silent.
    [[nodiscard]] instant next_deadline() const noexcept;
    // Level-triggered: readable when poll() may find something.
    [[nodiscard]] int fd() const noexcept;

    // A copy of all counters; see abi/stats.def.
    [[nodiscard]] counters statistics() const;
    // Message buffers that somebody holds: the application, a queue, or a pattern.
    [[nodiscard]] std::size_t frames_in_use() const;

private:
    friend struct detail::access;
    explicit engine(std::shared_ptr<detail::node> node) noexcept : node_(std::move(node)) {}

    std::shared_ptr<detail::node> node_;
};

} // namespace sp::inline v1
#pragma GCC visibility pop
