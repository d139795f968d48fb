// SPDX-License-Identifier: BSD-2-Clause
//
// The engine as the library uses it: over any packet transport and over byte streams. Part of the
// composition root; compiled once, in engine_type.cpp, since every role includes it.
#pragma once

#include "userspace/carrier.hpp"
#include "userspace/engine/engine.hpp"
#include "userspace/transport/stream.hpp"

namespace sp {

using engine_type = core::engine<carrier, transport::stream>;

} // namespace sp

extern template class sp::core::engine<sp::carrier, sp::transport::stream>;
