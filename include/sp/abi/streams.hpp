// SPDX-License-Identifier: BSD-2-Clause
//
// What is said about byte streams (ipc://, abstract:// and tcp://) between the transport that has
// their descriptors and the engine that frames messages on them: names, events and outcomes. Values
// only; the calls are in userspace/engine/stream_transport.hpp.
#pragma once

#include "sp/abi/names.hpp"

#include <cstddef>
#include <cstdint>
#include <string>

namespace sp::inline v1 {

enum class place_id : std::uint32_t {};  // a listener, or an address to dial
enum class stream_id : std::uint32_t {}; // a connection; a closed one's name is not used again soon

// Who is at the other end, as far as the kernel knows.
struct peer_identity {
    std::string text;   // 198.18.0.2:49311, or the path or name of the socket
    bool local = false; // uid, gid and pid are known: of the process that connected or listened,
                        // as they were when it did so
    std::uint32_t uid = 0, gid = 0;
    std::int32_t pid = 0;
};

struct stream_event {
    enum class kind : std::uint8_t {
        accepted,  // `stream` came in by the listener `place`
        refused,   // the listener `place` closed a connection by itself; `count` tells why
        connected, // connect() has succeeded
        failed,    // connect() has failed: `why`; the stream is closed already
        readable,  // bytes, the end or an error can be read
        writable,  // asked for by watch()
    };
    kind what{};
    stream_id stream{};
    place_id place{};
    errc why{};
    stat count{};
};

// What a read or a write did. `failed` and `ended` are final: nothing but close() may follow.
struct transfer {
    enum class outcome : std::uint8_t { moved, would_block, ended, failed };
    outcome what = outcome::would_block;
    std::size_t bytes = 0;
    errc why{}; // failed
};

enum class interest : std::uint8_t { none, read, write, both };

} // namespace sp::inline v1
