// SPDX-License-Identifier: BSD-2-Clause
//
// What a pattern remembers of its pipes: found by name in constant time, walked densely in turn.
// The low 16 bits of a pipe's name are its index in the engine, the rest is a generation; a stale
// name finds nothing.
#pragma once

#include "userspace/protocol/types.hpp"

#include <vector>

namespace sp::protocol {

template <class Pipe> // has a member `id` of type pipe_id
class pipe_table {
public:
    Pipe &add(Pipe pipe)
    {
        const auto slot = index(pipe.id);
        if (slot >= where_.size())
            where_.resize(slot + 1, nowhere);
        SP_INVARIANT(where_[slot] == nowhere);
        where_[slot] = static_cast<std::uint32_t>(pipes_.size());
        pipes_.push_back(std::move(pipe));
        return pipes_.back();
    }

    [[nodiscard]] Pipe *find(pipe_id id) noexcept
    {
        const auto slot = index(id);
        if (slot >= where_.size() || where_[slot] == nowhere || pipes_[where_[slot]].id != id)
            return nullptr;
        return &pipes_[where_[slot]];
    }
    [[nodiscard]] const Pipe *find(pipe_id id) const noexcept
    {
        return const_cast<pipe_table *>(this)->find(id);
    }

    void remove(pipe_id id) noexcept
    {
        auto *pipe = find(id);
        if (!pipe)
            return;
        where_[index(pipes_.back().id)] = static_cast<std::uint32_t>(pipe - pipes_.data());
        where_[index(id)] = nowhere;
        if (pipe != &pipes_.back())
            *pipe = std::move(pipes_.back());
        pipes_.pop_back();
    }

    [[nodiscard]] std::size_t size() const noexcept { return pipes_.size(); }
    [[nodiscard]] bool empty() const noexcept { return pipes_.empty(); }
    [[nodiscard]] Pipe &operator[](std::size_t i) noexcept { return pipes_[i]; }
    [[nodiscard]] const Pipe &operator[](std::size_t i) const noexcept { return pipes_[i]; }
    [[nodiscard]] auto begin() noexcept { return pipes_.begin(); }
    [[nodiscard]] auto end() noexcept { return pipes_.end(); }
    [[nodiscard]] auto begin() const noexcept { return pipes_.begin(); }
    [[nodiscard]] auto end() const noexcept { return pipes_.end(); }

private:
    static constexpr std::uint32_t nowhere = ~0u;
    static std::size_t index(pipe_id id) noexcept
    {
        return static_cast<std::uint32_t>(id) & 0xffff;
    }

    std::vector<std::uint32_t> where_;
    std::vector<Pipe> pipes_;
};

} // namespace sp::protocol
