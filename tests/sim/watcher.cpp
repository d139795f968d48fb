// SPDX-License-Identifier: BSD-2-Clause
//
// The parser here is not the one of link/: two that agree prove more than one that agrees with
// itself.
#include "tests/sim/watcher.hpp"

#include "userspace/link/packet.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace sp::sim {

using namespace std::chrono_literals;

namespace {

using link::be16;
using link::be32;
using link::be64;

constexpr std::uint32_t burst_max = 600; // ACKs that say nothing new, in burst_time
constexpr auto burst_time = std::chrono::milliseconds(20);
constexpr auto timeout_min = 9900us; // 10 ms by a clock that may be fast
constexpr std::size_t word = 4;
constexpr std::uint32_t narrow = 1280 - 40; // what every path carries

std::int32_t distance(std::uint32_t from, std::uint32_t to) // serial
{
    return static_cast<std::int32_t>(to - from);
}

std::string describe(const flow &f)
{
    return "host " + std::to_string(f.from) + " port " + std::to_string(f.from_port) + " to host " +
           std::to_string(f.to) + " port " + std::to_string(f.to_port);
}

// The records of a packet, the link's own left out.
struct record_view {
    std::uint8_t flags, code;
    std::uint32_t total = 0; // FIRST: of the message; later: offset
    std::span<const std::byte> payload;
};

template <class F>
bool each_record(std::span<const std::byte> rest, F &&f)
{
    while (!rest.empty()) {
        if (rest.size() < SP_RECORD_SIZE)
            return false;
        const auto head = link::read<sp_record>(rest);
        const bool control = (head.flags & SP_RECORD_CTRL) != 0;
        const bool whole =
            (head.flags & (SP_RECORD_FIRST | SP_RECORD_LAST)) == (SP_RECORD_FIRST | SP_RECORD_LAST);
        const std::size_t extra = control || whole ? 0 : 8;
        const std::size_t length = be16(head.length);
        const std::size_t space = SP_RECORD_SIZE + extra + ((length + 3) & ~std::size_t{3});
        if (space > rest.size())
            return false;
        record_view r{.flags = head.flags,
                      .code = head.code,
                      .payload = rest.subspan(SP_RECORD_SIZE + extra, length)};
        if (extra != 0)
            r.total = be32(link::read<std::uint32_t>(rest.subspan(SP_RECORD_SIZE + word)));
        f(r);
        rest = rest.subspan(space);
    }
    return true;
}

std::span<const std::byte> records_of(std::span<const std::byte> packet)
{
    return packet.subspan(SP_HEADER_SIZE, packet.size() - SP_OVERHEAD);
}

// A whole packet of records, or a slice of one that has become too long for the path.
struct carried {
    std::span<const std::byte> bytes{};
    std::size_t offset = 0, total = 0;
    bool good = false;
};

// The sequence numbers that a packet names as arrived behind those before `ack`.
template <class F>
void each_selected(const sp_header &h, std::span<const std::byte> packet, F &&f)
{
    const auto first = be32(h.ack) + 1;
    const auto sack = be32(h.sack);
    for (std::uint32_t bit = 0; bit < 32; ++bit)
        if ((sack >> bit & 1) != 0)
            f(first + bit);
    if (h.type == SP_PART)
        return;
    each_record(records_of(packet), [&](const record_view &r) {
        if ((r.flags & SP_RECORD_CTRL) == 0 || r.code != SP_CODE_WIDE_SACK)
            return;
        for (std::uint32_t bit = 0; bit < r.payload.size() * 8; ++bit)
            if ((std::to_integer<unsigned>(r.payload[bit / 8]) >> (bit % 8) & 1) != 0)
                f(first + bit);
    });
}

carried contents_of(const sp_header &h, std::span<const std::byte> packet)
{
    const auto rest = records_of(packet);
    if (h.type == SP_DATA)
        return {.bytes = rest, .total = rest.size(), .good = true};
    if (rest.size() <= SP_SLICE_SIZE)
        return {};
    const auto slice = link::read<sp_slice>(rest);
    carried c{.bytes = rest.subspan(SP_SLICE_SIZE),
              .offset = be16(slice.offset),
              .total = be16(slice.total)};
    c.good = c.offset % word == 0 && c.offset + c.bytes.size() <= c.total;
    return c;
}

} // namespace

