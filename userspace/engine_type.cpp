// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/engine_type.hpp"

template class sp::core::engine<sp::carrier, sp::transport::stream>;
