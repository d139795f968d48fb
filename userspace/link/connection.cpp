// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/link/connection.hpp"

#include "userspace/invariant.hpp"
#include "userspace/link/packet.hpp"
#include "userspace/link/stranger.hpp"
#include "userspace/marks.hpp"
#include "userspace/plants.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace sp::link {
namespace {

using namespace std::chrono_literals;

// The handshake is tried again after 20, 40, 80 ... ms; the caller bounds the whole. From the third
// PROBE on it is padded to what passes everywhere only: a black hole for larger ones shows here.
constexpr auto handshake_retry = 20ms;
constexpr auto handshake_retry_max = 320ms;
constexpr int probes_at_full_size = 2;
constexpr int inits_per_cookie = 5;

// An ACK waits this long for data to ride on: less than the peer waits before it asks.
constexpr auto ack_delay = 400us;
constexpr std::uint32_t ack_every = 8;

// A keep-alive that was not answered is repeated this much sooner: on a path that loses 60 %, three
// questions in a second would all be lost every few seconds, ten are not.
constexpr int keepalive_hurry = 3;

// Where silence means nothing: often enough to free what a peer left that went without a word, and
// nothing against an idle process's quiet.
constexpr auto rare_keepalive = 10s;
constexpr auto never = std::chrono::hours(24 * 365 * 100);

// So long an accepted connection waits for a sign that its dialer knows.
constexpr auto confirm_patience = 3s;

// After a RESET: two questions, 20 ms apart, then the peer is believed to have restarted.
constexpr auto reset_patience = 20ms;
constexpr std::uint64_t reset_recent = 1024;

} // namespace

connection::connection(const connection_config &config) noexcept
    : config_(config), out_(config.first_seq), in_(config.first_seq, config.window),
      told_(config.first_seq)
{
    SP_INVARIANT(config.packet_max >= sizeof(sp_init));
    granted_ = in_.limit();
}

connection connection::dial(const connection_config &config, instant now) noexcept
{
    connection c(config);
    c.due_ = due_probe;
    c.retry_at_ = now + handshake_retry;
    return c;
}

connection connection::accept(const connection_config &config, const sp_init &init,
                              instant now) noexcept
{
    connection c(config);
    c.phase_ = phase::accepted;
    c.answered_ = true;
    c.peer_id_ = be64(init.identity.scid);
    c.peer_instance_ = be64(init.identity.instance);
    c.peer_message_max_ = be32(init.params.message_max);
    c.config_.packet_max = std::min(config.packet_max, be16(init.params.packet_max));
    c.out_.open(c.config_.packet_max, be32(init.header.limit), be16(init.params.records_max));
    c.due_ = due_accept;
    c.begun_at_ = now;
    c.retry_at_ = now + handshake_retry;
    return c;
}

arrival connection::on_packet(std::span<const std::byte> packet, instant now) noexcept
{
    const auto header = read<sp_header>(packet);
    switch (header.type) {
    case SP_COOKIE:
        return on_cookie(packet, now);
    case SP_ACCEPT:
        return on_accept(packet, now);
    case SP_REFUSE:
        return on_refuse(packet);
    case SP_DATA:
    case SP_PART:
    case SP_ACK:
    case SP_DISCONNECT:
        break;
    default:
        return arrival::unexpected;
    }
    if (phase_ != phase::open && phase_ != phase::accepted)
        return arrival::unexpected;
    if (!seen_.accept(be64(header.pn)))
        return arrival::duplicate;
    if (phase_ == phase::accepted)
        confirm(now);
    watch_peer(now);
    if (!on_feedback(header, packet, now)) {
        close(SP_REASON_PROTOCOL_ERROR);
        return arrival::malformed;
    }
    if (header.type == SP_DISCONNECT)
        return on_disconnect(packet);
    if ((header.flags & SP_ACK_NOW) != 0)
        due_ |= due_ack;
    if (header.type != SP_ACK)
        return on_data(header, packet, now);
    // The tail of what the peer sent has not come, and it must know. Once: our answer is such an
    // ACK too when something of ours is missing there, and would be answered without end.
    if (const auto seq = be32(header.seq);
        before(in_.expected(), seq) && (before(told_, seq) || SP_PLANTED(link_ack_volley))) {
        told_ = seq;
        due_ |= due_ack;
    }
    return arrival::nothing;
}

