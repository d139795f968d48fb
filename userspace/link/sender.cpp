// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/link/sender.hpp"

#include "userspace/invariant.hpp"
#include "userspace/link/packet.hpp"
#include "userspace/plants.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

namespace sp::link {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t store_first = 4096;
constexpr std::size_t store_limit = 256 * 1024; // or four packets, where those are longer
constexpr std::size_t entries_first = 8;
constexpr std::size_t slice_unit = 4;

// Without credit nothing is under way that could be asked about: the question is for credit.
constexpr auto credit_question = 10ms;
constexpr auto credit_question_max = 250ms;

// Between two sendings of a packet that was missed three times; doubles up to 128 ms.
constexpr auto rest_first = 1ms;

// Copies bytes [from, from + to.size()) of head and body together.
void gather(std::span<std::byte> to, std::span<const std::byte> head,
            std::span<const std::byte> body, std::size_t from) noexcept
{
    if (from < head.size()) {
        const auto n = std::min(head.size() - from, to.size());
        std::memcpy(to.data(), head.data() + from, n);
        to = to.subspan(n);
        from += n;
    }
    if (!to.empty())
        std::memcpy(to.data(), body.data() + (from - head.size()), to.size());
}

} // namespace

sender::sender(std::uint32_t first) noexcept
    : oldest_(first), unsent_(first), next_(first), limit_(first)
{
}

void sender::open(std::size_t packet_max, std::uint32_t limit, std::uint16_t records_max) noexcept
{
    SP_INVARIANT(packet_max > SP_OVERHEAD + SP_RECORD_SIZE + SP_PART_SIZE);
    packet_max_ = packet_max;
    limit_ = limit;
    records_max_ = records_max;
}

sender::entry &sender::at(std::uint32_t seq) noexcept
{
    return entries_[seq & (entries_.size() - 1)];
}

const sender::entry &sender::at(std::uint32_t seq) const noexcept
{
    return entries_[seq & (entries_.size() - 1)];
}

std::size_t sender::contents_max() const noexcept
{
    return (packet_max_ - SP_OVERHEAD) & ~std::size_t{3};
}

// ---- the store: contents in one piece each, behind one another, oldest first

std::size_t sender::store_max() const noexcept
{
    return std::max(store_limit, 4 * std::bit_ceil(contents_max()));
}

// Where `n` bytes fit, if they do.
std::optional<std::uint64_t> sender::place_for(std::size_t n) const noexcept
{
    if (store_.empty())
        return std::nullopt;
    auto place = tail_;
    if (const auto inside = place & (store_.size() - 1); inside + n > store_.size())
        place += store_.size() - inside; // not around the corner
    const auto head = oldest_ == next_ ? place : at(oldest_).place;
    if (place + n - head > store_.size())
        return std::nullopt;
    return place;
}

// What carried it last was longer than what passes everywhere, and no longer than the path is said
// to be: it tells whether the path is.
bool sender::is_long(const entry &e) const noexcept
{
    return std::size_t{e.length} + SP_OVERHEAD > packet_safe &&
           (e.length <= contents_max() || e.order > narrowed_);
}

std::span<std::byte> sender::bytes_of(const entry &e) noexcept
{
    return std::span(store_).subspan(e.place & (store_.size() - 1), e.length);
}

// Makes place for `n` bytes by a larger store.
void sender::grow(std::size_t n)
{
    const auto size = std::max({store_first, 2 * std::bit_ceil(n), 2 * store_.size()});
    std::vector<std::byte> larger(std::min(size, store_max()));
    std::size_t used = 0;
    for (auto seq = oldest_; seq != next_; ++seq) {
        auto &e = at(seq);
        const auto old = bytes_of(e);
        std::ranges::copy(old, larger.begin() + static_cast<std::ptrdiff_t>(used));
        e.place = used;
        used += old.size();
    }
    store_ = std::move(larger);
    tail_ = used;
}

