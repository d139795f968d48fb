// SPDX-License-Identifier: BSD-2-Clause
//
// A whole engine whose peer is a stranger with a right checksum. The peer opens a connection as it
// should and then sends what the input says: messages for the pattern, records, parts of messages,
// slices, acknowledgements of what was never sent, packets of the handshake in the middle of
// things, and the same from other addresses. Each role is played. The engine goes on, its memory
// stays within its bound, what it answers are packets, and when it closes nothing of the peer's is
// left.
#include "tests/fuzz/link_scene.hpp"
#include "tests/support/loopback.hpp"
#include "userspace/engine/engine.hpp"

#include <optional>
#include <variant>

namespace sp::fuzz {
namespace {

using engine_type = core::engine<test::loopback>;
using protocol::effects;
using protocol::role;
using namespace std::chrono_literals;

mark connected{"a connection"}, message_taken{"a message that the application took"},
    parted{"a message in parts"}, bad_frame{"a record that ends the pipe"},
    malformed{"a packet that is malformed"}, unknown{"a packet of no connection"},
    too_large{"a message over the limit"}, ended{"a peer that said goodbye"},
    reset{"an answer to a packet of no connection"}, forged{"an INIT without a good cookie"},
    refused{"a stranger who is refused"}, bad_header{"a message whose pattern header is malformed"};

constexpr std::uint8_t victim = 2, peer = 1, other = 3;
constexpr std::size_t memory_max = 1u << 20;
constexpr std::uint32_t message_max = 20'000;

class scene {
public:
    explicit scene(reader &in)
        : in_(in), role_(role_of(in.byte())), engine_(config(), now_),
          slot_(engine_.add_transport(test::loopback(net_, victim)))
    {
        socket_ = open();
        must(engine_.listen(socket_, slot_, listener_port).has_value(), "a socket can listen");
    }

    void play()
    {
        shake_hands();
        for (int steps = 0; steps < 100 && !in_.empty(); ++steps)
            step(in_.byte());
        close();
    }

private:
    static role role_of(std::uint8_t choice)
    {
        constexpr role roles[]{role::pull,  role::rep, role::respondent, role::pair1,
                               role::pair0, role::bus, role::sub,        role::pub,
                               role::push,  role::req, role::surveyor};
        return roles[choice % std::size(roles)];
    }
    static core::engine_config config()
    {
        core::engine_config c;
        c.seed[0] = 1;
        c.memory_max = memory_max;
        c.pipes_max = 16;
        return c;
    }

    core::socket_id open()
    {
        const core::socket_options o{.message_max = message_max, .window = 8};
        switch (role_) {
        case role::rep:
        case role::respondent:
            return *engine_.open<protocol::rep_machine>(role_, o, protocol::rep_options{}, 1u);
        case role::pair0:
        case role::pair1:
            return *engine_.open<protocol::pair_machine>(
                role_, o, protocol::pair_options{.version = role_ == role::pair0 ? 0 : 1});
        case role::bus:
            return *engine_.open<protocol::bus_machine>(role_, o, protocol::bus_options{});
        case role::pub:
            return *engine_.open<protocol::pub_machine>(role_, o, protocol::pub_options{});
        case role::push:
            return *engine_.open<protocol::push_machine>(role_, o, protocol::push_options{});
        case role::req:
            return *engine_.open<protocol::req_machine>(role_, o, protocol::req_options{});
        case role::surveyor:
            return *engine_.open<protocol::surveyor_machine>(role_, o,
                                                             protocol::surveyor_options{});
        case role::sub: {
            const auto id = *engine_.open<protocol::sub_machine>(role_, o, protocol::sub_options{});
            auto &machine = std::get<protocol::sub_machine>(engine_.find(id)->machine);
            context_ = machine.open_context();
            machine.subscribe(*context_, {});
            return id;
        }
        case role::pull:
            break;
        }
        return *engine_.open<protocol::pull_machine>(role::pull, o);
    }

    [[nodiscard]] std::uint16_t peer_protocol() const
    {
        return static_cast<std::uint16_t>(protocol::peer_of(role_));
    }

    // ---- the peer's side of the handshake