arrival connection::on_cookie(std::span<const std::byte> packet, instant now) noexcept
{
    if (phase_ != phase::probing)
        return arrival::unexpected;
    if (packet.size() != sizeof(sp_cookie))
        return arrival::malformed;
    const auto answer = read<sp_cookie>(packet);
    const std::uint16_t length = be16(answer.length);
    if (length < SP_PROBE_SIZE_MIN || length > config_.packet_max)
        return arrival::malformed;
    answered_ = true;
    sample_handshake(now);
    cookie_epoch_ = be32(answer.epoch);
    std::ranges::copy(answer.cookie, cookie_.begin());
    // Of several PROBEs the longest that arrived counts: the listener may have accepted by it.
    proven_packet_ = std::max({proven_packet_, length, std::uint16_t{sizeof(sp_init)}});
    phase_ = phase::opening;
    attempt_ = 0;
    due_ = due_init;
    retry_at_ = now + handshake_retry;
    return arrival::nothing;
}

arrival connection::on_accept(std::span<const std::byte> packet, instant now) noexcept
{
    if (phase_ == phase::open) {
        due_ |= due_ack; // the listener has not heard that the first one came
        return arrival::duplicate;
    }
    if (phase_ != phase::opening)
        return arrival::unexpected;
    if (packet.size() != sizeof(sp_accept))
        return arrival::malformed;
    const auto answer = read<sp_accept>(packet);
    const std::uint16_t packet_max = be16(answer.params.packet_max);
    if (packet_max < sizeof(sp_init) || packet_max > proven_packet_ ||
        be64(answer.identity.scid) == 0)
        return arrival::malformed;
    if (be16(answer.identity.protocol) != config_.peer_protocol) {
        refused_by_protocol_ = be16(answer.identity.protocol);
        end(SP_REASON_PROTOCOL_MISMATCH);
        return arrival::nothing;
    }
    peer_id_ = be64(answer.identity.scid);
    peer_instance_ = be64(answer.identity.instance);
    peer_message_max_ = be32(answer.params.message_max);
    config_.packet_max = packet_max;
    sample_handshake(now);
    out_.open(packet_max, be32(answer.header.limit), be16(answer.params.records_max));
    phase_ = phase::open;
    retry_at_ = instant::max();
    due_ = due_ack; // confirms to the listener that its ACCEPT arrived
    watch_peer(now);
    return arrival::nothing;
}

arrival connection::on_refuse(std::span<const std::byte> packet) noexcept
{
    if (phase_ != phase::probing && phase_ != phase::opening)
        return arrival::unexpected;
    if (packet.size() != sizeof(sp_refuse))
        return arrival::malformed;
    const auto refusal = read<sp_refuse>(packet);
    answered_ = true;
    closed_by_peer_ = true;
    refused_by_protocol_ = be16(refusal.protocol);
    const auto *text_end = std::ranges::find(refusal.text, std::uint8_t{0});
    refusal_length_ = 0;
    for (const auto *c = std::begin(refusal.text); c != text_end;
         ++c) // it will be shown: printable ASCII only
        refusal_text_[refusal_length_++] = *c >= 0x20 && *c < 0x7f ? static_cast<char>(*c) : '?';
    end(reason_of(be16(refusal.reason)));
    return arrival::nothing;
}

// The dialer has our ACCEPT: from now on it may be sent something.
void connection::confirm(instant now) noexcept
{
    sample_handshake(now);
    phase_ = phase::open;
    due_ &= static_cast<std::uint8_t>(~due_accept);
    retry_at_ = instant::max();
}

// An answer to what was asked once only.
void connection::sample_handshake(instant now) noexcept
{
    if (attempt_ == 0 && !inited_ && asked_at_ != instant{})
        out_.on_round_trip(now - asked_at_, now);
}

// Acknowledgement and credit are absolute: late or doubled packets do no harm. False: the peer
// invents things.
bool connection::on_feedback(const sp_header &header, std::span<const std::byte> packet,
                             instant now) noexcept
{
    feedback f{.ack = be32(header.ack), .sack = be32(header.sack), .limit = be32(header.limit)};
    if (header.type == SP_ACK) {
        record_reader records(contents_of(packet));
        while (auto r = records.next())
            if (r->code == SP_CODE_WIDE_SACK && r->payload.size() == receiver::wide_bytes)
                f.wide = r->payload;
        if (records.bad())
            return false;
    }
    return out_.on_feedback(f, now);
}