bool sender::ready() const noexcept
{
    if (packet_max_ == 0 || !before(next_, limit_) || next_ - oldest_ >= window_max)
        return false;
    if (const auto idle = next_ - unsent_; // what the path does not take need not be packed yet
        idle > 2 && idle + flying_ > congestion_.window())
        return false;
    return store_.size() < store_max() || place_for(contents_max()).has_value();
}

void sender::begin_packet(instant now) noexcept
{
    end_packet();
    if (oldest_ == next_)
        tail_ = 0; // the same lines of memory again and again
    if (next_ - oldest_ == entries_.size()) {
        std::vector<entry> more(std::max(entries_first, 2 * entries_.size()));
        for (auto seq = oldest_; seq != next_; ++seq)
            more[seq & (more.size() - 1)] = at(seq);
        entries_ = std::move(more);
    }
    auto place = place_for(contents_max());
    while (!place && store_.size() < store_max()) {
        grow(contents_max());
        place = place_for(contents_max());
    }
    SP_INVARIANT(place);
    at(next_) = {.place = *place};
    tail_ = *place;
    ++next_;
    open_ = true;
    pushed_ = false;
    opened_at_ = now;
}

std::span<std::byte> sender::room_in_open() noexcept
{
    if (!open_)
        return {};
    const auto &e = at(next_ - 1);
    const auto messages_most = records_max_ != 0 ? records_max_ : shared_messages_max;
    if (e.length >= std::min(contents_max(), shared_bytes_max) || e.messages >= messages_most)
        return {};
    return std::span(store_).subspan((e.place + e.length) & (store_.size() - 1),
                                     contents_max() - e.length);
}

// ---- messages

std::size_t sender::append(std::span<const std::byte> head, std::span<const std::byte> body,
                           std::size_t from, instant now) noexcept
{
    SP_INVARIANT(ready());
    now_ = now;
    const auto size = head.size() + body.size();
    if (size > message_space(packet_max_) / (SP_PLANTED(link_splits_small) ? 2 : 1) || from > 0)
        return append_parts(head, body, from, now);
    const auto space = record_space(size);
    auto room = room_in_open();
    if (room.size() < space) {
        begin_packet(now);
        room = room_in_open();
    }
    write_record(room, SP_RECORD_FIRST | SP_RECORD_LAST, SP_CODE_NONE, head, body);
    auto &e = at(next_ - 1);
    e.length = static_cast<std::uint16_t>(e.length + space);
    tail_ = e.place + e.length;
    ++e.messages;
    ++messages_;
    ++begun_;
    if (room_in_open().size() <= SP_RECORD_SIZE)
        end_packet(); // full: it waits for nothing
    return size;
}

std::size_t sender::append_parts(std::span<const std::byte> head, std::span<const std::byte> body,
                                 std::size_t from, instant now) noexcept
{
    constexpr auto front = SP_RECORD_SIZE + SP_PART_SIZE;
    const auto size = head.size() + body.size();
    if (from == 0) {
        end_packet(); // a split message begins a packet
        ++begun_;
    }
    while (from < size && ready()) {
        auto room = room_in_open();
        if (room.size() <= front) {
            begin_packet(now);
            room = room_in_open();
        }
        const auto n = std::min((room.size() - front) & ~std::size_t{3}, size - from);
        const auto flags =
            (from == 0 ? SP_RECORD_FIRST : 0) | (from + n == size ? SP_RECORD_LAST : 0);
        const sp_record record{.length = be16(static_cast<std::uint16_t>(n)),
                               .flags = static_cast<std::uint8_t>(flags),
                               .code = SP_CODE_NONE};
        const sp_part part{.message = be32(begun_ - 1),
                           .at = be32(static_cast<std::uint32_t>(from == 0 ? size : from))};
        std::memcpy(room.data(), &record, sizeof record);
        std::memcpy(room.data() + sizeof record, &part, sizeof part);
        gather(room.subspan(front, n), head, body, from);
        const auto space = front + ((n + 3) & ~std::size_t{3});
        std::memset(room.data() + front + n, 0, space - front - n);
        auto &e = at(next_ - 1);
        e.length = static_cast<std::uint16_t>(e.length + space);
        tail_ = e.place + e.length;
        from += n;
        if (from == size) {
            ++e.messages;
            ++messages_;
        } else {
            end_packet(); // nothing can follow before the rest of this message
        }
    }
    return from;
}

