// SPDX-License-Identifier: BSD-2-Clause
//
// An application and its socket. It speaks and reads by operations that are drawn from its own
// stream of choices, and holds every message that it gets against the ledger. While everything is
// being healed it says nothing new and reads all there is.
#pragma once

#include "tests/sim/world.hpp"

#include <memory>
#include <optional>
#include <span>

namespace sp::sim {

class actor {
public:
    actor(world &w, std::uint32_t place);
    virtual ~actor() = default;

    void open();
    void close();
    void lose() noexcept; // its host crashed
    [[nodiscard]] bool is_open() const noexcept { return id_ != core::socket_id{}; }

    void act();  // the operation that is due
    bool look(); // its host has made a turn; whether it did something
    [[nodiscard]] instant next() const noexcept { return next_; }
    // What is to be done before it is at rest: empty if nothing.
    [[nodiscard]] virtual std::string unfinished() { return {}; }
    virtual void end() {} // all is healed and at rest: what must hold now

    [[nodiscard]] const member &what() const noexcept { return what_; }
    [[nodiscard]] std::uint32_t place() const noexcept { return place_; }
    [[nodiscard]] core::socket_id id() const noexcept { return id_; }
    [[nodiscard]] std::uint32_t socket() const noexcept { return socket_; }
    [[nodiscard]] host &home() noexcept { return world_.at(what_.host); }
    [[nodiscard]] core::socket &state() { return *engine().find(id_); }
    [[nodiscard]] virtual std::size_t queued() const { return 0; } // in and out, in its machine
    // Whether every message that arrives is taken, unless it was dropped and counted.
    [[nodiscard]] virtual bool takes(std::uint32_t number) const
    {
        (void)number;
        return false;
    }
    void check_books();

protected:
    enum class order : std::uint8_t {
        exact, // of the pipe, without a gap
        gaps,  // of the pipe; some may be missing
        none
    };

    virtual void make() = 0;                 // opens the socket: sets id_
    virtual void forget() {}                 // what the socket held is gone
    virtual bool speak() = 0;                // false: it has nothing to say
    virtual bool read() = 0;                 // one message; false: there is none
    virtual bool inspect() { return false; } // after a turn, whatever it reads

    [[nodiscard]] engine_type &engine() { return *home().engine; }
    [[nodiscard]] instant now() { return world_.local(home()); }
    [[nodiscard]] std::uint32_t choose(std::uint32_t n) { return world_.chance.choose(stream_, n); }
    [[nodiscard]] bool fickle() { return world_.plan().says.fickle && choose(2) == 1; }
    void again_in(nanoseconds mean); // its next operation comes then at the latest
    [[nodiscard]] protocol::queue_bounds bounds();
    [[nodiscard]] protocol::overflow overflow_of(bool may_block);
    [[nodiscard]] core::socket_options shaping();
    template <class M>
    [[nodiscard]] M &machine()
    {
        return std::get<M>(state().machine);
    }
    template <class M, class F>
    auto with(F &&f)
    {
        auto value = engine().template with<M>(id_, now(), std::forward<F>(f));
        engine().finish(now());
        return value;
    }
    void count(stat which) { engine().count(state(), which); }

    // A body in a frame, with its entry in the ledger. Null: no memory.
    struct made {
        core::frame *frame = nullptr;
        std::uint32_t number = unknown;
    };
    [[nodiscard]] std::size_t draw_size();
    [[nodiscard]] std::size_t draw_any_size();
    [[nodiscard]] made compose(std::size_t size, std::uint32_t answers = nobody,
                               std::uint16_t topic = 0);
    void accepted(std::uint32_t number);
    void refused(const made &m) { engine().pool().release(m.frame->id); }
    // After would_block: nothing must have been ready.
    void check_blocked(std::size_t size);

    // Looks at a message that was taken and releases its frame. Its number, or unknown.
    std::uint32_t got(const protocol::taken &t, order how, std::uint32_t context = 0,
                      std::size_t topic = 0);
    [[nodiscard]] bool check_body(std::uint32_t number, std::span<const std::byte> body);
    void check_place(std::uint32_t number, pipe_id pipe, order how, std::uint32_t context);
    [[nodiscard]] flow *flow_of(pipe_id pipe); // that comes in by it
    [[nodiscard]] std::uint64_t lost_pipes()   // since it opened
    {
        return state().books[stat::pipe_opened] - state().peers;
    }
    [[nodiscard]] std::uint64_t receiver(std::uint32_t context) const noexcept
    {
        return std::uint64_t{socket_} << 32 | context;
    }
    [[nodiscard]] std::string name() const;
    // No device is in between: one that gets two pipes of a sender takes from them in turn.
    [[nodiscard]] bool direct() const;

    world &world_;
    const member what_;
    const std::uint32_t place_;
    const std::size_t stream_;
    core::socket_id id_{};
    std::uint32_t socket_ = nobody; // its number, new each time it opens
    std::uint32_t said_ = 0;
    std::uint32_t accepted_ = 0; // since it opened
    reading reads_ = reading::eager;
    instant next_ = instant::max();
};

[[nodiscard]] std::unique_ptr<actor> make_flow_actor(world &w, std::uint32_t place);
[[nodiscard]] std::unique_ptr<actor> make_asking_actor(world &w, std::uint32_t place);
[[nodiscard]] std::unique_ptr<actor> make_device(world &w, std::uint32_t place);

} // namespace sp::sim
