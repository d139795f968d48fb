// SPDX-License-Identifier: BSD-2-Clause
//
// A byte stream of a peer that may be anybody: hello and frames, over ipc and tcp. The first byte
// of an input chooses, the next says how the stream is cut; a stream has no boundaries, so however
// the bytes are cut the machine must find the same.
#include "tests/fuzz/target.hpp"
#include "userspace/stream/connection.hpp"
#include "userspace/stream/wire.hpp"

#include <chrono>

namespace sp::fuzz {
namespace {

using namespace std::chrono_literals;

mark opened{"an open connection"}, message{"a whole message"}, empty{"an empty message"},
    second{"a second message"}, too_large{"a message over the limit"}, bad_frame{"a bad frame"},
    bad_hello{"a bad hello"}, other_protocol{"another protocol"},
    cut{"a stream that ends in a head"};

constexpr std::uint64_t message_max = 300;

struct outcome {
    stream::phase state;
    stream::ending why;
    bool greeted, in_frame;
    std::uint16_t protocol;
    std::vector<std::vector<std::byte>> messages;

    friend bool operator==(const outcome &, const outcome &) = default;
};

stream::connection_config config(std::uint8_t choice)
{
    return {.protocol = 0x30,
            .peer_protocol = 0x31,
            .frames = (choice & 1) != 0 ? stream::framing::tcp : stream::framing::ipc,
            .message_max = message_max};
}

// Hands the stream over in pieces of `piece` bytes, 0 for all at once.
outcome play(std::uint8_t choice, std::size_t piece, bytes all)
{
    stream::connection c(config(choice));
    const stream::instant now{1h};
    c.on_connected(now);
    if ((choice & 2) != 0)
        c.hello_written(c.hello_due().size());
    outcome out{};
    std::vector<std::byte> filling;
    while (!all.empty()) {
        const auto given = exact(all.first(piece == 0 ? all.size() : std::min(piece, all.size())));
        all = all.subspan(given.size());
        auto rest = std::span<const std::byte>(given);
        for (;;) {
            const auto used = c.on_bytes(rest);
            must(used <= rest.size(), "no more is taken than was there");
            must(used == 0 || c.state() != stream::phase::connecting, "nothing before a beginning");
            rest = rest.subspan(used);
            if (c.greeted() && c.state() == stream::phase::greeting)
                c.hello_written(stream::hello_bytes);
            bool moved = used > 0;
            if (c.in_message() && c.state() == stream::phase::open) {
                must(c.length() <= message_max, "no message over the limit is begun");
                const auto n = std::min<std::uint64_t>(c.need(), rest.size());
                const auto part = rest.first(static_cast<std::size_t>(n));
                filling.insert(filling.end(), part.begin(), part.end());
                c.got(n);
                rest = rest.subspan(part.size());
                moved = moved || n > 0;
                if (c.need() == 0) {
                    out.messages.push_back(std::move(filling));
                    filling.clear();
                    c.message_over();
                    moved = true;
                }
            }
            if (!moved)
                break;
        }
        must(rest.empty() || c.state() == stream::phase::closed,
             "only a closed connection leaves bytes behind");
    }
    out.state = c.state();
    out.why = c.why();
    out.greeted = c.greeted();
    out.in_frame = c.in_frame();
    out.protocol = c.peer_protocol();
    return out;
}

// What a stream of these bytes contains, by the description in stream/wire.hpp alone.
outcome by_model(std::uint8_t choice, bytes all)
{
    const auto at = [&](std::size_t i) { return std::to_integer<std::uint64_t>(all[i]); };
    outcome out{.state = stream::phase::greeting,
                .why = {},
                .greeted = false,
                .in_frame = false,
                .protocol = 0,
                .messages = {}};
    const auto closed = [&](stream::ending why) {
        out.state = stream::phase::closed;
        out.why = why;
        out.in_frame = false;
        return out;
    };
    constexpr int hello[]{0, 'S', 'P', 0, -1, -1, 0, 0};
    for (std::size_t i = 0; i < std::min<std::size_t>(8, all.size()); ++i)
        if (hello[i] >= 0 && at(i) != static_cast<std::uint64_t>(hello[i]))
            return closed(stream::ending::bad_hello);
    out.in_frame = !all.empty() && all.size() < 8;
    if (all.size() < 8)
        return out;
    out.greeted = true;
    out.protocol = static_cast<std::uint16_t>(at(4) * 256 + at(5));
    if (out.protocol != 0x31)
        return closed(stream::ending::peer_protocol);
    out.state = stream::phase::open;
    all = all.subspan(8);
    const std::size_t type = (choice & 1) != 0 ? 0 : 1;
    while (!all.empty()) {
        if (type == 1 && at(0) != 1)
            return closed(stream::ending::bad_frame);
        out.in_frame = true;
        if (all.size() < type + 8)
            return out;
        std::uint64_t length = 0;
        for (std::size_t i = type; i < type + 8; ++i)
            length = length * 256 + at(i);
        if (length >= std::uint64_t{1} << 60)
            return closed(stream::ending::bad_frame);
        if (length > message_max)
            return closed(stream::ending::too_large);
        all = all.subspan(type + 8);
        if (all.size() < length)
            return out;
        out.messages.push_back(exact(all.first(static_cast<std::size_t>(length))));
        all = all.subspan(static_cast<std::size_t>(length));
        out.in_frame = false;
    }
    return out;
}

void note(const outcome &o)
{
    if (o.state == stream::phase::open)
        opened();
    if (!o.messages.empty())
        (o.messages.front().empty() ? empty : message)();
    if (o.messages.size() > 1)
        second();
    if (o.why == stream::ending::too_large)
        too_large();
    if (o.why == stream::ending::bad_frame)
        bad_frame();
    if (o.why == stream::ending::bad_hello)
        bad_hello();
    if (o.why == stream::ending::peer_protocol)
        other_protocol();
    if (o.state == stream::phase::open && o.in_frame)
        cut();
}

// The books of a closed connection need not agree on a frame that it will never finish.
outcome settled(outcome o)
{
    if (o.state == stream::phase::closed)
        o.in_frame = false;
    return o;
}

void run(bytes input)
{
    reader in(input);
    const auto choice = in.byte();
    const std::size_t piece = in.byte();
    const auto expected = by_model(choice, in.rest());
    note(expected);
    must(settled(play(choice, 0, in.rest())) == expected, "a stream holds what the model finds");
    must(settled(play(choice, 1 + piece % 16, in.rest())) == expected,
         "a stream holds the same however it is cut");
    for (const auto length : {std::uint64_t{0}, std::uint64_t{piece} << 20}) {
        const auto f = config(choice).frames;
        const auto read = stream::read_head(stream::make_head(length, f).view(), f);
        must(read.what == stream::verdict::good && read.length == length,
             "a head is read as it was written");
    }
}

const registration here("nng_stream", run,
                        {&opened, &message, &empty, &second, &too_large, &bad_frame, &bad_hello,
                         &other_protocol, &cut});

} // namespace
} // namespace sp::fuzz