std::uint64_t hash_of(std::span<const std::byte> bytes) noexcept
{
    std::uint64_t h = bytes.size();
    while (bytes.size() >= 8) {
        h = (h ^ link::read<std::uint64_t>(bytes)) * 0x9e3779b97f4a7c15;
        h ^= h >> 29;
        bytes = bytes.subspan(8);
    }
    for (const auto b : bytes)
        h = (h ^ std::to_integer<std::uint64_t>(b)) * 0x100000001b3;
    return mix(h);
}

std::size_t header_size(role sender, std::span<const std::byte> payload) noexcept
{
    switch (sender) {
    case role::pair1:
        return std::min(word, payload.size());
    case role::req:
    case role::rep:
    case role::surveyor:
    case role::respondent:
        for (std::size_t at = 0; at + word <= payload.size(); at += word)
            if ((std::to_integer<unsigned>(payload[at]) & 0x80) != 0)
                return at + word;
        return payload.size();
    default:
        return 0;
    }
}

std::uint32_t watcher::find(std::uint64_t dcid) const
{
    const auto found = by_id_.find(dcid);
    return found == by_id_.end() ? nobody : found->second;
}

bool watcher::has_come(std::uint32_t message)
{
    return std::ranges::any_of(ledger_[message].carried, [&](std::uint32_t number) {
        const auto &f = flows_[number];
        const auto place = f.places.find(message);
        return place != f.places.end() && f.contents[f.messages[place->second].content].arrived;
    });
}

void watcher::on_resized(std::uint32_t host)
{
    for (auto &f : flows_)
        f.resized = f.resized || (f.from == host && !f.ended);
}

// ---- what an engine sends ----

void watcher::on_sent(std::uint32_t from, std::uint32_t to, std::span<const std::byte> packet,
                      std::size_t packet_max, instant now)
{
    judge_.contents_frozen(packet.size() >= SP_OVERHEAD && link::intact(packet),
                           [] { return std::string("an engine sent a packet that is not whole"); });
    if (judge_.failed())
        return;
    const auto h = link::read<sp_header>(packet);
    if (h.type == SP_INIT && packet.size() == sizeof(sp_init)) {
        const auto init = link::read<sp_init>(packet);
        proposals_[be64(init.identity.scid)] = {.from = from,
                                                .to = to,
                                                .protocol =
                                                    static_cast<role>(be16(init.identity.protocol)),
                                                .from_port = be16(h.sport),
                                                .to_port = be16(h.dport),
                                                .packet_max = be16(init.params.packet_max),
                                                .limit = be32(h.limit)};
        return;
    }
    if (h.type == SP_ACCEPT && packet.size() == sizeof(sp_accept))
        return on_accept(link::read<sp_accept>(packet));
    const auto number = h.dcid == 0 ? nobody : find(be64(h.dcid));
    if (number == nobody ||
        (h.type != SP_DATA && h.type != SP_ACK && h.type != SP_PART && h.type != SP_DISCONNECT))
        return;
    auto &f = flows_[number];
    if (f.from != from || f.ambiguous)
        return;
    check_numbers(f, h, now);
    check_acknowledgement(f, h, packet);
    const bool carries = h.type == SP_DATA || h.type == SP_PART;
    if (f.sender == role::pull || f.sender == role::sub)
        judge_.one_way(!carries, [&] { return describe(f) + ": a receiver sends"; });
    if ((h.flags & SP_ACK_NOW) != 0)
        f.questions.push_back({f.sendings, now});
    if (carries)
        on_data(f, number, h, packet, packet_max, now);
    data_packets_ += carries;
}

