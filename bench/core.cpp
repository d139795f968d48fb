// SPDX-License-Identifier: BSD-2-Clause
//
// What do link, engine and pattern cost alone? Two engines in one thread, joined by a wire in
// memory: no system call, no clock (time is handed in), no other CPU. Beside it the same number of
// packets of the same size through the wire with nobody at its ends, so that the copies of the wire
// can be told from the work of sp.
#include "bench/figures.hpp"
#include "sp/error.hpp"
#include "userspace/engine/engine.hpp"

#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <span>

namespace {

using namespace sp;
using namespace std::chrono_literals;
using protocol::rep_machine;
using protocol::req_machine;

constexpr std::size_t packet_max = 1480; // an Ethernet MTU behind an IPv4 header
constexpr std::uint16_t service = 7000;
constexpr std::uint8_t asker_number = 1, answerer_number = 2;

sp_address address_of(std::uint8_t number)
{
    sp_address a{};
    a.family = SP_FAMILY_IPV4;
    a.length = 4;
    a.bytes[0] = 198;
    a.bytes[1] = 18;
    a.bytes[3] = number;
    return a;
}

// One direction of the wire: packets wait in their slots until they are received. Nothing is
// allocated on the way.
class lane {
public:
    [[nodiscard]] std::span<std::byte> reserve(std::size_t n) noexcept
    {
        return sent_ - taken_ == slots_.size() ? std::span<std::byte>()
                                               : std::span(at(sent_).bytes).first(n);
    }
    void submit(std::size_t n) noexcept
    {
        at(sent_++).size = n;
        bytes_ += n;
    }
    template <class Use>
    std::size_t receive(std::size_t n, Use &&use) noexcept
    {
        n = std::min<std::size_t>(n, sent_ - taken_);
        for (std::size_t i = 0; i < n; ++i, ++taken_)
            use(std::span<const std::byte>(at(taken_).bytes).first(at(taken_).size));
        return n;
    }
    [[nodiscard]] std::uint64_t packets() const noexcept { return sent_; }
    [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

private:
    struct slot {
        std::size_t size = 0;
        std::array<std::byte, packet_max> bytes{};
    };
    [[nodiscard]] slot &at(std::uint64_t index) noexcept { return slots_[index % slots_.size()]; }

    std::vector<slot> slots_ = std::vector<slot>(256);
    std::uint64_t sent_ = 0, taken_ = 0, bytes_ = 0;
};

// The transport at one end of the wire: there is one peer, so one route.
class wire_end {
public:
    wire_end(lane &out, lane &in, std::uint8_t peer) : out_(&out), in_(&in), peer_(address_of(peer))
    {
    }

    template <class Sink>
    std::size_t receive(Sink &&sink, std::size_t n, core::sweep, std::int64_t) noexcept
    {
        return in_->receive(n, [&](std::span<const std::byte> packet) { sink(peer_, packet); });
    }
    std::optional<route_id> open_route(const sp_address &) noexcept { return route_id{}; }
    void close_route(route_id) noexcept {}
    std::span<std::byte> reserve(route_id, std::size_t n) noexcept { return out_->reserve(n); }
    void submit(route_id, std::size_t n) noexcept { out_->submit(n); }
    void send_to(const sp_address &, std::span<const std::byte> packet) noexcept
    {
        const auto room = out_->reserve(packet.size());
        if (room.empty())
            return;
        std::ranges::copy(packet, room.begin());
        out_->submit(packet.size());
    }
    void flush() noexcept {}
    std::optional<std::pair<sp_address, errc>> next_failure() noexcept { return std::nullopt; }
    [[nodiscard]] std::size_t packet_max(route_id) const noexcept { return ::packet_max; }
    [[nodiscard]] std::string_view name(route_id) const noexcept { return "memory"; }
    [[nodiscard]] bool certain() const noexcept { return false; }
    [[nodiscard]] int wake_fd() const noexcept { return -1; }

private:
    lane *out_, *in_;
    sp_address peer_;
};

using engine_type = core::engine<wire_end>;

core::engine_config seeded(std::uint8_t number)
{
    core::engine_config c;
    c.seed[0] = number;
    return c;
}

class two_engines {
public:
    // Empty when they do not find each other; that is a fault in sp.
    [[nodiscard]] static std::unique_ptr<two_engines> connected()
    {
        auto both = std::make_unique<two_engines>();
        for (int turn = 0; turn < 1000; ++turn) {
            both->pass();
            if (both->exchange(0))
                return both;
        }
        return nullptr;
    }

    two_engines()
    {
        const auto there = b_.add_transport(wire_end(to_a_, to_b_, asker_number));
        const auto here = a_.add_transport(wire_end(to_b_, to_a_, answerer_number));
        rep_ = *b_.open<rep_machine>(protocol::role::rep, {}, protocol::rep_options{}, 1u);
        (void)b_.listen(rep_, there, service);
        req_ = *a_.open<req_machine>(protocol::role::req, {}, protocol::req_options{});
        (void)a_.dial(req_, here, address_of(answerer_number), 50000, service, now_);
        context_ =
            *a_.with<req_machine>(req_, now_, [](auto &m, auto &) { return m.open_context(); });
        pass();
    }

