// SPDX-License-Identifier: BSD-2-Clause
//
// A socket of any role as the verbs of messages use it: an engine of its own, opened, set and
// connected as the arguments say. Dials go on in the background, so that either side may start
// first; while there is no peer a wait looks at why, says so after a second, and ends with a reason
// that will not go away by itself. One thread may send while another receives.
#pragma once

#include "sp/sp.hpp"
#include "userspace/cli/verbs.hpp"

#include <atomic>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace sp::cli {

class station {
public:
    // The three outlive it.
    station(const message_arguments &arguments, console &out, std::stop_token stop)
        : arguments_(arguments), out_(out), stop_(std::move(stop))
    {
    }

    [[nodiscard]] result<void> open();

    // Until as many as --wait-peers says are there; 1 where what is sent to nobody would be lost.
    [[nodiscard]] result<void> wait_peers();
    [[nodiscard]] result<void> send(std::string_view body);   // pub push bus pair
    [[nodiscard]] result<message> ask(std::string_view body); // req
    [[nodiscard]] result<survey> ask_all(std::string_view body);
    [[nodiscard]] result<message> next_answer(survey &question); // expired: that was all
    [[nodiscard]] result<request> next_request();                // rep respond
    // sub pull bus pair. `deadline` is asked again and again; timed_out when it has passed.
    [[nodiscard]] result<message> next(const std::function<instant()> &deadline);

    [[nodiscard]] std::size_t peers() { return base().peers(); }
    [[nodiscard]] std::string peer_of(const message &m); // empty: not known
    [[nodiscard]] std::uint64_t message_max() const noexcept;
    // Why there is no peer, where that is known.
    [[nodiscard]] std::optional<error> obstacle();
    // What this socket has dropped, by reason: "peer_limit 1"; empty: nothing.
    [[nodiscard]] std::string drops();
    // What waits gets `linger` to reach the peers.
    close_report close();

private:
    using any_socket = std::variant<sp::req, sp::rep, sp::pub, sp::sub, sp::push, sp::pull,
                                    sp::surveyor, sp::respondent, sp::bus, sp::pair>;

    template <class Role>
    [[nodiscard]] result<void> take(const options &how);
    [[nodiscard]] result<void> open_role(const options &how);
    [[nodiscard]] result<void> connect();
    [[nodiscard]] result<void> listen(const std::string &url);
    [[nodiscard]] result<void> dial(const std::string &url);
    [[nodiscard]] socket &base();

    // Whether a listener without a peer says that it waits.
    enum class alone : std::uint8_t { says_so, is_silent };
    template <class Call>
    [[nodiscard]] auto patiently(const std::function<instant()> &deadline, alone when_alone,
                                 Call call) -> decltype(call(wait()));
    [[nodiscard]] instant timeout_from_now() const;
    [[nodiscard]] error late(std::string what);
    void say_waiting();

    const message_arguments &arguments_;
    console &out_;
    std::stop_token stop_;
    std::atomic<bool> said_ = false;
    options how_;
    std::optional<engine> engine_;
    std::optional<any_socket> socket_;
    std::optional<req_context> context_; // of req; goes before its socket
    std::vector<endpoint_id> dialers_;
};

} // namespace sp::cli