void watcher::on_accept(const sp_accept &accept)
{
    const auto dialer = be64(accept.header.dcid), listener = be64(accept.identity.scid);
    const auto asked = proposals_.find(dialer);
    if (asked == proposals_.end() || by_id_.contains(listener))
        return;
    const auto &p = asked->second;
    flow there{.id = listener,
               .from = p.from,
               .to = p.to,
               .from_port = p.from_port,
               .to_port = p.to_port,
               .sender = p.protocol,
               .packet_max = be16(accept.params.packet_max)};
    flow back{.id = dialer,
              .from = p.to,
              .to = p.from,
              .from_port = p.to_port,
              .to_port = p.from_port,
              .sender = static_cast<role>(be16(accept.identity.protocol)),
              .may_send = true,
              .packet_max = std::max(p.packet_max, there.packet_max),
              .limit = p.limit,
              .has_limit = true};
    // The same opening made another connection: its listener was closed and opened in between. Two
    // connections now have one id at the dialer, and which one a packet is of cannot be seen here.
    if (const auto older = find(dialer); older != nobody) {
        flows_[older].ambiguous = flows_[flows_[older].reverse].ambiguous = true;
        there.ambiguous = back.ambiguous = true;
    }
    const auto first = size();
    there.reverse = first + 1;
    back.reverse = first;
    by_id_[listener] = first;
    by_id_[dialer] = first + 1;
    flows_.push_back(std::move(there));
    flows_.push_back(std::move(back));
}

void watcher::check_numbers(flow &f, const sp_header &h, instant now)
{
    const auto pn = be64(h.pn);
    judge_.packet_number_fresh(!f.numbered || pn > f.last_number, [&] {
        return describe(f) + ": packet number " + std::to_string(pn) + " after " +
               std::to_string(f.last_number);
    });
    f.numbered = true;
    f.last_number = pn;
    // An ACK that says what the one before said; a few are answers to doubled packets.
    const bool news = h.type != SP_ACK || h.seq != f.latest.seq || h.ack != f.latest.ack ||
                      h.sack != f.latest.sack || h.limit != f.latest.limit;
    f.latest = h;
    if (news || now - f.burst_at > burst_time) {
        f.burst_at = now;
        f.burst = 0;
    }
    judge_.no_burst(++f.burst <= burst_max, [&] {
        return describe(f) + ": " + std::to_string(f.burst) + " ACKs without news in 20 ms";
    });
    if (!f.based) {
        f.based = true;
        f.base = be32(h.seq);
    }
}

bool watcher::has_arrived(const flow &f, std::uint32_t seq) const
{
    const auto place = distance(f.base, seq);
    return f.based && place >= 0 && static_cast<std::size_t>(place) < f.contents.size() &&
           f.contents[static_cast<std::size_t>(place)].arrived;
}

// Everything that a packet says has come must have come.
void watcher::check_acknowledgement(const flow &f, const sp_header &h,
                                    std::span<const std::byte> packet)
{
    const auto &other = flows_[f.reverse];
    if (!other.based)
        return;
    const auto ack = be32(h.ack);
    judge_.acknowledged_arrived(
        distance(other.base, ack) <= static_cast<std::int32_t>(other.arrived), [&] {
            return describe(f) + ": acknowledges " + std::to_string(distance(other.base, ack)) +
                   " packets, " + std::to_string(other.arrived) + " have come";
        });
    each_selected(h, packet, [&](std::uint32_t seq) {
        judge_.acknowledged_arrived(has_arrived(other, seq), [&] {
            return describe(f) + ": the selective acknowledgement names packet " +
                   std::to_string(distance(other.base, seq)) + ", which has not come";
        });
    });
}

void watcher::on_data(flow &f, std::uint32_t number, const sp_header &h,
                      std::span<const std::byte> packet, std::size_t packet_max, instant now)
{
    const auto seq = be32(h.seq);
    judge_.no_data_before_handshake(
        f.may_send, [&] { return describe(f) + ": a message before the handshake has come"; });
    judge_.credit_respected(!f.has_limit || distance(seq, f.limit) > 0, [&] {
        return describe(f) + ": sequence number " + std::to_string(seq) + ", credit below " +
               std::to_string(f.limit);
    });
    judge_.packet_fits(packet.size() <= packet_max || h.type == SP_DATA, [&] {
        return describe(f) + ": a slice of " + std::to_string(packet.size()) +
               " bytes on a path of " + std::to_string(packet_max);
    });
    f.bytes_sent += packet.size();
    const auto place = distance(f.base, seq);
    const auto c = contents_of(h, packet);
    judge_.contents_frozen(
        c.good && place >= 0 && static_cast<std::size_t>(place) <= f.contents.size(), [&] {
            return describe(f) + ": packet " + std::to_string(place) + " after " +
                   std::to_string(f.contents.size()) + ", or a slice that does not fit";
        });
    if (judge_.failed())
        return;
    const auto at = static_cast<std::size_t>(place);
    if (at == f.contents.size())
        f.contents.push_back({.bytes = std::vector<std::byte>(c.total)});
    else
        f.bytes_resent += packet.size();
    note_sending(f, at, c.offset, c.offset + c.bytes.size() == c.total, now);
    on_contents(f, number, at, c.bytes, c.offset, c.total, packet_max);
}

