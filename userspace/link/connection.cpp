// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/link/connection.hpp"

#include "userspace/invariant.hpp"
#include "userspace/link/packet.hpp"

#include <algorithm>

namespace sp::link {
namespace {

using namespace std::chrono_literals;

// The handshake is tried again after 20, 40, 80 ... ms; the caller bounds the whole. From the third
// PROBE on it is padded to 1280 bytes of IP packet only: every IPv6 path carries that, and a black
// hole for larger ones shows here.
constexpr auto handshake_retry = 20ms;
constexpr auto handshake_retry_max = 640ms;
constexpr int probes_at_full_size = 2;
constexpr std::uint16_t packet_safe = 1280 - 40;
constexpr int inits_per_cookie = 5;

// An ACK waits this long for data to ride on; nothing is sent again in this version, so nobody
// waits for it.
constexpr auto ack_delay = 25ms;
constexpr std::uint32_t ack_every = 8;

// After a RESET: two questions, 20 ms apart, then the peer is believed to have restarted.
constexpr auto reset_patience = 20ms;
constexpr std::uint64_t reset_recent = 1024;

// Our own loop was late by more than this: the peer's silence is not its fault.
constexpr auto stall = 10ms;

} // namespace

connection::connection(const connection_config &config) noexcept : config_(config)
{
    SP_INVARIANT(config.packet_max >= sizeof(sp_init));
    SP_INVARIANT(config.window > 0);
    granted_ = config.window;
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
    c.phase_ = phase::open;
    c.answered_ = true;
    c.peer_id_ = be64(init.identity.scid);
    c.peer_instance_ = be64(init.identity.instance);
    c.peer_message_max_ = be32(init.params.message_max);
    c.config_.packet_max = std::min(config.packet_max, be16(init.params.packet_max));
    c.limit_ = be32(init.header.limit);
    c.due_ = due_accept;
    c.watch_peer(now);
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
    case SP_ACK:
    case SP_DISCONNECT:
        break;
    default:
        return arrival::unexpected;
    }
    if (phase_ != phase::open)
        return arrival::unexpected;
    if (!seen_.accept(be64(header.pn)))
        return arrival::duplicate;
    watch_peer(now);
    if (!on_feedback(header)) {
        close(SP_REASON_PROTOCOL_ERROR);
        return arrival::malformed;
    }
    if (header.type == SP_DISCONNECT)
        return on_disconnect(packet);
    if ((header.flags & SP_ACK_NOW) != 0)
        due_ |= due_ack;
    if (header.type == SP_DATA)
        return on_data(header, now);
    if (before(expected_, be32(header.seq)))
        close(SP_REASON_LOST); // the tail of what the peer sent never came
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
    cookie_epoch_ = be32(answer.epoch);
    std::ranges::copy(answer.cookie, cookie_.begin());
    proven_packet_ = std::max<std::uint16_t>(length, sizeof(sp_init));
    phase_ = phase::opening;
    attempt_ = 0;
    due_ = due_init;
    retry_at_ = now + handshake_retry;
    return arrival::nothing;
}

arrival connection::on_accept(std::span<const std::byte> packet, instant now) noexcept
{
    if (phase_ == phase::open)
        return arrival::duplicate;
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
    limit_ = be32(answer.header.limit);
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
    end(static_cast<sp_reason>(be16(refusal.reason)));
    return arrival::nothing;
}

// Acknowledgement and credit are absolute: late or doubled packets do no harm. False: the peer
// invents things.
bool connection::on_feedback(const sp_header &header) noexcept
{
    const std::uint32_t ack = be32(header.ack);
    if (before(next_seq_, ack))
        return false;
    if (before(acked_, ack))
        acked_ = ack;
    if (const std::uint32_t limit = be32(header.limit); before(limit_, limit))
        limit_ = limit;
    return true;
}

arrival connection::on_data(const sp_header &header, instant now) noexcept
{
    const std::uint32_t seq = be32(header.seq);
    if (before(seq, expected_)) {
        due_ |= due_ack;
        return arrival::duplicate;
    }
    if (!before(seq, consumed_ + config_.window)) {
        close(SP_REASON_PROTOCOL_ERROR); // beyond the credit that was ever given
        return arrival::malformed;
    }
    if (seq != expected_) {
        close(SP_REASON_LOST);
        return arrival::nothing;
    }
    ++expected_;
    if (++unanswered_ >= ack_every)
        due_ |= due_ack;
    else if (ack_at_ == instant::max())
        ack_at_ = now + ack_delay;
    return arrival::records;
}

arrival connection::on_disconnect(std::span<const std::byte> packet) noexcept
{
    auto why = SP_REASON_SHUTTING_DOWN;
    record_reader records(packet);
    while (auto r = records.next())
        if (r->code == SP_CODE_REASON && r->payload.size() >= 2)
            why = static_cast<sp_reason>(be16(read<std::uint16_t>(r->payload)));
    closed_by_peer_ = true;
    end(why);
    return arrival::nothing;
}

