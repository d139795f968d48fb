// SPDX-License-Identifier: BSD-2-Clause
//
// One peer on this host with whom memory is shared: a ring each way, and who sleeps. Two of these
// are made by an introduction over unix datagrams (unixgram.hpp): each side makes its half, hands
// over the descriptors of it, and meets the other's. From then on messages take no system call but
// to wake who sleeps.
//
// A message goes as one record, or as several when it is over an eighth of the ring; parts come in
// order. A large one may go as a record that stands for memory of its own, whose descriptor goes
// another way (handover.hpp). What the peer wrote is checked by the ring's reader, and it can harm
// nobody else: a fault ends this connection.
#pragma once

#include "userspace/ring/doorbell.hpp"
#include "userspace/ring/record_ring.hpp"
#include "userspace/transport/handover.hpp"
#include "userspace/transport/hearing.hpp"
#include "userspace/transport/segment.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

namespace sp::transport {

class waiter;

// A message or a part of one, in the peer's memory: copy it first, then read it.
struct shared_part {
    std::span<const std::byte> payload;
    bool first, last;
    std::uint32_t at;          // bytes of the whole (first), or before this part
    lent_body *lent = nullptr; // set: its body, and the payload is the header of the pattern alone
};

class shared_peer {
public:
    // Our half: a segment, and a bell that `sleeper` watches. Nothing: the system has none to give.
    [[nodiscard]] static std::optional<shared_peer> make(std::size_t ring_bytes,
                                                         waiter &sleeper) noexcept;
    shared_peer(shared_peer &&) noexcept = default;
    shared_peer &operator=(shared_peer &&) = delete;
    ~shared_peer(); // tells the peer that nothing more comes

    // ---- introduction
    [[nodiscard]] int segment_fd() const noexcept { return ours_.fd(); }
    [[nodiscard]] int bell_fd() const noexcept { return bell_.get(); }
    // The other half. `bell` may be none: then it cannot be woken by one. False: it is not a
    // segment.
    [[nodiscard]] bool meet(const descriptor &segment, descriptor bell) noexcept;
    [[nodiscard]] bool met() const noexcept { return theirs_.has_value(); }
    // Before our half is handed over: the peer may have `credit` messages on the way that were not
    // consumed(); 0: as many as fit.
    void allow(std::uint32_t credit) noexcept;
    // Both sides know each other.
    void begin(std::uint32_t cookie, bool asleep) noexcept;
    [[nodiscard]] bool begun() const noexcept { return begun_; }
    [[nodiscard]] std::uint32_t cookie() const noexcept { return cookie_; }

    // ---- out
    // Puts as much of a message of head and body into the ring as there is room for, from byte
    // `from` of it on; up to where. Less than all: the ring is full.
    [[nodiscard]] std::size_t put(std::span<const std::byte> head, std::span<const std::byte> body,
                                  std::size_t from) noexcept;

    // The same of a message that goes as one record; false: it is too large, or has no room, and
    // nothing has changed.
    [[nodiscard]] bool put_whole(std::span<const std::byte> head,
                                 std::span<const std::byte> body) noexcept;
    // Puts a record for a body of so many bytes in memory of its own. `send(number)` sends the
    // descriptor, once there is room for the record, and says what came of it.
    template <class Send>
    [[nodiscard]] handing hand_over(std::span<const std::byte> head, std::size_t body_bytes,
                                    Send &&send) noexcept
    {
        if (takes_ == 0 || !takes_any())
            return handing::copy;
        full_ = boarding_ && !put_boarding();
        barred_ = false;
        if (full_)
            return handing::full;
        if (!may_hand_over() || !may_begin())
            return handing::full;
        const auto room = out_->reserve(sizeof(sp_lent) + head.size());
        full_ = !room;
        if (full_)
            return handing::full;
        if (const auto sent = send(lent_out_); sent != handing::done)
            return sent;
        put_lent(*room, head, body_bytes);
        return handing::done;
    }

    // Messages that were put and that the peer is not known to have read: it says so once in an
    // eighth of the ring, and before it sleeps.
    [[nodiscard]] std::uint64_t unread() const noexcept;

