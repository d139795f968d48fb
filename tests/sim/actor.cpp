// SPDX-License-Identifier: BSD-2-Clause
//
// What all applications do alike: opening and closing, drawing what they say, and proving what they
// get.
#include "tests/sim/actor.hpp"

#include "tests/support/sums.hpp"
#include "userspace/link/packet.hpp"

#include <algorithm>

namespace sp::sim {

using namespace std::chrono_literals;
using protocol::overflow;
using protocol::queue_bounds;

actor::actor(world &w, std::uint32_t place)
    : world_(w), what_(w.plan().members[place]), place_(place), stream_(streams::sockets + place)
{
}

std::string actor::name() const
{
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "socket %u (%s%x, member %u, host %u)", socket_,
                  what_.raw ? "raw " : "", static_cast<unsigned>(what_.as), place_, what_.host);
    return text.data();
}

bool actor::direct() const
{
    return std::ranges::none_of(world_.plan().members,
                                [&](const member &m) { return m.group == what_.group && m.raw; });
}

void actor::open()
{
    socket_ = world_.new_socket();
    accepted_ = 0;
    const auto readers = world_.plan().says.readers;
    reads_ = static_cast<reading>(choose(readers + 1));
    make();
    if (what_.listens)
        (void)engine().listen(id_, home().slot, what_.port);
    for (const auto &t : what_.dials)
        (void)engine().dial(id_, home().slot, address_of(t.host), what_.port, t.port, now());
    engine().finish(now());
    next_ = world_.now();
    world_.rules.trace([&] { return name() + " opens"; });
}

void actor::close()
{
    world_.rules.trace([&] { return name() + " closes"; });
    forget();
    const auto was = id_;
    (void)engine().close_socket(id_, now());
    engine().finish(now());
    id_ = {};
    next_ = instant::max();
    world_.rules.stale_handle_inert(engine().find(was) == nullptr && engine().drained(was),
                                    [&] { return name() + " is still there after its close"; });
    std::size_t pipes = 0;
    engine().each_pipe(was,
                       [&](pipe_id, const core::pipe &p) { pipes += p.attached && p.is_open(); });
    world_.rules.close_is_final(pipes == 0,
                                [&] { return name() + " has open pipes after its close"; });
}

void actor::lose() noexcept
{
    forget();
    id_ = {};
    next_ = instant::max();
}

void actor::act()
{
    const bool speaks = !world_.healing() && said_ < world_.plan().says.messages && speak();
    const bool paced = reads_ == reading::paced && !world_.healing();
    if (paced || world_.healing())
        for (auto n = 1 + choose(4); n > 0 && read(); --n)
            ;
    next_ = instant::max();
    if (speaks || paced)
        again_in(world_.plan().says.pace * (speaks ? 1 : 10));
}

void actor::again_in(nanoseconds mean)
{
    const auto wait =
        world_.chance.between(stream_, 0, 2 * static_cast<std::uint64_t>(mean.count()));
    next_ = std::min(next_, world_.now() + nanoseconds(1000 + static_cast<std::int64_t>(wait)));
}

bool actor::look()
{
    bool did = inspect();
    if (reads_ == reading::eager || world_.healing())
        while (!world_.rules.failed() && read())
            did = true;
    return did;
}

// ---- what a socket is like ----

core::socket_options actor::shaping()
{
    core::socket_options o;
    o.window = world_.plan().says.window;
    o.message_max = world_.plan().says.message_max;
    o.one_peer = what_.as == role::pair0 || what_.as == role::pair1;
    return o;
}

queue_bounds actor::bounds()
{
    static constexpr std::array<queue_bounds, 4> some{
        {{.bytes = 1 << 20}, {.bytes = 4096}, {.bytes = 1 << 20, .messages = 3}, {}}};
    return some[choose(some.size())];
}

overflow actor::overflow_of(bool may_block)
{
    static constexpr std::array some{overflow::drop_newest, overflow::drop_oldest, overflow::block};
    return some[choose(may_block ? 3 : 2)];
}

// ---- speaking ----

std::size_t actor::draw_size()
{
    // Within what every peer takes, header included.
    return std::min<std::size_t>(draw_any_size(), world_.plan().says.message_max - 100);
}

std::size_t actor::draw_any_size()
{
    const auto packet = std::min(world_.plan().packet_max, 1240u);
    const auto tiny = [&] { return 6 + choose(60); };
    const auto packetful = [&] {
        return choose(3) == 2 ? packet - 160 + choose(80) : 6 + choose(packet - 150);
    };
    switch (world_.plan().says.size_class) {
    case 0:
        return tiny();
    case 1:
        return choose(3) == 0 ? tiny() : packetful();
    case 2:
        return choose(3) == 0 ? packetful() : 6 + choose(5 * packet);
    default:
        return choose(6) == 5 ? 200'000 + choose(62'144) : 6 + choose(5 * packet);
    }
}

actor::made actor::compose(std::size_t size, std::uint32_t answers, std::uint16_t topic)
{
    size = std::max<std::size_t>(size, ledger::number_bytes + (topic != 0 ? sizeof topic : 0));
    made m;
    m.frame = engine().pool().allocate(size);
    if (!m.frame)
        return m;
    m.number = world_.book.add({.sender = socket_,
                                .size = static_cast<std::uint32_t>(size),
                                .topic = topic,
                                .answers = answers});
    world_.book.write(m.number, m.frame->bytes());
    return m;
}

