// SPDX-License-Identifier: BSD-2-Clause
//
// Two connections and a road between them; the input says what happens: messages are sent, packets
// are delivered in any order, lost, doubled and damaged, readers stop and go on, the path becomes
// narrower, time passes. Damage is found by the checksum, as in the engine. What comes out is what
// went in, in order and once; and when the road is healed, all of it comes.
#include "tests/fuzz/link_scene.hpp"

#include <deque>
#include <optional>

namespace sp::fuzz {
namespace {

using link::arrival;
using link::connection;
using link::phase;
using namespace std::chrono_literals;

mark opened{"both ends open"}, resent{"a packet sent again"}, reordered{"a packet out of its turn"},
    doubled{"a packet that came twice"}, damaged{"a packet that was damaged"},
    split{"a message in parts"}, shared{"several messages in a packet"},
    narrowed{"a narrower path"}, cut{"contents cut into slices"},
    stopped{"a sender without credit"}, timed_out{"a time-out"}, closed{"a connection that ended"},
    healed{"everything came"};

struct packet {
    std::vector<std::byte> bytes;
    std::size_t to; // the end
};

// Message n of a direction, so that a wrong byte or place shows.
std::vector<std::byte> message(std::size_t from, std::uint32_t n, std::size_t size)
{
    std::vector<std::byte> all(size);
    for (std::size_t i = 0; i < size; ++i)
        all[i] = static_cast<std::byte>(from * 101 + n * 31 + i + i / 251);
    return all;
}

struct end {
    std::optional<connection> link;
    std::deque<std::vector<std::byte>> waiting; // to be handed to the link
    std::size_t handed = 0;                     // bytes of the first of them
    std::deque<std::vector<std::byte>> sent;    // and not arrived
    std::uint32_t number = 0;
    std::vector<std::byte> part; // of a split message that arrives
    std::uint32_t begun = 0;
    bool reads = true;
    bool gone = false; // has ended, or its peer has
};

class scene {
public:
    explicit scene(reader &in) : in_(in)
    {
        const auto choice = in.byte();
        auto d = dialer_config();
        listener_config_ = listener_config();
        constexpr std::uint16_t windows[]{1, 2, 5, 32, 64, 256};
        d.window = windows[choice % std::size(windows)];
        listener_config_.window = windows[choice / 8 % std::size(windows)];
        d.first_seq = listener_config_.first_seq = (choice & 64) != 0 ? std::uint32_t{0} - 5 : 0;
        d.records_max = (choice & 128) != 0 ? 2 : 0;
        d.peer_timeout = listener_config_.peer_timeout = 100s; // loss has to be lived with
        ends_[0].link = connection::dial(d, now_);
    }

    void play()
    {
        for (int steps = 0; steps < 300 && !in_.empty(); ++steps)
            step(in_.byte());
        heal();
    }

private:
    void step(std::uint8_t op)
    {
        const std::size_t side = op >> 7;
        switch (op % 16) {
        case 0:
        case 1:
            return send(side, in_.byte() % 80);
        case 2:
            return send(side, in_.take<std::uint16_t>() % 5000);
        case 3:
        case 4:
        case 5:
            collect();
            return deliver(0);
        case 6:
            collect();
            return deliver(in_.byte());
        case 7:
            collect();
            while (!road_.empty())
                deliver(0);
            return;
        case 8:
            return lose(in_.byte());
        case 9: // once more
            if (!road_.empty()) {
                road_.push_back(road_[in_.byte() % road_.size()]);
                doubled();
            }
            return;
        case 10:
            return damage();
        case 11:
            return pass_to_deadline();
        case 12:
            now_ += std::chrono::microseconds(in_.take<std::uint16_t>());
            return run_deadlines();
        case 13:
            ends_[side].reads = !ends_[side].reads;
            return take(side);
        case 14:
            if (ends_[side].link && (op & 32) != 0) {
                path_ = 300 + in_.byte() * std::size_t{4};
                ends_[side].link->narrow(path_);
                narrowed();
            }
            return;
        default:
            if ((op & 0x70) == 0x70 && ends_[side].link) { // seldom
                ends_[side].link->close(SP_REASON_SHUTTING_DOWN);
                end_both();
            }
        }
    }

    void send(std::size_t side, std::size_t size)
    {
        auto &e = ends_[side];
        if (e.waiting.size() > 20 || !e.link || e.gone)
            return;
        e.waiting.push_back(message(side, e.number++, size));
        e.sent.push_back(e.waiting.back());
        feed(e);
    }

    void feed(end &e)
    {
        while (!e.waiting.empty() && e.link->send_ready()) {
            const auto &m = e.waiting.front();
            const auto head =
                std::span<const std::byte>(m).first(std::min<std::size_t>(4, m.size()));
            const auto body = std::span<const std::byte>(m).subspan(head.size());
            const auto to = e.link->append(head, body, e.handed, now_);
            must(to >= e.handed && to <= m.size(),
                 "a message goes in from its beginning to its end");
            e.handed = to;
            if (to < m.size()) {
                split();
                continue;
            }
            e.waiting.pop_front();
            e.handed = 0;
        }
        if (!e.waiting.empty() && e.link->state() == phase::open)
            stopped();
    }

    // What the ends want to send goes on the road.
    void collect()
    {
        for (std::size_t side = 0; side < 2; ++side) {
            auto &e = ends_[side];
            if (!e.link)
                continue;
            feed(e);
            int packets = 0;
            for (auto p = packet_of(*e.link, now_); !p.empty(); p = packet_of(*e.link, now_)) {
                must(++packets <= 2000, "an end has not endlessly much to send");
                const auto header = link::read<sp_header>(p);
                if (header.type == SP_PART)
                    cut();
                // A packet that is too long for the path vanishes.
                if (p.size() <= path_ || header.type < SP_DATA)
                    road_.push_back({std::move(p), 1 - side});
            }
            const auto counts = e.link->take_counts();
            if (counts.sent.data_resent > 0)
                resent();
            if (counts.sent.timeouts > 0)
                timed_out();
        }
        while (road_.size() > 4000)
            road_.pop_front();
    }

