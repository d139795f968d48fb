// SPDX-License-Identifier: BSD-2-Clause
//
// What the tests of the roles share: sockets of any role on one engine of their own, named by the
// path they listen on or dial to, and the word for what a call said.
#pragma once

#include "tests/support/local.hpp"

#include <string>
#include <vector>

namespace sp::test {

template <class T>
std::string said(const result<T> &r)
{
    return r ? "success" : std::string(describe(r.error().code()).name);
}

// Ends its socket's waits when it goes: a test that fails must not hang.
template <class Socket>
class closing {
public:
    explicit closing(Socket &socket) : socket_(&socket) {}
    ~closing() { socket_->close(); }
    closing(const closing &) = delete;
    closing &operator=(const closing &) = delete;

private:
    Socket *socket_;
};

class on_one_engine : public on_one_host {
protected:
    template <class Role>
    Role listens(options o = {}, const std::string &name = "socket")
    {
        const auto where = url(name);
        o.listen = where;
        return must(Role::open(at(std::move(o))));
    }
    template <class Role>
    Role dials(options o = {}, const std::string &name = "socket")
    {
        auto made = must(Role::open(at(std::move(o))));
        (void)must(made.dial(url(name), patience));
        return made;
    }
};

// The numbers of `count` messages, in the order in which they are received.
template <class Receiver>
std::vector<int> numbers_from(Receiver &receiver, std::size_t count)
{
    std::vector<int> numbers;
    while (numbers.size() < count) {
        auto m = receiver.recv(patience);
        if (!m)
            break;
        numbers.push_back(std::stoi(std::string(m->text())));
    }
    return numbers;
}

inline std::vector<int> numbers_up_to(int count)
{
    std::vector<int> numbers;
    for (int i = 0; i < count; ++i)
        numbers.push_back(i);
    return numbers;
}

} // namespace sp::test
