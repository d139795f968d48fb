// SPDX-License-Identifier: BSD-2-Clause
//
// The engine over the simulated transport, instantiated once.
#include "tests/sim/world.hpp"

template class sp::core::engine<sp::sim::sim_transport>;
