// SPDX-License-Identifier: BSD-2-Clause
//
// The program nng-process: sockets of the real libnng for one test, in a process that can be killed
// (why: `hang_in_close` in nng.hpp). A test starts it and commands it through nng_peer.
//
// Stdin is the control socket. Each channel that comes from there is served by a thread; the end of
// the control socket, or of the test's process, is the end of this one. What libnng says is handed
// on as it is; whatever else goes wrong here ends the process, which the next call tells the test.
#include "tests/interop/nng_frame.hpp"

#include <array>
#include <condition_variable>
#include <cstdio>
#include <map>
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
#include <poll.h>
#include <set>
#include <span>
#include <stdexcept>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

namespace sp::test {
namespace {

// What must not fail, and is not what a test asks about.
void must(int code, const char *what)
{
    if (code != 0)
        throw std::runtime_error(what + (": libnng says " + std::string(::nng_strerror(code))));
}

auto opener(nng_role role) -> int (*)(nng_socket *)
{
    switch (role) {
    case nng_role::bus0:
        return ::nng_bus0_open;
    case nng_role::pair0:
        return ::nng_pair0_open;
    case nng_role::pair1:
        return ::nng_pair1_open;
    case nng_role::pair1_raw:
        return ::nng_pair1_open_raw;
    case nng_role::pub0:
        return ::nng_pub0_open;
    case nng_role::pull0:
        return ::nng_pull0_open;
    case nng_role::push0:
        return ::nng_push0_open;
    case nng_role::rep0:
        return ::nng_rep0_open;
    case nng_role::rep0_raw:
        return ::nng_rep0_open_raw;
    case nng_role::req0:
        return ::nng_req0_open;
    case nng_role::req0_raw:
        return ::nng_req0_open_raw;
    case nng_role::respondent0:
        return ::nng_respondent0_open;
    case nng_role::respondent0_raw:
        return ::nng_respondent0_open_raw;
    case nng_role::sub0:
        return ::nng_sub0_open;
    case nng_role::surveyor0:
        return ::nng_surveyor0_open;
    case nng_role::surveyor0_raw:
        return ::nng_surveyor0_open_raw;
    }
    throw std::runtime_error("no such role");
}

// The pipes of one socket, by the library's own notices.
class pipe_book {
public:
    // The end of a pipe that was refused is told although its beginning was not; and of a short one
    // the end may be told before the beginning, from two threads of the library.
    static void on_pipe(nng_pipe pipe, nng_pipe_ev what, void *of)
    {
        auto &b = *static_cast<pipe_book *>(of);
        const std::lock_guard lock(b.mutex_);
        if (what == NNG_PIPE_EV_ADD_POST) {
            ++b.ever_;
            if (b.ended_.erase(pipe.id) == 0)
                b.now_.insert(pipe.id);
        } else if (b.now_.erase(pipe.id) == 0) {
            b.ended_.insert(pipe.id);
        }
        b.changed_.notify_all();
    }
    [[nodiscard]] std::int64_t now() const
    {
        const std::lock_guard lock(mutex_);
        return static_cast<std::int64_t>(now_.size());
    }
    [[nodiscard]] std::int64_t ever() const
    {
        const std::lock_guard lock(mutex_);
        return ever_;
    }
    // False: it did not come about in time.
    [[nodiscard]] bool wait_now(std::int64_t count, nng_wait how_long) const
    {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, how_long,
                                 [&] { return static_cast<std::int64_t>(now_.size()) == count; });
    }
    [[nodiscard]] bool wait_ever(std::int64_t count, nng_wait how_long) const
    {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, how_long, [&] { return ever_ >= count; });
    }

private:
    mutable std::mutex mutex_;
    mutable std::condition_variable changed_;
    std::set<std::uint32_t> now_;
    std::set<std::uint32_t> ended_; // told to be over, and not yet to have begun
    std::int64_t ever_ = 0;
};

// Books and calls of contexts by their ids. Books are never removed: libnng may still tell of a
// pipe when its socket is closed.
std::mutex tables;
std::map<std::uint32_t, pipe_book> books;
std::map<std::uint32_t, nng_aio *> context_calls;

pipe_book &book_of(std::uint32_t id)
{
    const std::lock_guard lock(tables);
    return books[id];
}

nng_aio *call_of(std::uint32_t id)
{
    const std::lock_guard lock(tables);
    return context_calls.at(id);
}

// ---- the calls ----------------------------------------------------------------------------------

struct free_message {
    void operator()(nng_msg *m) const noexcept { ::nng_msg_free(m); }
};
using message = std::unique_ptr<nng_msg, free_message>;

