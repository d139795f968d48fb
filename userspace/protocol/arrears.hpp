// SPDX-License-Identifier: BSD-2-Clause
//
// What one input owes beyond the room in `effects`: a message that is dropped for a thousand pipes
// is counted a thousand times, a pipe that goes leaves thousands of frames. Kept here in order and
// paid as room allows, by the input itself and by pump(). The engine pumps after each input until
// nothing is left, so the list holds no more than one input can cause.
#pragma once

#include "userspace/protocol/fifo.hpp"
#include "userspace/protocol/types.hpp"

#include <cstddef>

namespace sp::protocol {

class arrears {
public:
    void count(stat why, pipe_id pipe = no_pipe, std::size_t times = 1)
    {
        if (times > 0)
            add({.what = effect::kind::count, .why = why, .pipe = pipe, .times = times});
    }
    void consumed(pipe_id pipe) { add({.what = effect::kind::consumed, .pipe = pipe}); }
    void close_pipe(pipe_id pipe, stat why)
    {
        add({.what = effect::kind::close_pipe, .why = why, .pipe = pipe});
    }
    // The frame must not be named by any effect that is emitted later.
    void release(frame_id frame) { add({.what = effect::kind::release, .frame = frame}); }

    void pay(effects &out) noexcept
    {
        while (!owed_.empty() && out.left() > 0) {
            emit(owed_.front(), out);
            owed_.pop_front();
        }
    }

    [[nodiscard]] bool empty() const noexcept { return owed_.empty(); }

private:
    // Counts of one kind in a row are one debt.
    void add(const effect &next)
    {
        if (!owed_.empty() && next.what == effect::kind::count) {
            auto &last = owed_[owed_.size() - 1];
            if (last.what == effect::kind::count && last.why == next.why &&
                last.pipe == next.pipe) {
                last.times += next.times;
                return;
            }
        }
        owed_.push_back(next);
    }

    static void emit(const effect &e, effects &out) noexcept
    {
        switch (e.what) {
        case effect::kind::count:
            return out.count(e.why, e.pipe, e.times);
        case effect::kind::consumed:
            return out.consumed(e.pipe);
        case effect::kind::close_pipe:
            return out.close_pipe(e.pipe, e.why);
        case effect::kind::release:
            return out.release(e.frame);
        case effect::kind::send:
        case effect::kind::retain:
        case effect::kind::board:
        case effect::kind::publish:
        case effect::kind::part:
            break; // these are never late
        }
        SP_INVARIANT(false);
    }

    fifo<effect> owed_;
};

} // namespace sp::protocol
