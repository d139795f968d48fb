// SPDX-License-Identifier: BSD-2-Clause
//
// The loader's part of sp_local: the addresses of the interface as of now, kept for as long as the
// program is loaded, so that it answers pings while no engine runs. Engines count themselves in
// and out beside that and follow changes; the loader does so when it is called again.
#pragma once

#include "sp/error.hpp"
#include "userspace/xdp/device.hpp"

namespace sp::xdp {

[[nodiscard]] result<> keep_addresses(int local_fd, const device &where);

} // namespace sp::xdp