    void deliver(std::size_t which)
    {
        if (road_.empty())
            return;
        const auto at = road_.begin() + static_cast<std::ptrdiff_t>(which % road_.size());
        if (at != road_.begin())
            reordered();
        auto p = std::move(*at);
        road_.erase(at);
        if (!link::intact(p.bytes))
            return damaged(); // as the engine does
        const auto type = link::read<sp_header>(p.bytes).type;
        if (p.to == 1 && (type == SP_PROBE || type == SP_INIT))
            return stranger(p.bytes);
        auto &e = ends_[p.to];
        if (!e.link)
            return;
        {
            const auto exactly = exact(p.bytes);
            const auto what = e.link->on_packet(exactly, now_);
            must(what != arrival::malformed, "an honest peer sends nothing malformed");
            take(p.to);
        }
        if (e.link->state() == phase::closed)
            end_both();
        if (both_open())
            opened();
    }

    void stranger(const std::vector<std::byte> &bytes_of_packet)
    {
        auto &e = ends_[1];
        if (link::read<sp_header>(bytes_of_packet).type == SP_PROBE) {
            const auto probe = link::read<sp_probe>(bytes_of_packet);
            auto answer = as_bytes_of(link::make_cookie(
                probe, static_cast<std::uint16_t>(bytes_of_packet.size()), 1, {}));
            road_.push_back({std::move(answer), 0});
            return;
        }
        if (e.link)
            return e.link->on_init_again();
        e.link = connection::accept(listener_config_, link::read<sp_init>(bytes_of_packet), now_);
    }

    void take(std::size_t side)
    {
        auto &e = ends_[side];
        if (!e.link)
            return;
        if (!e.reads)
            return e.link->keep();
        int in_packet = 0;
        take_all(*e.link, now_, [&](const link::record &r) {
            if (r.control())
                return;
            e.begun += r.first() ? 1 : 0;
            if (!r.first() || !r.last()) {
                must(r.message == e.begun - 1, "a part names its message");
                must(r.first() || r.at == e.part.size(), "parts come in order");
            }
            e.part.insert(e.part.end(), r.payload.begin(), r.payload.end());
            if (!r.last())
                return;
            auto &other = ends_[1 - side];
            must(!other.sent.empty(), "nothing comes that was not sent");
            must(other.sent.front() == e.part, "messages come whole, once and in order");
            other.sent.pop_front();
            e.part.clear();
            if (++in_packet > 1)
                shared();
        });
    }

    void lose(std::size_t which)
    {
        collect();
        if (!road_.empty())
            road_.erase(road_.begin() + static_cast<std::ptrdiff_t>(which % road_.size()));
    }

    void damage()
    {
        if (road_.empty())
            return;
        auto &p = road_[in_.byte() % road_.size()].bytes;
        const auto mask = in_.byte();
        p[in_.take<std::uint16_t>() % p.size()] ^= static_cast<std::byte>(mask == 0 ? 1 : mask);
    }

    [[nodiscard]] link::instant deadline() const
    {
        auto next = link::instant::max();
        for (const auto &e : ends_)
            if (e.link)
                next = std::min(next, e.link->next_deadline());
        return next;
    }
    void pass_to_deadline()
    {
        const auto next = deadline();
        if (next == link::instant::max())
            return;
        now_ = std::max(now_, next);
        run_deadlines();
    }
    void run_deadlines()
    {
        for (auto &e : ends_)
            if (e.link && e.link->next_deadline() <= now_) {
                e.link->on_deadline(now_);
                must(e.link->state() == phase::closed || e.link->next_deadline() > now_ ||
                         e.link->transmit_size() > 0,
                     "a deadline that has been dealt with does not come back at once");
                if (e.link->state() == phase::closed)
                    end_both();
            }
    }

    [[nodiscard]] bool both_open() const
    {
        return std::ranges::all_of(
            ends_, [](const end &e) { return e.link && e.link->state() == phase::open; });
    }

    // Where one has ended, what was sent need not come any more.
    void end_both()
    {
        closed();
        for (auto &e : ends_)
            e.gone = true;
    }

    // From here on nothing is lost. As long as both live, all of it arrives within a bound.
    void heal()
    {
        path_ = packet_max;
        for (std::size_t side = 0; side < 2; ++side) {
            ends_[side].reads = true;
            take(side);
        }
        for (int rounds = 0; rounds < 3000; ++rounds) {
            collect();
            while (!road_.empty()) {
                deliver(0);
                collect();
            }
            if (ends_[0].gone)
                return;
            if (both_open() && ends_[0].sent.empty() && ends_[1].sent.empty() &&
                ends_[0].waiting.empty() && ends_[1].waiting.empty()) {
                healed();
                return;
            }
            pass_to_deadline();
        }
        must(false, "on a road that loses nothing everything comes");
    }

    reader &in_;
    link::instant now_ = beginning;
    link::connection_config listener_config_;
    end ends_[2];
    std::deque<packet> road_;
    std::size_t path_ = packet_max;
};

void run(bytes input)
{
    reader in(input);
    scene(in).play();
}

const registration here("link_machine", run,
                        {&opened, &resent, &reordered, &doubled, &damaged, &split, &shared,
                         &narrowed, &cut, &stopped, &timed_out, &closed, &healed});

} // namespace
} // namespace sp::fuzz
