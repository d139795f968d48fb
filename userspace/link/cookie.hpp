// SPDX-License-Identifier: BSD-2-Clause
//
// Cookies prove that a dialer can receive at the address it claims, before anything is remembered
// of it. A cookie is SipHash-2-4-128 over address, ports, connection id and boot epoch under a
// secret that turns every minute; the two latest secrets are valid. Secrets are handed in like
// time.
#pragma once

#include "sp/abi/address.h"

#include <array>
#include <chrono>
#include <cstdint>

namespace sp::link {

using instant = std::chrono::steady_clock::time_point;

using cookie = std::array<std::uint8_t, 16>;
using cookie_secret = std::array<std::uint8_t, 16>;

// What a cookie vouches for; all of it is in the PROBE and again in the INIT.
struct cookie_claim {
    sp_address address;
    std::uint64_t scid;
    std::uint64_t instance;
    std::uint16_t sport;
    std::uint16_t dport;
};

class cookie_jar {
public:
    static constexpr auto secret_lifetime = std::chrono::seconds(60);

    cookie_jar(const cookie_secret &first, instant now) noexcept;

    // True when the secret is old enough to be turned by turn(), with 16 fresh random bytes.
    [[nodiscard]] bool stale(instant now) const noexcept
    {
        return now - turned_at_ >= secret_lifetime;
    }
    void turn(const cookie_secret &next, instant now) noexcept;

    [[nodiscard]] std::uint32_t epoch() const noexcept { return epoch_; }
    [[nodiscard]] cookie make(const cookie_claim &claim) const noexcept;

    // Constant time in the cookie's bytes. An epoch other than the two latest is false.
    [[nodiscard]] bool good(const cookie_claim &claim, std::uint32_t epoch,
                            const cookie &shown) const noexcept;

private:
    std::array<cookie_secret, 2> secrets_; // the latest, then the one before
    std::uint32_t epoch_ = 1;
    instant turned_at_;
};

} // namespace sp::link