// ---- packets

bool sender::waits_for_company() const noexcept
{
    return open_ && !pushed_ && flying_ >= cork_flying;
}

shipment sender::ship(std::uint32_t seq, bool ask) noexcept
{
    const auto &e = at(seq);
    const auto contents = bytes_of(e);
    if (e.length <= contents_max())
        return {.seq = seq, .contents = contents, .ask = ask};
    const auto most = (packet_max_ - SP_OVERHEAD - SP_SLICE_SIZE) & ~(slice_unit - 1);
    const auto n = std::min<std::size_t>(most, e.length - std::size_t{e.sliced});
    return {.seq = seq,
            .contents = contents.subspan(e.sliced, n),
            .offset = e.sliced,
            .total = e.length,
            .ask = ask};
}

// What is lost again and again must not be sent without end while other packets get through.
instant sender::rests_until(const entry &e) const noexcept
{
    if (e.sends < sends_at_once)
        return {};
    return e.sent_at + rest_first * (1 << std::min<unsigned>(e.sends - sends_at_once, 7));
}

std::optional<shipment> sender::next() noexcept
{
    // After a time-out only the oldest go, until the peer is heard.
    if (missing_ > 0 && (forced_ > 0 || (timeouts_ == 0 && flying_ < congestion_.window())))
        for (auto seq = oldest_; seq != unsent_; ++seq)
            if (const auto &e = at(seq);
                e.what == state::missing && (forced_ > 0 || rests_until(e) <= now_))
                return ship(seq, true);
    if (unsent_ == next_ || flying_ >= congestion_.window())
        return std::nullopt;
    if (unsent_ + 1 == next_ && waits_for_company())
        return std::nullopt;
    // Whoever has many under way wants to hear soon that they arrived: one question a round trip.
    const bool ask = flying_ + 1 >= cork_flying && !asked_;
    return ship(unsent_, ask);
}

void sender::on_sent(const shipment &what, instant now) noexcept
{
    auto &e = at(what.seq);
    if (what.total != 0) {
        ++counts_.cut;
        e.sliced = static_cast<std::uint16_t>(e.sliced + what.contents.size());
        if (e.sliced < e.length)
            return; // the rest follows
        e.sliced = 0;
    }
    if (e.what == state::missing) {
        --missing_;
        forced_ -= std::min(forced_, 1u);
        ++counts_.data_resent;
    } else {
        SP_INVARIANT(e.what == state::waiting && what.seq == unsent_);
        ++unsent_;
        ++counts_.data_sent;
        if (unsent_ == next_)
            end_packet();
    }
    e.what = state::flying;
    ++flying_;
    e.order = ++sendings_;
    e.sent_at = now;
    e.sends = static_cast<std::uint8_t>(std::min(e.sends + 1, 255));
    active_at_ = now_ = now;
    if (what.ask) {
        asked_ = true;
        asked_at_seq_ = what.seq;
    }
}

void sender::on_asked(instant now) noexcept
{
    question_ = sendings_;
    question_at_ = now;
}

// ---- what comes back

