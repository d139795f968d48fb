// SPDX-License-Identifier: BSD-2-Clause
//
// The broadcast ring of a publisher that may be a stranger. Without a scribble the listener gets
// whole messages in order, and taken, filtered and lost are all that were published; with one it
// gets something valid or a fault that stays.
#include "tests/fuzz/target.hpp"
#include "userspace/ring/broadcast_ring.hpp"

#include <memory>
#include <new>

namespace sp::fuzz {
namespace {

using namespace ring;

mark beside{"a payload in the data ring"}, overrun{"a reader that was overrun"},
    filtered{"a topic that nobody wants"}, fault{"a fault of the publisher"},
    forged{"a forged message that is valid"}, overwritten{"a payload that was overwritten"};

constexpr std::size_t slot_count = 16, data_bytes = 512; // eight lines

struct block {
    struct deleter {
        void operator()(std::byte *p) const { ::operator delete[](p, std::align_val_t{64}); }
    };
    using area = std::unique_ptr<std::byte[], deleter>;
    area slots{new (std::align_val_t{64}) std::byte[slot_count * slot_bytes]{}};
    area data{new (std::align_val_t{64}) std::byte[data_bytes]{}};
    std::uint64_t oldest = 0, published = 0;

    template <class Memory>
    [[nodiscard]] Memory as()
    {
        return {.slots = {slots.get(), slot_count * slot_bytes},
                .data = {data.get(), data_bytes},
                .oldest = &oldest,
                .published = &published};
    }
};

std::byte content(std::uint64_t number, std::size_t i)
{
    return static_cast<std::byte>(number * 31 + i);
}

class scene {
public:
    explicit scene(fuzz::reader &in)
        : in_(in), publisher_(memory_.as<published_memory>()),
          listener_(memory_.as<subscribed_memory>())
    {
    }

    void play()
    {
        for (int steps = 0; steps < 300 && !in_.empty(); ++steps)
            step(in_.byte());
        if (scribbled_)
            return;
        while (listen(0xff)) {
        }
        must(!listener_.fault(), "an honest publisher is at no fault");
        must(listener_.position() == publisher_.published(), "a listener comes to the end");
    }

private:
    void step(std::uint8_t op)
    {
        switch (op % 4) {
        case 0:
            return publish(op / 4);
        case 1:
            return publish(publisher_.payload_max());
        case 2:
            (void)listen(op >= 128 ? std::uint8_t{0xff} : in_.byte());
            return;
        default:
            scribbled_ = true;
            scribble(op);
        }
    }

    void publish(std::size_t size)
    {
        const auto n = publisher_.published();
        std::vector<std::byte> payload(size);
        for (std::size_t i = 0; i < size; ++i)
            payload[i] = content(n, i);
        publisher_.publish(static_cast<std::uint32_t>(n), payload);
        if (size > slot_inline)
            beside();
    }

    void scribble(std::uint8_t op)
    {
        auto *slot = memory_.as<published_memory>().slot(listener_.position());
        const auto value = in_.take<std::uint32_t>();
        switch (op / 4 % 4) {
        case 0: // the slot to be read next: something that may be valid
            word_at(slot + 8) = value & 0x7f;
            word_at(slot + 16) = value >> 7 & ~63u;
            word_at(slot) = listener_.position() + 1;
            return;
        case 1:
            word_at(slot) = listener_.position() + 1 + (value & 0xff) * slot_count;
            return;
        case 2:
            (value & 1 ? memory_.oldest : memory_.published) = value >> 1;
            return;
        default:
            word_at(memory_.slots.get() + value % (slot_count * slot_bytes / 8) * 8) =
                in_.take<std::uint64_t>();
        }
    }

    // A message whose topic has no bit outside `mask`.
    bool listen(std::uint8_t mask)
    {
        std::vector<std::byte> room(listener_.payload_max());
        const bool was_faulty = listener_.fault();
        const auto before = listener_.position(), lost = listener_.lost(),
                   passed = listener_.filtered();
        const auto got =
            listener_.next(room, [&](const auto &seen) { return (seen.tag & ~mask & 0xff) == 0; });
        must(listener_.position() >= before, "a listener never goes back");
        must(listener_.position() - before ==
                 listener_.lost() - lost + listener_.filtered() - passed + (got ? 1 : 0),
             "taken, filtered and lost are all");
        if (listener_.lost() - lost >= slot_count / 8)
            overrun();
        if (listener_.lost() > lost && publisher_.published() <= slot_count)
            overwritten();
        if (listener_.filtered() > passed)
            filtered();
        if (listener_.fault())
            fault();
        must(!got || !was_faulty, "a listener that has stopped stays so");
        if (!got)
            return false;
        must(got->size <= listener_.payload_max(), "no message is longer than the limit");
        must(got->number + 1 == listener_.position(), "a message has its number");
        if (scribbled_) {
            forged();
            return true;
        }
        must(got->tag == static_cast<std::uint32_t>(got->number), "a message has its topic");
        for (std::size_t i = 0; i < got->size; ++i)
            must(room[i] == content(got->number, i), "a message comes as it was published");
        return true;
    }

    fuzz::reader &in_;
    block memory_;
    ring::publisher<> publisher_;
    ring::listener<> listener_;
    bool scribbled_ = false;
};

void run(bytes input)
{
    fuzz::reader in(input);
    scene(in).play();
}

const registration here("shm_broadcast", run,
                        {&beside, &overrun, &filtered, &fault, &forged, &overwritten});

} // namespace
} // namespace sp::fuzz
