/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the XDP program and user space share in BPF maps: names, sizes, values and the layout
 * version. Any change here raises SP_MAP_LAYOUT; a loader that finds another number refuses and
 * says so.
 *
 *   sp_config  ARRAY[1] of sp_config        written at load; for everybody who may open the map
 *   sp_stats   PERCPU_ARRAY[1] of sp_xdp_stats
 *   sp_ports   ARRAY[65536] of __u16        service port -> shard + 1; 0: nobody behind XDP
 *   sp_local   HASH of sp_local_key         this host's addresses, IPv4 as ::ffff:a.b.c.d, to a
 *                                           count of owners, with SP_LOCAL_KEPT if the loader
 *                                           is one
 *   sp_xsks    XSKMAP                       queue * SP_SHARDS + shard -> AF_XDP socket
 *   sp_pings   PERCPU_ARRAY[1] of sp_ping_budget; what the program alone writes
 */
#ifndef SP_ABI_MAPS_H
#define SP_ABI_MAPS_H

#include <linux/types.h>

#define SP_MAP_LAYOUT 2
#define SP_PROGRAM_NAME "sp_steer"

#define SP_PORTS 65536
#define SP_LOCAL_MAX 1024
#define SP_QUEUES_MAX 64
#define SP_SHARDS 1               /* AF_XDP sockets per queue */
#define SP_LOCAL_KEPT 0x80000000u /* in a count of sp_local: stays while the program is loaded */
/* Pings that one CPU answers in 2^30 ns: enough for any number of operators, and nothing to a CPU.
 */
#define SP_PINGS_MAX 1000
#define SP_PINGS_WINDOW_SHIFT 30

enum sp_xdp_stat {
#define SP_XDP(name, kind, what, cure) SP_XDP_##name,
#define SP_STAT(where, name, kind, what, cure)
#include "sp/abi/stats.def"
    SP_XDP_STATS
};

struct sp_xdp_stats {
    __u64 count[SP_XDP_STATS];
};

struct sp_config {
    __u32 layout;    /* SP_MAP_LAYOUT */
    __u8 protocol;   /* IP protocol number that is steered */
    __u8 miss_drops; /* 1: what finds no port or socket is dropped, not left to the kernel */
    __be16 udp_port; /* encapsulated packets come here; 0: not offered */
    __u64 loaded_at; /* CLOCK_BOOTTIME, nanoseconds */
    __u8 version[16];
};

struct sp_local_key {
    __u8 bytes[16];
};

/* A window that is later than now is never over; tests use that. */
struct sp_ping_budget {
    __u64 window; /* CLOCK_MONOTONIC >> SP_PINGS_WINDOW_SHIFT */
    __u64 answered;
};

#endif /* SP_ABI_MAPS_H */
