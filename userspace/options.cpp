// SPDX-License-Identifier: BSD-2-Clause
//
// See options.hpp. A field that stands in several rows has another range for other roles.
#include "userspace/options.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace sp::inline v1::detail {
namespace {

using protocol::role;
using std::string_view;

// ---- who reads it: a bit for each role, and another for its raw form

using readers = std::uint32_t;

struct reader_name {
    string_view name;
    role first, last; // both versions of PAIR are one
};

constexpr std::array reader_names{
    reader_name{"req", role::req, role::req},
    reader_name{"rep", role::rep, role::rep},
    reader_name{"pub", role::pub, role::pub},
    reader_name{"sub", role::sub, role::sub},
    reader_name{"push", role::push, role::push},
    reader_name{"pull", role::pull, role::pull},
    reader_name{"surveyor", role::surveyor, role::surveyor},
    reader_name{"respondent", role::respondent, role::respondent},
    reader_name{"bus", role::bus, role::bus},
    reader_name{"pair", role::pair0, role::pair1},
};

constexpr readers req = 1 << 0, rep = 1 << 1, pub = 1 << 2, sub = 1 << 3, push = 1 << 4,
                  pull = 1 << 5, surveyor = 1 << 6, respondent = 1 << 7, bus = 1 << 8,
                  pair = 1 << 9;
constexpr readers everyone = ~readers{0};

constexpr readers raw(readers cooked)
{
    return cooked << 16;
}
constexpr readers both(readers cooked)
{
    return cooked | raw(cooked);
}

readers reader_of(role r, form how)
{
    const auto found = std::ranges::find_if(
        reader_names, [&](const reader_name &n) { return r >= n.first && r <= n.last; });
    SP_INVARIANT(found != reader_names.end());
    const auto bit = readers{1} << (found - reader_names.begin());
    return how == form::raw ? raw(bit) : bit;
}

// "rep, respondent and raw rep"
std::string text_of(readers who)
{
    std::vector<std::string> names;
    for (const auto prefix : {string_view(), string_view("raw ")}) {
        for (std::size_t i = 0; i < reader_names.size(); ++i)
            if (const auto bit = readers{1} << i; who & (prefix.empty() ? bit : raw(bit)))
                names.push_back(std::string(prefix).append(reader_names[i].name));
    }
    std::string text;
    for (std::size_t i = 0; i < names.size(); ++i)
        text.append(i == 0 ? "" : i + 1 == names.size() ? " and " : ", ").append(names[i]);
    return text;
}

// ---- what it may be: every field as one number

template <class Value>
constexpr std::int64_t number_of(const Value &value)
{
    if constexpr (std::is_same_v<Value, options::duration>)
        return value.count();
    else if constexpr (std::is_enum_v<Value>)
        return static_cast<std::int64_t>(std::to_underlying(value));
    else
        return static_cast<std::int64_t>(value); // what does not fit is negative, and out of range
}

template <auto Field>
std::optional<std::int64_t> number_in(const options &o)
{
    const auto &field = o.*Field;
    if constexpr (requires { field.has_value(); })
        return field ? std::optional(number_of(*field)) : std::nullopt;
    else
        return field.empty() ? std::nullopt : std::optional<std::int64_t>(0);
}

struct row {
    string_view name;
    std::optional<std::int64_t> (*value)(const options &);
    readers who;
    std::int64_t least, most;
    string_view range;
    enum class zero : bool { is_a_number, is_off } off = zero::is_a_number;
};

constexpr std::int64_t ns(std::chrono::nanoseconds d)
{
    return d.count();
}
constexpr std::int64_t full(when_full w)
{
    return std::to_underlying(w);
}
constexpr std::int64_t alone(when_alone w)
{
    return std::to_underlying(w);
}

using namespace std::chrono_literals;
constexpr auto ms = ns(1ms);
constexpr auto ages = ns(24h * 36500); // later instants could not be told apart from never
constexpr std::int64_t gib = 1 << 30, mi = 1 << 20;
constexpr auto any_number = std::numeric_limits<std::int64_t>::max();

constexpr readers fans_out = pub | bus;
constexpr readers pushes = push | pair;
constexpr readers queues_out =
    fans_out | surveyor | pushes | raw(fans_out | surveyor | rep | respondent | pushes | req);
constexpr readers queues_in =
    sub | surveyor | bus | pair | raw(req | rep | sub | pull | surveyor | respondent | bus | pair);

constexpr auto is_off = row::zero::is_off;
constexpr auto policies_in = "drop_oldest, drop_newest or block";

#define SP_FIELD(name) #name, number_in<&options::name>
constexpr std::array table{
    row{SP_FIELD(message_max), everyone, 1, gib, "from 1 byte to 1 GiB"},
    row{SP_FIELD(send_queue_bytes), queues_out, 0, gib, "at most 1 GiB"},
    row{SP_FIELD(send_queue_messages), queues_out, 0, mi, "at most 1048576"},
    row{SP_FIELD(recv_queue_bytes), queues_in, 0, gib, "at most 1 GiB"},
    row{SP_FIELD(recv_queue_messages), queues_in, 0, mi, "at most 1048576"},
    row{SP_FIELD(on_send_full), both(fans_out), 0, full(when_full::disconnect),
        "drop_oldest, drop_newest, block or disconnect"},
    row{SP_FIELD(on_send_full), surveyor | raw(surveyor), 0, full(when_full::drop_newest),
        "drop_oldest or drop_newest: a survey does not wait"},
    row{SP_FIELD(on_send_full), queues_out & ~both(fans_out | surveyor), 0, full(when_full::block),
        policies_in},
    row{SP_FIELD(on_recv_full), queues_in, 0, full(when_full::block), policies_in},
    row{SP_FIELD(on_no_peer), req, 0, alone(when_alone::fail), "wait or fail"},
    row{SP_FIELD(on_no_peer), pushes, 0, alone(when_alone::drop), "wait, fail or drop"},
    row{SP_FIELD(resend_time), req, ms, ages, "0 or at least 1 ms", is_off},
    row{SP_FIELD(request_deadline), req, ms, ages, "at least 1 ms"},
    row{SP_FIELD(survey_time), surveyor, ms, ages, "at least 1 ms"},
    row{SP_FIELD(linger), everyone, 0, ns(1h), "from 0 to 1 hour"},
    row{SP_FIELD(send_timeout), everyone & ~both(sub | pull | surveyor), 0, ages, "not negative"},
    row{SP_FIELD(recv_timeout), everyone & ~both(pub | push), 0, ages, "not negative"},
    row{SP_FIELD(ttl_max), both(rep | respondent | pair), 1, 15, "from 1 to 15"},
    row{SP_FIELD(dedupe_time), rep, 0, ages, "not negative"},
    row{SP_FIELD(reply_cache_bytes), rep, 0, gib, "at most 1 GiB"},
    row{SP_FIELD(one_answer_per_peer), surveyor, 0, 1, ""},
    row{SP_FIELD(end_when_all_answered), surveyor, 0, 1, ""},
    row{SP_FIELD(pair_version), pair, 0, 1, "0 or 1"},
    row{SP_FIELD(connect_timeout), everyone, ms, ages, "at least 1 ms"},
    row{SP_FIELD(reconnect_min), everyone, ms, ages, "at least 1 ms"},
    row{SP_FIELD(reconnect_max), everyone, ms, ages, "at least 1 ms"},
    row{SP_FIELD(hello_timeout), everyone, ms, ages, "at least 1 ms"},
    row{SP_FIELD(half_open_max), everyone, 1, any_number, "at least 1"},
    row{SP_FIELD(keepalive_interval), everyone, 10 * ms, ages, "at least 10 ms"},
    row{SP_FIELD(peer_timeout), everyone, 50 * ms, ages, "at least 50 ms"},
    row{SP_FIELD(credit_messages), everyone, 1, 256, "from 1 to 256"},
    row{SP_FIELD(pipes_max), everyone, 1, any_number, "at least 1"},
    row{SP_FIELD(stream_send_bytes), everyone, 4096, gib, "from 4 KiB to 1 GiB"},
    row{SP_FIELD(tcp_nodelay), everyone, 0, 1, ""},
    row{SP_FIELD(tcp_keepalive), everyone, 0, 1, ""},
    row{SP_FIELD(tcp_user_timeout), everyone, ms, ages, "0 or at least 1 ms", is_off},
    row{SP_FIELD(ipc_mode), everyone, 0, 0777, "made of the nine rights of a file: 0 to 0777"},
    row{SP_FIELD(allow_uid), everyone, 0, 0, ""},
    row{SP_FIELD(allow_gid), everyone, 0, 0, ""},
    row{SP_FIELD(listen_fd), everyone, 0, any_number, "a descriptor"},
};
#undef SP_FIELD

readers readers_of(string_view name)
{
    readers all = 0;
    for (const auto &r : table)
        if (r.name == name)
            all |= r.who;
    return all;
}

error out_of_place(string_view name)
{
    return error::numbered(
        2008, std::string(name).append(" is read by ").append(text_of(readers_of(name))) + " only",
        "this socket would ignore it");
}

error out_of_range(const row &r)
{
    return error::numbered(2008, std::string(r.name).append(" is ").append(r.range));
}

} // namespace