arrival connection::on_data(const sp_header &header, std::span<const std::byte> packet,
                            instant now) noexcept
{
    using placed = receiver::placed;
    const std::uint32_t seq = be32(header.seq);
    const auto contents = contents_of(packet);
    const bool gaps = in_.gaps();
    auto what = placed::malformed;
    if (header.type == SP_DATA) {
        what = in_.place(seq, contents);
    } else if (contents.size() > SP_SLICE_SIZE) {
        const auto slice = read<sp_slice>(contents);
        if (be16(slice.total) <= config_.packet_max - SP_OVERHEAD)
            what = in_.place_slice(seq, be16(slice.offset), be16(slice.total),
                                   contents.subspan(SP_SLICE_SIZE));
    }
    switch (what) {
    case placed::duplicate:
        due_ |= due_ack;
        return arrival::duplicate;
    case placed::early:
        ++early_;
        due_ |= due_ack;
        return arrival::nothing;
    case placed::partial:
        return arrival::nothing;
    case placed::beyond:
    case placed::malformed:
        close(SP_REASON_PROTOCOL_ERROR);
        return arrival::malformed;
    case placed::ready:
        break;
    }
    if (++unanswered_ >= ack_every || gaps)
        due_ |= due_ack;
    else if (ack_at_ == instant::max())
        ack_at_ = now + ack_delay;
    return arrival::records;
}

arrival connection::on_disconnect(std::span<const std::byte> packet) noexcept
{
    auto why = SP_REASON_SHUTTING_DOWN;
    record_reader records(contents_of(packet));
    while (auto r = records.next())
        if (r->code == SP_CODE_REASON && r->payload.size() >= 2)
            why = reason_of(be16(read<std::uint16_t>(r->payload)));
    closed_by_peer_ = true;
    end(why);
    return arrival::nothing;
}

void connection::on_init_again() noexcept
{
    if (phase_ != phase::open && phase_ != phase::accepted)
        return;
    due_ |= due_accept;
    attempt_ = std::max<std::uint8_t>(attempt_, 1); // which one is answered tells no round trip
}

void connection::on_reset(std::uint64_t unknown_pn, instant now) noexcept
{
    SP_MARK(reset_heeded);
    if (phase_ != phase::open || unknown_pn >= next_pn_ || next_pn_ - unknown_pn > reset_recent)
        return;
    if (suspect_)
        return;
    suspect_ = true;
    silence_at_ = now + 2 * reset_patience;
    ask_at_ = now + reset_patience;
    ask_ = true;
    due_ |= due_ack;
}

// The peer was heard: both liveness deadlines move. Only the field moves; the engine's timer is
// lazy.
void connection::watch_peer(instant now) noexcept
{
    suspect_ = false;
    ask_at_ = now + config_.keepalive_interval;
    silence_at_ = now + config_.peer_timeout;
}

void connection::rely(instant now) noexcept
{
    config_.keepalive_interval =
        std::max<std::chrono::nanoseconds>(config_.keepalive_interval, rare_keepalive);
    config_.peer_timeout = never;
    watch_peer(now);
}

instant connection::next_deadline() const noexcept
{
    if (phase_ == phase::closed)
        return instant::max();
    if (phase_ != phase::open)
        return retry_at_;
    return std::min({ack_at_, ask_at_, silence_at_, out_.next_deadline()});
}

void connection::retry_handshake(instant now) noexcept
{
    attempt_ = static_cast<std::uint8_t>(std::min(attempt_ + 1, 255));
    if (phase_ == phase::accepted && now >= begun_at_ + confirm_patience)
        return end(SP_REASON_NONE);
    if (phase_ == phase::opening && attempt_ >= inits_per_cookie) {
        phase_ = phase::probing; // the cookie may have grown too old
        inited_ = true;
        attempt_ = probes_at_full_size;
    }
    due_ |= phase_ == phase::probing ? due_probe : phase_ == phase::opening ? due_init : due_accept;
    const int doublings = std::min<int>(attempt_, 5);
    retry_at_ = now + std::min<std::chrono::nanoseconds>(handshake_retry * (1 << doublings),
                                                         handshake_retry_max);
}

void connection::on_deadline(instant now) noexcept
{
    if (phase_ == phase::closed)
        return;
    if (phase_ != phase::open) {
        if (now >= retry_at_)
            retry_handshake(now);
        return;
    }
    // Our own pause: give the peer the time in which we did not listen.
    if (const auto late = now - std::min(ask_at_, silence_at_); late > own_pause) {
        ask_at_ += late;
        silence_at_ += late;
    }
    if (now >= ack_at_) { // it may have to wait for room in the transport; this timer is done
        due_ |= due_ack;
        ack_at_ = instant::max();
    }
    if (now >= silence_at_ && !SP_PLANTED(link_keeps_dead_peer)) {
        close(suspect_ ? SP_REASON_STALE : SP_REASON_DEAD);
        return;
    }
    if (now >= ask_at_) {
        ask_ = true;
        if (!SP_PLANTED(link_never_asks))
            due_ |= due_ack;
        ask_at_ = now + config_.keepalive_interval / keepalive_hurry;
        if (out_.idle())
            out_.shrink();
        in_.shrink();
    }
    if (out_.next_deadline() <= now && out_.on_deadline(now)) {
        ask_ = true;
        due_ |= due_ack;
    }
    if (out_.swallows_long_packets())
        out_.narrow(sender::packet_safe);
}