// A call, or its answer: an nng_frame with the body in a message of libnng.
struct frame {
    nng_head head;
    std::string text{};
    message body{};
};

std::span<char> bytes_of(const message &m)
{
    if (!m)
        return {};
    return {static_cast<char *>(::nng_msg_body(m.get())), ::nng_msg_len(m.get())};
}

nng_socket socket_of(const frame &call)
{
    return {call.head.id};
}

nng_duration time_of(const frame &call)
{
    return static_cast<nng_duration>(call.head.how_long.count());
}

int flags_of(const frame &call)
{
    return call.head.how_long == nng_wait{0} ? int{NNG_FLAG_NONBLOCK} : 0;
}

frame says(const frame &call, int code)
{
    return {.head = {.op = call.head.op, .code = code}};
}

frame counted(const frame &call, std::int64_t pipes, int code = 0)
{
    return {.head = {.op = call.head.op, .code = code, .value = pipes}};
}

frame open_socket(const frame &call)
{
    nng_socket s;
    if (const int code = opener(static_cast<nng_role>(call.head.value))(&s); code != 0)
        return says(call, code);
    for (const auto what : {NNG_PIPE_EV_ADD_POST, NNG_PIPE_EV_REM_POST})
        must(::nng_pipe_notify(s, what, pipe_book::on_pipe, &book_of(s.id)), "nng_pipe_notify");
    must(::nng_socket_set_ms(s, NNG_OPT_RECONNMINT, 10), NNG_OPT_RECONNMINT);
    must(::nng_socket_set_ms(s, NNG_OPT_RECONNMAXT, 100), NNG_OPT_RECONNMAXT);
    return {.head = {.op = call.head.op, .id = s.id}};
}

frame listen(const frame &call)
{
    nng_listener at;
    auto answer = says(call, ::nng_listen(socket_of(call), call.text.c_str(), &at, 0));
    answer.text = call.text;
    if (answer.head.code == 0 && call.text.ends_with(":0")) {
        int port = 0;
        must(::nng_listener_get_int(at, NNG_OPT_TCP_BOUND_PORT, &port), NNG_OPT_TCP_BOUND_PORT);
        answer.text.pop_back();
        answer.text += std::to_string(port);
    }
    return answer;
}

message message_of(frame &call)
{
    must(::nng_msg_header_append(call.body.get(), call.text.data(), call.text.size()),
         "nng_msg_header_append");
    return std::move(call.body);
}

frame received(const frame &call, nng_msg *m)
{
    const auto *header = static_cast<const char *>(::nng_msg_header(m));
    return {.head = {.op = call.head.op, .id = ::nng_msg_get_pipe(m).id},
            .text = {header, header + ::nng_msg_header_len(m)},
            .body = message(m)};
}

frame send(frame &call)
{
    int code = ::nng_socket_set_ms(socket_of(call), NNG_OPT_SENDTIMEO, time_of(call));
    if (code != 0)
        return says(call, code);
    auto m = message_of(call);
    code = ::nng_sendmsg(socket_of(call), m.get(), flags_of(call));
    if (code == 0)
        (void)m.release(); // it is libnng's now
    return says(call, code);
}

frame receive(const frame &call)
{
    int code = ::nng_socket_set_ms(socket_of(call), NNG_OPT_RECVTIMEO, time_of(call));
    if (code != 0)
        return says(call, code);
    nng_msg *m = nullptr;
    code = ::nng_recvmsg(socket_of(call), &m, flags_of(call));
    return code == 0 ? received(call, m) : says(call, code);
}

// The device lasts as long as its two sockets.
frame device(const frame &call)
{
    const nng_socket other{static_cast<std::uint32_t>(call.head.value)};
    std::thread([one = socket_of(call), other] {
        if (const int code = ::nng_device(one, other); code != NNG_ECLOSED)
            std::fprintf(stderr, "nng_device: %s\n", ::nng_strerror(code));
    }).detach();
    return says(call, 0);
}

frame open_context(const frame &call)
{
    nng_ctx context;
    if (const int code = ::nng_ctx_open(&context, socket_of(call)); code != 0)
        return says(call, code);
    nng_aio *aio = nullptr;
    must(::nng_aio_alloc(&aio, nullptr, nullptr), "nng_aio_alloc");
    const std::lock_guard lock(tables);
    context_calls[context.id] = aio;
    return {.head = {.op = call.head.op, .id = context.id}};
}

frame close_context(const frame &call)
{
    ::nng_aio_free(call_of(call.head.id));
    return says(call, ::nng_ctx_close({call.head.id}));
}

