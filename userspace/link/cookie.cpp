// SPDX-License-Identifier: BSD-2-Clause
#include "userspace/link/cookie.hpp"

#include <cstring>
#include <sodium.h>

namespace sp::link {
namespace {

static_assert(sizeof(cookie) == crypto_shorthash_siphashx24_BYTES);
static_assert(sizeof(cookie_secret) == crypto_shorthash_siphashx24_KEYBYTES);

cookie hash(const cookie_secret &secret, std::uint32_t epoch, const cookie_claim &claim) noexcept
{
    // Laid out without padding, so that equal claims have equal bytes.
    struct {
        std::uint64_t scid, instance;
        sp_address address;
        std::uint32_t epoch;
        std::uint16_t sport, dport;
    } input{claim.scid, claim.instance, claim.address, epoch, claim.sport, claim.dport};
    static_assert(sizeof input == 48);

    std::array<unsigned char, sizeof input> bytes;
    std::memcpy(bytes.data(), &input, sizeof input);
    cookie out;
    crypto_shorthash_siphashx24(out.data(), bytes.data(), bytes.size(), secret.data());
    return out;
}

} // namespace

cookie_jar::cookie_jar(const cookie_secret &first, instant now) noexcept
    : secrets_{first, first}, turned_at_(now)
{
}

void cookie_jar::turn(const cookie_secret &next, instant now) noexcept
{
    secrets_[1] = secrets_[0];
    secrets_[0] = next;
    ++epoch_;
    turned_at_ = now;
}

cookie cookie_jar::make(const cookie_claim &claim) const noexcept
{
    return hash(secrets_[0], epoch_, claim);
}

bool cookie_jar::good(const cookie_claim &claim, std::uint32_t epoch,
                      const cookie &shown) const noexcept
{
    const std::uint32_t age = epoch_ - epoch;
    if (age > 1)
        return false;
    const auto expected = hash(secrets_[age], epoch, claim);
    return sodium_memcmp(expected.data(), shown.data(), shown.size()) == 0;
}

} // namespace sp::link
