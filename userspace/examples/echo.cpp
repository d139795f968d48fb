// SPDX-License-Identifier: BSD-2-Clause
#include <cstdio>
#include <sp/sp.hpp>
#include <string>
#include <thread>
using namespace std::chrono_literals;

int main()
{
    auto server = sp::rep::open({.listen = "unixgram:///tmp/echo.sock"});
    if (!server)
        return sp::complain(server.error());
    std::jthread thread([&](std::stop_token stop) {
        server->serve([](const sp::request &q) { return "hello, " + std::string(q.text()); }, stop);
    });

    auto client = sp::req::open({.dial = "unixgram:///tmp/echo.sock"});
    if (!client)
        return sp::complain(client.error());
    auto answer = client->request("world", 1s);
    if (!answer)
        return sp::complain(answer.error());
    std::printf("%.*s\n", int(answer->size()), answer->text().data());
}
