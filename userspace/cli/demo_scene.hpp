// SPDX-License-Identifier: BSD-2-Clause
//
// What the use cases of the demo share: where they play, how a side keeps count, and opening a
// socket that listens or has connected. A message that does not come within answer_wait is lost,
// which is a figure and no error: the verdict is the parent's.
#pragma once

#include "sp/sp.hpp"
#include "userspace/cli/demo_cases.hpp"
#include "userspace/cli/demo_witness.hpp"

#include <string>
#include <string_view>

namespace sp::cli {

inline constexpr std::chrono::seconds answer_wait{
    10}; // far more than a machine with other work needs
struct scene {
    const lines &out;
    engine &on;
    const addresses &at;
    const witness &see;

    [[nodiscard]] options here() const { return {.on = &on}; }
    [[nodiscard]] result<void> meet() const
    {
        if (out.meet())
            return {};
        return std::unexpected(error::numbered(2017, "the other side of the demo has ended"));
    }
    // All is across: XDP's counters stand while both look, and only then may anything be closed.
    [[nodiscard]] result<void> finish() const
    {
        if (auto across = meet(); !across)
            return across;
        if (auto seen = see.tell(report::kind::use_proof); !seen)
            return seen;
        return meet();
    }
};

// What one side sees of one use case.
class tally {
public:
    tally(const scene &s, use_case::kind what)
        : out_(s.out), way_(s.at(host::a, 0).starts_with("ip:") ? "ip/xdp" : "unixgram")
    {
        seen_.what = what;
    }
    void sent(std::uint64_t n = 1) { seen_.sent += n; }
    void received(const message &m)
    {
        ++seen_.received;
        seen_.by_way += m.transport() == way_;
    }
    void twice() { ++seen_.twice; }
    void late(std::uint64_t n) { seen_.late = n; }
    void who(std::string_view name)
    {
        seen_.who = {};
        name.copy(seen_.who.data(), seen_.who.size() - 1);
    }
    [[nodiscard]] const use_case &seen() const { return seen_; }
    void tell() const
    {
        report r;
        r.what = report::kind::used;
        r.use = seen_;
        out_.tell(r);
    }

private:
    const lines &out_;
    std::string_view way_;
    use_case seen_;
};

// The messages that come, `most` of them; fewer when the next one is lost.
template <class Receiver>
result<void> receive(Receiver &from, int most, tally &seen)
{
    for (int n = 0; n < most; ++n) {
        auto m = from.recv(answer_wait);
        if (!m && m.error() == errc::timed_out)
            break;
        if (!m)
            return std::unexpected(m.error());
        seen.received(*m);
    }
    return {};
}

template <class Role>
result<Role> listening(const scene &s, host where, unsigned number, options o)
{
    auto made = Role::open(o);
    if (made)
        if (auto listens = made->listen(s.at(where, number)); !listens)
            return std::unexpected(listens.error());
    return made;
}

template <class Role>
result<Role> dialed(const scene &s, host where, unsigned number)
{
    auto made = Role::open(s.here());
    if (made)
        if (auto connected = made->dial(s.at(where, number), answer_wait); !connected)
            return std::unexpected(connected.error());
    return made;
}

// Telemetry is the longest of the four and has a file of its own.
[[nodiscard]] result<void> lead_telemetry(const scene &s);
[[nodiscard]] result<void> follow_telemetry(const scene &s);

} // namespace sp::cli
