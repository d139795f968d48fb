// SPDX-License-Identifier: BSD-2-Clause
//
// The catalogue behind sp::error: texts are looked up here, so that an error on the data path
// carries none.
#include "sp/error.hpp"

#include <cstdio>

namespace sp::inline v1 {
namespace {

// Codes born without detail have the numbers 2010 and up, in the order of errc; the table's own
// check is below.
constexpr int plain_number_first = 2010;

// By index: a pointer compared with null is no constant expression under the undefined-behaviour
// sanitizer.
constexpr std::size_t index_of(int number)
{
    std::size_t i = 0;
    while (i < error_table.size() && error_table[i].number != number)
        ++i;
    return i;
}

consteval bool every_code_has_a_plain_entry()
{
    for (std::size_t i = 0; i < errc_table.size(); ++i) {
        const auto at = index_of(plain_number_first + static_cast<int>(i));
        if (at == error_table.size() || error_table[at].code != static_cast<errc>(i))
            return false;
    }
    return true;
}
static_assert(every_code_has_a_plain_entry(),
              "errors.def: 2010 and up must follow the order of the codes");

const error_entry &entry_of(int number)
{
    return error_table[index_of(number)];
}

std::string_view either(std::string_view own, std::string_view table)
{
    return own.empty() ? table : own;
}

} // namespace

error error::numbered(int number, std::string what, std::string why, std::string fix)
{
    if (index_of(number) == error_table.size())
        number = 9001;
    error e(entry_of(number).code);
    e.detail_ = std::make_shared<const detail>(
        detail{number, std::move(what), std::move(why), std::move(fix)});
    return e;
}

int error::number() const noexcept
{
    return detail_ ? detail_->number : plain_number_first + static_cast<int>(code_);
}

int error::exit_status() const noexcept
{
    return entry_of(number()).exit_status;
}

std::string_view error::what() const noexcept
{
    return either(detail_ ? detail_->what : std::string_view{}, entry_of(number()).what);
}

std::string_view error::why() const noexcept
{
    return either(detail_ ? detail_->why : std::string_view{}, entry_of(number()).why);
}

std::string_view error::fix() const noexcept
{
    return either(detail_ ? detail_->fix : std::string_view{}, entry_of(number()).fix);
}

int complain(const error &e) noexcept
{
    const auto line = [](const char *label, std::string_view text) {
        if (!text.empty())
            std::fprintf(stderr, "  %s: %.*s\n", label, static_cast<int>(text.size()), text.data());
    };
    const auto what = e.what();
    std::fprintf(stderr, "sp: SP%04d %.*s\n", e.number(), static_cast<int>(what.size()),
                 what.data());
    line("why", e.why());
    line("fix", e.fix());
    return e.exit_status();
}

} // namespace sp::inline v1