// The peer has it.
void sender::on_delivered(entry &e, instant now) noexcept
{
    const auto since = now - e.sent_at;
    if (e.sends == 1 && (!sample_ || since < *sample_))
        sample_ = since;
    // Of what was sent more than once the first may have arrived, unless there was time enough for
    // the last.
    if (e.sends == 1 || (rtt_.known() && since >= rtt_.shortest()))
        newest_there_ = std::max(newest_there_, e.order);
    if (is_long(e))
        long_missing_ = 0;
    if (e.what == state::flying)
        --flying_;
    else if (e.what == state::missing)
        --missing_;
}

void sender::on_progress(instant now) noexcept
{
    if (sample_) {
        rtt_.sample(*sample_, now);
        congestion_.on_ack(rtt_, *std::exchange(sample_, std::nullopt), now);
    }
    questions_ = timeouts_ = 0;
    forced_ = 0;
    active_at_ = now;
}

bool sender::on_feedback(const feedback &f, instant now) noexcept
{
    now_ = now;
    if (before(unsent_, f.ack))
        return false;
    if (before(limit_, f.limit)) {
        limit_ = f.limit;
        credit_questions_ = 0;
    }
    const bool old = before(f.ack, oldest_); // overtaken on the way; says nothing new but credit
    bool progress = false;
    for (; before(oldest_, f.ack); ++oldest_) {
        auto &e = at(oldest_);
        if (e.what != state::there)
            on_delivered(e, now);
        confirmed_ += e.messages;
        progress = true;
    }
    const std::uint32_t bits = f.wide ? 8 * receiver::wide_bytes : 32;
    const auto told = [&](std::uint32_t i) {
        return f.wide ? ((*f.wide)[i / 8] >> (i % 8) & std::byte{1}) != std::byte{0}
                      : (f.sack >> i & 1) != 0;
    };
    if (!old && (f.sack != 0 || f.wide))
        for (std::uint32_t i = 0; i < bits && before(f.ack + 1 + i, unsent_); ++i) {
            auto &e = at(f.ack + 1 + i);
            if (!told(i) || e.what == state::there)
                continue;
            on_delivered(e, now);
            e.what = state::there;
            progress = true;
        }
    if (asked_ && before(asked_at_seq_, oldest_))
        asked_ = false;
    if (progress)
        on_progress(now);
    if (old || oldest_ == unsent_) {
        if (oldest_ == unsent_) {
            question_.reset();
            overtaken_at_ = instant::max();
        }
        return true;
    }
    const auto known_end = before(f.ack + 1 + bits, unsent_) ? f.ack + 1 + bits : unsent_;
    on_answer(known_end, now);
    find_missing(known_end, now);
    return true;
}

void sender::miss(entry &e, instant now) noexcept
{
    if (is_long(e))
        ++long_missing_;
    e.what = SP_PLANTED(link_never_resends) && e.sends > 1 ? state::there : state::missing;
    if (SP_PLANTED(link_never_resends) && e.sends > 1) {
        --flying_;
        return;
    }
    e.sliced = 0;
    --flying_;
    ++missing_;
    congestion_.on_loss(rtt_, now);
}

// Flying packets that later ones have overtaken, below `known_end`, above which nothing is known.
void sender::find_missing(std::uint32_t known_end, instant now) noexcept
{
    overtaken_at_ = instant::max();
    for (auto seq = oldest_; before(seq, known_end); ++seq) {
        auto &e = at(seq);
        if (e.what != state::flying || e.order >= newest_there_)
            continue;
        const auto due = e.sent_at + rtt_.overtaken();
        if (e.order + reordering <= newest_there_ || due <= now)
            miss(e, now);
        else
            overtaken_at_ = std::min(overtaken_at_, due);
    }
}

// Something came from the peer, and there was time for it to be the answer to our question: what
// was sent before the question and is not confirmed by it did not arrive.
void sender::on_answer(std::uint32_t known_end, instant now) noexcept
{
    if (!question_ || (!SP_PLANTED(link_believes_any_answer) &&
                       (!rtt_.known() || now - question_at_ < rtt_.shortest())))
        return;
    for (auto seq = oldest_; before(seq, known_end); ++seq)
        if (auto &e = at(seq); e.what == state::flying && e.order <= *question_)
            miss(e, now);
    question_.reset();
    timeouts_ = 0; // it is there
}

