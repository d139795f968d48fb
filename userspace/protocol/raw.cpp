// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/protocol/raw.hpp"

#include "userspace/plants.hpp"
#include "userspace/protocol/pair.hpp"

#include <algorithm>

namespace sp::protocol {
namespace {

std::uint32_t word_of(pipe_id pipe) noexcept
{
    return static_cast<std::uint32_t>(pipe) & ~end_bit;
}

// A queue of the kind that is not used by a role may not have a policy that only others have.
overflow without_disconnect(overflow o) noexcept
{
    return o == overflow::disconnect ? overflow::drop_newest : o;
}

} // namespace

raw_options raw_defaults(role as) noexcept
{
    raw_options o{.as = as};
    switch (as) {
    case role::rep:
    case role::respondent:
    case role::surveyor:
        break;
    case role::pub:
        o.send.bytes = 1 << 20;
        o.on_send_full = overflow::drop_oldest;
        break;
    case role::sub:
        o.recv.bytes = 1 << 20;
        o.on_recv_full = overflow::drop_oldest;
        break;
    case role::bus:
        o.send.bytes = o.recv.bytes = 1 << 20;
        o.on_recv_full = overflow::drop_newest;
        break;
    case role::req:
    case role::push:
    case role::pull:
    case role::pair0:
    case role::pair1:
        o.send.bytes = 0;
        o.on_send_full = overflow::block;
        break;
    }
    return o;
}

raw_machine::reach raw_machine::reach_of(role as) noexcept
{
    switch (as) {
    case role::req:
    case role::push:
    case role::pair0:
    case role::pair1:
        return reach::one;
    case role::rep:
    case role::respondent:
        return reach::named;
    case role::surveyor:
    case role::pub:
    case role::bus:
        return reach::all;
    case role::pull:
    case role::sub:
        break;
    }
    return reach::nobody;
}

raw_machine::raw_machine(const raw_options &options)
    : as_(options.as), reach_(reach_of(options.as)), ttl_max_(options.ttl_max),
      blocks_(options.on_send_full == overflow::block),
      one_(options.send, without_disconnect(options.on_send_full), alone::wait),
      many_(options.send, options.on_send_full),
      in_(options.recv, options.on_recv_full,
          as_ == role::pair0 || as_ == role::pair1 ? fair_inbox::order::of_arrival
                                                   : fair_inbox::order::in_turn)
{
    SP_INVARIANT(ttl_max_ >= 1 && ttl_max_ <= ttl_limit);
    if (reach_ == reach::one)
        SP_INVARIANT(options.on_send_full != overflow::disconnect);
}

// ---- pipes ----

void raw_machine::on_pipe_added(const pipe_profile &pipe)
{
    pipes_.add(pipe);
    in_.add(pipe.id);
    if (reach_ == reach::one)
        one_.add(pipe);
    else
        many_.add(pipe);
}

void raw_machine::on_pipe_closed(pipe_id pipe, instant)
{
    pipes_.remove(pipe);
    in_.remove(pipe);
    one_.remove(pipe);
    many_.remove(pipe);
}

void raw_machine::on_pipe_ready(pipe_id pipe, instant, effects &out)
{
    if (reach_ == reach::one)
        one_.ready(pipe, out);
    else
        many_.ready(pipe, out);
}

// What one of many may take goes to another; what was meant for that peer is lost with it.
void raw_machine::on_unsent(pipe_id pipe, frame_id frame)
{
    if (reach_ == reach::one)
        return one_.take_back(pipe, frame);
    arrears_.count(stat::socket_failovers);
    arrears_.count(stat::socket_pipe_closed, pipe);
    arrears_.release(frame);
}

// ---- receiving ----

raw_machine::reading raw_machine::read(std::span<const std::byte> payload) const noexcept
{
    using verdict = backtrace::verdict;
    switch (as_) {
    case role::rep:
    case role::respondent: {
        const auto stack = read_backtrace(payload, ttl_max_);
        if (stack.what == verdict::too_many_words)
            return {.fault = stat::socket_ttl};
        return stack.what == verdict::whole
                   ? reading{.header_bytes = stack.bytes}
                   : reading{.fault = stat::pipe_bad_header, .closes = true};
    }
    case role::req:
    case role::surveyor: {
        const auto stack = read_backtrace(payload, backtrace_words_max);
        return stack.what == verdict::whole
                   ? reading{.header_bytes = stack.bytes}
                   : reading{.fault = stat::pipe_bad_header, .closes = true};
    }
    case role::pair1: {
        const auto fault = hop_fault(payload, ttl_max_);
        return {
            .header_bytes = hop_bytes, .fault = fault, .closes = fault == stat::pipe_bad_header};
    }
    case role::push:
    case role::pub:
        return {.fault = stat::socket_unexpected};
    case role::pair0:
    case role::pull:
    case role::sub:
    case role::bus:
        break;
    }
    return {};
}

void raw_machine::on_message(pipe_id pipe, frame_id frame, std::span<const std::byte> payload,
                             instant, effects &out)
{
    const auto message = read(payload);
    if (!message.fault)
        return in_.put({.frame = frame, .pipe = pipe, .header_bytes = message.header_bytes},
                       payload.size(), out);
    if (message.closes) {
        out.release(frame);
        return out.close_pipe(pipe, *message.fault);
    }
    if (as_ != role::pub)
        return in_.refuse(pipe, frame, *message.fault, out);
    out.count(*message.fault, pipe);
    out.release(frame);
    out.close_pipe(pipe, stat::pipe_unexpected);
}

raw_header raw_machine::header_of(const taken &message,
                                  std::span<const std::byte> payload) const noexcept
{
    SP_INVARIANT(message.header_bytes <= std::min(payload.size(), header_bytes_max));
    raw_header h;
    if (reach_ == reach::named || as_ == role::bus) {
        store_word(h.bytes, word_of(message.pipe));
        h.size = word_bytes;
    }
    std::ranges::copy(payload.first(message.header_bytes), h.bytes.begin() + h.size);
    h.size += message.header_bytes;
    return h;
}

// ---- sending ----

// The pipe whose name has this first word; no_pipe if there is none.
pipe_id raw_machine::named_by(std::span<const std::byte> header) const noexcept
{
    const auto word = load_word(header);
    if ((word & end_bit) != 0)
        return no_pipe;
    for (const auto name : {word, word | end_bit})
        if (const auto *pipe = pipes_.find(static_cast<pipe_id>(name)))
            return pipe->id;
    return no_pipe;
}

std::optional<errc> raw_machine::on_send(std::span<const std::byte> header, frame_id frame,
                                         std::size_t size, instant, effects &out)
{
    switch (reach_) {
    case reach::one:
        return send_to_one(header, frame, size, out);
    case reach::named:
        send_to_named(header, frame, size, out);
        return std::nullopt;
    case reach::all:
        return send_to_all(header, frame, size, out);
    case reach::nobody:
        break;
    }
    return errc::not_supported;
}

std::optional<errc> raw_machine::send_to_one(std::span<const std::byte> header, frame_id frame,
                                             std::size_t size, effects &out)
{
    if (as_ == role::req)
        return header.size() > header_bytes_max ? errc::invalid_argument
                                                : one_.send(header, frame, size, out);
    if (as_ != role::pair1)
        return !header.empty() ? errc::invalid_argument : one_.send({}, frame, size, out);
    if (header.size() != hop_bytes)
        return errc::invalid_argument;
    const auto hops = load_word(header);
    if (hops >= hops_max)
        return errc::invalid_argument;
    std::array<std::byte, hop_bytes> raised;
    store_word(raised, hops + (SP_PLANTED(pair_hops_uncounted) ? 0 : 1));
    return one_.send(raised, frame, size, out);
}

void raw_machine::send_to_named(std::span<const std::byte> header, frame_id frame, std::size_t size,
                                effects &out)
{
    const auto drop = [&](stat why) {
        arrears_.count(why);
        arrears_.release(frame);
        arrears_.pay(out);
    };
    if (header.size() < word_bytes || header.size() > raw_header::bytes_max)
        return drop(stat::socket_bad_raw_header);
    const fanout::outgoing message{
        .frame = frame, .size = size, .header = header.subspan(word_bytes)};
    if (many_.send_to(named_by(header), message, out) == fate::gone)
        drop(stat::socket_pipe_gone);
}

std::optional<errc> raw_machine::send_to_all(std::span<const std::byte> header, frame_id frame,
                                             std::size_t size, effects &out)
{
    if (as_ == role::bus) {
        const auto except = header.size() >= word_bytes ? named_by(header) : no_pipe;
        many_.send_to_others(except, {.frame = frame, .size = size}, out);
        return std::nullopt;
    }
    if (header.size() > (as_ == role::surveyor ? header_bytes_max : 0))
        return errc::invalid_argument;
    many_.send({.frame = frame, .size = size, .header = header}, out);
    return std::nullopt;
}

bool raw_machine::send_ready(std::size_t size) const noexcept
{
    switch (reach_) {
    case reach::one:
        return one_.send_ready(size);
    case reach::named:
        return true;
    case reach::all:
        return !blocks_ || many_.all_accept(size);
    case reach::nobody:
        break;
    }
    return true; // to be told at once that it cannot be
}

// ---- the rest ----

void raw_machine::pump(instant, effects &out)
{
    one_.pump(out);
    many_.pump(out);
    in_.pump(out);
    arrears_.pay(out);
}

std::size_t raw_machine::queued_out() const noexcept
{
    return one_.queued() + many_.queued();
}

std::size_t raw_machine::close(effects &out)
{
    const auto dropped = one_.drop_all(out) + many_.drop_all(stat::socket_closed, out);
    in_.drop_all(out);
    arrears_.pay(out);
    return dropped;
}

} // namespace sp::protocol