// A packet that went out before needs a reason to go again: something that was sent after it has
// been confirmed, or a question that was asked after it has been answered, or it is older than the
// shortest time-out.
void watcher::note_sending(flow &f, std::size_t place, std::size_t begin, bool ends, instant now)
{
    auto &c = f.contents[place];
    if (c.order == 0 && begin == 0)
        c.first_at = now;
    if (begin == 0 && c.out) {
        judge_.resent_for_a_reason(c.order < f.confirmed_order || c.order <= f.answered_order ||
                                       now - c.sent_at >= timeout_min,
                                   [&] {
                                       return describe(f) + ": packet " + std::to_string(place) +
                                              " goes again after " +
                                              std::to_string((now - c.sent_at) / 1us) +
                                              " us, though nothing says that " + "it is missing";
                                   });
        c.out = false;
    }
    if (!ends)
        return;
    c.out = true;
    c.order = ++f.sendings;
    c.sent_at = now;
}

// What a sender can know from a packet of its peer. The link may know less: it forgets a question
// when it asks another, and takes from an acknowledgement that was overtaken nothing but credit.
void watcher::learn(flow &f, const sp_header &h, std::span<const std::byte> packet, instant now)
{
    for (; !f.questions.empty() && now - f.questions.front().at >= round_trip_min;
         f.questions.pop_front())
        f.answered_order = f.questions.front().order;
    if (!f.based)
        return;
    const auto confirm = [&](content &c) {
        if (!std::exchange(c.confirmed, true))
            f.confirmed_order = std::max(f.confirmed_order, c.order);
    };
    const auto all = static_cast<std::uint32_t>(f.contents.size());
    while (f.confirmed < all &&
           static_cast<std::int32_t>(f.confirmed) < distance(f.base, be32(h.ack)))
        confirm(f.contents[f.confirmed++]);
    each_selected(h, packet, [&](std::uint32_t seq) {
        if (const auto place = distance(f.base, seq);
            place >= 0 && static_cast<std::uint32_t>(place) < all)
            confirm(f.contents[static_cast<std::uint32_t>(place)]);
    });
}

void watcher::on_contents(flow &f, std::uint32_t number, std::size_t place,
                          std::span<const std::byte> bytes, std::size_t offset, std::size_t total,
                          std::size_t packet_max)
{
    auto &c = f.contents[place];
    const auto end = static_cast<std::uint32_t>(offset + bytes.size());
    const auto overlap =
        c.known > offset ? std::min<std::size_t>(c.known - offset, bytes.size()) : 0;
    judge_.contents_frozen(
        total == c.bytes.size() && offset <= c.known &&
            std::ranges::equal(bytes.first(overlap), std::span(c.bytes).subspan(offset, overlap)),
        [&] {
            return describe(f) + ": packet " + std::to_string(place) +
                   " has other contents when it is sent again";
        });
    if (judge_.failed())
        return;
    if (c.slice_end >= end || offset == 0 || end == total) { // it begins again, or is whole
        c.sends += end == total;
        const auto more = c.sends > 0 ? (c.sent_at - c.first_at) / resends_every : 0;
        judge_.retransmit_bounded(c.sends <= sends_max + more, [&] {
            return describe(f) + ": packet " + std::to_string(place) + " is sent for the " +
                   std::to_string(c.sends) + "th time";
        });
    }
    c.slice_end = end;
    if (end <= c.known)
        return;
    std::ranges::copy(bytes, c.bytes.begin() + static_cast<std::ptrdiff_t>(offset));
    c.known = end;
    if (c.known < total)
        return;
    c.first_message = static_cast<std::uint32_t>(f.messages.size());
    const auto whole = c.bytes; // reading may not move under our feet
    read_contents(f, number, place, whole, packet_max);
    f.contents[place].messages =
        static_cast<std::uint32_t>(f.messages.size()) - f.contents[place].first_message;
}

