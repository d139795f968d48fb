// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/protocol/pair.hpp"

#include "userspace/plants.hpp"
#include "userspace/protocol/backtrace.hpp"

namespace sp::protocol {

// A message that we send has made one hop when it arrives.
static constexpr std::array<std::byte, hop_bytes> first_hop{std::byte{0}, std::byte{0},
                                                            std::byte{0}, std::byte{1}};

std::optional<stat> hop_fault(std::span<const std::byte> payload, std::size_t ttl_max) noexcept
{
    if (payload.size() < hop_bytes)
        return stat::pipe_bad_header;
    const auto hops = load_word(payload);
    if (hops > hops_max)
        return stat::pipe_bad_header;
    if (hops > ttl_max && !SP_PLANTED(pair_hops_unlimited))
        return stat::socket_ttl;
    return std::nullopt;
}

pair_machine::pair_machine(const pair_options &options)
    : version_(options.version), ttl_max_(options.ttl_max),
      out_(options.send, options.on_send_full, options.on_no_peer),
      in_(options.recv, options.on_recv_full, fair_inbox::order::of_arrival)
{
    SP_INVARIANT(version_ == 0 || version_ == 1);
    SP_INVARIANT(ttl_max_ >= 1 && ttl_max_ <= hops_max);
}

std::span<const std::byte> pair_machine::header() const noexcept
{
    return version_ == 0 ? std::span<const std::byte>{} : std::span<const std::byte>(first_hop);
}

std::optional<errc> pair_machine::on_send(frame_id frame, std::size_t size, instant, effects &out)
{
    return out_.send(header(), frame, size, out);
}

bool pair_machine::send_ready(std::size_t size) const noexcept
{
    return out_.send_ready(header().size() + size);
}

void pair_machine::on_pipe_added(const pipe_profile &pipe)
{
    out_.add(pipe);
    in_.add(pipe.id);
}

void pair_machine::on_pipe_closed(pipe_id pipe, instant)
{
    out_.remove(pipe);
    in_.remove(pipe);
}

void pair_machine::on_message(pipe_id pipe, frame_id frame, std::span<const std::byte> payload,
                              instant, effects &out)
{
    if (version_ == 1)
        if (const auto fault = hop_fault(payload, ttl_max_)) {
            if (*fault != stat::pipe_bad_header)
                return in_.refuse(pipe, frame, *fault, out);
            out.release(frame);
            out.close_pipe(pipe, *fault);
            return;
        }
    in_.put({.frame = frame, .pipe = pipe, .header_bytes = header().size()}, payload.size(), out);
}

void pair_machine::pump(instant, effects &out)
{
    out_.pump(out);
    in_.pump(out);
}

std::size_t pair_machine::close(effects &out)
{
    const auto dropped = out_.drop_all(out);
    in_.drop_all(out);
    return dropped;
}

} // namespace sp::protocol
