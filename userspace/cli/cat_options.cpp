// SPDX-License-Identifier: BSD-2-Clause
//
// See cat_options.hpp. A row of the table names an option and what takes it; the reader walks over
// the words and stops at the first that is wrong.
#include "userspace/cli/cat_options.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fmt/format.h>
#include <memory>
#include <string_view>
#include <utility>

namespace sp::cli {
namespace {

using std::string_view;
using way = cat_endpoint::way;
using complaint = std::optional<cat_end>; // none: go on

constexpr std::uint32_t number_max = 0x7fffffff, day = 86400, port_max = 65536; // 65536 as nngcat

cat_end refusal(std::string text)
{
    return {.what = cat_end::kind::refused, .text = std::move(text)};
}

std::expected<std::uint32_t, cat_end> number(string_view word, std::uint32_t most)
{
    if (word.empty())
        return std::unexpected(refusal("Empty integer argument."));
    std::uint64_t value = 0;
    for (const char c : word) {
        if (c < '0' || c > '9')
            return std::unexpected(refusal("Integer argument expected."));
        value = value * 10 + static_cast<unsigned>(c - '0');
        if (value > most)
            return std::unexpected(refusal("Integer argument too large."));
    }
    return static_cast<std::uint32_t>(value);
}

std::expected<std::string, cat_end> content(const std::string &path)
{
    struct closer {
        void operator()(std::FILE *f) const noexcept { (void)std::fclose(f); }
    };
    std::unique_ptr<std::FILE, closer> own;
    if (path != "-")
        own.reset(std::fopen(path.c_str(), "rb"));
    auto *file = path == "-" ? stdin : own.get();
    if (!file)
        return std::unexpected(
            refusal(fmt::format("Cannot open file {}: {}", path, std::strerror(errno))));
    std::string all;
    std::array<char, 65536> part;
    for (std::size_t n; (n = std::fread(part.data(), 1, part.size(), file)) > 0;)
        all.append(part.data(), n);
    if (std::ferror(file))
        return std::unexpected(
            refusal(fmt::format("Read from {} failed: {}", path, std::strerror(errno))));
    return all;
}

class reader {
public:
    [[nodiscard]] std::expected<cat_arguments, cat_end> read(std::span<const std::string> words);

private:
    struct option;
    enum class argument : bool { no, yes };
    static std::span<const option> options();
    static std::expected<const option *, cat_end> find(string_view name, const std::string &word);

    // Takers: each has one option, and its argument if it has one.
    complaint ends(const option &, const std::string &);
    complaint role(const option &, const std::string &);
    complaint endpoint(const option &, const std::string &);
    complaint ipc_endpoint(const option &, const std::string &);
    complaint local_endpoint(const option &, const std::string &);
    complaint data(const option &, const std::string &);
    complaint file(const option &, const std::string &);
    complaint topic(const option &, const std::string &);
    complaint format(const option &, const std::string &);
    complaint format_by_name(const option &, const std::string &);
    complaint amount(const option &, const std::string &);
    complaint name(const option &, const std::string &);
    complaint speaks(const option &, const std::string &);
    complaint flag(const option &, const std::string &);
    complaint credential(const option &, const std::string &);
    complaint unused(const option &, const std::string &);

    [[nodiscard]] complaint check();
    [[nodiscard]] complaint check_role() const;