void watcher::read_contents(flow &f, std::uint32_t number, std::size_t place,
                            std::span<const std::byte> records, std::size_t packet_max)
{
    const bool readable = each_record(records, [&](const record_view &r) {
        if ((r.flags & SP_RECORD_CTRL) != 0)
            return;
        const bool first = (r.flags & SP_RECORD_FIRST) != 0, last = (r.flags & SP_RECORD_LAST) != 0;
        if (first && last)
            return on_message(f, number, place, r.payload, r.payload.size(), false);
        if (first) {
            // Where packets are missing, or may be, the link may take the path for a narrow one.
            const bool missing = f.bytes_resent > 0 || f.bytes_arrived < f.bytes_sent;
            const auto fits = link::message_space(
                std::min<std::size_t>({packet_max, f.packet_max, missing ? narrow : ~0u}));
            judge_.small_never_split(r.total > fits, [&] {
                return describe(f) + ": a message of " + std::to_string(r.total) +
                       " bytes is split, a packet takes " + std::to_string(fits);
            });
            f.unfinished = r.total;
            on_message(f, number, place, r.payload, r.total, true);
        }
        judge_.whole_messages_only(
            f.unfinished >= r.payload.size() && (f.unfinished == r.payload.size()) == last, [&] {
                return describe(f) + ": a part of " + std::to_string(r.payload.size()) +
                       " bytes where " + std::to_string(f.unfinished) + " are missing";
            });
        f.unfinished -=
            static_cast<std::uint32_t>(std::min<std::size_t>(f.unfinished, r.payload.size()));
        if (last && !f.messages.empty())
            f.messages.back().complete = true;
    });
    judge_.contents_frozen(readable, [&] { return describe(f) + ": records that cannot be read"; });
}

void watcher::on_message(flow &f, std::uint32_t number, std::size_t in,
                         std::span<const std::byte> payload, std::size_t total, bool split)
{
    const auto header = header_size(f.sender, payload);
    const std::size_t topic = f.sender == role::pub ? 2 : 0;
    const auto named = ledger::number_of(payload.subspan(header), topic);
    judge_.nothing_invented(ledger_.knows(named), [&] {
        return describe(f) + ": a message on the wire that nobody sent";
    });
    if (!ledger_.knows(named))
        return;
    const auto place = static_cast<std::uint32_t>(f.messages.size());
    f.messages.push_back({.number = named,
                          .content = static_cast<std::uint32_t>(in),
                          .size = static_cast<std::uint32_t>(total),
                          .split = split,
                          .complete = !split});
    auto &e = ledger_[named];
    judge_.oversize_refused(total == header + e.size, [&] {
        return describe(f) + ": message " + std::to_string(named) + " of " +
               std::to_string(e.size) + " bytes is announced with " +
               std::to_string(total - header);
    });
    const bool again = !f.places.emplace(named, place).second;
    if (f.sender != role::req && f.sender != role::rep)
        judge_.exactly_once_per_pipe(!again, [&] {
            return describe(f) + ": message " + std::to_string(named) + " goes out twice";
        });
    check_header(f, named, payload.first(header));
    e.carried.push_back(number);
}

bool watcher::is_complete(const flow &f, std::uint32_t number)
{
    const auto found = f.places.find(number);
    return found != f.places.end() && f.messages[found->second].complete;
}