    void shake_hands()
    {
        auto probe = right_probe();
        address(probe.header, 0);
        probe.identity.protocol = link::be16(peer_protocol());
        give(peer, as_bytes_of(probe));
        const auto cookie = answer(SP_COOKIE);
        must(cookie.size() == sizeof(sp_cookie), "a PROBE gets a COOKIE");
        const auto shown = link::read<sp_cookie>(cookie);
        auto init = right_init();
        address(init.header, 0);
        init.identity.protocol = link::be16(peer_protocol());
        init.epoch = shown.epoch;
        std::ranges::copy(shown.cookie, init.cookie);
        init_ = init;
        give(peer, as_bytes_of(init));
        const auto accept = answer(SP_ACCEPT);
        must(accept.size() == sizeof(sp_accept), "an INIT gets an ACCEPT");
        id_ = link::be64(link::read<sp_accept>(accept).identity.scid);
        data({}, SP_ACK); // and shows that it has it
        must(peers() == 1, "a peer that has shown its address is one");
        connected();
    }

    static void address(sp_header &h, std::uint64_t dcid)
    {
        h.sport = link::be16(dialer_port);
        h.dport = link::be16(listener_port);
        h.dcid = link::be64(dcid);
    }

    // The first packet of this type that the victim has sent the peer since the last look.
    std::vector<std::byte> answer(sp_packet_type type)
    {
        std::vector<std::byte> found;
        for (auto &p : net_.inboxes[peer])
            if (found.empty() && link::read<sp_header>(p.bytes).type == type)
                found = p.bytes;
        net_.inboxes[peer].clear();
        return found;
    }

    // ---- what the input does

    void step(std::uint8_t op)
    {
        switch (op % 16) {
        case 0:
        case 1:
        case 2:
            return message(op);
        case 3:
            return part();
        case 4: // records as the input has them
            return contents(in_.take_bytes(in_.byte()));
        case 5:
            return slice();
        case 6:
        case 7:
            return anything(peer);
        case 8:
            return anything(other);
        case 9: // an acknowledgement of anything
            return acknowledge();
        case 10:
        case 11:
            return take();
        case 12:
            return send(in_.byte());
        case 13:
            now_ += std::chrono::microseconds(in_.take<std::uint16_t>());
            return run();
        case 14:
            if (const auto next = engine_.next_deadline(); next != core::instant::max())
                now_ = std::max(now_, next);
            return run();
        default: // the INIT again, with the input's changes
            auto again = as_bytes_of(init_);
            disturb(again, in_);
            return give(op < 128 ? peer : other, std::move(again));
        }
    }

    void message(std::uint8_t op)
    {
        auto payload = exact(in_.take_bytes(in_.byte() % 64));
        if ((op & 0x80) != 0 && payload.size() >= 4)
            payload[0] |= std::byte{0x80}; // the end of a stack of words
        std::vector<std::byte> records(link::record_space(payload.size()));
        (void)link::write_record(records, SP_RECORD_FIRST | SP_RECORD_LAST, SP_CODE_NONE, payload,
                                 {});
        ++message_;
        contents(records);
    }

    // A part, right or nearly.
    void part()
    {
        const auto choice = in_.byte();
        const auto length = std::size_t{1} + in_.below(1200);
        const bool begins = (choice & 1) == 0, ends = (choice & 2) != 0;
        if (begins && ends)
            return;
        if (begins) {
            total_ = in_.take<std::uint16_t>();
            sent_ = 0;
        }
        std::vector<std::byte> record(SP_RECORD_SIZE + SP_PART_SIZE + (length + 3) / 4 * 4);
        const sp_record head{.length = link::be16(static_cast<std::uint16_t>(length)),
                             .flags = static_cast<std::uint8_t>((begins ? SP_RECORD_FIRST : 0) |
                                                                (ends ? SP_RECORD_LAST : 0)),
                             .code = 0};
        auto number = begins ? message_ : message_ - 1;
        auto at = begins ? total_ : sent_;
        if ((choice & 0xc0) == 0xc0) // seldom
            (choice & 0x20) != 0 ? ++number : ++at;
        const sp_part where{.message = link::be32(number), .at = link::be32(at)};
        std::memcpy(record.data(), &head, sizeof head);
        std::memcpy(record.data() + sizeof head, &where, sizeof where);
        message_ += begins ? 1 : 0;
        sent_ += static_cast<std::uint32_t>(length);
        contents(record);
    }