    // ---- broadcast rings (broadcast.hpp): ours, which it may hear, and its own
    // It has mapped ours, can be woken, and takes any number of messages.
    [[nodiscard]] bool listens() const noexcept;
    void board(const sp_boarding &b) noexcept; // what follows comes by ours
    void leave(std::uint64_t number) noexcept; // from this message on nothing is for it
    // How much of ours it has passed, as it says: between what it said before and what there is.
    [[nodiscard]] std::uint64_t heard(std::uint64_t before, std::uint64_t published) noexcept;
    // It holds us back: it is asked to wake us when it has passed more than this.
    void await(std::optional<std::uint64_t> passed) noexcept { awaited_ = passed; }
    [[nodiscard]] const std::uint64_t &sleep() const noexcept // the word; 0: it is awake
    {
        return theirs_->word(SP_SEGMENT_ASLEEP);
    }
    // About to sleep: it may be so long until we are noticed.
    [[nodiscard]] std::chrono::nanoseconds patience() const noexcept
    {
        return aboard() ? hearing_->patience() : std::chrono::nanoseconds(0);
    }
    // Its ring. False: it is not one.
    [[nodiscard]] bool hear(const descriptor &ring) noexcept;

    // ---- in
    // Shows parts to `use(const shared_part &)` until it says false, at most `n`; how many it took.
    // What it did not take is shown again after resume().
    template <class Use>
    std::size_t take(std::size_t n, Use &&use) noexcept
    {
        std::size_t taken = 0;
        if (boarding_)
            (void)put_boarding();
        for (; taken < n && !paused_ && !aboard(); ++taken) {
            const auto found = in_->peek();
            if (!found)
                break;
            if (found->what == ring::kind::control && on_boarding(found->payload))
                continue;
            shared_part part{.payload = found->payload,
                             .first = (found->what_for.flags & first) != 0,
                             .last = (found->what_for.flags & last) != 0,
                             .at = found->what_for.id};
            if (found->what != ring::kind::data && !see_lent(found->what, part))
                break;
            if (!use(part)) {
                in_->rewind();
                paused_ = true;
                break;
            }
            read_ += part.last;
            if (part.lent)
                took_lent();
            in_->release();
        }
        publish_read();
        return taken;
    }
    // The same of what comes by its broadcast ring, see hearing::take(). What comes next may be in
    // the other of the two.
    template <class Use>
    std::size_t take_heard(std::size_t n, Use &&use) noexcept
    {
        if (!aboard() || paused_)
            return 0;
        const auto taken = hearing_->take(n, theirs_->word(SP_SEGMENT_LEFT), use);
        paused_ = hearing_->paused();
        tell_heard(hearing_->owes(false));
        return taken;
    }
    [[nodiscard]] bool aboard() const noexcept { return hearing_ && hearing_->aboard(); }
    void resume() noexcept { paused_ = false; }
    // The same for one message that came as one record: looked at, and then accepted or put back.
    // Nothing: there is none, or take() has to see it.
    [[nodiscard]] bool waiting() const noexcept
    {
        return !paused_ && (aboard() ? hearing_->waiting() : in_->waiting());
    }
    [[nodiscard]] std::optional<std::span<const std::byte>> peek_whole() noexcept
    {
        if (aboard())
            return std::nullopt;
        const auto found = in_->peek();
        if (!found || found->what != ring::kind::data ||
            found->what_for.flags != (first | last) ||
            found->what_for.id != found->payload.size())
            return std::nullopt;
        return found->payload;
    }
    void put_back() noexcept { in_->rewind(); }
    void accept() noexcept
    {
        ++read_;
        in_->release();
        publish_read();
    }
    // The application has taken a message: with a credit, the peer may send one more.
    void consumed() noexcept;
    // Of a peer that was met: large messages may be handed over, either way.
    void take_lent() noexcept;
    // A descriptor has come for one. False: it was not expected.
    [[nodiscard]] bool on_lent(std::uint64_t number, descriptor fd) noexcept;
    // The ring waits for a descriptor. If the peer is honest it has been sent, so it is there when
    // all has been received that was sent before demand_lent().
    [[nodiscard]] bool lacks_lent() const noexcept { return lacks_lent_; }
    void demand_lent() noexcept { owes_lent_ = lacks_lent_; }
    void on_all_received() noexcept;
    // It wrote what no honest peer writes.
    [[nodiscard]] bool fault() const noexcept
    {
        return bad_ || in_->fault() || out_->fault() || (hearing_ && hearing_->fault());
    }
    // It said that nothing more comes; what is in its ring counts.
    [[nodiscard]] bool ended() const noexcept;