void connection::narrow(std::size_t packet_max) noexcept
{
    if (phase_ == phase::open)
        out_.narrow(std::max(packet_max, sender::packet_least));
}

connection::counts connection::take_counts() noexcept
{
    return {.sent = out_.take_counts(), .early = std::exchange(early_, 0)};
}

void connection::consumed(std::uint32_t n, instant now) noexcept
{
    if (SP_PLANTED(link_credit_lost) && in_.limit() % 16 == 15)
        return;
    in_.consumed(n);
    const std::uint32_t news = in_.limit() - granted_;
    if (news >= std::max<std::uint32_t>(config_.window / 4, 1) && unanswered_ > 0 &&
        ack_at_ == instant::max())
        ack_at_ = now + ack_delay;
    if (news >= std::max<std::uint32_t>(config_.window / 2, 1))
        due_ |= due_ack;
}

void connection::end(sp_reason why) noexcept
{
    phase_ = phase::closed;
    reason_ = why;
    due_ = 0;
}

void connection::close(sp_reason why) noexcept
{
    if (phase_ == phase::closed)
        return;
    const bool tell = phase_ == phase::open;
    end(why);
    if (tell)
        due_ = due_disconnect;
}

std::size_t connection::message_capacity() const noexcept
{
    return std::min(config_.message_max, peer_message_max_);
}

void connection::fill_header(sp_header &header, sp_packet_type type, std::uint8_t flags) noexcept
{
    header = {};
    header.version = SP_WIRE_VERSION;
    header.type = type;
    header.flags = flags;
    header.dport = be16(config_.peer_port);
    header.sport = be16(config_.local_port);
    header.dcid = be64(peer_id_);
    header.pn =
        be64(SP_PLANTED(link_number_again) && next_pn_ % 32 == 31 ? next_pn_ - 1 : next_pn_);
    ++next_pn_;
    header.seq = be32(out_.next_seq());
    header.ack = be32(in_.expected() + (SP_PLANTED(link_acks_ahead) && in_.gaps() ? 1 : 0));
    header.sack = be32(in_.sack() << (SP_PLANTED(link_sack_off_by_one) ? 1 : 0));
    granted_ = in_.limit();
    header.limit = be32(granted_);
    unanswered_ = 0;
    ack_at_ = instant::max();
    due_ &= static_cast<std::uint8_t>(~due_ack);
}

void connection::fill_identity(sp_identity &identity) const noexcept
{
    identity = {};
    identity.scid = be64(config_.local_id);
    identity.instance = be64(config_.instance);
    identity.version_min = identity.version_max = SP_WIRE_VERSION_NUMBER;
    identity.protocol = be16(config_.protocol);
}

void connection::fill_params(sp_params &params, std::size_t packet_max) const noexcept
{
    params.message_max = be32(config_.message_max);
    params.packet_max = be16(static_cast<std::uint16_t>(packet_max));
    params.records_max = be16(config_.records_max);
}

std::size_t connection::probe_size() const noexcept
{
    const std::size_t size = attempt_ < probes_at_full_size
                                 ? config_.packet_max
                                 : std::min<std::size_t>(config_.packet_max, sender::packet_safe);
    return std::max(size, sizeof(sp_probe));
}

std::size_t connection::write_probe(std::span<std::byte> room) noexcept
{
    const auto padded = room.first(probe_size());
    std::ranges::fill(padded, std::byte{0});
    sp_probe probe{};
    fill_header(probe.header, SP_PROBE, 0);
    probe.header.dcid = 0;
    fill_identity(probe.identity);
    std::memcpy(padded.data(), &probe, offsetof(sp_probe, trailer));
    finish(padded);
    return padded.size();
}

