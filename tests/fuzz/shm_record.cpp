// SPDX-License-Identifier: BSD-2-Clause
//
// The record ring, whose other end is a stranger's. As long as nobody scribbles, an input is a list
// of sends and receives and the ring is a queue. From the first scribble on, whatever stands in the
// ring or in the word of progress, each end gives something valid or a fault that stays.
#include "tests/fuzz/target.hpp"
#include "userspace/ring/record_ring.hpp"

#include <deque>
#include <memory>
#include <new>

namespace sp::fuzz {
namespace {

using namespace ring;

mark wrapped{"a record behind the end of the ring"}, full{"a full ring"}, in_place{"a loan"},
    long_record{"the longest record"}, reader_fault{"a fault of the writer"},
    writer_fault{"a fault of the reader"}, forged{"a forged record that is valid"};

constexpr std::size_t ring_bytes = 1024;

struct block {
    struct deleter {
        void operator()(std::byte *p) const { ::operator delete[](p, std::align_val_t{64}); }
    };
    std::unique_ptr<std::byte[], deleter> owned{new (std::align_val_t{64}) std::byte[ring_bytes]{}};
    std::uint64_t progress = 0;

    [[nodiscard]] std::span<std::byte> ring() const { return {owned.get(), ring_bytes}; }
};

class scene {
public:
    explicit scene(fuzz::reader &in)
        : in_(in), start_(in.byte() % 32 * record_alignment),
          writer_(memory_.ring(), memory_.progress, start_),
          reader_(memory_.ring(), memory_.progress, start_)
    {
        memory_.progress = start_;
    }

    void play()
    {
        for (int steps = 0; steps < 200 && !in_.empty(); ++steps)
            step(in_.byte());
        if (scribbled_)
            return;
        while (!sent_.empty())
            receive();
        must(!reader_.peek() && !reader_.fault() && !writer_.fault(), "an honest ring ends empty");
        reader_.release();
        reader_.tell();
        must(writer_.drained(), "and its writer knows");
    }

private:
    void step(std::uint8_t op)
    {
        switch (op % 8) {
        case 0:
        case 1:
            return send(in_.byte() % (writer_.payload_max() + 1), op);
        case 2:
            return send(writer_.payload_max(), op);
        case 3:
        case 4:
            return receive();
        case 5:
            return reader_.tell();
        case 6: { // a word of the ring, anything or nearly a record
            scribbled_ = true;
            auto value = in_.take<std::uint64_t>();
            auto at = in_.byte() * std::size_t{8} % ring_bytes;
            if (op >= 128) {
                at = static_cast<std::size_t>(reader_.position() % ring_bytes);
                value = pack(value & 0xff, static_cast<kind>(value >> 8 & 7), reader_.position()) ^
                        (value >> 16);
            }
            word_at(memory_.ring().data() + at) = value;
            return;
        }
        default:
            scribbled_ = true;
            memory_.progress =
                op >= 128 ? in_.take<std::uint64_t>() : start_ + in_.byte() * record_alignment;
        }
    }

    void send(std::size_t size, std::uint8_t op)
    {
        std::vector<std::byte> message(size, static_cast<std::byte>(number_));
        const tag what_for{.id = number_, .flags = op, .pipe = 3};
        const auto before = writer_.position();
        const bool was_faulty = writer_.fault();
        bool sent = false;
        if ((op & 64) != 0) {
            if (const auto room = writer_.reserve(size)) {
                must(room->size() == size, "a loan has the size that was asked for");
                const auto begin = room->data() - memory_.ring().data();
                must(begin >= 0 && static_cast<std::size_t>(begin) + size <= ring_bytes,
                     "a loan lies in the ring");
                std::ranges::copy(message, room->begin());
                writer_.submit(size, what_for);
                sent = true;
                in_place();
            }
        } else {
            sent = writer_.send({.what_for = what_for, .payload = message});
        }
        must(!sent || !was_faulty, "a writer that has stopped stays so");
        must(sent || writer_.position() - before < ring_bytes / records_share,
             "what was not sent takes no room but a pad's");
        if (writer_.fault())
            writer_fault();
        if (!sent)
            return full();
        if (size == writer_.payload_max())
            long_record();
        if (writer_.position() / ring_bytes != before / ring_bytes)
            wrapped();
        sent_.push_back(std::move(message));
        ++number_;
    }

    void receive()
    {
        std::vector<std::byte> room(reader_.payload_max());
        const bool was_faulty = reader_.fault();
        const auto before = reader_.position();
        const auto got = reader_.receive(room);
        if (reader_.fault())
            reader_fault();
        must(!got || !was_faulty, "a reader that has stopped stays so");
        must(reader_.position() - before <= 2 * ring_bytes / records_share,
             "one record, and a pad, are read at a time");
        if (!got)
            return must(scribbled_ || sent_.empty(), "what was sent comes");
        must(got->size <= room.size(), "no record is longer than an eighth");
        if (scribbled_)
            return forged();
        must(!sent_.empty(), "nothing comes that was not sent");
        must(got->what_for.id == number_ - sent_.size() && got->what_for.pipe == 3,
             "records come in order, with their tags");
        must(std::ranges::equal(sent_.front(), std::span(room).first(got->size)),
             "records come as they were sent");
        sent_.pop_front();
    }

    fuzz::reader &in_;
    block memory_;
    std::uint64_t start_;
    ring::writer<> writer_;
    ring::reader<> reader_;
    std::deque<std::vector<std::byte>> sent_; // and not received
    std::uint32_t number_ = 0;
    bool scribbled_ = false;
};

void run(bytes input)
{
    fuzz::reader in(input);
    scene(in).play();
}

const registration here("shm_record", run,
                        {&wrapped, &full, &in_place, &long_record, &reader_fault, &writer_fault,
                         &forged});

} // namespace
} // namespace sp::fuzz
