// SPDX-License-Identifier: BSD-2-Clause
//
// SP_INVARIANT guards what this code promises itself: a failure is a bug of ours, on in release
// builds too, one line on stderr, then abort. What others send is never asserted. Every folder of
// userspace/ may include this.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace sp {

[[noreturn]] inline void invariant_failed(const char *condition, const char *file,
                                          int line) noexcept
{
    std::fprintf(stderr, "sp: SP9001 invariant failed: %s (%s:%d)\n", condition, file, line);
    std::abort();
}

} // namespace sp

#define SP_INVARIANT(condition)                                                                    \
    (__builtin_expect(!(condition), 0) ? ::sp::invariant_failed(#condition, __FILE__, __LINE__)    \
                                       : (void)0)
