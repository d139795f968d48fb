// SPDX-License-Identifier: BSD-2-Clause
//
// See config.hpp.
#include "tests/sim/config.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace sp::sim {
namespace {

using protocol::role;

constexpr auto ms = [](std::int64_t n) { return nanoseconds(n * 1'000'000); };

class drawing {
public:
    explicit drawing(choices &from) : from_(from) {}

    config draw()
    {
        c_.hosts = 2 + of(4);
        const auto groups = of(3) == 2 ? 2 + of(2) : 1;
        for (group_ = 0; group_ < groups; ++group_)
            add_group();
        draw_behaviour();
        draw_network();
        draw_chaos();
        return c_;
    }

private:
    std::uint32_t of(std::uint32_t n) { return from_.choose(streams::config, n); }
    bool maybe() { return of(2) == 1; }
    template <class T, std::size_t N>
    T any(const std::array<T, N> &list)
    {
        return list[of(N)];
    }
    parts share(std::uint32_t percent) // up to so many
    {
        return of(certain / 100 * percent + 1);
    }

    // ---- who is there ----

    std::uint32_t add(role as, std::uint32_t host, bool listens, bool raw = false)
    {
        const auto place = static_cast<std::uint32_t>(c_.members.size());
        c_.members.push_back({.host = host,
                              .as = as,
                              .raw = raw,
                              .other = place,
                              .group = group_,
                              .port = static_cast<std::uint16_t>((listens ? 7000 : 40000) + place),
                              .listens = listens});
        return place;
    }
    void dial(std::uint32_t from, std::uint32_t to)
    {
        const auto &m = c_.members[to];
        c_.members[from].dials.push_back({m.host, m.port});
    }
    std::uint32_t elsewhere(std::uint32_t host) { return (host + 1 + of(c_.hosts - 1)) % c_.hosts; }

    // Some of each side, and a way from each dialer to one listener at least.
    void add_two_sides(role asking, role answering)
    {
        const bool askers_listen = maybe();
        const auto home = of(c_.hosts);
        const auto askers = 1 + of(2), answerers = 1 + of(asking == role::pub ? 3 : 2);
        std::vector<std::uint32_t> one, other;
        for (std::uint32_t i = 0; i < askers; ++i)
            one.push_back(add(asking, askers_listen ? (home + i) % c_.hosts : elsewhere(home),
                              askers_listen));
        for (std::uint32_t i = 0; i < answerers; ++i)
            other.push_back(add(answering, askers_listen ? elsewhere(home) : home, !askers_listen));
        if (askers_listen)
            std::swap(one, other);
        for (const auto from : one)
            for (const auto to : other)
                if (c_.members[from].host != c_.members[to].host && (to == other[0] || maybe()))
                    dial(from, to);
    }
    void add_pair()
    {
        const auto version = of(4) == 3 ? role::pair0 : role::pair1;
        const auto home = of(c_.hosts);
        const auto listener = add(version, home, true);
        for (auto n = of(4) == 3 ? 2 : 1; n > 0; --n)
            dial(add(version, elsewhere(home), false), listener);
    }
    void add_bus()
    {
        const auto n = 2 + of(c_.hosts - 1);
        std::vector<std::uint32_t> all;
        for (std::uint32_t i = 0; i < n; ++i) {
            all.push_back(add(role::bus, i, true));
            for (std::uint32_t j = 0; j < i; ++j)
                dial(all[i], all[j]);
        }
    }
    // asking -> front [device] back -> answering
    void add_device(role asking, role answering)
    {
        const auto home = of(c_.hosts);
        const auto front = add(answering, home, true, true), back = add(asking, home, false, true);
        c_.members[front].other = back;
        c_.members[back].other = front;
        for (auto n = asking == role::pair1 ? 1 : 1 + of(2); n > 0; --n)
            dial(add(asking, elsewhere(home), false), front);
        for (auto n = asking == role::pair1 ? 1 : 1 + of(2); n > 0; --n)
            dial(back, add(answering, elsewhere(home), true));
    }
    void add_reflector()
    {
        const auto home = of(c_.hosts);
        const auto hub = add(role::bus, home, true, true);
        for (auto n = 2 + of(2); n > 0; --n)
            dial(add(role::bus, elsewhere(home), false), hub);
    }
    void add_group()
    {
        switch (of(12)) {
        case 0:
            return add_two_sides(role::req, role::rep);
        case 1:
            return add_two_sides(role::push, role::pull);
        case 2:
            return add_pair();
        case 3:
            return add_two_sides(role::pub, role::sub);
        case 4:
            return add_two_sides(role::surveyor, role::respondent);
        case 5:
            return add_bus();
        case 6:
            return add_device(role::req, role::rep);
        case 7:
            return add_device(role::push, role::pull);
        case 8:
            return add_device(role::pub, role::sub);
        case 9:
            return add_device(role::surveyor, role::respondent);
        case 10:
            return add_device(role::pair1, role::pair1);
        default:
            return add_reflector();
        }
    }

    // ---- what they do and suffer ----

