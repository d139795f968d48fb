// SPDX-License-Identifier: BSD-2-Clause
//
// A socket of any role as a row of functions, empty where the role has no such verb. The functions
// keep the socket; one thread uses them.
#pragma once

#include "sp/sp.hpp"
#include "userspace/cli/cat_options.hpp"

#include <functional>
#include <memory>

namespace sp::cli {

struct cat_socket {
    std::shared_ptr<sp::socket> socket;
    std::function<result<void>(payload, const wait &)> send;
    std::function<result<message>(const wait &)> recv;
    std::function<result<request>(const wait &)> next; // what can be answered
};

// Subscribes too. `how` has what all roles read, and the version of a pair.
[[nodiscard]] result<cat_socket> open_cat_socket(const cat_arguments &arguments,
                                                 const options &how);

} // namespace sp::cli
