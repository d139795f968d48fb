// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// Steers SP packets from a NIC into AF_XDP sockets: shape, port, address, redirect. Whatever is not
// SP is left to the kernel; whatever is malformed is dropped; each packet raises exactly one
// counter of stats.def. The program reads the packet through the parser of wire.h, keeps no state
// of its own and never writes to a packet.
//
// The maps are described in maps.h. They are filled by user space: sp_ports and sp_local by the
// engine that listens, sp_xsks by the owner of the socket, sp_config by the loader.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "sp/abi/maps.h"
#include "sp/abi/wire.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Set before the program is loaded; constants to the verifier, so that what is switched off is not
 * even compiled. */
const volatile __u8 sp_protocol = SP_IP_PROTOCOL;
const volatile __u8 sp_miss_drops = 0;
const volatile __be16 sp_udp_port = 0;

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct sp_config);
} sp_config SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct sp_xdp_stats);
} sp_stats SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, SP_PORTS);
    __type(key, __u32);
    __type(value, __u16);
} sp_ports SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, SP_LOCAL_MAX);
    __type(key, struct sp_local_key);
    __type(value, __u32);
} sp_local SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, SP_QUEUES_MAX *SP_SHARDS);
    __type(key, __u32);
    __type(value, __u32);
} sp_xsks SEC(".maps");

SP_INLINE int sp_refuse_shape(enum sp_shape shape, struct sp_xdp_stats *stats)
{
    switch (shape) {
    case SP_SHAPE_IP_OPTIONS:
        stats->count[SP_XDP_ip_options]++;
        return XDP_PASS;
    case SP_SHAPE_FRAGMENT:
        stats->count[SP_XDP_fragment]++;
        return XDP_PASS;
    case SP_SHAPE_OTHER_VERSION:
        stats->count[SP_XDP_other_version]++;
        return XDP_PASS;
    case SP_SHAPE_BAD_LENGTH:
        stats->count[SP_XDP_bad_length]++;
        return XDP_DROP;
    case SP_SHAPE_BAD_TYPE:
        stats->count[SP_XDP_bad_type]++;
        return XDP_DROP;
    case SP_SHAPE_BAD_FLAGS:
        stats->count[SP_XDP_bad_flags]++;
        return XDP_DROP;
    default:
        stats->count[SP_XDP_not_sp]++;
        return XDP_PASS;
    }
}

SP_INLINE int sp_is_local(const struct sp_parsed *packet)
{
    struct sp_local_key key;

    if (packet->family == 4) {
        __builtin_memset(key.bytes, 0, 10);
        key.bytes[10] = 0xff;
        key.bytes[11] = 0xff;
        __builtin_memcpy(key.bytes + 12, packet->destination, 4);
    } else {
        __builtin_memcpy(key.bytes, packet->destination, 16);
    }
    return bpf_map_lookup_elem(&sp_local, &key) != 0;
}

/* Slot of the AF_XDP socket for this packet in sp_xsks, or a slot that is never filled. */
SP_INLINE __u32 sp_socket_slot(__u32 queue, __u32 shard)
{
    return queue < SP_QUEUES_MAX && shard < SP_SHARDS ? queue * SP_SHARDS + shard
                                                      : SP_QUEUES_MAX * SP_SHARDS;
}

SEC("xdp")
int sp_steer(struct xdp_md *ctx)
{
    const void *data = (const void *)(long)ctx->data;
    const void *end = (const void *)(long)ctx->data_end;
    const int miss = sp_miss_drops ? XDP_DROP : XDP_PASS;
    struct sp_xdp_stats *stats;
    struct sp_parsed packet;
    enum sp_shape shape;
    const __u16 *served;
    __u32 zero = 0, port;

    stats = bpf_map_lookup_elem(&sp_stats, &zero);
    if (!stats)
        return XDP_PASS;
    shape = sp_parse_frame(data, end, sp_protocol, sp_udp_port, &packet);
    if (shape != SP_SHAPE_SP)
        return sp_refuse_shape(shape, stats);

    port = SP_BE16(packet.header->dport);
    served = bpf_map_lookup_elem(&sp_ports, &port);
    if (!served)
        return XDP_PASS;
    if (!*served && miss == XDP_PASS) {
        stats->count[SP_XDP_no_port]++;
        return XDP_PASS;
    }
    if (!sp_is_local(&packet)) {
        stats->count[SP_XDP_foreign_address]++;
        return XDP_PASS;
    }
    if (!*served) {
        stats->count[SP_XDP_no_port]++;
        return miss;
    }
    if (bpf_redirect_map(&sp_xsks, sp_socket_slot(ctx->rx_queue_index, *served - 1u), miss) !=
        XDP_REDIRECT) {
        stats->count[SP_XDP_no_socket]++;
        return miss;
    }
    stats->count[SP_XDP_steered]++;
    return XDP_REDIRECT;
}
