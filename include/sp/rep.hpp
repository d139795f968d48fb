// SPDX-License-Identifier: BSD-2-Clause
//
// REP: answers what REQ asks. Between sp peers a request that comes again is recognised, and
// answered once.
#pragma once

#include "sp/answerer.hpp"

#pragma GCC visibility push(default)
namespace sp::inline v1 {

class rep : public answerer {
public:
    [[nodiscard]] static result<rep> open(const options &options = {});

private:
    using answerer::answerer;
};

} // namespace sp::inline v1
#pragma GCC visibility pop