std::size_t connection::write_init(std::span<std::byte> room) noexcept
{
    sp_init init{};
    fill_header(init.header, SP_INIT, 0);
    init.header.dcid = 0;
    fill_identity(init.identity);
    init.epoch = be32(cookie_epoch_);
    std::ranges::copy(cookie_, init.cookie);
    fill_params(init.params, proven_packet_);
    std::memcpy(room.data(), &init, sizeof init);
    finish(room.first(sizeof init));
    return sizeof init;
}

std::size_t connection::write_accept(std::span<std::byte> room) noexcept
{
    sp_accept accept{};
    fill_header(accept.header, SP_ACCEPT, 0);
    fill_identity(accept.identity);
    fill_params(accept.params, config_.packet_max);
    std::memcpy(room.data(), &accept, sizeof accept);
    finish(room.first(sizeof accept));
    return sizeof accept;
}

std::size_t connection::write_data(std::span<std::byte> room, const shipment &what,
                                   instant now) noexcept
{
    const bool sliced = what.total != 0;
    const std::size_t front = SP_HEADER_SIZE + (sliced ? SP_SLICE_SIZE : 0);
    const std::size_t size = front + what.contents.size() + SP_TRAILER_SIZE;
    SP_INVARIANT(size <= room.size());
    sp_header header;
    const bool question = std::exchange(ask_, false); // rides along
    if (question)
        out_.on_asked(now);
    fill_header(header, sliced ? SP_PART : SP_DATA, what.ask || question ? SP_ACK_NOW : 0);
    header.seq = be32(what.seq);
    std::memcpy(room.data(), &header, sizeof header);
    if (sliced) {
        const sp_slice slice{.offset = be16(what.offset), .total = be16(what.total)};
        std::memcpy(room.data() + SP_HEADER_SIZE, &slice, sizeof slice);
    }
    std::memcpy(room.data() + front, what.contents.data(), what.contents.size());
    finish(room.first(size));
    out_.on_sent(what, now);
    return size;
}

std::size_t connection::write_ack(std::span<std::byte> room, instant now) noexcept
{
    sp_header header;
    fill_header(header, SP_ACK, ask_ ? SP_ACK_NOW : 0);
    if (std::exchange(ask_, false))
        out_.on_asked(now);
    std::memcpy(room.data(), &header, sizeof header);
    std::size_t size = SP_OVERHEAD;
    if (in_.needs_wide()) {
        const auto bits = in_.wide();
        size +=
            write_record(room.subspan(SP_HEADER_SIZE), SP_RECORD_CTRL, SP_CODE_WIDE_SACK, bits, {});
    }
    finish(room.first(size));
    return size;
}

std::size_t connection::write_disconnect(std::span<std::byte> room) noexcept
{
    sp_header header;
    fill_header(header, SP_DISCONNECT, 0);
    std::memcpy(room.data(), &header, sizeof header);
    const auto why = be16(reason_);
    const auto bytes = std::as_bytes(std::span(&why, 1));
    const std::size_t size = SP_OVERHEAD + write_record(room.subspan(SP_HEADER_SIZE),
                                                        SP_RECORD_CTRL, SP_CODE_REASON, bytes, {});
    finish(room.first(size));
    return size;
}

std::size_t connection::transmit_size() noexcept
{
    if ((due_ & due_probe) != 0)
        return probe_size();
    if ((due_ & due_init) != 0)
        return sizeof(sp_init);
    if ((due_ & due_accept) != 0)
        return sizeof(sp_accept);
    if ((due_ & due_disconnect) != 0)
        return SP_OVERHEAD + record_space(sizeof(std::uint16_t));
    if (phase_ == phase::open)
        if (const auto what = out_.next())
            return SP_OVERHEAD + what->contents.size() + (what->total != 0 ? SP_SLICE_SIZE : 0);
    if ((due_ & due_ack) != 0)
        return SP_OVERHEAD + (in_.needs_wide() ? record_space(receiver::wide_bytes) : 0);
    return 0;
}

std::size_t connection::transmit(std::span<std::byte> room, instant now) noexcept
{
    const auto take = [this](due what) {
        const bool was_due = (due_ & what) != 0;
        due_ &= static_cast<std::uint8_t>(~what);
        return was_due;
    };
    if ((due_ & (due_probe | due_init | due_accept)) != 0)
        asked_at_ = now;
    if (take(due_probe))
        return write_probe(room);
    if (take(due_init))
        return write_init(room);
    if (take(due_accept))
        return write_accept(room);
    if (take(due_disconnect))
        return write_disconnect(room);
    if (phase_ == phase::open)
        if (const auto what = out_.next())
            return write_data(room, *what, now);
    if (take(due_ack))
        return write_ack(room, now);
    return 0;
}

} // namespace sp::link