    cat_arguments out_;
    std::optional<cat_role> role_;
    bool format_given_ = false, compat_ = false;
    std::array<bool, 3> credentials_{}; // given: CA, key, certificate
};

struct reader::option {
    string_view name;
    char letter; // 0: none
    argument takes;
    complaint (reader::*taker)(const option &, const std::string &);
    int meaning = 0; // the taker knows of what
};

template <class Enum>
constexpr int value(Enum e)
{
    return static_cast<int>(std::to_underlying(e));
}

enum class amounts : std::uint8_t { count, bytes, delay, interval, send_timeout, recv_timeout };
enum class switches : std::uint8_t { compat, async, insecure };
enum class secret : std::uint8_t { ca, key, certificate };

std::span<const reader::option> reader::options()
{
    using r = reader;
    using enum argument;
    static constexpr auto dial = value(way::dial), listen = value(way::listen);
    static constexpr std::array table{
        option{"help", 'h', no, &r::ends, value(cat_end::kind::help)},
        option{"version", 'V', no, &r::ends, value(cat_end::kind::version)},
        option{"verbose", 'v', no, &r::speaks, value(loudness::verbose)},
        option{"silent", 'q', no, &r::speaks, value(loudness::silent)},
        option{"req0", 0, no, &r::role, value(cat_role::req)},
        option{"rep0", 0, no, &r::role, value(cat_role::rep)},
        option{"push0", 0, no, &r::role, value(cat_role::push)},
        option{"pull0", 0, no, &r::role, value(cat_role::pull)},
        option{"pub0", 0, no, &r::role, value(cat_role::pub)},
        option{"sub", 0, no, &r::role, value(cat_role::sub)}, // else it began --subscribe too
        option{"sub0", 0, no, &r::role, value(cat_role::sub)},
        option{"surveyor0", 0, no, &r::role, value(cat_role::surveyor)},
        option{"respondent0", 0, no, &r::role, value(cat_role::respondent)},
        option{"pair", 0, no, &r::role, value(cat_role::pair)},
        option{"pair0", 0, no, &r::role, value(cat_role::pair0)},
        option{"pair1", 0, no, &r::role, value(cat_role::pair1)},
        option{"bus0", 0, no, &r::role, value(cat_role::bus)},
        option{"dial", 0, yes, &r::endpoint, dial},
        option{"connect", 0, yes, &r::endpoint, dial},
        option{"listen", 0, yes, &r::endpoint, listen},
        option{"bind", 0, yes, &r::endpoint, listen},
        option{"connect-ipc", 'x', yes, &r::ipc_endpoint, dial},
        option{"bind-ipc", 'X', yes, &r::ipc_endpoint, listen},
        option{"connect-local", 'l', yes, &r::local_endpoint, dial},
        option{"bind-local", 'L', yes, &r::local_endpoint, listen},
        option{"data", 'D', yes, &r::data},
        option{"file", 'F', yes, &r::file},
        option{"subscribe", 0, yes, &r::topic},
        option{"format", 0, yes, &r::format_by_name},
        option{"ascii", 'A', no, &r::format, value(body_format::ascii)},
        option{"quoted", 'Q', no, &r::format, value(body_format::quoted)},
        option{"hex", 0, no, &r::format, value(body_format::hex)},
        option{"msgpack", 0, no, &r::format, value(body_format::msgpack)},
        option{"raw", 0, no, &r::format, value(body_format::raw)},
        option{"count", 'C', yes, &r::amount, value(amounts::count)},
        option{"delay", 'd', yes, &r::amount, value(amounts::delay)},
        option{"interval", 'i', yes, &r::amount, value(amounts::interval)},
        option{"send-timeout", 0, yes, &r::amount, value(amounts::send_timeout)},
        option{"recv-timeout", 0, yes, &r::amount, value(amounts::recv_timeout)},
        // As its manual has it, while the program refuses it.
        option{"receive-timeout", 0, yes, &r::amount, value(amounts::recv_timeout)},
        option{"recv-maxsz", 'Z', yes, &r::amount, value(amounts::bytes)},
        option{"socket-name", 0, yes, &r::name},
        option{"compat", 0, no, &r::flag, value(switches::compat)},
        option{"async", 0, no, &r::flag, value(switches::async)},
        option{"insecure", 'k', no, &r::flag, value(switches::insecure)},
        option{"cacert", 0, yes, &r::credential, value(secret::ca)},
        option{"key", 0, yes, &r::credential, value(secret::key)},
        option{"cert", 'E', yes, &r::credential, value(secret::certificate)},
        option{"zt-home", 0, yes, &r::unused},
    };
    return table;
}

// ---- words ----

std::expected<const reader::option *, cat_end> reader::find(string_view name,
                                                            const std::string &word)
{
    const auto table = options();
    if (word[1] != '-') {
        const auto found = std::ranges::find(table, name.front(), &option::letter);
        if (found == table.end())
            return std::unexpected(refusal(fmt::format("Option {} is invalid.", word)));
        return &*found;
    }
    const option *match = nullptr;
    for (const auto &each : table) {
        if (each.name == name)
            return &each;
        if (!each.name.starts_with(name))
            continue;
        if (match)
            return std::unexpected(
                refusal(fmt::format("Option {} is ambiguous (specify in full).", word)));
        match = &each;
    }
    if (!match)
        return std::unexpected(refusal(fmt::format("Option {} is invalid.", word)));
    return match;
}

std::expected<cat_arguments, cat_end> reader::read(std::span<const std::string> words)
{
    for (std::size_t i = 0; i < words.size(); ++i) {
        const auto &word = words[i];
        if (word.size() < 2 || word.front() != '-')
            break;
        const bool is_long = word[1] == '-';
        const auto end = is_long ? std::min(word.find_first_of("=:", 2), word.size()) : 2;
        const auto which =
            find(string_view(word).substr(is_long ? 2 : 1, end - (is_long ? 2 : 1)), word);
        if (!which)
            return std::unexpected(which.error());
        const auto &o = **which;
        const bool attached = end < word.size();
        if (o.takes == argument::no && attached)
            return std::unexpected(refusal(fmt::format("Option {} is invalid.", word)));
        std::string given;
        if (attached)
            given = word.substr(is_long ? end + 1 : end);
        else if (o.takes == argument::yes && ++i == words.size())
            return std::unexpected(refusal(fmt::format("Option {} requires argument.", word)));
        else if (o.takes == argument::yes)
            given = words[i];
        if (auto end_of_it = (this->*o.taker)(o, given))
            return std::unexpected(std::move(*end_of_it));
    }
    if (auto wrong = check())
        return std::unexpected(std::move(*wrong));
    return std::move(out_);
}

// ---- takers ----

complaint reader::ends(const option &o, const std::string &)
{
    return cat_end{.what = static_cast<cat_end::kind>(o.meaning)};
}

complaint reader::role(const option &o, const std::string &)
{
    if (role_)
        return refusal("Only one protocol may be specified.");
    role_ = static_cast<cat_role>(o.meaning);
    return {};
}

complaint reader::endpoint(const option &o, const std::string &url)
{
    out_.endpoints.push_back({static_cast<way>(o.meaning), url});
    return {};
}

// The slash is nngcat's: with it, a relative path is one from the root.
complaint reader::ipc_endpoint(const option &o, const std::string &path)
{
    return endpoint(o, "ipc:///" + path);
}

complaint reader::local_endpoint(const option &o, const std::string &word)
{
    const auto port = number(word, port_max);
    if (!port)
        return port.error();
    return endpoint(o, fmt::format("tcp://127.0.0.1:{}", *port));
}

complaint reader::data(const option &, const std::string &text)
{
    if (out_.data)
        return refusal("Data (--file, --data) may be specified only once.");
    out_.data = text;
    return {};
}

complaint reader::file(const option &o, const std::string &path)
{
    if (out_.data)
        return data(o, {});
    auto all = content(path);
    return all ? data(o, *all) : complaint(all.error());
}

complaint reader::topic(const option &, const std::string &text)
{
    out_.topics.push_back(text);
    return {};
}

complaint reader::format(const option &o, const std::string &)
{
    if (std::exchange(format_given_, true))
        return refusal("Format may be specified only once.");
    out_.format = static_cast<body_format>(o.meaning);
    return {};
}

complaint reader::format_by_name(const option &o, const std::string &word)
{
    if (auto twice = format(o, {}))
        return twice;
    const auto known = parse_format(word);
    if (!known || known == body_format::text)
        return refusal("Invalid format specified.");
    out_.format = *known;
    return {};
}

complaint reader::amount(const option &o, const std::string &word)
{
    const auto what = static_cast<amounts>(o.meaning);
    const bool of_seconds = what != amounts::count && what != amounts::bytes;
    const auto n = number(word, of_seconds ? day : number_max);
    if (!n)
        return n.error();
    const std::chrono::seconds s(*n);
    const auto unless_zero = *n > 0 ? std::optional(s) : std::nullopt; // 0 is no time-out
    switch (what) {
    case amounts::count:
        out_.count = *n;
        break;
    case amounts::bytes:
        out_.recv_bytes_max = *n;
        break;
    case amounts::delay:
        out_.delay = s;
        break;
    case amounts::interval:
        out_.interval = s;
        break;
    case amounts::send_timeout:
        out_.send_timeout = unless_zero;
        break;
    case amounts::recv_timeout:
        out_.recv_timeout = unless_zero;
        break;
    }
    return {};
}

complaint reader::name(const option &, const std::string &text)
{
    out_.name = text;
    return {};
}

complaint reader::speaks(const option &o, const std::string &)
{
    out_.speaks = static_cast<loudness>(o.meaning);
    return {};
}

complaint reader::flag(const option &o, const std::string &)
{
    const auto which = static_cast<switches>(o.meaning);
    (which == switches::compat  ? compat_
     : which == switches::async ? out_.async
                                : out_.insecure) = true;
    return {};
}

// Read and not kept: no transport here would use it, and a URL that needs it is refused.
complaint reader::credential(const option &o, const std::string &path)
{
    constexpr std::array names{"CA Certificate (--cacert)", "Key (--key)", "Cert (--cert)"};
    const auto which = static_cast<std::size_t>(o.meaning);
    if (std::exchange(credentials_[which], true))
        return refusal(fmt::format("{} may be specified only once.", names[which]));
    const auto all = content(path);
    return all ? complaint() : all.error();
}

complaint reader::unused(const option &, const std::string &)
{
    return {};
}

// ---- what goes with what ----

complaint reader::check()
{
    if (out_.endpoints.empty())
        return refusal("No address specified.");
    if (compat_ && out_.async)
        return refusal("Options --async and --compat are incompatible.");
    if (compat_ && out_.count != 0)
        return refusal("Options --count and --compat are incompatible.");
    if (compat_ && role_ == cat_role::pair1)
        return refusal("Protocol does not support --compat.");
    if (role_ == cat_role::pair)
        role_ = compat_ ? cat_role::pair0 : cat_role::pair1;
    out_.async |= compat_;
    if (role_ != cat_role::sub && !out_.topics.empty())
        return refusal("Protocol does not support --subscribe.");
    if (role_ == cat_role::sub && out_.topics.empty())
        out_.topics.emplace_back(); // everything
    if (!role_)
        return refusal("No protocol specified.");
    out_.role = *role_;
    return check_role();
}

complaint reader::check_role() const
{
    const bool data = out_.data.has_value(), interval = out_.interval.has_value();
    switch (out_.role) {
    case cat_role::pull:
    case cat_role::sub:
        if (data)
            return refusal("Protocol does not support --file or --data.");
        if (interval)
            return refusal("Protocol does not support --interval.");
        break;
    case cat_role::push:
    case cat_role::pub:
        if (format_given_)
            return refusal("Protocol does not support --format options.");
        [[fallthrough]];
    case cat_role::surveyor:
    case cat_role::req:
        if (!data)
            return refusal("Protocol requires either --file or --data.");
        break;
    case cat_role::rep:
    case cat_role::respondent:
        if (interval)
            return refusal("Protocol does not support --interval.");
        break;
    case cat_role::bus:
    case cat_role::pair0:
    case cat_role::pair1:
    case cat_role::pair:
        if (interval && !data)
            return refusal("Option --interval requires either --file or --data.");
        break;
    }
    return {};
}

} // namespace

std::expected<cat_arguments, cat_end> parse_cat(std::span<const std::string> words)
{
    return reader().read(words);
}

} // namespace sp::cli
