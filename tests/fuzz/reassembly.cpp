// SPDX-License-Identifier: BSD-2-Clause
//
// The receiving half of a connection alone: contents of packets that come early, late, doubled, in
// slices, beyond the credit or contradicting each other. A model keeps what each number may hold;
// what is handed on is in order, complete, and the contents that came first or were put together
// from slices. Acknowledgements name exactly what is there.
#include "tests/fuzz/target.hpp"
#include "userspace/link/packet.hpp"
#include "userspace/link/receiver.hpp"

#include <map>
#include <optional>

namespace sp::fuzz {
namespace {

using link::before;
using link::receiver;
using placed = receiver::placed;

mark early{"a packet that comes early"}, gap_filled{"a gap that is filled"},
    doubled{"a packet that comes twice"}, beyond{"a packet beyond the credit"},
    sliced{"contents put together from slices"}, contradiction{"slices that contradict each other"},
    mixed{"contents that come whole after slices of them"}, kept{"contents that are kept"},
    wide{"more than 32 packets ahead"}, wrapped{"numbers that wrap"},
    in_steps{"a front taken in steps"};

// Contents of packet `seq`: 4 to 64 bytes that name it.
std::vector<std::byte> contents_of(std::uint32_t seq)
{
    std::vector<std::byte> all(4 + seq % 16 * 4);
    for (std::size_t i = 0; i < all.size(); ++i)
        all[i] = static_cast<std::byte>(seq * 7 + i);
    return all;
}

class scene {
public:
    explicit scene(reader &in)
        : in_(in), window_(window_of(in.byte())),
          first_(in.byte() % 2 == 0 ? 0 : std::uint32_t{0} - 20), receiver_(first_, window_),
          next_(first_), taken_(first_), consumed_(first_)
    {
    }

    void play()
    {
        for (int steps = 0; steps < 400 && !in_.empty(); ++steps) {
            step(in_.byte());
            check();
        }
    }

private:
    static std::uint16_t window_of(std::uint8_t choice)
    {
        constexpr std::uint16_t windows[]{1, 2, 3, 8, 32, 100, 255, 256};
        return windows[choice % std::size(windows)];
    }

    void step(std::uint8_t op)
    {
        switch (op % 8) {
        case 0:
        case 1:
            return place(next_);
        case 2:
            return place(next_ + in_.byte());
        case 3:
            return place(next_ - in_.byte() % 8);
        case 4:
            return slice(next_ + in_.byte() % 4, op >= 128);
        case 5:
            return take(op / 8);
        case 6:
            return consume();
        default:
            return op >= 128 ? place(in_.take<std::uint32_t>()) : shrink();
        }
    }

    // Slices of what is not complete may go: all of it is sent again.
    void shrink()
    {
        receiver_.shrink();
        if (here_.empty() && taken_ == next_)
            pieces_.clear();
    }

    [[nodiscard]] bool in_window(std::uint32_t seq) const
    {
        return !before(seq, next_) && before(seq, consumed_ + window_);
    }

    // What must be said of something that completes `seq`.
    void expect(placed what, std::uint32_t seq)
    {
        here_[seq] = true;
        const bool was_gap = here_.size() > 1;
        const bool turn = seq == next_;
        while (here_.contains(next_)) {
            here_.erase(next_);
            ++next_;
            if (next_ == 0)
                wrapped();
        }
        must(what == (turn ? placed::ready : placed::early), "what comes in its turn is ready");
        if (turn && was_gap)
            gap_filled();
        if (!turn)
            early();
    }

    void place(std::uint32_t seq)
    {
        const auto contents = contents_of(seq);
        const bool had_slices = pieces_.contains(seq);
        const auto what = receiver_.place(seq, contents);
        if (before(seq, next_) || (in_window(seq) && here_.contains(seq))) {
            must(what == placed::duplicate, "what was here before is a duplicate");
            doubled();
        } else if (!in_window(seq)) {
            must(what == placed::beyond, "what no credit was given for is refused");
            beyond();
        } else {
            pieces_.erase(seq);
            if (had_slices)
                mixed();
            expect(what, seq);
        }
        after();
    }