void connection::on_init_again() noexcept
{
    if (phase_ == phase::open)
        due_ |= due_accept;
}

void connection::on_reset(std::uint64_t unknown_pn, instant now) noexcept
{
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

instant connection::next_deadline() const noexcept
{
    if (phase_ == phase::closed)
        return instant::max();
    if (phase_ != phase::open)
        return retry_at_;
    return std::min({ack_at_, ask_at_, silence_at_});
}

void connection::retry_handshake(instant now) noexcept
{
    ++attempt_;
    if (phase_ == phase::opening && attempt_ >= inits_per_cookie) {
        phase_ = phase::probing; // the cookie may have grown too old
        attempt_ = probes_at_full_size;
    }
    due_ |= phase_ == phase::probing ? due_probe : due_init;
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
    const auto late = now - next_deadline();
    if (late > stall) { // our own pause: give the peer the time we did not listen
        ask_at_ += late;
        silence_at_ += late;
    }
    if (now >= ack_at_)
        due_ |= due_ack;
    if (now >= silence_at_) {
        close(suspect_ ? SP_REASON_STALE : SP_REASON_DEAD);
        return;
    }
    if (now >= ask_at_) {
        ask_ = true;
        due_ |= due_ack;
        ask_at_ = now + config_.keepalive_interval;
    }
}

void connection::consumed(std::uint32_t n, instant now) noexcept
{
    consumed_ += n;
    SP_INVARIANT(!before(expected_, consumed_));
    const std::uint32_t news = consumed_ + config_.window - granted_;
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

std::size_t connection::message_packet_size(std::size_t message) noexcept
{
    return SP_OVERHEAD + record_space(message);
}

std::size_t connection::message_capacity() const noexcept
{
    return std::min<std::size_t>(
        {message_space(config_.packet_max), config_.message_max, peer_message_max_});
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
    header.pn = be64(next_pn_++);
    header.seq = be32(next_seq_);
    header.ack = be32(expected_);
    granted_ = consumed_ + config_.window;
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

std::size_t connection::write_message(std::span<std::byte> room, std::span<const std::byte> head,
                                      std::span<const std::byte> body) noexcept
{
    SP_INVARIANT(send_ready());
    const std::size_t size = message_packet_size(head.size() + body.size());
    SP_INVARIANT(size <= room.size());
    sp_header header;
    fill_header(header, SP_DATA, 0);
    ++next_seq_;
    std::memcpy(room.data(), &header, sizeof header);
    write_record(room.subspan(SP_HEADER_SIZE), SP_RECORD_FIRST | SP_RECORD_LAST, SP_CODE_NONE, head,
                 body);
    finish(room.first(size));
    return size;
}

std::size_t connection::write_probe(std::span<std::byte> room) noexcept
{
    const std::size_t size = attempt_ < probes_at_full_size
                                 ? config_.packet_max
                                 : std::min(config_.packet_max, packet_safe);
    const auto padded = room.first(std::max<std::size_t>(size, sizeof(sp_probe)));
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
    init.params.message_max = be32(config_.message_max);
    init.params.packet_max = be16(proven_packet_);
    std::memcpy(room.data(), &init, sizeof init);
    finish(room.first(sizeof init));
    return sizeof init;
}

std::size_t connection::write_accept(std::span<std::byte> room) noexcept
{
    sp_accept accept{};
    fill_header(accept.header, SP_ACCEPT, 0);
    fill_identity(accept.identity);
    accept.params.message_max = be32(config_.message_max);
    accept.params.packet_max = be16(config_.packet_max);
    std::memcpy(room.data(), &accept, sizeof accept);
    finish(room.first(sizeof accept));
    return sizeof accept;
}

std::size_t connection::write_ack(std::span<std::byte> room) noexcept
{
    sp_header header;
    fill_header(header, SP_ACK, ask_ ? SP_ACK_NOW : 0);
    ask_ = false;
    std::memcpy(room.data(), &header, sizeof header);
    finish(room.first(SP_OVERHEAD));
    return SP_OVERHEAD;
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

std::size_t connection::transmit(std::span<std::byte> room) noexcept
{
    const auto take = [this](due what) {
        const bool was_due = (due_ & what) != 0;
        due_ &= static_cast<std::uint8_t>(~what);
        return was_due;
    };
    if (take(due_probe))
        return write_probe(room);
    if (take(due_init))
        return write_init(room);
    if (take(due_accept))
        return write_accept(room);
    if (take(due_disconnect))
        return write_disconnect(room);
    if (take(due_ack))
        return write_ack(room);
    return 0;
}

} // namespace sp::link
