// SPDX-License-Identifier: BSD-2-Clause
//
// Where the demo plays: two network namespaces as two hosts, joined by a veth pair whose ends are
// made inside them. The namespaces have no name in any file system and live only as long as this
// process and its children, so nothing is ever visible outside, and whatever ends the process
// (SIGKILL too) takes everything along.
#pragma once

#include "sp/error.hpp"

#include <array>
#include <string>

namespace sp::cli {

enum class host : unsigned { a, b };

struct stage_host {
    std::string name, interface, address; // sp-demo-PID-a, veth-a, 198.18.0.1
    int netns = -1;
};

class stage {
public:
    // The error says in `what` why this machine cannot, in `fix` what would help.
    [[nodiscard]] static result<stage> build();

    stage(stage &&other) noexcept;
    stage &operator=(stage &&) = delete;
    ~stage();

    [[nodiscard]] const stage_host &at(host which) const noexcept
    {
        return hosts_[static_cast<unsigned>(which)];
    }
    // The calling thread goes there to stay.
    [[nodiscard]] result<void> enter(host which) const;

private:
    stage() = default;
    [[nodiscard]] result<void> join();

    std::array<stage_host, 2> hosts_;
};

inline constexpr unsigned stage_mtu = 1500;

} // namespace sp::cli
