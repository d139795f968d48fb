// SPDX-License-Identifier: BSD-2-Clause
//
// RESPONDENT: answers what SURVEYOR asks everybody. An answer that comes after the survey has ended
// is lost, and counted at the surveyor.
#pragma once

#include "sp/answerer.hpp"

#pragma GCC visibility push(default)
namespace sp::inline v1 {

class respondent : public answerer {
public:
    [[nodiscard]] static result<respondent> open(const options &options = {});

private:
    using answerer::answerer;
};

} // namespace sp::inline v1
#pragma GCC visibility pop