// ---- time

instant sender::next_deadline() const noexcept
{
    auto at_least = overtaken_at_;
    if (missing_ > 0)
        for (auto seq = oldest_; seq != unsent_; ++seq)
            if (const auto &e = at(seq); e.what == state::missing)
                if (const auto until = rests_until(e); until > now_)
                    at_least = std::min(at_least, until);
    if (flying_ > 0 || (missing_ > 0 && timeouts_ > 0)) {
        at_least = std::min(at_least, active_at_ + rtt_.timeout(timeouts_));
        if (questions_ < questions_max)
            at_least = std::min(at_least, active_at_ + rtt_.question() * (1 << questions_));
        if (waits_for_company())
            at_least = std::min(at_least, opened_at_ + cork_time);
    } else if (packet_max_ != 0 && next_ == limit_) {
        const auto wait = std::min<std::chrono::nanoseconds>(
            credit_question * (1 << std::min(credit_questions_, 8u)), credit_question_max);
        at_least = std::min(at_least, active_at_ + wait);
    }
    return at_least;
}

// Nothing at all was confirmed for a whole time-out: the oldest go again, whatever the window says.
void sender::on_timeout(instant now) noexcept
{
    ++timeouts_;
    ++counts_.timeouts;
    congestion_.on_timeout();
    active_at_ = now;
    unsigned chosen = 0;
    for (auto seq = oldest_; seq != unsent_; ++seq) {
        auto &e = at(seq);
        if (e.what != state::flying && e.what != state::missing)
            continue;
        if (chosen < resent_on_timeout) {
            if (e.what == state::flying)
                miss(e, now);
            ++chosen;
        } else if ((timeouts_ >= 2 || e.order <= timed_out_) && e.what == state::flying) {
            // Two time-outs since it was sent, whatever was confirmed between them: it is lost, and
            // follows when the peer is heard; two at a time-out would take for ever.
            e.what = state::missing;
            e.sliced = 0;
            --flying_;
            ++missing_;
        }
    }
    forced_ = chosen;
    timed_out_ = sendings_;
}

bool sender::on_deadline(instant now) noexcept
{
    now_ = now;
    if (overtaken_at_ <= now)
        find_missing(unsent_, now);
    if (waits_for_company() && opened_at_ + cork_time <= now)
        pushed_ = true;
    if (flying_ == 0 && (missing_ == 0 || timeouts_ == 0)) {
        if (packet_max_ == 0 || next_ != limit_ || next_deadline() > now)
            return false;
        ++credit_questions_;
        ++counts_.questions;
        active_at_ = now;
        return true;
    }
    if (now >= active_at_ + rtt_.timeout(timeouts_)) {
        on_timeout(now);
        return false;
    }
    if (questions_ < questions_max && now >= active_at_ + rtt_.question() * (1 << questions_)) {
        ++questions_;
        ++counts_.questions;
        return true;
    }
    return false;
}

void sender::narrow(std::size_t packet_max) noexcept
{
    if (packet_max >= packet_max_)
        return;
    packet_max_ = packet_max;
    long_missing_ = 0;
    narrowed_ = sendings_;
    if (open_ && at(next_ - 1).length >= contents_max())
        end_packet();
    for (auto seq = oldest_; seq != next_; ++seq)
        at(seq).sliced = 0;
}

bool sender::swallows_long_packets() const noexcept
{
    return packet_max_ > packet_safe && long_missing_ >= long_missing_max;
}

sender_counts sender::take_counts() noexcept
{
    return std::exchange(counts_, {});
}

void sender::shrink() noexcept
{
    if (oldest_ != next_)
        return;
    entries_ = {};
    store_ = {};
    tail_ = 0;
}

} // namespace sp::link