void watcher::check_header(flow &f, std::uint32_t number, std::span<const std::byte> header)
{
    const auto &e = ledger_[number];
    switch (f.sender) {
    case role::push:
    case role::pair0:
    case role::pair1: {
        const auto which = f.sender == role::push ? rule::one_receiver : rule::one_wire;
        for (const auto other : e.carried)
            judge_.look(which,
                        flows_[other].from != f.from || flows_[other].from_port != f.from_port ||
                            !is_complete(flows_[other], number),
                        [&] {
                            return describe(f) + ": message " + std::to_string(number) +
                                   " was on the wire already, " + describe(flows_[other]);
                        });
        if (orderly_.contains(f.from << 16 | f.from_port)) {
            auto &latest = latest_[e.sender];
            judge_.look(f.sender == role::push ? rule::fifo_per_pipe : rule::fifo_each_way,
                        latest <= number, [&] {
                            return describe(f) + ": message " + std::to_string(number) +
                                   " goes out after a later one";
                        });
            latest = number;
        }
        if (f.sender == role::pair1)
            judge_.hops_bounded(header.size() == word &&
                                    be32(link::read<std::uint32_t>(header)) <= 15,
                                [&] { return describe(f) + ": a hop count out of range"; });
        return;
    }
    case role::req:
    case role::surveyor: {
        const bool ends = header.size() >= word &&
                          (std::to_integer<unsigned>(header[header.size() - word]) & 0x80) != 0;
        const auto id = ends ? link::read<std::uint32_t>(header.subspan(header.size() - word)) : 0;
        auto &known =
            request_ids_[mix(std::uint64_t{f.from} << 48 | std::uint64_t{f.from_port} << 32 | id) ^
                         (header.size() > word ? hash_of(header) : 0)];
        // The machine remembers the latest 256 ids; what is older may come again by chance.
        judge_.request_ids_fresh(
            ends && (known == 0 || known - 1 == number || number - (known - 1) > 200), [&] {
                return describe(f) + ": messages " + std::to_string(known - 1) + " and " +
                       std::to_string(number) + " under one id";
            });
        known = number + 1;
        f.stacks.insert(hash_of(header));
        judge_.hops_bounded(header.size() <= 16 * word,
                            [&] { return describe(f) + ": a stack of more than 16 words"; });
        return;
    }
    case role::rep:
    case role::respondent:
        judge_.look(f.sender == role::rep ? rule::reply_returns_home : rule::answer_returns_home,
                    flows_[f.reverse].stacks.contains(hash_of(header)), [&] {
                        return describe(f) + ": answer " + std::to_string(number) +
                               " to a request that did not come by this connection";
                    });
        return;
    default:
        return;
    }
}

// ---- what an engine is handed ----

watcher::kind watcher::on_arriving(std::uint32_t at, std::span<const std::byte> packet, instant now,
                                   instant local)
{
    if (packet.size() < SP_OVERHEAD || !link::intact(packet))
        return kind::damaged;
    const auto h = link::read<sp_header>(packet);
    const auto number = h.dcid == 0 ? nobody : find(be64(h.dcid));
    if (number == nobody || flows_[number].to != at)
        return kind::other;
    if (flows_[number].ambiguous) {
        flows_[number].heard_at = local;
        return kind::other;
    }
    auto &f = flows_[number];
    auto &other = flows_[f.reverse];
    const auto grant = [&] {
        if (const auto limit = be32(h.limit); !other.has_limit || distance(other.limit, limit) > 0)
            other.limit = limit;
        other.has_limit = true;
    };
    if (h.type == SP_ACCEPT) {
        grant();
        other.may_send = true;
        return kind::other;
    }
    if (h.type != SP_DATA && h.type != SP_ACK && h.type != SP_PART && h.type != SP_DISCONNECT)
        return kind::other;
    grant();
    if (!other.may_send)
        return kind::other; // its handshake is not over: it will not be listened to
    f.heard_at = local;
    const auto pn = be64(h.pn);
    if (pn >= f.numbers_arrived.size())
        f.numbers_arrived.resize(pn + 64);
    if (f.numbers_arrived[pn])
        return kind::again;
    f.numbers_arrived[pn] = true;
    learn(other, h, packet, now);
    if (h.type != SP_DATA && h.type != SP_PART)
        return kind::fresh;
    f.bytes_arrived += packet.size();
    const auto place = static_cast<std::size_t>(distance(f.base, be32(h.seq)));
    if (place >= f.contents.size() || f.contents[place].arrived)
        return kind::fresh;
    auto &c = f.contents[place];
    if (h.type == SP_PART) {
        const auto slice = contents_of(h, packet);
        c.pieces.resize(c.bytes.size() / word);
        for (auto piece = slice.offset / word; piece < (slice.offset + slice.bytes.size()) / word;
             ++piece)
            if (!c.pieces[piece]) {
                c.pieces[piece] = true;
                ++c.pieces_arrived;
            }
        if (c.pieces_arrived < c.pieces.size())
            return kind::fresh;
    }
    has_come(f, place, local);
    return kind::fresh;
}

void watcher::has_come(flow &f, std::size_t place, instant local)
{
    auto &c = f.contents[place];
    c.arrived = true;
    c.arrived_at = local;
    while (f.arrived < f.contents.size() && f.contents[f.arrived].arrived)
        ++f.arrived;
}

} // namespace sp::sim
