// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/transport/shared_peer.hpp"

#include "userspace/transport/waiter.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <string_view>
#include <sys/eventfd.h>

namespace sp::transport {
namespace {

using ring::hardware;

constexpr std::uint64_t any_number = ~std::uint64_t{0};

// A peer of our own user may hand over anything and call it a bell: writing to it must not block.
[[nodiscard]] bool is_bell(int fd) noexcept
{
    std::array<char, 64> text{};
    const auto path = "/proc/self/fd/" + std::to_string(fd);
    const auto n = ::readlink(path.c_str(), text.data(), text.size());
    return n > 0 &&
           std::string_view(text.data(), static_cast<std::size_t>(n)) == "anon_inode:[eventfd]";
}

} // namespace

std::optional<shared_peer> shared_peer::make(std::size_t ring_bytes, waiter &sleeper) noexcept
{
    auto ours = own_segment::make(ring_bytes);
    descriptor bell(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!ours || !bell || !sleeper.add_bell(bell.get()))
        return std::nullopt;
    return shared_peer(std::move(*ours), std::move(bell), sleeper);
}

shared_peer::shared_peer(own_segment ours, descriptor bell, waiter &sleeper) noexcept
    : ours_(std::move(ours)), bell_(std::move(bell)), sleeper_(&sleeper)
{
}

shared_peer::~shared_peer()
{
    if (!bell_)
        return;                    // moved from
    sleeper_->remove(bell_.get()); // the peer may hold it open for longer than we
    if (!theirs_)
        return;
    // Release: pairs with ended(). The records before it are there for whoever sees it.
    hardware::store<std::memory_order_release>(ours_.word(SP_SEGMENT_CLOSED), 1);
    (void)ring_bell();
}

// ---- introduction ----

bool shared_peer::meet(const descriptor &segment, descriptor bell) noexcept
{
    theirs_ = peer_segment::map(segment);
    if (!theirs_)
        return false;
    if (bell && is_bell(bell.get()) && ::fcntl(bell.get(), F_SETFL, O_NONBLOCK) == 0)
        their_bell_ = std::move(bell);
    out_.emplace(ours_.ring(), theirs_->word(SP_SEGMENT_PROGRESS));
    in_.emplace(theirs_->ring(), ours_.word(SP_SEGMENT_PROGRESS));
    return true;
}

void shared_peer::allow(std::uint32_t credit) noexcept
{
    granted_ = credit;
    hardware::store<std::memory_order_release>(ours_.word(SP_SEGMENT_LIMIT),
                                               credit == 0 ? any_number : credit);
}

void shared_peer::begin(std::uint32_t cookie, bool asleep) noexcept
{
    cookie_ = cookie;
    begun_ = true;
    ours_.forget_descriptor();
    if (asleep)
        arm();
}

void shared_peer::consumed() noexcept
{
    if (granted_ == 0)
        return;
    // Release: pairs with allowed(). What was taken is out of our hands.
    hardware::store<std::memory_order_release>(ours_.word(SP_SEGMENT_LIMIT), ++granted_);
    freed_ = true;
}

// ---- out ----

bool shared_peer::allowed() noexcept
{
    if (sent_ < limit_)
        return true;
    limit_ = hardware::load<std::memory_order_acquire>(theirs_->word(SP_SEGMENT_LIMIT));
    return sent_ < limit_;
}

bool shared_peer::put_whole(std::span<const std::byte> head,
                            std::span<const std::byte> body) noexcept
{
    const auto whole = head.size() + body.size();
    if (whole > out_->payload_max() || boarding_ || !allowed())
        return false;
    const auto room = out_->reserve(whole);
    if (!room)
        return false;
    hardware::write(room->data(), head.data(), head.size());
    hardware::write(room->data() + head.size(), body.data(), body.size());
    ++sent_;
    out_->submit(whole, {.id = static_cast<std::uint32_t>(whole), .flags = first | last});
    put_ = true;
    full_ = barred_ = burdened_ = false;
    return true;
}

std::size_t shared_peer::put(std::span<const std::byte> head, std::span<const std::byte> body,
                             std::size_t from) noexcept
{
    const auto whole = head.size() + body.size();
    full_ = boarding_ && !put_boarding();
    if (full_)
        return from;
    burdened_ = false;
    barred_ = from == 0 && !allowed();
    if (barred_)
        return 0;
    do {
        const auto n = std::min(whole - from, out_->payload_max());
        const auto room = out_->reserve(n);
        if (!room) {
            full_ = true;
            return from;
        }
        const auto of_head = from < head.size() ? std::min(head.size() - from, n) : 0;
        hardware::write(room->data(), head.data() + from, of_head);
        if (of_head < n)
            hardware::write(room->data() + of_head, body.data() + (from + of_head - head.size()),
                            n - of_head);
        if (from == 0)
            ++sent_;
        out_->submit(n, {.id = static_cast<std::uint32_t>(from == 0 ? whole : from),
                         .flags = static_cast<std::uint16_t>((from == 0 ? first : 0) |
                                                             (from + n == whole ? last : 0))});
        put_ = true;
        from += n;
    } while (from < whole);
    return whole;
}

// More than was sent is a lie, and then nothing was read.
std::uint64_t shared_peer::unread() const noexcept
{
    const auto read = hardware::load<std::memory_order_relaxed>(theirs_->word(SP_SEGMENT_READ));
    return read <= sent_ ? sent_ - read : sent_;
}

// ---- broadcast rings ----

// Whoever counts what it allows would have to count these too.
bool shared_peer::listens() const noexcept
{
    const auto says = [&](std::size_t word) {
        return hardware::load<std::memory_order_acquire>(theirs_->word(word));
    };
    return their_bell_ && says(SP_SEGMENT_LISTENS) != 0 && says(SP_SEGMENT_LIMIT) == any_number;
}

bool shared_peer::hear(const descriptor &ring) noexcept
{
    hearing_ = hearing::map(ring);
    if (hearing_)
        hardware::store<std::memory_order_release>(ours_.word(SP_SEGMENT_LISTENS), 1);
    return hearing_ != nullptr;
}

void shared_peer::board(const sp_boarding &b) noexcept
{
    boarding_ = b;
    (void)put_boarding();
}

bool shared_peer::put_boarding() noexcept
{
    if (!out_->send(
            {.payload = std::as_bytes(std::span(&*boarding_, 1)), .what = ring::kind::control})) {
        full_ = true;
        return false;
    }
    boarding_.reset();
    put_ = true;
    full_ = false;
    return true;
}

bool shared_peer::on_boarding(std::span<const std::byte> said) noexcept
{
    sp_boarding b;
    if (!hearing_ || said.size() != sizeof b)
        return false;
    hardware::read(reinterpret_cast<std::byte *>(&b), said.data(), sizeof b);
    in_->release();
    return hearing_->board(b);
}

void shared_peer::leave(std::uint64_t number) noexcept
{
    // Before anything that is published later: whoever sees that has seen this.
    hardware::store<std::memory_order_relaxed>(ours_.word(SP_SEGMENT_LEFT), number + 1);
}

std::uint64_t shared_peer::heard(std::uint64_t before, std::uint64_t published) noexcept
{
    // Acquire: pairs with tell_heard().
    const auto said = hardware::load<std::memory_order_acquire>(theirs_->word(SP_SEGMENT_HEARD));
    if (said >= before && said <= published)
        return said;
    bad_ = true;
    return before;
}

// ---- in ----

bool shared_peer::ended() const noexcept
{
    return hardware::load<std::memory_order_acquire>(theirs_->word(SP_SEGMENT_CLOSED)) != 0;
}

// ---- large messages in memory of their own ----

bool shared_peer::takes_any() const noexcept
{
    return hardware::load<std::memory_order_relaxed>(theirs_->word(SP_SEGMENT_TAKES)) != 0;
}

bool shared_peer::may_hand_over() noexcept
{
    // Acquire: pairs with took_lent(). It has received what it says it has taken.
    const auto takes = hardware::load<std::memory_order_acquire>(theirs_->word(SP_SEGMENT_TAKES));
    if (takes - lent_out_ > lent_max)
        bad_ = true;
    burdened_ = takes == lent_out_;
    return !bad_ && !burdened_;
}

void shared_peer::put_lent(std::span<std::byte> room, std::span<const std::byte> head,
                           std::size_t body_bytes) noexcept
{
    const sp_lent what{.number = lent_out_, .size = body_bytes};
    hardware::write(room.data(), reinterpret_cast<const std::byte *>(&what), sizeof what);
    hardware::write(room.data() + sizeof what, head.data(), head.size());
    out_->submit(
        sizeof what + head.size(),
        {.id = static_cast<std::uint32_t>(head.size() + body_bytes), .flags = first | last},
        ring::kind::descriptor);
    ++lent_out_;
    ++sent_;
    put_ = true;
}

void shared_peer::take_lent() noexcept
{
    takes_ = lent_max;
    hardware::store<std::memory_order_release>(ours_.word(SP_SEGMENT_TAKES), takes_);
}

bool shared_peer::on_lent(std::uint64_t number, descriptor fd) noexcept
{
    if (takes_ != 0 && lent_in_.add(number, std::move(fd)))
        return true;
    bad_ = true;
    return false;
}

// A record that is no data: the body that belongs to it, or false.
bool shared_peer::see_lent(ring::kind what, shared_part &part) noexcept
{
    sp_lent said;
    if (what != ring::kind::descriptor || takes_ == 0 || !part.first || !part.last ||
        part.payload.size() < sizeof said || part.payload.size() > sizeof said + lent_header_max) {
        bad_ = true;
        return false;
    }
    hardware::read(reinterpret_cast<std::byte *>(&said), part.payload.data(), sizeof said);
    part.payload = part.payload.subspan(sizeof said);
    part.lent = lent_in_.front();
    lacks_lent_ = !part.lent;
    if (lacks_lent_) {
        in_->rewind();
        return false;
    }
    owes_lent_ = false;
    bad_ = part.lent->number() != said.number || !part.lent->is_sound(said.size);
    return !bad_;
}

void shared_peer::took_lent() noexcept
{
    lent_in_.pop();
    // Release: pairs with may_hand_over(). One more may be on the way.
    hardware::store<std::memory_order_release>(ours_.word(SP_SEGMENT_TAKES), ++takes_);
    freed_ = true;
}

// The descriptor is sent before the record is written.
void shared_peer::on_all_received() noexcept
{
    bad_ = bad_ || (std::exchange(owes_lent_, false) && !lent_in_.front());
}

// ---- sleep and bells ----

bool shared_peer::ring_bell() const noexcept
{
    const std::uint64_t one = 1;
    if (!their_bell_)
        return false;
    (void)!::write(their_bell_.get(), &one, sizeof one); // full: it has been rung often enough
    return true;
}

void shared_peer::arm() noexcept
{
    in_->tell();
    publish_read();
    if (hearing_)
        tell_heard(hearing_->owes(true));
    if (!paused_)
        hardware::store<std::memory_order_relaxed>(ours_.word(SP_SEGMENT_ASLEEP), ++sleeps_);
    if (full_ || barred_ || burdened_ || awaited_)
        hardware::store<std::memory_order_relaxed>(ours_.word(SP_SEGMENT_WAITING), 1);
}

bool shared_peer::worth_waking() noexcept
{
    return waiting() || (full_ && out_->progressed()) || (barred_ && allowed()) ||
           (burdened_ && may_hand_over()) ||
           (awaited_ && heard(0, ~std::uint64_t{0}) != *awaited_) || ended();
}

void shared_peer::disarm() noexcept
{
    hardware::store<std::memory_order_relaxed>(ours_.word(SP_SEGMENT_ASLEEP), 0);
    hardware::store<std::memory_order_relaxed>(ours_.word(SP_SEGMENT_WAITING), 0);
}

} // namespace sp::transport
