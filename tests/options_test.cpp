// SPDX-License-Identifier: BSD-2-Clause
//
// Options of sockets: what a role does not read is refused and the message says who reads it, and
// what is out of its range is refused; what a role must not do does not compile.
#include "tests/support/roles.hpp"

#include <functional>
#include <set>
#include <variant>

namespace {

using namespace sp::test;
using sp::errc;
using sp::options;
using sp::when_alone;
using sp::when_full;

struct role_case {
    std::string name;
    std::function<sp::result<void>(const options &)> open;
};

template <class Role>
sp::result<void> opened(sp::result<Role> made)
{
    if (!made)
        return std::unexpected(made.error());
    return {};
}

template <class Role>
role_case cooked(const char *name)
{
    return {name, [](const options &o) { return opened(Role::open(o)); }};
}

role_case raw(const char *name, sp::pattern as)
{
    return {std::string("raw ") + name,
            [as](const options &o) { return opened(sp::raw::open(as, o)); }};
}

const std::vector<role_case> &roles()
{
    static const std::vector<role_case> all{
        cooked<sp::req>("req"),
        cooked<sp::rep>("rep"),
        cooked<sp::pub>("pub"),
        cooked<sp::sub>("sub"),
        cooked<sp::push>("push"),
        cooked<sp::pull>("pull"),
        cooked<sp::surveyor>("surveyor"),
        cooked<sp::respondent>("respondent"),
        cooked<sp::bus>("bus"),
        cooked<sp::pair>("pair"),
        raw("req", sp::pattern::req),
        raw("rep", sp::pattern::rep),
        raw("pub", sp::pattern::pub),
        raw("sub", sp::pattern::sub),
        raw("push", sp::pattern::push),
        raw("pull", sp::pattern::pull),
        raw("surveyor", sp::pattern::surveyor),
        raw("respondent", sp::pattern::respondent),
        raw("bus", sp::pattern::bus),
        raw("pair", sp::pattern::pair),
        raw("pair0", sp::pattern::pair0),
    };
    return all;
}

using names = std::set<std::string>;

// One field with a value that is good wherever it is read, and who reads it; empty: everybody.
struct field_case {
    std::string name;
    options good;
    names readers;
};

const names queues_out{"pub",     "bus",      "surveyor",       "push",     "pair",
                       "raw req", "raw rep",  "raw pub",        "raw push", "raw surveyor",
                       "raw bus", "raw pair", "raw respondent", "raw pair0"};
const names queues_in{
    "sub",      "bus",     "surveyor",     "pair",     "raw req",        "raw rep",  "raw sub",
    "raw pull", "raw bus", "raw surveyor", "raw pair", "raw respondent", "raw pair0"};
const names hops{"rep", "respondent", "pair", "raw rep", "raw respondent", "raw pair", "raw pair0"};

std::vector<field_case> fields()
{
    names sends, receives;
    for (const auto &r : roles()) {
        if (!r.name.ends_with("sub") && !r.name.ends_with("pull") && !r.name.ends_with("surveyor"))
            sends.insert(r.name);
        if (!r.name.ends_with("pub") && !r.name.ends_with("push"))
            receives.insert(r.name);
    }
    return {
        {"message_max", {.message_max = 1}, {}},
        {"send_queue_bytes", {.send_queue_bytes = 0}, queues_out},
        {"send_queue_messages", {.send_queue_messages = 1 << 20}, queues_out},
        {"recv_queue_bytes", {.recv_queue_bytes = 1 << 30}, queues_in},
        {"recv_queue_messages", {.recv_queue_messages = 0}, queues_in},
        {"on_send_full", {.on_send_full = when_full::drop_newest}, queues_out},
        {"on_recv_full", {.on_recv_full = when_full::block}, queues_in},
        {"on_no_peer", {.on_no_peer = when_alone::fail}, {"req", "push", "pair"}},
        {"resend_time", {.resend_time = 0s}, {"req"}},
        {"request_deadline", {.request_deadline = 1ms}, {"req"}},
        {"survey_time", {.survey_time = 1ms}, {"surveyor"}},
        {"linger", {.linger = 1h}, {}},
        {"send_timeout", {.send_timeout = 0s}, sends},
        {"recv_timeout", {.recv_timeout = 0s}, receives},
        {"ttl_max", {.ttl_max = 15}, hops},
        {"dedupe_time", {.dedupe_time = 0s}, {"rep"}},
        {"reply_cache_bytes", {.reply_cache_bytes = 0}, {"rep"}},
        {"one_answer_per_peer", {.one_answer_per_peer = true}, {"surveyor"}},
        {"end_when_all_answered", {.end_when_all_answered = true}, {"surveyor"}},
        {"pair_version", {.pair_version = 0}, {"pair"}},
        {"connect_timeout", {.connect_timeout = 1ms}, {}},
        {"reconnect_min", {.reconnect_min = 1ms}, {}},
        {"reconnect_max", {.reconnect_max = 1ms}, {}},
        {"hello_timeout", {.hello_timeout = 1ms}, {}},
        {"half_open_max", {.half_open_max = 1}, {}},
        {"keepalive_interval", {.keepalive_interval = 10ms}, {}},
        {"peer_timeout", {.peer_timeout = 50ms}, {}},
        {"credit_messages", {.credit_messages = 256}, {}},
        {"pipes_max", {.pipes_max = 1}, {}},
        {"stream_send_bytes", {.stream_send_bytes = 4096}, {}},
        {"tcp_nodelay", {.tcp_nodelay = false}, {}},
        {"tcp_keepalive", {.tcp_keepalive = false}, {}},
        {"tcp_user_timeout", {.tcp_user_timeout = 0s}, {}},
        {"ipc_mode", {.ipc_mode = 0777}, {}},
        {"allow_uid", {.allow_uid = {0}}, {}},
        {"allow_gid", {.allow_gid = {0}}, {}},
        {"listen_fd", {.listen_fd = 0}, {}},
    };
}

class option : public on_one_engine {
protected:
    void expect_refusal(const sp::result<void> &opened, const std::string &field,
                        const std::string &where)
    {
        ASSERT_FALSE(opened) << where;
        EXPECT_EQ(opened.error().number(), 2008) << where;
        EXPECT_EQ(opened.error().code(), errc::invalid_argument) << where;
        EXPECT_TRUE(opened.error().what().starts_with(field + " is ")) << opened.error().what();
    }
};

TEST_F(option, is_taken_by_the_roles_that_read_it_and_refused_by_all_others)
{
    for (const auto &field : fields())
        for (const auto &role : roles()) {
            const auto where = role.name + " with " + field.name;
            const auto made = role.open(at(field.good));
            if (field.readers.empty() || field.readers.contains(role.name))
                EXPECT_TRUE(made) << where << ": " << told(made.error());
            else
                expect_refusal(made, field.name, where);
        }
}

TEST_F(option, that_is_not_read_comes_back_with_the_names_of_those_who_read_it)
{
    const auto of_sub = sp::sub::open(at({.resend_time = 1s}));
    ASSERT_FALSE(of_sub);
    EXPECT_EQ(of_sub.error().what(), "resend_time is read by req only");
    const auto of_req = sp::req::open(at({.ttl_max = 8}));
    ASSERT_FALSE(of_req);
    EXPECT_EQ(of_req.error().what(), "ttl_max is read by rep, respondent, pair, raw rep, "
                                     "raw respondent and raw pair only");
    const auto of_pull = sp::pull::open(at({.on_no_peer = when_alone::drop}));
    ASSERT_FALSE(of_pull);
    EXPECT_EQ(of_pull.error().what(), "on_no_peer is read by req, push and pair only");
}

struct wrong_value {
    std::string field;
    options bad;
    names roles; // that read it; empty: any will do
};

TEST_F(option, out_of_its_range_is_refused)
{
    static constexpr auto over_gib = (std::uint64_t{1} << 30) + 1;
    static constexpr auto huge = ~std::uint64_t{0};
    const names anybody{"req", "sub", "raw bus"};
    const std::vector<wrong_value> wrong{
        {"message_max", {.message_max = 0}, anybody},
        {"message_max", {.message_max = over_gib}, anybody},
        {"message_max", {.message_max = huge}, anybody},
        {"send_queue_bytes", {.send_queue_bytes = over_gib}, queues_out},
        {"send_queue_messages", {.send_queue_messages = (1 << 20) + 1}, queues_out},
        {"recv_queue_bytes", {.recv_queue_bytes = huge}, queues_in},
        {"recv_queue_messages", {.recv_queue_messages = (1 << 20) + 1}, queues_in},
        {"on_send_full",
         {.on_send_full = when_full::disconnect},
         {"push", "pair", "surveyor", "raw rep", "raw respondent", "raw surveyor"}},
        {"on_send_full", {.on_send_full = when_full::block}, {"surveyor", "raw surveyor"}},
        {"on_send_full", {.on_send_full = static_cast<when_full>(4)}, queues_out},
        {"on_recv_full", {.on_recv_full = when_full::disconnect}, queues_in},
        {"on_no_peer", {.on_no_peer = when_alone::drop}, {"req"}},
        {"on_no_peer", {.on_no_peer = static_cast<when_alone>(3)}, {"req", "push", "pair"}},
        {"resend_time", {.resend_time = 1us}, {"req"}},
        {"resend_time", {.resend_time = -1s}, {"req"}},
        {"request_deadline", {.request_deadline = 0s}, {"req"}},
        {"survey_time", {.survey_time = 0s}, {"surveyor"}},
        {"linger", {.linger = -1ns}, anybody},
        {"linger", {.linger = 1h + 1ns}, anybody},
        {"send_timeout", {.send_timeout = -1ns}, {"req", "rep", "pub", "push", "pair", "raw req"}},
        {"recv_timeout", {.recv_timeout = -1ns}, anybody},
        {"ttl_max", {.ttl_max = 0}, hops},
        {"ttl_max", {.ttl_max = 16}, hops},
        {"dedupe_time", {.dedupe_time = -1ns}, {"rep"}},
        {"reply_cache_bytes", {.reply_cache_bytes = over_gib}, {"rep"}},
        {"pair_version", {.pair_version = 2}, {"pair"}},
        {"connect_timeout", {.connect_timeout = 1ms - 1ns}, anybody},
        {"connect_timeout", {.connect_timeout = options::duration::max()}, anybody},
        {"reconnect_min", {.reconnect_min = 0s}, anybody},
        {"reconnect_max", {.reconnect_max = 0s}, anybody},
        {"reconnect_max", {.reconnect_min = 2s, .reconnect_max = 1s}, anybody},
        {"hello_timeout", {.hello_timeout = 0s}, anybody},
        {"half_open_max", {.half_open_max = 0}, anybody},
        {"keepalive_interval", {.keepalive_interval = 10ms - 1ns}, anybody},
        {"peer_timeout", {.peer_timeout = 50ms - 1ns}, anybody},
        {"credit_messages", {.credit_messages = 0}, anybody},
        {"credit_messages", {.credit_messages = 257}, anybody},
        {"pipes_max", {.pipes_max = 0}, anybody},
        {"stream_send_bytes", {.stream_send_bytes = 4095}, anybody},
        {"tcp_user_timeout", {.tcp_user_timeout = 1us}, anybody},
        {"ipc_mode", {.ipc_mode = 01000}, anybody},
        {"listen_fd", {.listen_fd = -1}, anybody},
    };
    for (const auto &w : wrong) {
        std::size_t asked = 0;
        for (const auto &role : roles())
            if (w.roles.contains(role.name)) {
                expect_refusal(role.open(at(w.bad)), w.field, role.name + " with " + w.field);
                ++asked;
            }
        EXPECT_EQ(asked, w.roles.size()) << w.field << ": a role is misspelt";
    }
}

TEST_F(option, that_is_refused_leaves_nothing_behind)
{
    for (int i = 0; i < 5000; ++i) // more than there can be sockets
        ASSERT_FALSE(sp::sub::open(at({.listen = "unixgram:///nowhere/at/all"})));
    EXPECT_TRUE(sp::sub::open(at()));
    EXPECT_EQ(said(sp::raw::open(static_cast<sp::pattern>(18), at())), "invalid_argument");
}

TEST_F(option, for_time_is_the_wait_of_calls_that_are_given_none)
{
    auto pull = listens<sp::pull>({.recv_timeout = 1ms});
    EXPECT_EQ(said(pull.recv()), "timed_out");
    EXPECT_EQ(said(pull.recv(0s)), "would_block");
    std::array<sp::message, 2> batch;
    EXPECT_EQ(said(pull.recv_batch(batch)), "timed_out");
    auto push = must(sp::push::open(at({.send_timeout = 1ms})));
    EXPECT_EQ(said(push.send("?")), "timed_out");
    EXPECT_EQ(said(push.loan(10)), "timed_out");
    EXPECT_EQ(said(push.send_batch(std::array<sp::payload, 2>{"1", "2"})), "timed_out");
    auto req = must(sp::req::open(at({.send_timeout = 1ms})));
    EXPECT_EQ(said(req.request("?")), "timed_out");
    auto rep = listens<sp::rep>({.recv_timeout = 1ms}, "rep");
    EXPECT_EQ(said(rep.recv()), "timed_out");
    EXPECT_EQ(rep.serve([](const sp::request &) { return ""; }), errc::timed_out);
    auto asking = dials<sp::req>({.recv_timeout = 1ms}, "rep");
    EXPECT_EQ(said(asking.request("?")), "timed_out");
    auto context = must(asking.open_context());
    must(context.send("?"));
    EXPECT_EQ(said(context.recv()), "timed_out");
    auto now = must(sp::pull::open(at({.recv_timeout = 0s})));
    EXPECT_EQ(said(now.recv()), "would_block");
}

TEST_F(option, for_time_gives_way_to_what_a_call_says)
{
    auto pull = listens<sp::pull>({.recv_timeout = 1ms}), other = must(sp::pull::open(at()));
    auto push = dials<sp::push>();
    std::jthread waits([&] {
        const closing end(pull);
        EXPECT_EQ(text_of(pull.recv(sp::forever)), "late");
        std::stop_source stop;
        stop.request_stop();
        EXPECT_EQ(said(pull.recv(stop.get_token())), "canceled");
    });
    EXPECT_EQ(said(other.recv(10ms)), "timed_out"); // longer than recv_timeout
    must(push.send("late", patience));
}

// ---- what does not compile

template <class T>
concept can_send = requires(T t, sp::payload p) { t.send(p); };
template <class T>
concept can_lend = requires(T t) { t.loan(1); };
template <class T>
concept can_recv = requires(T t) { t.recv(); };
template <class T>
concept can_try_recv = requires(T t) { t.try_recv(); };
template <class T>
concept can_subscribe = requires(T t) { t.subscribe(""); };
template <class T>
concept can_request = requires(T t) { t.request(""); };
template <class T>
concept can_survey = requires(T t) { t.survey(""); };
template <class T>
concept can_serve = requires(T t) { t.serve([](const sp::request &) { return ""; }); };

template <class T>
constexpr bool moves_only =
    std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T> &&
    !std::is_copy_constructible_v<T> && !std::is_default_constructible_v<T>;

static_assert(can_send<sp::pub> && can_lend<sp::pub> && !can_recv<sp::pub> &&
              !can_try_recv<sp::pub> && !can_subscribe<sp::pub> && !can_request<sp::pub>);
static_assert(!can_send<sp::sub> && !can_lend<sp::sub> && can_recv<sp::sub> &&
              can_try_recv<sp::sub> && can_subscribe<sp::sub>);
static_assert(!can_send<sp::sub_context> && can_recv<sp::sub_context> &&
              can_subscribe<sp::sub_context>);
static_assert(can_send<sp::push> && can_lend<sp::push> && !can_recv<sp::push> &&
              !can_try_recv<sp::push> && !can_request<sp::push>);
static_assert(!can_send<sp::pull> && !can_lend<sp::pull> && can_recv<sp::pull> &&
              !can_subscribe<sp::pull>);
static_assert(can_send<sp::bus> && can_recv<sp::bus> && !can_subscribe<sp::bus> &&
              !can_request<sp::bus> && !can_survey<sp::bus>);
static_assert(can_send<sp::pair> && can_recv<sp::pair> && !can_request<sp::pair>);
static_assert(can_survey<sp::surveyor> && !can_send<sp::surveyor> && !can_recv<sp::surveyor> &&
              can_recv<sp::survey> && !can_send<sp::survey>);
static_assert(can_serve<sp::respondent> && can_recv<sp::respondent> && !can_send<sp::respondent> &&
              !can_survey<sp::respondent>);
static_assert(can_serve<sp::rep> && can_recv<sp::rep> && !can_send<sp::rep> &&
              !can_request<sp::rep>);
static_assert(can_request<sp::req> && !can_send<sp::req> && !can_recv<sp::req> &&
              can_send<sp::req_context> && can_recv<sp::req_context>);
static_assert(!can_send<sp::raw> && can_recv<sp::raw>); // a raw send names its header
static_assert(moves_only<sp::pub> && moves_only<sp::sub> && moves_only<sp::push> &&
              moves_only<sp::pull> && moves_only<sp::bus> && moves_only<sp::pair> &&
              moves_only<sp::surveyor> && moves_only<sp::respondent> && moves_only<sp::raw> &&
              moves_only<sp::survey> && moves_only<sp::sub_context> && moves_only<sp::req_context>);
static_assert(sizeof(sp::bus) == sizeof(std::shared_ptr<void>), "a handle and nothing else");

} // namespace