    void slice()
    {
        const sp_slice where{.offset = link::be16(in_.take<std::uint16_t>() & 0x7fc),
                             .total = link::be16(in_.take<std::uint16_t>() & 0x7fc)};
        auto bytes_of_slice = as_bytes_of(where);
        const auto more = in_.take_bytes(in_.byte() & 0xfc);
        bytes_of_slice.insert(bytes_of_slice.end(), more.begin(), more.end());
        data(bytes_of_slice, SP_PART);
    }

    void contents(bytes records)
    {
        data(records, SP_DATA);
        ++seq_;
    }

    // A packet of the connection, right but for what is in it.
    void data(bytes inside, sp_packet_type type)
    {
        std::vector<std::byte> packet(SP_OVERHEAD + inside.size());
        auto header = header_of(type, id_);
        address(header, id_);
        header.pn = link::be64(pn_++);
        header.seq = link::be32(seq_);
        header.ack = link::be32(heard_);
        header.limit = link::be32(heard_ + 8);
        std::memcpy(packet.data(), &header, sizeof header);
        std::ranges::copy(inside, packet.begin() + SP_HEADER_SIZE);
        give(peer, std::move(packet));
    }

    void acknowledge()
    {
        auto header = header_of(SP_ACK, id_);
        address(header, id_);
        header.pn = link::be64(pn_++);
        header.flags = in_.byte() & SP_FLAGS_KNOWN;
        header.seq = link::be32(seq_);
        header.ack = link::be32(heard_ + in_.byte() % 4 - 1);
        header.sack = in_.take<std::uint32_t>();
        header.limit = link::be32(heard_ + in_.byte());
        std::vector<std::byte> packet(SP_OVERHEAD);
        std::memcpy(packet.data(), &header, sizeof header);
        give(peer, std::move(packet));
    }

    // Any packet of any type, changed by the input, under this connection's id or another's.
    void anything(std::uint8_t from)
    {
        const auto choice = in_.byte();
        const auto type = static_cast<sp_packet_type>(1 + choice % 12);
        auto packet = right_packet(type, (choice & 0x80) != 0 ? in_.byte() : id_);
        auto header = link::read<sp_header>(packet);
        const bool stranger = type == SP_PROBE || type == SP_INIT || type == SP_RESET;
        address(header, stranger ? 0 : link::be64(header.dcid));
        header.pn = link::be64(pn_++);
        std::memcpy(packet.data(), &header, sizeof header);
        disturb(packet, in_);
        give(from, std::move(packet));
    }

    // To the victim, as XDP or a kernel socket would hand it over: shape checked, checksum not.
    void give(std::uint8_t from, std::vector<std::byte> packet)
    {
        link::finish(packet);
        if (sp_check_packet(packet.data(), packet.data() + packet.size(),
                            static_cast<std::uint32_t>(packet.size())) == SP_SHAPE_SP)
            net_.inboxes[victim].push_back({test::host(from), std::move(packet)});
        run();
    }

    void run()
    {
        for (int turns = 0; engine_.poll(now_, core::sweep::full) > 0; ++turns)
            must(turns < 100, "an engine comes to rest");
        engine_.finish(now_);
        hear();
        must(peers() <= 3, "nobody becomes a peer who has not shown an address");
    }

    // What the victim says is looked at; what it sends as data is heard.
    void hear()
    {
        for (const auto number : {peer, other}) {
            for (const auto &p : net_.inboxes[number]) {
                const auto *begin = p.bytes.data();
                must(sp_check_packet(begin, begin + p.bytes.size(),
                                     static_cast<std::uint32_t>(p.bytes.size())) == SP_SHAPE_SP &&
                         link::intact(p.bytes),
                     "what an engine sends are packets");
                const auto header = link::read<sp_header>(p.bytes);
                if (header.type == SP_DATA && number == peer && link::be32(header.seq) == heard_)
                    ++heard_;
                if (header.type == SP_RESET)
                    reset();
                if (header.type == SP_REFUSE)
                    refused();
            }
            if (number == other)
                net_.inboxes[number].clear();
        }
        if (id_ != 0)
            net_.inboxes[peer].clear();
    }

