// SPDX-License-Identifier: BSD-2-Clause
//
// Sockets of the real libnng, each in a process of its own (the program nng-process) unless it is
// opened beside another: opened by role, listening or dialing anywhere, with waits that end by
// patience. Calls may be made from several threads. Nothing here knows sp; what a call of libnng
// says is handed on as its own number. A process that ends by itself, or does not answer in time,
// is an exception. What libnng 1.5.2 does otherwise than sp, and rightly so or not, is in one
// table, `nng_does`; a test that meets such a difference names it.
#pragma once

#include "tests/interop/nng_frame.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/protocol/survey0/survey.h>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <utility>

namespace sp::test {

// The differences that the tests expect of libnng, each in one place. A line that becomes false
// with another version of the library makes the test fail that uses it.
namespace nng_does {

// A dial to a socket of another protocol succeeds; the connection is closed afterwards.
inline constexpr int say_of_a_dial_to_another_protocol = 0;
// So does the dial of a second partner to a PAIR that has one.
inline constexpr int say_of_a_dial_to_a_busy_pair = 0;
// A recv that waits when its survey's time is over says this, as if it had timed out itself...
inline constexpr int say_when_a_survey_ends = NNG_ETIMEDOUT;
// ... and any recv after that says this, also when answers had come in time and were unread.
inline constexpr int say_after_a_survey = NNG_ESTATE;
// A send to nobody is ENOTCONN nowhere: PUSH, PAIR and REQ say this without waiting.
inline constexpr int say_when_a_send_would_wait = NNG_EAGAIN;
// A RESPONDENT's send without waiting fails although there is room; a test gives it time to wait.
inline constexpr auto respondent_needs_a_moment = std::chrono::seconds(30);
// A reply or an answer to a pipe that has gone is success, and not counted.
inline constexpr int say_of_an_answer_to_nobody = 0;
// A dialer whose connection is closed while it begins dials no more, about once in ten thousand
// times on a busy machine: then there is no socket of the library's left, and nothing in our
// backlog.
inline constexpr bool stop_to_dial_when_closed_early = true;
// A message over its limit closes the connection; the sender is not told.
inline constexpr int say_of_a_message_that_is_too_large = 0;
// Messages that PUB and BUS keep for one slow peer, and SUB and BUS for a slow reader.
inline constexpr std::size_t feed_queue = 16;
// nng_close() never returns, about once in hundreds of times when a message is on its way in and
// the machine is busy: its reaper waits for a call that nobody completes. The process is killed
// then; that is why it is not the test's.
inline constexpr bool hang_in_close = true;

} // namespace nng_does

// What a receive of libnng gave: a number of its own, 0 for success, and the message.
struct nng_mail {
    int error = 0;
    std::string body{}, header{}; // the header only of raw sockets
    std::uint32_t pipe = 0;
};

inline constexpr nng_wait nng_patience = std::chrono::seconds(30);
inline constexpr nng_wait nng_close_patience = std::chrono::seconds(10); // it needs milliseconds
inline constexpr nng_wait not_at_all{0};

class nng_process;

class nng_peer {
public:
    explicit nng_peer(nng_role role);
    // In the process of the other one, and killed with it.
    nng_peer(nng_role role, const nng_peer &beside);
    nng_peer(nng_peer &&other) noexcept
        : process_(std::move(other.process_)), id_(std::exchange(other.id_, 0))
    {
    }
    nng_peer &operator=(nng_peer &&) = delete;
    ~nng_peer() { close(); }

    // The URL that leads there: after port 0 with the port that was given.
    std::string listen(const std::string &url);
    void dial(const std::string &url);
    [[nodiscard]] int try_listen(const std::string &url);
    [[nodiscard]] int try_dial(const std::string &url);
    void dial_on(const std::string &url); // keeps trying in the background
    // Kills the process when libnng does not close by itself, and says so.
    void close(nng_wait how_long = nng_close_patience) noexcept;
    // libnng's device with a socket beside this one, until either is closed.
    void join_by_device(const nng_peer &other);

    void set(const char *option, nng_wait value);
    void set(const char *option, int value);
    void set_size(const char *option, std::size_t value);
    void subscribe(std::string_view topic);

    // Zero does not wait. The answer is libnng's.
    [[nodiscard]] int send(std::string_view body, nng_wait how_long = nng_patience);
    [[nodiscard]] int send_with(std::string_view header, std::string_view body,
                                nng_wait how_long = nng_patience);
    [[nodiscard]] nng_mail recv(nng_wait how_long = nng_patience);

    // By the library's own notices of its pipes.
    void wait_pipes(std::size_t count) const; // until there are so many
    [[nodiscard]] std::size_t pipes() const;
    [[nodiscard]] std::size_t pipes_ever() const;
    void wait_pipes_ever(std::size_t count) const;

    [[nodiscard]] pid_t pid() const;

private:
    friend class nng_context;

    nng_peer(nng_role role, std::shared_ptr<nng_process> in);
    [[nodiscard]] nng_frame ask(nng_op op, std::string_view text = {},
                                std::int64_t value = 0) const;

    std::shared_ptr<nng_process> process_;
    std::uint32_t id_ = 0; // 0: closed
};

// A context of a libnng socket; calls wait for their end.
class nng_context {
public:
    explicit nng_context(const nng_peer &of);
    ~nng_context();
    nng_context(const nng_context &) = delete;
    nng_context &operator=(const nng_context &) = delete;

    [[nodiscard]] int send(std::string_view body, nng_wait how_long = nng_patience);
    [[nodiscard]] nng_mail recv(nng_wait how_long = nng_patience);

private:
    std::shared_ptr<nng_process> process_;
    std::uint32_t id_ = 0;
};

// The name of a number of libnng, as in its header.
[[nodiscard]] std::string nng_name(int code);

// Throws unless a call of libnng succeeded.
void nng_must(int code, const std::string &what);

} // namespace sp::test