    // One request and its answer, both of `size` bytes. False: it did not come within many turns.
    [[nodiscard]] bool exchange(std::size_t size)
    {
        now_ += 1us;
        if (!ask(size))
            return false;
        constexpr int turns_max = 100; // one is enough: the message fits a packet
        for (int turn = 0; turn < turns_max; ++turn) {
            b_.poll(now_, core::sweep::hot);
            echo();
            a_.poll(now_, core::sweep::hot);
            if (take())
                return true;
        }
        return false;
    }
    [[nodiscard]] std::uint64_t packets() const noexcept
    {
        return to_a_.packets() + to_b_.packets();
    }
    [[nodiscard]] std::uint64_t bytes() const noexcept { return to_a_.bytes() + to_b_.bytes(); }

private:
    void pass()
    {
        now_ += 10ms;
        for (int turn = 0; turn < 10; ++turn) {
            a_.poll(now_, core::sweep::full);
            b_.poll(now_, core::sweep::full);
        }
    }
    [[nodiscard]] bool ask(std::size_t size)
    {
        auto *f = a_.pool().allocate(size);
        if (!f)
            return false;
        if (size > 0)
            std::memcpy(f->data(), body_.data(), size); // as a socket does with what it is given
        const auto id = static_cast<std::uint32_t>(a_.random()());
        const auto refused = a_.with<req_machine>(req_, now_, [&](auto &m, auto &out) {
            return m.on_request(context_, f->id, size, id, now_, out);
        });
        a_.finish(now_);
        return !refused;
    }
    void echo()
    {
        while (auto t = b_.with<rep_machine>(rep_, now_,
                                             [](auto &m, auto &out) { return m.take(out); })) {
            auto &question = b_.pool()[t->frame];
            question.offset = static_cast<std::uint32_t>(t->header_bytes);
            auto *answer = b_.pool().allocate(question.body().size());
            if (answer) {
                std::ranges::copy(question.body(), answer->data());
                (void)b_.with<rep_machine>(rep_, now_, [&](auto &m, auto &out) {
                    return m.reply(t->ticket, answer->id, answer->size, now_, out);
                });
                b_.finish(now_);
            }
            b_.pool().release(t->frame);
        }
    }
    [[nodiscard]] bool take()
    {
        auto &machine = std::get<req_machine>(a_.find(req_)->machine);
        if (machine.state(context_) != protocol::request_state::ready)
            return false;
        a_.pool().release(machine.take_reply(context_).frame);
        return true;
    }

    core::instant now_{1h};
    lane to_a_, to_b_;
    engine_type a_{seeded(asker_number), now_}, b_{seeded(answerer_number), now_};
    core::socket_id req_{}, rep_{};
    protocol::context_id context_{};
    std::vector<std::byte> body_ = std::vector<std::byte>(packet_max);
};

// So many packets, copied in at one end of the wire and read at the other.
double wire_alone_ns(std::size_t packet, std::size_t packets)
{
    constexpr std::size_t batch = 64;
    lane line;
    std::vector<std::byte> in(packet_max), out(packet_max);
    std::uint64_t seen = 0;
    const auto began = bench::clock::now();
    for (std::size_t done = 0; done < packets; done += batch) {
        for (std::size_t i = 0; i < batch; ++i) {
            std::memcpy(line.reserve(packet).data(), in.data(), packet);
            line.submit(packet);
        }
        line.receive(batch, [&](std::span<const std::byte> bytes) {
            std::memcpy(out.data(), bytes.data(), bytes.size());
            seen += static_cast<std::uint64_t>(out[bytes.size() - 1]);
            asm volatile("" : : "r"(out.data()) : "memory"); // the copy is not left out
        });
    }
    const auto took = bench::clock::now() - began;
    return seen == ~std::uint64_t{0}
               ? 0
               : std::chrono::duration<double, std::nano>(took).count() / double(packets);
}

struct row {
    double ns = 0, packets = 0, bytes = 0;
};

std::optional<row> measure(two_engines &both, std::size_t size, std::size_t count)
{
    std::vector<double> rounds;
    const auto packets = both.packets(), bytes = both.bytes();
    constexpr int round_count = 5;
    for (int round = 0; round < round_count; ++round) {
        const auto began = bench::clock::now();
        for (std::size_t n = 0; n < count; ++n)
            if (!both.exchange(size))
                return std::nullopt;
        const auto took = bench::clock::now() - began;
        rounds.push_back(std::chrono::duration<double, std::nano>(took).count() / double(count));
    }
    const auto exchanges = double(count) * round_count;
    return row{bench::median(rounds), double(both.packets() - packets) / exchanges,
               double(both.bytes() - bytes) / exchanges};
}

} // namespace

int main()
{
    bench::print_heading(
        "core", "what link, engine and pattern cost, without any system call",
        "two engines in one thread over a wire in memory; 5 rounds, median; CRC on, plaintext");
    auto both = two_engines::connected();
    if (!both)
        return complain(error::numbered(9001, "two engines did not find each other"));
    std::printf("  %9s %14s %14s %12s %14s %14s\n", "bytes", "ns/exchange", "packets", "ns/packet",
                "wire alone ns", "sp ns/packet");
    constexpr std::size_t exchanges = 100'000; // per round
    for (const std::size_t size : {0uz, 64uz, 256uz, 1024uz, 1400uz}) {
        const auto r = measure(*both, size, exchanges);
        if (!r)
            return complain(error::numbered(9001, "an exchange between two engines got stuck"));
        const auto each = static_cast<std::size_t>(r->bytes / r->packets);
        const auto wire = wire_alone_ns(each, 1 << 20);
        std::printf("  %9zu %14.1f %14.2f %12.1f %14.1f %14.1f\n", size, r->ns, r->packets,
                    r->ns / r->packets, wire, r->ns / r->packets - wire);
    }
    std::puts("  an exchange is a request and its answer, both of that many bytes; ns of both "
              "sides together\n");
    return 0;
}