    [[nodiscard]] std::size_t peers()
    {
        std::size_t n = 0;
        engine_.each_pipe(socket_, [&](auto, auto &p) { n += p.attached ? 1 : 0; });
        return n;
    }

    // ---- the victim's application

    template <class F>
    void with_machine(F &&f)
    {
        const auto visit = [&]<class M>(M *) {
            if constexpr (!std::is_same_v<M, std::monostate>)
                (void)engine_.with<M>(socket_, now_, [&](auto &machine, effects &out) {
                    f(machine, out);
                    return true;
                });
        };
        std::visit([&]<class M>(M &) { visit(static_cast<M *>(nullptr)); },
                   engine_.find(socket_)->machine);
    }

    void take()
    {
        std::optional<protocol::frame_id> frame;
        with_machine([&](auto &machine, effects &out) {
            if constexpr (requires { machine.take(out)->frame; }) {
                if (const auto got = machine.take(out))
                    frame = got->frame;
            } else if constexpr (std::is_same_v<std::decay_t<decltype(machine)>,
                                                protocol::sub_machine>) {
                if (const auto got = machine.take(*context_, out))
                    frame = got->frame;
            }
        });
        if (frame) {
            must(engine_.pool()[*frame].size <= message_max, "no message is over the limit");
            engine_.pool().release(*frame);
            message_taken();
        }
        run();
    }

    void send(std::size_t size)
    {
        auto *f = engine_.pool().allocate(size);
        if (!f)
            return;
        std::ranges::fill(f->bytes(), std::byte{5});
        bool gone = false;
        with_machine([&](auto &machine, effects &out) {
            if constexpr (requires {
                              {
                                  machine.on_send(f->id, size, now_, out)
                              } -> std::same_as<std::optional<errc>>;
                          }) {
                gone = !machine.on_send(f->id, size, now_, out);
            } else if constexpr (requires { machine.on_send(f->id, size, now_, out); }) {
                machine.on_send(f->id, size, now_, out);
                gone = true;
            }
        });
        if (!gone)
            engine_.pool().release(f->id);
        run();
    }

    void note()
    {
        const auto &s = engine_.stats();
        const auto if_any = [&](stat which, mark &m) {
            if (s[which] > 0)
                m();
        };
        if_any(stat::link_parts, parted);
        if_any(stat::pipe_bad_frame, bad_frame);
        if_any(stat::link_bad_packet, malformed);
        if_any(stat::link_unknown_connection, unknown);
        if_any(stat::pipe_too_large, too_large);
        if_any(stat::pipe_peer_closed, ended);
        if_any(stat::link_no_cookie, forged);
        if_any(stat::pipe_bad_header, bad_header);
    }

    void close()
    {
        note();
        (void)engine_.close_socket(socket_, now_);
        run_to_rest();
        must(engine_.pool().in_use() == 0, "what a peer has sent is gone when the socket is");
    }
    void run_to_rest()
    {
        for (int turns = 0; engine_.poll(now_, core::sweep::full) > 0; ++turns)
            must(turns < 100, "an engine comes to rest");
    }

    reader &in_;
    core::instant now_ = beginning;
    test::net net_;
    role role_;
    engine_type engine_;
    std::size_t slot_;
    core::socket_id socket_{};
    std::optional<protocol::context_id> context_;
    sp_init init_{};
    std::uint64_t id_ = 0, pn_ = 0;
    std::uint32_t seq_ = 0, heard_ = 0; // of the peer, of the victim
    std::uint32_t message_ = 0, total_ = 0, sent_ = 0;
};

void run(bytes input)
{
    reader in(input);
    scene(in).play();
}

const registration here("engine_packets", run,
                        {&connected, &message_taken, &parted, &bad_frame, &malformed, &unknown,
                         &too_large, &ended, &reset, &forged, &refused, &bad_header});

} // namespace
} // namespace sp::fuzz
