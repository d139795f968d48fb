// SPDX-License-Identifier: BSD-2-Clause
//
// The walk over a packet's records; the input is the contents of a packet. Either the walk ends in
// bad(), or the records fill the space exactly and, written again, are the same bytes.
#include "tests/fuzz/target.hpp"
#include "userspace/link/packet.hpp"

namespace sp::fuzz {
namespace {

mark whole{"a whole message"}, several{"several records"}, control{"a record for the link"},
    padded{"padding"}, refused{"a bad record behind a good one"}, empty{"an empty message"},
    first_part{"the first part of a message"}, later_part{"a later part"}, last_part{"the last"};

// Bytes in front of a payload.
std::size_t front_of(const link::record &r)
{
    const bool part = !r.control() && !(r.first() && r.last());
    return SP_RECORD_SIZE + (part ? SP_PART_SIZE : 0);
}

// The record as docs/wire.md has it.
void write(std::vector<std::byte> &out, const link::record &r)
{
    const auto word = [&](std::uint64_t value, int n) {
        while (n-- > 0)
            out.push_back(static_cast<std::byte>(value >> (8 * n) & 0xff));
    };
    word(r.payload.size(), 2);
    word(r.flags, 1);
    word(r.code, 1);
    if (front_of(r) > SP_RECORD_SIZE) {
        word(r.message, 4);
        word(r.at, 4);
    }
    out.insert(out.end(), r.payload.begin(), r.payload.end());
    while (out.size() % 4 != 0)
        out.push_back(std::byte{0});
}

void note(const link::record &r)
{
    if (r.control())
        control();
    else if (r.first() && r.last())
        (r.payload.empty() ? empty : whole)();
    else
        (r.first() ? first_part : r.last() ? last_part : later_part)();
    if (r.payload.size() % 4 != 0)
        padded();
}

void run(bytes input)
{
    const auto contents = exact(input);
    link::record_reader records(contents);
    std::vector<std::byte> written;
    std::size_t count = 0;
    while (const auto r = records.next()) {
        must(!records.bad(), "a walk that goes on is not bad");
        ++count;
        const auto begin = written.size() + front_of(*r);
        must(r->payload.empty() || r->payload.data() == contents.data() + begin,
             "a payload lies where its record has it");
        must(begin + r->payload.size() <= contents.size(), "a payload lies in its packet");
        must(!r->control() || !(r->first() || r->last()), "what is for the link is no message");
        write(written, *r);
        must(records.left() == contents.size() - written.size(), "what is left is told");
        note(*r);
        if (front_of(*r) > SP_RECORD_SIZE)
            continue;
        std::vector<std::byte> again(link::record_space(r->payload.size()), std::byte{0xee});
        const auto half = r->payload.size() / 2;
        const auto taken = link::write_record(again, r->flags, r->code, r->payload.first(half),
                                              r->payload.subspan(half));
        must(taken == again.size() && std::ranges::equal(again, std::span(written).last(taken)),
             "write_record() writes what was read");
    }
    must(!records.next(), "a walk that has ended stays so");
    must(written.size() <= contents.size() &&
             std::ranges::equal(written, std::span(contents).first(written.size())),
         "records written again are the same bytes");
    must(records.bad() != (written.size() == contents.size()),
         "a walk is bad unless its records fill the space");
    if (count > 1)
        several();
    if (count > 0 && records.bad())
        refused();
}

const registration here("records", run,
                        {&whole, &several, &control, &padded, &refused, &empty, &first_part,
                         &later_part, &last_part});

} // namespace
} // namespace sp::fuzz
