// SPDX-License-Identifier: BSD-2-Clause
//
// What both sides of the demo say about XDP: that the program is there, and what it counted; and
// what the kernel's IP layer did not know meanwhile.
#pragma once

#include "userspace/cli/demo_actors.hpp"
#include "userspace/cli/demo_stage.hpp"

namespace sp::cli {

class witness {
public:
    // Without a place there is nothing to see, and nothing is told.
    witness(const lines &out, const stage *place, manner how, host where);

    // Tells what is seen now, as a report of that kind.
    [[nodiscard]] result<void> tell(report::kind what) const;

private:
    const lines &out_;
    const stage *place_;
    manner how_;
    host where_;
    std::uint64_t unknown_before_;
};

} // namespace sp::cli