    void slice(std::uint32_t seq, bool lies)
    {
        const auto contents = contents_of(seq);
        auto total = contents.size();
        auto offset = in_.byte() % 16 * std::size_t{4};
        auto length = in_.byte() % 16 * std::size_t{4};
        if (lies) { // anything
            total = in_.take<std::uint16_t>() % 2000;
            offset = in_.take<std::uint16_t>() % 2000;
            length = in_.byte();
        }
        std::vector<std::byte> bytes_of_slice(length, std::byte{0x11});
        const bool fits = length > 0 && offset % 4 == 0 && length % 4 == 0 && total % 4 == 0 &&
                          offset <= total && length <= total - offset;
        if (total == contents.size() && fits)
            std::ranges::copy(std::span(contents).subspan(offset, length), bytes_of_slice.begin());
        const auto what = receiver_.place_slice(seq, offset, total, bytes_of_slice);
        if (before(seq, next_)) {
            must(what == placed::duplicate, "a slice of what was here is a duplicate");
        } else if (!in_window(seq)) {
            must(what == placed::beyond, "a slice that no credit was given for is refused");
        } else if (!fits) {
            must(what == placed::malformed, "a slice that does not fit is malformed");
        } else if (here_.contains(seq)) {
            must(what == placed::duplicate, "a slice of what is here is a duplicate");
        } else if (const auto known = pieces_.find(seq);
                   known != pieces_.end() && known->second.size() != total / 4) {
            must(what == placed::malformed, "two lengths of the same contents are malformed");
            contradiction();
        } else {
            add(seq, offset / 4, length / 4, total / 4, what);
        }
        after();
    }

    void add(std::uint32_t seq, std::size_t from, std::size_t n, std::size_t total, placed what)
    {
        auto &have = pieces_[seq];
        have.resize(total);
        bool news = false;
        for (auto i = from; i < from + n; ++i) {
            news = news || !have[i];
            have[i] = true;
        }
        if (std::ranges::find(have, false) != have.end()) {
            must(what == (news ? placed::partial : placed::duplicate), "a slice is partial");
            return;
        }
        if (total * 4 != contents_of(seq).size())
            forged_[seq] = total * 4;
        pieces_.erase(seq);
        sliced();
        expect(what, seq);
    }

    // The owner lets the packet's memory go.
    void after()
    {
        if (taken_ != next_)
            kept();
        if (op_takes_at_once())
            take(255);
        receiver_.keep();
    }
    [[nodiscard]] bool op_takes_at_once() { return in_.byte() % 2 == 0; }

    void take(std::size_t at_most)
    {
        for (std::size_t n = 0; n < at_most; ++n) {
            const auto front = receiver_.front();
            must(front.has_value() == (taken_ != next_), "what has come in order is there");
            if (!front)
                return;
            const auto forged = forged_.find(taken_);
            const auto expected = contents_of(taken_);
            if (forged != forged_.end()) {
                must(front->size() == forged->second - stepped_, "contents have their length");
            } else {
                must(std::ranges::equal(*front, std::span(expected).subspan(stepped_)),
                     "contents come as they were sent");
            }
            if (n % 3 == 1 && stepped_ == 0) { // a part of them only
                receiver_.took(4);
                stepped_ = 4;
                in_steps();
                return;
            }
            receiver_.finished();
            forged_.erase(taken_);
            stepped_ = 0;
            ++taken_;
        }
    }

    void consume()
    {
        const auto n = in_.byte() % (taken_ - consumed_ + 1);
        receiver_.consumed(static_cast<std::uint32_t>(n));
        consumed_ += static_cast<std::uint32_t>(n);
    }

    void check()
    {
        must(receiver_.expected() == next_, "the next number is the first that has not come");
        must(receiver_.limit() == consumed_ + window_, "credit moves with what was consumed");
        must(receiver_.gaps() == !here_.empty(), "gaps are known");
        const auto sack = receiver_.sack();
        const auto all = receiver_.wide();
        bool more = false;
        for (std::uint32_t i = 0; i < 256; ++i) {
            const bool there = here_.contains(next_ + 1 + i);
            if (i < 32)
                must(((sack >> i) & 1) == there, "each bit of an acknowledgement is true");
            else
                more = more || there;
            must(((std::to_integer<unsigned>(all[i / 8]) >> (i % 8)) & 1) == there,
                 "each bit of a wide acknowledgement is true");
        }
        must(receiver_.needs_wide() == more, "the wide one is asked for where it is needed");
        if (more)
            wide();
    }

    reader &in_;
    std::uint16_t window_;
    std::uint32_t first_;
    receiver receiver_;
    std::uint32_t next_, taken_, consumed_;
    std::map<std::uint32_t, bool> here_;                // early ones, complete
    std::map<std::uint32_t, std::vector<bool>> pieces_; // units of slices that have come
    std::map<std::uint32_t, std::size_t> forged_;       // complete, of another length
    std::size_t stepped_ = 0;
};

void run(bytes input)
{
    reader in(input);
    scene(in).play();
}

const registration here("reassembly", run,
                        {&early, &gap_filled, &doubled, &beyond, &sliced, &contradiction, &mixed,
                         &kept, &wide, &wrapped, &in_steps});

} // namespace
} // namespace sp::fuzz
