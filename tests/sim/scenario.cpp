// SPDX-License-Identifier: BSD-2-Clause
//
// The text of a scenario, read and written: `key=value` joined by commas. What cannot be read is an
// error that names the word, says what is wrong with it and what would be right. Numbers are
// integers all the way: a percentage has at most four decimals, which is finer than one part.
#include "tests/sim/network.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <functional>
#include <optional>

namespace sp::sim {
namespace {

using text = std::string_view;
using failure = std::optional<std::string>; // what is wrong with a value

std::optional<std::uint64_t> number(text word)
{
    const bool hex = word.starts_with("0x");
    if (hex)
        word.remove_prefix(2);
    std::uint64_t n = 0;
    const auto [end, wrong] =
        std::from_chars(word.data(), word.data() + word.size(), n, hex ? 16 : 10);
    if (wrong != std::errc{} || end != word.data() + word.size())
        return std::nullopt;
    return n;
}

std::optional<parts> percentage(text word)
{
    if (!word.ends_with('%'))
        return std::nullopt;
    word.remove_suffix(1);
    const auto dot = word.find('.');
    const auto whole = number(word.substr(0, dot));
    if (!whole || *whole > 100 || word.starts_with("0x"))
        return std::nullopt;
    std::uint64_t fraction = 0;
    if (dot != text::npos) {
        const auto digits = word.substr(dot + 1);
        const auto n = number(digits);
        if (!n || digits.empty() || digits.size() > 4 || digits.starts_with("0x"))
            return std::nullopt;
        fraction = *n;
        for (auto i = digits.size(); i < 4; ++i)
            fraction *= 10;
    }
    const auto millionths = *whole * 10'000 + fraction;
    if (millionths > 1'000'000)
        return std::nullopt;
    return static_cast<parts>((millionths * certain + 500'000) / 1'000'000);
}

std::string percentage_text(parts p)
{
    const auto millionths = (std::uint64_t{p} * 1'000'000 + certain / 2) / certain;
    auto out = std::to_string(millionths / 10'000);
    if (auto fraction = std::to_string(10'000 + millionths % 10'000).substr(1);
        fraction != "0000") {
        while (fraction.ends_with('0'))
            fraction.pop_back();
        out += '.' + fraction;
    }
    return out + '%';
}

struct unit {
    text name;
    std::int64_t size;
};
constexpr std::array<unit, 4> units{
    {{"ns", 1}, {"us", 1'000}, {"ms", 1'000'000}, {"s", 1'000'000'000}}};

std::optional<nanoseconds> duration(text word)
{
    for (const auto &[name, size] : units) {
        if (!word.ends_with(name))
            continue;
        const auto n = number(word.substr(0, word.size() - name.size()));
        if (n && *n <= 3'600'000'000'000'000 / static_cast<std::uint64_t>(size))
            return nanoseconds(static_cast<std::int64_t>(*n) * size);
    }
    return std::nullopt;
}

std::string duration_text(nanoseconds d)
{
    const auto n = d.count();
    for (auto u = units.rbegin(); u != units.rend(); ++u)
        if (n % u->size == 0)
            return std::to_string(n / u->size) + std::string(u->name);
    return {};
}

// ---- what each kind of value may be ----

failure read(text word, parts &into)
{
    const auto p = percentage(word);
    if (!p)
        return "is a share of the packets: 0% to 100%, with at most four decimals";
    into = *p;
    return std::nullopt;
}

template <class Number>
failure read_count(text word, Number &into, std::uint64_t least, std::uint64_t most)
{
    const auto n = number(word);
    if (!n || *n < least || *n > most)
        return "is a number from " + std::to_string(least) + " to " + std::to_string(most);
    into = static_cast<Number>(*n);
    return std::nullopt;
}

constexpr auto duration_form = "is a time such as 250us, 5ms or 2s";

failure read(text word, nanoseconds &into)
{
    const auto d = duration(word);
    if (!d)
        return duration_form;
    into = *d;
    return std::nullopt;
}

failure read_delay(text word, link_faults &into)
{
    const auto dots = word.find("..");
    const auto least = duration(word.substr(0, dots));
    const auto most = dots == text::npos ? least : duration(word.substr(dots + 2));
    if (!least || !most || *most < *least)
        return "is a time or a range of times: 2ms or 1ms..5ms";
    into.delay = *least;
    into.jitter = *most - *least;
    return std::nullopt;
}

failure read_tail(text word, link_faults &into)
{
    const auto colon = word.find(':');
    const auto share = percentage(word.substr(0, colon));
    const auto most =
        colon == text::npos ? std::optional<nanoseconds>{} : duration(word.substr(colon + 1));
    if (!share || !most)
        return "is a share and the longest time: 1%:2s";
    into.tail = *share;
    into.tail_max = *most;
    return std::nullopt;
}

failure read_outage(text word, outage::shape what, std::vector<outage> &into)
{
    const auto at = word.find('@');
    const auto slash = word.find('/');
    const auto rest = at == text::npos ? text() : word.substr(at + 1, slash - at - 1);
    const auto length = duration(word.substr(0, std::min(at, slash)));
    const auto start = at == text::npos ? nanoseconds(0) : duration(rest);
    const auto period = slash == text::npos ? nanoseconds(0) : duration(word.substr(slash + 1));
    if (!length || !start || !period || (at != text::npos && slash != text::npos && slash < at))
        return "is LENGTH@START, LENGTH/PERIOD or LENGTH@START/PERIOD: 2s@1s, 100ms/2s";
    if (slash != text::npos && *period <= *length)
        return "has a period that is not longer than the outage";
    into.push_back({.what = what, .length = *length, .start = *start, .period = *period});
    return std::nullopt;
}

struct key {
    text name;
    text form, meaning;
    failure (*read)(text, scenario &);
};

constexpr std::array keys{
    key{"seed", "0x1f", "where all chance comes from",
        [](text w, scenario &s) { return read_count(w, s.seed, 0, ~std::uint64_t{0}); }},
    key{"loss", "30%", "packets that never arrive",
        [](text w, scenario &s) { return read(w, s.loss); }},
    key{"burst", "8", "lost packets come in runs of this mean length",
        [](text w, scenario &s) { return read_count(w, s.burst, 1, 2000); }},
    key{"dup", "10%", "packets that arrive twice",
        [](text w, scenario &s) { return read(w, s.faults.duplicate); }},
    key{"replay", "1%", "packets with which an old one arrives again",
        [](text w, scenario &s) { return read(w, s.faults.replay); }},
    key{"reorder", "5%", "packets that begin a window which arrives backwards",
        [](text w, scenario &s) { return read(w, s.faults.reorder); }},
    key{"window", "2", "packets of such a window, at most",
        [](text w, scenario &s) { return read_count(w, s.faults.window, 2, 16384); }},
    key{"hold", "20ms", "how long a window waits to be full",
        [](text w, scenario &s) { return read(w, s.faults.hold); }},
    key{"corrupt", "1%", "packets that arrive damaged",
        [](text w, scenario &s) { return read(w, s.faults.corrupt); }},
    key{"truncate", "1%", "packets of which only the beginning arrives",
        [](text w, scenario &s) { return read(w, s.faults.truncate); }},
    key{"delay", "1ms..5ms", "how long a packet takes",
        [](text w, scenario &s) { return read_delay(w, s.faults); }},
    key{"tail", "1%:2s", "so many take far longer, up to this time",
        [](text w, scenario &s) { return read_tail(w, s.faults); }},
    key{"mtu", "1500", "larger packets vanish",
        [](text w, scenario &s) { return read_count(w, s.faults.mtu, 0, 65535); }},
    key{"queue", "64", "packets on their way, more overflow",
        [](text w, scenario &s) { return read_count(w, s.faults.queue, 0, 1'000'000); }},
    key{"rate", "125000000", "bytes per second",
        [](text w, scenario &s) {
            return read_count(w, s.faults.bandwidth, 0, 1'000'000'000'000);
        }},
    key{"partition", "2s@1s", "nothing passes, either way",
        [](text w, scenario &s) { return read_outage(w, outage::shape::both_ways, s.outages); }},
    key{"oneway", "2s@1s", "nothing passes in one direction",
        [](text w, scenario &s) { return read_outage(w, outage::shape::one_way, s.outages); }},
    key{"clog", "100ms/2s", "everything waits until this is over",
        [](text w, scenario &s) { return read_outage(w, outage::shape::clog, s.outages); }},
};

} // namespace

std::expected<scenario, std::string> parse_scenario(std::string_view words)
{
    scenario s;
    while (!words.empty()) {
        const auto word = words.substr(0, words.find(','));
        words.remove_prefix(std::min(word.size() + 1, words.size()));
        const auto equals = word.find('=');
        const auto name = word.substr(0, equals);
        const auto known = std::ranges::find(keys, name, &key::name);
        if (known == keys.end()) {
            std::string names;
            for (const auto &k : keys)
                names.append(names.empty() ? "" : ", ").append(k.name);
            return std::unexpected("'" + std::string(name) + "' is no fault; there are " + names);
        }
        if (equals == text::npos)
            return std::unexpected("'" + std::string(name) + "' wants a value, as in " +
                                   std::string(name) + '=' + std::string(known->form));
        if (const auto wrong = known->read(word.substr(equals + 1), s))
            return std::unexpected("'" + std::string(word) + "': " + std::string(name) + ' ' +
                                   *wrong);
    }
    s.faults.set_loss(s.loss, s.burst);
    return s;
}

std::string to_text(const scenario &s)
{
    const scenario plain;
    std::string out = "seed=0x";
    std::array<char, 16> digits{};
    const auto [end, none] =
        std::to_chars(digits.data(), digits.data() + digits.size(), s.seed, 16);
    out.append(digits.data(), end);
    const auto add = [&](text name, const std::string &value) {
        out.append(",").append(name).append("=").append(value);
    };
    const auto share = [&](text name, parts p) {
        if (p != 0)
            add(name, percentage_text(p));
    };
    const auto count = [&](text name, std::uint64_t n, std::uint64_t usual) {
        if (n != usual)
            add(name, std::to_string(n));
    };
    const auto &f = s.faults;
    share("loss", s.loss);
    count("burst", s.burst, plain.burst);
    share("dup", f.duplicate);
    share("replay", f.replay);
    share("reorder", f.reorder);
    count("window", f.window, plain.faults.window);
    if (f.hold != plain.faults.hold)
        add("hold", duration_text(f.hold));
    share("corrupt", f.corrupt);
    share("truncate", f.truncate);
    if (f.delay.count() + f.jitter.count() > 0)
        add("delay", duration_text(f.delay) +
                         (f.jitter.count() > 0 ? ".." + duration_text(f.delay + f.jitter) : ""));
    if (f.tail != 0)
        add("tail", percentage_text(f.tail) + ':' + duration_text(f.tail_max));
    count("mtu", f.mtu, 0);
    count("queue", f.queue, 0);
    count("rate", f.bandwidth, 0);
    for (const auto &o : s.outages) {
        static constexpr std::array<text, 3> names{"partition", "oneway", "clog"};
        add(names[static_cast<std::size_t>(o.what)],
            duration_text(o.length) +
                (o.start.count() > 0 ? '@' + duration_text(o.start) : std::string()) +
                (o.period.count() > 0 ? '/' + duration_text(o.period) : std::string()));
    }
    return out;
}

std::string scenario_syntax()
{
    std::string out;
    for (const auto &k : keys) {
        auto line = "  " + std::string(k.name) + '=' + std::string(k.form);
        line.resize(std::max<std::size_t>(line.size() + 2, 24), ' ');
        out.append(line).append(k.meaning).append("\n");
    }
    return out;
}

} // namespace sp::sim
