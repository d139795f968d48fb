// SPDX-License-Identifier: BSD-2-Clause
//
// Who subscribed to what: a tree of topics in which a node's bytes continue its parent's, so that
// the topics a message begins with lie on one path from the root. Finding them costs the bytes on
// that path, however many topics there are. The empty topic is the root and matches everything.
//
// Subscribers are small numbers (slots of contexts). One subscriber has a topic once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sp::protocol {

class topic_tree {
public:
    using subscriber = std::uint16_t;

    topic_tree() : nodes_(1) {}

    void add(std::span<const std::byte> topic, subscriber who); // again: no effect
    // False: there is no such subscription.
    [[nodiscard]] bool remove(std::span<const std::byte> topic, subscriber who);
    void remove_all(subscriber who); // walks the whole tree

    // Everybody with a topic that the message begins with, each once. Valid until the next call.
    [[nodiscard]] std::span<const subscriber> match(std::span<const std::byte> message);
    [[nodiscard]] bool matches(std::span<const std::byte> message, subscriber who) const noexcept;
    // Whether a message that begins so, or is no longer than that, can be wanted by anybody.
    [[nodiscard]] bool may_match(std::span<const std::byte> begin, bool whole) const noexcept;

    [[nodiscard]] std::size_t nodes() const noexcept { return nodes_.size() - unused_.size(); }

private:
    using index = std::uint32_t;
    static constexpr index root = 0;

    struct node {
        std::string label; // what it adds to its parent's bytes; only the root's is empty
        index parent = root;
        std::vector<index> children;         // by the first byte of their labels
        std::vector<subscriber> subscribers; // sorted; none: only a fork of the tree
    };

    // A node whose bytes the message begins with, and the rest of the message.
    struct place {
        index at = root;
        std::string_view rest;
    };
    [[nodiscard]] std::optional<place> deeper(const place &from) const noexcept;
    [[nodiscard]] std::size_t child_position(const node &n, char first) const noexcept;
    [[nodiscard]] std::optional<index> child(index of, char first) const noexcept;
    [[nodiscard]] index create(std::string_view label, index parent);
    void split(index at, std::size_t length);
    void tidy(index at);
    void merge_with_child(index at);
    void detach(index at);
    void destroy(index at);

    std::vector<node> nodes_; // the first one is the root
    std::vector<index> unused_;
    std::vector<std::uint64_t> seen_; // by subscriber: the last match that found it
    std::uint64_t matches_ = 0;
    std::vector<subscriber> found_;
};

} // namespace sp::protocol