std::optional<error> refuse(const options &o, role role, form how)
{
    const auto reader = reader_of(role, how);
    for (const auto &r : table) {
        const auto value = r.value(o);
        if (!value)
            continue;
        if (!(readers_of(r.name) & reader))
            return out_of_place(r.name);
        if (!(r.who & reader) || (*value == 0 && r.off == is_off))
            continue;
        if (*value < r.least || *value > r.most)
            return out_of_range(r);
    }
    if (o.reconnect_min && o.reconnect_max && *o.reconnect_max < *o.reconnect_min)
        return error::numbered(2008, "reconnect_max is at least reconnect_min");
    return std::nullopt;
}

result<std::uint32_t> message_max_of(const options &o, std::size_t memory_max)
{
    const std::uint64_t most = memory_max / 4;
    if (!o.message_max)
        return static_cast<std::uint32_t>(std::min<std::uint64_t>(mi, most));
    if (*o.message_max <= most)
        return static_cast<std::uint32_t>(*o.message_max);
    return std::unexpected(
        error::numbered(2008,
                        "message_max is at most a quarter of the engine's memory_max, here " +
                            std::to_string(most) + " bytes",
                        "a larger message might never find room",
                        "open an engine with a larger memory_max, and the socket on it"));
}

core::socket_options shaping_of(const options &o, role role)
{
    core::socket_options shaping;
    assign(shaping.pipes_max, o.pipes_max);
    assign(shaping.half_open_max, o.half_open_max);
    assign(shaping.connect_timeout, o.connect_timeout);
    assign(shaping.hello_timeout, o.hello_timeout);
    assign(shaping.reconnect_min, o.reconnect_min); // what is unset depends on the transport
    assign(shaping.reconnect_max, o.reconnect_max);
    assign(shaping.keepalive_interval, o.keepalive_interval);
    assign(shaping.peer_timeout, o.peer_timeout);
    const bool takes_work = role == role::pull || role == role::rep || role == role::respondent;
    shaping.window = takes_work ? 64 : 32;
    assign(shaping.window, o.credit_messages);
    if (o.credit_messages)
        shaping.records_max = 1; // who counts messages gets no more in a packet
    shaping.one_peer = role == role::pair0 || role == role::pair1;
    return shaping;
}

} // namespace sp::inline v1::detail