frame send_in_context(frame &call)
{
    auto *aio = call_of(call.head.id);
    auto m = message_of(call);
    ::nng_aio_set_timeout(aio, time_of(call));
    ::nng_aio_set_msg(aio, m.get());
    ::nng_ctx_send({call.head.id}, aio);
    ::nng_aio_wait(aio);
    const int code = ::nng_aio_result(aio);
    if (code == 0)
        (void)m.release(); // it is libnng's now
    ::nng_aio_set_msg(aio, nullptr);
    return says(call, code);
}

frame receive_in_context(const frame &call)
{
    auto *aio = call_of(call.head.id);
    ::nng_aio_set_timeout(aio, time_of(call));
    ::nng_ctx_recv({call.head.id}, aio);
    ::nng_aio_wait(aio);
    const int code = ::nng_aio_result(aio);
    return code == 0 ? received(call, ::nng_aio_get_msg(aio)) : says(call, code);
}

frame perform(frame &call)
{
    const auto s = socket_of(call);
    const auto &[op, code, id, value, how_long] = call.head;
    const char *text = call.text.c_str();
    switch (op) {
    case nng_op::open:
        return open_socket(call);
    case nng_op::close:
        return says(call, ::nng_close(s));
    case nng_op::listen:
        return listen(call);
    case nng_op::dial:
        return says(call, ::nng_dial(s, text, nullptr, 0));
    case nng_op::dial_on:
        return says(call, ::nng_dial(s, text, nullptr, NNG_FLAG_NONBLOCK));
    case nng_op::set_ms:
        return says(call, ::nng_socket_set_ms(s, text, static_cast<nng_duration>(value)));
    case nng_op::set_int:
        return says(call, ::nng_socket_set_int(s, text, static_cast<int>(value)));
    case nng_op::set_size:
        return says(call, ::nng_socket_set_size(s, text, static_cast<std::size_t>(value)));
    case nng_op::subscribe:
        return says(call, ::nng_socket_set(s, NNG_OPT_SUB_SUBSCRIBE, text, call.text.size()));
    case nng_op::send:
        return send(call);
    case nng_op::receive:
        return receive(call);
    case nng_op::pipes:
        return counted(call, book_of(id).now());
    case nng_op::pipes_ever:
        return counted(call, book_of(id).ever());
    case nng_op::wait_pipes: {
        const bool came = book_of(id).wait_now(value, how_long);
        return counted(call, book_of(id).now(), came ? 0 : int{NNG_ETIMEDOUT});
    }
    case nng_op::wait_pipes_ever: {
        const bool came = book_of(id).wait_ever(value, how_long);
        return counted(call, book_of(id).ever(), came ? 0 : int{NNG_ETIMEDOUT});
    }
    case nng_op::device:
        return device(call);
    case nng_op::context_open:
        return open_context(call);
    case nng_op::context_close:
        return close_context(call);
    case nng_op::context_send:
        return send_in_context(call);
    case nng_op::context_receive:
        return receive_in_context(call);
    }
    throw std::runtime_error("no such call");
}

// A channel ends when the test gives it up.
void serve(const descriptor &channel)
{
    while (auto front = receive_front(channel, nng_deadline::max())) {
        nng_msg *m = nullptr;
        must(::nng_msg_alloc(&m, front->body_bytes), "nng_msg_alloc");
        frame call{front->head, std::move(front->text), message(m)};
        if (!receive_body(channel, bytes_of(call.body), nng_deadline::max()))
            return;
        const auto answer = perform(call);
        const auto body = bytes_of(answer.body);
        if (!send_frame(channel, answer.head, answer.text, {body.data(), body.size()},
                        nng_deadline::max()))
            return;
    }
}

// The control socket alone would not do: children that the test has forked hold it too. Nor would
// PR_SET_PDEATHSIG: that is the end of the thread that started us.
void serve_until_the_test_ends()
{
    const descriptor control(STDIN_FILENO),
        test(static_cast<int>(::syscall(SYS_pidfd_open, ::getppid(), 0)));
    if (!test)
        throw std::runtime_error("pidfd_open failed");
    std::array<pollfd, 2> ready{{{.fd = control.get(), .events = POLLIN, .revents = 0},
                                 {.fd = test.get(), .events = POLLIN, .revents = 0}}};
    for (;;) {
        if (::poll(ready.data(), ready.size(), -1) < 0)
            throw std::runtime_error("poll failed");
        if (ready[1].revents != 0)
            return;
        auto channel = receive_channel(control);
        if (!channel)
            return;
        std::thread(serve, std::move(*channel)).detach();
    }
}

} // namespace
} // namespace sp::test

int main()
{
    sp::test::serve_until_the_test_ends();
    ::_exit(0); // without what libnng has for the end: it may hang there too
}
