// SPDX-License-Identifier: BSD-2-Clause
//
// What the conformance scenarios with the real libnng share: each is told once and runs with either
// side listening.
#pragma once

#include "tests/interop/nng.hpp"
#include "tests/interop/scene.hpp"

#include <algorithm>
#include <string>
#include <vector>

namespace sp::test {

enum class listener : std::uint8_t { nng, sp };

struct way {
    const char *scheme;
    listener who;
};

inline const std::vector<way> over_ipc{{"ipc", listener::sp}, {"ipc", listener::nng}};
inline const std::vector<way> over_all{{"ipc", listener::sp},      {"ipc", listener::nng},
                                       {"tcp", listener::sp},      {"tcp", listener::nng},
                                       {"abstract", listener::sp}, {"abstract", listener::nng}};

inline std::string name_of(const ::testing::TestParamInfo<way> &info)
{
    return info.param.scheme +
           std::string(info.param.who == listener::nng ? "_nng_listens" : "_sp_listens");
}

class nng_scene : public scene, public ::testing::WithParamInterface<way> {
protected:
    // Where nobody has listened yet in this test.
    [[nodiscard]] std::string new_address(const std::string &scheme = GetParam().scheme)
    {
        auto name = file("link" + std::to_string(++links_));
        if (scheme == "ipc")
            return "ipc://" + name;
        if (scheme == "tcp")
            return "tcp://127.0.0.1:0";
        std::ranges::replace(name, '/', '-');
        return "abstract://" + name;
    }

    template <class Role>
    [[nodiscard]] Role opened(options o = {})
    {
        return must(Role::open(at(std::move(o))));
    }

    // Connects the two, by whom the test is run with, and waits until both know.
    void join(sp::socket &s, nng_peer &n)
    {
        const auto ours = s.peers(), theirs = n.pipes();
        if (GetParam().who == listener::nng)
            (void)must(s.dial(n.listen(new_address()), patience));
        else
            n.dial(must(s.url(must(s.listen(new_address())))));
        must(s.wait_peers(ours + 1, patience));
        n.wait_pipes(theirs + 1);
    }

    // A socket that is connected to this peer.
    template <class Role>
    [[nodiscard]] Role joined_to(nng_peer &n, options o = {})
    {
        auto s = opened<Role>(std::move(o));
        join(s, n);
        return s;
    }

private:
    int links_ = 0;
};

// Expects a message with this body.
inline void expect_mail(const nng_mail &got, std::string_view body)
{
    EXPECT_EQ(got.error, 0) << nng_name(got.error);
    EXPECT_TRUE(got.body == body) << "got " << got.body.size()
                                  << " bytes: " << got.body.substr(0, 40);
}

inline void expect_message(const result<message> &got, std::string_view body)
{
    if (!got)
        ADD_FAILURE() << told(got.error());
    else
        EXPECT_TRUE(got->text() == body)
            << "got " << got->size() << " bytes: " << got->text().substr(0, 40);
}

inline std::string error_of(const auto &r)
{
    return r ? "success" : std::string(describe(r.error().code()).name);
}

} // namespace sp::test
