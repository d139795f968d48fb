// SPDX-License-Identifier: BSD-2-Clause
//
// What the tests of the whole road share: an engine on each of two hosts, pins of the test's own,
// requests that go on in the background while something happens to the road, and the census at the
// end.
#pragma once

#include "tests/net/hosts.hpp"
#include "tests/support/local.hpp"
#include "userspace/xdp/steer.hpp"

#include <atomic>
#include <sys/mount.h>
#include <vector>

namespace sp::test {

class on_the_road : public on_two_hosts {
protected:
    void SetUp() override
    {
        on_two_hosts::SetUp();
        std::filesystem::permissions(directory_.path(),
                                     std::filesystem::perms{0755}); // pins decide, not we
        threads_before_ = threads_now();
    }
    void TearDown() override
    {
        for (auto &e : engines_)
            if (e) {
                EXPECT_EQ(e->frames_in_use(), 0u) << "message buffers leaked";
                e.reset();
            }
        if (threads_before_) // else it was never set up
            until([&] { return threads_now() == threads_before_; });
        for (const auto which : {host::a, host::b})
            ::umount2(pins(which).c_str(), MNT_DETACH);
    }

    [[nodiscard]] std::string pins(host which) const
    {
        return directory_.file(which == host::a ? "a" : "b");
    }
    [[nodiscard]] engine_options options(host which)
    {
        engine_options o;
        o.netns_fd = two().netns_fd(which);
        o.insecure = true;
        o.pin_root = pins(which);
        return o;
    }
    engine &on(host which)
    {
        auto &e = engines_[which == host::a ? 0 : 1];
        if (!e)
            e.emplace(must(engine::open(options(which))));
        return *e;
    }
    // Ends the engine; its sockets are gone.
    void drop(host which) { engines_[which == host::a ? 0 : 1].reset(); }

    [[nodiscard]] std::string url(host which, std::uint16_t port, const std::string &keys = "",
                                  int family = AF_INET)
    {
        const auto address = two().address(which, family);
        return "ip://" + (family == AF_INET6 ? '[' + address + ']' : address) + ':' +
               std::to_string(port) + (keys.empty() ? "" : '?' + keys);
    }

    struct listener {
        rep socket;
        std::uint16_t port;
        std::string url;
    };
    // At b, on a port that is free.
    listener listening(const std::string &keys = "", int family = AF_INET, sp::options o = {})
    {
        o.on = &on(host::b);
        auto socket = must(rep::open(o));
        const auto id = must(socket.listen(url(host::b, 0, keys, family)));
        const auto shown = must(socket.url(id));
        const auto port =
            static_cast<std::uint16_t>(std::stoul(shown.substr(shown.rfind(':') + 1)));
        return {std::move(socket), port, url(host::b, port, "", family)};
    }
    req dialed(const listener &l, const std::string &keys = "", sp::options o = {})
    {
        o.on = &on(host::a);
        auto socket = must(req::open(o));
        (void)must(socket.dial(l.url + (keys.empty() ? "" : '?' + keys), patience));
        return socket;
    }

    void load_program(host which)
    {
        const auto inside = two().in(which);
        xdp::load_options o;
        o.pin_root = pins(which);
        o.udp_port = options(which).udp_port;
        (void)must(xdp::load(hosts::interface(which), o));
        two().wait_for_link();
    }
    void unload_program(host which)
    {
        const auto inside = two().in(which);
        EXPECT_TRUE(must(xdp::unload(hosts::interface(which), pins(which))));
    }
    // Of the program on the host's interface; empty when there is none.
    std::optional<xdp::steer_counters> program_counters(host which)
    {
        const auto inside = two().in(which);
        const auto all = must(xdp::status(hosts::interface(which), pins(which)));
        return all.empty() ? std::nullopt : all.front().counters;
    }

private:
    watchdog watchdog_;
    scratch_directory directory_;
    std::size_t threads_before_ = 0;
    std::optional<engine> engines_[2];
};

// Requests without a pause until it goes; each must be answered, and rightly.
class traffic {
public:
    explicit traffic(req &socket, std::size_t threads = 2)
    {
        for (std::size_t t = 0; t < threads; ++t)
            threads_.emplace_back([this, &socket, t](const std::stop_token &stop) {
                for (std::size_t i = 0; !stop.stop_requested(); ++i) {
                    const auto body = std::to_string(t) + '/' + std::to_string(i);
                    EXPECT_EQ(text_of(socket.request(body, patience)), body);
                    ++answered_;
                }
            });
    }
    [[nodiscard]] std::size_t answered() const { return answered_; }
    // Goes on until so many more are answered.
    void flow(std::size_t more = 50) const
    {
        const auto before = answered();
        until([&] { return answered() >= before + more; });
    }

private:
    std::atomic<std::size_t> answered_ = 0;
    std::vector<std::jthread> threads_;
};

} // namespace sp::test