void actor::accepted(std::uint32_t number)
{
    auto &e = world_.book[number];
    e.accepted = true;
    e.accepted_at = world_.now();
    e.order = accepted_++;
    count(stat::socket_accepted);
    world_.note(number);
    world_.rules.trace([&] {
        return name() + " sends message " + std::to_string(number) + ", " + std::to_string(e.size) +
               " bytes";
    });
}

void actor::check_blocked(std::size_t size)
{
    bool ready = false;
    engine().each_pipe(id_, [&](pipe_id, core::pipe &p) {
        ready = ready || (p.attached && p.ready && p.link && p.is_open() &&
                          p.link->message_capacity() >= size);
    });
    world_.rules.work_conserving(
        !ready, [&] { return name() + " is told to wait although a pipe is ready"; });
}

// ---- what came ----

flow *actor::flow_of(pipe_id pipe)
{
    const auto found = home().flows.find(static_cast<std::uint32_t>(pipe));
    return found == home().flows.end() ? nullptr : &world_.wire[found->second];
}

bool actor::check_body(std::uint32_t number, std::span<const std::byte> body)
{
    world_.rules.nothing_invented(world_.book.knows(number), [&] {
        return name() + " got a message of " + std::to_string(body.size()) +
               " bytes that nobody sent";
    });
    if (!world_.book.knows(number))
        return false;
    const bool right = world_.book.is_body_of(number, body);
    world_.rules.bytes_equal(right, [&] {
        return name() + " got message " + std::to_string(number) + " with " +
               std::to_string(body.size()) + " bytes of " +
               std::to_string(world_.book[number].size) + ", or changed";
    });
    return right;
}

// Against what was on the wire of its pipe.
void actor::check_place(std::uint32_t number, pipe_id pipe, order how, std::uint32_t context)
{
    auto *f = flow_of(pipe);
    if (!f || f->ambiguous)
        return;
    const auto found = f->places.find(number);
    world_.rules.nothing_invented(found != f->places.end(), [&] {
        return name() + " got message " + std::to_string(number) +
               " by a pipe that it was never on";
    });
    if (found == f->places.end())
        return;
    auto at = std::ranges::find(f->taken, context, &std::pair<std::uint32_t, std::uint32_t>::first);
    if (at == f->taken.end())
        at = f->taken.insert(at, {context, 0});
    const auto expected = how == order::none ? 0 : at->second;
    // A request may have gone out more than once: the next one of them is meant.
    auto place = found->second;
    if (place < expected)
        while (place < f->messages.size() &&
               (place < expected || f->messages[place].number != number))
            ++place;
    if (place == f->messages.size())
        place = found->second;
    auto &m = f->messages[place];
    const bool repeatable = what_.as == role::sub || what_.as == role::rep || what_.as == role::req;
    world_.rules.exactly_once_per_pipe(repeatable || !m.delivered, [&] {
        return name() + " got message " + std::to_string(number) + " twice by one pipe";
    });
    m.delivered = true;
    if (m.split)
        world_.rules.whole_messages_only(true, [] { return std::string(); });
    if (how == order::none)
        return;
    at->second = place + 1;
    const bool right = how == order::exact ? place == expected : place >= expected;
    const auto words = [&] {
        return name() + " got message " + std::to_string(number) + ", number " +
               std::to_string(place) + " of its pipe, where number " + std::to_string(expected) +
               (how == order::exact ? " was due" : " or later was due");
    };
    world_.rules.sequence_no_gap(right, words);
    if (f->resized)
        world_.rules.mtu_shrink_lossless(right, words);
    if (what_.as == role::pull)
        world_.rules.fifo_per_pipe(right, words);
}

std::uint32_t actor::got(const protocol::taken &t, order how, std::uint32_t context,
                         std::size_t topic)
{
    count(stat::socket_delivered);
    auto &f = engine().pool()[t.frame];
    const auto body = f.bytes().subspan(t.header_bytes);
    auto number = ledger::number_of(body, topic);
    if (check_body(number, body)) {
        check_place(number, t.pipe, how, context);
        world_.note(number ^ std::uint64_t{socket_} << 32);
        world_.rules.trace([&] { return name() + " gets message " + std::to_string(number); });
    } else {
        number = unknown;
    }
    engine().pool().release(t.frame);
    return number;
}

void actor::check_books()
{
    namespace books = test::books;
    const auto &c = state().books;
    std::size_t outside = 0;
    engine().each_pipe(id_, [&](pipe_id, const core::pipe &p) { outside += p.unsent(); });
    const auto held = books::held_out(c) + books::held_in(c);
    const auto least = static_cast<std::int64_t>(queued() + outside + c[stat::socket_memory]);
    const auto given_up = static_cast<std::int64_t>(c[stat::socket_abandoned]);
    const bool after = what_.as == role::rep || what_.as == role::respondent;
    const bool right = after || what_.raw ? held == least || (what_.raw && held == least + given_up)
                                          : held == least + given_up;
    world_.rules.counters_conserve(right, [&] {
        return name() + ": " + std::to_string(books::held_out(c)) + " out and " +
               std::to_string(books::held_in(c)) + " in are held, " + std::to_string(least) +
               " wait, " + std::to_string(given_up) + " abandoned" + books::text_of(c);
    });
}

} // namespace sp::sim
