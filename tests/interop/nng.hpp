// SPDX-License-Identifier: BSD-2-Clause
//
// Sockets of the real libnng, in the process of the test: opened by role, listening or dialing
// anywhere, with waits that end by patience. Nothing here knows sp; what a call of libnng says is
// handed on as its own number. What libnng 1.5.2 does otherwise than sp, and rightly so or not, is
// in one table, `nng_does`; a test that meets such a difference names it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <nng/nng.h>
#include <nng/protocol/bus0/bus.h>
#include <nng/protocol/pair0/pair.h>
#include <nng/protocol/pair1/pair.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/pubsub0/sub.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/protocol/survey0/respond.h>
#include <nng/protocol/survey0/survey.h>
#include <set>
#include <string>
#include <string_view>
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

} // namespace nng_does

// What a receive of libnng gave: a number of its own, 0 for success, and the message.
struct nng_mail {
    int error = 0;
    std::string body{}, header{}; // the header only of raw sockets
    std::uint32_t pipe = 0;
};

using nng_wait = std::chrono::milliseconds;
inline constexpr nng_wait nng_patience = std::chrono::seconds(30);
inline constexpr nng_wait not_at_all{0};

class nng_peer {
public:
    using opener = int (*)(nng_socket *);

    explicit nng_peer(opener open);
    nng_peer(nng_peer &&other) noexcept
        : socket_(std::exchange(other.socket_, nng_socket{0})), pipes_(std::move(other.pipes_))
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
    void close() noexcept;

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

    [[nodiscard]] nng_socket get() const noexcept { return socket_; }

private:
    struct notices {
        std::mutex mutex;
        std::condition_variable changed;
        std::set<std::uint32_t> now;
        std::set<std::uint32_t> ended; // told to be over, and not yet to have begun
        std::size_t ever = 0;
    };
    static void on_pipe(nng_pipe pipe, nng_pipe_ev what, void *of);

    nng_socket socket_{0};
    std::unique_ptr<notices> pipes_;
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
    nng_ctx context_;
    nng_aio *call_ = nullptr;
};

// Throws unless a call of libnng succeeded.
void nng_must(int code, const std::string &what);

} // namespace sp::test
