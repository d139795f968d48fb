// SPDX-License-Identifier: BSD-2-Clause
//
// Agent pairing (PAIR): two agents have a channel of their own, and either may begin. A third is
// refused while they talk, and they do not notice.
//
//   pairing listen URL  one agent; talks until a third has been refused
//   pairing dial URL    the other one
//   pairing third URL   the one too many; it succeeds when it is refused
#include <cstdio>
#include <sp/sp.hpp>
#include <string>
#include <string_view>
using namespace std::chrono_literals;

constexpr auto patience = 20s;
constexpr int lines = 100;

// Line by line; neither asks before it speaks.
sp::result<void> talk(sp::pair &channel, const std::string &name)
{
    std::string via;
    int heard = 0;
    for (int i = 0; i < lines; ++i) {
        if (auto sent = channel.send(name + std::to_string(i), patience); !sent)
            return sent;
        auto line = channel.recv(patience);
        if (!line)
            return std::unexpected(line.error());
        heard += line->text().ends_with(" " + std::to_string(i)); // each once, and in order
        via = line->transport();
    }
    std::printf("paired: said %d lines, heard %d, via %s\n", lines, heard, via.c_str());
    return {};
}

int listen(const std::string &url)
{
    auto channel = sp::pair::open({.listen = url});
    if (!channel)
        return sp::complain(channel.error());
    if (auto talked = talk(*channel, "listener "); !talked)
        return sp::complain(talked.error());
    for (;;) {
        auto event = channel->next_event(patience);
        if (!event)
            return sp::complain(event.error());
        if (event->what == sp::pipe_event::kind::refused) {
            std::printf("refused a third: %.*s\n", int(event->reason.size()), event->reason.data());
            break;
        }
    }
    if (auto sent = channel->send("goodbye", patience); !sent)
        return sp::complain(sent.error());
    auto answer = channel->recv(patience);
    if (!answer)
        return sp::complain(answer.error());
    std::printf("undisturbed: %.*s\n", int(answer->size()), answer->text().data());
    return 0;
}

int dial(const std::string &url)
{
    auto channel = sp::pair::open({.dial = url});
    if (!channel)
        return sp::complain(channel.error());
    if (auto talked = talk(*channel, "dialer "); !talked)
        return sp::complain(talked.error());
    auto last = channel->recv(patience);
    if (!last)
        return sp::complain(last.error());
    if (auto sent = channel->send(std::string(last->text()) + " too", patience); !sent)
        return sp::complain(sent.error());
    return 0;
}

int third(const std::string &url)
{
    auto channel = sp::pair::open();
    if (!channel)
        return sp::complain(channel.error());
    auto dialed = channel->dial(url, patience);
    if (!dialed && dialed.error() == sp::errc::peer_busy) {
        std::printf("refused: it has a partner\n");
        return 0;
    }
    if (!dialed && dialed.error() != sp::errc::connection_reset)
        return sp::complain(dialed.error());
    // A byte stream cannot say that it is busy: it hangs up after the hello.
    for (bool closed = !dialed; !closed;) {
        auto event = channel->next_event(patience);
        if (!event)
            return sp::complain(event.error());
        closed = event->what == sp::pipe_event::kind::detached;
    }
    std::printf("refused: it hung up\n");
    return 0;
}

int main(int argc, char **argv)
{
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    const std::string_view role = argc == 3 ? argv[1] : "";
    if (role == "listen")
        return listen(argv[2]);
    if (role == "dial")
        return dial(argv[2]);
    if (role == "third")
        return third(argv[2]);
    return std::fputs("usage: pairing listen URL | dial URL | third URL\n", stderr), 2;
}