    void draw_behaviour()
    {
        auto &b = c_.says;
        b.messages = 1 + of(any(std::array<std::uint32_t, 4>{8, 30, 100, 300}));
        b.size_class = any(std::array<std::uint32_t, 8>{0, 0, 1, 1, 1, 2, 2, 3});
        if (b.size_class >= 2)
            b.messages = std::min(b.messages, b.size_class == 2 ? 40u : 10u);
        b.pace = any(std::array{ms(1), nanoseconds(50'000), ms(5), ms(20)});
        b.readers = of(3);
        b.cancels = maybe();
        b.fickle = maybe();
        b.request_deadline = of(4) == 3 ? ms(5 + of(500)) : ms(0);
        b.window = any(std::array<std::uint16_t, 5>{32, 32, 4, 1, 64});
        b.message_max = any(std::array<std::uint32_t, 4>{1 << 20, 1 << 20, 1 << 20, 20'000});
        c_.packet_max = any(std::array<std::uint32_t, 5>{1480, 1480, 8980, 1240, 600});
        c_.batch = any(std::array<std::uint32_t, 3>{64, 1, 4});
        c_.lag = any(std::array{ms(0), nanoseconds(20'000), ms(1)});
        c_.drift = maybe() ? 500 : 0;
        c_.hostile = any(std::array{ms(300), ms(100), ms(1000), ms(3000), ms(8000)});
        c_.whole_core = of(4) != 3;
        c_.first_seq = of(3) == 2 ? 0xffffffff - of(64) : 0;
    }
    void draw_network()
    {
        auto &n = c_.net;
        n.delay = any(std::array{ms(0), nanoseconds(30'000), ms(1), ms(30)});
        n.jitter = any(std::array{ms(0), nanoseconds(100'000), ms(2), ms(40)});
        if (maybe())
            n.set_loss(share(any(std::array<std::uint32_t, 3>{5, 30, 60})),
                       any(std::array<std::uint32_t, 4>{1, 1, 5, 50}));
        if (maybe())
            n.duplicate = share(100);
        if (maybe())
            n.replay = share(20);
        if (maybe()) {
            n.reorder = share(50);
            n.window = any(std::array<std::uint32_t, 4>{2, 3, 8, 100});
        }
        if (maybe())
            n.corrupt = share(20);
        if (maybe())
            n.truncate = share(10);
        if (maybe()) {
            n.tail = share(5);
            n.tail_max = ms(1 + of(2000));
        }
        if (of(4) == 3)
            n.queue = 1 + of(64);
        if (of(4) == 3)
            n.bandwidth = 200'000 + std::uint64_t{of(1000)} * 100'000;
        c_.uneven = maybe();
    }
    void draw_chaos()
    {
        auto &b = c_.befalls;
        b.interval = any(std::array{ms(0), ms(1000), ms(200), ms(30)});
        for (auto *each : {&b.crash, &b.pause, &b.partition, &b.clog, &b.jam, &b.resize, &b.reopen,
                           &b.hint, &b.stranger})
            *each = maybe() ? 1 + of(10) : 0;
    }

    choices &from_;
    config c_;
    std::uint32_t group_ = 0;
};

} // namespace

config draw_config(choices &from)
{
    return drawing(from).draw();
}

std::string to_text(const config &c)
{
    std::string out = "hosts=" + std::to_string(c.hosts) + " sockets=";
    for (const auto &m : c.members) {
        std::array<char, 16> text{};
        std::snprintf(text.data(), text.size(), "%s%x@%u%s", &m == &c.members[0] ? "" : "+",
                      static_cast<unsigned>(m.as), m.host, m.raw ? "r" : "");
        out += text.data();
    }
    scenario net;
    net.faults = c.net;
    const auto bad = std::uint64_t{c.net.to_bad} + c.net.to_good;
    net.loss = c.net.to_bad == 0 ? c.net.loss
                                 : static_cast<parts>(std::uint64_t{c.net.to_bad} * certain / bad);
    net.burst = c.net.to_bad == 0 ? 1 : certain / std::max(c.net.to_good, 1u);
    const auto faults = to_text(net);
    out += " net=" + (faults.size() > 9 ? faults.substr(9) : std::string("calm"));
    const auto &b = c.befalls;
    out += " chaos=" + std::to_string(b.interval.count() / 1'000'000) + "ms";
    const auto add = [&](const char *name, std::uint32_t n) {
        if (n > 0 && b.interval.count() > 0)
            out.append("+").append(name);
    };
    add("crash", b.crash), add("pause", b.pause), add("partition", b.partition);
    add("clog", b.clog), add("jam", b.jam), add("resize", b.resize), add("reopen", b.reopen);
    add("hint", b.hint), add("stranger", b.stranger);
    out += " messages=" + std::to_string(c.says.messages) + "/" +
           std::to_string(c.says.size_class) + " packet=" + std::to_string(c.packet_max) +
           " window=" + std::to_string(c.says.window) +
           " hostile=" + std::to_string(c.hostile.count() / 1'000'000) + "ms";
    return out;
}

} // namespace sp::sim