    // ---- sleep and bells
    // Something was put, read or allowed since the last call for which the peer may have to be
    // woken.
    [[nodiscard]] bool stirred() const noexcept
    {
        return begun_ && (put_ || freed_ || told_ != in_->told());
    }
    // True: it sleeps, and must be woken.
    [[nodiscard]] bool settle() noexcept
    {
        const bool freed = std::exchange(freed_, false) || told_ != in_->told();
        told_ = in_->told();
        const bool wake = ring::must_wake(theirs_->word(SP_SEGMENT_ASLEEP));
        const bool room =
            freed &&
            ring::hardware::load<std::memory_order_relaxed>(theirs_->word(SP_SEGMENT_WAITING)) != 0;
        const bool came = std::exchange(put_, false);
        return (came && wake) || room;
    }
    [[nodiscard]] bool has_bell() const noexcept { return static_cast<bool>(their_bell_); }
    // Rings its bell. False: it has none, and needs a datagram.
    [[nodiscard]] bool ring_bell() const noexcept;
    // About to sleep. After a full fence, worth_waking() tells whether something came meanwhile.
    void arm() noexcept;
    [[nodiscard]] bool worth_waking() noexcept;
    void disarm() noexcept;

private:
    static constexpr std::uint16_t first = 1, last = 2; // flags of a record

    shared_peer(own_segment ours, descriptor bell, waiter &sleeper) noexcept;

    [[nodiscard]] bool allowed() noexcept;
    [[nodiscard]] bool put_boarding() noexcept;
    [[nodiscard]] bool on_boarding(std::span<const std::byte> said) noexcept;
    void tell_heard(bool owed) noexcept
    {
        if (!owed)
            return;
        // Release: pairs with heard(). Our copies of what lies before are done.
        ring::hardware::store<std::memory_order_release>(ours_.word(SP_SEGMENT_HEARD),
                                                         hearing_->tell());
        freed_ = true;
    }
    [[nodiscard]] bool may_begin() noexcept
    {
        barred_ = !allowed();
        return !barred_;
    }
    [[nodiscard]] bool takes_any() const noexcept;
    [[nodiscard]] bool may_hand_over() noexcept;
    void put_lent(std::span<std::byte> room, std::span<const std::byte> head,
                  std::size_t body_bytes) noexcept;
    [[nodiscard]] bool see_lent(ring::kind what, shared_part &part) noexcept;
    void took_lent() noexcept;
    void publish_read() noexcept
    {
        if (in_->told() == published_)
            return;
        published_ = in_->told();
        ring::hardware::store<std::memory_order_relaxed>(ours_.word(SP_SEGMENT_READ), read_);
    }

    own_segment ours_;
    std::optional<peer_segment> theirs_;
    descriptor bell_, their_bell_;
    waiter *sleeper_;
    std::optional<ring::writer<>> out_;
    std::optional<ring::reader<>> in_;

    std::uint64_t sent_ = 0, limit_ = 0; // messages begun, and allowed by the peer
    std::uint64_t read_ = 0;             // whole messages, from the peer
    std::uint64_t published_ = 0;        // of the peer's ring, when it was last told how many
    std::uint64_t told_ = 0;             // of the peer's ring, when we last looked who waits
    std::uint64_t granted_ = 0;          // messages allowed to the peer; 0: any number
    std::uint64_t lent_out_ = 0;         // handed over
    std::uint64_t takes_ = 0;            // to be handed over by the peer, as it was told
    lent_bodies lent_in_;
    std::uint32_t cookie_ = 0;
    bool begun_ = false;
    bool put_ = false;        // records since settle()
    bool freed_ = false;      // the peer was allowed more since then
    bool full_ = false;       // the latest message did not fit
    bool barred_ = false;     // the peer allowed no more
    bool burdened_ = false;   // the peer takes no more that is handed over, for now
    bool lacks_lent_ = false; // what came next lacks its descriptor
    bool owes_lent_ = false;  // and it must be in the socket
    bool paused_ = false;     // what came next was not taken
    bool bad_ = false;

    std::unique_ptr<hearing> hearing_;     // of the peer's broadcast ring
    std::optional<sp_boarding> boarding_;  // it is to be told, and its ring was full
    std::optional<std::uint64_t> awaited_; // of ours: it holds us back
    std::uint64_t sleeps_ = 0;             // each has a number
};

} // namespace sp::transport
