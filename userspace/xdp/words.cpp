// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/xdp/words.hpp"

#include <atomic>
#include <bpf/libbpf.h>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <mutex>

namespace sp::xdp {
namespace {

std::mutex installing; // guards listeners and the exchange of libbpf's print function
unsigned listeners = 0;
std::atomic<libbpf_print_fn_t> before{nullptr}; // what others print with while ours is installed
thread_local std::string *ear = nullptr;

int hear(libbpf_print_level level, const char *format, va_list args)
{
    if (!ear) {
        const auto other =
            before.load(std::memory_order_acquire); // pairs with the store after the exchange
        return other ? other(level, format, args) : 0;
    }
    if (level == LIBBPF_DEBUG)
        return 0;
    va_list again;
    va_copy(again, args);
    const int length = std::vsnprintf(nullptr, 0, format, again);
    va_end(again);
    if (length <= 0)
        return length;
    const auto begin = ear->size();
    ear->resize(begin + static_cast<std::size_t>(length) + 1);
    std::vsnprintf(ear->data() + begin, static_cast<std::size_t>(length) + 1, format, args);
    ear->pop_back();
    return length;
}

} // namespace

libbpf_words::libbpf_words() : outer_(ear)
{
    const std::lock_guard guard(installing);
    if (listeners++ == 0)
        before.store(libbpf_set_print(hear), std::memory_order_release);
    ear = &text_;
}

libbpf_words::~libbpf_words()
{
    const std::lock_guard guard(installing);
    ear = outer_;
    if (--listeners > 0)
        return;
    // Somebody may have set a print function meanwhile; then it is theirs that stays.
    const auto found = libbpf_set_print(before.load(std::memory_order_relaxed));
    if (found != hear)
        libbpf_set_print(found);
}

std::string libbpf_words::kernel_message() const
{
    constexpr std::string_view label = "Kernel error message: ";
    const auto at = text_.rfind(label);
    if (at == std::string::npos)
        return {};
    const auto begin = at + label.size();
    return text_.substr(begin, text_.find('\n', begin) - begin);
}

std::string errno_name(int code)
{
    const char *name = strerrorname_np(code);
    return name ? name : "errno " + std::to_string(code);
}

std::string errno_words(int code)
{
    char space[128];
    return std::string(strerror_r(code, space, sizeof space)) + " (" + errno_name(code) + ')';
}

} // namespace sp::xdp
