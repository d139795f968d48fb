// SPDX-License-Identifier: BSD-2-Clause
//
// One thread, no blocking call: an echo service and three clients as coroutines over epoll(7).
#include <cstdio>
#include <sp/coro.hpp>
#include <sp/sp.hpp>
#include <string>
using namespace std::chrono_literals;

sp::task<> serve(sp::rep &socket)
{
    for (;;) {
        auto question = co_await socket.async_recv();
        if (!question)
            co_return; // closed: nobody asks any more
        const auto answer = "hello, " + std::string(question->text());
        if (auto sent = std::move(*question).reply(answer, 0s); !sent)
            sp::complain(sent.error());
    }
}

sp::task<> ask(sp::req &socket, std::string name, int &left, sp::rep &service)
{
    auto context = socket.open_context(); // each client has a conversation of its own
    for (int i = 0; context && i < 2; ++i) {
        const auto who = name + std::to_string(i);
        auto answer = co_await sp::async_request(*context, who, 5s);
        if (!answer)
            sp::complain(answer.error());
        else
            std::printf("%.*s\n", int(answer->size()), answer->text().data());
        (void)co_await sp::async_sleep(1ms);
    }
    if (--left == 0)
        service.close();
}

int main(int argc, char **argv)
{
    const std::string url = argc > 1 ? argv[1] : "unixgram:///tmp/coroutines.sock";
    auto loop = sp::reactor::open();
    if (!loop)
        return sp::complain(loop.error());
    auto service = sp::rep::open({.listen = url});
    if (!service)
        return sp::complain(service.error());
    auto client = sp::req::open({.dial = url});
    if (!client)
        return sp::complain(client.error());

    int left = 3;
    loop->spawn(serve(*service));
    for (const char *name : {"ada", "bob", "eve"})
        loop->spawn(ask(*client, name, left, *service));
    loop->run();
}
