// SPDX-License-Identifier: BSD-2-Clause
#include "tests/interop/nng.hpp"

#include <stdexcept>

namespace sp::test {
namespace {

nng_msg *message_of(std::string_view header, std::string_view body)
{
    nng_msg *m = nullptr;
    nng_must(::nng_msg_alloc(&m, 0), "nng_msg_alloc");
    nng_must(::nng_msg_header_append(m, header.data(), header.size()), "nng_msg_header_append");
    nng_must(::nng_msg_append(m, body.data(), body.size()), "nng_msg_append");
    return m;
}

nng_mail mail_of(nng_msg *m)
{
    const auto text = [](const void *bytes, std::size_t size) {
        return size > 0 ? std::string(static_cast<const char *>(bytes), size) : std::string();
    };
    nng_mail mail{.body = text(::nng_msg_body(m), ::nng_msg_len(m)),
                  .header = text(::nng_msg_header(m), ::nng_msg_header_len(m)),
                  .pipe = ::nng_msg_get_pipe(m).id};
    ::nng_msg_free(m);
    return mail;
}

int flags_of(nng_wait how_long)
{
    return how_long == not_at_all ? int{NNG_FLAG_NONBLOCK} : 0;
}

} // namespace

void nng_must(int code, const std::string &what)
{
    if (code != 0)
        throw std::runtime_error(what + (": libnng says " + std::string(::nng_strerror(code))));
}

nng_peer::nng_peer(opener open) : pipes_(std::make_unique<notices>())
{
    nng_must(open(&socket_), "open");
    for (const auto what : {NNG_PIPE_EV_ADD_POST, NNG_PIPE_EV_REM_POST})
        nng_must(::nng_pipe_notify(socket_, what, on_pipe, pipes_.get()), "nng_pipe_notify");
    set(NNG_OPT_RECONNMINT, nng_wait(10));
    set(NNG_OPT_RECONNMAXT, nng_wait(100));
}

// The end of a pipe that was refused is told although its beginning was not; and of a short one the
// end may be told before the beginning, from two threads of the library.
void nng_peer::on_pipe(nng_pipe pipe, nng_pipe_ev what, void *of)
{
    auto &n = *static_cast<notices *>(of);
    const std::lock_guard lock(n.mutex);
    if (what == NNG_PIPE_EV_ADD_POST) {
        ++n.ever;
        if (n.ended.erase(pipe.id) == 0)
            n.now.insert(pipe.id);
    } else if (n.now.erase(pipe.id) == 0) {
        n.ended.insert(pipe.id);
    }
    n.changed.notify_all();
}

std::string nng_peer::listen(const std::string &url)
{
    nng_listener at;
    nng_must(::nng_listen(socket_, url.c_str(), &at, 0), "listen on " + url);
    if (!url.ends_with(":0"))
        return url;
    int port = 0;
    nng_must(::nng_listener_get_int(at, NNG_OPT_TCP_BOUND_PORT, &port), "port of " + url);
    return url.substr(0, url.size() - 1) + std::to_string(port);
}

int nng_peer::try_listen(const std::string &url)
{
    return ::nng_listen(socket_, url.c_str(), nullptr, 0);
}

int nng_peer::try_dial(const std::string &url)
{
    return ::nng_dial(socket_, url.c_str(), nullptr, 0);
}

void nng_peer::dial(const std::string &url)
{
    nng_must(try_dial(url), "dial " + url);
}

void nng_peer::dial_on(const std::string &url)
{
    nng_must(::nng_dial(socket_, url.c_str(), nullptr, NNG_FLAG_NONBLOCK), "dial " + url);
}

void nng_peer::close() noexcept
{
    if (socket_.id != 0)
        ::nng_close(std::exchange(socket_, nng_socket{0}));
}

void nng_peer::set(const char *option, nng_wait value)
{
    nng_must(::nng_socket_set_ms(socket_, option, static_cast<nng_duration>(value.count())),
             option);
}

void nng_peer::set(const char *option, int value)
{
    nng_must(::nng_socket_set_int(socket_, option, value), option);
}

void nng_peer::set_size(const char *option, std::size_t value)
{
    nng_must(::nng_socket_set_size(socket_, option, value), option);
}

void nng_peer::subscribe(std::string_view topic)
{
    nng_must(::nng_socket_set(socket_, NNG_OPT_SUB_SUBSCRIBE, topic.data(), topic.size()),
             "subscribe");
}

int nng_peer::send(std::string_view body, nng_wait how_long)
{
    return send_with({}, body, how_long);
}

int nng_peer::send_with(std::string_view header, std::string_view body, nng_wait how_long)
{
    set(NNG_OPT_SENDTIMEO, how_long);
    auto *m = message_of(header, body);
    const int code = ::nng_sendmsg(socket_, m, flags_of(how_long));
    if (code != 0)
        ::nng_msg_free(m);
    return code;
}

nng_mail nng_peer::recv(nng_wait how_long)
{
    set(NNG_OPT_RECVTIMEO, how_long);
    nng_msg *m = nullptr;
    if (const int code = ::nng_recvmsg(socket_, &m, flags_of(how_long)); code != 0)
        return {.error = code};
    return mail_of(m);
}

void nng_peer::wait_pipes(std::size_t count) const
{
    std::unique_lock lock(pipes_->mutex);
    if (!pipes_->changed.wait_for(lock, nng_patience, [&] { return pipes_->now.size() == count; }))
        throw std::runtime_error("libnng has " + std::to_string(pipes_->now.size()) +
                                 " pipes, not " + std::to_string(count));
}

void nng_peer::wait_pipes_ever(std::size_t count) const
{
    std::unique_lock lock(pipes_->mutex);
    if (!pipes_->changed.wait_for(lock, nng_patience, [&] { return pipes_->ever >= count; }))
        throw std::runtime_error("libnng has had " + std::to_string(pipes_->ever) + " pipes");
}

std::size_t nng_peer::pipes() const
{
    const std::lock_guard lock(pipes_->mutex);
    return pipes_->now.size();
}

std::size_t nng_peer::pipes_ever() const
{
    const std::lock_guard lock(pipes_->mutex);
    return pipes_->ever;
}

nng_context::nng_context(const nng_peer &of)
{
    nng_must(::nng_ctx_open(&context_, of.get()), "nng_ctx_open");
    nng_must(::nng_aio_alloc(&call_, nullptr, nullptr), "nng_aio_alloc");
}

nng_context::~nng_context()
{
    ::nng_aio_free(call_);
    ::nng_ctx_close(context_);
}

int nng_context::send(std::string_view body, nng_wait how_long)
{
    ::nng_aio_set_timeout(call_, static_cast<nng_duration>(how_long.count()));
    ::nng_aio_set_msg(call_, message_of({}, body));
    ::nng_ctx_send(context_, call_);
    ::nng_aio_wait(call_);
    const int code = ::nng_aio_result(call_);
    if (code != 0)
        ::nng_msg_free(::nng_aio_get_msg(call_));
    ::nng_aio_set_msg(call_, nullptr);
    return code;
}

nng_mail nng_context::recv(nng_wait how_long)
{
    ::nng_aio_set_timeout(call_, static_cast<nng_duration>(how_long.count()));
    ::nng_ctx_recv(context_, call_);
    ::nng_aio_wait(call_);
    if (const int code = ::nng_aio_result(call_); code != 0)
        return {.error = code};
    return mail_of(::nng_aio_get_msg(call_));
}

} // namespace sp::test
