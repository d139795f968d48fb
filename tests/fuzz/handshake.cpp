// SPDX-License-Identifier: BSD-2-Clause
//
// One end of a connection, in each phase, and any packets of the handshake, in any order, with the
// passing of time between them: COOKIE, ACCEPT, REFUSE, DISCONNECT, RESET, a repeated INIT, and
// types that do not belong there. The phase changes only along the lines of the drawing in
// link/connection.hpp.
#include "tests/fuzz/link_scene.hpp"

#include <optional>

namespace sp::fuzz {
namespace {

using link::arrival;
using link::connection;
using link::phase;

mark cookie_taken{"a COOKIE that is taken"}, opened{"an ACCEPT that opens"},
    mismatch{"an ACCEPT of another protocol"}, refused{"a REFUSE"}, told{"a DISCONNECT"},
    malformed{"a malformed packet"}, unexpected{"a packet out of place"}, silent{"a dead peer"},
    restarted{"a peer that has restarted"}, accepted_again{"an INIT that came again"},
    second_probe{"a PROBE again, after INITs in vain"}, confirmed{"an ACCEPT that is confirmed"},
    unconfirmed{"an ACCEPT that nobody confirms"};

class scene {
public:
    explicit scene(reader &in) : in_(in), c_(begin(in.byte() % 5)) {}

    void play()
    {
        drain();
        for (int steps = 0; steps < 64 && !in_.empty(); ++steps) {
            const auto before = c_.state();
            const auto op = in_.byte();
            switch (op % 16) {
            case 13:
                pass_time();
                break;
            case 14:
                c_.on_reset(in_.byte(), now_);
                break;
            case 15:
                op < 128 ? c_.on_init_again() : c_.close(SP_REASON_SHUTTING_DOWN);
                if (before == phase::accepted && c_.state() == before)
                    accepted_again();
                break;
            default:
                give(static_cast<sp_packet_type>(op % 16 == 0 ? 12 : op % 16), before);
            }
            must(c_.state() != phase::probing || before == phase::probing ||
                     before == phase::opening,
                 "nothing but a cookie grown old leads back to the beginning");
            must(c_.state() != phase::accepted || before == phase::accepted,
                 "only a listener waits to be confirmed, and once");
            must(before != phase::closed || c_.state() == phase::closed, "the end is the end");
            must(c_.state() != phase::open || c_.peer_id() != 0, "an open end names its peer");
            must(c_.message_capacity() <= 1 << 20, "no more is sent than this side's limit");
            drain();
        }
    }

private:
    connection begin(unsigned how)
    {
        if (how >= 3) {
            auto c = connection::accept(listener_config(), right_init(), now_);
            if (how == 4)
                bring(c, SP_ACK);
            return c;
        }
        auto c = connection::dial(dialer_config(), now_);
        if (how > 0)
            bring(c, SP_COOKIE);
        if (how > 1)
            bring(c, SP_ACCEPT);
        return c;
    }

    void bring(connection &c, sp_packet_type type)
    {
        auto packet = right_packet(type, c.local_id());
        link::finish(packet);
        must(c.on_packet(packet, now_) == arrival::nothing, "a handshake goes through");
    }

    void give(sp_packet_type type, phase before)
    {
        auto packet = right_packet(type, c_.local_id());
        disturb(packet, in_);
        if (packet[1] != static_cast<std::byte>(type))
            packet[1] = static_cast<std::byte>(type); // another type is another step
        const auto exactly = exact(packet);
        const auto what = c_.on_packet(exactly, now_);
        note(type, before, what);
        if (what == arrival::records)
            take_all(c_, now_, [](const link::record &) {});
        if (before == phase::closed)
            must(what != arrival::records, "nothing is taken after the end");
        if (type == SP_REFUSE && before == phase::open)
            must(c_.state() == phase::open, "an open connection cannot be refused");
        const auto text = c_.refusal_text();
        must(text.size() <= 64 &&
                 std::ranges::all_of(text, [](char b) { return b >= 32 && b < 127; }),
             "what a peer says can be shown to people");
    }

    void note(sp_packet_type type, phase before, arrival what)
    {
        const auto after = c_.state();
        if (type == SP_COOKIE && after == phase::opening && before == phase::probing)
            cookie_taken();
        if (type == SP_ACCEPT && after == phase::open && before == phase::opening)
            opened();
        if (before == phase::accepted && after == phase::open)
            confirmed();
        if (type == SP_ACCEPT && c_.reason() == SP_REASON_PROTOCOL_MISMATCH)
            mismatch();
        if (type == SP_REFUSE && after == phase::closed && before != phase::closed)
            refused();
        if (type == SP_DISCONNECT && after == phase::closed && before == phase::open)
            told();
        if (what == arrival::malformed)
            malformed();
        if (what == arrival::unexpected)
            unexpected();
    }

    void pass_time()
    {
        const auto next = c_.next_deadline();
        if (next == link::instant::max())
            return;
        must(c_.state() != phase::closed, "who has ended waits for nothing");
        const auto before = c_.state();
        now_ = std::max(now_, next);
        c_.on_deadline(now_);
        if (before == phase::opening && c_.state() == phase::probing)
            second_probe();
        if (before == phase::accepted && c_.state() == phase::closed)
            unconfirmed();
        if (c_.reason() == SP_REASON_DEAD)
            silent();
        if (c_.reason() == SP_REASON_STALE)
            restarted();
    }

    void drain()
    {
        int packets = 0;
        for (auto p = packet_of(c_, now_); !p.empty(); p = packet_of(c_, now_))
            must(++packets <= 8, "one step causes few packets");
    }

    reader &in_;
    link::instant now_ = beginning;
    connection c_;
};

void run(bytes input)
{
    reader in(input);
    scene(in).play();
}

const registration here("handshake", run,
                        {&cookie_taken, &opened, &mismatch, &refused, &told, &malformed,
                         &unexpected, &silent, &restarted, &accepted_again, &second_probe,
                         &confirmed, &unconfirmed});

} // namespace
} // namespace sp::fuzz
