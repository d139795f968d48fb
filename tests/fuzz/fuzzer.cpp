// SPDX-License-Identifier: BSD-2-Clause
//
// A target as a program of libFuzzer: one target per program. A broken property aborts, which
// libFuzzer reports with the input. With SP_FUZZ_MARKS in the environment it prints at its end
// which marks were reached; one that was not makes the program fail, since a target that looks at
// nothing finds nothing.
#include "tests/fuzz/target.hpp"

#include <cstdio>
#include <cstdlib>

namespace sp::fuzz {

void broken(std::string_view property, const std::source_location &where)
{
    std::fprintf(stderr, "fuzz: %s:%u does not hold: %.*s\n", where.file_name(), where.line(),
                 static_cast<int>(property.size()), property.data());
    std::abort();
}

namespace {

// Called at the end of a run that found nothing.
void tell_marks()
{
    const auto &one = targets().front();
    std::size_t reached = 0;
    for (const auto *m : one.marks) {
        reached += m->reached ? 1 : 0;
        if (!m->reached)
            std::fprintf(stderr, "fuzz: %.*s never reached: %.*s\n",
                         static_cast<int>(one.name.size()), one.name.data(),
                         static_cast<int>(m->name.size()), m->name.data());
    }
    std::fprintf(stderr, "fuzz: %.*s reached %zu of %zu marks\n", static_cast<int>(one.name.size()),
                 one.name.data(), reached, one.marks.size());
    if (reached < one.marks.size())
        std::_Exit(1);
}

} // namespace
} // namespace sp::fuzz

extern "C" int LLVMFuzzerInitialize(int *, char ***)
{
    if (sp::fuzz::targets().size() != 1) {
        std::fprintf(stderr, "fuzz: one target per program\n");
        std::_Exit(2);
    }
    return std::getenv("SP_FUZZ_MARKS") != nullptr ? std::atexit(sp::fuzz::tell_marks) : 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    sp::fuzz::targets().front().run(std::as_bytes(std::span(data, size)));
    return 0;
}
