// SPDX-License-Identifier: BSD-2-Clause
//
// The other end of a stream, byte for byte: a plain AF_UNIX socket that connects or listens, says
// exactly what a test wants, in any pieces, and expects exact bytes or an end. It knows nothing of
// sp, so what it checks is the wire. Every wait is a poll(2) that ends by patience with an
// exception; nothing sleeps. `wire` spells hellos, frames and words.
#pragma once

#include "tests/support/local.hpp"

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace sp::test {

namespace wire {

inline constexpr std::uint32_t end_bit = 0x80000000; // of the last word of a stack

[[nodiscard]] std::string big_endian(std::uint64_t value, std::size_t bytes);
[[nodiscard]] std::string word(std::uint32_t value);
[[nodiscard]] std::string words(std::initializer_list<std::uint32_t> all);
[[nodiscard]] std::uint32_t word_at(std::string_view bytes, std::size_t index);
[[nodiscard]] std::string hello(std::uint16_t protocol);
// The nine bytes in front of a message.
[[nodiscard]] std::string head(std::uint64_t length, std::uint8_t type = 1);
[[nodiscard]] std::string frame(std::string_view payload);
[[nodiscard]] std::string frame(std::string_view header, std::string_view body);
// `n` words of a stack: n-1 without the end bit, then the id.
[[nodiscard]] std::string stack(std::size_t n, std::uint32_t id);
// A body of this size that differs at every place from one moved by a byte.
[[nodiscard]] std::string body(std::size_t size, std::uint32_t seed = 1);

} // namespace wire

class byte_peer {
public:
    byte_peer() = default;
    explicit byte_peer(int fd) noexcept : fd_(fd) {}
    byte_peer(byte_peer &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    byte_peer &operator=(byte_peer &&other) noexcept
    {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~byte_peer() { close(); }

    // ipc://PATH or abstract://NAME. Throws what the system says; try_dial returns its errno.
    [[nodiscard]] static byte_peer dial(const std::string &url);
    [[nodiscard]] static std::pair<byte_peer, int> try_dial(const std::string &url);

    // All of it; waits while the other side does not read.
    void send(std::string_view bytes);
    // The same; false: the other side has closed.
    [[nodiscard]] bool try_send(std::string_view bytes);
    // Piece by piece, each only when the one before has been read.
    void send_in_pieces(std::string_view bytes, std::size_t piece);
    // What the kernel takes now.
    [[nodiscard]] std::size_t send_some(std::string_view bytes);
    void wait_read(); // until the other side has read everything

    [[nodiscard]] std::string receive(std::size_t bytes);
    [[nodiscard]] std::string receive_some(std::size_t most); // at least one byte
    [[nodiscard]] std::string receive_frame();                // its payload
    [[nodiscard]] bool silent() const;                        // nothing to read at this moment
    // Waits for the other side's end. False: bytes came instead.
    [[nodiscard]] bool ended();
    [[nodiscard]] std::string receive_all(); // until the end

    void half_close(); // no more will be sent
    void close() noexcept;
    [[nodiscard]] bool is_open() const noexcept { return fd_ >= 0; }
    [[nodiscard]] int fd() const noexcept { return fd_; }

private:
    int fd_ = -1;
};

class byte_door {
public:
    explicit byte_door(const std::string &url);
    ~byte_door();
    byte_door(const byte_door &) = delete;
    byte_door &operator=(const byte_door &) = delete;

    [[nodiscard]] byte_peer accept();
    [[nodiscard]] bool nobody_waits() const;
    // Takes the next one, says hello and expects one.
    [[nodiscard]] byte_peer greet(std::uint16_t own, std::uint16_t expected);

private:
    int fd_ = -1;
    std::string path_; // to be removed; empty for an abstract name
};

} // namespace sp::test
